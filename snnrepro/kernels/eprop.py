"""Networks for e-prop, compiled: forward, gradients in their adjoint form, and eligibility traces in their online form.

Neurons have a potential v and an adaptation a. In step t, with the spikes z of the step before:

    v = alpha v + gain (W_in^T x + W_rec^T z) - threshold z,    a = rho a + z,    spike where v > threshold + beta a.

Arrays are (batch, time, unit), so that what a sample needs next lies next to what it has just used. The constants c are alpha, rho,
threshold, gain, kappa, 1 - kappa, height and slope of the pseudo-derivative, 0 and 1, in the type of the arrays, so that nothing is
computed in another. All loops take the samples `low` to `high`, so that threads can share a batch. Equation numbers are those of the
chapter `bellec2020`.
"""

import numpy as np

from snnrepro.kernels.events import compiled


@compiled
def _active(row, units):
    """Write the indices of the entries of a row (uint8) that are not 0 to units; how many there are. Eight are looked at at once."""
    count, whole = 0, row.size // 8 * 8
    words = row[:whole].view(np.uint64)
    for w in range(words.size):
        if words[w] != 0:
            for i in range(8 * w, 8 * w + 8):
                if row[i] != 0:
                    units[count] = i
                    count += 1
    for i in range(whole, row.size):
        if row[i] != 0:
            units[count] = i
            count += 1
    return count


@compiled
def _add_rows(weights, units, count, factor, row):
    """row += factor * the sum of the first `count` listed rows of the weights."""
    for e in range(count):
        one = weights[units[e]]
        for j in range(row.size):
            row[j] += factor * one[j]


@compiled
def _add_to_rows(row, units, count, factor, sums):
    """Add factor * row to the first `count` listed rows of the sums."""
    for e in range(count):
        one = sums[units[e]]
        for j in range(row.size):
            one[j] += factor * row[j]


@compiled
def _step(c, beta, wait, current, v, a, waits, spiked, slope):
    """One step of potential and adaptation, the spikes and the pseudo-derivative. spiked: spikes of the step before, then those of this
    one, 0 or 1; waits: steps until a neuron may spike again.
    """
    alpha, rho, threshold, height, steep, zero, one = c[0], c[1], c[2], c[6], c[7], c[8], c[9]
    for j in range(v.size):
        last, waited = spiked[j], waits[j]
        potential = alpha * v[j] + current[j] - threshold * last  # Eq. (1)
        adaptation = rho * a[j] + last  # Eq. (2)
        above = potential - beta[j] * adaptation - threshold
        free = one if waited <= zero else zero
        spike = free if above > zero else zero  # Eq. (3)
        left = height - steep * abs(above)
        after = waited + wait * spike - one
        slope[j] = free * (left if left > zero else zero)  # Eq. (4)
        v[j], a[j], spiked[j] = potential, adaptation, spike
        waits[j] = after if after > zero else zero


@compiled
def forward(low, high, x, w_in, w_rec, w_out, c, beta, wait, z, psi, y, potential, adaptation):
    """Fill spikes z and pseudo-derivatives psi (batch, time, n), readout y (batch, time, k), and potential and adaptation likewise where
    they are not empty. wait: steps of refractoriness, in the type of the arrays.
    """
    steps, n, k = x.shape[1], w_rec.shape[0], w_out.shape[1]
    v, a, current = np.zeros(n, psi.dtype), np.zeros(n, psi.dtype), np.zeros(n, psi.dtype)
    spiked, waits, readout = np.zeros(n, psi.dtype), np.zeros(n, psi.dtype), np.zeros(k, psi.dtype)
    units, senders = np.empty(max(n, x.shape[2]), np.int64), np.empty(n, np.int64)
    gain, kappa, fresh = c[3], c[4], c[5]
    for b in range(low, high):
        v[:], a[:], spiked[:], waits[:], readout[:] = 0, 0, 0, 0, 0
        count = 0
        for t in range(steps):
            current[:] = 0
            _add_rows(w_in, units, _active(x[b, t], units), gain, current)
            _add_rows(w_rec, senders, count, gain, current)
            _step(c, beta, wait, current, v, a, waits, spiked, psi[b, t])
            row = z[b, t]
            for j in range(n):
                row[j] = np.uint8(spiked[j])
            for i in range(k):
                readout[i] *= kappa
            count = _active(row, senders)
            _add_rows(w_out, senders, count, fresh, readout)
            y[b, t] = readout  # Eq. (5)
            if potential.size:
                potential[b, t], adaptation[b, t] = v, a


@compiled
def _backwards(c, beta, psi, d_z, d_v, d_a):
    """One step of the derivatives of potential and adaptation, backwards in time."""
    alpha, rho = c[0], c[1]
    for j in range(d_z.size):
        arrived = psi[j] * d_z[j]
        d_v[j] = alpha * d_v[j] + arrived
        d_a[j] = rho * d_a[j] - beta[j] * arrived


@compiled
def _add_scaled(rows, factors, gain, sums):
    """sums += gain * factors @ rows, row after row; four at a time, so that the sums are read and written less often."""
    fours = factors.size // 4 * 4
    for i in range(0, fours, 4):
        f, g, h, k = gain * factors[i], gain * factors[i + 1], gain * factors[i + 2], gain * factors[i + 3]
        one, two, three, four = rows[i], rows[i + 1], rows[i + 2], rows[i + 3]
        for j in range(sums.size):
            sums[j] = (((sums[j] + f * one[j]) + g * two[j]) + h * three[j]) + k * four[j]
    for i in range(fours, factors.size):
        f, one = gain * factors[i], rows[i]
        for j in range(sums.size):
            sums[j] += f * one[j]


@compiled
def adjoint(
    low, high, x, z, psi, receivers, feedback, error, rate_error, c, beta, through, reset, g_in, g_rec, g_out, signal
):  # fmt: skip
    """Add the gradients of the weights to g_in, g_rec (without its diagonal), g_out, going backwards in time.

    receivers (n, n): recurrent weights by receiver. feedback (k, n): B. error (batch, time, k): derivative of the loss with respect to
    the readout. rate_error (batch, n): derivative of the regulariser with respect to each spike. through: the gradient goes through
    recurrent spikes; reset: and through the reset. With neither it is that of e-prop, with both that of BPTT. signal (batch, time, n):
    the derivative of the loss with respect to each spike, where it is not empty.
    """
    steps, n, k = x.shape[1], receivers.shape[0], error.shape[2]
    filtered, d_v, d_a, d_z = (
        np.zeros(k, psi.dtype),
        np.zeros(n, psi.dtype),
        np.zeros(n, psi.dtype),
        np.zeros(n, psi.dtype),
    )
    units, senders = np.empty(max(n, x.shape[2]), np.int64), np.empty(n, np.int64)
    threshold, gain, kappa, fresh, one = c[2], c[3], c[4], c[5], c[9]
    for b in range(low, high):
        filtered[:], d_v[:], d_a[:] = 0, 0, 0
        count = _active(z[b, steps - 1], senders)
        for t in range(steps - 1, -1, -1):
            for i in range(k):
                filtered[i] = kappa * filtered[i] + fresh * error[b, t, i]
            _add_to_rows(filtered, senders, count, one, g_out)
            for j in range(n):
                d_z[j] = rate_error[b, j] + d_a[j]
            _add_scaled(feedback, filtered, one, d_z)  # Eq. (10)
            if through:
                _add_scaled(receivers, d_v, gain, d_z)
            if reset:
                for j in range(n):
                    d_z[j] -= threshold * d_v[j]
            if signal.size:
                signal[b, t] = d_z
            _backwards(c, beta, psi[b, t], d_z, d_v, d_a)
            _add_to_rows(d_v, units, _active(x[b, t], units), gain, g_in)
            count = _active(z[b, t - 1], senders) if t > 0 else 0
            _add_to_rows(d_v, senders, count, gain, g_rec)


@compiled
def online(
    low, high, pre, psi, learning, rate_error, c, beta, reset, g, eps_v, eps_a, filtered, watched, traces
):  # fmt: skip
    """Add the gradient of weights (m, n) to g, going forwards in time with an eligibility trace a synapse.

    pre (batch, time, m): what comes in. learning (batch, time, n): learning signals. eps_v, eps_a, filtered (m, n): work space. watched
    (w, 2): synapses whose eps_v, eps_a, e and filtered e are kept in traces (time, w, 4), for the last sample.
    """
    steps, m, n = pre.shape[1], pre.shape[2], psi.shape[2]
    alpha, rho, threshold, gain, kappa, fresh = c[0], c[1], c[2], c[3], c[4], c[5]
    last = np.zeros(n, psi.dtype)
    for b in range(low, high):
        eps_v[:], eps_a[:], filtered[:], last[:] = 0, 0, 0, 0
        for t in range(steps):
            for i in range(m):
                arrives = gain * pre[b, t, i]
                for j in range(n):
                    v, a = eps_v[i, j], eps_a[i, j]
                    eps_a[i, j] = last[j] * v + (rho - beta[j] * last[j]) * a  # Eq. (7)
                    eps_v[i, j] = alpha * v + arrives  # Eq. (6)
                    if reset:
                        eps_v[i, j] -= threshold * last[j] * (v - beta[j] * a)
                    e = psi[b, t, j] * (eps_v[i, j] - beta[j] * eps_a[i, j])  # Eq. (8)
                    filtered[i, j] = kappa * filtered[i, j] + fresh * e
                    g[i, j] += learning[b, t, j] * filtered[i, j] + rate_error[b, j] * e  # Eq. (9)
            last[:] = psi[b, t]
            for w in range(watched.shape[0]):
                i, j = watched[w, 0], watched[w, 1]
                e = psi[b, t, j] * (eps_v[i, j] - beta[j] * eps_a[i, j])
                traces[t, w, 0], traces[t, w, 1], traces[t, w, 2], traces[t, w, 3] = (
                    eps_v[i, j],
                    eps_a[i, j],
                    e,
                    filtered[i, j],
                )
