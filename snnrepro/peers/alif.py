"""A recurrent layer of adaptive neurons in Brian2, from its differential equations and jumps."""

import numpy as np

from snnrepro.errors import UserError


def alif_brian2(
    drive: np.ndarray,
    v: np.ndarray | None,
    tau_mem: np.ndarray,
    tau_adp: np.ndarray,
    threshold: float,
    strength: float,
) -> np.ndarray:
    """Spikes `(time, neurons)` of a layer of the neurons of Yin, Corradi & Bohte (2021), integrated exactly from step to step.

    Brian2 resets at the spike, the paper one step later: the reset below is the paper's divided by the decay of one step.

    Args:
        drive: weighted input of each step `(time, neurons)`, constant over the step.
        v: recurrent weights, row = sender; None without recurrence.
        tau_mem: membrane time constants in steps, `(neurons,)`.
        tau_adp: adaptation time constants in steps, `(neurons,)`.
        threshold: of a neuron that has not spiked.
        strength: how much the adaptation raises it.

    Raises:
        UserError: shapes that do not fit.
    """
    import brian2 as b2

    steps, n = drive.shape
    if tau_mem.shape != (n,) or tau_adp.shape != (n,) or (v is not None and v.shape != (n, n)):
        raise UserError(f"alif_brian2: {n} neurons need time constants ({n},) and recurrent weights ({n}, {n})")
    b2.prefs.codegen.target = "numpy"
    b2.start_scope()
    clock = b2.Clock(dt=1 * b2.ms)  # a step
    given = b2.TimedArray(drive, dt=clock.dt)
    group = b2.NeuronGroup(
        n,
        """
        du/dt = (given(t, i) + I_rec - u) / tau_mem : 1
        deta/dt = -eta / tau_adp : 1
        I_rec : 1
        tau_mem : second (constant)
        tau_adp : second (constant)
        theta = threshold + strength * eta : 1
        """,
        threshold="u > theta",
        reset="""
        u -= (threshold + strength * (eta * exp(-dt / tau_adp) + 1 - exp(-dt / tau_adp))) * exp(dt / tau_mem)
        eta += exp(dt / tau_adp) - 1
        """,
        method="exact",
        clock=clock,
        namespace={"given": given, "threshold": threshold, "strength": strength},
    )
    group.tau_mem, group.tau_adp = tau_mem * b2.ms, tau_adp * b2.ms
    group.run_regularly("I_rec = 0", when="after_groups", clock=clock)  # a spike lasts one step
    monitor = b2.SpikeMonitor(group)
    network = b2.Network(group, monitor)
    if v is not None:
        synapses = b2.Synapses(group, group, "weight : 1", on_pre="I_rec_post += weight", clock=clock)
        synapses.connect()
        synapses.weight = v.flatten()
        network.add(synapses)
    network.run(steps * clock.dt, namespace={})
    spikes = np.zeros((steps, n))
    spikes[np.round(np.asarray(monitor.t / clock.dt)).astype(int), np.asarray(monitor.i)] = 1
    return spikes
