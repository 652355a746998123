"""A network that learns by e-prop in Brian2: neurons, readout and eligibility traces as differential equations and jumps."""

from typing import Any, NamedTuple

import numpy as np

from snnrepro.errors import UserError

NEURONS = """
dv/dt = -v / tau : 1
da/dt = -a / tau_a : 1
above = v - theta - beta * a : 1
free = int(not_refractory or lastspike == t) : 1
psi = free * gamma / theta * clip(1 - abs(above) / theta, 0, 1) : 1
L : 1
beta : 1 (constant)
"""
READOUT = """
dy/dt = -y / tau_out : 1
total : 1
right : 1 (constant)
error = int(t >= begin) * (exp(y) / total - right) / recall : 1
"""
SYNAPSES = """
deps_v/dt = -eps_v / tau : 1 (clock-driven)
deps_a/dt = -eps_a / tau_a : 1 (clock-driven)
dfiltered/dt = -filtered / tau_out : 1 (clock-driven)
trace : 1
gradient : 1
w : 1 (constant)
"""
LEARNING = """
trace = psi_post * (eps_v - beta_post * eps_a)
eps_a += trace * exp(dt / tau_a)
filtered += (1 - kappa) * trace
gradient += L_post * filtered
"""


class Learnt(NamedTuple):
    """What Brian2 finds for one trial: spikes `z`, potentials `v` and adaptations `a` `(time, n)`, readout `y` `(time, k)`, eligibility
    traces `e` of the input synapses of one neuron `(time, m)`, and gradients of the weights, `input` `(m, n)` and `recurrent` `(n, n)`.
    """

    z: np.ndarray
    v: np.ndarray
    a: np.ndarray
    y: np.ndarray
    e: np.ndarray
    input: np.ndarray
    recurrent: np.ndarray


def eprop_brian2(
    neurons: Any, weights: Any, x: np.ndarray, feedback: np.ndarray, label: int, recall: int, watched: int = 0
) -> Learnt:
    """One trial with the cross-entropy of a softmax in its last steps (Bellec et al. 2020); everything runs forwards in time.

    Weights, resets and adaptation are jumps. Those that a spike causes act in the next step, before the threshold. The slow component of
    the eligibility vector jumps by the trace. Each trace is multiplied by the learning signal as soon as that is there.

    Args:
        neurons: `snnrepro.eprop.networks.Neurons`; times are in steps.
        weights: `snnrepro.eprop.networks.Weights`, input `(m, n)`, recurrent `(n, n)`, output `(n, k)`.
        x: input spikes `(time, m)`.
        feedback: B, `(n, k)`.
        label: the right output.
        recall: number of steps at the end that are judged.
        watched: the neuron whose traces are kept.

    Raises:
        UserError: shapes that do not fit.
    """
    import brian2 as b2

    (m, n), k = weights.input.shape, weights.output.shape[1]
    if x.shape[1:] != (m,) or feedback.shape != (n, k) or not (0 <= label < k and 0 <= watched < n):
        raise UserError(f"eprop_brian2: give input (time, {m}), feedback {n, k}, a label below {k}, a neuron below {n}")
    b2.prefs.codegen.target = "numpy"
    b2.start_scope()
    steps, ms = len(x), b2.ms  # a step is 1 ms
    decay, kappa = np.exp(-1 / neurons.tau), np.exp(-1 / neurons.tau_out)
    shared = {
        "clock": b2.Clock(dt=1 * ms),
        "namespace": {"tau": neurons.tau * ms, "tau_a": neurons.tau_adaptation * ms, "tau_out": neurons.tau_out * ms}
        | {"theta": neurons.threshold, "gamma": neurons.damping, "gain": 1 - decay if neurons.scaled else 1.0}
        | {"kappa": kappa, "begin": (steps - recall) * ms, "recall": float(recall)},
        "method": "exponential_euler",  # exact, as no equation has more than its decay
    }
    at, units = np.nonzero(x)
    source = b2.SpikeGeneratorGroup(m, units, at * ms, clock=shared["clock"], when="start")
    group = b2.NeuronGroup(
        n, NEURONS, threshold="above > 0", reset="v -= theta; a += 1", refractory=neurons.refractory * ms, **shared
    )
    group.resetter["spike"].when = "after_groups"  # of the next step
    group.beta = neurons.beta
    readout = b2.NeuronGroup(k, READOUT, **shared)
    readout.right = np.arange(k) == label
    into = []
    for senders, w in ((source, weights.input), (group, weights.recurrent)):
        synapses = b2.Synapses(senders, group, SYNAPSES, on_pre="v_post += gain * w; eps_v += gain", **shared)
        synapses.connect(condition="i != j" if senders is group else True)
        synapses.w = w[synapses.i[:], synapses.j[:]]
        synapses.pre.when = "after_groups"
        synapses.run_regularly(LEARNING, when="end", order=2, clock=shared["clock"])
        into.append(synapses)
    out = b2.Synapses(group, readout, "w : 1 (constant)", on_pre="y_post += (1 - kappa) * w", **shared)
    softmax = b2.Synapses(readout, readout, "total_post = exp(y_pre) : 1 (summed)", **shared)
    back = b2.Synapses(readout, group, "L_post = w * error_pre : 1 (summed)\nw : 1 (constant)", **shared)
    for synapses in (out, softmax, back):
        synapses.connect()
    out.w, back.w = weights.output.flatten(), feedback.T.flatten()
    for order, (name, synapses) in enumerate({"total_post": softmax, "L_post": back}.items()):
        updater = synapses.summed_updaters[name]
        updater.when, updater.order = "end", order
    late = {"when": "end", "order": 3, "clock": shared["clock"]}
    state = b2.StateMonitor(group, ("v", "a"), record=True, **late)
    output = b2.StateMonitor(readout, "y", record=True, **late)
    traces = b2.StateMonitor(into[0], "trace", record=np.arange(m) * n + watched, **late)
    spikes = b2.SpikeMonitor(group)
    network = b2.Network(source, group, readout, *into, out, softmax, back, state, output, traces, spikes)
    network.run(steps * ms, namespace={})
    z, gradients = np.zeros((steps, n), np.uint8), [np.zeros((m, n)), np.zeros((n, n))]
    z[np.round(np.asarray(spikes.t / ms)).astype(int), np.asarray(spikes.i)] = 1
    for gradient, synapses in zip(gradients, into, strict=True):
        gradient[synapses.i[:], synapses.j[:]] = synapses.gradient[:]
    return Learnt(z, state.v.T, state.a.T, output.y.T, traces.trace.T, *gradients)
