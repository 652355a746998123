"""Which part of a Loihi chip a network takes: neurons and synapses on cores, or a refusal.

A chip has 128 cores with 1,024 neurons each, and 16 MiB of memory for synapses, 128 KiB a core (Davies et al. 2018; the numbers were
read second-hand). A synapse lies on the core of the neuron that it leads to, and takes at least the bits of its weight, and six more
for a delay. What the chip keeps beside that, indices, headers and routes, depends on how a compiler packs it and is not counted: the
number of cores is the smallest possible.
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
DELAY_BITS = 6


class Placed(NamedTuple):
    """What a layer takes.

    Attributes:
        neurons: of the layer.
        synapses: that lead to them, from all senders, and recurrent ones.
        bits: that these synapses take at least.
        cores: that the layer takes at least.
    """

    neurons: int
    synapses: int
    bits: int
    cores: int


def place(layers: list[Layer]) -> list[Placed]:
    """Give the neurons of each layer cores of their own.

    Raises:
        PlacementError: the network needs more than the chip has; the message says how much.
        UserError: no layers, or weights that are no matrix.
    """
    if not layers:
        raise UserError("loihi: the network has no layers; give at least one")
    found = []
    for k, layer in enumerate(layers):
        bundles = [bundle for bundle in (layer.synapses, layer.recurrent) if bundle is not None]
        shapes = [bundle.weights.shape for bundle in bundles]
        if {len(shape) for shape in shapes} != {2} or len({shape[1] for shape in shapes}) > 1:
            raise UserError(
                f"loihi: weights of layer {k} have shapes {shapes}; give (senders, neurons), the neurons alike"
            )
        neurons = shapes[0][1]
        each = sum(shape[0] * _bits(bundle) for shape, bundle in zip(shapes, bundles, strict=True))
        if each > MEMORY:
            raise PlacementError(
                f"place: a neuron of layer {k} needs {each:,} bits for its synapses, a core of Loihi has {MEMORY:,}; give it fewer inputs"
            )
        on_a_core = min(NEURONS, MEMORY // max(each, 1))
        synapses = sum(shape[0] for shape in shapes) * neurons
        found.append(Placed(neurons, synapses, each * neurons, -(-neurons // on_a_core)))
    needed = sum(part.cores for part in found)
    if needed > CORES:
        raise PlacementError(f"place: the network needs {needed:,} cores, Loihi has {CORES}; make it smaller")
    return found


def _bits(synapses: Synapses) -> int:
    """Bits that one synapse takes at least."""
    return synapses.bits + (DELAY_BITS if synapses.delays is not None else 0)
