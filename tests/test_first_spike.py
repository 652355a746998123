"""First spike times in closed form: against golden roots, a root finder, finite differences, the plain reference and Brian2."""

import csv
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import lambertw

from snnrepro.errors import UserError
from snnrepro.first_spike import nonleaky, ttfs
from snnrepro.first_spike.exact import Neuron, mismatched_times, spike_times
from snnrepro.kernels import first_spike as kernel
from snnrepro.peers.first_spike import first_spikes_brian2

GOLDEN = Path(__file__).parent / "golden" / "first_spike" / "jaxsnn_ttfs.csv"
NEURONS = {"equal": Neuron(), "double": Neuron(tau_mem=2.0), "no leak": Neuron(tau_mem=math.inf)}
KINDS = list(NEURONS)
EACH = pytest.mark.parametrize("p", NEURONS.values(), ids=KINDS)


def kernel_of(p: Neuron, s: np.ndarray) -> np.ndarray:
    """Potential a time s after one input of weight 1, from the differential equation."""
    s = np.maximum(s, 0.0)
    if math.isinf(p.tau_mem):
        return p.tau_syn * -np.expm1(-s / p.tau_syn) / p.capacitance
    if p.tau_mem == p.tau_syn:
        return s * np.exp(-s / p.tau_syn) / p.capacitance
    factor = p.tau_mem * p.tau_syn / (p.tau_mem - p.tau_syn) / p.capacitance
    return factor * (np.exp(-s / p.tau_mem) - np.exp(-s / p.tau_syn))


def first_root(p: Neuron, t: np.ndarray, w: np.ndarray) -> float:
    """First time at which the potential of one neuron reaches the threshold, by a fine grid and bisection; infinite if never."""
    finite = np.isfinite(t)
    t, w = t[finite], w[finite]
    if not len(t):
        return math.inf

    def above(at):
        return kernel_of(p, np.subtract.outer(at, t)) @ w - p.threshold

    grid = np.linspace(t.min(), t.max() + 60 * p.tau_syn, 20_001)
    values = above(grid)
    hits = np.flatnonzero(values >= 0)
    return (
        brentq(lambda at: above(np.array([at]))[0], grid[hits[0] - 1], grid[hits[0]], xtol=1e-14)
        if len(hits)
        else math.inf
    )


def nearest_miss(p: Neuron, t: np.ndarray, w: np.ndarray) -> float:
    """Distance of the largest potential from the threshold: where it is tiny, a grid cannot decide."""
    grid = np.linspace(t[np.isfinite(t)].min(), t[np.isfinite(t)].max() + 60 * p.tau_syn, 20_001)
    return abs((kernel_of(p, np.subtract.outer(grid, t[np.isfinite(t)])) @ w[np.isfinite(t)]).max() - p.threshold)


def random_case(seed: int, batch=4, inputs=8, neurons=5, dtype=torch.float64):
    """Input times with ties and missing spikes, and weights of both signs."""
    g = torch.Generator().manual_seed(seed)
    t = 3 * torch.rand(batch, inputs, generator=g, dtype=torch.float64)
    t[torch.rand(batch, inputs, generator=g) < 0.15] = math.inf
    t = torch.where(torch.rand(batch, inputs, generator=g) < 0.3, (4 * t).round() / 4, t)
    w = 0.6 + 1.3 * torch.randn(inputs, neurons, generator=g, dtype=torch.float64)
    return t.to(dtype), w.to(dtype)


# Golden values --------------------------------------------------------------------------------------------------------------


def golden():
    rows = list(csv.DictReader(GOLDEN.open()))
    assert len(rows) == 200
    return rows


def test_golden_roots_from_the_state():
    silent = 0
    for row in golden():
        tau, ratio = float(row["tau_syn"]), int(row["ratio"])
        kind, h = (kernel.EQUAL, 1.0) if ratio == 1 else (kernel.DOUBLE, 2.0)  # C = tau_mem
        found = tau * kernel.first_crossing(
            kind, ratio * float(row["v0"]), float(row["i0"]), math.inf, h * float(row["v_th"])
        )
        if not row["t_brentq"]:
            silent += 1
            assert found == math.inf
        else:
            assert found == pytest.approx(float(row["t_brentq"]), rel=1e-9)
            assert found == pytest.approx(float(row["t_jaxsnn"]), rel=1e-6)
    assert 0 < silent < 200


def test_golden_roots_from_two_inputs():
    """An input of the right weight one time constant earlier, and a second one at 0, give the golden state."""
    for row in golden():
        tau, ratio = float(row["tau_syn"]), int(row["ratio"])
        p = Neuron(tau, ratio * tau, float(row["v_th"]), ratio * tau)
        first = float(row["v0"]) / kernel_of(p, np.array(tau))
        second = float(row["i0"]) - first * math.exp(-1)
        t, w = torch.tensor([[-tau, 0.0]], dtype=torch.float64), torch.tensor([[first], [second]], dtype=torch.float64)
        found = spike_times(t, w, p).item()
        assert found == pytest.approx(float(row["t_brentq"] or "inf"), rel=1e-8)


@pytest.mark.parametrize(
    ("kind", "weight", "time", "slope"),
    [
        ("equal", 4.0, 0.35740295618, -0.13904629644),
        ("double", 3.0, 0.47480157230, -0.24401693586),
        ("no leak", 2.0, math.log(2), -0.5),
    ],
)
def test_one_input(kind, weight, time, slope):
    w = torch.tensor([[weight]], dtype=torch.float64, requires_grad=True)
    found = spike_times(torch.tensor([[0.7]], dtype=torch.float64), w, NEURONS[kind])
    assert found.item() - 0.7 == pytest.approx(time, abs=1e-10)
    assert torch.autograd.grad(found.sum(), w)[0].item() == pytest.approx(slope, abs=1e-9)


@pytest.mark.parametrize(
    ("kind", "weight", "time"),
    [("equal", math.e, 1.0), ("double", 2.0, 2 * math.log(2))],
)
def test_a_tangent_is_a_spike_and_less_is_none(kind, weight, time):
    """Where the potential just touches the threshold, its slope is 0 and the gradient would be infinite: it is left out."""
    p, t = NEURONS[kind], torch.zeros(1, 1, dtype=torch.float64)
    for factor, expected in ((1 + 1e-12, time), (1 - 1e-12, math.inf)):
        w = torch.tensor([[factor * weight]], dtype=torch.float64, requires_grad=True)
        found = spike_times(t, w, p)
        assert found.item() == pytest.approx(expected, abs=1e-5)
        assert torch.isfinite(torch.autograd.grad(found.sum(), w)[0]).all()
    if kind == "double":  # 2 is exact
        w = torch.tensor([[2.0]], dtype=torch.float64, requires_grad=True)
        found = spike_times(t, w, p)
        assert found.item() == pytest.approx(time, abs=1e-15)
        assert torch.autograd.grad(found.sum(), w)[0].item() == 0


@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_without_a_leak_weights_that_sum_to_the_threshold_never_reach_it(engine):
    """The potential approaches the sum of the weights and is below it at all times."""
    p, t = NEURONS["no leak"], torch.tensor([[0.0, 0.25]], dtype=torch.float64)
    for more, spikes in ((0.0, False), (1e-9, True), (-1e-9, False)):
        w = torch.tensor([[0.25], [0.75 + more]], dtype=torch.float64)
        assert torch.isfinite(spike_times(t, w, p, engine=engine)).item() == spikes


def test_lambert_w_is_scipy_s():
    z = -np.exp(-1) * np.concatenate(
        [np.linspace(0, 1, 2001), 1 - np.logspace(-15, -1, 200), np.logspace(-30, -1, 200)]
    )
    ours = np.array([kernel.lambert_w(value) for value in z])
    theirs = np.nan_to_num(lambertw(z).real, nan=-1.0)
    assert np.abs(ours - theirs).max() < 5e-8  # at the branch point W is as steep as a square root
    far = z > -0.367
    assert np.abs(ours[far] - theirs[far]).max() < 1e-14
    assert np.abs(ours * np.exp(ours) - z).max() < 1e-15


# Existence and causal set ---------------------------------------------------------------------------------------------------


@EACH
def test_times_are_the_first_roots(p):
    checked = silent = 0
    for seed in range(30):
        t, w = random_case(seed)
        found = spike_times(t, w, p)
        for b in range(len(t)):
            for n in range(w.shape[1]):
                expected = first_root(p, t[b].numpy(), w[:, n].numpy())
                if math.isinf(expected) != bool(torch.isinf(found[b, n])):
                    assert nearest_miss(p, t[b].numpy(), w[:, n].numpy()) < 1e-5
                    continue
                checked += 1
                silent += math.isinf(expected)
                assert found[b, n].item() == pytest.approx(expected, abs=2e-3 if math.isinf(expected) else 1e-9)
    assert checked > 550
    assert silent > 25


@EACH
@pytest.mark.parametrize(
    ("t", "w", "spikes"),
    [
        ([0.0, 0.0], [2.0, 2.0], True),  # a tie is one input
        ([0.5, 0.5], [4.0, -4.0], False),  # and may cancel
        ([0.0, 0.1], [4.0, -8.0], False),  # inhibition just in time
        ([0.0, 3.0], [4.0, -9.0], True),  # too late
        ([0.0, 0.1], [-9.0, 4.0], False),  # still held down
        ([0.0, 1.0], [-1.0, 6.0], True),
        ([0.0, 1.0], [0.0, 0.0], False),
        ([math.inf, 1.0], [9.0, 4.0], True),  # the first never comes
        ([math.inf, math.inf], [9.0, 9.0], False),
    ],
)
def test_edge_cases(p, t, w, spikes):
    t, w = torch.tensor([t], dtype=torch.float64), torch.tensor(w, dtype=torch.float64)[:, None]
    found = spike_times(t, w, p).item()
    assert math.isfinite(found) == spikes
    assert found == pytest.approx(first_root(p, t[0].numpy(), w[:, 0].numpy()), abs=1e-9)
    assert spike_times(t, w, p, engine="reference").item() == pytest.approx(found, abs=1e-12)


@EACH
def test_late_times_do_not_overflow(p):
    t, w = random_case(3)
    for shift in (1e3, 1e5):
        torch.testing.assert_close(spike_times(t + shift, w, p) - shift, spike_times(t, w, p), rtol=0, atol=1e-9)
    spread = torch.tensor([[0.0, 2000.0]], dtype=torch.float64)
    strong = torch.tensor([[0.5, 9.0], [9.0, 0.5]], dtype=torch.float64, requires_grad=True)
    found = spike_times(spread, strong, p)
    assert torch.isfinite(torch.autograd.grad(found[torch.isfinite(found)].sum(), strong)[0]).all()


@EACH
def test_a_spike_at_the_very_time_of_an_input(p):
    """The walk must neither lose it nor count the input as its cause."""
    w = torch.tensor([[4.0], [3.0]], dtype=torch.float64, requires_grad=True)
    alone = spike_times(torch.zeros(1, 1, dtype=torch.float64), w[:1], p).detach()
    t = torch.tensor([[0.0, alone.item()]], dtype=torch.float64, requires_grad=True)
    found = spike_times(t, w, p)
    assert found.item() == pytest.approx(alone.item(), abs=1e-15)
    g_t, g_w = torch.autograd.grad(found.sum(), (t, w))
    assert g_w[1] == 0
    assert g_t[0, 1] == 0


@EACH
def test_order_of_the_inputs_does_not_matter(p):
    t, w = random_case(5)
    shuffled = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(spike_times(t[:, shuffled], w[shuffled], p), spike_times(t, w, p), rtol=1e-13, atol=0)


@EACH
def test_units_of_time_and_potential(p):
    t, w = random_case(7)
    scale = 6e-6
    torch.testing.assert_close(
        spike_times(scale * t, w, Neuron(scale * p.tau_syn, scale * p.tau_mem, 2.0, 0.5 * scale)) / scale,
        spike_times(t, w, p),
        rtol=1e-9,
        atol=0,
    )


def test_neurons_with_time_constants_of_their_own():
    """Near the ratios 1 and 2 they spike as the closed forms say; elsewhere where a fine grid finds the root."""
    t, w = random_case(31, batch=20)
    ones = torch.ones(5, dtype=torch.float64)
    for p in (NEURONS["equal"], NEURONS["double"]):
        tau_mem = p.tau_mem * ones * (1 + 1e-7 * (p.tau_mem == 1))
        found = mismatched_times(t, w, p, tau_mem, ones, ones)
        torch.testing.assert_close(found, spike_times(t, w, p), rtol=1e-5, atol=0)
    tau_mem, tau_syn, threshold = ones * 1.7, ones * 0.8, ones * 1.2
    found = mismatched_times(t, w, Neuron(), tau_mem, tau_syn, threshold)
    other = Neuron(0.8, 1.7, 1.2)
    checked = 0
    for b in range(20):
        for n in range(5):
            expected = first_root(other, t[b].numpy(), w[:, n].numpy())
            if nearest_miss(other, t[b].numpy(), w[:, n].numpy()) > 1e-4:
                assert found[b, n].item() == pytest.approx(expected, abs=1e-9)
                checked += 1
    assert checked > 90
    with pytest.raises(UserError, match=r"^mismatched_times: give each neuron a positive threshold"):
        mismatched_times(t, w, Neuron(), ones, ones, ones)
    with pytest.raises(UserError, match=r"^mismatched_times: give each neuron a positive threshold"):
        mismatched_times(t, w, Neuron(), math.inf * ones, ones, ones)


# Gradients ------------------------------------------------------------------------------------------------------------------


@EACH
def test_gradient_is_the_finite_difference(p):
    """Over thousands of random networks, along random directions of weights and input times at once."""
    checked = 0
    for seed in range(1500):
        t, w = random_case(seed)
        g = torch.Generator().manual_seed(seed + 10_000)
        d_w = torch.randn(w.shape, generator=g, dtype=w.dtype)
        # what comes at the same time must stay so: an input that is moved past another one changes the causal set
        d_t = torch.randn(len(t), 1, generator=g, dtype=w.dtype) * torch.ones_like(t)
        t.requires_grad_()
        w.requires_grad_()
        found = spike_times(t, w, p)
        each = []
        step = 1e-5
        with torch.no_grad():
            for sign in (1, -1, 2, -2):
                each.append(spike_times(t + sign * step * d_t, w + sign * step * d_w, p))
            difference = (8 * (each[0] - each[1]) - (each[2] - each[3])) / (12 * step)
            smooth = torch.isfinite(difference) & ((each[2] + each[3] - 2 * found).abs() < 1e-7)
        if not smooth.any():
            continue
        g_t, g_w = torch.autograd.grad(found[smooth].sum(), (t, w))
        ours = (g_w * d_w).sum() + torch.where(torch.isfinite(t), g_t * d_t, 0.0).sum()
        scale = (g_w * d_w).abs().sum() + torch.where(torch.isfinite(t), g_t * d_t, 0.0).abs().sum()
        assert (
            abs(ours - difference[smooth].sum()) < 1e-6 * scale + 1e-8
        )  # the latter is the rounding of the difference
        checked += int(smooth.sum())
    assert checked > 15_000


@EACH
def test_gradient_by_each_input_time(p):
    """Inputs moved one by one, where no two inputs come at the same time."""
    g = torch.Generator().manual_seed(1)
    for _ in range(200):
        t = 3 * torch.rand(6, 8, generator=g, dtype=torch.float64)
        w = 0.8 + 1.2 * torch.randn(8, 4, generator=g, dtype=torch.float64)
        t.requires_grad_()
        found = spike_times(t, w, p)
        for i in range(8):
            shift = torch.zeros_like(t)
            shift[:, i] = 1e-5
            each = [spike_times((t + k * shift).detach(), w, p) for k in (1, -1, 2, -2)]
            difference = (8 * (each[0] - each[1]) - (each[2] - each[3])) / 12e-5
            smooth = torch.isfinite(difference) & ((each[2] + each[3] - 2 * found.detach()).abs() < 1e-7)
            smooth &= (found.detach() - t.detach()[:, i : i + 1]).abs() > 1e-4
            (slope,) = torch.autograd.grad((found * smooth)[smooth].sum(), t, retain_graph=True)
            expected = torch.where(smooth, difference, 0.0).sum(1)
            torch.testing.assert_close(slope[:, i], expected, rtol=1e-6, atol=1e-8)


@EACH
@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    inputs=st.integers(1, 12),
    neurons=st.sampled_from([1, 3, 64, 65, 130]),
    batch=st.integers(1, 4),
)
def test_engines_agree(p, seed, inputs, neurons, batch):
    t, w = random_case(seed, batch, inputs, neurons)
    t, w = t.requires_grad_(), w.requires_grad_()
    found = {}
    for engine in ("fast", "reference"):
        times = spike_times(t, w, p, engine=engine)
        steep = torch.isfinite(times)
        weight = torch.linspace(0.5, 1.5, times.numel(), dtype=torch.float64).view(times.shape)
        loss = (times[steep] * weight[steep]).sum()
        grads = torch.autograd.grad(loss, (t, w)) if steep.any() else (torch.zeros_like(t), torch.zeros_like(w))
        found[engine] = times.detach(), *grads
    fast, reference = found["fast"], found["reference"]
    same = torch.isfinite(fast[0]) == torch.isfinite(reference[0])
    assert same.all()
    torch.testing.assert_close(fast[0], reference[0], rtol=1e-9, atol=0)
    # a neuron that barely spikes has a huge gradient, in which rounding is amplified
    for ours, theirs in zip(fast[1:], reference[1:], strict=True):
        assert not torch.isnan(theirs).any()
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9 * (1 + float(theirs.abs().max())))


def test_without_leak_it_is_the_form_of_mostafa():
    """`nonleaky` works in z = exp(t), with its own gradient."""
    t, w = random_case(21, batch=30)
    t, w = t.requires_grad_(), w.requires_grad_()
    times = spike_times(t, w, NEURONS["no leak"])
    others = torch.log(nonleaky.spike_times(torch.exp(t), w))
    spiked = torch.isfinite(times)
    assert 20 < spiked.sum() < times.numel()
    torch.testing.assert_close(times, others, rtol=1e-10, atol=0)
    arrives = torch.isfinite(t)
    for ours, theirs in zip(*(torch.autograd.grad(a[spiked].sum(), (t, w)) for a in (times, others)), strict=True):
        ours, theirs = (torch.where(arrives, g, 0.0) if g.shape == t.shape else g for g in (ours, theirs))
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)


def test_large_changes_of_weights_are_left_out():
    t = torch.zeros(3, 1, dtype=torch.float64)
    w = torch.tensor([[4.0, math.e + 1e-4]], dtype=torch.float64, requires_grad=True)
    t.requires_grad_()
    free_t, free_w = torch.autograd.grad(spike_times(t, w, Neuron()).sum(), (t, w))
    assert free_w[0, 1].abs() > 10
    g_t, g_w = torch.autograd.grad(spike_times(t, w, Neuron(), largest_change=5.0).sum(), (t, w))
    assert g_w[0, 0] == free_w[0, 0]
    assert g_w[0, 1] == 0
    assert torch.equal(g_t, free_t)
    # the limit is on one sample's contribution: three of 0.139 pass a limit of 0.14, not of 0.13
    for limit, passes in ((0.14, True), (0.139, False)):
        g_w = torch.autograd.grad(spike_times(t, w, Neuron(), largest_change=limit).sum(), w)[0]
        assert bool(g_w[0, 0] != 0) == passes


@EACH
def test_the_limit_does_not_depend_on_the_unit_of_time(p):
    """The gradient of a loss in units of tau_syn, by the weights, is the same in seconds."""
    t, w = random_case(12, batch=6)
    found = []
    for unit in (1.0, 1e-3):
        leaf = w.clone().requires_grad_()
        scaled = Neuron(unit, unit * p.tau_mem, 1.0, unit)
        times = spike_times(unit * t, leaf, scaled, largest_change=1.0) / unit
        found.append(torch.autograd.grad(times[torch.isfinite(times)].sum(), leaf)[0])
    torch.testing.assert_close(*found, rtol=1e-6, atol=1e-9)
    assert found[0].any()


def test_the_limit_looks_at_the_largest_entry_of_each_sample():
    for kind in KINDS:
        t, w = random_case(11, batch=6)
        w.requires_grad_()
        rows = []
        for b in range(6):
            times = spike_times(t[b : b + 1], w, NEURONS[kind])
            each = []
            for n in range(w.shape[1]):
                each.append(
                    torch.autograd.grad(times[0, n], w, retain_graph=True)[0][:, n]
                    if torch.isfinite(times[0, n])
                    else 0 * w[:, n]
                )
            rows.append(torch.stack(each, 1))
        limit = float(torch.stack(rows).detach().abs().amax(1).median()) + 1e-9
        expected = sum(torch.where(row.abs().amax(0) > limit, 0.0, row) for row in rows)
        times = spike_times(t, w, NEURONS[kind], largest_change=limit)
        (g_w,) = torch.autograd.grad(times[torch.isfinite(times)].sum(), w)
        torch.testing.assert_close(g_w, expected, rtol=1e-9, atol=1e-12)


# Precision, threads, refusals -----------------------------------------------------------------------------------------------


@EACH
def test_single_precision(p):
    differ = total = 0
    for seed in range(50):
        t, w = random_case(seed)
        double, single = spike_times(t, w, p), spike_times(t.float(), w.float(), p)
        assert single.dtype == torch.float32
        differ += int((torch.isfinite(double) != torch.isfinite(single)).sum())
        total += double.numel()
        both = torch.isfinite(double) & torch.isfinite(single)
        assert (double[both] - single[both].double()).abs().median() < 1e-6
    assert differ < 0.01 * total


@EACH
def test_threads_do_the_same(p):
    from snnrepro.kernels import parallel

    t, w = random_case(2, batch=7, inputs=20, neurons=70)
    t.requires_grad_()
    w.requires_grad_()
    found = []
    try:
        for threads in (1, 3):
            parallel.use_threads(threads)
            times = spike_times(t, w, p)
            found.append((times.detach(), *torch.autograd.grad(times[torch.isfinite(times)].sum(), (t, w))))
    finally:
        parallel.use_threads(1)
    for one, many in zip(*found, strict=True):
        torch.testing.assert_close(one, many, rtol=1e-12, atol=1e-12)


T, W = torch.zeros(2, 3, dtype=torch.float64), torch.ones(3, 4, dtype=torch.float64)


@pytest.mark.parametrize(
    ("t", "w", "p", "message"),
    [
        (T[:0], W, Neuron(), "spike_times: times have shape (0, 3); give (batch, inputs), neither of them empty"),
        (T[0], W, Neuron(), "spike_times: times have shape (3,); give (batch, inputs), neither of them empty"),
        (T, W[:2], Neuron(), "spike_times: weights have shape (2, 4); give (3, neurons) to fit the times"),
        (
            T.float(),
            W,
            Neuron(),
            "spike_times: times are torch.float32, weights torch.float64; give both float32 or both float64 on the CPU",
        ),
        (
            T * math.nan,
            W,
            Neuron(),
            "spike_times: the input times hold NaN or minus infinity; write infinity where there is no spike",
        ),
        (
            T - math.inf,
            W,
            Neuron(),
            "spike_times: the input times hold NaN or minus infinity; write infinity where there is no spike",
        ),
        (T, W * math.inf, Neuron(), "spike_times: the weights hold NaN or infinite values"),
        (
            T,
            W,
            Neuron(tau_syn=-1.0),
            "Neuron: tau_syn is -1.0; it must be positive and finite (tau_mem may be infinite)",
        ),
        (
            T,
            W,
            Neuron(threshold=0.0),
            "Neuron: threshold is 0.0; it must be positive and finite (tau_mem may be infinite)",
        ),
        (
            T,
            W,
            Neuron(tau_mem=math.nan),
            "Neuron: tau_mem is nan; it must be positive and finite (tau_mem may be infinite)",
        ),
        (T, W, Neuron(tau_mem=1.5), "Neuron: tau_mem / tau_syn is 1.5; a closed form exists for 1, 2 and infinity"),
    ],
)
def test_bad_input_is_refused(t, w, p, message):
    for engine in ("fast", "reference"):
        with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
            spike_times(t, w, p, engine=engine)


def test_an_unknown_engine_is_refused():
    with pytest.raises(UserError, match="unknown engine 'slow'"):
        spike_times(T, W, Neuron(), engine="slow")
    for limit in (0.0, -1.0, math.nan):
        with pytest.raises(UserError, match="largest_change is"):
            spike_times(T, W, Neuron(), largest_change=limit)
    with pytest.raises(UserError, match="knows no largest_change"):
        spike_times(T, W, Neuron(), engine="reference", largest_change=1.0)


# Brian2 ---------------------------------------------------------------------------------------------------------------------


@EACH
def test_a_network_spikes_when_brian2_says(p):
    g = torch.Generator().manual_seed(4)
    t = 0.5 + 2 * torch.rand(1, 12, generator=g, dtype=torch.float64)
    dt = 5e-4
    t = (t / dt).round() * dt
    weights = [
        0.9 + 0.9 * torch.randn(12, 10, generator=g, dtype=torch.float64),
        1 + torch.randn(10, 6, generator=g, dtype=torch.float64),
    ]
    ours = ttfs.run(ttfs.Network(tuple(weights), (None, None)), t, p)
    theirs = first_spikes_brian2(t[0].numpy(), [w.numpy() for w in weights], p, end=12.0, dt=dt)
    spiking = 0
    for k, (a, b) in enumerate(zip(ours, theirs.times, strict=True)):
        a = torch.where(a > 11.9, math.inf, a)[0].numpy()
        assert np.array_equal(np.isfinite(a), np.isfinite(b))
        assert np.abs(a - b)[np.isfinite(a)].max() < (2 + 4 * k) * dt
        spiking += np.isfinite(a).sum()
    assert spiking >= 10


# Loss, repair, training -----------------------------------------------------------------------------------------------------


def test_the_loss_by_hand():
    p = Neuron(tau_syn=2.0, tau_mem=2.0)
    t = torch.tensor([[2.0, 2.4, math.inf], [3.0, 2.0, 2.2], [1.0, math.inf, 1.0]], dtype=torch.float64)
    label = torch.tensor([0, 2, 1])
    first = math.log(1 + math.exp(-0.2 / 0.2)) + 0.005 * math.exp(1.0)
    second = (
        math.log(math.exp(-1.5 / 0.2) + math.exp(-1 / 0.2) + math.exp(-1.1 / 0.2)) + 1.1 / 0.2 + 0.005 * math.exp(1.1)
    )
    assert ttfs.time_cross_entropy(t, label, p).item() == pytest.approx((first + second + 100) / 3, rel=1e-12)


def test_a_silent_label_has_no_gradient():
    t = torch.tensor([[1.0, math.inf], [1.0, 2.0]], dtype=torch.float64, requires_grad=True)
    (g,) = torch.autograd.grad(ttfs.time_cross_entropy(t, torch.tensor([1, 0]), Neuron()), t)
    assert torch.equal(g[0], torch.zeros(2, dtype=torch.float64))
    assert torch.isfinite(g).all()
    assert g[1].any()
    silent = torch.full((2, 2), math.inf, dtype=torch.float64, requires_grad=True)
    loss = ttfs.time_cross_entropy(silent, torch.tensor([0, 1]), Neuron())
    assert loss.item() == 100
    assert not torch.autograd.grad(loss, silent)[0].any()


def test_the_earliest_decides():
    t = torch.tensor([[2.0, 1.0, 3.0], [1.0, 1.0, 2.0], [math.inf, math.inf, 5.0], [math.inf] * 3])
    assert ttfs.decide(t).tolist() == [1, 0, 2, -1]


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ([0, 3], "labels 0 .. 3 lie outside 0 .. 2"),
        ([-1, 2], "labels -1 .. 2 lie outside 0 .. 2"),
        ([0], "labels have shape (1,); give one for each of 2 samples"),
        ([0.0, 1.0], "labels are torch.float32; give int64"),
        ([False, True], "labels are torch.bool; give int64"),
    ],
)
def test_bad_labels_are_refused(label, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        ttfs.time_cross_entropy(torch.ones(2, 3), torch.tensor(label), Neuron())


def test_nan_times_and_silent_batches_are_refused():
    with pytest.raises(UserError, match=r"^time_cross_entropy: the spike times hold NaN$"):
        ttfs.time_cross_entropy(torch.full((1, 2), math.nan), torch.tensor([0]), Neuron())
    network, optimiser = small_network()
    batch = torch.full((2, 4), math.inf, dtype=torch.float64), torch.tensor([0, 1])
    with pytest.raises(UserError, match=r"^train: no input spikes in a batch; nothing can be learned from it$"):
        ttfs.train(network, [batch], Neuron(), optimiser, None)


def test_no_batches_and_too_few_limits_are_refused():
    network, optimiser = small_network()
    with pytest.raises(UserError, match=r"^train: there are no batches$"):
        ttfs.train(network, [], Neuron(), optimiser, None)
    with pytest.raises(UserError, match=r"^train: 1 limits for 2 layers; give one a layer$"):
        ttfs.train(network, [], Neuron(), optimiser, ttfs.Repair((0.3,)))


@pytest.mark.parametrize("layers", [0, 1])
def test_an_optimiser_that_misses_weights_is_refused(layers):
    network, other = small_network()[0], small_network()[0]
    optimiser = torch.optim.Adam([*network.weights[:layers], *other.weights])
    t, label = torch.rand(2, 4, dtype=torch.float64), torch.tensor([0, 1])
    said = "train: the optimiser does not hold the weights of the network; make it from network.weights"
    with pytest.raises(UserError, match=f"^{said}$"):
        ttfs.train(network, [(t, label)], Neuron(), optimiser, None)


def small_network(mean: float = 1.5, bias: float | None = 0.9, hidden: int = 6):
    draw = ttfs.Initial(mean, 0.5)
    network = ttfs.initial_network((4, hidden, 3), (draw, draw), (bias, bias), torch.Generator().manual_seed(0))
    return network, torch.optim.Adam(network.weights, lr=0.01)


def test_the_bias_is_one_more_input():
    network, _ = small_network(bias=0.9)
    t = 2 * torch.rand(5, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    hidden, output = ttfs.run(network, t, Neuron())
    one = torch.full((5, 1), 0.9, dtype=torch.float64)
    torch.testing.assert_close(hidden, spike_times(torch.cat([t, one], 1), network.weights[0], Neuron()))
    torch.testing.assert_close(output, spike_times(torch.cat([hidden, one], 1), network.weights[1], Neuron()))


def test_silent_neurons_are_repaired_layer_by_layer():
    network, _ = small_network()
    rule = ttfs.Repair((0.3, 0.0), 1e-3)
    before = [w.detach().clone() for w in network.weights]
    hidden, output = torch.ones(10, 6), torch.ones(10, 3)
    assert ttfs.repair(network, [hidden, output], rule, ttfs.Bumped(1, 0.5)) == ttfs.Bumped()
    hidden[0, 2] = output[3, 1] = math.inf
    state = ttfs.repair(network, [hidden, output], rule, ttfs.Bumped())  # the hidden layer is within its limit
    assert state == ttfs.Bumped(1, 1e-3)
    state = ttfs.repair(network, [hidden, output], rule, state)
    assert state == ttfs.Bumped(1, 2e-3)
    assert torch.equal(network.weights[0], before[0])
    change = network.weights[1].detach() - before[1]
    torch.testing.assert_close(change[:, 1], torch.full((7,), 3e-3, dtype=torch.float64))
    assert not change[:, [0, 2]].any()
    hidden[:, :3] = math.inf
    assert ttfs.repair(network, [hidden, output], rule, state) == ttfs.Bumped(0, 1e-3)  # another layer starts anew


def test_a_repair_takes_the_place_of_the_update():
    network, optimiser = small_network(mean=-1.0)
    t, label = (
        2 * torch.rand(8, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64),
        torch.arange(8) % 3,
    )
    before = [w.detach().clone() for w in network.weights]
    epoch, state = ttfs.train(network, [(t, label)] * 3, Neuron(), optimiser, ttfs.Repair((0.3, 0.0)))
    assert epoch.repaired == (1.0, 0.0)
    assert state == ttfs.Bumped(0, 2e-3)
    assert torch.equal(network.weights[1], before[1])
    assert not optimiser.state


def test_training_learns_a_separable_task():
    network, optimiser = small_network(hidden=12)
    g = torch.Generator().manual_seed(2)
    label = torch.randint(3, (120,), generator=g)
    t = (
        1.5
        - torch.nn.functional.one_hot(label, 4).double()
        + 0.1 * torch.rand(120, 4, generator=g, dtype=torch.float64)
    )
    state = ttfs.Bumped()
    for _ in range(150):
        _, state = ttfs.train(network, [(t, label)], Neuron(), optimiser, ttfs.Repair((0.5, 0.0)), state)
    hidden, output = ttfs.answers(network, [t[:50], t[50:]], Neuron())
    assert hidden.shape == (120, 12)
    assert (ttfs.decide(output) == label).double().mean() > 0.95


# What is refused ------------------------------------------------------------------------------------------------------------

ONES, NO_SPIKE = torch.ones(4, dtype=torch.float64), torch.full((6, 3), math.inf, dtype=torch.float64)
LABEL, TIMES = torch.arange(6) % 3, torch.ones(6, 3, dtype=torch.float64)
SILENT_HIDDEN = NO_SPIKE.repeat(1, 2)
DRAWS = (ttfs.Initial(1.0, 0.5),) * 2
RULE = ttfs.Repair((0.3, 0.0))


def drawn(sizes=(4, 6, 3), initial=DRAWS, bias=(0.9, None), **how):
    return ttfs.initial_network(sizes, initial, bias, torch.Generator().manual_seed(0), **how)


def repaired(layers=(SILENT_HIDDEN, NO_SPIKE), rule=RULE):
    return ttfs.repair(drawn(), list(layers), rule, ttfs.UNTOUCHED)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: spike_times(T, W, Neuron(tau_syn=torch.ones(4))),
            "Neuron: tau_syn has shape (4,); give one number (`mismatched_times` takes one a neuron)",
        ),
        (
            lambda: mismatched_times(T, W, Neuron(), ONES.numpy(), 2 * ONES, ONES),
            "mismatched_times: give tau_mem, tau_syn and threshold as tensors of torch, of shape (4,) each",
        ),
        (
            lambda: mismatched_times(T, W, Neuron(), ONES, 2 * ONES, 1.0),
            "mismatched_times: give tau_mem, tau_syn and threshold as tensors of torch, of shape (4,) each",
        ),
        (
            lambda: nonleaky.spike_times(T[0] + 1, W),
            "nonleaky: z has shape (3,); give (batch, inputs), neither of them empty",
        ),
        (
            lambda: nonleaky.spike_times(T[:, :0], W[:0]),
            "nonleaky: z has shape (2, 0); give (batch, inputs), neither of them empty",
        ),
        *[
            (
                lambda w=w: nonleaky.spike_times(T + 1, w),
                f"nonleaky: weights have shape {tuple(w.shape)}; give (3, neurons) to fit z",
            )
            for w in (torch.cat([W, W]), W[:2], W[:, 0], W[None], W[:, :0])
        ],
        *[
            (
                lambda z=z, w=w: nonleaky.spike_times(z, w),
                f"nonleaky: z is {z.dtype}, weights are {w.dtype}; give tensors, both float32 or both float64",
            )
            for z, w in ((T + 1, W.long()), (T.long() + 1, W.long()), (T.float() + 1, W), (T.numpy() + 1, W))
        ],
        *[
            (
                lambda z=z: nonleaky.spike_times(T + z, W),
                "nonleaky: z holds NaN, 0 or negative values; give exp(t), infinite where an input is silent",
            )
            for z in (math.nan, 0.0, -1.0, -math.inf)
        ],
        *[
            (lambda k=k: nonleaky.spike_times(T + 1, W * k), "nonleaky: the weights hold NaN or infinite values")
            for k in (math.nan, math.inf)
        ],
        (
            lambda: nonleaky.weight_sum_penalty(W[:, 0]),
            "nonleaky: weights have shape (3,); give (inputs, neurons), neither of them empty",
        ),
        (
            lambda: nonleaky.weight_sum_penalty(W, math.nan),
            "nonleaky: the least sum of the weights is nan; give a finite number",
        ),
        *[
            (
                lambda t=t: nonleaky.membrane(t, T[0] + 1, W),
                f"nonleaky: times have shape {tuple(t.shape)}; give one list of finite times",
            )
            for t in (ONES[:, None], ONES * math.nan)
        ],
        (
            lambda: nonleaky.membrane(ONES, T + 1, W),
            "nonleaky: z has shape (2, 3), weights (3, 4); give (inputs,) and (inputs, neurons)",
        ),
        *[
            (
                lambda sizes=sizes: drawn(sizes),
                f"ttfs: sizes are {sizes}; give two or more whole numbers from 1: inputs, hidden layers, classes",
            )
            for sizes in ((4,), (4, 0, 3), (4, -1, 3), (4.0, 6, 3))
        ],
        *[
            (
                lambda initial=initial, bias=bias: drawn(initial=initial, bias=bias),
                f"ttfs: {len(initial)} draws and {len(bias)} bias times for 2 layers; give one of each a layer",
            )
            for initial, bias in ((DRAWS[:1], (None, None)), (DRAWS, (None,)))
        ],
        *[
            (
                lambda draw=draw: drawn(initial=(draw, DRAWS[1])),
                f"ttfs: weights with mean {draw.mean} and sd {draw.sd}; give finite numbers, sd 0 or more",
            )
            for draw in (ttfs.Initial(math.nan, 1.0), ttfs.Initial(1.0, -1.0), ttfs.Initial(1.0, math.inf))
        ],
        (
            lambda: drawn(bias=(math.nan, None)),
            "ttfs: a bias spikes at nan; give a time, or None for a layer without",
        ),
        (lambda: drawn(dtype=torch.int64), "ttfs: dtype is torch.int64; give float32 or float64"),
        (
            lambda: ttfs.run(drawn()._replace(bias_times=(0.9,)), torch.ones(6, 4).double(), Neuron()),
            "ttfs: 2 layers and 1 bias times; give one a layer",
        ),
        (
            lambda: ttfs.run(ttfs.Network((), ()), torch.ones(6, 4).double(), Neuron()),
            "ttfs: 0 layers and 0 bias times; give one a layer",
        ),
        *[
            (
                lambda t=t: ttfs.run(drawn(), t, Neuron()),
                f"ttfs: input times have shape {tuple(t.shape)}; give a tensor (batch, inputs)",
            )
            for t in (torch.ones(4).double(), np.ones((6, 4)))
        ],
        (lambda: ttfs.answers(drawn(), [], Neuron()), "answers: there are no batches"),
        *[
            (
                lambda t=t: ttfs.time_cross_entropy(t, LABEL[: len(t)], Neuron()),
                f"time_cross_entropy: times are {t.dtype} of shape {tuple(t.shape)}; give floats (batch, classes)",
            )
            for t in (TIMES[:, 0], TIMES[None], TIMES[:0], TIMES.long())
        ],
        *[
            (
                lambda tau=tau: ttfs.time_cross_entropy(TIMES, LABEL, Neuron(tau_syn=tau)),
                f"time_cross_entropy: tau_syn is {tau}; it must be positive and finite",
            )
            for tau in (-1.0, 0.0, math.nan)
        ],
        *[
            (
                lambda loss=loss: ttfs.time_cross_entropy(TIMES, LABEL, Neuron(), loss),
                f"time_cross_entropy: {loss}; give positive and finite scales, and alpha 0 or more",
            )
            for loss in (ttfs.Loss(xi=0.0), ttfs.Loss(xi=-1.0), ttfs.Loss(beta=0.0), ttfs.Loss(alpha=math.nan))
        ],
        (
            lambda: ttfs.time_cross_entropy(-NO_SPIKE, LABEL, Neuron()),
            "time_cross_entropy: the spike times hold minus infinity; write infinity for a silent neuron",
        ),
        (
            lambda: ttfs.time_cross_entropy(TIMES, LABEL.numpy(), Neuron()),
            "labels are of type ndarray; give a tensor of int64",
        ),
        *[
            (lambda t=t: ttfs.decide(t), f"decide: times have shape {tuple(t.shape)}; give (batch, classes)")
            for t in (TIMES[0], TIMES[None], TIMES[:, :0])
        ],
        (
            lambda: ttfs.decide(torch.tensor([[1.0, math.nan]])),
            "decide: the spike times hold NaN; write infinity for a silent neuron",
        ),
        (
            lambda: repaired(layers=(NO_SPIKE,)),
            "repair: 1 spike times and 2 limits for 2 layers; give one of each a layer",
        ),
        (
            lambda: repaired(rule=ttfs.Repair((0.3,))),
            "repair: 2 spike times and 1 limits for 2 layers; give one of each a layer",
        ),
        *[
            (
                lambda t=t: repaired(layers=(t, NO_SPIKE)),
                f"repair: spike times have shape {tuple(t.shape)}; give (batch, 6) to fit the layer",
            )
            for t in (NO_SPIKE, NO_SPIKE[:, :1], NO_SPIKE[0], NO_SPIKE[:0].repeat(1, 2))
        ],
        *[
            (
                lambda rule=rule: repaired(rule=rule),
                f"repair: {rule}; give limits from 0 to 1, and a finite bump of 0 or more",
            )
            for rule in (ttfs.Repair((math.nan, 0.0)), ttfs.Repair((-1.0, 0.0)), RULE._replace(bump=math.nan))
        ],
    ],
)
def test_what_does_not_fit_is_named(call, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        call()


def test_silent_inputs_of_a_nonleaky_layer_are_no_mistake():
    assert torch.isinf(nonleaky.spike_times(torch.full_like(T, math.inf), W)).all()
    assert not nonleaky.membrane(ONES, torch.full_like(T[0], math.inf), W).any()
