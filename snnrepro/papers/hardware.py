"""Substrates: what imperfect chips do to trained networks, and what training on or for them gains.

Settings of first-spike networks: the configurations of the authors' code fastAndDeep (Göltz et al. 2021, and their later work with
delays). Settings of networks in time steps are ours.
"""

import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from snnrepro import costs, surrogate
from snnrepro.data import mnist, mnist_5k
from snnrepro.data.encoders import events_to_dense
from snnrepro.data.yinyang import SAMPLES, yin_yang
from snnrepro.errors import UserError
from snnrepro.experiment import Experiment, Progress, Result
from snnrepro.files import read_npz, write_npz
from snnrepro.first_spike import ttfs
from snnrepro.first_spike.delays import Delays, delay_of, delayed, initial_delays
from snnrepro.first_spike.delays import run as run_delayed
from snnrepro.first_spike.exact import Neuron
from snnrepro.first_spike.ttfs import Bumped, Initial, Repair
from snnrepro.hardware import loihi, loihi_training, nir, presets
from snnrepro.hardware.matrix import VectorMatrix
from snnrepro.hardware.networks import Stepped, Timed
from snnrepro.hardware.parts import (
    QUANTITIES,
    Events,
    FixedPattern,
    Readout,
    TimeGrid,
    TrialNoise,
    WeightGrid,
    signed_bits,
)
from snnrepro.hardware.substrate import Chip, HardwareAware, InTheLoop, Observables, Substrate
from snnrepro.neurons import LIF, Surrogate
from snnrepro.peers.hardware import chip_snntorch
from snnrepro.peers.nir import spikes_snntorch

SHARPNESS = 10.0
"""Factor of the readout's mean potential in the softmax."""
ORDER, SCRAMBLE = 111, 112  # second entries of seeds, beside those of snnrepro.hardware.substrate
JITTER = 113

DETUNED = ("threshold", "tau_mem", "tau_syn")
"""What is detuned on purpose."""


def varied(sd: float, quantities: tuple[str, ...] = DETUNED) -> Substrate:
    """A substrate without rounding on which some quantities of every neuron have the same relative spread."""
    substrate = replace(presets.IDEAL, name=f"spread of {sd:g}")
    for quantity in quantities:
        substrate = substrate | FixedPattern(quantity, sd)
    return substrate


# Networks in time steps -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recipe:
    """A network of 5 inputs (four coordinates and a bias), LIF neurons and three classes, and how it is trained."""

    hidden: int = 40
    steps: int = 30
    batch: int = 100
    epochs: int = 24
    rate: float = 0.02  # of Adam; falls to 0 along half a cosine
    sd: tuple[float, float] = (6.0, 3.0)  # of the initial weights, times the root of the fan-in
    mean: float = 1.0  # of those from the inputs


HIDDEN = LIF(
    tau_mem=10e-3,
    tau_syn=5e-3,
    dt=1e-3,
    reset="subtract",
    current="new",
    gain="leak",
    surrogate=Surrogate("fast_sigmoid", 10.0),
)


@dataclass(frozen=True)
class Samples:
    """Input spikes (time, samples, 5) and classes of the training and the test part."""

    x: tuple[Tensor, Tensor]
    label: tuple[Tensor, Tensor]


def spike_patterns(points: np.ndarray, steps: int) -> Tensor:
    """One spike an input `(steps, samples, 5)`: the smaller a coordinate, the earlier; the bias spikes first."""
    x = torch.zeros(steps, len(points), 5)
    at = np.concatenate([1 + np.round(points * (2 * steps // 3 - 2)), np.zeros((len(points), 1))], 1).astype(int)
    for k in range(5):
        x[at[:, k], np.arange(len(points)), k] = 1
    return x


def spike_samples(steps: int) -> Samples:
    """The published training and test points as spikes."""
    parts = [yin_yang(*SAMPLES[part]) for part in ("train", "test")]
    return Samples(tuple(spike_patterns(x, steps) for x, _ in parts), tuple(torch.from_numpy(y) for _, y in parts))


def stepped_network(recipe: Recipe, seed: int) -> Stepped:
    """The network before training."""
    g = torch.Generator().manual_seed(seed)
    sizes = (5, recipe.hidden, 3)
    first, last = (
        torch.randn(n, m, generator=g) * sd / n**0.5 for n, m, sd in zip(sizes, sizes[1:], recipe.sd, strict=False)
    )
    return Stepped(surrogate.Network(((first + recipe.mean).requires_grad_(),), last.requires_grad_()), HIDDEN, HIDDEN)


def _twin(net: Stepped) -> Stepped:
    """The same network, to be trained further."""
    hidden = tuple(w.detach().clone().requires_grad_() for w in net.weights.hidden)
    return net._replace(weights=surrogate.Network(hidden, net.weights.output.detach().clone().requires_grad_()))


Model = InTheLoop | HardwareAware


def _learn(
    net: Stepped,
    model: Model,
    recipe: Recipe,
    data: Samples,
    seed: int,
    answer: Callable | None = None,
    after: Callable[[int], None] | None = None,
    constant: bool = False,
) -> float:
    """Train in place; returns the first loss.

    Args:
        net: the network.
        model: answers to input; its weights are those of the network.
        recipe: how.
        data: samples.
        seed: of their order.
        answer: stands in for `model` itself.
        after: called after each epoch.
        constant: whether the learning rate stays as it is.
    """
    optimiser = torch.optim.Adam([*net.weights.hidden, net.weights.output], lr=recipe.rate)
    first = math.nan
    for epoch in range(recipe.epochs):
        for group in optimiser.param_groups:
            group["lr"] = recipe.rate * (1.0 if constant else 0.5 * (1 + math.cos(math.pi * epoch / recipe.epochs)))
        if isinstance(model, HardwareAware):
            model.next_epoch()
        order = torch.from_numpy(np.random.default_rng([seed, ORDER, epoch]).permutation(len(data.label[0])))
        for rows in order.split(recipe.batch):
            found = (answer or model)(data.x[0][:, rows])
            loss = surrogate.classification_loss(SHARPNESS * found.output.mean(0), data.label[0][rows])
            first = loss.item() if math.isnan(first) else first
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        if after is not None:
            after(epoch)
    return first


def _right(net: Stepped, chip: Chip, data: Samples) -> float:
    """Test accuracy on a chip; the seed of the trial is that of the chip."""
    seen = chip.deploy(net).run(data.x[1], chip.seed)
    return surrogate.accuracy(seen.output.mean(0), data.label[1])


def _over_chips(net: Stepped, chips: list[Chip], data: Samples) -> np.ndarray:
    return np.array([_right(net, chip, data) for chip in chips])


def _shuffled(model: InTheLoop, random: np.random.Generator) -> Callable:
    """Training on observables that belong to other samples of the batch."""

    def answer(x: Tensor):
        seen = model.observe(x)
        rows = torch.from_numpy(random.permutation(x.shape[1]))
        parts = {name: [a[:, rows] for a in getattr(seen, name)] for name in ("layers", "potentials")}
        return model(x, Observables(seen.output[:, rows], **parts, lost=seen.lost))

    return answer


# Four ways ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ways:
    """One network, four ways: ideal, deployed as it is, trained for all chips, trained on one chip."""

    recipe: Recipe = Recipe()
    preset: str = "bss2_uncalibrated"
    chips: int = 20
    recovery: int = 12  # epochs of fine-tuning on a chip
    recovery_rate: float = 0.005
    shown: int = 3  # chips of the transfer matrix


def ways(config: Ways, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Accuracy on every chip each way, on other chips and in the ideal network; the recovery curve; the control."""
    recipe, data = config.recipe, spike_samples(config.recipe.steps)
    substrate = presets.preset(config.preset)
    chips = [substrate.fabricate(k) for k in range(config.chips)]
    unseen = [substrate.fabricate(1000 + k) for k in range(config.chips)]
    ideal = presets.IDEAL.fabricate(0)
    total, done = 3 + 2 * config.chips, 0

    def told(**now: float) -> None:
        nonlocal done
        done += 1
        progress(done, total, **now)

    net = stepped_network(recipe, seed)
    first = _learn(net, HardwareAware(net, presets.IDEAL, "never"), recipe, data, seed)
    if recipe.epochs == 1:
        return Result({}, {}, {"first_loss": first})
    told()
    aware = stepped_network(recipe, seed)
    _learn(aware, HardwareAware(aware, substrate, "batch", seed), recipe, data, seed)
    told()
    lost = stepped_network(recipe, seed)
    model = InTheLoop(lost, chips[0], seed)
    _learn(lost, model, recipe, data, seed, answer=_shuffled(model, np.random.default_rng([seed, SCRAMBLE])))
    told()
    loops, curves = [], []
    for chip in chips:
        loop = stepped_network(recipe, seed)
        _learn(loop, InTheLoop(loop, chip, seed), recipe, data, seed)
        loops.append(loop)
        told(accuracy=_right(loop, chip, data))
        tuned = _twin(net)
        curve = [_right(tuned, chip, data)]
        slow = replace(recipe, epochs=config.recovery, rate=config.recovery_rate)
        _learn(
            tuned,
            InTheLoop(tuned, chip, seed),
            slow,
            data,
            seed,
            after=lambda epoch, c=curve, t=tuned, chip=chip: c.append(_right(t, chip, data)),
            constant=True,
        )
        curves.append(curve)
        told()
    table = {
        "deployed": _over_chips(net, chips, data),
        "aware": _over_chips(aware, chips, data),
        "in_the_loop": np.array([_right(loop, chip, data) for loop, chip in zip(loops, chips, strict=True)]),
        "in_the_loop_elsewhere": np.array([_over_chips(loop, unseen[:10], data).mean() for loop in loops]),
        "in_the_loop_ideal": _over_chips_of(loops, ideal, data),
    }
    shown = range(config.shown)
    trained, tested = [net, aware, *(loops[k] for k in shown)], [ideal, *(chips[k] for k in shown)]
    transfer = np.array(
        [[*(_right(one, chip, data) for chip in tested), _over_chips(one, unseen, data).mean()] for one in trained]
    )
    curves = np.array(curves)
    metrics = {name: float(values.mean()) for name, values in table.items()}
    metrics |= {f"{name}_sd": float(values.std(ddof=1)) for name, values in table.items()}
    metrics |= {
        "ideal": float(transfer[0, 0]),
        "aware_ideal": float(transfer[1, 0]),
        "shuffled": _right(lost, chips[0], data),
        "recovered": float(curves[:, -1].mean()),
    }
    metrics |= {
        "lost_in_deployment": metrics["ideal"] - metrics["deployed"],
        "gained_by_awareness": metrics["aware"] - metrics["deployed"],
        "gained_in_the_loop": metrics["in_the_loop"] - metrics["deployed"],
        "loop_below_ideal": metrics["ideal"] - metrics["in_the_loop"],
        "lost_elsewhere": metrics["in_the_loop"] - metrics["in_the_loop_elsewhere"],
        "lost_in_ideal": metrics["in_the_loop"] - metrics["in_the_loop_ideal"],
        "lost_by_shuffling": metrics["in_the_loop"] - metrics["shuffled"],
        "recovery": float((curves[:, -1] - curves[:, 0]).mean()),
    }
    deployment = chips[0].deploy(loops[0])
    metrics |= _spent(deployment, data)
    return Result(metrics, table | {"transfer": transfer, "recovery": curves}, {"first_loss": first})


def _over_chips_of(nets: list[Stepped], chip: Chip, data: Samples) -> np.ndarray:
    return np.array([_right(net, chip, data) for net in nets])


def _spent(deployment, data: Samples) -> dict[str, float]:
    """Operations and spikes a sample, of the weights that the chip holds."""
    x, seen = data.x[1], deployment.run(data.x[1], 0)
    grid = deployment.chip.substrate.weights
    w = [grid.apply(layer.w).numpy() for layer in deployment.net.layers()]
    count = costs.synaptic_operations(zip((x.numpy(), seen.layers[0].numpy()), w, strict=True))
    return {
        "synaptic_operations": count.acs,
        "dense_operations": count.dense,
        "hidden_spikes": costs.spikes_a_sample([seen.layers[0].numpy()]),
        "updates": float(len(x) * sum(a.shape[1] for a in w)),
    }


# Kinds of chips --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kinds:
    """Networks that were trained for one kind of chip, on all kinds."""

    recipe: Recipe = Recipe()
    trained: tuple[str, ...] = ("ideal", "xylo", "bss2_uncalibrated", "dynapse2")
    tested: tuple[str, ...] = ("ideal", "spinnaker", "xylo", "bss2_uncalibrated", "dynapse2")
    chips: int = 20  # of a kind whose chips differ


def kinds(config: Kinds, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Accuracy by the kind a network was trained for and the kind it runs on: mean and deviation over chips."""
    recipe, data = config.recipe, spike_samples(config.recipe.steps)
    chips = {}
    for name in config.tested:
        kind = presets.preset(name)
        chips[name] = [kind.fabricate(k) for k in range(config.chips if kind.neurons else 1)]
    mean, sd, first = {}, {}, math.nan
    for name in config.trained:
        kind, net = presets.preset(name), stepped_network(recipe, seed)
        loss = _learn(net, HardwareAware(net, kind, "batch" if kind.neurons else "never", seed), recipe, data, seed)
        first = loss if name == "ideal" else first
        if recipe.epochs == 1:
            return Result({}, {}, {"first_loss": first})
        for tested, several in chips.items():
            right = _over_chips(net, several, data)
            mean[name, tested], sd[name, tested] = float(right.mean()), float(right.std())
        progress(len(mean) // len(chips), len(config.trained), accuracy=mean[name, name])
    uneven = [name for name in config.trained if presets.preset(name).neurons]
    alike = [name for name in config.tested if name != "ideal" and name not in uneven]
    metrics = {f"{a}_on_{b}": value for (a, b), value in mean.items()}
    metrics |= {f"gained_{name}": mean[name, name] - mean["ideal", name] for name in uneven}
    metrics["carried"] = min(mean[a, b] - mean["ideal", b] for a in uneven for b in uneven if a != b)
    metrics["rounding_costs"] = mean["ideal", "ideal"] - min(mean["ideal", name] for name in alike)
    shape = len(config.trained), len(config.tested)
    tables = {"mean": np.reshape(list(mean.values()), shape), "sd": np.reshape(list(sd.values()), shape)}
    return Result(metrics, tables, {"first_loss": first})


def described(name: str, net: Stepped) -> tuple[str, str, str]:
    """Levels of a weight, spread of the neurons, and what a network takes of a preset's scarcest resource, in words."""
    kind = presets.preset(name)
    if isinstance(kind, VectorMatrix):
        return f"{-kind.most_weight} to {kind.most_weight}".replace("-", "−"), "none", f"{kind.rows} inputs a product"
    grid, same = kind.weights, {}
    levels = "any" if grid.highest is None else f"{grid.lowest:,} to {grid.highest:,}".replace("-", "−")
    for pattern in kind.neurons:
        same.setdefault(f"{100 * pattern.sd:.0f} %", []).append(pattern.quantity)
    spread = "; ".join(f"{', '.join(quantities)} {sd}" for sd, quantities in same.items()) or "none"
    plan = kind.fabricate(0).place(net)
    scarce = max(plan.used, key=lambda resource: plan.used[resource] / plan.available[resource])
    limited = kind.limits != presets.IDEAL.limits
    return levels, spread, f"{plan.used[scarce]} of {plan.available[scarce]} {scarce}" if limited else "no limit"


# Bits -----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bits:
    """Accuracy over the bits of a weight, rounded after training and in training."""

    recipe: Recipe = Recipe()
    bits: tuple[int, ...] = (2, 3, 4, 5, 6, 8)
    trained: tuple[int, ...] = (2, 3, 4, 5, 6, 8)


def bits(config: Bits, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Post-training rounding of one network, and one network trained with rounding for each number of bits."""
    recipe, data = config.recipe, spike_samples(config.recipe.steps)
    net = stepped_network(recipe, seed)
    first = _learn(net, HardwareAware(net, presets.IDEAL, "never"), recipe, data, seed)
    if recipe.epochs == 1:
        return Result({}, {}, {"first_loss": first})
    after = {b: _right(net, (presets.IDEAL | signed_bits(b)).fabricate(0), data) for b in config.bits}
    within = {}
    for k, b in enumerate(config.trained):
        one = stepped_network(recipe, seed)
        substrate = presets.IDEAL | signed_bits(b)
        _learn(one, HardwareAware(one, substrate, "never"), recipe, data, seed)
        within[b] = _right(one, substrate.fabricate(0), data)
        progress(k + 1, len(config.trained), accuracy=within[b])
    full = _right(net, presets.IDEAL.fabricate(0), data)
    metrics = (
        {"float": full} | {f"after_{b}": a for b, a in after.items()} | {f"within_{b}": a for b, a in within.items()}
    )
    metrics |= {f"gain_{b}": within[b] - after[b] for b in config.trained}
    metrics |= {f"cost_{b}": full - within[b] for b in config.trained} | {
        f"lost_{b}": full - after[b] for b in config.bits
    }
    metrics["gain_low"] = 0.5 * (metrics["gain_3"] + metrics["gain_4"])
    arrays = {"after": np.array(list(after.values())), "within": np.array(list(within.values()))}
    return Result(metrics, arrays, {"first_loss": first})


# Spread ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spread:
    """Accuracy over the spread of thresholds and time constants from neuron to neuron."""

    recipe: Recipe = Recipe()
    sd: tuple[float, ...] = (0.05, 0.1, 0.2, 0.3, 0.5)
    injected: float = 0.2
    chips: int = 20  # of deployed networks
    loop_chips: int = 4  # on which a network is trained, for each spread


def spread(config: Spread, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """A network trained without spread, one trained on a new chip for each batch, and networks trained in the loop."""
    recipe, data = config.recipe, spike_samples(config.recipe.steps)
    plain, injected = stepped_network(recipe, seed), stepped_network(recipe, seed)
    first = _learn(plain, HardwareAware(plain, presets.IDEAL, "never"), recipe, data, seed)
    if recipe.epochs == 1:
        return Result({}, {}, {"first_loss": first})
    _learn(injected, HardwareAware(injected, varied(config.injected), "batch", seed), recipe, data, seed)
    ideal = presets.IDEAL.fabricate(0)
    metrics = {"deployed_0": _right(plain, ideal, data), "injected_0": _right(injected, ideal, data)}
    tables = {name: [] for name in ("deployed", "injected", "in_the_loop", "threshold_alone", "taus_alone")}
    own = [seed * config.loop_chips + k for k in range(config.loop_chips)]
    for k, sd in enumerate(config.sd):
        chips = [varied(sd).fabricate(c) for c in range(config.chips)]
        tables["deployed"].append(_over_chips(plain, chips, data))
        tables["injected"].append(_over_chips(injected, chips, data))
        for name, quantities in (("threshold_alone", DETUNED[:1]), ("taus_alone", DETUNED[1:])):
            part = [varied(sd, quantities).fabricate(c) for c in range(config.chips)]
            tables[name].append(_over_chips(plain, part, data))
        reached = []
        for c in own:
            chip, loop = varied(sd).fabricate(c), stepped_network(recipe, seed)
            _learn(loop, InTheLoop(loop, chip, seed), recipe, data, seed)
            reached.append(_right(loop, chip, data))
        tables["in_the_loop"].append(np.array(reached))
        percent = f"{100 * sd:g}"
        metrics |= {f"{name}_{percent}": float(rows[-1].mean()) for name, rows in tables.items()}
        metrics |= {
            f"lost_{percent}": metrics["deployed_0"] - metrics[f"deployed_{percent}"],
            f"loop_lost_{percent}": metrics["deployed_0"] - metrics[f"in_the_loop_{percent}"],
            f"injection_gain_{percent}": metrics[f"injected_{percent}"] - metrics[f"deployed_{percent}"],
            f"chip_sd_{percent}": float(tables["deployed"][-1].std(ddof=1)),
        }
        progress(k + 1, len(config.sd), accuracy=metrics[f"in_the_loop_{percent}"])
    gaps = {sd: metrics[f"in_the_loop_{100 * sd:g}"] - metrics[f"deployed_{100 * sd:g}"] for sd in config.sd}
    metrics["gap_widens"] = gaps[0.3] - gaps[0.1]
    metrics["injection_cost"] = metrics["deployed_0"] - metrics["injected_0"]
    return Result(metrics, {name: np.array(rows) for name, rows in tables.items()}, {"first_loss": first})


# First spikes ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Times:
    """A first-spike network of the authors' code, and how it is trained."""

    sizes: tuple[int, ...] = (20, 30, 3)
    repeats: int = 5  # of each input
    threshold: float = 2.6
    tau_mem: float = 1.0
    initial: tuple[tuple[float, float], ...] = ((1.0, 0.12), (0.075, 0.15))
    rate: float = 0.002
    shrink: float = 0.95  # of the learning rate,
    shrink_after: int = 20  # epochs
    batch: int = 40
    epochs: int = 300
    delta: float = 0.3  # by which other labels should come later
    limits: tuple[float, ...] = (0.05, 0.05)
    bump: float = 5e-4
    largest_change: float = 0.2
    tail: int = 20  # last epochs whose mean is judged


IDEAL_TIMES = Times((4, 30, 3), 1, 1.0, 2.0, ((0.5, 1.0), (0.5, 1.0)), 0.02, batch=150, delta=0.2, limits=(0.3, 0.0))
"""The authors' configuration without hardware."""
EARLY, LATE = 0.15, 2.0
"""Times of the smallest and the largest value."""


def shift_invariant_loss(t: Tensor, label: Tensor, delta: float) -> Tensor:
    """Half the squared distance from other labels that come `delta` after the true one; 100 where a label is silent."""
    true = t.gather(1, label[:, None])
    spiked = torch.isfinite(t).all(1)
    late = torch.where(spiked[:, None], t - true, 0.0)
    wanted = delta * (1 - torch.nn.functional.one_hot(label, t.shape[1]).to(t))
    return torch.where(spiked, 0.5 * ((late - wanted) ** 2).sum(1), 100.0).mean()  # Eq. (6)


def _timed(recipe: Times, seed: int) -> Timed:
    p = Neuron(tau_mem=recipe.tau_mem, threshold=recipe.threshold)
    draws = tuple(Initial(*draw) for draw in recipe.initial)
    nothing = (None,) * len(draws)
    return Timed(ttfs.initial_network(recipe.sizes, draws, nothing, torch.Generator().manual_seed(seed)), p)


def _points(recipe: Times) -> tuple[list[Tensor], list[Tensor]]:
    """Input times and classes of the three parts."""
    parts = [yin_yang(*SAMPLES[part]) for part in ("train", "validation", "test")]
    t = [torch.from_numpy(EARLY + x * (LATE - EARLY)).repeat(1, recipe.repeats) for x, _ in parts]
    return t, [torch.from_numpy(label) for _, label in parts]


def _decided(net: Timed, chip: Chip, t: Tensor, label: Tensor, trial_seed: int | None = None) -> float:
    """Accuracy on a chip; the seed of the trial is that of the chip where none is given."""
    found = chip.deploy(net).run(t, chip.seed if trial_seed is None else trial_seed).output
    return float((ttfs.decide(found) == label).double().mean())


def _learn_times(
    net: Timed, model: Model, recipe: Times, seed: int, told: Callable[[int, float], None]
) -> tuple[np.ndarray, float]:
    """Train in place; validation accuracy after each epoch on the chip of the model, and the first loss."""
    (t, other, _), (label, held, _) = _points(recipe)
    grid = (model.chip if isinstance(model, InTheLoop) else model).substrate.weights
    optimiser, rule, state = (
        torch.optim.Adam(net.weights.weights, lr=recipe.rate),
        Repair(recipe.limits, recipe.bump),
        Bumped(),
    )
    curve, first = [], math.nan
    for epoch in range(recipe.epochs):
        for group in optimiser.param_groups:
            group["lr"] = recipe.rate * recipe.shrink ** (epoch // recipe.shrink_after)
        order = torch.from_numpy(np.random.default_rng([seed, ORDER, epoch]).permutation(len(label)))
        for rows in order.split(recipe.batch):
            found = model(t[rows])
            loss = shift_invariant_loss(found.output, label[rows], recipe.delta)
            first = loss.item() if math.isnan(first) else first
            state = ttfs.repair(net.weights, [layer.detach() for layer in found.layers], rule, state)
            if state.layer is None:
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
            for w in net.weights.weights:
                grid.keep(w)
        curve.append(_decided(net, model.chip, other, held, epoch))
        told(epoch + 1, curve[-1])
    return np.array(curve), first


@dataclass(frozen=True)
class FirstSpike:
    """First-spike networks on the authors' model of BrainScaleS-2."""

    recipe: Times = Times()
    ideal: Times = IDEAL_TIMES
    chips: int = 5  # on which a network is trained
    groups: int = 4  # of chips; seeds take turns
    unseen: int = 20


_LEVELS = presets.BSS2_DELGRAD.weights
ALONE = {
    "range": replace(_LEVELS, lowest=_LEVELS.lowest << 16, highest=_LEVELS.highest << 16, step=_LEVELS.step / 2**16),
    "rounding": replace(_LEVELS, lowest=_LEVELS.lowest << 16, highest=_LEVELS.highest << 16),
    "threshold": presets.BSS2_DELGRAD.neurons[0],
    "trial": presets.BSS2_DELGRAD.noise,
    "time_grid": presets.BSS2_DELGRAD.time,
    "jitter": TrialNoise(time=0.01),
    "lost_spikes": Events(0.01),
}
"""Imperfections one at a time: those of the authors' model, the ends of the weights apart from their steps; and a jitter of 0.01 tau, and
one spike lost of a hundred (assumed)."""


def first_spike(config: FirstSpike, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Ideal, deployed, trained for all chips, trained on one chip; there, in the ideal model, and on other chips."""
    recipe, substrate = config.recipe, presets.BSS2_DELGRAD
    total = config.ideal.epochs + (2 + config.chips) * recipe.epochs
    done = 0

    def told(epoch: int, accuracy: float) -> None:
        nonlocal done
        done += 1
        progress(done, total, accuracy=accuracy)

    nothing, never = presets.IDEAL.fabricate(0), "never"
    best = _timed(config.ideal, seed)
    best_curve, first = _learn_times(
        best,
        HardwareAware(best, presets.IDEAL, never, largest_change=config.ideal.largest_change),
        config.ideal,
        seed,
        told,
    )
    if config.ideal.epochs == 1:
        return Result({}, {}, {"first_loss": first})
    plain, aware = _timed(recipe, seed), _timed(recipe, seed)
    plain_curve, _ = _learn_times(
        plain, HardwareAware(plain, presets.IDEAL, never, largest_change=recipe.largest_change), recipe, seed, told
    )
    _learn_times(aware, HardwareAware(aware, substrate, "batch", seed, recipe.largest_change), recipe, seed, told)
    chips = [substrate.fabricate(config.chips * (seed % config.groups) + k) for k in range(config.chips)]
    unseen = [substrate.fabricate(1000 + k) for k in range(config.unseen)]
    t, label = (part[2] for part in _points(recipe))
    rows, curves, residual, spent = [], [], [], []
    for chip in chips:
        loop = _timed(recipe, seed)
        curve, _ = _learn_times(loop, InTheLoop(loop, chip, seed, recipe.largest_change), recipe, seed, told)
        curves.append(curve)
        here, there = (one.deploy(loop).run(t, one.seed).output for one in (chip, nothing))
        both = torch.isfinite(here) & torch.isfinite(there)
        residual.append((here - there)[both].numpy())
        away = np.mean([_decided(loop, other, t, label) for other in unseen])
        rows.append((curve[-recipe.tail :].mean(), *(_decided(loop, one, t, label) for one in (chip, nothing)), away))
        spent.append(_decision(loop, chip, t))
    names = ("in_the_loop", "on_its_chip", "in_the_ideal_model", "on_other_chips")
    table = {name: np.array(values) for name, values in zip(names, zip(*rows, strict=True), strict=True)}
    table |= {
        "deployed": np.array([_decided(plain, chip, t, label) for chip in (*chips, *unseen)]),
        "aware": np.array([_decided(aware, chip, t, label) for chip in (*chips, *unseen)]),
    }
    alone = {}
    for name, part in ALONE.items():
        kind = presets.IDEAL | part
        alone[name] = np.array([_decided(plain, kind.fabricate(1000 + k), t, label, k) for k in range(config.unseen)])
    metrics = {name: float(values.mean()) for name, values in table.items()}
    metrics |= {f"{name}_sd": float(values.std(ddof=1)) for name, values in table.items()}
    plainly = _decided(plain, nothing, t, label)
    metrics |= {f"cost_of_{name}": plainly - float(values.mean()) for name, values in alone.items()}
    metrics |= {
        "ideal": float(best_curve[-recipe.tail :].mean()),
        "plain": plainly,
        "self_calibration": metrics["on_its_chip"] - metrics["in_the_ideal_model"],
        "lost_elsewhere": metrics["on_its_chip"] - metrics["on_other_chips"],
        "lost_in_deployment": plainly - metrics["deployed"],
        "residual_mean": float(np.concatenate(residual).mean()),
        "residual_sd": float(np.mean([r.std() for r in residual])),
    }
    metrics |= {name: float(np.mean([one[name] for one in spent])) for name in spent[0]}
    arrays = table | {f"alone_{name}": values for name, values in alone.items()}
    arrays |= {
        "curves": np.array(curves),
        "ideal_curve": best_curve,
        "plain_curve": plain_curve,
        "residual": residual[0],
    }
    return Result(metrics, arrays, {"first_loss": first})


def _decision(net: Timed, chip: Chip, t: Tensor) -> dict[str, float]:
    """Operations and spikes a sample, in all and until the first label spikes, and when that is, in tau and in microseconds."""
    deployment = chip.deploy(net)
    seen = deployment.run(t, chip.seed)
    w = [chip.substrate.weights.apply(layer.w).numpy() for layer in deployment.net.layers()]
    given = [t, *seen.layers[:-1]]
    decided = seen.output.min(1, keepdim=True).values
    metrics = {}
    for name, latest in (("", torch.tensor(math.inf)), ("_until_decision", decided)):
        spikes = [((a < latest) & torch.isfinite(a)).numpy()[None] for a in given]
        metrics[f"operations{name}"] = costs.synaptic_operations(zip(spikes, w, strict=True)).acs
        metrics[f"hidden_spikes{name}"] = costs.spikes_a_sample(spikes[1:])
    when = float(decided[torch.isfinite(decided)].mean())
    label_time = float(seen.output[torch.isfinite(seen.output)].mean())
    return metrics | {"decision_time": when, "decision_us": 6.0 * when, "label_time": label_time}


# Delays ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Delayed:
    """A first-spike network with delays of the authors' code, and how both are trained."""

    recipe: Times = Times()
    rate: float = 0.002  # of the delays
    sd: float = 0.5
    shortest: float = 2.0
    span: float = 1.5
    synaptic: bool = False  # a delay for each synapse, else for each axon


AXONAL = Delayed(replace(IDEAL_TIMES, initial=((1.0, 1.0), (1.0, 1.0)), rate=0.005), 0.005, 0.25, 0.0, 1.0)
SYNAPTIC = replace(AXONAL, recipe=replace(AXONAL.recipe, rate=0.01), rate=0.003, synaptic=True)
FEW = replace(SYNAPTIC, recipe=replace(AXONAL.recipe, sizes=(4, 5, 3), rate=0.015), rate=0.01)


@dataclass(frozen=True)
class LearnedDelays:
    """Yin-Yang with learned delays: without hardware, and in the loop on one chip of the authors' model."""

    ideal: tuple[tuple[str, Delayed], ...] = (
        ("weights", Delayed(IDEAL_TIMES, 0.0, 0.0, 0.0, 0.0)),  # no delays
        ("axonal", AXONAL),
        ("frozen", replace(AXONAL, rate=0.0)),
        ("synaptic", SYNAPTIC),
        ("few", FEW),
    )
    loop: Delayed = Delayed()
    frozen: bool = True  # whether a network with frozen delays learns in the loop too
    jitter: float = 0.01  # of each delayed spike, in the loop


Through = Callable[[Timed, Delays, Tensor, int], list[Tensor]]
"""Layers of a network with delays, for input times and the number of the trial."""


def _in_the_loop(chip: Chip, largest_change: float, jitter: float) -> Through:
    """Networks with delays on a chip: times as observed, the gradient is that of the nominal network."""

    def through(net: Timed, delays: Delays, t: Tensor, trial: int) -> list[Tensor]:
        plan, random, times = chip.place(net), np.random.default_rng([chip.seed, JITTER, trial]), []
        for k, (w, circuits) in enumerate(zip(net.weights.weights, plan.circuits, strict=True)):
            given = delayed(times[-1] if times else t, delays, k)
            given = given + jitter * torch.from_numpy(random.standard_normal(given.shape))
            layer = net._replace(weights=ttfs.Network((w,), (None,)))
            written = chip.deploy(layer, plan._replace(circuits=(circuits,)))
            seen = written.run(given.detach(), len(plan.circuits) * trial + k)
            times.append(InTheLoop(layer, chip, 0, largest_change)(given, seen).output)
        return times

    return through


def _learn_delays(
    config: Delayed, through: Through, grid: WeightGrid, seed: int, told: Callable[[int, float], None]
) -> tuple[Timed, Delays, np.ndarray, float]:
    """Train weights and delays; validation accuracy after each epoch, and the first loss."""
    recipe = config.recipe
    net, (inputs, hidden, classes) = _timed(recipe, seed), recipe.sizes
    shapes = ((inputs, hidden), (hidden, classes)) if config.synaptic else ((inputs // recipe.repeats,), (hidden,))
    generator = torch.Generator().manual_seed(seed + 10_000)
    delays = initial_delays(shapes, config.sd, generator, config.shortest, config.span)
    (t, other, _), (label, held, _) = _points(recipe)
    groups = [{"params": net.weights.weights, "lr": recipe.rate}, {"params": delays.raw, "lr": config.rate}]
    optimiser, rule, state = torch.optim.Adam(groups), Repair(recipe.limits, recipe.bump), Bumped()
    curve, first, trial = [], math.nan, 0
    for epoch in range(recipe.epochs):
        for group, rate in zip(optimiser.param_groups, (recipe.rate, config.rate), strict=True):
            group["lr"] = rate * recipe.shrink ** (epoch // recipe.shrink_after)
        order = torch.from_numpy(np.random.default_rng([seed, ORDER, epoch]).permutation(len(label)))
        for rows in order.split(recipe.batch):
            layers, trial = through(net, delays, t[rows], trial), trial + 1
            loss = shift_invariant_loss(layers[-1], label[rows], recipe.delta)
            first = loss.item() if math.isnan(first) else first
            state = ttfs.repair(net.weights, [layer.detach() for layer in layers], rule, state)
            if state.layer is None:
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
            for w in net.weights.weights:
                grid.keep(w)
        with torch.no_grad():
            found, trial = through(net, delays, other, trial)[-1], trial + 1
        curve.append(float((ttfs.decide(found) == held).double().mean()))
        told(epoch + 1, curve[-1])
    return net, delays, np.array(curve), first


def _delays_on_a_chip(config: LearnedDelays, seed: int, told: Callable[[int, float], None]) -> dict[str, np.ndarray]:
    """In the loop on one chip, with delays and without; what their labels do there, and in the ideal model."""
    recipe, substrate = config.loop.recipe, presets.BSS2_DELGRAD
    chip, most = substrate.fabricate(seed), config.loop.recipe.largest_change
    through = _in_the_loop(chip, most, config.jitter)
    net, delays, curve, _ = _learn_delays(config.loop, through, substrate.weights, seed, told)
    still = {}
    if config.frozen:
        still["loop_frozen"] = _learn_delays(replace(config.loop, rate=0.0), through, substrate.weights, seed, told)[2]
    alone = _timed(recipe, seed)
    alone_curve, _ = _learn_times(alone, InTheLoop(alone, chip, seed, most), recipe, seed, told)
    t, label = (part[2] for part in _points(recipe))
    with torch.no_grad():
        here = through(net, delays, t, 10**6)[-1]
        there = _in_the_loop(presets.IDEAL.fabricate(0), most, 0.0)(net, delays, t, 0)[-1]
        learned = [delay_of(delays, k).numpy() for k in range(2)]
    without = chip.deploy(alone).run(t, chip.seed).output
    right = [float((ttfs.decide(found) == label).double().mean()) for found in (here, there, without)]
    return still | {
        "loop": curve,
        "alone": alone_curve,
        "right": np.array(right),
        "label_times": here.numpy(),
        "label_times_alone": without.numpy(),
        "delays_input": learned[0],
        "delays_hidden": learned[1],
    }


def learned_delays(config: LearnedDelays, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Delays that are learned with the weights, frozen ones beside them; in the loop, weights alone beside them."""
    done = read_npz(checkpoint) if checkpoint is not None and checkpoint.exists() else {}
    lengths = [delays.recipe.epochs for _, delays in config.ideal]
    total, past = sum(lengths) + (2 + config.frozen) * config.loop.recipe.epochs, 0

    def told(epoch: int, accuracy: float) -> None:
        nonlocal past
        past += 1
        progress(past, total, accuracy=accuracy)

    def ideal(net: Timed, delays: Delays, t: Tensor, trial: int) -> list[Tensor]:
        return run_delayed(net.weights, delays, t, net.p, AXONAL.recipe.largest_change)

    for (name, delays), epochs in zip(config.ideal, lengths, strict=True):
        if name in done:
            past += epochs
            continue
        _, _, done[name], first = _learn_delays(delays, ideal, presets.IDEAL.weights, seed, told)
        done["first_loss"] = done.get("first_loss", np.array(first))
        if checkpoint is not None:
            write_npz(checkpoint, done)
    early = {"first_loss": float(done["first_loss"])}
    tail = config.loop.recipe.tail
    metrics = {name: float(done[name][-tail:].mean()) for name, _ in config.ideal}
    if not config.loop.recipe.epochs:
        return Result({}, {}, early)
    done |= _delays_on_a_chip(config, seed, told)
    metrics |= {name: float(done[name][-tail:].mean()) for name in ("loop", "alone", "loop_frozen") if name in done}
    metrics |= dict(
        zip(("on_its_chip", "in_the_ideal_model", "alone_on_its_chip"), done["right"].tolist(), strict=True)
    )
    for name, times in (("", done["label_times"]), ("_alone", done["label_times_alone"])):
        metrics[f"label_time{name}"] = float(times[np.isfinite(times)].mean())
        metrics[f"missing{name}"] = float(np.isinf(times).mean())
    pairs = {
        "gain_axonal": ("axonal", "weights"),
        "gain_synaptic": ("synaptic", "weights"),
        "learned_less_frozen": ("axonal", "frozen"),
        "gain": ("loop", "alone"),
        "loop_learned_less_frozen": ("loop", "loop_frozen"),
    }
    metrics |= {name: metrics[a] - metrics[b] for name, (a, b) in pairs.items() if {a, b} <= set(metrics)}
    metrics |= {
        "fewer_missing": metrics["missing_alone"] - metrics["missing"],
        "self_calibration": metrics["on_its_chip"] - metrics["in_the_ideal_model"],
    }
    return Result(metrics, {name: a for name, a in done.items() if name not in ("right", "first_loss")}, early)


# Digits ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Digits:
    """MNIST, reduced to 16 x 16 pixels, on one chip: the authors' configuration of 256-246-10."""

    images: str = "mnist-60k"
    sizes: tuple[int, ...] = (256, 246, 10)
    initial: tuple[tuple[float, float], ...] = ((0.01, 0.03), (0.006, 0.10))
    rate: float = 0.003
    shrink: float = 0.9
    shrink_after: int = 10
    batch: int = 200
    epochs: int = 200
    limits: tuple[float, ...] = (0.5, 0.5)
    bump: float = 5e-3
    noise: float = 0.3  # of the input times while training
    threshold: float = 1.52  # (threshold - leak) times g_leak of their run; 1 is a weight of 30 levels
    validation: int = 10_000
    batches: int | None = None  # at most so many, for a replay


def _small_digits(config: Digits) -> tuple[list[Tensor], list[Tensor], str]:
    """Input times, silent for black pixels, and classes of training and test part."""
    from PIL import Image

    split = mnist_5k() if config.images == "mnist-5k" else mnist()
    if split.tag != config.images:
        raise UserError("hardware: this experiment needs all of MNIST; run `snnrepro data get mnist`")
    t = []
    for part in (split.x_train, split.x_test):
        grey = np.round(part * 255).astype(np.uint8).reshape(-1, 28, 28)[:, 2:26, 2:26]
        small = np.stack([np.asarray(Image.fromarray(p).resize((16, 16), Image.Resampling.BILINEAR)) for p in grey])
        small = small.reshape(len(small), -1)
        t.append(torch.from_numpy(np.where(small > 0, EARLY + (1 - small / 255) * (LATE - EARLY), np.inf)).float())
    kept = len(t[0]) - config.validation if config.images == "mnist-60k" else len(t[0])
    return [t[0][:kept], t[1]], [torch.from_numpy(split.y_train[:kept]), torch.from_numpy(split.y_test)], split.tag


def digits(config: Digits, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Train in the loop on one chip, whose seed is that of the run; test there, in the ideal model, and on other chips."""
    (t, test), (label, truth), tag = _small_digits(config)
    draws = tuple(Initial(*draw) for draw in config.initial)
    generator = torch.Generator().manual_seed(seed)
    weights = ttfs.initial_network(config.sizes, draws, (None, None), generator, torch.float32)
    net, chip = Timed(weights, Neuron(threshold=config.threshold)), presets.BSS2_DELGRAD.fabricate(seed)
    optimiser, state = torch.optim.Adam(net.weights.weights, lr=config.rate), Bumped()
    curve, first, start = [], math.nan, 0
    if checkpoint is not None and checkpoint.exists():
        state, curve, first, start = _restore(read_npz(checkpoint), net, optimiser)
    for epoch in range(start, config.epochs):
        for group in optimiser.param_groups:
            group["lr"] = config.rate * config.shrink ** (epoch // config.shrink_after)
        random = np.random.default_rng([seed, ORDER, epoch])
        model = InTheLoop(
            net, chip, int(random.integers(2**31)), 0.2
        )  # trials of an epoch do not depend on those before
        order = torch.from_numpy(random.permutation(len(t)))
        for rows in order.split(config.batch)[: config.batches]:
            noise = torch.from_numpy(config.noise * random.standard_normal((len(rows), config.sizes[0]))).float()
            found = model((t[rows] + noise).abs())
            loss = ttfs.time_cross_entropy(found.output, label[rows], net.p)
            first = loss.item() if math.isnan(first) else first
            state = ttfs.repair(
                net.weights, [layer.detach() for layer in found.layers], Repair(config.limits, config.bump), state
            )
            if state.layer is None:
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
            for w in net.weights.weights:
                chip.substrate.weights.keep(w)
        if config.batches is not None:
            return Result({}, {}, {"first_loss": first})
        curve.append(_judged(net, chip, test, truth))
        progress(epoch + 1, config.epochs, accuracy=curve[-1])
        if checkpoint is not None:
            write_npz(checkpoint, _state(net, optimiser, state, curve, first))
    others = [chip.substrate.fabricate(1000 + k) for k in range(20)]
    elsewhere = np.array([_judged(net, other, test, truth) for other in others])
    metrics = {
        "accuracy": curve[-1],
        "in_the_ideal_model": _judged(net, presets.IDEAL.fabricate(0), test, truth),
        "on_other_chips": float(elsewhere.mean()),
    }
    metrics["self_calibration"] = metrics["accuracy"] - metrics["in_the_ideal_model"]
    return Result(metrics, {"curve": np.array(curve), "elsewhere": elsewhere}, {"first_loss": first}, tag)


def _judged(net: Timed, chip: Chip, t: Tensor, label: Tensor) -> float:
    deployment = chip.deploy(net)
    found = torch.cat([deployment.run(part, k).output for k, part in enumerate(t.split(500))])
    return float((ttfs.decide(found) == label).double().mean())


def _state(net: Timed, optimiser, state: Bumped, curve: list[float], first: float) -> dict[str, np.ndarray]:
    """Everything that training needs to go on."""
    arrays = {"curve": np.array(curve), "first": np.array(first)}
    arrays["bumped"] = np.array([-1 if state.layer is None else state.layer, state.bump])
    for k, w in enumerate(net.weights.weights):
        arrays[f"w{k}"] = w.detach().numpy().copy()
        arrays |= {f"{k}/{key}": value.numpy().copy() for key, value in optimiser.state[w].items()}
    return arrays


def _restore(arrays: dict[str, np.ndarray], net: Timed, optimiser) -> tuple[Bumped, list[float], float, int]:
    """Put a checkpoint back, in place; state of the repair, curve, first loss, and the next epoch."""
    for k, w in enumerate(net.weights.weights):
        w.data.copy_(torch.from_numpy(arrays[f"w{k}"]))
        optimiser.state[w] = {
            name.split("/")[1]: torch.from_numpy(a.copy()) for name, a in arrays.items() if name.startswith(f"{k}/")
        }
    layer, bump = arrays["bumped"]
    state = ttfs.UNTOUCHED if layer < 0 else Bumped(int(layer), float(bump))
    return state, arrays["curve"].tolist(), float(arrays["first"]), len(arrays["curve"])


# Loihi ----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Loihi:
    """A network trained for Loihi, and one quantised after training.

    Attributes:
        samples: of the training set.
        steps: length of a sample.
        late: step of the latest input spike; an input of value x spikes at step `late` x.
        hidden: neurons.
        epochs: of each training.
        rate: learning rate of Adam.
        slower: its factor after an epoch.
        bits: of a weight; each is trained for, and compared with the network that was trained with real numbers.
        scales: of the latter on the grid; the one that is best on the training samples is taken.
    """

    samples: int = SAMPLES["train"][0]
    steps: int = 40
    late: int = 30
    hidden: int = 100
    epochs: int = 20
    rate: float = 1e-2
    slower: float = 0.9
    bits: tuple[int, ...] = (8, 4, 3)
    scales: tuple[float, ...] = (1.0, 1.5, 2.0, 3.0)


def _loihi_samples(part: tuple[int, int], config: Loihi) -> tuple[Tensor, Tensor]:
    """Spikes (steps, samples, 5), the fifth input at once, and the classes."""
    values, label = yin_yang(*part)
    times = np.concatenate([np.rint(config.late * values), np.zeros((len(values), 1))], 1).astype(int)
    return torch.from_numpy(events_to_dense(times, config.steps)).double(), torch.from_numpy(label)


def loihi_network(config: Loihi, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Train with real numbers and with the chip's integers; deploy both on the integer emulator."""
    x, label = _loihi_samples((config.samples, SAMPLES["train"][1]), config)
    x_test, label_test = _loihi_samples(SAMPLES["test"], config)
    settings = loihi_training.Training(
        (5, config.hidden, 3), bits=0, epochs=config.epochs, rate=config.rate, slower=config.slower
    )
    total, losses = config.epochs * (1 + len(config.bits)), []

    def trained(bits: int, turn: int) -> list[loihi_training.Cells]:
        def told(done: int, of: int, loss: float) -> None:
            losses.append(loss)
            progress(turn * of + done, total, loss=loss)

        generator = torch.Generator().manual_seed(seed)
        return loihi_training.train_quantised(x, label, settings._replace(bits=bits), generator, progress=told)

    real = trained(0, 0)
    if not config.bits:
        return Result({}, {}, {"loss": losses[0]})
    untrained = loihi_training.initial_network(settings, torch.Generator().manual_seed(seed))
    metrics = {
        "real": loihi_training.accuracy(x_test, label_test, real, settings),
        "untrained": loihi_training.accuracy(x_test, label_test, untrained, settings),
    }
    arrays = {}
    for turn, bits in enumerate(config.bits, 1):
        aware, p = trained(bits, turn), settings._replace(bits=bits)
        chip = loihi_training.deploy(aware, bits)
        deployed = loihi_training.chip_accuracy(x_test, label_test, chip)
        rounded = {f: loihi_training.deploy(loihi_training.scaled(real, f), bits) for f in config.scales}
        scale = max(rounded, key=lambda f, chips=rounded: loihi_training.chip_accuracy(x, label, chips[f]))
        after = loihi_training.chip_accuracy(x_test, label_test, rounded[scale])
        unscaled = loihi_training.chip_accuracy(x_test, label_test, rounded[1.0])
        wrong = loihi_training.differences(x_test, aware, p)
        metrics |= {
            f"aware_{bits}": deployed,
            f"after_{bits}": after,
            f"scale_{bits}": scale,
            f"unscaled_{bits}": unscaled,
            f"aware_less_after_{bits}": deployed - after,
            f"aware_less_unscaled_{bits}": deployed - unscaled,
            f"aware_less_real_{bits}": deployed - metrics["real"],
            f"different_{bits}": float(sum(wrong.values())),
            f"accuracy_difference_{bits}": abs(deployed - loihi_training.accuracy(x_test, label_test, aware, p)),
        }
        if turn == 1:
            sample = x_test[:, :1].numpy().astype(np.uint8)
            for k, trace in enumerate(loihi.run_network(sample, chip)):
                arrays |= {f"spikes_{k}": trace.s[:, 0], f"voltage_{k}": trace.v[:, 0]}
            spikes = loihi.run(x_test.numpy().astype(np.uint8), chip[0], states=False).s
            metrics["hidden_spikes"] = float(spikes.sum() / len(label_test))
    return Result(metrics, arrays, {"loss": losses[0]})


# Identities -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Identities:
    """What has to hold exactly, on small random networks in double precision."""

    samples: int = 20
    networks: int = 5


def _random_stepped(g: torch.Generator, samples: int) -> tuple[Stepped, Tensor]:
    """A recurrent network that spikes, and input."""
    shapes = ((6, 12), (12, 3), (12, 12))
    first, last, around = (torch.randn(*shape, generator=g, dtype=torch.float64) for shape in shapes)
    x = (torch.rand(50, samples, 6, generator=g) < 0.3).double()
    weights = surrogate.Network(
        ((2 + 2 * first).requires_grad_(),), last.requires_grad_(), ((0.5 * around).requires_grad_(),)
    )
    return Stepped(weights, HIDDEN, HIDDEN), x


def _random_timed(g: torch.Generator, samples: int) -> tuple[Timed, Tensor]:
    """A network in which most neurons spike, and input times."""
    draws = (Initial(1.0, 0.7), Initial(0.8, 0.7))
    net = ttfs.initial_network((8, 12, 4), draws, (0.9, None), g)
    return Timed(net, Neuron()), 3 * torch.rand(samples, 8, generator=g, dtype=torch.float64)


def _leaves(net: Stepped | Timed) -> list[Tensor]:
    return [w for layer in net.layers() for w in (layer.w, layer.v) if w is not None]


def _gradient(net: Stepped | Timed, answer) -> list[Tensor]:
    """Gradient of a smooth function of the output."""
    output = answer.output
    value = (torch.where(torch.isfinite(output), output, 0.0) ** 2).mean()
    return torch.autograd.grad(value, _leaves(net))


def _off(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """Largest difference, relative to the largest entry; equal where both are infinite; NaN where anything is."""
    found = []
    for a, b in zip(ours, theirs, strict=True):
        a, b = a.detach(), b.detach()
        apart, size = torch.where(a == b, 0.0, (a - b).abs()).max(), torch.where(torch.isfinite(b), b, 0.0).abs().max()
        found.append(0.0 if apart == 0 else float(apart / size))
    return float(np.max(found))  # which keeps NaN; max does not


def _delay_gradient_off(g: torch.Generator, shapes: tuple[tuple[int, ...], ...], samples: int) -> float:
    """Gradient of delays less the central difference, on a random network, relative to the largest entry."""
    net = ttfs.initial_network((6, 5, 3), (Initial(1.5, 0.7), Initial(1.2, 0.7)), (None, None), g)
    delays, t = initial_delays(shapes, 0.5, g), 2 * torch.rand(samples, 6, generator=g, dtype=torch.float64)

    def value(raw: list[Tensor]) -> Tensor:
        output = run_delayed(net, delays._replace(raw=tuple(raw)), t, Neuron())[-1]
        return (torch.where(torch.isfinite(output), output, 0.0) ** 2).mean()

    ours = torch.autograd.grad(value(delays.raw), delays.raw)
    step, raw = 1e-6, [d.detach().clone() for d in delays.raw]
    theirs = [torch.zeros_like(d) for d in raw]
    for d, slopes in zip(raw, theirs, strict=True):
        for k in range(d.numel()):
            sides = []
            for shift in (step, -2 * step):
                d.view(-1)[k] += shift
                sides.append(value(raw).item())
            d.view(-1)[k] += step
            slopes.view(-1)[k] = (sides[0] - sides[1]) / (2 * step)
    return _off(list(ours), theirs)


def _hagen_by_hand(x: np.ndarray, w: np.ndarray, gain: Fraction, rows: int) -> np.ndarray:
    """The product of the matrix mode in exact fractions."""
    y = np.zeros((len(x), w.shape[1]))
    for b in range(len(x)):
        for n in range(w.shape[1]):
            total = 0
            for start in range(0, len(w), rows):
                read = math.floor(
                    gain * sum(int(x[b, i]) * int(w[i, n]) for i in range(start, min(start + rows, len(w))))
                )
                total += min(max(read, -128), 127)
            y[b, n] = min(max(total, -128), 127)
    return y


def identities(config: Identities, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Ideal substrate, noise of size 0, both ways of running a chip, gradients in the loop and of delays, snnTorch, the matrix mode."""
    g = torch.Generator().manual_seed(seed)
    silent = replace(
        varied(0.0, QUANTITIES) | TrialNoise(0.0) | TimeGrid() | Events(0.0) | Readout(noise=0.0),
        name="all noise of size 0",
    )
    rough = varied(0.1, QUANTITIES) | signed_bits(6) | TrialNoise(0.05)
    names = ("ideal_off", "zero_off", "aware_off", "gradient_off", "pattern_off")
    off = {name: [] for name in names}
    differ = spikes = 0
    for k in range(config.networks):
        for net, x in (_random_stepped(g, config.samples), _random_timed(g, config.samples)):
            stepped = isinstance(net, Stepped)
            if stepped:
                plain, _ = surrogate.classify(x, net.weights, net.p, net.last, score=lambda u: u)
                kind = rough
            else:
                plain = ttfs.run(net.weights, x, net.p)[-1]
                kind = presets.IDEAL | rough.weights | FixedPattern("threshold", 0.1) | rough.noise
            ideal, flat, chip = presets.IDEAL.fabricate(seed), silent.fabricate(seed), kind.fabricate(k)
            off["ideal_off"].append(_off([ideal.deploy(net).run(x, k).output], [plain]))
            off["zero_off"].append(_off([flat.deploy(net).run(x, k).output], [plain]))
            aware = HardwareAware(net, kind, "never", seed)
            same = aware.chip.deploy(net).run(x, 7)
            found = aware(x, trial_seed=7)
            off["aware_off"].append(_off([found.output, *found.layers], [same.output, *same.layers]))
            loop = _gradient(net, InTheLoop(net, ideal)(x))
            exact = _gradient(net, HardwareAware(net, presets.IDEAL, "never")(x))
            off["gradient_off"].append(_off(loop, exact))
            seen = chip.deploy(net).run(x, k, states=True)
            pair = [_gradient(net, InTheLoop(net, one)(x, seen)) for one in (chip, kind.fabricate(k + 100))]
            off["pattern_off"].append(_off(*pair))
            if stepped:
                feedforward = net._replace(weights=net.weights._replace(recurrent=()))
                ours = chip.deploy(feedforward).run(x, k).layers[0]
                theirs = chip_snntorch(x, feedforward, chip, k)
                differ += int((ours != theirs).sum())
                spikes += int(ours.sum())
        progress(k + 1, config.networks)
    random = np.random.default_rng(seed)
    x, w = random.integers(0, 32, (5, 300)), random.integers(-63, 64, (300, 4))
    mode = replace(presets.BSS2_HAGEN, noise=0.0, gain=2.0**-9)
    product = mode.multiply(torch.from_numpy(x).double(), torch.from_numpy(w).double(), seed).numpy()
    by_hand = _hagen_by_hand(x, w, Fraction(1, 512), mode.rows)
    late = torch.Generator().manual_seed(seed + 10_000)
    shapes = (((3,), (5,)), ((6, 5), (5, 3)))  # of axons, two of which share a delay, and of synapses
    off["delay_gradient_off"] = [_delay_gradient_off(late, each, config.samples) for each in shapes]
    metrics = {name: float(np.max(values)) for name, values in off.items()} | {
        "snntorch_differs": float(differ),
        "snntorch_spikes": float(spikes),
    }
    return Result(metrics | {"hagen_off": float(np.abs(product - by_hand).max())}, {})


@dataclass(frozen=True)
class Tools:
    """Random networks of two layers that go through a file in NIR."""

    networks: int = 2  # of each kind
    steps: int = 200
    batch: int = 3


def tools(config: Tools, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Spikes of snnTorch from the file, and what comes back of the weights; with and without recurrence and a synaptic filter."""
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g)

    differ, spikes, weights_off = 0.0, 0.0, []
    neurons = [(tau, loop) for tau in (None, 5e-3) for loop in (False, True)]
    for k in range(config.networks):
        for tau_syn, loop in neurons:
            p = LIF(tau_syn=tau_syn, reset="zero", current="new")
            layers = [
                nir.Layer(0.3 + 0.5 * normal(6, 8), p, 0.3 * normal(8, 8) if loop else None),
                nir.Layer(0.2 + 0.5 * normal(8, 4), p._replace(tau_mem=6e-3)),
            ]
            x = (torch.rand(config.steps, config.batch, 6, generator=g) < 0.25).float()
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "network.nir"
                nir.write(path, layers, resistance="one" if tau_syn is None else "tau")
                theirs, back = spikes_snntorch(path, x), nir.read(path)
            ours = nir.run(x, layers)[-1].spikes
            differ += float((theirs != ours).sum())
            spikes += float(ours.sum())
            for one, other in zip(layers, back, strict=True):
                weights_off.append(float((one.w - other.w).abs().max()))
                if one.v is not None:
                    weights_off.append(float((one.v - other.v).abs().max()))
        progress(k + 1, config.networks)
    return Result({"differ": differ, "spikes": spikes, "weights_off": float(np.max(weights_off))}, {})


# Experiments ----------------------------------------------------------------------------------------------------------------

QUICK = Recipe(epochs=6)
QUICK_TIMES = Times(epochs=12, tail=3)
FIVE, TWENTY = tuple(range(5)), tuple(range(20))


def _one_epoch(config):
    """The first epoch of the first training run."""
    return replace(config, recipe=replace(config.recipe, epochs=1))


def _few_epochs(epochs: int, *names: str) -> tuple[tuple[str, Delayed], ...]:
    """Some of the networks with delays, trained briefly."""
    return tuple(
        (name, replace(delays, recipe=replace(delays.recipe, epochs=epochs)))
        for name, delays in LearnedDelays().ideal
        if name in names
    )


EXPERIMENTS = {
    "identities": Experiment(identities, Identities(), Identities(networks=20), (0,), FIVE),
    "tools": Experiment(tools, Tools(), Tools(networks=10), (0,), FIVE),
    "ways": Experiment(ways, Ways(QUICK, chips=2, recovery=3, shown=2), Ways(), (0,), FIVE, replay=_one_epoch),
    "kinds": Experiment(kinds, Kinds(QUICK, chips=4), Kinds(), (0,), FIVE, replay=_one_epoch),
    "bits": Experiment(bits, Bits(QUICK, (3, 4, 6, 8), (3, 4, 6)), Bits(), (0,), TWENTY, replay=_one_epoch),
    "spread": Experiment(
        spread, Spread(QUICK, (0.1, 0.2, 0.3), chips=6, loop_chips=1), Spread(), (0,), FIVE, replay=_one_epoch
    ),
    "first_spike": Experiment(
        first_spike,
        FirstSpike(QUICK_TIMES, replace(IDEAL_TIMES, epochs=25), 2, 1, 6),
        FirstSpike(),
        (0,),
        TWENTY,
        replay=lambda config: replace(config, ideal=replace(config.ideal, epochs=1)),
    ),
    "delays": Experiment(
        learned_delays,
        LearnedDelays(
            _few_epochs(20, "axonal"), replace(Delayed(), recipe=replace(QUICK_TIMES, epochs=8)), frozen=False
        ),
        LearnedDelays(),
        (0,),
        FIVE,
        replay=lambda config: LearnedDelays(
            _few_epochs(1, config.ideal[0][0]), replace(Delayed(), recipe=Times(epochs=0))
        ),
    ),
    "digits": Experiment(
        digits,
        Digits("mnist-5k", epochs=2),
        Digits(),
        (0,),
        FIVE,
        replay=lambda config: replace(config, batches=1),
    ),
    "loihi": Experiment(
        loihi_network,
        Loihi(samples=2000, steps=25, late=18, hidden=60, epochs=5, rate=2e-2, slower=0.8, bits=(8, 4)),
        Loihi(),
        (0,),
        FIVE,
        replay=lambda config: replace(config, epochs=1, bits=()),
    ),
}
