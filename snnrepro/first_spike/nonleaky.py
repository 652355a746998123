"""Non-leaky integrate-and-fire neurons with exponential synaptic currents that spike once (Mostafa 2017).

Time is in units of the synaptic time constant; the threshold is 1. With z = exp(t), the neuron's spike time follows in closed form
from the inputs C that arrive before it, its causal set:

    z_out = sum_C w_i z_i / (sum_C w_i - 1),   valid where sum_C w_i > 1.
"""

import torch
from torch import Tensor

from snnrepro.errors import UserError


class _SpikeTimes(torch.autograd.Function):
    """Closed-form spike times forward, implicit-function gradients backward."""

    @staticmethod
    def forward(ctx, z: Tensor, w: Tensor) -> Tensor:
        order = torch.argsort(z, dim=1)
        zs = torch.gather(z, 1, order)  # (batch, inputs), in order of arrival
        arrives = torch.isfinite(zs)[..., None]
        zs = torch.where(torch.isfinite(zs), zs, 0.0)
        ws = torch.where(arrives, w[order], 0.0)  # (batch, inputs, neurons)
        weight = ws.cumsum(1)
        candidate = (ws * zs[..., None]).cumsum(1) / (weight - 1.0)  # Eq. (7), one for each causal set
        late = torch.where(arrives[..., 0], zs, torch.inf)
        following = torch.cat([late[:, 1:], torch.full_like(late[:, :1], torch.inf)], 1)[..., None]
        valid = arrives & (weight > 1.0) & (candidate >= zs[..., None]) & (candidate <= following)
        fires = valid.any(1)
        last = valid.to(torch.uint8).argmax(1)  # position of the last input of the first valid causal set
        out = torch.gather(candidate, 1, last[:, None])[:, 0]
        out = torch.where(fires, out, torch.inf)
        excess = torch.gather(weight, 1, last[:, None])[:, 0] - 1.0
        ctx.save_for_backward(z, w, out, excess, fires)
        return out

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor]:
        z, w, out, excess, fires = ctx.saved_tensors
        scaled = torch.where(fires, grad / excess, 0.0)  # (batch, neurons)
        causal = (z[:, :, None] <= out[:, None]) & fires[:, None]  # (batch, inputs, neurons)
        out = torch.where(fires, out, 0.0)
        to_z = (causal * w * scaled[:, None]).sum(2)  # Eq. (8): dz_out / dz_i = w_i / (sum_C w - 1)
        z = torch.where(torch.isfinite(z), z, 0.0)
        to_w = (causal * (z[:, :, None] - out[:, None]) * scaled[:, None]).sum(
            0
        )  # Eq. (8): (z_i - z_out) / (sum_C w - 1)
        return to_z, to_w


def spike_times(z: Tensor, w: Tensor) -> Tensor:
    """First spike times of a layer, as z = exp(t).

    Args:
        z: input spike times exp(t) `(batch, inputs)`, in units of the synaptic time constant; inf where an input is silent.
        w: weights `(inputs, neurons)`.

    Returns:
        exp(t) of each neuron's spike `(batch, neurons)`; inf where it never spikes (no gradient passes there).

    Raises:
        UserError: shapes or types that do not fit, an empty batch, a z that is NaN, 0 or negative, or weights that are not finite.
    """
    if z.ndim != 2 or min(z.shape) < 1:
        raise UserError(f"nonleaky: z has shape {tuple(z.shape)}; give (batch, inputs), neither of them empty")
    if w.ndim != 2 or len(w) != z.shape[1] or w.shape[1] < 1:
        raise UserError(f"nonleaky: weights have shape {tuple(w.shape)}; give ({z.shape[1]}, neurons) to fit z")
    if z.dtype != w.dtype or z.dtype not in (torch.float32, torch.float64):
        raise UserError(f"nonleaky: z is {z.dtype}, weights are {w.dtype}; give tensors, both float32 or both float64")
    if not bool((z > 0).all()):
        raise UserError("nonleaky: z holds NaN, 0 or negative values; give exp(t), infinite where an input is silent")
    if not bool(torch.isfinite(w).all()):
        raise UserError("nonleaky: the weights hold NaN or infinite values")
    return _SpikeTimes.apply(z, w)


def weight_sum_penalty(w: Tensor, least: float = 1.5) -> Tensor:
    """Sum over neurons of relu(least - sum of incoming weights): keeps every neuron able to spike (Mostafa 2017).

    Raises:
        UserError: weights of another shape than (inputs, neurons), or a least sum that is not finite.
    """
    if w.ndim != 2 or min(w.shape) < 1:
        raise UserError(f"nonleaky: weights have shape {tuple(w.shape)}; give (inputs, neurons), neither of them empty")
    if not -torch.inf < least < torch.inf:
        raise UserError(f"nonleaky: the least sum of the weights is {least}; give a finite number")
    return torch.relu(least - w.sum(0)).sum()


def membrane(t: Tensor, z: Tensor, w: Tensor) -> Tensor:
    """Membrane potentials `(times, neurons)` at times `t` for one pattern of inputs z `(inputs,)`; 0 after the neuron's spike.

    Raises:
        UserError: as `spike_times`; or times that are no list of finite numbers.
    """
    if t.ndim != 1 or not bool(torch.isfinite(t).all()):
        raise UserError(f"nonleaky: times have shape {tuple(t.shape)}; give one list of finite times")
    if z.ndim != 1 or w.ndim != 2 or len(w) != len(z):
        raise UserError(
            f"nonleaky: z has shape {tuple(z.shape)}, weights {tuple(w.shape)}; give (inputs,) and (inputs, neurons)"
        )
    arrival = torch.log(z)
    psp = torch.where(t[:, None] > arrival, 1.0 - torch.exp(-(t[:, None] - arrival)), 0.0)
    spike = torch.log(spike_times(z[None], w))[0]
    return torch.where(t[:, None] <= spike, psp @ w, 0.0)
