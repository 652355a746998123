"""The network of the paper, step by step in plain torch, in its own form: the gain (1 - b) stands in the membrane equation."""

import torch
from torch import Tensor

from snnrepro.neurons import Surrogate
from snnrepro.surrogate import spike


def hidden(
    x: Tensor, w: Tensor, v: Tensor | None, a: Tensor, b: Tensor, threshold: float = 1.0, slope: float = 100.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes, potentials and synaptic currents, each `(time, batch, n)`; the first step is the silent state.

    Args:
        x: input spikes `(time, batch, units)`.
        w: input weights `(units, n)`.
        v: recurrent weights `(n, n)`, row = sender, or None.
        a: decay of the synapses, `(n,)` or `(1,)`.
        b: decay of the membranes, alike.
        threshold: of all neurons.
        slope: of the surrogate derivative.
    """
    current = potential = torch.zeros(x.shape[1], w.shape[1], dtype=w.dtype)
    record = []
    for step in x.unbind(0):
        s = spike(potential - threshold, Surrogate("fast_sigmoid", slope))
        record.append((s, potential, current))
        sent = step @ w if v is None else step @ w + s @ v
        potential = b * potential + (1 - b).detach() * current - threshold * s.detach()
        current = a * current + sent
    return tuple(torch.stack(column) for column in zip(*record, strict=True))


def readout(s: Tensor, w: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Potential of a readout that does not spike, `(time + 1, batch, classes)`, from hidden spikes `(time, batch, n)`."""
    current = potential = torch.zeros(s.shape[1], w.shape[1], dtype=w.dtype)
    record = [potential]
    for step in s.unbind(0):
        potential, current = b * potential + (1 - b) * current, a * current + step @ w
        record.append(potential)
    return torch.stack(record)
