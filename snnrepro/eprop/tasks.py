"""What the networks of Bellec et al. (2020) learn. Random numbers are drawn in the order of a fork of the authors' code, from a legacy
generator, so that its losses come out again.
"""

from typing import NamedTuple

import numpy as np

from snnrepro.errors import UserError

PERIODS = (1000, 500, 333, 200)


def sum_of_sines(steps: int, random: np.random.RandomState, periods: tuple[int, ...] = PERIODS) -> np.ndarray:
    """A sum of sines with random amplitudes and phases, from 0 on, scaled to a largest value of 1 `(steps,)`.

    Raises:
        UserError: a period that is longer than the signal or not positive, no period, or random numbers of another kind.
    """
    if not len(periods) or not min(periods) > 0:
        raise UserError(f"sum_of_sines: periods are {tuple(periods)}; give one or more, each positive")
    if not isinstance(steps, int | np.integer):
        raise UserError(f"sum_of_sines: steps is {steps!r}; give a whole number")
    if not isinstance(random, np.random.RandomState):
        raise UserError(f"sum_of_sines: random is a {type(random).__name__}; give a np.random.RandomState")
    if max(periods) > steps:
        raise UserError(f"sum_of_sines: a period of {max(periods)} steps in a signal of {steps}; give a longer signal")
    amplitudes = random.uniform(0.5, 2.0, len(periods))
    phases = random.uniform(0.0, 2 * np.pi, len(periods))
    parts = [
        a * np.sin(np.linspace(phase, 2 * np.pi * (steps // period) + phase, steps))
        for a, phase, period in zip(amplitudes, phases, periods, strict=True)
    ]
    signal = sum(parts)
    signal = signal - signal[0]
    return signal / max(np.abs(signal).max(), 1e-6)


def frozen_noise(steps: int, inputs: int, rate: float, random: np.random.RandomState) -> np.ndarray:
    """Poisson spikes, the same in each repetition `(steps, 1, inputs)`; none in the first step. `rate`: spikes a step.

    Raises:
        UserError: no steps or inputs, a rate that is no probability, or random numbers of another kind.
    """
    for name, count in (("steps", steps), ("inputs", inputs)):
        if not isinstance(count, int | np.integer) or count < 1:
            raise UserError(f"frozen_noise: {name} is {count!r}; give a whole number, 1 or more")
    if not 0 <= rate <= 1:
        raise UserError(f"frozen_noise: rate is {rate}; give spikes a step, from 0 to 1")
    if not isinstance(random, np.random.RandomState):
        raise UserError(f"frozen_noise: random is a {type(random).__name__}; give a np.random.RandomState")
    spikes = (random.rand(1, steps, inputs) < rate).astype(np.uint8)
    spikes[0, 0] = 0
    return np.ascontiguousarray(spikes.transpose(1, 0, 2))


class Evidence(NamedTuple):
    """Evidence accumulation: seven cues left or right, a delay, then a recall signal. Times are in steps, rates in spikes a step.

    Attributes:
        cues: how many.
        silence: before each cue.
        cue: length of a cue.
        delay: after the cues.
        recall: length of the recall signal at the end.
        group: neurons of each of the four input groups: left, right, recall, noise.
        rate: of an active group; the noise has a quarter of it.
        weak: probability that a cue is on the side with fewer cues.
    """

    cues: int = 7
    silence: int = 50
    cue: int = 100
    delay: int = 1050
    recall: int = 150
    group: int = 10
    rate: float = 0.04
    weak: float = 0.3

    def steps(self) -> int:
        """Length of a trial.

        Raises:
            UserError: a negative length.
        """
        if min(self[:5]) < 0:
            raise UserError(f"evidence: cues, silence, cue, delay, recall are {self[:5]}; give 0 or more each")
        return self.cues * (self.silence + self.cue) + self.delay + self.recall


def evidence(task: Evidence, batch: int, random: np.random.RandomState) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Trials: input spikes `(time, batch, 4 * group)`, labels `(batch,)`, and cues `(batch, cues)`, 0 for left and 1 for right.

    Raises:
        UserError: no trials, a number of cues that allows a draw, a length, rate or probability out of range, or random numbers of
            another kind.
    """
    for name, least in {"cues": 1, "silence": 0, "cue": 1, "delay": 0, "recall": 1, "group": 1}.items():
        if not isinstance(getattr(task, name), int | np.integer) or getattr(task, name) < least:
            raise UserError(f"evidence: {name} is {getattr(task, name)!r}; give a whole number, {least} or more")
    for name in ("rate", "weak"):
        if not 0 <= getattr(task, name) <= 1:
            raise UserError(f"evidence: {name} is {getattr(task, name)}; give a probability, from 0 to 1")
    if not isinstance(random, np.random.RandomState):
        raise UserError(f"evidence: random is a {type(random).__name__}; give a np.random.RandomState")
    if not isinstance(batch, int | np.integer) or batch < 1 or task.cues % 2 == 0:
        raise UserError(
            f"evidence: {batch} trials of {task.cues} cues; give 1 trial or more, and an odd number of cues"
        )
    share = np.array([task.weak, 1 - task.weak], np.float32)
    first = random.choice([0, 1], batch)
    shares = np.stack([share[first], share[1 - first]], 1)
    cues = np.stack([random.choice([0, 1], task.cues, p=p) for p in shares])
    steps, spacing, group = task.steps(), task.silence + task.cue, task.group
    drawn = random.rand(batch, steps, 4 * group)
    spikes = np.zeros((steps, batch, 4 * group), np.uint8)
    for b in range(batch):
        for k, side in enumerate(cues[b]):
            begin, units = k * spacing + task.silence, slice(side * group, (side + 1) * group)
            cue = slice(begin, begin + task.cue)
            spikes[cue, b, units] = drawn[b, cue, units] < task.rate
    recall, units = slice(steps - task.recall, steps), slice(2 * group, 3 * group)
    spikes[recall, :, units] = (drawn[:, recall, units] < task.rate).transpose(1, 0, 2)
    spikes[:, :, 3 * group :] = (drawn[:, :, 3 * group :] < task.rate / 4).transpose(1, 0, 2)
    spikes[0] = 0
    return spikes, (cues.sum(1) > task.cues // 2).astype(np.int64), cues
