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
    """Half the sum of the squared difference from a target of the same shape.

    Raises:
        UserError: another shape, or a readout that is empty or not of floats.
    """
    if not y.size or y.dtype.kind != "f":
        raise UserError(f"squared_error: readout is {y.dtype} {y.shape}; give floats, not empty")
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
        UserError: more steps than there are, labels that do not fit, or a readout of another form.
    """
    if y.ndim != 3 or not y.size or y.dtype.kind != "f":
        raise UserError(f"cross_entropy: readout is {y.dtype} {y.shape}; give floats (time, batch, k), not empty")
    steps, batch, k = y.shape
    if not isinstance(last, int | np.integer) or not 0 < last <= steps:
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
        UserError: more steps than there are, or none; a readout of another form, or not finite.
    """
    if y.ndim != 3 or 0 in y.shape[1:]:
        raise UserError(f"decisions: readout has shape {y.shape}; give (time, batch, k), not empty")
    if not isinstance(last, int | np.integer) or not 0 < last <= len(y):
        raise UserError(f"decisions: the last {last} steps of {len(y)}; give 1 to {len(y)}")
    if not np.isfinite(y[-last:]).all():
        raise UserError("decisions: the readout is not finite; use a smaller learning rate")
    return y[-last:].mean(0).argmax(1)


def rate_regulariser(z: np.ndarray, target: float, strength: float, per_trial: bool = False) -> Loss:
    """strength * sum over neurons of (mean rate - target)^2, with its derivative with respect to each spike `(batch, n)`.

    Args:
        z: spikes `(time, batch, n)`.
        target: spikes a step.
        strength: factor.
        per_trial: the mean is that of each sample, as in NEST, and the loss their mean; otherwise it is that of the batch, as in the
            authors' code.

    Raises:
        UserError: spikes of another form or none, a target that is no rate, or a negative strength.
    """
    if z.ndim != 3 or not z.size:
        raise UserError(f"rate_regulariser: spikes have shape {z.shape}; give (time, batch, n), not empty")
    if np.ndim(target) or not 0 <= target <= 1:
        raise UserError(
            f"rate_regulariser: target is {np.shape(target) or target}; give spikes a step, a number from 0 to 1"
        )
    if np.ndim(strength) or not 0 <= strength < math.inf:
        raise UserError(
            f"rate_regulariser: strength is {np.shape(strength) or strength}; give a finite number, 0 or more"
        )
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

    Raises:
        UserError: shapes that differ, or a decay that is no share.
    """
    if not feedback.shape == weights.shape == change.shape:
        raise UserError(
            f"kolen_pollack: shapes are {feedback.shape}, {weights.shape}, {change.shape}; give the same three times"
        )
    if np.ndim(decay) or not 0 <= decay < 1:
        raise UserError(f"kolen_pollack: decay is {np.shape(decay) or decay}; give a number from 0 to below 1")
    return (1 - decay) * (feedback + change), (1 - decay) * (weights + change)


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise UserError("e-prop: the loss is not finite; use a smaller learning rate")
    return value
