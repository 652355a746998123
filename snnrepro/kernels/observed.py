"""Slopes of nominal first-spike neurons for spike times that were observed, compiled.

All times are in units of the synaptic time constant, which is that of the membrane too; h is C * threshold / tau_syn.
"""

import math

import numpy as np

from snnrepro.kernels.events import compiled
from snnrepro.kernels.first_spike import lambert_w


@compiled
def _slopes(x, order, w, seen, h, slopes, counts):
    """Fill slopes and counts (batch, neurons), see `slopes`."""
    size = w.shape[1]
    a, later = np.empty(size), np.empty(size)
    for b in range(len(x)):
        a[:], later[:], counts[b] = 0.0, 0.0, 0
        first = x[b, order[b, 0]]
        for i in order[b]:
            if x[b, i] == math.inf:
                break
            since = x[b, i] - first
            grown = math.exp(since)
            for n in range(size):
                before = seen[b, n] >= x[b, i]
                added = w[i, n] * grown if before else 0.0
                a[n] += added
                later[n] += added * since
                counts[b, n] += before
        for n in range(size):
            slopes[b, n] = 0.0
            if a[n] > 0 and seen[b, n] < math.inf:
                z = -h / a[n] * math.exp(later[n] / a[n])
                if z >= -math.exp(-1):
                    slopes[b, n] = a[n] * (1 + lambert_w(z)) * math.exp(first - seen[b, n])


def slopes(
    x: np.ndarray, order: np.ndarray, w: np.ndarray, seen: np.ndarray, h: float
) -> tuple[np.ndarray, np.ndarray]:
    """Slope of the nominal potential where it reaches h, and the number of inputs up to the observed spike, `(batch, neurons)` each.

    The inputs that came before the observed spike give a = sum_i w_i exp(x_i) and b = sum_i w_i x_i exp(x_i); with W = W(-h / a
    exp(b / a)) the slope is a (1 + W) exp(-T) at the observed time T. It is 0 where these inputs would not make the neuron spike.

    Args:
        x: input times `(batch, inputs)`.
        order: sorts them.
        w: nominal weights `(inputs, neurons)`.
        seen: observed spike times `(batch, neurons)`, infinite where silent.
        h: threshold.
    """
    found, counts = np.empty(seen.shape, w.dtype), np.empty(seen.shape, np.int32)
    _slopes(x, order, w, seen, h, found, counts)
    return found, counts
