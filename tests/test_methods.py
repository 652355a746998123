"""Neurons, layers, losses and spike times against answers that come from somewhere else: by hand, in closed form, or brute force."""

import itertools
import math
from statistics import NormalDist

import numpy as np
import pytest
import torch

from snnrepro import neurons, surrogate
from snnrepro.first_spike import nonleaky
from snnrepro.neurons import LIF, State, Surrogate, lif_step, zero_state
from snnrepro.papers import neftci2019
from snnrepro.peers.lif import lif_snntorch
from snnrepro.surrogate import Network

SOFT = Surrogate("fast_sigmoid", 2.0)
CHOICES = [
    LIF(reset=reset, current=current, gain=gain, refractory=refractory, threshold=0.8, surrogate=SOFT)
    for reset, current, gain, refractory in itertools.product(
        ("subtract", "multiply", "zero", "none"), ("old", "new"), ("one", "exact"), (0, 3)
    )
]


def name(p: LIF) -> str:
    return f"{p.reset}-{p.current}-{p.gain}-{p.refractory}"


def problem(batch=2, recurrent=True, steps=40):
    """Input, weights and recurrent weights under which neurons spike often."""
    generator = torch.Generator().manual_seed(1)
    x = (torch.rand(steps, batch, 6, generator=generator) < 0.3).double()
    w = 0.4 + 0.4 * torch.randn(6, 4, generator=generator, dtype=torch.float64)
    v = 0.5 * torch.randn(4, 4, generator=generator, dtype=torch.float64) if recurrent else None
    return x, w, v


def uneven(p: LIF) -> LIF:
    return p._replace(tau_mem=np.array([5e-3, 10e-3, 20e-3, 8e-3]), tau_syn=np.array([4e-3, 10e-3, 6e-3, 3e-3]))


# Constants ----------------------------------------------------------------------------------------------------------


def test_decays_over_one_step():
    p = LIF(tau_mem=10e-3, tau_syn=5e-3, dt=1e-3)
    assert neurons.alpha(p) == pytest.approx(math.exp(-0.2))
    assert neurons.beta(p) == pytest.approx(math.exp(-0.1))


@pytest.mark.parametrize(("mem", "syn"), [(10e-3, 5e-3), (4e-3, 9e-3), (7e-3, 7e-3)])
def test_exact_gain_is_the_integral_of_the_differential_equation(mem, syn):
    # U(dt) for I(0) = 1, U(0) = 0, by the midpoint rule: integral of exp(-(dt - s) / mem) exp(-s / syn) / mem
    dt, n = 1e-3, 2000
    s = (np.arange(n) + 0.5) * dt / n
    integral = np.sum(np.exp(-(dt - s) / mem) * np.exp(-s / syn)) * dt / n / mem
    assert neurons.gain(LIF(tau_mem=mem, tau_syn=syn, dt=dt, gain="exact")) == pytest.approx(integral, rel=1e-6)


def test_leak_gain_keeps_a_constant_current_where_it_is():
    p = LIF(gain="leak")
    assert neurons.beta(p) * 1.7 + neurons.gain(p) * 1.7 == pytest.approx(1.7)


# One step by hand: alpha = beta = 1/2, gain 1, threshold 1 -------------------------------------------------------------

HALF = LIF(tau_mem=1.0 / math.log(2), tau_syn=1.0 / math.log(2), dt=1.0)


def walk(p: LIF, drives, v=None) -> list[State]:
    """The states that a layer shows: with the old current from the zero state on, with the new one from the first step on."""
    states = [zero_state(drives[0].shape)]
    for drive in drives:
        states.append(lif_step(states[-1], drive, p, v))
    return states[:-1] if p.current == "old" else states[1:]


def potentials(p: LIF, drive, steps=6) -> list[float]:
    drives = [np.array([drive[t] if t < len(drive) else 0.0]) for t in range(steps)]
    return [float(state.u[0]) for state in walk(p, drives)]


@pytest.mark.parametrize(
    ("reset", "expected"),
    [
        ("none", [0, 0, 4, 4, 3, 2]),  # I: 0 4 2 1 1/2 1/4
        ("subtract", [0, 0, 4, 3, 1.5, 0.25]),
        ("multiply", [0, 0, 4, 0, 1, 1]),
        ("zero", [0, 0, 4, 2, 1, 1]),
    ],
)
def test_resets_by_hand_with_the_old_current(reset, expected):
    assert potentials(HALF._replace(reset=reset), [4.0]) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("reset", "expected"),
    [
        ("none", [4, 4, 3, 2]),  # I: 4 2 1 1/2
        ("subtract", [4, 3, 1.5, 0.25]),
        ("multiply", [4, 0, 1, 1]),
        ("zero", [4, 2, 1, 1]),
    ],
)
def test_resets_by_hand_with_the_new_current(reset, expected):
    assert potentials(HALF._replace(reset=reset, current="new"), [4.0], steps=4) == pytest.approx(expected)


def test_a_subtractive_reset_takes_away_the_threshold():
    assert potentials(HALF._replace(reset="subtract", threshold=3.0), [4.0])[:4] == pytest.approx([0, 0, 4, 1])


def test_refractory_steps_hold_the_membrane_and_count_the_spike_itself():
    p = HALF._replace(reset="zero", refractory=3)
    assert potentials(p, [8.0], steps=7) == pytest.approx([0, 0, 8, 0, 0, 1, 1])


def test_a_neuron_at_the_threshold_is_silent():
    x = torch.tensor([-0.1, 0.0, 0.1])
    assert surrogate.spike(x, SOFT).tolist() == [0, 0, 1]
    trace = surrogate.lif(torch.ones(4, 1, 1).double(), torch.tensor([[1.0]]).double(), HALF._replace(reset="none"))
    assert trace.u[2].item() == 1.0
    assert trace.spikes[:, 0, 0].tolist() == [0, 0, 0, 1]


# Layers -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["reference", "fast"])
@pytest.mark.parametrize("p", CHOICES, ids=name)
def test_layer_repeats_the_step(p, engine):
    p = uneven(p)
    x, w, v = problem()
    trace = surrogate.lif(x, w, p, v, engine=engine)
    rows = walk(p, (x @ w).numpy(), v.numpy())
    for ours, field in ((trace.spikes, "s"), (trace.u, "u"), (trace.i, "i")):
        assert np.allclose(ours, [getattr(row, field) for row in rows], atol=1e-12)
    assert trace.spikes.sum() >= 20


def gradients(p, engine, recurrent):
    x, w, v = problem(recurrent=recurrent)
    leaves = [tensor.requires_grad_() for tensor in (x, w, v) if tensor is not None]
    trace = surrogate.lif(x, w, p, v, engine=engine)
    generator = torch.Generator().manual_seed(2)
    loss = sum((torch.randn(part.shape, generator=generator, dtype=torch.float64) * part).sum() for part in trace[:3])
    return torch.autograd.grad(loss, leaves)


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("flags", [(False, True), (True, False), (True, True)], ids=["recurrence", "reset", "both"])
@pytest.mark.parametrize("p", CHOICES, ids=name)
def test_hand_written_gradient_is_the_automatic_one(p, flags, recurrent):
    p = uneven(p)._replace(reset_gradient=flags[0], recurrent_gradient=flags[1])
    for slow, fast in zip(gradients(p, "reference", recurrent), gradients(p, "fast", recurrent), strict=True):
        assert torch.allclose(slow, fast, atol=1e-10 * float(slow.abs().max()))


@pytest.mark.parametrize("surrogate_name", surrogate.DERIVATIVES)
def test_every_surrogate_is_the_same_in_both_engines(surrogate_name):
    p = LIF(surrogate=Surrogate(surrogate_name, 3.0))
    for slow, fast in zip(gradients(p, "reference", True), gradients(p, "fast", True), strict=True):
        assert torch.allclose(slow, fast, atol=1e-10 * max(float(slow.abs().max()), 1e-30))


@pytest.mark.parametrize("engine", ["reference", "fast"])
def test_gradient_of_one_input_by_hand(engine):
    # drive d -> I[1] = d -> U[2] = d -> S[2]; S'(x) = 1 / (1 + 2 |x|)^2; the reset at step 3 is detached, or is not
    d = torch.tensor([[2.0]], dtype=torch.float64, requires_grad=True)
    x = torch.zeros(4, 1, 1).double()
    x[0] = 1.0
    p = HALF._replace(surrogate=SOFT, reset="subtract", threshold=1.5)
    (slope,) = torch.autograd.grad(surrogate.lif(x, d, p, engine=engine).spikes[2].sum(), d)
    assert slope.item() == pytest.approx(1 / (1 + 2 * 0.5) ** 2)
    for through, expected in ((False, 1.0), (True, 1.0 - 1.5 * 0.25)):  # U[3] = U[2] / 2 + I[2] - 1.5 S[2]
        u = surrogate.lif(x, d, p._replace(reset_gradient=through), engine=engine).u[3].sum()
        assert torch.autograd.grad(u, d)[0].item() == pytest.approx(expected)


@pytest.mark.parametrize("engine", ["reference", "fast"])
@pytest.mark.parametrize("through", [True, False])
def test_gradient_through_a_recurrent_weight_by_hand(engine, through):
    # S_0[2] enters I_1[3] = v_01 S_0[2]; row = sender
    d = torch.tensor([[2.0, 0.0]], dtype=torch.float64, requires_grad=True)
    v = torch.tensor([[0.0, 0.7], [0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    x = torch.zeros(5, 1, 1).double()
    x[0] = 1.0
    p = HALF._replace(surrogate=SOFT, recurrent_gradient=through)
    i = surrogate.lif(x, d, p, v, engine=engine).i
    assert i[:, 0, 1].tolist() == pytest.approx([0, 0, 0, 0.7, 0.35])
    to_d, to_v = torch.autograd.grad(i[3, 0, 1], (d, v), allow_unused=True)
    assert to_v.flatten().tolist() == pytest.approx([0, 1, 0, 0])
    assert (0.0 if to_d is None else to_d[0, 0].item()) == pytest.approx(0.7 / 9 if through else 0.0)


def test_snntorch_gives_the_same_spikes_and_gradient():
    x, w, _ = problem(recurrent=False, steps=80)
    p = LIF(reset="subtract", current="new", surrogate=Surrogate("fast_sigmoid", 5.0))
    target = torch.randn(80, 2, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    found = []
    for layer in (lambda w: surrogate.lif(x, w, p).spikes, lambda w: lif_snntorch(x, w, p)):
        leaf = w.clone().requires_grad_()
        spikes = layer(leaf)
        found.append((spikes.detach(), torch.autograd.grad((spikes * target).sum(), leaf)[0]))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.allclose(found[0][1], found[1][1], rtol=1e-6)


def test_events_stand_for_their_dense_pattern():
    x = torch.zeros(3, 2, 4).double()
    x[0, 1, 3] = x[2, 0, 1] = x[2, 0, 2] = x[1, 1, 0] = 1.0
    w = torch.arange(8.0).view(4, 2).double().requires_grad_()
    sparse = surrogate.events(*x.nonzero(as_tuple=True), tuple(x.shape))
    target = torch.arange(12.0).view(3, 2, 2).double()
    for given in (x, sparse):
        assert torch.equal(surrogate.project(given, w), x @ w)
        (slope,) = torch.autograd.grad((surrogate.project(given, w) * target).sum(), w)
        assert torch.equal(slope, torch.einsum("tbi,tbn->in", x, target))


@pytest.mark.parametrize(
    ("current", "expected"), [("old", [0, 0, 0, 3, 3, 2.25]), ("new", [0, 0, 3, 3, 2.25, 1.5])], ids=["old", "new"]
)
def test_readout_is_a_leaky_sum_that_never_resets(current, expected):
    x = torch.zeros(5, 1, 1).double()
    x[1] = 1.0  # I: 3 3/2 3/4 ...; entry 0 is the zero state
    u = surrogate.readout(x, torch.tensor([[3.0]]).double(), HALF._replace(current=current))
    assert u[:, 0, 0].tolist() == pytest.approx(expected)


# Surrogates ---------------------------------------------------------------------------------------------------------

CLOSED_FORMS = {
    "step": (0.0, 0.0, 0.0),  # at x = -0.1, 0, 0.4 for slope 5
    "fast_sigmoid": (1 / 1.5**2, 1.0, 1 / 9),
    "asymptotic": (5 / 1.5**2, 5.0, 5 / 9),
    "piecewise_linear": (0.5, 1.0, 0.0),
    "exponential": (math.exp(-0.5), 1.0, math.exp(-2)),
    "sigmoid": (0.25 / math.cosh(0.25) ** 2, 0.25, 0.25 / math.cosh(1.0) ** 2),
    "constant": (1.0, 1.0, 1.0),
    "gaussian": tuple(5 * math.exp(-12.5 * x * x) / math.sqrt(2 * math.pi) for x in (-0.1, 0.0, 0.4)),
    "multi_gaussian": tuple(
        1.15 * NormalDist(0, 0.2).pdf(x) - 0.15 * (NormalDist(0.2, 1.2).pdf(x) + NormalDist(-0.2, 1.2).pdf(x))
        for x in (-0.1, 0.0, 0.4)
    ),
}


@pytest.mark.parametrize("surrogate_name", surrogate.DERIVATIVES)
def test_a_spike_passes_its_surrogate_derivative(surrogate_name):
    x = torch.tensor([-0.1, 0.0, 0.4], dtype=torch.float64, requires_grad=True)
    (2 * surrogate.spike(x, Surrogate(surrogate_name, 5.0))).sum().backward()
    assert (x.grad / 2).tolist() == pytest.approx(CLOSED_FORMS[surrogate_name])


# Scores, losses, penalties ------------------------------------------------------------------------------------------


def test_scores():
    u = torch.tensor([[[0.0, 1.0]], [[3.0, -2.0]], [[-1.0, 0.5]]])
    assert surrogate.max_over_time(u).tolist() == [[3.0, 1.0]]
    assert surrogate.last_step(u).tolist() == [[-1.0, 0.5]]


def test_loss_is_the_mean_over_the_batch():
    score = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]])
    label = torch.tensor([1, 0])
    assert surrogate.classification_loss(score, label).item() == pytest.approx((math.log(4 / 3) + math.log(2)) / 2)


def test_a_tie_counts_by_its_share():
    score = torch.tensor([[0.0, 0.0, 0.0], [1.0, 2.0, 0.0], [5.0, 5.0, 0.0], [5.0, 5.0, 6.0]])
    assert surrogate.accuracy(score, torch.tensor([0, 1, 1, 0])) == pytest.approx((1 / 3 + 1 + 1 / 2 + 0) / 4)


SPIKES = torch.tensor(
    [[[1.0, 0], [1, 0]], [[1, 1], [0, 0]], [[1, 0], [0, 0]]]
)  # counts: trial 0 (3, 1), trial 1 (1, 0)


def test_spytorch_penalty_by_hand():
    assert surrogate.spytorch_penalty(SPIKES, 1.0, 0.0).item() == 5.0
    assert surrogate.spytorch_penalty(SPIKES, 0.0, 1.0).item() == pytest.approx((4**2 + 1**2) / 2)


def test_bounds_by_hand():
    assert surrogate.lower_bound(SPIKES, 2.0, 2.0).item() == pytest.approx(2 * (0 + 1 + 1 + 4) / 4)
    assert surrogate.upper_bound(SPIKES, 2.0, 1.0).item() == pytest.approx(2 * (1 + 0) / 2)


# Training -----------------------------------------------------------------------------------------------------------


def test_initial_weights_have_the_scale_of_their_fan_in():
    network = surrogate.initial_network((400, 100, 900), 2.0, torch.Generator().manual_seed(0))
    assert float(network.hidden[0].detach().std()) == pytest.approx(2 / 20, rel=0.02)
    assert float(network.output.detach().std()) == pytest.approx(2 / 10, rel=0.02)


def test_an_update_follows_the_gradient_of_its_own_batch():
    generator = torch.Generator().manual_seed(4)
    network = surrogate.initial_network((6, 5, 2), 3.0, generator)
    p = LIF(surrogate=SOFT)
    batches = [((torch.rand(30, n, 6, generator=generator) < 0.4).float(), torch.arange(n) % 2) for n in (3, 4)]
    mine = Network(
        (network.hidden[0].detach().clone().requires_grad_(),), network.output.detach().clone().requires_grad_()
    )
    surrogate.train(network, batches, p, torch.optim.SGD(network.weights().values(), lr=0.1), lambda s: 0.01 * s.sum())
    for x, label in batches:
        score, hidden = surrogate.classify(x, mine, p)
        loss = torch.nn.functional.cross_entropy(score, label) + 0.01 * hidden[0].sum()
        leaves = list(mine.weights().values())
        for w, slope in zip(leaves, torch.autograd.grad(loss, leaves), strict=True):
            w.data -= 0.1 * slope
    for ours, by_hand in zip(network.weights().values(), mine.weights().values(), strict=True):
        assert torch.allclose(ours, by_hand, atol=1e-6)


def test_evaluation_weighs_samples_not_batches():
    x = torch.zeros(10, 3, 1)
    x[0, 0] = 1.0
    network = Network((torch.tensor([[20.0]]),), torch.tensor([[1.0, 0.0]]))
    p = LIF(reset="none")
    count = surrogate.lif(x, network.hidden[0], p).spikes.sum().item()
    label = torch.tensor([0, 1, 1])
    batches = [(x[:, :1], label[:1]), (x[:, 1:], label[1:])]
    accuracy, spikes = surrogate.evaluate(network, batches, p)
    assert (accuracy, spikes) == pytest.approx(((1 + 0.5 + 0.5) / 3, count / 3))


# First spikes -------------------------------------------------------------------------------------------------------


def race(seed, inputs=6, neurons_=5):
    generator = torch.Generator().manual_seed(seed)
    times = 2 * torch.rand(3, inputs, generator=generator, dtype=torch.float64)
    return torch.exp(times), 0.3 + 0.6 * torch.randn(inputs, neurons_, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("seed", range(4))
def test_spike_times_are_where_the_membrane_first_reaches_the_threshold(seed):
    z, w = race(seed)
    found = torch.log(nonleaky.spike_times(z, w)).numpy()
    t = np.linspace(0, 12, 60001)
    for sample, arrivals in enumerate(torch.log(z).numpy()):
        psp = np.maximum(0.0, 1 - np.exp(-np.maximum(0.0, t[:, None] - arrivals)))
        above = psp @ w.numpy() >= 1.0
        brute = np.where(above.any(0), t[above.argmax(0)], np.inf)
        reached = np.isfinite(found[sample]) & (found[sample] < 12)
        assert np.array_equal(reached, np.isfinite(brute))
        assert np.allclose(found[sample][reached], brute[reached], atol=3e-4)
    assert np.isfinite(found).any()


@pytest.mark.parametrize("seed", range(4))
def test_spike_time_gradient_is_the_finite_difference(seed):
    z, w = race(seed)
    out = nonleaky.spike_times(z, w)
    weight = torch.where(torch.isfinite(out) & (out < 1e3), 1.0, 0.0)

    def total(z, w):
        return (torch.where(weight > 0, nonleaky.spike_times(z, w), 0.0) * weight).sum()

    leaves = [tensor.clone().requires_grad_() for tensor in (z, w)]
    for k, slope in enumerate(torch.autograd.grad(total(*leaves), leaves)):
        for at in np.ndindex(*slope.shape):
            nearby = []
            for step in (1e-7, -1e-7):
                moved = [z.clone(), w.clone()]
                moved[k][at] += step
                nearby.append(total(*moved).item())
            assert slope[at].item() == pytest.approx((nearby[0] - nearby[1]) / 2e-7, rel=1e-3, abs=1e-4)


def test_weight_sum_penalty_by_hand():
    w = torch.tensor([[1.0, 0.2], [1.0, 0.3]])
    assert nonleaky.weight_sum_penalty(w, 1.5).item() == pytest.approx(1.0)


def test_membrane_rises_to_the_threshold_and_ends_with_the_spike():
    z, w = race(0)
    t = torch.linspace(0, 8, 8001, dtype=torch.float64)
    u = nonleaky.membrane(t, z[0], w)
    out = torch.log(nonleaky.spike_times(z[:1], w))[0]
    fires = torch.isfinite(out) & (out < 8)
    assert fires.any()
    assert torch.allclose(u.amax(0)[fires], torch.ones(int(fires.sum())).double(), atol=5e-3)
    assert (u[t > out[fires].max()][:, fires] == 0).all()


# The paper ----------------------------------------------------------------------------------------------------------


def test_weight_scale_of_the_tutorials():
    assert pytest.approx(7 * (1 - math.exp(-0.1))) == neftci2019.WEIGHT_SCALE


def test_true_gradient_adds_up_to_the_loss():
    config = neftci2019.Interpolation(updates=10, draws=1, points=20, slopes=(10.0,))
    arrays = neftci2019.interpolation(config, 0, lambda *_, **__: None, None).arrays
    assert arrays["true"].sum() / 20 == pytest.approx(arrays["loss"][-1] - arrays["loss"][0])


def test_xor_is_solved_by_the_first_spike():
    config = neftci2019.Xor()
    solved = [neftci2019.xor(config, seed, lambda *_, **__: None, None).metrics["solved"] for seed in range(2)]
    assert max(solved) == 1.0
