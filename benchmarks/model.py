"""What a worker asks of a library: one training step, one inference, and what came out."""

from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.tasks import Data, Task


class Outputs(NamedTuple):
    """What is compared: spikes of each hidden layer, bool `(time, batch, neurons)`, and the gradient of the loss by each weight."""

    spikes: list[np.ndarray]
    gradients: dict[str, np.ndarray]


class Model(Protocol):
    """A network in some library, with its data at hand."""

    def train(self) -> object:
        """Forward pass, loss and gradients; no update, which would be the same for all."""

    def infer(self) -> object:
        """Forward pass without gradients."""

    def outputs(self, gradients: bool) -> Outputs:
        """What came out, for the check; `gradients` False leaves them out."""


class TorchModel:
    """A network whose library builds on torch. Subclasses set `weights` and define `forward`.

    Attributes:
        x: input `(time, batch, units)`.
        label: `(batch,)`.
        weights: leaf tensors by the name of `Data.weights`, as the library holds them.
        factor: the library's weights are `factor` times those of the task, transposed where `transposed`.
    """

    factor = 1.0
    transposed = True

    def __init__(self, task: Task, data: Data, dtype: str):
        self.task = task
        self.dtype = getattr(torch, dtype)
        self.x = torch.as_tensor(data.x, dtype=self.dtype)
        self.label = torch.as_tensor(data.label)
        self.weights: dict[str, Tensor] = {}

    def forward(self) -> tuple[Tensor, list[Tensor]]:
        """Class scores `(batch, classes)` and the spikes of each hidden layer `(time, batch, neurons)`."""
        raise NotImplementedError

    def train(self) -> Tensor:
        """Forward pass, loss and gradients."""
        for weight in self.weights.values():
            weight.grad = None
        loss = nn.functional.cross_entropy(self.forward()[0], self.label)
        loss.backward()
        return loss

    @torch.no_grad()
    def infer(self) -> Tensor:
        """Class scores."""
        return self.forward()[0]

    def outputs(self, gradients: bool) -> Outputs:
        """Spikes, and the gradients by the task's own weights."""
        with torch.set_grad_enabled(gradients):
            score, hidden = self.forward()
            spikes = [s.detach().numpy() > 0 for s in hidden]
        if not gradients:
            return Outputs(spikes, {})
        loss = nn.functional.cross_entropy(score, self.label)
        found = torch.autograd.grad(loss, list(self.weights.values()))
        by_name = dict(zip(self.weights, found, strict=True))
        return Outputs(spikes, {k: (self.factor * (g.T if self.transposed else g)).numpy() for k, g in by_name.items()})

    def linear(self, data: Data, name: str) -> nn.Linear:
        """A layer without bias that holds the weights `name`, to be trained."""
        w = data.weights[name]
        layer = nn.Linear(*w.shape, bias=False, dtype=self.dtype)
        layer.weight = nn.Parameter(torch.tensor(self.factor * w.T, dtype=self.dtype))
        self.weights[name] = layer.weight
        return layer

    def cast(self, layer: nn.Linear) -> nn.Module:
        """The layer; in float64, for the check, behind a conversion, for libraries whose spikes are float32 whatever the potential is."""
        return layer if self.dtype == torch.float32 else nn.Sequential(Double(), layer)


class Double(nn.Module):
    """Conversion to float64."""

    def forward(self, x: Tensor) -> Tensor:
        """As `nn.Module.forward`."""
        return x.double()


def largest(u: Tensor) -> Tensor:
    """Class scores from readout potentials `(time, batch, classes)`: the largest over time, the zero state included."""
    return u.amax(0).relu()
