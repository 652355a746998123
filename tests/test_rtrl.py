"""RTRL: identities between gradients over random networks and switches, counts against arrays and counting numbers, refusals."""

import re

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from snnrepro import surrogate
from snnrepro.errors import UserError
from snnrepro.kernels import rtrl as kernel
from snnrepro.neurons import LIF, Adaptation, Surrogate
from snnrepro.rtrl import counts, gradients, networks, reference, rules
from snnrepro.rtrl.counts import Size
from snnrepro.rtrl.gradients import PATHS, adjoint, by_lines, by_matrices, exact, jacobian, local
from snnrepro.rtrl.networks import Model, Weights


def draw_model(draw, random, n, gains=("one", "leak"), adaptation=True):
    def tau(low, high):
        return random.uniform(low, high, n) if draw(st.booleans()) else random.uniform(low, high)

    p = LIF(
        tau_mem=tau(2e-3, 30e-3),
        tau_syn=tau(1e-3, 15e-3),
        threshold=draw(st.sampled_from([0.3, 1.0])),
        reset=draw(st.sampled_from(networks.RESETS)),
        reset_gradient=draw(st.booleans()),
        current=draw(st.sampled_from(["old", "new"])),
        gain=draw(st.sampled_from(gains)),
        surrogate=Surrogate(draw(st.sampled_from(networks.SURROGATES)), draw(st.sampled_from([1.0, 10.0]))),
    )
    if adaptation and draw(st.booleans()):
        strength = random.uniform(0, 1, n) if draw(st.booleans()) else random.uniform(0, 1)
        p = p._replace(adaptation=Adaptation(40e-3, strength, draw(st.sampled_from(["one", "leak"]))))
    return Model(p, draw(st.sampled_from([None, 5e-3, 20e-3])))


@st.composite
def cases(draw, **options):
    """A network of any kind, its input, an error and a feedback."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    n, m, k = draw(st.integers(1, 5)), draw(st.integers(1, 4)), draw(st.integers(1, 3))
    steps, batch = draw(st.integers(1, 9)), draw(st.integers(1, 2))
    model = draw_model(draw, random, n, **options)
    scale = draw(st.sampled_from([0.3, 2.0])) * model.neuron.threshold
    weights = Weights(
        scale * (random.standard_normal((m, n)) + 1),
        scale * random.standard_normal((n, n)),
        random.standard_normal((n, k)),
    )
    x = (random.random((steps, batch, m)) < draw(st.sampled_from([0.3, 1.0]))).astype(float)
    return model, weights, x, random.standard_normal((steps, batch, k)), random.standard_normal((n, k))


def assert_close(ours, theirs, rel=1e-12):
    for name, a, b in zip(Weights._fields, ours, theirs, strict=True):
        assert np.abs(a - b).max() <= rel * max(1.0, np.abs(b).max()), name


def automatic(model, weights, x, error, paths="all", sent=None):
    leaves = [torch.from_numpy(w.copy()).requires_grad_() for w in weights]
    sent = None if sent is None else torch.from_numpy(sent)
    s, y = reference.run(model, *leaves, torch.from_numpy(x), paths, sent)
    found = torch.autograd.grad((y * torch.from_numpy(error)).sum(), leaves, allow_unused=True)
    return s, y, Weights(*(np.zeros(w.shape) if g is None else g.numpy() for w, g in zip(leaves, found, strict=True)))


# Identities -----------------------------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(cases(), st.booleans())
def test_exact_rtrl_is_backpropagation(case, symmetric):
    """RTRL, the hand-written adjoint and torch's automatic differentiation are one gradient; spikes and readout agree too."""
    model, weights, x, error, sent = case
    sent = None if symmetric else sent
    activity = networks.run(model, weights, x)
    s, y, theirs = automatic(model, weights, x, error, "all", sent)
    assert np.array_equal(activity.s, s.detach().numpy())
    np.testing.assert_allclose(activity.y, y.detach().numpy(), rtol=1e-12, atol=1e-13)
    assert_close(exact(model, weights, activity, error, sent), theirs)
    assert_close(adjoint(model, weights, activity, error, sent), theirs)


@settings(max_examples=150, deadline=None)
@given(cases(), st.booleans())
def test_eligibility_is_backpropagation_with_detached_recurrent_spikes(case, symmetric):
    model, weights, x, error, sent = case
    sent = None if symmetric else sent
    activity = networks.run(model, weights, x)
    _, _, theirs = automatic(model, weights, x, error, "none", sent)
    assert_close(local(model, weights, activity, error, sent), theirs)
    assert_close(adjoint(model, weights, activity, error, sent, "none"), theirs)
    assert_close(exact(model, weights, activity, error, sent, "none"), theirs)


@settings(max_examples=60, deadline=None)
@given(cases())
def test_own_weights_make_the_block_diagonal(case):
    """Zeroing the blocks of H off the diagonal gives the traces that keep V_jj; keeping all of H gives RTRL."""
    model, weights, x, error, _ = case
    activity = networks.run(model, weights, x)
    diagonal = by_matrices(model, weights, activity, error, diagonal=True)
    assert_close(local(model, weights, activity, error, paths="own"), diagonal)
    assert_close(exact(model, weights, activity, error, paths="own"), diagonal)
    assert_close(adjoint(model, weights, activity, error, paths="own"), diagonal)
    assert_close(automatic(model, weights, x, error, "own")[2], diagonal)
    assert_close(exact(model, weights, activity, error), by_matrices(model, weights, activity, error))


@settings(max_examples=40, deadline=None)
@given(cases())
def test_the_matrix_without_some_paths_is_the_whole_one_without_some_blocks(case):
    model, weights, x, _, _ = case
    activity = networks.run(model, weights, x)
    n = len(weights.output)
    silent = weights._replace(recurrent=np.zeros((n, n)))
    for t in range(len(x)):
        whole = jacobian(model, weights, activity, t)
        blocks = np.tile(np.eye(n), (len(whole) // n,) * 2)
        assert np.array_equal(jacobian(model, weights, activity, t, paths="own"), whole * blocks)
        assert np.array_equal(jacobian(model, weights, activity, t, paths="none"), jacobian(model, silent, activity, t))


@settings(max_examples=60, deadline=None)
@given(cases())
def test_without_recurrence_all_methods_agree(case):
    model, weights, x, error, sent = case
    weights = weights._replace(recurrent=np.zeros_like(weights.recurrent))
    activity = networks.run(model, weights, x)
    full = exact(model, weights, activity, error, sent)
    for paths in ("own", "none"):
        assert_close(local(model, weights, activity, error, sent, paths), full)
    assert_close(adjoint(model, weights, activity, error, sent), full)


@settings(max_examples=60, deadline=None)
@given(cases(adaptation=False))
def test_traces_of_lines_are_those_of_synapses_where_no_trace_knows_the_reset(case):
    model, weights, x, error, sent = case
    p = model.neuron._replace(tau_mem=10e-3, tau_syn=5e-3, reset_gradient=False)
    if p.reset == "multiply":
        p = p._replace(reset="subtract")
    model = Model(p, model.tau_out)
    activity = networks.run(model, weights, x)
    assert_close(by_lines(model, weights, activity, error, sent), local(model, weights, activity, error, sent))


def test_traces_of_lines_leave_out_a_reset_that_clears():
    model, weights, x, error, _ = network(reset="multiply")
    activity = networks.run(model, weights, x)
    a, b = by_lines(model, weights, activity, error), local(model, weights, activity, error)
    assert 0.3 < gradients.cosine(a, b) < 0.999
    cleared = Model(model.neuron._replace(reset="none"), model.tau_out)
    c = local(cleared, weights, activity, error)
    assert_close(a, c)


@settings(max_examples=40, deadline=None)
@given(cases(adaptation=False))
def test_the_compiled_layers_of_surrogate_have_the_same_gradient(case):
    """A third implementation: `snnrepro.surrogate.lif`, whose recurrent spikes are in or out of the gradient."""
    model, weights, x, error, _ = case
    model = Model(model.neuron, None)
    activity = networks.run(model, weights, x)
    lag = 1 if model.neuron.current == "old" else 0  # row r of `surrogate` is then the state before step r
    assume(len(x) > lag)
    error[len(x) - lag :] = 0
    signal = torch.from_numpy((error @ weights.output.T)[: len(x) - lag])
    for paths in ("all", "none"):
        p = model.neuron._replace(recurrent_gradient=paths == "all")
        w, v = (torch.from_numpy(weight.copy()).requires_grad_() for weight in weights[:2])
        s = surrogate.lif(torch.from_numpy(x), w, p, v, states=False).spikes
        assert np.array_equal(s.detach()[lag:].numpy(), activity.s[: len(x) - lag])
        theirs = torch.autograd.grad((s[lag:] * signal).sum(), (w, v))
        ours = adjoint(model, weights, activity, error, None, paths)
        assert_close(ours, Weights(*(g.numpy() for g in theirs), ours.output))


def network(n=12, m=6, k=3, steps=40, batch=2, seed=0, **changes):
    random = np.random.default_rng(seed)
    model = Model(LIF(gain="leak", surrogate=Surrogate("fast_sigmoid", 10.0))._replace(**changes), None)
    weights = Weights(
        2.5 * (random.standard_normal((m, n)) + 1) / np.sqrt(m),
        2 * random.standard_normal((n, n)) / np.sqrt(n),
        random.standard_normal((n, k)) / np.sqrt(n),
    )
    x = (random.random((steps, batch, m)) < 0.4).astype(float)
    return model, weights, x, random.standard_normal((steps, batch, k)), random.standard_normal((n, k))


def test_the_identities_are_not_empty():
    """In a network that spikes, what is left out is really there: all variants differ."""
    model, weights, x, error, _ = network()
    activity = networks.run(model, weights, x)
    assert activity.s.sum((0, 1)).min() >= 2
    found = {paths: adjoint(model, weights, activity, error, None, paths) for paths in PATHS}
    for a, b in (("all", "own"), ("all", "none"), ("own", "none")):
        assert 0.2 < gradients.cosine(found[a], found[b]) < 0.99999
    reset = network(reset_gradient=True)[0]
    through = exact(reset, weights, networks.run(reset, weights, x), error)
    assert gradients.cosine(through, found["all"]) < 0.999


# Model and loss -------------------------------------------------------------------------------------------------------------


def test_states_by_hand():
    """One neuron with a weight onto itself; the old current; a spike clears the potential."""
    p = LIF(tau_mem=10e-3, tau_syn=5e-3, gain="leak", threshold=0.3)
    weights = Weights(np.array([[1.5]]), np.array([[0.7]]), np.array([[2.0]]))
    x = np.ones((12, 1, 1))
    activity = networks.run(Model(p, 20e-3), weights, x)
    alpha, beta, kappa, u, i, s, y = np.exp(-0.2), np.exp(-0.1), np.exp(-0.05), 0.0, 0.0, 0.0, 0.0
    expected = []
    for _ in range(12):
        u, i = (beta * u + (1 - beta) * i) * (1 - s), alpha * i + 1.5 + 0.7 * s
        s = float(u > 0.3)
        y = kappa * y + (1 - kappa) * 2 * s
        expected.append((i, u, s, 1 / (1 + 100 * abs(u - 0.3)) ** 2, y))
    found = np.stack([activity.i, activity.u, activity.s, activity.slope, activity.y], -1)[:, 0, 0]
    assert found[:, 2].sum() >= 3
    model = Model(p._replace(surrogate=Surrogate("fast_sigmoid", 100.0)), 20e-3)
    found[:, 3] = networks.run(model, weights, x).slope[:, 0, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-13)


def test_the_loss_is_that_of_torch():
    random = np.random.default_rng(0)
    y, label = random.standard_normal((7, 4, 3)), np.array([0, 2, 1, 1])
    leaf = torch.from_numpy(y.copy()).requires_grad_()
    expected = torch.nn.functional.cross_entropy(leaf.reshape(-1, 3), torch.from_numpy(np.tile(label, 7)))
    found = networks.cross_entropy(y, label)
    assert found.value == pytest.approx(expected.item(), rel=1e-13)
    np.testing.assert_allclose(found.error, torch.autograd.grad(expected, leaf)[0].numpy(), atol=1e-16)


def test_the_jacobian_is_the_derivative_of_a_step():
    """Between two steps in which nobody spikes, with a derivative that vanishes, H is measured by finite differences: the leaks."""
    p = LIF(gain="leak", surrogate=Surrogate("fast_sigmoid", 1e9), threshold=100.0)
    model, (_, weights, x, *_) = Model(p), network()
    activity = networks.run(model, weights, x)
    h, n = jacobian(model, weights, activity, 5), 12
    alpha, beta = np.exp(-1 / 5), np.exp(-1 / 10)
    assert np.allclose(h[:n, :n], alpha * np.eye(n), atol=1e-10)
    assert np.allclose(h[n:, n:], beta * np.eye(n), atol=1e-10)
    assert np.allclose(h[n:, :n], (1 - beta) * np.eye(n), atol=1e-10)
    assert np.abs(h[:n, n:]).max() < 1e-10


def test_the_cosine():
    a, b = (Weights(np.array([[x, y]]), np.zeros((2, 2)), np.ones((2, 1))) for x, y in ((3.0, 4.0), (4.0, -3.0)))
    assert gradients.cosine(a, a) == pytest.approx(1)
    assert gradients.cosine(a, b) == pytest.approx(0, abs=1e-15)
    assert gradients.cosine(a, b, ("output",)) == pytest.approx(1)
    assert gradients.cosine(a, b._replace(input=0 * b.input)) == 0


# Rules ----------------------------------------------------------------------------------------------------------------------


def test_feedback_is_what_its_name_says():
    random = np.random.default_rng(0)
    output = 3 * random.standard_normal((200, 5))
    assert rules.feedback("symmetric", output, random) is output
    drawn = rules.feedback("random", output, random)
    assert drawn.std() == pytest.approx(output.std(), rel=0.1)
    assert abs(np.corrcoef(drawn.ravel(), output.ravel())[0, 1]) < 0.15
    assert np.unique(rules.feedback("uniform", output, random)).size == 1


def test_uniform_feedback_of_a_softmax_is_silent():
    """The errors of all classes sum to zero, and uniform feedback carries their sum."""
    model, weights, x, _, _ = network()
    activity = networks.run(model, weights, x)
    error = networks.cross_entropy(activity.y, np.array([0, 2])).error
    uniform = rules.feedback("uniform", weights.output, np.random.default_rng(0))
    found = local(model, weights, activity, error, uniform)
    usual = local(model, weights, activity, error)
    assert np.abs(found.input).max() < 1e-12 * np.abs(usual.input).max()
    assert np.abs(usual.input).max() > 0


@pytest.mark.parametrize("tau_out", [None, 10e-3])
def test_local_losses_are_separate_gradients(tau_out):
    """Torch, with the spikes between layers and the recurrent spikes detached, one loss a layer."""
    _, first, x, _, _ = network()
    _, second, _, _, _ = network(m=12, seed=1)
    model, label = Model(network()[0].neuron, tau_out), np.array([2, 0])
    found = rules.local_losses(model, [first, second], x, label)
    given_, target = torch.from_numpy(x), torch.from_numpy(np.tile(label, 40))
    for k, weights in enumerate((first, second)):
        leaves = [torch.from_numpy(w.copy()).requires_grad_() for w in weights]
        s, y = reference.run(model, *leaves, given_, "none")
        loss = torch.nn.functional.cross_entropy(y.reshape(-1, 3), target)
        assert found.losses[k] == pytest.approx(float(loss.detach()), rel=1e-13)
        assert_close(found.gradients[k], Weights(*(g.numpy() for g in torch.autograd.grad(loss, leaves))))
        given_ = s.detach()
    assert given_.sum() > 20


# Counts ---------------------------------------------------------------------------------------------------------------------


class Counting:
    """A number that counts the products it takes part in."""

    products = 0

    def __init__(self, value):
        self.value = float(value)

    def __mul__(self, other):
        Counting.products += 1
        return Counting(self.value * float(other))

    def __add__(self, other):
        return Counting(self.value + float(other))

    def __sub__(self, other):
        return Counting(self.value - float(other))

    def __rsub__(self, other):
        return Counting(float(other) - self.value)

    def __float__(self):
        return self.value

    __rmul__, __radd__ = __mul__, __add__


def counting(array):
    return np.vectorize(Counting, otypes=[object])(array) if array.size else array.astype(object)


SIZES = [
    Size(4, 3, 2, 5),
    Size(5, 2, 3, 4, leaky=True),
    Size(3, 4, 2, 6, adaptive=True),
    Size(4, 2, 2, 3, adaptive=True, leaky=True, kick=True),
    Size(3, 2, 2, 4, multiply=False),
    Size(3, 2, 2, 4, multiply=False, kick=True),
]


def of_size(size):
    random = np.random.default_rng(0)
    p = LIF(gain="leak", reset="multiply" if size.multiply else "subtract", reset_gradient=size.kick)
    p = p._replace(adaptation=Adaptation(50e-3, 0.5) if size.adaptive else None)
    model = Model(p, 20e-3 if size.leaky else None)
    shapes = ((size.m, size.n), (size.n, size.n), (size.n, size.k))
    weights = Weights(*(random.standard_normal(shape) + 1 for shape in shapes))
    x = np.ones((size.steps, 1, size.m))
    return model, weights, networks.run(model, weights, x), random.standard_normal((size.steps, 1, size.k))


@pytest.mark.parametrize("size", SIZES)
def test_numbers_kept_are_those_of_the_arrays(size):
    model, weights, activity, _ = of_size(size)
    kept = {
        "rtrl": gradients.influence(model, weights),
        "eligibility": gradients.traces(model, weights),
        "block-diagonal": gradients.traces(model, weights),
        "decolle": gradients.line_traces(model, weights),
        "bptt": {"x": np.ones((size.steps, size.m))} | gradients.history(model, activity),
    }
    assert kept.keys() == counts.MEASURED.keys()
    for method, arrays in kept.items():
        assert sum(a.size for a in arrays.values()) == counts.counted(method, size)[0], method
    states = kept["rtrl"]["g_i"].size + kept["rtrl"]["g_u"].size + kept["rtrl"]["g_a"].size
    assert states == counts.influence_numbers(size.n, size.m, 2 + size.adaptive)


@pytest.mark.parametrize(
    ("size", "method"), [(s, m) for s in SIZES for m in counts.MEASURED if not (s.adaptive and m == "decolle")]
)
def test_products_are_those_of_the_loops(size, method):
    """The very lines of the kernels, uncompiled, on numbers that count; steps beyond the first, whose past is empty."""
    model, weights, activity, error = of_size(size)
    given_ = gradients._given(model, weights, activity, error, None)
    plain = {"rtrl": "exact", "bptt": "adjoint", "decolle": "lines"}.get(method, "synapses")
    loop = getattr(getattr(kernel, plain), "py_func", getattr(kernel, plain))
    work = {
        "rtrl": gradients.influence(model, weights),
        "bptt": {k: v for k, v in gradients.history(model, activity).items() if k not in ("s", "slope", "kick")},
        "decolle": gradients.line_traces(model, weights),
    }.get(method, gradients.traces(model, weights))
    if method == "bptt":
        work = {name: work[name] for name in ("d_i", "d_u", "d_a", "d_s", "late")}
    n, rows = size.n, size.n + size.m
    total = np.zeros(rows * n) if method == "rtrl" else np.zeros((rows, n))
    seen = []
    for steps in (size.steps - 1, size.steps):
        part = [counting(a[:steps]) for a in (given_.pre, given_.s, given_.slope, given_.kick)]
        tail = [counting(given_.feedback), counting(error[:steps])]
        shared = [counting(f) for f in given_.factors]
        if method == "decolle":
            arguments = [part[0], part[2], *tail, *(f[0] for f in shared[:3]), given_.kappa, given_.old]
        else:
            coupling = {"eligibility": np.empty(0), "block-diagonal": np.diag(weights.recurrent)}
            chosen = counting(coupling.get(method, weights.recurrent))
            arguments = [*part, chosen, *tail, *shared, given_.kappa, given_.multiply, given_.old]
        Counting.products = 0
        result = counting(total)
        loop(*arguments, *(counting(a) for a in work.values()), result)
        seen.append(Counting.products)
    assert seen[1] - seen[0] == counts.counted(method, size)[1]
    paths = {"eligibility": "none", "block-diagonal": "own"}.get(method)
    ours = {"rtrl": exact, "bptt": adjoint, "decolle": by_lines}.get(method)
    found = ours(model, weights, activity, error) if ours else local(model, weights, activity, error, None, paths)
    values = np.vectorize(float)(result).reshape(rows, n)
    np.testing.assert_allclose(values, np.concatenate(found[:2]), rtol=1e-12, atol=1e-13)


def test_counts_of_the_dossier_network():
    assert counts.influence_numbers(128, 10) == 2 * 128 * 128 * 138 == 4521984
    assert counts.local_numbers(Size(128, 10, 2, 40)) - 128 == 35328


def test_orders_are_the_leading_powers():
    """Doubling n or T multiplies the counts by the power that the standard table names, for large networks."""
    for name, row in counts.STANDARD.items():
        if not row.here:
            continue
        for which, powers in ((0, row.memory), (1, row.time)):
            at = [counts.counted(row.here, Size(n, 10, 10, 10**6))[which] for n in (4000, 8000)]
            assert np.log2(at[1] / at[0]) == pytest.approx(powers[0], abs=0.02), name
            over = [counts.counted(row.here, Size(50, 10, 10, steps))[which] for steps in (10**6, 2 * 10**6)]
            assert np.log2(over[1] / over[0]) == pytest.approx(powers[1], abs=0.02), name


# Refusals -------------------------------------------------------------------------------------------------------------------


def gradient_with(case, method=exact, **changes):
    model, weights, x, error, _ = case
    activity = networks.run(model, weights, x)
    return method(model, changes.pop("weights", weights), activity, changes.pop("error", error), **changes)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda c: networks.run(network(reset="zero")[0], *c[1:3]),
            "rtrl: reset 'zero' with 0 refractory steps; it can do multiply",
        ),
        (lambda c: networks.run(network(refractory=3)[0], *c[1:3]), "rtrl: reset 'multiply' with 3 refractory steps"),
        (
            lambda c: networks.run(network(surrogate=Surrogate("sigmoid"))[0], *c[1:3]),
            "rtrl: surrogate is 'sigmoid'; choose one of",
        ),
        (lambda c: networks.run(network(tau_mem=-1.0)[0], *c[1:3]), "LIF: tau_mem must be positive, in seconds"),
        (
            lambda c: networks.run(network(tau_mem=np.ones(3))[0], *c[1:3]),
            "rtrl: a parameter has not one entry for each of 12",
        ),
        (lambda c: networks.run(c[0]._replace(tau_out=0.0), *c[1:3]), "rtrl: tau_out is 0.0; it must be positive"),
        (lambda c: networks.run(c[0], c[1], c[2][:, :, :2]), "rtrl: input has shape (40, 2, 2); give (time, batch, 6)"),
        (lambda c: networks.run(c[0], c[1], c[2][:0]), "rtrl: input has shape (0, 2, 6)"),
        (lambda c: networks.run(c[0], c[1], c[2] * np.nan), "rtrl: input is not finite"),
        (
            lambda c: networks.run(c[0], c[1]._replace(recurrent=np.ones((3, 3))), c[2]),
            "rtrl: recurrent weights end in shape (3, 3)",
        ),
        (
            lambda c: networks.run(c[0], c[1]._replace(input=c[1].input * np.inf), c[2]),
            "rtrl: input weights are not finite",
        ),
        (
            lambda c: networks.cross_entropy(c[3], np.array([0, 3])),
            "rtrl: labels have shape (2,); give 2 whole numbers below 3",
        ),
        (lambda c: networks.cross_entropy(c[3], np.zeros(3, int)), "rtrl: labels have shape (3,); give 2 whole"),
        (lambda c: networks.cross_entropy(c[3] * np.nan, np.zeros(2, int)), "rtrl: the loss is not finite"),
        (lambda c: gradient_with(c, error=c[3][1:]), "rtrl: error has shape (39, 2, 3); give (40, 2, 3)"),
        (lambda c: gradient_with(c, error=c[3] * np.nan), "rtrl: error is not finite; use a smaller learning rate"),
        (lambda c: gradient_with(c, feedback=np.ones((3, 3))), "rtrl: feedback has shape (3, 3); give (12, 3)"),
        (
            lambda c: gradient_with(c, weights=c[1]._replace(input=np.ones((9, 12)))),
            "rtrl: the activity is that of",
        ),
        (lambda c: gradient_with(c, paths="some"), "rtrl: paths is 'some'; choose one of all, own, none"),
        (lambda c: gradient_with(c, local, paths="all"), "rtrl: local traces do not know other neurons"),
        (
            lambda c: gradient_with(network(tau_mem=np.linspace(5e-3, 9e-3, 12)), by_lines),
            "rtrl: traces of input lines need neurons",
        ),
        (lambda c: jacobian(c[0], c[1], networks.run(*c[:3]), 40), "jacobian: step 40 of 40, sample 0 of 2"),
        (
            lambda c: reference.run(c[0], *map(torch.from_numpy, c[1]), torch.from_numpy(c[2]), "some"),
            "rtrl: paths is 'some'",
        ),
        (
            lambda c: rules.feedback("own", c[1].output, np.random.default_rng(0)),
            "feedback: kind is 'own'; choose one of symmetric",
        ),
        (lambda c: counts.counted("uoro", Size(3, 3, 3, 3)), "counted: method is 'uoro'; choose one of bptt, rtrl"),
        (
            lambda c: counts.counted("rtrl", Size(0, 3, 3, 3)),
            "counted: n, m, k, steps are (0, 3, 3, 3); give at least 1",
        ),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        call(network())


def activity_with(method=exact, weights=None, error=None, **changes):
    """A gradient with an activity of which some parts are replaced."""
    model, w, x, e, _ = network()
    activity = networks.run(model, w, x)
    changed = {name: change(getattr(activity, name)) for name, change in changes.items()}
    return method(model, w._replace(**weights or {}), activity._replace(**changed), e if error is None else error)


@pytest.mark.parametrize("method", [exact, local, by_lines, adjoint])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": {"output": np.ones(12)}}, "output weights have shape (12,); give (n, k), not empty"),
        ({"weights": {"output": np.ones((12, 3), int)}}, "output weights are int64; give float64, or float32"),
        ({"x": lambda x: x[:9]}, "x of the activity has shape (9, 2, 6); give (time, batch, ...) as in s"),
        ({"slope": lambda s: s[:, :1]}, "slope of the activity has shape (40, 1, 12); give (time, batch, ...) as in s"),
        ({"slope": lambda s: s[:, :, :0]}, "slope of the activity has shape (40, 2, 0); give (40, 2, 12)"),
        (
            {"kick": lambda k: np.ones((9, 2, 12))},
            "kick of the activity has shape (9, 2, 12); give (40, 2, 12), or none",
        ),
        ({"y": lambda y: y[:9], "error": np.ones((9, 2, 3))}, "y of the activity has shape (9, 2, 3)"),
        ({"x": lambda x: x[0]}, "x of the activity has shape (2, 6)"),
    ],
)
def test_activity_of_another_network_is_refused(method, changes, message):
    with pytest.raises(UserError, match=f"^rtrl: {re.escape(message)}"):
        activity_with(method, **changes)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: networks.run(c[0], c[1]._replace(output=np.ones((12, 0))), c[2]), "rtrl: output weights have shape"),
        (
            lambda c: networks.run(c[0], Weights(*(w.astype(np.int8) for w in c[1])), c[2]),
            "rtrl: input weights are int8; give float64, or float32",
        ),
        (
            lambda c: networks.run(network(surrogate=Surrogate("fast_sigmoid", -10.0))[0], *c[1:3]),
            "rtrl: slope and scale of the surrogate are (-10.0, 1.0); give finite numbers, 0 or more",
        ),
        (
            lambda c: networks.run(network(surrogate=Surrogate("fast_sigmoid", 10.0, np.nan))[0], *c[1:3]),
            "rtrl: slope and scale of the surrogate are (10.0, nan)",
        ),
        (
            lambda c: networks.run(network(threshold=np.ones((2, 1)))[0], *c[1:3]),
            "rtrl: threshold has shape (2, 1); give one number, or 12",
        ),
        (
            lambda c: networks.run(c[0]._replace(tau_out=np.full(3, 0.02)), *c[1:3]),
            "rtrl: tau_out has shape (3,); give one number in seconds, or None",
        ),
        (
            lambda c: networks.run(network(adaptation=Adaptation(0.05, np.nan))[0], *c[1:3]),
            "rtrl: a parameter of the neurons is not finite",
        ),
        (lambda c: networks.cross_entropy(c[3][:, 0], np.array([0, 1])), "rtrl: readout has shape (40, 3); give (time,"),
        (lambda c: networks.cross_entropy(c[3][:, :0], np.zeros(0, int)), "rtrl: readout has shape (40, 0, 3)"),
        (
            lambda c: gradients.influence(c[0], c[1]._replace(output=np.ones(12))),
            "rtrl: input and output weights have shapes (6, 12), (12,); give (m, n), (n, k)",
        ),
        (
            lambda c: gradients.traces(c[0], c[1]._replace(input=np.ones((6, 3)))),
            "rtrl: input and output weights have shapes (6, 3), (12, 3)",
        ),
        (lambda c: activity_with(by_matrices, error=c[3][1:]), "rtrl: error has shape (39, 2, 3); give (40, 2, 3)"),
        (lambda c: activity_with(by_matrices, error=c[3] * np.nan), "rtrl: error is not finite; use a smaller"),
        (lambda c: activity_with(by_matrices, {"output": np.ones(12)}), "rtrl: weights have shapes [(6, 12), (12, 12), (12,)]"),
        (lambda c: activity_with(by_matrices, slope=lambda s: s[:9]), "rtrl: slope of the activity has shape (9, 2, 12)"),
        (lambda c: activity_with(by_matrices, {"recurrent": np.ones((3, 3))}), "jacobian: recurrent weights have shape (3, 3)"),
        (lambda c: gradients.influx(*c[:2], networks.run(*c[:3]), -1), "influx: step -1 of 40, sample 0 of 2; both count"),
        (lambda c: gradients.influx(*c[:2], networks.run(*c[:3]), 0, 2), "influx: step 0 of 40, sample 2 of 2"),
        (lambda c: gradients.cosine(c[1], c[1], "input"), "cosine: names are 'input'; give a tuple of some of input,"),
        (lambda c: gradients.cosine(c[1], c[1], ()), "cosine: names are ()"),
        (
            lambda c: gradients.cosine(c[1], c[1]._replace(input=c[1].input.T)),
            "cosine: input gradients have shapes (6, 12), (12, 6); give the same",
        ),
        (
            lambda c: gradients.cosine(c[1], c[1]._replace(recurrent=c[1].recurrent * np.nan)),
            "cosine: recurrent gradients are not finite",
        ),
        (
            lambda c: rules.feedback("uniform", np.ones((12, 3), int), np.random.default_rng(0)),
            "feedback: output weights are int64 (12, 3); give finite floats (n, k), not empty",
        ),
        (lambda c: rules.feedback("random", np.ones((0, 3)), np.random.default_rng(0)), "feedback: output weights are float64 (0, 3)"),
        (lambda c: rules.feedback("random", c[4] * np.nan, np.random.default_rng(0)), "feedback: output weights are float64"),
        (lambda c: rules.local_losses(c[0], [], c[2], np.array([0, 1])), "local_losses: there are no layers; give one"),
        (lambda c: counts.influence_numbers(-1, 2), "influence_numbers: n, m, states are (-1, 2, 2); give at least 1 each"),
        (lambda c: counts.counted("rtrl", Size(2.5, 3, 3, 3)), "counted: n, m, k, steps are (2.5, 3, 3, 3); give at least 1 each, whole"),
        (lambda c: counts.counted("rtrl", Size(np.nan, 3, 3, 3)), "counted: n, m, k, steps are (nan, 3, 3, 3)"),
    ],
)  # fmt: skip
def test_settings_and_shapes_out_of_range_are_refused(call, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        call(network())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"w_in": lambda w: w.long()},
            "input weights are torch.int64 (6, 12); give two dimensions, float32 or float64 as",
        ),
        (
            {"x": lambda x: x.float()},
            "input weights are torch.float64 (6, 12); give two dimensions, float32 or float64 as",
        ),
        ({"w_out": lambda w: w[:, 0]}, "output weights are torch.float64 (12,)"),
        ({"w_rec": lambda w: w * np.nan}, "recurrent weights are not finite; use a smaller learning rate"),
        ({"w_in": lambda w: w[:, :1]}, "input weights have shape (6, 1); give (6, 12)"),
        ({"w_rec": lambda w: w[:, :1]}, "recurrent weights have shape (12, 1); give (12, 12)"),
        ({"feedback": lambda w: w[:, :1]}, "feedback has shape (12, 1); give (12, 3)"),
        ({"x": lambda x: x[:, 0]}, "input has shape (40, 6); give (time, batch, 6), not empty"),
        ({"x": lambda x: x[:0]}, "input has shape (0, 2, 6)"),
        ({"x": lambda x: x * np.nan}, "input is not finite"),
        ({"gain": "exact"}, "gain 'exact', current 'old', 0 refractory steps; it can do one or leak"),
        ({"refractory": 5}, "gain 'leak', current 'old', 5 refractory steps"),
        ({"reset": "zero"}, "reset 'zero', surrogate 'fast_sigmoid'; see RESETS and SURROGATES of rtrl.networks"),
        ({"surrogate": Surrogate("sigmoid")}, "reset 'multiply', surrogate 'sigmoid'"),
        ({"tau_mem": -1.0}, "tau_mem must be positive, a number or one for each of 12 neurons"),
        ({"tau_syn": np.full((2, 1), 5e-3)}, "tau_syn must be positive, a number or one for each of 12"),
        ({"threshold": 0.0}, "threshold must be positive"),
        ({"adaptation": Adaptation(0.05, np.ones(3))}, "strength of the adaptation has not one entry for each of 12"),
        ({"model": lambda m: m._replace(tau_out=-0.02)}, "tau_out must be positive"),
    ],
)
def test_the_torch_network_refuses_what_does_not_fit(changes, message):
    model, weights, x, _, _ = network(**{name: value for name, value in changes.items() if not callable(value)})
    given_ = dict(zip(("w_in", "w_rec", "w_out", "x"), map(torch.from_numpy, (*weights, x)), strict=True))
    given_ |= {"model": model, "feedback": given_["w_out"]}
    replaced = {name: change(given_[name]) for name, change in changes.items() if callable(change)}
    with pytest.raises(UserError, match=f"^rtrl: {re.escape(message)}"):
        reference.run(**given_ | replaced)
