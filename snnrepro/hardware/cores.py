"""Which part of a Loihi chip a network takes: neurons and synapses on cores, or a refusal.

A chip has 128 cores. A core has 1,024 neurons, 128 KiB of memory for synapses and 4,096 input axons, one for each sender that it hears.
The numbers are those of Davies et al. (2018) and of nengo-loihi, both read second-hand. Here each layer has cores of its own, and each
pair of a sender and a neuron a synapse, on the core of the neuron, that takes the bits of its weight, and six more for a delay. Indices,
headers and output axons are not counted: they depend on how a compiler packs a network.
"""

from typing import NamedTuple

from snnrepro.errors import UserError
from snnrepro.hardware.loihi import Layer, Synapses
from snnrepro.hardware.substrate import PlacementError

CORES = 128
NEURONS = 1024
"""Neurons of a core."""
MEMORY = 128 * 1024 * 8
"""Bits for the synapses of a core."""
AXONS = 4096
"""Senders that a core can hear."""
DELAY_BITS = 6


class Placed(NamedTuple):
    """What a layer takes.

    Attributes:
        neurons: of the layer.
        synapses: that lead to them, from all senders, and recurrent ones.
        bits: that these synapses take.
        cores: that the layer takes.
    """

    neurons: int
    synapses: int
    bits: int
    cores: int


def place(layers: list[Layer]) -> list[Placed]:
    """Give the neurons of each layer cores of their own.

    Raises:
        PlacementError: the network needs more than the chip has; the message says how much.
        UserError: no layers, or weights that do not fit together.
    """
    if not layers:
        raise UserError("loihi: the network has no layers; give at least one")
    found, before = [], None
    for k, layer in enumerate(layers):
        bundles = [bundle for bundle in (layer.synapses, layer.recurrent) if bundle is not None]
        shapes = [bundle.weights.shape for bundle in bundles]
        if any(len(shape) != 2 or 0 in shape for shape in shapes) or shapes[0][0] != (before or shapes[0][0]):
            raise UserError(f"loihi: weights of layer {k} have shapes {shapes}; give (senders, neurons) that fit")
        neurons = before = shapes[0][1]
        if any(shape != (neurons, neurons) for shape in shapes[1:]):
            raise UserError(f"loihi: recurrent weights of layer {k} have shape {shapes[1]}; give {neurons, neurons}")
        senders = sum(shape[0] for shape in shapes)
        each = sum(shape[0] * _bits(bundle) for shape, bundle in zip(shapes, bundles, strict=True))
        for name, needed, there in (
            ("input axons", senders, AXONS),
            ("bits for the synapses of a neuron", each, MEMORY),
        ):
            if needed > there:
                raise PlacementError(
                    f"place: layer {k} needs {needed:,} {name}, a core of Loihi has {there:,}; make it smaller"
                )
        found.append(Placed(neurons, senders * neurons, each * neurons, -(-neurons // min(NEURONS, MEMORY // each))))
    needed = sum(part.cores for part in found)
    if needed > CORES:
        raise PlacementError(f"place: the network needs {needed:,} cores, Loihi has {CORES}; make it smaller")
    return found


def _bits(synapses: Synapses) -> int:
    """Bits that one synapse takes."""
    return synapses.bits + (DELAY_BITS if synapses.delays is not None else 0)
