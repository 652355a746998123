"""Classifiers with one spiking hidden layer, trained by backpropagation through time (the network of the SpyTorch tutorials)."""

import itertools
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from snnrepro.neurons import LIF
from snnrepro.surrogate.layers import Events, Trace, lif, readout
from snnrepro.surrogate.losses import accuracy, classification_loss, max_over_time

Batch = tuple[Tensor | Events, Tensor]


class Network(NamedTuple):
    """Weights of a network: inputs to hidden `(inputs, hidden)`, hidden to readout `(hidden, classes)`."""

    hidden: Tensor
    output: Tensor


def initial_network(sizes: tuple[int, int, int], scale: float, generator: torch.Generator) -> Network:
    """Gaussian weights of standard deviation scale / sqrt(fan-in)."""
    return Network(
        *(
            (torch.randn(n, m, generator=generator) * (scale / np.sqrt(n))).requires_grad_()
            for n, m in itertools.pairwise(sizes)
        )
    )


def classify(x: Tensor | Events, network: Network, p: LIF) -> tuple[Tensor, Trace]:
    """Class scores `(batch, classes)`, the largest readout potential over time, and the hidden layer's trace."""
    hidden = lif(x, network.hidden, p)
    return max_over_time(readout(hidden.spikes, network.output, p)), hidden


def train(
    network: Network,
    batches: Iterable[Batch],
    p: LIF,
    optimiser: torch.optim.Optimizer,
    penalty: Callable[[Tensor], Tensor] | None = None,
) -> list[float]:
    """One update a batch, in place; returns the loss (without the penalty on hidden spikes) before each update."""
    losses = []
    for x, label in batches:
        score, hidden = classify(x, network, p)
        loss = classification_loss(score, label)
        losses.append(loss.item())
        if penalty is not None:
            loss = loss + penalty(hidden.spikes)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return losses


def evaluate(network: Network, batches: Iterable[Batch], p: LIF) -> tuple[float, float]:
    """Accuracy, and hidden spikes an input, averaged over all samples of the batches."""
    samples = right = spikes = 0.0
    with torch.no_grad():
        for x, label in batches:
            score, hidden = classify(x, network, p)
            samples += len(label)
            right += accuracy(score, label) * len(label)
            spikes += hidden.spikes.sum().item()
    return right / samples, spikes / samples


def pack(network: Network, optimiser: torch.optim.Optimizer) -> dict[str, np.ndarray]:
    """Weights and optimiser state as arrays, for a checkpoint."""
    arrays = {f"weight/{name}": w.detach().numpy().copy() for name, w in network._asdict().items()}
    for name, w in network._asdict().items():
        arrays |= {f"state/{name}/{key}": value.numpy().copy() for key, value in optimiser.state[w].items()}
    return arrays


def unpack(arrays: dict[str, np.ndarray], network: Network, optimiser: torch.optim.Optimizer) -> None:
    """Put what `pack` gave back into a network and its optimiser, in place."""
    for name, w in network._asdict().items():
        w.data.copy_(torch.from_numpy(arrays[f"weight/{name}"]))
        prefix = f"state/{name}/"
        optimiser.state[w] = {
            key[len(prefix) :]: torch.from_numpy(a.copy()) for key, a in arrays.items() if key.startswith(prefix)
        }
