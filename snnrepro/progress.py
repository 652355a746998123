"""Shows how far the seeds of a run are: bars on a terminal, lines elsewhere, nothing when asked."""

import json
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

POLL_SECONDS = 0.2
LINE_SECONDS = 60.0  # between two lines about unfinished seeds, where there is no terminal


def say(line: str, quiet: bool = False) -> None:
    """Print a line on stderr."""
    if not quiet:
        print(line, file=sys.stderr, flush=True)


class Watch:
    """Follows the files that seeds in flight keep writing, whatever process or machine they run on.

    Each holds `[done, total, metrics, CPU seconds]`. Use as a context around the run, and call `finished` for each seed that ends.

    Args:
        name: of the run.
        seeds: what each seed is called, `seed 3`, and its file.
        quiet: show nothing.
    """

    def __init__(self, name: str, seeds: dict[str, Path], quiet: bool) -> None:
        self.name = name
        self.waiting = dict(seeds)
        self.total = len(seeds)
        self.start = time.monotonic()
        self.quiet = quiet
        self.bars = None
        self.rows: dict[str, int] = {}
        self.first: dict[str, float] = {}  # share of each seed when first seen: resumed ones start late
        self.over = threading.Event()
        self.lock = threading.Lock()
        self.thread = threading.Thread(target=self._poll, daemon=True)

    def __enter__(self) -> "Watch":
        if self.quiet:
            return self
        if sys.stderr.isatty():
            self.bars = _bars()
            self.bars.start()
            self.whole = self.bars.add_task(self.name, total=self.total, count=f"0/{self.total} seeds", note="")
        else:
            say(f"{self.name}: {self.total} {'seed' if self.total == 1 else 'seeds'} to run")
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.over.set()
        if self.thread.is_alive():
            self.thread.join()
        if self.bars:
            self.bars.stop()

    def finished(self, seed: str, metrics: dict[str, float]) -> None:
        """Take note that a seed ended with these metrics."""
        self._ended(seed, "finished", _note(metrics))

    def failed(self, seed: str, reason: str) -> None:
        """Take note that a seed ended without a result."""
        self._ended(seed, "failed", reason)

    def _ended(self, seed: str, how: str, note: str) -> None:
        self.waiting.pop(seed)
        done = self.total - len(self.waiting)
        if self.quiet:
            return
        if not self.bars:
            left = _left(self.start, done / self.total, sum(self.first.values()) / self.total)
            left = left if how == "finished" else ""  # a failure tells nothing about how long the others take
            say(f"{self.name}: {seed} {how}, {done}/{self.total}{left}  {note}")
            return
        with self.lock:
            if seed in self.rows:
                self.bars.remove_task(self.rows.pop(seed))
            self.bars.update(self.whole, completed=done, count=f"{done}/{self.total} seeds", note="")

    def _poll(self) -> None:
        spoken = time.monotonic()
        while not self.over.wait(POLL_SECONDS):
            for seed, (done, total, _) in self._read().items():
                self.first.setdefault(seed, done / total if total else 0.0)
            if self.bars:
                self._move_bars()
            elif time.monotonic() - spoken > LINE_SECONDS:
                spoken = time.monotonic()
                self._say_lines()

    def _read(self) -> dict[str, tuple[int, int, dict[str, float]]]:
        """State of the seeds in flight."""
        found = {}
        for seed, file in list(self.waiting.items()):
            try:
                found[seed] = tuple(json.loads(file.read_text())[:3])
            except (OSError, ValueError):  # not there yet, or being written this moment
                continue
        return found

    def _move_bars(self) -> None:
        states = self._read()
        with self.lock:
            for seed, (done, total, metrics) in states.items():
                if seed not in self.waiting:
                    continue
                if seed not in self.rows:
                    self.rows[seed] = self.bars.add_task(f"  {seed}", total=total, count="", note="")
                self.bars.update(
                    self.rows[seed], completed=done, total=total, count=f"{done}/{total}", note=_note(metrics)
                )
            parts = sum(done / total for done, total, _ in states.values() if total)
            self.bars.update(self.whole, completed=self.total - len(self.waiting) + parts)

    def _say_lines(self) -> None:
        states = self._read()
        ended = self.total - len(self.waiting)
        whole = (ended + sum(done / total for done, total, _ in states.values() if total)) / self.total
        for seed, (done, total, metrics) in states.items():
            left = _left(self.start, whole, sum(self.first.values()) / self.total)
            say(f"{self.name}: {seed} at {done}/{total}{left}  {_note(metrics)}")


class Steps:
    """A bar over the steps of one thing; on no terminal a line at its end."""

    def __init__(self, name: str, total: int, quiet: bool) -> None:
        self.name = name
        self.total = total
        self.start = time.monotonic()
        self.quiet = quiet
        self.bars = _bars() if sys.stderr.isatty() and not quiet else None

    def __enter__(self) -> "Steps":
        if self.bars:
            self.bars.start()
            self.row = self.bars.add_task(self.name, total=self.total, count="", note="")
        return self

    def __exit__(self, kind: type | None, *error: object) -> None:
        if self.bars:
            self.bars.stop()
        if kind is None:
            say(f"{self.name}: {self.total} done in {time.monotonic() - self.start:.0f} s", self.quiet)

    def move(self, done: int) -> None:
        """So many steps are done."""
        if self.bars:
            self.bars.update(self.row, completed=done, count=f"{done}/{self.total}")


def _bars() -> "Progress":
    """Bars with seed, epoch, time left and metrics."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[count]}"),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
        transient=True,
    )


def _note(metrics: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())


def _left(start: float, part: float, before: float) -> str:
    """Time left for the whole run, once there is something to judge by; `before` was done when it started."""
    if not before < part < 1:
        return ""
    seconds = int((time.monotonic() - start) * (1 - part) / (part - before))
    return f", about {seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d} left"
