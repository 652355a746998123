"""A network of LIF neurons with one output, trained by FORCE: the authors' loop in NumPy, and Brian2.

Each class runs the same stretch of time again and again from the same start. `run` gives the seconds of wall time of the stretch alone.
"""

import math
import tempfile
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.linalg.blas import dger

from benchmarks.worker import PEERS
from snnrepro.force import networks, rls
from snnrepro.force.networks import Learning, Network, State

CACHE = PEERS.parent / "brian2"
"""Where Brian2 keeps what it compiled."""


class Problem(NamedTuple):
    """A network, where it starts (nobody is refractory), what it is taught `(steps, 1)`, and when it learns; None: never."""

    network: Network
    start: State
    teacher: np.ndarray
    learning: Learning | None


class Found(NamedTuple):
    """Output after each step `(steps,)`, where it is kept, and steps and units of all spikes, where they are listed."""

    outputs: np.ndarray | None
    steps: np.ndarray
    units: np.ndarray


class Ours:
    """The compiled network of `snnrepro.force`."""

    def __init__(self, problem: Problem, listed: bool = False):
        self.problem = problem
        self.state = networks.unpack(networks.pack(problem.start))
        self.listed = listed * problem.network.feedback.shape[1] * len(problem.teacher)
        self.found = None

    def run(self) -> float:
        """Run from the start."""
        network, start, teacher, learning = self.problem
        for name in set(State._fields) - {"rls"}:
            getattr(self.state, name)[...] = getattr(start, name)
        if learning:
            self.state.rls.p[...] = 0
            np.fill_diagonal(self.state.rls.p, learning.initial)
            self.state.rls.count[0] = 0
        began = time.perf_counter()
        trace = networks.run(network, self.state, len(teacher), teacher, learning, self.listed)
        seconds = time.perf_counter() - began
        self.found = Found(trace.outputs[:, 0], trace.spike_steps, trace.spike_units)
        return seconds


def change_by_numpy(p: np.ndarray, work: np.ndarray, c: np.ndarray, scale: float) -> None:
    """P -= c c^T / scale, with work space for the product."""
    np.outer(c, c / scale, out=work)
    p -= work


def change_by_blas(p: np.ndarray, work: np.ndarray, c: np.ndarray, scale: float) -> None:
    """P -= c c^T / scale in place; P is symmetric, so its transpose is as good."""
    dger(-1.0 / scale, c, c, a=p.T, overwrite_a=1)


class Plain:
    """The authors' loop: dense weights, the whole of P. Arrays are changed in place; columns of the weights lie together, as in MATLAB."""

    change = staticmethod(change_by_numpy)

    def __init__(self, problem: Problem, listed: bool = False):
        self.problem, self.listed = problem, listed
        n = problem.network.feedback.shape[1]
        self.weights = np.asfortranarray(networks.dense(problem.network.static))
        self.p, self.work = np.empty((2, n, n)) if problem.learning else (None, None)
        self.found = None

    def run(self) -> float:
        """Run from the start."""
        network, start, teacher, learning = self.problem
        if learning:
            self.p[...] = 0
            np.fill_diagonal(self.p, learning.initial)
        v, current, h, rate, h_rate = (
            getattr(start, name).copy() for name in ("v", "current", "rising", "rate", "rate_rising")
        )
        phi, z, eta, weights = start.decoder[0].copy(), float(start.z[0]), network.feedback[0], self.weights
        tau, _, threshold, reset, bias = network.model
        dt, held = network.dt, round(network.model.refractory / network.dt)
        rise, fall = math.exp(-dt / network.rise), math.exp(-dt / network.fall)
        kick = 1.0 / (network.rise * network.fall)
        last, outputs, times, spikes = np.full(len(v), -held), np.empty(len(teacher)), [], []
        began = time.perf_counter()
        for i in range(1, len(teacher) + 1):
            s = eta * z
            s += current
            s += bias
            s -= v
            s *= dt
            s /= tau
            s *= i - last > held
            v += s
            spiking = np.flatnonzero(v >= threshold)
            current *= rise
            current += h * dt
            h *= fall
            rate *= rise
            rate += h_rate * dt
            h_rate *= fall
            if spiking.size:
                h += weights[:, spiking].sum(1) * kick
                h_rate[spiking] += kick
                last[spiking] = i
                v[spiking] = reset
            z = phi @ rate
            outputs[i - 1] = z
            if learning and i % learning.every == 1 and learning.first < i < learning.last:
                c = self.p @ rate
                phi -= (z - teacher[i - 1, 0]) * c
                self.change(self.p, self.work, c, 1.0 + rate @ c)
            if self.listed:
                times += [i - 1] * spiking.size
                spikes += spiking.tolist()
        seconds = time.perf_counter() - began
        self.found = Found(outputs, np.array(times, int), np.array(spikes, int))
        return seconds


class PlainBlas(Plain):
    """The same, with the change of P by BLAS."""

    change = staticmethod(change_by_blas)


def parts(problem: Problem, z: str) -> tuple[list, dict]:
    """Neurons, filters and static synapses in Brian2, and the neurons by their name; `z` says how they get at shared numbers."""
    import brian2 as b2

    b2.prefs.core.default_float_dtype = np.float64
    network, start, model = problem.network, problem.start, problem.network.model
    dt = network.dt * b2.second
    b2.defaultclock.dt = dt
    rise, fall = math.exp(-network.dt / network.rise), math.exp(-network.dt / network.fall)
    kick = {"kick": 1 / (network.rise * network.fall)}
    cells = b2.NeuronGroup(
        network.feedback.shape[1],
        f"""
        dv/dt = ({model.bias} + current + eta * z - v) / ({model.tau} * second) : 1 (unless refractory)
        z : 1 ({z})
        eta : 1 (constant)
        current : 1
        rising : 1
        rate : 1
        rate_rising : 1
        c : 1
        share : 1 ({z})
        """,
        threshold=f"v >= {model.threshold}",
        reset=f"v = {model.reset}; rate_rising += kick",
        refractory=(round(model.refractory / network.dt) + 1) * dt,
        method="euler",
        namespace=kick,
    )
    for name in ("v", "current", "rising", "rate", "rate_rising"):
        setattr(cells, name, getattr(start, name))
    cells.eta = network.feedback[0]
    filters = cells.run_regularly(
        f"""
        current = current * {rise!r} + rising * {network.dt!r}
        rising = rising * {fall!r}
        rate = rate * {rise!r} + rate_rising * {network.dt!r}
        rate_rising = rate_rising * {fall!r}
        """,
        when="before_synapses",
    )
    static = network.static
    synapses = b2.Synapses(cells, cells, "weight : 1", on_pre="rising_post += weight * kick", namespace=kick)
    synapses.connect(
        i=np.repeat(np.arange(len(static.starts) - 1), np.diff(static.starts)), j=static.rows.astype(np.int64)
    )
    synapses.weight = static.values
    return [cells, filters, synapses], {"cells": cells}


def listed_spikes(monitor, dt: float) -> tuple[np.ndarray, np.ndarray]:
    """Steps and units that a monitor saw."""
    return np.round(np.asarray(monitor.t) / dt).astype(int), np.asarray(monitor.i).astype(int)


class Brian2:
    """Runtime mode, in Cython unless another target is named. Decoder and recursive least squares are an operation in NumPy: Brian2's
    language has no matrix product.
    """

    def __init__(self, problem: Problem, listed: bool = False, target: str = "cython"):
        import brian2 as b2

        b2.set_device("runtime")
        b2.prefs.codegen.target = target
        b2.prefs.codegen.runtime.cython.cache_dir = str(CACHE)
        self.problem, self.found = problem, None
        objects, names = parts(problem, "shared")
        cells, (_, start, teacher, learning) = names["cells"], problem
        cells.z = float(start.z[0])
        rate, z = (cells.variables[name].get_value() for name in ("rate", "z"))
        n = len(start.v)
        self.phi, self.outputs, self.step = np.empty(n), np.empty(len(teacher)), 0
        self.p, self.work = np.empty((2, n, n)) if learning else (None, None)

        def decode():
            output = self.phi @ rate
            self.outputs[self.step] = z[0] = output
            self.step += 1
            i = self.step
            if learning and i % learning.every == 1 and learning.first < i < learning.last:
                c = self.p @ rate
                self.phi -= (output - teacher[i - 1, 0]) * c
                change_by_numpy(self.p, self.work, c, 1.0 + rate @ c)

        self.monitor = b2.SpikeMonitor(cells) if listed else None
        operation = b2.NetworkOperation(decode, when="end")
        self.network = b2.Network(*objects, operation, *([self.monitor] if listed else []))
        self.network.store()

    def run(self) -> float:
        """Run from the start."""
        import brian2 as b2

        network, start, teacher, learning = self.problem
        self.network.restore()
        self.phi[:], self.step = start.decoder[0], 0
        if learning:
            self.p[...] = 0
            np.fill_diagonal(self.p, learning.initial)
        self.network.run(len(teacher) * network.dt * b2.second, namespace={})
        spikes = listed_spikes(self.monitor, network.dt) if self.monitor else (np.zeros(0, int),) * 2
        self.found = Found(self.outputs.copy(), *spikes)
        return b2.get_device()._last_run_time  # of the loop: code is made ready before it, in each run


class Brian2Program:
    """C++ standalone target: a program that is compiled once. Products are sums over synapses, and each entry of P is a synapse, as in
    Brian2's own example of this paper. There the decoder moves before P r is brought up to date, here after it, as in the authors' code.
    """

    def __init__(self, problem: Problem, listed: bool = False):
        import brian2 as b2

        b2.set_device("cpp_standalone", build_on_run=False)
        b2.device.reinit()
        b2.device.activate(build_on_run=False)
        b2.prefs.devices.cpp_standalone.openmp_threads = 0
        try:
            self.problem, self.found = problem, None
            network, start, teacher, learning = problem
            dt = network.dt * b2.second
            objects, names = parts(problem, "linked")
            cells = names["cells"]
            unit = b2.NeuronGroup(1, "z : 1 (shared)\nshare : 1 (shared)")
            unit.z = start.z[0]
            cells.z, cells.share = b2.linked_var(unit, "z"), b2.linked_var(unit, "share")
            decoder = b2.Synapses(
                cells,
                unit,
                """
                phi : 1
                z_post = phi * rate_pre : 1 (summed)
                share_post = rate_pre * c_pre : 1 (summed)
                """,
                namespace={"teacher": b2.TimedArray(teacher[:, 0], dt=dt)},
            )
            decoder.connect()
            decoder.phi = start.decoder[0]
            order = {"z": decoder.summed_updaters["z_post"]}
            share = decoder.summed_updaters["share_post"]
            if learning:
                clock = b2.Clock(dt=learning.every * dt)
                p = b2.Synapses(cells, cells, "p : 1\nc_post = p * rate_pre : 1 (summed)")
                p.connect()
                p.p = f"{learning.initial!r} * int(i == j)"
                order |= {"c": p.summed_updaters["c_post"], "share": share}
                for updater in (order["c"], share):
                    updater._clock = clock
                decoder.run_regularly("phi -= c_pre * (z_post - teacher(t))", clock=clock, when="end", order=3)
                p.run_regularly("p -= c_pre * c_post / (1 + share_pre)", clock=clock, when="end", order=4)
                objects.append(p)
            else:
                share.active = False
            for place, updater in enumerate(order.values()):
                updater.when, updater.order = "end", place
            monitor = b2.SpikeMonitor(cells) if listed else None
            whole = b2.Network(*objects, unit, decoder, *([monitor] if listed else []))
            whole.run(len(teacher) * dt, namespace={})
            self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
            b2.device.build(directory=self.folder.name, run=False)
            self.device = b2.get_device()
            if listed:
                self.run()
                self.found = Found(None, *listed_spikes(monitor, network.dt))
        finally:
            b2.set_device("runtime")

    def run(self) -> float:
        """Run the program; the seconds of its loop."""
        self.device.run(self.folder.name, with_output=False, run_args=[])
        return self.device._last_run_time


class OurUpdate:
    """Updates of recursive least squares alone."""

    def __init__(self, n: int, initial: float):
        self.state, self.phi = rls.start(n, initial), np.zeros((1, n))

    def run(self, rates: np.ndarray) -> float:
        """Seconds of updates with these filtered spikes `(updates, n)`; the pending terms enter P at the end."""
        error = np.full(1, 0.1)
        began = time.perf_counter()
        for rate in rates:
            rls.update(self.state, self.phi, rate, error)
        rls.flush(self.state)
        return time.perf_counter() - began


class PlainUpdate:
    """The same with the whole of P, which `change` brings up to date."""

    def __init__(self, n: int, initial: float, change: Callable[[np.ndarray, np.ndarray, np.ndarray, float], None]):
        self.p, self.work = np.zeros((n, n)), np.zeros((n, n))
        np.fill_diagonal(self.p, initial)
        self.phi, self.change = np.zeros(n), change

    def run(self, rates: np.ndarray) -> float:
        """Seconds of updates with these filtered spikes `(updates, n)`."""
        began = time.perf_counter()
        for rate in rates:
            c = self.p @ rate
            self.phi -= 0.1 * c
            self.change(self.p, self.work, c, 1.0 + rate @ c)
        return time.perf_counter() - began
