"""The network of `networks` in plain torch, one step after another, differentiated automatically."""

import math

import torch
from torch import Tensor

from snnrepro.eprop.networks import BPTT, Neurons, Rule
from snnrepro.errors import UserError


class _Spike(torch.autograd.Function):
    """A spike where the potential is above the threshold, with the pseudo-derivative psi."""

    @staticmethod
    def forward(ctx, above: Tensor, free: Tensor, threshold: float, damping: float) -> Tensor:
        ctx.save_for_backward(free * damping / threshold * (1 - above.abs() / threshold).clamp(min=0))  # Eq. (4)
        return free * (above > 0).to(above.dtype)  # Eq. (3)

    @staticmethod
    def backward(ctx, g: Tensor):
        return g * ctx.saved_tensors[0], None, None, None


class _Feedback(torch.autograd.Function):
    """A product with the output weights whose derivative goes back through other weights."""

    @staticmethod
    def forward(ctx, z: Tensor, w: Tensor, feedback: Tensor) -> Tensor:
        ctx.save_for_backward(z, feedback)
        return z @ w

    @staticmethod
    def backward(ctx, g: Tensor):
        z, feedback = ctx.saved_tensors
        return g @ feedback.T, z.T @ g, None


def run(
    neurons: Neurons,
    w_in: Tensor,
    w_rec: Tensor,
    w_out: Tensor,
    x: Tensor,
    rule: Rule = BPTT,
    feedback: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Spikes `(time, batch, n)` and readout `(time, batch, k)`.

    Args:
        neurons: neurons and readout.
        w_in: input weights `(m, n)`.
        w_rec: recurrent weights `(n, n)`.
        w_out: output weights `(n, k)`.
        x: input spikes `(time, batch, m)`.
        rule: which paths the gradient takes.
        feedback: B, `(n, k)`, in place of the output weights in the gradient; None: the output weights.

    Raises:
        UserError: parts that do not fit, of several types or not finite, or a time constant or threshold that is not positive.
    """
    for name, w in {
        "input weights": w_in,
        "recurrent weights": w_rec,
        "output weights": w_out,
        "feedback": feedback,
    }.items():
        if w is not None and (w.ndim != 2 or w.dtype not in (torch.float32, torch.float64) or w.dtype != w_out.dtype):
            raise UserError(
                f"e-prop: {name} are {w.dtype} {tuple(w.shape)}; give two dimensions, all float32 or all float64"
            )
        if w is not None and not torch.isfinite(w).all():
            raise UserError(f"e-prop: {name} are not finite; use a smaller learning rate")
    for name, w, rows in (("input weights", w_in, len(w_in)), ("recurrent weights", w_rec, len(w_out))):
        if w.shape != (rows, len(w_out)):
            raise UserError(f"e-prop: {name} have shape {tuple(w.shape)}; give {rows, len(w_out)}")
    if feedback is not None and feedback.shape != w_out.shape:
        raise UserError(f"e-prop: feedback has shape {tuple(feedback.shape)}; give {tuple(w_out.shape)}")
    if torch.as_tensor(neurons.beta).shape != w_out.shape[:1]:
        raise UserError(
            f"e-prop: beta has shape {tuple(torch.as_tensor(neurons.beta).shape)}; give {tuple(w_out.shape[:1])}"
        )
    for name in ("tau", "tau_adaptation", "tau_out", "threshold"):
        if not getattr(neurons, name) > 0:
            raise UserError(f"e-prop: {name} is {getattr(neurons, name)}; it must be positive")
    if x.ndim != 3 or x.shape[2] != len(w_in) or not x.numel():
        raise UserError(f"e-prop: input has shape {tuple(x.shape)}; give (time, batch, {len(w_in)}), not empty")
    if not torch.isfinite(x).all():
        raise UserError("e-prop: input is not finite")
    alpha, rho, kappa = (math.exp(-1 / tau) for tau in (neurons.tau, neurons.tau_adaptation, neurons.tau_out))
    beta = torch.as_tensor(neurons.beta, dtype=w_out.dtype)
    gain = 1 - alpha if neurons.scaled else 1.0
    w_rec = w_rec * (1 - torch.eye(len(w_rec), dtype=w_rec.dtype))
    v = a = z = waits = x.new_zeros(x.shape[1], len(w_rec), dtype=w_out.dtype)
    y, spikes, readouts = x.new_zeros(x.shape[1], w_out.shape[1], dtype=w_out.dtype), [], []
    for step in x.to(w_out.dtype):
        sent = z if rule.through else z.detach()
        taken = z if rule.reset else z.detach()
        v = alpha * v + gain * (step @ w_in + sent @ w_rec) - neurons.threshold * taken  # Eq. (1)
        a = rho * a + z  # Eq. (2)
        z = _Spike.apply(v - beta * a - neurons.threshold, (waits <= 0).to(v.dtype), neurons.threshold, neurons.damping)
        waits = (waits + neurons.refractory * z.detach() - 1).clamp(0, neurons.refractory)
        y = kappa * y + (1 - kappa) * (
            z @ w_out if feedback is None else _Feedback.apply(z, w_out, feedback)
        )  # Eq. (5)
        spikes.append(z)
        readouts.append(y)
    return torch.stack(spikes), torch.stack(readouts)
