"""How well a signal was learned. After training its phase drifts freely, so nothing is compared by the clock alone."""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import uniform_filter1d
from scipy.signal import find_peaks

from snnrepro.errors import UserError


def frequency(signal: np.ndarray, dt: float, smooth: float = 20e-3) -> float:
    """Frequency in Hz from the upward zero crossings of a signal `(steps,)`, smoothed over `smooth` seconds; 0 where there are not two.

    Raises:
        UserError: a signal that is empty, not finite or not one-dimensional, or times that make no sense.
    """
    if signal.ndim != 1 or not len(signal) or not np.isfinite(signal).all():
        raise UserError(f"frequency: the signal has shape {signal.shape}; give (steps,), not empty, of finite numbers")
    if not 0 < dt < np.inf or not 0 <= smooth < np.inf:
        raise UserError(f"frequency: steps of {dt} s, smoothed over {smooth} s; give positive times")
    centred = uniform_filter1d(signal - signal.mean(), max(1, round(smooth / dt)))
    up = np.flatnonzero((centred[:-1] < 0) & (centred[1:] >= 0))
    if len(up) < 2:
        return 0.0
    exact = up + centred[up] / (centred[up] - centred[up + 1])
    return float((len(exact) - 1) / ((exact[-1] - exact[0]) * dt))


class Aligned(NamedTuple):
    """Root mean square error and correlation of each window, after the best shift of the teacher, which is given too, in steps."""

    rmse: np.ndarray
    correlation: np.ndarray
    shift: np.ndarray


def aligned(signal: np.ndarray, cycle: np.ndarray, window: int) -> Aligned:
    """Compare windows of a signal with a periodic teacher, each at the shift that fits it best.

    Args:
        signal: `(steps, channels)`.
        cycle: one period of the teacher `(period, channels)`.
        window: steps of a window; the rest of the signal is left out.

    Raises:
        UserError: shapes that do not fit, numbers that are not finite, or a signal shorter than a window.
    """
    if signal.ndim != 2 or cycle.ndim != 2 or signal.shape[1] != cycle.shape[1] or not 0 < window <= len(signal):
        raise UserError(
            f"aligned: signal {signal.shape}, cycle {cycle.shape}, window {window}; give (steps, channels) each, and a window that fits"
        )
    if not isinstance(window, int | np.integer) or not cycle.size:
        raise UserError(
            f"aligned: cycle {cycle.shape}, window {window}; give one period or more, and a whole number of steps"
        )
    if not (np.isfinite(signal).all() and np.isfinite(cycle).all()):
        raise UserError("aligned: the signal or the cycle holds NaN or infinite values; give finite ones")
    period = len(cycle)
    spectrum = np.conj(np.fft.rfft(cycle, axis=0))
    index = np.arange(window)
    folds = np.bincount(index % period, minlength=period)
    rmse, correlation, shifts = [], [], []
    for start in range(0, len(signal) - window + 1, window):
        part = signal[start : start + window]
        folded = np.zeros(cycle.shape)
        np.add.at(folded, index % period, part)
        # sum over the window of part(t) cycle(t + shift), for all shifts at once; and that of cycle(t + shift)^2
        product = np.fft.irfft(np.conj(np.fft.rfft(folded, axis=0) * spectrum), period, axis=0).sum(1)
        weight = np.fft.irfft(np.conj(np.fft.rfft(folds)) * np.fft.rfft((cycle**2).sum(1)), period)
        shift = int(np.argmin(weight - 2 * product))
        target = cycle[(index + shift) % period]
        rmse.append(np.sqrt(np.mean((part - target) ** 2)))
        a, b = part - part.mean(0), target - target.mean(0)
        norm = np.sqrt((a**2).sum() * (b**2).sum())
        correlation.append(float((a * b).sum() / norm) if norm > 0 else 0.0)
        shifts.append(shift)
    return Aligned(np.array(rmse), np.array(correlation), np.array(shifts))


class LorenzScore(NamedTuple):
    """Peaks of z, their mean interval in seconds, mean and standard deviation, and how well a peak foretells the next one: the share of
    the variance of the next peak that a map with up to 12 steps explains. The steps are fitted to the same peaks, so that a part is
    explained where their order is random, too.
    """

    peaks: np.ndarray
    interval: float
    mean: float
    sd: float
    explained: float


def lorenz(z: np.ndarray, dt: float, smooth: float = 20e-3, bins: int = 12) -> LorenzScore:
    """Statistics of the attractor, from z `(steps,)`.

    Raises:
        UserError: fewer than four peaks, or all alike; a signal that is empty, not finite or not one-dimensional; times or bins that make
            no sense.
    """
    if z.ndim != 1 or not len(z) or not np.isfinite(z).all():
        raise UserError(f"lorenz: the signal has shape {z.shape}; give (steps,), not empty, of finite numbers")
    if not 0 < dt < np.inf or not 0 <= smooth < np.inf or bins < 1:
        raise UserError(f"lorenz: steps of {dt} s, smoothed over {smooth} s, {bins} bins; give positive numbers")
    smoothed = uniform_filter1d(z, max(1, round(smooth / dt)))
    at, _ = find_peaks(smoothed, distance=max(1, round(0.2 / dt)), prominence=0.1 * float(np.ptp(smoothed)))
    if len(at) < 4:
        raise UserError(f"lorenz: {len(at)} peaks; give a longer signal")
    peaks = smoothed[at]
    if not np.ptp(peaks[1:]) > 0:
        raise UserError("lorenz: all peaks are alike, there is nothing to explain; give a signal that is not periodic")
    now, following = peaks[:-1], peaks[1:]
    count = min(bins, max(1, len(now) // 4))
    group = np.argsort(np.argsort(now)) * count // len(now)
    predicted = np.array([following[group == g].mean() for g in range(count)])[group]
    explained = 1.0 - float(((following - predicted) ** 2).sum() / ((following - following.mean()) ** 2).sum())
    return LorenzScore(peaks, float(np.diff(at).mean() * dt), float(peaks.mean()), float(peaks.std(ddof=1)), explained)
