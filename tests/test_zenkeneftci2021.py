"""The chapter on Zenke & Neftci (2021): draws, rules that differ by one thing, learning signals, checkpoints, bands."""

import dataclasses

import bands
import numpy as np
import pytest
import torch

from snnrepro import ledger, surrogate
from snnrepro.errors import UserError
from snnrepro.experiment import silent
from snnrepro.papers import zenkeneftci2021 as paper
from snnrepro.papers import zenkevogels2021
from snnrepro.peers.rtrl import recurrent_snntorch
from snnrepro.rtrl import gradients, networks
from snnrepro.rtrl.networks import Model

TINY = dataclasses.replace(paper.QUICK, samples=20, hidden=8, epochs=2, units=5, classes=3, batch=15)


def told(epoch, **now):
    """Progress that nobody watches."""


# No setting of the paper is known. The task is that of Zenke & Vogels (2021), table 1, as an independent reproduction quotes it.
PUBLISHED_TASK = {
    "classes": 10,
    "units": 20,
    "smoothness": 1.0,
    "samples": 1000,
    "active": 50,
    "steps": 100,
    "batch": 250,
    "least": 1e-3,
    "least_strength": 100.0,
    "readout": 20e-3,
    "training": 0.8,
    "hidden": 100,
    "rate": 0.05,
}
OUR_TASK = {"epochs": 50, "most": 1.0, "most_strength": 1.0}
SETUP = {"n": 32, "m": 10, "k": 2, "steps": 40, "samples": 8, "rate": 0.3, "drive": 3.0, "mean": 0.0}
OURS = {
    "identities": {
        "setup": SETUP | {"samples": 2},
        "gain": 4.0,
        "models": (
            *("plain", "leaky readout", "reset in the gradient", "subtracted reset", "new current"),
            *("adaptive threshold", "all at once"),
        ),
    },
    "alignment": {
        "setup": SETUP,
        "gains": (0.0, 0.5, 1.0, 2.0, 4.0, 8.0),
        "sizes": (16, 32, 64, 128, 256),
        "lengths": (10, 20, 40, 80, 160),
        "gain": 2.0,
        "rtrl_up_to": 16,
    },
    "complexity": {
        "sizes": (8, 16, 32, 64, 128),
        "lengths": (10, 100, 1000, 10000),
        "m": 10,
        "k": 2,
        "long": 1000,
        "wide": 64,
    },
    "learning": {
        "task": PUBLISHED_TASK | OUR_TASK,
        "rules": ("s_ctl", "s_prop", "a_ctl", "a_prop", "random", "local", "uniform"),
    },
    "layered": {
        "task": PUBLISHED_TASK | OUR_TASK | {"hidden": 50, "epochs": 20, "rate": 0.02},
        "depth": 3,
        "inward": 12.0,
        "outward": 30.0,
        "below": ("local", "top", "bounds", "end", "scrambled"),
        "compared": 8,
    },
    "second_opinion": {
        "setup": SETUP | {"n": 20, "steps": 100, "samples": 4, "drive": 0.008, "mean": 8.0, "rate": 0.4},
        "gain": 0.05,
    },
}


@pytest.mark.parametrize("name", list(paper.EXPERIMENTS))
def test_every_paper_setting_is_named(name):
    assert dataclasses.asdict(paper.EXPERIMENTS[name].paper) == OURS[name]


def test_the_neuron_and_the_rules_are_named():
    """The neuron of Zenke & Vogels (2021); slopes and rules are ours."""
    assert paper.NEURON == zenkevogels2021.NEURON  # its test holds that one against the published values
    plain, steep = ("fast_sigmoid", 10.0, 1.0), ("asymptotic", 100.0, 1.0)
    assert dict(paper.RULES) == {
        "s_ctl": (plain, False, "symmetric", False),
        "s_prop": (plain, True, "symmetric", False),
        "a_ctl": (steep, False, "symmetric", False),
        "a_prop": (steep, True, "symmetric", False),
        "random": (plain, False, "random", False),
        "local": (plain, False, "symmetric", True),
        "uniform": (plain, False, "uniform", False),
    }
    assert dict(paper.SCALES) == {
        f"{label}_{slope}": (name, slope, 1.0)
        for label, name in (("superspike", "fast_sigmoid"), ("asymptotic", "asymptotic"))
        for slope in (10, 100)
    }
    alignment = paper.EXPERIMENTS["alignment"]
    assert (len(alignment.quick_seeds), len(alignment.paper_seeds)) == (5, 20)


def test_networks_of_all_gains_differ_in_recurrent_weights_alone():
    setup = paper.Setup(6, 4, 3, 10)
    (a, x, label), (b, same, again) = setup.draw(1.0, 3), setup.draw(4.0, 3)
    assert np.array_equal(a.input, b.input)
    assert np.array_equal(a.output, b.output)
    np.testing.assert_allclose(4 * a.recurrent, b.recurrent)
    assert np.array_equal(x, same)
    assert np.array_equal(label, again)
    assert not np.array_equal(x, setup.draw(1.0, 4)[1])
    large = paper.Setup(300, 50).draw(2.0, 0)[0]
    assert large.recurrent.std() == pytest.approx(2 / np.sqrt(300), rel=0.02)
    assert large.input.std() == pytest.approx(3 / np.sqrt(50), rel=0.02)


def test_alignment_is_measured_on_the_same_network():
    setup, model = paper.Setup(10, samples=2), Model(paper.NEURON)
    found = paper._aligned(model, setup, 4.0, 1, up_to=0)
    assert found == pytest.approx(paper._aligned(model, setup, 4.0, 1, up_to=16), rel=1e-9)
    weights, x, label = setup.draw(4.0, 1)
    activity = networks.run(model, weights, x)
    error = networks.cross_entropy(activity.y, label).error
    exact, local = gradients.exact(model, weights, activity, error), gradients.local(model, weights, activity, error)
    flat = [np.concatenate([g.input.ravel(), g.recurrent.ravel()]) for g in (local, exact)]
    size = [np.linalg.norm(f) for f in flat]
    assert found[0] == pytest.approx(flat[0] @ flat[1] / size[0] / size[1])
    assert found[1] == pytest.approx(size[0] / size[1])
    assert found[4] == activity.s.mean()


def test_the_metrics_of_alignment_are_what_they_say():
    config = paper.Alignment(paper.Setup(8, samples=2), (0.0, 2.0, 8.0), (8, 10), (10, 40), 2.0)
    found = paper.alignment(config, 2, silent, None)
    m, rows = found.metrics, found.arrays
    assert m["cosine_2"] == rows["superspike_10"][1, 0]
    assert m["ratio_8"] == rows["superspike_10"][2, 1]
    assert m["cost_of_scale"] == pytest.approx(m["cosine_2"] - m["asymptotic_cosine_2"])
    assert m["cost_of_length"] == pytest.approx(rows["over_steps"][0, 0] - rows["over_steps"][1, 0])
    assert m["own_minus_none"] == pytest.approx(rows["superspike_10"][2, 2] - rows["superspike_10"][2, 0])
    assert m["log10_growth"] == pytest.approx(-np.log10(rows["asymptotic_10"][2, 1]))
    assert m["random_feedback"] == rows["superspike_10"][1, 3]
    np.testing.assert_allclose(rows["over_n"][0], paper._aligned(Model(paper.NEURON), config.setup, 2.0, 2, 16))


def test_rules_differ_from_the_plain_one_by_one_field():
    base = paper.RULES["s_ctl"]
    for name, rule in paper.RULES.items():
        changed = [field for field, a, b in zip(base._fields, base, rule, strict=True) if a != b]
        assert len(changed) == (2 if name == "a_prop" else 0 if name == "s_ctl" else 1), name
    assert paper.RULES["a_prop"]._replace(through=False) == paper.RULES["a_ctl"]


@pytest.mark.parametrize("feedback", ["symmetric", "random"])
def test_errors_come_back_through_the_feedback(feedback):
    """The gradient of the hidden weights is that of the feedback, that of the readout is its own; the answers do not change."""
    g = torch.Generator().manual_seed(0)
    network = surrogate.uniform_network((5, 8, 3), True, g)
    network.hidden[0].data += 1.5
    sent = torch.randn(8, 3, generator=g) if feedback == "random" else None
    times, label = paper._samples(TINY, 0)
    (x, _), *_ = paper._batches(times[0], label[0], np.arange(15), TINY)
    scores, s = paper._answers(x, network, paper.RULES["s_ctl"], sent, TINY)
    plain, _ = paper._answers(x, network, paper.RULES["s_ctl"], None, TINY)
    assert torch.allclose(scores, plain, atol=1e-6)
    error = torch.randn(scores.shape, generator=g)
    ours = torch.autograd.grad((scores * error).sum(), [network.hidden[0], network.output])
    last = paper.NEURON._replace(tau_mem=TINY.readout)
    hidden = surrogate.lif(
        x, network.hidden[0], paper.NEURON._replace(recurrent_gradient=False), network.recurrent[0], states=False
    ).spikes
    back = surrogate.readout(hidden, network.output if sent is None else sent, last)[1:]
    assert torch.allclose(ours[0], torch.autograd.grad((back * error).sum(), network.hidden[0])[0], atol=1e-5)
    straight = surrogate.readout(s.detach(), network.output, last)[1:]
    assert torch.allclose(ours[1], torch.autograd.grad((straight * error).sum(), network.output)[0], atol=1e-5)
    assert ours[0].abs().max() > 0


def test_a_local_loss_leaves_its_readout_alone(monkeypatch):
    """Every rule starts from the same weights, and only `local` keeps the readout it started with."""
    seen = {}
    original = surrogate.uniform_network

    def kept(*arguments):
        network = original(*arguments)
        network.hidden[0].data += 1.5  # neurons spike from the start
        seen[len(seen)] = network, network.output.detach().clone(), network.hidden[0].detach().clone()
        return network

    monkeypatch.setattr(paper.surrogate, "uniform_network", kept)
    for name in ("s_ctl", "local"):
        paper._learn(paper.RULES[name], TINY, 0, told)
    (a, output, hidden), (b, same, also) = seen.values()
    assert torch.equal(output, same)
    assert torch.equal(hidden, also)
    assert not torch.equal(a.output, output)
    assert torch.equal(b.output, output)
    assert not torch.equal(b.hidden[0], hidden)


def test_training_and_test_samples_are_apart():
    times, label = paper._samples(TINY, 0)
    assert [len(t) for t in times] == [30, 30]
    assert len(label[0]) == len(label[1]) == 30
    whole = np.concatenate(times)
    assert whole.min() >= 0
    assert whole.max() < TINY.active
    batches = list(paper._batches(times[0], label[0], np.arange(30), TINY))
    assert [len(y) for _, y in batches] == [15, 15]
    assert all(x.units.size == 15 * 5 for x, _ in batches)  # one spike a unit


def test_a_killed_seed_goes_on_where_it_stopped(tmp_path):
    config = paper.Learning(TINY, ("s_ctl", "random", "local"))
    whole = paper.learning(config, 1, silent, None)
    checkpoint = tmp_path / "seed.npz"
    paper.learning(dataclasses.replace(config, rules=config.rules[:2]), 1, silent, checkpoint)
    seen = []
    resumed = paper.learning(config, 1, lambda done, total, **now: seen.append(done), checkpoint)
    assert seen == [5, 6]
    assert resumed.metrics == whole.metrics
    for key, curve in whole.arrays.items():
        assert np.array_equal(curve, resumed.arrays[key])
    assert whole.metrics != paper.learning(config, 2, silent, None).metrics


SMALL = paper.Layered(dataclasses.replace(TINY, hidden=6), compared=5)


def trained(monkeypatch, below):
    """The weights of a stack before and after it learned."""
    seen, original = [], paper._layers

    def kept(*arguments):
        seen.append(original(*arguments))
        seen.append([[w.detach().clone() for w in layer] for layer in seen[0]])
        return seen[0]

    monkeypatch.setattr(paper, "_layers", kept)
    paper._learn_layers(below, SMALL, 0, told)
    monkeypatch.setattr(paper, "_layers", original)
    return seen[1], seen[0]


@pytest.mark.parametrize("below", paper.BELOW)
def test_ways_to_learn_below_start_alike_and_keep_their_readouts(monkeypatch, below):
    before, after = trained(monkeypatch, below)
    first, _ = trained(monkeypatch, "local")
    for k, (was, now, same) in enumerate(zip(before, after, first, strict=True)):
        assert all(torch.equal(a, b) for a, b in zip(was, same, strict=True))
        assert torch.equal(was[2], now.output)
        stays = below == "top" and k < 2
        assert torch.equal(was[0], now.input) == stays
        assert torch.equal(was[1], now.recurrent) == stays


def test_the_stack_is_scaled_as_it_says():
    layers = paper._layers(paper.Layered(), 0)
    assert [tuple(layer.input.shape) for layer in layers] == [(20, 50), (50, 50), (50, 50)]
    for layer, fan_in in zip(layers, (20, 50, 50), strict=True):
        largest = [float(w.detach().abs().max()) * np.sqrt(n) for w, n in zip(layer, (fan_in, 50, 50), strict=True)]
        assert largest == pytest.approx([12, 1, 30], rel=0.02)
    assert not torch.equal(layers[0].output, layers[1].output)


@pytest.mark.parametrize("apart", [True, False])
def test_an_error_comes_down_only_where_layers_are_not_apart(apart):
    layers = paper._layers(paper.Layered(), 1)
    x = torch.from_numpy((np.random.default_rng(0).random((30, 2, 20)) < 0.2).astype(np.float32))
    scores, spikes = paper._upwards(x, layers, paper.Task(), apart)[2]
    assert scores.shape == (30, 2, 10)
    assert spikes.sum() > 0
    found = torch.autograd.grad(
        paper._each_step(scores, torch.tensor([0, 1])), [la.input for la in layers], allow_unused=True
    )
    assert [g is not None and bool(g.abs().max() > 0) for g in found] == [not apart, not apart, True]


@pytest.mark.parametrize("seed", range(3))
def test_stacks_follow_the_local_losses_of_the_method(seed):
    assert paper._against_rules(SMALL, seed) < 1e-12


@pytest.mark.parametrize("below", paper.BELOW)
def test_losses_of_the_layers_below(monkeypatch, below):
    """Which classes each readout is held against while it learns; scrambled ones are the same classes in another order."""
    seen, original = [], paper._each_step

    def kept(scores, label):
        seen.append(label)
        return original(scores, label)

    monkeypatch.setattr(paper, "_each_step", kept)
    paper._learn_layers(below, dataclasses.replace(SMALL, task=dataclasses.replace(SMALL.task, epochs=1)), 0, told)
    right, wrong = seen[:3], seen[3:5]
    assert all(torch.equal(label, right[0]) for label in right)
    assert len(seen) == 2 * (5 if below == "scrambled" else 3)  # two batches
    if below == "scrambled":
        assert torch.equal(wrong[0], wrong[1])
        assert not torch.equal(wrong[0], right[0])
        assert torch.equal(wrong[0].sort().values, right[0].sort().values)


def test_without_their_strength_the_bounds_alone_teach_nothing(monkeypatch):
    config = dataclasses.replace(SMALL, task=dataclasses.replace(SMALL.task, least_strength=0.0, most_strength=0.0))
    seen, original = [], paper._layers
    monkeypatch.setattr(paper, "_layers", lambda *arguments: seen.extend(original(*arguments)) or seen)
    paper._learn_layers("bounds", config, 0, told)
    for k, (now, was) in enumerate(zip(seen, original(config, 0), strict=True)):
        assert torch.equal(now.input, was.input) == torch.equal(now.recurrent, was.recurrent) == (k < 2)


def test_the_first_step_goes_down_the_losses_of_the_way(monkeypatch):
    """Without bounds, and a small rate: the losses that a way has fall in the first update, and Adam moves each weight by the rate."""
    task = dataclasses.replace(SMALL.task, epochs=1, batch=30, least_strength=0.0, most_strength=0.0, rate=1e-4)
    config = dataclasses.replace(SMALL, task=task)
    times, label = paper._samples(task, 0)
    (x, y), *_ = paper._batches(times[0], label[0], np.random.default_rng([0, 1, 0]).permutation(30), task)
    for below, apart in (("local", True), ("end", False)):
        start = paper._layers(config, 0)
        losses = [paper._each_step(scores, y) for scores, _ in paper._upwards(x, start, task, apart)]
        total = sum(losses) if below == "local" else losses[-1]
        slopes = torch.autograd.grad(total, [w for layer in start for w in layer[:2]])
        end, original = [], paper._layers
        monkeypatch.setattr(paper, "_layers", lambda *a, end=end, original=original: end.extend(original(*a)) or end)
        paper._learn_layers(below, config, 0, told)
        monkeypatch.setattr(paper, "_layers", original)
        moved = [b - a for one, two in zip(start, end, strict=True) for a, b in zip(one[:2], two[:2], strict=True)]
        for slope, step in zip(slopes, moved, strict=True):
            clear = slope.abs() > 1e-6
            assert clear.any()
            assert torch.equal(step.sign()[clear], -slope.sign()[clear])


def test_a_killed_stack_goes_on_and_its_metrics_are_what_they_say(tmp_path):
    whole, checkpoint = paper.layered(SMALL, 1, silent, None), tmp_path / "seed.npz"
    paper.layered(dataclasses.replace(SMALL, below=SMALL.below[:4]), 1, silent, checkpoint)
    seen = []
    resumed = paper.layered(SMALL, 1, lambda done, total, **now: seen.append((done, total)), checkpoint)
    assert seen == [(9, 10), (10, 10)]
    assert resumed.metrics == whole.metrics
    m, layers = whole.metrics, {below: whole.arrays[f"accuracy_of_layers_{below}"] for below in paper.BELOW}
    assert all(m[f"accuracy_{below}"] == layers[below][2] for below in paper.BELOW)
    assert m["least_local"] == layers["local"].min()
    assert m["gain_of_depth"] == layers["local"][2] - layers["local"][0]
    least = min(layers["local"][2] - layers[other][2] for other in ("top", "bounds"))
    assert m["worth_of_losses_below"] == pytest.approx(least)
    for name, (a, b) in {
        "worth_of_classes_below": ("local", "scrambled"),
        "cost_of_locality": ("end", "local"),
    }.items():
        assert m[name] == layers[a][2] - layers[b][2]
    assert whole.arrays["loss_local"].shape == (2, 3)
    assert whole.early["first_loss"] == whole.arrays["loss_local"][0, 2]


def test_the_accuracy_is_that_of_the_mean_over_time(monkeypatch):
    """Scores of two steps, three samples: the class with the larger mean of log probabilities counts."""
    scores = torch.tensor([[[3.0, 0, 0], [0, 1, 0], [0, 0, 0.5]], [[0, 2, 0], [0, 0, 9], [0, 0, 0.5]]])
    monkeypatch.setattr(paper, "_answers", lambda *a: (scores, torch.ones(2, 3, 4, requires_grad=True)))
    monkeypatch.setattr(
        paper, "_samples", lambda *a: ([np.zeros((3, 2), int)] * 2, [np.array([0, 1, 2]), np.array([0, 1, 2])])
    )
    accuracy, spikes, _ = paper._learn(paper.Rule(), dataclasses.replace(TINY, epochs=0), 0, told)
    assert accuracy == pytest.approx(2 / 3)
    assert spikes == 8


@pytest.mark.parametrize("name", ["identities", "complexity", "second_opinion", "alignment"])
def test_quick_claims_hold(name):
    """The cheap experiments, live, so that a fault in a method names the claim that it breaks."""
    experiment = paper.EXPERIMENTS[name]
    config = experiment.quick
    if name == "identities":
        config = dataclasses.replace(config, setup=dataclasses.replace(config.setup, n=6, m=4, steps=20))
    if name == "alignment":  # what is left of it is enough for the claims about gains
        config = dataclasses.replace(config, sizes=(16, 32), lengths=(10, 160))
    found = [experiment.function(config, seed, silent, None).metrics for seed in experiment.quick_seeds]
    claims = [c for c in ledger.load_claims("zenkeneftci2021").claims if c.experiment == name and c.band("quick")]
    verdicts = {c.id: ledger.quick_verdict(c, [metrics[c.metric_name] for metrics in found]) for c in claims}
    assert verdicts == dict.fromkeys(verdicts, "pass")


def test_every_neuron_of_the_second_opinion_spikes():
    config = paper.EXPERIMENTS["second_opinion"].paper
    assert min(paper.second_opinion(config, seed, silent, None).metrics["fewest_spikes"] for seed in range(5)) >= 20


@pytest.mark.parametrize(
    ("field", "value"), [("current", "old"), ("gain", "leak"), ("reset", "subtract"), ("reset_gradient", True)]
)
def test_snntorch_refuses_what_it_cannot_do(field, value):
    p = paper.NEURON._replace(current="new", gain="one")._replace(**{field: value})
    with pytest.raises(UserError, match=f"^snnTorch: {field} is {value!r}; it can do"):
        recurrent_snntorch(torch.zeros(3, 1, 2), torch.zeros(2, 2), torch.zeros(2, 2), p, True)


# What a negative control, an untrained network or a missing effect gives; the claim's bands must leave it out.
WITHOUT_EFFECT = {
    "what-is-left-out-is-there": -15.0,
    "aligned-with-weak-recurrence": 0.0,
    "alignment-falls-with-the-gain": 0.0,
    "aligned-with-strong-recurrence": 0.0,  # random feedback, or a steep surrogate
    "lengths-agree": 0.01,  # the asymptotic surrogate
    "own-weights-add-little": 0.1,  # they would make up for everything
    "scale-decides": 0.0,
    "exact-gradient-explodes": 0.04,  # SuperSpike
    "random-feedback-is-not-aligned": 0.98,  # symmetric feedback
    "size-does-not-matter": 0.0,
    "length-costs-little": 0.0,
    "detached-spikes-do-not-hurt": 0.7,  # guessing without these paths
    "detached-spikes-learn": 0.1,
    "large-scale-cannot-go-through-recurrence": 0.0,
    "scale-does-not-matter-when-detached": 0.7,  # as with these paths
    "random-feedback-learns": 0.0,
    "local-loss-learns": 0.0,
    "uniform-feedback-does-not-learn": 0.35,  # the weakest rule that learns
    "each-layer-learns-from-its-own-loss": 0.1,
    "local-losses-shape-what-is-below": 0.0,
    "it-is-the-classes-that-shape-it": 0.0,
    "locality-between-layers-costs": 0.0,
    "depth-adds-nothing-to-local-losses": 0.1,  # as much as the gradient from above
}


@pytest.mark.parametrize("claim", bands.judged("zenkeneftci2021"), ids=lambda c: c.id)
def test_bands_leave_out_the_control(claim):
    bands.leave_out(claim, WITHOUT_EFFECT[claim.id])
