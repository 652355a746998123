"""Operation counts: NeuroBench's own numbers on three nets, and the arithmetic of the papers' formulas."""

import json
from pathlib import Path

import numpy as np
import pytest

from snnrepro import costs
from snnrepro.errors import UserError

GOLDEN = json.loads((Path(__file__).parent / "golden" / "costs" / "neurobench.json").read_text())["nets"]


@pytest.mark.parametrize("name", GOLDEN)
def test_counts_are_those_of_neurobench(name):
    net = GOLDEN[name]
    inputs = [np.array(net["input"]), *map(np.array, net["activations"])]
    weights = [np.array(w) for w in net["weights"]]
    expected = net["metrics"]
    found = costs.synaptic_operations(list(zip(inputs, weights, strict=False)))
    published = expected["SynapticOperations"]
    assert found.macs == pytest.approx(published["Effective_MACs"], rel=1e-12)
    assert found.acs == pytest.approx(published["Effective_ACs"], rel=1e-12)
    assert found.dense == published["Dense"]
    assert (found.macs > 0) == (name != "leaky") and (found.acs > 0) == (name != "ann")
    assert costs.activation_sparsity(inputs[1:]) == pytest.approx(expected["ActivationSparsity"], rel=1e-12)
    assert round(costs.connection_sparsity(weights), 4) == expected["ConnectionSparsity"]
    if "MembraneUpdates" in expected:
        assert costs.membrane_updates(map(np.array, net["potentials"])) == expected["MembraneUpdates"]


def test_counts_by_hand():
    x = np.zeros((3, 2, 2))
    x[0, 0, 0] = x[2, 0, 1] = x[2, 1, 1] = 1  # unit 0 once, unit 1 twice, in two samples
    w = np.array([[1.0, 0.0, 2.0], [0.5, 0.5, 0.5]])
    assert costs.synaptic_operations([(x, w)]) == (0, (1 * 2 + 2 * 3) / 2, 3 * 6)
    assert costs.synaptic_operations([(2 * x, w)]) == ((1 * 2 + 2 * 3) / 2, 0, 3 * 6)
    assert costs.spikes_a_sample([x, x]) == 3
    u = np.array([[[1.0, 0.0]], [[1.0, 0.5]], [[2.0, 0.5]]])
    assert costs.membrane_updates([u]) == 2 + 1 + 1


def test_formulas_on_the_ecg_network():
    """4 inputs, 36 neurons, input density 0.077, 0.344 spikes a neuron and step: 469 ACs and 36 MACs a step."""
    spiking = costs.srnn_step(4, 36, 0.077, 0.344)
    assert spiking.macs == 36 and round(spiking.acs) == 469
    lstm, rnn = costs.lstm_step(4, 36), costs.rnn_step(4, 36)
    assert (lstm.macs, rnn.macs, lstm.acs, rnn.acs) == (6372, 1440, 0, 0)
    ratios = {
        name: [round(costs.energy(other, price) / costs.energy(spiking, price)) for other in (lstm, rnn)]
        for name, price in costs.ENERGY.items()
    }
    assert ratios["float32"] == [50, 11] and ratios["int32"] == [126, 28]
    assert costs.srnn_step(4, 36, 0.077, 0.344, adaptive=True).macs == 108
    without = costs.srnn_step(4, 36, 0.077, 0.344, recurrent=False)
    assert spiking.acs - without.acs == pytest.approx(36 * 36 * 0.344)
    assert costs.total([spiking, lstm]) == (6408, spiking.acs)
    assert costs.chip_energy(10, 2, costs.CHIPS["Loihi"]) == 10 * 23.6 + 2 * 81


def test_formulas_on_the_first_layer_of_the_speech_network():
    """700 inputs, 128 neurons, input density 0.045, 0.098 spikes: 346 and 86 times in floating point, 1400 and 348 in integers."""
    spiking = costs.srnn_step(700, 128, 0.045, 0.098)
    for name, published in {"float32": (346, 86), "int32": (1400, 348)}.items():
        for other, times in zip((costs.lstm_step(700, 128), costs.rnn_step(700, 128)), published, strict=True):
            ratio = costs.energy(other, costs.ENERGY[name]) / costs.energy(spiking, costs.ENERGY[name])
            assert ratio == pytest.approx(times, rel=0.01)


def test_bad_input_is_refused_in_one_line():
    for call in (
        lambda: costs.srnn_step(4, 36, 1.5, 0.3),
        lambda: costs.srnn_step(4, 36, 0.1, -0.3),
        lambda: costs.rnn_step(0, 3),
        lambda: costs.synaptic_operations([(np.zeros((3, 2)), np.zeros((2, 2)))]),
        lambda: costs.synaptic_operations([(np.zeros((3, 2, 4)), np.zeros((2, 2)))]),
    ):
        with pytest.raises(UserError) as error:
            call()
        assert "\n" not in str(error.value)
