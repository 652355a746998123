"""Sound into spikes: a bank of gammatone filters, a hair cell for each, and a neuron that spikes.

A short model of the ear, in the place of the one that made the Heidelberg digits (lauscher), which takes minutes for a recording. All
filters work on whole arrays, and all recordings of a batch go through the neurons together.
"""

import io
import wave
from typing import NamedTuple

import numpy as np
from scipy.signal import fftconvolve, lfilter

from snnrepro.errors import UserError

BATCH = 50


class Cochlea(NamedTuple):
    """Settings of the encoder. Times in seconds, frequencies in Hz.

    Attributes:
        rate: of the sound.
        channels: filters, evenly spaced on the scale of equivalent rectangular bandwidths (ERB).
        lowest: centre frequency of the first filter.
        highest: that of the last one.
        power: exponent by which loudness is compressed.
        cut: edge of the hair cell's low-pass filter.
        tau: membrane time constant of the neurons.
        refractory: time after a spike in which a neuron stays at rest.
        dt: time step of the neurons, a multiple of 1 / rate.
        drive: what the compressed signal is multiplied by; the threshold is 1.
    """

    rate: int = 8000
    channels: int = 64
    lowest: float = 80.0
    highest: float = 3600.0
    power: float = 0.4
    cut: float = 250.0
    tau: float = 5e-3
    refractory: float = 2e-3
    dt: float = 5e-4
    drive: float = 16.0


EAR = Cochlea()
"""The settings used in the book."""


def read_wav(content: bytes, name: str, rate: int = 8000) -> np.ndarray:
    """Samples in [-1, 1) of a wav file with one channel of 16 bit.

    Args:
        content: of the file.
        name: for error messages.
        rate: that it must have, in Hz.

    Raises:
        UserError: it is no wav file, is truncated or empty, or has another rate, width or number of channels.
    """
    try:
        with wave.open(io.BytesIO(content)) as file:
            found, frames = file.getparams(), file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        fault = str(error) or "it ends too early"
        raise UserError(f"{name} is no whole wav file ({fault}); get it again") from None
    if found.nchannels != 1:
        raise UserError(f"{name} has {found.nchannels} channels; mix them down to one")
    if found.sampwidth != 2:
        raise UserError(f"{name} has samples of {8 * found.sampwidth} bit; convert it to 16 bit")
    if found.framerate != rate:
        raise UserError(f"{name} has a rate of {found.framerate} Hz; resample it to {rate} Hz")
    if not found.nframes:
        raise UserError(f"{name} holds no sound; leave it out")
    if len(frames) != 2 * found.nframes:
        raise UserError(f"{name} is truncated: {len(frames) // 2} samples of {found.nframes}; get it again")
    return np.frombuffer(frames, "<i2") / 2.0**15


def check(c: Cochlea) -> None:
    """Do the settings agree with each other?

    Raises:
        UserError: a time step that is no multiple of the sound's, or filters beyond half its rate.
    """
    ratio = c.dt * c.rate
    if ratio < 0.5 or abs(ratio - round(ratio)) > 1e-9:
        raise UserError(f"cochlea: dt is {c.dt:g} s, {ratio:g} samples of the sound; give a whole number of samples")
    if not 0 < c.lowest < c.highest <= c.rate / 2:
        raise UserError(
            f"cochlea: filters from {c.lowest:g} to {c.highest:g} Hz at {c.rate} Hz; give 0 < lowest < highest <= {c.rate / 2:g} Hz"
        )


def centres(c: Cochlea) -> np.ndarray:
    """Centre frequencies `(channels,)` in Hz, evenly spaced on the ERB-rate scale of Glasberg & Moore (1990)."""
    low, high = (21.4 * np.log10(1 + 4.37e-3 * f) for f in (c.lowest, c.highest))
    return (10 ** (np.linspace(low, high, c.channels) / 21.4) - 1) / 4.37e-3


def filters(c: Cochlea) -> np.ndarray:
    """Impulse responses `(channels, samples)` of gammatone filters of order 4, each with gain 1 at its centre."""
    f = centres(c)[:, None]
    width = 1.019 * 24.7 * (4.37e-3 * f + 1)  # 1.019 ERB
    t = np.arange(int(0.1 * c.rate)) / c.rate
    h = t**3 * np.exp(-2 * np.pi * width * t) * np.cos(2 * np.pi * f * t)
    return h / np.abs((h * np.exp(-2j * np.pi * f * t)).sum(1, keepdims=True))


def hair_cells(sound: np.ndarray, c: Cochlea, h: np.ndarray) -> np.ndarray:
    """What drives the neurons, `(steps, channels)`, one step every `dt`: rectified, compressed, smoothed.

    The sound is brought to a root mean square of 0.1 first. A silent sound gives zeros.

    Raises:
        UserError: there is no sample, or one that is no number.
    """
    sound = np.asarray(sound, dtype=float)
    if sound.ndim != 1 or not sound.size:
        raise UserError(f"cochlea: the sound has shape {sound.shape}; give one channel (samples,) that is not empty")
    if not np.isfinite(sound).all():
        raise UserError("cochlea: the sound holds NaN or infinite values")
    level = np.sqrt(np.mean(sound**2))
    sound = sound * (0.1 / level) if level > 0 else sound
    y = fftconvolve(sound[None], h, axes=1)[:, : len(sound)]
    loud = np.maximum(y, 0) ** c.power
    decay = np.exp(-2 * np.pi * c.cut / c.rate)
    smooth = lfilter([1 - decay], [1, -decay], loud, axis=1)
    return c.drive * smooth[:, :: round(c.dt * c.rate)].T


def fire(drive: np.ndarray, c: Cochlea) -> np.ndarray:
    """Spikes of neurons with potential U: tau dU/dt = -U + drive, threshold 1, reset to 0, then a refractory time at 0.

    Args:
        drive: `(steps, ...)`, constant within a step.
        c: settings.

    Returns:
        bool, like `drive`; a spike belongs to the step at whose end U is at or above 1.
    """
    decay, wait = np.exp(-c.dt / c.tau), round(c.refractory / c.dt)
    u, left, out = np.zeros(drive.shape[1:]), np.zeros(drive.shape[1:], int), np.zeros(drive.shape, bool)
    for t, d in enumerate(drive):
        u = np.where(left > 0, 0.0, decay * u + (1 - decay) * d)
        left = np.maximum(left - 1, 0)
        out[t] = u >= 1
        u[out[t]] = 0.0
        left[out[t]] = wait
    return out


def encode(sounds: list[np.ndarray], c: Cochlea = EAR) -> list[tuple[np.ndarray, np.ndarray]]:
    """Spike times (seconds) and channels of each sound, in order of time.

    Args:
        sounds: each `(samples,)`, of any length.
        c: settings.

    Raises:
        UserError: as `check` and `hair_cells`.
    """
    check(c)
    h, found = filters(c), []
    for first in range(0, len(sounds), BATCH):
        drives = [hair_cells(sound, c, h) for sound in sounds[first : first + BATCH]]
        together = np.zeros((max(map(len, drives)), len(drives), c.channels))
        for k, drive in enumerate(drives):
            together[: len(drive), k] = drive
        spikes = fire(together, c)
        for k, drive in enumerate(drives):
            step, channel = np.nonzero(spikes[: len(drive), k])
            found.append((step * c.dt, channel))
    return found
