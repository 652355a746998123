"""The chapter on substrates: published settings, losses and input by hand, what each number is, controls, checkpoints, bands."""

import dataclasses
import math
from dataclasses import replace
from fractions import Fraction

import bands
import numpy as np
import pytest
import torch

from snnrepro import ledger, surrogate
from snnrepro.experiment import silent
from snnrepro.hardware import loihi_training, presets
from snnrepro.hardware.networks import Timed
from snnrepro.hardware.parts import QUANTITIES, FixedPattern, TrialNoise, signed_bits
from snnrepro.hardware.substrate import Answer, Deployment, HardwareAware, InTheLoop
from snnrepro.papers import hardware as paper

TINY = paper.Recipe(hidden=10, epochs=2, batch=50)
TINY_TIMES = paper.Times((20, 8, 3), epochs=2, tail=1, rate=0.02, initial=((1.0, 0.12), (0.9, 0.15)))


@pytest.fixture
def few(monkeypatch):
    """Few samples, so that a training run takes no time."""
    samples, points = paper.spike_samples, paper._points

    def cut(steps):
        found = samples(steps)
        return paper.Samples(tuple(x[:, :200] for x in found.x), tuple(label[:200] for label in found.label))

    def cut_points(recipe):
        t, label = points(recipe)
        return [part[:200] for part in t], [part[:200] for part in label]

    monkeypatch.setattr(paper, "spike_samples", cut)
    monkeypatch.setattr(paper, "_points", cut_points)


# Settings -------------------------------------------------------------------------------------------------------------------


NOISY = {  # configuration yin_yang_hwAware_W of the authors' code
    **{"sizes": (20, 30, 3), "repeats": 5, "threshold": 2.6, "tau_mem": 1.0, "initial": ((1.0, 0.12), (0.075, 0.15))},
    **{"rate": 0.002, "shrink": 0.95, "shrink_after": 20, "batch": 40, "epochs": 300, "delta": 0.3},
    **{"limits": (0.05, 0.05), "bump": 0.0005, "largest_change": 0.2},
    **{"tail": 20},  # ours: of which the stored curves are averaged
}
NOISELESS = NOISY | {  # yin_yang_H30_W
    **{"sizes": (4, 30, 3), "repeats": 1, "threshold": 1.0, "tau_mem": 2.0, "initial": ((0.5, 1.0), (0.5, 1.0))},
    **{"rate": 0.02, "batch": 150, "delta": 0.2, "limits": (0.3, 0.0)},
}
RECIPE = {"hidden": 40, "steps": 30, "batch": 100, "epochs": 24, "rate": 0.02, "sd": (6.0, 3.0), "mean": 1.0}


def test_settings_of_first_spikes_are_the_published_ones():
    ours = {"chips": 5, "groups": 4, "unseen": 20}
    found = dataclasses.asdict(paper.EXPERIMENTS["first_spike"].paper)
    assert found == {"recipe": NOISY, "ideal": NOISELESS} | ours
    assert (paper.EARLY, paper.LATE) == (0.15, 2.0)


def test_settings_of_delays_are_the_published_ones():
    """Configurations yin_yang_H30_WA, H30_WS, H5_WS and hwAware_WA of the authors' code."""
    axonal = NOISELESS | {"initial": ((1.0, 1.0), (1.0, 1.0)), "rate": 0.005}
    few = axonal | {"sizes": (4, 5, 3), "rate": 0.015}
    nothing, logits = {"sd": 0.0, "shortest": 0.0, "span": 0.0}, {"sd": 0.25, "shortest": 0.0, "span": 1.0}
    ideal = {
        "weights": {"recipe": NOISELESS, "rate": 0.0, "synaptic": False} | nothing,
        "axonal": {"recipe": axonal, "rate": 0.005, "synaptic": False} | logits,
        "frozen": {"recipe": axonal, "rate": 0.0, "synaptic": False} | logits,  # ours
        "synaptic": {"recipe": axonal | {"rate": 0.01}, "rate": 0.003, "synaptic": True} | logits,
        "few": {"recipe": few, "rate": 0.01, "synaptic": True} | logits,
    }
    loop = {"recipe": NOISY, "rate": 0.002, "sd": 0.5, "shortest": 2.0, "span": 1.5, "synaptic": False}
    found = dataclasses.asdict(paper.EXPERIMENTS["delays"].paper)
    assert found.pop("frozen")  # ours
    assert found == {"ideal": tuple(ideal.items()), "loop": loop, "jitter": 0.01}


def test_settings_of_digits_are_the_published_ones():
    """Configuration 16x16_mnist_hx; the number of batches is for a replay alone."""
    published = {
        **{
            "sizes": (256, 246, 10),
            "initial": ((0.01, 0.03), (0.006, 0.10)),
            "rate": 0.003,
            "shrink": 0.9,
            "shrink_after": 10,
        },
        **{"batch": 200, "epochs": 200, "limits": (0.5, 0.5), "bump": 0.005, "noise": 0.3},
    }
    ours = {"images": "mnist-60k", "validation": 10_000, "batches": None}
    run = dataclasses.asdict(paper.EXPERIMENTS["digits"].paper)
    assert run.pop("threshold") == pytest.approx((1.08 - 0.70) * 4)  # threshold, leak and g_leak of their run
    assert run == published | ours
    kind = presets.BSS2_DELGRAD.weights
    assert (kind.lowest, kind.highest, kind.step) == (-63, 63, 1 / 30)


OTHERS = {  # ours
    "ways": {"recipe": RECIPE, "preset": "bss2_uncalibrated", "chips": 20, "recovery": 12, "recovery_rate": 0.005}
    | {"shown": 3},
    "kinds": {"recipe": RECIPE, "trained": ("ideal", "xylo", "bss2_uncalibrated", "dynapse2"), "chips": 20}
    | {"tested": ("ideal", "spinnaker", "xylo", "bss2_uncalibrated", "dynapse2")},
    "bits": {"recipe": RECIPE, "bits": (2, 3, 4, 5, 6, 8), "trained": (2, 3, 4, 5, 6, 8)},
    "spread": {"recipe": RECIPE, "sd": (0.05, 0.1, 0.2, 0.3, 0.5), "injected": 0.2, "chips": 20, "loop_chips": 4},
    "loihi": {"samples": 5000, "steps": 40, "late": 30, "hidden": 100, "epochs": 20, "rate": 0.01, "slower": 0.9}
    | {"bits": (8, 4, 3), "scales": (1.0, 1.5, 2.0, 3.0)},
    "identities": {"samples": 20, "networks": 20},
    "tools": {"networks": 10, "steps": 200, "batch": 3},
}


@pytest.mark.parametrize("name", sorted(paper.EXPERIMENTS.keys() - {"first_spike", "delays", "digits"}))
def test_every_other_paper_setting(name):
    assert dataclasses.asdict(paper.EXPERIMENTS[name].paper) == OTHERS[name]


def test_chips_and_seeds_at_paper_scale():
    """At least 20 chips and 5 seeds each."""
    kinds = paper.EXPERIMENTS
    assert (kinds["ways"].paper.chips, len(kinds["ways"].paper_seeds)) == (20, 5)
    assert (kinds["spread"].paper.chips, len(kinds["spread"].paper_seeds)) == (20, 5)
    assert kinds["spread"].paper.loop_chips * len(kinds["spread"].paper_seeds) == 20
    first = kinds["first_spike"].paper
    groups = [
        tuple(first.chips * (seed % first.groups) + k for k in range(first.chips))
        for seed in kinds["first_spike"].paper_seeds
    ]
    assert sorted(c for group in groups for c in group) == sorted(5 * list(range(20)))
    assert kinds["spread"].paper.sd == (0.05, 0.1, 0.2, 0.3, 0.5)
    assert {p.quantity: p.sd for p in paper.varied(0.3).neurons} == {"threshold": 0.3, "tau_mem": 0.3, "tau_syn": 0.3}


# By hand --------------------------------------------------------------------------------------------------------------------


def test_the_loss_by_hand():
    t = torch.tensor([[1.0, 1.5, 1.2], [2.0, 1.0, 1.0], [1.0, math.inf, 1.2]], dtype=torch.float64, requires_grad=True)
    loss = paper.shift_invariant_loss(t, torch.tensor([0, 1, 0]), 0.3)
    first, second = 0.5 * (0.2**2 + 0.1**2), 0.5 * (0.7**2 + 0.3**2)
    assert loss.item() == pytest.approx((first + second + 100) / 3)
    loss.backward()
    expected = [[-(0.2 - 0.1) / 3, 0.2 / 3, -0.1 / 3], [0.7 / 3, -(0.7 - 0.3) / 3, -0.3 / 3], [0, 0, 0]]
    np.testing.assert_allclose(t.grad, expected, atol=1e-12)
    shifted = paper.shift_invariant_loss(t.detach()[:2] + 5, torch.tensor([0, 1]), 0.3)
    assert shifted.item() == pytest.approx((first + second) / 2)


def test_input_spikes_by_hand():
    x = paper.spike_patterns(np.array([[0.0, 1.0, 0.5, 0.25]]), 30)
    assert x.shape == (30, 1, 5)
    assert [x[:, 0, k].nonzero().flatten().tolist() for k in range(5)] == [
        [1],
        [19],
        [10],
        [5],
        [0],
    ]  # 1 + 18 x, rounded


def test_input_times_come_five_times():
    t, label = paper._points(paper.Times())
    assert [part.shape for part in t] == [(5000, 20), (1000, 20), (1000, 20)]
    assert torch.equal(t[0][:, :4], t[0][:, 16:])
    assert t[0].min() > 0.15
    assert t[0].max() < 2.0
    assert label[0].bincount().min() > 1500


def test_fractions_of_the_matrix_mode():
    x, w = np.array([[31, 2, 1]]), np.array([[63, -63], [10, 0], [-7, 1]])
    found = paper._hagen_by_hand(x, w, Fraction(1, 10), 2)
    assert found.tolist() == [
        [126.0, -128.0 + 0]
    ]  # floor(197.3) is clamped to 127, then floor(-0.7) = -1; -195.3 to -128, and 0
    assert paper._off([torch.tensor([1.0, math.inf])], [torch.tensor([2.0, math.inf])]) == 0.5
    assert paper._off([torch.tensor([1.0, 2.0])], [torch.tensor([1.0, math.inf])]) == math.inf
    good, bad = torch.tensor([1.0, 2.0]), torch.tensor([math.nan, 2.0])
    assert math.isnan(paper._off([good, bad, good], [good, good, good]))  # NaN is not equal
    nothing = torch.full((2,), math.inf)
    assert paper._off([nothing, 0 * good], [nothing, 0 * good]) == 0.0


def test_an_identity_is_not_met_by_nan(monkeypatch):
    """One NaN in one answer of a chip, in the first of several networks."""
    run, seen = Deployment.run, []

    def spoiled(self, x, trial_seed, *, states=False):
        found = run(self, x, trial_seed, states=states)
        if not seen:
            seen.append(found.output.view(-1)[0].fill_(math.nan))
        return found

    monkeypatch.setattr(Deployment, "run", spoiled)
    found = paper.identities(paper.Identities(samples=3, networks=2), 0, silent, None).metrics
    assert math.isnan(found["ideal_off"])
    assert found["zero_off"] == 0


def test_range_and_steps_apart_make_the_grid():
    w = torch.tensor([-5.0, -2.05, -0.011, 0.02, 1.234, 2.099, 3.0], dtype=torch.float64)
    ends, steps = paper.ALONE["range"].apply(w), paper.ALONE["rounding"].apply(w)
    assert torch.allclose(ends, w.clamp(-2.1, 2.1), atol=1e-6)
    assert torch.allclose(steps, torch.round(30 * w) / 30, atol=1e-12)
    assert torch.allclose(paper.ALONE["range"].apply(steps), presets.BSS2_DELGRAD.weights.apply(w), atol=1e-6)


def test_no_stream_is_anothers():
    """With equal seeds, a chip, a trial, training in the loop and on simulated chips, order and scramble draw different numbers."""
    from snnrepro.hardware import substrate

    tags = (substrate.TRIAL, substrate.LOOP, substrate.AWARE, paper.ORDER, paper.SCRAMBLE, paper.JITTER)
    assert len({*tags, *range(len(QUANTITIES))}) == len(tags) + len(QUANTITIES)
    chip = (paper.varied(0.1, QUANTITIES) | TrialNoise(0.05)).fabricate(3)
    net = paper.stepped_network(TINY, 0)
    circuits = chip.place(net).circuits[0]
    noise = np.random.default_rng([3, substrate.TRIAL])
    weights = substrate._realise(chip, net.layers()[0], circuits, net.p, True, noise)
    moved = 1 / weights.scale - chip.own("threshold", 1.0, circuits)
    for quantity, z in chip.deviations.items():
        assert abs(np.corrcoef(moved, z[circuits])[0, 1]) < 0.9, quantity
    drawn = np.random.default_rng([3, substrate.TRIAL]).standard_normal(len(circuits))
    np.testing.assert_allclose(moved, 0.05 * drawn, atol=1e-12)


# What the numbers are -------------------------------------------------------------------------------------------------------


def test_four_ways(few, monkeypatch):
    made = {"aware": [], "loop": [], "learnt": []}
    learn = paper._learn

    def watched(net, model, recipe, data, seed, answer=None, after=None, constant=False):
        made["learnt"].append((model, recipe, answer is not None, constant, net.weights.output.detach().clone()))
        return learn(net, model, recipe, data, seed, answer, after, constant)

    monkeypatch.setattr(paper, "_learn", watched)
    config = paper.Ways(TINY, chips=2, recovery=3, shown=2)
    found = paper.ways(config, 4, silent, None)
    models = [entry[0] for entry in made["learnt"]]
    kinds = [type(m).__name__ for m in models]
    assert kinds == ["HardwareAware"] * 2 + ["InTheLoop"] * 5
    assert (models[0].substrate, models[1].substrate.name, models[1].resample) == (
        presets.IDEAL,
        "bss2_uncalibrated",
        "batch",
    )
    assert [m.chip.seed for m in models[2:]] == [0, 0, 0, 1, 1]
    assert [entry[2] for entry in made["learnt"]] == [False, False, True, False, False, False, False]
    assert [entry[3] for entry in made["learnt"]] == [False, False, False, False, True, False, True]
    starts = [entry[4] for entry in made["learnt"]]
    assert all(torch.equal(starts[0], starts[k]) for k in (1, 2, 3, 5))  # the same weights to start with
    assert not torch.equal(starts[0], starts[4])
    assert torch.equal(starts[4], starts[6])  # fine-tuning starts from the ideal network
    m, a = found.metrics, found.arrays
    assert a["transfer"].shape == (4, 4)
    assert a["recovery"].shape == (2, 4)
    assert m["ideal"] == a["transfer"][0, 0]
    np.testing.assert_allclose(a["deployed"], a["transfer"][0, 1:3])
    np.testing.assert_allclose(a["in_the_loop"], np.diag(a["transfer"][2:, 1:3]))
    np.testing.assert_allclose(a["recovery"][:, 0], a["deployed"])
    np.testing.assert_allclose(a["in_the_loop_ideal"], a["transfer"][2:, 0])
    assert m["recovery"] == pytest.approx((a["recovery"][:, -1] - a["recovery"][:, 0]).mean())
    for name, (more, less) in {
        "lost_in_deployment": ("ideal", "deployed"),
        "gained_by_awareness": ("aware", "deployed"),
        "gained_in_the_loop": ("in_the_loop", "deployed"),
        "loop_below_ideal": ("ideal", "in_the_loop"),
        "lost_elsewhere": ("in_the_loop", "in_the_loop_elsewhere"),
        "lost_in_ideal": ("in_the_loop", "in_the_loop_ideal"),
        "lost_by_shuffling": ("in_the_loop", "shuffled"),
    }.items():
        assert m[name] == pytest.approx(m[more] - m[less])
    assert m["deployed"] == pytest.approx(a["deployed"].mean())
    assert m["deployed_sd"] == pytest.approx(a["deployed"].std(ddof=1))


def test_operations_are_counted_on_the_weights_of_the_chip():
    recipe = replace(TINY, hidden=6)
    net, data = paper.stepped_network(recipe, 0), paper.spike_samples(30)
    net.weights.hidden[0].data[1:] = 0.0  # one input is connected, and one output: the others round to 0
    net.weights.output.data[:, 1:] = 1e-6
    chip = (presets.IDEAL | signed_bits(4)).fabricate(0)
    deployment = chip.deploy(net)
    spent = paper._spent(deployment, data)
    spikes = float(deployment.run(data.x[1], 0).layers[0].sum()) / 1000
    held = signed_bits(4).hold(net.weights.output).levels[:, 0].count_nonzero()
    assert spent["hidden_spikes"] == pytest.approx(spikes)
    assert spent["updates"] == 30 * 9
    assert spent["dense_operations"] == 30 * (5 * 6 + 6 * 3)
    inner = signed_bits(4).hold(net.weights.hidden[0]).levels[0].count_nonzero()
    assert float(inner) <= spent["synaptic_operations"] <= float(inner) + spikes
    assert held <= 6


def test_shuffled_observables_are_those_of_other_samples():
    net, data = paper.stepped_network(TINY, 1), paper.spike_samples(30)
    model = InTheLoop(net, presets.IDEAL.fabricate(0))
    x = data.x[0][:, :20]
    seen = model.observe(x)
    random = np.random.default_rng(0)
    rows = np.random.default_rng(0).permutation(20)
    found = paper._shuffled(model, random)(x)
    assert isinstance(found, Answer)
    assert torch.equal(found.output, seen.output[:, rows])
    assert torch.equal(found.layers[0], seen.layers[0][:, rows])
    assert not torch.equal(found.output, seen.output)


def test_spread(few):
    config = paper.Spread(TINY, (0.1, 0.3), chips=3, loop_chips=2)
    found = paper.spread(config, 2, silent, None)
    m, a = found.metrics, found.arrays
    assert {name: array.shape for name, array in a.items()} == {
        **dict.fromkeys(("deployed", "injected", "threshold_alone", "taus_alone"), (2, 3)),
        "in_the_loop": (2, 2),
    }
    for k, percent in enumerate(("10", "30")):
        for name, rows in a.items():
            assert m[f"{name}_{percent}"] == pytest.approx(rows[k].mean())
        assert m[f"lost_{percent}"] == pytest.approx(m["deployed_0"] - m[f"deployed_{percent}"])
        assert m[f"loop_lost_{percent}"] == pytest.approx(m["deployed_0"] - m[f"in_the_loop_{percent}"])
        assert m[f"injection_gain_{percent}"] == pytest.approx(m[f"injected_{percent}"] - m[f"deployed_{percent}"])
        assert m[f"chip_sd_{percent}"] == pytest.approx(a["deployed"][k].std(ddof=1))
    gap = m["in_the_loop_30"] - m["deployed_30"] - m["in_the_loop_10"] + m["deployed_10"]
    assert m["gap_widens"] == pytest.approx(gap)
    assert m["injection_cost"] == pytest.approx(m["deployed_0"] - m["injected_0"])
    assert np.ptp(a["deployed"]) > 0


def test_loops_of_spread_have_chips_of_their_own(few, monkeypatch):
    seen, learn = [], paper._learn

    def watched(net, model, *rest, **more):
        seen.append(model)
        return learn(net, model, *rest, **more)

    monkeypatch.setattr(paper, "_learn", watched)
    config = paper.Spread(TINY, (0.1, 0.3), chips=2, loop_chips=2)
    paper.spread(config, 3, silent, None)
    loops = [m for m in seen if isinstance(m, InTheLoop)]
    assert [m.chip.seed for m in loops] == [6, 7, 6, 7]
    assert [m.chip.substrate.neurons[0].sd for m in loops] == [0.1, 0.1, 0.3, 0.3]
    assert seen[1].substrate == paper.varied(config.injected)
    assert seen[1].resample == "batch"


def test_bits(few, monkeypatch):
    seen, learn = [], paper._learn

    def watched(net, model, *rest, **more):
        first = learn(net, model, *rest, **more)
        seen.append((model.substrate, paper._right(net, model.substrate.fabricate(0), paper.spike_samples(30))))
        return first

    monkeypatch.setattr(paper, "_learn", watched)
    found = paper.bits(paper.Bits(TINY, (3, 4, 6), (3, 4)), 0, silent, None)
    m = found.metrics
    assert [kind.weights.highest for kind, _ in seen] == [None, 3, 7]
    assert [m["float"], m["within_3"], m["within_4"]] == [right for _, right in seen]
    assert found.arrays["after"].tolist() == [m["after_3"], m["after_4"], m["after_6"]]
    for b in (3, 4):
        assert m[f"gain_{b}"] == pytest.approx(m[f"within_{b}"] - m[f"after_{b}"])
        assert m[f"cost_{b}"] == pytest.approx(m["float"] - m[f"within_{b}"])
        assert m[f"lost_{b}"] == pytest.approx(m["float"] - m[f"after_{b}"])
    assert m["gain_low"] == pytest.approx((m["gain_3"] + m["gain_4"]) / 2)


def test_first_spikes(few, monkeypatch):
    seen, learn = [], paper._learn_times

    def watched(net, model, recipe, seed, told):
        seen.append((model, recipe))
        return learn(net, model, recipe, seed, told)

    monkeypatch.setattr(paper, "_learn_times", watched)
    ideal = replace(paper.IDEAL_TIMES, epochs=2, tail=1, batch=40)
    config = paper.FirstSpike(TINY_TIMES, ideal, chips=2, groups=2, unseen=3)
    found = paper.first_spike(config, 3, silent, None)
    m, a = found.metrics, found.arrays
    assert [type(model).__name__ for model, _ in seen] == ["HardwareAware"] * 3 + ["InTheLoop"] * 2
    assert [model.substrate.name for model, _ in seen[:3]] == ["ideal", "ideal", "bss2_delgrad"]
    assert [model.chip.seed for model, _ in seen[3:]] == [2, 3]  # the second group of chips
    assert [recipe for _, recipe in seen] == [ideal] + [TINY_TIMES] * 4
    assert [model.largest_change for model, _ in seen] == [ideal.largest_change] + [TINY_TIMES.largest_change] * 4
    assert a["curves"].shape == (2, 2)
    assert m["in_the_loop"] == pytest.approx(a["curves"][:, -1].mean())
    assert m["ideal"] == a["ideal_curve"][-1]
    assert (len(a["deployed"]), len(a["on_its_chip"]), len(a["alone_jitter"])) == (5, 2, 3)
    assert m["self_calibration"] == pytest.approx(m["on_its_chip"] - m["in_the_ideal_model"])
    assert m["lost_elsewhere"] == pytest.approx(m["on_its_chip"] - m["on_other_chips"])
    assert m["lost_in_deployment"] == pytest.approx(m["plain"] - m["deployed"])
    for name in paper.ALONE:
        assert m[f"cost_of_{name}"] == pytest.approx(m["plain"] - a[f"alone_{name}"].mean())
    assert m["residual_sd"] > 0
    assert m["decision_us"] == pytest.approx(6 * m["decision_time"])
    assert 0 < m["decision_time"] <= m["label_time"]
    assert m["operations_until_decision"] <= m["operations"] <= 20 * 8 + 8 * 3


TINY_IDEAL = replace(paper.IDEAL_TIMES, sizes=(4, 6, 3), epochs=2, tail=1, batch=40, initial=((1.5, 0.8), (1.5, 0.8)))
TINY_DELAYS = paper.LearnedDelays(
    (
        ("weights", paper.Delayed(TINY_IDEAL, 0.0, 0.0, 0.0, 0.0)),
        ("axonal", paper.Delayed(TINY_IDEAL, 0.1, 0.25, 0.0, 1.0)),
        ("frozen", paper.Delayed(TINY_IDEAL, 0.0, 0.25, 0.0, 1.0)),
        ("synaptic", paper.Delayed(TINY_IDEAL, 0.1, 0.25, 0.0, 1.0, True)),
    ),
    paper.Delayed(TINY_TIMES),
)


def test_learned_delays(few, tmp_path, monkeypatch):
    trained, learn = [], paper._learn_delays

    def watched(config, *rest):
        trained.append(config)
        return learn(config, *rest)

    monkeypatch.setattr(paper, "_learn_delays", watched)
    found = paper.learned_delays(TINY_DELAYS, 3, silent, tmp_path / "kept.npz")
    m, a = found.metrics, found.arrays
    assert (
        paper.learned_delays(TINY_DELAYS, 3, silent, tmp_path / "kept.npz").metrics == m
    )  # ideal ones from the checkpoint
    loop = TINY_DELAYS.loop
    assert trained == [*dict(TINY_DELAYS.ideal).values(), *2 * [loop, replace(loop, rate=0.0)]]
    for name in ("weights", "axonal", "frozen", "synaptic", "loop", "alone", "loop_frozen"):
        assert m[name] == a[name][-1]
    assert m["gain_axonal"] == pytest.approx(m["axonal"] - m["weights"])
    assert m["gain_synaptic"] == pytest.approx(m["synaptic"] - m["weights"])
    assert m["learned_less_frozen"] == pytest.approx(m["axonal"] - m["frozen"])
    assert m["gain"] == pytest.approx(m["loop"] - m["alone"])
    assert m["loop_learned_less_frozen"] == pytest.approx(m["loop"] - m["loop_frozen"])
    assert m["fewer_missing"] == pytest.approx(m["missing_alone"] - m["missing"])
    assert m["self_calibration"] == pytest.approx(m["on_its_chip"] - m["in_the_ideal_model"])
    for name in ("", "_alone"):
        times = a[f"label_times{name}"]
        assert m[f"missing{name}"] == np.isinf(times).mean()
        assert m[f"label_time{name}"] == pytest.approx(times[np.isfinite(times)].mean())
    assert m["label_time"] > 4 + m["label_time_alone"] / 2  # two delays of 2 and more
    assert (len(a["delays_input"]), len(a["delays_hidden"])) == (4, 8)
    assert min(a["delays_input"].min(), a["delays_hidden"].min()) > 2
    assert max(a["delays_input"].max(), a["delays_hidden"].max()) < 3.5
    assert found.early["first_loss"] > 0


def test_delays_move_where_they_are_learned_and_stay_where_they_are_frozen(few):
    def ideal(net, delays, t, trial):
        return paper.run_delayed(net.weights, delays, t, net.p)

    kept = {}
    for name in ("axonal", "frozen"):
        delays = dict(TINY_DELAYS.ideal)[name]
        _, kept[name], _, _ = paper._learn_delays(delays, ideal, presets.IDEAL.weights, 0, lambda epoch, accuracy: None)
    start = paper.initial_delays(((4,), (6,)), 0.25, torch.Generator().manual_seed(10_000))
    for first, frozen, learned in zip(start.raw, kept["frozen"].raw, kept["axonal"].raw, strict=True):
        assert torch.equal(first, frozen)
        assert float((learned - first).detach().abs().min()) > 0


def test_on_an_ideal_chip_the_loop_is_the_network_with_delays():
    g = torch.Generator().manual_seed(1)
    net = paper._timed(replace(TINY_TIMES, threshold=1.0), 0)
    delays = paper.initial_delays(((4,), (8,)), 0.5, g, 2.0, 1.5)
    t = 2 * torch.rand(30, 20, generator=g, dtype=torch.float64)
    leaves = [*net.weights.weights, *delays.raw]
    loop = paper._in_the_loop(presets.IDEAL.fabricate(0), math.inf, 0.0)(net, delays, t, 0)
    plain = paper.run_delayed(net.weights, delays, t, net.p)
    assert torch.isfinite(plain[-1]).any()
    for ours, theirs in zip(loop, plain, strict=True):
        assert torch.equal(ours, theirs)
    losses = [torch.where(torch.isfinite(layers[-1]), layers[-1], 0.0).square().sum() for layers in (loop, plain)]
    for ours, theirs in zip(*(torch.autograd.grad(loss, leaves) for loss in losses), strict=True):
        assert float(theirs.abs().max()) > 0
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_a_chip_jitters_what_arrives_and_each_layer_has_a_trial_of_its_own(monkeypatch):
    g, seen = torch.Generator().manual_seed(1), []
    net = paper._timed(TINY_TIMES, 0)
    delays = paper.initial_delays(((4,), (8,)), 0.0, g, 2.0, 1.5)
    run = Deployment.run

    def watched(self, x, trial_seed, **how):
        seen.append((x, trial_seed, self.plan.circuits[0].tolist()))
        return run(self, x, trial_seed, **how)

    monkeypatch.setattr(Deployment, "run", watched)
    t = 2 * torch.rand(200, 20, generator=g, dtype=torch.float64)
    chip = presets.BSS2_DELGRAD.fabricate(3)
    first = paper._in_the_loop(chip, math.inf, 0.01)(net, delays, t, 5)
    again, other = (paper._in_the_loop(chip, math.inf, 0.01)(net, delays, t, k) for k in (5, 6))
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], other[0])
    assert [trial for _, trial, _ in seen] == [10, 11, 10, 11, 12, 13]
    assert [circuits for _, _, circuits in seen[:2]] == [list(range(0, 8)), list(range(8, 11))]
    moved = seen[0][0] - t - 2.75  # the middle of the span
    assert float(moved.std()) == pytest.approx(0.01, rel=0.05)
    assert abs(float(moved.mean())) < 1e-3


def test_weights_stay_in_the_range_of_the_chip(few):
    net = paper._timed(TINY_TIMES, 0)
    for w in net.weights.weights:
        w.data.mul_(30)
    model = InTheLoop(net, presets.BSS2_DELGRAD.fabricate(0))
    paper._learn_times(net, model, TINY_TIMES, 0, lambda epoch, accuracy: None)
    assert max(float(w.detach().abs().max()) for w in net.weights.weights) <= 2.1 + 1e-12


def test_decisions_by_hand():
    """Two inputs, one hidden neuron, two labels: what has happened when the first label spikes."""
    from snnrepro.first_spike import ttfs
    from snnrepro.first_spike.exact import Neuron

    weights = torch.tensor([[4.0], [4.0]], dtype=torch.float64), torch.tensor([[6.0, 0.0]], dtype=torch.float64)
    net = Timed(ttfs.Network(weights, (None, None)), Neuron())
    t = torch.tensor([[0.0, 5.0]], dtype=torch.float64)
    found = paper._decision(net, presets.IDEAL.fabricate(0), t)
    first, label = (layer.item() for layer in (ttfs.run(net.weights, t, net.p)[k][0, 0] for k in (0, 1)))
    assert first < label < 5
    assert found["decision_time"] == found["label_time"] == pytest.approx(label)
    assert (found["operations"], found["operations_until_decision"]) == (
        3,
        2,
    )  # 1 + 1 + 1; the second input comes too late
    assert (found["hidden_spikes"], found["hidden_spikes_until_decision"]) == (1, 1)


@pytest.mark.parametrize("name", [n for n, e in paper.EXPERIMENTS.items() if e.replay is not None and n != "digits"])
def test_a_replay_of_the_start_gives_the_early_number_alone(name, few):
    experiment = paper.EXPERIMENTS[name]
    found = experiment.function(experiment.replay(experiment.quick), 0, silent, None)
    assert (found.metrics, found.arrays) == ({}, {})
    assert len(found.early) == 1
    assert math.isfinite(next(iter(found.early.values())))


def test_digits_go_on_from_a_checkpoint(tmp_path, monkeypatch):
    g = torch.Generator().manual_seed(0)
    t, label = 2 * torch.rand(60, 12, generator=g), torch.randint(0, 3, (60,), generator=g)
    monkeypatch.setattr(paper, "_small_digits", lambda config: ([t[:40], t[40:]], [label[:40], label[40:]], "made"))
    config = paper.Digits(sizes=(12, 9, 3), initial=((0.4, 0.2), (0.5, 0.2)), batch=10, epochs=4, rate=0.01)
    whole = paper.digits(config, 1, silent, None)
    paper.digits(replace(config, epochs=2), 1, silent, tmp_path / "half.npz")
    resumed = paper.digits(config, 1, silent, tmp_path / "half.npz")
    assert whole.metrics == resumed.metrics
    assert whole.arrays["curve"].tolist() == resumed.arrays["curve"].tolist()
    assert whole.early == resumed.early == paper.digits(replace(config, batches=1), 1, silent, None).early
    assert whole.data == "made"
    assert len(whole.arrays["elsewhere"]) == 20
    assert whole.metrics["accuracy"] == whole.arrays["curve"][-1]


def test_aware_training_keeps_gradients_of_the_grid():
    net, data = paper.stepped_network(TINY, 0), paper.spike_samples(30)
    model = HardwareAware(net, presets.IDEAL | signed_bits(3) | FixedPattern("threshold", 0.1), "never")
    loss = surrogate.classification_loss(model(data.x[0][:, :50]).output.mean(0), data.label[0][:50])
    assert all(float(g.abs().max()) > 0 for g in torch.autograd.grad(loss, [*net.weights.hidden, net.weights.output]))


def test_the_card_cites_what_the_chapter_rests_on():
    card = ledger.card_html(ledger.load_claims("hardware"))
    assert card.count("snn-citation") == 5
    for words in (
        "Surrogate gradients for analog neuromorphic computing",
        "Loihi",
        "first-spike times",
        "intermediate representation",
        "DelGrad",
    ):
        assert words in card


# What a negative control, an untrained network or a missing effect gives; the claim's bands must leave it out.
WITHOUT_EFFECT = {
    "rounding-alone-costs-little": 0.1,  # as on four bits
    "awareness-gains-on-dynapse2": 0.0,
    "awareness-carries-over": 0.0,
    "deployment-loses": 0.0,
    "loop-gains": 0.0,
    "loop-comes-near-the-ideal": 0.18,  # as deployed
    "awareness-gains": 0.0,
    "fine-tuning-recovers": 0.0,
    "weights-belong-to-their-chip": 0.0,
    "weights-belong-to-the-chip-not-to-the-model": 0.0,
    "observables-must-belong-to-the-sample": 0.7,  # a network that learns
    "spread-hurts-deployment": 0.0,
    "loop-unaffected-up-to-30": 0.4,  # as deployed
    "loop-recovers-at-10": 0.2,  # as deployed
    "injection-gains-at-half-its-spread": 0.0,
    "rounding-in-training-gains-at-2-bits": 0.0,
    "rounding-in-training-gains-at-3-bits": 0.0,
    "six-bits-after-training": 0.28,  # three bits
    "gap-widens": 0.0,
    "injection-gains": 0.0,
    "injection-costs": 0.0,
    "one-chip-proves-nothing": 0.0,
    "few-bits-cost": 0.0,
    "rounding-in-training-gains": 0.0,
    "six-bits-are-enough": 0.28,  # three bits after training
    "first-spike-ideal": 0.34,  # untrained
    "first-spike-model": 0.34,
    "first-spike-chip": 0.34,
    "first-spike-self-calibration": 0.0,
    "first-spike-residual": 0.0,
    "first-spike-other-chips": 0.0,
    "delays-axonal": 0.34,  # untrained
    "delays-synaptic": 0.34,
    "delays-five-neurons": 0.34,
    "delays-axonal-gain": 0.0,
    "delays-synaptic-gain": 0.0,
    "delays-must-be-learned": 0.0,
    "delays-model": 0.34,
    "delays-chip": 0.34,
    "delays-gain-in-the-loop": 0.0,
    "delays-must-be-learned-in-the-loop": 0.0,
    "delays-label-time": 2.1,  # no delays
    "delays-wake-labels": 0.0,
    "delays-self-calibration": 0.0,
    "digits-on-one-chip": 0.1,
    "decides-at-two-tau": 30.0,  # the length of a sample on the chip: a label that answers at the end
    "loihi-eight-bits": -0.5,  # untrained less trained
    "loihi-four-bits": 0.0,
    "loihi-four-bits-on-a-fixed-grid": 0.0,
}


@pytest.mark.parametrize("claim", bands.judged("hardware"), ids=lambda c: c.id)
def test_bands_leave_out_the_control(claim):
    bands.leave_out(claim, WITHOUT_EFFECT[claim.id])


def test_the_table_has_no_claim_that_is_gone():
    assert WITHOUT_EFFECT.keys() == {claim.id for claim in bands.judged("hardware")}


def test_the_scale_of_rounding_is_chosen_on_the_training_samples(monkeypatch):
    """Accuracies by the threshold of the chip, 128 at scale 1: the test samples would choose another one."""
    training, test = {128: 0.2, 256: 0.9, 384: 0.5}, {128: 0.3, 256: 0.6, 384: 0.8}

    def accuracy(x, label, chip):
        return (training if len(label) == 40 else test)[int(chip[0].neurons.vth)]

    monkeypatch.setattr(loihi_training, "chip_accuracy", accuracy)
    config = paper.Loihi(40, steps=10, late=8, hidden=5, epochs=1, bits=(4,), scales=(1.0, 2.0, 3.0))
    found = paper.loihi_network(config, 0, silent, None).metrics
    assert (found["scale_4"], found["after_4"], found["unscaled_4"], found["aware_4"]) == (2.0, 0.6, 0.3, 0.3)
    assert found["aware_less_after_4"] == pytest.approx(-0.3)
    assert found["aware_less_unscaled_4"] == 0


# Kinds of chips -------------------------------------------------------------------------------------------------------------


def test_what_was_learned_for_one_kind_is_tested_on_all(monkeypatch):
    """Each network answers by the kind it was trained for; chips of a kind that varies are several, and new ones in training."""
    taught, right = {}, {"ideal": 0.9, "xylo": 0.88, "bss2_uncalibrated": 0.7, "dynapse2": 0.6}

    def learn(net, model, recipe, data, seed):
        taught[id(net)] = model.substrate.name
        assert model.resample == ("batch" if model.substrate.neurons else "never")
        kept.append(net)
        return len(taught)

    def over(net, chips, data):
        (name,) = {chip.substrate.name for chip in chips}
        assert [chip.seed for chip in chips] == list(range(3 if name in ("bss2_uncalibrated", "dynapse2") else 1))
        own = right[taught[id(net)]] + 0.1 * (name == taught[id(net)] == "dynapse2")
        return own - {"ideal": 0.0, "spinnaker": 0.01, "xylo": 0.02}.get(name, 0.3 * own) + 0.01 * np.arange(len(chips))

    kept = []
    monkeypatch.setattr(paper, "_learn", learn)
    monkeypatch.setattr(paper, "_over_chips", over)
    found = paper.kinds(paper.Kinds(chips=3), 0, silent, None)
    m = found.metrics
    assert found.early == {"first_loss": 1}
    assert m["rounding_costs"] == pytest.approx(0.02)
    assert m["xylo_on_spinnaker"] == pytest.approx(0.87)
    assert m["gained_dynapse2"] == pytest.approx(0.7 * (0.7 - 0.9))
    assert m["gained_bss2_uncalibrated"] == pytest.approx(0.7 * (0.7 - 0.9))
    assert m["carried"] == pytest.approx(0.7 * (0.6 - 0.9))
    assert found.arrays["mean"].shape == found.arrays["sd"].shape == (4, 5)
    assert found.arrays["mean"][3, 1] == pytest.approx(0.59)
    assert found.arrays["sd"][0] == pytest.approx([0, 0, 0] + 2 * [0.01 * np.std([0, 1, 2])])


def test_presets_are_described_by_what_they_are():
    net = paper.stepped_network(paper.Recipe(), 0)
    assert paper.described("ideal", net) == ("any", "none", "no limit")
    assert paper.described("dynapse2", net) == (
        "−15 to 15",
        "threshold, tau_mem, tau_syn, gain 10 %",
        "40 of 64 synapses a neuron",
    )
    assert paper.described("bss2_uncalibrated", net)[1:] == (
        "threshold 9 %; tau_mem 7 %; tau_syn 15 %",
        "80 of 512 synapses a neuron",
    )
    assert paper.described("bss2_hagen", net) == ("−63 to 63", "none", "128 inputs a product")
    assert paper.described("xylo", net) == ("−128 to 127", "none", "5 of 16 inputs")


# Between tools --------------------------------------------------------------------------------------------------------------


def test_spikes_and_weights_that_differ_between_tools_are_counted(monkeypatch):
    config = paper.Tools(networks=1, steps=60)
    found = paper.tools(config, 3, silent, None).metrics
    assert found["differ"] == found["weights_off"] == 0 and found["spikes"] > 200
    real = paper.spikes_snntorch

    def wrong(path, x):
        spikes = real(path, x)
        spikes[0, 0, 0] = 1 - spikes[0, 0, 0]
        return spikes

    monkeypatch.setattr(paper, "spikes_snntorch", wrong)
    read = paper.nir.read
    monkeypatch.setattr(paper.nir, "read", lambda path: [layer._replace(w=1.5 * layer.w) for layer in read(path)])
    found = paper.tools(config, 3, silent, None).metrics
    assert found["differ"] == 4 and found["weights_off"] > 0.1
