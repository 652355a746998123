"""First spike times and their gradients, compiled: one walk over the sorted inputs of a sample.

Everything here is in units of the synaptic time constant, with a threshold h = C * threshold / tau_syn. The state of a neuron after
an input is its potential v and its current i; a time s later, without further input, the potential is

    EQUAL    (v + i s) exp(-s)                        tau_mem = tau_syn
    DOUBLE   (v + 2 i) exp(-s / 2) - 2 i exp(-s)      tau_mem = 2 tau_syn
    NO_LEAK  v + i (1 - exp(-s))                      tau_mem infinite

Neurons are taken in blocks of columns, so that their weights stay in the cache while the samples pass.
"""

import math

import numpy as np
from numba import njit

from snnrepro.kernels.events import compiled
from snnrepro.kernels.parallel import in_parallel, threads

EQUAL, DOUBLE, NO_LEAK = range(3)
COLUMNS = 512
PEAK = (math.exp(-1), 0.5, 1.0)  # largest value of the kernel `_kernel` of each kind

_reordered = njit(cache=True, error_model="numpy", nogil=True, fastmath={"contract", "reassoc"})


@compiled
def lambert_w(z):
    """Principal branch of Lambert's W for z in [-1/e, 0]: w exp(w) = z. From the series at the branch point by Halley steps."""
    p = math.sqrt(max(2 * (math.e * z + 1), 0.0))
    w = -1 + p * (1 - p * (1 / 3 - p * (11 / 72)))
    for _ in range(8):
        grown = math.exp(w)
        off = w * grown - z
        if w <= -1 or off == 0:
            break
        step = off / (grown * (w + 1) - (w + 2) * off / (2 * w + 2))
        w -= step
        if abs(step) < 1e-16:
            break
    return w


@compiled
def first_crossing(kind, v, i, length, h):
    """Time until a potential v < h, with current i, first reaches h, if that is within `length`; infinite otherwise."""
    if kind == NO_LEAK:
        missing = (h - v) / i if i > 0 else math.inf
        s = -math.log1p(-missing) if missing < 1 else math.inf
        return s if s <= length else math.inf
    if kind == DOUBLE:
        p = v + 2 * i
        inside = p * p - 8 * i * h
        if i <= 0 or 2 * i <= v or p <= 0 or inside < 0:
            return math.inf
        s = -2 * math.log((p + math.sqrt(inside)) / (4 * i))
        return s if s <= length else math.inf
    if i <= 0 or i <= v or i * math.exp(v / i - 1) < h:  # falls, or its peak at s = 1 - v / i is too low
        return math.inf
    s = -v / i - lambert_w(-h / i * math.exp(-v / i))
    return s if s <= length else math.inf


@_reordered
def _total(flags):
    """Sum of a row."""
    total = flags.dtype.type(0)
    for n in range(flags.size):
        total += flags[n]
    return total


@compiled
def _advance(kind, length, h, v, i, v_after, i_after, waits, reached):
    """State of a row of neurons after `length`; `reached` is 1 for waiting neurons (`waits` 1) that may have reached h, else 0.
    Returns whether any did.
    """
    zero, one, two, eight = v.dtype.type(0), v.dtype.type(1), v.dtype.type(2), v.dtype.type(8)
    step, d = v.dtype.type(length), v.dtype.type(math.exp(-length))
    if kind == EQUAL:
        for n in range(v.size):
            v_after[n] = (v[n] + i[n] * step) * d
            i_after[n] = i[n] * d
        for n in range(v.size):  # above h now, or past a peak that may have been above
            peak = (i[n] > h) & (i[n] > v[n]) & (i_after[n] <= v_after[n])
            reached[n] = waits[n] if (v_after[n] >= h) | peak else zero
    elif kind == DOUBLE:
        d_half = v.dtype.type(math.exp(-length / 2))
        for n in range(v.size):
            v_after[n] = (v[n] + two * i[n]) * d_half - two * i[n] * d
            i_after[n] = i[n] * d
        for n in range(v.size):
            p = v[n] + two * i[n]
            peak = (two * i[n] > v[n]) & (two * i_after[n] <= v_after[n]) & (p * p >= eight * i[n] * h)
            reached[n] = waits[n] if (v_after[n] >= h) | peak else zero
    else:
        for n in range(v.size):
            v_after[n] = v[n] + i[n] * (one - d)
            i_after[n] = i[n] * d
        for n in range(v.size):
            reached[n] = waits[n] if v_after[n] >= h else zero
    return _total(reached) > 0


@compiled
def _add(a, out):
    """out += a."""
    for n in range(out.size):
        out[n] += a[n]


@compiled
def _forward(low, high, kind, h, x, order, w, times, slopes, counts):
    """Fill times, slopes and counts (batch, neurons) for the samples low .. high.

    x (batch, inputs): input times, infinite where there is no spike; order (batch, inputs) sorts them; w (inputs, neurons). `slopes`
    is dV/dt at the spike, `counts` the number of inputs that came before it.
    """
    inputs, size = w.shape
    state = np.empty((6, COLUMNS), w.dtype)
    for left in range(0, size, COLUMNS):
        right = min(left + COLUMNS, size)
        m = right - left
        v, i, v_after, i_after = state[0, :m], state[1, :m], state[2, :m], state[3, :m]
        waits, reached = state[4, :m], state[5, :m]
        for b in range(low, high):
            v[:] = 0
            i[:] = 0
            waits[:] = 1
            times[b, left:right] = math.inf
            slopes[b, left:right] = 0
            counts[b, left:right] = 0
            waiting, k = m, 0
            while k < inputs and waiting > 0:
                now = x[b, order[b, k]]
                if now == math.inf:
                    break
                following = now
                while following == now:
                    _add(w[order[b, k], left:right], i)
                    k += 1
                    following = x[b, order[b, k]] if k < inputs else math.inf
                length = following - now
                if length == math.inf:
                    reached[:] = waits
                elif not _advance(kind, length, h, v, i, v_after, i_after, waits, reached):
                    v, v_after = v_after, v
                    i, i_after = i_after, i
                    continue
                for n in range(m):
                    if reached[n] == 0:
                        continue
                    s = first_crossing(kind, v[n], i[n], math.inf, h)
                    if length < math.inf and v_after[n] >= h:
                        s = min(s, length)  # rounding may put it past the next input, or lose it
                    if s > length or s == math.inf:
                        continue
                    times[b, left + n] = min(now + s, following)
                    slopes[b, left + n] = i[n] * math.exp(-s) - (h if kind == EQUAL else h / 2 if kind == DOUBLE else 0)
                    counts[b, left + n] = k
                    waits[n] = 0
                    waiting -= 1
                if length < math.inf:
                    v[:] = v_after
                    i[:] = i_after


@compiled
def _kernel(kind, e, e_half, s):
    """Potential a time s after a single input of weight 1, with e = exp(-s) and e_half = exp(-s / 2)."""
    if kind == EQUAL:
        return s * e
    if kind == DOUBLE:
        return 2 * (e_half - e)
    return 1 - e


@compiled
def _largest(kind, x, order, count, time):
    """Largest value of the kernel over the inputs that came before a spike at `time`."""
    largest = 0.0
    for k in range(count):
        s = time - x[order[k]]
        largest = max(largest, _kernel(kind, math.exp(-s), math.exp(-s / 2), s))
    return largest


@compiled
def _enter(rank, d, last, first, e):
    """Decay of a row on the way back in time; where the last input before a spike is passed, it starts from `first`."""
    for n in range(e.size):
        e[n] = first[n] if rank == last[n] else e[n] * d


@compiled
def _add_to_weights(kind, now, time, e, e_half, out):
    """One input's part of the weight gradient: out += its kernel, with the factors of the neurons in `e` and `e_half`."""
    two = out.dtype.type(2)
    if kind == EQUAL:
        for n in range(out.size):
            out[n] += (time[n] - now) * e[n]
    elif kind == DOUBLE:
        for n in range(out.size):
            out[n] += two * (e_half[n] - e[n])
    else:
        for n in range(out.size):
            out[n] += e_half[n] - e[n]


@_reordered
def _input_gradient(kind, now, time, e, e_half, w):
    """One input's gradient: the derivative of its kernel times its weights, over the neurons of a row."""
    total, one, two = w.dtype.type(0), w.dtype.type(1), w.dtype.type(2)
    if kind == EQUAL:
        for n in range(w.size):
            total += w[n] * (one - time[n] + now) * e[n]
    elif kind == DOUBLE:
        for n in range(w.size):
            total += w[n] * (two * e[n] - e_half[n])
    else:
        for n in range(w.size):
            total += w[n] * e[n]
    return total


@compiled
def _backward(low, high, kind, x, order, w, times, slopes, counts, g_times, most, peak, g_x, g_w):
    """Add the gradients of the samples low .. high to g_w (inputs, neurons) and g_x (batch, inputs), which may be absent (size 0).

    A sample and neuron with an absolute weight gradient above `most` does not count for g_w. Rows `e` and `e_half` hold exp(-s) and
    exp(-s / 2), or 1 without leak, of the time s from an input to the spike, times the factor of the neuron.
    """
    size, dtype = w.shape[1], w.dtype
    rows = np.empty((9, COLUMNS), dtype)
    last = np.empty(COLUMNS, np.int64)
    for left in range(0, size, COLUMNS):
        right = min(left + COLUMNS, size)
        m = right - left
        e, e_half, first, first_half = rows[0, :m], rows[1, :m], rows[2, :m], rows[3, :m]
        ex, ex_half, first_x, first_x_half, time = rows[4, :m], rows[5, :m], rows[6, :m], rows[7, :m], rows[8, :m]
        for b in range(low, high):
            inputs = 0
            rows[:] = 0
            for n in range(m):
                count, spike, slope = counts[b, left + n], times[b, left + n], slopes[b, left + n]
                last[n] = -1
                if count == 0 or slope <= 0 or g_times[b, left + n] == 0:
                    continue
                s = spike - x[b, order[b, count - 1]]
                factor = g_times[b, left + n] / slope  # Eq. (6)
                last[n], time[n] = count - 1, spike
                first_x[n] = factor * math.exp(-s)
                first_x_half[n] = factor * math.exp(-s / 2) if kind == DOUBLE else factor
                if abs(factor) * peak <= most or abs(factor) * _largest(kind, x[b], order[b], count, spike) <= most:
                    first[n], first_half[n] = -first_x[n], -first_x_half[n]
                inputs = max(inputs, count)
            before = math.inf
            for rank in range(inputs - 1, -1, -1):
                i = order[b, rank]
                now = x[b, i]
                d = math.exp(now - before) if now < before < math.inf else 1.0
                before = now
                decay, half = dtype.type(d), dtype.type(math.sqrt(d) if kind == DOUBLE else 1.0)
                _enter(rank, decay, last[:m], first, e)
                if kind != EQUAL:
                    _enter(rank, half, last[:m], first_half, e_half)
                _add_to_weights(kind, now, time, e, e_half, g_w[i, left:right])
                if g_x.size:
                    _enter(rank, decay, last[:m], first_x, ex)
                    if kind != EQUAL:
                        _enter(rank, half, last[:m], first_x_half, ex_half)
                    g_x[b, i] += _input_gradient(kind, now, time, ex, ex_half, w[i, left:right])


@compiled
def _rise_to(h, v, p, tau_mem, tau_syn, length):
    """Time until (v - p) exp(-s / tau_mem) + p exp(-s / tau_syn), below h at s = 0, first reaches h within `length`, by bisection."""
    if p / tau_syn >= -(v - p) / tau_mem:  # it does not rise
        return math.inf
    low, high = 0.0, length
    ratio = -p * tau_mem / (tau_syn * (v - p)) if v != p else math.inf
    if ratio > 0:
        peak = math.log(ratio) / (1 / tau_syn - 1 / tau_mem)
        high = min(high, peak) if peak > 0 else high
    if high == math.inf or (v - p) * math.exp(-high / tau_mem) + p * math.exp(-high / tau_syn) < h:
        return math.inf
    for _ in range(60):
        middle = 0.5 * (low + high)
        if (v - p) * math.exp(-middle / tau_mem) + p * math.exp(-middle / tau_syn) < h:
            low = middle
        else:
            high = middle
    return high


@compiled
def mismatched(x, order, w, h, tau_mem, tau_syn, times):
    """First spike times (batch, neurons) of neurons with thresholds h and time constants of their own, one each, in units of the
    nominal tau_syn. No neuron's two time constants may be equal.
    """
    for b in range(len(x)):
        for n in range(w.shape[1]):
            v, i, k = 0.0, 0.0, 0
            times[b, n] = math.inf
            factor = tau_mem[n] * tau_syn[n] / (tau_syn[n] - tau_mem[n])
            while k < w.shape[0]:
                now = x[b, order[b, k]]
                if now == math.inf:
                    break
                following = now
                while following == now:
                    i += w[order[b, k], n]
                    k += 1
                    following = x[b, order[b, k]] if k < w.shape[0] else math.inf
                p, length = factor * i, following - now
                s = _rise_to(h[n], v, p, tau_mem[n], tau_syn[n], length)
                if s < math.inf:
                    times[b, n] = now + s
                    break
                if length == math.inf:
                    break
                v = (v - p) * math.exp(-length / tau_mem[n]) + p * math.exp(-length / tau_syn[n])
                i *= math.exp(-length / tau_syn[n])


def forward(kind: int, h: float, x: np.ndarray, order: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, ...]:
    """Spike times, slopes of the potential there, and numbers of inputs before it, `(batch, neurons)` each (see `_forward`)."""
    shape = len(x), w.shape[1]
    times, slopes, counts = np.empty(shape, w.dtype), np.empty(shape, w.dtype), np.empty(shape, np.int32)

    def work(k: int, low: int, high: int) -> None:
        _forward(low, high, kind, w.dtype.type(h), x, order, w, times, slopes, counts)

    in_parallel(work, min(threads(), len(x)), len(x))
    return times, slopes, counts


def backward(
    kind: int,
    x: np.ndarray,
    order: np.ndarray,
    w: np.ndarray,
    found: tuple[np.ndarray, ...],
    g_times: np.ndarray,
    most: float,
    needs_x: bool,
) -> tuple[np.ndarray | None, np.ndarray]:
    """Gradients of the input times `(batch, inputs)`, or None, and of the weights `(inputs, neurons)`; `found` is what `forward`
    gave.
    """
    workers = min(threads(), len(x))
    g_w = np.zeros((workers, *w.shape), w.dtype)
    g_x = np.zeros(x.shape if needs_x else (0, 0), w.dtype)

    def work(k: int, low: int, high: int) -> None:
        _backward(low, high, kind, x, order, w, *found, g_times, most, PEAK[kind], g_x, g_w[k])

    in_parallel(work, workers, len(x))
    return g_x if needs_x else None, g_w.sum(0) if workers > 1 else g_w[0]
