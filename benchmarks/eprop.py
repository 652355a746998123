"""`python -m benchmarks.eprop`: gradients for one iteration of evidence accumulation, here and in plain torch.

All run in one process on one core, in an order that is shuffled anew in each round; before that, their gradients are compared. Then the
peak memory of the form that runs while the network does, at some length of the trial and at twice that length. Writes `eprop.json`.
"""

import gc
import multiprocessing
import os
import random
import statistics
import sys
import time
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil

from benchmarks import report
from benchmarks.peers import eprop as peers
from benchmarks.script import options, stamped
from benchmarks.worker import THREADS, confine
from snnrepro import ledger
from snnrepro.eprop import networks, signals, tasks
from snnrepro.eprop.networks import BPTT, EPROP, Neurons, Weights
from snnrepro.eprop.online import stream
from snnrepro.files import read_json, shown, write_json
from snnrepro.progress import say

RESULTS = Path(__file__).parent / "results" / "eprop.json"


class Setting(NamedTuple):
    """Batch and neurons of the task of the authors' code, and its parts in steps."""

    batch: int = 64
    n: int = 100
    task: tasks.Evidence = tasks.Evidence()
    memory_batch: int = 2


FULL = Setting()
QUICK = Setting(4, 20, tasks.Evidence(cues=3, silence=5, cue=10, delay=20, recall=15))

CASES = {
    "forward": ("ours, network alone", "forward pass, compiled"),
    "eprop": ("ours, e-prop", "forward pass and adjoint form"),
    "bptt": ("ours, BPTT", "forward pass and adjoint form with all paths"),
    "online": (
        "torch, e-prop online",
        "an eligibility vector and a filtered trace for each synapse and sample, in place",
    ),
    "autograd": ("torch, BPTT", "automatic differentiation of a loop over time"),
}
TARGETS = {"online": (50.0, "eprop"), "autograd": (3.0, "bptt")}
"""Set before the measurement: at least so many times the time of ours."""


class Problem(NamedTuple):
    """Neurons, weights and feedback; input spikes and the error of the readout, `(time, batch, ...)`."""

    neurons: Neurons
    weights: Weights
    feedback: np.ndarray
    x: np.ndarray
    error: np.ndarray


def problem(setting: Setting) -> Problem:
    """A network before training, a batch of trials, and the error of the readout, in single precision."""
    g, n = np.random.RandomState(2020), setting.n
    shapes = ((40, n, 40**-0.5), (n, n, 0.1), (n, 2, 0.2))
    weights = Weights(*((scale * g.randn(a, b)).astype(np.float32) for a, b, scale in shapes))
    beta = 1.7 * (1 - np.exp(-1 / 2000)) / (1 - np.exp(-1 / 20))
    neurons = Neurons(np.repeat([0.0, beta], n // 2))
    x, label, _ = tasks.evidence(setting.task, setting.batch, g)
    y = networks.run(neurons, weights, x).y
    error = signals.cross_entropy(y, label, setting.task.recall).error.astype(np.float32)
    return Problem(neurons, weights, g.randn(n, 2).astype(np.float32), x, error)


def gradient(case: str, p: Problem) -> Weights | None:
    """One iteration of a case."""
    if case == "online":
        return peers.online(*p[:2], p.x, p.error, p.feedback)
    if case == "autograd":
        return peers.autograd(*p[:2], p.x, p.error, BPTT)
    activity = networks.run(*p[:2], p.x)
    if case == "forward":
        return None
    rule, feedback = (EPROP, p.feedback) if case == "eprop" else (BPTT, None)
    return networks.gradients(*p[:2], activity, p.error, rule, feedback)


def apart(one: Weights, other: Weights) -> float:
    """Largest difference of two gradients, relative to the largest entry of each part."""
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(one, other, strict=True))


def peak(p: Problem, setting: Setting, lengths: int) -> int:
    """Peak memory in bytes of e-prop while the network runs, over so many trials one after the other."""
    x, error = p.x[:, : setting.memory_batch], p.error[:, : setting.memory_batch]
    tracemalloc.start()
    stream(*p[:2], (step for _ in range(lengths) for step in x), lambda t, y: error[t % len(x)], p.feedback)
    _, found = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return found


def measure(rounds: int, setting: Setting) -> dict[str, Any]:
    """Check and time everything, in a process that was started with one thread."""
    from benchmarks.run import Load

    confine(1)
    load, began, p = Load(), time.monotonic(), problem(setting)
    say("gradients are compared")
    found = {case: gradient(case, p) for case in CASES}
    checks = {case: apart(found[case], found[ours]) for case, (_, ours) in TARGETS.items()}
    order, times = random.Random(0), {case: [] for case in CASES}
    for round_ in range(rounds):
        say(f"round {round_ + 1} of {rounds}")
        for case in order.sample(list(CASES), len(CASES)):
            gc.collect()
            start = time.perf_counter()
            gradient(case, p)
            times[case].append(round(time.perf_counter() - start, 6))
    say("memory of the online form")
    return {
        "setting": setting._replace(task=setting.task._asdict())._asdict(),
        "steps": len(p.x),
        "checks": checks,
        "times": times,
        "memory": [peak(p, setting, 1), peak(p, setting, 2)],
        "machine": ledger.machine() | {"memory_gib": round(psutil.virtual_memory().total / 2**30)},
        "others_percent": round(load.percent(), 1),
        "seconds": round(time.monotonic() - began),
    }


# What is shown --------------------------------------------------------------------------------------------------------------


def load(path: Path = RESULTS) -> dict[str, Any]:
    """The results of the last run."""
    return read_json(path)


def ratio(results: dict[str, Any], case: str) -> float:
    """Time of a case over that of ours, as a median over rounds."""
    ours = results["times"][TARGETS[case][1]]
    return statistics.median(a / b for a, b in zip(results["times"][case], ours, strict=True))


def targets(results: dict[str, Any]) -> list[report.Reached]:
    """One for each target."""
    found = []
    for case, (factor, _) in TARGETS.items():
        times = ratio(results, case)
        verdict = "reached" if times >= factor else "not reached"
        found.append(report.Reached(f"against {CASES[case][0]}", factor, report.ratio_text(times), verdict))
    return found


def lines(results: dict[str, Any]) -> list[str]:
    """What the cases are, what became of the targets, and the memory."""
    found = [f"{title}: {says}" for title, says in CASES.values()]
    for case, one in zip(TARGETS, targets(results), strict=True):
        found.append(f"target {one}; gradients agree to {results['checks'][case]:.0e} of the largest entry")
    once, twice = (m / 2**20 for m in results["memory"])
    found.append(
        f"e-prop while the network runs (snnrepro.eprop.online): peak memory {once:.2f} MiB for one trial, {twice:.2f} MiB for two in a row"
    )
    return found


def table_html(results: dict[str, Any]) -> str:
    """Times of an iteration."""
    s, machine, busy = results["setting"], results["machine"], results["others_percent"]
    rows = [
        [
            escape(title),
            f'<span class="snn-value">{report.seconds(statistics.median(results["times"][case]))}</span>',
            report.ratio_text(ratio(results, case)) if case in TARGETS else "–",
        ]
        for case, (title, _) in CASES.items()
    ]
    caption = (
        f"Median wall time of the gradients of one iteration of evidence accumulation on one core, {s['batch']} trials of "
        f"{results['steps']} steps, {s['n']} neurons, float32, and how many times ours it is. {results['date']}, {machine['cpu']}, "
        f"{report.load_text(busy)}; "
        f"{', '.join(f'{name} {version}' for name, version in results['versions'].items())}."
    )
    said = "".join(f"<li>{escape(line)}.</li>" for line in lines(results))
    return report.table(["", "an iteration", "times ours"], rows, caption) + f"<ul>{said}</ul>"


def text(results: dict[str, Any]) -> str:
    """The table for a terminal."""
    found = [
        f"{title:24}{report.seconds(statistics.median(results['times'][case])):>12}"
        for case, (title, _) in CASES.items()
    ]
    return "\n".join(found + lines(results))


def main(arguments: list[str] | None = None) -> int:
    """Run, write and print."""
    given = options("eprop", __doc__, 5).parse_args(arguments)
    os.environ.update(dict.fromkeys(THREADS, "1"))  # read when a process imports NumPy: hence another one
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        results = pool.submit(measure, given.rounds, QUICK if given.quick else FULL).result()
    results = stamped(results, "numpy", "numba", "torch")
    print(text(results))
    if not given.quick:
        write_json(RESULTS, results)
        say(f"written: {shown(RESULTS)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
