"""sinabs: `LIF`, `LIFRecurrent` and `ALIFRecurrent`, which run over time themselves; batch first.

Its current decays in the step in which it arrives; the weights here are larger by as much. The reset is in its gradient.
"""

import numpy as np
import torch
from sinabs.activation import MembraneSubtract, MultiGaussian, SingleExponential, SingleSpike
from sinabs.layers import LIF, ALIFRecurrent, ExpLeak, LIFRecurrent
from torch import Tensor

from benchmarks.model import TorchModel, largest
from benchmarks.tasks import ADAPTIVE, SPIKING, STRENGTH, TAU_ADAPT, TAU_MEM, WIDTH, Data, Task

GRADIENT_WIDTH = 0.25


def batch_first(x: Tensor) -> Tensor:
    """Time first to batch first, or back."""
    return x.transpose(0, 1)


class Network(TorchModel):
    """Feed-forward or recurrent. Subtracts threshold / beta before the leak, which is the threshold after it."""

    factor = float(np.exp(SPIKING.dt / SPIKING.tau_syn))

    def __init__(self, task: Task, data: Data, dtype: str):
        super().__init__(task, data, dtype)
        self.x = batch_first(self.x).contiguous()
        self.first, self.last = self.linear(data, "w1"), self.cast(self.linear(data, "w2"))
        tau = {"tau_mem": SPIKING.tau_mem / SPIKING.dt, "tau_syn": SPIKING.tau_syn / SPIKING.dt, "norm_input": False}
        spiking = {
            "spike_fn": SingleSpike,
            "reset_fn": MembraneSubtract(float(np.exp(SPIKING.dt / SPIKING.tau_mem))),
            "surrogate_grad_fn": SingleExponential(grad_width=GRADIENT_WIDTH, grad_scale=GRADIENT_WIDTH),
        }
        if task.kind == "recurrent":
            self.hidden = LIFRecurrent(**tau, **spiking, rec_connect=self.cast(self.linear(data, "v1")))
        else:
            self.hidden = LIF(**tau, **spiking)
        self.readout = LIF(**tau, spike_fn=None)
        for layer in (self.hidden, self.readout):
            layer.to(self.dtype)
            for value in (layer.tau_mem, layer.tau_syn):
                value.requires_grad_(False)

    def forward(self) -> tuple[Tensor, list[Tensor]]:
        """As `TorchModel.forward`."""
        self.hidden.reset_states()
        self.readout.reset_states()
        spikes = self.hidden(self.first(self.x))
        return largest(batch_first(self.readout(self.last(spikes)))), [batch_first(spikes)]


class Adaptive(TorchModel):
    """Two layers of `ALIFRecurrent` with learned time constants, one a neuron; no gradient by the threshold of a spike."""

    def __init__(self, task: Task, data: Data, dtype: str):
        super().__init__(task, data, dtype)
        self.x = batch_first(self.x).contiguous()
        self.layers = []
        for k, n in enumerate(task.sizes[1:-1], start=1):
            hidden = ALIFRecurrent(
                tau_mem=torch.full((n,), TAU_MEM / ADAPTIVE.dt),
                tau_adapt=torch.full((n,), TAU_ADAPT / ADAPTIVE.dt),
                adapt_scale=STRENGTH,
                rec_connect=self.linear(data, f"v{k}"),
                surrogate_grad_fn=MultiGaussian(sigma=WIDTH),
            ).to(self.dtype)
            self.weights |= {f"tau_mem{k}": hidden.tau_mem, f"tau_adapt{k}": hidden.tau_adapt}
            self.layers.append((self.linear(data, f"w{k}"), hidden))
        self.last = self.linear(data, f"w{len(task.sizes) - 1}")
        self.readout = ExpLeak(tau_mem=TAU_MEM / ADAPTIVE.dt).to(self.dtype)
        self.readout.tau_mem.requires_grad_(False)

    def forward(self) -> tuple[Tensor, list[Tensor]]:
        """As `TorchModel.forward`."""
        spikes, found = self.x, []
        for linear, hidden in self.layers:
            hidden.reset_states()
            spikes = hidden(linear(spikes))
            found.append(batch_first(spikes))
        self.readout.reset_states()
        return largest(batch_first(self.readout(self.last(spikes)))), found
