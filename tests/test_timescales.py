"""Networks of adaptive neurons with trained time constants: the engine against the loop, gradients, truncation, losses."""

import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snnrepro.errors import UserError
from snnrepro.neurons import LIF
from snnrepro.surrogate import derivative, lif
from snnrepro.timescales import networks, training
from snnrepro.timescales.networks import Cell, Layer, Network
from snnrepro.timescales.readouts import spiking_readout


def trained(network):
    return [*network.weights(), *network.hidden_constants(), network.last]


def made(seed, sizes=(4, 9, 3), strength=1.8, recurrent=True, positive=True, scale=4.0):
    random = torch.Generator().manual_seed(seed)
    network = networks.network(
        sizes,
        (8.0, 15.0, 10.0),
        random,
        recurrent=recurrent,
        positive=positive,
        spread=(3.0, 5.0, 3.0),
        dtype=torch.float64,
    )
    network.layers[0].w.mul_(scale)
    networks.require_gradients(network, True)
    x = (torch.rand(30, 4, sizes[0], generator=random, dtype=torch.float64) < 0.3).double()
    label = torch.randint(-1, sizes[-1], (30, 4), generator=random)
    return network, Cell(strength=strength, positive=positive), x, label


# The surrogate --------------------------------------------------------------------------------------------------------------


def test_multi_gaussian_has_the_published_values():
    h = derivative(networks.MULTI_GAUSSIAN)

    def density(x, mean, sd):
        return math.exp(-0.5 * ((x - mean) / sd) ** 2) / (sd * math.sqrt(2 * math.pi))

    for x in (0.0, 0.3, -0.7, 2.0, -2.0):
        expected = 0.5 * (1.15 * density(x, 0, 0.5) - 0.15 * density(x, 0.5, 3.0) - 0.15 * density(x, -0.5, 3.0))
        assert float(h(torch.tensor(x, dtype=torch.float64))) == pytest.approx(expected, abs=1e-14)
    assert float(h(torch.tensor(0.0))) == pytest.approx(0.439, abs=5e-4)
    assert float(h(torch.tensor(2.0))) < 0 and float(h(torch.tensor(-2.0))) < 0


def test_the_other_surrogates_are_the_authors():
    x = torch.tensor([0.0, 0.5, -1.5], dtype=torch.float64)
    assert derivative(networks.GAUSSIAN)(x)[0].item() == pytest.approx(0.5 * 0.797885, abs=1e-6)
    assert derivative(networks.LINEAR)(x).tolist() == pytest.approx([0.5, 0.25, 0])
    assert derivative(networks.EXPONENTIAL)(x).tolist() == pytest.approx(
        [0.5, 0.5 * math.exp(-2.5), 0.5 * math.exp(-7.5)]
    )


# The neuron -----------------------------------------------------------------------------------------------------------------


def test_a_neuron_by_hand():
    """Decays of a half, one neuron, a recurrent weight: two spikes, then the threshold is too high."""
    tau = torch.tensor([1 / math.log(2)], dtype=torch.float64)
    w, v = torch.tensor([[1.0], [0.0]], dtype=torch.float64), torch.tensor([[0.5]], dtype=torch.float64)
    network = Network((Layer(w, v, tau, tau),), torch.tensor([[2.0], [0.5]], dtype=torch.float64), tau)
    cell = Cell(threshold=0.2, strength=1.0, positive=False)
    x = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)[:, None, None]
    seen, state = networks.unroll(x, network, cell)
    # step 1: u = 0.5 > 0.2, spike. Step 2: eta 0.5, theta 0.7, u = 0.25 + 0.5 (1 + 0.5) - 0.7 = 0.3, none.
    # Step 3: eta 0.25, theta 0.45, u = 0.15.
    assert seen.spikes[0].flatten().tolist() == [1, 0, 0]
    assert float(state.u[0]) == pytest.approx(0.15) and float(state.eta[0]) == pytest.approx(0.25)
    # readout: 0.5 (2 + 0.5) = 1.25; 0.625 + 0.25; 0.4375 + 0.25
    assert seen.u.flatten().tolist() == pytest.approx([1.25, 0.875, 0.6875])
    fast = networks.run(x, network, cell)
    assert fast.spikes[0].flatten().tolist() == [1, 0, 0]
    assert fast.u.flatten().tolist() == pytest.approx([1.25, 0.875, 0.6875])


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    strength=st.sampled_from([0.0, 0.184, 1.8]),
    recurrent=st.booleans(),
    positive=st.booleans(),
    sizes=st.sampled_from([(4, 9, 3), (2, 5, 6, 4), (1, 1, 2)]),
    surrogate=st.sampled_from([networks.MULTI_GAUSSIAN, networks.GAUSSIAN, networks.LINEAR, networks.EXPONENTIAL]),
)
def test_engine_equals_the_loop(seed, strength, recurrent, positive, sizes, surrogate):
    network, cell, x, label = made(seed, sizes, strength, recurrent, positive)
    cell = cell._replace(surrogate=surrogate)
    compiled, (written, _) = networks.run(x, network, cell), networks.unroll(x, network, cell)
    for one, other in zip(compiled.spikes, written.spikes, strict=True):
        assert torch.equal(one, other)
    assert (compiled.u - written.u).abs().max() < 1e-12
    found, expected = (
        torch.autograd.grad(training.step_loss(seen.u, label, 3), trained(network), allow_unused=True)
        for seen in (compiled, written)
    )
    largest = max(float(g.abs().max()) for g in expected if g is not None)
    for one, other in zip(found, expected, strict=True):
        if other is None or one is None:  # without adaptation its time constants play no part
            assert (
                float((other if one is None else one).abs().max() if (one is not None or other is not None) else 0) == 0
            )
        else:
            assert (one - other).abs().max() <= 1e-12 * largest


@pytest.mark.parametrize("strength", [0.0, 1.8])
def test_the_spiking_readout_is_one_more_layer_whose_potential_is_read(strength):
    g = torch.Generator().manual_seed(4)
    net = networks.network((4, 9, 6, 2), (12.0, 30.0, 20.0), g, spread=(3.0, 5.0, 0.0), dtype=torch.float64)
    hidden, last = (layer._replace(w=4 * layer.w, v=None) for layer in net.layers)
    leaves = [last.w, last.mem, last.adp, hidden.w]
    for leaf in leaves:
        leaf.requires_grad_()
    x = (torch.rand(60, 5, 4, generator=g) < 0.4).double()
    plain, adapting = networks.Cell(), networks.Cell(strength=strength)
    spikes = networks.run(x, net._replace(layers=(hidden,), out=torch.zeros(10, 2, dtype=torch.float64)), plain).spikes[
        0
    ]
    ours, read = spiking_readout(spikes, last, adapting)
    whole = net._replace(layers=(last,), out=torch.zeros(7, 2, dtype=torch.float64))
    state, seen = networks.zero_state(whole, 5), []
    for now in spikes:
        state = networks.step(now, state, whole, adapting)
        seen.append(state)
    theirs = torch.stack([one.u[0] for one in seen])
    assert torch.equal(read, torch.stack([one.s[0] for one in seen]))
    assert read.sum() > 50
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    weight = torch.randn(ours.shape, generator=g, dtype=torch.float64)
    pairs = [
        torch.autograd.grad((weight * u).sum(), leaves, retain_graph=True, allow_unused=not strength)
        for u in (ours, theirs)
    ]
    for one, other in zip(*pairs, strict=True):
        if one is None:  # without adaptation its time constants have no part
            assert other is None or not other.any()
            continue
        assert strength == 0 or float(other.abs().max()) > 0
        torch.testing.assert_close(one, torch.zeros_like(one) if other is None else other, rtol=1e-9, atol=1e-10)


def test_a_readout_of_other_spikes_is_refused():
    last = networks.network((4, 9, 2), (12.0, 30.0, 20.0), torch.Generator()).layers[0]
    message = "spiking_readout: spikes have shape (3, 2, 5); give (time, batch, 4) to fit the weights"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        spiking_readout(torch.zeros(3, 2, 5), last, networks.Cell())


def test_networks_of_the_engine_test_spike():
    for sizes in ((4, 9, 3), (2, 5, 6, 4)):
        network, cell, x, _ = made(1, sizes)
        assert all(0.01 < float(s.detach().mean()) < 0.9 for s in networks.run(x, network, cell).spikes)


# Time constants -------------------------------------------------------------------------------------------------------------


def test_time_constants_go_there_and_back():
    tau = torch.tensor([1.001, 1.5, 7.0, 20.0, 300.0], dtype=torch.float64)
    assert torch.allclose(networks.time_constant(networks.raw_constant(tau, True), True), tau, rtol=1e-12)
    assert torch.equal(networks.raw_constant(tau, False), tau)
    assert networks.time_constant(torch.tensor([-50.0]), True) >= 1
    with pytest.raises(UserError, match=r"above 1 steps, found 0\.5"):
        networks.raw_constant(torch.tensor([0.5]), True)
    with pytest.raises(UserError, match="above 0 steps"):
        networks.raw_constant(torch.tensor([0.0]), False)


def test_gradients_of_time_constants_are_finite_differences_where_nothing_spikes():
    """Membranes below the threshold, and the readout, are smooth in their time constants."""
    network, cell, x, label = made(2)
    cell = cell._replace(threshold=100.0, strength=0.0)
    layer = network.layers[0]
    weight = torch.randn(30, 4, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def potential(raw):
        p = networks.neuron(layer._replace(mem=raw), cell)
        return (lif(networks.with_bias(x), layer.w.detach(), p, layer.v.detach()).u * weight).sum()

    raw = layer.mem.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(potential(raw), raw)
    for k in range(9):
        step = torch.zeros(9, dtype=torch.float64)
        step[k] = 1e-5
        with torch.no_grad():
            slope = (potential(raw + step) - potential(raw - step)) / 2e-5
        assert float(gradient[k]) == pytest.approx(float(slope), rel=1e-6)

    network, cell, x, label = made(3)
    (gradient,) = torch.autograd.grad(training.step_loss(networks.run(x, network, cell).u, label), network.last)
    for k in range(3):
        step = torch.zeros(3, dtype=torch.float64)
        step[k] = 1e-5
        with torch.no_grad():
            up, down = (
                training.step_loss(networks.run(x, network._replace(last=network.last + sign * step), cell).u, label)
                for sign in (1, -1)
            )
        assert float(gradient[k]) == pytest.approx(float((up - down) / 2e-5), rel=1e-6)


def test_initial_values():
    random = torch.Generator().manual_seed(0)
    network = networks.network((4, 200, 6), (20.0, 7.0, 15.0), random)
    tau = [networks.time_constant(raw, True) for raw in (*network.hidden_constants(), network.last)]
    for found, expected in zip(tau, (20.0, 7.0, 15.0), strict=True):
        assert torch.allclose(found, torch.full_like(found, expected), rtol=1e-5)
    layer = network.layers[0]
    assert torch.allclose(layer.v @ layer.v.T, torch.eye(200), atol=1e-4)  # orthogonal
    assert 0 < layer.w[:-1].abs().max() <= math.sqrt(6 / 204) and not layer.w[-1].any()
    spread = networks.network((4, 500, 6), (20.0, 7.0, 15.0), random, spread=(5.0, 0.0, 0.0))
    drawn = networks.time_constant(spread.layers[0].mem, True)
    assert drawn.std().item() == pytest.approx(5, rel=0.15) and drawn.mean().item() == pytest.approx(20, rel=0.05)
    assert networks.network((4, 5, 6), (20.0, 7.0, 15.0), random, recurrent=False).layers[0].v is None


def test_the_neuron_is_the_papers():
    network, cell, _, _ = made(0)
    p = networks.neuron(network.layers[0], cell)
    assert isinstance(p, LIF) and p.tau_syn is None and p.dt == 1
    assert (p.reset, p.reset_gradient, p.current, p.gain) == ("subtract_adapted", True, "new", "leak")
    assert (p.threshold, p.adaptation.strength, p.adaptation.gain) == (0.1, 1.8, "leak")
    plain = networks.neuron(network.layers[0], cell._replace(strength=0.0))
    assert plain.adaptation is None and plain.reset == "subtract"


# Training -------------------------------------------------------------------------------------------------------------------


def test_step_loss_by_hand():
    u = torch.tensor([[[0.0, 0.0]], [[math.log(3), 0.0]], [[0.0, 5.0]]])
    label = torch.tensor([[1], [0], [-1]])
    expected = [math.log(2), math.log(4 / 3)]
    assert training.step_loss(u, label).item() == pytest.approx(sum(expected) / 2, rel=1e-5)
    assert training.step_loss(u, label, skip=1).item() == pytest.approx(expected[1], rel=1e-5)
    for wrong in (2, -2):
        with pytest.raises(UserError, match="classes 0 to 1"):
            training.step_loss(u, torch.tensor([[wrong], [0], [0]]))


def test_summed_softmax_by_hand():
    u = torch.tensor([[[0.0, 0.0]], [[math.log(3), 0.0]]])
    assert training.summed_softmax(u).flatten().tolist() == pytest.approx([1.25, 0.75])
    assert training.summed_softmax(u, 1).flatten().tolist() == pytest.approx([0.75, 0.25])


@pytest.mark.parametrize("learned", [True, False])
def test_an_epoch_trains_what_it_should(learned):
    network, cell, x, label = made(4)
    networks.require_gradients(network, learned)
    adam = training.optimiser(network, 1e-2, 3.0, 2.0)
    rates = [group["lr"] for group in adam.param_groups]
    assert rates == pytest.approx([1e-2, 3e-2, 2e-2] if learned else [1e-2])
    before = [p.detach().clone() for p in trained(network)]
    losses = [training.train_epoch([(x, label)], network, cell, adam, training.step_loss, 1.0) for _ in range(20)]
    assert losses[-1] < losses[0]
    moved = [not torch.equal(old, new) for old, new in zip(before, trained(network), strict=True)]
    assert moved == [True] * 3 + [learned] * 3


def test_clipping_bounds_the_gradient():
    network, cell, x, label = made(5)
    sgd = torch.optim.SGD(trained(network), lr=1.0)
    before = torch.cat([p.detach().flatten() for p in trained(network)])
    training.train_epoch([(x, label)], network, cell, sgd, training.step_loss, 1e-3)
    after = torch.cat([p.detach().flatten() for p in trained(network)])
    assert float((after - before).norm()) == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("window", [7, 10, 30, 100])
def test_truncated_goes_through_the_whole_sequence(window):
    network, cell, x, label = made(6)
    whole = networks.run(x, network, cell).u
    seen = []

    def loss(u, part):
        seen.append((u.detach(), part))
        return training.step_loss(u, part)

    losses = list(training.truncated(x, label, network, cell, window, loss))
    assert len(losses) == -(-30 // window)
    assert torch.allclose(torch.cat([u for u, _ in seen]), whole, atol=1e-12)
    assert torch.equal(torch.cat([part for _, part in seen]), label)
    if window >= 30:
        full = torch.autograd.grad(training.step_loss(whole, label), trained(network))
        cut = torch.autograd.grad(losses[0], trained(network))
        assert all((a - b).abs().max() < 1e-12 for a, b in zip(full, cut, strict=True))


def test_truncated_ends_the_gradient_at_the_window():
    network, cell, x, label = made(6)
    x.requires_grad_()
    *_, last = training.truncated(x, label, network, cell, 10, training.step_loss)
    (gradient,) = torch.autograd.grad(last, x)
    assert not gradient[:20].any() and gradient[20:].any()
    with pytest.raises(UserError, match="window of 0 steps"):
        next(training.truncated(x, label, network, cell, 0, training.step_loss))


def layered(**changed):
    """A small network with a changed layer."""
    network = made(0)[0]
    return network._replace(layers=(network.layers[0]._replace(**changed),))


def stepped(x=None, sizes=(4, 9, 3), batch=4, cut=None, recurrent=True):
    """A step from the silent state of a network, or a state that is cut."""
    network, cell, given, _ = made(0, recurrent=recurrent)
    state = networks.zero_state(made(0, sizes)[0], batch)
    return networks.step(given[0] if x is None else x, state if cut is None else state._replace(u=[cut]), network, cell)


def epoch(batches, clip=None):
    network, cell, _, _ = made(0)
    return training.train_epoch(
        batches, network, cell, training.optimiser(network, 1e-2, 1.0, 1.0), training.step_loss, clip
    )


def drawn(sizes=(4, 9, 3), tau=(8.0, 15.0, 10.0), **how):
    return networks.network(sizes, tau, torch.Generator(), **how)


def cut(x, label, window=7):
    network, cell, _, _ = made(0)
    return list(training.truncated(x, label, network, cell, window, training.step_loss))


DOUBLE = torch.float64
X, LABEL = torch.zeros(30, 4, 4, dtype=DOUBLE), torch.zeros(30, 4, dtype=torch.int64)
U, NAN = torch.zeros(30, 4, 3), float("nan")
UNSOUND = made(0)[0]._replace(out=torch.cat([torch.zeros(9, 3, dtype=DOUBLE), torch.full((1, 3), NAN, dtype=DOUBLE)]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: networks.raw_constant(torch.tensor([5]), False),
            "time constants are torch.int64 up to 5; give finite",
        ),
        (lambda: networks.raw_constant(torch.tensor([math.inf]), True), "time constants are torch.float32 up to inf"),
        (lambda: drawn((4, 3)), "timescales: sizes are (4, 3); give inputs, one hidden layer or more, and classes"),
        (lambda: drawn((4, 0, 3)), "timescales: sizes are (4, 0, 3); give inputs"),
        (lambda: drawn(tau=(8.0, 15.0)), "timescales: time constants are (8.0, 15.0); give three of 1.5 or more"),
        (lambda: drawn(tau=(20e-3, 0.2, 20e-3)), "timescales: time constants are (0.02, 0.2, 0.02); give three of 1.5"),
        (lambda: drawn(spread=(3.0,)), "timescales: spread is (3.0,); give three standard deviations"),
        (lambda: drawn(spread=(-3.0, 0.0, 0.0)), "timescales: spread is (-3.0, 0.0, 0.0); give three"),
        (lambda: drawn(dtype=torch.int64), "timescales: dtype is torch.int64; give a floating-point one"),
        (
            lambda: networks.unroll(X, *made(0)[:2], networks.zero_state(made(0)[0], 1)),
            "timescales: input of a step has shape (4, 4); give (1, 4)",
        ),
        (lambda: networks.zero_state(made(0)[0], 0), "timescales: a batch of 0; give 1 or more"),
        (lambda: stepped(sizes=(4, 9, 9, 3)), "timescales: 1 hidden layers and a state of 2; give as many"),
        (lambda: stepped(X), "timescales: input of a step has shape (30, 4, 4); give (4, 4)"),
        (lambda: stepped(batch=1), "timescales: input of a step has shape (4, 4); give (1, 4)"),
        (lambda: stepped(X[0].float()), "timescales: input is torch.float32, weights are torch.float64; give the same"),
        (
            lambda: stepped(sizes=(4, 1, 3), recurrent=False),
            "timescales: a state has shapes (4, 1), (4, 1), (4, 1); give (4, 9)",
        ),
        (
            lambda: stepped(cut=torch.zeros(1, 9)),
            "timescales: a state has shapes (4, 9), (1, 9), (4, 9); give (4, 9) three",
        ),
        (
            lambda: training.step_loss(U, LABEL.T),
            "step_loss: potential (30, 4, 3), labels (4, 30); give (time, batch, cl",
        ),
        (lambda: training.step_loss(U, LABEL[:5]), "step_loss: potential (30, 4, 3), labels (5, 4); give"),
        (lambda: training.step_loss(U[:0], LABEL[:0]), "step_loss: potential (0, 4, 3), labels (0, 4); give"),
        (lambda: training.step_loss(U, LABEL.double()), "step_loss: labels are torch.float64; give int64"),
        (lambda: training.step_loss(U, LABEL, 30), "step_loss: skip is 30; give 0 to 29 steps"),
        (lambda: training.step_loss(U, LABEL, -3), "step_loss: skip is -3; give 0 to 29 steps"),
        (lambda: training.step_loss(U, LABEL - 1), "step_loss: no step has a label; give one or more"),
        (
            lambda: training.summed_softmax(U, 30),
            "summed_softmax: potential (30, 4, 3), skip 30; give (time, batch, cl",
        ),
        (lambda: training.summed_softmax(U, -3), "summed_softmax: potential (30, 4, 3), skip -3; give"),
        (lambda: training.summed_softmax(U[0]), "summed_softmax: potential (4, 3), skip 0; give"),
        (
            lambda: training.optimiser(made(0)[0], -1.0, 1.0, 1.0),
            "optimiser: rate -1.0, factors 1.0 and 1.0; give a pos",
        ),
        (
            lambda: training.optimiser(made(0)[0], 1e-2, 1.0, NAN),
            "optimiser: rate 0.01, factors 1.0 and nan; give a pos",
        ),
        (
            lambda: training.optimiser(drawn(), 1e-2, 1.0, 1.0),
            "optimiser: weights do not require a gradient; call requ",
        ),
        (lambda: epoch([]), "train_epoch: there are no batches; give one or more"),
        (lambda: epoch([(X, LABEL)], NAN), "train_epoch: clip is nan; give a positive norm, or None"),
        (lambda: epoch([(X, LABEL)], -1.0), "train_epoch: clip is -1.0; give a positive norm, or None"),
        (lambda: epoch([(X, LABEL[:, :1])]), "step_loss: potential (30, 4, 3), labels (30, 1); give"),
        (lambda: cut(X[:0], LABEL[:0]), "truncated: the input has no steps; give one or more"),
        (lambda: cut(X, LABEL[:28]), "truncated: labels for 28 steps, input of 30; give as many"),
    ],
)
def test_input_that_does_not_fit_is_refused(call, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}") as caught:
        call()
    assert "\n" not in str(caught.value)


GIVE = "timescales: input has shape {}; give (time, batch, 4), none of them empty"


@pytest.mark.parametrize(
    ("changed", "engine", "written"),
    [
        ({"network": made(0)[0]._replace(layers=())}, "timescales: the network has no hidden layer; give one", None),
        ({"x": X[0]}, GIVE.format("(4, 4)"), None),
        ({"x": X[:0]}, GIVE.format("(0, 4, 4)"), None),
        ({"x": X[..., :3]}, GIVE.format("(30, 4, 3)"), None),
        ({"x": X.float()}, "timescales: input is torch.float32, weights are torch.float64; give the same", None),
        (
            {"network": layered(w=torch.ones(5, 9))},
            "timescales: input is torch.float64, weights are torch.float32; give the same",
            None,
        ),
        ({"x": X + NAN}, "lif: the input holds NaN", "timescales: the input holds NaN or infinite values; give finite"),
        (
            {"cell": Cell(strength=NAN)},
            "timescales: strength is nan; give a finite",
            "timescales: threshold 0.1, strength nan",
        ),
        (
            {"cell": Cell(0.0)},
            "LIF: threshold must be positive",
            "timescales: threshold 0.0, strength 0.0; give a positive",
        ),
        ({"network": UNSOUND}, "timescales: the weights of the readout hold NaN", "timescales: the weights hold NaN"),
        (
            {"network": layered(v=torch.ones(9, 1, dtype=DOUBLE))},
            "lif: recurrent weights have shape (9, 1); give (9, 9)",
            "timescales: recurrent weights have shape (9, 1); give (9, 9)",
        ),
        (
            {"network": layered(mem=torch.ones(4, 1))},
            "lif: a time constant has not one entry for each of 9 neurons",
            "timescales: time constants of a layer have shapes (4, 1), (9,); give (9,)",
        ),
        (
            {"network": made(0)[0]._replace(last=torch.ones(2))},
            "lif: a time constant has not one entry for each of 3 neurons",
            "timescales: weights of the readout have shape (10, 3); give (10, 2)",
        ),
        (
            {"network": layered(mem=-torch.ones(9)), "cell": Cell(positive=False)},
            "LIF: tau_mem must be positive, in seconds",
            "timescales: a time constant is not positive; keep the raw ones above 0, or set positive=True",
        ),
    ],
)
def test_both_networks_refuse_what_does_not_fit(changed, engine, written):
    given = {"x": X, "network": made(0)[0], "cell": Cell()} | changed
    for run, message in ((networks.run, engine), (networks.unroll, written or engine)):
        with pytest.raises(UserError, match=f"^{re.escape(message)}") as caught:
            run(**given)
        assert "\n" not in str(caught.value)


def test_truncated_takes_one_label_a_sequence():
    network, cell, x, _ = made(7)
    label = torch.tensor([0, 1, 2, 0])
    given_labels = []
    list(training.truncated(x, label, network, cell, 15, lambda u, y: given_labels.append(y) or u.sum()))
    assert all(torch.equal(y, label) for y in given_labels) and len(given_labels) == 2
