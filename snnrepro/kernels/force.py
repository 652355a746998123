"""Networks for FORCE training, compiled: many steps between two updates of the decoder.

Spikes are few, so a spike adds one column of a sparse matrix and nothing else is multiplied. The order of the operations of a step is
that of the authors' code, and sums run in a fixed order.
"""

import math

from snnrepro.kernels.events import compiled

LIF, THETA, IZHIKEVICH = range(3)


@compiled
def weighted_sum(a, b):
    """Sum of a * b, in eight interleaved parts that are added in pairs at the end."""
    n = a.size
    t0 = t1 = t2 = t3 = t4 = t5 = t6 = t7 = 0.0
    i = 0
    while i + 8 <= n:
        t0 += a[i] * b[i]
        t1 += a[i + 1] * b[i + 1]
        t2 += a[i + 2] * b[i + 2]
        t3 += a[i + 3] * b[i + 3]
        t4 += a[i + 4] * b[i + 4]
        t5 += a[i + 5] * b[i + 5]
        t6 += a[i + 6] * b[i + 6]
        t7 += a[i + 7] * b[i + 7]
        i += 8
    rest = 0.0
    while i < n:
        rest += a[i] * b[i]
        i += 1
    return (((t0 + t1) + (t2 + t3)) + ((t4 + t5) + (t6 + t7))) + rest


@compiled
def _add(columns, values, s):
    """s += columns @ values, channel after channel; a channel of value 0 costs nothing."""
    for j in range(values.size):
        column, value = columns[j], values[j]
        if value != 0:
            for i in range(s.size):
                s[i] += column[i] * value


@compiled
def _move(model, dt, c, s, v, u, blocked):
    """One Euler step of the neurons with current s and constants c; u is the recovery."""
    if model == LIF:  # tau, steps of refractoriness, threshold, reset, bias
        for i in range(v.size):
            moved = v[i] + dt * (c[4] + s[i] - v[i]) / c[0]
            v[i] = v[i] if blocked[i] > 0 else moved
            blocked[i] = max(blocked[i] - 1, 0)
    elif model == THETA:
        for i in range(v.size):
            cosine = math.cos(v[i])
            v[i] += dt * ((1 - cosine) + math.pi * math.pi * (1 + cosine) * s[i])
    else:  # C, k, rest, threshold, peak, reset, a, b, d, bias
        for i in range(v.size):
            before = v[i]
            v[i] += dt * (c[1] * (before - c[2]) * (before - c[3]) - u[i] + s[i] + c[9]) / c[0]
            u[i] += dt * c[6] * (c[7] * (before - c[2]) - u[i])


@compiled
def _filter(rise, fall, dt, first, second):
    """One step of a double exponential filter without input; `first` takes the input, `second` is the output."""
    for i in range(first.size):
        second[i] = second[i] * rise + first[i] * dt
        first[i] = first[i] * fall


@compiled
def _finite(v):
    """Whether all are finite."""
    bad = 0
    for i in range(v.size):
        bad += not (abs(v[i]) < math.inf)
    return bad == 0


@compiled
def steps(
    model, count, first, dt, constants, rise, fall, kick, starts, rows, values, feedback, inputs, drive, decoder, v, u, blocked, current,
    rising, rate, rate_rising, arrived, z, outputs, spike_steps, spike_units, place,
):  # fmt: skip
    """Advance the network by `count` steps, in place; returns the number of spikes listed so far, or -1 where v is not finite.

    model: LIF, THETA or IZHIKEVICH, with its `constants`; rise, fall: decay factors of a step; kick: what a spike adds to the first
    stage of the filter. starts, rows, values: static weights by sending neuron. feedback, decoder (k, n); inputs (m, n), drive
    (count, m): weights and values of an outer signal; v, u (n,): potential and recovery; blocked (n,): steps of refractoriness left;
    current, rising (n,): filtered input; rate, rate_rising (n,): filtered spikes; arrived (n,): work space; z (k,): decoded output.
    outputs (count, k); spike_steps, spike_units: a list of spikes, filled from `place` on, as long as it is.
    """
    k, n = feedback.shape
    peak = constants[2] if model == LIF else math.pi if model == THETA else constants[4]
    for step in range(count):
        arrived[:] = current
        _add(feedback, z, arrived)
        _add(inputs, drive[step], arrived)
        _move(model, dt, constants, arrived, v, u, blocked)
        if not _finite(v):
            return -1
        _filter(rise, fall, dt, rising, current)
        _filter(rise, fall, dt, rate_rising, rate)
        arrived[:] = 0
        for i in range(n):
            if v[i] >= peak:
                for e in range(starts[i], starts[i + 1]):
                    arrived[rows[e]] += values[e]
                rate_rising[i] += kick
                if place < spike_steps.size:
                    spike_steps[place], spike_units[place] = first + step, i
                place += 1
                if model == LIF:
                    v[i], blocked[i] = constants[3], int(constants[1])
                elif model == THETA:
                    v[i] = -math.pi
                else:
                    v[i] = constants[5]
                    u[i] += constants[8]
        for i in range(n):
            rising[i] += arrived[i] * kick
        for j in range(k):
            z[j] = outputs[step, j] = weighted_sum(decoder[j], rate)
    return place
