"""Losses with their derivatives, feedback weights, and the regulariser of the firing rate. Equation numbers: chapter `bellec2020`."""

import math
from typing import NamedTuple

import numpy as np

from snnrepro.errors import UserError


class Loss(NamedTuple):
    """A loss, and its derivative with respect to the readout `(time, batch, k)`."""

    value: float
    error: np.ndarray


def squared_error(y: np.ndarray, target: np.ndarray) -> Loss:
    """Half the sum of the squared difference from a target of the same shape."""
    if y.shape != target.shape:
        raise UserError(f"squared_error: readout {y.shape}, target {target.shape}; give the same shape")
    error = y - target
    return Loss(_finite(0.5 * float((error.astype(float) ** 2).sum())), error)


def cross_entropy(y: np.ndarray, label: np.ndarray, last: int) -> Loss:
    """Cross-entropy of the softmax of the readout, mean over samples and the last steps.

    Args:
        y: readout `(time, batch, k)`.
        label: classes `(batch,)`.
        last: how many steps count.

    Raises:
        UserError: more steps than there are, or labels that do not fit.
    """
    steps, batch, k = y.shape
    if not 0 < last <= steps:
        raise UserError(f"cross_entropy: the last {last} steps of {steps}; give 1 to {steps}")
    if label.shape != (batch,) or label.dtype.kind not in "iu" or not ((label >= 0) & (label < k)).all():
        raise UserError(f"cross_entropy: labels have shape {label.shape}; give {batch} whole numbers below {k}")
    late = y[steps - last :] - y[steps - last :].max(2, keepdims=True)
    share = np.exp(late)
    whole = share.sum(2, keepdims=True)
    value = (np.log(whole[..., 0]) - late[:, np.arange(batch), label]).mean()
    share /= whole
    error = np.zeros_like(y)
    share[:, np.arange(batch), label] -= 1
    error[steps - last :] = share / (last * batch)
    return Loss(_finite(float(value)), error)


def decisions(y: np.ndarray, last: int) -> np.ndarray:
    """Class with the largest mean readout over the last steps `(batch,)`.

    Raises:
        UserError: more steps than there are, or none.
    """
    if not 0 < last <= len(y):
        raise UserError(f"decisions: the last {last} steps of {len(y)}; give 1 to {len(y)}")
    return y[-last:].mean(0).argmax(1)


def rate_regulariser(z: np.ndarray, target: float, strength: float, per_trial: bool = False) -> Loss:
    """strength * sum over neurons of (mean rate - target)^2, with its derivative with respect to each spike `(batch, n)`.

    Args:
        z: spikes `(time, batch, n)`.
        target: spikes a step.
        strength: factor.
        per_trial: the mean is that of each sample, as in NEST, and the loss their mean; otherwise it is that of the batch, as in the
            authors' code.
    """
    steps, batch, _ = z.shape
    rate = z.mean(0, dtype=float)
    if not per_trial:
        rate = np.broadcast_to(rate.mean(0), rate.shape)
    value = strength * float(((rate - target) ** 2).sum(1).mean())
    return Loss(_finite(value), 2 * strength * (rate - target) / (steps * batch))  # Eq. (11)


def kolen_pollack(
    feedback: np.ndarray, weights: np.ndarray, change: np.ndarray, decay: float
) -> tuple[np.ndarray, np.ndarray]:
    """Adaptive feedback: output weights and feedback get the same change, and both decay, so that they grow alike.

    Args:
        feedback: B, `(n, k)`.
        weights: output weights `(n, k)`.
        change: of the output weights.
        decay: share of both that is lost in each update.

    Returns:
        the new feedback and the new output weights.
    """
    return (1 - decay) * (feedback + change), (1 - decay) * (weights + change)


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise UserError("e-prop: the loss is not finite; use a smaller learning rate")
    return value
