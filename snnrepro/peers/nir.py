"""What snnTorch makes of a network in a NIR file."""

import contextlib
import io
from pathlib import Path

import torch
from torch import Tensor


def spikes_snntorch(path: Path, x: Tensor) -> Tensor:
    """Output spikes `(time, batch, neurons)` of the network in a file; snnTorch builds and steps it.

    Args:
        path: a NIR file.
        x: input spikes `(time, batch, units)`.
    """
    import nir
    from snntorch.import_nir import import_from_nir

    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it finds
        module = import_from_nir(nir.read(path))
    state, found = None, []
    with torch.no_grad():
        for step in x:
            spikes, state = module(step, state)
            found.append(spikes)
    return torch.stack(found)
