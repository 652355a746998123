"""e-prop and BPTT for evidence accumulation as one would write them in plain torch."""

import math

import numpy as np
import torch
from torch import Tensor

from snnrepro.eprop import reference
from snnrepro.eprop.networks import Neurons, Rule, Weights


def autograd(neurons: Neurons, weights: Weights, x: np.ndarray, error: np.ndarray, rule: Rule) -> Weights:
    """Gradients by automatic differentiation of a loop over time, of the loss sum(error * readout)."""
    tensors = [torch.from_numpy(w).requires_grad_() for w in weights]
    _, y = reference.run(neurons, *tensors, torch.from_numpy(x), rule)
    return Weights(*(g.numpy() for g in torch.autograd.grad((y * torch.from_numpy(error)).sum(), tensors)))


@torch.no_grad()
def online(neurons: Neurons, weights: Weights, x: np.ndarray, error: np.ndarray, feedback: np.ndarray) -> Weights:
    """e-prop forwards in time: an eligibility vector and a filtered trace for each synapse and sample, `(batch, m + n, n)` each.

    Operations on whole tensors, in place where torch has them.
    """
    w_in, w_rec, w_out, b = (torch.from_numpy(a) for a in (*weights, feedback))
    (m, n), batch, dtype = w_in.shape, x.shape[1], w_out.dtype
    alpha, rho, kappa = (math.exp(-1 / tau) for tau in (neurons.tau, neurons.tau_adaptation, neurons.tau_out))
    beta, theta = torch.from_numpy(neurons.beta).to(dtype), neurons.threshold
    gain = 1 - alpha if neurons.scaled else 1.0
    w = torch.cat([w_in, w_rec * (1 - torch.eye(n, dtype=dtype))])
    v, a, z, psi, waits, z_filtered = (torch.zeros(batch, n, dtype=dtype) for _ in range(6))
    eps_v, eps_a, filtered = (torch.zeros(batch, m + n, n, dtype=dtype) for _ in range(3))
    g, g_out = torch.zeros(m + n, n, dtype=dtype), torch.zeros_like(w_out)
    for step, wrong in zip(torch.from_numpy(x), torch.from_numpy(error), strict=True):
        before = torch.cat([step.to(dtype), z], 1)
        v = alpha * v + gain * (before @ w) - theta * z
        a = rho * a + z
        eps_a.mul_((rho - beta * psi)[:, None]).addcmul_(psi[:, None], eps_v)
        eps_v.mul_(alpha).add_(before[:, :, None], alpha=gain)
        above, free = v - theta - beta * a, waits <= 0
        z = ((above > 0) & free).to(dtype)
        psi = free * (neurons.damping / theta) * (1 - above.abs() / theta).clamp(min=0)
        waits = (waits + neurons.refractory * z - 1).clamp(min=0)
        trace = torch.addcmul(eps_v, beta, eps_a, value=-1).mul_(psi[:, None])
        filtered.mul_(kappa).add_(trace, alpha=1 - kappa)
        z_filtered.mul_(kappa).add_(z, alpha=1 - kappa)
        g.add_(((wrong @ b.T)[:, None] * filtered).sum(0))
        g_out.add_(z_filtered.T @ wrong)
    return Weights(g[:m].numpy(), self_free(g[m:]).numpy(), g_out.numpy())


def self_free(g: Tensor) -> Tensor:
    """A gradient of recurrent weights without the diagonal, which is not used."""
    return g * (1 - torch.eye(len(g), dtype=g.dtype))
