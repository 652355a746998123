"""A layer of LIF neurons in snnTorch and in Brian2."""

import numpy as np
import torch
from torch import Tensor

from snnrepro.errors import UserError
from snnrepro.neurons import LIF

SNNTORCH_RESET = {"subtract": "subtract", "multiply": "zero", "none": "none"}


def _refuse(peer: str, p: LIF, **needed: tuple) -> None:
    """Raise where a parameter has a value that a peer cannot follow."""
    for field, values in needed.items():
        if getattr(p, field) not in values:
            raise UserError(f"{peer}: {field} is {getattr(p, field)!r}; it can do {', '.join(map(repr, values))}")


def lif_snntorch(x: Tensor, w: Tensor, p: LIF) -> Tensor:
    """Spikes `(time, batch, neurons)` of `snntorch.Synaptic`, differentiable.

    snnTorch integrates the current that already holds this step's input. For `current="old"` it is therefore given its input two
    steps later, which makes the spikes of a layer without recurrence the same.

    Raises:
        UserError: a gain, reset, refractory period, reset gradient, filter, adaptation or surrogate that `snntorch.Synaptic` does not
            have.
    """
    import snntorch
    from snntorch import surrogate

    _refuse("snnTorch", p, gain=("one",), reset=tuple(SNNTORCH_RESET), refractory=(0, 1), reset_gradient=(False,))
    _refuse("snnTorch", p.surrogate, name=("fast_sigmoid",))
    if p.tau_syn is None or p.adaptation is not None or p.surrogate.scale != 1:
        raise UserError("snnTorch: it has no neurons without synaptic filter, no adaptation, no scale of the surrogate")
    if p.current == "old":
        x = torch.cat([torch.zeros_like(x[:2]), x[:-2]])
    cell = snntorch.Synaptic(
        alpha=torch.as_tensor(np.exp(-p.dt / np.asarray(p.tau_syn))).to(w),
        beta=torch.as_tensor(np.exp(-p.dt / np.asarray(p.tau_mem))).to(w),
        threshold=p.threshold,
        spike_grad=surrogate.fast_sigmoid(slope=p.surrogate.slope),
        reset_mechanism=SNNTORCH_RESET[p.reset],
    )
    current, potential = (torch.zeros(x.shape[1], w.shape[1]).to(w) for _ in range(2))
    spikes = []
    for step in x.unbind(0):
        s, current, potential = cell(step @ w, current, potential)
        spikes.append(s)
    return torch.stack(spikes)


def lif_brian2(x: np.ndarray, w: np.ndarray, p: LIF, substeps: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """A layer simulated by Brian2 from its differential equations, integrated exactly between steps.

    Args:
        x: input spikes of one sample `(time, units)`.
        w: weights `(units, neurons)`.
        p: time constants, threshold, time step; gain `exact`, reset `zero`, no refractory period.
        substeps: Brian2's steps for each step of `p.dt`; many come close to continuous time.

    Returns:
        spike times in seconds and the neuron of each spike.

    Raises:
        UserError: a gain, reset, refractory period, filter or adaptation that these equations do not have.
    """
    import brian2 as b2

    _refuse("Brian2", p, gain=("exact",), reset=("zero",), refractory=(0, 1))
    if p.tau_syn is None or p.adaptation is not None:
        raise UserError("Brian2: these equations have no neurons without synaptic filter, and no adaptation")

    b2.prefs.codegen.target = "numpy"
    b2.start_scope()
    clock = b2.Clock(dt=p.dt / substeps * b2.second)
    group = b2.NeuronGroup(
        w.shape[1],
        """
        dU/dt = (I - U) / tau_mem : 1
        dI/dt = -I / tau_syn : 1
        tau_mem : second (constant)
        tau_syn : second (constant)
        """,
        threshold=f"U > {p.threshold}",
        reset="U = 0",
        method="exact",
        clock=clock,
    )
    group.tau_mem, group.tau_syn = p.tau_mem * b2.second, p.tau_syn * b2.second
    steps, units = np.nonzero(x)
    source = b2.SpikeGeneratorGroup(x.shape[1], units, (steps * substeps) * clock.dt, clock=clock)
    synapses = b2.Synapses(source, group, "weight : 1", on_pre="I += weight", clock=clock)
    synapses.connect()
    synapses.weight = w.flatten()
    monitor = b2.SpikeMonitor(group)
    network = b2.Network(group, source, synapses, monitor)
    network.run(len(x) * p.dt * b2.second)
    return np.asarray(monitor.t / b2.second), np.asarray(monitor.i)
