"""Zenke & Vogels (2021), The remarkable robustness of surrogate gradient learning for instilling complex function in spiking neural
networks.

Settings: the Randman column of the paper's table 1, as an independent reproduction quotes it.
"""

import itertools
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from snnrepro import surrogate
from snnrepro.data import Split, ann_control
from snnrepro.data.randman import embed, manifold, spike_times
from snnrepro.experiment import Experiment, Progress, Result
from snnrepro.files import read_npz, write_npz
from snnrepro.neurons import LIF, Surrogate, beta
from snnrepro.peers.lif import lif_snntorch
from snnrepro.surrogate import Events

SUPERSPIKE = Surrogate("fast_sigmoid", 10.0)
NEURON = LIF(tau_mem=10e-3, tau_syn=5e-3, dt=1e-3, reset="multiply", gain="leak", surrogate=SUPERSPIKE)
READOUT = NEURON._replace(tau_mem=20e-3)


# The task and one training run ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """Randman in spike times, and what all networks of the chapter share."""

    classes: int = 10
    units: int = 20
    dimension: int = 1
    smoothness: float = 1.0
    samples: int = 1000  # of each class
    shares: tuple[float, float, float] = (0.8, 0.1, 0.1)  # training, validation, test
    active: int = 50  # steps in which an input spikes, tau_randman
    steps: int = 100
    hidden: int = 100
    batch: int = 250
    epochs: int = 50
    least: float = 1e-3  # spikes a neuron and trial
    least_strength: float = 100.0
    most: float = 1.0  # spikes a neuron, averaged over the layer
    most_strength: float = 0.0  # 0: no upper bound


class Setting(NamedTuple):
    """What one network is trained with. Each control of the chapter differs from its run in one field."""

    surrogate: Surrogate = SUPERSPIKE
    learning_rate: float = 0.05
    reset_gradient: bool = False
    recurrent: bool = False
    recurrent_gradient: bool = True
    layers: int = 1
    score: str = "max"
    spectrum: str = "formula"
    most: float | None = None  # None: the upper bound of the task
    most_strength: float | None = None


class Outcome(NamedTuple):
    """Accuracies after the last epoch, hidden spikes an input (test), and the mean training loss of each epoch."""

    validation: float
    test: float
    spikes: float
    curve: np.ndarray


SCORES = {"max": surrogate.max_over_time, "last": surrogate.last_step}


@cache
def _samples(task: Task, spectrum: str, seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Spike times and classes of the training, validation and test samples."""
    times, label = spike_times(
        task.classes,
        task.samples,
        task.units,
        task.dimension,
        task.smoothness,
        task.active,
        spectrum,
        np.random.default_rng([seed, 0]),
    )
    edges = np.round(np.cumsum(task.shares[:2]) * len(label)).astype(int)
    return np.split(times, edges), np.split(label, edges)


def _as_events(times: np.ndarray, steps: int) -> Events:
    """Every unit of every sample spikes once, at its time `(samples, units)`."""
    sample, unit = np.indices(times.shape)
    lists = (torch.from_numpy(np.ascontiguousarray(a.ravel())) for a in (times, sample, unit))
    return surrogate.events(*lists, (steps, *times.shape))


def _batches(times: np.ndarray, label: np.ndarray, order: np.ndarray, task: Task):
    """Minibatches in an order; the last one may be smaller."""
    for first in range(0, len(order), task.batch):
        rows = order[first : first + task.batch]
        yield _as_events(times[rows], task.steps), torch.from_numpy(label[rows])


def _train(setting: Setting, task: Task, seed: int, told) -> Outcome:
    """Train one network. Data, initial weights and order of the samples depend on the seed alone."""
    times, label = _samples(task, setting.spectrum, seed)
    sizes = (task.units, *[task.hidden] * setting.layers, task.classes)
    network = surrogate.uniform_network(sizes, setting.recurrent, torch.Generator().manual_seed(seed))
    p = NEURON._replace(
        surrogate=setting.surrogate,
        reset_gradient=setting.reset_gradient,
        recurrent_gradient=setting.recurrent_gradient,
    )
    optimiser = torch.optim.Adam(network.weights().values(), lr=setting.learning_rate)
    most = task.most if setting.most is None else setting.most
    strength = task.most_strength if setting.most_strength is None else setting.most_strength

    def penalty(spikes: torch.Tensor) -> torch.Tensor:
        low = surrogate.lower_bound(spikes, task.least_strength, task.least)  # Eq. (6)
        return low + surrogate.upper_bound(spikes, strength, most) if strength else low

    curve = []
    for epoch in range(task.epochs):
        order = np.random.default_rng([seed, 1, epoch]).permutation(len(label[0]))
        batches = _batches(times[0], label[0], order, task)
        losses = surrogate.train(network, batches, p, optimiser, penalty, READOUT, SCORES[setting.score])
        curve.append(float(np.mean(losses)))
        told(epoch + 1, loss=curve[-1])
    found = [
        surrogate.evaluate(
            network, _batches(times[k], label[k], np.arange(len(label[k])), task), p, READOUT, SCORES[setting.score]
        )
        if len(label[k])
        else (np.nan, np.nan)
        for k in (1, 2)
    ]
    return Outcome(found[0][0], *found[1], np.array(curve))


@dataclass(frozen=True)
class Comparison:
    """Networks that are trained on the same data from the same weights, by name."""

    task: Task
    settings: tuple[tuple[str, Setting], ...]


def _outcomes(config: Comparison, seed: int, progress: Progress, checkpoint: Path | None) -> dict[str, Outcome]:
    """Train all networks of a comparison; those already in the checkpoint are taken from there."""
    done: dict[str, np.ndarray] = {}
    if checkpoint is not None and checkpoint.exists():
        done = read_npz(checkpoint)
    found, total = {}, len(config.settings) * config.task.epochs
    for k, (name, setting) in enumerate(config.settings):
        if name in done:
            found[name] = Outcome(*done[name][:3].tolist(), done[name][3:])
            continue

        def told(epoch: int, k: int = k, **now: float) -> None:
            progress(k * config.task.epochs + epoch, total, **now)

        found[name] = _train(setting, config.task, seed, told)
        done[name] = np.concatenate([found[name][:3], found[name].curve])
        if checkpoint is not None:
            write_npz(checkpoint, done)
    return found


def _result(outcomes: dict[str, Outcome], metrics: dict[str, float]) -> Result:
    """Metrics of every network beside those that compare them; loss curves; the first loss, for a replay."""
    for name, outcome in outcomes.items():
        metrics |= {f"accuracy_{name}": outcome.test, f"spikes_{name}": outcome.spikes}
    curves = {f"loss_{name}": outcome.curve for name, outcome in outcomes.items()}
    return Result(metrics, curves, {"first_loss": float(next(iter(curves.values()))[0])})


def _first_epoch(config: Comparison) -> Comparison:
    """The first network for one epoch."""
    return replace(config, task=replace(config.task, epochs=1), settings=config.settings[:1])


# Figure 1 -------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Randman:
    """Figure 1: what the samples look like, and how far one gets without spikes' dynamics."""

    task: Task = Task()
    exponents: tuple[float, ...] = (3.0, 2.0, 1.0, 0.5)
    points: int = 200
    rows: int = 24  # samples of a raster


def randman(config: Randman, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Manifolds of different smoothness, rasters along a manifold, and plain classifiers on the spike times."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    task = config.task
    metrics, arrays = {}, {}
    for k, spectrum in enumerate(("formula", "released")):
        times, label = _samples(task, spectrum, seed)
        x = [t / task.active for t in times]
        linear = LogisticRegression(max_iter=2000).fit(x[0], label[0])
        nearest = KNeighborsClassifier(1).fit(x[0], label[0])
        metrics[f"linear_{spectrum}"] = float(linear.score(x[2], label[2]))
        metrics[f"nearest_{spectrum}"] = float(nearest.score(x[2], label[2]))
        progress(k + 1, 2)
    split = Split(x[0], label[0], x[2], label[2], "generated", (task.units,))
    metrics["ann_released"] = float(ann_control(split, (task.hidden,), (seed,))[0])
    times, label = _samples(task, "formula", seed)
    x = [t / task.active for t in times]
    split = Split(x[0], label[0], x[2], label[2], "generated", (task.units,))
    metrics["ann_formula"] = float(ann_control(split, (task.hidden,), (seed,))[0])
    metrics["spikes_a_unit"] = float(_as_events(times[2], task.steps).units.size / times[2].size)
    along = np.linspace(0, 1, config.points)[:, None]
    few = np.linspace(0, 1, config.rows)[:, None]
    for exponent in config.exponents:
        m = manifold(3, 1, exponent, "formula", np.random.default_rng([seed, 2]))
        arrays[f"curve_{exponent:g}"] = embed(m, along)
        m = manifold(task.units, 1, exponent, "formula", np.random.default_rng([seed, 3]))
        f = embed(m, along)
        scaled = (embed(m, few) - f.min(0)) / (f.max(0) - f.min(0))
        arrays[f"raster_{exponent:g}"] = task.active * np.clip(scaled, 0, 1)
    return Result(metrics, arrays)


# A check without training ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gradients:
    """Asymptotic against normalised SuperSpike: the same network, input and loss."""

    samples: int = 32
    slopes: tuple[float, ...] = (1.0, 10.0, 100.0)
    hidden: int = 40
    mean: float = 3.0  # of the input weights, in units of the initial range; neurons spike
    recurrent_scale: float = 2.0


def _weight_gradient(config: Gradients, s: Surrogate, seed: int, reset: bool, recurrent: bool, through: bool):
    """Gradient by the input weights `(units, hidden)` in float64, and the hidden spikes a neuron."""
    task = Task(samples=config.samples // 8, classes=8)
    times, label = _samples(task, "formula", seed)
    x = _as_events(np.concatenate(times), task.steps)
    sizes = (task.units, config.hidden, task.classes)
    network = surrogate.uniform_network(sizes, True, torch.Generator().manual_seed(seed))
    w = (network.hidden[0].detach().double() + config.mean / task.units**0.5).requires_grad_()
    v = config.recurrent_scale * network.recurrent[0].detach().double() if recurrent else None
    p = NEURON._replace(surrogate=s, reset_gradient=reset, recurrent_gradient=through)
    spikes = surrogate.lif(x, w, p, v, states=False).spikes
    score = surrogate.max_over_time(surrogate.readout(spikes, network.output.detach().double(), READOUT))
    loss = surrogate.classification_loss(score, torch.from_numpy(np.concatenate(label)))
    return torch.autograd.grad(loss, w)[0], float(spikes.detach().sum(0).mean())


def gradients(config: Gradients, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Is the gradient of the asymptotic surrogate beta times that of SuperSpike? Exactly, unless spikes feed back into it."""
    cases = {
        "feedforward": (False, False, True),
        "reset": (True, False, True),
        "recurrent": (False, True, True),
        "detached": (False, True, False),
    }
    metrics, table = {}, np.zeros((len(cases), len(config.slopes)))
    for i, (name, switches) in enumerate(cases.items()):
        for j, slope in enumerate(config.slopes):
            plain, spikes = _weight_gradient(config, Surrogate("fast_sigmoid", slope), seed, *switches)
            steep, _ = _weight_gradient(config, Surrogate("asymptotic", slope), seed, *switches)
            table[i, j] = float((steep - slope * plain).abs().max() / (slope * plain).abs().max())
        if name in ("feedforward", "detached"):
            metrics[f"deviation_{name}"] = float(table[i].max())
        else:  # over seeds it scatters by orders of magnitude
            metrics[f"log10_deviation_{name}"] = float(np.log10(table[i, 1:].min()))
        metrics[f"spikes_{name}"] = spikes
        progress(i + 1, len(cases))
    return Result(metrics, {"deviation": table, "slopes": np.array(config.slopes)})


# Figures 2b and 3 -----------------------------------------------------------------------------------------------------------

SHAPES = ("superspike", "sigmoid", "esser")
NAMES = {"superspike": "fast_sigmoid", "sigmoid": "sigmoid", "esser": "piecewise_linear"}
SLOPES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 500.0, 1000.0)
RATES = (1e-3, 5e-3, 1e-2, 2e-2, 5e-2, 1e-1)


def _shape_settings(slopes: dict[str, float], rate: float = 0.05) -> tuple[tuple[str, Setting], ...]:
    """Each shape at a slope, and the two controls: a constant, and the true derivative."""
    chosen = {name: Surrogate(NAMES[name], slopes[name]) for name in SHAPES}
    chosen |= {"constant": Surrogate("constant", 0.0), "true": Surrogate("step", 0.0)}
    return tuple((name, Setting(surrogate=s, learning_rate=rate)) for name, s in chosen.items())


def shapes(config: Comparison, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Figures 2b and 3c: the shape of the surrogate hardly matters; a constant one and the true derivative do not do."""
    outcomes = _outcomes(config, seed, progress, checkpoint)
    if len(outcomes) < len(config.settings) or "true" not in outcomes:
        return _result(outcomes, {})
    test = {name: outcome.test for name, outcome in outcomes.items()}
    metrics = {
        "worst_shape": min(test[name] for name in SHAPES),
        "spread": max(test[name] for name in SHAPES) - min(test[name] for name in SHAPES),
        "gap_to_constant": min(test[name] for name in SHAPES) - test["constant"],
        "gap_to_true": min(test[name] for name in SHAPES) - test["true"],
    }
    return _result(outcomes, metrics)


@dataclass(frozen=True)
class Grid:
    """Figure 3b: accuracy over slope and learning rate, for one shape."""

    task: Task
    shape: str
    slopes: tuple[float, ...] = SLOPES
    rates: tuple[float, ...] = RATES


def grid(config: Grid, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Every slope with every learning rate from the same weights and data; the best cell is chosen on the validation samples."""
    name = NAMES[config.shape]
    cells = list(itertools.product(config.slopes, config.rates))
    settings = tuple((f"{k:g}/{eta:g}", Setting(Surrogate(name, k), eta)) for k, eta in cells)
    outcomes = list(_outcomes(Comparison(config.task, settings), seed, progress, checkpoint).values())
    shape = len(config.slopes), len(config.rates)
    arrays = {
        key: np.array([getattr(o, key) for o in outcomes]).reshape(shape) for key in ("validation", "test", "spikes")
    }
    best = max(range(len(outcomes)), key=lambda k: outcomes[k].validation)
    at_slope = arrays["test"][np.arange(shape[0]), arrays["validation"].argmax(1)]
    metrics = {
        "best": outcomes[best].test,
        "best_slope": cells[best][0],
        "best_rate": cells[best][1],
        "good_slopes": float((at_slope >= 0.9).sum()),
        "good_cells": float((arrays["test"] >= 0.9).mean()),
    }
    return Result(metrics, arrays, {"first_loss": float(outcomes[0].curve[0])})


# Figure 5 -------------------------------------------------------------------------------------------------------------------

RESETS = {
    "s_ctl": ("fast_sigmoid", False),
    "s_dr": ("fast_sigmoid", True),
    "a_ctl": ("asymptotic", False),
    "a_dr": ("asymptotic", True),
}


def _reset_settings(slopes: tuple[float, ...], layers: tuple[int, ...] = ()) -> tuple[tuple[str, Setting], ...]:
    """Normalised (s) and asymptotic (a) SuperSpike, reset outside (ctl) and inside (dr) the gradient; with one hidden layer, or with
    each number of layers.
    """
    return tuple(
        (f"{name}_{k:g}" + (f"_{n}" if layers else ""), Setting(Surrogate(kind, k), reset_gradient=dr, layers=n))
        for n in layers or (1,)
        for k in slopes
        for name, (kind, dr) in RESETS.items()
    )


DEEP_RATE, DEEP_BOUND = 0.01, 1.0
"""Learning rate of networks with two and three hidden layers, and strength of the upper bound on their activity. At 0.05, the best for one
layer, they hardly learn with any derivative; without the bound deeper layers fire so much that three do not either.
"""


def _deep_settings(layers: tuple[int, ...]) -> tuple[tuple[str, Setting], ...]:
    """The four of `_reset_settings` at slope 10 with so many hidden layers, at their learning rate and with their bound."""
    how = {"learning_rate": DEEP_RATE, "most_strength": DEEP_BOUND}
    return tuple((name, setting._replace(**how)) for name, setting in _reset_settings((10.0,), layers))


def scale(config: Comparison, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Figure 5c: a large derivative hurts where the gradient passes through the reset, and only there."""
    outcomes = _outcomes(config, seed, progress, checkpoint)
    metrics = {}
    for k in sorted({setting.surrogate.slope for _, setting in config.settings}):
        test = {name: outcomes[f"{name}_{k:g}"].test for name in RESETS if f"{name}_{k:g}" in outcomes}
        if len(test) == len(RESETS):
            metrics[f"gap_{k:g}"] = min(test["s_ctl"], test["s_dr"], test["a_ctl"]) - test["a_dr"]
            metrics[f"cost_of_reset_{k:g}"] = test["s_ctl"] - test["s_dr"]
            metrics[f"cost_of_scale_{k:g}"] = test["s_ctl"] - test["a_ctl"]
    return _result(outcomes, metrics)


def depth(config: Comparison, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Figure 5d: the same with two and three hidden layers."""
    outcomes = _outcomes(config, seed, progress, checkpoint)
    metrics = {}
    for n in sorted({setting.layers for _, setting in config.settings}):
        test = {key: outcome.test for key, outcome in outcomes.items() if key.endswith(f"_{n}")}
        if len(test) == len(RESETS):
            s_ctl, s_dr, a_ctl, a_dr = test.values()
            metrics[f"gap_layers_{n}"] = min(s_ctl, s_dr, a_ctl) - a_dr
            metrics[f"cost_of_reset_layers_{n}"] = s_ctl - s_dr
    return _result(outcomes, metrics)


@dataclass(frozen=True)
class TenBest:
    """Figure 5c as the paper draws it: the ten best cells of a grid for each of the four settings."""

    task: Task
    slopes: tuple[float, ...] = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
    rates: tuple[float, ...] = (2e-2, 5e-2, 1e-1)
    best: int = 10


def ten_best(config: TenBest, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Mean test accuracy of the ten cells that are best on the validation samples."""
    cells = list(itertools.product(config.slopes, config.rates))
    settings = tuple(
        (f"{name}/{k:g}/{eta:g}", Setting(Surrogate(kind, k), eta, reset_gradient=dr))
        for name, (kind, dr) in RESETS.items()
        for k, eta in cells
    )
    outcomes = list(_outcomes(Comparison(config.task, settings), seed, progress, checkpoint).values())
    shape = len(RESETS), len(config.slopes), len(config.rates)
    arrays = {key: np.array([getattr(o, key) for o in outcomes]).reshape(shape) for key in ("validation", "test")}
    metrics = {}
    for name, validation, test in zip(RESETS, arrays["validation"], arrays["test"], strict=True):
        metrics[name] = float(test.ravel()[np.argsort(-validation.ravel(), kind="stable")[: config.best]].mean())
    metrics["gap"] = min(metrics["s_ctl"], metrics["s_dr"], metrics["a_ctl"]) - metrics["a_dr"]
    return Result(metrics, arrays, {"first_loss": float(outcomes[0].curve[0])})


RECURRENCE = {
    "s_ctl": ("fast_sigmoid", False),
    "s_prop": ("fast_sigmoid", True),
    "a_ctl": ("asymptotic", False),
    "a_prop": ("asymptotic", True),
}


def _recurrent_settings(slope: float) -> tuple[tuple[str, Setting], ...]:
    """Recurrent nets with the recurrent spikes outside (ctl) and inside (prop) the gradient."""
    return tuple(
        (name, Setting(Surrogate(kind, slope), recurrent=True, recurrent_gradient=through))
        for name, (kind, through) in RECURRENCE.items()
    )


def recurrence(config: Comparison, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Figure 5e: gradients through recurrent spikes hurt when they are large, and do no harm when they are normalised."""
    outcomes = _outcomes(config, seed, progress, checkpoint)
    if len(outcomes) < len(RECURRENCE):
        return _result(outcomes, {})
    test = {name: outcome.test for name, outcome in outcomes.items()}
    return _result(
        outcomes, {"gap": test["a_ctl"] - test["a_prop"], "cost_of_propagation": test["s_ctl"] - test["s_prop"]}
    )


# Figures 4 and 6 ------------------------------------------------------------------------------------------------------------


def _robustness_settings(slopes: dict[str, float]) -> tuple[tuple[str, Setting], ...]:
    """Each shape with the other score and with the other spectrum."""
    chosen = [(name, Surrogate(NAMES[name], slopes[name])) for name in SHAPES]
    return tuple((f"{name}_last", Setting(s, score="last")) for name, s in chosen) + tuple(
        (f"{name}_released", Setting(s, spectrum="released")) for name, s in chosen
    )


def robustness(config: Comparison, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """After figure 4: the last potential as the score, and the manifolds of the released code."""
    outcomes = _outcomes(config, seed, progress, checkpoint)
    test = {name: outcome.test for name, outcome in outcomes.items()}
    metrics = {
        f"worst_{kind}": min(values)
        for kind in ("last", "released")
        if (values := [value for name, value in test.items() if name.endswith(kind)])
    }
    return _result(outcomes, metrics)


TARGETS = (
    (2.0, 1.0),
    (1.0, 1.0),
    (0.5, 1.0),
    (0.2, 1.0),
    (0.1, 1.0),
    (0.02, 1.0),
    (0.0, 10.0),
    (0.0, 30.0),
    (0.0, 100.0),
)


def _activity_settings(targets: tuple[tuple[float, float], ...]) -> tuple[tuple[str, Setting], ...]:
    """No upper bound, then tighter and tighter ones."""
    free = (("free", Setting(most_strength=0.0)),)
    return free + tuple((f"{m:g}_{s:g}", Setting(most=m, most_strength=s)) for m, s in targets)


def activity(config: Comparison, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Figure 6: accuracy against hidden spikes, under an upper bound that is tightened."""
    outcomes = _outcomes(config, seed, progress, checkpoint)
    bounded = [o for name, o in outcomes.items() if name != "free"]
    metrics: dict[str, float] = {}
    if len(bounded) > 1:
        sparse = [o for o in bounded if 25 <= o.spikes <= 60]
        silent = [o for o in bounded if o.spikes <= 5]
        if sparse and silent:
            metrics["plateau"] = float(np.mean([o.test for o in sparse]))
            metrics["cliff"] = float(np.mean([o.test for o in silent]))
            metrics["drop"] = metrics["plateau"] - metrics["cliff"]
    result = _result(outcomes, metrics)
    result.arrays["spikes"] = np.array([o.spikes for o in outcomes.values()])
    result.arrays["test"] = np.array([o.test for o in outcomes.values()])
    return result


# A second opinion -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SecondOpinion:
    """The hidden layer here and in snnTorch, on a batch of Randman."""

    samples: int = 8  # of each class
    hidden: int = 20
    mean: float = 3.0  # of the weights, in units of the initial range


def second_opinion(config: SecondOpinion, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Spikes and weight gradient against snnTorch, whose membrane takes its input without the factor 1 - beta."""
    task = Task(samples=config.samples)
    times, _ = _samples(task, "formula", seed)
    x = torch.zeros(task.steps, task.classes * config.samples, task.units, dtype=torch.float64)
    x.scatter_(0, torch.from_numpy(np.concatenate(times))[None], 1.0)
    network = surrogate.uniform_network((task.units, config.hidden, 2), False, torch.Generator().manual_seed(seed))
    w = network.hidden[0].detach().double() + config.mean / task.units**0.5
    leak = float(1 - beta(NEURON))
    rng = np.random.default_rng([seed, 4])
    # snnTorch hands on spikes, and so the gradient that reaches them, as float32: a target that float32 holds exactly loses nothing
    target = torch.from_numpy(rng.normal(size=(task.steps, x.shape[1], config.hidden)).astype(np.float32)).double()
    ours, theirs = (v.clone().requires_grad_() for v in (w, w))
    spikes = surrogate.lif(x, ours, NEURON, states=False).spikes
    peer = lif_snntorch(x, leak * theirs, NEURON._replace(gain="one"))
    (spikes * target).sum().backward()
    (peer * target).sum().backward()
    progress(1, 1)
    metrics = {
        "snntorch_spike_differences": float((spikes - peer).detach().abs().sum()),
        "snntorch_gradient_error": float((ours.grad - theirs.grad).abs().max() / theirs.grad.abs().max()),
        "fewest_spikes": float(peer.detach().sum((0, 1)).min()),
    }
    return Result(metrics, {"ours": spikes[:, 0].detach().numpy(), "snntorch": peer[:, 0].detach().numpy()})


# Experiments ----------------------------------------------------------------------------------------------------------------

BEST = {"superspike": 10.0, "sigmoid": 10.0, "esser": 1.0}
QUICK = Task(samples=400, shares=(0.5, 0.0, 0.5), batch=100, epochs=20, most_strength=1.0)
FIVE = tuple(range(5))

EXPERIMENTS = {
    "randman": Experiment(randman, Randman(Task(samples=400, shares=(0.5, 0.0, 0.5))), Randman(), (0,), FIVE),
    "gradients": Experiment(gradients, Gradients(), Gradients(), (0, 1), FIVE),
    "shapes": Experiment(
        shapes,
        Comparison(QUICK, _shape_settings(BEST)),
        Comparison(Task(), _shape_settings(BEST)),
        (0,),
        FIVE,
        replay=_first_epoch,
    ),
    **{
        f"grid_{shape}": Experiment(
            grid,
            Grid(QUICK, shape, slopes=(1.0, 10.0), rates=(0.05,)),
            Grid(Task(), shape),
            (0,),
            (0,),
            replay=lambda c: replace(c, task=replace(c.task, epochs=1), slopes=c.slopes[:1], rates=c.rates[:1]),
        )
        for shape in SHAPES
    },
    "scale": Experiment(
        scale,
        Comparison(QUICK, _reset_settings((10.0,))),
        Comparison(Task(), _reset_settings((1.0, 10.0, 100.0))),
        (0,),
        FIVE,
        replay=_first_epoch,
    ),
    "ten_best": Experiment(
        ten_best,
        TenBest(QUICK, slopes=(10.0,), rates=(0.05,), best=1),
        TenBest(Task()),
        (0,),
        (0,),
        replay=lambda c: replace(c, task=replace(c.task, epochs=1), slopes=c.slopes[:1], rates=c.rates[:1]),
    ),
    "recurrence": Experiment(
        recurrence,
        Comparison(QUICK, _recurrent_settings(10.0)),
        Comparison(Task(), _recurrent_settings(10.0)),
        (0,),
        FIVE,
        replay=_first_epoch,
    ),
    "depth": Experiment(
        depth,
        Comparison(QUICK, _deep_settings((2,))),
        Comparison(Task(), _deep_settings((2, 3))),
        (0,),
        FIVE,
        replay=_first_epoch,
    ),
    "robustness": Experiment(
        robustness,
        Comparison(QUICK, _robustness_settings(BEST)),
        Comparison(Task(), _robustness_settings(BEST)),
        (0,),
        FIVE,
        replay=_first_epoch,
    ),
    "activity": Experiment(
        activity,
        Comparison(QUICK, _activity_settings(((0.5, 1.0), (0.1, 1.0), (0.0, 30.0)))),
        Comparison(Task(), _activity_settings(TARGETS)),
        (0,),
        FIVE,
        replay=_first_epoch,
    ),
    "second_opinion": Experiment(second_opinion, SecondOpinion(), SecondOpinion(), (0, 1), FIVE),
}
