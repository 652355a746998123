"""`python -m benchmarks.first_spike`: the exact first-spike layers against a plain torch implementation and jaxsnn's analytical solver.

All run in one process on one core, one training step (spike times of two layers, loss, gradients of the weights) after the other, in an
order that is shuffled anew in each round. Before that, their spike times and gradients are compared. Writes `first_spike.json`.
"""

import logging
import math
import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import report
from benchmarks.script import options, stamped
from benchmarks.worker import PEERS, THREADS, said
from snnrepro.files import read_json, shown, write_json
from snnrepro.progress import say

RESULTS = Path(__file__).parent / "results" / "first_spike.json"


class Task(NamedTuple):
    """Sizes of a network, samples of a batch, and tau_mem in units of tau_syn. C = tau_mem, float64."""

    sizes: tuple[int, int, int]
    batch: int
    tau_mem: float


TASKS = {
    "Yin-Yang": Task((5, 120, 3), 150, 1.0),
    "Yin-Yang, tau_mem = 2 tau_syn": Task((5, 120, 3), 150, 2.0),
    "MNIST": Task((784, 350, 10), 80, 1.0),
    "MNIST, tau_mem = 2 tau_syn": Task((784, 350, 10), 80, 2.0),
}
CASES = {
    "ours": "the compiled walk with its hand-written gradient",
    "plain": "sorting and cumulative sums in torch, differentiated automatically",
    "jaxsnn": "analytical solver of jaxsnn, one event after another, under jit; 784-350-10 would take 0.7 GB a sample",
}
TARGETS = {"plain": 80.0, "jaxsnn": 5.0}
PLACES = {"plain": "MNIST", "jaxsnn": "Yin-Yang"}
"""Targets, set before the measurement, and the tasks for which they count."""

EVENTS = 400
"""Most events of a sample for jaxsnn. The gradient of one sample of the large task takes 0.7 GB there, and four samples 15 s."""

SLOW = 1.0  # seconds: a longer step is measured in three rounds


def data(task: Task) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """Input times, weights and the factors of the label times in the loss."""
    g = np.random.default_rng(2021)
    n, h, m = task.sizes
    t = 2 * g.random((task.batch, n))
    strength = 4.0 * task.tau_mem
    weights = [strength * (0.35 + 1.2 * g.standard_normal((a, b))) / a**0.5 for a, b in ((n, h), (h, m))]
    return t, weights, 0.5 + g.random((task.batch, m))


def torch_step(task: Task, engine: str) -> Callable[[], tuple[np.ndarray, list[np.ndarray]]]:
    """A training step of ours, by an engine; gives label times and gradients."""
    import torch

    from snnrepro.first_spike.exact import Neuron, spike_times

    t, weights, factors = (
        torch.from_numpy(a) if isinstance(a, np.ndarray) else [torch.from_numpy(w) for w in a] for a in data(task)
    )
    leaves = [w.requires_grad_() for w in weights]
    p = Neuron(1.0, task.tau_mem, 1.0, task.tau_mem)

    def step():
        output = spike_times(spike_times(t, leaves[0], p, engine=engine), leaves[1], p, engine=engine)
        spiked = torch.isfinite(output)
        gradients = torch.autograd.grad((output[spiked] * factors[spiked]).sum(), leaves)
        return output.detach().numpy(), [g.numpy() for g in gradients]

    return step


def jaxsnn_step(task: Task) -> Callable[[], tuple[np.ndarray, list[np.ndarray]]]:
    """A training step of jaxsnn. A reset far below the threshold lets each neuron spike once, as in its own example."""
    import jax
    import jax.numpy as jnp

    logging.disable(logging.WARNING)
    jax.config.update("jax_enable_x64", True)
    from jaxsnn.event.encode import spatio_temporal_encode
    from jaxsnn.event.loss import first_spike
    from jaxsnn.event.modules import LIF, LIFParameters, Linear, Source
    from jaxsnn.event.topology import Topology

    n, h, m = task.sizes
    parameters = LIFParameters(v_reset=-1e6, v_th=1.0, tau_syn=1.0, tau_mem=task.tau_mem)
    parts = {"in": Source(n), "hidden": LIF(h, n + h, parameters), "out": LIF(m, h + m, parameters)}
    parts |= {name: Linear(mean=0.0, std=1.0, min_delay=0.0) for name in ("first", "second")}
    builder = Topology(t_max=50.0)
    builder.add(parts)
    builder.connect([("in", "first"), ("first", "hidden"), ("hidden", "second"), ("second", "out")])
    init, apply = builder.done()
    t, weights, factors = data(task)
    given = init(jax.random.PRNGKey(0)) | dict(zip(("first", "second"), map(jnp.asarray, weights), strict=True))
    encode = jax.vmap(partial(spatio_temporal_encode, t_late=1.0, duplication=1, duplicate_neurons=False))
    events, factors = encode(jnp.asarray(t)), jnp.asarray(factors)

    def loss(w):
        times = jax.vmap(first_spike, in_axes=(0, None))(apply({"in": events}, w)["out"], m)
        return (jnp.where(jnp.isfinite(times), times, 0.0) * factors).sum(), times

    slopes = jax.jit(jax.value_and_grad(loss, has_aux=True, allow_int=True))

    def step():
        (_, times), g = slopes(given)
        return np.asarray(times), [np.asarray(g[name]) for name in ("first", "second")]

    return step


def build(task: Task, case: str) -> Callable[[], tuple[np.ndarray, list[np.ndarray]]]:
    """The training step of a case."""
    return jaxsnn_step(task) if case == "jaxsnn" else torch_step(task, {"ours": "fast", "plain": "reference"}[case])


def compared(ours: tuple, theirs: tuple) -> dict[str, float]:
    """Neurons that only one of two lets spike, largest difference of spike times, and of gradients relative to the largest entry (None
    where they are not finite).
    """
    spiked = np.isfinite(ours[0]) & np.isfinite(theirs[0])
    gradients = [float(np.abs(a - b).max() / np.abs(a).max()) for a, b in zip(ours[1], theirs[1], strict=True)]
    gradients = [g if math.isfinite(g) else None for g in gradients]
    return {
        "existence": int((np.isfinite(ours[0]) != np.isfinite(theirs[0])).sum()),
        "times": float(np.abs(ours[0][spiked] - theirs[0][spiked]).max(initial=0)),
        "gradients": None if None in gradients else max(gradients),
    }


def measure(rounds: int, tasks: dict[str, Task]) -> dict[str, Any]:
    """Check and time all cases of all tasks."""
    order, found, missing = random.Random(0), [], {}
    for name, task in tasks.items():
        steps, checks, times, reference = {}, {}, {}, None
        for case in CASES:
            if case in missing or (case == "jaxsnn" and sum(task.sizes) > EVENTS):
                continue
            say(f"{name}: {case} is built and run once")
            try:
                steps[case] = build(task, case)
                first = steps[case]()
            except Exception as error:  # a library that fails is a line in the report, not the end of the run
                missing[case] = said(error)
                steps.pop(case, None)
                continue
            reference = first if reference is None else reference  # ours is the first
            checks[case] = compared(reference, first)
            times[case] = []
        for round_ in range(rounds):
            say(f"{name}: round {round_ + 1} of {rounds}")
            for case in order.sample(list(steps), len(steps)):
                if round_ >= 3 and statistics.median(times[case]) > SLOW:
                    continue
                start = time.perf_counter()
                steps[case]()
                times[case].append(time.perf_counter() - start)
        found.append({"task": name, "sizes": list(task.sizes), "batch": task.batch, "checks": checks, "times": times})
    return {"tasks": found, "missing": missing}


# What is shown --------------------------------------------------------------------------------------------------------------


def load(path: Path = RESULTS) -> dict[str, Any]:
    """The results of the last run."""
    return read_json(path)


def ratios(results: dict[str, Any], case: str) -> list[tuple[str, float | None]]:
    """Median time of a case over ours, by task; None where it was not measured."""
    found = []
    for task in results["tasks"]:
        theirs, ours = task["times"].get(case), statistics.median(task["times"]["ours"])
        found.append((task["task"], statistics.median(theirs) / ours if theirs else None))
    return found


def table_html(results: dict[str, Any]) -> str:
    """Times of a training step and how many times ours they are, what the checks found, and what became of the targets."""
    head = ["", *CASES, "largest difference of times", "largest difference of gradients"]
    rows = []
    for task in results["tasks"]:
        medians = {case: statistics.median(times) for case, times in task["times"].items()}
        cells = [f"{escape(task['task'])}<br>{'-'.join(map(str, task['sizes']))}, batch {task['batch']}"]
        for case in CASES:
            time, ratio = (
                ("–", "") if case not in medians else (report.seconds(medians[case]), medians[case] / medians["ours"])
            )
            shown_ = report.ratio_text(ratio) if ratio else ""
            cells.append(f'<span class="snn-value">{time}</span> <span class="snn-n">{shown_}</span>')
        found = [check for case, check in task["checks"].items() if case != "ours"]
        cells.append(f"{max(check['times'] for check in found):.0e}")
        finite = [check["gradients"] for check in found if check["gradients"] is not None]
        unusable = [case for case, check in task["checks"].items() if check["gradients"] is None]
        cells.append(f"{max(finite, default=0.0):.0e}" + (f"; not finite: {', '.join(unusable)}" if unusable else ""))
        rows.append(cells)
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    caption = (
        f"Median time of one training step on one core, and how many times ours it is. {results['date']}, {versions}."
    )
    lines = [f"{case}: {what}" for case, what in CASES.items()]
    lines += [f"not measured: {case}: {why}" for case, why in results["missing"].items()]
    lines += [f"target {one}" for one in targets(results)]
    return report.table(head, rows, caption) + "<ul>" + "".join(f"<li>{escape(line)}.</li>" for line in lines) + "</ul>"


def targets(results: dict[str, Any]) -> list[report.Reached]:
    """One for each target."""
    found = []
    for case, factor in TARGETS.items():
        large = {name: r for name, r in ratios(results, case) if name.startswith(PLACES[case]) and r is not None}
        verdict = "not measured" if not large else "reached" if min(large.values()) >= factor else "not reached"
        shown_ = "; ".join(f"{name} {report.ratio_text(r)}" for name, r in large.items())
        found.append(report.Reached(f"against {case}, on {PLACES[case]}", factor, shown_ or "–", verdict))
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run, write and print."""
    given = options("first_spike", __doc__).parse_args(arguments)
    os.environ.update(dict.fromkeys(THREADS, "1") | {"JAX_PLATFORMS": "cpu"})
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    sys.path.append(str(PEERS))
    import torch

    torch.set_num_threads(1)
    tasks = {name: task._replace(sizes=(5, 12, 3), batch=8) for name, task in TASKS.items()} if given.quick else TASKS
    results = measure(given.rounds, tasks)
    packages = ("numpy", "torch", "numba", "jax", "jaxsnn")
    results = stamped(results, *(p for p in packages if p not in results["missing"]))
    for one in targets(results):
        print(one)
    if not given.quick:
        write_json(RESULTS, results)
        say(f"written: {shown(RESULTS)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
