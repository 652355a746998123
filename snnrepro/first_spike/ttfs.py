"""Networks that are trained on first spike times, as Göltz et al. (2021) do it: loss, repair of silent neurons, one update.

Equation numbers are those of the chapter `goeltz2021`.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from snnrepro.errors import UserError
from snnrepro.first_spike.exact import Neuron, spike_times

SILENT_LABEL = 100.0
"""Loss of a sample whose label neuron is silent; a constant, so that it has no gradient."""


class Network(NamedTuple):
    """Weights of a network, from layer to layer.

    Attributes:
        weights: `(inputs + bias, neurons)` of each layer; the bias, where there is one, is the last row.
        bias_times: when the bias input of each layer spikes; None for a layer without.
    """

    weights: tuple[Tensor, ...]
    bias_times: tuple[float | None, ...]


class Initial(NamedTuple):
    """How the weights of a layer are drawn: from a normal distribution."""

    mean: float
    sd: float


class Repair(NamedTuple):
    """What is done about silent neurons.

    Attributes:
        limits: largest share of silent (sample, neuron) pairs of each layer.
        bump: what is first added to the weights of a silent neuron.
    """

    limits: tuple[float, ...]
    bump: float = 5e-4


class Bumped(NamedTuple):
    """Layer that was repaired in the last batch, or None, and what is added when it is the same one again."""

    layer: int | None = None
    bump: float = 0.0


class Loss(NamedTuple):
    """Constants of `time_cross_entropy`: scale of the softmax xi, weight alpha and scale beta of the term for early labels."""

    xi: float = 0.2
    alpha: float = 0.005
    beta: float = 1.0


UNTOUCHED, LOSS = Bumped(), Loss()


def initial_network(
    sizes: tuple[int, ...],
    initial: tuple[Initial, ...],
    bias_times: tuple[float | None, ...],
    generator: torch.Generator,
    dtype: torch.dtype = torch.float64,
) -> Network:
    """A network with `sizes` inputs, hidden layers and classes.

    Raises:
        UserError: sizes that are no numbers from 1, another number of draws or bias times than of layers, a draw or a bias time that
            makes no sense, or weights that are no floats.
    """
    if len(sizes) < 2 or not all(isinstance(n, int | np.integer) and n >= 1 for n in sizes):
        raise UserError(
            f"ttfs: sizes are {sizes}; give two or more whole numbers from 1: inputs, hidden layers, classes"
        )
    if not len(initial) == len(bias_times) == len(sizes) - 1:
        raise UserError(
            f"ttfs: {len(initial)} draws and {len(bias_times)} bias times for {len(sizes) - 1} layers; give one of each a layer"
        )
    for mean, sd in initial:
        if not math.isfinite(mean) or not 0 <= sd < math.inf:
            raise UserError(f"ttfs: weights with mean {mean} and sd {sd}; give finite numbers, sd 0 or more")
    for bias in bias_times:
        if bias is not None and not bias > -math.inf:
            raise UserError(f"ttfs: a bias spikes at {bias}; give a time, or None for a layer without")
    if dtype not in (torch.float32, torch.float64):
        raise UserError(f"ttfs: dtype is {dtype}; give float32 or float64")
    weights = []
    for inputs, neurons, draw, bias in zip(sizes[:-1], sizes[1:], initial, bias_times, strict=True):
        rows = inputs + (bias is not None)
        noise = torch.randn(rows, neurons, generator=generator, dtype=torch.float64)
        weights.append((draw.mean + draw.sd * noise).to(dtype).requires_grad_())
    return Network(tuple(weights), bias_times)


def run(network: Network, t: Tensor, p: Neuron, largest_change: float = math.inf) -> list[Tensor]:
    """Spike times `(batch, neurons)` of each layer, for input times `(batch, inputs)`.

    Raises:
        UserError: as `spike_times`; no layers, or another number of bias times than of layers.
    """
    if not len(network.bias_times) == len(network.weights) > 0:
        raise UserError(
            f"ttfs: {len(network.weights)} layers and {len(network.bias_times)} bias times; give one a layer"
        )
    if not isinstance(t, Tensor) or t.ndim != 2:
        raise UserError(f"ttfs: input times have shape {tuple(np.shape(t))}; give a tensor (batch, inputs)")
    layers = []
    for w, bias in zip(network.weights, network.bias_times, strict=True):
        given = layers[-1] if layers else t
        if bias is not None:
            given = torch.cat([given, given.new_full((len(given), 1), bias)], 1)
        layers.append(spike_times(given, w, p, largest_change=largest_change))
    return layers


def time_cross_entropy(t: Tensor, label: Tensor, p: Neuron, loss: Loss = LOSS) -> Tensor:
    """Softmax cross-entropy of the negative label times, averaged over the batch, and a term that wants the true label early.

    Args:
        t: label spike times `(batch, classes)`, infinite where silent.
        label: true classes, int64 `(batch,)`.
        p: parameters; times count in units of its `tau_syn`.
        loss: constants.

    Raises:
        UserError: times of another shape or type, labels that are no classes, times that are NaN or minus infinity, or constants that
            are not positive.
    """
    if t.ndim != 2 or min(t.shape) < 1 or not t.is_floating_point():
        raise UserError(
            f"time_cross_entropy: times are {t.dtype} of shape {tuple(t.shape)}; give floats (batch, classes)"
        )
    if not 0 < p.tau_syn < math.inf:
        raise UserError(f"time_cross_entropy: tau_syn is {p.tau_syn}; it must be positive and finite")
    if not (0 < loss.xi < math.inf and 0 < loss.beta < math.inf and 0 <= loss.alpha < math.inf):
        raise UserError(f"time_cross_entropy: {loss}; give positive and finite scales, and alpha 0 or more")
    check_labels(label, t.shape[1], len(t))
    if bool(torch.isnan(t).any()):
        raise UserError("time_cross_entropy: the spike times hold NaN")
    if bool((t == -math.inf).any()):
        raise UserError("time_cross_entropy: the spike times hold minus infinity; write infinity for a silent neuron")
    t = t / p.tau_syn
    true = t.gather(1, label.long()[:, None])[:, 0]
    spiked = torch.isfinite(true)
    if not bool(spiked.any()):
        return (0.0 * torch.where(torch.isfinite(t), t, 0.0)).sum() + SILENT_LABEL
    t, true = t[spiked], true[spiked]
    scores = torch.where(torch.isfinite(t), -t / loss.xi, -math.inf)
    each = torch.logsumexp(scores, 1) + true / loss.xi + loss.alpha * torch.exp(true / loss.beta)  # Eq. (7)
    silent = len(label) - len(true)
    return (each.sum() + SILENT_LABEL * silent) / len(label)


def check_labels(label: Tensor, classes: int, samples: int) -> None:
    """Refuse labels that do not fit.

    Raises:
        UserError: another number of labels than samples, labels that are no integers, or one that is no class.
    """
    if not isinstance(label, Tensor):
        raise UserError(f"labels are of type {type(label).__name__}; give a tensor of int64")
    if tuple(label.shape) != (samples,):
        raise UserError(f"labels have shape {tuple(label.shape)}; give one for each of {samples} samples")
    if label.dtype not in (torch.int64, torch.int32):
        raise UserError(f"labels are {label.dtype}; give int64")
    if len(label) and not 0 <= int(label.min()) <= int(label.max()) < classes:
        raise UserError(f"labels {int(label.min())} .. {int(label.max())} lie outside 0 .. {classes - 1}")


def decide(t: Tensor) -> Tensor:
    """Class of the earliest label spike `(batch,)`, the lowest of several; -1 where all are silent.

    Raises:
        UserError: times of another shape than (batch, classes), or NaN.
    """
    if t.ndim != 2 or t.shape[1] < 1:
        raise UserError(f"decide: times have shape {tuple(t.shape)}; give (batch, classes)")
    if bool(torch.isnan(t).any()):
        raise UserError("decide: the spike times hold NaN; write infinity for a silent neuron")
    return torch.where(torch.isfinite(t).any(1), t.argmin(1), -1)


@torch.no_grad()
def repair(network: Network, layers: list[Tensor], rule: Repair, before: Bumped) -> Bumped:
    """Raise the weights of silent neurons, in place, where too many are silent.

    The first layer whose share of silent (sample, neuron) pairs is above its limit is repaired: each of its neurons that was silent
    for at least one sample gets `bump` on all its weights. `bump` doubles while the same layer is repaired batch after batch.

    Returns:
        what was done; its layer is None where nothing was.

    Raises:
        UserError: limits or spike times that do not fit the layers, a limit that is no share, or a bump that is negative or not finite.
    """
    if not len(network.weights) == len(layers) == len(rule.limits):
        raise UserError(
            f"repair: {len(layers)} spike times and {len(rule.limits)} limits for {len(network.weights)} layers; give one of each a layer"
        )
    for w, t in zip(network.weights, layers, strict=True):
        if t.ndim != 2 or len(t) < 1 or t.shape[1] != w.shape[1]:
            raise UserError(
                f"repair: spike times have shape {tuple(t.shape)}; give (batch, {w.shape[1]}) to fit the layer"
            )
    if not all(0 <= limit <= 1 for limit in rule.limits) or not 0 <= rule.bump < math.inf:
        raise UserError(f"repair: {rule}; give limits from 0 to 1, and a finite bump of 0 or more")
    for k, (w, t) in enumerate(zip(network.weights, layers, strict=True)):
        silent = torch.isinf(t)
        if silent.double().mean() > rule.limits[k]:
            bump = 2 * before.bump if before.layer == k else rule.bump
            w[:, silent.any(0)] += bump  # Eq. (9)
            return Bumped(k, bump)
    return UNTOUCHED


class Epoch(NamedTuple):
    """One epoch of training: mean loss over all batches, and the share of batches that were spent on each layer's repair."""

    loss: float
    repaired: tuple[float, ...]


def train(
    network: Network,
    batches: Iterable[tuple[Tensor, Tensor]],
    p: Neuron,
    optimiser: torch.optim.Optimizer,
    rule: Repair | None,
    before: Bumped = UNTOUCHED,
    largest_change: float = math.inf,
    loss: Loss = LOSS,
) -> tuple[Epoch, Bumped]:
    """One update a batch, in place: a repair where one is due, else a step of the optimiser.

    Args:
        network: weights.
        batches: input times `(batch, inputs)` and labels.
        p: neurons.
        optimiser: of the weights.
        rule: repair of silent neurons; None: never.
        before: state of the repair.
        largest_change: see `spike_times`.
        loss: constants of the loss.

    Raises:
        UserError: no batches, a batch in which no input spikes, labels that do not fit, another number of limits than layers, or an
            optimiser of other weights.
    """
    if rule is not None and len(rule.limits) != len(network.weights):
        raise UserError(f"train: {len(rule.limits)} limits for {len(network.weights)} layers; give one a layer")
    if not {id(w) for w in network.weights} <= {id(w) for group in optimiser.param_groups for w in group["params"]}:
        raise UserError("train: the optimiser does not hold the weights of the network; make it from network.weights")
    losses, repaired = [], np.zeros(len(network.weights))
    for t, label in batches:
        if not bool(torch.isfinite(t).any()):
            raise UserError("train: no input spikes in a batch; nothing can be learned from it")
        layers = run(network, t, p, largest_change)
        value = time_cross_entropy(layers[-1], label, p, loss)
        losses.append(value.item())
        before = UNTOUCHED if rule is None else repair(network, layers, rule, before)
        if before.layer is not None:
            repaired[before.layer] += 1
            continue
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
    if not losses:
        raise UserError("train: there are no batches")
    return Epoch(float(np.mean(losses)), tuple((repaired / len(losses)).tolist())), before


@torch.no_grad()
def answers(network: Network, batches: Iterable[Tensor], p: Neuron) -> list[Tensor]:
    """Spike times `(samples, neurons)` of each layer, for batches of input times.

    Raises:
        UserError: as `run`, or no batches.
    """
    found = [run(network, t, p) for t in batches]
    if not found:
        raise UserError("answers: there are no batches")
    return [torch.cat(layer) for layer in zip(*found, strict=True)]
