"""A layer on a chip in snnTorch: thresholds and time constants neuron by neuron, with no factor in the weights."""

import numpy as np
import torch
from torch import Tensor


def chip_snntorch(x: Tensor, net, chip, trial_seed: int) -> Tensor:
    """Spikes `(time, batch, neurons)` of the first layer of a network in time steps, without recurrence.

    The chip's levels, deviations and noise are taken as data; weights, thresholds, time constants and the loop are snnTorch's. Resets
    subtract the realised threshold.

    Args:
        x: input spikes `(time, batch, units)`.
        net: `snnrepro.hardware.networks.Stepped`; gain `leak`, current `new`, reset `subtract`.
        chip: `snnrepro.hardware.substrate.Chip` of a substrate with spread in all quantities, a weight grid and threshold noise.
        trial_seed: as in `Deployment.run`.
    """
    import snntorch

    w, p, n = net.weights.hidden[0].detach(), net.p, net.weights.hidden[0].shape[1]
    sd = {pattern.quantity: pattern.sd for pattern in chip.substrate.neurons}
    factor = {q: np.maximum(1 + sd[q] * chip.deviations[q][:n], 0.1) for q in sd}
    noise = chip.substrate.noise.threshold * np.random.default_rng([trial_seed, 101]).standard_normal(n)
    step = float(w.abs().max()) / chip.substrate.weights.highest
    held = step * torch.round(w / step)
    beta = torch.from_numpy(np.exp(-p.dt / (p.tau_mem * factor["tau_mem"])))
    cell = snntorch.Synaptic(
        alpha=torch.from_numpy(np.exp(-p.dt / (p.tau_syn * factor["tau_syn"]))),
        beta=beta,
        threshold=torch.from_numpy(p.threshold * (factor["threshold"] + noise)),
        reset_mechanism="subtract",
    )
    gained = held * torch.from_numpy(factor["gain"]) * (1 - beta)
    current, potential = (torch.zeros(x.shape[1], n, dtype=w.dtype) for _ in range(2))
    spikes = []
    for row in x.unbind(0):
        s, current, potential = cell(row @ gained, current, potential)
        spikes.append(s)
    return torch.stack(spikes).detach()
