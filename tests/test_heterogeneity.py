"""Networks with trained time constants, and the timing and rate tasks: against the plain network, by hand, and by counting."""

import itertools
import re

import numpy as np
import pytest
import torch

from snnrepro import surrogate
from snnrepro.data import timing as timing_module
from snnrepro.data.recordings import counts, joined, on_grid, subset
from snnrepro.data.timing import Rates, Timing, rates, timing
from snnrepro.errors import UserError
from snnrepro.heterogeneity import networks, reference
from snnrepro.neurons import LIF
from snnrepro.peers.heterogeneity import hidden_snntorch
from snnrepro.surrogate import Network

DT = 5e-3
DOUBLE = torch.float64


def small(form="log", training="each", n=15, seed=0):
    """Input, weights, time constants and an error for the spikes of a small layer that spikes."""
    rng = np.random.default_rng(seed)
    x = torch.from_numpy((rng.random((80, 3, 8)) < 0.2).astype(float))
    w = torch.from_numpy(rng.normal(0, 1.5, (8, n))).requires_grad_()
    v = torch.from_numpy(rng.normal(0, 0.6, (n, n))).requires_grad_()
    mem, syn = (networks.draw(tau, n, "heterogeneous", rng) for tau in (20e-3, 10e-3))
    error = torch.from_numpy(rng.standard_normal((80, 3, n)))
    return x, w, v, networks.constants(mem, syn, DT, training, form, dtype=DOUBLE), error


def apart(a, b):
    return float((a - b).abs().max() / b.abs().max())


# The layer ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("form", "training"), list(itertools.product(networks.FORMS, ("each", "shared"))))
def test_the_layer_is_that_of_the_paper(form, training):
    x, w, v, c, error = small(form, training)
    b, a = c.decays()
    ours = networks.hidden(x, w, v, c, threshold=0.8, slope=20, states=True)
    s, u, i = reference.hidden(x, w, v, a, b, threshold=0.8, slope=20)
    assert float(s.detach().sum()) > 20 * s.shape[1] * s.shape[2] * 0.25
    assert torch.equal(ours.spikes, s)
    np.testing.assert_allclose(ours.u.detach(), u.detach(), atol=1e-12)
    np.testing.assert_allclose(ours.i.detach(), ((1 - b) * i).detach(), atol=1e-12)
    leaves = [w, v, c.mem, c.syn]
    found, expected = (torch.autograd.grad((spikes * error).sum(), leaves) for spikes in (ours.spikes, s))
    assert max(map(apart, found, expected)) < 1e-12
    assert found[2].shape == c.mem.shape == ((1,) if training == "shared" else (15,))


def test_the_layer_without_recurrence():
    x, w, v, c, _ = small()
    b, a = c.decays()
    ours = networks.hidden(x, w, None, c).spikes
    assert torch.equal(ours, reference.hidden(x, w, torch.zeros_like(v), a, b)[0])
    assert not torch.equal(ours, networks.hidden(x, w, v, c).spikes)


def test_the_plain_engine_agrees():
    x, w, v, c, error = small()
    leaves = [w, v, c.mem, c.syn]
    fast, plain = (
        torch.autograd.grad((networks.hidden(x, w, v, c, engine=engine).spikes * error).sum(), leaves)
        for engine in ("fast", "reference")
    )
    assert max(map(apart, fast, plain)) < 1e-12


def test_one_input_spike_by_hand():
    """Potential after one spike of weight 3: nothing for two steps, then (1 - b) times the filtered current; a reset of 1."""
    c = networks.constants(np.array([20e-3]), np.array([10e-3]), DT, "none", dtype=DOUBLE)
    b, a = np.exp(-0.25), np.exp(-0.5)
    x = torch.zeros(6, 1, 1, dtype=DOUBLE)
    x[0] = 1
    w = torch.full((1, 1), 3.0, dtype=DOUBLE)
    u = networks.hidden(x, w, None, c, threshold=0.6, states=True).u[:, 0, 0].numpy()
    first = (1 - b) * 3
    second = b * first + (1 - b) * 3 * a - 0.6  # it spiked at 0.66
    third = b * second + (1 - b) * 3 * a**2  # and not again
    np.testing.assert_allclose(u[:5], [0, 0, first, second, third], atol=1e-12)
    s, plain, _ = reference.hidden(x, w, None, torch.tensor([a]), torch.tensor([b]), threshold=0.6)
    np.testing.assert_allclose(plain[:5, 0, 0], [0, 0, first, second, third], atol=1e-12)
    assert s[:, 0, 0].tolist() == [0, 0, 1, 0, 0, 0]


def test_no_gradient_through_the_gain_and_the_reset():
    """The first potential after an input is (1 - b) times it: it depends on b through the gain alone. After a spike there is b times
    the old potential, and the reset.
    """
    c = networks.constants(np.array([20e-3]), np.array([10e-3]), DT, form="decay", dtype=DOUBLE)
    x = torch.zeros(6, 1, 1, dtype=DOUBLE)
    x[0] = 1
    w = torch.full((1, 1), 3.0, dtype=DOUBLE)
    u = networks.hidden(x, w, None, c, threshold=0.6, states=True).u[:, 0, 0]
    (first,) = torch.autograd.grad(u[2], c.mem, retain_graph=True)
    (second,) = torch.autograd.grad(u[3], c.mem, retain_graph=True)
    assert float(first) == 0
    assert float(second) == pytest.approx(float(u[2].detach()))


def test_time_constants_against_finite_differences():
    """Neurons that cannot spike; the gain is held, as the gradient does."""
    x, w, _, c, error = small()
    gain = (1 - c.decays()[0]).detach()
    w = w.detach()

    def loss():
        held = w * gain / (1 - c.decays()[0]).detach()
        u = networks.hidden(x, held, None, c, threshold=1e9, states=True).u
        return (u * u * error).sum()

    found = torch.autograd.grad(loss(), [c.mem, c.syn])
    for value, gradient in zip((c.mem, c.syn), found, strict=True):
        for k in (0, 7):
            ends = []
            for step in (1e-6, -2e-6):
                value.data[k] += step
                ends.append(float(loss().detach()))
            value.data[k] += 1e-6
            assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(float(gradient[k]), rel=1e-5)


def test_snntorch_has_the_same_spikes_and_gradients():
    x, w, v, c, error = small("decay")
    spikes, alpha, beta = hidden_snntorch(x, w, v, c.syn, c.mem, 100.0)
    ours = networks.hidden(x, w, v, c).spikes
    assert torch.equal(spikes, ours)
    found = torch.autograd.grad((ours * error).sum(), [w, v, c.syn, c.mem])
    theirs = torch.autograd.grad((spikes * error).sum(), [w, v, alpha, beta])
    assert max(map(apart, found, theirs)) < 1e-5


def test_readout_and_scores():
    x, w, v, c, _ = small()
    rng = np.random.default_rng(5)
    out = torch.from_numpy(rng.normal(0, 1, (15, 4)))
    last = LIF(rng.uniform(0.01, 0.05, 4), rng.uniform(0.01, 0.05, 4), DT, reset="none", gain="leak")
    score, spikes = networks.scores(x, Network((w,), out, (v,)), c, last, slope=20, scale=7.0)
    a, b = (torch.exp(torch.from_numpy(-DT / tau)) for tau in (last.tau_syn, last.tau_mem))
    o = reference.readout(spikes, out, a, b)
    assert o.shape == (81, 3, 4)
    np.testing.assert_allclose(score.detach(), 7 * o.amax(0).detach(), atol=1e-12)
    assert torch.equal(spikes, networks.hidden(x, w, v, c, slope=20).spikes)
    feed, _ = networks.scores(x, Network((w,), out), c, last)
    assert not torch.equal(feed, score / 7)
    single = reference.readout(torch.ones(3, 1, 1), torch.tensor([[2.0]]), torch.tensor([0.5]), torch.tensor([0.8]))
    np.testing.assert_allclose(single[:, 0, 0], [0, 0, 0.2 * 2, 0.8 * 0.4 + 0.2 * 3], rtol=1e-6)


# Time constants -------------------------------------------------------------------------------------------------------------


def test_heterogeneous_time_constants_are_gamma_of_shape_three():
    drawn = networks.draw(20.0, 200_000, "heterogeneous", np.random.default_rng(0))
    assert drawn.mean() == pytest.approx(20, rel=0.01)
    assert drawn.std() == pytest.approx(20 / np.sqrt(3), rel=0.01)
    assert ((drawn - 20) ** 3).mean() / drawn.std() ** 3 == pytest.approx(2 / np.sqrt(3), rel=0.05)


def test_homogeneous_ones_take_as_many_random_numbers():
    one, other = np.random.default_rng(1), np.random.default_rng(1)
    assert np.array_equal(networks.draw(20.0, 7, "homogeneous", one), np.full(7, 20.0))
    networks.draw(20.0, 7, "heterogeneous", other)
    assert one.random() == other.random()


def test_limits_are_the_times_of_the_authors():
    assert np.array(networks.LIMITS) == pytest.approx([1.63e-3, 99.7e-3], rel=2e-3)
    assert np.exp(-0.5e-3 / np.array(networks.LIMITS)) == pytest.approx([2 / np.e, 0.995])


@pytest.mark.parametrize("form", networks.FORMS)
def test_constants_start_where_they_are_told_and_stay_within_the_limits(form):
    mem, syn = np.array([1e-4, 20e-3, 3.0]), np.array([5e-3, 7e-3, 9e-3])
    c = networks.constants(mem, syn, DT, "each", form, dtype=DOUBLE)
    assert c.taus()[0].tolist() == pytest.approx([networks.LIMITS[0], 20e-3, networks.LIMITS[1]])
    assert c.taus()[1].tolist() == pytest.approx(syn)
    assert c.decays()[0].tolist() == pytest.approx(np.exp(-DT / np.clip(mem, *networks.LIMITS)))
    assert c.decays()[1].tolist() == pytest.approx(np.exp(-DT / syn))
    assert c.mem.requires_grad
    assert c.mem.shape == (3,)
    c.mem.data.add_(50.0)
    c.syn.data.sub_(50.0)
    networks.clamp(c)
    assert c.taus()[0].tolist() == pytest.approx([networks.LIMITS[1]] * 3)
    assert c.taus()[1].tolist() == pytest.approx([networks.LIMITS[0]] * 3)
    held = networks.constants(mem, syn, DT, "none", form)
    assert not held.mem.requires_grad
    assert not held.syn.requires_grad
    shared = networks.constants(syn, syn, DT, "shared", form, limits=(1e-3, 1.0), dtype=DOUBLE)
    assert shared.taus()[0].tolist() == pytest.approx([7e-3])
    assert shared.mem.requires_grad


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: networks.draw(1.0, 2, "equal", np.random.default_rng(0)), "initial is 'equal'; choose one of homogen"),
        (lambda: networks.constants(np.ones(1), np.ones(1), DT, "all"), "training is 'all'; choose one of none, each"),
        (lambda: networks.constants(np.ones(1), np.ones(1), DT, form="tau"), "form is 'tau'; choose one of log, decay"),
        (lambda: networks.constants(np.ones(1), np.ones(1), DT, limits=(0.1, 0.1)), "two positive times in seconds"),
    ],
)
def test_a_wrong_word_is_named(call, message):
    with pytest.raises(UserError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


FIVE, NAN = np.full(5, 20e-3), float("nan")
X, W, V = torch.ones(7, 2, 4, dtype=DOUBLE), torch.ones(4, 5, dtype=DOUBLE), torch.ones(5, 5, dtype=DOUBLE)
LABEL, LAST = torch.tensor([0, 2]), LIF(20e-3, 10e-3, DT, reset="none", gain="leak")
NET = Network((W,), torch.ones(5, 3, dtype=DOUBLE), (V,))


def made(mem=FIVE, syn=FIVE, **how):
    return networks.constants(mem, syn, **{"dt": DT, "dtype": DOUBLE} | how)


def spikes(x=X, w=W, v=V, c=None, **how):
    return networks.hidden(x, w, v, c or made(), **how)


def scored(network=NET, last=LAST, **how):
    return networks.scores(X, network, made(), last, **how)


def fitted(*labels):
    network = Network((W.clone().requires_grad_(),), NET.output.clone().requires_grad_())
    adam = torch.optim.Adam(network.weights().values())
    return networks.fit(network, [(X, label) for label in labels], made(), LAST, adam)


def judged(*labels):
    return networks.judge(NET, [(X, label) for label in labels], made(), LAST)


def plain(x=X, w=W, v=V, a=V[0] / 2, b=V[0] / 2, **how):
    return reference.hidden(x, w, v, a, b, **how)


def read(s=X, w=W, a=V[0] / 2, b=V[0] / 2):
    return reference.readout(s, w, a, b)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: networks.draw(NAN, 3, "homogeneous", None),
            "heterogeneity: the mean time constant is nan; give a pos",
        ),
        (
            lambda: networks.draw(0.0, 3, "homogeneous", None),
            "heterogeneity: the mean time constant is 0.0; give a pos",
        ),
        (lambda: networks.draw(1.0, 0, "homogeneous", None), "heterogeneity: 0 time constants; give a whole number"),
        (
            lambda: networks.draw(1.0, 2.0, "homogeneous", None),
            "heterogeneity: 2.0 time constants; give a whole number",
        ),
        (lambda: made(limits=(1e-3, 0.1, 0.2)), "heterogeneity: limits are (0.001, 0.1, 0.2); give two positive times"),
        (lambda: made(dt=-1e-3), "heterogeneity: dt is -0.001; give a positive time in seconds"),
        (lambda: made(dtype=torch.int64), "heterogeneity: dtype is torch.int64; give a floating-point one"),
        (lambda: made(-FIVE), "heterogeneity: time constants of shape (5,); give (n,), all positive"),
        (lambda: made(FIVE * NAN), "heterogeneity: time constants of shape (5,); give (n,), all positive"),
        (lambda: made(FIVE[:0], FIVE[:0]), "heterogeneity: time constants of shape (0,); give (n,), all positive"),
        (lambda: made(FIVE, FIVE[:, None]), "heterogeneity: time constants of shape (5, 1); give (n,), all positive"),
        (lambda: made(FIVE[:4]), "heterogeneity: 4 time constants of membranes, 5 of synapses; give as many"),
        (lambda: made()._replace(form="tau").taus(), "heterogeneity: form is 'tau'; choose one of log, decay"),
        (lambda: made()._replace(form="tau").decays(), "heterogeneity: form is 'tau'; choose one of log, decay"),
        (lambda: networks.clamp(made()._replace(form="tau")), "heterogeneity: form is 'tau'; choose one of log, decay"),
        (
            lambda: networks.clamp(made(), (0.05, 0.01)),
            "heterogeneity: limits are (0.05, 0.01); give two positive times",
        ),
        (lambda: networks.neurons(made(), slope=NAN), "heterogeneity: the slope is nan; give 0 or more"),
        (lambda: spikes(w=W[:, 0]), "heterogeneity: weights have shape (4,); give (units, n)"),
        (
            lambda: spikes(w=W[:, :1], v=None),
            "heterogeneity: time constants have shape (5,), weights (4, 1); give one for",
        ),
        (
            lambda: spikes(c=made(syn=FIVE[:1])._replace(syn=torch.ones(3))),
            "heterogeneity: time constants have shape (3,)",
        ),
        (lambda: spikes(v=V[:, :1]), "heterogeneity: recurrent weights have shape (5, 1); give (5, 5)"),
        (
            lambda: spikes(X.float()),
            "heterogeneity: input is torch.float32, weights torch.float64, time constants torch.fl",
        ),
        (
            lambda: spikes(X.float(), W.float(), V.float()),
            "heterogeneity: input is torch.float32, weights torch.float32",
        ),
        (
            lambda: scored(Network((W, V), NET.output, (V, V))),
            "heterogeneity: the network has 2 hidden layers; give one",
        ),
        (
            lambda: scored(NET._replace(output=NET.output.float())),
            "heterogeneity: weights of the readout are torch.float32",
        ),
        (
            lambda: scored(last=LAST._replace(dt=1e-3)),
            "heterogeneity: the readout has dt 0.001 and gain 'leak'; give 0.005",
        ),
        (
            lambda: scored(last=LAST._replace(gain="one")),
            "heterogeneity: the readout has dt 0.005 and gain 'one'; give",
        ),
        (lambda: scored(scale=-1.0), "heterogeneity: the scale of the scores is -1.0; give a positive number"),
        (lambda: fitted(), "fit: there are no batches; give one or more"),
        (lambda: fitted(LABEL, LABEL[:1]), "fit: labels are torch.int64 of shape (1,); give int64, (2,)"),
        (lambda: fitted(LABEL.double()), "fit: labels are torch.float64 of shape (2,); give int64, (2,)"),
        (lambda: fitted(torch.rand(2, 3)), "fit: labels are torch.float32 of shape (2, 3); give int64, (2,)"),
        (lambda: fitted(LABEL - 100), "fit: labels from -100 to -98; give classes 0 to 2"),
        (lambda: fitted(LABEL + 1), "fit: labels from 1 to 3; give classes 0 to 2"),
        (lambda: judged(), "judge: there are no samples; give one batch or more"),
        (lambda: judged(LABEL[:1]), "judge: labels are torch.int64 of shape (1,); give int64, (2,)"),
        (lambda: judged(LABEL.double()), "judge: labels are torch.float64 of shape (2,); give int64, (2,)"),
        (lambda: judged(LABEL + 1), "judge: labels from 1 to 3; give classes 0 to 2"),
        (lambda: plain(X[0]), "heterogeneity: input (2, 4), weights (4, 5); give (time, batch, units) and (units, n)"),
        (lambda: plain(X[:0]), "heterogeneity: input (0, 2, 4), weights (4, 5); give (time, batch, units)"),
        (lambda: plain(w=W[:3]), "heterogeneity: input (7, 2, 4), weights (3, 5); give (time, batch, units)"),
        (lambda: plain(X.float()), "heterogeneity: input is torch.float32, weights are torch.float64; give the same"),
        (lambda: plain(X * NAN), "heterogeneity: the input or the weights hold NaN"),
        (lambda: plain(v=V[:, :1]), "heterogeneity: recurrent weights (5, 1); give finite ones of shape (5, 5)"),
        (lambda: plain(v=V * NAN), "heterogeneity: recurrent weights (5, 5); give finite ones"),
        (lambda: plain(a=V[:2, :1]), "heterogeneity: decays have shape (2, 1); give (5,) or (1,), from 0 to 1"),
        (lambda: plain(b=V[0] * 2), "heterogeneity: decays have shape (5,); give (5,) or (1,), from 0 to 1"),
        (lambda: plain(threshold=NAN), "heterogeneity: the threshold is nan; give a positive number"),
        (lambda: read(X[0]), "heterogeneity: spikes (2, 4), weights (4, 5); give (time, batch, n) and (n, classes)"),
        (lambda: read(X[:0]), "heterogeneity: spikes (0, 2, 4), weights (4, 5); give (time, batch, n)"),
        (lambda: read(b=V[0] * 9), "heterogeneity: decays have shape (5,); give (5,) or (1,), from 0 to 1"),
    ],
)
def test_input_that_does_not_fit_is_refused(call, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}") as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("training", networks.TRAINING)
def test_training_moves_what_it_should(training):
    _, w, v, _, _ = small()
    rng = np.random.default_rng(2)
    tau = networks.draw(20e-3, 15, "homogeneous", rng)
    c = networks.constants(tau, tau, DT, training)
    network = Network(*((w.detach().float().requires_grad_(),), torch.randn(15, 3).requires_grad_()))
    network = network._replace(recurrent=(v.detach().float().requires_grad_(),))
    before = {name: weight.detach().clone() for name, weight in network.weights().items()}
    leaves = [*network.weights().values(), *([] if training == "none" else [c.mem, c.syn])]
    last = LIF(20e-3, 10e-3, DT, reset="none", gain="leak")
    x = torch.from_numpy((rng.random((40, 6, 8)) < 0.3).astype(np.float32))
    batches = [(x, torch.arange(6) % 3)] * 30
    losses = networks.fit(network, batches, c, last, torch.optim.Adam(leaves, 0.02), (15e-3, 21e-3), scale=5.0)
    assert losses[-1] < 0.8 * losses[0]
    assert all(not torch.equal(before[name], weight) for name, weight in network.weights().items())
    end = np.concatenate([value.detach().numpy() for value in c.taus()])
    assert end.min() >= 15e-3 * (1 - 1e-6)
    assert end.max() <= 21e-3 * (1 + 1e-6)
    assert (np.abs(end / 20e-3 - 1).max() > 1e-3) == (training != "none")
    assert (np.ptp(c.taus()[0].detach().numpy()) > 1e-4) == (training == "each")
    right, spikes = networks.judge(network, batches[:2], c, last, scale=5.0)
    score, s = networks.scores(x, network, c, last, scale=5.0)
    assert right == pytest.approx(surrogate.accuracy(score, batches[0][1]))
    assert spikes == pytest.approx(float(s.detach().sum()) / 6)


# Recordings -----------------------------------------------------------------------------------------------------------------


def three():
    """Three samples of two channels, of two, no and four spikes."""
    samples = [
        (np.array([0.0, 0.55]), np.array([1, 0])),
        (np.array([]), np.array([])),
        (np.array([0.11, 0.12, 0.4, 1.2]), np.array([0, 0, 1, 1])),
    ]
    return joined(samples, [2, 0, 1], 2, 1.0, [5, 6, 7], "made")


def test_spikes_on_a_grid():
    r = three()
    step, place, unit, steps = on_grid(r, np.array([2, 0]), 0.1)
    assert steps == 10
    assert list(zip(step, place, unit, strict=True)) == [(1, 0, 0), (1, 0, 0), (4, 0, 1), (0, 1, 1), (5, 1, 0)]
    step, place, unit, steps = on_grid(r, np.array([2, 0]), 0.1, np.array([2.0, 0.5]))
    assert steps == 20
    assert list(zip(step, place, unit, strict=True)) == [(2, 0, 0), (2, 0, 0), (8, 0, 1), (0, 1, 1), (2, 1, 0)]
    assert on_grid(r, np.array([2]), 0.1, steps=3)[0].tolist() == [1, 1]


def test_counts_and_subsets():
    r = three()
    assert counts(r).tolist() == [[1, 1], [0, 0], [2, 1]]
    assert counts(r, 2).tolist() == [[0, 1, 1, 0], [0, 0, 0, 0], [2, 1, 0, 0]]
    part = subset(r, np.array([False, True, True]))
    assert (part.label.tolist(), part.group.tolist(), part.tag, part.units) == ([0, 1], [6, 7], "made", 2)
    assert counts(part).tolist() == [[0, 0], [2, 1]]
    assert subset(r, slice(1)).time.tolist() == pytest.approx([0, 0.55])


def test_a_spike_just_inside_the_window_stays_inside():
    for duration in (0.1, 0.7, 0.9):  # 0.1 in single precision lies above 0.1
        last = np.nextafter(duration, 0)
        r = joined([(np.array([0.0, last, 1.0]), np.zeros(3))], [0], 1, duration)
        assert counts(r).tolist() == [[2]]


def test_a_grid_needs_samples_and_each_sample_a_group():
    with pytest.raises(UserError, match="no samples to lay on a grid"):
        on_grid(three(), np.arange(0), 0.1)
    with pytest.raises(UserError, match="1 samples and 2 groups; give one group for each sample"):
        joined([(np.ones(1), np.zeros(1))], [0], 3, 1.0, [0, 1])


def test_orders_of_the_groups_differ():
    for draw in range(6):
        order = timing_module._orders(PLAIN._replace(groups=3, orders=6, draw=draw))
        assert len({tuple(row) for row in order}) == 6
    with pytest.raises(UserError, match="timing: 3 groups have 6 orders, not 7"):
        timing(PLAIN._replace(groups=3, orders=7), 10, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("samples", "label", "message"),
    [
        ([], [], "0 samples and 0 labels"),
        ([(np.ones(1), np.zeros(1))], [0, 1], "1 samples and 2 labels; give one label for each sample"),
        ([(np.ones(2), np.zeros(1))], [0], "sample 0 has 2 times and 1 units; give equal lengths"),
        ([(np.ones(1), np.full(1, 3))], [0], r"units 3 \.\. 3 lie outside 0 \.\. 2"),
        ([(np.full(1, -0.1), np.zeros(1))], [0], "a spike time is negative or NaN"),
        ([(np.full(1, np.nan), np.zeros(1))], [0], "a spike time is negative or NaN"),
        ([(np.ones(1), np.zeros(1))], [-1], "label -1 is negative"),
    ],
)
def test_bad_recordings_are_named(samples, label, message):
    with pytest.raises(UserError, match=message) as caught:
        joined(samples, label, 3, 1.0)
    assert "\n" not in str(caught.value)


# Tasks ----------------------------------------------------------------------------------------------------------------------

PLAIN = Timing(jitter=0.0, deleted=0.0, noise=0.0, warp=0.0)


def test_a_class_is_an_order_and_an_interval():
    task, r = PLAIN, timing(PLAIN, 40, np.random.default_rng(0))
    orders = np.random.default_rng(task.draw)
    expected = [orders.permutation(6) for _ in range(5)]
    assert len({tuple(order) for order in expected}) == 5
    assert np.bincount(r.label).tolist() == [4] * 10
    for k, label in enumerate(r.label):
        spikes = slice(r.starts[k], r.starts[k + 1])
        time, unit = r.time[spikes], r.unit[spikes]
        bursts = np.stack([np.sort(time[unit == channel]) for channel in range(30)])
        assert bursts.shape == (30, 3)
        np.testing.assert_allclose(np.diff(bursts, axis=1), task.intervals[label // 5], atol=1e-6)
        first = bursts[::5, 0]
        np.testing.assert_allclose(bursts[:, 0], np.repeat(first, 5), atol=1e-6)
        np.testing.assert_allclose((first - first.min()) / task.period, expected[label % 5], atol=1e-5)
        assert bursts.max() < task.duration


def test_noise_jitter_and_deletion():
    task = Timing()
    r = timing(task, 600, np.random.default_rng(1))
    per_sample = np.diff(r.starts)
    assert per_sample.mean() == pytest.approx(90 * 0.6 + 6 * 0.9 * 30, rel=0.02)
    assert r.time.min() >= 0
    assert r.time.max() < 0.9
    jittered = timing(PLAIN._replace(jitter=7.5e-3), 200, np.random.default_rng(2))
    gaps = []
    for k in np.flatnonzero(jittered.label >= 5):
        spikes = slice(jittered.starts[k], jittered.starts[k + 1])
        time, unit = jittered.time[spikes], jittered.unit[spikes]
        gaps += [np.diff(time[unit == channel]) for channel in range(30)]
    gaps = np.concatenate(gaps)
    assert gaps.mean() == pytest.approx(40e-3, rel=0.02)
    assert gaps.std() == pytest.approx(7.5e-3 * np.sqrt(2), rel=0.03)
    warped = timing(PLAIN._replace(warp=0.2), 300, np.random.default_rng(3))
    length = np.array([np.ptp(warped.time[a:b]) for a, b in itertools.pairwise(warped.starts)])
    plain = 0.5 + 2 * np.where(warped.label >= 5, 40e-3, 15e-3)
    assert (length / plain).min() == pytest.approx(0.8, abs=0.01)
    assert (length / plain).max() == pytest.approx(1.2, abs=0.01)


def test_counts_tell_nothing_of_the_timing_task_and_all_of_the_rate_task():
    from sklearn.linear_model import LogisticRegression

    found = {}
    for name, r in (
        ("timing", timing(Timing(), 3000, np.random.default_rng(4))),
        ("rates", rates(Rates(), 3000, np.random.default_rng(4))),
    ):
        x = counts(r)
        model = LogisticRegression(max_iter=300).fit(x[:1500], r.label[:1500])
        found[name] = model.score(x[1500:], r.label[1500:])
    assert found["timing"] == pytest.approx(0.1, abs=4 * np.sqrt(0.09 / 1500))
    assert found["rates"] > 0.99


def test_spikes_of_the_rate_task_come_at_random_times():
    task, r = Rates(noise=0.0), rates(Rates(noise=0.0), 100, np.random.default_rng(5))
    x = counts(r)
    for k in range(10):
        active = x[r.label == k]
        assert np.ptp(active, axis=0).max() == 0
        assert sorted(active[0].tolist()) == [0] * 18 + [12] * 12
    assert len({tuple(x[r.label == k][0]) for k in range(10)}) == 10
    assert np.histogram(r.time, 9, (0, 0.9))[0] == pytest.approx(np.full(9, 100 * 144 / 9), rel=0.1)
    noisy = rates(task._replace(noise=6.0), 300, np.random.default_rng(6))
    assert np.diff(noisy.starts).mean() == pytest.approx(144 + 6 * 0.9 * 30, rel=0.03)


def test_a_set_follows_from_its_seed():
    one, same, other = (timing(Timing(), 50, np.random.default_rng(seed)) for seed in (7, 7, 8))
    assert np.array_equal(one.time, same.time)
    assert len(one.time) != len(other.time)


def test_a_sample_that_does_not_fit_is_refused():
    with pytest.raises(UserError, match=r"^timing: a sample lasts up to 0\.741 s; make the duration longer than that$"):
        timing(Timing(duration=0.7), 10, np.random.default_rng(0))
