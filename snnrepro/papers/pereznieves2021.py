"""Perez-Nieves, Leung, Dragotti & Goodman (2021), Neural heterogeneity promotes robust learning.

Settings: the authors' code, as far as they are meant for data that are not their own. Times are in seconds.
"""

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import skew

from snnrepro import surrogate
from snnrepro.data.recordings import Recordings, counts, on_grid, subset
from snnrepro.data.speech import SHD_DURATION, SPEAKERS, heidelberg_digits, spoken_digits
from snnrepro.data.timing import Rates, Timing, rates, timing
from snnrepro.errors import UserError
from snnrepro.experiment import Experiment, Progress, Result
from snnrepro.files import read_npz, write_npz
from snnrepro.heterogeneity import networks, reference
from snnrepro.heterogeneity.networks import LIMITS
from snnrepro.neurons import LIF
from snnrepro.peers.heterogeneity import hidden_snntorch

# One network ----------------------------------------------------------------------------------------------------------------


class Setting(NamedTuple):
    """What one network is trained with. Each control of the chapter differs from its run in one field."""

    initial: str = "homogeneous"
    training: str = "none"
    mixed: float = 0.0  # standard deviation of the logarithm (base 2) of the time scale of training samples, cut at 1
    shuffled: bool = False  # the spike times of each sample change hands among its spikes


SETTINGS = {
    "hom_std": Setting(),
    "hom_het": Setting(training="each"),
    "het_std": Setting("heterogeneous"),
    "het_het": Setting("heterogeneous", "each"),
}
"""Initial time constants and whether they learn, the four columns of table 1."""

SHARED = {"shared": SETTINGS["hom_het"]._replace(training="shared")}
MIXED = {f"{name}_mixed": SETTINGS[name]._replace(mixed=0.5) for name in ("hom_std", "het_het")}
CONTROLS = {"shuffled": SETTINGS["het_het"]._replace(shuffled=True)}
WARPS = (0.5, 0.7, 1.0, 1.4, 2.0)
"""Factors by which test samples are stretched."""


class Speech(NamedTuple):
    """Spoken digits (Free Spoken Digit Dataset) through the cochlea."""

    official: bool = False  # the split that shares speakers between training and test; else one speaker is held out
    duration: float = 0.7
    limit: int | None = None  # recordings of each speaker and digit; None: all 50


@dataclass(frozen=True)
class Comparison:
    """Networks that are trained on the same samples from the same weights, by name."""

    task: Timing | Rates | Speech
    settings: tuple[tuple[str, Setting], ...]
    hidden: int = 128
    dt: float = 2e-3
    tau_mem: float = 20e-3
    tau_syn: float = 10e-3
    train: int = 4000  # samples, where they are generated
    test: int = 1000
    batch: int = 64
    epochs: int = 30
    rate: float = 3e-3
    rate_tau: float = 1e-2
    slope: float = 20.0
    scale: float = 10.0  # of the scores
    weights: float = 2.0  # scale of the initial input weights
    form: str = "log"
    limits: tuple[float, float] = LIMITS
    warps: tuple[float, ...] = (1.0,)
    plain: bool = False  # whether classifiers without dynamics are trained too


class Outcome(NamedTuple):
    """What became of one network.

    Attributes:
        accuracy: on test samples, one for each factor that they are stretched by.
        spikes: hidden spikes a test sample, unstretched.
        curve: mean training loss of each epoch.
        start: time constants of membrane and synapse before training `(2, n)`, in seconds.
        end: after it.
    """

    accuracy: np.ndarray
    spikes: float
    curve: np.ndarray
    start: np.ndarray
    end: np.ndarray


def _samples(config: Comparison, seed: int) -> tuple[Recordings, Recordings]:
    """Training and test samples."""
    make = timing if isinstance(config.task, Timing) else rates
    both = make(config.task, config.train + config.test, np.random.default_rng([seed, 0]))
    return subset(both, slice(config.train)), subset(both, slice(config.train, None))


def shuffled(r: Recordings, rng: np.random.Generator) -> Recordings:
    """The same samples with their spike times permuted among their spikes: counts and the times of the population stay."""
    time = r.time.copy()
    for first, end in zip(r.starts[:-1], r.starts[1:], strict=True):
        time[first:end] = rng.permutation(time[first:end])
    return r._replace(time=time)


def _batches(r: Recordings, order: np.ndarray, config: Comparison, factor: np.ndarray):
    """Minibatches in an order; the last one may be smaller. `factor` stretches each sample of the set."""
    for first in range(0, len(order), config.batch):
        rows = order[first : first + config.batch]
        *lists, steps = on_grid(r, rows, config.dt, factor[rows])
        shape = (steps, len(rows), r.units)
        yield surrogate.events(*(torch.from_numpy(x) for x in lists), shape), torch.from_numpy(r.label[rows])


def _taus(c: networks.Constants, n: int) -> np.ndarray:
    return np.stack([np.broadcast_to(tau.detach().numpy(), n) for tau in c.taus()])


def _train(setting: Setting, config: Comparison, train: Recordings, test: Recordings, seed: int, told) -> Outcome:
    """Train one network. Samples, initial weights and order of the samples depend on the seed alone."""
    if setting.shuffled:
        rng = np.random.default_rng([seed, 3])
        train, test = shuffled(train, rng), shuffled(test, rng)
    classes, n, rng = int(max(train.label.max(), test.label.max())) + 1, config.hidden, np.random.default_rng([seed, 1])
    mem, syn, last_mem, last_syn = (
        networks.draw(mean, size, setting.initial, rng)
        for size in (n, classes)
        for mean in (config.tau_mem, config.tau_syn)
    )
    c = networks.constants(mem, syn, config.dt, setting.training, config.form, config.limits)
    last = LIF(last_mem, last_syn, config.dt, reset="none", gain="leak")
    network = surrogate.uniform_network((train.units, n, classes), True, torch.Generator().manual_seed(seed))
    network.hidden[0].data.mul_(config.weights)
    groups = [{"params": list(network.weights().values())}]
    if setting.training != "none":
        groups.append({"params": [c.mem, c.syn], "lr": config.rate_tau})
    optimiser = torch.optim.Adam(groups, lr=config.rate)
    how = {"slope": config.slope, "scale": config.scale}
    start, curve = _taus(c, n), []
    for epoch in range(config.epochs):
        rng = np.random.default_rng([seed, 2, epoch])
        order = rng.permutation(len(train.label))
        factor = 2 ** np.clip(setting.mixed * rng.standard_normal(len(order)), -1, 1)
        batches = _batches(train, order, config, factor)
        curve.append(float(np.mean(networks.fit(network, batches, c, last, optimiser, config.limits, **how))))
        told(epoch + 1, loss=curve[-1])
    rows = np.arange(len(test.label))
    found = [
        networks.judge(network, _batches(test, rows, config, np.full(len(rows), factor)), c, last, **how)
        for factor in config.warps
    ]
    spikes = found[config.warps.index(1.0)][1]
    return Outcome(np.array([right for right, _ in found]), spikes, np.array(curve), start, _taus(c, n))


# Comparisons ----------------------------------------------------------------------------------------------------------------


def _outcomes(
    config: Comparison, train: Recordings, test: Recordings, seed: int, progress: Progress, checkpoint: Path | None
) -> dict[str, Outcome]:
    """Train all networks of a comparison; those already in the checkpoint are taken from there."""
    done = read_npz(checkpoint) if checkpoint is not None and checkpoint.exists() else {}
    found, total = {}, len(config.settings) * config.epochs
    for k, (name, setting) in enumerate(config.settings):
        if f"{name}.curve" not in done:

            def told(epoch: int, k: int = k, **now: float) -> None:
                progress(k * config.epochs + epoch, total, **now)

            outcome = _train(setting, config, train, test, seed, told)
            done |= {f"{name}.{field}": np.asarray(value) for field, value in outcome._asdict().items()}
            if checkpoint is not None:
                write_npz(checkpoint, done)
        found[name] = Outcome(*(done[f"{name}.{field}"] for field in Outcome._fields))
    return found


def plain_accuracies(train: Recordings, test: Recordings, seed: int, bins: int = 18) -> dict[str, float]:
    """Test accuracy of classifiers without dynamics: logistic regression on spike counts, on counts in time bins, and an
    ordinary network (100 units) on the latter.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier
    from threadpoolctl import threadpool_limits

    found = {}
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for name, parts, model in (
            ("counts", 1, LogisticRegression(max_iter=300)),
            ("bins", bins, LogisticRegression(max_iter=300)),
            ("ann", bins, MLPClassifier((100,), max_iter=40, random_state=seed)),
        ):
            x, y = counts(train, parts), counts(test, parts)
            mean, sd = x.mean(0), x.std(0) + 1e-9
            found[f"accuracy_{name}"] = float(
                model.fit((x - mean) / sd, train.label).score((y - mean) / sd, test.label)
            )
    return found


def compare(config: Comparison, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Train the networks of a comparison and test them, on one time scale or several."""
    return _compared(config, *_samples(config, seed), seed, progress, checkpoint)


def digits(config: Comparison, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """The same for spoken digits; the speaker who is held out goes with the seed.

    Raises:
        UserError: the recordings are not here.
    """
    task = config.task
    train, test = spoken_digits(None if task.official else seed % len(SPEAKERS), task.duration, task.limit)
    return _compared(config, train, test, seed, progress, checkpoint)


@dataclass(frozen=True)
class Heidelberg(Comparison):
    """The Spiking Heidelberg Digits, in the split of their authors."""

    limit: int | None = None  # samples of each part, the first ones; None: all


def heidelberg(config: Heidelberg, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """The same for the Heidelberg digits.

    Raises:
        UserError: the files are not here.
    """
    train, test = (subset(heidelberg_digits(part), slice(config.limit)) for part in ("train", "test"))
    return _compared(config, train, test, seed, progress, checkpoint)


def _compared(
    config: Comparison, train: Recordings, test: Recordings, seed: int, progress: Progress, checkpoint: Path | None
) -> Result:
    outcomes = _outcomes(config, train, test, seed, progress, checkpoint)
    own = config.warps.index(1.0)
    metrics, arrays = {}, {}
    for name, found in outcomes.items():
        others = np.delete(found.accuracy, own)
        tau = found.end[0]
        metrics |= {
            f"accuracy_{name}": float(found.accuracy[own]),
            f"spikes_{name}": float(found.spikes),
            f"skew_{name}": float(skew(tau)) if np.ptp(tau) > 1e-6 else 0.0,
            f"spread_{name}": float(tau.std() / tau.mean()),
            f"edge_{name}": float(np.mean(tau >= 0.999 * config.limits[1])),
        }
        if len(others):
            metrics[f"warped_{name}"] = float(others.mean())
        arrays |= {
            f"{field}_{name}": np.asarray(getattr(found, field)) for field in ("accuracy", "curve", "start", "end")
        }
    for name in outcomes:
        base = "hom_std_mixed" if name.endswith("_mixed") else "hom_std"
        if base in outcomes and name != base:
            for measure in ("accuracy", "warped"):
                if f"{measure}_{name}" in metrics:
                    metrics[f"{measure}_gain_{name}"] = metrics[f"{measure}_{name}"] - metrics[f"{measure}_{base}"]
    if "shared" in outcomes:
        metrics["each_over_shared"] = metrics["accuracy_hom_het"] - metrics["accuracy_shared"]
        metrics["drawn_over_shared"] = metrics["accuracy_het_het"] - metrics["accuracy_shared"]
    if "het_het_mixed" in outcomes:
        metrics["mixing"] = metrics["warped_het_het_mixed"] - metrics["warped_het_het"]
    four = [metrics[f"accuracy_{name}"] for name in SETTINGS if name in outcomes]
    if len(four) == len(SETTINGS):
        metrics["range"] = max(four) - min(four)
    if config.plain:
        metrics |= plain_accuracies(train, test, seed)
    early = {"first_loss": float(next(iter(outcomes.values())).curve[0])}
    return Result(metrics, arrays, early, train.tag)


# Gradients ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gradients:
    """A small network in double precision, in three implementations."""

    inputs: int = 12
    hidden: int = 20
    steps: int = 150
    batch: int = 3
    dt: float = 5e-3
    slope: float = 20.0


def _apart(a: torch.Tensor, b: torch.Tensor) -> float:
    """Largest difference of two gradients, relative to the largest entry."""
    if not (torch.isfinite(a).all() and torch.isfinite(b).all()):
        raise UserError("pereznieves2021: a gradient is not finite; mend the layer")
    return float((a - b).abs().max() / b.abs().max())


def gradients(config: Gradients, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Spikes and gradients of the compiled layer against the reference, snnTorch and finite differences."""
    rng, n, double = np.random.default_rng([seed, 4]), config.hidden, torch.float64
    x = torch.from_numpy((rng.random((config.steps, config.batch, config.inputs)) < 0.15).astype(float))
    w = torch.from_numpy(rng.normal(0, 1.5, (config.inputs, n))).requires_grad_()
    v = torch.from_numpy(rng.normal(0, 0.6, (n, n))).requires_grad_()
    error = torch.from_numpy(rng.standard_normal((config.steps, config.batch, n)))
    mem, syn = (networks.draw(tau, n, "heterogeneous", rng) for tau in (20e-3, 10e-3))
    metrics = dict.fromkeys(("weights_off", "constants_off", "spikes_differ", "snntorch_differ", "snntorch_off"), 0.0)
    for form in networks.FORMS:
        c = networks.constants(mem, syn, config.dt, form=form, dtype=double)
        b, a = c.decays()
        leaves = [w, v, c.mem, c.syn]
        fast = networks.hidden(x, w, v, c, slope=config.slope, states=True)
        slow, potential, _ = reference.hidden(x, w, v, a, b, slope=config.slope)
        found, expected = (
            torch.autograd.grad((s * error).sum(), leaves, retain_graph=True) for s in (fast.spikes, slow)
        )
        off = [_apart(f, e) for f, e in zip(found, expected, strict=True)]
        metrics["weights_off"] = max(metrics["weights_off"], *off[:2])
        metrics["constants_off"] = max(metrics["constants_off"], *off[2:])
        metrics["spikes_differ"] += float((fast.spikes != slow).sum())
    progress(1, 3)
    spikes, alpha, beta = hidden_snntorch(x, w, v, a, b, config.slope)
    metrics["snntorch_differ"] = float((spikes != slow).sum())
    theirs = torch.autograd.grad((spikes * error).sum(), [w, v, beta, alpha])
    metrics["snntorch_off"] = max(_apart(f, e) for f, e in zip(theirs, expected, strict=True))
    metrics["spikes"] = float(slow.detach().sum()) / (config.batch * n)
    progress(2, 3)
    metrics["finite_off"] = _finite_off(x, w.detach(), error, mem, syn, config.dt)
    arrays = {"ours": fast.u[:, 0, :3].detach().numpy(), "theirs": potential[:, 0, :3].detach().numpy()}
    arrays |= {
        "raster": fast.spikes[:, 0].detach().numpy().astype(np.uint8),
        "peer": spikes[:, 0].detach().numpy().astype(np.uint8),
    }
    progress(3, 3)
    return Result(metrics, arrays, {"spikes": metrics["spikes"]})


def _finite_off(x, w, error, mem, syn, dt: float, step: float = 1e-6) -> float:
    """Gradient of the logarithms of time constants of neurons too high to spike, against central differences."""

    def loss(c: networks.Constants) -> torch.Tensor:
        u = surrogate.lif(x, w, networks.neurons(c, threshold=1e9)).u
        return (u * u * error).sum()

    c = networks.constants(mem, syn, dt, dtype=torch.float64)
    exact = torch.autograd.grad(loss(c), [c.mem, c.syn])
    for gradient in exact:
        if not torch.isfinite(gradient).all():
            raise UserError("pereznieves2021: the gradient of a time constant is not finite; mend the layer")
    worst = 0.0
    for value, gradient in zip((c.mem, c.syn), exact, strict=True):
        for k in range(0, len(value), 4):
            with torch.no_grad():
                value[k] += step
                up = loss(c)
                value[k] -= 2 * step
                down = loss(c)
                value[k] += step
            worst = max(worst, float(abs((up - down) / (2 * step) - gradient[k]) / gradient.abs().max()))
    return worst


# Experiments ----------------------------------------------------------------------------------------------------------------

TEN = tuple(range(10))
SIX = tuple(range(len(SPEAKERS)))
QUICK = {"hidden": 48, "dt": 5e-3, "train": 1500, "test": 500, "epochs": 15}


def _first_epoch(config: Comparison) -> Comparison:
    """The first network for one epoch, without other classifiers."""
    return replace(config, epochs=1, settings=config.settings[:1], plain=False)


def _comparison(task: Timing | Rates, settings: dict[str, Setting], quick: dict, seeds=(0, 1), **both) -> Experiment:
    """An experiment that trains the given networks, small in the quick profile."""
    paper = Comparison(task, tuple(settings.items()), **both)
    return Experiment(compare, replace(paper, **QUICK | quick), paper, seeds, TEN, replay=_first_epoch)


def _spoken(official: bool) -> Experiment:
    """Spoken digits; the quick profile takes a fifth of the recordings."""
    paper = Comparison(Speech(official), tuple(SETTINGS.items()), dt=4e-3, plain=True)
    quick = replace(paper, task=Speech(official, limit=10), hidden=48, dt=5e-3)
    return Experiment(digits, quick, paper, (0,), SIX, replay=_first_epoch)


SHD = Heidelberg(Speech(True, SHD_DURATION), tuple(SETTINGS.items()), dt=4e-3, epochs=50, plain=True)

EXPERIMENTS = {
    "gradients": Experiment(gradients, Gradients(), Gradients(hidden=60, steps=400), (0,), TEN),
    "timing": _comparison(Timing(), SETTINGS | SHARED, {}, warps=WARPS, plain=True),
    "scales": _comparison(Timing(), {"het_het": SETTINGS["het_het"]} | MIXED, {}, (0,), warps=WARPS),
    "rates": _comparison(Rates(), SETTINGS, {"epochs": 8}, (0,)),
    "controls": _comparison(Timing(), CONTROLS, {}, (0, 1, 2)),
    "speech": _spoken(official=False),
    "speech_official": _spoken(official=True),
    "heidelberg": Experiment(
        heidelberg,
        replace(SHD, limit=600, hidden=48, dt=5e-3, epochs=10),
        SHD,
        (0,),
        tuple(range(5)),
        replay=_first_epoch,
    ),
}
