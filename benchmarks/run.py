"""`make bench`: measure the tasks of `benchmarks.tasks` here and in other libraries, check them first, and write the results.

Each group of libraries runs in processes of its own, one for each number of threads and allocator, and one at a time: the parent asks
for one training step or one inference, in an order that is shuffled anew in each round. Writes `benchmark.json` and `sweeps.svg`.
"""

import argparse
import datetime
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from benchmarks import report
from benchmarks.cases import CASES
from benchmarks.tasks import DEEP, FEEDFORWARD, RECURRENT, Task
from benchmarks.worker import PEERS, Kind, environment, serve
from snnrepro import ledger
from snnrepro.errors import UserError
from snnrepro.files import SCHEMA, shown, write_json, write_text
from snnrepro.progress import say

THREADS = 2
KINDS = ((THREADS, "tuned"), (THREADS, "default"), (1, "default"))
"""Threads and allocator of the workers of the main table. The first decides which steps are slow."""

BRIAN2 = Kind("brian2", 1, "default")
"""It runs a program of its own, which no allocator of ours reaches; its OpenMP mode says of itself that it is not well tested."""

PATIENCE = 240.0
"""Seconds for one answer."""

PAUSE = 0.02
"""Seconds between two requests, in which waiting threads of the last library fall asleep."""

SLOW, VERY_SLOW = 2.0, 3.0
"""Seconds: a longer step is measured in fewer rounds; a very slow one in two, and at one thread not at all."""

CAP = 3.0
"""Seconds: where a step of a sweep takes longer, this library's line ends."""

SWEPT = ("events", "dense", "reference", "snntorch", "jax", "products", "sparse_products")
SWEEPS = {
    "steps": (25, 50, 100, 200, 400, 800),
    "neurons": (64, 128, 256, 512, 1024),
    "batch": (16, 32, 64, 128, 256, 512),
    "density": (0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
}
PACKAGES = ("numpy", "torch", "numba", "scipy", "jaxlib")
"""Reported beside the packages of the cases."""


class Plan(NamedTuple):
    """What to measure, and how often.

    Attributes:
        tasks: of the main table, by name.
        rounds: of a step, of a slow step, of a very slow one.
        sweeps: values by axis.
        base: the task that the sweeps vary.
        sweep_rounds: rounds of each point.
    """

    tasks: dict[str, Task]
    rounds: tuple[int, int, int]
    sweeps: dict[str, tuple[float, ...]]
    base: Task
    sweep_rounds: int


FULL = Plan({"feedforward": FEEDFORWARD, "recurrent": RECURRENT, "adaptive": DEEP}, (7, 3, 2), SWEEPS, FEEDFORWARD, 3)
SMALL = {"steps": 20, "batch": 8}
QUICK = Plan(
    {name: task._replace(**SMALL) for name, task in FULL.tasks.items()},
    (3, 2, 1),
    {"steps": (20, 40), "neurons": (32, 64), "batch": (8, 16), "density": (0.05, 0.1)},
    FEEDFORWARD._replace(**SMALL),
    1,
)
CHECKED = {
    "feedforward": Task("feedforward", (60, 40, 10), 60, 6),
    "recurrent": Task("recurrent", (60, 40, 10), 60, 6),
    "adaptive": Task("adaptive", (1, 24, 24, 5), 60, 6, 1.0),
}
"""Small tasks on which the libraries are compared with our neuron in float64."""


class Failed(Exception):
    """A worker could not do what it was asked."""


class Remote:
    """A worker process."""

    def __init__(self, kind: Kind, scratch: str):
        self.kind = kind
        self.missing: dict[str, str] = {}
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=serve, args=(other, kind), daemon=True)
        before = dict(os.environ)
        os.environ.update(environment(kind) | {"TMPDIR": scratch})
        try:
            self.process.start()
        finally:
            os.environ.clear()
            os.environ.update(before)
        other.close()

    def ready(self) -> None:
        """Wait until the libraries are imported."""
        self.missing = self.answer()

    def ask(self, method: str, *arguments: Any) -> Any:
        """What the worker's method returns.

        Raises:
            Failed: with the reason.
        """
        time.sleep(PAUSE)
        try:
            self.connection.send((method, arguments))
        except OSError:
            raise Failed("its process has ended") from None
        return self.answer()

    def answer(self) -> Any:
        """The next answer.

        Raises:
            Failed: the worker says so, ended, or does not answer.
        """
        if not self.connection.poll(PATIENCE):
            self.close()
            raise Failed(f"no answer after {PATIENCE:.0f} s")
        try:
            done, result = self.connection.recv()
        except (EOFError, OSError):
            self.process.join(5)
            raise Failed(f"its process ended with code {self.process.exitcode}") from None
        if not done:
            raise Failed(result)
        return result

    def close(self) -> None:
        """End the process, in the middle of a request too."""
        self.connection.close()
        self.process.terminate()
        self.process.join(10)


class Run:
    """One run: the workers, and what they said so far."""

    def __init__(self, plan: Plan, scratch: str):
        self.plan, self.scratch = plan, scratch
        self.start = time.monotonic()
        self.workers: dict[Kind, Remote] = {}
        self.missing: dict[str, str] = {}
        self.skipped: list[dict[str, Any]] = []
        self.rates: dict[str, dict[str, list[float]]] = {}
        self.shuffle = random.Random(2021)

    def say(self, line: str) -> None:
        """A line of progress, with the time since the start."""
        say(f"[{time.monotonic() - self.start:4.0f} s] {line}")

    def open(self, kinds: Iterable[tuple[int, str]]) -> None:
        """Start the workers of these threads and allocators, and close all others."""
        groups = list(dict.fromkeys(case.group for case in CASES.values() if case.group != "brian2"))
        wanted = [Kind(group, *kind) for kind in kinds for group in groups] + [BRIAN2]
        for kind in self.workers.keys() - set(wanted):
            self.workers.pop(kind).close()
        for kind in wanted:
            if kind in self.workers:
                continue
            remote = Remote(kind, self.scratch)
            try:
                remote.ready()
            except Failed as error:
                remote.close()
                self.skip("", kind, None, str(error))
                continue
            self.workers[kind] = remote
            for case, reason in remote.missing.items():
                if case not in self.missing:
                    self.say(f"{CASES[case].title}: not here, {reason}")
                self.missing.setdefault(case, reason)

    def close(self) -> None:
        """End all workers."""
        for remote in self.workers.values():
            remote.close()
        self.workers.clear()

    def skip(self, task: str, kind: Kind, case: str | None, reason: str) -> None:
        """Note that something was not measured."""
        what = CASES[case].title if case else f"all of the group {kind.group}"
        self.say(f"{task or 'set-up'}: {what}, {kind.threads} threads, allocator {kind.allocator}: {reason}")
        about = {"task": task, "group": kind.group, "threads": kind.threads, "allocator": kind.allocator}
        self.skipped.append(about | {"case": case, "reason": reason})

    def cases(self, kind: Kind, task: Task) -> list[str]:
        """The cases that a worker can do of a task."""
        here = [name for name, case in CASES.items() if case.group == kind.group and task.kind in case.models]
        return [name for name in here if name not in self.missing]

    def drop(self) -> None:
        """Let the workers forget the models of a task."""
        for remote in self.workers.values():
            try:
                remote.ask("drop")
            except Failed as error:
                self.say(f"worker {remote.kind}: {error}")

    # What comes out

    def checks(self) -> list[dict[str, Any]]:
        """Compare each library with our neuron on the small tasks."""
        found = []
        for name, task in CHECKED.items():
            for case in CASES:
                if name in CASES[case].models and case not in self.missing and "products" not in case:
                    found.append(self.check(name, task, case))
            self.drop()
        return found

    def check(self, name: str, task: Task, case: str) -> dict[str, Any]:
        """Spikes and gradients of a case against our own with its neuron, in float64; without a twin, nothing but its name."""
        about: dict[str, Any] = {"task": name, "case": case, "twin": name in CASES[case].twins}
        if not about["twin"]:
            return about
        gradients = case != "brian2"
        other = "reference" if case in ("dense", "events") else "dense"
        try:
            theirs = self.worker(CASES[case].group).ask("outputs", task, case, "float64", gradients)
            twin = CASES[case].twins[name]
            ours = self.worker(CASES[other].group).ask("outputs", task, other, "float64", gradients, twin)
        except Failed as error:
            return about | {"failed": str(error)}
        about |= report.compared(ours, theirs)
        about["against"] = other
        return about

    def worker(self, group: str) -> Remote:
        """A worker of a group."""
        for kind, remote in self.workers.items():
            if kind.group == group:
                return remote
        raise Failed(f"no worker for the group {group}")

    def table(self) -> list[dict[str, Any]]:
        """Times of the main table."""
        found = []
        for name, task in self.plan.tasks.items():
            found += self.times(name, task)
            self.drop()
        return found

    def times(self, name: str, task: Task) -> list[dict[str, Any]]:
        """Times of all cases of one task, all kinds of workers and both phases, interleaved."""
        entries, slow = [], set()
        for kind, remote in sorted(self.workers.items(), key=lambda item: KINDS.index(item[0][1:])):
            for case in self.cases(kind, task):
                for phase in ("train", "infer"):
                    if phase == "train" and case == "brian2":
                        continue
                    if case in slow and phase == "train" and kind.threads == 1:
                        self.skip(name, kind, case, f"a training step takes over {VERY_SLOW:g} s at {THREADS} threads")
                        continue
                    try:
                        short = case in slow and phase == "train"
                        once = self.warm_up(remote, task, case, phase, short)
                    except Failed as error:
                        self.skip(name, kind, case, str(error))
                        continue
                    if once > VERY_SLOW and phase == "train":
                        slow.add(case)
                    rates = self.rates.setdefault(name, {})
                    if "products" not in case and case not in rates:
                        rates[case] = self.rate(remote, task, case)
                    very_slow = case in slow and phase == "train"
                    rounds = self.plan.rounds[2 if very_slow else 1 if once > SLOW else 0]
                    about = {"task": name, "case": case, "phase": phase}
                    about |= {"threads": kind.threads, "allocator": kind.allocator, "wall": [], "cpu": []}
                    entries.append((remote, rounds, about))
        self.measure(name, task, entries)
        return [about for _, _, about in entries if about["wall"]]

    def rate(self, remote: Remote, task: Task, case: str) -> list[float]:
        """Firing rate of each hidden layer, in the float32 of the timings."""
        try:
            return remote.ask("rates", task, case)
        except Failed as error:
            self.skip(task.kind, remote.kind, case, f"its firing rate: {error}")
            return []

    def warm_up(self, remote: Remote, task: Task, case: str, phase: str, short: bool) -> float:
        """Let a case run twice, since the first time may compile; `short`: on an eighth of the steps.

        Returns:
            seconds of the last time, for all steps.
        """
        factor = 8 if short else 1
        task = task._replace(steps=max(1, task.steps // factor))
        for _ in range(2):
            once = remote.ask("time", task, case, phase)[0]
        return factor * once

    def measure(self, name: str, task: Task, entries: list) -> None:
        """Run all rounds of the entries (worker, rounds, where to write), in shuffled order."""
        most = max((rounds for _, rounds, _ in entries), default=0)
        failed = set()
        for number in range(most):
            self.say(f"{name}: round {number + 1} of {most}")
            active = [e for e in entries if number < e[1]]
            for remote, _, about in self.shuffle.sample(active, len(active)):
                if id(about) in failed:
                    continue
                try:
                    wall, cpu = remote.ask("time", task, about["case"], about["phase"])
                except Failed as error:
                    failed.add(id(about))
                    self.skip(name, remote.kind, about["case"], str(error))
                    continue
                about["wall"].append(wall)
                if cpu is not None:
                    about["cpu"].append(cpu)

    def sweeps(self) -> list[dict[str, Any]]:
        """Times of training steps where one size of the task varies."""
        found = []
        for axis, values in self.plan.sweeps.items():
            ended: set[str] = set()
            for value in values:
                task = varied(self.plan.base, axis, value)
                entries = []
                for kind, remote in self.workers.items():
                    for case in self.cases(kind, task):
                        if case not in SWEPT or case in ended:
                            continue
                        try:
                            once = self.warm_up(remote, task, case, "train", False)
                        except Failed as error:
                            ended.add(case)
                            self.skip(axis, kind, case, f"at {value:g}: {error}")
                            continue
                        if once > CAP:
                            ended.add(case)
                            self.skip(axis, kind, case, f"at {value:g}: a step takes over {CAP:g} s")
                            continue
                        about = {"axis": axis, "value": value, "case": case, "wall": [], "cpu": []}
                        entries.append((remote, self.plan.sweep_rounds, about | {"phase": "train"}))
                self.measure(f"{axis} {value:g}", task, entries)
                found += [{k: about[k] for k in about if k != "phase"} for _, _, about in entries if about["wall"]]
                self.drop()
        return found


def varied(base: Task, axis: str, value: float) -> Task:
    """A task with another number of steps, neurons or samples, or another input density."""
    if axis == "neurons":
        return base._replace(sizes=(base.sizes[0], int(value), base.sizes[2]))
    return base._replace(**{axis: value if axis == "density" else int(value)})


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that were compared."""
    sys.path.append(str(PEERS))
    found = ledger.versions()
    for package in sorted({*PACKAGES, *(case.package for case in CASES.values() if case.package)}):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


class Load:
    """How much of the machine other programs used since it was made, in percent of all cores."""

    def __init__(self):
        self.start, self.busy, self.ours = time.monotonic(), self._busy(), self._ours()

    def percent(self) -> float:
        """Share of all cores that neither this process nor its children used, and that was not idle. Call it after they ended."""
        others = self._busy() - self.busy - (self._ours() - self.ours)
        return max(0.0, 100 * others / ((time.monotonic() - self.start) * (os.cpu_count() or 1)))

    @staticmethod
    def _busy() -> float:
        times = psutil.cpu_times()
        return sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)

    @staticmethod
    def _ours() -> float:
        return sum(os.times()[:4])


def measured(plan: Plan) -> dict[str, Any]:
    """The whole run as it is written down."""
    began = datetime.datetime.now(datetime.UTC)
    scratch = tempfile.TemporaryDirectory(prefix="snnrepro-bench-", ignore_cleanup_errors=True)
    load, run = Load(), Run(plan, scratch.name)
    try:
        run.say("workers start, libraries are imported")
        run.open([KINDS[1]])
        run.say("checks: each library against our neuron")
        checks = run.checks()
        for line in report.check_lines(checks):
            run.say(line)
        run.open(KINDS)
        times = run.table()
        tuned = any(kind.allocator == "tuned" for kind in run.workers)
        sweep_kind = KINDS[0] if tuned else KINDS[1]
        run.open([sweep_kind])
        sweeps = run.sweeps()
    finally:
        run.close()
        scratch.cleanup()
    machine = ledger.machine() | {"memory_gib": round(psutil.virtual_memory().total / 2**30)}
    return {
        "schema": SCHEMA,
        "date": began.date().isoformat(),
        "quick": plan is QUICK,
        "seconds": round(time.monotonic() - run.start),
        "machine": machine,
        "others_percent": round(load.percent(), 1),
        "versions": versions(),
        "tasks": {name: task._asdict() for name, task in plan.tasks.items()},
        "base": plan.base._asdict(),
        "sweep_kind": {"threads": sweep_kind[0], "allocator": sweep_kind[1]},
        "missing": run.missing,
        "skipped": run.skipped,
        "checks": checks,
        "rates": run.rates,
        "times": [rounded(entry) for entry in times],
        "sweeps": [rounded(entry) for entry in sweeps],
    }


def rounded(entry: dict[str, Any]) -> dict[str, Any]:
    """The same with seconds to the microsecond."""
    return entry | {key: [round(t, 6) for t in entry[key]] for key in ("wall", "cpu")}


class _Parser(argparse.ArgumentParser):
    """Reports mistakes as everything else here does."""

    def error(self, message: str) -> None:
        raise UserError(f"{message}; see python -m benchmarks --help")


def main(argv: list[str] | None = None) -> int:
    """Run everything, print the table, write the files. 0: done; 2: the user has to mend something; 130: stopped."""
    parser = _Parser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="tiny tasks, to see that everything runs; the numbers mean nothing"
    )
    parser.add_argument(
        "--out", type=Path, help="folder to write to (default: benchmarks/results, .runs/benchmark when quick)"
    )
    try:
        arguments = parser.parse_args(argv)
        root = Path(__file__).resolve().parents[1]
        folder = arguments.out or (root / ".runs" / "benchmark" if arguments.quick else report.RESULTS)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{shown(folder)}: cannot make it: {error.strerror or error}") from None
        if not os.access(folder, os.W_OK):
            raise UserError(f"{shown(folder)}: cannot write there")
        if (os.cpu_count() or 1) < THREADS:
            raise UserError(f"this benchmark needs {THREADS} cores")
        results = measured(QUICK if arguments.quick else FULL)
        report.check_schema(results)
        figure = report.sweep_svg(results)
        write_json(folder / "benchmark.json", results)
        write_text(folder / "sweeps.svg", figure)
        print(report.text(results))
        say(f"written: {shown(folder / 'benchmark.json')}, {shown(folder / 'sweeps.svg')}")
        return 0
    except UserError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bench: stopped; nothing was written", file=sys.stderr)
        return 130
