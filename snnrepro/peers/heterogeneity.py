"""The recurrent layer of Perez-Nieves et al. (2021) in snnTorch."""

import torch
from torch import Tensor


def hidden_snntorch(
    x: Tensor, w: Tensor, v: Tensor, alpha: Tensor, beta: Tensor, slope: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes `(time, batch, n)` of `snntorch.Synaptic` with recurrent weights, and its decays of synapse and membrane, which learn.

    snnTorch has no gain: w and v are those of the paper times (1 - beta), without gradient. It integrates the current that already holds
    this step's input. What arrives, also from the layer itself, is therefore given two steps later.

    Args:
        x: input spikes `(time, batch, units)`.
        w: input weights `(units, n)`.
        v: recurrent weights `(n, n)`, row = sender.
        alpha: decay of the synapses, `(n,)`.
        beta: decay of the membranes, alike.
        slope: of the surrogate derivative.
    """
    import snntorch
    from snntorch import surrogate

    cell = snntorch.Synaptic(
        alpha=alpha.detach().clone(),
        beta=beta.detach().clone(),
        learn_alpha=True,
        learn_beta=True,
        threshold=1.0,
        spike_grad=surrogate.fast_sigmoid(slope=slope),
        reset_mechanism="subtract",
    ).to(w)
    gain = 1 - beta.detach()
    current, potential = (torch.zeros(x.shape[1], w.shape[1]).to(w) for _ in range(2))
    silence = torch.zeros(x.shape[1], w.shape[1]).to(w)
    spikes = [silence, silence]
    for t in range(len(x)):
        arrived = silence if t < 2 else x[t - 2] @ (w * gain) + spikes[t] @ (v * gain)
        s, current, potential = cell(arrived, current, potential)
        spikes.append(s.to(w))
    return torch.stack(spikes[2:]), cell.alpha, cell.beta
