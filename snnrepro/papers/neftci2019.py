"""Neftci, Mostafa & Zenke (2019), Surrogate gradient learning in spiking neural networks, and the SpyTorch tutorials.

Parameters of the tutorials: https://github.com/fzenke/spytorch at d363dbf.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from snnrepro import data, surrogate
from snnrepro.experiment import Experiment, Progress, Result
from snnrepro.files import read_npz, write_npz
from snnrepro.first_spike import nonleaky
from snnrepro.neurons import LIF, Surrogate, beta, gain
from snnrepro.peers.lif import lif_brian2, lif_snntorch
from snnrepro.surrogate import Events, Network

SPYTORCH = LIF(tau_mem=10e-3, tau_syn=5e-3, dt=1e-3, reset="multiply", surrogate=Surrogate("fast_sigmoid", 100.0))
TRUE_DERIVATIVE = Surrogate("step", 0.0)
WEIGHT_SCALE = 7 * float(1 - beta(SPYTORCH))  # tutorials 1 and 2


# Figure 3 -------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Derivatives:
    """Figure 3: slopes of the drawn curves, and what was read off the published picture."""

    surrogates: tuple[Surrogate, ...] = (
        Surrogate("piecewise_linear", 2.0),
        Surrogate("exponential", 5.0),
        Surrogate("fast_sigmoid", 5.0),
    )
    digitised_slopes: tuple[float, ...] = (1.99, 4.95, 5.1)  # fits to the pixels of each curve
    digitised_points: tuple[tuple[int, float, float], ...] = (
        (0, 0.5, 0.0),
        (2, 0.0, 0.028),
        (2, 1.2, 0.25),
    )  # curve, U, value
    abscissae: tuple[float, ...] = (0.0, 0.4, 0.7, 0.9, 1.2)
    points: int = 261


def _passed_gradient(u: np.ndarray, s: Surrogate) -> np.ndarray:
    """What the backward pass of a spike hands on at membrane potentials u."""
    x = torch.tensor(u - SPYTORCH.threshold, requires_grad=True)
    surrogate.spike(x, s).sum().backward()
    return x.grad.numpy()


def derivatives(config: Derivatives, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Surrogate derivatives against the published curves. Nothing here is random."""
    published = (
        lambda x, slope: np.maximum(0, 1 - slope * np.abs(x)),
        lambda x, slope: np.exp(-slope * np.abs(x)),
        lambda x, slope: (1 + slope * np.abs(x)) ** -2.0,
    )
    u = np.linspace(0.0, 1.3, config.points)
    at = np.array(config.abscissae)
    drawn, closed, read = {}, [], []
    for k, s in enumerate(config.surrogates):
        drawn[s.name] = _passed_gradient(u, s)
        closed.append(np.abs(drawn[s.name] - published[k](u - 1, s.slope)).max())
        read.append(np.abs(_passed_gradient(at, s) - published[k](at - 1, config.digitised_slopes[k])).max())
    points = [
        abs(_passed_gradient(np.array([u0]), config.surrogates[k])[0] - value)
        for k, u0, value in config.digitised_points
    ]
    drawn["step"] = _passed_gradient(u, TRUE_DERIVATIVE)
    metrics = {
        "closed_form_error": float(max(closed)),
        "digitised_error": float(max(read + points)),
        "step_derivative": float(np.abs(drawn["step"]).max()),
    }
    return Result(metrics, {"u": u, **drawn})


# Figure 4 -------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Interpolation:
    """Figure 4: loss and gradients on the straight line from initial to trained first-layer weights of a 2-2-2 network."""

    patterns: int = 4
    steps: int = 50
    rate: float = 60.0  # Hz
    inputs: int = 2
    hidden: int = 2
    updates: int = 400
    learning_rate: float = 0.02
    weight_scale: float = 0.3
    slope: float = 10.0
    learned_below: float = 0.35  # training loss that counts as learned (chance is log 2 = 0.693),
    least_drop: float = (
        0.1  # if it is this much lower than with the initial hidden weights: the readout could learn alone
    )
    draws: int = 30
    points: int = 400
    slopes: tuple[float, ...] = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)


def _small_problem(config: Interpolation, generator: torch.Generator) -> tuple[Tensor, Tensor, Network]:
    """Random patterns, balanced random labels and random weights of the 2-2-2 network."""
    shape = (config.steps, config.patterns, config.inputs)
    x = (torch.rand(shape, generator=generator) < config.rate * SPYTORCH.dt).float()
    label = torch.randperm(config.patterns, generator=generator) % 2
    return x, label, surrogate.initial_network((config.inputs, config.hidden, 2), config.weight_scale, generator)


def _along_path(
    x: Tensor, label: Tensor, start: Tensor, end: Tensor, output: Tensor, s: Surrogate, at: np.ndarray
) -> np.ndarray:
    """Loss and directional derivative of the surrogate gradient at positions `at` from start (0) to end (1): `(2, points)`."""
    p = SPYTORCH._replace(surrogate=s)
    columns = []
    for position in at:
        w = (start + float(position) * (end - start)).requires_grad_()
        score, _ = surrogate.classify(x, Network((w,), output), p)
        loss = surrogate.classification_loss(score, label)
        (gradient,) = torch.autograd.grad(loss, w)
        columns.append((loss.item(), float((gradient * (end - start)).sum())))
    return np.array(columns).T


def interpolation(config: Interpolation, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Train a 2-2-2 network (drawing again until one learns), then walk from its initial to its trained hidden weights."""
    generator = torch.Generator().manual_seed(seed)
    p = SPYTORCH._replace(surrogate=Surrogate("fast_sigmoid", config.slope))
    for draw in range(1, config.draws + 1):
        x, label, network = _small_problem(config, generator)
        start = network.hidden[0].detach().clone()
        optimiser = torch.optim.Adam(network.weights().values(), lr=config.learning_rate)
        losses = surrogate.train(network, [(x, label)] * config.updates, p, optimiser)
        progress(draw, config.draws, loss=losses[-1])
        if draw == 1:
            early = {"first_loss": losses[0], "tenth_loss": losses[9]}
        end, output = network.hidden[0].detach(), network.output.detach()
        before, after = _along_path(x, label, start, end, output, p.surrogate, np.array([0.0, 1.0]))[0]
        learned = after < config.learned_below and before - after >= config.least_drop
        if learned:
            break
    at = np.linspace(0.0, 1.0, config.points + 1)
    sweep = np.array(
        [_along_path(x, label, start, end, output, Surrogate("fast_sigmoid", k), at) for k in config.slopes]
    )
    progress(config.draws, config.draws, loss=losses[-1])
    loss, directional = sweep[config.slopes.index(config.slope)]
    true = np.diff(loss) * config.points
    flat = true == 0
    metrics = {
        "learned": float(learned),
        "draws": float(draw),
        "loss_drop": float(loss[0] - loss[-1]),
        "flat_fraction": float(flat.mean()),
        "surrogate_alive_on_flats": float((directional[1:][flat] != 0).mean()),
        "largest_surrogate": float(np.abs(directional).max()),
        "jump_decades": float(np.log10(max(np.abs(true).max() / np.abs(directional).max(), 1e-6))),
    }
    arrays = {"position": at, "loss": loss, "true": true, "slopes": np.array(config.slopes), "surrogate": sweep[:, 1]}
    return Result(metrics, arrays, early)


# Figure 7 -------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Xor:
    """Figure 7: temporal XOR, two inputs early (0) or late (2 synaptic time constants), 4 hidden and 2 output neurons."""

    late: float = 2.0
    hidden: int = 4
    updates: int = 400
    learning_rate: float = 0.05
    weight_mean: float = 0.7
    weight_sd: float = 0.7
    penalty: float = 10.0
    least_weight: float = 1.5
    silent: float = 1e3  # stands for exp(t) of an output that never fires
    trace_until: float = 7.0
    trace_points: int = 281


XOR_TIMES = ((0, 1), (1, 0), (1, 1), (0, 0))  # early/late, late/early, late/late, early/early as in the figure
XOR_LABELS = (1, 1, 0, 0)


def _train_xor(config: Xor, seed: int, penalty: float) -> tuple[list[Tensor], dict[str, float]]:
    """Weights after training, whether they solve the task, updates needed, and the share of neurons that fire."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.exp(config.late * torch.tensor(XOR_TIMES, dtype=torch.float64))
    label = torch.tensor(XOR_LABELS)
    sizes = (2, config.hidden, 2)
    weights = [
        (
            config.weight_mean + config.weight_sd * torch.randn(n, m, generator=generator, dtype=torch.float64)
        ).requires_grad_()
        for n, m in itertools.pairwise(sizes)
    ]
    optimiser = torch.optim.Adam(weights, lr=config.learning_rate)
    solved_at = config.updates
    for update in range(config.updates + 1):
        hidden = nonleaky.spike_times(z, weights[0])
        out = nonleaky.spike_times(hidden, weights[1]).clamp(max=config.silent)
        solved = bool((out.argmin(1) == label).all() and (out.amin(1) < out.amax(1)).all())
        if solved:
            solved_at = min(solved_at, update)
        loss = torch.nn.functional.cross_entropy(-out, label)
        loss = loss + penalty * sum(nonleaky.weight_sum_penalty(w, config.least_weight) for w in weights)
        if update == config.updates:
            break
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    fires = torch.cat([torch.isfinite(hidden).flatten(), (out < config.silent).flatten()]).double().mean()
    return weights, {"solved": float(solved), "updates": float(solved_at), "firing": float(fires), "loss": loss.item()}


def xor(config: Xor, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Temporal XOR with exact spike-time gradients, and the control without the penalty that keeps neurons firing."""
    weights, with_penalty = _train_xor(config, seed, config.penalty)
    progress(1, 2, solved=with_penalty["solved"])
    _, without = _train_xor(config, seed, 0.0)
    progress(2, 2, solved=with_penalty["solved"])
    w1, w2 = (w.detach() for w in weights)
    t = torch.linspace(0.0, config.trace_until, config.trace_points, dtype=torch.float64)
    z = torch.exp(config.late * torch.tensor(XOR_TIMES, dtype=torch.float64))
    hidden = nonleaky.spike_times(z, w1)
    arrays = {
        "t": t.numpy(),
        "hidden": torch.stack([nonleaky.membrane(t, a, w1) for a in z]).numpy(),
        "output": torch.stack([nonleaky.membrane(t, a, w2) for a in hidden]).numpy(),
        "hidden_times": torch.log(hidden).numpy(),
        "output_times": torch.log(nonleaky.spike_times(hidden, w2)).numpy(),
    }
    metrics = {**with_penalty, **{f"{name}_without_penalty": value for name, value in without.items()}}
    metrics["solved_gap"] = with_penalty["solved"] - without["solved"]
    return Result(metrics, arrays)


# Tutorial 1 -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Learning:
    """Tutorial 1: memorise random labels of random spike patterns, with the true derivative and with a surrogate."""

    patterns: int = 256
    inputs: int = 100
    hidden: int = 4
    steps: int = 200
    rate: float = 5.0  # Hz
    updates: int = 1000
    learning_rate: float = 2e-3


def _dense_to_events(x: Tensor) -> Events:
    """`Events` of a dense spike tensor (time, batch, units)."""
    return surrogate.events(*x.nonzero(as_tuple=True), tuple(x.shape))


def learning(config: Learning, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """The same network and patterns trained twice; only the derivative of the spike differs."""
    metrics, arrays, early = {}, {}, {}
    for k, (name, s) in enumerate((("true", TRUE_DERIVATIVE), ("surrogate", SPYTORCH.surrogate))):
        generator = torch.Generator().manual_seed(seed)
        shape = (config.steps, config.patterns, config.inputs)
        x = _dense_to_events((torch.rand(shape, generator=generator) < config.rate * SPYTORCH.dt).float())
        label = torch.randint(2, (config.patterns,), generator=generator)
        network = surrogate.initial_network((config.inputs, config.hidden, 2), WEIGHT_SCALE, generator)
        start = network.hidden[0].detach().clone()
        p = SPYTORCH._replace(surrogate=s)
        optimiser = torch.optim.Adam(network.weights().values(), lr=config.learning_rate)
        losses: list[float] = []
        while len(losses) < config.updates:
            losses += surrogate.train(network, [(x, label)] * min(50, config.updates - len(losses)), p, optimiser)
            progress(k * config.updates + len(losses), 2 * config.updates, loss=losses[-1])
        score, _ = surrogate.classify(x, network, p)
        metrics[f"loss_{name}"] = surrogate.classification_loss(score, label).item()
        metrics[f"accuracy_{name}"] = surrogate.accuracy(score, label)
        metrics[f"hidden_change_{name}"] = float((network.hidden[0] - start).detach().abs().max())
        arrays[f"loss_{name}"] = np.array(losses)
        early[f"loss_{name}_20"] = losses[19]
    metrics["loss_gap"] = metrics["loss_true"] - metrics["loss_surrogate"]
    metrics["base_rate"] = float(max(label.float().mean(), 1 - label.float().mean()))
    return Result(metrics, arrays, early)


# Tutorials 2 and 3 ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Variant:
    """One network of the sparsity experiment."""

    weight_scale: float
    optimiser: str
    l1: float
    l2: float


VARIANTS = {
    "dense": Variant(WEIGHT_SCALE, "Adam", 0.0, 0.0),  # tutorial 2
    "sparse": Variant(0.2, "Adamax", 1e-5, 1e-5),  # tutorial 3
    "free": Variant(0.2, "Adamax", 0.0, 0.0),  # tutorial 3 without its penalty: the control
}


@dataclass(frozen=True)
class Sparsity:
    """Tutorials 2 and 3: images as first-spike latencies, with and without the activity penalty."""

    images: str = "fashion-mnist"
    hidden: int = 100
    steps: int = 100
    batch: int = 256
    epochs: int = 30
    learning_rate: float = 2e-4
    updates: int | None = None  # stop after so many updates, for a replay


def _batches(x: np.ndarray, y: np.ndarray, order: np.ndarray, config: Sparsity) -> Iterator[tuple[Events, Tensor]]:
    """Minibatches of images x (samples, pixels) in [0, 1], as events of the latency code."""
    for first in range(0, len(order), config.batch):
        rows = order[first : first + config.batch]
        late = torch.from_numpy(data.latency(x[rows], config.steps))
        sample, unit = (late >= 0).nonzero(as_tuple=True)
        shape = (config.steps, len(rows), x.shape[1])
        yield surrogate.events(late[sample, unit], sample, unit, shape), torch.from_numpy(y[rows])


Images = tuple[np.ndarray, np.ndarray]  # pixels (samples, pixels) and labels


def _train_variant(
    variant: Variant, config: Sparsity, images: Images, seed: int, told: Callable[..., None], checkpoint: Path | None
) -> tuple[Network, np.ndarray, float]:
    """A trained network, the mean loss of each epoch, and the loss of the fifth update; goes on from `checkpoint` where that exists."""
    x, y = images
    network = surrogate.initial_network(
        (x.shape[1], config.hidden, 10), variant.weight_scale, torch.Generator().manual_seed(seed)
    )
    optimiser = getattr(torch.optim, variant.optimiser)(network.weights().values(), lr=config.learning_rate)
    curve: list[float] = []
    early = np.nan
    if checkpoint is not None and checkpoint.exists():
        saved = read_npz(checkpoint)
        surrogate.unpack(saved, network, optimiser)
        curve, early = list(saved["curve"]), float(saved["early"])
    penalty = (
        (lambda spikes: surrogate.spytorch_penalty(spikes, variant.l1, variant.l2))
        if variant.l1 or variant.l2
        else None
    )
    used = len(x) // config.batch * config.batch  # SpyTorch drops the last partial batch
    if config.updates is not None:
        used = min(used, config.updates * config.batch)
    for epoch in range(len(curve), 1 if config.updates is not None else config.epochs):
        order = np.random.default_rng([seed, epoch]).permutation(len(x))[:used]
        losses = surrogate.train(network, _batches(x, y, order, config), SPYTORCH, optimiser, penalty)
        early = losses[4] if epoch == 0 else early
        curve.append(float(np.mean(losses)))
        told(epoch + 1, loss=curve[-1])
        if checkpoint is not None:
            write_npz(
                checkpoint, {**surrogate.pack(network, optimiser), "curve": np.array(curve), "early": np.array(early)}
            )
    return network, np.array(curve), early


def sparsity(config: Sparsity, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Three networks on the same images and an ordinary network beside them."""
    split = {"fashion-mnist": data.fashion_mnist, "mnist-5k": data.mnist_5k}[config.images]()
    train_images, test_images = (split.x_train, split.y_train), (split.x_test, split.y_test)
    metrics, arrays, early = {}, {}, {}
    for k, (name, variant) in enumerate(VARIANTS.items()):

        def told(epoch: int, k: int = k, **now: float) -> None:
            progress(k * config.epochs + epoch, len(VARIANTS) * config.epochs, **now)

        part = None if checkpoint is None else checkpoint.with_name(f"{checkpoint.stem}-{name}.npz")
        network, arrays[f"loss_{name}"], early[f"loss_{name}_5"] = _train_variant(
            variant, config, train_images, seed, told, part
        )
        metrics[f"loss_{name}"] = float(arrays[f"loss_{name}"][-1])
        if config.updates is None:
            batches = _batches(*test_images, np.arange(len(split.y_test)), config)
            metrics[f"accuracy_{name}"], metrics[f"spikes_{name}"] = surrogate.evaluate(network, batches, SPYTORCH)
    if config.updates is None:
        metrics["cost"] = metrics["accuracy_dense"] - metrics["accuracy_sparse"]
        metrics["cost_of_penalty"] = metrics["accuracy_free"] - metrics["accuracy_sparse"]
        metrics["spike_ratio"] = metrics["spikes_sparse"] / metrics["spikes_free"]
        metrics["accuracy_ann"] = float(data.ann_control(split, hidden=(config.hidden,), seeds=(seed,))[0])
        metrics["gap_to_ann"] = metrics["accuracy_ann"] - metrics["accuracy_dense"]
    return Result(metrics, arrays, early, split.tag)


# A second opinion -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SecondOpinion:
    """One layer of LIF neurons under Poisson input: ours and snnTorch's as in the tutorials, ours and Brian2's integrated exactly."""

    inputs: int = 40
    neurons: int = 10
    steps: int = 1000
    rate: float = 40.0  # Hz
    weight_mean: float = 0.02
    weight_sd: float = 0.02
    substeps: int = 20  # of Brian2, for the nearly continuous run


EXACT = SPYTORCH._replace(reset="zero", gain="exact")


def second_opinion(config: SecondOpinion, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Spikes and gradients against snnTorch; spike times against Brian2, on our grid and on a finer one."""
    rng = np.random.default_rng(seed)
    pattern = data.poisson(config.rate, config.steps, SPYTORCH.dt, (1, config.inputs), rng)
    x = torch.from_numpy(pattern).double()
    w = torch.from_numpy(rng.normal(config.weight_mean, config.weight_sd, (config.inputs, config.neurons)))
    # snnTorch hands on spikes, and so the gradient that reaches them, as float32: a target that float32 holds exactly loses nothing
    target = torch.from_numpy(rng.normal(size=(config.steps, 1, config.neurons)).astype(np.float32)).double()
    ours, theirs = (v.clone().requires_grad_() for v in (w, w))
    spikes = surrogate.lif(x, ours, SPYTORCH).spikes
    peer = lif_snntorch(x, theirs, SPYTORCH)
    (spikes * target).sum().backward()
    (peer * target).sum().backward()
    progress(1, 2)

    scaled = w / float(gain(EXACT))  # the tutorials have a gain of 1
    trace = surrogate.lif(x, scaled, EXACT)
    mine = trace.spikes[:, 0].numpy()
    grid = _to_steps(*lif_brian2(pattern[:, 0], scaled.numpy(), EXACT), EXACT, mine.shape)
    fine_times, fine_neurons = lif_brian2(pattern[:, 0], scaled.numpy(), EXACT, config.substeps)
    fine = _to_steps(fine_times, fine_neurons, EXACT, mine.shape)
    progress(2, 2)
    arrays = {
        "tutorial": spikes[:, 0].detach().numpy(),
        "snntorch": peer[:, 0].detach().numpy(),
        "exact": mine,
        "brian2": grid,
        "u": np.where(mine > 0, 0.0, trace.u[:, 0].numpy()),
        "brian2_fine_times": fine_times,
        "brian2_fine_neurons": fine_neurons.astype(float),
    }
    metrics = {
        "snntorch_spike_differences": float(np.abs(arrays["tutorial"] - arrays["snntorch"]).sum()),
        "snntorch_gradient_error": float((ours.grad - theirs.grad).abs().max() / theirs.grad.abs().max()),
        "brian2_spike_differences": float(np.abs(mine - grid).sum()),
        "brian2_first_within_a_step": float((np.abs(mine.argmax(0) - fine.argmax(0)) <= 1).mean()),
        "brian2_count_error": float(np.abs(mine.sum(0) - fine.sum(0)).sum() / fine.sum()),
        "fewest_spikes": float(min(a.sum(0).min() for a in (arrays["snntorch"], grid, fine))),
    }
    return Result(metrics, arrays)


def _to_steps(times: np.ndarray, neurons: np.ndarray, p: LIF, shape: tuple[int, int]) -> np.ndarray:
    """Brian2's spike times as our spikes `(time, neurons)`: it tests the threshold at the end of a step, we at the next start."""
    spikes = np.zeros(shape)
    steps = np.floor(times / p.dt + 1e-6).astype(int) + 1
    inside = steps < shape[0]
    spikes[steps[inside], neurons[inside]] = 1
    return spikes


EXPERIMENTS = {
    "derivatives": Experiment(derivatives, Derivatives(), Derivatives(), (0,), tuple(range(5))),  # nothing random
    "interpolation": Experiment(
        interpolation,
        Interpolation(),
        Interpolation(),
        tuple(range(4)),
        tuple(range(20)),
        replay=lambda c: replace(c, draws=1, updates=10, points=40),
    ),
    "xor": Experiment(xor, Xor(), Xor(), tuple(range(10)), tuple(range(20))),
    "learning": Experiment(
        learning,
        Learning(updates=500),
        Learning(),
        tuple(range(4)),
        tuple(range(20)),
        replay=lambda c: replace(c, updates=20),
    ),
    "sparsity": Experiment(
        sparsity,
        Sparsity(images="mnist-5k", epochs=5, learning_rate=2e-3),
        Sparsity(),
        (0, 1),
        tuple(range(5)),
        replay=lambda c: replace(c, updates=5),
    ),
    "second_opinion": Experiment(second_opinion, SecondOpinion(), SecondOpinion(), (0, 1), tuple(range(5))),
}
