"""Bellec et al. (2020), A solution to the learning dilemma for recurrent networks of spiking neurons (e-prop).

Settings: the authors' code. Times are in steps of 1 ms.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from snnrepro.eprop import networks, optimisers, reference, signals, tasks
from snnrepro.eprop.networks import BPTT, EPROP, Neurons, Rule, Weights
from snnrepro.errors import UserError
from snnrepro.experiment import Experiment, Progress, Result
from snnrepro.peers.eprop import eprop_brian2

RULES = ("bptt", "symmetric", "random", "adaptive")
HZ = 1000.0
"""Steps a second."""

FULL = tasks.Evidence()
SHORT = tasks.Evidence(cues=7, silence=20, cue=40, delay=250, recall=80)
SHORTEST = tasks.Evidence(cues=3, silence=10, cue=20, delay=60, recall=40)
CHOICE = tasks.Evidence(cues=1, silence=50, cue=100, delay=500, recall=50)
"""The task of the paper, the one of quick runs, one for checks, and the delayed choice."""

GOLDEN = {
    "pattern": (101.964356999041, 103.466731126205, 103.340607074771, 103.680244037686, 104.412775748752),
    "evidence": (0.741152550006, 0.740388187700, 0.665785233177, 0.663644193322, 0.729428962844),
    "evidence_of_two": (0.702163370672, 0.735555303152, 0.740354864111, 0.683882815282, 0.707841122268),
}
"""Losses that NEST's tests expect of NEST. With one sample a modified fork of the authors' code in TensorFlow agrees to 1e-6."""


def _single(array: np.ndarray) -> np.ndarray:
    """Rounded to single precision, in which the authors keep weights."""
    return array.astype(np.float32).astype(float)


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def _apart(ours: Weights, theirs: Weights) -> float:
    """Largest difference of gradients, relative to the largest entry."""
    for g in (*ours, *theirs):
        if not np.isfinite(g).all():
            raise UserError("bellec2020: a gradient is not finite; mend the network")
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(ours, theirs, strict=True))


# Pattern generation ---------------------------------------------------------------------------------------------------------

PATTERN_NEURONS = Neurons(np.zeros(100), 30.0, 1.0, 30.0, 0.03, 0, scaled=True)


def _pattern(random: np.random.RandomState) -> tuple[Weights, np.ndarray, np.ndarray, np.ndarray]:
    """Weights, random feedback, input and target, in the order of the fork of the authors' code that NEST's tests rest on."""
    n = len(PATTERN_NEURONS.beta)
    weights = Weights(*(_single(random.randn(*shape) / np.sqrt(n)) for shape in ((n, n), (n, n), (n, 1))))
    feedback = _single(random.randn(n, 1) / np.sqrt(n))
    x = tasks.frozen_noise(1000, n, 0.05, random)
    return weights, feedback, x, tasks.sum_of_sines(1000, random)[:, None, None]


def _pattern_step(
    weights: Weights, feedback: np.ndarray | None, x: np.ndarray, target: np.ndarray, rule: Rule
) -> tuple[float, Weights, networks.Activity]:
    """Loss and gradients of one repetition."""
    activity = networks.run(PATTERN_NEURONS, weights, x)
    loss = signals.squared_error(activity.y, target)
    rate = signals.rate_regulariser(activity.z, 10 / HZ, 150.0)
    found = networks.gradients(PATTERN_NEURONS, weights, activity, loss.error, rule, feedback, rate.error)
    return loss.value, found, activity


def _best_readout(seed: int) -> tuple[float, float]:
    """Loss of the least-squares readout of the network as it is drawn, and the loss of the best constant output."""
    weights, _, x, target = _pattern(np.random.RandomState(seed + 1))
    identity = np.eye(len(weights.output), dtype=weights.output.dtype)
    filtered = networks.run(PATTERN_NEURONS, weights._replace(output=identity), x).y[:, 0].astype(float)
    fitted = filtered @ np.linalg.lstsq(filtered, target[:, 0], rcond=None)[0]
    return signals.squared_error(fitted[:, None], target).value, 0.5 * float(((target - target.mean()) ** 2).sum())


@dataclass(frozen=True)
class Pattern:
    """Supplementary figure 7: one output follows a sum of sines, under a frozen noise."""

    iterations: int = 2000
    rate: float = 1e-4
    decay: float = 1e-4  # of weights and feedback, where feedback is adaptive
    start_only: bool = False


def pattern(config: Pattern, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Train with each rule from the same start; and with feedback of the wrong sign, and the readout alone, whose best is fitted too."""
    fitted, constant = _best_readout(seed)
    cases = (*RULES, "wrong_sign", "readout_only")
    metrics, arrays, early = {"loss_best_readout": fitted, "nmse_best_readout": fitted / constant}, {}, {}
    for part, name in enumerate(cases):
        weights, feedback, x, target = _pattern(np.random.RandomState(seed + 1))
        losses = []
        for iteration in range(config.iterations):
            sent = {"bptt": None, "symmetric": None, "wrong_sign": -weights.output}.get(name, feedback)
            loss, found, activity = _pattern_step(weights, sent, x, target, BPTT if name == "bptt" else EPROP)
            losses.append(loss)
            if name == "readout_only":
                found = found._replace(input=0 * found.input, recurrent=0 * found.recurrent)
            if name == "adaptive":
                change = -config.rate * found.output
                feedback, output = signals.kolen_pollack(feedback, weights.output, change, config.decay)
                weights = optimisers.descend(weights, found, config.rate)._replace(output=output)
            else:
                weights = optimisers.descend(weights, found, config.rate)
            if config.start_only and iteration == 2:
                return Result({}, {}, {"third_loss": loss})
            if (iteration + 1) % 20 == 0:
                progress(part * config.iterations + iteration + 1, len(cases) * config.iterations, loss=loss)
        late = losses[-max(1, config.iterations // 20) :]
        metrics |= {
            f"loss_{name}": float(np.mean(late)),
            f"nmse_{name}": float(np.mean(late)) / constant,
            f"rate_{name}": float(activity.z.mean()) * HZ,
        }
        arrays |= {
            f"curve_{name}": np.array(losses[:: max(1, config.iterations // 200)]),
            f"y_{name}": activity.y[::2, 0, 0],
        }
        early.setdefault("third_loss", losses[2])
    metrics["start"] = losses[0]
    metrics["random_over_symmetric"] = metrics["loss_random"] / metrics["loss_symmetric"]
    metrics["symmetric_over_bptt"] = metrics["loss_symmetric"] / metrics["loss_bptt"]
    metrics["symmetric_over_best_readout"] = metrics["loss_symmetric"] / fitted
    metrics["random_over_best_readout"] = metrics["loss_random"] / fitted
    return Result(metrics, arrays | {"target": target[::2, 0, 0]}, early)


# Evidence accumulation ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Learner:
    """Figure 3: which of two sides had more cues, asked after a delay."""

    rule: str
    adaptive: int = 50  # neurons with adaptation, of 100
    task: tasks.Evidence = FULL
    batch: int = 64
    iterations: int = 1000
    rate: float = 5e-3
    strength: float = 1.0  # of the regulariser
    decay: float = 1e-2  # of output weights and feedback, where feedback is adaptive
    validate: int = 10  # iterations between two batches that are not learned from
    goal: float = 0.93
    confirm: int = 8  # batches on which the goal must be reached too
    test: int = 4  # batches on which a network that has reached it is tested
    window: tuple[int, int] = (200, 300)  # iterations over which accuracy is averaged
    start_only: bool = False


def learner_neurons(adaptive: int, n: int = 100) -> Neurons:
    """The authors' neurons: the last ones adapt."""
    beta = 1.7 * (1 - np.exp(-1 / 2000)) / (1 - np.exp(-1 / 20))
    return Neurons(np.where(np.arange(n) < n - adaptive, 0.0, beta))


def _learner(random: np.random.RandomState, n: int = 100) -> tuple[Weights, np.ndarray]:
    """Weights and random feedback, in the order of the fork of the authors' code that NEST's tests rest on."""
    w_in, w_rec = random.randn(40, n) / np.sqrt(40), random.randn(n, n) / np.sqrt(n)
    limit = np.sqrt(6 / (n + 2))
    output = random.uniform(-limit, limit, (n, 2))
    return Weights(*(w.astype(np.float32) for w in (w_in, w_rec, output))), random.randn(n, 2).astype(np.float32)


def evidence(config: Learner, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Train with one rule until the goal is reached, as the authors' code does, or to the end."""
    random, task, neurons = np.random.RandomState(seed + 1), config.task, learner_neurons(config.adaptive)
    weights, feedback = _learner(random)
    if config.rule == "adaptive":
        feedback /= np.float32(np.sqrt(len(feedback)))  # as in the authors' code for speech
    adam, recall = optimisers.Adam(config.rate), task.recall

    def judge() -> tuple[float, float]:
        x, label, _ = tasks.evidence(task, config.batch, random)
        y = networks.run(neurons, weights, x).y
        right = float((signals.decisions(y, recall) == label).mean())
        return right, signals.cross_entropy(y, label, recall).value

    def mean_accuracy(batches: int) -> float:
        return float(np.mean([judge()[0] for _ in range(batches)]))

    curve, first, stopped, rate = [], [], config.iterations, 0.0
    for iteration in range(config.iterations):
        if iteration % config.validate == 0:
            curve.append((iteration, *judge()))
        if iteration and curve[-1][1] > config.goal and mean_accuracy(config.confirm) > config.goal:
            stopped = iteration
            break
        x, label, _ = tasks.evidence(task, config.batch, random)
        activity = networks.run(neurons, weights, x)
        loss = signals.cross_entropy(activity.y, label, recall)
        limit = signals.rate_regulariser(activity.z, 10 / HZ, config.strength)
        rule, sent = (
            (BPTT, None) if config.rule == "bptt" else (EPROP, None if config.rule == "symmetric" else feedback)
        )
        changes = adam.changes(networks.gradients(neurons, weights, activity, loss.error, rule, sent, limit.error))
        updated = optimisers.add(weights, changes)
        if config.rule == "adaptive":
            feedback, output = signals.kolen_pollack(feedback, weights.output, changes.output, np.float32(config.decay))
            updated = updated._replace(output=output)
        weights, rate = updated, float(activity.z.mean()) * HZ
        first.append(loss.value)
        if config.start_only and iteration == 1:
            return Result({}, {}, {"second_loss": loss.value})
        if (iteration + 1) % config.validate == 0:
            progress(iteration + 1, config.iterations, accuracy=curve[-1][1], loss=loss.value)
    table = np.array(curve)
    low, high = config.window
    inside = table[(table[:, 0] >= low) & (table[:, 0] < high), 1]
    reached = stopped < config.iterations
    final = mean_accuracy(config.test) if reached else float(table[-10:, 1].mean())
    metrics = {
        "reached": float(reached),
        "iterations": float(stopped),
        "final": final,
        "accuracy": float(inside.mean()) if not reached or stopped >= high else final,
        "loss": float(table[-10:, 2].mean()),
        "rate": rate,
    }
    arrays = {"curve": table}
    if seed == 0:
        arrays |= _one_trial(config, neurons, weights, feedback, random)
    return Result(metrics, arrays, {"second_loss": first[:2][-1]})


def _one_trial(
    config: Learner, neurons: Neurons, weights: Weights, feedback: np.ndarray, random: np.random.RandomState
) -> dict[str, np.ndarray]:
    """One trial of the trained network, in the parts that figure 3 draws."""
    task, n = config.task, len(neurons.beta)
    x, label, cues = tasks.evidence(task, 1, random)
    activity = networks.run(neurons, weights, x, watch=True)
    loss = signals.cross_entropy(activity.y, label, task.recall)
    sent = weights.output if config.rule in ("bptt", "symmetric") else feedback
    regular, adapting = np.arange(10), n - 1 - np.arange(10)
    synapses = np.array([[side * task.group + k, int(j)] for k, j in enumerate(adapting[:5]) for side in (0, 1)])
    _, traces = networks.online_gradients(neurons, weights, activity, loss.error, False, sent, watched=synapses)
    signal = np.empty_like(activity.psi)
    networks.gradients(neurons, weights, activity, loss.error, EPROP, sent, signal=signal)
    rows = np.r_[regular, adapting]
    share = np.exp(activity.y[:, 0] - activity.y[:, 0].max(1, keepdims=True))
    return {
        "trial_x": np.packbits(activity.x[:, 0], axis=0),
        "trial_z": np.packbits(activity.z[:, 0, rows], axis=0),
        "trial_above": ((activity.v - neurons.beta * activity.a)[::3, 0, rows] - neurons.threshold).astype(np.float32),
        "trial_traces": traces.a[::5].astype(np.float32),
        "trial_fast": traces.v[::5].astype(np.float32),
        "trial_signal": signal[::5, 0, rows].astype(np.float32),
        "trial_share": (share / share.sum(1, keepdims=True))[::5],
        "trial_cues": cues[0],
        "trial_label": label[0],
    }


# The gradient ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gradient:
    """The gradient taken apart: golden losses, forms that must agree, and how far e-prop is from BPTT before training."""

    trials: int = 16
    iterations: int = 5
    short: tasks.Evidence = SHORTEST
    start_only: bool = False


def golden_losses(iterations: int) -> dict[str, list[float]]:
    """Losses of the first iterations in the settings of NEST's tests."""
    found: dict[str, list[float]] = {name: [] for name in GOLDEN}
    weights, feedback, x, target = _pattern(np.random.RandomState(1))
    for _ in range(iterations):
        loss, g, _ = _pattern_step(weights, feedback, x, target, EPROP)
        found["pattern"].append(loss)
        weights = optimisers.descend(weights, g, 1e-4)
    for name, batch in (("evidence", 1), ("evidence_of_two", 2)):
        random, neurons = np.random.RandomState(1), learner_neurons(50)
        weights, feedback = _learner(random)
        weights, feedback = Weights(*(w.astype(float) for w in weights)), feedback.astype(float)
        adam = optimisers.Adam(5e-3)
        for _ in range(iterations):
            x, label, _ = tasks.evidence(tasks.Evidence(), batch, random)
            activity = networks.run(neurons, weights, x)
            loss = signals.cross_entropy(activity.y, label, 150)
            limit = signals.rate_regulariser(activity.z, 10 / HZ, 1.0, per_trial=batch > 1)
            found[name].append(loss.value)
            g = networks.gradients(neurons, weights, activity, loss.error, EPROP, feedback, limit.error)
            weights = optimisers.add(weights, adam.changes(g))
    return found


def gradient(config: Gradient, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Golden losses; online traces and automatic differentiation against the adjoint form; cosines with BPTT."""
    golden = golden_losses(config.iterations)
    metrics = {
        f"golden_{name}": max(abs(a / b - 1) for a, b in zip(losses, GOLDEN[name], strict=False))
        for name, losses in golden.items()
    }
    progress(1, 4)
    random, neurons = np.random.RandomState(seed + 1), learner_neurons(50)
    weights, feedback = _learner(random)
    weights, feedback = Weights(*(w.astype(float) for w in weights)), feedback.astype(float)
    neurons = neurons._replace(tau_out=30.0)  # other than tau, so that a swap of the two shows
    x, label, _ = tasks.evidence(config.short, 3, random)
    activity = networks.run(neurons, weights, x)
    loss = signals.cross_entropy(activity.y, label, config.short.recall)
    limit = signals.rate_regulariser(activity.z, 10 / HZ, 1.0)
    args = neurons, weights, activity, loss.error
    adjoint = networks.gradients(*args, EPROP, feedback, limit.error)
    online, _ = networks.online_gradients(*args, False, feedback, limit.error)
    metrics["online_off"] = _apart(online, adjoint)
    for name, rule, sent in (("eprop", EPROP, feedback), ("bptt", BPTT, None)):
        leaves = [torch.from_numpy(w.copy()).requires_grad_() for w in weights]
        z, y = reference.run(
            neurons, *leaves, torch.from_numpy(x), rule, None if sent is None else torch.from_numpy(sent)
        )
        objective = (y * torch.from_numpy(loss.error)).sum() + (z * torch.from_numpy(limit.error)).sum()
        theirs = Weights(*(g.numpy() for g in torch.autograd.grad(objective, leaves)))
        metrics[f"torch_{name}_off"] = _apart(networks.gradients(*args, rule, sent, limit.error), theirs)
        metrics["spikes_differ"] = metrics.get("spikes_differ", 0.0) + float((z.detach().numpy() != activity.z).sum())
    progress(2, 4)
    neurons = learner_neurons(50)
    x, label, _ = tasks.evidence(tasks.Evidence(), config.trials, random)
    activity = networks.run(neurons, weights, x)
    loss = signals.cross_entropy(activity.y, label, 150)
    exact = networks.gradients(neurons, weights, activity, loss.error, BPTT)
    found = {
        "symmetric": networks.gradients(neurons, weights, activity, loss.error, EPROP),
        "random": networks.gradients(neurons, weights, activity, loss.error, EPROP, feedback),
    }
    arrays = {"exact": exact.input.astype(np.float32)}
    for name, g in found.items():
        metrics |= {
            f"cosine_{name}_in": _cosine(g.input, exact.input),
            f"cosine_{name}_rec": _cosine(g.recurrent, exact.recurrent),
        }
        arrays[name] = g.input.astype(np.float32)
    progress(4, 4)
    return Result(metrics, arrays, {"golden": golden["pattern"][-1]})


# Reward ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reward:
    """Reward-based e-prop on a delayed choice, in place of the Atari games: one cue, a delay, and a reward for the right side."""

    task: tasks.Evidence = CHOICE
    batch: int = 32
    iterations: int = 400
    rate: float = 5e-3
    discount: float = 1.0  # a step; one reward ends an episode
    value: float = 0.5  # weight of the critic
    entropy: float = 0.0025
    goal: float = 30.0  # of the firing rates, in Hz
    low: float | None = 10.0  # the goal of evidence accumulation, learned with beside it
    window: int = 50  # last iterations that are judged
    start_only: bool = False


def reward(config: Reward, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Actor and critic learn from a reward alone; beside it with rewards shuffled between trials, and with a low goal of the rates."""
    metrics, arrays, early = {}, {}, {}
    parts = {"learned": config.goal, "shuffled": config.goal}
    if config.low is not None:
        parts["low"] = config.low
    for part, (name, goal) in enumerate(parts.items()):
        random, task, neurons = np.random.RandomState(seed + 1), config.task, learner_neurons(50)
        scramble = np.random.default_rng([seed, 1])  # of its own, so that all see the same trials
        weights, _ = _learner(random)
        weights = weights._replace(output=np.c_[0.1 * weights.output, np.zeros(len(weights.output))].astype(np.float32))
        feedback = random.randn(*weights.output.shape).astype(np.float32)
        adam, rewards, rates = optimisers.Adam(config.rate), [], []
        last = task.steps() - 1
        for iteration in range(config.iterations):
            x, label, _ = tasks.evidence(task, config.batch, random)
            activity = networks.run(neurons, weights, x)
            logits = activity.y[last, :, :2].astype(float)
            share = np.exp(logits - logits.max(1, keepdims=True))
            share /= share.sum(1, keepdims=True)
            action = (random.rand(config.batch) > share[:, 0]).astype(int)
            given = (action == label).astype(float)
            rewards.append(float(given.mean()))
            rates.append(HZ * float(activity.z.mean()))
            if name == "shuffled":
                given = scramble.permutation(given)
            error = actor_critic_error(activity.y, share, action, given, config)
            limit = signals.rate_regulariser(activity.z, goal / HZ, 1.0)
            found = networks.gradients(neurons, weights, activity, error, EPROP, feedback, limit.error)
            weights = optimisers.add(weights, adam.changes(found))
            if config.start_only and iteration == 1:
                return Result({}, {}, {"second_reward": rewards[1]})
            if (iteration + 1) % 10 == 0:
                progress(part * config.iterations + iteration + 1, len(parts) * config.iterations, reward=rewards[-1])
        metrics |= {
            name: float(np.mean(rewards[-config.window :])),
            f"rate_{name}": float(np.mean(rates[-config.window :])),
        }
        arrays |= {f"curve_{name}": np.array(rewards), f"rates_{name}": np.array(rates)}
        early.setdefault("second_reward", rewards[1])
    metrics["gain"] = metrics["learned"] - metrics["shuffled"]
    if config.low is not None:
        metrics["lost_with_low_rates"] = metrics["learned"] - metrics["low"]
    return Result(metrics, arrays, early)


def actor_critic_error(
    y: np.ndarray, share: np.ndarray, action: np.ndarray, given: np.ndarray, config: Reward
) -> np.ndarray:
    """Derivative of the actor-critic loss with respect to the readout: two logits and a value.

    One action is taken in the last step, and one reward comes with it. The discounted sum of the prediction errors from a step on is the
    discounted reward less the value there, so that both parts of the rule are errors of the readout.
    """
    steps, batch, _ = y.shape
    due = given[None] * config.discount ** np.arange(steps - 1, -1, -1)[:, None]
    ahead = due - y[:, :, 2]
    error = np.zeros(y.shape)
    error[:, :, 2] = -config.value * ahead / (steps * batch)
    chosen = np.eye(2)[action]
    entropy = -(share * np.log(share + 1e-12)).sum(1, keepdims=True)
    error[-1, :, :2] = (
        ahead[-1][:, None] * (share - chosen) + config.entropy * share * (np.log(share + 1e-12) + entropy)
    ) / batch
    return error


# A second opinion -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SecondOpinion:
    """One trial of a small network, here and in Brian2. The synapse `watched`, from an input to a neuron, is drawn."""

    task: tasks.Evidence = SHORT
    adaptive: int = 10
    n: int = 20
    watched: tuple[int, int] = (1, 15)


def second_opinion(config: SecondOpinion, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Spikes, potentials, an eligibility trace and gradients of e-prop in Brian2, forwards in time, and of the adjoint form."""
    random, n = np.random.RandomState(seed + 1), config.n
    neurons, (i, j) = learner_neurons(config.adaptive, n), config.watched
    inputs = 4 * config.task.group
    weights = Weights(
        random.normal(0.2, 0.1, (inputs, n)), random.normal(0, 0.06, (n, n)), random.normal(0, 0.5, (n, 2))
    )
    feedback = random.normal(0, 1, (n, 2))
    x, label, _ = tasks.evidence(config.task, 1, random)
    theirs = eprop_brian2(neurons, weights, x[:, 0], feedback, int(label[0]), config.task.recall, watched=j)
    progress(1, 2)
    ours = networks.run(neurons, weights, x, watch=True)
    args = neurons, weights, ours, signals.cross_entropy(ours.y, label, config.task.recall).error
    adjoint = networks.gradients(*args, feedback=feedback)
    _, traces = networks.online_gradients(*args, feedback=feedback, watched=np.array([config.watched]))
    off = ~np.eye(n, dtype=bool)  # no neuron has a synapse to itself
    beta = neurons.beta[j]
    arrays = {
        "spikes": ours.z[:, 0],
        "spikes_brian2": theirs.z,
        "potential": ours.v[:, 0, j] - neurons.threshold - beta * ours.a[:, 0, j],
        "potential_brian2": theirs.v[:, j] - neurons.threshold - beta * theirs.a[:, j],
        "trace": traces.e[:, 0],
        "trace_brian2": theirs.e[:, i],
        "input": adjoint.input.ravel(),
        "input_brian2": theirs.input.ravel(),
        "recurrent": adjoint.recurrent[off],
        "recurrent_brian2": theirs.recurrent[off],
    }
    pairs = {
        "potential": (theirs.v, ours.v[:, 0]),
        "trace": (theirs.e[:, i], traces.e[:, 0]),
        "input": (theirs.input, adjoint.input),
        "recurrent": (theirs.recurrent, adjoint.recurrent),
    }
    metrics = {f"{name}_off": float(np.abs(a - b).max() / np.abs(b).max()) for name, (a, b) in pairs.items()}
    metrics["gradient_off"] = float(np.max([metrics.pop("input_off"), metrics.pop("recurrent_off")]))
    metrics["spikes_differ"] = float((theirs.z != ours.z[:, 0]).sum())
    metrics["least_spikes"] = float(ours.z[:, 0].sum(0).min())
    return Result(metrics, arrays)


# Experiments ----------------------------------------------------------------------------------------------------------------

QUICK = {"task": SHORT, "batch": 32, "iterations": 200, "window": (100, 200)}
FIVE, TWENTY = tuple(range(5)), tuple(range(20))


def _first_two(config):
    """The first iterations."""
    return replace(config, start_only=True)


def _learning(
    rule: str, adaptive: int = 50, iterations: int = 1000, quick_seeds: tuple[int, ...] = (0, 1)
) -> Experiment:
    """An experiment on evidence accumulation."""
    if rule not in RULES:
        raise UserError(f"bellec2020: no rule {rule}; there are {', '.join(RULES)}")
    return Experiment(
        evidence,
        Learner(rule, adaptive, **QUICK),
        Learner(rule, adaptive, iterations=iterations),
        quick_seeds,
        TWENTY,
        replay=_first_two,
    )


EXPERIMENTS = {
    "gradient": Experiment(
        gradient, Gradient(trials=4), Gradient(), (0,), TWENTY, replay=lambda c: replace(c, trials=2)
    ),
    "pattern": Experiment(pattern, Pattern(600), Pattern(), (0,), TWENTY, replay=_first_two),
    "evidence_bptt": _learning("bptt", quick_seeds=(0,)),
    "evidence_symmetric": _learning("symmetric"),
    "evidence_random": _learning("random"),
    "evidence_adaptive": _learning("adaptive"),
    "evidence_lif": _learning("bptt", 0, 400, (0,)),
    "evidence_lif_random": _learning("random", 0, 400, (0,)),
    "reward": Experiment(reward, Reward(iterations=150, low=None), Reward(), (0, 1), TWENTY, replay=_first_two),
    "second_opinion": Experiment(second_opinion, SecondOpinion(), SecondOpinion(), (0,), FIVE),
}
