"""The compiled engine against the plain loop under automatic differentiation: every switch, every gradient, threads, memory, refusals."""

import os
import re
import shutil
import subprocess
import sys
from functools import partial
from typing import NamedTuple
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from snnrepro import neurons, surrogate
from snnrepro.errors import UserError
from snnrepro.kernels import events, lif, parallel
from snnrepro.neurons import LIF, Adaptation, Surrogate
from snnrepro.surrogate import Network, training

SLOW = "SNNREPRO_SLOW" in os.environ
SAME_EVERY_RUN = {"derandomize": True, "database": None, "deadline": None, "suppress_health_check": list(HealthCheck)}
EXACT = 1e-12
SINGLE = 5e-4  # most cases 1e-6; where gradients grow along time, so do rounding errors: 1e-4 once in 5000 cases
CANCELS = 1e-2  # of a time constant: a sum over steps that may nearly cancel; found: 1.3e-3, the reference's own error
ROUNDED = 1.5e-6  # exp in single precision, of the peak: 16 times the rounding of its polynomial; found: 9.5e-7
LONG = 10e-3


# Cases --------------------------------------------------------------------------------------------------------------


class Case(NamedTuple):
    """Switches, sizes and the seed of everything random. `cells` is how many neurons go through time together."""

    reset: str = "multiply"
    reset_gradient: bool = False
    recurrent_gradient: bool = True
    current: str = "old"
    gain: str = "one"
    refractory: int = 0
    refractory_kind: str = "clamp"
    adaptation: str | None = None
    tau_syn: str | None = "neurons"
    learned: bool = True
    surrogate: str = "fast_sigmoid"
    slope: float = 2.0
    recurrent: bool = True
    input: str = "binary"
    density: float = 0.2
    seen: str = "all"
    steps: int = 20
    batch: int = 5
    inputs: int = 19
    size: int = 7
    cells: int = lif.CELLS
    seed: int = 0


CASES = st.builds(
    Case,
    reset=st.sampled_from(neurons.RESETS),
    reset_gradient=st.booleans(),
    recurrent_gradient=st.booleans(),
    current=st.sampled_from(["old", "new"]),
    gain=st.sampled_from(["one", "leak", "exact"]),
    refractory=st.sampled_from([0, 1, 3]),
    refractory_kind=st.sampled_from(["clamp", "mute"]),
    adaptation=st.sampled_from([None, "one", "leak"]),
    tau_syn=st.sampled_from([None, "number", "neurons"]),
    learned=st.booleans(),
    surrogate=st.sampled_from(list(surrogate.DERIVATIVES)),
    slope=st.sampled_from([1.0, 5.0]),
    recurrent=st.booleans(),
    input=st.sampled_from(["binary", "analogue", "events"]),
    density=st.sampled_from([0.0, 0.05, 0.2, 0.5, 1.0]),
    seen=st.sampled_from(["all", "spikes", "u", "i", "a"]),
    steps=st.integers(1, 25),
    batch=st.integers(1, 5),
    inputs=st.integers(1, 20),
    size=st.integers(1, 13),
    cells=st.sampled_from([1, 20, lif.CELLS]),
    seed=st.integers(0, 2**16),
)


def prepared(case: Case, dtype=torch.float64):
    """Input, parameters and leaves (what can have a gradient, by name) of a case."""
    g = torch.Generator().manual_seed(case.seed)

    def uniform(*shape):
        return torch.rand(*shape, generator=g, dtype=torch.float64)

    def normal(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    x = (uniform(case.steps, case.batch, case.inputs) < case.density).double()
    scale = (case.inputs * max(case.density, 0.05)) ** -0.5
    leaves = {"w": (normal(case.inputs, case.size) * 0.6 + 0.5) * scale}
    if case.recurrent:
        leaves["v"] = 0.7 * normal(case.size, case.size) / case.size**0.5
    if case.input == "events":
        given_ = surrogate.events(*x.nonzero(as_tuple=True), tuple(x.shape))
    else:
        given_ = None
        leaves["x"] = x * (0.7 + normal(*x.shape)) if case.input == "analogue" else x
    taus = {"tau_mem": 2e-3 + 20e-3 * uniform(case.size)}
    if case.tau_syn is not None:
        taus["tau_syn"] = 2e-3 + LONG * (uniform(case.size) if case.tau_syn == "neurons" else uniform(1)[0])
    adapts = case.adaptation or ("one" if case.reset == "subtract_adapted" else None)
    if adapts:
        taus["tau"] = 10e-3 + 0.1 * uniform(case.size)
    gain = "leak" if case.gain == "exact" and case.tau_syn is None else case.gain
    if case.learned and gain != "exact":
        leaves |= taus
    leaves = {name: leaf.to(dtype).requires_grad_() for name, leaf in leaves.items()}
    taus = {name: leaves.get(name, tau.detach().numpy()) for name, tau in taus.items()}
    p = LIF(
        tau_mem=taus["tau_mem"],
        tau_syn=taus.get("tau_syn"),
        threshold=0.8,
        reset=case.reset,
        reset_gradient=case.reset_gradient,
        recurrent_gradient=case.recurrent_gradient,
        current=case.current,
        gain=gain,
        refractory=case.refractory,
        refractory_kind=case.refractory_kind,
        surrogate=Surrogate(case.surrogate, case.slope, 0.6),
        adaptation=Adaptation(taus["tau"], np.linspace(0.4, 0.9, case.size), adapts) if adapts else None,
    )
    return given_, p, leaves


def weighted(parts, dtype=torch.float64):
    """A loss in which each entry of each part has a weight of its own."""
    g = torch.Generator().manual_seed(9)
    return sum((torch.randn(part.shape, generator=g, dtype=torch.float64).to(dtype) * part).sum() for part in parts)


def slopes(loss, leaves) -> dict:
    """Gradients by name, zero where there is none."""
    tensors = list(leaves.values())
    found = torch.autograd.grad(loss, tensors, allow_unused=True) if loss.requires_grad else [None] * len(tensors)
    pairs = zip(leaves.items(), found, strict=True)
    return {name: torch.zeros_like(leaf) if slope is None else slope for (name, leaf), slope in pairs}


def outcome(case: Case, engine: str, dtype=torch.float64, states=True):
    """The trace of a case, without its graph, and the gradients of all leaves."""
    given_, p, leaves = prepared(case, dtype)
    with mock.patch.object(lif, "CELLS", case.cells):
        trace = surrogate.lif(leaves.get("x", given_), leaves["w"], p, leaves.get("v"), engine=engine, states=states)
        parts = [part for part in trace if part is not None]
        if states and case.seen != "all":
            parts = [getattr(trace, case.seen)] if getattr(trace, case.seen) is not None else [trace.spikes]
        found = slopes(weighted(parts, dtype), leaves)
    return surrogate.Trace(*(None if part is None else part.detach() for part in trace)), found


def assert_close(slow, fast, tolerance, what):
    """Relative to the largest entry of the first. In single precision a surrogate below exp(-20) of its peak counts as 0."""
    error, largest = float((slow - fast).detach().abs().max()), float(slow.detach().abs().max())
    floor = 1e-7 if slow.dtype == torch.float32 else 0.0
    assert error <= tolerance * largest + floor, f"{what}: off by {error}, largest {largest}"


def assert_same(slow, fast, tolerance=EXACT):
    """Traces and gradients of two outcomes agree."""
    assert torch.equal(slow[0].spikes, fast[0].spikes)
    for field, a, b in zip(surrogate.Trace._fields, slow[0], fast[0], strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert_close(a, b, tolerance, field)
    assert slow[1].keys() == fast[1].keys()
    for name in slow[1]:
        loose = CANCELS if name.startswith("tau") and tolerance == SINGLE else tolerance
        assert_close(slow[1][name], fast[1][name], loose, f"gradient of {name}")


# Fast and reference are the same ----------------------------------------------------------------------------------------


@given(CASES)
@settings(max_examples=2000 if SLOW else 150, **SAME_EVERY_RUN)
def test_both_engines_do_the_same_whatever_the_switches(case):
    assert_same(outcome(case, "reference"), outcome(case, "fast"))


@given(CASES)
@settings(max_examples=1000 if SLOW else 60, **SAME_EVERY_RUN)
def test_both_engines_do_the_same_in_single_precision(case):
    case = case._replace(size=case.size + 3)  # the one gradient of one neuron may be a sum that cancels
    slow = outcome(case, "reference", torch.float32)
    # Nearer to the threshold than rounding errors grow, the last bit decides whether a neuron spikes, and both answers are right.
    threshold = 0.8
    if slow[0].a is not None:
        threshold = 0.8 + torch.linspace(0.4, 0.9, case.size) * slow[0].a
    assume(float((slow[0].u - threshold).abs().min()) > 1e-4)
    assert_same(slow, outcome(case, "fast", torch.float32), SINGLE)


VARIED = [
    Case(),
    Case(size=1, batch=1, inputs=1, density=0.6),
    Case(steps=1),
    Case(steps=1, current="new"),
    Case(density=0.0),
    Case(density=1.0),
    Case(input="analogue"),
    Case(input="analogue", density=1.0),
    Case(input="events"),
    Case(recurrent=False),
    Case(recurrent_gradient=False),
    *(Case(reset=reset, reset_gradient=True, current="new") for reset in neurons.RESETS),
    *(Case(reset=reset, adaptation="leak", gain="leak") for reset in neurons.RESETS),
    *(Case(refractory=3, refractory_kind=kind, current=now) for kind in ("clamp", "mute") for now in ("old", "new")),
    Case(adaptation="one", refractory=3, refractory_kind="mute", reset="subtract_adapted", reset_gradient=True),
    Case(tau_syn=None),
    Case(tau_syn="number", adaptation="one"),
    Case(gain="exact"),
    Case(learned=False, reset_gradient=True),
]


@pytest.mark.parametrize("case", VARIED, ids=range(len(VARIED)))
def test_both_engines_do_the_same_in_chosen_cases(case):
    slow, fast = outcome(case, "reference"), outcome(case, "fast")
    assert_same(slow, fast)
    assert case.density == 0 or case.steps == 1 or slow[0].spikes.sum() > 0


@pytest.mark.parametrize("case", VARIED, ids=range(len(VARIED)))
def test_spikes_alone_are_the_same_spikes_with_the_same_gradients(case):
    slow, fast = outcome(case._replace(seen="spikes"), "reference"), outcome(case, "fast", states=False)
    assert fast[0][1:] == (None, None, None)
    assert_same((surrogate.Trace(slow[0].spikes, None, None), slow[1]), fast)
    given_, p, leaves = prepared(case)
    leaves = {name: leaf.detach() for name, leaf in leaves.items()}
    p = p._replace(tau_mem=p.tau_mem.detach() if case.learned and p.gain != "exact" else p.tau_mem)
    with torch.no_grad():
        trace = surrogate.lif(leaves.get("x", given_), leaves["w"], p, leaves.get("v"), engine="fast", states=False)
    assert torch.equal(trace.spikes, slow[0].spikes)


def test_blocks_of_samples_do_not_mix():
    case = Case(size=30, batch=20, steps=8, density=0.5, current="new", refractory=3, adaptation="one", cells=180)
    with mock.patch.object(lif, "CELLS", case.cells):
        assert lif._shares(case.batch, case.size) == (1, 6)  # the last block has two samples
    assert_same(outcome(case, "reference"), outcome(case, "fast"))


@pytest.mark.parametrize("p", [LIF(), LIF(current="new", gain="leak"), LIF(tau_syn=None), LIF(gain="exact")])
@pytest.mark.parametrize("kind", ["dense", "sparse", "events"])
@pytest.mark.parametrize("steps", [1, 12])
def test_both_engines_read_out_the_same(p, kind, steps):
    g = torch.Generator().manual_seed(3)
    x = (torch.rand(steps, 3, 6, generator=g) < (0.7 if kind == "dense" else 0.2)).double()
    leaves = {"w": torch.randn(6, 5, generator=g, dtype=torch.float64)}
    if kind != "events":
        leaves["x"] = x
    if p.gain != "exact":
        leaves["tau_mem"] = 5e-3 + 20e-3 * torch.rand(5, generator=g, dtype=torch.float64)
    leaves = {name: leaf.requires_grad_() for name, leaf in leaves.items()}
    p = p._replace(tau_mem=leaves.get("tau_mem", 8e-3), refractory=3, adaptation=Adaptation(0.1, 1.0))
    found = []
    for engine in ("reference", "fast"):
        given_ = leaves.get("x", surrogate.events(*x.nonzero(as_tuple=True), tuple(x.shape)))
        u = surrogate.readout(given_, leaves["w"], p, engine=engine)
        found.append((u.detach(), slopes(weighted([u]), leaves)))
    assert found[0][0].shape == (steps + 1, 3, 5)
    assert_close(found[0][0], found[1][0], EXACT, "potential")
    for name in leaves:
        assert_close(found[0][1][name], found[1][1][name], EXACT, f"gradient of {name}")


# Both engines are right -------------------------------------------------------------------------------------------------


HALF = 1.0 / np.log(2)  # a time constant that halves in a step of 1
ADAPTING = LIF(
    tau_mem=HALF, tau_syn=None, dt=1.0, current="new", reset="none", adaptation=Adaptation(HALF, 2.0), threshold=3.0
)


@pytest.mark.parametrize("engine", ["reference", "fast"])
@pytest.mark.parametrize(
    ("change", "u", "a", "spikes"),
    [  # without reset: U = U / 2 + 4, a = a / 2 + S, threshold 3 + 2 a
        ({}, [4, 6, 7, 7.5, 7.75], [0, 1, 1.5, 1.75, 1.875], [1, 1, 1, 1, 1]),
        # a = a / 2 + S / 2
        ({"adaptation": Adaptation(HALF, 2.0, "leak")}, [4, 6, 7, 7.5, 7.75], [0, 0.5, 0.75, 0.875, 0.9375], [1] * 5),
        ({"threshold": 4.5}, [4, 6, 7, 7.5, 7.75], [0, 0, 1, 1.5, 0.75], [0, 1, 1, 0, 1]),
        # U = U / 2 + 4 - (3 + 2 a) S
        ({"reset": "subtract_adapted"}, [4, 1, 4.5, 0.75, 4.375], [0, 1, 0.5, 1.25, 0.625], [1, 0, 1, 0, 1]),
        # a spike, then two steps without, whatever the membrane
        ({"refractory": 3, "refractory_kind": "mute"}, [4, 6, 7, 7.5, 7.75], [0, 1, 0.5, 0.25, 1.125], [1, 0, 0, 1, 0]),
        # a spike, then two steps at 0
        ({"refractory": 3}, [4, 0, 0, 4, 0], [0, 1, 0.5, 0.25, 1.125], [1, 0, 0, 1, 0]),
    ],
    ids=["one", "leak", "threshold", "adapted-reset", "mute", "clamp"],
)
def test_adaptation_and_refractory_steps_by_hand(engine, change, u, a, spikes):
    trace = surrogate.lif(
        torch.full((5, 1, 1), 4.0).double(), torch.ones(1, 1).double(), ADAPTING._replace(**change), engine=engine
    )
    assert trace.u.flatten().tolist() == pytest.approx(u)
    assert trace.a.flatten().tolist() == pytest.approx(a)
    assert trace.spikes.flatten().tolist() == spikes


@pytest.mark.parametrize("engine", ["reference", "fast"])
@pytest.mark.parametrize("current", ["old", "new"])
@pytest.mark.parametrize("kind", ["clamp", "mute"])
@pytest.mark.parametrize("adaptation", ["one", "leak"])
@pytest.mark.parametrize("reset", ["multiply", "subtract_adapted"])
def test_adapting_layers_repeat_the_step(reset, adaptation, kind, current, engine):
    case = Case(
        reset=reset,
        adaptation=adaptation,
        refractory=3,
        refractory_kind=kind,
        current=current,
        learned=False,
        density=0.5,
    )
    _, p, leaves = prepared(case)
    x, w, v = (leaves[name].detach() for name in ("x", "w", "v"))
    trace = surrogate.lif(x, w, p, v, engine=engine)
    states = [neurons.zero_state((case.batch, case.size))]
    for drive in (x @ w).numpy():
        states.append(neurons.lif_step(states[-1], drive, p, v.numpy()))
    shown = states[:-1] if current == "old" else states[1:]
    for ours, field in zip(trace, "suia", strict=True):
        np.testing.assert_allclose(ours.numpy(), [getattr(state, field) for state in shown], rtol=0, atol=1e-12)
    assert trace.spikes.sum() >= 20


@pytest.mark.parametrize("engine", ["reference", "fast"])
@pytest.mark.parametrize("current", ["old", "new"])
@pytest.mark.parametrize("adaptation", [None, "one", "leak"])
@pytest.mark.parametrize("reset", neurons.RESETS)
def test_without_surrogate_the_gradient_is_the_finite_difference(reset, adaptation, current, engine):
    # The true derivative of a spike is 0, so that a small change of anything moves the rest as the spikes stay.
    case = Case(
        reset=reset,
        adaptation=adaptation,
        current=current,
        gain="leak",
        surrogate="step",
        reset_gradient=True,
        input="analogue",
        density=0.7,
        steps=9,
        batch=2,
        inputs=3,
        size=2,
        seed=4,
    )
    _, p, leaves = prepared(case)
    leaves["w"].data *= 3

    def run(changed):
        adapts = p.adaptation and p.adaptation._replace(tau=changed.get("tau"))
        q = p._replace(tau_mem=changed["tau_mem"], tau_syn=changed["tau_syn"], adaptation=adapts)
        trace = surrogate.lif(changed["x"], changed["w"], q, changed["v"], engine=engine)
        return weighted([part for part in trace[1:] if part is not None]), trace.spikes

    loss, spikes = run(leaves)
    assert spikes.sum() > 3
    for name, slope in slopes(loss, leaves).items():
        step = 1e-6 * float(leaves[name].detach().abs().max())
        for at in np.ndindex(*slope.shape):
            nearby = []
            for change in (step, -step):
                moved = {key: leaf.detach().clone() for key, leaf in leaves.items()}
                moved[name][at] += change
                value, same = run(moved)
                assert torch.equal(same, spikes)
                nearby.append(value.item())
            by_difference = (nearby[0] - nearby[1]) / (2 * step)
            assert slope[at].item() == pytest.approx(by_difference, rel=1e-5, abs=1e-6 * float(slope.abs().max()))


def test_the_exponential_of_single_precision():
    x = np.linspace(-19.99, 0, 20001, dtype=np.float32)
    out = np.empty_like(x)
    lif._exp(x, out)
    error = np.abs(out / np.exp(x.astype(float)) - 1)
    assert error[x > -10].max() < 3e-6
    assert error.max() < 2e-4  # the last term of the polynomial, at exp(-20) = 2e-9
    lif._exp(x - np.float32(20.1), out)
    assert not out.any()


@pytest.mark.parametrize("scale", [1.0, 1e-3])
@pytest.mark.parametrize("slope", [1.0, 10.0, 100.0])
@pytest.mark.parametrize("name", surrogate.DERIVATIVES)
def test_a_row_of_surrogate_derivatives_is_torch_s_in_single_precision(name, slope, scale):
    x = np.concatenate([np.linspace(-30, 30, 6001), np.linspace(-0.3, 0.3, 2001), [-1e4, 1e4]]).astype(np.float32)
    strength, a = np.full(x.size, 0.5, np.float32), np.full(x.size, 0.25, np.float32)
    u = x + np.float32(1.125)
    expected = surrogate.derivative(Surrogate(name, slope, scale))(torch.from_numpy(u - np.float32(1.125)))
    work, out = np.zeros((3, x.size), np.float32), np.empty(x.size, np.float32)
    peak = max(float(expected.abs().max()), 1e-30)
    one, slope32, scale32 = np.float32(1), np.float32(slope), np.float32(scale)
    lif._surrogate(lif.SURROGATES.index(name), slope32, scale32, u, a, strength, one, work, out)
    assert np.abs(out - expected.numpy()).max() <= ROUNDED * peak
    unadapted = np.zeros(0, np.float32)
    lif._surrogate(lif.SURROGATES.index(name), slope32, scale32, u, unadapted, unadapted, np.float32(1.125), work, out)
    assert np.abs(out - expected.numpy()).max() <= ROUNDED * peak


# Events -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("units", [1, 6, 7])
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_entries_that_are_not_zero_are_found(dtype, units, workers):
    generator = np.random.default_rng(units)
    for density in (0.0, 0.3, 1.0):
        x = ((generator.random((11, units)) < density) * generator.normal(size=(11, units))).astype(dtype)
        x[0, 0] = -0.0
        starts, found, values = events.find(x, 1.0, workers)
        rows, columns = np.nonzero(x)
        assert np.array_equal(np.repeat(np.arange(11), np.diff(starts)), rows)
        assert np.array_equal(found, columns)
        assert np.array_equal(values, x[rows, columns])
        assert len(events.find((x != 0).astype(dtype), 1.0, workers)[2]) == 0
    assert events.find(np.ones((4, units), dtype), 0.9, workers) is None


def test_events_do_what_their_dense_pattern_does():
    for case in (Case(), Case(current="new", recurrent=False)):
        dense, listed = outcome(case, "fast"), outcome(case._replace(input="events"), "fast")
        dense[1].pop("x")
        assert_same(dense, listed)


@pytest.mark.parametrize("engine", ["reference", "fast"])
def test_an_event_listed_twice_counts_twice(engine):
    x = torch.zeros(6, 2, 3).double()
    x[0, 1, 2], x[1, 0, 0], x[3, 1, 1] = 2.0, 1.0, 1.0
    time, batch, unit = x.nonzero(as_tuple=True)
    twice = [torch.cat([index, index[x[time, batch, unit] == 2]]) for index in (time, batch, unit)]
    w = torch.tensor([[0.3, 1.0], [-0.5, 0.2], [0.7, 0.4]], dtype=torch.float64, requires_grad=True)
    found = []
    for given_ in (x, surrogate.events(*twice, tuple(x.shape))):
        trace = surrogate.lif(given_, w, LIF(), engine=engine)
        found.append((trace, slopes(weighted(trace[:3]), {"w": w})))
    assert found[1][0].i[1, 1].tolist() == pytest.approx([1.4, 0.8])
    assert_same(*found)


def no_events(shape):
    return surrogate.events(*[torch.zeros(0, dtype=torch.int64)] * 3, shape)


def test_no_events_are_a_silent_input():
    w = torch.ones(3, 2, requires_grad=True)
    trace = surrogate.lif(no_events((4, 2, 3)), w, LIF(), torch.ones(2, 2))
    assert not any(part.any() for part in trace[:3])
    assert not torch.autograd.grad(trace.u.sum(), w)[0].any()


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        (([0, 1], [0, 1], [0, 4]), "events: unit 0 .. 4 lies outside 0 .. 3"),
        (([0, 1], [-1, 1], [0, 3]), "events: batch -1 .. 1 lies outside 0 .. 1"),
        (([0, 3], [0, 1], [0, 3]), "events: time 0 .. 3 lies outside 0 .. 2"),
        (([0, 1], [0, 1], [0]), "events: the lists have shapes (2,), (2,), (1,); give equal lengths"),
        (([[0]], [[1]], [[0]]), "events: the lists have shapes (1, 1), (1, 1), (1, 1); give equal lengths"),
        (([0, 1.5], [0, 1], [0, 3]), "events: time holds float32; give whole numbers of an integer type"),
    ],
    ids=["unit", "batch", "time", "lengths", "nested", "fractions"],
)
def test_events_that_do_not_fit_are_named(lists, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        surrogate.events(*map(torch.tensor, lists), (3, 2, 4))


# What is refused, what is chosen ----------------------------------------------------------------------------------------


def small(dtype=torch.float64, density=0.2):
    """Input, weights and recurrent weights."""
    g = torch.Generator().manual_seed(1)
    x = (torch.rand(5, 2, 6, generator=g) < density).to(dtype)
    return x, torch.rand(6, 4, generator=g).to(dtype), torch.rand(4, 4, generator=g).to(dtype)


@pytest.mark.parametrize("engine", ["reference", "fast"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    ("which", "message"),
    [(0, "the input holds"), (1, "the weights hold"), (2, "the recurrent weights hold")],
    ids=["input", "weights", "recurrent"],
)
def test_numbers_that_are_not_finite_are_refused_by_name(which, message, bad, engine):
    for dtype in (torch.float32, torch.float64):
        for density in (0.2, 1.0):
            tensors = small(dtype, density)
            tensors[which].view(-1)[-1] = bad
            with pytest.raises(UserError, match=f"^lif: {message} NaN or infinite values$"):
                surrogate.lif(tensors[0], tensors[1], LIF(), tensors[2], engine=engine)


def test_a_readout_refuses_what_is_not_finite_too():
    x, w, _ = small()
    x[0, 0, 0] = float("nan")
    with pytest.raises(UserError, match=r"^lif: the input holds NaN or infinite values$"):
        surrogate.readout(x, w, LIF())
    with pytest.raises(UserError, match=r"^lif: the weights hold NaN or infinite values$"):
        surrogate.readout(torch.ones(5, 2, 6), torch.full((6, 4), float("inf")), LIF())


@pytest.mark.parametrize("engine", ["reference", "fast"])
@pytest.mark.parametrize("shape", [(5, 0, 6), (0, 2, 6), (5, 2, 0)])
def test_an_empty_input_is_refused(shape, engine):
    message = re.escape(f"lif: input has shape {shape}; give (time, batch, units), none of them empty")
    for given_ in (torch.zeros(shape), no_events(shape)):
        with pytest.raises(UserError, match=f"^{message}$"):
            surrogate.lif(given_, torch.ones(shape[2], 4), LIF(), engine=engine)
        with pytest.raises(UserError, match=f"^{message}$"):
            surrogate.readout(given_, torch.ones(shape[2], 4), LIF(), engine=engine)


def test_the_fast_engine_refuses_other_and_mixed_precision():
    x, w, _ = small()
    for given_, weights, found in (
        (x.half(), w.half(), "torch.float16"),
        (x.float(), w, "torch.float64"),
        (no_events((5, 2, 6)), w.bfloat16(), "torch.bfloat16"),
    ):
        message = f"lif: engine 'fast' takes float32 or float64 on the CPU, input like weights; found {found} on cpu"
        for call in (surrogate.chosen_engine, partial(surrogate.lif, p=LIF())):
            with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
                call(given_, weights, engine="fast")


@pytest.mark.parametrize("engine", ["reference", "fast"])
def test_recurrent_weights_of_another_precision_are_refused(engine):
    x, w, v = small()
    message = "lif: recurrent weights are torch.float32 on cpu, weights torch.float64 on cpu; give the same"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        surrogate.lif(x, w, LIF(), v.float(), engine=engine)


def test_the_chosen_engine_is_told():
    x, w, _ = small()
    for dtype, engine in ((torch.float32, "fast"), (torch.float64, "fast"), (torch.float16, "reference")):
        assert surrogate.chosen_engine(x.to(dtype), w.to(dtype)) == engine
        assert surrogate.chosen_engine(no_events((5, 2, 6)), w.to(dtype)) == engine
    assert surrogate.chosen_engine(x.float(), w.double()) == "reference"
    for engine in ("reference", "fast", "graph"):
        assert surrogate.chosen_engine(x, w, engine) == engine
    with pytest.raises(UserError, match=r"^lif: unknown engine 'gpu'; choose one of auto, reference, fast, graph$"):
        surrogate.chosen_engine(x, w, "gpu")


def test_half_precision_runs_on_the_reference():
    x, w, v = small(torch.float16)
    trace = surrogate.lif(x, w, LIF(), v)
    assert trace.spikes.dtype == torch.float16
    assert torch.equal(trace.u, surrogate.lif(x, w, LIF(), v, engine="reference").u)


def test_a_time_constant_for_too_few_neurons_is_refused():
    x, w, _ = small()
    with pytest.raises(UserError, match=r"^lif: a time constant has not one entry for each of 4 neurons$"):
        surrogate.lif(x, w, LIF(tau_mem=np.full(3, 10e-3)))


@pytest.mark.parametrize("strength", [np.ones(3), torch.ones(4, requires_grad=True)], ids=["length", "gradient"])
def test_a_strength_that_does_not_fit_is_refused(strength):
    x, w, _ = small()
    message = "lif: adaptation.strength must be a number, or 4 numbers that need no gradient"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        surrogate.lif(x, w, LIF(adaptation=Adaptation(0.1, strength)))


@pytest.mark.parametrize(
    ("p", "message"),
    [
        (LIF(reset="subtract_adapted"), "LIF: reset 'subtract_adapted' needs an adaptation"),
        (LIF(adaptation=Adaptation(0.0, 1.0)), "LIF: adaptation.tau must be positive, in seconds"),
        (LIF(adaptation=Adaptation(0.1, 1.0, "exact")), "LIF: adaptation.gain is 'exact'; choose one of one, leak"),
        (LIF(tau_syn=None, gain="exact"), "LIF: gain 'exact' needs two fixed time constants, tau_mem and tau_syn"),
        (LIF(refractory_kind="hold"), "LIF: refractory_kind is 'hold'; choose one of clamp, mute"),
    ],
    ids=["reset", "tau", "gain", "exact", "kind"],
)
def test_parameters_that_make_no_sense_are_refused(p, message):
    x, w, _ = small()
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        surrogate.lif(x, w, p)


# Layouts ----------------------------------------------------------------------------------------------------------------


def test_views_and_transposed_tensors_are_taken():
    x, w, v = small()
    given_ = torch.stack([x, x + 1], 3)[..., 0], w.T.contiguous().T, v.T.contiguous().T
    assert not any(tensor.is_contiguous() for tensor in given_)
    found = []
    for tensors in ((x, w, v), given_):
        leaves = dict(
            zip("xwv", (tensor.clone(memory_format=torch.preserve_format) for tensor in tensors), strict=True)
        )
        leaves = {name: leaf.requires_grad_() for name, leaf in leaves.items()}
        trace = surrogate.lif(leaves["x"], leaves["w"], LIF(), leaves["v"], engine="fast")
        found.append((trace, slopes(weighted(trace[:3]), leaves)))
    assert_same(*found)


def test_only_what_needs_a_gradient_gets_one():
    for wanted in ("x", "w", "v"):
        leaves = dict(zip("xwv", small(), strict=True))
        leaves[wanted].requires_grad_()
        found = []
        for engine in ("reference", "fast"):
            trace = surrogate.lif(leaves["x"], leaves["w"], LIF(), leaves["v"], engine=engine)
            found.append((trace, slopes(weighted(trace[:3]), {wanted: leaves[wanted]})))
        assert_same(*found)


def test_a_gain_of_zero_has_a_gradient():
    found = []
    for engine in ("reference", "fast"):
        x, w, _ = small(torch.float32)
        tau = torch.full((4,), 1e5, requires_grad=True)
        p = LIF(tau_mem=tau, gain="leak")
        assert not neurons.gain(p).any()
        trace = surrogate.lif(x, w, p, engine=engine)
        found.append(torch.autograd.grad(trace.u.sum(), tau)[0])
    assert torch.isfinite(found[1]).all()
    torch.testing.assert_close(*found)


def test_a_second_derivative_is_refused():
    x, w, _ = small()
    w.requires_grad_()
    u = surrogate.lif(x, w, LIF(), engine="fast").u
    (slope,) = torch.autograd.grad((u**2).sum(), w, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


def test_without_gradients_two_rows_are_kept(monkeypatch):
    rows, forward = [], lif._forward
    monkeypatch.setattr(lif, "_forward", lambda *a: (rows.append(len(a[-4])), forward(*a))[1])
    x, w, v = small()
    w.requires_grad_()
    trained = surrogate.lif(x, w, LIF(), v, engine="fast", states=False)
    with torch.no_grad():
        shown = surrogate.lif(x, w, LIF(), v, engine="fast", states=False)
    assert rows == [5, 2]
    assert torch.equal(trained.spikes, shown.spikes)


@pytest.mark.parametrize("steps", [1, 16, 17, 32, 37])
@pytest.mark.parametrize("kind", ["binary", "analogue"])
def test_weight_gradients_of_many_steps_and_odd_batches(kind, steps):
    """The kernel adds up the weight gradients of several steps at a time, in rows padded to multiples of four samples."""
    g = torch.Generator().manual_seed(steps)
    x = (torch.rand(steps, 5, 30, generator=g) < 0.2).double()
    if kind == "analogue":
        x = x * torch.rand(x.shape, generator=g).double()
    w, v = (torch.randn(n, 11, generator=g).double().requires_grad_() for n in (30, 11))
    found = []
    for engine in ("reference", "fast"):
        trace = surrogate.lif(x, w, LIF(current="new"), v, engine=engine)
        found.append((trace, slopes(weighted(trace[:3]), {"w": w, "v": v})))
    assert_same(*found)


# Threads ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def one_thread_afterwards():
    yield
    parallel.use_threads(1)


@pytest.mark.parametrize("threads", [2, 3, 8])
@pytest.mark.parametrize(
    "case",
    [
        Case(adaptation="one", refractory=3, refractory_kind="mute"),
        Case(input="events"),
        Case(input="analogue", density=1.0, reset_gradient=True),
    ],
    ids=["binary", "events", "analogue"],
)
def test_more_threads_do_the_same(case, threads, one_thread_afterwards):
    alone = outcome(case, "fast")
    parallel.use_threads(threads)
    assert parallel.threads() == threads
    assert_same(alone, outcome(case, "fast"))


@pytest.mark.parametrize(("workers", "size"), [(1, 5), (2, 5), (3, 7), (4, 4)])
def test_every_share_is_worked_on_once(workers, size):
    done = []
    parallel.in_parallel(lambda k, low, high: done.append((k, low, high)), workers, size)
    done.sort()
    assert [k for k, _, _ in done] == list(range(workers))
    assert [n for _, low, high in done for n in range(low, high)] == list(range(size))


def test_a_failure_in_another_thread_is_raised():
    def work(k, low, high):
        if k == 1:
            raise ValueError("worker 1")

    with pytest.raises(ValueError, match="worker 1"):
        parallel.in_parallel(work, 2, 4)


def test_no_threads_are_refused(one_thread_afterwards):
    with pytest.raises(UserError, match=r"^use_threads: 0 threads; give 1 or more$"):
        parallel.use_threads(0)
    assert parallel.threads() == 1


# The step compiled by torch ---------------------------------------------------------------------------------------------


def graph_agrees():
    from snnrepro.surrogate import layers

    layers._compiled_step.cache_clear()
    case = Case(steps=4, batch=2, inputs=3, size=3, density=0.6, adaptation="one", refractory=3, refractory_kind="mute")
    slow = outcome(case, "reference")
    assert slow[0].spikes.sum() > 0
    assert_same(slow, outcome(case, "graph"))
    layers._compiled_step.cache_clear()


def test_the_graph_of_the_step_does_the_same():
    with mock.patch.object(torch, "compile", partial(torch.compile, backend="aot_eager")):
        graph_agrees()


@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++", "c++"))), reason="torch.compile needs a C++ compiler")
@pytest.mark.skipif(not SLOW, reason="torch.compile takes half a minute; set SNNREPRO_SLOW")
def test_the_compiled_step_does_the_same():
    graph_agrees()


# Memory -----------------------------------------------------------------------------------------------------------------

MEASURE = """
import re
from pathlib import Path
import torch
from snnrepro import surrogate
from snnrepro.neurons import LIF

def peak():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

def given(steps):
    unit = torch.randint(UNITS, (steps * BATCH,), generator=g)
    time, batch = torch.arange(steps).repeat_interleave(BATCH), torch.arange(BATCH).repeat(steps)
    return surrogate.events(time, batch, unit, (steps, BATCH, UNITS))

STEPS, BATCH, UNITS, NEURONS = 40_000, 8, 2000, 50
g = torch.Generator().manual_seed(0)
w, v = (torch.randn(n, NEURONS, generator=g).requires_grad_() for n in (UNITS, NEURONS))
found = []
for x in [given(steps) for steps in (10, STEPS, 2 * STEPS)]:
    surrogate.lif(x, w, LIF(), v, states=False).spikes.sum().backward()
    found.append(peak())
assert w.grad.any() and v.grad.any()
print((found[2] - found[1]) / (STEPS * BATCH * NEURONS))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
def test_memory_of_training_grows_with_time_batch_and_neurons_alone():
    """Found: 12.0 bytes a step, sample and neuron: S, U and the incoming gradient of S, 4 each. A copy for each of the 2050 synapses of a
    neuron would be 8200. The peak resident size sees numpy, numba and torch; it is read in a process of its own, at T and at 2 T. It is
    VmHWM, not ru_maxrss, which a process inherits from the one that started it.
    """
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    assert 8 <= float(done.stdout) <= 16


# Networks ---------------------------------------------------------------------------------------------------------------


def deep(recurrent: bool):
    """A network of three hidden layers in double precision, input and labels."""
    g = torch.Generator().manual_seed(6)
    sizes = (9, 8, 7, 6, 3)
    network = surrogate.uniform_network(sizes, True, g) if recurrent else surrogate.initial_network(sizes, 3.0, g)
    factor = 4.0 if recurrent else 1.0
    twice = [
        tuple((factor * w.detach()).double().requires_grad_() for w in part)
        for part in (network.hidden, network.recurrent)
    ]
    network = Network(twice[0], network.output.detach().double().requires_grad_(), twice[1])
    x = (torch.rand(40, 5, 9, generator=g) < 0.3).double()
    return network, x, torch.tensor([0, 1, 2, 1, 0])


@pytest.mark.parametrize("recurrent", [False, True])
def test_the_gradient_of_three_hidden_layers_is_the_same_in_both_engines(recurrent, monkeypatch):
    found = []
    for engine in ("reference", "fast"):
        network, x, label = deep(recurrent)
        assert len(network.hidden) == 3 and len(network.recurrent) == (3 if recurrent else 0)
        monkeypatch.setattr(training, "lif", partial(surrogate.lif, engine=engine))
        monkeypatch.setattr(training, "readout", partial(surrogate.readout, engine=engine))
        score, spikes = surrogate.classify(x, network, LIF(surrogate=Surrogate("fast_sigmoid", 5.0)))
        loss = surrogate.classification_loss(score, label) + sum(0.01 * s.sum() for s in spikes)
        found.append((spikes, score.detach(), slopes(loss, network.weights())))
    for slow, fast in zip(found[0][0], found[1][0], strict=True):
        assert torch.equal(slow, fast)
        assert slow.sum() > 0
    assert_close(found[0][1], found[1][1], EXACT, "score")
    for name, slope in found[0][2].items():
        assert slope.any()
        assert_close(slope, found[1][2][name], EXACT, f"gradient of {name}")


def test_three_recurrent_layers_are_packed_and_unpacked():
    def fresh(seed):
        network = surrogate.uniform_network((9, 8, 7, 6, 3), True, torch.Generator().manual_seed(seed))
        return network, torch.optim.Adam(network.weights().values(), lr=0.01)

    g = torch.Generator().manual_seed(2)
    batches = [((torch.rand(20, 4, 9, generator=g) < 0.5).float(), torch.tensor([0, 1, 2, 1]))] * 3
    network, optimiser = fresh(0)
    surrogate.train(network, batches, LIF(), optimiser)
    saved = surrogate.pack(network, optimiser)
    through = surrogate.train(network, batches, LIF(), optimiser)
    names = ["hidden0", "hidden1", "hidden2", "output", "recurrent0", "recurrent1", "recurrent2"]
    assert {name.split("/")[1] for name in saved} == set(names)
    again, other = fresh(1)
    surrogate.unpack(saved, again, other)
    packed = surrogate.pack(again, other)
    assert saved.keys() == packed.keys()
    assert all(np.array_equal(saved[name], packed[name]) for name in saved)
    assert surrogate.train(again, batches, LIF(), other) == through
    assert all(torch.equal(a, b) for a, b in zip(network.weights().values(), again.weights().values(), strict=True))
