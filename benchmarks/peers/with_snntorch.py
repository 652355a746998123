"""snnTorch: a loop over time steps as in its tutorials, one `Linear` and one neuron a layer and step."""

import numpy as np
import snntorch
import torch
from snntorch import surrogate
from torch import Tensor

from benchmarks.model import TorchModel, largest
from benchmarks.tasks import SPIKING, Data, Task

ALPHA, BETA = (float(np.exp(-SPIKING.dt / tau)) for tau in (SPIKING.tau_syn, SPIKING.tau_mem))


class Network(TorchModel):
    """`Synaptic`, or `RSynaptic` where recurrent. Its equations are ours for reset `subtract` and current `new`."""

    def __init__(self, task: Task, data: Data, dtype: str):
        super().__init__(task, data, dtype)
        decay = {"alpha": torch.tensor(ALPHA, dtype=self.dtype), "beta": torch.tensor(BETA, dtype=self.dtype)}
        gradient = surrogate.fast_sigmoid(slope=SPIKING.surrogate.slope)
        self.recurrent = task.kind == "recurrent"
        self.first, self.last = self.linear(data, "w1"), self.cast(self.linear(data, "w2"))
        if self.recurrent:
            self.hidden = snntorch.RSynaptic(**decay, linear_features=task.sizes[1], spike_grad=gradient)
            self.hidden.recurrent = self.cast(self.linear(data, "v1"))
        else:
            self.hidden = snntorch.Synaptic(**decay, spike_grad=gradient)
        self.readout = snntorch.Synaptic(**decay, reset_mechanism="none")
        self.zeros = [torch.zeros(task.batch, n, dtype=self.dtype) for n in task.sizes[1:]]

    def forward(self) -> tuple[Tensor, list[Tensor]]:
        """As `TorchModel.forward`."""
        zero, zero_out = self.zeros
        state = (zero, zero, zero) if self.recurrent else (zero, zero)
        syn, mem = zero_out, zero_out
        spikes, potentials = [], []
        for step in range(self.task.steps):
            out = self.hidden(self.first(self.x[step]), *state)
            state = out if self.recurrent else out[1:]
            _, syn, mem = self.readout(self.last(out[0]), syn, mem)
            spikes.append(out[0])
            potentials.append(mem)
        return largest(torch.stack(potentials)), [torch.stack(spikes)]
