"""Yin, Corradi & Bohte (2020), Effective and efficient computation with multiple-timescale spiking recurrent neural networks, and their
paper of 2021, Accurate and efficient time-domain classification with adaptive spiking recurrent neural networks.

Settings: the authors' code (github.com/byin-cwi/Efficient-spiking-networks, commit bfd47cf).
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from snnrepro import costs
from snnrepro.data import ecg as data
from snnrepro.errors import UserError
from snnrepro.experiment import Experiment, Progress, Result
from snnrepro.files import read_npz, write_npz
from snnrepro.peers.alif import alif_brian2
from snnrepro.timescales import networks, training
from snnrepro.timescales.networks import Cell, Layer, Network
from snnrepro.timescales.readouts import spiking_readout

FIVE = (0, 1, 2, 3, 4)

# The electrocardiogram ------------------------------------------------------------------------------------------------------


class Setting(NamedTuple):
    """What one network is trained with. Each differs from `learned` in one field."""

    learned: bool = True
    recurrent: bool = True
    strength: float = 0.0
    shuffled: bool = False


SETTINGS = {
    "learned": Setting(),
    "fixed": Setting(learned=False),
    "adaptive": Setting(strength=1.8),
    "no_recurrence": Setting(recurrent=False),
    "shuffled": Setting(shuffled=True),
}


@dataclass(frozen=True)
class Heart:
    """Each step of an electrocardiogram is a part of the beat; networks that differ in one switch each learn to name it."""

    source: str = "qtdb"
    train: int = 618
    test: int = 141
    settings: tuple[str, ...] = tuple(SETTINGS)
    hidden: int = 36
    tau: tuple[float, float, float] = (20.0, 7.0, 20.0)
    threshold: float = 0.1
    epochs: int = 400
    batch: int = 64
    window: int = data.STEPS  # steps of a training sample
    skip: int = 10  # first steps of a sample that do not count in the loss
    rate: float = 1e-2
    hidden_factor: float = 3.0
    last_factor: float = 2.0
    halve_every: int = 100  # epochs; 0: the learning rate falls along a cosine
    clip: float | None = None
    test_every: int = 4  # epochs; only to say what choosing an epoch by the test set would gain
    gru_epochs: int = 100
    trace_taus: tuple[float, ...] = (2.0, 5.0, 10.0, 20.0, 40.0, 80.0)
    trace_every: int = 4  # of so many steps one is used to fit the linear readout
    tolerance: int = 5  # steps within which a label may lie in the tolerant score


class Outcome(NamedTuple):
    """What a trained network does on the test traces, and what it has become."""

    accuracy: float
    argmax: float  # with unlabelled steps counted as P, as in the authors' code
    tolerant: float
    rate: float  # spikes a neuron and step
    without_adaptation: float  # accuracy when the adaptation is switched off for the test
    loss: np.ndarray  # of each epoch
    tested: np.ndarray  # accuracy on the test traces, every `test_every` epochs
    tau: np.ndarray  # of the hidden membranes after training
    confusion: np.ndarray


@cache
def _traces(config: Heart, seed: int) -> data.Ecg:
    if config.source == "qtdb":
        return data.qtdb()
    return data.generated(config.train, config.test, seed)


def _windows(x: np.ndarray, y: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Traces cut into pieces of so many steps; what is left over at the end is dropped."""
    count = x.shape[1] // length
    cut = slice(count * length)
    return x[:, cut].reshape(-1, length, x.shape[2]), y[:, cut].reshape(-1, length)


def _tensors(x: np.ndarray, y: np.ndarray) -> tuple[Tensor, Tensor]:
    """Events `(time, batch, 4)` float32 and labels `(time, batch)`."""
    return torch.from_numpy(x.transpose(1, 0, 2).astype(np.float32)), torch.from_numpy(y.T.copy())


def _batches(x: np.ndarray, y: np.ndarray, size: int, random: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    order = random.permutation(len(x))
    for first in range(0, len(x), size):
        rows = order[first : first + size]
        yield _tensors(x[rows], y[rows])


def _shuffled(x: np.ndarray, y: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The steps of each trace in another order, the same for events and labels."""
    order = random.permuted(np.tile(np.arange(x.shape[1]), (len(x), 1)), axis=1)
    rows = np.arange(len(x))[:, None]
    return x[rows, order], y[rows, order]


def _schedule(adam: torch.optim.Optimizer, config: Heart) -> torch.optim.lr_scheduler.LRScheduler:
    if config.halve_every:
        return torch.optim.lr_scheduler.StepLR(adam, config.halve_every, 0.5)
    return torch.optim.lr_scheduler.CosineAnnealingLR(adam, config.epochs)


def _guess(x: np.ndarray, network: Network, cell: Cell) -> tuple[np.ndarray, float]:
    """The network's label of each step (n, steps), and the spikes a neuron and step."""
    with torch.no_grad():
        seen = networks.run(_tensors(x, np.zeros(x.shape[:2], np.int64))[0], network, cell)
    return seen.u.argmax(2).T.numpy(), float(torch.stack([s.mean() for s in seen.spikes]).mean())


def _score(guess: np.ndarray, label: np.ndarray) -> float:
    """Share of the labelled steps that are right."""
    known = label >= 0
    return float((guess[known] == label[known]).mean())


def tolerant_score(guess: np.ndarray, label: np.ndarray, steps: int) -> float:
    """The same where a guess also counts if some label up to `steps` steps before or after agrees with it."""
    right = guess == label
    for shift in range(1, steps + 1):
        right[:, shift:] |= guess[:, shift:] == label[:, :-shift]
        right[:, :-shift] |= guess[:, :-shift] == label[:, shift:]
    return float(right[label >= 0].mean())


def _confusion(guess: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Of the steps of each part of the beat (row), the share that is given each name (column)."""
    known, n = label >= 0, len(data.CLASSES)
    counts = np.bincount(label[known] * n + guess[known], minlength=n * n).reshape(n, n)
    return counts / counts.sum(1, keepdims=True)


def _trained(config: Heart, setting: Setting, seed: int, told) -> tuple[Outcome, Network, Cell]:
    """Train one network; weights and order of the samples depend on the seed alone."""
    traces = _traces(config, seed)
    x, y, x_test, y_test = traces[:4]
    if setting.shuffled:
        x, y = _shuffled(x, y, np.random.default_rng([seed, 7]))
        x_test, y_test = _shuffled(x_test, y_test, np.random.default_rng([seed, 8]))
    x, y = _windows(x, y, config.window)
    cell = Cell(config.threshold, setting.strength)
    sizes = (4, config.hidden, len(data.CLASSES))
    network = networks.network(sizes, config.tau, torch.Generator().manual_seed(seed), recurrent=setting.recurrent)
    networks.require_gradients(network, setting.learned)
    adam = training.optimiser(network, config.rate, config.hidden_factor, config.last_factor)
    schedule = _schedule(adam, config)
    losses, tested = [], []
    for epoch in range(config.epochs):
        batches = _batches(x, y, config.batch, np.random.default_rng([seed, 1, epoch]))
        losses.append(
            training.train_epoch(
                batches, network, cell, adam, lambda u, label: training.step_loss(u, label, config.skip), config.clip
            )
        )
        schedule.step()
        if (epoch + 1) % config.test_every == 0:
            tested.append(_score(_guess(x_test, network, cell)[0], y_test))
        told(epoch + 1, loss=losses[-1])
    guess, rate = _guess(x_test, network, cell)
    off = _guess(x_test, network, cell._replace(strength=0.0))[0] if setting.strength else guess
    outcome = Outcome(
        accuracy=_score(guess, y_test),
        argmax=float((guess == np.maximum(y_test, 0)).mean()),
        tolerant=tolerant_score(guess, y_test, config.tolerance),
        rate=rate,
        without_adaptation=_score(off, y_test),
        loss=np.array(losses),
        tested=np.array(tested),
        tau=networks.time_constant(network.layers[0].mem, cell.positive).detach().numpy().copy(),
        confusion=_confusion(guess, y_test),
    )
    return outcome, network, cell


def _traces_readout(config: Heart, traces: data.Ecg, taus: tuple[float, ...]) -> float:
    """Accuracy of a linear readout of leaky traces of the events: no spiking neuron, no recurrence."""
    from scipy.signal import lfilter
    from sklearn.linear_model import LogisticRegression

    def features(x: np.ndarray) -> np.ndarray:
        decays = np.exp(-1.0 / np.array(taus))
        return np.concatenate([lfilter([1 - a], [1, -a], x.astype(float), axis=1) for a in decays], axis=2)

    x, y = features(traces.x_train)[:, :: config.trace_every], traces.y_train[:, :: config.trace_every]
    scale = x.std((0, 1))
    fitted = LogisticRegression(max_iter=1000, tol=1e-3).fit(x[y >= 0] / scale, y[y >= 0])
    guess = fitted.predict(features(traces.x_test).reshape(-1, x.shape[2]) / scale).reshape(traces.y_test.shape)
    return _score(guess, traces.y_test)


def _gru(config: Heart, traces: data.Ecg, seed: int, told) -> float:
    """Accuracy of an ordinary gated recurrent network with as many units, on the same samples."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        gru = torch.nn.GRU(4, config.hidden)
        last = torch.nn.Linear(config.hidden, len(data.CLASSES))
    parameters = [*gru.parameters(), *last.parameters()]
    adam = torch.optim.Adam(parameters, lr=config.rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, config.gru_epochs)
    x, y = _windows(traces.x_train, traces.y_train, config.window)
    for epoch in range(config.gru_epochs):
        for events, label in _batches(x, y, config.batch, np.random.default_rng([seed, 1, epoch])):
            loss = training.step_loss(last(gru(events)[0]), label, config.skip)
            adam.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            adam.step()
        schedule.step()
        told(epoch + 1, loss=loss.item())
    with torch.no_grad():
        guess = last(gru(_tensors(traces.x_test, traces.y_test)[0])[0]).argmax(2).T.numpy()
    return _score(guess, traces.y_test)


def _example(config: Heart, traces: data.Ecg, network: Network, cell: Cell) -> dict[str, np.ndarray]:
    """The first test trace: leads where there are any, events, hidden spikes, and the readout's probabilities."""
    with torch.no_grad():
        seen = networks.run(_tensors(traces.x_test[:1], traces.y_test[:1])[0], network, cell)
    shown = {
        "events": traces.x_test[0],
        "label": traces.y_test[0],
        "raster": seen.spikes[0][:, 0].numpy().astype(np.uint8),
        "probability": torch.softmax(seen.u[:, 0], 1).numpy(),
    }
    return shown if traces.leads is None else shown | {"leads": traces.leads[0]}


def _ratios(config: Heart, rate_in: float, rate: float) -> dict[str, float]:
    """How many times the energy of the spiking network an ordinary recurrent one of the same size needs for a step."""
    n, classes = config.hidden, len(data.CLASSES)
    readout = costs.Operations(classes, (n + 1) * classes * rate)  # the decay of the readout, and its input
    spiking = costs.total([costs.srnn_step(4, n, rate_in, rate), readout])
    found = {}
    for name, step in (("lstm", costs.lstm_step), ("rnn", costs.rnn_step)):
        ordinary = costs.total([step(4, n), costs.Operations(n * classes, 0)])
        for number, price in costs.ENERGY.items():
            found[f"{name}_{number}"] = costs.energy(ordinary, price) / costs.energy(spiking, price)
    return found | {"acs": spiking.acs, "macs": spiking.macs}


def heart(config: Heart, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Networks with and without trained time constants, adaptation and recurrence, and what does without spikes."""
    traces = _traces(config, seed)
    done: dict[str, np.ndarray] = {}
    if checkpoint is not None and checkpoint.exists():
        done = read_npz(checkpoint)
    total = len(config.settings) * config.epochs + config.gru_epochs
    for k, name in enumerate(config.settings):
        if f"{name}/accuracy" in done:
            continue

        def told(epoch: int, k: int = k, **now: float) -> None:
            progress(k * config.epochs + epoch, total, **now)

        outcome, network, cell = _trained(config, SETTINGS[name], seed, told)
        done |= {f"{name}/{field}": np.asarray(value) for field, value in outcome._asdict().items()}
        if name == "learned":
            done |= {f"example/{key}": array for key, array in _example(config, traces, network, cell).items()}
        if checkpoint is not None:
            write_npz(checkpoint, done)

    def number(name: str, field: str = "accuracy") -> float:
        return float(done[f"{name}/{field}"])

    metrics = {f"accuracy_{name}": number(name) for name in config.settings}
    metrics |= {f"rate_{name}": number(name, "rate") for name in config.settings}
    early = {"first_loss": float(done[f"{config.settings[0]}/loss"][0])}
    if set(config.settings) != set(SETTINGS):
        return Result(metrics, {}, early, traces.tag)

    def told_gru(epoch: int, **now: float) -> None:
        progress(len(config.settings) * config.epochs + epoch, total, **now)

    learned = number("learned")
    tau = done["learned/tau"]
    metrics |= {
        "learned_minus_fixed": learned - number("fixed"),
        "recurrence_gain": learned - number("no_recurrence"),
        "adaptive_minus_learned": number("adaptive") - learned,
        "rate_ratio": number("adaptive", "rate") / number("learned", "rate"),
        "adaptation_used": number("adaptive") - number("adaptive", "without_adaptation"),
        "order_gain": learned - number("shuffled"),
        "argmax_learned": number("learned", "argmax"),
        "tolerance_gain": number("learned", "tolerant") - learned,
        "best_epoch_gain": float(done["learned/tested"].max()) - learned,
        "tau_sd": float(tau.std()),
        "tau_smaller_side": float(min((tau < config.tau[0]).mean(), (tau > config.tau[0]).mean())),
        "accuracy_one_trace": _traces_readout(config, traces, (config.tau[0],)),
        "accuracy_six_traces": _traces_readout(config, traces, config.trace_taus),
        "accuracy_gru": _gru(config, traces, seed, told_gru),
        "majority": _score(
            np.full_like(traces.y_test, np.bincount(traces.y_train[traces.y_train >= 0]).argmax()), traces.y_test
        ),
    }
    metrics["traces_gain"] = metrics["accuracy_six_traces"] - metrics["accuracy_one_trace"]
    metrics["gru_minus_learned"] = metrics["accuracy_gru"] - learned
    metrics |= _ratios(config, float(traces.x_test.mean()), number("learned", "rate"))
    arrays = {
        f"{field}_{name}": done[f"{name}/{field}"] for name in config.settings for field in ("tau", "loss", "tested")
    }
    arrays["confusion"] = done["learned/confusion"]
    arrays |= {key.removeprefix("example/"): array for key, array in done.items() if key.startswith("example/")}
    return Result(metrics, arrays, early, traces.tag)


# Trained and scored as the authors do ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AsPublished:
    """Steps without a label are the first part of the beat, in training and in the score; a leaky readout and the authors' own."""

    heart: Heart = Heart()
    readouts: tuple[str, ...] = ("spiking", "leaky")
    strength: float = 1.8  # of the readout's adaptation; the hidden layer does not adapt
    tau_adp: float = 100.0  # of the readout


def _read(
    x: Tensor, network: Network, adp: Tensor | None, cell: Cell, strength: float
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Potential of the readout `(time, batch, classes)`, which spikes where it has time constants of adaptation; hidden spikes, its own."""
    seen = networks.run(x, network, cell)
    if adp is None:
        return seen.u, seen.spikes[0], None
    last = Layer(network.out, None, network.last, adp)
    u, spikes = spiking_readout(seen.spikes[0], last, cell._replace(strength=strength))
    return u, seen.spikes[0], spikes


def _learn_as_published(config: AsPublished, readout: str, seed: int, told) -> dict[str, np.ndarray]:
    """Train one network; its scores, and the loss of the first epoch."""
    heart, traces = config.heart, _traces(config.heart, seed)
    x, label, x_test, truth = traces[:4]
    every, every_test = np.maximum(label, 0), np.maximum(truth, 0)  # no label counts as class 0, P
    x, every = _windows(x, every, heart.window)
    cell, sizes = Cell(heart.threshold), (4, heart.hidden, len(data.CLASSES))
    network = networks.network(sizes, heart.tau, torch.Generator().manual_seed(seed))
    networks.require_gradients(network, True)
    adam = training.optimiser(network, heart.rate, heart.hidden_factor, heart.last_factor)
    adp = None
    if readout == "spiking":
        adp = networks.raw_constant(torch.full((len(data.CLASSES),), config.tau_adp), True).requires_grad_()
        adam.add_param_group({"params": [adp], "lr": heart.rate * heart.last_factor})
    schedule, losses, tested = _schedule(adam, heart), [], []

    @torch.no_grad()
    def guess(strength: float) -> tuple[np.ndarray, float, float]:
        """The label of each test step, and spikes a step of hidden neurons and of the readout."""
        u, spikes, last = _read(_tensors(x_test, truth)[0], network, adp, cell, strength)
        return u.argmax(2).T.numpy(), float(spikes.mean()), 0.0 if last is None else float(last.mean())

    def score(found: np.ndarray) -> float:
        return float((found == every_test)[:, heart.skip :].mean())

    for epoch in range(heart.epochs):
        batches, each = _batches(x, every, heart.batch, np.random.default_rng([seed, 1, epoch])), []
        for events, wanted in batches:
            adam.zero_grad()
            u = _read(events, network, adp, cell, config.strength)[0]
            loss = training.step_loss(u, wanted, heart.skip)
            loss.backward()
            if heart.clip is not None:
                torch.nn.utils.clip_grad_norm_([p for group in adam.param_groups for p in group["params"]], heart.clip)
            adam.step()
            each.append(loss.item())
        losses.append(float(np.mean(each)))
        schedule.step()
        if (epoch + 1) % heart.test_every == 0:
            tested.append(score(guess(config.strength)[0]))
        told(epoch + 1, loss=losses[-1])
    found, rate, readout_rate = guess(config.strength)
    return {
        "score": np.array(score(found)),
        "accuracy": np.array(_score(found, truth)),
        "without_adaptation": np.array(score(guess(0.0)[0])),
        "rate": np.array(rate),
        "readout_rate": np.array(readout_rate),
        "tau": networks.time_constant(network.layers[0].mem, True).detach().numpy().copy(),
        "loss": np.array(losses),
        "tested": np.array(tested),
    }


def as_published(config: AsPublished, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """What the authors' own score says of networks that are trained for it."""
    done = read_npz(checkpoint) if checkpoint is not None and checkpoint.exists() else {}
    epochs = config.heart.epochs
    for k, readout in enumerate(config.readouts):
        if f"{readout}/score" in done:
            continue

        def told(epoch: int, k: int = k, **now: float) -> None:
            progress(k * epochs + epoch, len(config.readouts) * epochs, **now)

        found = _learn_as_published(config, readout, seed, told)
        done |= {f"{readout}/{field}": array for field, array in found.items()}
        if checkpoint is not None:
            write_npz(checkpoint, done)
    metrics = {}
    for readout in config.readouts:
        score, tested = float(done[f"{readout}/score"]), done[f"{readout}/tested"]
        metrics |= {f"{field}_{readout}": float(done[f"{readout}/{field}"]) for field in ("score", "accuracy", "rate")}
        metrics[f"best_epoch_gain_{readout}"] = float(tested.max(initial=score)) - score
        metrics[f"tau_sd_{readout}"] = float(done[f"{readout}/tau"].std())
    metrics["readout_rate"] = float(done["spiking/readout_rate"])
    metrics["readout_adaptation"] = metrics["score_spiking"] - float(done["spiking/without_adaptation"])
    if "leaky" in config.readouts:
        metrics["spiking_less_leaky"] = metrics["score_spiking"] - metrics["score_leaky"]
    arrays = {
        f"{field}_{readout}": done[f"{readout}/{field}"]
        for field in ("tau", "loss", "tested")
        for readout in config.readouts
    }
    early = {"first_loss": float(done[f"{config.readouts[0]}/loss"][0])}
    return Result(metrics, arrays, early, _traces(config.heart, seed).tag)


# Adaptation with time constants that learn fast -----------------------------------------------------------------------------

ADAPTATION = ("learned", "adaptive", "adaptive_slow")


def adaptation(config: Heart, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """What an adaptive threshold is worth where time constants learn fast, and what becomes of it at the authors' rate for them."""
    slow = replace(config, hidden_factor=Heart.hidden_factor, last_factor=Heart.last_factor)
    outcomes, arrays = {}, {}
    for k, name in enumerate(config.settings):

        def told(epoch: int, k: int = k, **now: float) -> None:
            progress(k * config.epochs + epoch, len(config.settings) * config.epochs, **now)

        setting, _, is_slow = name.partition("_")
        found, network, cell = _trained(slow if is_slow else config, SETTINGS[setting], seed, told)
        outcomes[name] = found
        adp = networks.time_constant(network.layers[0].adp, cell.positive).detach().numpy().copy()
        arrays |= {f"loss_{name}": found.loss, f"tau_{name}": found.tau, f"tau_adp_{name}": adp}
    metrics = {f"accuracy_{name}": found.accuracy for name, found in outcomes.items()}
    metrics |= {f"rate_{name}": found.rate for name, found in outcomes.items()}
    if set(outcomes) == set(ADAPTATION):
        adaptive, learned = outcomes["adaptive"], outcomes["learned"]
        metrics |= {
            "difference": adaptive.accuracy - learned.accuracy,
            "rate_ratio": adaptive.rate / learned.rate,
            "used": adaptive.accuracy - adaptive.without_adaptation,
            "fast_over_slow": adaptive.accuracy - outcomes["adaptive_slow"].accuracy,
            "tau_sd": float(learned.tau.std()),
        }
    early = {"first_loss": float(outcomes[config.settings[0]].loss[0])}
    return Result(metrics, arrays, early, _traces(config, seed).tag)


# One neuron -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OneNeuron:
    """A constant current into one neuron, with and without adaptation."""

    current: float = 0.6
    steps: int = 400
    strength: float = 1.8
    threshold: float = 0.1
    tau: tuple[float, float] = (20.0, 100.0)


def neuron(config: OneNeuron, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """An adaptive neuron slows down, one without adaptation does not."""
    metrics, arrays = {}, {}
    for name, strength in (("lif", 0.0), ("adaptive", config.strength)):
        w = torch.tensor([[config.current], [0.0]], dtype=torch.float64)
        raw = [networks.raw_constant(torch.tensor([tau], dtype=torch.float64), True) for tau in config.tau]
        layer = networks.Layer(w, None, *raw)
        one = Network((layer,), torch.zeros(2, 1, dtype=torch.float64), raw[0])
        cell = Cell(config.threshold, strength)
        state, seen = networks.zero_state(one, 1), []
        for _ in range(config.steps):
            state = networks.step(torch.ones(1, 1, dtype=torch.float64), state, one, cell)
            seen.append(
                [float(part[0]) for part in (state.u[0], config.threshold + strength * state.eta[0], state.s[0])]
            )
        arrays[name] = np.array(seen)
        gaps = np.diff(np.flatnonzero(arrays[name][:, 2]))
        metrics[f"slowing_{name}"] = float(gaps[-1] / gaps[0])
        metrics[f"spikes_{name}"] = float(arrays[name][:, 2].sum())
    return Result(metrics, arrays)


# Gradients ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gradients:
    """The compiled network against the one written out, and truncated gradients against the whole one."""

    hidden: int = 24
    steps: int = 128
    batch: int = 8
    windows: tuple[int, ...] = (4, 8, 16, 32, 64, 128)
    strength: float = 1.8
    scale: float = 4.0  # of the input weights: the neurons spike


def _flat(gradients) -> Tensor:
    return torch.cat([g.flatten() for g in gradients])


def gradients(config: Gradients, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Gradients of all weights and time constants, in float64, on generated electrocardiograms."""
    random = torch.Generator().manual_seed(seed)
    traces = data.generated(config.batch, 1, seed)
    part = slice(400, 400 + config.steps)
    x, label = _tensors(traces.x_train[:, part], traces.y_train[:, part])
    x = x.double()
    network = networks.network(
        (4, config.hidden, len(data.CLASSES)), (20.0, 30.0, 20.0), random, spread=(8.0, 10.0, 8.0), dtype=torch.float64
    )
    network.layers[0].w.mul_(config.scale)
    networks.require_gradients(network, True)
    trained = [*network.weights(), *network.hidden_constants(), network.last]
    cell = Cell(strength=config.strength)
    compiled, (written, _) = networks.run(x, network, cell), networks.unroll(x, network, cell)
    whole = _flat(torch.autograd.grad(training.step_loss(compiled.u, label), trained))
    plain = _flat(torch.autograd.grad(training.step_loss(written.u, label), trained))
    cosine = []
    hidden = [p for p in trained if p is not network.out and p is not network.last]
    target = _flat(torch.autograd.grad(training.step_loss(networks.run(x, network, cell).u, label), hidden))
    for window in config.windows:
        losses = training.truncated(x, label, network, cell, window, training.step_loss)
        cut = torch.stack([_flat(torch.autograd.grad(loss, hidden)) for loss in losses]).mean(0)
        cosine.append(float(torch.nn.functional.cosine_similarity(cut, target, dim=0)))
        progress(len(cosine), len(config.windows))
    metrics = {
        "engine_deviation": float((whole - plain).abs().max() / plain.abs().max()),
        "spikes_differ": float((compiled.spikes[0] != written.spikes[0]).sum()),
        "whole_window": float((cut - target).abs().max() / target.abs().max()),
        "cosine_short": cosine[0],
        "rate": float(compiled.spikes[0].detach().mean()),
    }
    return Result(metrics, {"cosine": np.array(cosine), "windows": np.array(config.windows)})


# Digits, pixel by pixel -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Digits:
    """A picture as a sequence of pixels, several at a time; networks that differ in one switch each."""

    source: str = "mnist"
    settings: tuple[str, ...] = ("learned", "fixed", "adaptive")
    permuted: bool = False
    hidden: tuple[int, ...] = (128,)
    pixels: int = 8  # a sliding window of so many
    tau: tuple[float, float, float] = (20.0, 200.0, 20.0)
    spread: tuple[float, float, float] = (5.0, 25.0, 5.0)
    threshold: float = 0.1
    updates: int = 3000
    batch: int = 200
    rate: float = 1e-2
    factor: float = 3.0
    clip: float = 1.0
    gru_updates: int = 1000
    gru_rate: float = 1e-2


SMALL_PICTURES = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"
"""SHA-256 of the pixels and classes of scikit-learn's digits, a byte each."""


@cache
def _pictures(source: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, str]:
    """Training and test pictures (n, pixels) in [0, 1], their classes, and a tag."""
    if source == "mnist":
        from snnrepro.data.sets import mnist

        return mnist()[:5]
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    if hashlib.sha256(np.uint8(x).tobytes() + np.uint8(y).tobytes()).hexdigest() != SMALL_PICTURES:
        raise UserError("yin2020: the digits of scikit-learn have a wrong checksum; install it again")
    order = np.random.default_rng(0).permutation(len(y))
    x, y = (x[order] / 16).astype(np.float32), y[order]
    return x[:1437], y[:1437], x[1437:], y[1437:], "digits-8x8"


def sliding(x: np.ndarray, pixels: int) -> np.ndarray:
    """Sequences of pixels (n, steps) as `(steps, n, pixels)`: each step shows the last so many pixels, zeros before the first."""
    padded = np.pad(x, ((0, 0), (pixels - 1, 0)))
    return np.ascontiguousarray(np.lib.stride_tricks.sliding_window_view(padded, pixels, axis=1).transpose(1, 0, 2))


def _ordered(config: Digits) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pictures and classes for training and test, the pixels in the order in which they come."""
    x, y, x_test, y_test, _ = _pictures(config.source)
    if config.permuted:
        order = np.random.default_rng(2021).permutation(x.shape[1])
        x, x_test = x[:, order], x_test[:, order]
    return x, y, x_test, y_test


def _digits(config: Digits, setting: Setting, seed: int, told) -> tuple[float, float, float]:
    """Accuracy, spikes a neuron and step, and the loss of the first update."""
    x, y, x_test, y_test = _ordered(config)
    cell = Cell(config.threshold, setting.strength)
    sizes = (config.pixels, *config.hidden, 10)
    network = networks.network(sizes, config.tau, torch.Generator().manual_seed(seed), spread=config.spread)
    networks.require_gradients(network, setting.learned)
    adam = training.optimiser(network, config.rate, config.factor, config.factor)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, config.updates)
    random, losses = np.random.default_rng([seed, 1]), []

    def loss(u: Tensor, label: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(training.summed_softmax(u), label)

    for update in range(config.updates):
        rows = random.choice(len(x), config.batch, replace=False)
        batch = [(torch.from_numpy(sliding(x[rows], config.pixels)), torch.from_numpy(y[rows].astype(np.int64)))]
        losses.append(training.train_epoch(batch, network, cell, adam, loss, config.clip))
        schedule.step()
        told(update + 1, loss=losses[-1])
    right, spikes = 0, []
    with torch.no_grad():
        for first in range(0, len(x_test), 500):
            seen = networks.run(torch.from_numpy(sliding(x_test[first : first + 500], config.pixels)), network, cell)
            guess = training.summed_softmax(seen.u).argmax(1).numpy()
            right += int((guess == y_test[first : first + 500]).sum())
            spikes.append(float(torch.cat([s.flatten() for s in seen.spikes]).mean()))
    return right / len(x_test), float(np.mean(spikes)), losses[0]


def _digits_gru(config: Digits, seed: int, told) -> float:
    """Accuracy of an ordinary gated recurrent network with as many units as the first hidden layer, with the same loss."""
    x, y, x_test, y_test = _ordered(config)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        gru = torch.nn.GRU(config.pixels, config.hidden[0])
        last = torch.nn.Linear(config.hidden[0], 10)
    parameters = [*gru.parameters(), *last.parameters()]
    adam = torch.optim.Adam(parameters, lr=config.gru_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, config.gru_updates)
    random = np.random.default_rng([seed, 1])

    def scores(pictures: np.ndarray) -> Tensor:
        return training.summed_softmax(last(gru(torch.from_numpy(sliding(pictures, config.pixels)))[0]))

    for update in range(config.gru_updates):
        rows = random.choice(len(x), config.batch, replace=False)
        loss = torch.nn.functional.cross_entropy(scores(x[rows]), torch.from_numpy(y[rows].astype(np.int64)))
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, config.clip)
        adam.step()
        schedule.step()
        told(update + 1, loss=loss.item())
    with torch.no_grad():
        guess = np.concatenate([scores(x_test[k : k + 500]).argmax(1).numpy() for k in range(0, len(x_test), 500)])
    return float((guess == y_test).mean())


def digits(config: Digits, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Sequences of pixels: trained against fixed time constants, with and without adaptation, and an ordinary network beside them."""
    done: dict[str, np.ndarray] = {}
    if checkpoint is not None and checkpoint.exists():
        done = read_npz(checkpoint)
    total = len(config.settings) * config.updates + config.gru_updates
    for k, name in enumerate((*config.settings, "gru")):
        if name in done:
            continue

        def told(update: int, k: int = k, **now: float) -> None:
            progress(k * config.updates + update, total, **now)

        train = _digits_gru(config, seed, told) if name == "gru" else _digits(config, SETTINGS[name], seed, told)
        done[name] = np.array(train)
        if checkpoint is not None:
            write_npz(checkpoint, done)
    metrics = {"accuracy_gru": float(done["gru"])}
    for name in config.settings:
        metrics |= {f"accuracy_{name}": float(done[name][0]), f"rate_{name}": float(done[name][1])}
    if {"learned", "fixed"} <= set(config.settings):
        metrics["learned_minus_fixed"] = metrics["accuracy_learned"] - metrics["accuracy_fixed"]
    if {"learned", "adaptive"} <= set(config.settings):
        metrics["adaptive_minus_learned"] = metrics["accuracy_adaptive"] - metrics["accuracy_learned"]
    if "learned" in config.settings:
        metrics["gru_minus_learned"] = metrics["accuracy_gru"] - metrics["accuracy_learned"]
    return Result(metrics, {}, {"first_loss": float(done[config.settings[0]][2])}, _pictures(config.source)[4])


# A second opinion -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SecondOpinion:
    """The same recurrent layer here and in Brian2."""

    neurons: int = 20
    steps: int = 1200
    strength: float = 1.8
    threshold: float = 0.1
    scale: float = 4.0  # of the input weights


def second_opinion(config: SecondOpinion, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Spikes of an adaptive recurrent layer on an electrocardiogram, here and in Brian2, which share parameters and input alone."""
    random = torch.Generator().manual_seed(seed)
    x = torch.from_numpy(data.generated(1, 1, seed).x_train[:, 100 : 100 + config.steps].astype(float)).transpose(0, 1)
    network = networks.network(
        (4, config.neurons, 1), (20.0, 60.0, 20.0), random, spread=(8.0, 20.0, 0.0), dtype=torch.float64
    )
    layer = network.layers[0]
    layer = layer._replace(w=config.scale * layer.w, v=0.2 * layer.v)
    layer.w[-1] = 0.4 + 0.3 * torch.rand(config.neurons, generator=random, dtype=torch.float64)  # all spike
    cell = Cell(config.threshold, config.strength)
    ours = networks.run(x, network._replace(layers=(layer,)), cell).spikes[0][:, 0].numpy()
    tau_mem, tau_adp = (networks.time_constant(raw, True).numpy() for raw in (layer.mem, layer.adp))
    drive = (networks.with_bias(x) @ layer.w)[:, 0].numpy()
    theirs = alif_brian2(drive, layer.v.numpy(), tau_mem, tau_adp, config.threshold, config.strength)
    metrics = {
        "spikes_differ": float(np.abs(ours - theirs).sum()),
        "least_spikes": float(ours.sum(0).min()),
        "spikes_a_neuron": float(ours.sum(0).mean()),
    }
    return Result(metrics, {"ours": ours.astype(np.uint8), "brian2": theirs.astype(np.uint8)})


QUICK_HEART = Heart(
    source="generated",
    train=160,
    test=60,
    epochs=20,
    batch=32,
    window=260,
    skip=20,
    rate=0.02,
    hidden_factor=20.0,
    last_factor=20.0,
    halve_every=0,
    clip=1.0,
    gru_epochs=4,
    trace_every=8,
)
FAST_TAUS = Heart(
    settings=ADAPTATION,
    epochs=60,
    batch=256,
    window=260,
    skip=20,
    hidden_factor=20.0,
    last_factor=20.0,
    halve_every=0,
    clip=1.0,
    test_every=20,
)
SMALL_DIGITS = Digits(source="digits-8x8", hidden=(64,), updates=3000, batch=50, rate=0.02, factor=20.0)
QUICK_DIGITS = replace(SMALL_DIGITS, settings=("learned", "fixed"), updates=1000, gru_updates=300)
LONG = Digits(settings=("adaptive",))
QUICK_LONG = replace(QUICK_DIGITS, settings=("adaptive",))


def long_digits(config: Digits, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """`digits` on all of MNIST; its part that comes along would be another task."""
    if config.source == "mnist" and _pictures(config.source)[4] != "mnist-60k":
        raise UserError("yin2020: this experiment needs all of MNIST; run `snnrepro data get mnist`")
    return digits(config, seed, progress, checkpoint)


def _one_update(config: Digits) -> Digits:
    """The first update of the first network, and of the ordinary one."""
    return replace(config, updates=1, gru_updates=1, settings=config.settings[:1])


EXPERIMENTS = {
    "neuron": Experiment(neuron, OneNeuron(), OneNeuron(), (0,), FIVE),  # nothing random
    "gradients": Experiment(gradients, Gradients(), Gradients(), (0, 1), FIVE),
    "heart": Experiment(
        heart,
        QUICK_HEART,
        Heart(),
        (0,),
        FIVE,
        replay=lambda c: replace(c, epochs=1, test_every=1, settings=("learned",)),
    ),
    "adaptation": Experiment(
        adaptation,
        replace(QUICK_HEART, settings=ADAPTATION),
        FAST_TAUS,
        (0,),
        tuple(range(10)),
        replay=lambda c: replace(c, epochs=1, test_every=1, settings=("learned",)),
    ),
    "as_published": Experiment(
        as_published,
        AsPublished(replace(QUICK_HEART, epochs=10)),
        AsPublished(),
        (0,),
        FIVE,
        replay=lambda c: replace(c, heart=replace(c.heart, epochs=1, test_every=1), readouts=("spiking",)),
    ),
    "digits": Experiment(
        digits,
        QUICK_DIGITS,
        SMALL_DIGITS,
        (0,),
        FIVE,
        replay=_one_update,
    ),
    "permuted_digits": Experiment(
        digits,
        replace(QUICK_DIGITS, permuted=True),
        replace(SMALL_DIGITS, permuted=True),
        (0,),
        FIVE,
        replay=_one_update,
    ),
    "smnist": Experiment(long_digits, QUICK_LONG, LONG, (0,), (0,), replay=_one_update),
    "psmnist": Experiment(
        long_digits,
        replace(QUICK_LONG, permuted=True),
        replace(LONG, permuted=True),
        (0,),
        (0,),
        replay=_one_update,
    ),
    "second_opinion": Experiment(second_opinion, SecondOpinion(), SecondOpinion(), (0, 1), FIVE),
}
