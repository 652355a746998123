"""Weighted sums of input spikes, one event at a time, so that sparse input costs what it spikes."""

import numpy as np
import torch
from numba import njit
from torch import Tensor


@njit(cache=True, error_model="numpy")
def _gather(cells, units, w, out):
    """out[cell] += w[unit] for every event; out (cells, n), w (units, n)."""
    for k in range(cells.size):
        for n in range(w.shape[1]):
            out[cells[k], n] += w[units[k], n]


class _Project(torch.autograd.Function):
    """Sum of the weight rows of each cell's events; linear, so the backward pass is the same sum with roles exchanged."""

    @staticmethod
    def forward(ctx, w: Tensor, cells: Tensor, units: Tensor, size: int) -> Tensor:
        ctx.indices = cells.numpy(), units.numpy()
        ctx.inputs = len(w)
        weights = w.detach().contiguous().numpy()
        out = np.zeros((size, weights.shape[1]), weights.dtype)
        _gather(*ctx.indices, weights, out)
        return torch.from_numpy(out)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None, None]:
        g = grad.contiguous().numpy()
        out = np.zeros((ctx.inputs, g.shape[1]), g.dtype)
        cells, units = ctx.indices
        _gather(units, cells, g, out)
        return torch.from_numpy(out), None, None, None


def project(w: Tensor, cells: Tensor, units: Tensor, size: int) -> Tensor:
    """Rows `(size, n)`: row c is the sum of w[unit] over the events of cell c. w `(units, n)`; cells and units int64 `(events,)`."""
    return _Project.apply(w, cells, units, size)
