"""Surrogate derivatives, layers, losses and training."""

import pytest
import torch

from snnrepro import surrogate
from snnrepro.errors import UserError
from snnrepro.neurons import LIF, Surrogate

X = torch.linspace(-3, 3, 601, dtype=torch.float64)


def test_asymptotic_integral_tends_to_the_step():
    x = torch.linspace(-50, 50, 1_000_001, dtype=torch.float64)
    area = torch.trapezoid(surrogate.derivative(Surrogate("asymptotic", 20.0))(x), x)
    assert float(area) == pytest.approx(2.0, abs=0.01)  # of its antiderivative, from -1 to 1


def test_unknown_surrogate_is_named():
    with pytest.raises(UserError, match="unknown surrogate 'relu'; known: step, fast_sigmoid"):
        surrogate.spike(X, Surrogate("relu", 1.0))


def test_a_spike_counted_twice_weighs_twice():
    zero = torch.zeros(2, dtype=torch.int64)
    drive = surrogate.project(surrogate.events(zero, zero, zero, (1, 1, 1)), torch.tensor([[0.7]]))
    assert float(drive) == pytest.approx(1.4)


@pytest.mark.parametrize(
    ("x", "w", "message"),
    [
        ((5, 0, 3), (3, 2), r"input has shape \(5, 0, 3\)"),
        ((5, 3), (3, 2), r"input has shape \(5, 3\)"),
        ((5, 2, 3), (4, 2), r"weights have shape \(4, 2\); give \(3, neurons\)"),
    ],
)
def test_bad_shapes_are_named(x, w, message):
    with pytest.raises(UserError, match=message):
        surrogate.lif(torch.zeros(x), torch.zeros(w), LIF())


def test_bad_recurrent_weights_and_engine_are_named():
    x, w = torch.zeros(4, 1, 3), torch.zeros(3, 2)
    with pytest.raises(UserError, match=r"recurrent weights have shape \(3, 3\); give \(2, 2\)"):
        surrogate.lif(x, w, LIF(), torch.zeros(3, 3))
    with pytest.raises(UserError, match="unknown engine 'gpu'"):
        surrogate.lif(x, w, LIF(), engine="gpu")


def small_task(seed=0):
    g = torch.Generator().manual_seed(seed)
    x = (torch.rand(30, 12, 8, generator=g) < 0.15).float()
    return x, torch.randint(2, (12,), generator=g), surrogate.initial_network((8, 6, 2), 0.7, g)


def test_training_lowers_the_loss_and_the_penalty_the_activity():
    p, results = LIF(), {}
    for strength in (0.0, 0.01):
        x, label, network = small_task()
        optimiser = torch.optim.Adam(network.weights().values(), lr=0.02)
        penalty = (lambda s, k=strength: surrogate.spytorch_penalty(s, k, 0.0)) if strength else None
        losses = surrogate.train(network, [(x, label)] * 60, p, optimiser, penalty)
        results[strength] = losses, surrogate.evaluate(network, [(x, label)], p)
    assert results[0.0][0][-1] < 0.6 * results[0.0][0][0]
    assert results[0.0][1][0] > 0.65
    assert results[0.01][1][1] < 0.8 * results[0.0][1][1]


@pytest.mark.parametrize("kind", ["Adam", "Adamax"])
def test_a_checkpoint_continues_bit_for_bit(kind):
    x, label, network = small_task()
    optimiser = getattr(torch.optim, kind)(network.weights().values(), lr=0.01)
    surrogate.train(network, [(x, label)] * 5, LIF(), optimiser)
    saved = surrogate.pack(network, optimiser)
    through = surrogate.train(network, [(x, label)] * 5, LIF(), optimiser)
    _, _, again = small_task(7)
    fresh = getattr(torch.optim, kind)(again.weights().values(), lr=0.01)
    surrogate.unpack(saved, again, fresh)
    assert surrogate.train(again, [(x, label)] * 5, LIF(), fresh) == through
    assert all(torch.equal(a, b) for a, b in zip(network.weights().values(), again.weights().values(), strict=True))


def test_one_step_of_one_neuron_has_a_gradient():
    w = torch.ones(1, 1, dtype=torch.float64, requires_grad=True)
    surrogate.lif(torch.ones(1, 1, 1).double(), w, LIF(current="new"), engine="fast").u.sum().backward()
    assert float(w.grad) == 1.0
