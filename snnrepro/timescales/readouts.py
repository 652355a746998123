"""The readout of the authors' electrocardiogram network: spiking neurons that adapt, of which the potential is read."""

from torch import Tensor

from snnrepro.errors import UserError
from snnrepro.surrogate import lif
from snnrepro.timescales.networks import Cell, Layer, neuron, with_bias


def spiking_readout(spikes: Tensor, layer: Layer, cell: Cell) -> tuple[Tensor, Tensor]:
    """Potential of the readout's neurons `(time, batch, classes)`, and their spikes; Eqs. (1) to (5) of the chapter `yin2020`.

    Args:
        spikes: of the last hidden layer `(time, batch, neurons)`.
        layer: weights and time constants of the readout.
        cell: what its neurons share.

    Raises:
        UserError: as `snnrepro.surrogate.lif`, or spikes that do not fit the weights.
    """
    if spikes.ndim != 3 or spikes.shape[2] != len(layer.w) - 1:
        raise UserError(
            f"spiking_readout: spikes have shape {tuple(spikes.shape)}; give (time, batch, {len(layer.w) - 1}) to fit the weights"
        )
    seen = lif(with_bias(spikes), layer.w, neuron(layer, cell), layer.v)
    return seen.u, seen.spikes
