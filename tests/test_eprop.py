"""e-prop: golden losses, the adjoint form against automatic differentiation and against online traces, refusals."""

import re
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snnrepro.eprop import networks, optimisers, reference, signals, tasks
from snnrepro.eprop.networks import BPTT, EPROP, Neurons, Rule, Weights
from snnrepro.eprop.online import stream
from snnrepro.errors import UserError
from snnrepro.kernels.parallel import use_threads
from snnrepro.peers.eprop import eprop_brian2

# What NEST's tests expect of e-prop, from the authors' code run in TensorFlow 1.15.
PATTERN = [101.964356999041, 103.466731126205, 103.340607074771, 103.680244037686, 104.412775748752]
EVIDENCE = [0.741152550006, 0.740388187700, 0.665785233177, 0.663644193322, 0.729428962844]
EVIDENCE_OF_TWO = [0.702163370672, 0.735555303152, 0.740354864111, 0.683882815282, 0.707841122268]


def single(array):
    """The authors keep weights in single precision."""
    return array.astype(np.float32).astype(float)


def test_pattern_generation_has_the_golden_losses():
    random, n = np.random.RandomState(1), 100
    weights = Weights(*(single(random.randn(*shape) / 10) for shape in ((100, n), (n, n), (n, 1))))
    feedback = single(random.randn(n, 1) / 10)
    x = tasks.frozen_noise(1000, 100, 0.05, random)
    target = tasks.sum_of_sines(1000, random)[:, None, None]
    neurons = Neurons(np.zeros(n), 30.0, 1.0, 30.0, 0.03, 0, scaled=True)
    losses = []
    for _ in range(5):
        activity = networks.run(neurons, weights, x)
        loss = signals.squared_error(activity.y, target)
        rate = signals.rate_regulariser(activity.z, 0.01, 150.0)
        losses.append(loss.value)
        found = networks.gradients(neurons, weights, activity, loss.error, EPROP, feedback, rate.error)
        weights = optimisers.descend(weights, found, 1e-4)
    assert losses == pytest.approx(PATTERN, rel=1e-6)
    assert losses == pytest.approx(PATTERN, rel=1e-12)


@pytest.mark.parametrize(("batch", "per_trial", "golden"), [(1, False, EVIDENCE), (2, True, EVIDENCE_OF_TWO)])
def test_evidence_accumulation_has_the_golden_losses(batch, per_trial, golden):
    """With two samples, those of NEST, whose regulariser looks at the rate of each trial."""
    random, n = np.random.RandomState(1), 100
    w_in, w_rec = single(random.randn(40, n) / np.sqrt(40)), single(random.randn(n, n) / 10)
    limit = np.sqrt(6 / (n + 2))
    weights = Weights(w_in, w_rec, single(random.uniform(-limit, limit, (n, 2))))
    feedback = single(random.randn(n, 2))
    beta = 1.7 * (1 - np.exp(-1 / 2000)) / (1 - np.exp(-1 / 20))
    neurons = Neurons(np.repeat([0.0, beta], 50))
    adam, losses = optimisers.Adam(5e-3), []
    for _ in range(5):
        x, label, _ = tasks.evidence(tasks.Evidence(), batch, random)
        activity = networks.run(neurons, weights, x)
        loss = signals.cross_entropy(activity.y, label, 150)
        rate = signals.rate_regulariser(activity.z, 0.01, 1.0, per_trial)
        losses.append(loss.value)
        found = networks.gradients(neurons, weights, activity, loss.error, EPROP, feedback, rate.error)
        weights = optimisers.add(weights, adam.changes(found))
    assert losses == pytest.approx(golden, rel=1e-10)


@st.composite
def cases(draw):
    """A network of any kind, its input, and what is sent back."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    n, m, k = draw(st.integers(1, 11)), draw(st.integers(1, 9)), draw(st.integers(1, 3))
    steps, batch = draw(st.integers(1, 25)), draw(st.integers(1, 4))
    adaptive = random.random(n) < draw(st.sampled_from([0.0, 0.5, 1.0]))
    neurons = Neurons(
        random.uniform(0, 0.4, n) * adaptive, draw(st.floats(1, 30)), draw(st.floats(5, 300)), draw(st.floats(1, 30)),
        draw(st.sampled_from([0.1, 0.6, 1.0])), draw(st.integers(0, 5)), draw(st.booleans()), draw(st.sampled_from([0.3, 1.0])),
    )  # fmt: skip
    scale = draw(st.sampled_from([0.0, 0.5, 2.0])) * neurons.threshold
    weights = Weights(
        *(scale * random.standard_normal(shape) for shape in ((m, n), (n, n))), random.standard_normal((n, k))
    )
    x = (random.random((steps, batch, m)) < draw(st.sampled_from([0.0, 0.2, 1.0]))).astype(np.uint8)
    error, feedback = random.standard_normal((steps, batch, k)), random.standard_normal((n, k))
    return neurons, weights, x, error, feedback, random.standard_normal((batch, n))


def assert_close(ours, theirs, rel=1e-12):
    for name, a, b in zip(Weights._fields, ours, theirs, strict=True):
        assert np.abs(a - b).max(initial=0) <= rel * max(1.0, np.abs(b).max(initial=0)), name


@settings(max_examples=150, deadline=None)
@given(cases(), st.booleans())
def test_online_traces_are_the_adjoint_form(case, reset):
    neurons, weights, x, error, feedback, rate_error = case
    activity = networks.run(neurons, weights, x)
    adjoint = networks.gradients(neurons, weights, activity, error, Rule(False, reset), feedback, rate_error)
    online, _ = networks.online_gradients(neurons, weights, activity, error, reset, feedback, rate_error)
    assert_close(online, adjoint)


@settings(max_examples=100, deadline=None)
@given(cases(), st.booleans(), st.booleans(), st.booleans())
def test_the_adjoint_form_is_automatic_differentiation(case, through, reset, symmetric):
    """Of the plain torch network, whose detached spikes drop the same paths; spikes and readouts are the same too."""
    neurons, weights, x, error, feedback, rate_error = case
    leaves = [torch.from_numpy(w.copy()).requires_grad_() for w in weights]
    rule = Rule(through, reset)
    sent = None if symmetric else torch.from_numpy(feedback)
    z, y = reference.run(neurons, *leaves, torch.from_numpy(x), rule, sent)
    activity = networks.run(neurons, weights, x)
    assert np.array_equal(activity.z, z.detach().numpy())
    np.testing.assert_allclose(activity.y, y.detach().numpy(), rtol=1e-12, atol=1e-13)
    objective = (y * torch.from_numpy(error)).sum() + (z * torch.from_numpy(rate_error)).sum()
    theirs = [g.numpy() for g in torch.autograd.grad(objective, leaves)]
    np.fill_diagonal(theirs[1], 0)
    ours = networks.gradients(neurons, weights, activity, error, rule, None if symmetric else feedback, rate_error)
    assert_close(ours, theirs)


def network(n=20, m=8, k=2, steps=80, batch=3, dtype=float, seed=0):
    random = np.random.default_rng(seed)
    neurons = Neurons(np.where(np.arange(n) % 2, 0.1, 0.0), 10.0, 100.0, 15.0, 0.6, 2)
    weights = Weights(*(random.standard_normal(s).astype(dtype) * 0.6 for s in ((m, n), (n, n), (n, k))))
    x = (random.random((steps, batch, m)) < 0.3).astype(np.uint8)
    return neurons, weights, x, random.standard_normal((steps, batch, k))


@settings(deadline=None, max_examples=40)
@given(case=cases())
def test_gradients_while_the_network_runs_are_those_of_the_adjoint_form(case):
    neurons, weights, x, error, feedback, _ = case
    activity = networks.run(neurons, weights, x)
    expected = networks.gradients(neurons, weights, activity, error, EPROP, feedback)
    found, count = stream(neurons, weights, iter(x), lambda t, y: error[t], feedback)
    assert np.array_equal(count, activity.z.sum(0))
    assert_close(found, expected)
    own = networks.gradients(neurons, weights, activity, error)
    assert_close(stream(neurons, weights, iter(x), lambda t, y: error[t])[0], own)


def test_the_readout_is_known_while_the_network_runs():
    neurons, weights, x, _ = network()
    activity, seen = networks.run(neurons, weights, x), []
    stream(neurons, weights, iter(x), lambda t, y: seen.append(y) or np.zeros_like(y))
    assert np.allclose(np.array(seen), activity.y, atol=1e-13)


def test_memory_of_the_online_form_does_not_grow_with_time():
    neurons, weights, x, error = network()
    peaks = []
    for repeats in (2, 8):
        tracemalloc.start()
        stream(neurons, weights, (row for _ in range(repeats) for row in x), lambda t, y: error[t % len(x)])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]


def test_watched_traces_are_those_of_the_definition():
    neurons, weights, x, error = network()
    activity = networks.run(neurons, weights, x, watch=True)
    watched = np.array([[2, 3], [8 + 5, 7]])  # from input 2 to neuron 3, from neuron 5 to neuron 7
    _, traces = networks.online_gradients(neurons, weights, activity, error, watched=watched)
    alpha, rho, kappa = np.exp(-1 / 10), np.exp(-1 / 100), np.exp(-1 / 15)
    for w, (pre, j) in enumerate(((x[:, -1, 2], 3), (np.r_[0, activity.z[:-1, -1, 5]], 7))):
        eps_v = eps_a = filtered = last = 0.0
        for t, arrives in enumerate(pre):
            eps_a = last * eps_v + (rho - neurons.beta[j] * last) * eps_a
            eps_v = alpha * eps_v + arrives
            last = activity.psi[t, -1, j]
            e = last * (eps_v - neurons.beta[j] * eps_a)
            filtered = kappa * filtered + (1 - kappa) * e
            found = [part[t, w] for part in traces]
            assert found == pytest.approx([eps_v, eps_a, e, filtered], abs=1e-14)
    assert np.abs(traces.a).max() > 0


@pytest.mark.parametrize(
    "neurons",
    [
        Neurons(np.repeat([0.0, 0.1], 4), 20.0, 200.0, tau_out=30.0),
        Neurons(np.repeat([0.2, 0.0], 4), 10.0, 50.0, 15.0, threshold=0.3, refractory=0, scaled=True, damping=0.5),
    ],
    ids=["refractory", "scaled"],
)
def test_brian2_finds_the_same_trial_and_the_same_gradient(neurons):
    random, label, recall = np.random.default_rng(0), 2, 60
    parts = (0.3, 0.1, (6, 8)), (0.0, 0.1, (8, 8)), (0.0, 0.3, (8, 3))
    weights = Weights(*((3 if neurons.scaled else 1) * random.normal(*part) for part in parts))
    feedback, x = random.normal(0, 1, (8, 3)), (random.random((200, 1, 6)) < 0.1).astype(np.uint8)
    x[0, 0, 0] = 1
    theirs = eprop_brian2(neurons, weights, x[:, 0], feedback, label, recall, watched=5)
    ours = networks.run(neurons, weights, x, watch=True)
    assert ours.z.sum((0, 1)).min() > 5
    assert np.array_equal(theirs.z, ours.z[:, 0])
    for name in "vay":
        np.testing.assert_allclose(getattr(theirs, name), getattr(ours, name)[:, 0], rtol=0, atol=1e-12)
    error = signals.cross_entropy(ours.y, np.array([label]), recall).error
    watched = np.array([(i, 5) for i in range(6)])
    _, traces = networks.online_gradients(neurons, weights, ours, error, feedback=feedback, watched=watched)
    np.testing.assert_allclose(theirs.e, traces.e, rtol=0, atol=1e-12)
    g = networks.gradients(neurons, weights, ours, error, EPROP, feedback)
    assert min(np.abs(g.input).max(), np.abs(g.recurrent).max()) > 1e-3
    np.testing.assert_allclose(theirs.input, g.input, rtol=0, atol=1e-12)
    np.testing.assert_allclose(theirs.recurrent, g.recurrent, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "change",
    [{"x": np.zeros((5, 3))}, {"x": np.zeros(5)}, {"feedback": np.zeros((2, 3))}, {"label": 2}, {"watched": 3}],
    ids=["input", "time", "feedback", "label", "neuron"],
)
def test_brian2_refuses_what_does_not_fit(change):
    weights = Weights(np.zeros((4, 3)), np.zeros((3, 3)), np.zeros((3, 2)))
    given = {"x": np.zeros((5, 4)), "feedback": np.zeros((3, 2)), "label": 0, "recall": 2, "watched": 0}
    with pytest.raises(UserError, match=re.escape("give input (time, 4), feedback (3, 2), a label below 2")):
        eprop_brian2(Neurons(np.zeros(3)), weights, **(given | change))


def test_potentials_and_spikes_by_hand():
    """One neuron, one input of weight 0.5, threshold 0.6, two steps of refractoriness."""
    neurons = Neurons(np.array([0.2]), 10.0, 100.0, 5.0, 0.6, 2)
    weights = Weights(np.array([[0.5]]), np.array([[9.0]]), np.array([[1.0]]))
    found = networks.run(neurons, weights, np.ones((6, 1, 1), np.uint8), watch=True)
    alpha, v, a, z, waits, expected = np.exp(-0.1), 0.0, 0.0, 0, 0, []
    for _ in range(6):
        v, a = alpha * v + 0.5 - 0.6 * z, np.exp(-0.01) * a + z
        z = int(waits == 0 and v > 0.6 + 0.2 * a)
        waits = max(waits + 2 * z - 1, 0)
        expected.append((v, a, z))
    assert [z for _, _, z in expected].count(1) >= 2
    np.testing.assert_allclose(np.stack([found.v, found.a, found.z], -1)[:, 0, 0], expected, rtol=1e-14)


def test_refractoriness_is_the_least_interval():
    for wait in (0, 1, 3, 5):
        neurons = Neurons(np.zeros(1), 20.0, 100.0, 5.0, 0.1, wait)
        weights = Weights(np.full((1, 1), 5.0), np.zeros((1, 1)), np.ones((1, 1)))
        z = networks.run(neurons, weights, np.ones((40, 1, 1), np.uint8)).z[:, 0, 0]
        assert np.diff(np.flatnonzero(z)).min() == max(wait, 1)
        assert networks.run(neurons, weights, np.ones((40, 1, 1), np.uint8)).psi[:, 0, 0][z == 0].sum() == 0


def test_single_precision_stays_single():
    neurons, weights, x, error = network(dtype=np.float32)
    activity = networks.run(neurons, weights, x)
    found = networks.gradients(neurons, weights, activity, error)
    assert {a.dtype for a in (activity.psi, activity.y, *found)} == {np.dtype(np.float32)}
    double = Weights(*(w.astype(float) for w in weights))
    activity = networks.run(neurons, double, x)
    assert_close(found, networks.gradients(neurons, double, activity, error), 1e-4)


def test_threads_do_not_change_the_gradient():
    neurons, weights, x, error = network(batch=5)
    one = networks.gradients(neurons, weights, networks.run(neurons, weights, x), error, BPTT)
    try:
        use_threads(2)
        two = networks.gradients(neurons, weights, networks.run(neurons, weights, x), error, BPTT)
    finally:
        use_threads(1)
    assert_close(one, two)


def test_the_signal_is_the_gradient_of_spikes():
    """The wanted derivative of the readout's part: kappa-filtered errors through the feedback."""
    neurons, weights, x, error = network()
    activity = networks.run(neurons._replace(beta=np.zeros(20)), weights, x)
    signal = np.empty_like(activity.psi)
    networks.gradients(neurons._replace(beta=np.zeros(20)), weights, activity, error, EPROP, signal=signal)
    kappa, filtered = np.exp(-1 / 15), np.zeros((3, 2))
    for t in reversed(range(80)):
        filtered = kappa * filtered + (1 - kappa) * error[t]
        np.testing.assert_allclose(signal[t], filtered @ weights.output.T, rtol=1e-12, atol=1e-14)


def test_losses_are_those_of_torch():
    random = np.random.default_rng(0)
    y, label = random.standard_normal((30, 4, 3)), np.array([0, 2, 1, 1])
    leaf = torch.from_numpy(y.copy()).requires_grad_()
    late = leaf[-10:].transpose(0, 1)
    expected = torch.nn.functional.cross_entropy(late.reshape(-1, 3), torch.from_numpy(label).repeat_interleave(10))
    found = signals.cross_entropy(y, label, 10)
    assert found.value == pytest.approx(float(expected), rel=1e-12)
    np.testing.assert_allclose(found.error, torch.autograd.grad(expected, leaf)[0].numpy(), atol=1e-15)
    assert np.array_equal(signals.decisions(y, 10), y[-10:].mean(0).argmax(1))
    target = random.standard_normal(y.shape)
    found = signals.squared_error(y, target)
    assert found.value == pytest.approx(0.5 * ((y - target) ** 2).sum())
    assert np.array_equal(found.error, y - target)


@pytest.mark.parametrize("per_trial", [False, True])
def test_the_regulariser_has_its_derivative(per_trial):
    """Spikes as real numbers, by finite differences."""
    random = np.random.default_rng(1)
    z = random.random((12, 3, 5))
    found = signals.rate_regulariser(z, 0.2, 1.7, per_trial)
    for b, j in ((0, 0), (2, 4)):
        more = z.copy()
        more[5, b, j] += 1e-6
        slope = (signals.rate_regulariser(more, 0.2, 1.7, per_trial).value - found.value) / 1e-6
        assert found.error[b, j] == pytest.approx(slope, rel=1e-4)


def test_adam_of_torch():
    random = np.random.default_rng(0)
    weights = Weights(*(random.standard_normal(s) for s in ((3, 4), (4, 4), (4, 2))))
    leaves = [torch.from_numpy(w.copy()).requires_grad_() for w in weights]
    theirs, ours = torch.optim.Adam(leaves, lr=0.01), optimisers.Adam(0.01, tensorflow=False)
    first = optimisers.Adam(0.01)
    for _ in range(20):
        gradients = Weights(*(random.standard_normal(w.shape) for w in weights))
        for leaf, g in zip(leaves, gradients, strict=True):
            leaf.grad = torch.from_numpy(g.copy())
        theirs.step()
        weights = optimisers.add(weights, ours.changes(gradients))
        first.changes(gradients)
    for w, leaf in zip(weights, leaves, strict=True):
        np.testing.assert_allclose(w, leaf.detach().numpy(), rtol=1e-12)
    # TensorFlow 1 adds epsilon before the bias of the second moment is taken off
    g = Weights(*(np.full(w.shape, 1e-7) for w in weights))
    step = optimisers.Adam(0.01).changes(g).output[0, 0]
    v = 1e-3 * 1e-14
    assert step == pytest.approx(-0.01 * np.sqrt(1e-3) / 0.1 * (0.1 * 1e-7) / (np.sqrt(v) + 1e-8), rel=1e-9)


def test_adaptive_feedback_grows_like_the_weights():
    random = np.random.default_rng(0)
    feedback, weights = random.standard_normal((30, 2)), random.standard_normal((30, 2))
    for _ in range(300):
        feedback, weights = signals.kolen_pollack(feedback, weights, 0.1 * random.standard_normal((30, 2)), 0.05)
    np.testing.assert_allclose(feedback, weights, atol=1e-5)


def test_the_sum_of_sines_and_the_noise():
    random = np.random.RandomState(3)
    signal = tasks.sum_of_sines(1000, random)
    assert signal[0] == 0
    assert np.abs(signal).max() == pytest.approx(1)
    spectrum = np.abs(np.fft.rfft(signal[:-1] - signal[:-1].mean()))
    assert set(np.argsort(spectrum)[-4:]) == {1, 2, 3, 5}
    x = tasks.frozen_noise(2000, 50, 0.05, random)
    assert x.shape == (2000, 1, 50)
    assert x[0].sum() == 0
    assert x.mean() == pytest.approx(0.05, abs=0.003)


def test_evidence_trials():
    task = tasks.Evidence()
    x, label, cues = tasks.evidence(task, 200, np.random.RandomState(0))
    assert x.shape == (2250, 200, 40)
    assert np.array_equal(label, cues.sum(1) >= 4)
    assert abs(label.mean() - 0.5) < 0.12
    assert cues.mean(1)[label == 1].mean() == pytest.approx(0.7, abs=0.06)
    left, right, recall, noise = (x[:, :, 10 * g : 10 * g + 10] for g in range(4))
    for k in range(7):
        cue, gap = slice(150 * k + 50, 150 * k + 150), slice(150 * k, 150 * k + 50)
        for side, group in ((0, left), (1, right)):
            assert group[cue][:, cues[:, k] == side].mean() == pytest.approx(0.04, abs=0.003)
            assert group[cue][:, cues[:, k] != side].sum() == 0
            assert group[gap].sum() == 0
    assert left[1050:].sum() == right[1050:].sum() == recall[:2100].sum() == 0
    assert recall[2100:].mean() == pytest.approx(0.04, abs=0.002)
    assert noise.mean() == pytest.approx(0.01, abs=0.0005)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda w: networks.check(w[0]._replace(tau=0.0), w[1]), "e-prop: tau is 0.0; it must be positive"),
        (lambda w: networks.check(w[0]._replace(beta=np.zeros(3)), w[1]), "e-prop: beta end in shape (3,)"),
        (
            lambda w: networks.check(w[0], w[1]._replace(recurrent=np.zeros((5, 5)))),
            "e-prop: recurrent weights end in shape (5, 5)",
        ),
        (
            lambda w: networks.check(w[0], w[1]._replace(input=np.full((8, 20), np.nan))),
            "e-prop: input weights are not finite",
        ),
        (
            lambda w: networks.run(w[0], w[1], w[2][:, :, :3]),
            "e-prop: input has shape (80, 3, 3); give (time, batch, 8)",
        ),
        (lambda w: networks.run(w[0], w[1], w[2][:0]), "e-prop: input has shape (0, 3, 8)"),
        (lambda w: networks.run(w[0], w[1], 0.5 * w[2]), "e-prop: input holds something other than 0 and 1"),
        (lambda w: networks.run(w[0], w[1], 2 * w[2]), "e-prop: input holds something other than 0 and 1"),
        (
            lambda w: networks.gradients(w[0], w[1], networks.run(*w[:3]), w[3], feedback=np.zeros((3, 2))),
            "e-prop: feedback has shape (3, 2); give (20, 2)",
        ),
        (
            lambda w: networks.gradients(w[0], w[1], networks.run(*w[:3]), w[3][1:]),
            "e-prop: error has shape (79, 3, 2); give (80, 3, 2)",
        ),
        (
            lambda w: networks.gradients(w[0], w[1], networks.run(*w[:3]), w[3] * np.inf),
            "e-prop: error is not finite; use a smaller learning rate",
        ),
        (
            lambda w: signals.cross_entropy(w[3], np.zeros(3, int), 81),
            "cross_entropy: the last 81 steps of 80; give 1 to 80",
        ),
        (
            lambda w: signals.cross_entropy(w[3], np.full(3, 2), 5),
            "cross_entropy: labels have shape (3,); give 3 whole numbers below 2",
        ),
        (lambda w: signals.cross_entropy(w[3], np.zeros(3), 5), "cross_entropy: labels have shape (3,); give 3 whole"),
        (lambda w: signals.decisions(w[3], 0), "decisions: the last 0 steps of 80; give 1 to 80"),
        (
            lambda w: networks.check(w[0]._replace(beta=np.full(20, np.nan)), w[1]),
            "e-prop: beta is not finite; give a number for each neuron",
        ),
        (
            lambda w: networks.gradients(w[0], w[1]._replace(input=w[1].input[:2]), networks.run(*w[:3]), w[3]),
            "e-prop: the activity is that of (8, 20, 2) inputs, neurons and outputs, the weights are for (2, 20, 2)",
        ),
        (
            lambda w: networks.online_gradients(w[0], w[1]._replace(input=w[1].input[:2]), networks.run(*w[:3]), w[3]),
            "e-prop: the activity is that of (8, 20, 2)",
        ),
        (
            lambda w: networks.gradients(w[0], w[1], networks.run(*w[:3]), w[3], signal=np.empty((80, 3, 19))),
            "e-prop: signal has shape (80, 3, 19), float64; give (80, 3, 20), float64",
        ),
        (
            lambda w: networks.online_gradients(w[0], w[1], networks.run(*w[:3]), w[3], watched=np.array([[28, 0]])),
            "e-prop: watched are pairs (sender below 28, receiver below 20); found [[28, 0]]",
        ),
        (lambda w: stream(w[0], w[1], [], lambda t, y: y), "e-prop: there is no input; give one step or more"),
        (lambda w: stream(w[0], w[1], w[2] * 0.5, lambda t, y: y), "e-prop: input of step 0 has shape (3, 8); give"),
        (
            lambda w: stream(w[0], w[1], w[2], lambda t, y: y, np.zeros((20, 3))),
            "e-prop: feedback has shape (20, 3); give (20, 2)",
        ),
        (
            lambda w: stream(w[0], w[1], w[2], lambda t, y: y[:1]),
            "e-prop: the error at step 0 has shape (1, 2); give (3, 2)",
        ),
        (
            lambda w: stream(w[0], w[1], w[2], lambda t, y: y * np.nan),
            "e-prop: the error at step 0 is not finite; use a smaller learning rate",
        ),
        (lambda w: signals.squared_error(w[3], w[3][1:]), "squared_error: readout (80, 3, 2), target (79, 3, 2)"),
        (lambda w: signals.squared_error(w[3] * np.nan, w[3]), "e-prop: the loss is not finite"),
        (lambda w: tasks.sum_of_sines(500, np.random.RandomState(0)), "sum_of_sines: a period of 1000 steps"),
        (
            lambda w: tasks.evidence(tasks.Evidence(cues=6), 3, np.random.RandomState(0)),
            "evidence: 3 trials of 6 cues; give 1 trial or more, and an odd",
        ),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        call(network())


def run_with(neurons=None, **weights):
    n, w, x, _ = network()
    return networks.run(n._replace(**neurons or {}), w._replace(**weights), x)


def gradients_with(method=networks.gradients, activity=None, weights=None, neurons=None, error=None, **options):
    """Of a network and its activity, of which some parts are replaced."""
    n, w, x, e = network()
    found = networks.run(n, w, x)
    changed = {name: change(getattr(found, name)) for name, change in (activity or {}).items()}
    return method(
        n._replace(**neurons or {}), w._replace(**weights or {}), found._replace(**changed), e if error is None else error, **options
    )  # fmt: skip


@pytest.mark.parametrize(
    ("neurons", "weights", "message"),
    [
        ({}, {"output": np.ones(20)}, "output weights have shape (20,); give (n, k), not empty"),
        ({}, {"output": np.ones((20, 0))}, "output weights have shape (20, 0); give"),
        ({}, {"output": np.ones((20, 2), int)}, "input weights are float64, output weights int64; give all float32"),
        ({}, {"input": np.ones((8, 20), np.float32)}, "input weights are float32, output weights float64"),
        ({}, {"recurrent": np.ones((20, 20), int)}, "recurrent weights are int64, output weights float64"),
        ({"tau": np.full(20, 9.0)}, {}, "tau has shape (20,); give one number for all neurons"),
        ({"damping": np.ones(20)}, {}, "damping has shape (20,)"),
        ({"refractory": -1}, {}, "refractory is -1; give a whole number of steps, 0 or more"),
        ({"refractory": 1.5}, {}, "refractory is 1.5"),
        ({"refractory": np.nan}, {}, "refractory is nan"),
        ({"damping": -0.3}, {}, "damping is -0.3; give a finite number, 0 or more"),
        ({"damping": np.nan}, {}, "damping is nan"),
        ({"beta": [0.1] * 20}, {}, "beta is a list; give an array"),
    ],
)
def test_networks_that_make_no_sense_are_refused(neurons, weights, message):
    with pytest.raises(UserError, match=f"^e-prop: {re.escape(message)}"):
        run_with(neurons, **weights)


@pytest.mark.parametrize("dtype", [int, np.int8, np.float16])
def test_weights_are_single_or_double(dtype):
    neurons, weights, x, _ = network()
    with pytest.raises(UserError, match=f"^e-prop: input weights are {np.dtype(dtype)}, output weights"):
        networks.run(neurons, Weights(*(w.astype(dtype) for w in weights)), x)


@pytest.mark.parametrize("method", [networks.gradients, networks.online_gradients])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": {"output": np.ones(20)}}, "output weights are float64 (20,), the activity float64; give those of the run"),
        ({"weights": {"recurrent": np.ones((20, 20), int)}}, "recurrent weights are int64 (20, 20), the activity float64"),
        ({"weights": dict.fromkeys(Weights._fields, np.ones((20, 20), np.float32))}, "input weights are float32 (20, 20)"),
        ({"weights": {"recurrent": np.full((20, 20), np.nan)}}, "recurrent weights are not finite"),
        ({"weights": {"recurrent": np.ones((3, 3))}}, "input and recurrent weights have shapes (8, 20), (3, 3)"),
        ({"weights": {"input": np.ones((8, 1))}}, "input and recurrent weights have shapes (8, 1), (20, 20)"),
        ({"neurons": {"beta": np.zeros(3)}}, "beta has shape (3,); give 20 finite numbers, as in the run"),
        ({"neurons": {"beta": np.full(20, np.inf)}}, "beta has shape (20,); give 20 finite numbers"),
        ({"neurons": {"tau_out": 0}}, "tau_out is 0; it must be positive"),
        ({"neurons": {"tau": -5.0}}, "tau is -5.0; it must be positive"),
        ({"activity": {"x": lambda x: x[:9]}}, "x of the activity has shape (9, 3, 8); give (time, batch, ...) as in z"),
        ({"activity": {"psi": lambda psi: psi[:, :1]}}, "psi of the activity has shape (80, 1, 20)"),
        ({"activity": {"y": lambda y: y[:9]}, "error": np.ones((9, 3, 2))}, "y of the activity has shape (9, 3, 2)"),
        ({"activity": {"x": lambda x: x[0]}}, "x of the activity has shape (3, 8)"),
        ({"activity": {"psi": lambda psi: psi[:, :, :5]}}, "psi of the activity has shape (80, 3, 5); give (80, 3, 20)"),
        ({"activity": {"x": lambda x: x.astype(float)}}, "x of the activity is float64; give spikes as uint8"),
        ({"activity": {"z": lambda z: z.astype(bool)}}, "z of the activity is bool; give spikes as uint8"),
    ],
)  # fmt: skip
def test_activity_of_another_network_is_refused(method, changes, message):
    with pytest.raises(UserError, match=f"^e-prop: {re.escape(message)}"):
        gradients_with(method, **changes)


def same(w):
    """Weights as gradients of themselves."""
    return Weights(*(part.copy() for part in w))


def after_one(change):
    adam, g = optimisers.Adam(0.1), same(network()[1])
    adam.changes(g)
    return adam.changes(g._replace(output=change(g.output)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda w: gradients_with(networks.online_gradients, watched=np.array([[0.7, 1.9]])),
            "e-prop: watched holds float64; give whole numbers, pairs (sender, receiver)",
        ),
        (lambda w: optimisers.descend(w[1], same(w[1]), -0.1), "descend: the learning rate is -0.1; give a finite"),
        (lambda w: optimisers.descend(w[1], same(w[1]), np.nan), "descend: the learning rate is nan"),
        (lambda w: optimisers.descend(w[1], same(w[1]), np.ones(2)), "descend: the learning rate is (2,)"),
        (
            lambda w: optimisers.descend(w[1], same(w[1])._replace(output=np.ones((20, 1))), 0.1),
            "descend: output weights are float64 (20, 2), gradients float64 (20, 1); give the same, floats",
        ),
        (
            lambda w: optimisers.descend(w[1], same(w[1])._replace(output=np.ones((20, 2), np.float32)), 0.1),
            "descend: output weights are float64 (20, 2), gradients float32 (20, 2)",
        ),
        (
            lambda w: optimisers.descend(*[Weights(*(p.astype(int) for p in w[1]))] * 2, 0.1),
            "descend: input weights are int64 (8, 20), gradients int64 (8, 20)",
        ),
        (
            lambda w: optimisers.add(w[1], same(w[1])._replace(recurrent=np.ones((20, 1)))),
            "add: recurrent weights are float64 (20, 20), changes float64 (20, 1); give the same, floats",
        ),
        (
            lambda w: optimisers.add(w[1]._replace(input=np.ones((8, 20), int)), same(w[1])),
            "add: input weights are int64 (8, 20), changes float64 (8, 20)",
        ),
        (lambda w: optimisers.Adam(-0.1).changes(w[1]), "Adam: the learning rate is -0.1; give a finite number"),
        (lambda w: optimisers.Adam(0.1, first=1.0).changes(w[1]), "Adam: first, second, epsilon are (1.0, 0.999, 1e-08)"),
        (lambda w: optimisers.Adam(0.1, second=1.5).changes(w[1]), "Adam: first, second, epsilon are (0.9, 1.5, 1e-08)"),
        (lambda w: optimisers.Adam(0.1, epsilon=0).changes(w[1]), "Adam: first, second, epsilon are (0.9, 0.999, 0)"),
        (
            lambda w: optimisers.Adam(0.1).changes(Weights(*(p.astype(int) for p in w[1]))),
            "Adam: input gradients are int64; give floats",
        ),
        (lambda w: after_one(lambda g: g[:, :1]), "Adam: output gradients are float64 (20, 1), not as before; take a new"),
        (lambda w: after_one(lambda g: g.astype(np.float32)), "Adam: output gradients are float32 (20, 2), not as before"),
        (lambda w: signals.squared_error(w[3][:0], w[3][:0]), "squared_error: readout is float64 (0, 3, 2); give floats"),
        (
            lambda w: signals.squared_error(np.zeros((2, 1, 1), np.uint8), np.ones((2, 1, 1), np.uint8)),
            "squared_error: readout is uint8 (2, 1, 1)",
        ),
        (
            lambda w: signals.cross_entropy(w[3][:, 0], np.zeros(3, int), 5),
            "cross_entropy: readout is float64 (80, 2); give floats (time, batch, k), not empty",
        ),
        (lambda w: signals.cross_entropy(w[3].astype(int), np.zeros(3, int), 5), "cross_entropy: readout is int64"),
        (lambda w: signals.cross_entropy(w[3][:, :, :0], np.zeros(3, int), 5), "cross_entropy: readout is float64 (80, 3, 0)"),
        (lambda w: signals.cross_entropy(w[3], np.zeros(3, int), 5.0), "cross_entropy: the last 5.0 steps of 80; give 1"),
        (lambda w: signals.decisions(w[3][:, 0], 5), "decisions: readout has shape (80, 2); give (time, batch, k)"),
        (lambda w: signals.decisions(w[3][:, :, :0], 5), "decisions: readout has shape (80, 3, 0)"),
        (lambda w: signals.decisions(w[3], 5.0), "decisions: the last 5.0 steps of 80; give 1 to 80"),
        (lambda w: signals.decisions(w[3] * np.nan, 5), "decisions: the readout is not finite; use a smaller"),
        (lambda w: signals.rate_regulariser(w[2][:, 0], 0.1, 1.0), "rate_regulariser: spikes have shape (80, 8); give"),
        (lambda w: signals.rate_regulariser(w[2][:0], 0.1, 1.0, True), "rate_regulariser: spikes have shape (0, 3, 8)"),
        (lambda w: signals.rate_regulariser(w[2], 10.0, 1.0), "rate_regulariser: target is 10.0; give spikes a step, a number"),
        (lambda w: signals.rate_regulariser(w[2], np.full(8, 0.1), 1.0), "rate_regulariser: target is (8,)"),
        (lambda w: signals.rate_regulariser(w[2], 0.1, -1.0), "rate_regulariser: strength is -1.0; give a finite number"),
        (lambda w: signals.rate_regulariser(w[2], 0.1, np.ones(8)), "rate_regulariser: strength is (8,)"),
        (
            lambda w: signals.kolen_pollack(w[1].output[:, :1], w[1].output, w[1].output, 0.1),
            "kolen_pollack: shapes are (20, 1), (20, 2), (20, 2); give the same three times",
        ),
        (
            lambda w: signals.kolen_pollack(w[1].output, w[1].output, w[1].output[0], 0.1),
            "kolen_pollack: shapes are (20, 2), (20, 2), (2,)",
        ),
        (lambda w: signals.kolen_pollack(*[w[1].output] * 3, 1.5), "kolen_pollack: decay is 1.5; give a number from 0"),
        (lambda w: signals.kolen_pollack(*[w[1].output] * 3, np.ones(2)), "kolen_pollack: decay is (2,)"),
        (
            lambda w: stream(w[0], w[1], w[2], lambda t, y: y, np.full((20, 2), np.nan)),
            "e-prop: feedback is not finite; use a smaller learning rate",
        ),
        (
            lambda w: stream(w[0], w[1], [w[2][0], w[2][1][:2]], lambda t, y: y),
            "e-prop: input of step 1 has 2 samples; give 3, as in step 0",
        ),
        (lambda w: stream(w[0], w[1], w[2][:, :0], lambda t, y: y), "e-prop: input of step 0 has shape (0, 8); give"),
        (lambda w: stream(w[0], w[1], w[2], lambda t, y: None), "e-prop: the error at step 0 has shape (); give (3, 2)"),
    ],
)  # fmt: skip
def test_settings_and_shapes_out_of_range_are_refused(call, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        call(network())


SHORT = tasks.Evidence(cues=3, silence=2, cue=4, delay=5, recall=6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: tasks.sum_of_sines(1000, r, ()), "sum_of_sines: periods are (); give one or more, each positive"),
        (lambda r: tasks.sum_of_sines(1000, r, (200, 0)), "sum_of_sines: periods are (200, 0)"),
        (lambda r: tasks.sum_of_sines(1e3, r), "sum_of_sines: steps is 1000.0; give a whole number"),
        (
            lambda r: tasks.sum_of_sines(1000, np.random.default_rng(0)),
            "sum_of_sines: random is a Generator; give a np",
        ),
        (lambda r: tasks.frozen_noise(0, 5, 0.1, r), "frozen_noise: steps is 0; give a whole number, 1 or more"),
        (lambda r: tasks.frozen_noise(1e2, 5, 0.1, r), "frozen_noise: steps is 100.0"),
        (lambda r: tasks.frozen_noise(9, -1, 0.1, r), "frozen_noise: inputs is -1"),
        (lambda r: tasks.frozen_noise(9, 5, 40.0, r), "frozen_noise: rate is 40.0; give spikes a step, from 0 to 1"),
        (lambda r: tasks.frozen_noise(9, 5, np.nan, r), "frozen_noise: rate is nan"),
        (lambda r: tasks.frozen_noise(9, 5, 0.1, np.random.default_rng(0)), "frozen_noise: random is a Generator"),
        (lambda r: tasks.evidence(SHORT._replace(silence=-1), 2, r), "evidence: silence is -1; give a whole number, 0"),
        (lambda r: tasks.evidence(SHORT._replace(delay=-9), 2, r), "evidence: delay is -9; give a whole number, 0"),
        (lambda r: tasks.evidence(SHORT._replace(delay=2.5), 2, r), "evidence: delay is 2.5"),
        (lambda r: tasks.evidence(SHORT._replace(cue=0), 2, r), "evidence: cue is 0; give a whole number, 1 or more"),
        (lambda r: tasks.evidence(SHORT._replace(recall=-6), 2, r), "evidence: recall is -6"),
        (lambda r: tasks.evidence(SHORT._replace(group=0), 2, r), "evidence: group is 0"),
        (lambda r: tasks.evidence(SHORT._replace(cues=-1), 2, r), "evidence: cues is -1"),
        (
            lambda r: tasks.evidence(SHORT._replace(rate=40.0), 2, r),
            "evidence: rate is 40.0; give a probability, from 0",
        ),
        (lambda r: tasks.evidence(SHORT._replace(weak=-0.1), 2, r), "evidence: weak is -0.1"),
        (lambda r: tasks.evidence(SHORT._replace(weak=np.nan), 2, r), "evidence: weak is nan"),
        (
            lambda r: tasks.evidence(SHORT, 2, np.random.default_rng(0)),
            "evidence: random is a Generator; give a np.ran",
        ),
        (lambda r: tasks.evidence(SHORT, 2.0, r), "evidence: 2.0 trials of 3 cues; give 1 trial or more"),
        (
            lambda r: SHORT._replace(delay=-9).steps(),
            "evidence: cues, silence, cue, delay, recall are (3, 2, 4, -9, 6)",
        ),
    ],
)
def test_tasks_out_of_range_are_refused(call, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        call(np.random.RandomState(0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"w_in": lambda w: w.long()},
            "input weights are torch.int64 (8, 20); give two dimensions, all float32 or all",
        ),
        ({"w_in": lambda w: w.float()}, "input weights are torch.float32 (8, 20)"),
        ({"w_rec": lambda w: w * np.nan}, "recurrent weights are not finite; use a smaller learning rate"),
        ({"w_in": lambda w: w[:, :1]}, "input weights have shape (8, 1); give (8, 20)"),
        ({"w_rec": lambda w: w[:, :1]}, "recurrent weights have shape (20, 1); give (20, 20)"),
        ({"w_out": lambda w: w[:, 0]}, "output weights are torch.float64 (20,)"),
        ({"feedback": lambda w: w[:, :1]}, "feedback has shape (20, 1); give (20, 2)"),
        ({"feedback": lambda w: w.float()}, "feedback are torch.float32 (20, 2)"),
        ({"x": lambda x: x[:, 0]}, "input has shape (80, 8); give (time, batch, 8), not empty"),
        ({"x": lambda x: x[:0]}, "input has shape (0, 3, 8)"),
        ({"x": lambda x: x * np.nan}, "input is not finite"),
        ({"neurons": lambda n: n._replace(beta=np.ones((3, 1)))}, "beta has shape (3, 1); give (20,)"),
        ({"neurons": lambda n: n._replace(tau=-1.0)}, "tau is -1.0; it must be positive"),
    ],
)
def test_the_torch_network_refuses_what_does_not_fit(changes, message):
    neurons, weights, x, _ = network()
    given_ = dict(zip(("w_in", "w_rec", "w_out", "x"), map(torch.from_numpy, (*weights, x)), strict=True))
    given_ |= {"neurons": neurons, "feedback": given_["w_out"]}
    with pytest.raises(UserError, match=f"^e-prop: {re.escape(message)}"):
        reference.run(**given_ | {name: change(given_[name]) for name, change in changes.items()})


def test_an_error_that_changes_the_readout_in_place_does_no_harm():
    neurons, weights, x, _ = network()

    def in_place(t, y):
        y -= 1
        return y

    assert_close(stream(neurons, weights, x, in_place)[0], stream(neurons, weights, x, lambda t, y: y - 1)[0], 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_wrong_answer_that_is_sure_has_a_finite_loss(dtype):
    y = np.zeros((1, 1, 2), dtype)
    y[0, 0, 0] = 800
    loss = signals.cross_entropy(y, np.array([1]), 1)
    assert loss.value == pytest.approx(800)
    assert loss.error.dtype == dtype and loss.error[0, 0].tolist() == [1, -1]
