"""What an experiment is: a function of a frozen configuration and a seed that returns named numbers and arrays."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np


class Progress(Protocol):
    """Told how far a seed has come. Experiments call it about once an epoch."""

    def __call__(self, done: int, total: int, **metrics: float) -> None:
        """`done` of `total` units of work, with the latest metrics."""


def silent(done: int, total: int, **metrics: float) -> None:
    """A `Progress` that says nothing."""


@dataclass(frozen=True)
class Result:
    """What one seed of an experiment gives.

    Attributes:
        metrics: one finite number a name; what claims refer to as `experiment.name`.
        arrays: curves and figure data.
        early: numbers known after the first few updates; a replay of just those must give them again.
        data: provenance tag of the samples used, e.g. `mnist-5k`; `generated` where nothing is loaded.
    """

    metrics: dict[str, float]
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    early: dict[str, float] = field(default_factory=dict)
    data: str = "generated"


@dataclass(frozen=True)
class Experiment:
    """An experiment of a chapter with its two configurations (frozen dataclasses of one type).

    Attributes:
        function: `function(config, seed, progress, checkpoint)`; everything random comes from `seed`. `checkpoint` is a file that a
            long seed may use to go on after a kill (npz without pickle), or None.
        quick: configuration of the notebook.
        paper: configuration of the paper.
        quick_seeds: seeds the notebook runs.
        paper_seeds: seeds of the record.
        replay: shortens a configuration so that a seed ends once its `early` numbers are known; None where the whole run is short.
    """

    function: Callable[[Any, int, Progress, Path | None], Result]
    quick: Any
    paper: Any
    quick_seeds: tuple[int, ...]
    paper_seeds: tuple[int, ...]
    replay: Callable[[Any], Any] | None = None
