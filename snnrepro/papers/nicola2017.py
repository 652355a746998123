"""Nicola & Clopath (2017), Supervised learning in spiking neural networks with FORCE training.

Settings: the authors' code, ModelDB 190565. Times are in seconds; G, Q and P(0) are in the units of the neuron model, which for
Izhikevich neurons are ms, mV and pA.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.ndimage import uniform_filter1d
from scipy.stats import spearmanr

from snnrepro.errors import UserError
from snnrepro.experiment import Experiment, Progress, Result
from snnrepro.files import read_npz, write_npz
from snnrepro.force import networks, reference, rls, scores, teachers
from snnrepro.force.networks import Izhikevich, Learning, Lif, Model, Network, State, Theta
from snnrepro.peers.force import run_brian2

SHARE = 0.1
"""Of the static weights that are not 0."""
SAMPLE = 1e-3
"""Seconds between two samples of the output that are kept and scored."""
WINDOW = 1000
"""Samples of a scored window."""
SHOWN = 40
"""Neurons of a raster."""
TRACES = 5
"""Neurons whose potential is shown."""
SAVE_EVERY = 300.0
"""Seconds of work between two checkpoints."""


class Kind(NamedTuple):
    """A neuron model with the time step and the time constants that the authors' code uses.

    Attributes:
        model: neurons.
        unit: seconds in the model's unit of time.
        dt: time step in seconds.
        every: steps between two updates of the decoder.
        balanced: whether the static weights onto a neuron sum to 0.
        v: range of the initial potentials.
    """

    model: Model
    unit: float
    dt: float
    every: int
    balanced: bool
    v: tuple[float, float]


KINDS = {
    "lif": Kind(Lif(), 1.0, 5e-5, 50, True, (-65.0, 30.0)),
    "theta": Kind(Theta(), 1.0, 1e-5, 50, True, (-math.pi, math.pi)),
    "izhikevich": Kind(Izhikevich(), 1e-3, 4e-5, 20, False, (-60.0, 30.0)),
    "izhikevich, slow": Kind(Izhikevich(), 1e-3, 4e-5, 100, False, (-60.0, 30.0)),
    "izhikevich, adapting": Kind(Izhikevich(threshold=-40.0, a=0.002, d=100.0), 1e-3, 4e-5, 100, False, (-60.0, 30.0)),
}
"""`slow` learns less often; `adapting` has the neurons of the song and the film."""


@dataclass(frozen=True)
class Setting:
    """A network and its training: it runs freely, learns from `begin` to `end`, and runs freely until `until`."""

    kind: str
    n: int
    gain: float  # G
    feedback: float  # Q
    initial: float  # P(0)
    begin: float = 5.0
    end: float = 10.0
    until: float = 15.0
    fall: float = 20e-3  # tau_d
    rise: float = 2e-3  # tau_r
    dt: float | None = None  # None: that of the kind
    every: int | None = None

    def step(self) -> float:
        """Time step in seconds."""
        return self.dt or KINDS[self.kind].dt

    def learning(self) -> Learning:
        """When the decoder learns, in steps."""
        dt = self.step()
        return Learning(
            round(self.begin / dt), round(self.end / dt), self.every or KINDS[self.kind].every, self.initial
        )


def build(setting: Setting, channels: int, seed: int, inputs: tuple[int, float] = (0, 0.0)) -> tuple[Network, State]:
    """A network before its first step.

    Args:
        setting: what it is.
        channels: outputs.
        seed: of weights and potentials.
        inputs: channels of the outer signal, and the scale of its weights.
    """
    kind, random = KINDS[setting.kind], np.random.default_rng([seed, 0])
    static = networks.static_weights(setting.n, setting.gain, SHARE, kind.balanced, random)
    feedback = setting.feedback * random.uniform(-1, 1, (channels, setting.n))
    v = random.uniform(*kind.v, setting.n)
    outer = inputs[1] * random.uniform(-1, 1, (inputs[0], setting.n)) if inputs[0] else None
    scale = kind.unit
    network = Network(
        kind.model, setting.step() / scale, setting.rise / scale, setting.fall / scale, static, feedback, outer
    )
    return network, networks.start(network, v, setting.initial)


class Run(NamedTuple):
    """What a trial gave.

    Attributes:
        outputs: decoded output `(samples, k)`, every `SAMPLE` seconds.
        spikes: of all neurons, in each sample `(samples,)`.
        raster: time in seconds and neuron of the spikes of the first neurons at the end `(spikes, 2)`.
        potentials: of a few neurons at the end `(samples, TRACES)`.
    """

    outputs: np.ndarray
    spikes: np.ndarray
    raster: np.ndarray
    potentials: np.ndarray

    def rate(self, n: int, begin: float, end: float) -> float:
        """Mean rate of a neuron between two times, in Hz."""
        a, b = round(begin / SAMPLE), round(end / SAMPLE)
        return float(self.spikes[a:b].sum() / (n * (b - a) * SAMPLE))


Signal = Callable[[int, int], np.ndarray]
"""`signal(first, count)`: values in these steps `(count, channels)`."""


def repeated(cycle: np.ndarray) -> Signal:
    """A signal that repeats a cycle `(steps, channels)`."""
    return lambda first, count: cycle[np.arange(first, first + count) % len(cycle)]


def trial(
    setting: Setting,
    network: Network,
    state: State,
    teacher: Signal,
    told: Callable[[float], None],
    until: float | None = None,
    drive: Signal | None = None,
    watched: float = 0.0,
    learn: bool = True,
    checkpoint: Path | None = None,
) -> Run:
    """Let a network run from where it is until a time, and learn while its setting says so.

    Args:
        setting: times and learning.
        network: the network.
        state: where it is; changed in place, and replaced by that of the checkpoint where there is one.
        teacher: what the output should be.
        told: hears of the time that has been reached.
        until: the time; None: that of the setting.
        drive: the outer signal; None: there is none.
        watched: seconds at the end in which spikes and potentials are kept.
        learn: False: the decoder never learns.
        checkpoint: a file to go on from after a kill.
    """
    dt = setting.step()
    sample = round(SAMPLE / dt)
    last = round((setting.until if until is None else until) / SAMPLE)
    first_watched = last - round(watched / SAMPLE)
    learning = setting.learning() if learn else None
    outputs, spikes, raster, potentials = [], [], [], []
    if checkpoint is not None and checkpoint.exists():
        arrays = read_npz(checkpoint)
        again = networks.unpack({name[6:]: a for name, a in arrays.items() if name.startswith("state_")})
        for mine, saved in zip(networks.pack(state).values(), networks.pack(again).values(), strict=True):
            mine[...] = saved
        outputs, spikes = list(arrays["outputs"]), list(arrays["spikes"])
    saved_at = time.monotonic()
    while (now := int(state.step[0])) < last * sample:
        count = sample * min(1 if now // sample >= first_watched else 100, last - now // sample)
        if now // sample < first_watched:
            count = min(count, first_watched * sample - now)
        listed = setting.n * 10 if now // sample >= first_watched else 0
        given = teacher(now, count) if learning is not None else None
        found = networks.run(
            network, state, count, given, learning, listed, None if drive is None else drive(now, count)
        )
        outputs += list(found.outputs[sample - 1 :: sample])
        samples = count // sample
        spikes += [found.spikes / samples] * samples
        if listed:
            seen = found.spike_units < SHOWN
            raster += zip((found.spike_steps[seen] + 1) * dt, found.spike_units[seen], strict=True)
            potentials.append(state.v[:TRACES].copy())
        told((now + count) * dt)
        if checkpoint is not None and time.monotonic() > saved_at + SAVE_EVERY and not listed:
            write_npz(
                checkpoint,
                {f"state_{name}": a for name, a in networks.pack(state).items()}
                | {"outputs": np.array(outputs), "spikes": np.array(spikes)},
            )
            saved_at = time.monotonic()
    k = len(network.feedback)
    return Run(
        np.array(outputs).reshape(-1, k), np.array(spikes), np.array(raster).reshape(-1, 2),
        np.array(potentials).reshape(-1, min(TRACES, setting.n)),
    )  # fmt: skip


def _first_rate(setting: Setting, seed: int) -> dict[str, float]:
    """Rate in the first 50 ms, in Hz, with one output that has not learned: what a replay looks at."""
    network, state = build(setting, 1, seed)
    count = round(50e-3 / setting.step())
    return {"rate_first": networks.run(network, state, count, None, None).spikes / (setting.n * 50e-3)}


def sampled(cycle: np.ndarray, dt: float) -> np.ndarray:
    """A cycle as the scores see it, every `SAMPLE` seconds."""
    sample = round(SAMPLE / dt)
    return cycle[sample - 1 :: sample]


def judged(outputs: np.ndarray, cycle: np.ndarray, window: int = WINDOW) -> dict[str, float]:
    """Mean error, relative to the teacher's size, and mean correlation over windows, each at its best shift; and the worst window."""
    found = scores.aligned(outputs, cycle, window)
    size = float(np.sqrt(np.mean(cycle**2)))
    return {
        "error": float(found.rmse.mean()) / size,
        "correlation": float(found.correlation.mean()),
        "worst": float(found.correlation.min()),
    }


def _told(progress: Progress, part: int, parts: int, until: float) -> Callable[[float], None]:
    """Tells the progress of one of several trials, about once a simulated second."""

    def told(now: float) -> None:
        if math.floor(now) != math.floor(now - 0.1 + 1e-9) or now >= until:
            progress(round(part * 100 + 100 * now / until), 100 * parts)

    return told


# What is taught -------------------------------------------------------------------------------------------------------------


def van_der_pol(dt: float, mu: float) -> np.ndarray:
    """One cycle of both variables of a Van der Pol oscillator."""
    long = teachers.van_der_pol(20_000, 1e-3, mu)
    return teachers.van_der_pol(round(1 / (scores.frequency(long[:, 0], 1e-3, 1e-3) * dt)), dt, mu)


CYCLES: dict[str, Callable[[float], np.ndarray]] = {
    "sine": lambda dt: teachers.sine(round(0.2 / dt), dt),
    "triangle": lambda dt: teachers.triangle(round(0.2 / dt), dt),
    "harmonic": lambda dt: van_der_pol(dt, 0.5),
    "relaxation": lambda dt: van_der_pol(dt, 5.0),
    "product": lambda dt: teachers.product(round(0.5 / dt), dt),
    "noisy product": lambda dt: teachers.product(round(0.5 / dt), dt),
    "three sines": lambda dt: teachers.product(round(1 / dt), dt, (2.0, 3.0, 7.0)),
}
"""One cycle of each signal, for a time step."""
NOISE = 0.05
"""Standard deviation of normal noise, and the largest value of uniform noise, of the noisy product in each step."""


def taught(name: str, cycle: np.ndarray, seed: int, uniform: bool = False) -> Signal:
    """The signal that the decoder sees: the cycle again and again, with noise where its name says so.

    Args:
        name: of the signal.
        cycle: one of its cycles `(steps, k)`.
        seed: of the noise.
        uniform: the noise is uniform between 0 and `NOISE`, and not normal.
    """
    clean = repeated(cycle)
    if name != "noisy product":
        return clean

    def noisy(first: int, count: int) -> np.ndarray:
        random, shape = np.random.default_rng([seed, 1, first]), (count, cycle.shape[1])
        return clean(first, count) + NOISE * (random.random(shape) if uniform else random.standard_normal(shape))

    return noisy


# Figures 1 and 2 ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Oscillators:
    """Figure 2a, 2b: three kinds of neurons, one deleted spike, a sine before, during and after training; figure 1: eigenvalues."""

    settings: tuple[Setting, ...] = (
        Setting("theta", 2000, 10.0, 1e4, 1e-5),
        Setting("lif", 2000, 0.04, 10.0, 5e-6),
        Setting("izhikevich", 2000, 5e3, 5e3, 2.0),
    )
    settle: float = 2.0  # seconds before the spike is deleted
    watch: float = 1.5  # seconds after it
    shown: float = 2.0  # seconds before, during and after training that the figure draws
    start_only: bool = False


def _perturbed(config: Oscillators, setting: Setting, seed: int) -> tuple[float, dict[str, np.ndarray]]:
    """How far a network without feedback is from itself without one spike, in units of the distance of unrelated states.

    Raises:
        UserError: no neuron spikes within a second.
    """
    network, state = build(setting, 1, seed)
    network = network._replace(feedback=0 * network.feedback)
    dt = setting.step()
    networks.run(network, state, round(config.settle / dt), None, None)
    for _ in range(round(1 / dt)):
        found = networks.run(network, state, 1, None, None, setting.n)
        if len(found.spike_units):
            break
    else:
        raise UserError(
            f"oscillators: the {setting.kind} network is silent, there is no spike to delete; raise its bias"
        )
    other = networks.unpack(networks.pack(state))
    spared = int(found.spike_units[0])
    targets = slice(*network.static.starts[spared : spared + 2])
    kick = 1.0 / (network.rise * network.fall)
    other.rising[network.static.rows[targets]] -= kick * network.static.values[targets]
    other.rate_rising[spared] -= kick
    sample, rates, potentials = round(SAMPLE / dt), [], []
    for _ in range(round(config.watch / SAMPLE)):
        for each in (state, other):
            networks.run(network, each, sample, None, None)
        rates.append((state.rate.copy(), other.rate.copy()))
        potentials.append((state.v[:TRACES].copy(), other.v[:TRACES].copy()))
    a, b = np.array(rates).transpose(1, 0, 2)
    unrelated = math.sqrt(2 * ((a - a.mean(0)) ** 2).sum(1).mean())
    distance = np.sqrt(((a - b) ** 2).sum(1)) / unrelated
    late = distance[-round(0.3 / SAMPLE) :]
    return float(late.mean()), {"distance": distance, "potentials": np.array(potentials[:600]).astype(np.float32)}


def oscillators(config: Oscillators, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Three networks learn a sine of 5 Hz."""
    early = _first_rate(config.settings[0], seed)
    if config.start_only:
        return Result({}, {}, early)
    metrics, arrays = {}, {}
    for part, setting in enumerate(config.settings):
        name, dt = setting.kind, setting.step()
        cycle = CYCLES["sine"](dt)
        network, state = build(setting, 1, seed)
        told = _told(progress, part, len(config.settings), setting.until)
        run = trial(setting, network, state, repeated(cycle), told, watched=0.5)
        after = run.outputs[round((setting.end + 0.5) / SAMPLE) :]
        score = judged(after, sampled(cycle, dt))
        hz = scores.frequency(after[:, 0], SAMPLE)
        before, shown = round(setting.begin / SAMPLE), round(config.shown / SAMPLE)
        distance, found = _perturbed(config, setting, seed)
        static = networks.dense(network.static)
        weights = static + network.feedback.T @ state.decoder
        eigenvalues = np.linalg.eigvals(static), np.linalg.eigvals(weights)
        radius = setting.gain / math.sqrt(SHARE)
        metrics |= {
            f"{name}_error": score["error"],
            f"{name}_correlation": score["correlation"],
            f"{name}_hz": hz,
            f"{name}_hz_off": abs(hz / 5 - 1),
            f"{name}_rate_before": run.rate(setting.n, 0.5 * setting.begin, setting.begin),
            f"{name}_rate_during": run.rate(setting.n, setting.begin, setting.end),
            f"{name}_rate_after": run.rate(setting.n, setting.end, setting.until),
            f"{name}_diverged": distance,
            f"{name}_radius": float(np.abs(eigenvalues[0]).max()) / radius,
            f"{name}_outlier": float(np.abs(eigenvalues[1]).max()) / radius,
        }
        arrays |= {
            f"{name}_before": run.outputs[before - shown : before, 0],
            f"{name}_during": run.outputs[before : before + shown, 0],
            f"{name}_after": after[-shown:, 0],
            f"{name}_raster": run.raster.astype(np.float32),
            f"{name}_eigenvalues": np.stack(eigenvalues).astype(np.complex64) / radius,
            f"{name}_decoder": state.decoder[0].astype(np.float32),
        }
        arrays |= {f"{name}_{key}": value for key, value in found.items()}
    metrics["worst_error"] = max(metrics[f"{s.kind}_error"] for s in config.settings)
    metrics["least_diverged"] = min(metrics[f"{s.kind}_diverged"] for s in config.settings)
    metrics["worst_radius"] = max((metrics[f"{s.kind}_radius"] for s in config.settings), key=lambda r: abs(r - 1))
    return Result(metrics, arrays, early)


@dataclass(frozen=True)
class Panel:
    """Figure 2c and supplementary figure 2: signals x neurons x decay time constants. A cell is a signal and a setting."""

    cells: tuple[tuple[str, Setting], ...]
    shown: float = 2.0
    start_only: bool = False


def _panel_cells() -> tuple[tuple[str, Setting], ...]:
    """The settings of the authors' scripts, all but the three sines of figure 2, which are in `Oscillators`."""
    theta = Setting("theta", 2000, 10.0, 1e4, 1e-5)
    slow_theta = replace(theta, fall=50e-3)
    long = {"end": 55.0, "until": 80.0}
    lif = Setting("lif", 2000, 0.1, 30.0, 2.5e-6)
    slow_lif = replace(lif, fall=30e-3)
    izhikevich = Setting("izhikevich", 2000, 5e3, 5e3, 2.0)
    return (
        ("triangle", theta),
        ("harmonic", theta),
        ("relaxation", replace(theta, gain=15.0)),
        ("product", replace(theta, gain=25.0, **long)),
        ("noisy product", replace(theta, gain=15.0, **long)),
        ("sine", replace(slow_theta, gain=50.0, feedback=2e4, initial=1e-4)),
        ("triangle", replace(slow_theta, gain=50.0, feedback=2e4, initial=1e-4)),
        ("harmonic", replace(slow_theta, initial=2e-5)),
        ("relaxation", replace(slow_theta, initial=2e-5)),
        ("product", replace(slow_theta, gain=50.0, feedback=2e4, initial=1e-4, end=55.0, until=70.0)),
        ("noisy product", replace(slow_theta, gain=50.0, feedback=2e4, initial=1e-4, end=55.0, until=70.0)),
        ("product", replace(lif, fall=10e-3, end=30.0, until=60.0)),
        ("noisy product", replace(lif, fall=10e-3, end=30.0, until=60.0)),
        ("sine", lif),
        ("triangle", lif),
        ("harmonic", replace(lif, gain=0.05)),
        ("relaxation", replace(lif, gain=0.05)),
        ("product", replace(lif, end=30.0, until=60.0)),
        ("noisy product", replace(lif, end=30.0, until=60.0)),
        ("sine", replace(slow_lif, gain=0.05, feedback=10.0, initial=5e-6)),
        ("triangle", replace(slow_lif, feedback=20.0)),
        ("harmonic", replace(slow_lif, gain=0.05)),
        ("relaxation", replace(slow_lif, gain=0.05)),
        ("product", replace(slow_lif, end=25.0, until=60.0)),
        ("noisy product", replace(slow_lif, end=30.0, until=60.0)),
        ("triangle", replace(izhikevich, feedback=4e3)),
        ("harmonic", replace(izhikevich, gain=1e4, feedback=9e3)),
        ("relaxation", replace(izhikevich, gain=1e4, feedback=2e4)),
        ("product", replace(izhikevich, gain=1e4, feedback=9e3, until=20.0)),
        ("noisy product", replace(izhikevich, gain=1e4, feedback=8e3, until=20.0)),
        ("three sines", replace(izhikevich, gain=1e4, feedback=1e4, end=25.0, until=50.0)),
    )


def uniform_noise(setting: Setting) -> bool:
    """Whether the noise of a cell is uniform in the authors' scripts."""
    return setting.kind == "izhikevich" or (setting.kind, setting.fall) == ("lif", 10e-3)


def cell_name(signal: str, setting: Setting) -> str:
    """Name of a cell in metrics and arrays, e.g. `lif_20_sine`."""
    return f"{setting.kind}_{1000 * setting.fall:g}_{signal.replace(' ', '_')}"


def panel(config: Panel, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """A network for each cell; its error after training. One that diverges has not learned, and does not end the others."""
    early = _first_rate(config.cells[0][1], seed)
    if config.start_only:
        return Result({}, {}, early)
    done = read_npz(checkpoint) if checkpoint is not None and checkpoint.exists() else {}
    metrics, arrays = {}, {}
    for part, (signal, setting) in enumerate(config.cells):
        name, dt = cell_name(signal, setting), setting.step()
        if name not in done:
            cycle = CYCLES[signal](dt)
            network, state = build(setting, cycle.shape[1], seed)
            told = _told(progress, part, len(config.cells), setting.until)
            teacher = taught(signal, cycle, seed, uniform_noise(setting))
            try:
                run = trial(setting, network, state, teacher, told)
                after = run.outputs[round((setting.end + 0.5) / SAMPLE) :]
                score = judged(after, sampled(cycle, dt))
            except UserError:
                if not state.step[0]:  # it never ran
                    raise
                after = np.full((round(config.shown / SAMPLE), cycle.shape[1]), np.nan)
                score = {"error": LOST, "correlation": 0.0}
            done[name] = after[-round(config.shown / SAMPLE) :: 2].astype(np.float32)
            done |= {
                f"{name}_error": np.array(min(score["error"], LOST)),
                f"{name}_correlation": np.array(score["correlation"]),
            }
            if checkpoint is not None:
                write_npz(checkpoint, done)
        metrics |= {f"{name}_{measure}": float(done[f"{name}_{measure}"]) for measure in ("error", "correlation")}
        arrays[name] = done[name]
    errors = np.array([metrics[f"{name}_error"] for name in arrays])
    metrics |= {
        "learned": float((errors < LEARNED).mean()),
        "median_error": float(np.median(errors)),
        "diverged": float(sum(np.isnan(outputs).any() for outputs in arrays.values())),
    }
    return Result(metrics, arrays, early)


LEARNED = 0.35
"""Error, relative to the teacher's size, below which a signal counts as learned: 0.25 for a sine of amplitude 1."""
LOST = 10.0
"""The largest error that counts, and that of a network that diverges and is stopped."""


# Gain and feedback ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Map:
    """Which pairs of gain G and feedback Q learn the sine."""

    setting: Setting
    gains: tuple[float, ...]
    feedbacks: tuple[float, ...]
    inside: tuple[tuple[float, float], ...] = ((0.04, 30.0), (0.1, 100.0))
    outside: tuple[tuple[float, float], ...] = ((0.4, 3.0), (0.1, 0.0))
    start_only: bool = False


def gain_map(config: Map, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Train a network for each pair; where it works, and how the largest gain grows with the feedback."""
    early = _first_rate(config.setting, seed)
    if config.start_only:
        return Result({}, {}, early)
    shape = len(config.gains), len(config.feedbacks)
    error, hz, rate, whole = (np.zeros(shape) for _ in range(4))
    dt = config.setting.step()
    cycle = CYCLES["sine"](dt)
    for i, gain in enumerate(config.gains):
        for j, feedback in enumerate(config.feedbacks):
            setting = replace(config.setting, gain=gain, feedback=feedback)
            network, state = build(setting, 1, seed)
            run = trial(setting, network, state, repeated(cycle), lambda now: None)
            after = run.outputs[round((setting.end + 0.5) / SAMPLE) :]
            error[i, j] = judged(after, sampled(cycle, dt))["error"]
            hz[i, j] = scores.frequency(after[:, 0], SAMPLE)
            rate[i, j] = run.rate(setting.n, setting.end, setting.until)
            whole[i, j] = run.rate(setting.n, 0.2, setting.until)
            progress(i * shape[1] + j + 1, shape[0] * shape[1])
    works = (error < LEARNED) & (np.abs(hz / 5 - 1) < 0.02)
    gains, feedbacks = np.array(config.gains), np.array(config.feedbacks)
    largest = np.array([gains[works[:, j]].max(initial=0.0) for j in range(shape[1])])

    def at(gain: float, feedback: float) -> float:
        return float(error[config.gains.index(gain), config.feedbacks.index(feedback)])

    metrics = {
        "worst_inside": max(at(*cell) for cell in config.inside),
        "best_outside": min(at(*cell) for cell in config.outside),
        "best_without_feedback": float(error[:, config.feedbacks.index(0.0)].min()),
        "rate_without_weights": float(whole[config.gains.index(0.0)].max()),
        "works": float(works.mean()),
        "band": float(spearmanr(feedbacks, largest).statistic),
    }
    arrays = {"error": error, "hz": hz, "rate": rate, "works": works, "gains": gains, "feedbacks": feedbacks}
    return Result(metrics, arrays, early)


@dataclass(frozen=True)
class Size:
    """Error of the sine over the number of neurons."""

    setting: Setting
    sizes: tuple[int, ...]
    start_only: bool = False


def size(config: Size, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Train networks of several sizes; the exponent of the error."""
    early = _first_rate(config.setting, seed)
    if config.start_only:
        return Result({}, {}, early)
    dt = config.setting.step()
    cycle = CYCLES["sine"](dt)
    errors, rates = [], []
    for part, n in enumerate(config.sizes):
        setting = replace(config.setting, n=n)
        network, state = build(setting, 1, seed)
        told = _told(progress, part, len(config.sizes), setting.until)
        run = trial(setting, network, state, repeated(cycle), told)
        errors.append(judged(run.outputs[round((setting.end + 0.5) / SAMPLE) :], sampled(cycle, dt))["error"])
        rates.append(run.rate(n, setting.end, setting.until))
    slope = float(np.polyfit(np.log(config.sizes), np.log(errors), 1)[0])
    metrics = {"exponent": slope, "smallest": errors[0], "largest": errors[-1], "gain": errors[0] / errors[-1]}
    return Result(metrics, {"sizes": np.array(config.sizes), "error": np.array(errors), "rate": np.array(rates)}, early)


# Figure 2d ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lorenz:
    """Figure 2d: the Lorenz system."""

    setting: Setting
    start_only: bool = False


WING = 0.05
"""x of the Lorenz teacher is beyond this on a wing; its largest value is 0.25. Any level from 0.02 to 0.1 counts the same changes."""


def wing_changes(x: np.ndarray) -> int:
    """How often x `(samples,)` goes from beyond `WING` on one side of 0 to beyond it on the other; noise near 0 does not count."""
    on = np.sign(x[np.abs(x) > WING])
    return int((np.diff(on) != 0).sum())


def lorenz(config: Lorenz, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Learn the three variables, then run freely: statistics of the attractor, taught and decoded."""
    setting, dt = config.setting, config.setting.step()
    early = _first_rate(setting, seed)
    if config.start_only:
        return Result({}, {}, early)
    signal = teachers.lorenz(round(setting.until / dt), dt)
    network, state = build(setting, 3, seed)
    told = _told(progress, 0, 1, setting.until)
    run = trial(setting, network, state, repeated(signal), told, checkpoint=checkpoint)
    target = sampled(signal, dt)
    at = round(setting.end / SAMPLE)
    free, true = run.outputs[at + round(1 / SAMPLE) :], target[at:]
    theirs = scores.lorenz(target[round(2 / SAMPLE) :, 2], SAMPLE)
    off = uniform_filter1d(np.abs(run.outputs[at:, 0] - true[:, 0]), 50)
    left = np.flatnonzero(off > 0.15)
    seconds = len(free) * SAMPLE
    switches = [wing_changes(uniform_filter1d(x[:, 0], 20)) / (len(x) * SAMPLE) for x in (free, target)]
    ours = scores.lorenz(free[:, 2], SAMPLE)
    metrics = {
        "interval": ours.interval,
        "interval_off": abs(ours.interval / theirs.interval - 1),
        "peak_off": abs(ours.mean / theirs.mean - 1),
        "peak_spread": ours.sd / theirs.sd,
        "explained": ours.explained,
        "explained_taught": theirs.explained,
        "switches": switches[0],
        "switch_ratio": switches[0] / switches[1],
        "leaves": float(left[0] * SAMPLE) if len(left) else seconds,
        "rate_after": run.rate(setting.n, setting.end, setting.until),
    }
    kept = min(len(free), 40_000)
    arrays = {
        "free": free[:kept:4].astype(np.float32),
        "true": target[-kept::4].astype(np.float32),
        "around_the_end": run.outputs[at - 2000 : at + 6000 : 4].astype(np.float32),
        "around_the_end_taught": target[at - 2000 : at + 6000 : 4].astype(np.float32),
        "peaks": ours.peaks,
        "peaks_taught": theirs.peaks,
    }
    return Result(metrics, arrays, early)


# Figure 3 -------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Joy:
    """Figure 3: the first bar of the Ode to Joy; with an HDTS among the outputs where `clock` channels are given."""

    setting: Setting
    clock: int = 0
    start_only: bool = False


BAR = teachers.SLOT * len(teachers.NOTES)
"""Length of the bar in seconds."""


def joy(config: Joy, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Learn the bar, then play it freely; bars of the free run are compared with the taught one."""
    setting, dt = config.setting, config.setting.step()
    early = _first_rate(setting, seed)
    if config.start_only:
        return Result({}, {}, early)
    steps = round(BAR / dt)
    notes = teachers.ode_to_joy(steps, dt)
    cycle = notes
    if config.clock:
        cycle = np.concatenate([notes, teachers.temporal_signal(steps, dt, config.clock, BAR)], 1)
    network, state = build(setting, cycle.shape[1], seed)
    told = _told(progress, 0, 1, setting.until)
    run = trial(setting, network, state, repeated(cycle), told, watched=BAR, checkpoint=checkpoint)
    free = run.outputs[round(setting.end / SAMPLE) :, : notes.shape[1]]
    bar = round(BAR / SAMPLE)
    score = judged(free, sampled(notes, dt), bar)
    found = scores.aligned(free, sampled(notes, dt), bar)
    right = []
    for k, shift in enumerate(found.shift):  # the loudest channel in the middle of each note
        played = np.roll(free[k * bar : (k + 1) * bar], shift, 0)
        middles = (np.arange(len(teachers.NOTES) - 2) + 0.5) * teachers.SLOT / SAMPLE
        right.append(np.mean(played[middles.astype(int)].argmax(1) == teachers.NOTES[:-2]))
    metrics = {
        "correlation": score["correlation"],
        "worst": score["worst"],
        "error": score["error"],
        "right_notes": float(np.mean(right)),
        "rate_after": run.rate(setting.n, setting.end, setting.until),
        "updates": float(round((setting.end - setting.begin) / (dt * setting.learning().every))),
    }
    arrays = {
        "outputs": run.outputs[-2 * bar :: 2].astype(np.float32),
        "taught": sampled(notes, dt)[::2].astype(np.float32),
        "shift": np.array(found.shift[-1]),
        "correlations": found.correlation,
        "raster": run.raster.astype(np.float32),
        "potentials": run.potentials[::2].astype(np.float32),
    }
    return Result(metrics, arrays, early)


# Figures 4 and 5 ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Replay:
    """Figures 4 and 5: a sequence learned under an outer HDTS, then replayed without it, faster, and backwards."""

    setting: Setting
    channels: int  # of the HDTS
    strength: float  # of its weights
    period: float  # seconds
    sequence: str  # "song" or "film"
    shape: tuple[int, ...]  # bands; or rows and columns
    loudness: float = 1.0  # factor of the sequence
    speeds: tuple[float, ...] = (2.0, 4.0, 8.0)
    repeats: int = 2  # periods of each test; the last one is scored
    start_only: bool = False


def _rows(picture: np.ndarray, count: int = 125) -> np.ndarray:
    """About so many rows of a picture, evenly spaced."""
    return picture[:: max(1, round(len(picture) / count))].astype(np.float32)


def replay(config: Replay, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Learn the sequence; then test each way of driving the network, from the state in which training left it."""
    setting, dt = config.setting, config.setting.step()
    early = _first_rate(setting, seed)
    if config.start_only:
        return Result({}, {}, early)
    steps = round(config.period / dt)
    if config.sequence == "song":
        cycle = teachers.song(steps, dt, *config.shape, period=config.period)
    else:
        cycle = teachers.film(steps, dt, *config.shape, period=config.period)
    cycle = config.loudness * cycle
    network, state = build(setting, cycle.shape[1], seed, (config.channels, config.strength))

    def hdts(speed: float) -> Signal:
        return lambda first, count: teachers.temporal_signal(count, dt, config.channels, config.period, first, speed)

    ways: dict[str, float | None] = {"normal": 1.0, "lesion": None, "backwards": -1.0}
    ways |= {f"speed_{speed:g}": speed for speed in config.speeds}
    told = _told(progress, 0, 1 + len(ways), setting.end)
    trial(setting, network, state, repeated(cycle), told, setting.end, hdts(1.0))
    trained, metrics, arrays = networks.pack(state), {}, {}
    target = sampled(cycle, dt)
    arrays["taught"] = _rows(target)
    for part, (name, speed) in enumerate(ways.items()):
        again = networks.unpack(trained)
        seconds = config.repeats * config.period / abs(speed or 1.0)
        until = setting.end + seconds
        drive = None if speed is None else hdts(speed)
        told = _told(progress, 1 + part, 1 + len(ways), until)
        run = trial(setting, network, again, repeated(cycle), told, until, drive, learn=False)
        expected = target[::-1] if name == "backwards" else target
        if speed is not None and speed > 1:
            whole = len(expected)
            kept = (np.arange(round(whole / speed)) + 0.5) * speed
            expected = np.stack([np.interp(kept, np.arange(whole), column) for column in expected.T], 1)
        last = run.outputs[-len(expected) :]
        metrics[name] = judged(last, expected, len(expected))["correlation"]
        if name == "backwards":
            metrics["backwards_as_forwards"] = judged(last, target, len(target))["correlation"]
        shift = int(scores.aligned(last, expected, len(expected)).shift[0])
        arrays[name] = _rows(np.roll(last, shift, 0))
        metrics[f"rate_{name}"] = run.rate(setting.n, 0.0, seconds)
    metrics["lost_by_lesion"] = metrics["normal"] - metrics["lesion"]
    metrics["reversal"] = metrics["backwards"] - metrics["backwards_as_forwards"]
    return Result(metrics, arrays, early)


# What breaks it, and second opinions ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Controls:
    """What must fail: the sine without feedback, with too large a gain, without learning, from a shuffled teacher."""

    setting: Setting
    too_large: float = 0.4  # gain
    start_only: bool = False


def controls(config: Controls, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """The same network with one thing changed."""
    setting, dt = config.setting, config.setting.step()
    early = _first_rate(setting, seed)
    if config.start_only:
        return Result({}, {}, early)
    cycle = CYCLES["sine"](dt)
    order = np.random.default_rng([seed, 3]).permutation(len(cycle))
    cases = {
        "run": (setting, cycle, True),
        "no_feedback": (replace(setting, feedback=0.0), cycle, True),
        "too_large": (replace(setting, gain=config.too_large), cycle, True),
        "no_learning": (setting, cycle, False),
        "shuffled": (setting, cycle[order], True),
    }
    metrics, arrays = {}, {}
    for part, (name, (chosen, given, learn)) in enumerate(cases.items()):
        network, state = build(chosen, 1, seed)
        told = _told(progress, part, len(cases), setting.until)
        run = trial(chosen, network, state, repeated(given), told, learn=learn)
        after = run.outputs[round((setting.end + 0.5) / SAMPLE) :]
        metrics[f"error_{name}"] = judged(after, sampled(cycle, dt))["error"]
        arrays[name] = after[-1000:, 0].astype(np.float32)
    metrics["smallest_gap"] = min(metrics[f"error_{name}"] for name in cases if name != "run") - metrics["error_run"]
    return Result(metrics, arrays, early)


@dataclass(frozen=True)
class SecondOpinion:
    """The compiled network against plain NumPy, and against Brian2."""

    n: int = 100
    plain: float = 0.3  # seconds of each network in plain NumPy
    brian2_n: int = 150
    begin: float = 0.05
    end: float = 0.4
    until: float = 0.6
    start_only: bool = False


def second_opinion(config: SecondOpinion, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Spikes that differ from the plain network, with and without learning; P against its definition; the same network in Brian2."""
    opinion = Setting("lif", config.brian2_n, 0.1, 30.0, 2.5e-6, config.begin, config.end, config.until)
    early = _first_rate(opinion, seed)
    if config.start_only:
        return Result({}, {}, early)
    metrics = {"differ": 0.0, "spikes": 0.0, "outputs_off": 0.0, "p_off": 0.0}
    gains = {"lif": (0.1, 30.0, 2.5e-6), "theta": (10.0, 1e4, 1e-5), "izhikevich": (5e3, 5e3, 2.0)}
    for part, (name, values) in enumerate(gains.items()):
        setting = Setting(name, config.n, *values, begin=0.1, end=config.plain, until=config.plain)
        dt, count = setting.step(), min(round(config.plain / setting.step()), 20_000)
        teacher = repeated(CYCLES["sine"](dt))(0, count)
        learning = replace(setting, begin=0.3 * count * dt).learning()
        network, state = build(setting, 1, seed)
        v = state.v.copy()
        p, rates = np.eye(config.n) / setting.initial, []
        ours, listed = [], []
        for first in range(count):
            found = networks.run(network, state, 1, teacher[first : first + 1], learning, config.n)
            ours.append(found.outputs)
            listed += [(first, unit) for unit in found.spike_units]
            i = first + 1
            if i % learning.every == 1 and learning.first < i < learning.last:
                rates.append(state.rate.copy())
        theirs, _, _ = reference.run(network, v, count, teacher, learning)
        same = set(listed) ^ set(zip(theirs.spike_steps.tolist(), theirs.spike_units.tolist(), strict=True))
        size = np.abs(theirs.outputs).max()
        metrics["differ"] += len(same)
        metrics["spikes"] += len(listed)
        off = float(np.abs(np.concatenate(ours) - theirs.outputs).max() / size)
        metrics["outputs_off"] = float(np.maximum(metrics["outputs_off"], off))  # unlike max, it lets NaN through
        p = np.linalg.inv(p + np.array(rates).T @ np.array(rates))  # what Eq. (7) keeps up to date
        off = float(np.abs(rls.matrix(state.rls) - p).max() / np.abs(p).max())
        metrics["p_off"] = float(np.maximum(metrics["p_off"], off))
        progress(part + 1, 4)
    setting = opinion
    dt = setting.step()
    count = round(config.until / dt)
    network, state = build(setting, 1, seed)
    teacher = repeated(CYCLES["sine"](dt))(0, count)
    theirs = run_brian2(network, state.v.copy(), count, teacher, setting.learning())
    ours = networks.run(network, state, count, teacher, setting.learning(), count * 10)
    first = [
        set(zip(*(a[found.spike_steps < round(0.1 / dt)].tolist() for a in (found.spike_steps, found.spike_units)), strict=True))
        for found in (ours, theirs)
    ]  # fmt: skip
    cycle = sampled(CYCLES["sine"](dt), dt)
    sample = round(SAMPLE / dt)
    tail = round((config.until - config.end) / SAMPLE)
    errors = [
        judged(found.outputs[sample - 1 :: sample][-tail:], cycle, min(WINDOW, tail))["error"]
        for found in (ours, theirs)
    ]
    metrics |= {
        "brian2_differ": float(len(first[0] ^ first[1])),
        "brian2_spikes": float(len(first[0])),
        "brian2_rate": len(theirs.spike_units) / ours.spikes,
        "error": errors[0],
        "brian2_error": errors[1],
        "brian2_error_gap": abs(errors[0] - errors[1]),
    }
    arrays = {"ours": ours.outputs[sample - 1 :: sample, 0], "theirs": theirs.outputs[sample - 1 :: sample, 0]}
    return Result(metrics, arrays, early)


# Experiments ----------------------------------------------------------------------------------------------------------------

LIF_SINE = Setting("lif", 1000, 0.1, 30.0, 2.5e-6)
QUICK = {"begin": 1.0, "end": 5.0, "until": 8.0}
JOY = Setting("izhikevich, slow", 5000, 1e4, 4e3, 2.0, begin=1.0, end=900.0, until=1000.0)
SONG = Setting("izhikevich, adapting", 1000, 1.3e4, 1e3, 2.0, begin=1.0, end=50.0, until=100.0)
FILM = replace(SONG, gain=5e3, feedback=4e2)
FIVE, TEN = tuple(range(5)), tuple(range(10))


def _only_the_start(config):
    """The first 50 ms."""
    return replace(config, start_only=True)


EXPERIMENTS = {
    "oscillators": Experiment(
        oscillators,
        Oscillators(
            (
                Setting("theta", 500, 10.0, 1e4, 1e-5, 1.0, 4.0, 6.5),
                Setting("lif", 600, 0.1, 30.0, 2.5e-6, **QUICK),
                Setting("izhikevich", 500, 5e3, 5e3, 2.0, **QUICK),
            ),
            settle=0.5,
            shown=1.0,
        ),
        Oscillators(),
        (0, 1),
        TEN,
        replay=_only_the_start,
    ),
    "panel": Experiment(
        panel,
        Panel(
            (
                ("triangle", replace(LIF_SINE, n=400, **QUICK)),
                ("harmonic", replace(LIF_SINE, n=400, gain=0.05, **QUICK)),
                ("product", replace(LIF_SINE, n=500, begin=1.0, end=12.0, until=15.0)),
                ("triangle", Setting("izhikevich", 400, 5e3, 4e3, 2.0, **QUICK)),
                ("relaxation", Setting("izhikevich", 500, 1e4, 2e4, 2.0, **QUICK)),
            )
        ),
        Panel(_panel_cells()),
        (0,),
        FIVE,
        replay=_only_the_start,
    ),
    "map": Experiment(
        gain_map,
        Map(
            replace(LIF_SINE, n=300, initial=5e-6, **QUICK),
            (0.0, 0.02, 0.04, 0.1, 0.2, 0.4),
            (0.0, 3.0, 10.0, 30.0, 100.0),
        ),
        Map(
            replace(LIF_SINE, initial=5e-6),
            (0.0, 0.01, 0.02, 0.03, 0.04, 0.06, 0.1, 0.15, 0.2, 0.3, 0.4),
            (0.0, 1.0, 3.0, 5.0, 10.0, 20.0, 30.0, 50.0, 100.0, 200.0),
        ),
        (0,),
        FIVE,
        replay=_only_the_start,
    ),
    "size": Experiment(
        size,
        Size(replace(LIF_SINE, **QUICK), (100, 200, 400, 800)),
        Size(LIF_SINE, (100, 200, 500, 1000, 2000, 4000)),
        (0, 1),
        FIVE,
        replay=_only_the_start,
    ),
    "lorenz": Experiment(
        lorenz,
        Lorenz(Setting("theta", 1000, 15.0, 1e4, 1e-5, begin=1.0, end=16.0, until=37.0)),
        Lorenz(Setting("theta", 5000, 15.0, 1e4, 1e-5, end=50.0, until=100.0)),
        (0,),
        FIVE,
        replay=_only_the_start,
    ),
    "joy": Experiment(
        joy, Joy(replace(JOY, n=1000, end=50.0, until=58.0)), Joy(JOY), (0,), FIVE, replay=_only_the_start
    ),
    "joy_clock": Experiment(
        joy,
        Joy(replace(JOY, n=1000, end=50.0, until=58.0), 16),
        Joy(replace(JOY, end=200.0, until=240.0), 16),
        (0,),
        FIVE,
        replay=_only_the_start,
    ),
    "song": Experiment(
        replay,
        Replay(replace(SONG, n=300, end=13.0, until=16.0), 100, 8e3, 2.0, "song", (10,), 0.3, ()),
        Replay(SONG, 500, 8e3, 5.0, "song", (30,), 0.3, ()),
        (0, 1),
        FIVE,
        replay=_only_the_start,
    ),
    "film": Experiment(
        replay,
        Replay(replace(FILM, n=300, end=17.0, until=20.0), 16, 4e3, 4.0, "film", (4, 5)),
        Replay(FILM, 32, 4e3, 8.0, "film", (6, 8)),
        (0, 1),
        FIVE,
        replay=_only_the_start,
    ),
    "controls": Experiment(
        controls,
        Controls(replace(LIF_SINE, n=400, **QUICK)),
        Controls(replace(LIF_SINE, n=2000)),
        (0, 1),
        TEN,
        replay=_only_the_start,
    ),
    "second_opinion": Experiment(
        second_opinion,
        SecondOpinion(),
        SecondOpinion(brian2_n=500, begin=1.0, end=4.0, until=6.0),
        (0,),
        FIVE,
        replay=_only_the_start,
    ),
}
