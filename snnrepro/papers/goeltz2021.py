"""Göltz et al. (2021), Fast and energy-efficient neuromorphic deep learning with first-spike times.

Settings: the configurations of the authors' code, tag v1.0.0. Times are in units of the synaptic time constant.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import brentq, minimize_scalar
from torch import Tensor

from snnrepro.data import Split, ann_control, mnist, mnist_5k
from snnrepro.data.yinyang import SAMPLES, border_distance, yin_yang
from snnrepro.errors import UserError
from snnrepro.experiment import Experiment, Progress, Result
from snnrepro.files import read_npz, write_npz
from snnrepro.first_spike import ttfs
from snnrepro.first_spike.exact import Neuron, mismatched_times, spike_times
from snnrepro.first_spike.ttfs import Bumped, Initial, Network, Repair
from snnrepro.peers.first_spike import first_spikes_brian2

NEURONS = {"equal": Neuron(), "double": Neuron(tau_mem=2.0), "no_leak": Neuron(tau_mem=math.inf)}
EARLY, LATE = 0.15, 2.0
"""Times of the brightest and the darkest input."""


def encode(values: np.ndarray) -> Tensor:
    """Input times of values in [0, 1]: the smaller, the earlier."""
    return torch.from_numpy(EARLY + values * (LATE - EARLY))  # Eq. (8)


# Figure 1 -------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SpikeTime:
    """Figure 1: spike times and their gradients over a weight, on random networks, and in Brian2."""

    networks: int = 200
    inputs: int = 8
    neurons: int = 5
    step: float = 1e-3  # of Brian2
    sizes: tuple[int, int, int] = (12, 10, 6)
    points: int = 241
    pattern: tuple[float, ...] = (0.2, 0.6, 1.4)
    weights: tuple[float, ...] = (1.6, 1.0, 1.2)  # of the pattern; the second one is varied
    span: tuple[float, float] = (-2.0, 3.0)


def _potential(p: Neuron, t: np.ndarray, w: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Potential at times `at` of one neuron without threshold, Eq. (2)."""
    s = np.maximum(np.subtract.outer(at, t), 0.0)
    if p.tau_mem == p.tau_syn:
        k = s * np.exp(-s)
    elif math.isinf(p.tau_mem):
        k = -np.expm1(-s)
    else:
        k = 2 * (np.exp(-s / 2) - np.exp(-s))
    return k @ w


def _by_bisection(p: Neuron, t: np.ndarray, w: np.ndarray) -> float:
    """First time at which the potential of Eq. (2) reaches the threshold, by a grid, the peaks between its points, and bisection."""

    def above(at: float) -> float:
        return _potential(p, t, w, np.array([at]))[0] - p.threshold

    grid = np.union1d(np.linspace(t.min(), t.max() + 20, 4001), t)
    v = _potential(p, t, w, grid) - p.threshold
    inner = v[1:-1]
    close = np.flatnonzero((inner >= v[:-2]) & (inner >= v[2:]) & (inner < 0) & (inner > -1e-3)) + 1
    peaks = [
        minimize_scalar(
            lambda at: -above(at), bounds=(grid[k - 1], grid[k + 1]), method="bounded", options={"xatol": 1e-10}
        ).x
        for k in close
    ]
    grid = np.union1d(grid, peaks)
    reached = np.flatnonzero(_potential(p, t, w, grid) >= p.threshold)
    if not len(reached):
        return math.inf
    return brentq(above, *grid[reached[0] - 1 : reached[0] + 1], xtol=1e-14)


def _gradient_error(p: Neuron, t: Tensor, w: Tensor, direction: Tensor) -> tuple[float, int]:
    """Largest relative difference of the gradient along a direction from the finite difference, over neurons; how many there were."""
    step = 1e-5
    with torch.no_grad():
        a, b, c, d = (spike_times(t, w + k * step * direction, p) for k in (1, -1, 2, -2))
        middle = spike_times(t, w, p)
        expected = (8 * (a - b) - (c - d)) / (12 * step)
        smooth = torch.isfinite(expected) & ((c + d - 2 * middle).abs() < 1e-7)
    errors = [0.0]
    leaf = w.clone().requires_grad_()
    found = spike_times(t, leaf, p)
    for b, n in zip(*torch.nonzero(smooth, as_tuple=True), strict=True):
        (g,) = torch.autograd.grad(found[b, n], leaf, retain_graph=True)
        scale = (g * direction).abs().sum()
        errors.append(float(((g * direction).sum() - expected[b, n]).abs() / scale))
    return float(np.max(errors)), len(errors) - 1  # unlike max, it lets NaN through


def spike_time(config: SpikeTime, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Closed forms against bisection, gradients against finite differences, a network against Brian2; and what figure 1 draws."""
    g = torch.Generator().manual_seed(seed)
    metrics: dict[str, float] = {"root_error": 0.0, "gradient_error": 0.0, "engine_error": 0.0, "brian2_steps": 0.0}
    arrays: dict[str, np.ndarray] = {}
    disagree = checked = spikes = 0
    for k, (name, p) in enumerate(NEURONS.items()):
        for _ in range(config.networks):
            t = 3 * torch.rand(1, config.inputs, generator=g, dtype=torch.float64)
            w = 0.6 + 1.3 * torch.randn(config.inputs, config.neurons, generator=g, dtype=torch.float64)
            found = spike_times(t, w, p)[0].numpy()
            for n in range(config.neurons):
                expected = _by_bisection(p, t[0].numpy(), w[:, n].numpy())
                if math.isfinite(expected) and math.isfinite(found[n]):
                    metrics["root_error"] = max(metrics["root_error"], abs(found[n] - expected))
                elif math.isfinite(expected) != math.isfinite(found[n]):
                    top = _potential(p, t[0].numpy(), w[:, n].numpy(), np.linspace(0, 43, 40001)).max()
                    disagree += abs(top - p.threshold) > 1e-4  # closer, the grid cannot tell
            reference = spike_times(t, w, p, engine="reference")[0].numpy()
            both = np.isfinite(found) & np.isfinite(reference)
            disagree += int((np.isfinite(found) != np.isfinite(reference)).sum())
            metrics["engine_error"] = max(metrics["engine_error"], np.abs(found[both] - reference[both]).max(initial=0))
            error, count = _gradient_error(p, t, w, torch.randn(w.shape, generator=g, dtype=w.dtype))
            metrics["gradient_error"] = float(np.max([metrics["gradient_error"], error]))
            checked += count
        t = 0.5 + 2 * torch.rand(1, config.sizes[0], generator=g, dtype=torch.float64)
        t = (t / config.step).round() * config.step
        weights = [
            0.9 + 0.9 * torch.randn(n, m, generator=g, dtype=torch.float64)
            for n, m in zip(config.sizes, config.sizes[1:], strict=False)
        ]
        ours = ttfs.run(Network(tuple(weights), (None, None)), t, p)
        theirs = first_spikes_brian2(t[0].numpy(), [w.numpy() for w in weights], p, 12.0, config.step)
        for a, b in zip(ours, theirs.times, strict=True):
            a = torch.where(a > 11.9, math.inf, a)[0].numpy()
            both = np.isfinite(a) & np.isfinite(b)
            disagree += int((np.isfinite(a) != np.isfinite(b)).sum())
            spikes += int(both.sum())
            metrics["brian2_steps"] = max(
                metrics["brian2_steps"], np.abs(a[both] - b[both]).max(initial=0) / config.step
            )
        arrays |= {
            f"brian2_{name}": theirs.potential[:, ::20],
            f"ours_{name}": ours[-1][0].numpy(),
            f"theirs_{name}": theirs.times[-1],
        }
        arrays |= _over_a_weight(config, p, name)
        progress(k + 1, len(NEURONS))
    metrics |= {"disagreements": float(disagree), "gradients_checked": float(checked), "brian2_spikes": float(spikes)}
    return Result({name: float(value) for name, value in metrics.items()}, arrays)


def _over_a_weight(config: SpikeTime, p: Neuron, name: str) -> dict[str, np.ndarray]:
    """Spike time of a neuron and its derivative while one of three weights changes."""
    swept = np.linspace(*config.span, config.points)
    w = torch.tensor(np.tile(config.weights, (config.points, 1)).T)
    w[1] = torch.from_numpy(swept)
    w.requires_grad_()
    found = spike_times(torch.tensor([config.pattern], dtype=torch.float64), w, p)
    (slope,) = torch.autograd.grad(found[torch.isfinite(found)].sum(), w)
    return {"swept": swept, f"time_{name}": found[0].detach().numpy(), f"slope_{name}": slope[1].numpy()}


# Training -------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recipe:
    """A network and how it is trained."""

    sizes: tuple[int, ...] = (4, 120, 3)
    initial: tuple[tuple[float, float], ...] = ((1.5, 0.8), (0.5, 0.8))
    bias: float | None = 0.9
    neuron: str = "equal"
    learning_rate: float = 0.005
    shrink: float = 0.95  # of the learning rate,
    shrink_after: int = 20  # epochs
    batch: int = 150
    epochs: int = 300
    limits: tuple[float, ...] | None = (0.3, 0.0)  # None: silent neurons are not repaired
    bump: float = 5e-4
    largest_change: float = 0.2
    noise: float = 0.0  # of the input times while training
    single: bool = False  # float32
    tail: int = 20  # last epochs whose mean is judged
    every: int = 1  # epochs between two evaluations before the tail


@dataclass(frozen=True)
class Data:
    """Input times and classes of the three parts."""

    t: tuple[Tensor, Tensor, Tensor]
    label: tuple[Tensor, Tensor, Tensor]
    tag: str = "generated"


def _yin_yang() -> Data:
    """The published samples."""
    parts = [yin_yang(*SAMPLES[part]) for part in ("train", "validation", "test")]
    return Data(tuple(encode(x) for x, _ in parts), tuple(torch.from_numpy(label) for _, label in parts))


@dataclass(frozen=True)
class Trained:
    """A network after training, and what happened on the way: a row an epoch."""

    network: Network  # at the epoch that is best on the validation samples
    p: Neuron
    epochs: np.ndarray  # (evaluations,)
    accuracy: np.ndarray  # (evaluations, 2): validation, test
    silent: np.ndarray  # (evaluations, layers): share of silent pairs in the validation samples
    loss: np.ndarray  # (epochs,)
    repaired: np.ndarray  # (epochs, layers)
    first_loss: float

    def judged(self, tail: int) -> dict[str, float]:
        """Test accuracy: mean over the last evaluations, at the best validation, and at the end."""
        late = self.epochs > self.epochs[-1] - tail
        return {
            "accuracy": float(self.accuracy[late, 1].mean()),
            "selected": float(self.accuracy[self.accuracy[:, 0].argmax(), 1]),
            "final": float(self.accuracy[-1, 1]),
        }


def _accuracy(network: Network, t: Tensor, label: Tensor, p: Neuron) -> tuple[float, list[float]]:
    """Accuracy, and share of silent pairs of each layer."""
    layers = ttfs.answers(network, t.split(500), p)
    right = float((ttfs.decide(layers[-1]) == label).double().mean())
    return right, [float(torch.isinf(layer).double().mean()) for layer in layers]


def _train(recipe: Recipe, data: Data, seed: int, told, checkpoint: Path | None = None) -> Trained:
    """Train a network; goes on from the checkpoint where there is one. Data order, noise and initial weights depend on the seed."""
    p, depth = NEURONS[recipe.neuron], len(recipe.sizes) - 1
    dtype = torch.float32 if recipe.single else torch.float64
    bias = (recipe.bias,) * depth
    draws = tuple(Initial(*draw) for draw in recipe.initial)
    network = ttfs.initial_network(recipe.sizes, draws, bias, torch.Generator().manual_seed(seed), dtype)
    optimiser = torch.optim.Adam(network.weights, lr=recipe.learning_rate)
    rule = None if recipe.limits is None else Repair(recipe.limits, recipe.bump)
    t = [part.to(dtype) for part in data.t]
    best = [w.detach().clone() for w in network.weights]
    state, rows, curve, start = ttfs.UNTOUCHED, [], [], 0
    if checkpoint is not None and checkpoint.exists():
        state, rows, curve, start = _restore(read_npz(checkpoint), network, best, optimiser)
    for epoch in range(start, recipe.epochs):
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate * recipe.shrink ** (epoch // recipe.shrink_after)
        random = np.random.default_rng([seed, 1, epoch])

        def batches(random=random):
            order = torch.from_numpy(random.permutation(len(t[0])))
            for rows in order.split(recipe.batch):
                times = t[0][rows]
                if recipe.noise:
                    drawn = torch.from_numpy(recipe.noise * random.standard_normal(times.shape)).to(dtype)
                    times = (times + drawn).abs()
                yield times, data.label[0][rows]

        done, state = ttfs.train(network, batches(), p, optimiser, rule, state, recipe.largest_change)
        curve.append((done.loss, *done.repaired))
        if (epoch + 1) % recipe.every == 0 or epoch >= recipe.epochs - recipe.tail:
            validation, silent = _accuracy(network, t[1], data.label[1], p)
            if not rows or validation > max(row[1] for row in rows):
                best = [w.detach().clone() for w in network.weights]
            rows.append((epoch + 1, validation, _accuracy(network, t[2], data.label[2], p)[0], *silent))
        told(epoch + 1, loss=done.loss, accuracy=rows[-1][2] if rows else math.nan)
        if checkpoint is not None and (epoch + 1) % 10 == 0:
            write_npz(checkpoint, _state(network, best, optimiser, state, rows, curve))
    table, curve = np.array(rows), np.array(curve)
    chosen = network._replace(weights=tuple(best))
    return Trained(chosen, p, table[:, 0], table[:, 1:3], table[:, 3:], curve[:, 0], curve[:, 1:], float(curve[0, 0]))


def _state(
    network: Network, best: list[Tensor], optimiser, state: Bumped, rows: list, curve: list
) -> dict[str, np.ndarray]:
    """Everything that training needs to go on."""
    arrays = {"rows": np.array(rows), "curve": np.array(curve)}
    arrays["bumped"] = np.array([-1 if state.layer is None else state.layer, state.bump])
    for k, w in enumerate(network.weights):
        arrays[f"w{k}"], arrays[f"best{k}"] = w.detach().numpy().copy(), best[k].numpy().copy()
        arrays |= {f"{k}/{key}": value.numpy().copy() for key, value in optimiser.state[w].items()}
    return arrays


def _restore(
    arrays: dict[str, np.ndarray], network: Network, best: list[Tensor], optimiser
) -> tuple[Bumped, list, list, int]:
    """Put a saved state back, in place."""
    layer, bump = arrays["bumped"]
    for k, w in enumerate(network.weights):
        w.data.copy_(torch.from_numpy(arrays[f"w{k}"]))
        best[k] = torch.from_numpy(arrays[f"best{k}"].copy())
        kept = {
            key.partition("/")[2]: torch.from_numpy(a.copy()) for key, a in arrays.items() if key.startswith(f"{k}/")
        }
        if kept:
            optimiser.state[w] = kept
    state = ttfs.UNTOUCHED if layer < 0 else Bumped(int(layer), float(bump))
    curve = [tuple(row) for row in arrays["curve"]]
    return state, [tuple(row) for row in arrays["rows"]], curve, len(curve)


# Figures 2 and 5 ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class YinYang:
    """Figure 2: the Yin-Yang task; and after figure 5: what the trained network bears without further training."""

    recipe: Recipe = Recipe()
    bits: tuple[int, ...] = (2, 3, 4, 5, 6, 8)  # beside the sign
    jitter: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1, 0.2)
    spread: tuple[float, ...] = (0.02, 0.05, 0.1, 0.2)  # of both time constants
    chips: int = 3
    grid: int = 61
    late_start: int = 5  # epochs before the share of repairs is counted


def _rounded(w: Tensor, bits: int) -> Tensor:
    """Weights on a grid of a sign and so many bits, up to the largest of the layer."""
    step = w.abs().max() / (2**bits - 1)
    return (w / step).round() * step


def _with(network: Network, change) -> Network:
    """The network with every layer's weights changed."""
    return network._replace(weights=tuple(change(w.detach()) for w in network.weights))


def _on_a_chip(network: Network, t: Tensor, p: Neuron, spread: float, random: np.random.Generator) -> Tensor:
    """Label times where each neuron has time constants of its own, spread by a factor around the nominal ones."""
    layer = t
    for w, bias in zip(network.weights, network.bias_times, strict=True):
        if bias is not None:
            layer = torch.cat([layer, layer.new_full((len(layer), 1), bias)], 1)
        mem, syn = (
            torch.from_numpy(np.maximum(1 + spread * random.standard_normal(w.shape[1]), 0.1)) for _ in range(2)
        )
        layer = mismatched_times(
            layer, w.detach(), p, p.tau_mem * mem, p.tau_syn * syn, p.threshold * torch.ones_like(mem)
        )
    return layer


def _jittered(network: Network, t: Tensor, p: Neuron, sd: float, random: np.random.Generator) -> Tensor:
    """Label times where every spike, of inputs, biases and neurons alike, comes a little early or late."""
    layer = t
    for w, bias in zip(network.weights, network.bias_times, strict=True):
        if bias is not None:
            layer = torch.cat([layer, layer.new_full((len(layer), 1), bias)], 1)
        layer = layer + torch.from_numpy(sd * random.standard_normal(layer.shape))
        layer = spike_times(layer, w.detach(), p)
    return layer + torch.from_numpy(sd * random.standard_normal(layer.shape))


def _robustness(
    config: YinYang, trained: Trained, data: Data, seed: int
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Test accuracy under rounded weights, jittered spikes and spread time constants."""
    t, label = data.t[2], data.label[2]
    random = np.random.default_rng([seed, 2])

    def right(times: Tensor) -> float:
        return float((ttfs.decide(times) == label).double().mean())

    plain = right(ttfs.run(_with(trained.network, lambda w: w), t, trained.p)[-1])
    table = {
        "bits": [
            right(ttfs.run(_with(trained.network, lambda w, b=b: _rounded(w, b)), t, trained.p)[-1])
            for b in config.bits
        ],
        "jitter": [
            np.mean([right(_jittered(trained.network, t, trained.p, sd, random)) for _ in range(config.chips)])
            for sd in config.jitter
        ],
        "spread": [
            np.mean([right(_on_a_chip(trained.network, t, trained.p, sd, random)) for _ in range(config.chips)])
            for sd in config.spread
        ],
    }
    arrays = {f"robust_{name}": np.array(values) for name, values in table.items()}
    arrays |= {f"levels_{name}": np.array(getattr(config, name), float) for name in table}
    metrics = {f"loss_{bits}_bits": plain - table["bits"][k] for k, bits in enumerate(config.bits)}
    metrics |= {f"accuracy_{bits}_bits": table["bits"][k] for k, bits in enumerate(config.bits)}
    for name, each in (("jitter", config.jitter), ("spread", config.spread)):  # levels in percent
        metrics |= {f"loss_{name}_{100 * sd:g}": float(plain - table[name][k]) for k, sd in enumerate(each)}
        metrics |= {f"accuracy_{name}_{100 * sd:g}": float(table[name][k]) for k, sd in enumerate(each)}
    return metrics, arrays


def _lead(output: Tensor) -> float:
    """Time from the first to the second label spike, median over samples; 0 where no label neuron spikes."""
    first, second = output.sort(1).values[:, :2].T
    return float(torch.where(torch.isfinite(first), second - first, 0.0).median())


def yinyang(config: YinYang, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Train on Yin-Yang; when decisions are made, where the errors lie, how often silent neurons were repaired."""
    data, recipe = _yin_yang(), config.recipe

    def told(epoch: int, **now: float) -> None:
        progress(epoch, recipe.epochs, **now)

    trained = _train(recipe, data, seed, told, checkpoint)
    if recipe.epochs == 1:
        return Result({}, {}, {"first_loss": trained.first_loss})
    t, label = data.t[2], data.label[2]
    hidden, output = ttfs.answers(trained.network, [t], trained.p)
    decided, wrong = output.min(1).values, ttfs.decide(output) != label
    spread = np.quantile(decided[torch.isfinite(decided)].numpy(), [0.05, 0.5, 0.95])
    early = decided < t.max(1).values
    untrained = _train(replace(recipe, epochs=1, learning_rate=0.0, limits=None), data, seed, lambda *a, **b: None)
    unlearned = ttfs.answers(untrained.network, [t], untrained.p)[-1]
    values = (t.numpy() - EARLY) / (LATE - EARLY)
    distance = border_distance(values[:, 0], values[:, 1])
    repaired = trained.repaired[config.late_start :]
    metrics = trained.judged(recipe.tail) | {
        "untrained": float(untrained.accuracy[-1, 1]),
        "decided_early": float(early.double().mean()),
        "right_early": float((early & ~wrong).double().mean()),
        "train": _accuracy(trained.network, data.t[0], data.label[0], trained.p)[0],
        "least_class": min(float((~wrong)[label == k].double().mean()) for k in range(3)),
        "lead": _lead(output),
        "lead_untrained": _lead(unlearned),
        "decision_time": float(decided[torch.isfinite(decided)].mean()),
        "decision_5": float(spread[0]),
        "decision_median": float(spread[1]),
        "decision_95": float(spread[2]),
        "silent_output": float(torch.isinf(output).double().mean()),
        "wrong_distance": float(distance[wrong.numpy()].mean()) if wrong.any() else 0.0,
        "wrong_farthest": float(distance[wrong.numpy()].max(initial=0.0)),
        "distance": float(distance.mean()),
        "repaired": float(repaired.sum(1).mean()),
        "repaired_hidden": float(repaired[:, 0].mean()),
        "silent_hidden": float(trained.silent[-1, 0]),
    }
    more, arrays = _robustness(config, trained, data, seed)
    side = np.linspace(0, 1, config.grid)
    plane = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    plane = plane[((plane - 0.5) ** 2).sum(1) <= 0.25]
    answered = ttfs.run(_with(trained.network, lambda w: w), encode(np.concatenate([plane, 1 - plane], 1)), trained.p)[
        -1
    ]
    arrays |= {
        "epochs": trained.epochs,
        "accuracy": trained.accuracy,
        "loss": trained.loss,
        "repaired": trained.repaired,
        "decided": decided.numpy(),
        "hidden_times": hidden.numpy()[:8],
        "output_times": output.numpy(),
        "plane": plane,
        "plane_times": answered.numpy(),
    }
    return Result(metrics | more, arrays, {"first_loss": trained.first_loss})


@dataclass(frozen=True)
class Controls:
    """What breaks it: the same recipe with one thing changed."""

    recipe: Recipe = Recipe(epochs=100)
    ann_epochs: int = 300


def controls(config: Controls, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """No repair of silent neurons, input times shuffled between samples, no hidden layer, an ordinary network; single precision."""
    data, recipe = _yin_yang(), config.recipe
    random = np.random.default_rng([seed, 3])
    shuffled = Data(
        tuple(torch.stack([part[random.permutation(len(part)), i] for i in range(4)], 1) for part in data.t), data.label
    )
    cases = {
        "run": (recipe, data),
        "no_repair": (replace(recipe, limits=None), data),
        "shuffled": (recipe, shuffled),
        "shallow": (replace(recipe, sizes=(4, 3), initial=recipe.initial[-1:], limits=(0.0,)), data),
    }
    metrics, arrays, first = {}, {}, 0.0
    for k, (name, (chosen, given)) in enumerate(cases.items()):

        def told(epoch: int, k: int = k, **now: float) -> None:
            progress(k * recipe.epochs + epoch, len(cases) * recipe.epochs, **now)

        trained = _train(chosen, given, seed, told)
        if name == "run":
            first, run = trained.first_loss, trained
            if recipe.epochs == 1:
                return Result({}, {}, {"first_loss": first})
        metrics[f"accuracy_{name}"] = trained.judged(recipe.tail)["accuracy"]
        arrays[f"curve_{name}"] = trained.accuracy[:, 1]
        arrays["epochs"] = trained.epochs
    metrics |= {
        f"gap_to_{name}": metrics["accuracy_run"] - metrics[f"accuracy_{name}"] for name in cases if name != "run"
    }
    x = [((part.numpy() - EARLY) / (LATE - EARLY)).astype(np.float32) for part in data.t]
    split = Split(x[0], data.label[0].numpy(), x[2], data.label[2].numpy(), "generated", (4,))
    metrics["ann"] = float(ann_control(split, (recipe.sizes[1],), (seed,), epochs=config.ann_epochs)[0])
    layers = [
        ttfs.run(_with(run.network, lambda w, d=d: w.to(d)), data.t[0].to(d), run.p)
        for d in (torch.float64, torch.float32)
    ]
    differ = [(torch.isfinite(a) != torch.isfinite(b)).double().mean() for a, b in zip(*layers, strict=True)]
    metrics["existence_differs"] = float(max(differ))
    times = [
        torch.where(torch.isfinite(a) & torch.isfinite(b), (a - b).abs(), 0.0).max()
        for a, b in zip(*layers, strict=True)
    ]
    metrics["single_time_error"] = float(max(times))
    return Result(metrics, arrays, {"first_loss": first})


# Figure 3 -------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mnist:
    """Figure 3: MNIST, whole or reduced to 16 x 16 pixels."""

    recipe: Recipe
    images: str = "mnist-60k"
    side: int = 28
    validation: int = 10_000
    ann: bool = True


def _pictures(config: Mnist) -> tuple[Data, Split]:
    """Input times. With 28 x 28 pixels black ones spike last; with 16 x 16 they do not spike."""
    split = mnist_5k() if config.images == "mnist-5k" else mnist()
    if split.tag != config.images:
        raise UserError("goeltz2021: this experiment needs all of MNIST; run `snnrepro data get mnist`")
    x = [np.round(part * 255).astype(np.uint8) for part in (split.x_train, split.x_test)]
    if config.side == 28:
        times = [encode(1 - part / 256.0) for part in x]
    else:
        small = [_shrunk(part.reshape(-1, 28, 28), config.side).reshape(len(part), -1) for part in x]
        times = [torch.where(torch.from_numpy(part) > 0, encode(1 - part / 255.0), math.inf) for part in small]
        shape = (config.side, config.side)
        seen = [part / np.float32(255) for part in small]  # an ordinary network gets the same pixels
        split = split._replace(x_train=seen[0], x_test=seen[1], shape=shape)
    order = (
        np.arange(len(times[0]))
        if config.images == "mnist-60k"
        else np.random.default_rng(0).permutation(len(times[0]))
    )
    kept, held = np.split(order, [len(order) - config.validation])
    label = [torch.from_numpy(part) for part in (split.y_train, split.y_test)]
    data = Data((times[0][kept], times[0][held], times[1]), (label[0][kept], label[0][held], label[1]), split.tag)
    return data, split._replace(x_train=split.x_train[kept], y_train=split.y_train[kept])


def _shrunk(pictures: np.ndarray, side: int) -> np.ndarray:
    """The middle 24 x 24 pixels of 28 x 28 grey pictures, resized bilinearly."""
    from PIL import Image

    return np.stack(
        [np.asarray(Image.fromarray(p[2:26, 2:26]).resize((side, side), Image.Resampling.BILINEAR)) for p in pictures]
    )


def _first_loss(recipe: Recipe, data: Data, seed: int, samples: int = 1000) -> float:
    """Loss of one epoch on the first samples of each part: what a replay can repeat in seconds."""
    few = Data(tuple(t[:samples] for t in data.t), tuple(label[:samples] for label in data.label), data.tag)
    return _train(replace(recipe, epochs=1), few, seed, lambda *a, **b: None).first_loss


def digits(config: Mnist, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Train on digits; a network without spikes on the same ones beside it."""
    data, split = _pictures(config)
    recipe = config.recipe
    early = {"first_loss": _first_loss(recipe, data, seed)}
    if not recipe.epochs:
        return Result({}, {}, early, data.tag)

    def told(epoch: int, **now: float) -> None:
        progress(epoch, recipe.epochs, **now)

    trained = _train(recipe, data, seed, told, checkpoint)
    dtype = trained.network.weights[0].dtype
    hidden, output = ttfs.answers(trained.network, data.t[2].to(dtype).split(500), trained.p)
    chosen, label = ttfs.decide(output), data.label[2]
    decided = output.min(1).values
    metrics = trained.judged(recipe.tail) | {
        "train": _accuracy(trained.network, data.t[0].to(dtype), data.label[0], trained.p)[0],
        "decision_time": float(decided[torch.isfinite(decided)].mean()),
        "decision_median": float(decided[torch.isfinite(decided)].median()),
        "silent_output": float(torch.isinf(output).double().mean()),
        "decided_early": float((decided < LATE).double().mean()),
        "repaired": float(trained.repaired.sum(1).mean()),
        "silent_hidden": float(trained.silent[-1, 0]),
        "spikes_before_decision": float((hidden < decided[:, None]).double().sum(1).mean()),
    }
    if config.ann:
        metrics["ann"] = float(ann_control(split, (recipe.sizes[1],), (seed,), epochs=20)[0])
        metrics["gap_to_ann"] = metrics["ann"] - metrics["accuracy"]
    confusion = np.zeros((10, 11))
    np.add.at(confusion, (label.numpy(), chosen.numpy()), 1)
    sample = int(torch.nonzero(chosen == label)[seed])
    order = data.t[2][sample]
    arrays = {
        "epochs": trained.epochs,
        "accuracy": trained.accuracy,
        "loss": trained.loss,
        "repaired": trained.repaired,
        "decided": decided.numpy().astype(np.float32),
        "confusion": confusion,
        "sample_input": order.numpy(),
        "sample_hidden": hidden[sample].numpy(),
        "sample_output": output[sample].numpy(),
        "sample_label": np.array(int(label[sample])),
    }
    return Result(metrics, arrays, early, data.tag)


# Experiments ----------------------------------------------------------------------------------------------------------------

DIGITS = Recipe(
    sizes=(784, 350, 10),
    initial=((0.05, 0.8), (0.15, 0.8)),
    bias=None,
    shrink=0.9,
    shrink_after=15,
    batch=80,
    epochs=150,
    limits=(0.15, 0.05),
    noise=0.3,
    every=5,
)
SMALL_DIGITS = replace(
    DIGITS,
    sizes=(256, 128, 10),
    initial=((0.1, 0.4), (0.6, 0.8)),
    learning_rate=0.003,
    shrink_after=10,
    batch=50,
    epochs=200,
    limits=(0.5, 0.5),
)
FIVE, TEN, TWENTY = tuple(range(5)), tuple(range(10)), tuple(range(20))


def _one_epoch(config):
    """The first epoch of a training run."""
    return replace(config, recipe=replace(config.recipe, epochs=1))


def _few_digits(config: Mnist) -> Mnist:
    """One epoch on a few digits."""
    return replace(config, recipe=replace(config.recipe, epochs=0))


EXPERIMENTS = {
    "spike_time": Experiment(spike_time, SpikeTime(networks=40, step=2e-3), SpikeTime(), (0,), FIVE),
    "yinyang": Experiment(yinyang, YinYang(Recipe(epochs=60)), YinYang(), (0, 1), TWENTY, replay=_one_epoch),
    "controls": Experiment(
        controls, Controls(Recipe(epochs=30, tail=5, every=5)), Controls(), (0, 1), TEN, replay=_one_epoch
    ),
    "digits": Experiment(
        digits,
        Mnist(replace(DIGITS, epochs=5, tail=2, every=1), "mnist-5k", validation=400),
        Mnist(DIGITS),
        (0,),
        FIVE,
        replay=_few_digits,
    ),
    "small_digits": Experiment(
        digits,
        Mnist(replace(SMALL_DIGITS, epochs=6, tail=2, every=1), "mnist-5k", 16, 400),
        Mnist(SMALL_DIGITS, side=16),
        (0,),
        FIVE,
        replay=_few_digits,
    ),
}
