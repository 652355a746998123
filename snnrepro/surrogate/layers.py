"""Layers of spiking neurons, trained by backpropagation through time with surrogate derivatives.

`lif` and `readout` take `(time, batch, units)` and return `(time, batch, neurons)`. The state is zero at the start. The loop here is the
readable reference; `snnrepro.kernels.lif` holds the compiled one, equal to rounding.
"""

from functools import cache
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from snnrepro import neurons
from snnrepro.errors import UserError
from snnrepro.kernels import lif as kernel
from snnrepro.kernels.events import finite, sort
from snnrepro.kernels.lif import Constants, Plan
from snnrepro.neurons import LIF
from snnrepro.surrogate.derivatives import derivative, spike

Engine = Literal["auto", "reference", "fast", "graph"]
ENGINES = ("auto", "reference", "fast", "graph")


class Events(NamedTuple):
    """Input spikes as a list, for input that is silent most of the time. Made by `events`.

    Attributes:
        starts: first event of each cell (time * batch size + sample), int64 `(time * batch + 1,)`.
        units: unit of each event, int32, in the order of the cells.
        shape: (time, batch, units).
    """

    starts: np.ndarray
    units: np.ndarray
    shape: tuple[int, int, int]

    def arrays(self, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What the kernel takes: starts, units, and no values, since each event counts 1."""
        return self.starts, self.units, np.empty(0, dtype)


def events(time: Tensor, batch: Tensor, unit: Tensor, shape: tuple[int, int, int]) -> Events:
    """`Events` from three int64 lists of equal length, one spike an entry; `shape` is (time, batch, units).

    Raises:
        UserError: a shape of other than three numbers, lists of different lengths, an index that is no integer, or one outside the shape.
    """
    if len(shape) != 3 or not all(isinstance(n, int | np.integer) and n >= 0 for n in shape):
        raise UserError(f"events: the shape is {tuple(shape)}; give whole numbers (time, batch, units)")
    lists = [torch.as_tensor(index).numpy() for index in (time, batch, unit)]
    if len({index.shape for index in lists}) > 1 or lists[0].ndim != 1:
        raise UserError(
            f"events: the lists have shapes {', '.join(str(index.shape) for index in lists)}; give equal lengths"
        )
    for name, index, size in zip(("time", "batch", "unit"), lists, shape, strict=True):
        if index.size and index.dtype.kind not in "iu":
            raise UserError(f"events: {name} holds {index.dtype}; give whole numbers of an integer type")
        if index.size and not 0 <= index.min() <= index.max() < size:
            raise UserError(f"events: {name} {index.min()} .. {index.max()} lies outside 0 .. {size - 1}")
    lists = [index.astype(np.int64, copy=False) for index in lists]
    return Events(*sort(lists[0] * shape[1] + lists[1], lists[2], shape[0] * shape[1]), tuple(shape))


class Trace(NamedTuple):
    """What a layer did, each `(time, batch, neurons)`.

    Attributes:
        spikes: S.
        u: membrane potential U before the reset, or None where the states were not asked for.
        i: synaptic current I, likewise.
        a: adaptation, likewise; None also without adaptation.
    """

    spikes: Tensor
    u: Tensor | None
    i: Tensor | None
    a: Tensor | None = None


def project(x: Tensor | Events, w: Tensor) -> Tensor:
    """Weighted input `(time, batch, neurons)` of spikes `(time, batch, units)` and weights `(units, neurons)`, in plain torch.

    Raises:
        UserError: shapes or types that do not fit.
    """
    if len(x.shape) != 3 or w.ndim != 2 or x.shape[2] != len(w):
        raise UserError(
            f"project: input has shape {tuple(x.shape)}, weights {tuple(w.shape)}; give (time, batch, units) and (units, neurons)"
        )
    if not isinstance(x, Events) and x.dtype != w.dtype:
        raise UserError(f"project: input is {x.dtype}, weights are {w.dtype}; give the same")
    if isinstance(x, Events):
        steps, batch, _ = x.shape
        cells = torch.from_numpy(np.repeat(np.arange(steps * batch), np.diff(x.starts)))
        units = torch.from_numpy(x.units.astype(np.int64))
        rows = w.new_zeros(steps * batch, w.shape[1]).index_add(0, cells.to(w.device), w[units.to(w.device)])
        return rows.view(steps, batch, w.shape[1])
    return x @ w


def chosen_engine(x: Tensor | Events, w: Tensor, engine: Engine = "auto") -> str:
    """The engine that runs for an input and weights: `reference`, `fast` or `graph`.

    `auto` is the compiled kernel for float32 and float64 on the CPU, the compiled torch loop on a GPU, and the plain loop for
    everything else.

    Raises:
        UserError: an unknown engine, or `fast` for tensors that the kernel does not take.
    """
    if engine not in ENGINES:
        raise UserError(f"lif: unknown engine {engine!r}; choose one of {', '.join(ENGINES)}")
    covered = w.device.type == "cpu" and w.dtype in (torch.float32, torch.float64)
    covered = covered and (isinstance(x, Events) or (x.device == w.device and x.dtype == w.dtype))
    if engine == "fast" and not covered:
        raise UserError(
            f"lif: engine 'fast' takes float32 or float64 on the CPU, input like weights; found {w.dtype} on {w.device}"
        )
    if engine != "auto":
        return engine
    return "fast" if covered else "graph" if w.device.type == "cuda" else "reference"


def lif(
    x: Tensor | Events, w: Tensor, p: LIF, v: Tensor | None = None, *, engine: Engine = "auto", states: bool = True
) -> Trace:
    """A layer of LIF neurons.

    Args:
        x: input spikes (or any analogue input) `(time, batch, units)`.
        w: input weights `(units, neurons)`.
        p: parameters.
        v: recurrent weights `(neurons, neurons)`, row = sender, or None.
        engine: `reference`, the loop below under automatic differentiation; `fast`, the compiled kernel with its hand-written
            backward pass; `graph`, the loop below with its step compiled by torch; `auto`, see `chosen_engine`.
        states: False: only the spikes are returned, which saves time and memory.

    Raises:
        UserError: shapes or types that do not fit, an empty batch, events that were made by hand and lie outside their shape, NaN or
            infinite values, or parameters that make no sense.
    """
    steps = _checked(x, w, v)
    neurons.check(p)
    lag = 1 if p.current == "old" else 0
    spikes, u, i, a = _run(x, w, v, p, engine, rows=steps, lag=lag, silent=False, states=states)
    return Trace(spikes, u, i, a)


def readout(x: Tensor | Events, w: Tensor, p: LIF, *, engine: Engine = "auto") -> Tensor:
    """Leaky integrators that neither spike nor reset: their potential `(time + 1, batch, neurons)`.

    The first entry is the zero state, as in SpyTorch, so that a maximum over time is never below 0. Entry n + 1 is the potential
    after step n; with `current="old"` the spikes of step n first count in entry n + 2. Of `p` only the time constants, the gain and
    the order of the updates count.

    Raises:
        UserError: as `lif`.
    """
    steps = _checked(x, w, None)
    silent = neurons.check(p._replace(reset="none", refractory=0, reset_gradient=False, adaptation=None))
    return _run(x, w, None, silent, engine, rows=steps + 1, lag=1, silent=True, states=True)[1]  # Eq. (9)


def _checked(x: Tensor | Events, w: Tensor, v: Tensor | None) -> int:
    """Number of time steps, once the shapes fit and the weights are finite."""
    if not isinstance(x, Tensor | Events) or not isinstance(w, Tensor) or not isinstance(v, Tensor | None):
        raise UserError("lif: give the weights as tensors of torch, and the input as a tensor or as `events`")
    if len(x.shape) != 3 or min(x.shape) < 1:
        raise UserError(f"lif: input has shape {tuple(x.shape)}; give (time, batch, units), none of them empty")
    if w.ndim != 2 or x.shape[2] != w.shape[0] or w.shape[1] < 1:
        raise UserError(f"lif: weights have shape {tuple(w.shape)}; give ({x.shape[2]}, neurons) to fit the input")
    if v is not None and tuple(v.shape) != (w.shape[1], w.shape[1]):
        raise UserError(f"lif: recurrent weights have shape {tuple(v.shape)}; give ({w.shape[1]}, {w.shape[1]})")
    if v is not None and (v.dtype, v.device) != (w.dtype, w.device):
        raise UserError(
            f"lif: recurrent weights are {v.dtype} on {v.device}, weights {w.dtype} on {w.device}; give the same"
        )
    if not w.is_floating_point():
        raise UserError(f"lif: weights are {w.dtype}; give floats, like float32 or float64")
    if isinstance(x, Events) and (
        len(x.starts) != x.shape[0] * x.shape[1] + 1
        or x.starts[0] != 0
        or x.starts[-1] != len(x.units)
        or (np.diff(x.starts) < 0).any()
        or (len(x.units) and not 0 <= x.units.min() <= x.units.max() < x.shape[2])
    ):
        raise UserError(f"lif: the list of events does not fit its shape {tuple(x.shape)}; make it with `events`")
    for name, weights in (("weights", w), ("recurrent weights", v)):
        if weights is not None and not _finite(weights):
            raise UserError(f"lif: the {name} hold NaN or infinite values")
    return x.shape[0]


def _finite(x: Tensor) -> bool:
    """Whether all entries are finite, counted without torch's threads where that can be done."""
    if x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64):
        return finite(x.detach().contiguous().numpy())
    return bool(torch.isfinite(x).all())


def _constants(p: LIF, w: Tensor) -> Constants:
    """The factors of one step, one a neuron, on the device and in the dtype of the weights."""
    size = w.shape[1]
    factors = (neurons.alpha(p), neurons.beta(p), neurons.gain(p), neurons.rho(p), neurons.jump(p))
    try:
        return Constants(*(torch.as_tensor(f).to(w).expand(size) for f in factors))
    except RuntimeError:
        raise UserError(f"lif: a time constant has not one entry for each of {size} neurons") from None


def _strength(p: LIF, size: int) -> np.ndarray | None:
    """How much the adaptation raises the threshold, one a neuron."""
    if p.adaptation is None:
        return None
    try:
        return np.broadcast_to(np.asarray(p.adaptation.strength, float), (size,))
    except (ValueError, RuntimeError):
        raise UserError(f"lif: adaptation.strength must be a number, or {size} numbers that need no gradient") from None


def _run(x, w, v, p: LIF, engine: Engine, rows: int, lag: int, silent: bool, states: bool):
    """Spikes, potentials, currents and adaptation of the layer, by the engine asked for."""
    derivative(p.surrogate)
    c, strength = _constants(p, w), _strength(p, w.shape[1])
    if strength is not None and not np.isfinite(strength).all():
        raise UserError("lif: adaptation.strength holds NaN or infinite values")
    choice = chosen_engine(x, w, engine)
    if choice != "fast" and not isinstance(x, Events) and x.dtype != w.dtype:
        raise UserError(f"lif: input is {x.dtype}, weights are {w.dtype}; give the same")
    if choice == "fast":
        dense, listed = (None, x) if isinstance(x, Events) else (x, None)
        return kernel.lif(dense, listed, w, v, c, Plan(p, strength, rows, lag, silent, states))
    if not isinstance(x, Events) and not _finite(x):
        raise UserError("lif: the input holds NaN or infinite values")
    step = _compiled_step() if choice == "graph" else _step
    if strength is not None:
        strength = torch.from_numpy(strength.copy()).to(w)
    spikes, u, i, a = _lif_loop(project(x, w), v, p, c, strength, rows, lag, silent, step)
    return None if silent else spikes, *((u, i, a if p.adaptation else None) if states else (None, None, None))


def _lif_loop(
    drive: Tensor, v, p: LIF, c: Constants, strength, rows: int, lag: int, silent: bool, step
) -> tuple[Tensor, ...]:
    """The discrete LIF layer of Neftci, Mostafa & Zenke (2019), with the switches of `LIF`: S, U, I and the adaptation."""
    state = (torch.zeros_like(drive[0]),) * 5
    record = [state] * lag
    for x in drive.unbind(0)[: rows - lag]:
        state = step(state, x, v, p, c, strength, silent)
        record.append(state)
    return tuple(torch.stack(column) for column in list(zip(*record, strict=True))[:4])


def _step(state: tuple[Tensor, ...], x: Tensor, v, p: LIF, c: Constants, strength, silent: bool) -> tuple[Tensor, ...]:
    """One step of the layer: spikes, potential, current, adaptation and refractory steps left, from those before it."""
    s, u, i, a, r = state
    s_reset = s if p.reset_gradient else s.detach()
    s_sent = s if p.recurrent_gradient else s.detach()
    i_new = c.alpha * i + x if v is None else c.alpha * i + x + s_sent @ v  # Eq. (3)
    i_used = i if p.current == "old" else i_new
    threshold = p.threshold
    if strength is not None:
        a = c.rho * a + c.jump * s
        threshold = p.threshold + strength * a
    u = _reset(c.beta * u, c.gain * i_used, s_reset, threshold, p)  # Eq. (4)
    if silent:
        return s, u, i_new, a, r
    if p.refractory > 1:
        r = torch.where(s > 0, float(p.refractory - 1), torch.clamp(r - 1, min=0))
    if p.refractory > 1 and p.refractory_kind == "clamp":
        u = torch.where(r > 0, 0.0, u)
    s = spike(u - threshold, p.surrogate)  # Eq. (5)
    if p.refractory > 1 and p.refractory_kind == "mute":
        s = torch.where(r > 0, 0.0, s)
    return s, u, i_new, a, r


def _reset(leaked: Tensor, driven: Tensor, s: Tensor, threshold: Tensor | float, p: LIF) -> Tensor:
    """Next membrane potential of neurons that spiked (s = 1) or not (see `LIF.reset`); `threshold` is the adaptive one."""
    if p.reset == "subtract":
        return leaked + driven - p.threshold * s
    if p.reset == "multiply":
        return (leaked + driven) * (1.0 - s)
    if p.reset == "zero":
        return leaked * (1.0 - s) + driven
    if p.reset == "subtract_adapted":
        return leaked + driven - threshold * s
    return leaked + driven


@cache
def _compiled_step():
    """`_step`, compiled by torch."""
    return torch.compile(_step)
