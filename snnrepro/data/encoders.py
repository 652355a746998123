"""From numbers to spikes: latency code and Poisson patterns."""

import numpy as np

from snnrepro.errors import UserError

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

    Raises:
        UserError: values that are no floats or not finite, or steps, a time constant or a threshold that are not positive.
    """
    x = np.asarray(x)
    if x.dtype.kind != "f":
        raise UserError(f"latency: values are {x.dtype}; give floats, grey values divided by 255")
    if not np.isfinite(x).all():
        raise UserError("latency: the values hold NaN or infinite ones")
    for name, value in (("steps", steps), ("tau", tau), ("threshold", threshold)):
        if not 0 < value < np.inf:
            raise UserError(f"latency: {name} is {value}; it must be positive and finite")
    # The tutorial works in float64; doing the same keeps its steps. In place, because a whole data set is large.
    t = np.maximum(x, threshold + LATENCY_EPSILON, dtype=np.float64)
    t /= t - threshold
    np.log(t, out=t)
    t *= tau
    return np.where((x >= threshold) & (t < steps), t, -1).astype(np.int32)


def events_to_dense(events: np.ndarray, steps: int) -> np.ndarray:
    """One spike a unit at the given step, as a dense array.

    Args:
        events: (batch, units) int, step of the spike, negative for none; each less than `steps`.
        steps: number of time steps.

    Returns:
        (steps, batch, units) float32 of zeros and ones.

    Raises:
        UserError: events of another shape or type, a spike after the end, or no steps.
    """
    if not isinstance(steps, int | np.integer) or steps < 1:
        raise UserError(f"events_to_dense: {steps} time steps; give a whole number from 1")
    if not isinstance(events, np.ndarray) or events.ndim != 2 or events.dtype.kind not in "iu":
        raise UserError("events_to_dense: the events are no array of integers (batch, units)")
    if events.size and events.max() >= steps:
        raise UserError(
            f"events_to_dense: a spike at step {events.max()} of {steps}; give more steps, or -1 for no spike"
        )
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
        UserError: rate x dt is not a probability, the rates do not broadcast to the shape, or steps, dt or the shape are not positive.
    """
    if not isinstance(steps, int | np.integer) or steps < 1 or not 0 < dt < np.inf:
        raise UserError(f"poisson: {steps} time steps of {dt} s; give a whole number from 1 and a positive time")
    if np.ndim(shape) != 1 or not all(isinstance(n, int | np.integer) and n >= 1 for n in shape):
        raise UserError(f"poisson: the shape is {shape}; give (batch, units), whole numbers from 1")
    if np.ndim(rate_hz) > 1 + len(shape) or any(
        n not in (1, size) for n, size in zip(np.shape(rate_hz)[::-1], (steps, *shape)[::-1], strict=False)
    ):
        raise UserError(f"poisson: rates have shape {np.shape(rate_hz)}; give one that broadcasts to {tuple(shape)}")
    probability = np.asarray(rate_hz) * dt
    if not np.all((probability >= 0) & (probability <= 1)):
        raise UserError(
            f"poisson: rate_hz * dt must lie in [0, 1], found {probability.min()} to {probability.max()}; give Hz and seconds"
        )
    if not np.all((probability >= 0) & (probability <= 1)):
        raise ValueError(f"rate_hz * dt must lie in [0, 1], found {probability.min()} to {probability.max()}")
    return (rng.random((steps, *shape)) < probability).astype(np.float32)
