"""`python -m benchmarks.loihi --python PATH`: Loihi in integers here and on the CPU of Intel's lava-nc, the same network and input.

lava-nc needs Python 3.10 (`pip install lava-nc==0.10.0 numpy==1.26.4 networkx==2.8.7`); PATH is that Python. First the states and spikes of
the last layer are compared, all of them. Then the two take turns. Ours runs on one core; lava-nc runs a process for each of its parts and
gets all cores. Writes `loihi.json`.
"""

import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import report
from benchmarks.script import options, stamped
from benchmarks.worker import THREADS, confine, said
from snnrepro import ledger
from snnrepro.errors import UserError
from snnrepro.files import read_json, shown, write_json
from snnrepro.hardware import loihi
from snnrepro.hardware.loihi import Layer, Neurons, Synapses
from snnrepro.progress import say

RESULTS = Path(__file__).parent / "results" / "loihi.json"
PEER = Path(__file__).parent / "peers" / "loihi_lava.py"
TARGET = 10.0
"""How many times faster ours is to be; set before the measurement."""


class Task(NamedTuple):
    """Sizes of the layers, whether each is recurrent, steps, and the share of inputs that spike in a step."""

    sizes: tuple[int, ...]
    recurrent: bool
    steps: int
    rate: float = 0.05


TASKS = {
    "one layer": Task((256, 256), False, 1000),
    "recurrent": Task((256, 256), True, 1000),
    "classifier": Task((784, 256, 10), False, 1000),
}
SET = Task((784, 256, 10), False, 100)
SAMPLES = 1000
"""The test set that is run at once: so many samples of that task. Target: seconds."""

REPEATS = 20


def problem(task: Task, samples: int = 1) -> tuple[np.ndarray, list[Layer]]:
    """Input `(steps, samples, inputs)` and layers that spike."""
    g = np.random.default_rng(0)
    x = (g.random((task.steps, samples, task.sizes[0])) < task.rate).astype(np.uint8)
    layers = []
    for n, m in zip(task.sizes, task.sizes[1:], strict=False):
        w = g.integers(-128, 128, (n, m))
        v = Synapses(g.integers(-60, 60, (m, m))) if task.recurrent else None
        layers.append(Layer(Synapses(w), Neurons(600, 300, 100 * round(n**0.5)), v))
    return x, layers


def as_arrays(x: np.ndarray, layers: list[Layer]) -> dict[str, np.ndarray]:
    """A problem of one sample as the other Python reads it."""
    arrays = {"x": x[:, 0], "layers": np.array(len(layers))}
    for k, layer in enumerate(layers):
        arrays |= {f"w{k}": layer.synapses.weights, f"neurons{k}": np.array(layer.neurons[:3])}
        if layer.recurrent is not None:
            arrays[f"v{k}"] = layer.recurrent.weights
    return arrays


def compared(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> dict[str, int]:
    """Spikes of the last layer, and how many entries of each state differ."""
    return {"spikes": int(ours["s"].sum())} | {
        name: int((ours[name] != theirs[name]).sum()) for name in ("u", "v", "s")
    }


class Lava:
    """The other Python, with a network in it. Leaves nothing behind when it is closed."""

    def __init__(self, python: str, x: np.ndarray, layers: list[Layer]):
        self.folder = tempfile.TemporaryDirectory(prefix="snnrepro-bench-")
        given, found = (str(Path(self.folder.name) / name) for name in ("given.npz", "found.npz"))
        np.savez(given, **as_arrays(x, layers))
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        try:
            self.process = subprocess.Popen([python, str(PEER), given, found], **pipes)
        except OSError as error:
            self.folder.cleanup()
            raise UserError(
                f"benchmark: cannot start {python}: {error.strerror}; give a Python 3.10 with lava-nc"
            ) from None
        self.versions = json.loads(self.answer())
        with np.load(found, allow_pickle=False) as traces:
            self.traces = {name: traces[name] for name in traces}

    def answer(self) -> str:
        """The next line that is meant for us."""
        for line in self.process.stdout:
            if line.startswith("@ "):
                return line[2:]
        lines = self.process.stderr.read().strip().splitlines() or ["it said nothing"]
        self.close()
        raise RuntimeError(lines[-1])

    def run(self) -> float:
        """Seconds of one run, by its own clock."""
        self.process.stdin.write("run\n")
        self.process.stdin.flush()
        return float(self.answer())

    def close(self) -> None:
        """End it."""
        self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.folder.cleanup()


def timed(x: np.ndarray, layers: list[Layer]) -> float:
    """Seconds of one run here, with the states of all layers: the mean of some, since one takes milliseconds."""
    gc.collect()
    start = time.perf_counter()
    for _ in range(REPEATS):
        loihi.run_network(x, layers)
    return (time.perf_counter() - start) / REPEATS


def measure(python: str, rounds: int, tasks: dict[str, Task], samples: int) -> dict[str, Any]:
    """Check and time all tasks."""
    from benchmarks.run import Load

    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    load, found, missing, versions = Load(), [], {}, {}
    for name, task in tasks.items():
        say(f"{name}: lava-nc builds it and runs once")
        x, layers = problem(task)
        ours = {field: array[:, 0] for field, array in loihi.run_network(x, layers)[-1]._asdict().items()}
        entry = {"task": name, "sizes": list(task.sizes), "recurrent": task.recurrent, "steps": task.steps}
        entry |= {"ours": [], "lava": [], "check": None}
        lava = None
        try:
            if not missing:
                lava = Lava(python, x, layers)  # before this process is confined: it may use all cores
                versions, entry["check"] = lava.versions, compared(ours, lava.traces)
            confine(1)
            for round_ in range(rounds):
                say(f"{name}: round {round_ + 1} of {rounds}")
                entry["ours"].append(timed(x, layers))
                if lava is not None:
                    entry["lava"].append(lava.run())
        except (RuntimeError, OSError, ValueError) as error:  # a library that fails is a line in the report
            missing["lava-nc"] = said(error)
        finally:
            if cores:
                os.sched_setaffinity(0, cores)
            if lava is not None:
                lava.close()
        found.append(entry)
    x, layers = problem(SET, samples)
    say(f"a test set of {samples} samples")
    confine(1)
    loihi.run_network(x[:, :1], layers, states=False)
    start = time.perf_counter()
    traces = loihi.run_network(x, layers, states=False)
    seconds = time.perf_counter() - start
    return {
        "tasks": found,
        "set": {"samples": samples, "steps": SET.steps, "sizes": list(SET.sizes), "seconds": seconds}
        | {"spikes": int(sum(trace.s.sum() for trace in traces))},
        "missing": missing,
        "lava_versions": versions,
        "machine": ledger.machine(),
        "others_percent": round(load.percent(), 1),
    }


# What is shown --------------------------------------------------------------------------------------------------------------


def load(path: Path = RESULTS) -> dict[str, Any]:
    """The results of the last run."""
    return read_json(path)


def ratio(entry: dict[str, Any]) -> float | None:
    """Median time of lava-nc over ours, or None where it was not measured."""
    return statistics.median(entry["lava"]) / statistics.median(entry["ours"]) if entry["lava"] else None


def check_text(check: dict[str, int] | None) -> str:
    """A check in a few words."""
    if check is None:
        return "–"
    wrong = sum(check[name] for name in ("u", "v", "s"))
    return f"✗ {wrong} differ" if wrong or not check["spikes"] else f"✓ same u, v and {check['spikes']} spikes"


def targets(results: dict[str, Any]) -> list[report.Reached]:
    """What became of the target."""
    ratios = {entry["task"]: ratio(entry) for entry in results["tasks"]}
    known = [r for r in ratios.values() if r is not None]
    verdict = "not measured" if len(known) < len(ratios) else "reached" if min(known) >= TARGET else "not reached"
    every = ", ".join(f"{task} {report.ratio_text(r)}" for task, r in ratios.items() if r is not None)
    return [report.Reached("against lava-nc", TARGET, every or "–", verdict)]


def lines(results: dict[str, Any]) -> list[str]:
    """What became of the target, and what is missing."""
    set_ = results["set"]
    sizes = "-".join(map(str, set_["sizes"]))
    return [
        *(f"target {one}" for one in targets(results)),
        f"{set_['samples']} samples of {set_['steps']} steps through {sizes}: {report.seconds(set_['seconds'])} on one core",
        *(f"not measured: {name}: {why}" for name, why in results["missing"].items()),
    ]


def table_html(results: dict[str, Any]) -> str:
    """Times of a run, how many times ours they are, and what the check found."""
    rows = []
    for entry in results["tasks"]:
        ours, r = statistics.median(entry["ours"]), ratio(entry)
        theirs = "–" if r is None else report.seconds(statistics.median(entry["lava"]))
        rows.append(
            [
                f"{escape(entry['task'])}<br>{'-'.join(map(str, entry['sizes']))}, {entry['steps']} steps",
                f'<span class="snn-value">{report.seconds(ours)}</span>',
                f'<span class="snn-value">{theirs}</span> <span class="snn-n">{"" if r is None else report.ratio_text(r)}</span>',
                check_text(entry["check"]),
            ]
        )
    busy = results["others_percent"]
    caption = (
        f"Median time of a run of one sample, and how many times ours it is. {results['date']}, {results['machine']['cpu']}, "
        f"{report.load_text(busy)}; {versions_text(results)}."
    )
    table = report.table(["", "ours, one core", "lava-nc, all cores", "last layer"], rows, caption)
    return table + "<ul>" + "".join(f"<li>{escape(line)}.</li>" for line in lines(results)) + "</ul>"


def versions_text(results: dict[str, Any]) -> str:
    """Versions of both Pythons."""
    ours, theirs = (
        ", ".join(f"{name} {version}" for name, version in results[part].items())
        for part in ("versions", "lava_versions")
    )
    return f"ours: {ours}; lava-nc: {theirs or 'not there'}"


def main(arguments: list[str] | None = None) -> int:
    """Run, write and print."""
    parser = options("loihi", __doc__)
    parser.add_argument("--python", required=True, help="a Python 3.10 that has lava-nc")
    given = parser.parse_args(arguments)
    os.environ.update(dict.fromkeys(THREADS, "1"))
    small = {name: task._replace(sizes=(20, *(10 for _ in task.sizes[1:])), steps=50) for name, task in TASKS.items()}
    try:
        tasks, samples = (small, 10) if given.quick else (TASKS, SAMPLES)
        results = measure(given.python, given.rounds, tasks, samples)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    results = stamped(results, "numpy", "numba")
    results["versions"] = {"python": platform.python_version()} | results["versions"]
    for entry in results["tasks"]:
        print(f"{entry['task']}: {check_text(entry['check'])}")
    print("\n".join(lines(results)))
    if not given.quick:
        write_json(RESULTS, results)
        say(f"written: {shown(RESULTS)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
