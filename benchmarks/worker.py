"""A process that holds one group of libraries with one number of threads and one allocator, and runs what it is asked to."""

import gc
import importlib
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.cases import CASES
from benchmarks.tasks import Task, make
from snnrepro.memory import keep_freed_memory


class Kind(NamedTuple):
    """What a worker is: group of libraries, number of threads, `default` or `tuned` allocator."""

    group: str
    threads: int
    allocator: str


def environment(kind: Kind) -> dict[str, str]:
    """Variables that must be set before the libraries are imported."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    found = dict.fromkeys(names, str(kind.threads))
    if kind.group == "jax":
        found["JAX_PLATFORMS"] = "cpu"
        found["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false" if kind.threads == 1 else ""
    return found


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
            self.models[task, case] = load(CASES[case].models[task.kind])(task, make(task), "float32")
        return self.models[task, case]

    def time(self, task: Task, case: str, phase: str) -> tuple[float, float]:
        """Seconds of wall time and of CPU time of one training step or one inference."""
        run = getattr(self.model(task, case), phase)
        gc.collect()
        wall, cpu = time.perf_counter(), time.process_time()
        reported = run()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        return (reported, reported) if isinstance(reported, float) else (wall, cpu)

    def rates(self, task: Task, case: str) -> list[float]:
        """Spikes a neuron and step of each hidden layer."""
        return [float(spikes.mean()) for spikes in self.model(task, case).outputs(gradients=False).spikes]

    def outputs(self, task: Task, case: str, dtype: str, gradients: bool, p: Any = None) -> Any:
        """Spikes and gradients in another precision; `p` replaces our neuron."""
        build = load(CASES[case].models[task.kind])
        model = build(task, make(task), dtype) if p is None else build(task, make(task), dtype, p)
        return model.outputs(gradients)

    def drop(self) -> None:
        """Forget all models."""
        self.models.clear()
        gc.collect()


def serve(connection: Connection, kind: Kind) -> None:
    """Answer requests `(method, arguments)` with `(True, result)` or `(False, what went wrong)` until None comes."""
    if kind.allocator == "tuned" and not keep_freed_memory():
        connection.send((False, "this system has no mallopt"))
        return
    missing = {}
    for name, case in CASES.items():
        if case.group == kind.group:
            try:
                for place in case.models.values():
                    load(place)
            except Exception as error:  # whatever a library's import raises
                missing[name] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    if kind.group == "torch":
        import torch

        torch.set_num_threads(kind.threads)
    connection.send((True, missing))
    worker = Worker()
    while (request := connection.recv()) is not None:
        method, arguments = request
        try:
            connection.send((True, getattr(worker, method)(*arguments)))
        except Exception as error:  # a library that fails is a line in the report, not the end of the run
            connection.send((False, f"{type(error).__name__}: {error}".replace(str(Path.cwd()), ".").splitlines()[0]))
