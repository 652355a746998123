"""Experiments that try the runner: small, quick to import, and with one fault each."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from snnrepro.experiment import Experiment, Progress, Result


@dataclass(frozen=True)
class Walk:
    """A network of random weights that is iterated."""

    steps: int = 5
    units: int = 300
    pause: float = 0.0
    """Seconds that each step waits."""


def walk(config: Walk, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Iterates `x <- tanh(W x)`; large enough for a linear algebra library to use several threads."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(0, 1.5 / config.units**0.5, (config.units, config.units))
    x = rng.normal(size=(config.units, config.units))
    sizes = []
    for step in range(config.steps):
        x = np.tanh(weights @ x)
        sizes.append(np.abs(x).mean())
        progress(step + 1, config.steps, size=sizes[-1])
        time.sleep(config.pause)
    return Result(
        metrics={"size": sizes[-1], "spread": x.std()}, arrays={"sizes": np.array(sizes)}, early={"first": sizes[0]}
    )


def broken(config: Walk, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Gives a number that is not finite for seed 1."""
    return Result(metrics={"loss": np.nan if seed == 1 else 0.0})


def mistaken(config: Walk, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Fails like a program with an error in it."""
    raise ZeroDivisionError("a mistake")


def dying(config: Walk, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Ends its process."""
    os._exit(1)


def long(config: Walk, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Counts to `steps`, and fails half-way the first time; goes on from its checkpoint, one part of several under its stem."""
    start, checkpoint = 0, checkpoint.with_name(f"{checkpoint.stem}-part.npz")
    if checkpoint.exists():
        with np.load(checkpoint, allow_pickle=False) as stored:
            start = int(stored["step"])
    for step in range(start, config.steps):
        if step == config.steps // 2 and start == 0:
            np.savez(checkpoint, step=step)
            raise ZeroDivisionError("half-way")
    return Result(metrics={"started_at": start})


def _short(function) -> Experiment:
    return Experiment(function, quick=Walk(), paper=Walk(), quick_seeds=(0, 1), paper_seeds=(0, 1))


EXPERIMENTS = {
    "walk": Experiment(
        walk,
        quick=Walk(),
        paper=Walk(steps=8, units=40, pause=0.01),
        quick_seeds=(0, 1, 2),
        paper_seeds=tuple(range(100)),
    ),
    "broken": _short(broken),
    "mistaken": _short(mistaken),
    "dying": _short(dying),
    "long": _short(long),
}
