"""Threads of the compiled loops.

A loop shares a batch between threads; compiled code runs without the interpreter's lock. One thread is the default, so that the same
seed gives the same bits on every machine: with more, partial sums are added in another order.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from snnrepro.errors import UserError

_threads = 1


def use_threads(threads: int) -> None:
    """Share each batch between so many threads from now on. Leave torch with one (`torch.set_num_threads(1)`): torch's threads wait
    for work without sleeping, and would take the cores away.

    Raises:
        UserError: fewer than one thread.
    """
    global _threads
    if threads < 1:
        raise UserError(f"use_threads: {threads} threads; give 1 or more")
    _threads = threads


def threads() -> int:
    """Number of threads that share a batch."""
    return _threads


def in_parallel(work: Callable[[int, int, int], None], workers: int, size: int) -> None:
    """Call `work(k, low, high)` for one share low .. high of `size` a worker; with one worker, in this thread."""
    edges = [size * k // workers for k in range(workers + 1)]
    if workers == 1:
        work(0, 0, size)
        return
    with ThreadPoolExecutor(workers - 1) as pool:
        others = [pool.submit(work, k, edges[k], edges[k + 1]) for k in range(1, workers)]
        work(0, 0, edges[1])
        for done in others:
            done.result()
