"""Three-factor rules: what takes the place of the output weights in the learning signal, and losses that are local to a layer."""

from typing import Literal, NamedTuple

import numpy as np

from snnrepro.errors import UserError
from snnrepro.rtrl import gradients, networks
from snnrepro.rtrl.networks import Activity, Model, Weights

FEEDBACK = ("symmetric", "random", "uniform")


def feedback(
    kind: Literal["symmetric", "random", "uniform"], output: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """Feedback weights B `(n, k)`.

    Args:
        kind: `symmetric`, the output weights; `random`, drawn anew with their standard deviation; `uniform`, the same to all neurons
            from all outputs, so that a neuron hears the sum of all errors.
        output: output weights `(n, k)`.
        random: all that is random.

    Raises:
        UserError: an unknown kind, or output weights of another form.
    """
    if kind not in FEEDBACK:
        raise UserError(f"feedback: kind is {kind!r}; choose one of {', '.join(FEEDBACK)}")
    if output.ndim != 2 or not output.size or output.dtype.kind != "f" or not np.isfinite(output).all():
        raise UserError(
            f"feedback: output weights are {output.dtype} {output.shape}; give finite floats (n, k), not empty"
        )
    if kind == "symmetric":
        return output
    if kind == "random":
        return output.std() * random.standard_normal(output.shape)
    return np.full_like(output, output.std())


class Local(NamedTuple):
    """What a stack of layers with local losses gives: activity, gradient and loss of each layer.

    The gradient of each fixed readout is in `output`, and is not used.
    """

    activity: list[Activity]
    gradients: list[Weights]
    losses: list[float]


def local_losses(model: Model, layers: list[Weights], x: np.ndarray, label: np.ndarray) -> Local:
    """A stack of layers, each with a fixed readout and a loss of its own, as in DECOLLE; no gradient passes between layers.

    Args:
        model: neurons and readouts, the same for all layers.
        layers: weights of each layer; `output` is its fixed random readout.
        x: input `(time, batch, m)`.
        label: class of each sample `(batch,)`.

    Raises:
        UserError: parts that do not fit, or no layer.
    """
    if not layers:
        raise UserError("local_losses: there are no layers; give one or more")
    found = Local([], [], [])
    for weights in layers:
        activity = networks.run(model, weights, x)
        loss = networks.cross_entropy(activity.y, label)
        found.activity.append(activity)
        found.gradients.append(gradients.local(model, weights, activity, loss.error))  # Eq. (12)
        found.losses.append(loss.value)
        x = activity.s
    return found
