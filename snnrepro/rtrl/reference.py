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
        UserError: unknown paths, parts that do not fit, of several types or not finite, or neurons that it does not have.
    """
    if paths not in PATHS:
        raise UserError(f"rtrl: paths is {paths!r}; choose one of {', '.join(PATHS)}")
    p, n = model.neuron, w_rec.shape[0]
    for name, w in {
        "input weights": w_in,
        "recurrent weights": w_rec,
        "output weights": w_out,
        "feedback": feedback,
    }.items():
        if w is not None and (w.ndim != 2 or w.dtype not in (torch.float32, torch.float64) or w.dtype != x.dtype):
            raise UserError(
                f"rtrl: {name} are {w.dtype} {tuple(w.shape)}; give two dimensions, float32 or float64 as the input {x.dtype}"
            )
        if w is not None and not torch.isfinite(w).all():
            raise UserError(f"rtrl: {name} are not finite; use a smaller learning rate")
    for name, w, rows in (("input weights", w_in, len(w_in)), ("recurrent weights", w_rec, len(w_out))):
        if w.shape != (rows, len(w_out)):
            raise UserError(f"rtrl: {name} have shape {tuple(w.shape)}; give {rows, len(w_out)}")
    if feedback is not None and feedback.shape != w_out.shape:
        raise UserError(f"rtrl: feedback has shape {tuple(feedback.shape)}; give {tuple(w_out.shape)}")
    if x.ndim != 3 or x.shape[2] != len(w_in) or not x.numel():
        raise UserError(f"rtrl: input has shape {tuple(x.shape)}; give (time, batch, {len(w_in)}), not empty")
    if not torch.isfinite(x).all():
        raise UserError("rtrl: input is not finite")
    if p.gain not in ("one", "leak") or p.current not in ("old", "new") or p.refractory > 1:
        raise UserError(
            f"rtrl: gain {p.gain!r}, current {p.current!r}, {p.refractory} refractory steps; it can do one or leak, old or new, 0"
        )
    if p.reset not in ("multiply", "subtract", "none") or p.surrogate.name not in ("fast_sigmoid", "asymptotic"):
        raise UserError(
            f"rtrl: reset {p.reset!r}, surrogate {p.surrogate.name!r}; see RESETS and SURROGATES of rtrl.networks"
        )
    for name, tau in {
        "tau_mem": p.tau_mem,
        "tau_syn": p.tau_syn,
        "tau_out": model.tau_out,
        "threshold": p.threshold,
    }.items():
        if tau is not None and (torch.as_tensor(tau).shape not in ((), (n,)) or not (torch.as_tensor(tau) > 0).all()):
            raise UserError(f"rtrl: {name} must be positive, a number or one for each of {n} neurons")
    for name in ("tau", "strength"):
        if p.adaptation is not None and torch.as_tensor(getattr(p.adaptation, name)).shape not in ((), (n,)):
            raise UserError(f"rtrl: {name} of the adaptation has not one entry for each of {n} neurons")
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
