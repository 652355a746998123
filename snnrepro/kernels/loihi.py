"""A layer of Loihi's current-based LIF neurons in 64-bit integers, compiled. `snnrepro.hardware.loihi` says what the rule is and what the
arguments mean.

Arrays are (time, batch, unit); weights and delays (sender, neuron). Empty arrays stand for what is not there or not wanted.
"""

import numpy as np

from snnrepro.kernels.events import compiled

LIMIT = 2**23
"""M: current and voltage have 24 bits with their sign."""
DECAY_BITS, ALIGN_BITS = 12, 6
"""Decays count in 1/4096. Activation and threshold are shifted left by 6 to the scale of current and voltage."""


@compiled
def toward_zero(x, bits):
    """tz(x, k) = sign(x) (|x| >> k)."""
    return x >> bits if x >= 0 else -((-x) >> bits)


@compiled
def int32(x):
    """What a sum is in 32 bits: it wraps at 2^31."""
    return ((x + 2**31) & (2**32 - 1)) - 2**31


@compiled
def send(spikes, w, exponent, delays, ring, arrival, total):
    """Add what the spikes of one step will cause to `ring`, from slot `arrival` on, which is the next step.

    The weights of one step's spikes are added up first, those of equal delay together; the sum is shifted then, to minus infinity. As in
    Lava, the sum has 32 bits, and 64 where there are delays. total (longest delay of these synapses + 1, n): work space.
    """
    n = w.shape[1]
    total[:] = 0
    for j in range(spikes.size):
        if spikes[j] != 0:
            if delays.size:
                for k in range(n):
                    total[delays[j, k], k] += int32(w[j, k] * spikes[j])
            else:
                for k in range(n):
                    total[0, k] = int32(total[0, k] + w[j, k] * spikes[j])
    for d in range(total.shape[0]):
        due = ring[(arrival + d) % ring.shape[0]]
        for k in range(n):
            due[k] += total[d, k] << exponent if exponent > 0 else total[d, k] >> -exponent


@compiled
def layer(
    x, w, exponent, delays, recurrent, recurrent_exponent, recurrent_delays, keep_u, keep_v, threshold, bias, interval, offset,
    ring, total, recurrent_total, u, v, spikes, a_seen, u_seen, v_seen, s_seen,
):  # fmt: skip
    """Run a layer; its spikes go to s_seen, and activation, current and voltage to the other `seen` unless these are empty.

    keep_u, keep_v: 4096 less the decay. threshold, bias: as they are compared and added. interval: 0 for no periodic reset. ring
    (longest delay + 1, n), total, recurrent_total (each with its own longest delay), u, v, spikes (n,): work space.
    """
    steps, batch, _ = x.shape
    n = w.shape[1]
    for b in range(batch):
        ring[:] = 0
        u[:] = 0
        v[:] = 0
        for t in range(steps):
            if interval > 0 and (t + 1) % interval == offset:
                u[:] = 0
                v[:] = 0
            a = ring[t % ring.shape[0]]
            for k in range(n):
                a[k] = int32(a[k])
                current = int32(toward_zero(u[k] * keep_u[k], DECAY_BITS) + (a[k] << ALIGN_BITS))
                if current > LIMIT:
                    current -= 2 * LIMIT
                elif current <= -LIMIT:
                    current += 2 * LIMIT
                voltage = toward_zero(v[k] * keep_v[k], DECAY_BITS) + current + bias[k]
                voltage = min(max(voltage, -LIMIT + 1), LIMIT - 1)
                spikes[k] = voltage > threshold[k]
                if spikes[k]:
                    voltage = 0
                u[k] = current
                v[k] = voltage
            if u_seen.size:
                a_seen[t, b] = a
                u_seen[t, b] = u
                v_seen[t, b] = v
            s_seen[t, b] = spikes
            a[:] = 0  # the slot is used again
            send(x[t, b], w, exponent, delays, ring, t + 1, total)
            if recurrent.size:
                send(spikes, recurrent, recurrent_exponent, recurrent_delays, ring, t + 1, recurrent_total)


NONE = np.empty((0, 0), np.int64)
"""No weights, no delays."""
