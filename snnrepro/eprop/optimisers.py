"""Updates of the weights."""

import math
from dataclasses import dataclass, field

import numpy as np

from snnrepro.eprop.networks import Weights


def descend(weights: Weights, gradients: Weights, rate: float) -> Weights:
    """Plain gradient descent."""
    return Weights(*(w - w.dtype.type(rate) * g for w, g in zip(weights, gradients, strict=True)))


@dataclass
class Adam:
    """Adam. In TensorFlow 1, `epsilon` is added to the root of the second moment before its bias is taken off; in torch after.

    Attributes:
        rate: learning rate.
        first, second: decay of the two moments.
        epsilon: keeps the step finite.
        tensorflow: which of the two forms.
        count: updates so far.
        moments: of each weight matrix, by name.
    """

    rate: float
    first: float = 0.9
    second: float = 0.999
    epsilon: float = 1e-8
    tensorflow: bool = True
    count: int = 0
    moments: dict[str, np.ndarray] = field(default_factory=dict)

    def changes(self, gradients: Weights) -> Weights:
        """What is to be added to the weights; the moments move on."""
        self.count += 1
        one, two = 1 - self.first**self.count, math.sqrt(1 - self.second**self.count)
        found = {}
        for name, g in gradients._asdict().items():
            m = self.moments.setdefault(f"{name}_1", np.zeros_like(g))
            v = self.moments.setdefault(f"{name}_2", np.zeros_like(g))
            m += g.dtype.type(1 - self.first) * (g - m)
            v += g.dtype.type(1 - self.second) * (g * g - v)
            root = np.sqrt(v) if self.tensorflow else np.sqrt(v) / g.dtype.type(two)
            scale = self.rate * two / one if self.tensorflow else self.rate / one
            found[name] = -g.dtype.type(scale) * m / (root + g.dtype.type(self.epsilon))
        return Weights(**found)


def add(weights: Weights, changes: Weights) -> Weights:
    """The weights after changes."""
    return Weights(*(w + d for w, d in zip(weights, changes, strict=True)))
