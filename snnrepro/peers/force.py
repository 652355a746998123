"""A network of LIF neurons that is trained by FORCE, in Brian2; recursive least squares runs as a network operation in plain NumPy."""

import math
from typing import NamedTuple

import numpy as np

from snnrepro.errors import UserError
from snnrepro.force.networks import Learning, Lif, Network, dense


class Found(NamedTuple):
    """Output after each step `(steps, k)`, steps and units of all spikes in order, and the decoder `(k, n)` at the end."""

    outputs: np.ndarray
    spike_steps: np.ndarray
    spike_units: np.ndarray
    decoder: np.ndarray


def run_brian2(network: Network, v: np.ndarray, count: int, teacher: np.ndarray, learning: Learning) -> Found:
    """Train and run a network.

    Args:
        network: of `Lif` neurons.
        v: initial potentials `(n,)`.
        count: steps.
        teacher: what the output should be after each step `(count, k)`.
        learning: when the decoder learns.

    Raises:
        UserError: other neurons.
    """
    import brian2 as b2

    model = network.model
    if not isinstance(model, Lif):
        raise UserError("Brian2: this second opinion knows LIF neurons only")
    b2.prefs.codegen.target = "numpy"
    b2.start_scope()
    k, n = network.feedback.shape
    clock = b2.Clock(dt=network.dt * b2.second)
    held = (round(model.refractory / network.dt) + 1) * network.dt
    group = b2.NeuronGroup(
        n,
        f"""
        dv/dt = ({model.bias} + current + fed_back - v) / ({model.tau} * second) : 1 (unless refractory)
        current : 1
        rising : 1
        rate : 1
        rate_rising : 1
        fed_back : 1
        """,
        threshold=f"v >= {model.threshold}",
        reset=f"v = {model.reset}; rate_rising += kick",
        refractory=held * b2.second,
        method="euler",
        clock=clock,
        namespace={"kick": 1 / (network.rise * network.fall)},
    )
    group.v = v
    rise, fall = math.exp(-network.dt / network.rise), math.exp(-network.dt / network.fall)
    filters = group.run_regularly(
        f"""
        current = current * {rise!r} + rising * {network.dt!r}
        rising = rising * {fall!r}
        rate = rate * {rise!r} + rate_rising * {network.dt!r}
        rate_rising = rate_rising * {fall!r}
        """,
        when="before_synapses",
        clock=clock,
    )
    weights = dense(network.static)
    receiver, sender = np.nonzero(weights)
    synapses = b2.Synapses(
        group,
        group,
        "weight : 1",
        on_pre="rising_post += weight * kick",
        clock=clock,
        namespace={"kick": 1 / (network.rise * network.fall)},
    )
    synapses.connect(i=sender, j=receiver)
    synapses.weight = weights[receiver, sender]
    decoder, p = np.zeros((k, n)), learning.initial * np.eye(n)
    outputs = np.empty((count, k))

    @b2.network_operation(when="end", clock=clock)
    def decode(t):
        step = round(float(t / b2.second) / network.dt)
        r = np.asarray(group.rate)
        z = decoder @ r
        outputs[step] = z
        i = step + 1
        if i % learning.every == 1 % learning.every and learning.first < i < learning.last:
            c = p @ r
            decoder[:] -= np.outer(z - teacher[step], c)
            p[:] -= np.outer(c, c) / (1 + r @ c)
        group.fed_back = network.feedback.T @ z

    monitor = b2.SpikeMonitor(group)
    b2.Network(group, filters, synapses, decode, monitor).run(count * network.dt * b2.second, namespace={})
    steps = np.round(np.asarray(monitor.t / b2.second) / network.dt).astype(int)
    return Found(outputs, steps, np.asarray(monitor.i), decoder)
