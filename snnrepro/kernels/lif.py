"""The LIF loop compiled, with its backward pass through time written by hand.

The reference is `snnrepro.surrogate.layers.lif(engine="reference")`. Memory for training: U, I and S, each (time, batch, neurons).
The sums run in the same order as the reference, so that without recurrence both give the same bits forward.
"""

import math

import numpy as np
import torch
from numba import njit
from torch import Tensor

from snnrepro import neurons
from snnrepro.neurons import LIF

RESETS = ("subtract", "multiply", "zero", "none")
SURROGATES = ("step", "fast_sigmoid", "asymptotic", "piecewise_linear", "exponential", "sigmoid", "constant")
_compiled = njit(cache=True, error_model="numpy")


@_compiled
def _next_membrane(u, i, s, beta, gain, threshold, reset, refractory, r, out):
    """Potential after a step, `out`, from potential u, current i and spikes s; r counts refractory steps. All (n,)."""
    for n in range(u.size):
        leaked = beta[n] * u[n]
        driven = gain[n] * i[n]
        if reset == 0:
            out[n] = leaked + driven - threshold * s[n]
        elif reset == 1:
            out[n] = (leaked + driven) * (1 - s[n])
        elif reset == 2:
            out[n] = leaked * (1 - s[n]) + driven
        else:
            out[n] = leaked + driven
    if refractory > 1:
        for n in range(u.size):
            r[n] = refractory - 1 if s[n] > 0 else max(r[n] - 1, 0)
            if r[n] > 0:
                out[n] = 0


@_compiled
def _forward(drive, v, alpha, beta, gain, threshold, reset, old, refractory, spikes, potentials, currents, held):
    """Fill spikes, potentials, currents (time, batch, n) and, where refractory, held (1 while the membrane is clamped)."""
    steps, batch, size = drive.shape
    u, i, s = np.zeros(size, drive.dtype), np.zeros(size, drive.dtype), np.zeros(size, drive.dtype)
    new_u, sent, r = np.zeros(size, drive.dtype), np.zeros(size, drive.dtype), np.zeros(size, np.int64)
    for b in range(batch):
        u[:], i[:], s[:], r[:] = 0, 0, 0, 0
        for t in range(steps):
            if old:
                for n in range(size):
                    s[n] = u[n] > threshold
                    spikes[t, b, n], potentials[t, b, n], currents[t, b, n] = s[n], u[n], i[n]
            sent[:] = 0
            for j in range(v.shape[0]):
                if s[j] > 0:
                    for n in range(size):
                        sent[n] += v[j, n]
            if old:
                _next_membrane(u, i, s, beta, gain, threshold, reset, refractory, r, new_u)
            for n in range(size):
                i[n] = alpha[n] * i[n] + drive[t, b, n] + sent[n]
            if not old:
                _next_membrane(u, i, s, beta, gain, threshold, reset, refractory, r, new_u)
            if refractory > 1:
                for n in range(size):
                    held[t, b, n] = r[n] > 0
            u[:] = new_u
            if not old:
                for n in range(size):
                    s[n] = u[n] > threshold
                    spikes[t, b, n], potentials[t, b, n], currents[t, b, n] = s[n], u[n], i[n]


@_compiled
def _surrogate(kind, slope, u, threshold, out):
    """Surrogate derivative h(u - threshold) of a row; `kind` indexes SURROGATES."""
    for n in range(u.size):
        x = u[n] - threshold
        if kind == 0:
            out[n] = 0
        elif kind == 1:
            out[n] = 1 / (1 + slope * abs(x)) ** 2
        elif kind == 2:
            out[n] = slope / (1 + slope * abs(x)) ** 2
        elif kind == 3:
            out[n] = max(0, 1 - slope * abs(x))
        elif kind == 4:
            out[n] = math.exp(-slope * abs(x))
        elif kind == 5:
            sigma = 1 / (1 + math.exp(-slope * x))
            out[n] = sigma * (1 - sigma)
        else:
            out[n] = 1


@_compiled
def _backward_row(g_u, u, i, s, g_held, beta, gain, threshold, reset, reset_gradient, to_u, to_i, to_s):
    """Adjoint of `_next_membrane`: gradients of u, i and s from the gradient g_u of the potential after the step."""
    for n in range(u.size):
        g = g_u[n] * g_held[n]
        stays_u = 1 - s[n] if reset == 1 or reset == 2 else 1 + 0 * s[n]
        stays_i = 1 - s[n] if reset == 1 else 1 + 0 * s[n]
        to_u[n] = g * beta[n] * stays_u
        to_i[n] = g * gain[n] * stays_i
        to_s[n] = 0
        if reset_gradient:
            if reset == 0:
                to_s[n] = -g * threshold
            elif reset == 1:
                to_s[n] = -g * (beta[n] * u[n] + gain[n] * i[n])
            elif reset == 2:
                to_s[n] = -g * beta[n] * u[n]


@_compiled
def _backward(
    g_spikes, g_potentials, g_currents, v, alpha, beta, gain, threshold, reset, old, refractory, kind, slope,
    reset_gradient, recurrent_gradient, spikes, potentials, currents, held, g_drive,
):  # fmt: skip
    """Fill g_drive (time, batch, n) from the gradients of the trace; a gradient array of size 1 stands for zeros."""
    steps, batch, size = g_drive.shape
    dtype = g_drive.dtype
    g_u, g_i, g_s = np.zeros(size, dtype), np.zeros(size, dtype), np.zeros(size, dtype)
    to_u, to_i, to_s = np.zeros(size, dtype), np.zeros(size, dtype), np.zeros(size, dtype)
    h, free, silent, rest = np.zeros(size, dtype), np.ones(size, dtype), np.zeros(size, dtype), np.zeros(size, dtype)
    for b in range(batch):
        g_u[:], g_i[:], g_s[:] = 0, 0, 0
        for t in range(steps - 1, -1, -1):
            u, i, s = potentials[t, b], currents[t, b], spikes[t, b]
            if refractory > 1:
                for n in range(size):
                    free[n] = 1 - held[t, b, n]
            _surrogate(kind, slope, u, threshold, h)
            if old:  # g_u, g_i: of the state after the step, made from u, i, s of this step
                _backward_row(g_u, u, i, s, free, beta, gain, threshold, reset, reset_gradient, to_u, to_i, to_s)
                for n in range(size):
                    g_drive[t, b, n] = g_i[n]
                if recurrent_gradient:
                    for n in range(v.shape[0]):
                        if g_i[n] != 0:
                            for j in range(size):
                                to_s[j] += v[j, n] * g_i[n]
                for n in range(size):
                    g_i[n] = alpha[n] * g_i[n] + to_i[n]
                    g_u[n] = to_u[n]
                    if g_currents.size > 1:
                        g_i[n] += g_currents[t, b, n]
                    if g_potentials.size > 1:
                        g_u[n] += g_potentials[t, b, n]
                    if g_spikes.size > 1:
                        to_s[n] += g_spikes[t, b, n]
                    g_u[n] += to_s[n] * h[n]
            else:  # g_u, g_i, g_s: of u, i, s of this step, made from the step before
                for n in range(size):
                    if g_currents.size > 1:
                        g_i[n] += g_currents[t, b, n]
                    if g_potentials.size > 1:
                        g_u[n] += g_potentials[t, b, n]
                    if g_spikes.size > 1:
                        g_s[n] += g_spikes[t, b, n]
                    g_u[n] += g_s[n] * h[n]
                u_before = potentials[t - 1, b] if t > 0 else rest
                s_before = spikes[t - 1, b] if t > 0 else silent
                _backward_row(
                    g_u, u_before, i, s_before, free, beta, gain, threshold, reset, reset_gradient, to_u, to_i, to_s
                )
                for n in range(size):
                    g_i[n] += to_i[n]
                    g_drive[t, b, n] = g_i[n]
                if recurrent_gradient:
                    for n in range(v.shape[0]):
                        if g_i[n] != 0:
                            for j in range(size):
                                to_s[j] += v[j, n] * g_i[n]
                for n in range(size):
                    g_i[n] = alpha[n] * g_i[n]
                    g_u[n] = to_u[n]
                    g_s[n] = to_s[n]


def _rows(x: Tensor, v: Tensor | None) -> np.ndarray:
    """A `(time, batch, n)` tensor as an array; without recurrence as `(time, 1, batch * n)`, since long rows run faster."""
    x = x.contiguous().numpy()
    return x.reshape(len(x), 1, -1) if v is None else x


def _per_row(constant: np.ndarray, neurons_: int, size: int, dtype: np.dtype) -> np.ndarray:
    """A constant, or one a neuron, repeated over a row of `size` entries."""
    return np.tile(np.broadcast_to(constant.astype(dtype), (neurons_,)), size // neurons_)


class _Lif(torch.autograd.Function):
    """`_forward` and `_backward` as one differentiable function of the weighted input and the recurrent weights."""

    @staticmethod
    def forward(ctx, drive: Tensor, v: Tensor | None, p: LIF) -> tuple[Tensor, Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        x = _rows(drive.detach(), v)
        size, dtype = x.shape[2], x.dtype
        weights = np.zeros((0, size), dtype) if v is None else np.ascontiguousarray(v.detach().numpy())
        alpha, beta, gain = (
            _per_row(f(p), drive.shape[2], size, dtype) for f in (neurons.alpha, neurons.beta, neurons.gain)
        )
        spikes, potentials, currents = (np.empty_like(x) for _ in range(3))
        held = np.zeros(x.shape if p.refractory > 1 else (1, 1, 1), np.uint8)
        ctx.constants = (
            alpha,
            beta,
            gain,
            dtype.type(p.threshold),
            RESETS.index(p.reset),
            p.current == "old",
            p.refractory,
        )
        _forward(x, weights, *ctx.constants, spikes, potentials, currents, held)
        ctx.p, ctx.weights, ctx.held, ctx.recurrent = p, weights, held, v is not None
        out = tuple(torch.from_numpy(a).view(drive.shape) for a in (spikes, potentials, currents))
        ctx.save_for_backward(*out)
        return out

    @staticmethod
    def backward(ctx, *grads: Tensor | None) -> tuple[Tensor, Tensor | None, None]:
        p = ctx.p
        trace = ctx.saved_tensors
        v = trace[0] if ctx.recurrent else None
        spikes, potentials, currents = (_rows(x.detach(), v) for x in trace)
        empty = np.zeros((1, 1, 1), spikes.dtype)
        given = [empty if g is None else _rows(g, v) for g in grads]
        g_drive = np.empty_like(spikes)
        kind = SURROGATES.index(p.surrogate.name)
        slope = spikes.dtype.type(p.surrogate.slope)
        through = p.recurrent_gradient and ctx.recurrent
        _backward(
            *given, ctx.weights, *ctx.constants, kind, slope,
            p.reset_gradient, through, spikes, potentials, currents, ctx.held, g_drive,
        )  # fmt: skip
        g = torch.from_numpy(g_drive).view(trace[0].shape)
        if not ctx.recurrent:
            return g, None, None
        # spikes of step n enter the current of step n + 1; `g` at n belongs to that current for "old", to the one of step n for "new"
        sent, got = (trace[0], g) if p.current == "old" else (trace[0][:-1], g[1:])
        return g, sent.flatten(0, 1).T @ got.flatten(0, 1), None


def lif(drive: Tensor, v: Tensor | None, p: LIF) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes, potentials and currents `(time, batch, neurons)` of a LIF layer from its weighted input, as `surrogate.lif`."""
    return _Lif.apply(drive, v, p)
