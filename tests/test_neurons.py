"""The LIF step against Brian2's recorded traces and against hand-worked cases."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snnrepro import neurons, surrogate
from snnrepro.errors import UserError
from snnrepro.neurons import LIF

GOLDEN = Path(__file__).parent / "golden" / "cuba_lif"


def golden(name):
    """Input (steps, units), weights, parameters, trace (steps, neurons) of U and I, spikes (steps, neurons)."""
    given_ = json.loads((GOLDEN / f"{name}_params.json").read_text())
    weights = np.loadtxt(GOLDEN / f"{name}_weights.csv", delimiter=",")
    trace = np.loadtxt(GOLDEN / f"{name}_trace.csv", delimiter=",", skiprows=1)
    x = np.zeros((len(trace), len(weights)))
    x[tuple(np.loadtxt(GOLDEN / f"{name}_input.csv", delimiter=",", skiprows=1, dtype=int).T)] = 1
    spikes = np.zeros((len(trace), weights.shape[1]))
    spikes[tuple(np.loadtxt(GOLDEN / f"{name}_spikes.csv", delimiter=",", skiprows=1, dtype=int).T)] = 1
    p = LIF(
        tau_mem=np.array(given_["tau_mem_ms"]) * 1e-3,
        tau_syn=given_["tau_syn_ms"] * 1e-3,
        dt=given_["dt_ms"] * 1e-3,
        threshold=given_["v_th"],
        reset="zero",
        gain="exact",
        refractory=round(given_["refractory_ms"] / given_["dt_ms"]),
    )
    u, i = np.split(trace[:, 1:], 2, axis=1)
    return x, weights, p, u, i, spikes


NAMES = ["brian2_cuba", "brian2_cuba_refr", "brian2_cuba_fp"]


def walk(x, w, p, v=None):
    """Trace of the plain NumPy step: spikes, u, i, each (steps, neurons)."""
    states = [neurons.zero_state((w.shape[1],))]
    for step in x:
        states.append(neurons.lif_step(states[-1], step @ w, p, v))
    shown = states[:-1] if p.current == "old" else states[1:]
    return [np.array([getattr(state, field) for state in shown]) for field in "sui"]


@pytest.mark.parametrize("name", NAMES)
def test_step_matches_brian2_trace(name):
    x, w, p, u, i, spikes = golden(name)
    s, ours_u, ours_i = walk(x, w, p)
    # Brian2 tests the threshold at the end of a step, we at the start of the next, before the reset.
    np.testing.assert_array_equal(s[1:], spikes[:-1])
    assert s.sum() > 60
    np.testing.assert_allclose(np.where(s > 0, 0, ours_u), u, rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours_i, i, rtol=0, atol=1e-12)


@pytest.mark.parametrize("engine", ["reference", "fast"])
@pytest.mark.parametrize("name", NAMES)
def test_layers_match_brian2_trace(name, engine):
    x, w, p, u, i, spikes = golden(name)
    trace = surrogate.lif(torch.tensor(x[:, None]), torch.tensor(w), p, engine=engine)
    s, ours_u, ours_i = (a[:, 0].numpy() for a in trace[:3])
    np.testing.assert_array_equal(s[1:], spikes[:-1])
    np.testing.assert_allclose(np.where(s > 0, 0, ours_u), u, rtol=0, atol=1e-9)
    np.testing.assert_allclose(ours_i, i, rtol=0, atol=1e-9)


def test_new_current_acts_two_steps_earlier():
    x = np.eye(1, 6).T
    _, old, _ = walk(x, np.array([[0.5]]), LIF())
    _, new, _ = walk(x, np.array([[0.5]]), LIF(current="new"))
    np.testing.assert_allclose(new[:-2], old[2:])


@given(st.floats(1e-3, 1.0), st.floats(1e-3, 1.0), st.floats(1e-5, 1e-3))
@settings(max_examples=60, deadline=None)
def test_exact_gain_is_the_membrane_response_to_a_decaying_current(tau_mem, tau_syn, dt):
    t = np.linspace(0, dt, 2001)
    response = np.trapezoid(np.exp(-t / tau_syn) * np.exp(-(dt - t) / tau_mem), t) / tau_mem
    assert float(neurons.gain(LIF(tau_mem, tau_syn, dt, gain="exact"))) == pytest.approx(response, rel=1e-5)


def test_gain_at_equal_time_constants_is_the_limit():
    near = neurons.gain(LIF(10e-3, 10e-3 * (1 + 1e-5), gain="exact"))
    assert float(neurons.gain(LIF(10e-3, 10e-3, gain="exact"))) == pytest.approx(float(near), rel=1e-4)
    assert float(neurons.gain(LIF(gain="one"))) == 1
    assert float(neurons.gain(LIF(gain="leak"))) == pytest.approx(1 - np.exp(-0.1))


@pytest.mark.parametrize(
    "change",
    [{"reset": "soft"}, {"current": "next"}, {"gain": "two"}, {"tau_mem": 0.0}, {"dt": -1e-3}, {"refractory": -1}],
)
def test_bad_parameters_are_named(change):
    with pytest.raises(UserError, match=f"LIF: {next(iter(change))}"):
        neurons.check(LIF(**change))
