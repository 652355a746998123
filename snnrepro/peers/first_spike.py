"""A network whose neurons spike once, in Brian2."""

from typing import NamedTuple

import numpy as np

from snnrepro.first_spike.exact import Neuron


class FirstSpikes(NamedTuple):
    """What Brian2 found: first spike times of each layer, infinite where silent, and potentials of the last layer over time."""

    times: list[np.ndarray]
    at: np.ndarray
    potential: np.ndarray


def first_spikes_brian2(t: np.ndarray, weights: list[np.ndarray], p: Neuron, end: float, dt: float) -> FirstSpikes:
    """A network whose neurons spike once, simulated by Brian2 with a small step; bias inputs are inputs like others of the first layer.

    Args:
        t: input times of one sample `(inputs,)`, infinite where there is no spike; each input spikes at the nearest step.
        weights: of each layer `(inputs or neurons before, neurons)`.
        p: parameters; times are in the unit of its time constants, which counts as a second here.
        end: when the simulation stops.
        dt: time step.
    """
    import brian2 as b2

    b2.prefs.codegen.target = "numpy"
    b2.start_scope()
    clock = b2.Clock(dt=dt * b2.second)
    units = np.flatnonzero(np.isfinite(t))
    before = b2.SpikeGeneratorGroup(len(t), units, np.round(t[units] / dt) * dt * b2.second, clock=clock)
    leak = 0.0 if np.isinf(p.tau_mem) else 1.0 / p.tau_mem
    parts, monitors = [before], []
    for w in weights:
        group = b2.NeuronGroup(
            w.shape[1],
            f"""
            dV/dt = (I / {p.capacitance} - {leak} * V) / second : 1
            dI/dt = -I / ({p.tau_syn} * second) : 1
            """,
            threshold=f"V >= {p.threshold}",
            refractory=f"{2 * end} * second",
            method="exact" if leak else "rk4",
            clock=clock,
        )
        synapses = b2.Synapses(before, group, "weight : 1", on_pre="I_post += weight", clock=clock)
        synapses.connect()
        synapses.weight = w.flatten()
        monitors.append(b2.SpikeMonitor(group))
        parts += [group, synapses, monitors[-1]]
        before = group
    trace = b2.StateMonitor(before, "V", record=True, clock=clock)
    b2.Network(*parts, trace).run(end * b2.second)
    times = []
    for w, monitor in zip(weights, monitors, strict=True):
        first = np.full(w.shape[1], np.inf)
        np.minimum.at(first, np.asarray(monitor.i), np.asarray(monitor.t / b2.second))
        times.append(first)
    return FirstSpikes(times, np.asarray(trace.t / b2.second), np.asarray(trace.V))
