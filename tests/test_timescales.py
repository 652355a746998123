"""Networks of adaptive neurons with trained time constants: the engine against the loop, gradients, truncation, losses."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snnrepro.errors import UserError
from snnrepro.neurons import LIF
from snnrepro.surrogate import derivative, lif
from snnrepro.timescales import networks, training
from snnrepro.timescales.networks import Cell, Layer, Network


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


def test_truncated_takes_one_label_a_sequence():
    network, cell, x, _ = made(7)
    label = torch.tensor([0, 1, 2, 0])
    given_labels = []
    list(training.truncated(x, label, network, cell, 15, lambda u, y: given_labels.append(y) or u.sum()))
    assert all(torch.equal(y, label) for y in given_labels) and len(given_labels) == 2
