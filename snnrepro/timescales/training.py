"""Losses, and training by backpropagation through time, whole or truncated."""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, softmax

from snnrepro.errors import UserError
from snnrepro.timescales.networks import Cell, Network, detached, run, unroll

Batch = tuple[Tensor, Tensor]
UNLABELLED = -1


def step_loss(u: Tensor, label: Tensor, skip: int = 0) -> Tensor:
    """Cross-entropy of every labelled step from `skip` on, averaged over them.

    Args:
        u: potential of the readout `(time, batch, classes)`.
        label: class of each step `(time, batch)`, -1 where there is none.
        skip: steps at the start that do not count.

    Raises:
        UserError: shapes that do not fit, labels that are no integers or no class, or no labelled step.
    """
    if u.ndim != 3 or label.shape != u.shape[:2] or not label.numel():
        raise UserError(
            f"step_loss: potential {tuple(u.shape)}, labels {tuple(label.shape)}; give (time, batch, classes) and (time, batch)"
        )
    if label.dtype != torch.int64:
        raise UserError(f"step_loss: labels are {label.dtype}; give int64")
    if not 0 <= skip < len(u):
        raise UserError(f"step_loss: skip is {skip}; give 0 to {len(u) - 1} steps")
    if (label[skip:] == UNLABELLED).all():
        raise UserError("step_loss: no step has a label; give one or more, or skip fewer steps")
    if int(label.max()) >= u.shape[2] or int(label.min()) < UNLABELLED:
        raise UserError(
            f"step_loss: labels from {int(label.min())} to {int(label.max())}, classes 0 to {u.shape[2] - 1}"
        )
    return cross_entropy(u[skip:].flatten(0, 1), label[skip:].flatten(), ignore_index=UNLABELLED)  # Eq. (7)


def summed_softmax(u: Tensor, skip: int = 0) -> Tensor:
    """Scores `(batch, classes)`: the softmax of the readout summed over time, from `skip` on.

    The authors give these to a cross-entropy, that is, to a second softmax.

    Raises:
        UserError: a potential that is not `(time, batch, classes)`, or nothing left to sum.
    """
    if u.ndim != 3 or not 0 <= skip < len(u):
        raise UserError(
            f"summed_softmax: potential {tuple(u.shape)}, skip {skip}; give (time, batch, classes) and fewer steps than that"
        )
    return softmax(u[skip:], 2).sum(0)  # Eq. (8)


def optimiser(network: Network, rate: float, hidden_factor: float, last_factor: float) -> torch.optim.Optimizer:
    """Adam, with a learning rate for the weights and larger ones for the time constants, where these learn.

    Raises:
        UserError: rates that make no sense, or weights that do not learn.
    """
    if not 0 < rate < torch.inf or not 0 <= hidden_factor < torch.inf or not 0 <= last_factor < torch.inf:
        raise UserError(
            f"optimiser: rate {rate}, factors {hidden_factor} and {last_factor}; give a positive rate and factors of 0 or more"
        )
    if not all(w.requires_grad for w in network.weights()):
        raise UserError("optimiser: weights do not require a gradient; call require_gradients first")
    groups = [{"params": network.weights(), "lr": rate}]
    if network.last.requires_grad:
        groups.append({"params": network.hidden_constants(), "lr": rate * hidden_factor})
        groups.append({"params": [network.last], "lr": rate * last_factor})
    return torch.optim.Adam(groups)


def train_epoch(
    batches: Iterable[Batch],
    network: Network,
    cell: Cell,
    adam: torch.optim.Optimizer,
    loss: Callable[[Tensor, Tensor], Tensor],
    clip: float | None = None,
) -> float:
    """One update a batch, in place; mean loss before the updates.

    Args:
        batches: inputs `(time, batch, units)` and labels.
        network: trained in place.
        cell: what the neurons share.
        adam: from `optimiser`.
        loss: of the readout's potential and the labels.
        clip: largest norm of a gradient; None: any.

    Raises:
        UserError: no batches, a norm that is not positive, or as `run` and the loss.
    """
    if clip is not None and not clip > 0:
        raise UserError(f"train_epoch: clip is {clip}; give a positive norm, or None")
    losses = []
    for x, label in batches:
        value = loss(run(x, network, cell).u, label)
        adam.zero_grad()
        value.backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_([p for group in adam.param_groups for p in group["params"]], clip)
        adam.step()
        losses.append(value.item())
    if not losses:
        raise UserError("train_epoch: there are no batches; give one or more")
    return sum(losses) / len(losses)


def truncated(
    x: Tensor, label: Tensor, network: Network, cell: Cell, window: int, loss: Callable[[Tensor, Tensor], Tensor]
) -> Iterator[Tensor]:
    """Truncated backpropagation through time: the loss of one window of steps after another.

    The state goes on from window to window and the gradient ends at its start. Take a backward pass, and an update if you like, for each
    loss before you ask for the next.

    Args:
        x: input `(time, batch, units)`.
        label: passed to `loss`: rows of the window where it has the length of `x`, else whole.
        network: weights and time constants.
        cell: what the neurons share.
        window: steps of a window; the last may be shorter.
        loss: of the readout's potential and the labels.

    Raises:
        UserError: a window of no steps, no input, or labels of another length.
    """
    if window < 1:
        raise UserError(f"truncated: a window of {window} steps; give 1 or more")
    if not len(x):
        raise UserError("truncated: the input has no steps; give one or more")
    if label.ndim == 2 and len(label) != len(x):
        raise UserError(f"truncated: labels for {len(label)} steps, input of {len(x)}; give as many")
    state, stepwise = None, label.ndim == 2
    for first in range(0, len(x), window):
        here = slice(first, first + window)
        result, state = unroll(x[here], network, cell, state)
        yield loss(result.u, label[here] if stepwise else label)
        state = detached(state)
