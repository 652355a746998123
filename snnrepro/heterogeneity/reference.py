"""The network of the paper, step by step in plain torch, in its own form: the gain (1 - b) stands in the membrane equation."""

import torch
from torch import Tensor

from snnrepro.errors import UserError
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

    Raises:
        UserError: shapes or dtypes that do not fit, values that are not finite, or decays outside [0, 1].
    """
    if w.ndim != 2 or x.ndim != 3 or min(x.shape) < 1 or x.shape[2] != len(w):
        raise UserError(
            f"heterogeneity: input {tuple(x.shape)}, weights {tuple(w.shape)}; give (time, batch, units) and (units, n), not empty"
        )
    if x.dtype != w.dtype:
        raise UserError(f"heterogeneity: input is {x.dtype}, weights are {w.dtype}; give the same")
    if not (torch.isfinite(x).all() and torch.isfinite(w).all()):
        raise UserError("heterogeneity: the input or the weights hold NaN or infinite values; give finite ones")
    if v is not None and (v.shape != (w.shape[1], w.shape[1]) or not torch.isfinite(v).all()):
        raise UserError(
            f"heterogeneity: recurrent weights {tuple(v.shape)}; give finite ones of shape ({w.shape[1]}, {w.shape[1]})"
        )
    for decay in (a, b):
        if tuple(decay.shape) not in ((1,), (w.shape[1],)) or not ((decay >= 0) & (decay <= 1)).all():
            raise UserError(
                f"heterogeneity: decays have shape {tuple(decay.shape)}; give ({w.shape[1]},) or (1,), from 0 to 1"
            )
    if not 0 < threshold < torch.inf:
        raise UserError(f"heterogeneity: the threshold is {threshold}; give a positive number")
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
    """Potential of a readout that does not spike, `(time + 1, batch, classes)`, from hidden spikes `(time, batch, n)`.

    Raises:
        UserError: shapes that do not fit, or decays outside [0, 1].
    """
    if w.ndim != 2 or s.ndim != 3 or min(s.shape) < 1 or s.shape[2] != len(w):
        raise UserError(
            f"heterogeneity: spikes {tuple(s.shape)}, weights {tuple(w.shape)}; give (time, batch, n) and (n, classes), not empty"
        )
    for decay in (a, b):
        if tuple(decay.shape) not in ((1,), (w.shape[1],)) or not ((decay >= 0) & (decay <= 1)).all():
            raise UserError(
                f"heterogeneity: decays have shape {tuple(decay.shape)}; give ({w.shape[1]},) or (1,), from 0 to 1"
            )
    current = potential = torch.zeros(s.shape[1], w.shape[1], dtype=w.dtype)
    record = [potential]
    for step in s.unbind(0):
        potential, current = b * potential + (1 - b) * current, a * current + step @ w
        record.append(potential)
    return torch.stack(record)
