"""Updates of the weights."""

import math
from dataclasses import dataclass, field

import numpy as np

from snnrepro.eprop.networks import Weights
from snnrepro.errors import UserError


def descend(weights: Weights, gradients: Weights, rate: float) -> Weights:
    """Plain gradient descent.

    Raises:
        UserError: a learning rate that is negative or not finite, or weights and gradients that differ in shape or type.
    """
    if np.ndim(rate) or not 0 <= rate < math.inf:
        raise UserError(f"descend: the learning rate is {np.shape(rate) or rate}; give a finite number, 0 or more")
    for name, w, g in zip(Weights._fields, weights, gradients, strict=True):
        if w.shape != g.shape or w.dtype != g.dtype or w.dtype.kind != "f":
            raise UserError(
                f"descend: {name} weights are {w.dtype} {w.shape}, gradients {g.dtype} {g.shape}; give the same, floats"
            )
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
        """What is to be added to the weights; the moments move on.

        Raises:
            UserError: a setting out of range, gradients that are not floats, or of another shape or type than those before.
        """
        if not 0 <= self.rate < math.inf:
            raise UserError(f"Adam: the learning rate is {self.rate}; give a finite number, 0 or more")
        if not (0 <= self.first < 1 and 0 <= self.second < 1 and self.epsilon > 0):
            raise UserError(
                f"Adam: first, second, epsilon are {self.first, self.second, self.epsilon}; give two from 0 to below 1, one above 0"
            )
        for name, g in gradients._asdict().items():
            if g.dtype.kind != "f":
                raise UserError(f"Adam: {name} gradients are {g.dtype}; give floats")
            if self.moments.get(f"{name}_1", g).shape != g.shape or self.moments.get(f"{name}_1", g).dtype != g.dtype:
                raise UserError(
                    f"Adam: {name} gradients are {g.dtype} {g.shape}, not as before; take a new Adam for other weights"
                )
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
    """The weights after changes.

    Raises:
        UserError: weights and changes that differ in shape or type.
    """
    for name, w, d in zip(Weights._fields, weights, changes, strict=True):
        if w.shape != d.shape or w.dtype != d.dtype or w.dtype.kind != "f":
            raise UserError(
                f"add: {name} weights are {w.dtype} {w.shape}, changes {d.dtype} {d.shape}; give the same, floats"
            )
    return Weights(*(w + d for w, d in zip(weights, changes, strict=True)))
