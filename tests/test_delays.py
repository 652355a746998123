"""Learned delays: by hand, against networks without, finite differences and the reference engine."""

import math
import re

import pytest
import torch

from snnrepro.errors import UserError
from snnrepro.first_spike import ttfs
from snnrepro.first_spike.delays import Delays, delay_of, delayed, initial_delays, run
from snnrepro.first_spike.exact import Neuron, spike_times

T = 2 * torch.rand(30, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
SHAPES = {"axonal": ((4,), (6,)), "shared": ((2,), (3,)), "synaptic": ((4, 6), (6, 3))}
EACH = pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES)


def network(bias=None) -> ttfs.Network:
    draw = ttfs.Initial(1.2, 0.6)
    return ttfs.initial_network((4, 6, 3), (draw, draw), (bias, bias), torch.Generator().manual_seed(2))


def delays(shapes=SHAPES["axonal"], **how) -> Delays:
    return initial_delays(shapes, 0.7, torch.Generator().manual_seed(5), **how)


def test_a_delay_by_hand():
    given = Delays((torch.tensor([0.0, math.log(3)], dtype=torch.float64),), shortest=2.0, span=1.5)
    assert delay_of(given, 0).tolist() == pytest.approx([2.75, 2 + 1.5 * 0.75])
    t = torch.tensor([[0.5, 1.0, 0.0, math.inf]], dtype=torch.float64)
    assert delayed(t, given, 0).tolist() == [pytest.approx([3.25, 3.75, 3.125, math.inf])]  # two inputs a delay


def test_a_synapse_has_a_delay_of_its_own():
    raw = torch.tensor([[-math.inf, math.inf], [0.0, -math.inf]], dtype=torch.float64)
    found = delayed(torch.tensor([[1.0, 2.0]], dtype=torch.float64), Delays((raw,), 0.5, 2.0), 0)
    assert found.tolist() == [[[1.5, 3.5], [3.5, 2.5]]]


@pytest.mark.parametrize("p", [Neuron(), Neuron(tau_mem=2.0)], ids=["equal", "double"])
@EACH
def test_equal_delays_shift_every_layer(shapes, p):
    plain = ttfs.run(network(), T, p)
    late = run(network(), delays(shapes, shortest=0.25, span=0.0), T, p)
    for k, (ours, theirs) in enumerate(zip(late, plain, strict=True)):
        assert torch.isfinite(theirs).any()
        torch.testing.assert_close(ours, theirs + 0.25 * (k + 1), rtol=0, atol=1e-12)


def test_synapses_with_equal_delays_are_an_axon():
    axonal = delays()
    raw = tuple(d.detach()[:, None].repeat(1, n) for d, n in zip(axonal.raw, (6, 3), strict=True))
    for ours, theirs in zip(run(network(), Delays(raw), T, Neuron()), run(network(), axonal, T, Neuron()), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def slowly(net: ttfs.Network, given: Delays, t: torch.Tensor, p: Neuron) -> torch.Tensor:
    """Label times neuron by neuron, input by input, with the reference engine."""
    for w, raw in zip(net.weights, given.raw, strict=True):
        each = given.shortest + given.span / (1 + torch.exp(-raw))
        block = len(w) // len(each)
        columns = []
        for j in range(w.shape[1]):
            own = [each[i, j] if each.ndim == 2 else each[i // block] for i in range(len(w))]
            late = torch.stack([t[:, i] + own[i] for i in range(len(w))], 1)
            columns.append(spike_times(late, w[:, j : j + 1], p, engine="reference"))
        t = torch.cat(columns, 1)
    return t


@pytest.mark.parametrize("p", [Neuron(), Neuron(tau_mem=2.0)], ids=["equal", "double"])
@EACH
def test_gradient_is_that_of_the_reference(shapes, p):
    given, net = delays(shapes, shortest=0.3, span=0.8), network()
    leaves = [*given.raw, *net.weights]
    ours, theirs = run(net, given, T, p)[-1], slowly(net, given, T, p)
    spiked = torch.isfinite(theirs)
    assert spiked.float().mean() > 0.5
    assert torch.equal(spiked, torch.isfinite(ours))
    torch.testing.assert_close(ours[spiked], theirs[spiked], rtol=1e-10, atol=1e-10)
    # Samples whose neurons all spike: the reference has no gradient where one is silent.
    whole = spiked.all(1)
    pairs = zip(*(torch.autograd.grad(found[whole].square().sum(), leaves) for found in (ours, theirs)), strict=True)
    for one, other in pairs:
        assert float(other.abs().max()) > 0
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9)


@EACH
def test_gradient_is_the_finite_difference(shapes):
    given, net = delays(shapes), network()
    weight = torch.rand(30, 3, generator=torch.Generator().manual_seed(8), dtype=torch.float64)

    def loss(raw) -> torch.Tensor:
        found = run(net, given._replace(raw=tuple(raw)), T, Neuron())[-1]
        return (weight * torch.where(torch.isfinite(found), found, 0.0)).sum()

    exact = torch.autograd.grad(loss(given.raw), given.raw)
    for k, gradient in enumerate(exact):
        for place in list(torch.cartesian_prod(*(torch.arange(n) for n in gradient.shape)).reshape(-1, gradient.ndim))[
            :8
        ]:
            sides = []
            for step in (1e-6, -1e-6):
                raw = [d.detach().clone() for d in given.raw]
                raw[k][tuple(place)] += step
                sides.append(loss(raw).item())
            assert (sides[0] - sides[1]) / 2e-6 == pytest.approx(gradient[tuple(place)].item(), rel=1e-5, abs=1e-7)


def test_a_delay_learns_when_a_spike_must_come():
    """One input, one neuron: the spike is asked for at 2.0, weights are left alone."""
    net = ttfs.Network((torch.full((1, 1), 3.0, dtype=torch.float64),), (None,))
    given, t = initial_delays(((1,),), 0.0, torch.Generator(), span=3.0), torch.zeros(1, 1, dtype=torch.float64)
    optimiser = torch.optim.Adam(given.raw, lr=0.05)
    for _ in range(200):
        optimiser.zero_grad()
        (run(net, given, t, Neuron())[-1] - 2.0).square().sum().backward()
        optimiser.step()
    assert run(net, given, t, Neuron())[-1].item() == pytest.approx(2.0, abs=1e-3)
    alone = ttfs.run(net, t, Neuron())[-1].item()
    assert delay_of(given, 0).item() == pytest.approx(2.0 - alone, abs=1e-3)


@pytest.mark.parametrize("shapes", [(), ((2, 2, 2),), ((0,),)])
def test_shapes_of_no_delays_are_refused(shapes):
    message = f"initial_delays: shapes are {shapes}; give (delays,) or (inputs, neurons) for each layer"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        delays(shapes)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: delays(span=-1.0), "initial_delays: span is -1.0; give 0 or more, and finite"),
        (lambda: delays(shortest=math.nan), "initial_delays: shortest is nan; give 0 or more, and finite"),
        (
            lambda: initial_delays(((2,),), math.inf, torch.Generator()),
            "initial_delays: sd is inf; give 0 or more, and finite",
        ),
        (
            lambda: delayed(T, delays(((3,),)), 0),
            "delayed: times have shape (30, 4); give (batch, inputs) with a multiple of 3 inputs",
        ),
        (
            lambda: delayed(T[0], delays(((4,),)), 0),
            "delayed: times have shape (4,); give (batch, inputs) with a multiple of 4 inputs",
        ),
        (
            lambda: delayed(T, delays(((5, 6),)), 0),
            "delayed: times have shape (30, 4); give (batch, 5) to fit the delays",
        ),
        (
            lambda: run(network(), delays(((4,),)), T, Neuron()),
            "delays: delays for 1 layers, 2 layers; give one of each a layer",
        ),
        (
            lambda: run(network(0.9), delays(), T, Neuron()),
            "delays: the network has a bias; a bias spikes when it should, give it among the inputs",
        ),
        (
            lambda: run(network(), delays(((4, 5), (6, 3))), T, Neuron()),
            "delays: synaptic delays of 5 neurons in layer 1, it has 6",
        ),
    ],
)
def test_what_does_not_fit_is_named(call, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        call()
