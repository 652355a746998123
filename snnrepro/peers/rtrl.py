"""A recurrent layer of LIF neurons in snnTorch."""

import numpy as np
import torch
from torch import Tensor

from snnrepro.errors import UserError
from snnrepro.neurons import LIF


def recurrent_snntorch(x: Tensor, w: Tensor, v: Tensor, p: LIF, through: bool) -> Tensor:
    """Spikes `(time, batch, neurons)` of `snntorch.Synaptic` cells that hear their own spikes, differentiable.

    Args:
        x: input spikes `(time, batch, units)`.
        w: input weights `(units, neurons)`.
        v: recurrent weights, row = sender.
        p: neurons; new current, gain `one`, reset `multiply`, outside the gradient, as snnTorch has them.
        through: the gradient passes through recurrent spikes.

    Raises:
        UserError: neurons that these cells do not follow.
    """
    import snntorch
    from snntorch import surrogate

    needed = {"current": "new", "gain": "one", "reset": "multiply", "reset_gradient": False, "adaptation": None}
    for field, value in needed.items():
        if getattr(p, field) != value:
            raise UserError(f"snnTorch: {field} is {getattr(p, field)!r}; it can do {value!r}")
    if (p.surrogate.name, p.surrogate.scale) != ("fast_sigmoid", 1.0) or p.refractory > 1:
        raise UserError("snnTorch: give the surrogate fast_sigmoid at scale 1, and no refractory period")
    cell = snntorch.Synaptic(
        alpha=torch.tensor(np.exp(-p.dt / p.tau_syn)).to(w),
        beta=torch.tensor(np.exp(-p.dt / p.tau_mem)).to(w),
        threshold=p.threshold,
        spike_grad=surrogate.fast_sigmoid(slope=p.surrogate.slope),
        reset_mechanism="zero",
    )
    s, current, potential = (torch.zeros(x.shape[1], w.shape[1]).to(w) for _ in range(3))
    spikes = []
    for step in x.unbind(0):
        sent = s if through else s.detach()
        s, current, potential = cell(step @ w + sent.to(w) @ v, current, potential)
        spikes.append(s)
    return torch.stack(spikes).to(w)
