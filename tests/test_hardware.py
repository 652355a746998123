"""Substrates: each part by hand, chips, placement, deployment, running, training in the loop and on simulated chips."""

import dataclasses
import itertools
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.special import lambertw

from snnrepro import surrogate
from snnrepro.errors import UserError
from snnrepro.files import write_npz
from snnrepro.first_spike import exact, ttfs
from snnrepro.first_spike.exact import Neuron
from snnrepro.first_spike.ttfs import Initial
from snnrepro.hardware import presets
from snnrepro.hardware.networks import Stepped, Timed
from snnrepro.hardware.parts import (
    LEAST,
    QUANTITIES,
    Cost,
    Events,
    FixedPattern,
    Limits,
    Readout,
    Source,
    TimeGrid,
    TrialNoise,
    WeightGrid,
    signed_bits,
)
from snnrepro.hardware.presets import IDEAL, preset
from snnrepro.hardware.substrate import (
    Chip,
    HardwareAware,
    InTheLoop,
    Observables,
    PlacementError,
    Substrate,
    load_chip,
)
from snnrepro.neurons import LIF, Adaptation, Surrogate, lif_step, zero_state

P = LIF(
    tau_mem=10e-3, tau_syn=5e-3, reset="subtract", current="new", gain="leak", surrogate=Surrogate("fast_sigmoid", 4.0)
)


def spread(sd, *quantities, mean=0.0):
    substrate = IDEAL
    for quantity in quantities:
        substrate = substrate | FixedPattern(quantity, sd, mean)
    return substrate


def stepped(seed=0, sizes=(6, 10, 3), recurrent=True, p=P, dtype=torch.float64, samples=4, steps=40):
    """A network in which neurons spike often, and input."""
    g = torch.Generator().manual_seed(seed)
    first, last, around = (
        torch.randn(n, m, generator=g, dtype=dtype) for n, m in ((sizes[0], sizes[1]), sizes[1:], (sizes[1], sizes[1]))
    )
    weights = surrogate.Network(
        ((2 + 2 * first).requires_grad_(),),
        last.requires_grad_(),
        ((0.5 * around).requires_grad_(),) if recurrent else (),
    )
    x = (torch.rand(steps, samples, sizes[0], generator=g) < 0.3).to(dtype)
    return Stepped(weights, p, p), x


def timed(seed=0, sizes=(8, 10, 4), p=Neuron(), samples=6):  # noqa: B008
    g = torch.Generator().manual_seed(seed)
    net = ttfs.initial_network(sizes, (Initial(1.0, 0.7), Initial(0.8, 0.7)), (0.9, None), g)
    return Timed(net, p), 3 * torch.rand(samples, sizes[0], generator=g, dtype=torch.float64)


def nominal(quantity, p=P):
    """The nominal value of a quantity of neurons `p`."""
    return 1.0 if quantity == "gain" else getattr(p, quantity)


def leaves(net):
    return [w for layer in net.layers() for w in (layer.w, layer.v) if w is not None]


def gradient(net, output):
    value = (torch.where(torch.isfinite(output), output, 0.0) ** 2).sum()
    return torch.autograd.grad(value, leaves(net))


# Parts ----------------------------------------------------------------------------------------------------------------------


def test_weights_by_hand():
    """A step of 1/2, levels -3 .. 3: nearest, halves away from zero, clipped."""
    w = torch.tensor([0.0, 0.24, 0.25, -0.25, 0.76, -0.74, 1.4, 1.6, -9.0])
    held = WeightGrid(-3, 3, 0.5).hold(w)
    assert held.levels.tolist() == [0, 0, 1, -1, 2, -1, 3, 3, -3]
    assert held.clipped == pytest.approx(1 / 9)  # 1.6 is nearest to 3 steps; only -9 lies outside
    assert WeightGrid(-3, 3, 0.5).apply(w).tolist() == [0, 0, 0.5, -0.5, 1, -0.5, 1.5, 1.5, -1.5]


def test_without_a_step_the_largest_weight_takes_the_last_level():
    w = torch.tensor([1.0, -2.0, 0.4])
    assert WeightGrid(-4, 4).hold(w).levels.tolist() == [2, -4, 1]
    held = WeightGrid(-4, 1).hold(w)  # here 1 is the largest compared with its range
    assert (held.step, held.levels.tolist(), held.clipped) == (1.0, [1, -2, 0], 0.0)
    assert WeightGrid(-4, 4).hold(torch.zeros(3)).levels.tolist() == [0, 0, 0]


def test_bits_of_a_grid():
    assert [signed_bits(b).highest for b in (2, 3, 6, 8)] == [1, 3, 31, 127]
    assert [signed_bits(b).bits for b in (2, 3, 6, 8)] == [2, 3, 6, 8]
    assert WeightGrid(-128, 127).bits == 8
    assert WeightGrid(-63, 63).bits == 7  # six bits and a sign
    assert WeightGrid().bits == math.inf


def test_gradients_pass_a_grid_straight_through():
    w = torch.tensor([0.3, 5.0, -5.0], requires_grad=True)
    (WeightGrid(-2, 2, 0.5).apply(w) * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert w.grad.tolist() == [1, 2, 3]


def test_keep_pulls_weights_into_range():
    w = torch.tensor([0.3, 5.0, -5.0], requires_grad=True)
    WeightGrid(-2, 3, 0.5).keep(w)
    assert w.tolist() == pytest.approx([0.3, 1.5, -1.0])
    WeightGrid().keep(w)
    WeightGrid(-2, 2).keep(w)
    assert w.tolist() == pytest.approx([0.3, 1.5, -1.0])


def test_a_pattern_by_hand():
    z = np.array([0.0, 1.0, -1.0, -20.0])
    assert FixedPattern("threshold", 0.1, 0.05).realised(2.0, z) == pytest.approx([2.1, 2.3, 1.9, 2 * LEAST])
    assert FixedPattern("gain", 0.5).realised(np.array([1.0, 2.0, 4.0, 1.0]), z) == pytest.approx([1, 3, 2, LEAST])


def test_patterns_have_the_spread_they_say():
    """As rockpool draws it: normal around the nominal value, with a relative standard deviation."""
    chips = [spread(0.1, "tau_mem", mean=0.02).fabricate(seed) for seed in range(10)]
    values = np.concatenate([chip.own("tau_mem", 3.0, np.arange(1000)) for chip in chips])
    n = len(values)
    assert values.mean() == pytest.approx(3.06, abs=3 * 0.3 / n**0.5)
    assert values.std() == pytest.approx(0.3, abs=3 * 0.3 / (2 * n) ** 0.5)
    assert abs(np.corrcoef(*(c.own("tau_mem", 3.0, np.arange(1000)) for c in chips[:2]))[0, 1]) < 0.1


def test_a_readout_by_hand():
    """Two bits from -1 to 2: -1, 0, 1, 2."""
    readout, random = Readout(2, -1.0, 2.0), np.random.default_rng(0)
    u = torch.tensor([-3.0, -0.6, -0.4, 0.6, 1.4, 1.6, 9.0], requires_grad=True)
    read = readout.read(u, random)
    assert read.tolist() == [-1, -1, 0, 1, 1, 2, 2]
    read.sum().backward()
    assert u.grad.tolist() == [1] * 7


def test_the_range_of_a_readout_counts_in_thresholds():
    readout, u = Readout(4, -1.0, 2.0, 0.5), torch.linspace(-3, 4, 50, dtype=torch.float64)
    read = readout.read(u, np.random.default_rng(0))
    assert torch.equal(4 * read, readout.read(4 * u, np.random.default_rng(0), 4.0))


def test_noise_of_a_readout_counts_in_steps():
    readout = Readout(8, 0.0, 255.0, 3.0)
    read = readout.read(torch.full((20_000,), 100.0), np.random.default_rng(1))
    assert read.mean().item() == pytest.approx(100, abs=0.1)
    assert read.std().item() == pytest.approx(math.hypot(3, 12**-0.5), abs=0.06)


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: WeightGrid(0, 3), "lowest"),
        (lambda: WeightGrid(-3), "both"),
        (lambda: WeightGrid(-3, 3, 0.0), "step"),
        (lambda: signed_bits(1), "2 or more"),
        (lambda: signed_bits(2.5), "whole number, 2 or more"),
        (lambda: FixedPattern("leak"), "unknown quantity 'leak'"),
        (lambda: FixedPattern("gain", -0.1), "sd"),
        (lambda: FixedPattern("gain", 0.1, math.nan), "mean"),
        (lambda: TrialNoise(-1.0), "threshold"),
        (lambda: TrialNoise(0.0, math.nan), "time"),
        (lambda: TimeGrid(0.0), "step"),
        (lambda: Events(1.0), "loss"),
        (lambda: Readout(8, 1.0, 1.0), "high"),
        (lambda: Readout(8, -math.inf, 1.0), "low"),
        (lambda: Limits(circuits=0), "circuits is 0"),
        (lambda: Readout(0), "bits"),
        (lambda: Readout(noise=-1.0), "noise"),
        (lambda: Substrate("a", neurons=(FixedPattern("gain"), FixedPattern("gain"))), "two fixed patterns"),
        (lambda: IDEAL | 3, "int is no part"),
        (lambda: IDEAL.fabricate(-1), "seed of a chip is -1"),
        (lambda: IDEAL.fabricate(1.5), "seed of a chip is 1.5; give a whole number"),
        (lambda: InTheLoop(stepped()[0], IDEAL.fabricate(0), -1), "InTheLoop: trial_seed is -1"),
        (lambda: HardwareAware(stepped()[0], IDEAL, seed=-1), "HardwareAware: seed is -1"),
        (lambda: preset("loihi9"), "there is no substrate 'loihi9'; known: ideal, bss2_delgrad"),
        (lambda: HardwareAware(timed()[0], IDEAL, "always"), "always"),
    ],
)
def test_what_makes_no_sense_is_refused(make, word):
    with pytest.raises(UserError, match=word) as error:
        make()
    assert "\n" not in str(error.value)


def test_a_part_takes_the_place_of_its_kind():
    grid, noise = signed_bits(4), TrialNoise(0.1)
    made = IDEAL | grid | noise | FixedPattern("gain", 0.1) | FixedPattern("gain", 0.2) | FixedPattern("tau_mem", 0.3)
    assert (made.weights, made.noise, made.events) == (grid, noise, Events())
    assert [(p.quantity, p.sd) for p in made.neurons] == [("gain", 0.2), ("tau_mem", 0.3)]
    for part in (TimeGrid(0.1), Events(0.1), Readout(4), Limits(circuits=3), Cost(1.0)):
        assert part in dataclasses.astuple(IDEAL | part) or part in vars(IDEAL | part).values()


# Presets --------------------------------------------------------------------------------------------------------------------


def test_the_authors_noise_model():
    """In their units, where a weight of 1 is 30 levels and the threshold is 2.6."""
    model, threshold = preset("bss2_delgrad"), 2.6
    assert (model.weights.lowest, model.weights.highest) == (-63, 63)
    assert model.weights.highest * model.weights.step == pytest.approx(2.1)
    (pattern,) = model.neurons
    assert pattern.quantity == "threshold"
    assert (threshold * pattern.mean, threshold * pattern.sd) == pytest.approx((0.13, 0.08))
    assert threshold * model.noise.threshold == pytest.approx(0.04)
    assert model.noise.time == 0
    assert model.time.step * 6e-6 == pytest.approx(8e-9)
    assert (model.limits.circuits, model.limits.rows, model.limits.rows_per_input) == (512, 256, 2)
    assert model.cost.power * model.cost.seconds == pytest.approx(2.4e-6, rel=0.02)


def test_other_presets():
    mode = preset("bss2_hagen")
    assert (mode.most_input, mode.most_weight, mode.gain, mode.noise, mode.rows) == (31, 63, 0.002, 2.0, 128)
    assert (mode.lowest, mode.highest) == (-128, 127)
    assert {p.quantity: p.sd for p in preset("dynapse2").neurons} == dict.fromkeys(QUANTITIES, 0.1)
    assert (preset("dynapse2").limits.rows, preset("dynapse2").weights.highest) == (64, 15)
    xylo = preset("xylo")
    assert (xylo.limits.inputs, xylo.limits.hidden, xylo.limits.outputs, xylo.weights.bits) == (16, 1000, 32, 8)
    uncalibrated = {p.quantity: p.sd for p in preset("bss2_uncalibrated").neurons}
    calibrated = 0.08 / 2.6
    expected = {"threshold": calibrated / 0.35, "tau_mem": calibrated / 0.45, "tau_syn": calibrated / 0.2}
    assert uncalibrated == pytest.approx(expected)
    assert preset("spinnaker").cost.synapse == 13300


def test_every_number_has_its_source():
    assert presets.FOUNDED.keys() == presets.PRESETS.keys()
    for name, substrate in presets.PRESETS.items():
        parts = [substrate] if name == "bss2_hagen" else [*substrate.neurons, *vars(substrate).values()]
        for part in parts:
            if isinstance(part, str | tuple):
                continue
            assert part.source.kind in ("measured", "published", "assumed")
            plain = type(part)(name) if name == "bss2_hagen" else None
            if part != plain and not (
                name != "bss2_hagen" and not isinstance(part, FixedPattern) and part == type(part)()
            ):
                assert part.source.where != Source("assumed", "this part is ideal").where, (name, part)


# The matrix mode ------------------------------------------------------------------------------------------------------------


def hagen_by_hand(x, w, gain):
    y = np.zeros((len(x), w.shape[1]))
    for b, n in itertools.product(range(len(x)), range(w.shape[1])):
        sums = [
            sum(int(x[b, i]) * int(w[i, n]) for i in part) for part in np.array_split(np.arange(len(w)), [128, 256])
        ]
        y[b, n] = min(max(sum(min(max(math.floor(gain * s), -128), 127) for s in sums), -128), 127)
    return y


def test_the_product_without_noise_is_exact():
    random = np.random.default_rng(0)
    x, w = random.integers(0, 32, (6, 300)), random.integers(-63, 64, (300, 5))
    x[0], w[:, 0] = 31, 63  # saturates
    x[1], w[:, 1] = (
        np.r_[np.full(128, 31), np.full(172, 1)],
        np.r_[np.full(128, 63), np.full(172, -63)],
    )  # one block does
    mode = replace(preset("bss2_hagen"), noise=0.0, gain=2.0**-9)
    found = mode.multiply(torch.from_numpy(x).double(), torch.from_numpy(w).double(), 0)
    assert np.array_equal(found.numpy(), hagen_by_hand(x, w, Fraction(1, 512)))
    assert found.max() == 127
    twice = mode.multiply(torch.from_numpy(x).double(), torch.from_numpy(w).double(), 0, sends=2)
    assert np.array_equal(twice.numpy(), hagen_by_hand(x, w, Fraction(1, 256)))


def test_noise_of_the_product():
    mode = preset("bss2_hagen")
    x, w = torch.full((4000, 100), 10.0), torch.full((100, 1), 20.0)  # 0.002 * 20,000 = 40
    y = mode.multiply(x, w, 3)
    assert y.mean().item() == pytest.approx(39.5, abs=0.12)  # floor
    assert y.std().item() == pytest.approx(math.hypot(2, 12**-0.5), abs=0.07)
    assert torch.equal(y, mode.multiply(x, w, 3))
    assert not torch.equal(y, mode.multiply(x, w, 4))


def test_gradient_of_the_product_is_that_of_the_plain_one():
    x = torch.randint(0, 32, (3, 7)).double().requires_grad_()
    w = torch.randint(-63, 64, (7, 2)).double().requires_grad_()
    preset("bss2_hagen").multiply(x, w, 0, sends=3).sum().backward()
    assert torch.allclose(w.grad, 0.006 * x.detach().sum(0)[:, None].expand(7, 2))
    assert torch.allclose(x.grad, 0.006 * w.detach().sum(1).expand(3, 7))


@pytest.mark.parametrize(
    ("x", "w", "word"),
    [(32.0, 1.0, "inputs"), (-1.0, 1.0, "inputs"), (1.0, 64.0, "weights"), (1.0, math.nan, "weights")],
)
def test_a_product_out_of_range_is_refused(x, w, word):
    with pytest.raises(UserError, match=f"bss2_hagen: the {word} must lie in"):
        preset("bss2_hagen").multiply(torch.full((1, 2), x), torch.full((2, 1), w), 0)


@pytest.mark.parametrize(("x", "w"), [((1, 3), (2, 1)), ((2,), (2, 1)), ((1, 2), (2,))])
def test_a_product_of_shapes_that_do_not_fit_is_refused(x, w):
    with pytest.raises(UserError, match=r"bss2_hagen: inputs .* give \(batch, inputs\) and \(inputs, outputs\)"):
        preset("bss2_hagen").multiply(torch.zeros(x), torch.zeros(w), 0)


# Chips ----------------------------------------------------------------------------------------------------------------------


def test_a_chip_is_its_seed():
    kind = spread(0.1, "gain", "threshold")
    one, same, other = kind.fabricate(3), kind.fabricate(3), kind.fabricate(4)
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert one != (kind | signed_bits(4)).fabricate(3)
    moved = Chip(kind, 3, {q: z + (q == "gain") * 1e-9 for q, z in one.deviations.items()})
    assert moved != one
    assert len({one, same, other, moved}) == 3


def test_substrates_share_the_deviations_of_a_seed():
    """A neuron that is odd on one substrate is odd on the other, more or less."""
    mild, wild = (spread(sd, *QUANTITIES).fabricate(5) for sd in (0.01, 0.02))
    for q in QUANTITIES:
        a, b = (chip.own(q, 1.0, np.arange(100)) - 1 for chip in (mild, wild))
        np.testing.assert_allclose(2 * a, b)
    assert abs(np.corrcoef([mild.deviations[q] for q in QUANTITIES]) - np.eye(4)).max() < 0.08


def test_a_chip_comes_back_from_its_file(tmp_path):
    kind = preset("bss2_uncalibrated")
    chip = kind.fabricate(2)
    chip.save(tmp_path / "chip.npz")
    assert load_chip(kind, tmp_path / "chip.npz") == chip
    with pytest.raises(UserError, match=r"^load_chip: the chip in chip\.npz is no ideal as described here$"):
        load_chip(IDEAL, tmp_path / "chip.npz")
    write_npz(tmp_path / "other.npz", {"w": np.zeros(3)})
    with pytest.raises(UserError, match=r"^load_chip: other\.npz holds no chip; give a file that Chip\.save wrote$"):
        load_chip(kind, tmp_path / "other.npz")


# Placement ------------------------------------------------------------------------------------------------------------------


def test_the_published_network_fills_the_chip():
    net = timed(sizes=(256, 246, 10))[0]
    net = net._replace(
        weights=net.weights._replace(
            bias_times=(None, None), weights=(net.weights.weights[0][:256].detach(), net.weights.weights[1])
        )
    )
    plan = preset("bss2_delgrad").fabricate(0).place(net)
    assert plan.used["circuits"] == plan.available["circuits"] == 512
    assert plan.used["synapses a neuron"] == 512
    taken = np.concatenate(plan.circuits)
    assert len(set(taken)) == 256
    assert set(np.diff(taken)) == {2}


def small(inputs, hidden, outputs=3, recurrent=False):
    return stepped(sizes=(inputs, hidden, outputs), recurrent=recurrent, steps=1)[0]


@pytest.mark.parametrize(
    ("name", "net", "words"),
    [
        ("bss2_delgrad", small(257, 10), "needs 514 synapses a neuron, bss2_delgrad has 512"),
        ("bss2_delgrad", small(100, 250, 270), "needs 790 circuits, bss2_delgrad has 512"),
        ("bss2_delgrad", small(100, 160, recurrent=True), "needs 520 synapses a neuron"),
        ("dynapse2", small(65, 10), "needs 65 synapses a neuron, dynapse2 has 64"),
        ("xylo", small(17, 10), "needs 17 inputs, xylo has 16"),
        ("xylo", small(5, 1001), "needs 1001 hidden neurons, xylo has 1000"),
        ("xylo", small(5, 10, 33), "needs 33 output neurons, xylo has 32"),
        ("ideal", small(5, 4096), "needs 4099 circuits, ideal has 4096"),
    ],
)
def test_what_does_not_fit_is_refused(name, net, words):
    with pytest.raises(PlacementError, match=words):
        preset(name).fabricate(0).place(net)
    assert issubclass(PlacementError, UserError)


def test_a_bias_takes_synapses_but_no_input():
    plan = preset("bss2_delgrad").fabricate(0).place(timed()[0])
    assert plan.used == {
        "inputs": 8,
        "hidden neurons": 10,
        "output neurons": 4,
        "synapses a neuron": 20,
        "circuits": 14,
    }
    plan = preset("bss2_delgrad").fabricate(0).place(small(6, 10, recurrent=True))
    assert plan.used["synapses a neuron"] == 32
    assert [c.tolist() for c in plan.circuits] == [list(range(10)), [10, 11, 12]]


def test_a_neuron_has_the_pattern_of_its_circuit():
    chip = spread(0.2, "gain").fabricate(0)
    net, x = stepped(recurrent=False)
    plan = chip.place(net)
    other = plan._replace(circuits=(plan.circuits[0] + 7, plan.circuits[1]))
    gains = chip.own("gain", 1.0, np.arange(20))
    for circuits, p in (((0, 10), plan), ((7, 17), other)):
        found = chip.deploy(net, p).run(x, 0, states=True).potentials[0]
        w = net.weights.hidden[0].detach() * torch.from_numpy(gains[slice(*circuits)])
        assert torch.allclose(found, surrogate.lif(x, w, P).u)


# Deployment -----------------------------------------------------------------------------------------------------------------


def one_layer(w):
    return Timed(ttfs.Network((torch.tensor(w, dtype=torch.float64),), (None,)), Neuron())


def test_a_report_by_hand():
    kind = IDEAL | WeightGrid(-2, 2, 0.5)
    deployment = kind.fabricate(0).deploy(one_layer([[0.6, 3.0], [0.0, -0.5]]))
    (report,) = deployment.reports
    assert report.step == 0.5
    assert report.clipped == 0.25
    assert report.rms_error == pytest.approx(math.sqrt((0.1**2 + 2.0**2) / 4))
    assert report.bits == 3  # 2 needs two bits, and the sign
    assert (IDEAL | WeightGrid(-9, 9, 0.5)).fabricate(0).deploy(one_layer([[0.5]])).reports[0].bits == 2
    assert IDEAL.fabricate(0).deploy(one_layer([[0.5]])).reports[0] == (0.0, 0.0, 0.0, math.inf)
    for weight, bits in ((-128.0, 8), (-129.0, 8), (127.0, 8), (63.0, 7), (-64.0, 7), (-65.0, 8)):
        assert (IDEAL | WeightGrid(-128, 127, 1.0)).fabricate(0).deploy(one_layer([[weight]])).reports[0].bits == bits


def test_weights_outside_the_grid_with_clipping_forbidden():
    chip = (IDEAL | WeightGrid(-2, 2, 0.5)).fabricate(0)
    with pytest.raises(UserError, match=r"^deploy: 25 % of the weights of layer 1 lie outside the grid of ideal"):
        chip.deploy(one_layer([[0.6, 3.0], [0.0, -0.5]]), clip=False)
    chip.deploy(one_layer([[0.6, 1.2], [0.0, -0.5]]), clip=False)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_refused(value):
    for use in (
        IDEAL.fabricate(0).deploy,
        lambda net: InTheLoop(net, IDEAL.fabricate(0)),
        lambda net: HardwareAware(net, IDEAL),
    ):
        with pytest.raises(UserError, match=r"^deploy: the weights of layer 1 hold NaN or infinite values$"):
            use(one_layer([[0.5, value]]))
    net, _ = stepped()
    net.weights.recurrent[0].data[0, 0] = value
    with pytest.raises(UserError, match="layer 1"):
        IDEAL.fabricate(0).deploy(net)


def test_adaptive_neurons_are_refused():
    net, _ = stepped()
    with pytest.raises(UserError, match="adaptation"):
        IDEAL.fabricate(0).deploy(net._replace(p=P._replace(adaptation=Adaptation(1.0, 1.0))))


@pytest.mark.parametrize("make", [stepped, timed])
def test_a_deployment_keeps_its_weights(make):
    net, x = make()
    deployment = IDEAL.fabricate(0).deploy(net)
    before = deployment.run(x, 0).output
    for w in leaves(net):
        w.data.mul_(2)
    assert torch.equal(deployment.run(x, 0).output, before)
    assert not before.requires_grad


# Running --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("recurrent", [False, True])
def test_the_ideal_substrate_is_the_plain_network_in_time_steps(dtype, recurrent):
    net, x = stepped(recurrent=recurrent, dtype=dtype)
    seen = IDEAL.fabricate(1).deploy(net).run(x, 2, states=True)
    score, spikes = surrogate.classify(x, net.weights, P, score=lambda u: u)
    assert torch.equal(seen.output, score)
    assert torch.equal(seen.layers[0], spikes[0])
    trace = surrogate.lif(x, net.weights.hidden[0], P, net.weights.recurrent[0] if recurrent else None)
    assert torch.equal(seen.potentials[0], trace.u)
    assert spikes[0].sum() > 100
    assert seen.counters == {"spikes": int(spikes[0].sum()), "lost": 0}


@pytest.mark.parametrize("p", [Neuron(), Neuron(tau_mem=2.0), Neuron(tau_mem=math.inf)])
def test_the_ideal_substrate_is_the_plain_network_of_first_spikes(p):
    net, t = timed(p=p)
    seen = IDEAL.fabricate(1).deploy(net).run(t, 2)
    expected = ttfs.run(net.weights, t, p)
    assert all(torch.equal(a, b) for a, b in zip(seen.layers, expected, strict=True))
    assert torch.equal(seen.output, expected[-1])
    assert seen.counters["spikes"] == sum(int(torch.isfinite(layer).sum()) for layer in expected) > 30


@pytest.mark.parametrize("make", [stepped, timed])
def test_noise_of_size_0_changes_nothing(make):
    net, x = make()
    silent = spread(0.0, *QUANTITIES) | TrialNoise(0.0, time=0.0) | Events(0.0) | Readout(noise=0.0) | TimeGrid(None)
    plain = IDEAL.fabricate(0).deploy(net).run(x, 0)
    seen = silent.fabricate(3).deploy(net).run(x, 4)
    assert all(
        torch.equal(a, b) for a, b in zip([seen.output, *seen.layers], [plain.output, *plain.layers], strict=True)
    )


@pytest.mark.parametrize("reset", ["subtract", "multiply", "zero", "none"])
@pytest.mark.parametrize("current", ["old", "new"])
@pytest.mark.parametrize("quantities", [("threshold",), QUANTITIES])
def test_realised_neurons_are_those_of_the_reference(reset, current, quantities):
    """`snnrepro.neurons.lif_step` with a threshold and time constants for each neuron: no factor in the weights there."""
    p = P._replace(reset=reset, current=current, threshold=0.8)
    net, x = stepped(p=p)
    chip = spread(0.2, *quantities).fabricate(9)
    seen = chip.deploy(net).run(x, 0, states=True)
    own = {q: chip.own(q, nominal(q, p), np.arange(10)) for q in QUANTITIES}
    real = p._replace(**{q: own[q] for q in QUANTITIES if q != "gain" and own[q] is not None})
    gain = 1.0 if own["gain"] is None else own["gain"]
    w, v = net.weights.hidden[0].detach().numpy() * gain, net.weights.recurrent[0].detach().numpy() * gain
    states = [zero_state((4, 10))]
    for row in x.numpy():
        states.append(lif_step(states[-1], row @ w, real, v))
    states = states[:-1] if current == "old" else states[1:]
    assert np.array_equal(seen.layers[0], [s.s for s in states])
    np.testing.assert_allclose(seen.potentials[0], [s.u for s in states], atol=1e-12)
    assert seen.layers[0].sum() > 100


def test_the_readout_has_gains_and_time_constants_but_no_threshold():
    net, x = stepped(recurrent=False)
    chip = spread(0.2, *QUANTITIES).fabricate(1)
    seen = chip.deploy(net).run(x, 0)
    circuits = np.arange(10, 13)
    own = {q: chip.own(q, nominal(q), circuits) for q in QUANTITIES}
    last = P._replace(tau_mem=own["tau_mem"], tau_syn=own["tau_syn"])
    expected = surrogate.readout(seen.layers[0], net.weights.output.detach() * torch.from_numpy(own["gain"]), last)
    assert torch.allclose(seen.output, expected)


def test_realised_thresholds_of_first_spikes():
    net, t = timed()
    chip = spread(0.1, "threshold", mean=0.05).fabricate(2)
    found = chip.deploy(net).run(t, 0).layers[0]
    given = torch.cat([t, t.new_full((6, 1), 0.9)], 1)
    for n, threshold in enumerate(chip.own("threshold", 1.0, np.arange(10))):
        w = net.weights.weights[0][:, n : n + 1].detach()
        expected = exact.spike_times(given, w, Neuron(threshold=float(threshold)))[:, 0]
        assert torch.allclose(found[:, n], expected, atol=1e-9)


def test_realised_time_constants_of_first_spikes():
    net, t = timed()
    chip = spread(0.1, "threshold", "tau_mem", "tau_syn").fabricate(2)
    found = chip.deploy(net).run(t, 0).layers[0]
    own = [torch.from_numpy(chip.own(q, 1.0, np.arange(10))) for q in ("tau_mem", "tau_syn", "threshold")]
    given = torch.cat([t, t.new_full((6, 1), 0.9)], 1)
    expected = exact.mismatched_times(given, net.weights.weights[0].detach(), Neuron(), *own)
    both = torch.isfinite(expected)
    assert torch.equal(both, torch.isfinite(found))
    assert torch.allclose(found[both], expected[both], atol=1e-9)
    plain = ttfs.run(net.weights, t, Neuron())[0]
    assert (found - plain)[both & torch.isfinite(plain)].abs().max() > 0.05


def test_trial_noise_is_that_of_its_seed():
    net, t = timed()
    kind = IDEAL | TrialNoise(0.05)
    chip, other = kind.fabricate(0), kind.fabricate(1)
    runs = [c.deploy(net).run(t, seed).output for c, seed in ((chip, 1), (chip, 1), (other, 1), (chip, 2))]
    assert torch.equal(runs[0], runs[1])
    assert torch.equal(runs[0], runs[2])  # the chip's seed has no part in it
    assert not torch.equal(runs[0], runs[3])


def test_thresholds_of_a_trial_hold_for_the_whole_batch():
    """One neuron, one input of weight w: V = w s exp(-s) reaches the threshold that the trial has drawn."""
    net = one_layer([[6.0]])
    kind = IDEAL | TrialNoise(0.1)
    found = []
    for seed in range(400):
        s = kind.fabricate(0).deploy(net).run(torch.tensor([[0.0], [1.5]], dtype=torch.float64), seed).output[:, 0]
        assert s[1] - s[0] == pytest.approx(1.5)
        found.append(6 * s[0] * torch.exp(-s[0]))
    assert np.mean(found) == pytest.approx(1, abs=0.015)
    assert np.std(found) == pytest.approx(0.1, abs=0.012)


def test_spike_times_lie_on_the_grid():
    net, t = timed(p=Neuron(tau_syn=2.0, tau_mem=2.0))
    plain = IDEAL.fabricate(0).deploy(net).run(t, 0)
    seen = (IDEAL | TimeGrid(0.01)).fabricate(0).deploy(net).run(t, 0)
    steps = seen.output[torch.isfinite(seen.output)] / 0.02  # in units of tau_syn
    assert torch.allclose(steps, steps.round(), atol=1e-6)
    assert torch.allclose(seen.layers[0], plain.layers[0], atol=0.0101)
    assert not torch.equal(seen.layers[0], plain.layers[0])


def test_jitter_of_spike_times():
    net = Timed(
        ttfs.Network((torch.full((1, 500), 6.0, dtype=torch.float64),), (None,)), Neuron(tau_syn=2.0, tau_mem=2.0)
    )
    chip = (IDEAL | TrialNoise(time=0.1)).fabricate(0)
    t = chip.deploy(net).run(torch.zeros(20, 1, dtype=torch.float64), 0).output
    assert t.std().item() == pytest.approx(0.2, rel=0.03)  # tau_syn is 2
    assert t.std(1).min() > 0.15
    assert t.std(0).min() > 0.05


def test_lost_spikes():
    net, x = stepped(recurrent=False, samples=200)
    seen = (IDEAL | Events(0.25)).fabricate(0).deploy(net).run(x, 0)
    sent = int(x.sum() + seen.layers[0].sum())
    assert seen.counters["lost"] == pytest.approx(0.25 * sent, abs=4 * math.sqrt(sent * 0.25 * 0.75))
    assert seen.counters["spikes"] == int(seen.layers[0].sum())
    net, t = timed(samples=500)
    seen = (IDEAL | Events(0.25)).fabricate(0).deploy(net).run(t, 0)
    sent = 500 * 9 + int(torch.isfinite(seen.layers[0]).sum())
    assert seen.counters["lost"] == pytest.approx(0.25 * sent, abs=4 * math.sqrt(sent * 0.25 * 0.75))
    assert torch.isinf(seen.output).sum() > torch.isinf(IDEAL.fabricate(0).deploy(net).run(t, 0).output).sum()


def test_what_a_run_cannot_do_is_refused():
    net, x = stepped()
    with pytest.raises(UserError, match="noise of spike times needs a first-spike network"):
        (IDEAL | TrialNoise(time=0.1)).fabricate(0).deploy(net).run(x, 0)
    zero = torch.zeros(1, dtype=torch.int64)
    listed = surrogate.events(zero, zero, zero, (40, 4, 6))
    with pytest.raises(UserError, match="need a dense input"):
        (IDEAL | Events(0.1)).fabricate(0).deploy(net).run(listed, 0)
    assert IDEAL.fabricate(0).deploy(net).run(listed, 0).output.shape == (41, 4, 3)
    with pytest.raises(UserError, match=r"^run: trial_seed is -1; give a whole number, 0 or more$"):
        IDEAL.fabricate(0).deploy(net).run(x, -1)
    for model, given in (
        (InTheLoop(net, IDEAL.fabricate(0)), x[:, :2]),
        (InTheLoop(timed()[0], IDEAL.fabricate(0)), timed()[1][:2]),
    ):
        whole = x if given.ndim == 3 else timed()[1]
        with pytest.raises(
            UserError, match=f"2 samples, and observables of {whole.shape[-2]}; give those of this input"
        ):
            model(given, model.observe(whole))


def test_the_readout_is_read_by_the_converter():
    net, x = stepped()
    readout = Readout(4, -1.0, 1.0)
    plain = IDEAL.fabricate(0).deploy(net).run(x, 0).output
    seen = (IDEAL | readout).fabricate(0).deploy(net).run(x, 0).output
    assert torch.equal(seen, readout.read(plain, np.random.default_rng(0)))
    assert len(seen.unique()) <= 16


def test_the_converter_knows_the_threshold_of_each_layer():
    net, x = stepped()
    net = net._replace(p=net.p._replace(threshold=2.0), last=net.last._replace(threshold=0.5))
    plain = IDEAL.fabricate(0).deploy(net).run(x, 0, states=True)
    readout = Readout(4, -1.0, 1.0)
    seen = (IDEAL | readout).fabricate(0).deploy(net).run(x, 0, states=True)
    assert torch.equal(seen.output, readout.read(plain.output, np.random.default_rng(0), 0.5))
    assert torch.equal(seen.potentials[0], readout.read(plain.potentials[0], np.random.default_rng(0), 2.0))
    assert seen.potentials[0].max() > 1  # beyond a threshold of 1


def test_recorded_potentials_are_read_by_the_converter_too():
    net, x = stepped()
    noisy = (IDEAL | Readout(4, -1.0, 1.0, 0.5)).fabricate(0).deploy(net)
    plain = IDEAL.fabricate(0).deploy(net).run(x, 3, states=True)
    with_states, without = noisy.run(x, 3, states=True), noisy.run(x, 3)
    assert torch.equal(with_states.output, without.output)
    assert torch.equal(with_states.layers[0], plain.layers[0])  # reading changes nothing on the chip
    read = (IDEAL | Readout(4, -1.0, 1.0)).fabricate(0).deploy(net).run(x, 3, states=True).potentials[0]
    assert torch.equal(read, Readout(4, -1.0, 1.0).read(plain.potentials[0], np.random.default_rng(0)))
    off = (with_states.potentials[0] - plain.potentials[0])[plain.potentials[0].abs() < 0.5] * 7.5
    assert off.std().item() == pytest.approx(math.hypot(0.5, 12**-0.5), rel=0.1)


# In the loop ----------------------------------------------------------------------------------------------------------------

ROUGH = spread(0.2, *QUANTITIES) | signed_bits(5) | TrialNoise(0.05)
ROUGH_TIMES = spread(0.1, "threshold", "gain") | signed_bits(6) | TrialNoise(0.02) | TimeGrid(0.001)


@pytest.mark.parametrize(("make", "kind"), [(stepped, ROUGH), (timed, ROUGH_TIMES)])
def test_values_in_the_loop_are_the_observables(make, kind):
    net, x = make()
    chip = kind.fabricate(4)
    model = InTheLoop(net, chip, trial_seed=6)
    seen = InTheLoop(net, chip, trial_seed=6).observe(x)
    found = model(x)
    assert torch.equal(found.output, seen.output)
    assert all(torch.equal(a, b) for a, b in zip(found.layers, seen.layers, strict=True))
    assert not torch.equal(found.output, model(x).output)  # the next trial
    again = InTheLoop(net, chip, trial_seed=7)(x)
    assert not torch.equal(found.output, again.output)
    for w in leaves(net):
        w.data.mul_(1.5)
    assert not torch.equal(InTheLoop(net, chip, trial_seed=6)(x).output, found.output)


@pytest.mark.parametrize(("make", "kind"), [(stepped, ROUGH), (timed, ROUGH_TIMES)])
def test_the_fixed_pattern_has_no_part_in_the_gradient(make, kind):
    net, x = make()
    chip = kind.fabricate(4)
    seen = chip.deploy(net).run(x, 0, states=True)
    one, other = (gradient(net, InTheLoop(net, c)(x, seen).output) for c in (chip, kind.fabricate(5)))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert all(g.abs().max() > 0 for g in one)
    elsewhere = gradient(net, InTheLoop(net, kind.fabricate(5))(x).output)
    assert not torch.equal(one[0], elsewhere[0])


@pytest.mark.parametrize("make", [stepped, timed])
def test_on_an_ideal_chip_the_gradient_is_the_plain_one(make):
    net, x = make()
    plain = (
        ttfs.run(net.weights, x, net.p)[-1]
        if make is timed
        else surrogate.classify(x, net.weights, P, score=lambda u: u)[0]
    )
    expected, found = gradient(net, plain), gradient(net, InTheLoop(net, IDEAL.fabricate(0))(x).output)
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, atol=1e-11 * float(b.abs().max()))


def test_observed_spikes_and_potentials_enter_the_nominal_gradient():
    """The loop of Cramer et al. (2022), written once more: values are replaced, derivatives are the model's."""
    net, x = stepped()
    chip = ROUGH.fabricate(4)
    seen = chip.deploy(net).run(x, 0, states=True)
    (w, v), out = (net.weights.hidden[0], net.weights.recurrent[0]), net.weights.output
    alpha, beta = math.exp(-0.2), math.exp(-0.1)

    def shown(model, value):
        return model + (value - model).detach()

    i = u = s = torch.zeros(4, 10, dtype=torch.float64)
    spikes = []
    for t in range(40):
        i = alpha * i + x[t] @ w + s @ v
        u = shown(beta * u + (1 - beta) * i - s.detach(), seen.potentials[0][t])
        s = shown(surrogate.spike(u - 1, P.surrogate), seen.layers[0][t])
        spikes.append(s)
    y = surrogate.readout(torch.stack(spikes), out, P, engine="reference")
    expected = gradient(net, shown(y, seen.output))
    found = gradient(net, InTheLoop(net, chip)(x, seen).output)
    for a, b in zip(found, (expected[0], expected[1], expected[2]), strict=True):
        assert torch.allclose(a, b, atol=1e-10 * float(b.abs().max()))


def test_observed_times_enter_the_closed_form():
    """dT/dw_i = -exp(t_i) (T - t_i) / (a (1 + W)), and likewise for the inputs, at the observed T; 0 without a nominal spike."""
    g = torch.Generator().manual_seed(1)
    t = (2 * torch.rand(5, 7, generator=g, dtype=torch.float64)).requires_grad_()
    w = (0.9 + 0.7 * torch.randn(7, 6, generator=g, dtype=torch.float64)).requires_grad_()
    net = Timed(ttfs.Network((w,), (None,)), Neuron(threshold=1.3))
    nominal = ttfs.run(net.weights, t, net.p)[0].detach()
    late = nominal + 0.3 * torch.rand(5, 6, generator=g, dtype=torch.float64)
    late[torch.isinf(nominal)] = 2.5
    late[0, 0] = math.inf
    seen = Observables(late, [late], [], 0)
    factor = torch.randn(5, 6, generator=g, dtype=torch.float64)
    answer = InTheLoop(net, IDEAL.fabricate(0))(t, seen).output
    to_t, to_w = torch.autograd.grad((torch.where(torch.isfinite(answer), answer, 0.0) * factor).sum(), (t, w))
    x, weights, times, f = t.detach().numpy(), w.detach().numpy(), late.numpy(), factor.numpy()
    expected_t, expected_w, dropped = np.zeros_like(x), np.zeros_like(weights), 0
    for b, n in itertools.product(range(5), range(6)):
        if np.isinf(times[b, n]):
            continue
        before = x[b] <= times[b, n]
        e = np.where(before, np.exp(x[b]), 0.0)
        a, later = (weights[:, n] * e).sum(), (weights[:, n] * e * x[b]).sum()
        z = -1.3 / a * np.exp(later / a)
        if a <= 0 or z < -np.exp(-1):
            dropped += 1
            continue
        slope = a * (1 + lambertw(z).real)
        expected_w[:, n] -= f[b, n] * e * (times[b, n] - x[b]) / slope
        expected_t[b] -= f[b, n] * weights[:, n] * e * (times[b, n] - x[b] - 1) / slope
    np.testing.assert_allclose(to_w, expected_w, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(to_t, expected_t, rtol=1e-9, atol=1e-12)
    assert dropped > 1


def test_the_loop_needs_potentials():
    net, x = stepped()
    chip = ROUGH.fabricate(4)
    with pytest.raises(UserError, match="states=True"):
        InTheLoop(net, chip)(x, chip.deploy(net).run(x, 0))


def test_changes_that_are_too_large_are_left_out():
    net, t = timed()
    chip = ROUGH_TIMES.fabricate(4)
    seen = chip.deploy(net).run(t, 0)
    free, bound = (gradient(net, InTheLoop(net, chip, 0, most)(t, seen).output)[1] for most in (math.inf, 0.3))
    assert bound.abs().max() < free.abs().max()


def test_only_equal_time_constants_learn_in_the_loop():
    net, t = timed(p=Neuron(tau_mem=2.0))
    with pytest.raises(UserError, match="tau_mem = tau_syn"):
        InTheLoop(net, IDEAL.fabricate(0))(t)


# Hardware-aware -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("make", "kind"), [(stepped, ROUGH), (timed, ROUGH_TIMES)])
def test_simulated_chips_are_chips(make, kind):
    """The same chip and trial give the same; over many, distributions agree."""
    net, x = make()
    model = HardwareAware(net, kind, "never", seed=3)
    found = model(x, trial_seed=8)
    seen = model.chip.deploy(net).run(x, 8)
    assert torch.equal(found.output, seen.output)
    assert all(torch.equal(a, b) for a, b in zip(found.layers, seen.layers, strict=True))
    assert found.output.requires_grad
    model = HardwareAware(net, kind, "batch", seed=1)
    with torch.no_grad():
        simulated = torch.stack([model(x).output for _ in range(150)])
    deployed = torch.stack([kind.fabricate(10_000 + k).deploy(net).run(x, k).output for k in range(150)])
    for part in (simulated, deployed):
        part[torch.isinf(part)] = 10.0
    sem = torch.sqrt((simulated.var(0) + deployed.var(0)) / 150) + 1e-9
    assert ((simulated.mean(0) - deployed.mean(0)) / sem).abs().max() < 5
    ratio = (simulated.std(0) + 1e-9) / (deployed.std(0) + 1e-9)
    assert 0.8 < ratio.median() < 1.25


def test_when_a_new_chip_is_drawn():
    net, x = stepped()
    for resample, expected in (("never", (1, 1)), ("epoch", (1, 2)), ("batch", (3, 3))):
        model, chips = HardwareAware(net, ROUGH, resample, seed=1), []
        for _ in range(2):
            model.next_epoch()
            seeds = []
            for _ in range(3):
                model(x)
                seeds.append(model.chip.seed)
            chips.append(set(seeds))
        assert (len(chips[0]), len(chips[0] | chips[1]) // (1 + (resample == "batch"))) == expected
    first, same, other = (HardwareAware(net, ROUGH, seed=s)(x).output for s in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_realised_thresholds_are_known_to_the_gradient():
    """Against finite differences, on a chip without rounding."""
    net, t = timed()
    model = HardwareAware(net, spread(0.1, "threshold", "gain"), "never", seed=2)

    def value():
        output = model(t, trial_seed=0).output
        return (torch.where(torch.isfinite(output), output, 0.0) ** 2).sum()

    (g,) = torch.autograd.grad(value(), net.weights.weights[0])
    step, checked = 1e-6, 0
    for k in range(0, g.numel(), 7):
        w = net.weights.weights[0].data.view(-1)
        with torch.no_grad():
            w[k] += step
            above = value()
            w[k] -= 2 * step
            below = value()
            w[k] += step
        assert float(g.view(-1)[k]) == pytest.approx(float((above - below) / (2 * step)), rel=1e-4, abs=1e-6)
        checked += abs(float(g.view(-1)[k])) > 1e-3
    assert checked > 3


def test_rounding_passes_the_gradient_of_the_held_weights():
    net, t = timed()
    held = Timed(
        net.weights._replace(
            weights=tuple(signed_bits(5).apply(w).detach().requires_grad_() for w in net.weights.weights)
        ),
        net.p,
    )
    found = gradient(net, HardwareAware(net, IDEAL | signed_bits(5), "never")(t).output)
    expected = gradient(held, ttfs.run(held.weights, t, net.p)[-1])
    assert all(torch.allclose(a, b) for a, b in zip(found, expected, strict=True))


def test_time_constants_of_first_spikes_have_no_gradient():
    net, t = timed()
    with pytest.raises(UserError, match="train with InTheLoop"):
        HardwareAware(net, spread(0.1, "tau_mem"), "never")(t)
