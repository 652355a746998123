"""Zenke & Neftci (2021), Brain-inspired learning on neuromorphic substrates.

No number of the paper is at hand. The experiments check its mathematics; sizes, weights and inputs are our choice.
"""

import itertools
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from snnrepro import surrogate
from snnrepro.data.randman import spike_times
from snnrepro.errors import UserError
from snnrepro.experiment import Experiment, Progress, Result
from snnrepro.files import read_npz, write_npz
from snnrepro.neurons import LIF, Adaptation, Surrogate
from snnrepro.peers.rtrl import recurrent_snntorch
from snnrepro.rtrl import counts, gradients, networks, reference, rules
from snnrepro.rtrl.counts import Size
from snnrepro.rtrl.networks import Activity, Model, Weights

NEURON = LIF(
    tau_mem=10e-3, tau_syn=5e-3, dt=1e-3, reset="multiply", gain="leak", surrogate=Surrogate("fast_sigmoid", 10.0)
)


# Random networks ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setup:
    """A random network with random input and random labels."""

    n: int = 32
    m: int = 10
    k: int = 2
    steps: int = 40
    samples: int = 8
    rate: float = 0.3  # input spikes a step
    drive: float = 3.0  # size of the input weights
    mean: float = 0.0  # of the input weights, in units of their standard deviation

    def draw(self, gain: float, seed: int) -> tuple[Weights, np.ndarray, np.ndarray]:
        """Weights, input spikes and labels; all but the size of the recurrent weights is the same for all gains."""
        random = np.random.default_rng([seed, self.n, self.steps])
        weights = Weights(
            self.drive * (random.standard_normal((self.m, self.n)) + self.mean) / np.sqrt(self.m),
            gain * random.standard_normal((self.n, self.n)) / np.sqrt(self.n),
            random.standard_normal((self.n, self.k)) / np.sqrt(self.n),
        )
        x = (random.random((self.steps, self.samples, self.m)) < self.rate).astype(float)
        return weights, x, random.integers(0, self.k, self.samples)


def ready(model: Model, setup: Setup, gain: float, seed: int) -> tuple[Weights, Activity, np.ndarray]:
    """Weights, activity and the error of the readout."""
    weights, x, label = setup.draw(gain, seed)
    activity = networks.run(model, weights, x)
    return weights, activity, networks.cross_entropy(activity.y, label).error


def _difference(a: Weights, b: Weights) -> float:
    """Largest difference of two gradients, relative to the largest entry of each matrix."""
    for g in (*a, *b):
        if not np.isfinite(g).all():
            raise UserError("zenkeneftci2021: a gradient is not finite; mend the network")
    return max(float(np.abs(x - y).max() / max(np.abs(y).max(), 1e-300)) for x, y in zip(a, b, strict=True))


# Identities -----------------------------------------------------------------------------------------------------------------

MODELS = {
    "plain": Model(NEURON),
    "leaky readout": Model(NEURON, 20e-3),
    "reset in the gradient": Model(NEURON._replace(reset_gradient=True)),
    "subtracted reset": Model(NEURON._replace(reset="subtract", reset_gradient=True)),
    "new current": Model(NEURON._replace(current="new")),
    "adaptive threshold": Model(NEURON._replace(adaptation=Adaptation(50e-3, 0.3))),
    "all at once": Model(
        NEURON._replace(current="new", reset="subtract", reset_gradient=True, adaptation=Adaptation(50e-3, 0.3)), 20e-3
    ),
}
IDENTITIES = (
    "rtrl_is_bptt",
    "eligibility_is_detached",
    "own_is_block_diagonal",
    "without_recurrence",
    "lines_are_synapses",
)


@dataclass(frozen=True)
class Identities:
    """Networks in which gradients are compared."""

    setup: Setup = Setup(16, samples=2)
    gain: float = 4.0
    models: tuple[str, ...] = tuple(MODELS)


def _automatic(model: Model, weights: Weights, x: np.ndarray, error: np.ndarray, paths: str) -> Weights:
    """The gradient by torch's automatic differentiation."""
    leaves = [torch.from_numpy(w.copy()).requires_grad_() for w in weights]
    y = reference.run(model, *leaves, torch.from_numpy(x), paths)[1]
    return Weights(*(g.numpy() for g in torch.autograd.grad((y * torch.from_numpy(error)).sum(), leaves)))


def identities(config: Identities, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Are the gradients equal that should be, and do those differ that should not?"""
    table, gaps, spikes = np.zeros((len(config.models), len(IDENTITIES))), [], []
    for row, name in enumerate(config.models):
        model = MODELS[name]
        weights, activity, error = ready(model, config.setup, config.gain, seed)
        given = model, weights, activity, error
        exact, eligibility, own = gradients.exact(*given), gradients.local(*given), gradients.local(*given, paths="own")
        fixed = model.neuron._replace(reset="subtract", reset_gradient=False, adaptation=None)
        lines = Model(fixed, model.tau_out), *ready(Model(fixed, model.tau_out), config.setup, config.gain, seed)
        alone = model, *ready(model, config.setup, 0.0, seed)
        table[row] = [
            _difference(exact, _automatic(model, weights, activity.x, error, "all")),
            _difference(eligibility, _automatic(model, weights, activity.x, error, "none")),
            _difference(own, gradients.by_matrices(*given, diagonal=True)),
            _difference(gradients.local(*alone), gradients.exact(*alone)),
            _difference(gradients.by_lines(*lines), gradients.local(*lines)),
        ]
        pairs = (exact, eligibility), (exact, own), (own, eligibility)
        gaps.append([1 - gradients.cosine(a, b) for a, b in pairs])
        spikes.append(float(activity.s.mean()))
        progress(row + 1, len(config.models))
    metrics = dict(zip(IDENTITIES, table.max(0).tolist(), strict=True))
    metrics |= {"log10_left_out": float(np.log10(np.min(gaps))), "spikes_a_step": float(np.mean(spikes))}
    return Result(metrics, {"differences": table, "gaps": np.array(gaps)})


# Alignment ------------------------------------------------------------------------------------------------------------------

SCALES = {
    "superspike_10": Surrogate("fast_sigmoid", 10.0),
    "superspike_100": Surrogate("fast_sigmoid", 100.0),
    "asymptotic_10": Surrogate("asymptotic", 10.0),
    "asymptotic_100": Surrogate("asymptotic", 100.0),
}


@dataclass(frozen=True)
class Alignment:
    """Gains of the recurrent weights, sizes and lengths at which the approximate gradient is held against the exact one."""

    setup: Setup = Setup()
    gains: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
    sizes: tuple[int, ...] = (16, 32, 64, 128)
    lengths: tuple[int, ...] = (10, 20, 40, 80, 160)
    gain: float = 2.0  # while size or length varies
    rtrl_up_to: int = 16  # neurons; above, the exact gradient comes from BPTT


def _aligned(model: Model, setup: Setup, gain: float, seed: int, up_to: int) -> tuple[float, ...]:
    """Cosine and length ratio of the eligibility form with the exact gradient; cosines of the block diagonal and of random feedback."""
    weights, activity, error = ready(model, setup, gain, seed)
    given = model, weights, activity, error
    exact = gradients.exact(*given) if setup.n <= up_to else gradients.adjoint(*given)
    none, own = (gradients.adjoint(*given, paths=paths) for paths in ("none", "own"))
    sent = rules.feedback("random", weights.output, np.random.default_rng([seed, 7]))
    random = gradients.adjoint(*given, sent, "none")
    size = [np.sqrt((g.input**2).sum() + (g.recurrent**2).sum()) for g in (none, exact)]
    cosines = [gradients.cosine(g, exact) for g in (none, own, random)]
    return cosines[0], size[0] / size[1], *cosines[1:], float(activity.s.mean())


COLUMNS = ("cosine", "ratio", "own", "random", "spikes")


def alignment(config: Alignment, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """How far the approximate gradient points where the exact one does."""
    arrays, total = {}, len(SCALES) + 2
    for k, (name, scale) in enumerate(SCALES.items()):
        model = Model(NEURON._replace(surrogate=scale))
        rows = [_aligned(model, config.setup, gain, seed, config.rtrl_up_to) for gain in config.gains]
        arrays[name] = np.array(rows)
        progress(k + 1, total)
    model = Model(NEURON)
    for k, (field, values) in enumerate((("n", config.sizes), ("steps", config.lengths))):
        setups = [replace(config.setup, **{field: value}) for value in values]
        arrays[f"over_{field}"] = np.array([_aligned(model, s, config.gain, seed, config.rtrl_up_to) for s in setups])
        progress(len(SCALES) + k + 1, total)
    plain, steep = arrays["superspike_10"], arrays["asymptotic_10"]
    gains = np.array(config.gains)
    metrics = {}
    for gain, row, other in zip(gains, plain, steep, strict=True):
        at = f"{gain:g}".replace(".", "-")
        metrics |= {
            f"cosine_{at}": float(row[0]),
            f"ratio_{at}": float(row[1]),
            f"asymptotic_cosine_{at}": float(other[0]),
        }
    at = int(np.flatnonzero(gains == config.gain)[0])
    metrics |= {
        "order": float(spearmanr(gains, plain[:, 0]).statistic),
        "own_minus_none": float(plain[-1, 2] - plain[-1, 0]),
        "cost_of_scale": float(plain[at, 0] - steep[at, 0]),
        "log10_growth": float(-np.log10(steep[-1, 1])),
        "log10_growth_superspike": float(-np.log10(plain[-1, 1])),
        "random_feedback": float(plain[at, 3]),
        "smallest_over_n": float(arrays["over_n"][:, 0].min()),
        "cost_of_length": float(arrays["over_steps"][0, 0] - arrays["over_steps"][-1, 0]),
        "spikes_a_step": float(plain[0, 4]),
    }
    return Result(metrics, arrays)


# Complexity -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Complexity:
    """Sizes at which numbers and products are counted."""

    sizes: tuple[int, ...] = (8, 16, 32, 64, 128)
    lengths: tuple[int, ...] = (10, 100, 1000)
    m: int = 10
    k: int = 2
    long: int = 1000  # steps while the size varies
    wide: int = 64  # neurons while the length varies


def _allocated(size: Size) -> dict[str, int]:
    """Numbers in the arrays that each method asks for."""
    model = Model(NEURON)
    weights = Weights(np.zeros((size.m, size.n)), np.zeros((size.n, size.n)), np.zeros((size.n, size.k)))
    x = np.zeros((size.steps, 1, size.m))  # its past is read by backpropagation through time alone
    arrays = {
        "bptt": {"x": x} | gradients.history(model, networks.run(model, weights, x)),
        "rtrl": gradients.influence(model, weights),
        "block-diagonal": gradients.traces(model, weights),
        "eligibility": gradients.traces(model, weights),
        "decolle": gradients.line_traces(model, weights),
    }
    return {method: sum(a.size for a in kept.values()) for method, kept in arrays.items()}


def complexity(config: Complexity, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Numbers kept, from the arrays themselves and from formulas, and products a step."""
    over_n = [Size(n, config.m, config.k, config.long) for n in config.sizes]
    over_t = [Size(config.wide, config.m, config.k, steps) for steps in config.lengths]
    arrays, worst = {}, 0
    for name, sizes in (("n", over_n), ("t", over_t)):
        table = np.array([[counts.counted(method, s) for method in counts.MEASURED] for s in sizes])
        allocated = np.array([list(_allocated(s).values()) for s in sizes])
        worst = max(worst, int(np.abs(allocated - table[:, :, 0]).max()))
        arrays[f"numbers_over_{name}"], arrays[f"products_over_{name}"] = table[:, :, 0], table[:, :, 1]
        progress(1 if name == "n" else 2, 2)
    metrics = {
        "differences": float(worst),
        "influence_128": float(counts.influence_numbers(128, 10)),
        "influence_over_traces": _influence_over_traces(128, 10),
        "least_steps_for_traces": float(_break_even(Size(config.wide, config.m, config.k, 1))),
    }
    for method in counts.MEASURED:
        for which, powers in (("numbers", 0), ("products", 1)):
            at = [counts.counted(method, Size(n, config.m, config.k, 10**6))[powers] for n in (2000, 4000)]
            metrics[f"{which}_power_{method}"] = float(np.log2(at[1] / at[0]))
    return Result(metrics, arrays)


def _influence_over_traces(n: int, m: int) -> float:
    """Numbers in the influence matrix over numbers in the traces of synapses, from the arrays themselves."""
    model, weights = Model(NEURON), Weights(np.zeros((m, n)), np.zeros((n, n)), np.zeros((n, 2)))
    whole, kept = gradients.influence(model, weights), gradients.traces(model, weights)
    return (whole["g_i"].size + whole["g_u"].size) / (kept["e_i"].size + kept["e_u"].size)


def _break_even(size: Size) -> int:
    """First number of steps from which BPTT keeps more numbers than a trace a synapse."""
    return next(
        t for t in itertools.count(1) if counts.bptt_numbers(size._replace(steps=t)) > counts.local_numbers(size)
    )


# Learning -------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """Randman in spike times, as in the chapter `zenkevogels2021`, with an error in every step."""

    classes: int = 10
    units: int = 20
    smoothness: float = 1.0
    samples: int = 1000  # of each class
    training: float = 0.8  # share of the samples
    active: int = 50  # steps in which an input spikes
    steps: int = 100
    hidden: int = 100
    batch: int = 250
    epochs: int = 50
    rate: float = 0.05
    least: float = 1e-3  # spikes a neuron and trial
    least_strength: float = 100.0
    most: float = 1.0  # spikes a neuron, averaged over the layer
    most_strength: float = 1.0
    readout: float = 20e-3  # seconds


class Rule(NamedTuple):
    """How a network learns. Each differs from `ctl` in one field, or in the scale of the surrogate."""

    surrogate: Surrogate = Surrogate("fast_sigmoid", 10.0)
    through: bool = False  # the gradient passes through recurrent spikes
    feedback: str = "symmetric"
    local: bool = False  # the readout is fixed


STEEP = Surrogate("asymptotic", 100.0)
RULES = {
    "s_ctl": Rule(),
    "s_prop": Rule(through=True),
    "a_ctl": Rule(STEEP),
    "a_prop": Rule(STEEP, through=True),
    "random": Rule(feedback="random"),
    "local": Rule(local=True),
    "uniform": Rule(feedback="uniform"),
}


@dataclass(frozen=True)
class Learning:
    """Networks that learn the same samples from the same weights."""

    task: Task = Task()
    rules: tuple[str, ...] = tuple(RULES)


@cache
def _samples(task: Task, seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Spike times and classes, for training and for testing."""
    random = np.random.default_rng([seed, 0])
    times, label = spike_times(
        task.classes, task.samples, task.units, 1, task.smoothness, task.active, "formula", random
    )
    edge = round(task.training * len(label))
    return [times[:edge], times[edge:]], [label[:edge], label[edge:]]


def _batches(times: np.ndarray, label: np.ndarray, order: np.ndarray, task: Task):
    """Minibatches of input events and labels."""
    for first in range(0, len(order), task.batch):
        rows = order[first : first + task.batch]
        sample, unit = np.indices(times[rows].shape)
        lists = (torch.from_numpy(np.ascontiguousarray(a.ravel())) for a in (times[rows], sample, unit))
        yield surrogate.events(*lists, (task.steps, len(rows), task.units)), torch.from_numpy(label[rows])


def _answers(x, network, rule: Rule, sent: Tensor | None, task: Task) -> tuple[Tensor, Tensor]:
    """Readout in every step `(time, batch, classes)` and hidden spikes. Errors come back through `sent` where it is given."""
    p = NEURON._replace(surrogate=rule.surrogate, recurrent_gradient=rule.through)
    s = surrogate.lif(x, network.hidden[0], p, network.recurrent[0], states=False).spikes
    last = NEURON._replace(tau_mem=task.readout)
    if sent is None:
        return surrogate.readout(s, network.output, last)[1:], s
    back = surrogate.readout(s, sent, last)
    return (surrogate.readout(s.detach(), network.output, last) + back - back.detach())[1:], s


def _learn(rule: Rule, task: Task, seed: int, told) -> tuple[float, float, np.ndarray]:
    """Test accuracy, hidden spikes an input, and the mean loss of each epoch. Weights and order of samples depend on the seed alone."""
    times, label = _samples(task, seed)
    sizes = (task.units, task.hidden, task.classes)
    network = surrogate.uniform_network(sizes, True, torch.Generator().manual_seed(seed))
    output, random = network.output.detach().numpy(), np.random.default_rng([seed, 2])
    sent = None
    if rule.feedback != "symmetric":
        sent = torch.from_numpy(rules.feedback(rule.feedback, output, random).astype(np.float32))
    learned = {name: w for name, w in network.weights().items() if not (rule.local and name == "output")}
    optimiser = torch.optim.Adam(learned.values(), lr=task.rate)
    curve = []
    for epoch in range(task.epochs):
        order, losses = np.random.default_rng([seed, 1, epoch]).permutation(len(label[0])), []
        for x, y in _batches(times[0], label[0], order, task):
            scores, s = _answers(x, network, rule, sent, task)
            loss = torch.nn.functional.cross_entropy(scores.flatten(0, 1), y.repeat(len(scores)))  # Eq. (6)
            losses.append(loss.item())
            loss = loss + surrogate.lower_bound(s, task.least_strength, task.least)
            loss = loss + surrogate.upper_bound(s, task.most_strength, task.most)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        curve.append(float(np.mean(losses)))
        told(epoch + 1, loss=curve[-1])
    right = spikes = 0.0
    with torch.no_grad():
        for x, y in _batches(times[1], label[1], np.arange(len(label[1])), task):
            scores, s = _answers(x, network, rule, sent, task)
            right += float((scores.log_softmax(2).mean(0).argmax(1) == y).sum())
            spikes += float(s.sum())
    return right / len(label[1]), spikes / len(label[1]), np.array(curve)


def learning(config: Learning, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Randman with the exact gradient, without its paths through recurrent spikes, and with three-factor rules."""
    done = read_npz(checkpoint) if checkpoint is not None and checkpoint.exists() else {}
    total = len(config.rules) * config.task.epochs
    for k, name in enumerate(config.rules):
        if name in done:
            continue

        def told(epoch: int, k: int = k, **now: float) -> None:
            progress(k * config.task.epochs + epoch, total, **now)

        accuracy, spikes, curve = _learn(RULES[name], config.task, seed, told)
        done[name] = np.concatenate([[accuracy, spikes], curve])
        if checkpoint is not None:
            write_npz(checkpoint, done)
    test = {name: float(done[name][0]) for name in config.rules}
    metrics = {f"accuracy_{name}": value for name, value in test.items()}
    metrics |= {f"spikes_{name}": float(done[name][1]) for name in config.rules}
    if set(test) == set(RULES):
        metrics |= {
            "cost_of_detaching": test["s_prop"] - test["s_ctl"],
            "gap": test["a_ctl"] - test["a_prop"],
            "cost_of_scale": test["s_ctl"] - test["a_ctl"],
            "random_over_uniform": test["random"] - test["uniform"],
            "local_over_uniform": test["local"] - test["uniform"],
        }
    curves = {f"loss_{name}": done[name][2:] for name in config.rules}
    return Result(metrics, curves, {"first_loss": float(done[config.rules[0]][2])})


# Layers with losses of their own --------------------------------------------------------------------------------------------

BELOW = ("local", "top", "bounds", "end", "scrambled")
"""How the layers below the last one learn: from losses of their own; not at all; from the bounds on activity alone; from the loss of
the last one, whose gradient comes down to them; from losses of their own with classes in random order. The last layer has its own loss in
all of them, and all layers that learn have the bounds."""

PROMPT = NEURON._replace(current="new", recurrent_gradient=False)
"""Neurons that hear their input in the same step, so that layers add no delay."""


class Layer(NamedTuple):
    """Weights of one layer, row = sender: input, recurrent, and those of its readout, which stay as they are."""

    input: Tensor
    recurrent: Tensor
    output: Tensor


@dataclass(frozen=True)
class Layered:
    """A stack of recurrent layers on Randman, each with a fixed random readout."""

    task: Task = Task(hidden=50, epochs=20, rate=0.02)
    depth: int = 3
    inward: float = 12.0  # weights into a layer are uniform up to this, over the root of its inputs
    outward: float = 30.0  # those of the readouts likewise
    below: tuple[str, ...] = BELOW
    compared: int = 8  # samples whose gradients are compared


def _layers(config: Layered, seed: int) -> list[Layer]:
    """The weights that all ways of learning start from."""
    task, generator = config.task, torch.Generator().manual_seed(seed)
    sizes = (task.units, *[task.hidden] * config.depth, task.classes)
    network = surrogate.uniform_network(sizes, True, generator)
    readouts = [surrogate.uniform_network((task.hidden, task.classes), False, generator).output for _ in network.hidden]
    return [
        Layer((config.inward * w.detach()).requires_grad_(), v, config.outward * r.detach())
        for w, v, r in zip(network.hidden, network.recurrent, readouts, strict=True)
    ]


def _upwards(x, layers: list[Layer], task: Task, apart: bool) -> list[tuple[Tensor, Tensor]]:
    """Readout in every step `(time, batch, classes)` and spikes of each layer. `apart`: no gradient comes down from the layer above."""
    found, last = [], PROMPT._replace(tau_mem=task.readout, tau_syn=1e-9)
    for layer in layers:
        s = surrogate.lif(x, layer.input, PROMPT, layer.recurrent, states=False).spikes  # Eqs. (1)-(3)
        found.append((surrogate.readout(s, layer.output, last)[1:], s))  # Eq. (5)
        x = s.detach() if apart else s
    return found


def _each_step(y: Tensor, label: Tensor) -> Tensor:
    """Cross-entropy of a readout in every step."""
    return torch.nn.functional.cross_entropy(y.flatten(0, 1), label.repeat(len(y)))  # Eq. (6)


def _against_rules(config: Layered, seed: int) -> float:
    """Largest difference between the gradient of these layers and that of `rules.local_losses`, in double precision."""
    task = config.task
    times, label = _samples(task, seed)
    rows = np.linspace(0, len(label[0]) - 1, config.compared).astype(int)
    batch, y = next(_batches(times[0], label[0], rows, task))
    x = surrogate.project(batch, torch.eye(task.units, dtype=torch.float64))
    layers = [Layer(*(w.detach().double().requires_grad_() for w in layer)) for layer in _layers(config, seed)]
    total = sum(_each_step(scores, y) for scores, _ in _upwards(x, layers, task, apart=True))  # Eq. (12)
    theirs = torch.autograd.grad(total, [w for layer in layers for w in layer])
    weights = [Weights(*(w.detach().numpy() for w in layer)) for layer in layers]
    ours = rules.local_losses(Model(PROMPT, task.readout), weights, x.numpy(), y.numpy()).gradients
    pairs = zip(ours, zip(*[iter(theirs)] * 3, strict=True), strict=True)
    return max(_difference(Weights(*(g.numpy() for g in found)), expected) for expected, found in pairs)


def _learn_layers(below: str, config: Layered, seed: int, told) -> tuple[np.ndarray, np.ndarray]:
    """Test accuracy of each layer's readout, and its mean loss in each epoch `(epochs, depth)`."""
    task, layers = config.task, _layers(config, seed)
    times, label = _samples(task, seed)
    learners = layers[-1:] if below == "top" else layers
    optimiser = torch.optim.Adam([w for layer in learners for w in layer[:2]], lr=task.rate)
    scramble, curve = np.random.default_rng([seed, 3]), []
    for epoch in range(task.epochs):
        order, losses = np.random.default_rng([seed, 1, epoch]).permutation(len(label[0])), []
        for x, y in _batches(times[0], label[0], order, task):
            found = _upwards(x, layers, task, apart=below != "end")
            each = [_each_step(scores, y) for scores, _ in found]
            losses.append([part.item() for part in each])
            if below == "scrambled":
                wrong = y[torch.from_numpy(scramble.permutation(len(y)))]
                each[:-1] = [_each_step(scores, wrong) for scores, _ in found[:-1]]
            loss = sum(each) if below in ("local", "scrambled") else each[-1]
            for _, s in found[-len(learners) :]:
                loss = loss + surrogate.lower_bound(s, task.least_strength, task.least)
                loss = loss + surrogate.upper_bound(s, task.most_strength, task.most)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        curve.append(np.mean(losses, 0))
        told(epoch + 1, loss=float(curve[-1][-1]))
    right = np.zeros(config.depth)
    with torch.no_grad():
        for x, y in _batches(times[1], label[1], np.arange(len(label[1])), task):
            for k, (scores, _) in enumerate(_upwards(x, layers, task, apart=True)):
                right[k] += float((scores.log_softmax(2).mean(0).argmax(1) == y).sum())
    return right / len(label[1]), np.array(curve)


def layered(config: Layered, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """What layers learn from losses of their own, beside no learning below the last one, and beside a gradient from above."""
    done = read_npz(checkpoint) if checkpoint is not None and checkpoint.exists() else {}
    epochs, total = config.task.epochs, len(config.below) * config.task.epochs
    for k, below in enumerate(config.below):
        if below in done:
            continue

        def told(epoch: int, k: int = k, **now: float) -> None:
            progress(k * epochs + epoch, total, **now)

        accuracy, curve = _learn_layers(below, config, seed, told)
        done[below] = np.vstack([accuracy, curve])
        if checkpoint is not None:
            write_npz(checkpoint, done)
    metrics = {f"accuracy_{below}": float(done[below][0, -1]) for below in config.below}
    metrics["gradient_difference"] = _against_rules(config, seed)
    if set(config.below) == set(BELOW):
        local, controls = done["local"][0], (metrics["accuracy_top"], metrics["accuracy_bounds"])
        metrics |= {
            "least_local": float(local.min()),
            "gain_of_depth": float(local[-1] - local[0]),
            "worth_of_losses_below": metrics["accuracy_local"] - max(controls),
            "worth_of_classes_below": metrics["accuracy_local"] - metrics["accuracy_scrambled"],
            "cost_of_locality": metrics["accuracy_end"] - metrics["accuracy_local"],
        }
    arrays = {f"accuracy_of_layers_{below}": done[below][0] for below in config.below}
    arrays |= {f"loss_{below}": done[below][1:] for below in config.below}
    return Result(metrics, arrays, {"first_loss": float(done[config.below[0]][1, -1])})


# A second opinion -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SecondOpinion:
    """One network here and in snnTorch."""

    setup: Setup = Setup(
        20, steps=100, samples=4, drive=0.008, mean=8.0, rate=0.4
    )  # without 1 - beta, currents are small
    gain: float = 0.05


def second_opinion(config: SecondOpinion, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Spikes and gradients against snnTorch, with and without the paths through recurrent spikes."""
    p = NEURON._replace(current="new", gain="one")
    weights, activity, error = ready(Model(p), config.setup, config.gain, seed)
    signal = torch.from_numpy(error @ weights.output.T)
    metrics, arrays = {}, {"ours": activity.s[:, 0], "potential": activity.u[:, 0]}
    for k, (name, through) in enumerate((("rtrl", True), ("eligibility", False))):
        method = gradients.exact if through else gradients.local
        ours = method(Model(p), weights, activity, error)
        w, v = (torch.from_numpy(weight.copy()).requires_grad_() for weight in weights[:2])
        spikes = recurrent_snntorch(torch.from_numpy(activity.x), w, v, p, through)
        theirs = [g.numpy() for g in torch.autograd.grad((spikes * signal).sum(), (w, v))]
        # snnTorch hands on spikes, and the gradient that reaches them, as float32
        metrics[f"{name}_error"] = _difference(Weights(*ours[:2], weights.output), Weights(*theirs, weights.output))
        arrays |= {f"ours_{name}": ours.recurrent.ravel(), f"snntorch_{name}": theirs[1].ravel()}
        progress(k + 1, 2)
    arrays["snntorch"] = spikes.detach()[:, 0].numpy()
    metrics["spike_differences"] = float(np.abs(spikes.detach().numpy() - activity.s).sum())
    metrics["fewest_spikes"] = float(activity.s.sum((0, 1)).min())
    return Result(metrics, arrays)


# Experiments ----------------------------------------------------------------------------------------------------------------

FIVE, TWENTY = tuple(range(5)), tuple(range(20))
QUICK = Task(samples=400, training=0.5, batch=100, epochs=12)

EXPERIMENTS = {
    "identities": Experiment(identities, Identities(), Identities(Setup(32, samples=2)), (0, 1), FIVE),
    "alignment": Experiment(
        alignment,
        Alignment(),
        Alignment(sizes=(16, 32, 64, 128, 256)),
        FIVE,
        TWENTY,
    ),
    "complexity": Experiment(complexity, Complexity(), Complexity(lengths=(10, 100, 1000, 10000)), (0,), (0,)),
    "learning": Experiment(
        learning,
        Learning(QUICK),
        Learning(),
        (0,),
        FIVE,
        replay=lambda c: replace(c, task=replace(c.task, epochs=1), rules=c.rules[:1]),
    ),
    "layered": Experiment(
        layered,
        Layered(replace(QUICK, hidden=50, epochs=6, rate=0.02)),
        Layered(),
        (0,),
        FIVE,
        replay=lambda c: replace(c, task=replace(c.task, epochs=1), below=c.below[:1]),
    ),
    "second_opinion": Experiment(second_opinion, SecondOpinion(), SecondOpinion(), (0, 1), FIVE),
}
