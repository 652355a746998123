"""Networks as a substrate sees them: layers of weights, and the neurons they lead to."""

from typing import NamedTuple

from torch import Tensor

from snnrepro import surrogate
from snnrepro.errors import UserError
from snnrepro.first_spike import ttfs
from snnrepro.first_spike.exact import Neuron
from snnrepro.neurons import LIF


class Weights(NamedTuple):
    """Weights into one layer: `w` (inputs, neurons), recurrent `v` (neurons, neurons) or None, and inputs that are a bias."""

    w: Tensor
    v: Tensor | None
    bias: int = 0

    @property
    def fan_in(self) -> int:
        """Inputs of a neuron."""
        return len(self.w) + (0 if self.v is None else len(self.v))


class Stepped(NamedTuple):
    """A network in time steps: LIF layers and a leaky readout (`snnrepro.surrogate`).

    Attributes:
        weights: of all layers.
        p: neurons of the hidden layers.
        last: neurons of the readout.
    """

    weights: surrogate.Network
    p: LIF
    last: LIF

    def layers(self) -> list[Weights]:
        """Weights of each layer, the readout last."""
        recurrent = self.weights.recurrent or (None,) * len(self.weights.hidden)
        hidden = [Weights(w, v) for w, v in zip(self.weights.hidden, recurrent, strict=True)]
        return [*hidden, Weights(self.weights.output, None)]


class Timed(NamedTuple):
    """A network of first spikes (`snnrepro.first_spike`).

    Attributes:
        weights: of all layers.
        p: neurons of all layers.
    """

    weights: ttfs.Network
    p: Neuron

    def layers(self) -> list[Weights]:
        """Weights of each layer; a bias is one of the inputs."""
        pairs = zip(self.weights.weights, self.weights.bias_times, strict=True)
        return [Weights(w, None, int(bias is not None)) for w, bias in pairs]


Net = Stepped | Timed


def check(net: Net) -> None:
    """Refuse networks that no substrate takes.

    Raises:
        UserError: weights that are not finite, or neurons with adaptation.
    """
    for k, layer in enumerate(net.layers()):
        if not all(bool(w.isfinite().all()) for w in (layer.w, layer.v) if w is not None):
            raise UserError(f"deploy: the weights of layer {k + 1} hold NaN or infinite values")
    if isinstance(net, Stepped) and net.p.adaptation is not None:
        raise UserError("deploy: neurons with adaptation are not known to any substrate; use plain LIF neurons")
