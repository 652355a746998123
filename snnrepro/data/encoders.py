"""From numbers to spikes: latency code and Poisson patterns."""

import numpy as np

LATENCY_EPSILON = 1e-7
"""Least distance from the threshold that `latency` reckons with, as in SpyTorch."""


def latency(x: np.ndarray, steps: int = 100, tau: float = 20.0, threshold: float = 0.2) -> np.ndarray:
    """Step at which each pixel spikes, if its value is the current into a leaky integrator: the brighter, the earlier.

    t = tau ln(x / (x - threshold)), cut to a whole step, as `current2firing_time` and the batch generator of SpyTorch's
    second tutorial do it. A pixel below the threshold never spikes, nor does one whose time is not before `steps`. With
    the defaults that includes a pixel at the threshold, whose time is 290 steps.

    Args:
        x: values, any shape.
        steps: number of time steps.
        tau: time constant in steps.
        threshold: value below which there is no spike.

    Returns:
        int32 array of the shape of `x`: step in [0, steps), or -1 for no spike.
    """
    x = np.asarray(x)
    # The tutorial works in float64; doing the same keeps its steps. In place, because a whole data set is large.
    t = np.maximum(x, threshold + LATENCY_EPSILON, dtype=np.float64)
    t /= t - threshold
    np.log(t, out=t)
    t *= tau
    return np.where((x >= threshold) & (t < steps), t, -1).astype(np.int32)


def events_to_dense(events: np.ndarray, steps: int) -> np.ndarray:
    """One spike a unit at the given step, as a dense array.

    Args:
        events: (batch, units) int, step of the spike, negative for none; each less than `steps`, else IndexError.
        steps: number of time steps.

    Returns:
        (steps, batch, units) float32 of zeros and ones.
    """
    dense = np.zeros((steps, *events.shape), np.float32)
    sample, unit = np.nonzero(events >= 0)
    dense[events[sample, unit], sample, unit] = 1
    return dense


def poisson(
    rate_hz: float | np.ndarray, steps: int, dt: float, shape: tuple[int, ...], rng: np.random.Generator
) -> np.ndarray:
    """Spikes with probability rate x dt in each step, independent of each other.

    Args:
        rate_hz: rate in Hz, one number or an array that broadcasts to `shape`.
        steps: number of time steps.
        dt: time step in seconds.
        shape: (batch, units).
        rng: where the randomness comes from.

    Returns:
        (steps, batch, units) float32 of zeros and ones.

    Raises:
        ValueError: rate x dt is not a probability.
    """
    probability = np.asarray(rate_hz) * dt
    if not np.all((probability >= 0) & (probability <= 1)):
        raise ValueError(f"rate_hz * dt must lie in [0, 1], found {probability.min()} to {probability.max()}")
    return (rng.random((steps, *shape)) < probability).astype(np.float32)
