"""Where a Loihi network lies: neurons, synapses, bits and cores counted by hand, and refusals that say how much is missing."""

import numpy as np
import pytest

from snnrepro.errors import UserError
from snnrepro.hardware import cores
from snnrepro.hardware.loihi import Layer, Neurons, Synapses
from snnrepro.hardware.substrate import PlacementError


def layer(senders, neurons, recurrent=False, **changes):
    def bundle(n):
        return Synapses(np.broadcast_to(np.int64(2), (n, neurons)), **changes)

    return Layer(bundle(senders), Neurons(100, 100, 10), bundle(neurons) if recurrent else None)


def test_a_small_network_takes_a_core_a_layer():
    first, last = cores.place([layer(5, 100), layer(100, 3)])
    assert first == (100, 500, 4000, 1)
    assert last == (3, 300, 2400, 1)


@pytest.mark.parametrize(("neurons", "expected"), [(1024, 1), (1025, 2), (2048, 2)])
def test_a_core_has_1024_neurons(neurons, expected):
    assert cores.place([layer(2, neurons)])[0].cores == expected


def test_a_core_has_128_kibibytes_for_synapses():
    """1,024 neurons with 128 inputs of 8 bits fill a core; one more input does not fit on it."""
    assert cores.place([layer(128, 1024)])[0].bits == 2**20
    assert [cores.place([layer(n, 1024)])[0].cores for n in (128, 129)] == [1, 2]
    assert [cores.place([layer(n, 1024, bits=4)])[0].cores for n in (256, 257)] == [1, 2]


def test_recurrent_synapses_and_delays_take_memory():
    plain, looped = (cores.place([layer(10, 20, recurrent)])[0] for recurrent in (False, True))
    assert (plain.synapses, looped.synapses) == (200, 600)
    assert (plain.bits, looped.bits) == (1600, 4800)
    late = cores.place([layer(10, 20, delays=np.zeros((10, 20), int))])[0]
    assert late.bits == 200 * 14


def test_what_does_not_fit_is_refused():
    assert cores.place([layer(2, 1024 * 128)])[0].cores == 128
    with pytest.raises(PlacementError, match=r"^place: the network needs 129 cores, Loihi has 128; make it smaller$"):
        cores.place([layer(2, 1024 * 128 + 1)])
    assert sum(part.cores for part in cores.place([layer(1, 1)] * 128)) == 128
    with pytest.raises(PlacementError, match="needs 129 cores"):
        cores.place([layer(1, 1)] * 129)


def test_a_core_hears_4096_senders():
    assert cores.place([layer(4096, 1)])[0].cores == 1
    assert cores.place([layer(4000, 96, recurrent=True)])[0].cores == 3
    with pytest.raises(PlacementError, match=r"layer 1 needs 4,097 input axons, a core of Loihi has 4,096"):
        cores.place([layer(5, 4097), layer(4097, 1)])
    with pytest.raises(PlacementError, match=r"layer 0 needs 4,097 input axons"):
        cores.place([layer(4000, 97, recurrent=True)])


def test_a_neuron_keeps_its_synapses_on_one_core(monkeypatch):
    monkeypatch.setattr(cores, "AXONS", 10**6)
    assert cores.place([layer(2**17, 1)])[0].cores == 1
    with pytest.raises(PlacementError, match=r"needs 1,048,584 bits for the synapses of a neuron, .* has 1,048,576"):
        cores.place([layer(2**17 + 1, 1)])


def test_what_is_no_network_is_refused():
    with pytest.raises(UserError, match="no layers"):
        cores.place([])
    with pytest.raises(UserError, match=r"layer 0 have shapes \[\(3,\)\]"):
        cores.place([Layer(Synapses(np.zeros(3, int)), Neurons(1, 1, 1))])
    uneven = Layer(Synapses(np.zeros((3, 4), int)), Neurons(1, 1, 1), Synapses(np.zeros((5, 5), int)))
    with pytest.raises(UserError, match=r"recurrent weights of layer 0 have shape \(5, 5\); give \(4, 4\)"):
        cores.place([uneven])
    with pytest.raises(UserError, match=r"layer 1 have shapes \[\(7, 3\)\]"):
        cores.place([layer(5, 3), layer(7, 3)])
    with pytest.raises(UserError, match=r"layer 0 have shapes \[\(0, 3\)\]"):
        cores.place([layer(0, 3)])
