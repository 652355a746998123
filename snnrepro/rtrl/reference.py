"""The network of `networks` in plain torch, one step after another, differentiated automatically."""

import torch
from torch import Tensor

from snnrepro.errors import UserError
from snnrepro.rtrl.gradients import PATHS, Paths
from snnrepro.rtrl.networks import Model


class _Spike(torch.autograd.Function):
    """A spike where x is positive; its derivative is that of SuperSpike, times the slope if it is asymptotic."""

    @staticmethod
    def forward(ctx, x: Tensor, steepness: float, height: float) -> Tensor:
        ctx.save_for_backward(height / (steepness * x.abs() + 1).square())
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx, g: Tensor):
        return g * ctx.saved_tensors[0], None, None


class _Readout(torch.autograd.Function):
    """A product with the output weights whose derivative goes back through other weights."""

    @staticmethod
    def forward(ctx, s: Tensor, w: Tensor, feedback: Tensor) -> Tensor:
        ctx.save_for_backward(s, feedback)
        return s @ w

    @staticmethod
    def backward(ctx, g: Tensor):
        s, feedback = ctx.saved_tensors
        return g @ feedback.T, s.T @ g, None


def _decay(dt: float, tau) -> Tensor:
    return torch.exp(-dt / torch.as_tensor(tau, dtype=torch.float64)) if tau is not None else torch.zeros(())


def run(
    model: Model,
    w_in: Tensor,
    w_rec: Tensor,
    w_out: Tensor,
    x: Tensor,
    paths: Paths = "all",
    feedback: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Spikes `(time, batch, n)` and readout `(time, batch, k)`.

    Args:
        model: neurons and readout; a gain of `one` or `leak`.
        w_in: input weights, row = sender.
        w_rec: recurrent weights.
        w_out: output weights.
        x: input `(time, batch, m)`.
        paths: recurrent weights through which the gradient passes.
        feedback: what the derivative of the readout goes back through; None: the output weights.

    Raises:
        UserError: unknown paths.
    """
    if paths not in PATHS:
        raise UserError(f"rtrl: paths is {paths!r}; choose one of {', '.join(PATHS)}")
    p, n = model.neuron, w_rec.shape[0]
    alpha, beta, kappa = _decay(p.dt, p.tau_syn), _decay(p.dt, p.tau_mem), _decay(p.dt, model.tau_out)
    gain = 1 - beta if p.gain == "leak" else torch.ones(())
    strength, rho, jump = 0.0, 0.0, 0.0
    if p.adaptation is not None:
        strength, rho = torch.as_tensor(p.adaptation.strength, dtype=torch.float64), _decay(p.dt, p.adaptation.tau)
        jump = 1 - rho if p.adaptation.gain == "leak" else 1.0
    height = p.surrogate.scale * (p.surrogate.slope if p.surrogate.name == "asymptotic" else 1.0)
    u, i, a, s = (x.new_zeros(x.shape[1], n) for _ in range(4))
    y = x.new_zeros(x.shape[1], w_out.shape[1])
    spikes, outputs = [], []
    for step in x.unbind(0):
        fixed = s.detach()
        through = {"all": s @ w_rec, "own": fixed @ w_rec + (s - fixed) * w_rec.diag().detach(), "none": fixed @ w_rec}
        old, i = i, alpha * i + step @ w_in + through[paths]
        driven = beta * u + gain * (old if p.current == "old" else i)
        resets = s if p.reset_gradient else fixed
        u = {"multiply": driven * (1 - resets), "subtract": driven - p.threshold * resets, "none": driven}[p.reset]
        a = rho * a + jump * s
        s = _Spike.apply(u - p.threshold - strength * a, p.surrogate.slope, height)
        y = kappa * y + (1 - kappa) * _Readout.apply(s, w_out, w_out if feedback is None else feedback)
        spikes.append(s)
        outputs.append(y)
    return torch.stack(spikes), torch.stack(outputs)
