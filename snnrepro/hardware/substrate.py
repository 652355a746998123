"""Substrates: fabricate a chip, place a network on it, deploy its weights, run it, train with it.

    chip = substrate.fabricate(seed)          one chip: nominal and realised parameters apart
    plan = chip.place(net)                    resources, or a PlacementError
    deployment = chip.deploy(net, plan)       weights as the chip holds them, and a report
    seen = deployment.run(x, trial_seed)      observables, without gradients

    InTheLoop(net, chip)                      values: the observables of one chip; gradient: the nominal network
    HardwareAware(net, substrate)             values and gradient: simulated chips, straight through what has no derivative

Chips, trials and training have seeds of their own. Equation numbers are those of the chapter `hardware`.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from snnrepro import surrogate
from snnrepro.errors import UserError
from snnrepro.files import read_npz, write_npz
from snnrepro.first_spike import exact
from snnrepro.hardware import networks
from snnrepro.hardware.networks import Net, Stepped, Weights
from snnrepro.hardware.parts import (
    LEAST,
    QUANTITIES,
    Cost,
    Events,
    FixedPattern,
    Limits,
    Readout,
    TimeGrid,
    TrialNoise,
    WeightGrid,
    check_seed,
    instead,
)
from snnrepro.kernels import first_spike as kernel
from snnrepro.kernels.observed import slopes as observed_slopes
from snnrepro.neurons import LIF

CIRCUITS = 4096
"""Neurons that are drawn for a chip without a limit."""
TRIAL, LOOP, AWARE = 101, 102, 103
"""Second entries of the seeds of a trial and of the two ways of training. A chip has the index of a quantity there, so that no stream is
another's, whatever the first entry."""


class PlacementError(UserError):
    """A network needs more than a chip has."""


@dataclass(frozen=True)
class Substrate:
    """A kind of chip: its parts. `substrate | part` is the same one with that part in place of its own.

    Attributes:
        name: of the substrate.
        weights: grid of the weights.
        neurons: fixed pattern, one entry a quantity that varies.
        noise: what changes from run to run.
        time: resolution of spike times.
        events: transport of spikes.
        readout: how potentials are read.
        limits: resources.
        cost: time and energy.
    """

    name: str
    weights: WeightGrid = field(default_factory=WeightGrid)
    neurons: tuple[FixedPattern, ...] = ()
    noise: TrialNoise = field(default_factory=TrialNoise)
    time: TimeGrid = field(default_factory=TimeGrid)
    events: Events = field(default_factory=Events)
    readout: Readout = field(default_factory=Readout)
    limits: Limits = field(default_factory=Limits)
    cost: Cost = field(default_factory=Cost)

    def __post_init__(self):
        named = [pattern.quantity for pattern in self.neurons]
        if len(set(named)) < len(named):
            raise UserError(f"Substrate {self.name}: a quantity has two fixed patterns; give one each")

    def __or__(self, part) -> "Substrate":
        if isinstance(part, FixedPattern):
            kept = tuple(own for own in self.neurons if own.quantity != part.quantity)
            return replace(self, neurons=(*kept, part))
        for own in fields(self):
            if own.name != "name" and type(getattr(self, own.name)) is type(part):
                return replace(self, **{own.name: part})
        raise UserError(f"Substrate {self.name}: {type(part).__name__} is no part of a substrate")

    def fabricate(self, seed: int) -> "Chip":
        """One chip. Its deviations depend on the seed and the quantity alone, so that substrates share them."""
        check_seed(f"Substrate {self.name}: seed of a chip", seed)
        drawn = {
            q: np.random.default_rng([seed, k]).standard_normal(self.limits.circuits or CIRCUITS)
            for k, q in enumerate(QUANTITIES)
        }
        return Chip(self, seed, drawn)


class Plan(NamedTuple):
    """Where a network lies on a chip.

    Attributes:
        circuits: for each layer, the circuit of each neuron (its first one).
        used: what the network takes, by name.
        available: what the chip has, by name; infinite without a limit.
    """

    circuits: tuple[np.ndarray, ...]
    used: dict[str, float]
    available: dict[str, float]


class Report(NamedTuple):
    """What became of the weights of a layer.

    Attributes:
        step: weight of one level; 0 without a grid.
        clipped: share of weights outside the grid.
        rms_error: root mean square of what clipping and rounding changed.
        bits: of the smallest two's complement that holds every level in use; infinite without a grid.
    """

    step: float
    clipped: float
    rms_error: float
    bits: float


class Observables(NamedTuple):
    """What a chip shows.

    Attributes:
        output: readout potentials `(time + 1, batch, classes)` as read, or label times `(batch, classes)`.
        layers: spikes `(time, batch, neurons)`, or spike times `(batch, neurons)`, of each spiking layer.
        potentials: membrane potentials `(time, batch, neurons)` of the hidden layers as read, on the scale of the nominal threshold,
            where they were asked for.
        lost: spikes that were lost on their way.
    """

    output: Tensor
    layers: list[Tensor]
    potentials: list[Tensor]
    lost: int

    @property
    def counters(self) -> dict[str, int]:
        """Spikes of all neurons, and lost ones, of this run."""
        timed = self.output is self.layers[-1]
        count = sum(int((torch.isfinite(s) if timed else s > 0).sum()) for s in self.layers)
        return {"spikes": count, "lost": self.lost}


@dataclass(frozen=True, eq=False)
class Chip:
    """One fabricated chip: its substrate, the seed it came from, and the deviation of each circuit, standard normal, by quantity.

    Two chips are equal where all of this is.
    """

    substrate: Substrate
    seed: int
    deviations: Mapping[str, np.ndarray]

    def digest(self) -> str:
        """Hash of everything that makes this chip."""
        parts = [repr(self.substrate).encode(), str(self.seed).encode()]
        parts += [name.encode() + np.asarray(z, float).tobytes() for name, z in sorted(self.deviations.items())]
        return hashlib.sha256(b"\0".join(parts)).hexdigest()

    def __eq__(self, other) -> bool:
        return isinstance(other, Chip) and self.digest() == other.digest()

    def __hash__(self) -> int:
        return hash(self.digest())

    def save(self, path: Path) -> None:
        """Write the deviations, with the hash of the chip, to an npz file."""
        arrays = {f"deviations/{name}": z for name, z in self.deviations.items()}
        write_npz(path, arrays | {"seed": self.seed, "digest": np.frombuffer(self.digest().encode(), np.uint8)})

    def own(self, quantity: str, nominal: float | np.ndarray, circuits: np.ndarray) -> np.ndarray | None:
        """The realised quantity of some circuits, or None where the substrate does not vary it."""
        for pattern in self.substrate.neurons:
            if pattern.quantity == quantity and (pattern.sd or pattern.mean):
                return pattern.realised(nominal, self.deviations[quantity][circuits])
        return None

    def place(self, net: Net) -> Plan:
        """Give each neuron of a network its circuits, layer after layer.

        Raises:
            PlacementError: the network needs more than the chip has; the message says how much.
        """
        limits, layers = self.substrate.limits, net.layers()
        circuits, free, most_rows, merged = [], 0, 0, 1
        for layer in layers:
            rows = layer.fan_in * limits.rows_per_input
            each = math.ceil(rows / limits.rows) if limits.rows else 1
            circuits.append(free + each * np.arange(layer.w.shape[1]))
            free += each * layer.w.shape[1]
            most_rows, merged = max(most_rows, rows), max(merged, each)
        sizes = [layer.w.shape[1] for layer in layers]
        used = {
            "inputs": len(layers[0].w) - layers[0].bias,
            "hidden neurons": sum(sizes[:-1]),
            "output neurons": sizes[-1],
            "synapses a neuron": most_rows,
            "circuits": free,
        }
        limit = {
            "inputs": limits.inputs,
            "hidden neurons": limits.hidden,
            "output neurons": limits.outputs,
            "synapses a neuron": None if limits.rows is None else limits.rows * limits.merged,
            "circuits": limits.circuits or CIRCUITS,
        }
        available = {name: math.inf if most is None else most for name, most in limit.items()}
        for name, needed in used.items():
            if needed > available[name]:
                raise PlacementError(
                    f"place: the network needs {needed} {name}, {self.substrate.name} has {available[name]}; make it smaller"
                )
        return Plan(tuple(circuits), used, available)

    def deploy(self, net: Net, plan: Plan | None = None, *, clip: bool = True) -> "Deployment":
        """Write a network's weights to the chip, as they are now.

        Args:
            net: the network; the deployment keeps its own copy of the weights.
            plan: where it lies; None: it is placed.
            clip: False: weights outside the grid are an error.

        Raises:
            UserError: weights that are not finite, a neuron model that the substrate cannot realise, or, with `clip` False, weights
                outside the grid.
        """
        networks.check(net)
        plan = self.place(net) if plan is None else plan
        reports = tuple(_report(self.substrate.weights, layer) for layer in net.layers())
        for k, report in enumerate(reports):
            if report.clipped and not clip:
                raise UserError(
                    f"deploy: {100 * report.clipped:.2g} % of the weights of layer {k + 1} lie outside the grid of"
                    f" {self.substrate.name}; scale them, or allow clipping"
                )
        return Deployment(self, _copied(net), plan, reports)


def load_chip(substrate: Substrate, path: Path) -> Chip:
    """A chip from the file that `Chip.save` wrote.

    Raises:
        UserError: the file is damaged or holds no chip, or the chip is of another substrate.
    """
    arrays = read_npz(path)
    if not {"seed", "digest"} <= set(arrays):
        raise UserError(f"load_chip: {path.name} holds no chip; give a file that Chip.save wrote")
    named = {name.split("/")[1]: z for name, z in arrays.items() if name.startswith("deviations/")}
    chip = Chip(substrate, int(arrays["seed"]), named)
    if chip.digest().encode() != arrays["digest"].tobytes():
        raise UserError(f"load_chip: the chip in {path.name} is no {substrate.name} as described here")
    return chip


def _report(grid: WeightGrid, layer: Weights) -> Report:
    """What a grid makes of the weights of a layer; recurrent ones have a grid of their own where its step depends on them."""
    given = [w.detach() for w in (layer.w, layer.v) if w is not None]
    if grid.highest is None:
        return Report(0.0, 0.0, 0.0, math.inf)
    held = [grid.hold(w) for w in given]
    size = sum(w.numel() for w in given)
    error = sum(float(((h.levels * h.step - w).double() ** 2).sum()) for h, w in zip(held, given, strict=True))
    clipped = sum(h.clipped * w.numel() for h, w in zip(held, given, strict=True)) / size
    ends = [int(end) for h in held for end in (h.levels.min(), h.levels.max())]
    bits = max((level if level >= 0 else ~level).bit_length() for level in ends) + 1
    return Report(held[0].step, clipped, math.sqrt(error / size), bits)


def _copied(net: Net) -> Net:
    """A network whose weights do not change any more."""
    kept = {
        name: tuple(w.detach().clone() for w in value) if isinstance(value, tuple) else value.detach().clone()
        for name, value in net.weights._asdict().items()
        if name != "bias_times"
    }
    return net._replace(weights=net.weights._replace(**kept))


# Running --------------------------------------------------------------------------------------------------------------------


class _Realised(NamedTuple):
    """A layer as a chip realises it: weights, recurrent weights, neurons; and nominal over realised threshold `(neurons,)`, or None."""

    w: Tensor
    v: Tensor | None
    p: object
    scale: np.ndarray | None


def _realise(
    chip: Chip, layer: Weights, circuits: np.ndarray, p, spiking: bool, random: np.random.Generator
) -> _Realised:
    """The layer of one run. A threshold enters as a factor of all weights of its neuron, so that potentials count in thresholds."""
    grid, noise = chip.substrate.weights, chip.substrate.noise
    scale = None
    if spiking:
        threshold = chip.own("threshold", p.threshold, circuits)
        if noise.threshold:
            moved = noise.threshold * p.threshold * random.standard_normal(len(circuits))
            threshold = (p.threshold if threshold is None else threshold) + moved
        if threshold is not None:
            scale = p.threshold / np.maximum(threshold, LEAST * p.threshold)  # Eq. (3)
    gain = chip.own("gain", 1.0, circuits)
    factors = [f for f in (scale, gain) if f is not None]
    w, v = grid.apply(layer.w), None if layer.v is None else grid.apply(layer.v)  # Eq. (1)
    if factors:
        columns = torch.from_numpy(math.prod(factors)).to(w)
        w, v = w * columns, None if v is None else v * columns
    own = {q: chip.own(q, getattr(p, q), circuits) for q in ("tau_mem", "tau_syn")}
    return _Realised(w, v, p._replace(**{q: tau for q, tau in own.items() if tau is not None}), scale)


def _transported(x: Tensor, events: Events, random: np.random.Generator, silent: float) -> tuple[Tensor, int]:
    """Spikes, or spike times, that arrive, and how many were lost; `silent` stands for no spike."""
    if not events.loss:
        return x, 0
    lost = (x.detach() != silent) & torch.from_numpy(random.random(x.shape) < events.loss)
    return torch.where(lost, torch.full((), silent, dtype=x.dtype), x), int(lost.sum())


def _run_stepped(chip: Chip, net: Stepped, plan: Plan, x, random: np.random.Generator, states: bool) -> Observables:
    """A network in time steps on a chip."""
    layers, given, lost = net.layers(), x, 0
    if chip.substrate.noise.time:
        raise UserError("run: noise of spike times needs a first-spike network; this one is in time steps")
    if chip.substrate.events.loss and isinstance(x, surrogate.Events):
        raise UserError("run: lost spikes need a dense input, not Events")
    spikes, potentials = [], []
    for layer, circuits in zip(layers[:-1], plan.circuits, strict=False):
        own = _realise(chip, layer, circuits, net.p, True, random)
        given, missing = _transported(given, chip.substrate.events, random, 0.0)
        lost += missing
        trace = surrogate.lif(given, own.w, own.p, own.v, states=states)
        spikes.append(trace.spikes)
        if states:
            u = trace.u if own.scale is None else trace.u / torch.from_numpy(own.scale).to(trace.u)
            potentials.append(u)
        given = trace.spikes
    last = _realise(chip, layers[-1], plan.circuits[-1], net.last, False, random)
    given, missing = _transported(given, chip.substrate.events, random, 0.0)
    y = surrogate.readout(given, last.w, last.p)
    converter, noise = (
        chip.substrate.readout,
        random.spawn(1)[0],
    )  # so that the output is the same with and without states
    return Observables(
        converter.read(y, random, net.last.threshold),
        spikes,
        [converter.read(u, noise, net.p.threshold) for u in potentials],
        lost + missing,
    )


def _on_grid(t: Tensor, chip: Chip, tau: float, random: np.random.Generator) -> Tensor:
    """Spike times as a chip reports them: with noise, and rounded."""
    finite = torch.isfinite(t.detach())
    if chip.substrate.noise.time:
        noise = torch.from_numpy(chip.substrate.noise.time * tau * random.standard_normal(t.shape)).to(t)
        t = t + noise
    if chip.substrate.time.step is not None:
        step = chip.substrate.time.step * tau
        t = instead(t, torch.where(finite, torch.round(t.detach() / step) * step, t.detach()))
    return t


def _times(t: Tensor, own: _Realised, p: exact.Neuron, largest_change: float) -> Tensor:
    """First spike times of a layer, in closed form where its time constants are the nominal ones."""
    if not any(isinstance(tau, np.ndarray) for tau in (own.p.tau_mem, own.p.tau_syn)):
        return exact.spike_times(t, own.w, p, largest_change=largest_change)
    if torch.is_grad_enabled() and (t.requires_grad or own.w.requires_grad):
        raise UserError(
            "HardwareAware: spike times have no gradient where time constants vary; train with InTheLoop, or vary thresholds"
        )
    mem, syn = (torch.from_numpy(np.broadcast_to(tau, own.w.shape[1]).copy()) for tau in (own.p.tau_mem, own.p.tau_syn))
    found = exact.mismatched_times(t, own.w, p, mem, syn, torch.full_like(mem, p.threshold))
    return found.to(t)


def _run_timed(
    chip: Chip,
    net: networks.Timed,
    plan: Plan,
    t: Tensor,
    random: np.random.Generator,
    largest_change: float = math.inf,
) -> Observables:
    """A network of first spikes on a chip."""
    lost, times = 0, []
    for layer, circuits, bias in zip(net.layers(), plan.circuits, net.weights.bias_times, strict=True):
        own = _realise(chip, layer, circuits, net.p, True, random)
        given = _with_bias(times[-1] if times else t, bias)
        given, missing = _transported(given, chip.substrate.events, random, math.inf)
        lost += missing
        found = _times(given, own, net.p, largest_change)
        times.append(_on_grid(found, chip, net.p.tau_syn, random))
    return Observables(times[-1], times, [], lost)


def _run(
    chip: Chip,
    net: Net,
    plan: Plan,
    x: Tensor,
    trial_seed: int,
    *,
    states: bool = False,
    largest_change: float = math.inf,
) -> Observables:
    """One run of a network on a chip, with a gradient where torch asks for one."""
    random = np.random.default_rng([trial_seed, TRIAL])
    if isinstance(net, Stepped):
        return _run_stepped(chip, net, plan, x, random, states)
    return _run_timed(chip, net, plan, x, random, largest_change)


def _with_bias(t: Tensor, bias: float | None) -> Tensor:
    return t if bias is None else torch.cat([t, t.new_full((len(t), 1), bias)], 1)


@dataclass(frozen=True, eq=False)
class Deployment:
    """A network on a chip.

    Attributes:
        chip: the chip.
        net: the network, with a copy of the weights that were written.
        plan: where it lies.
        reports: what became of the weights, one a layer.
    """

    chip: Chip
    net: Net
    plan: Plan
    reports: tuple[Report, ...]

    @torch.no_grad()
    def run(self, x: Tensor, trial_seed: int, *, states: bool = False) -> Observables:
        """What the chip shows for input spikes `(time, batch, units)`, or input times `(batch, inputs)`.

        Args:
            x: input.
            trial_seed: of what changes from run to run, 0 or more.
            states: whether membrane potentials are recorded too, of a network in time steps.

        Raises:
            UserError: a negative seed, or noise or losses that this kind of network or input does not take.
        """
        check_seed("run: trial_seed", trial_seed)
        return _run(self.chip, self.net, self.plan, x, trial_seed, states=states)


# Training -------------------------------------------------------------------------------------------------------------------


class Answer(NamedTuple):
    """What training looks at: the output and the spiking layers of `Observables`, with a gradient."""

    output: Tensor
    layers: list[Tensor]


def _spikes_instead(x: Tensor, layer: Weights, p: LIF, spikes: Tensor, u: Tensor) -> Tensor:
    """Observed spikes whose gradient is that of the nominal layer, with its surrogate at the observed potentials."""
    trace = surrogate.lif(x, layer.w, p, layer.v, engine="fast")
    trace.spikes.data.copy_(spikes)  # Eq. (4): the layer's gradient is computed from what its trace holds
    trace.u.data.copy_(u)
    return trace.spikes


class _TimesInstead(torch.autograd.Function):
    """Observed spike times; the gradient is the closed form of the nominal neuron at these times, Göltz et al. (2021)."""

    @staticmethod
    def forward(ctx, x: Tensor, w: Tensor, seen: Tensor, h: float, most: float) -> Tensor:
        ctx.save_for_backward(x, w, seen)
        ctx.h, ctx.most = h, most
        return seen.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, g: Tensor):
        x, w, seen = (a.detach().contiguous().numpy() for a in ctx.saved_tensors)
        order = np.argsort(x, axis=1)
        slopes, counts = observed_slopes(x, order, w, seen, ctx.h)  # Eq. (5)
        g = torch.where(torch.isfinite(g), g, 0.0).contiguous().numpy()
        found = seen, slopes, counts
        g_x, g_w = kernel.backward(kernel.EQUAL, x, order, w, found, g, ctx.most, ctx.needs_input_grad[0])
        return None if g_x is None else torch.from_numpy(g_x), torch.from_numpy(g_w), None, None, None


class InTheLoop:
    """A network that learns on one chip: its values are the observables, its gradient is that of the nominal network.

    The fixed pattern of the chip and its rounding have no part in the gradient. In time steps, the surrogate derivative is taken at
    the observed potentials. With first spikes, the closed form is evaluated at the observed times; where the nominal neuron would
    not spike, it is 0.

    Args:
        net: the network; its weights are deployed anew at each call.
        chip: the chip.
        trial_seed: of what changes from run to run.
        largest_change: see `snnrepro.first_spike.spike_times`.

    Raises:
        UserError: a negative seed; at a call, first-spike neurons whose two time constants differ, or observables of another batch.
    """

    def __init__(self, net: Net, chip: Chip, trial_seed: int = 0, largest_change: float = math.inf):
        networks.check(net)
        check_seed("InTheLoop: trial_seed", trial_seed)
        self.net, self.chip, self.plan, self.largest_change = net, chip, chip.place(net), largest_change
        self._seeds = np.random.default_rng([trial_seed, LOOP])

    @torch.no_grad()
    def observe(self, x: Tensor) -> Observables:
        """One run of the chip with the present weights."""
        return _run(self.chip, self.net, self.plan, x, int(self._seeds.integers(2**31)), states=True)

    def __call__(self, x: Tensor, seen: Observables | None = None) -> Answer:
        """Output and layers with their gradient. `seen` is what the chip showed; None: it is run now."""
        seen = self.observe(x) if seen is None else seen
        if isinstance(x, Tensor) and seen.output.shape[-2] != x.shape[-2]:
            raise UserError(
                f"InTheLoop: {x.shape[-2]} samples, and observables of {seen.output.shape[-2]}; give those of this input"
            )
        if isinstance(self.net, Stepped):
            return self._stepped(x, seen)
        return self._timed(x, seen)

    def _stepped(self, x: Tensor, seen: Observables) -> Answer:
        if not seen.potentials:
            raise UserError("InTheLoop: the observables hold no potentials; run the chip with states=True")
        layers, given, spikes = self.net.layers(), x, []
        for layer, s, u in zip(layers[:-1], seen.layers, seen.potentials, strict=True):
            spikes.append(_spikes_instead(given, layer, self.net.p, s, u))
            given = spikes[-1]
        y = surrogate.readout(given, layers[-1].w, self.net.last)
        return Answer(instead(y, seen.output), spikes)

    def _timed(self, x: Tensor, seen: Observables) -> Answer:
        kind, h = exact.check(self.net.p)
        if kind != kernel.EQUAL:
            raise UserError("InTheLoop: first-spike neurons need tau_mem = tau_syn; set both equal")
        times, tau = [], self.net.p.tau_syn
        for w, bias, t in zip(self.net.weights.weights, self.net.weights.bias_times, seen.layers, strict=True):
            given = _with_bias(times[-1] if times else x, bias)
            times.append(tau * _TimesInstead.apply(given / tau, w, t / tau, h, self.largest_change))
        return Answer(times[-1], times)


class HardwareAware:
    """A network that learns on simulated chips: rounding is passed straight through, realised parameters are known to the gradient.

    Args:
        net: the network.
        substrate: kind of chip.
        resample: when a new chip is drawn: for each `batch`; for each `epoch`, where `next_epoch` is called; `never`.
        seed: of the chips and trials.
        largest_change: see `snnrepro.first_spike.spike_times`.
    """

    def __init__(
        self,
        net: Net,
        substrate: Substrate,
        resample: Literal["batch", "epoch", "never"] = "batch",
        seed: int = 0,
        largest_change: float = math.inf,
    ):
        if resample not in ("batch", "epoch", "never"):
            raise UserError(f"HardwareAware: resample is {resample!r}; choose batch, epoch or never")
        networks.check(net)
        check_seed("HardwareAware: seed", seed)
        self.net, self.substrate, self.resample, self.largest_change = net, substrate, resample, largest_change
        self._seeds = np.random.default_rng([seed, AWARE])
        self._draw()
        self.plan = self.chip.place(net)

    def _draw(self) -> None:
        self.chip = self.substrate.fabricate(int(self._seeds.integers(2**31)))

    def next_epoch(self) -> None:
        """Draw a new chip where one is due each epoch."""
        if self.resample == "epoch":
            self._draw()

    def __call__(self, x: Tensor, trial_seed: int | None = None) -> Answer:
        """Output and layers; on the same chip, with the same trial seed, they are those of `Deployment.run`."""
        if self.resample == "batch":
            self._draw()
        trial = int(self._seeds.integers(2**31)) if trial_seed is None else trial_seed
        seen = _run(self.chip, self.net, self.plan, x, trial, largest_change=self.largest_change)
        return Answer(seen.output, seen.layers)
