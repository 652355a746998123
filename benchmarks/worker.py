"""A process that holds one group of libraries with one number of threads and one allocator, and runs what it is asked to."""

import functools
import gc
import importlib
import os
import re
import signal
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.cases import CASES
from benchmarks.tasks import Task, make
from snnrepro.files import one_line
from snnrepro.memory import keep_freed_memory

PEERS = Path(__file__).resolve().parents[1] / ".venv" / "peers"
"""Where `benchmarks.install` puts the other libraries."""

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


class Kind(NamedTuple):
    """What a worker is: group of libraries, number of threads, `default` or `tuned` allocator."""

    group: str
    threads: int
    allocator: str


def environment(kind: Kind) -> dict[str, str]:
    """Variables that must be set before the libraries are imported. Our kernels have threads of their own, and leave torch with one."""
    found = dict.fromkeys(THREADS, "1" if kind.group == "ours" else str(kind.threads))
    if kind.group == "jax":
        found["JAX_PLATFORMS"] = "cpu"
    return found


def confine(threads: int) -> None:
    """Give this process as many cores as it may use threads: the number of JAX's threads is that of its cores."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def said(error: BaseException) -> str:
    """An error as one short line without places on this machine."""
    text = one_line(str(error).splitlines()[0]) if str(error).strip() else "no reason given"
    text = re.sub(r"(?:[A-Za-z]:)?[/\\][^\s'\"]*[/\\]", "", text)
    return f"{type(error).__name__}: {text}"[:200]


data = functools.lru_cache(maxsize=1)(make)
"""Data of the last task, which all its models share."""


def load(place: str) -> type:
    """The class at `module:Class`."""
    module, name = place.split(":")
    return getattr(importlib.import_module(f"benchmarks.peers.{module}"), name)


class Worker:
    """The models that are built, by (task, case), and what can be asked of them. Each method is one request."""

    def __init__(self):
        self.models: dict[tuple[Task, str], Any] = {}

    def model(self, task: Task, case: str) -> Any:
        """The model of a case, built where it is not there yet."""
        if (task, case) not in self.models:
            self.models[task, case] = load(CASES[case].models[task.kind])(task, data(task), "float32")
        return self.models[task, case]

    def time(self, task: Task, case: str, phase: str) -> tuple[float, float | None]:
        """Seconds of wall time and of CPU time of one training step or one inference; no CPU time where another program computes."""
        run = getattr(self.model(task, case), phase)
        gc.collect()
        wall, cpu = time.perf_counter(), time.process_time()
        reported = run()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        return (reported, None) if isinstance(reported, float) else (wall, cpu)

    def rates(self, task: Task, case: str) -> list[float]:
        """Spikes a neuron and step of each hidden layer."""
        return [float(spikes.mean()) for spikes in self.model(task, case).outputs(gradients=False).spikes]

    def outputs(self, task: Task, case: str, dtype: str, gradients: bool, p: Any = None) -> Any:
        """Spikes and gradients in another precision; `p` replaces our neuron."""
        build = load(CASES[case].models[task.kind])
        model = build(task, data(task), dtype) if p is None else build(task, data(task), dtype, p)
        return model.outputs(gradients)

    def drop(self) -> None:
        """Forget all models."""
        self.models.clear()
        data.cache_clear()
        gc.collect()


def prepare(kind: Kind) -> dict[str, str]:
    """Make this process what `kind` says.

    Returns:
        the cases of the group whose library cannot be imported, with the reason.

    Raises:
        OSError: the allocator cannot be tuned on this system.
    """
    sys.path.append(str(PEERS))
    if kind.allocator == "tuned" and not keep_freed_memory():
        raise OSError("this system has no mallopt")
    if kind.group == "jax":
        confine(kind.threads)
    missing = {}
    for name, case in CASES.items():
        if case.group == kind.group:
            try:
                for place in case.models.values():
                    load(place)
            except Exception as error:  # whatever a library's import raises
                missing[name] = said(error)
    if kind.group in ("ours", "torch"):
        import torch

        from snnrepro.kernels.parallel import use_threads

        torch.set_num_threads(1 if kind.group == "ours" else kind.threads)
        use_threads(kind.threads if kind.group == "ours" else 1)
    gc.collect()
    gc.freeze()  # what the imports made is not looked through again before each measurement
    return missing


def serve(connection: Connection, kind: Kind) -> None:
    """Answer requests `(method, arguments)` with `(True, result)` or `(False, what went wrong)` until None comes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    try:
        connection.send((True, prepare(kind)))
        worker = Worker()
        while (request := connection.recv()) is not None:
            method, arguments = request
            try:
                connection.send((True, getattr(worker, method)(*arguments)))
            except Exception as error:  # a library that fails is a line in the report, not the end of the run
                connection.send((False, said(error)))
    except (EOFError, BrokenPipeError):  # the parent is gone
        return
    except OSError as error:
        connection.send((False, said(error)))
