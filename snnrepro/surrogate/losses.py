"""Readout scores, losses and activity regularisers. Equation numbers are those of the chapter `neftci2019`."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from snnrepro.errors import UserError


def max_over_time(u: Tensor) -> Tensor:
    """Class scores `(batch, classes)`: the largest readout potential over time, of `u` `(time, batch, classes)`.

    Raises:
        UserError: potentials of another shape, or none.
    """
    if u.ndim != 3 or min(u.shape) < 1:
        raise UserError(
            f"max_over_time: potentials have shape {tuple(u.shape)}; give (time, batch, classes), none of them empty"
        )
    return u.amax(0)


def last_step(u: Tensor) -> Tensor:
    """Class scores `(batch, classes)`: the readout potential at the last step, of `u` `(time, batch, classes)`.

    Raises:
        UserError: potentials of another shape, or none.
    """
    if u.ndim != 3 or min(u.shape) < 1:
        raise UserError(
            f"last_step: potentials have shape {tuple(u.shape)}; give (time, batch, classes), none of them empty"
        )
    return u[-1]


def classification_loss(score: Tensor, label: Tensor) -> Tensor:
    """Softmax cross-entropy, averaged over the batch.

    Args:
        score: class scores `(batch, classes)`.
        label: true classes `(batch,)`, int64.

    Raises:
        UserError: scores of another shape, or labels that do not fit.
    """
    if score.ndim != 2 or min(score.shape) < 1:
        raise UserError(
            f"classification_loss: scores have shape {tuple(score.shape)}; give (batch, classes), neither of them empty"
        )
    if not isinstance(label, Tensor) or label.dtype not in (torch.int64, torch.uint8):
        raise UserError(
            f"classification_loss: labels are of type {getattr(label, 'dtype', type(label))}; give a tensor of int64"
        )
    if label.shape != score.shape[:1]:
        raise UserError(
            f"classification_loss: labels have shape {tuple(label.shape)}; give ({len(score)},), one a sample"
        )
    if not 0 <= int(label.min()) <= int(label.max()) < score.shape[1]:
        raise UserError(
            f"classification_loss: labels {int(label.min())} .. {int(label.max())} lie outside 0 .. {score.shape[1] - 1}"
        )
    return cross_entropy(score, label)  # Eq. (10)


def accuracy(score: Tensor, label: Tensor) -> float:
    """Fraction of the batch that is right. A tie at the top counts by its share, so that a silent readout scores at chance.

    Raises:
        UserError: scores of another shape than (batch, classes), or labels that do not fit.
    """
    if score.ndim != 2 or min(score.shape) < 1:
        raise UserError(
            f"accuracy: scores have shape {tuple(score.shape)}; give (batch, classes), neither of them empty"
        )
    if not isinstance(label, Tensor) or label.dtype not in (torch.int64, torch.int32):
        raise UserError(f"accuracy: labels are of type {getattr(label, 'dtype', type(label))}; give a tensor of int64")
    if label.shape != score.shape[:1]:
        raise UserError(f"accuracy: labels have shape {tuple(label.shape)}; give ({len(score)},), one a sample")
    if not 0 <= int(label.min()) <= int(label.max()) < score.shape[1]:
        raise UserError(
            f"accuracy: labels {int(label.min())} .. {int(label.max())} lie outside 0 .. {score.shape[1] - 1}"
        )
    top = score == score.amax(1, keepdim=True)
    right = top.gather(1, label[:, None])[:, 0]
    return float((right / top.sum(1)).mean())


def spytorch_penalty(spikes: Tensor, l1: float, l2: float) -> Tensor:
    """Activity penalty of SpyTorch tutorial 3, of hidden spikes `(time, batch, neurons)`.

    l1 times all spikes of the batch, plus l2 times the mean over neurons of (spikes of that neuron in the batch) squared.
    Both grow with the batch.

    Raises:
        UserError: spikes of another shape or type, or a strength that is negative or not finite.
    """
    if spikes.ndim != 3 or min(spikes.shape) < 1 or not spikes.is_floating_point():
        raise UserError(
            f"spytorch_penalty: spikes are {spikes.dtype} of shape {tuple(spikes.shape)}; give floats (time, batch, neurons)"
        )
    if not (0 <= l1 < torch.inf and 0 <= l2 < torch.inf):
        raise UserError(f"spytorch_penalty: l1 is {l1}, l2 {l2}; give finite numbers from 0")
    return l1 * spikes.sum() + l2 * (spikes.sum((0, 1)) ** 2).mean()  # Eq. (11)


def lower_bound(spikes: Tensor, strength: float, least: float) -> Tensor:
    """Strength times the mean over neurons and trials of relu(least - spike count)^2, Zenke & Vogels (2021), section 4.2.5.

    Raises:
        UserError: spikes of another shape or type, or a strength or bound that is negative or not finite.
    """
    if spikes.ndim != 3 or min(spikes.shape) < 1 or not spikes.is_floating_point():
        raise UserError(
            f"lower_bound: spikes are {spikes.dtype} of shape {tuple(spikes.shape)}; give floats (time, batch, neurons)"
        )
    if not (0 <= strength < torch.inf and 0 <= least < torch.inf):
        raise UserError(f"lower_bound: strength is {strength}, least {least}; give finite numbers from 0")
    return strength * (torch.relu(least - spikes.sum(0)) ** 2).mean()


def upper_bound(spikes: Tensor, strength: float, most: float) -> Tensor:
    """Strength times the mean over trials of relu(mean spike count of the layer - most)^2, as in stork's `UpperBoundL2`.

    Raises:
        UserError: spikes of another shape or type, a strength that is negative or not finite, or a bound that is negative.
    """
    if spikes.ndim != 3 or min(spikes.shape) < 1 or not spikes.is_floating_point():
        raise UserError(
            f"upper_bound: spikes are {spikes.dtype} of shape {tuple(spikes.shape)}; give floats (time, batch, neurons)"
        )
    if not (0 <= strength < torch.inf and most >= 0):
        raise UserError(f"upper_bound: strength is {strength}, most {most}; give numbers from 0")
    return strength * (torch.relu(spikes.sum(0).mean(1) - most) ** 2).mean()
