"""Layers of spiking neurons, trained by backpropagation through time with surrogate derivatives.

`lif` and `readout` take `(time, batch, units)` and return `(time, batch, neurons)`. The state is zero at the start. The loops here are
the readable reference; `snnrepro.kernels.lif` holds the compiled ones, equal to rounding.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

from snnrepro import neurons
from snnrepro.errors import UserError
from snnrepro.kernels import lif as kernel
from snnrepro.kernels.events import project as project_events
from snnrepro.neurons import LIF, Surrogate
from snnrepro.surrogate.derivatives import derivative, spike

Engine = Literal["auto", "reference", "fast"]


class Events(NamedTuple):
    """Input spikes as a list, for input that is silent most of the time.

    Attributes:
        cells: time * batch size + sample of each event, int64 `(events,)`.
        units: unit of each event, int64 `(events,)`.
        shape: (time, batch, units).
    """

    cells: Tensor
    units: Tensor
    shape: tuple[int, int, int]


def events(time: Tensor, batch: Tensor, unit: Tensor, shape: tuple[int, int, int]) -> Events:
    """`Events` from three int64 lists of equal length, one spike an entry; `shape` is (time, batch, units)."""
    return Events(time * shape[1] + batch, unit, shape)


class Trace(NamedTuple):
    """What a layer did: spikes `S`, membrane potential `U` (before the reset) and synaptic current `I`, `(time, batch, neurons)`."""

    spikes: Tensor
    u: Tensor
    i: Tensor


def project(x: Tensor | Events, w: Tensor) -> Tensor:
    """Weighted input `(time, batch, neurons)` of spikes `(time, batch, units)` and weights `(units, neurons)`.

    Raises:
        UserError: shapes that do not fit, or an empty batch.
    """
    if len(x.shape) != 3 or min(x.shape) < 1:
        raise UserError(f"lif: input has shape {tuple(x.shape)}; give (time, batch, units), none of them empty")
    if w.ndim != 2 or x.shape[2] != w.shape[0]:
        raise UserError(f"lif: weights have shape {tuple(w.shape)}; give ({x.shape[2]}, neurons) to fit the input")
    if isinstance(x, Events):
        steps, batch, _ = x.shape
        return project_events(w, x.cells, x.units, steps * batch).view(steps, batch, w.shape[1])
    return linear(x, w.T.contiguous())  # faster than x @ w, forward and backward, where neurons are few


def lif(x: Tensor | Events, w: Tensor, p: LIF, v: Tensor | None = None, *, engine: Engine = "auto") -> Trace:
    """A layer of LIF neurons.

    Args:
        x: input spikes (or any analogue input) `(time, batch, units)`.
        w: input weights `(units, neurons)`.
        p: parameters.
        v: recurrent weights `(neurons, neurons)`, row = sender, or None.
        engine: `reference`, the loop below under automatic differentiation; `fast`, the compiled kernel with its hand-written
            backward pass; `auto`, the fast one on the CPU.

    Raises:
        UserError: shapes that do not fit, an empty batch, an unknown engine, surrogate or parameter choice.
    """
    drive = project(x, w)
    if v is not None and tuple(v.shape) != (w.shape[1], w.shape[1]):
        raise UserError(f"lif: recurrent weights have shape {tuple(v.shape)}; give ({w.shape[1]}, {w.shape[1]})")
    return _run(drive, v, p, engine)


def _run(drive: Tensor, v: Tensor | None, p: LIF, engine: Engine) -> Trace:
    """The layer's trace from its weighted input, by the engine asked for."""
    neurons.check(p)
    derivative(p.surrogate)
    if engine not in ("auto", "reference", "fast"):
        raise UserError(f"lif: unknown engine {engine!r}; choose auto, reference or fast")
    if engine == "fast" or (engine == "auto" and drive.device.type == "cpu"):
        return Trace(*kernel.lif(drive, v, p))
    return _lif_loop(drive, v, p)


def _lif_loop(drive: Tensor, v: Tensor | None, p: LIF) -> Trace:
    """The discrete LIF layer of Neftci, Mostafa & Zenke (2019), with the switches of `LIF`."""
    alpha, beta, gain = (torch.as_tensor(f(p)).to(drive) for f in (neurons.alpha, neurons.beta, neurons.gain))
    u = i = s = r = torch.zeros_like(drive[0])
    record = []
    for x in drive.unbind(0):
        if p.current == "old":
            s = spike(u - p.threshold, p.surrogate)  # Eq. (5)
            record.append((s, u, i))
        s_reset = s if p.reset_gradient else s.detach()
        s_sent = s if p.recurrent_gradient else s.detach()
        i_new = alpha * i + x if v is None else alpha * i + x + s_sent @ v  # Eq. (3)
        i_used = i if p.current == "old" else i_new
        u = _reset(beta * u, gain * i_used, s_reset, p)  # Eq. (4)
        i = i_new
        if p.refractory > 1:
            r = torch.where(s > 0, float(p.refractory - 1), torch.clamp(r - 1, min=0))
            u = torch.where(r > 0, 0.0, u)
        if p.current == "new":
            s = spike(u - p.threshold, p.surrogate)  # Eq. (5)
            record.append((s, u, i))
    return Trace(*(torch.stack(column) for column in zip(*record, strict=True)))


def _reset(leaked: Tensor, driven: Tensor, s: Tensor, p: LIF) -> Tensor:
    """Next membrane potential of neurons that spiked (s = 1) or not (see `LIF.reset`)."""
    if p.reset == "subtract":
        return leaked + driven - p.threshold * s
    if p.reset == "multiply":
        return (leaked + driven) * (1.0 - s)
    if p.reset == "zero":
        return leaked * (1.0 - s) + driven
    return leaked + driven


def readout(x: Tensor, w: Tensor, p: LIF, *, engine: Engine = "auto") -> Tensor:
    """Leaky integrators that neither spike nor reset: their potential `(time + 1, batch, neurons)`.

    The first entry is the zero state, as in SpyTorch, so that a maximum over time is never below 0. Entry n + 1 is the potential
    after step n; with `current="old"` the spikes of step n first count in entry n + 2.
    """
    silent = p._replace(threshold=float("inf"), reset="none", refractory=0, surrogate=Surrogate("step", 0.0))
    drive = project(x, w)
    u = _run(torch.cat([drive, torch.zeros_like(drive[:1])]), None, silent, engine).u  # Eq. (9)
    if p.current == "old":
        return u
    return torch.cat([torch.zeros_like(u[:1]), u[:-1]])
