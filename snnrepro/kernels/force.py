"""Networks for FORCE training, compiled: many steps between two updates of the decoder.

Spikes are few, so a spike adds one column of a sparse matrix and nothing else is multiplied. The order of the operations of a step is
that of the authors' code; sums run from the first to the last neuron.
"""

import math

from snnrepro.kernels.events import compiled

LIF, THETA, IZHIKEVICH = range(3)


@compiled
def steps(
    model, count, first, dt, constants, rise, fall, kick, starts, rows, values, feedback, decoder, v, u, blocked, current, rising, rate,
    rate_rising, arrived, z, outputs, spike_steps, spike_units, place,
):  # fmt: skip
    """Advance the network by `count` steps, in place; returns the number of spikes listed so far, or -1 where v is not finite.

    model: LIF, THETA or IZHIKEVICH, with its `constants`; rise, fall: decay factors of a step; kick: what a spike adds to the first
    stage of the filter. starts, rows, values: static weights by sending neuron. feedback (n, k), decoder (n, k). v, u (n,): potential
    and recovery; blocked (n,): steps of refractoriness left; current, rising (n,): filtered input; rate, rate_rising (n,): filtered
    spikes; arrived (n,): work space; z (k,): decoded output. outputs (count, k); spike_steps, spike_units: a list of spikes, filled
    from `place` on, as long as it is.
    """
    n, k = feedback.shape
    for step in range(count):
        for i in range(n):
            s = current[i]
            for j in range(k):
                s += feedback[i, j] * z[j]
            if model == LIF:  # tau, steps of refractoriness, threshold, reset, bias
                if blocked[i] == 0:
                    v[i] += dt * (constants[4] + s - v[i]) / constants[0]
                else:
                    blocked[i] -= 1
            elif model == THETA:
                c = math.cos(v[i])
                v[i] += dt * ((1 - c) + math.pi * math.pi * (1 + c) * s)
            else:  # C, k, rest, threshold, peak, reset, a, b, d, bias
                before = v[i]
                v[i] += (
                    dt
                    * (constants[1] * (before - constants[2]) * (before - constants[3]) - u[i] + s + constants[9])
                    / constants[0]
                )
                u[i] += dt * constants[6] * (constants[7] * (before - constants[2]) - u[i])
        peak = constants[2] if model == LIF else math.pi if model == THETA else constants[4]
        arrived[:] = 0
        finite = True
        for i in range(n):
            current[i] = current[i] * rise + rising[i] * dt
            rate[i] = rate[i] * rise + rate_rising[i] * dt
            rate_rising[i] *= fall
            finite &= math.isfinite(v[i])
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
        if not finite:
            return -1
        for i in range(n):
            rising[i] = rising[i] * fall + arrived[i] * kick
        for j in range(k):
            total = 0.0
            for i in range(n):
                total += decoder[i, j] * rate[i]
            z[j] = total
            outputs[step, j] = total
    return place
