"""What the networks are taught: arrays `(steps, channels)`, the value after each step. Times in seconds."""

import numpy as np
from scipy.integrate import solve_ivp

from snnrepro.errors import UserError

NOTES = (2, 2, 3, 4, 4, 3, 2, 1, 0, 0, 1, 2, 2, 1, 1, 1)
"""Ode to Joy, first bar: channel of each slot; the last two slots are one long note. Channels are C, D, E, F, G."""
SLOT = 0.25
PITCHES = (261.0, 293.6, 329.6, 349.23, 392.0)
"""Frequencies of the channels in Hz."""


def _times(steps: int, dt: float) -> np.ndarray:
    if not isinstance(steps, int | np.integer) or steps < 1 or not 0 < dt < np.inf:
        raise UserError(f"teacher: {steps} steps of {dt} s; give a whole number of 1 or more, of positive length")
    return dt * np.arange(1, steps + 1)


def sine(steps: int, dt: float, hz: float = 5.0) -> np.ndarray:
    """A sine of amplitude 1.

    Raises:
        UserError: no steps, or a frequency that is not positive.
    """
    if not 0 < hz < np.inf:
        raise UserError(f"sine: {hz} Hz; give a positive frequency")
    return np.sin(2 * np.pi * hz * _times(steps, dt))[:, None]


def triangle(steps: int, dt: float, hz: float = 5.0) -> np.ndarray:
    """A triangle wave of amplitude pi / 2, the arc sine of a sine.

    Raises:
        UserError: no steps, or a frequency that is not positive.
    """
    if not 0 < hz < np.inf:
        raise UserError(f"triangle: {hz} Hz; give a positive frequency")
    return np.arcsin(np.sin(2 * np.pi * hz * _times(steps, dt)))[:, None]


def product(steps: int, dt: float, hz: tuple[float, ...] = (4.0, 6.0), noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """A product of sines, with normal noise of that standard deviation in each step.

    Raises:
        UserError: no steps, no frequencies or one that is not positive, or noise that is negative or not finite.
    """
    if np.ndim(hz) != 1 or not len(hz) or not all(0 < f < np.inf for f in hz):
        raise UserError(f"product: frequencies are {hz}; give a tuple of positive ones in Hz")
    if not 0 <= noise < np.inf:
        raise UserError(f"product: noise is {noise}; give 0 or more")
    t = _times(steps, dt)
    clean = np.prod([np.sin(2 * np.pi * f * t) for f in hz], axis=0)
    return (clean + noise * np.random.default_rng(seed).standard_normal(steps))[:, None]


def _solved(slope, start: tuple[float, ...], times: np.ndarray, before: float) -> np.ndarray:
    """Solution `(times, variables)` of an autonomous equation, `before` after it started."""
    span = (0.0, before + float(times[-1]))
    found = solve_ivp(slope, span, start, t_eval=before + times, rtol=1e-8, atol=1e-10, method="DOP853")
    if not found.success or not np.isfinite(found.y).all():
        raise UserError(
            f"teacher: the equation has no solution for {span[1]:g} s; use a shorter time or other parameters"
        )
    return found.y.T


def van_der_pol(steps: int, dt: float, mu: float = 0.5, scale: float = 10.0, speed: float = 20.0) -> np.ndarray:
    """Both variables of a Van der Pol oscillator on its limit cycle: nearly a sine for small mu, relaxation for large.

    x' = mu (x - scale^2 x^3 / 3 - y), y' = x / mu, both `speed` times as fast.

    Raises:
        UserError: no steps, or a parameter that is not positive.
    """
    for name, value in (("mu", mu), ("scale", scale), ("speed", speed)):
        if not 0 < value < np.inf:
            raise UserError(f"van_der_pol: {name} is {value}; give a positive number")

    def slope(t, state):
        x, y = state
        return speed * mu * (x - scale**2 * x**3 / 3 - y), speed * x / mu

    return _solved(slope, (0.1, 0.1), _times(steps, dt), before=5.0)


def lorenz(steps: int, dt: float, scale: float = 70.0) -> np.ndarray:
    """The three variables of the Lorenz equations with sigma 10, rho 28, beta 8/3, divided by `scale`, from (0.1, 0.1, 0.1) on.

    Raises:
        UserError: no steps, or a scale that is not positive.
    """
    if not 0 < scale < np.inf:
        raise UserError(f"lorenz: the scale is {scale}; give a positive number")

    def slope(t, state):
        x, y, z = state
        return 10 * (y - x), x * (28 - scale * z) - y, scale * x * y - 8 / 3 * z

    return _solved(slope, (0.1, 0.1, 0.1), _times(steps, dt), before=0.0)


def ode_to_joy(steps: int, dt: float) -> np.ndarray:
    """The first bar of the Ode to Joy, again and again: each note is a half sine on its channel."""
    place = _times(steps, dt) % (SLOT * len(NOTES))
    slot = np.minimum((place / SLOT).astype(int), len(NOTES) - 1)
    length = np.where(slot >= len(NOTES) - 2, 2 * SLOT, SLOT)
    since = place - np.where(slot >= len(NOTES) - 2, (len(NOTES) - 2) * SLOT, slot * SLOT)
    notes = np.zeros((steps, len(PITCHES)))
    notes[np.arange(steps), np.array(NOTES)[slot]] = np.sin(np.pi * since / length)
    return notes


def temporal_signal(
    steps: int, dt: float, channels: int, period: float, first: int = 0, speed: float = 1.0
) -> np.ndarray:
    """High-dimensional temporal signal (HDTS): in each period the channels show a half sine one after another.

    Args:
        steps: how many steps.
        dt: length of a step in seconds.
        channels: how many.
        period: of the signal, in seconds, at a speed of 1.
        first: steps that have passed before.
        speed: how much faster than normal; below 0 it runs backwards.

    Raises:
        UserError: no channels, a period that is not positive, or a speed or a first step that is not finite.
    """
    if not isinstance(channels, int | np.integer) or channels < 1 or not 0 < period < np.inf:
        raise UserError(f"temporal_signal: {channels} channels in {period} s; give 1 or more, in a positive time")
    if not np.isfinite(speed) or not np.isfinite(first):
        raise UserError(f"temporal_signal: speed {speed}, first step {first}; give finite numbers")
    phase = speed * (_times(steps, dt) + first * dt) % period / period * channels
    active = np.minimum(phase.astype(int), channels - 1)
    signal = np.zeros((steps, channels))
    signal[np.arange(steps), active] = np.sin(np.pi * (phase - active))
    return signal


def film(steps: int, dt: float, rows: int = 6, columns: int = 8, period: float = 8.0) -> np.ndarray:
    """A made-up film `(steps, rows * columns)`, the same in each period: two spots of light on closed paths, one twice as fast as the
    other. The film of the paper is not distributed.

    Raises:
        UserError: no steps, no picture, or a period that is not positive.
    """
    if rows < 1 or columns < 1 or not 0 < period < np.inf:
        raise UserError(f"film: {rows} rows, {columns} columns, a period of {period} s; give positive numbers")
    angle = 2 * np.pi * _times(steps, dt)[:, None] / period
    y, x = (axis.ravel()[None] for axis in np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"))
    picture = np.zeros((steps, rows * columns))
    for turns, start, strength in ((1, 0.0, 1.0), (2, 1.0, 0.7)):
        down = (rows - 1) * (0.5 + 0.4 * np.sin(turns * angle + start))
        right = (columns - 1) * (0.5 + 0.4 * np.sin(angle + 2 * start))
        picture += strength * np.exp(-0.5 * ((y - down) ** 2 + (x - right) ** 2))
    return picture


def song(steps: int, dt: float, bands: int = 30, period: float = 5.0, syllables: int = 12, seed: int = 0) -> np.ndarray:
    """A made-up spectrogram in the manner of a birdsong `(steps, bands)`, the same in each period: syllables of gliding tones with one
    overtone, between silences. The recording of the paper is not distributed.

    Raises:
        UserError: no steps, no bands, no syllables, or a period that is not positive.
    """
    if bands < 1 or syllables < 1 or not 0 < period < np.inf:
        raise UserError(f"song: {bands} bands, {syllables} syllables, a period of {period} s; give positive numbers")
    random = np.random.default_rng(seed)
    place = _times(steps, dt) % period
    edges = np.sort(random.uniform(0, period, 2 * syllables)).reshape(syllables, 2)
    band = np.arange(bands)
    picture = np.zeros((steps, bands))
    for begin, end in edges:
        inside = (place >= begin) & (place < end)
        phase = (place[inside] - begin) / (end - begin)
        low, glide = random.uniform(0.1, 0.45) * bands, random.uniform(-0.15, 0.15) * bands
        centre = low + glide * phase
        envelope = np.sin(np.pi * phase)[:, None]
        for overtone, strength in ((1, 1.0), (2, 0.5)):
            distance = band[None] - overtone * centre[:, None]
            picture[inside] += strength * envelope * np.exp(-0.5 * (distance / 1.2) ** 2)
    return picture
