"""Readout scores, losses and activity regularisers. Equation numbers are those of the chapter `neftci2019`."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


def max_over_time(u: Tensor) -> Tensor:
    """Class scores `(batch, classes)`: the largest readout potential over time, of `u` `(time, batch, classes)`."""
    return u.amax(0)


def last_step(u: Tensor) -> Tensor:
    """Class scores `(batch, classes)`: the readout potential at the last step."""
    return u[-1]


def classification_loss(score: Tensor, label: Tensor) -> Tensor:
    """Softmax cross-entropy, averaged over the batch."""
    return cross_entropy(score, label)  # Eq. (10)


def accuracy(score: Tensor, label: Tensor) -> float:
    """Fraction of the batch that is right. A tie at the top counts by its share, so that a silent readout scores at chance."""
    top = score == score.amax(1, keepdim=True)
    right = top.gather(1, label[:, None])[:, 0]
    return float((right / top.sum(1)).mean())


def spytorch_penalty(spikes: Tensor, l1: float, l2: float) -> Tensor:
    """Activity penalty of SpyTorch tutorial 3, of hidden spikes `(time, batch, neurons)`.

    l1 times all spikes of the batch, plus l2 times the mean over neurons of (spikes of that neuron in the batch) squared.
    Both grow with the batch.
    """
    return l1 * spikes.sum() + l2 * (spikes.sum((0, 1)) ** 2).mean()  # Eq. (11)


def lower_bound(spikes: Tensor, strength: float, least: float) -> Tensor:
    """Strength times the mean over neurons and trials of relu(least - spike count)^2, Zenke & Vogels (2021), section 4.2.5."""
    return strength * (torch.relu(least - spikes.sum(0)) ** 2).mean()


def upper_bound(spikes: Tensor, strength: float, most: float) -> Tensor:
    """Strength times the mean over trials of relu(mean spike count of the layer - most)^2, as in stork's `UpperBoundL2`."""
    return strength * (torch.relu(spikes.sum(0).mean(1) - most) ** 2).mean()
