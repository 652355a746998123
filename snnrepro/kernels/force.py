"""Networks for FORCE training, compiled: many steps between two updates of the decoder.

Spikes are few, so a spike adds one column of a sparse matrix and nothing else is multiplied. A step does what a step of the
authors' code does, in that order, and sums run in a fixed order.
"""

import math

import numpy as np

from snnrepro.kernels.events import compiled

LIF, THETA, IZHIKEVICH = range(3)
PARTS = BLOCK = 64
"""Interleaved parts of a sum; neurons that are searched for spikes together."""


@compiled
def weighted_sum(a, b, parts):
    """Sum of a * b in `PARTS` interleaved parts, work space, the halves of which are added until one is left."""
    parts[:] = 0
    whole = a.size - a.size % PARTS
    for i in range(0, whole, PARTS):
        for j in range(PARTS):
            parts[j] += a[i + j] * b[i + j]
    for i in range(whole, a.size):
        parts[i - whole] += a[i] * b[i]
    half = PARTS // 2
    while half:
        for j in range(half):
            parts[j] += parts[j + half]
        half //= 2
    return parts[0]


@compiled
def _add(columns, values, s):
    """s += columns @ values, channel after channel; a channel of value 0 costs nothing."""
    for j in range(values.size):
        column, value = columns[j], values[j]
        if value != 0:
            for i in range(s.size):
                s[i] += column[i] * value


@compiled
def versine(v):
    """1 - cos v = 2 sin(v / 2)^2, by the Taylor polynomial of the sine, which a processor computes for several numbers at once."""
    x = 0.5 * v - math.pi * np.floor(v / (2 * math.pi) + 0.5)  # in [-pi / 2, pi / 2]: the square has period pi
    y, total = x * x, 1.0
    total = 1 - y * (1 / 342) * total
    total = 1 - y * (1 / 272) * total
    total = 1 - y * (1 / 210) * total
    total = 1 - y * (1 / 156) * total
    total = 1 - y * (1 / 110) * total
    total = 1 - y * (1 / 72) * total
    total = 1 - y * (1 / 42) * total
    total = 1 - y * (1 / 20) * total
    total = 1 - y * (1 / 6) * total
    return 2 * y * total * total


@compiled
def _move(model, now, dt, c, s, column, value, v, u, free, most):
    """One Euler step of the neurons with constants c and current s + column * value; returns how many moved by more than `most`."""
    jumped = 0
    if model == LIF:  # tau, steps of refractoriness, threshold, reset, bias
        bias, share = c[4], dt / c[0]
        for i in range(v.size):
            change = share * (bias + (s[i] + column[i] * value) - v[i])
            change = change if now >= free[i] else 0.0
            jumped += abs(change) > most
            v[i] += change
    elif model == THETA:
        for i in range(v.size):
            less = versine(v[i])  # than 1 is cos v
            change = dt * (less + math.pi * math.pi * (2 - less) * (s[i] + column[i] * value))
            jumped += abs(change) > most
            v[i] += change
    else:  # C, k, rest, threshold, peak, reset, a, b, d, bias
        share = dt / c[0]
        for i in range(v.size):
            before = v[i]
            change = share * (c[1] * (before - c[2]) * (before - c[3]) - u[i] + (s[i] + column[i] * value) + c[9])
            jumped += abs(change) > most
            v[i] += change
            u[i] += dt * c[6] * (c[7] * (before - c[2]) - u[i])
    return jumped


@compiled
def _filter(rise, fall, dt, first, second):
    """One step of a double exponential filter without input; `first` takes the input, `second` is the output."""
    for i in range(first.size):
        second[i] = second[i] * rise + first[i] * dt
        first[i] = first[i] * fall


@compiled
def _any(v, peak):
    """Whether a potential reached the peak."""
    count = 0
    for i in range(v.size):
        count += v[i] >= peak
    return count > 0


@compiled
def _finite(x):
    """Whether all are finite."""
    bad = 0
    for i in range(x.size):
        bad += not (abs(x[i]) < math.inf)
    return bad == 0


@compiled
def steps(
    model, count, first, dt, constants, rise, fall, kick, starts, rows, values, feedback, inputs, drive, decoder, v, u, free, current,
    rising, rate, rate_rising, arrived, parts, z, outputs, spike_steps, spike_units, place, most, jumps,
):  # fmt: skip
    """Advance the network by `count` steps, in place; returns the number of spikes listed so far, or -1 where numbers are not finite.

    model: LIF, THETA or IZHIKEVICH, with its `constants`; first: number of the first step; rise, fall: decay factors of a step; kick: what
    a spike adds to the first stage of the filter. starts, rows, values: static weights by sending neuron. feedback, decoder (k, n); inputs
    (m, n), drive (count, m): weights and values of an outer signal; v, u (n,): potential and recovery; free (n,): step from which a
    neuron moves again; current, rising (n,): filtered input; rate, rate_rising (n,): filtered spikes; arrived (n,), parts (PARTS,): work
    space; z (k,): decoded output. outputs (count, k); spike_steps, spike_units: a list of spikes, filled from `place` on, as long as it
    is. jumps (1,): neurons and steps in which the potential moved by more than `most` are added.
    """
    k, n = feedback.shape
    peak = constants[2] if model == LIF else math.pi if model == THETA else constants[4]
    for step in range(count):
        now = first + step
        s = current
        if k > 1 or len(inputs):
            s = arrived
            for i in range(n):
                s[i] = current[i]
            _add(inputs, drive[step], s)
            _add(feedback[:-1], z[:-1], s)
        jumps[0] += _move(model, now, dt, constants, s, feedback[-1], z[-1], v, u, free, most)
        _filter(rise, fall, dt, rising, current)
        _filter(rise, fall, dt, rate_rising, rate)
        for start in range(0, n, BLOCK):
            if _any(v[start : start + BLOCK], peak):
                for i in range(start, min(start + BLOCK, n)):
                    if v[i] >= peak:
                        if v[i] == math.inf:
                            return -1
                        for e in range(starts[i], starts[i + 1]):
                            rising[rows[e]] += values[e] * kick
                        rate_rising[i] += kick
                        if place < spike_steps.size:
                            spike_steps[place], spike_units[place] = now, i
                        place += 1
                        if model == LIF:
                            v[i], free[i] = constants[3], now + 1 + int(constants[1])
                        elif model == THETA:
                            v[i] = -math.pi
                        else:
                            v[i] = constants[5]
                            u[i] += constants[8]
        for j in range(k):
            z[j] = outputs[step, j] = weighted_sum(decoder[j], rate, parts)
    return place if _finite(v) and _finite(current) and _finite(z) else -1
