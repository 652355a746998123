"""Classifiers of spiking hidden layers and a leaky readout, trained by backpropagation through time."""

import itertools
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from snnrepro.errors import UserError
from snnrepro.neurons import LIF
from snnrepro.surrogate.layers import Events, lif, readout
from snnrepro.surrogate.losses import accuracy, classification_loss, max_over_time

Batch = tuple[Tensor | Events, Tensor]
Score = Callable[[Tensor], Tensor]


class Network(NamedTuple):
    """Weights of a network.

    Attributes:
        hidden: to each hidden layer from the one before, the inputs first: `(units before, units)` each.
        output: to the readout, `(units of the last hidden layer, classes)`.
        recurrent: within each hidden layer `(units, units)`, row = sender; empty without recurrence.
    """

    hidden: tuple[Tensor, ...]
    output: Tensor
    recurrent: tuple[Tensor, ...] = ()

    def weights(self) -> dict[str, Tensor]:
        """All weights by name."""
        named = {f"hidden{k}": w for k, w in enumerate(self.hidden)} | {"output": self.output}
        return named | {f"recurrent{k}": v for k, v in enumerate(self.recurrent)}


def initial_network(sizes: tuple[int, ...], scale: float, generator: torch.Generator) -> Network:
    """Gaussian weights of standard deviation scale / sqrt(fan-in); `sizes` are inputs, hidden layers, classes.

    Raises:
        UserError: sizes that are no numbers from 1, or a scale that is negative or not finite.
    """
    if len(sizes) < 2 or not all(isinstance(n, int | np.integer) and n >= 1 for n in sizes):
        raise UserError(
            f"initial_network: sizes are {sizes}; give two or more whole numbers from 1: inputs, hidden layers, classes"
        )
    if not 0 <= scale < np.inf:
        raise UserError(f"initial_network: scale is {scale}; give a finite number from 0")
    *hidden, output = (
        (torch.randn(n, m, generator=generator) * (scale / np.sqrt(n))).requires_grad_()
        for n, m in itertools.pairwise(sizes)
    )
    return Network(tuple(hidden), output)


def uniform_network(sizes: tuple[int, ...], recurrent: bool, generator: torch.Generator) -> Network:
    """Weights uniform between -1 / sqrt(fan-in) and 1 / sqrt(fan-in), Zenke & Vogels (2021), section 4.2.3.

    Raises:
        UserError: sizes that are no numbers from 1.
    """
    if len(sizes) < 2 or not all(isinstance(n, int | np.integer) and n >= 1 for n in sizes):
        raise UserError(
            f"uniform_network: sizes are {sizes}; give two or more whole numbers from 1: inputs, hidden layers, classes"
        )

    def uniform(n: int, m: int) -> Tensor:
        return ((2 * torch.rand(n, m, generator=generator) - 1) / np.sqrt(n)).requires_grad_()

    *hidden, output = (uniform(n, m) for n, m in itertools.pairwise(sizes))
    return Network(tuple(hidden), output, tuple(uniform(n, n) for n in sizes[1:-1]) if recurrent else ())


def classify(
    x: Tensor | Events, network: Network, p: LIF, last: LIF | None = None, score: Score = max_over_time
) -> tuple[Tensor, list[Tensor]]:
    """Class scores `(batch, classes)`, and the spikes `(time, batch, units)` of each hidden layer.

    Args:
        x: input spikes `(time, batch, inputs)`.
        network: weights.
        p: neurons of the hidden layers.
        last: neurons of the readout; as `p` where it is None.
        score: what is read from the readout's potential `(time + 1, batch, classes)`.

    Raises:
        UserError: as `lif`; no hidden layer, or recurrent weights for some of them only.
    """
    if isinstance(network.hidden, Tensor) or not len(network.hidden):
        raise UserError("classify: the hidden weights are no tuple or an empty one; give one matrix a hidden layer")
    if len(network.recurrent) not in (0, len(network.hidden)):
        raise UserError(
            f"classify: {len(network.recurrent)} recurrent weights for {len(network.hidden)} hidden layers; give one a layer, or none"
        )
    spikes = []
    for w, v in itertools.zip_longest(network.hidden, network.recurrent):
        spikes.append(lif(spikes[-1] if spikes else x, w, p, v, states=False).spikes)
    return score(readout(spikes[-1], network.output, last or p)), spikes


def train(
    network: Network,
    batches: Iterable[Batch],
    p: LIF,
    optimiser: torch.optim.Optimizer,
    penalty: Callable[[Tensor], Tensor] | None = None,
    last: LIF | None = None,
    score: Score = max_over_time,
) -> list[float]:
    """One update a batch, in place; returns the loss (without the penalty on the spikes of each hidden layer) before each update.

    Raises:
        UserError: as `classify`; no batches, labels that do not fit, or a penalty that is no single number.
    """
    losses = []
    for x, label in batches:
        scores, spikes = classify(x, network, p, last, score)
        loss = classification_loss(scores, label)
        losses.append(loss.item())
        if penalty is not None:
            loss = loss + sum(penalty(s) for s in spikes)
        if loss.ndim:
            raise UserError(f"train: the penalty has shape {tuple(loss.shape)}; give one number for a layer")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    if not losses:
        raise UserError("train: there are no batches")
    return losses


def evaluate(
    network: Network, batches: Iterable[Batch], p: LIF, last: LIF | None = None, score: Score = max_over_time
) -> tuple[float, float]:
    """Accuracy, and hidden spikes an input, averaged over all samples of the batches.

    Raises:
        UserError: as `classify`; no batches, or labels that do not fit.
    """
    samples = right = count = 0.0
    with torch.no_grad():
        for x, label in batches:
            scores, spikes = classify(x, network, p, last, score)
            samples += len(label)
            right += accuracy(scores, label) * len(label)
            count += sum(s.sum().item() for s in spikes)
    if not samples:
        raise UserError("evaluate: there are no batches")
    return right / samples, count / samples


def pack(network: Network, optimiser: torch.optim.Optimizer) -> dict[str, np.ndarray]:
    """Weights and optimiser state as arrays, for a checkpoint."""
    arrays = {f"weight/{name}": w.detach().numpy().copy() for name, w in network.weights().items()}
    for name, w in network.weights().items():
        arrays |= {f"state/{name}/{key}": value.numpy().copy() for key, value in optimiser.state[w].items()}
    return arrays


def unpack(arrays: dict[str, np.ndarray], network: Network, optimiser: torch.optim.Optimizer) -> None:
    """Put what `pack` gave back into a network and its optimiser, in place.

    Raises:
        UserError: weights that are missing, of another shape or another type.
    """
    for name, w in network.weights().items():
        if f"weight/{name}" not in arrays:
            raise UserError(f"unpack: the checkpoint holds no weights {name}; give one of a network like this")
        if any(a.ndim and a.shape != w.shape for key, a in arrays.items() if key.startswith(f"state/{name}/")):
            raise UserError(
                f"unpack: the state of the optimiser for {name} has not the shape {tuple(w.shape)} of the weights"
            )
        if arrays[f"weight/{name}"].shape != w.shape or arrays[f"weight/{name}"].dtype != w.detach().numpy().dtype:
            raise UserError(
                f"unpack: {name} is {arrays[f'weight/{name}'].dtype} of shape {arrays[f'weight/{name}'].shape} in the checkpoint, "
                f"{w.dtype} of shape {tuple(w.shape)} here"
            )
    for name, w in network.weights().items():
        w.data.copy_(torch.from_numpy(arrays[f"weight/{name}"]))
        prefix = f"state/{name}/"
        optimiser.state[w] = {
            key[len(prefix) :]: torch.from_numpy(a.copy()) for key, a in arrays.items() if key.startswith(prefix)
        }
