"""Two tasks for a network with many time scales: one whose classes differ in spike timing alone, one whose classes differ in rates alone.

Own tasks, in the place of recordings that cannot be shipped. Times are in seconds.
"""

import math
from typing import NamedTuple

import numpy as np

from snnrepro.data.recordings import Recordings, joined
from snnrepro.errors import UserError


class Timing(NamedTuple):
    """Groups of channels burst one after another. A class is an order of the groups (slow) and an interval within bursts (fast).

    Every channel bursts once with the same number of spikes, whatever the class, so that spike counts carry no information.

    Attributes:
        orders: number of different orders of the groups.
        groups: groups of channels.
        channels: channels of a group; all of them burst together.
        spikes: spikes of a burst.
        intervals: between the spikes of a burst; one class for each.
        period: from the burst of one group to that of the next.
        jitter: standard deviation of each spike time.
        deleted: share of spikes that are left out.
        noise: rate of further spikes of each channel, in Hz.
        warp: the whole sample is stretched by a factor between 1 - warp and 1 + warp.
        duration: length of a sample.
        draw: seed of the orders, so that all sets of a task have the same.
    """

    orders: int = 5
    groups: int = 6
    channels: int = 5
    spikes: int = 3
    intervals: tuple[float, ...] = (15e-3, 40e-3)
    period: float = 100e-3
    jitter: float = 7.5e-3
    deleted: float = 0.4
    noise: float = 6.0
    warp: float = 0.2
    duration: float = 0.9
    draw: int = 0

    def classes(self) -> int:
        """Number of classes."""
        return self.orders * len(self.intervals)

    def units(self) -> int:
        """Number of input channels."""
        return self.groups * self.channels


class Rates(NamedTuple):
    """Each class has its own active channels. They spike at random times, so that timing carries no information.

    Attributes:
        classes: number of classes.
        channels: input channels.
        active: channels that are active in a class.
        spikes: spikes of an active channel.
        noise: rate of further spikes of each channel, in Hz.
        duration: length of a sample.
        draw: seed of the active channels.
    """

    classes: int = 10
    channels: int = 30
    active: int = 12
    spikes: int = 12
    noise: float = 4.0
    duration: float = 0.9
    draw: int = 0

    def units(self) -> int:
        """Number of input channels."""
        return self.channels


def timing(task: Timing, samples: int, rng: np.random.Generator) -> Recordings:
    """Samples of the timing task, all classes alike often, in random order.

    Raises:
        UserError: a setting that makes no sense; a sample would not fit into its duration, or there are not so many orders of the groups.
    """
    if not isinstance(samples, int | np.integer) or samples < 1:
        raise UserError(f"timing: {samples} samples; give a whole number from 1")
    for name, least in (("orders", 1), ("groups", 1), ("channels", 1), ("spikes", 1), ("draw", 0)):
        if not isinstance(getattr(task, name), int | np.integer) or getattr(task, name) < least:
            raise UserError(f"timing: {name} is {getattr(task, name)}; give a whole number from {least}")
    for name in ("jitter", "noise", "duration"):
        if not 0 <= getattr(task, name) < math.inf:
            raise UserError(f"timing: {name} is {getattr(task, name)}; give a finite number from 0")
    if not 0 <= task.warp < 1 or not 0 <= task.deleted <= 1:
        raise UserError(f"timing: warp is {task.warp}, deleted {task.deleted}; give shares from 0 to 1, warp below 1")
    if not 0 < task.period < math.inf:
        raise UserError(f"timing: period is {task.period}; give positive seconds")
    if np.ndim(task.intervals) != 1 or not len(task.intervals) or not all(0 <= i < math.inf for i in task.intervals):
        raise UserError(f"timing: intervals are {task.intervals}; give a list of seconds from 0, one or more")
    order = _orders(task)
    longest = (task.period * (task.groups - 1) + (task.spikes - 1) * max(task.intervals)) * (1 + task.warp)
    longest += 6 * task.jitter
    spare = task.duration - longest
    if spare < 0:
        raise UserError(f"timing: a sample lasts up to {longest:.3f} s; make the duration longer than that")
    label = rng.permutation(np.arange(samples) % task.classes())
    made = []
    group = np.repeat(np.arange(task.groups), task.channels)
    for k in label:
        start = order[k % task.orders][group] * task.period
        time = start[:, None] + task.intervals[k // task.orders] * np.arange(task.spikes)
        time = time * rng.uniform(1 - task.warp, 1 + task.warp) + 3 * task.jitter + rng.uniform(0, spare)
        time = time + task.jitter * rng.standard_normal(time.shape)
        kept = rng.random(time.shape) >= task.deleted
        unit = np.broadcast_to(np.arange(task.units())[:, None], time.shape)
        made.append(_with_noise(np.clip(time, 0, np.nextafter(task.duration, 0))[kept], unit[kept], task, rng))
    return joined(made, label, task.units(), task.duration)


def _orders(task: Timing) -> np.ndarray:
    """Orders that all differ, `(orders, groups)`: the place of each group in the sequence."""
    if task.orders > math.factorial(task.groups):
        raise UserError(f"timing: {task.groups} groups have {math.factorial(task.groups)} orders, not {task.orders}")
    fixed, found = np.random.default_rng(task.draw), {}
    while len(found) < task.orders:
        found[tuple(fixed.permutation(task.groups).tolist())] = None
    return np.array(list(found))


def rates(task: Rates, samples: int, rng: np.random.Generator) -> Recordings:
    """Samples of the rate task, all classes alike often, in random order.

    Raises:
        UserError: a setting that makes no sense, or more active channels than there are.
    """
    if not isinstance(samples, int | np.integer) or samples < 1:
        raise UserError(f"rates: {samples} samples; give a whole number from 1")
    for name, least in (("classes", 1), ("channels", 1), ("active", 1), ("spikes", 1), ("draw", 0)):
        if not isinstance(getattr(task, name), int | np.integer) or getattr(task, name) < least:
            raise UserError(f"rates: {name} is {getattr(task, name)}; give a whole number from {least}")
    if task.active > task.channels:
        raise UserError(f"rates: {task.active} of {task.channels} channels are active; give at most {task.channels}")
    if not 0 < task.duration < math.inf or not 0 <= task.noise < math.inf:
        raise UserError(f"rates: duration is {task.duration}, noise {task.noise}; give positive seconds and Hz from 0")
    fixed = np.random.default_rng(task.draw)
    active = np.stack([fixed.permutation(task.channels)[: task.active] for _ in range(task.classes)])
    label = rng.permutation(np.arange(samples) % task.classes)
    made = []
    for k in label:
        unit = np.repeat(active[k], task.spikes)
        made.append(_with_noise(rng.uniform(0, task.duration, len(unit)), unit, task, rng))
    return joined(made, label, task.channels, task.duration)


def _with_noise(
    time: np.ndarray, unit: np.ndarray, task: Timing | Rates, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The spikes of a sample and those of the background."""
    more = rng.poisson(task.noise * task.duration * task.units())
    return (
        np.concatenate([time, rng.uniform(0, task.duration, more)]),
        np.concatenate([unit, rng.integers(0, task.units(), more)]),
    )
