"""The chapter on Perez-Nieves et al. (2021): settings, what the four networks share, controls, metrics, replay, bands."""

import dataclasses
from dataclasses import replace

import bands
import numpy as np
import pytest
import torch

from snnrepro.data.recordings import counts, joined
from snnrepro.data.timing import Timing
from snnrepro.errors import UserError
from snnrepro.experiment import silent
from snnrepro.heterogeneity import networks
from snnrepro.papers import pereznieves2021 as paper

TINY = paper.Comparison(
    Timing(),
    tuple((paper.SETTINGS | paper.SHARED).items()),
    hidden=20,
    dt=10e-3,
    train=200,
    test=60,
    epochs=2,
    weights=6.0,
    warps=(0.5, 1.0, 2.0),
    plain=True,
)


@pytest.fixture
def seen(monkeypatch):
    """What each network was trained with: weights and constants at the start, first batches of each epoch, and how."""
    calls = []
    original = networks.fit

    def fit(network, batches, c, last, optimiser, limits, **how):
        batches = list(batches)
        calls.append(
            {
                "weights": {name: w.detach().clone() for name, w in network.weights().items()},
                "taus": [tau.detach().clone() for tau in c.taus()],
                "learns": c.mem.requires_grad,
                "last": last,
                "batches": batches,
                "optimiser": optimiser,
                "limits": limits,
                "how": how,
            }
        )
        return original(network, batches, c, last, optimiser, limits, **how)

    monkeypatch.setattr(networks, "fit", fit)
    return calls


@pytest.fixture(scope="module")
def tiny():
    return paper.compare(TINY, 3, silent, None)


# Settings -------------------------------------------------------------------------------------------------------------------


def test_the_four_settings_are_those_of_table_1():
    found = {name: (s.initial, s.training) for name, s in paper.SETTINGS.items()}
    assert found == {
        "hom_std": ("homogeneous", "none"),
        "hom_het": ("homogeneous", "each"),
        "het_std": ("heterogeneous", "none"),
        "het_het": ("heterogeneous", "each"),
    }
    assert all((s.mixed, s.shuffled) == (0.0, False) for s in paper.SETTINGS.values())


def test_controls_differ_by_one_switch():
    for control, run in (
        (paper.SHARED["shared"], "hom_het"),
        (paper.CONTROLS["shuffled"], "het_het"),
        (paper.MIXED["hom_std_mixed"], "hom_std"),
        (paper.MIXED["het_het_mixed"], "het_het"),
    ):
        changed = [a for a, b in zip(control._fields, control, strict=True) if getattr(paper.SETTINGS[run], a) != b]
        assert len(changed) == 1
    assert paper.MIXED["hom_std_mixed"].mixed == paper.MIXED["het_het_mixed"].mixed == 0.5
    timed, controls = paper.EXPERIMENTS["timing"], paper.EXPERIMENTS["controls"]
    for profile in ("quick", "paper"):
        a, b = (dataclasses.asdict(getattr(e, profile)) for e in (timed, controls))
        assert {key for key in a if a[key] != b[key]} == {"settings", "warps", "plain"}


COMMON = {"hidden": 128, "tau_mem": 20e-3, "tau_syn": 10e-3, "batch": 64}  # of the authors' code
COMMON |= {"dt": 2e-3, "train": 4000, "test": 1000, "epochs": 30, "rate": 3e-3, "rate_tau": 1e-2}  # ours, and below
COMMON |= {"slope": 20.0, "scale": 10.0, "weights": 2.0, "form": "log", "warps": (1.0,), "plain": False}
FOUR = (
    ("hom_std", ("homogeneous", "none", 0.0, False)),
    ("hom_het", ("homogeneous", "each", 0.0, False)),
    ("het_std", ("heterogeneous", "none", 0.0, False)),
    ("het_het", ("heterogeneous", "each", 0.0, False)),
)
ONE_PAIR = (("shared", ("homogeneous", "shared", 0.0, False)),)
MIXED = (
    ("het_het", ("heterogeneous", "each", 0.0, False)),
    ("hom_std_mixed", ("homogeneous", "none", 0.5, False)),
    ("het_het_mixed", ("heterogeneous", "each", 0.5, False)),
)
BURSTS = {"task": (5, 6, 5, 3, (15e-3, 40e-3), 0.1, 7.5e-3, 0.4, 6.0, 0.2, 0.9, 0)}
WARPED = {"warps": (0.5, 0.7, 1.0, 1.4, 2.0)}
SPOKEN = {"settings": FOUR, "dt": 4e-3, "plain": True}
SETTINGS = {
    "timing": COMMON | BURSTS | WARPED | {"settings": FOUR + ONE_PAIR, "plain": True},
    "scales": COMMON | BURSTS | WARPED | {"settings": MIXED},
    "rates": COMMON | {"task": (10, 30, 12, 12, 4.0, 0.9, 0), "settings": FOUR},
    "controls": COMMON | BURSTS | {"settings": (("shuffled", ("heterogeneous", "each", 0.0, True)),)},
    "speech": COMMON | SPOKEN | {"task": (False, 0.7, None)},
    "speech_official": COMMON | SPOKEN | {"task": (True, 0.7, None)},
    "heidelberg": COMMON | SPOKEN | {"task": (True, 1.0, None), "epochs": 50, "limit": None},
    "gradients": {"inputs": 12, "hidden": 60, "steps": 400, "batch": 3, "dt": 5e-3, "slope": 20.0},
}


@pytest.mark.parametrize("name", paper.EXPERIMENTS)
def test_paper_settings(name):
    """Those of the authors' code where the data allow it; all others are named in the chapter."""
    experiment = paper.EXPERIMENTS[name]
    found = dataclasses.asdict(experiment.paper)
    if name != "gradients":  # decays of 2 / e and 0.995 at steps of 0.5 ms
        assert found.pop("limits") == pytest.approx((1.62946e-3, 99.7498e-3), rel=1e-5)
        assert experiment.quick.hidden == 48
        assert experiment.quick.settings == experiment.paper.settings
    assert found == SETTINGS[name]
    seeds = {"speech": 6, "speech_official": 6, "heidelberg": 5}
    assert experiment.paper_seeds == tuple(range(seeds.get(name, 10)))


# Training -------------------------------------------------------------------------------------------------------------------


def test_networks_share_weights_samples_and_order(seen):
    paper.compare(replace(TINY, plain=False), 1, silent, None)
    first = seen[::2]  # two epochs each
    assert len(first) == 5
    for call in first:
        assert all(torch.equal(call["weights"][k], w) for k, w in first[0]["weights"].items())
        assert [label.tolist() for _, label in call["batches"]] == [label.tolist() for _, label in first[0]["batches"]]
        assert all(
            np.array_equal(x.starts, y.starts) and np.array_equal(x.units, y.units)
            for (x, _), (y, _) in zip(call["batches"], first[0]["batches"], strict=True)
        )
        assert call["limits"] == networks.LIMITS
        assert call["how"] == {"slope": 20.0, "scale": 10.0}
    assert [len(label) for _, label in first[0]["batches"]] == [64, 64, 64, 8]
    assert [label.tolist() for _, label in seen[0]["batches"]] != [label.tolist() for _, label in seen[1]["batches"]]
    assert first[0]["batches"][0][0].shape == (90, 64, 30)
    w = first[0]["weights"]
    assert set(w) == {"hidden0", "recurrent0", "output"}
    assert float(w["hidden0"].abs().max()) == pytest.approx(6 / np.sqrt(30), rel=0.02)
    assert float(w["recurrent0"].abs().max()) == pytest.approx(1 / np.sqrt(20), rel=0.02)


def test_initial_time_constants(seen):
    paper.compare(replace(TINY, plain=False), 1, silent, None)
    for name, call in zip(dict(TINY.settings), seen[::2], strict=True):
        mem, syn = call["taus"]
        drawn = name.startswith("het")
        assert call["learns"] == (name not in ("hom_std", "het_std"))
        assert [len(g["params"]) for g in call["optimiser"].param_groups] == ([3, 2] if call["learns"] else [3])
        assert [g["lr"] for g in call["optimiser"].param_groups] == [3e-3, 1e-2][: 1 + call["learns"]]
        assert mem.shape == ((1,) if name == "shared" else (20,))
        assert (float(mem.std(correction=0)) > 5e-3) == drawn
        assert (np.std(call["last"].tau_mem) > 5e-3) == drawn
        assert call["last"].gain == "leak"
        if not drawn:
            assert mem.tolist() == pytest.approx([20e-3] * len(mem))
            assert syn.tolist() == pytest.approx([10e-3] * len(syn))
            assert call["last"].tau_syn.tolist() == pytest.approx([10e-3] * 10)
            assert call["last"].tau_mem.tolist() == pytest.approx([20e-3] * 10)
    drawn = [call for name, call in zip(dict(TINY.settings), seen[::2], strict=True) if name.startswith("het")]
    assert torch.equal(drawn[0]["taus"][0], drawn[1]["taus"][0])
    assert np.array_equal(drawn[0]["last"].tau_syn, drawn[1]["last"].tau_syn)


def test_mixed_scales_stretch_training_samples(seen):
    setting = paper.MIXED["hom_std_mixed"]
    config = replace(
        TINY, settings=(("mixed", setting), ("plain", setting._replace(mixed=0.0))), plain=False, train=640
    )
    paper.compare(config, 1, silent, None)
    mixed, plain = ([x.shape[0] for x, _ in call["batches"]] for call in (seen[0], seen[2]))
    assert plain == [90] * 10
    assert max(mixed) == 180  # one octave, 0.9 s at 10 ms
    assert min(mixed) > 120
    assert sum(len(x.units) for x, _ in seen[0]["batches"]) == sum(len(x.units) for x, _ in seen[2]["batches"])


def test_shuffling_keeps_counts_and_population_times(seen):
    setting = paper.CONTROLS["shuffled"]
    config = replace(TINY, settings=(("shuffled", setting), ("plain", setting._replace(shuffled=False))), plain=False)
    paper.compare(config, 1, silent, None)
    (x, label), (y, same) = seen[0]["batches"][0], seen[2]["batches"][0]
    assert torch.equal(label, same)
    cells = [np.repeat(np.arange(90 * 64), np.diff(events.starts)) for events in (x, y)]
    assert np.array_equal(*cells)  # the same number of spikes in each step of each sample
    assert not np.array_equal(x.units, y.units)
    for k in range(64):
        assert np.array_equal(np.sort(x.units[cells[0] % 64 == k]), np.sort(y.units[cells[1] % 64 == k]))
    r = joined([(np.linspace(0, 1, 50), np.arange(50) % 5)] * 3, [0, 1, 2], 5, 2.0)
    mixed = paper.shuffled(r, np.random.default_rng(0))
    assert np.array_equal(counts(mixed), counts(r))
    assert not np.array_equal(mixed.time, r.time)
    assert np.array_equal(np.sort(mixed.time[:50]), r.time[:50])


# Metrics --------------------------------------------------------------------------------------------------------------------


def test_metrics_are_those_of_the_arrays(tiny):
    m, a = tiny.metrics, tiny.arrays
    assert len({m[f"accuracy_{name}"] for name in dict(TINY.settings)}) > 2
    for name in dict(TINY.settings):
        assert m[f"accuracy_{name}"] == a[f"accuracy_{name}"][1]
        assert m[f"warped_{name}"] == pytest.approx(a[f"accuracy_{name}"][[0, 2]].mean())
        tau = a[f"end_{name}"][0].astype(float)
        assert a[f"end_{name}"].shape == a[f"start_{name}"].shape == (2, 20)
        assert m[f"spread_{name}"] == pytest.approx(tau.std() / tau.mean(), abs=1e-6)
        assert len(a[f"curve_{name}"]) == 2
        moved = not np.array_equal(a[f"end_{name}"], a[f"start_{name}"])
        assert moved == (name not in ("hom_std", "het_std"))
    tau = a["end_het_het"][0].astype(float)
    z = (tau - tau.mean()) / tau.std()
    assert m["skew_het_het"] == pytest.approx((z**3).mean(), rel=1e-4)
    assert m["skew_hom_std"] == m["skew_shared"] == 0
    for name in ("hom_het", "het_std", "het_het", "shared"):
        assert m[f"accuracy_gain_{name}"] == m[f"accuracy_{name}"] - m["accuracy_hom_std"]
        assert m[f"warped_gain_{name}"] == m[f"warped_{name}"] - m["warped_hom_std"]
    assert m["each_over_shared"] == m["accuracy_hom_het"] - m["accuracy_shared"]
    assert m["drawn_over_shared"] == m["accuracy_het_het"] - m["accuracy_shared"]
    four = [m[f"accuracy_{name}"] for name in paper.SETTINGS]
    assert m["range"] == max(four) - min(four)
    assert tiny.early == {"first_loss": a["curve_hom_std"][0]}
    assert tiny.data == "generated"
    assert not {"accuracy_gain_hom_std", "mixing"} & m.keys()


def test_the_edge_counts_time_constants_at_the_limit():
    config = replace(TINY, settings=(("het_het", paper.SETTINGS["het_het"]),), limits=(1e-3, 15e-3), plain=False)
    found = paper.compare(config, 0, silent, None)
    tau = found.arrays["end_het_het"][0]
    assert 0 < found.metrics["edge_het_het"] == np.mean(tau > 0.01499) < 1


def test_mixing_is_the_gain_at_other_scales(monkeypatch):
    right = {"het_het": [0.2, 0.9, 0.4], "hom_std_mixed": [0.3, 0.5, 0.4], "het_het_mixed": [0.6, 0.8, 0.5]}
    tau = np.full((2, 4), 0.02)
    made = {name: paper.Outcome(np.array(a), 1.0, np.ones(2), tau, tau) for name, a in right.items()}
    monkeypatch.setattr(paper, "_outcomes", lambda *args: made)
    m = paper.compare(replace(TINY, plain=False), 0, silent, None).metrics
    assert m["mixing"] == pytest.approx(0.55 - 0.3)
    assert m["warped_gain_het_het_mixed"] == pytest.approx(0.55 - 0.35)
    assert m["accuracy_gain_het_het_mixed"] == pytest.approx(0.8 - 0.5)
    assert "range" not in m


def test_plain_classifiers():
    rng = np.random.default_rng(0)

    def samples(n):
        label = np.arange(n) % 2  # unit 0 early or late: no difference in counts
        made = [(np.array([0.1 + 0.6 * k, 0.5]), np.array([0, 1])) for k in label]
        return joined([(t + rng.uniform(0, 0.05, 2), u) for t, u in made], label, 2, 0.9)

    found = paper.plain_accuracies(samples(200), samples(100), 0)
    assert found == {"accuracy_counts": 0.5, "accuracy_bins": 1.0, "accuracy_ann": 1.0}


def test_a_killed_comparison_goes_on_where_it_stopped(tiny, tmp_path, seen):
    checkpoint = tmp_path / "seed.npz"
    paper.compare(replace(TINY, settings=TINY.settings[:2]), 3, silent, checkpoint)
    assert len(seen) == 4
    told = []
    found = paper.compare(TINY, 3, lambda done, total, **m: told.append((done, total)), checkpoint)
    assert len(seen) == 4 + 6
    assert told == [(k, 10) for k in range(5, 11)]
    assert found.metrics == tiny.metrics
    assert all(np.array_equal(found.arrays[k], tiny.arrays[k]) for k in tiny.arrays)


@pytest.mark.parametrize("name", ["timing", "rates", "scales", "controls"])
def test_a_replay_gives_the_first_loss(name, seen):
    experiment = paper.EXPERIMENTS[name]
    config = replace(experiment.quick, train=64, hidden=8, test=10, dt=20e-3)
    whole = experiment.function(replace(config, epochs=2), 0, silent, None)
    epochs = len(seen)
    again = experiment.function(experiment.replay(replace(config, epochs=2)), 0, silent, None)
    assert again.early == whole.early
    assert len(seen) == epochs + 1


def test_digits_are_held_out_by_seed(monkeypatch):
    asked = []

    def spoken(*args):
        asked.append(args)
        r = joined(
            [(np.array([0.1, 0.3]), np.array([k % 3, 1])) for k in range(40)], np.arange(40) % 4, 3, 0.5, tag="fsdd"
        )
        return r, r

    monkeypatch.setattr(paper, "spoken_digits", spoken)
    small = {"hidden": 5, "epochs": 1, "plain": False}
    for name, seeds in (("speech", (0, 7)), ("speech_official", (3,))):
        for seed in seeds:
            experiment = paper.EXPERIMENTS[name]
            found = experiment.function(replace(experiment.quick, **small), seed, silent, None)
            assert found.data == "fsdd"
    assert asked == [(0, 0.7, 10), (1, 0.7, 10), (None, 0.7, 10)]


@pytest.mark.parametrize(("name", "data"), [("speech", "fsdd"), ("heidelberg", "shd")])
def test_speech_without_recordings_is_a_clear_line(name, data, monkeypatch, tmp_path):
    monkeypatch.delenv("SNNREPRO_DATA", raising=False)
    monkeypatch.setenv("SNNREPRO_CACHE", str(tmp_path))
    experiment = paper.EXPERIMENTS[name]
    with pytest.raises(UserError, match=f"run `snnrepro data get {data}`"):
        experiment.function(experiment.quick, 0, silent, None)


def test_the_heidelberg_digits_keep_their_split(monkeypatch):
    def parts(part):
        samples = [(np.array([0.1, 0.3]), np.array([k % 3, 1])) for k in range(40)]
        return joined(samples, (np.arange(40) + (part == "test")) % 4, 3, 1.0, tag="shd")

    monkeypatch.setattr(paper, "heidelberg_digits", parts)
    experiment, seen = paper.EXPERIMENTS["heidelberg"], {}
    monkeypatch.setattr(
        paper, "_compared", lambda config, train, test, *rest: seen.update(train=train.label, test=test.label)
    )
    experiment.function(replace(experiment.quick, limit=8), 0, silent, None)
    assert seen["train"].tolist() == [0, 1, 2, 3] * 2 and seen["test"].tolist() == [1, 2, 3, 0] * 2
    experiment.function(experiment.paper, 0, silent, None)
    assert len(seen["train"]) == 40
    monkeypatch.undo()
    monkeypatch.setattr(paper, "heidelberg_digits", parts)
    found = experiment.function(replace(experiment.quick, limit=8, hidden=5, epochs=1, plain=False), 0, silent, None)
    assert found.data == "shd" and "accuracy_hom_het" in found.metrics


# Gradients ------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checked():
    return paper.gradients(paper.Gradients(steps=80), 5, silent, None)


def test_gradients_agree(checked):
    m = checked.metrics
    assert m["spikes_differ"] == m["snntorch_differ"] == 0
    assert 0 < m["weights_off"] < 1e-12
    assert 0 < m["constants_off"] < 1e-12
    assert 0 < m["finite_off"] < 1e-7
    assert 0 < m["snntorch_off"] < 1e-5
    assert m["spikes"] > 10
    assert np.array_equal(checked.arrays["raster"], checked.arrays["peer"])
    np.testing.assert_allclose(checked.arrays["ours"], checked.arrays["theirs"], atol=1e-12)


@pytest.mark.parametrize("fault", ["gain", "delay"])
def test_a_fault_of_the_layer_shows_in_the_gradients(fault, monkeypatch):
    original = networks.hidden

    def hidden(x, w, v, c, **how):
        if fault == "gain":
            return original(x, w * (1 - c.decays()[0]) / (1 - c.decays()[0]).detach(), v, c, **how)
        return original(torch.roll(x, 1, 0), w, v, c, **how)

    monkeypatch.setattr(networks, "hidden", hidden)
    m = paper.gradients(paper.Gradients(steps=80), 5, silent, None).metrics
    assert m["constants_off"] > 1e-3
    assert (m["spikes_differ"] > 0) == (fault == "delay")


def test_differences_are_relative_to_the_largest_entry():
    assert paper._apart(torch.tensor([1.0, -2.0]), torch.tensor([1.5, -4.0])) == 0.5


# What a negative control, an untrained network or a missing effect gives; the claim's bands must leave it out.
WITHOUT_EFFECT = {
    "counts-tell-nothing": 0.5,  # classifiers that see time
    "drawn-and-trained-beats-equal-and-fixed": 0.0,
    "trained-beats-equal-and-fixed": 0.0,
    "heidelberg-digits": 0.714,  # the network with equal and fixed time constants
    "drawn-beats-equal": 0.0,
    "own-constants-beat-a-shared-pair": 0.0,
    "drawn-and-trained-beats-a-shared-pair": 0.0,
    "rates-are-learned": 0.1,
    "no-gain-without-timing": 0.1,  # least gain of the timing task that would count
    "no-range-without-timing": 0.1,
    "learned-constants-are-spread": 0.0,  # before training
    "learned-constants-have-a-long-tail": 0.0,
    "better-at-other-scales": 0.0,
    "better-when-scales-are-mixed": 0.0,
    "mixing-helps": 0.0,
    "shuffled-times-cannot-be-learned": 0.6,  # the same network with times as they are
    "speech-learned": 0.1,  # guessing
    "speech-gain": 0.0,
    "speech-gain-drawn": 0.0,
}


@pytest.mark.parametrize("claim", bands.judged("pereznieves2021"), ids=lambda c: c.id)
def test_bands_leave_out_the_control(claim):
    bands.leave_out(claim, WITHOUT_EFFECT[claim.id])


def test_the_table_has_no_claim_that_is_gone():
    assert WITHOUT_EFFECT.keys() == {claim.id for claim in bands.judged("pereznieves2021")}
