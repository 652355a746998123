"""A layer of LIF neurons compiled: the loop over time, and its backward pass written by hand.

The reference is `snnrepro.surrogate.layers._lif_loop`. Both loops walk over time in blocks of samples. Input spikes come as events, and
an event costs one row of weights; recurrent spikes alike. What happened is kept as rows of `(rows, batch, neurons)` arrays: row r
is the state after r steps (`lag` 1) or after r + 1 steps (`lag` 0). An array that nobody asked for has two rows, used in turn.

Memory for training: S and U, each (time, batch, neurons); I, the adaptation and the refractory mask only where they are needed.
An array of size 0 stands for "absent".
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from numba import njit
from torch import Tensor
from torch.autograd.function import once_differentiable

from snnrepro.errors import UserError
from snnrepro.kernels.events import compiled, find, finite, list_nonzero
from snnrepro.kernels.parallel import in_parallel, threads
from snnrepro.neurons import LIF, MULTI_GAUSSIAN, RESETS

SURROGATES = (
    "step",
    "fast_sigmoid",
    "asymptotic",
    "piecewise_linear",
    "exponential",
    "sigmoid",
    "constant",
    "gaussian",
    "multi_gaussian",
)
SUBTRACT, MULTIPLY, ZERO, NONE, SUBTRACT_ADAPTED = range(len(RESETS))
HEIGHT, WIDTH = MULTI_GAUSSIAN
CELLS = 4096  # neurons times samples that go through time together: their state stays in the cache, and rows are long
STEPS = 16  # steps whose weight gradients are added up together
SPARSE = 0.4  # up to this density a dense input is taken apart into events; above, it is multiplied

_contracted = njit(cache=True, error_model="numpy", nogil=True, fastmath={"contract"})


# Rows -----------------------------------------------------------------------------------------------------------------------


@compiled
def _gather(starts, units, values, first, w, out):
    """out += the weight rows of the events of the cells first, first + 1, ..., each times its value (1 where there are none).

    starts, units, values: events; w (units, n); out (cells * n,).
    """
    size = w.shape[1]
    for c in range(out.size // size):
        at, k, end = c * size, starts[first + c], starts[first + c + 1]
        if values.size:
            while k < end:
                for n in range(size):
                    out[at + n] += values[k] * w[units[k], n]
                k += 1
            continue
        while k + 8 <= end:
            a, b, c_, d = w[units[k]], w[units[k + 1]], w[units[k + 2]], w[units[k + 3]]
            e, f, g, h = w[units[k + 4]], w[units[k + 5]], w[units[k + 6]], w[units[k + 7]]
            for n in range(size):
                out[at + n] += ((a[n] + b[n]) + (c_[n] + d[n])) + ((e[n] + f[n]) + (g[n] + h[n]))
            k += 8
        while k < end:
            a = w[units[k]]
            for n in range(size):
                out[at + n] += a[n]
            k += 1


@compiled
def _scatter(starts, units, values, first, stride, rows, samples, g, out):
    """out[unit] += value * g[row, sample] for every event of the cells first + stride * row + sample: the adjoint of `_gather`.

    g (rows or more, samples or more, n). The events are sorted by unit first, so that a row of `out` is touched once.
    """
    size, per_row = out.shape[1], g.shape[1]
    by_cell = g.reshape(g.shape[0] * per_row, size)
    ends = np.zeros(len(out) + 1, np.int64)
    for r in range(rows):
        cell = first + stride * r
        for k in range(starts[cell], starts[cell + samples]):
            ends[units[k] + 1] += 1
    for unit in range(len(out)):
        ends[unit + 1] += ends[unit]
    total = ends[-1]
    cells, factors = np.empty(total, np.int32), np.empty(total if values.size else 0, g.dtype)
    place = ends[:-1].copy()
    for r in range(rows):
        for c in range(samples):
            cell = first + stride * r + c
            for k in range(starts[cell], starts[cell + 1]):
                at = place[units[k]]
                cells[at] = r * per_row + c
                if values.size:
                    factors[at] = values[k]
                place[units[k]] = at + 1
    for unit in range(len(out)):
        _gather(ends[unit : unit + 2], cells, factors, 0, by_cell, out[unit])


@compiled
def _list_spikes(s, starts, units, pairs):
    """Events of the spikes s (samples * n,), a cell a sample, from units[starts[0]] on; `units` has one place to spare."""
    place, size = starts[0], s.size // (starts.size - 1)
    for c in range(starts.size - 1):
        place = list_nonzero(s[c * size : (c + 1) * size], units, place, pairs)
        starts[c + 1] = place


@compiled
def _membrane(u, i, s, a, beta, gain, strength, threshold, reset, out):
    """Potential after a step, from potential u and spikes s before it, the current i and the adaptation a (see `LIF.reset`)."""
    one = out.dtype.type(1)
    if reset == SUBTRACT:
        for n in range(out.size):
            out[n] = beta[n] * u[n] + gain[n] * i[n] - threshold * s[n]
    elif reset == MULTIPLY:
        for n in range(out.size):
            out[n] = (beta[n] * u[n] + gain[n] * i[n]) * (one - s[n])
    elif reset == ZERO:
        for n in range(out.size):
            out[n] = beta[n] * u[n] * (one - s[n]) + gain[n] * i[n]
    elif reset == NONE:
        for n in range(out.size):
            out[n] = beta[n] * u[n] + gain[n] * i[n]
    else:
        for n in range(out.size):
            out[n] = beta[n] * u[n] + gain[n] * i[n] - (threshold + strength[n] * a[n]) * s[n]


@compiled
def _spike(u, a, strength, threshold, out):
    """Spikes where the potential is above the threshold, adapted or not."""
    zero, one = out.dtype.type(0), out.dtype.type(1)
    if a.size:
        for n in range(out.size):
            out[n] = one if u[n] > threshold + strength[n] * a[n] else zero
    else:
        for n in range(out.size):
            out[n] = one if u[n] > threshold else zero


@_contracted
def _exp(x, out):
    """exp(x) of a row of x <= 0. In float32 by a polynomial p(x / 16)^16, which runs on vectors as math.exp does not."""
    if x.itemsize == 8:
        for n in range(x.size):
            out[n] = math.exp(x[n])
        return
    c = x.dtype.type
    least = c(-20)  # below, it is 0
    for n in range(x.size):
        y = max(x[n], least) * c(1 / 16)
        p = c(1 / 362880)
        p = p * y + c(1 / 40320)
        p = p * y + c(1 / 5040)
        p = p * y + c(1 / 720)
        p = p * y + c(1 / 120)
        p = p * y + c(1 / 24)
        p = p * y + c(1 / 6)
        p = p * y + c(1 / 2)
        p = p * y + c(1)
        p = p * y + c(1)
        p *= p
        p *= p
        p *= p
        p *= p
        out[n] = p if x[n] > least else c(0)


@compiled
def _add_gaussian(x, slope, centre, factor, e, f, out):
    """out += factor times the density of a normal distribution of standard deviation 1 / slope around `centre`."""
    c = out.dtype.type
    peak = factor * slope * c(1 / math.sqrt(2 * math.pi))
    for n in range(out.size):
        y = (x[n] - centre) * slope
        e[n] = c(-0.5) * y * y
    _exp(e, f)
    for n in range(out.size):
        out[n] += peak * f[n]


@compiled
def _surrogate(kind, slope, scale, u, a, strength, threshold, work, out):
    """Surrogate derivative of a row, `snnrepro.surrogate.derivatives`; `kind` indexes SURROGATES; `work` (3, n) is work space."""
    c = out.dtype.type
    one = c(1)
    x, e, f = work[0], work[1], work[2]
    for n in range(out.size):
        x[n] = u[n] - threshold
    if a.size:
        for n in range(out.size):
            x[n] -= strength[n] * a[n]
    if kind == 0:
        out[:] = c(0)
    elif kind == 1 or kind == 2:
        peak = scale if kind == 1 else scale * slope
        for n in range(out.size):
            y = one + slope * abs(x[n])
            out[n] = peak / (y * y)
    elif kind == 3:
        for n in range(out.size):
            out[n] = scale * max(c(0), one - slope * abs(x[n]))
    elif kind == 4 or kind == 5:
        for n in range(out.size):
            e[n] = -slope * abs(x[n])
        _exp(e, f)
        if kind == 4:
            for n in range(out.size):
                out[n] = scale * f[n]
        else:  # s (1 - s) with s = 1 / (1 + exp(-x)) is f / (1 + f)^2 with f = exp(-|x|)
            for n in range(out.size):
                y = one + f[n]
                out[n] = scale * f[n] / (y * y)
    elif kind == 6:
        out[:] = scale
    else:
        out[:] = c(0)
        if kind == 7:
            _add_gaussian(x, slope, c(0), scale, e, f, out)
        else:
            wide, sigma = slope / c(WIDTH), one / slope
            _add_gaussian(x, slope, c(0), scale * c(1 + HEIGHT), e, f, out)
            _add_gaussian(x, wide, sigma, -scale * c(HEIGHT), e, f, out)
            _add_gaussian(x, wide, -sigma, -scale * c(HEIGHT), e, f, out)


@compiled
def _reset_adjoint(g, u, i, s, a, beta, gain, strength, threshold, reset, through, g_s, g_a, g_i):
    """Adjoint of `_membrane`: from the gradient g of the potential after the step, those of s, a and gain * i; g becomes that of
    beta * u.

    Arguments as in `_membrane`. Without `through` the reset counts as a constant factor of the spikes.
    """
    one = g.dtype.type(1)
    if through:
        if reset == SUBTRACT:
            for n in range(g.size):
                g_s[n] = -threshold * g[n]
        elif reset == MULTIPLY:
            for n in range(g.size):
                g_s[n] = -(beta[n] * u[n] + gain[n] * i[n]) * g[n]
        elif reset == ZERO:
            for n in range(g.size):
                g_s[n] = -beta[n] * u[n] * g[n]
        elif reset == SUBTRACT_ADAPTED:
            for n in range(g.size):
                g_s[n] = -(threshold + strength[n] * a[n]) * g[n]
        else:
            g_s[:] = g.dtype.type(0)
    else:
        g_s[:] = g.dtype.type(0)
    if reset == SUBTRACT_ADAPTED:
        for n in range(g.size):
            g_a[n] -= strength[n] * s[n] * g[n]
    if reset == MULTIPLY:
        for n in range(g.size):
            g[n] *= one - s[n]
    for n in range(g.size):
        g_i[n] = g[n]
    if reset == ZERO:
        for n in range(g.size):
            g[n] *= one - s[n]


@compiled
def _add_constants(out, g_u, g_i, g_a, g_driven, u, i, used, a, s, adaptive):
    """Add one step's gradients of alpha, beta, gain, rho and jump, from those after the step and the state before it."""
    for n in range(g_u.size):
        out[0, n] += g_i[n] * i[n]
    for n in range(g_u.size):
        out[1, n] += g_u[n] * u[n]
    for n in range(g_u.size):
        out[2, n] += g_driven[n] * used[n]
    if adaptive:
        for n in range(g_u.size):
            out[3, n] += g_a[n] * a[n]
        for n in range(g_u.size):
            out[4, n] += g_a[n] * s[n]


@compiled
def _add_product(a, b, out):
    """out += a * b."""
    for n in range(out.size):
        out[n] += a[n] * b[n]


@compiled
def _add(a, out):
    """out += a."""
    for n in range(out.size):
        out[n] += a[n]


@_contracted
def _product(g, v_t, out):
    """out = g @ v_t, four rows and eight terms at a time; g and out have a multiple of four rows. BLAS would bring its own threads."""
    out[:] = out.dtype.type(0)
    terms, size = v_t.shape
    for r in range(0, len(g), 4):
        k = 0
        while k + 8 <= terms:
            a0, a1, a2, a3 = g[r, k], g[r, k + 1], g[r, k + 2], g[r, k + 3]
            a4, a5, a6, a7 = g[r, k + 4], g[r, k + 5], g[r, k + 6], g[r, k + 7]
            b0, b1, b2, b3 = g[r + 1, k], g[r + 1, k + 1], g[r + 1, k + 2], g[r + 1, k + 3]
            b4, b5, b6, b7 = g[r + 1, k + 4], g[r + 1, k + 5], g[r + 1, k + 6], g[r + 1, k + 7]
            c0, c1, c2, c3 = g[r + 2, k], g[r + 2, k + 1], g[r + 2, k + 2], g[r + 2, k + 3]
            c4, c5, c6, c7 = g[r + 2, k + 4], g[r + 2, k + 5], g[r + 2, k + 6], g[r + 2, k + 7]
            d0, d1, d2, d3 = g[r + 3, k], g[r + 3, k + 1], g[r + 3, k + 2], g[r + 3, k + 3]
            d4, d5, d6, d7 = g[r + 3, k + 4], g[r + 3, k + 5], g[r + 3, k + 6], g[r + 3, k + 7]
            for j in range(size):
                v0, v1, v2, v3 = v_t[k, j], v_t[k + 1, j], v_t[k + 2, j], v_t[k + 3, j]
                v4, v5, v6, v7 = v_t[k + 4, j], v_t[k + 5, j], v_t[k + 6, j], v_t[k + 7, j]
                o0 = out[r, j] + a0 * v0 + a1 * v1 + a2 * v2 + a3 * v3
                o0 = o0 + a4 * v4 + a5 * v5 + a6 * v6 + a7 * v7
                o1 = out[r + 1, j] + b0 * v0 + b1 * v1 + b2 * v2 + b3 * v3
                o1 = o1 + b4 * v4 + b5 * v5 + b6 * v6 + b7 * v7
                o2 = out[r + 2, j] + c0 * v0 + c1 * v1 + c2 * v2 + c3 * v3
                o2 = o2 + c4 * v4 + c5 * v5 + c6 * v6 + c7 * v7
                o3 = out[r + 3, j] + d0 * v0 + d1 * v1 + d2 * v2 + d3 * v3
                o3 = o3 + d4 * v4 + d5 * v5 + d6 * v6 + d7 * v7
                out[r, j], out[r + 1, j], out[r + 2, j], out[r + 3, j] = o0, o1, o2, o3
            k += 8
        for last in range(k, terms):
            for row in range(r, r + 4):
                for j in range(size):
                    out[row, j] += g[row, last] * v_t[last, j]


# Loops ----------------------------------------------------------------------------------------------------------------------


@compiled
def _forward(
    low, high, block, starts, units, values, w, drive, v, alpha, beta, gain, rho, jump, strength,
    threshold, reset, old, lag, refractory, mute, spikes, potentials, currents, adaptations, held,
):  # fmt: skip
    """Fill the rows (rows, batch * n) of the samples low .. high, `block` at a time.

    Input: events, or `drive` (time, batch * n). Constants: (block * n,). Without spikes it is a readout.
    """
    size, dtype = w.shape[1], potentials.dtype
    batch = potentials.shape[1] // size
    spiking, adaptive = spikes.shape[1] > 0, adaptations.shape[1] > 0
    rest, none, zero = np.zeros(block * size, dtype), np.zeros(0, dtype), dtype.type(0)
    count = np.zeros(block * size if refractory > 1 else 0, np.int64)
    sent_starts, sent, pairs = (
        np.zeros(block + 1, np.int64),
        np.empty(block * size + 1, np.int32),
        np.empty(size + 1, np.int32),
    )
    for start in range(low, high, block):
        end = min(start + block, high)
        here = slice(start * size, end * size)
        count[:] = 0
        for row in range(len(spikes)):
            u, i = potentials[row % len(potentials), here], currents[row % len(currents), here]
            s = spikes[row, here] if spiking else rest
            a = adaptations[row % len(adaptations), here] if adaptive else none
            if row < lag:
                u[:], i[:], s[:], a[:] = zero, zero, zero, zero
                if held.size:
                    held[row, here] = False
                continue
            u_before, i_before, s_before, a_before = rest, rest, rest, rest
            if row > 0:
                u_before = potentials[(row - 1) % len(potentials), here]
                i_before = currents[(row - 1) % len(currents), here]
                s_before = spikes[row - 1, here] if spiking else rest
                a_before = adaptations[(row - 1) % len(adaptations), here] if adaptive else rest
            if drive.size:
                i[:] = drive[row - lag, here]
            else:
                i[:] = zero
                _gather(starts, units, values, (row - lag) * batch + start, w, i)
            _add_product(alpha, i_before, i)
            if v.size and row > 0:
                _list_spikes(s_before, sent_starts[: end - start + 1], sent, pairs)
                _gather(sent_starts, sent, none, 0, v, i)
            if adaptive:
                for n in range(a.size):
                    a[n] = rho[n] * a_before[n] + jump[n] * s_before[n]
            _membrane(u_before, i_before if old else i, s_before, a, beta, gain, strength, threshold, reset, u)
            if refractory > 1:
                for n in range(u.size):
                    count[n] = refractory - 1 if s_before[n] > 0 else max(count[n] - 1, 0)
                    if count[n] > 0 and not mute:
                        u[n] = zero
            if spiking:
                _spike(u, a, strength, threshold, s)
            if refractory > 1:
                for n in range(u.size):
                    if count[n] > 0:
                        s[n] = zero  # a clamped membrane is silent anyway
                if held.size:
                    for n in range(u.size):
                        held[row, start * size + n] = count[n] > 0


@compiled
def _backward(
    low, high, block, g_spikes, g_potentials, g_currents, g_adaptations, starts, units, values, w_t, v_t, alpha, beta, gain, rho,
    jump, strength, threshold, reset, old, lag, mute, kind, slope, scale, reset_through, recurrent_through,
    spikes, potentials, currents, adaptations, held, g_x, g_w, g_v, g_drive, g_constants,
):  # fmt: skip
    """Add up the gradients of the samples low .. high: g_w (units, n), g_v (n, n) and g_constants (5, block * n) for alpha, beta,
    gain, rho and jump; fill g_x (time, batch * units) and g_drive (time, batch * n). Each of the five, and each given gradient, may
    be absent.
    """
    size, dtype = len(v_t), potentials.dtype
    batch, most = potentials.shape[1] // size, block * size
    spiking, adaptive = spikes.shape[1] > 0, adaptations.shape[1] > 0
    rest, none, zero = np.zeros(most, dtype), np.zeros(0, dtype), dtype.type(0)
    state, work = np.zeros((6, most), dtype), np.zeros((3, most), dtype)
    padded = -(-block // 4) * 4
    recent, fed_back = np.zeros((STEPS, padded, size), dtype), np.zeros((padded, size), dtype)
    inputs = w_t.shape[1]
    to_x = np.zeros((padded if g_x.size else 0, inputs), dtype)
    sent_starts, pairs = np.zeros(STEPS * block + 1, np.int64), np.empty(size + 1, np.int32)
    sent, filled = np.empty((STEPS if g_v.size else 0) * most + 1, np.int32), 0
    for start in range(low, high, block):
        end = min(start + block, high)
        here, m = slice(start * size, end * size), (end - start) * size
        state[:] = zero
        g_u, g_i, g_s, g_a, h, g_driven = (
            state[0, :m],
            state[1, :m],
            state[2, :m],
            state[3, :m],
            state[4, :m],
            state[5, :m],
        )
        samples, filled = end - start, 0
        for row in range(len(potentials) - 1, -1, -1):
            u = potentials[row, here]
            i = currents[row, here] if currents.size else rest
            a = adaptations[row, here] if adaptive else none
            if g_potentials.size:
                _add(g_potentials[row, here], g_u)
            if g_currents.size:
                _add(g_currents[row, here], g_i)
            if g_adaptations.size:
                _add(g_adaptations[row, here], g_a)
            if spiking:
                if g_spikes.size:
                    _add(g_spikes[row, here], g_s)
                _surrogate(kind, slope, scale, u, a, strength, threshold, work, h)
                if held.size and mute:
                    for n in range(m):
                        h[n] = zero if held[row, start * size + n] else h[n]
                _add_product(h, g_s, g_u)
                if adaptive:
                    for n in range(m):
                        g_a[n] -= strength[n] * h[n] * g_s[n]
            if row < lag:
                continue
            u_before, i_before, s_before, a_before = rest, rest, rest, rest
            if row > 0:
                u_before = potentials[row - 1, here]
                i_before = currents[row - 1, here] if currents.size else rest
                s_before = spikes[row - 1, here] if spiking else rest
                a_before = adaptations[row - 1, here] if adaptive else rest
            if held.size and not mute:
                for n in range(m):
                    g_u[n] = zero if held[row, start * size + n] else g_u[n]
            used = i_before if old else i
            _reset_adjoint(
                g_u,
                u_before,
                used,
                s_before,
                a,
                beta,
                gain,
                strength,
                threshold,
                reset,
                reset_through,
                g_s,
                g_a,
                g_driven,
            )
            if not old:
                _add_product(gain, g_driven, g_i)
            sending = recent[filled]
            g_in = sending.reshape(padded * size)[:m]
            g_in[:] = g_i
            if g_constants.size:
                _add_constants(
                    g_constants, g_u, g_in, g_a, g_driven, u_before, i_before, used, a_before, s_before, adaptive
                )
            for n in range(m):
                g_i[n] *= alpha[n]
            if old:
                _add_product(gain, g_driven, g_i)
            for n in range(m):
                g_u[n] *= beta[n]
            if adaptive:
                _add_product(jump, g_a, g_s)
                for n in range(m):
                    g_a[n] *= rho[n]
            if g_x.size:
                _product(sending, w_t, to_x)
                g_x[row - lag, start * inputs : end * inputs] = to_x.reshape(padded * inputs)[: (end - start) * inputs]
            if g_drive.size:
                g_drive[row - lag, here] = g_in
            if g_v.size:
                _list_spikes(s_before[:m], sent_starts[filled * samples : (filled + 1) * samples + 1], sent, pairs)
            filled += 1
            if filled == STEPS or row == lag:
                if g_w.size:
                    first = (row - lag + filled - 1) * batch + start
                    _scatter(starts, units, values, first, -batch, filled, samples, recent, g_w)
                if g_v.size:
                    _scatter(sent_starts, sent, none, 0, samples, filled, samples, recent, g_v)
                filled = 0
            if row > 0 and recurrent_through:
                _product(sending, v_t, fed_back)
                _add(fed_back.reshape(padded * size)[:m], g_s)


# As a function of torch -----------------------------------------------------------------------------------------------------


class Constants(NamedTuple):
    """Factors of one step, one a neuron: tensors `(n,)` in the dtype of the layer (see `snnrepro.neurons`)."""

    alpha: Tensor
    beta: Tensor
    gain: Tensor
    rho: Tensor
    jump: Tensor


class Plan(NamedTuple):
    """What a call of the layer is to do.

    Attributes:
        p: parameters, for everything that is no `Constants`.
        strength: how much the adaptation raises the threshold `(n,)`, or None without adaptation.
        rows: rows of the trace.
        lag: 1 where the first row is the zero state, else 0.
        silent: a readout: no spikes, no reset.
        states: whether the caller wants U, I and the adaptation too.
    """

    p: LIF
    strength: np.ndarray | None
    rows: int
    lag: int
    silent: bool
    states: bool


class _Input(NamedTuple):
    """Weighted input: events and weights, or `drive` (time, batch * n)."""

    starts: np.ndarray
    units: np.ndarray
    values: np.ndarray
    drive: np.ndarray


def _shares(batch: int, size: int) -> tuple[int, int]:
    """How many workers share the batch, and the samples that go through time together."""
    workers = min(threads(), batch)
    return workers, min(max(1, CELLS // size), -(-batch // workers))


def _take_apart(x: Tensor, w: Tensor, workers: int) -> _Input:
    """Dense input (time, batch, units) as events where it is sparse, else multiplied with the weights."""
    cells = x.detach().contiguous().view(-1, x.shape[2])
    found, nothing = find(cells.numpy(), SPARSE, workers), np.empty((0, 0), cells.numpy().dtype)
    values = cells.numpy() if found is None else found[2]
    if not finite(values):
        raise UserError("lif: the input holds NaN or infinite values")
    if found is not None:
        return _Input(*found, nothing)
    drive = (cells @ w.detach()).view(len(x), -1)
    return _Input(np.zeros(0, np.int64), np.zeros(0, np.int32), nothing.reshape(0), drive.numpy())


class _Lif(torch.autograd.Function):
    """`_forward` and `_backward` as one differentiable function of the input, the weights and the constants."""

    @staticmethod
    def forward(ctx, x, events, w, v, alpha, beta, gain, rho, jump, plan: Plan):
        ctx.set_materialize_grads(False)
        p, batch = plan.p, x.shape[1] if events is None else events.shape[1]
        weights = w.detach().contiguous().numpy()
        size, dtype = weights.shape[1], weights.dtype
        workers, block = _shares(batch, size)
        given = _take_apart(x, w, workers) if events is None else _Input(*events.arrays(dtype), np.empty((0, 0), dtype))
        strength = np.zeros(0, dtype) if plan.strength is None else np.tile(plan.strength.astype(dtype), block)
        constants = [np.tile(c.detach().numpy(), block) for c in (alpha, beta, gain, rho, jump)]
        recurrent = np.empty((0, size), dtype) if v is None else v.detach().contiguous().numpy()

        training, adaptive, rows = any(ctx.needs_input_grad), plan.strength is not None, plan.rows
        needs_currents = any(ctx.needs_input_grad[4:9]) or (p.reset == "multiply" and p.reset_gradient)
        kept = rows if plan.states or training else min(2, rows)
        currents_kept = rows if plan.states or (training and needs_currents) else min(2, rows)
        cells = batch * size
        spikes = np.empty((rows, 0 if plan.silent else cells), dtype)
        potentials, currents = np.empty((kept, cells), dtype), np.empty((currents_kept, cells), dtype)
        adaptations = np.empty((kept, cells if adaptive else 0), dtype)
        held = np.empty((rows, cells) if training and p.refractory > 1 else (0, 0), np.bool_)
        switches = (dtype.type(p.threshold), RESETS.index(p.reset), p.current == "old", plan.lag)
        mute = p.refractory_kind == "mute"

        def work(k: int, low: int, high: int) -> None:
            _forward(
                low, high, block, given.starts, given.units, given.values, weights, given.drive, recurrent, *constants, strength,
                *switches, p.refractory, mute, spikes, potentials, currents, adaptations, held,
            )  # fmt: skip

        in_parallel(work, workers, batch)
        out = [
            torch.from_numpy(a).view(len(a), batch, -1) if a.size else None
            for a in (spikes, potentials, currents, adaptations)
        ]
        if training:
            ctx.save_for_backward(x, w, v, *out)
            ctx.plan, ctx.given, ctx.block, ctx.workers, ctx.held = plan, given, block, workers, held
            ctx.constants, ctx.strength, ctx.switches, ctx.mute = constants, strength, switches, mute
        shown = (True, plan.states, plan.states and not plan.silent, plan.states)
        return tuple(a if wanted else None for a, wanted in zip(out, shown, strict=True))

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads):
        x, w, v, *trace = ctx.saved_tensors
        p, given, rows = ctx.plan.p, ctx.given, ctx.plan.rows
        (_, batch, size), dtype = trace[1].shape, given.drive.dtype
        flat = [np.empty((rows, 0), dtype) if a is None else a.numpy().reshape(len(a), -1) for a in trace]
        if len(flat[2]) < rows:
            flat[2] = np.empty((0, 0), dtype)
        incoming = [np.empty((0, 0), dtype) if g is None else g.contiguous().numpy().reshape(rows, -1) for g in grads]
        needs_x, _, needs_w, needs_v, *needs_constants = ctx.needs_input_grad[:9]
        dense = given.drive.size > 0
        steps = (len(given.starts) - 1) // batch if x is None else len(x)
        workers, block = ctx.workers, ctx.block
        g_w = np.zeros((workers, *(w.shape if needs_w and not dense else (0, size))), dtype)
        g_v = np.zeros((workers, *(v.shape if needs_v else (0, 0))), dtype)
        g_constants = np.zeros((workers, *((5, block * size) if any(needs_constants) else (0, 0))), dtype)
        g_drive = np.empty((steps, batch * size) if dense else (0, 0), dtype)
        g_x = np.empty((steps, batch * len(w)) if needs_x else (0, 0), dtype)
        for filled in (g_drive, g_x):
            filled[rows - ctx.plan.lag :] = 0  # input that came too late to count
        through = p.recurrent_gradient and v is not None
        v_t = np.ascontiguousarray(v.detach().numpy().T) if through else np.zeros((size, size), dtype)
        w_t = np.ascontiguousarray(w.detach().numpy().T) if needs_x else np.zeros((size, 0), dtype)

        def work(k: int, low: int, high: int) -> None:
            _backward(
                low, high, block, *incoming, given.starts, given.units, given.values, w_t, v_t, *ctx.constants,
                ctx.strength, *ctx.switches, ctx.mute, SURROGATES.index(p.surrogate.name), dtype.type(p.surrogate.slope),
                dtype.type(p.surrogate.scale), p.reset_gradient, through, *flat, ctx.held, g_x, g_w[k], g_v[k], g_drive, g_constants[k],
            )  # fmt: skip

        in_parallel(work, workers, batch)
        to_x = torch.from_numpy(g_x).view(x.shape) if needs_x else None
        to_w = None
        if needs_w:
            to_w = (
                x.flatten(0, 1).T @ torch.from_numpy(g_drive).view(-1, size) if dense else torch.from_numpy(g_w.sum(0))
            )
        to_v = torch.from_numpy(g_v.sum(0)) if needs_v else None
        to_constants = [None] * 5
        if any(needs_constants):
            to_constants = list(torch.from_numpy(g_constants.sum(0).reshape(5, block, size).sum(1)))
        return to_x, None, to_w, to_v, *to_constants, None


def lif(
    x: Tensor | None, events, w: Tensor, v: Tensor | None, constants: Constants, plan: Plan
) -> tuple[Tensor | None, ...]:
    """Spikes, potentials, currents and adaptations `(rows, batch, neurons)` of a layer, None where not asked for.

    Args:
        x: dense input `(time, batch, units)`, or None where `events` are given.
        events: `snnrepro.surrogate.Events`, or None.
        w: weights `(units, neurons)`.
        v: recurrent weights `(neurons, neurons)`, row = sender, or None.
        constants: factors of one step; their gradients are given where they require them.
        plan: everything else.

    Raises:
        UserError: NaN or infinite values in a dense input.
    """
    given = (x, events, w, v, *constants)
    if not torch.is_grad_enabled():  # torch would still call for gradients, and all rows would be kept
        given = tuple(a.detach() if isinstance(a, Tensor) else a for a in given)
    return _Lif.apply(*given, plan)
