"""First spikes of current-based LIF neurons in closed form, and their gradients: Göltz et al. (2021).

A neuron integrates inputs of weight w_i at times t_i until it spikes once, at the time T at which its potential reaches the threshold:

    C dV/dt = -C V / tau_mem + sum_i w_i exp(-(t - t_i) / tau_syn) [t >= t_i]

A closed form exists for three ratios of the time constants. Which inputs come before the spike is not known beforehand: the sorted inputs
are walked until the potential reaches the threshold before the next one. Equation numbers are those of the chapter `goeltz2021`.
"""

import math
from typing import Literal, NamedTuple

import numpy as np
import torch
from scipy.special import lambertw
from torch import Tensor
from torch.autograd.function import once_differentiable

from snnrepro.errors import UserError
from snnrepro.kernels import first_spike as kernel
from snnrepro.kernels.first_spike import DOUBLE, EQUAL, NO_LEAK

Engine = Literal["fast", "reference"]


class Neuron(NamedTuple):
    """A current-based LIF neuron that spikes once. Rest at 0.

    Attributes:
        tau_syn: synaptic time constant, in the unit of the spike times.
        tau_mem: membrane time constant: `tau_syn`, twice that, or infinite.
        threshold: potential at which it spikes.
        capacitance: C above. With C = tau_mem this is the neuron of `snnrepro.neurons`, with a resistance of 1.
    """

    tau_syn: float = 1.0
    tau_mem: float = 1.0
    threshold: float = 1.0
    capacitance: float = 1.0


def check(p: Neuron) -> tuple[int, float]:
    """Kind of a neuron, and its threshold in units of tau_syn / C.

    Raises:
        UserError: a parameter that is no number or not positive, or a ratio of time constants without a closed form.
    """
    for field, value in p._asdict().items():
        if np.ndim(value) > 0:
            raise UserError(
                f"Neuron: {field} has shape {tuple(np.shape(value))}; give one number (`mismatched_times` takes one a neuron)"
            )
        if not value > 0 or (math.isinf(value) and field != "tau_mem"):
            raise UserError(f"Neuron: {field} is {value}; it must be positive and finite (tau_mem may be infinite)")
    kinds = {1.0: EQUAL, 2.0: DOUBLE, math.inf: NO_LEAK}
    ratio = p.tau_mem / p.tau_syn
    for known, kind in kinds.items():
        if ratio == known or math.isclose(ratio, known, rel_tol=1e-12):
            return kind, p.capacitance * p.threshold / p.tau_syn
    raise UserError(f"Neuron: tau_mem / tau_syn is {ratio:g}; a closed form exists for 1, 2 and infinity")


def spike_times(
    t: Tensor, w: Tensor, p: Neuron, *, largest_change: float = math.inf, engine: Engine = "fast"
) -> Tensor:
    """First spike time of each neuron `(batch, neurons)`, infinite where it stays silent. Differentiable in both arguments.

    Where a neuron is silent its gradient is 0; where it touches the threshold without crossing it, too (`fast`), or not finite
    (`reference`).

    Args:
        t: input times `(batch, inputs)` in any order, infinite where there is no spike.
        w: weights `(inputs, neurons)`.
        p: parameters.
        largest_change: a sample's part of the weight gradient of a neuron is left out where it has an entry larger than this (Eq. 10).
            The gradient of the input times is not affected.
        engine: `fast`, the compiled walk with its hand-written gradient; `reference`, sorting and cumulative sums in torch with Lambert's
            W from scipy, differentiated automatically.

    Raises:
        UserError: shapes or types that do not fit, an empty batch, NaN, weights that are infinite, times that are minus infinity, or
            parameters that make no sense.
    """
    kind, h = check(p)
    _check_input(t, w)
    if not largest_change > 0:
        raise UserError(f"spike_times: largest_change is {largest_change}; it must be positive")
    x = t / p.tau_syn
    if engine == "reference":
        if largest_change < math.inf:
            raise UserError("spike_times: the reference engine knows no largest_change")
        return p.tau_syn * _reference(kind, h, x, w)
    if engine != "fast":
        raise UserError(f"spike_times: unknown engine {engine!r}; choose fast or reference")
    if not torch.is_grad_enabled():
        x, w = x.detach(), w.detach()
    return p.tau_syn * _FirstSpike.apply(x, w, kind, h, largest_change)


def mismatched_times(t: Tensor, w: Tensor, p: Neuron, tau_mem: Tensor, tau_syn: Tensor, threshold: Tensor) -> Tensor:
    """First spike times of neurons that differ from `p`, `(batch, neurons)`; by bisection, and not differentiable.

    Args:
        t: input times `(batch, inputs)`.
        w: weights `(inputs, neurons)`, float64.
        p: nominal parameters; its capacitance holds for all.
        tau_mem: membrane time constant of each neuron `(neurons,)`.
        tau_syn: synaptic time constant of each neuron, not equal to its `tau_mem`.
        threshold: of each neuron.

    Raises:
        UserError: as `spike_times`, or parameters that are no tensors, of another shape, not positive, or with two equal time constants.
    """
    check(p)
    _check_input(t, w)
    if not all(isinstance(a, Tensor) for a in (tau_mem, tau_syn, threshold)):
        raise UserError(
            f"mismatched_times: give tau_mem, tau_syn and threshold as tensors of torch, of shape ({w.shape[1]},) each"
        )
    each = [a.detach().double().numpy() for a in (tau_mem, tau_syn, threshold)]
    if (
        any(a.shape != (w.shape[1],) or not ((a > 0) & np.isfinite(a)).all() for a in each)
        or (each[0] == each[1]).any()
    ):
        raise UserError(
            "mismatched_times: give each neuron a positive threshold and two positive, finite, different time constants"
        )
    x = (t.detach().double() / p.tau_syn).contiguous().numpy()
    times = np.empty((len(x), w.shape[1]))
    h = p.capacitance * each[2] / p.tau_syn
    kernel.mismatched(
        x,
        np.argsort(x, axis=1),
        w.detach().double().contiguous().numpy(),
        h,
        each[0] / p.tau_syn,
        each[1] / p.tau_syn,
        times,
    )
    return p.tau_syn * torch.from_numpy(times)


def _check_input(t: Tensor, w: Tensor) -> None:
    """Shapes, types and values of input times and weights."""
    if t.ndim != 2 or min(t.shape) < 1:
        raise UserError(f"spike_times: times have shape {tuple(t.shape)}; give (batch, inputs), neither of them empty")
    if w.ndim != 2 or len(w) != t.shape[1] or w.shape[1] < 1:
        raise UserError(
            f"spike_times: weights have shape {tuple(w.shape)}; give ({t.shape[1]}, neurons) to fit the times"
        )
    if (
        t.dtype != w.dtype
        or t.dtype not in (torch.float32, torch.float64)
        or t.device.type != "cpu"
        or w.device.type != "cpu"
    ):
        raise UserError(
            f"spike_times: times are {t.dtype}, weights {w.dtype}; give both float32 or both float64 on the CPU"
        )
    if bool(torch.isnan(t).any()) or bool((t == -math.inf).any()):
        raise UserError(
            "spike_times: the input times hold NaN or minus infinity; write infinity where there is no spike"
        )
    if not bool(torch.isfinite(w).all()):
        raise UserError("spike_times: the weights hold NaN or infinite values")


class _FirstSpike(torch.autograd.Function):
    """The compiled walk as a function of torch, in units of tau_syn."""

    @staticmethod
    def forward(ctx, x: Tensor, w: Tensor, kind: int, h: float, most: float) -> Tensor:
        times, weights = (a.detach().contiguous().numpy() for a in (x, w))
        order = np.argsort(times, axis=1)
        found = kernel.forward(kind, h, times, order, weights)
        ctx.save_for_backward(x, w)
        ctx.kind, ctx.most, ctx.order, ctx.found = kind, most, order, found
        return torch.from_numpy(found[0])

    @staticmethod
    @once_differentiable
    def backward(ctx, g: Tensor):
        times, weights = (a.detach().contiguous().numpy() for a in ctx.saved_tensors)
        g_x, g_w = kernel.backward(
            ctx.kind, times, ctx.order, weights, ctx.found, g.contiguous().numpy(), ctx.most, ctx.needs_input_grad[0]
        )
        return None if g_x is None else torch.from_numpy(g_x), torch.from_numpy(g_w), None, None, None


# The reference --------------------------------------------------------------------------------------------------------------


class _LambertW(torch.autograd.Function):
    """Principal branch of Lambert's W, by scipy."""

    @staticmethod
    def forward(ctx, z: Tensor) -> Tensor:
        found = lambertw(z.detach().numpy().clip(-math.exp(-1), None)).real
        w = torch.from_numpy(np.nan_to_num(found, nan=-1.0)).to(z)  # scipy knows no value at the branch point itself
        ctx.save_for_backward(w)
        return w

    @staticmethod
    def backward(ctx, g: Tensor) -> Tensor:
        (w,) = ctx.saved_tensors
        return g * torch.exp(-w) / (1 + w)


def _closed_form(kind: int, h: float, a: Tensor, b: Tensor, total: Tensor) -> Tensor:
    """Spike time from sums over the causal set, infinite where there is none.

    a = sum_i w_i exp(x_i); b = sum_i w_i x_i exp(x_i) for `EQUAL`, sum_i w_i exp(x_i / 2) for `DOUBLE`; total = sum_i w_i.
    """
    never = torch.full_like(a, math.inf)
    one = torch.ones_like(a)
    if kind == EQUAL:
        exists = a > 0
        safe_a = torch.where(exists, a, one)
        z = torch.where(exists, -h / safe_a * torch.exp(b / safe_a), never)
        exists = exists & (z >= -math.exp(-1))
        return torch.where(exists, b / safe_a - _LambertW.apply(torch.where(exists, z, -0.1 * one)), never)  # Eq. (3)
    if kind == DOUBLE:
        inside = b**2 - 4 * a * h / 2
        exists = (a > 0) & (inside >= 0)
        root = torch.sqrt(torch.where(exists, inside, one))
        quotient = 2 * a / (b + root)
        exists = exists & (b + root > 0)
        return torch.where(exists, 2 * torch.log(torch.where(exists, quotient, one)), never)  # Eq. (4)
    missing = total - h
    exists = (a > 0) & (missing > 0)
    return torch.where(
        exists, torch.log(torch.where(exists, a / torch.where(exists, missing, one), one)), never
    )  # Eq. (5)


def _sums(kind: int, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """What one input adds to `a` and `b` of `_closed_form`."""
    a = w * torch.exp(x)
    return a, a * x if kind == EQUAL else w * torch.exp(x / 2)


def _reference(kind: int, h: float, x: Tensor, w: Tensor) -> Tensor:
    """Spike times by trying every prefix of the sorted inputs `(batch, inputs)`, in units of tau_syn."""
    ordered, order = torch.sort(x, dim=1, stable=True)
    spikes = torch.isfinite(ordered)[..., None]
    rows = torch.where(spikes, w[order], torch.zeros((), dtype=w.dtype))  # (batch, inputs, neurons)
    first = torch.where(torch.isfinite(ordered[:, :1]), ordered[:, :1], 0.0).detach()
    at = torch.where(spikes[..., 0], ordered - first, 0.0)[
        ..., None
    ]  # no overflow, since times count from the first input
    a, b, total = (part.cumsum(1) for part in (*_sums(kind, at, rows), rows))
    with torch.no_grad():
        found = _closed_form(kind, h, a, b, total)
        following = torch.cat([ordered[:, 1:] - first, torch.full_like(ordered[:, :1], math.inf)], 1)[..., None]
        valid = spikes & (found >= at) & (found <= following) & torch.isfinite(found)
        last = torch.where(valid, found, math.inf).argmin(1, keepdim=True)
        exists = valid.gather(1, last)[:, 0]
    chosen = (
        torch.where(exists, part.gather(1, last)[:, 0], 10 * h) for part in (a, b, total)
    )  # 10 h: a spike, thrown away
    time = _closed_form(kind, h, *chosen)
    return torch.where(exists, time + first, math.inf)
