"""Non-leaky neurons that spike once, in snnTorch."""

import numpy as np
import torch


def spike_times_snntorch(
    times: np.ndarray, weights: list[np.ndarray], thresholds: tuple[float, ...], end: int
) -> list[np.ndarray]:
    """Spike times of each layer `(samples, neurons)`, `end` where silent; a spike is passed on one step later.

    `snntorch.Leaky` with a decay of 1 and no reset; what counts is its first spike.

    Args:
        times: spike times of the inputs, integers `(samples, inputs)`; those at or after `end` never come.
        weights: of each layer `(from, to)`.
        thresholds: of each layer.
        end: number of time steps.
    """
    import snntorch

    layers = []
    for w, threshold in zip(weights, thresholds, strict=True):
        cell = snntorch.Leaky(beta=1.0, threshold=threshold, reset_mechanism="none")
        samples, units = np.nonzero(times < end)
        x = torch.zeros(end, len(times), times.shape[1], dtype=torch.float64)
        x[times[samples, units], samples, units] = 1.0
        potential = torch.zeros(len(times), w.shape[1], dtype=torch.float64)
        first = np.full((len(times), w.shape[1]), end)
        with torch.no_grad():
            for step in range(end):
                spikes, potential = cell(x[step] @ torch.from_numpy(w), potential)
                now = (spikes.numpy() > 0) & (first == end)
                first[now] = min(step + 1, end)
        layers.append(first)
        times = first
    return layers
