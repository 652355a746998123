"""Non-leaky neurons that spike at most once, in discrete time, and their learning rule, compiled: S4NN, one image at a time.

An image is a list of its active pixels in order of their times. Weights are held as `(from, to)`, and all of them shrink a little after
each update: what is stored is the weight divided by a common factor, which shrinks instead.
"""

import math

import numpy as np

from snnrepro.kernels.events import compiled


@compiled
def _layer(units, times, count, w, threshold, end, late, v, out, crossed, at_late):
    """Spike times `out` (n,) of a layer driven by spikes `units` at `times`, of which there are `count`, in order.

    A neuron whose potential is above the threshold after the input of step t spikes at t + 1, at most at `end`; one that never is
    "spikes" at `end`. `crossed`: potential at that step, for `end` the last one; `at_late`: potential after the input of step `late`.
    """
    v[:] = 0
    out[:] = end
    at_late[:] = 0
    waiting, k = v.size, 0
    while k < count and (waiting > 0 or at_late.size):
        now = times[k]
        while k < count and times[k] == now:
            row = w[units[k]]
            for n in range(v.size):
                v[n] += row[n]
            k += 1
        if now <= late and at_late.size:
            at_late[:] = v
        above = 0
        for n in range(v.size):
            above += (v[n] > threshold) & (out[n] == end)
        if above > 0 and now + 1 < end:
            for n in range(v.size):
                if v[n] > threshold and out[n] == end:
                    out[n] = now + 1
                    waiting -= 1
                    if crossed.size:
                        crossed[n] = v[n]
    if crossed.size:
        for n in range(v.size):
            if out[n] == end:
                crossed[n] = v[n]


@compiled
def _in_order(times, end, starts, units, sorted_times):
    """List the units that spike before `end` in order of their times; returns how many."""
    starts[:] = 0
    for n in range(times.size):
        starts[times[n] + 1] += 1
    for t in range(end):
        starts[t + 1] += starts[t]
    count = starts[end]
    for n in range(times.size):
        if times[n] < end:
            units[starts[times[n]]] = n
            sorted_times[starts[times[n]]] = times[n]
            starts[times[n]] += 1
    return count


@compiled
def targets(times, label, end, margin, out):
    """Target spike times of the output neurons, from their times and the true class."""
    first = times.min()
    for j in range(times.size):
        out[j] = times[j]
        if first == end:  # nobody spiked, Eq. (4)
            out[j] = end - margin if j == label else end
        elif j == label:
            out[j] = first
        elif times[j] - first < margin:
            out[j] = min(first + margin, end)


@compiled
def _normalise(delta):
    """Divide by the Euclidean norm, unless it is 0; returns whether it is not."""
    total = 0.0
    for j in range(delta.size):
        total += delta[j] * delta[j]
    if total == 0:
        return False
    norm = math.sqrt(total)
    for j in range(delta.size):
        delta[j] /= norm
    return True


@compiled
def present(starts, pixels, times, images, w_hidden, w_output, thresholds, end, late, hidden, output, crossed, at_late):
    """Show images without learning; fill the spike times of both layers and the potentials of the outputs, a row an image."""
    size, classes = w_output.shape
    v_hidden, v_output = np.empty(size), np.empty(classes)
    none = np.empty(0)
    place, units, ordered = np.empty(end + 2, np.int64), np.empty(size, np.int64), np.empty(size, np.int64)
    for k in range(images.size):
        first, last = starts[images[k]], starts[images[k] + 1]
        _layer(
            pixels[first:last], times[first:last], last - first, w_hidden, thresholds[0], end, -1, v_hidden, hidden[k], none, none
        )  # fmt: skip
        count = _in_order(hidden[k], end, place, units, ordered)
        _layer(units, ordered, count, w_output, thresholds[1], end, late, v_output, output[k], crossed[k], at_late[k])


@compiled
def learn(
    starts, pixels, times, images, labels, w_hidden, w_output, thresholds, end, late, margin, rate, decay, spiked, output, crossed,
    at_late,
):  # fmt: skip
    """Show images one after another and learn from each, in place.

    `spiked` (hidden,) counts the images for which a hidden neuron spiked; `output`, `crossed`, `at_late`: as in `present`, before the
    update; potentials are divided by the common factor.
    """
    size, classes = w_output.shape
    v_hidden, v_output, none = np.empty(size), np.empty(classes), np.empty(0)
    hidden, wanted = np.empty(size, np.int64), np.empty(classes, np.int64)
    place, units, ordered = np.empty(end + 2, np.int64), np.empty(size, np.int64), np.empty(size, np.int64)
    d_output, d_hidden = np.empty(classes), np.empty(size)
    factor = 1.0  # the weights are `factor` times what is stored
    for k in range(images.size):
        first, last = starts[images[k]], starts[images[k] + 1]
        _layer(
            pixels[first:last], times[first:last], last - first, w_hidden, thresholds[0] / factor, end, -1, v_hidden, hidden, none, none
        )  # fmt: skip
        count = _in_order(hidden, end, place, units, ordered)
        _layer(
            units,
            ordered,
            count,
            w_output,
            thresholds[1] / factor,
            end,
            late,
            v_output,
            output[k],
            crossed[k],
            at_late[k],
        )
        for n in range(count):
            spiked[units[n]] += 1
        targets(output[k], labels[k], end, margin, wanted)
        for j in range(classes):
            d_output[j] = (wanted[j] - output[k, j]) / end
        if not _normalise(d_output):
            factor *= 1 - decay
            continue
        for n in range(count):
            i = units[n]
            for j in range(classes):
                if hidden[i] < output[k, j]:
                    w_output[i, j] -= rate * d_output[j] / factor
        d_hidden[:] = 0
        for n in range(count):  # with the weights as they are now; the common factor goes out with the norm
            i = units[n]
            for j in range(classes):
                if hidden[i] < output[k, j]:
                    d_hidden[i] += d_output[j] * w_output[i, j]
        if _normalise(d_hidden):
            for e in range(first, last):
                row, now = w_hidden[pixels[e]], times[e]
                for i in range(size):
                    row[i] -= rate * d_hidden[i] / factor if now < hidden[i] else 0.0
        factor *= 1 - decay
    w_hidden *= factor
    w_output *= factor
