"""Spike trains as lists of times: samples of different length in one set, in continuous time, to be put on any grid of time steps."""

from typing import NamedTuple

import numpy as np

from snnrepro.errors import UserError


class Recordings(NamedTuple):
    """Labelled samples, each a list of spikes.

    Attributes:
        starts: first spike of each sample, int64 `(samples + 1,)`.
        time: of each spike, in seconds from the start of its sample, float32 `(spikes,)`.
        unit: input channel of each spike, int64 `(spikes,)`.
        label: class of each sample, int64 `(samples,)`.
        units: number of input channels.
        duration: length of the window in which a sample is looked at, in seconds.
        group: whom a sample is from, e.g. its speaker, int64 `(samples,)`; zeros where nobody is.
        tag: which samples these are, e.g. `fsdd`.
    """

    starts: np.ndarray
    time: np.ndarray
    unit: np.ndarray
    label: np.ndarray
    units: int
    duration: float
    group: np.ndarray
    tag: str = "generated"


def joined(
    samples: list[tuple[np.ndarray, np.ndarray]], label, units: int, duration: float, group=None, tag: str = "generated"
) -> Recordings:
    """`Recordings` from one pair (times, units) a sample.

    Raises:
        UserError: no samples, another number of labels, times and units of different length, a unit outside 0 .. units - 1, a
            time that is negative or no number, or a negative label.
    """
    label = np.asarray(label, dtype=np.int64)
    if not samples or len(samples) != len(label):
        raise UserError(f"recordings: {len(samples)} samples and {len(label)} labels; give one label for each sample")
    for k, (time, unit) in enumerate(samples):
        if len(time) != len(unit):
            raise UserError(f"recordings: sample {k} has {len(time)} times and {len(unit)} units; give equal lengths")
    exact = np.concatenate([time for time, _ in samples])
    time = exact.astype(np.float32)
    time[(exact < duration) & (time.astype(float) >= duration)] = np.nextafter(np.float32(duration), np.float32(0))
    unit = np.concatenate([unit for _, unit in samples]).astype(np.int64)
    if unit.size and not 0 <= unit.min() <= unit.max() < units:
        raise UserError(f"recordings: units {unit.min()} .. {unit.max()} lie outside 0 .. {units - 1}")
    if not (time >= 0).all():
        raise UserError("recordings: a spike time is negative or NaN; give seconds from the start of the sample")
    if label.min() < 0:
        raise UserError(f"recordings: label {label.min()} is negative; give classes from 0 on")
    if group is not None and len(group) != len(label):
        raise UserError(f"recordings: {len(label)} samples and {len(group)} groups; give one group for each sample")
    starts = np.concatenate([[0], np.cumsum([len(time) for time, _ in samples])])
    group = np.zeros(len(label), np.int64) if group is None else np.asarray(group, dtype=np.int64)
    return Recordings(starts.astype(np.int64), time, unit, label, units, duration, group, tag)


def subset(r: Recordings, rows: np.ndarray) -> Recordings:
    """The samples `rows` (indices, or a mask) of a set, in that order."""
    rows = np.arange(len(r.label))[rows]
    samples = [(r.time[r.starts[k] : r.starts[k + 1]], r.unit[r.starts[k] : r.starts[k + 1]]) for k in rows]
    return joined(samples, r.label[rows], r.units, r.duration, r.group[rows], r.tag)


def on_grid(
    r: Recordings, rows: np.ndarray, dt: float, factor: np.ndarray | float = 1.0, steps: int | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Time step, place in the batch and unit of each spike of some samples, and the number of steps.

    Two spikes of a unit in one step stay two. Spikes behind the window are cut.

    Args:
        r: the set.
        rows: indices of the samples.
        dt: time step, in seconds.
        factor: what all times, and the window, are stretched by; a number or one a sample.
        steps: length of the grid; None: the longest window.

    Raises:
        UserError: no rows.
    """
    if not len(rows):
        raise UserError("recordings: no samples to lay on a grid; give one row or more")
    factor = np.broadcast_to(np.asarray(factor, dtype=float), np.shape(rows))
    if steps is None:
        steps = int(np.ceil(r.duration * factor.max() / dt - 1e-9))
    size = r.starts[rows + 1] - r.starts[rows]
    place = np.repeat(np.arange(len(rows)), size)
    at = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size) + np.repeat(r.starts[rows], size)
    time = r.time[at].astype(float)
    step = np.floor(time * factor[place] / dt + 1e-9).astype(np.int64)
    kept = (time < r.duration) & (step < steps)
    return step[kept], place[kept], r.unit[at][kept], steps


def counts(r: Recordings, bins: int = 1) -> np.ndarray:
    """Spikes of each unit in each of `bins` equal parts of the window, `(samples, bins * units)` float64."""
    step, place, unit, _ = on_grid(r, np.arange(len(r.label)), r.duration / bins, steps=bins)
    out = np.zeros((len(r.label), bins, r.units))
    np.add.at(out, (place, step, unit), 1.0)
    return out.reshape(len(r.label), -1)
