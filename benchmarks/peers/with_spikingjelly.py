"""SpikingJelly: `CUBALIFNode`, multi-step where there is no recurrence, step by step where there is.

Its neuron clears the potential to 0. SoftSign of slope k is k / 2 times our fast sigmoid of slope k.
"""

import numpy as np
import torch
from spikingjelly.activation_based import functional, neuron, surrogate
from torch import Tensor, nn

from benchmarks.model import TorchModel, largest
from benchmarks.tasks import SPIKING, Data, Task

ALPHA, BETA = (float(np.exp(-SPIKING.dt / tau)) for tau in (SPIKING.tau_syn, SPIKING.tau_mem))


class Network(TorchModel):
    """Feed-forward or recurrent. The readout is the same neuron with a threshold that it never reaches."""

    def __init__(self, task: Task, data: Data, dtype: str):
        super().__init__(task, data, dtype)
        self.first, self.last = self.linear(data, "w1"), self.linear(data, "w2")
        self.back = self.linear(data, "v1") if task.kind == "recurrent" else None
        gradient = surrogate.SoftSign(alpha=SPIKING.surrogate.slope)
        self.hidden = neuron.CUBALIFNode(ALPHA, BETA, v_threshold=1.0, v_reset=0.0, surrogate_function=gradient)
        self.readout = neuron.CUBALIFNode(ALPHA, BETA, v_threshold=1e9, v_reset=None, surrogate_function=gradient)
        self.hidden.detach_reset = self.readout.detach_reset = True
        self.readout.store_v_seq = True
        self.net = nn.ModuleList([self.hidden, self.readout])
        functional.set_step_mode(self.net, "m")
        if self.back is not None:
            self.hidden.step_mode = "s"

    def forward(self) -> tuple[Tensor, list[Tensor]]:
        """As `TorchModel.forward`."""
        functional.reset_net(self.net)
        drive = self.first(self.x)
        spikes = self.hidden(drive) if self.back is None else self._recurrent(drive)
        self.readout(self.last(spikes))
        return largest(self.readout.v_seq), [spikes]

    def _recurrent(self, drive: Tensor) -> Tensor:
        spike, spikes = torch.zeros_like(drive[0]), []
        for x in drive.unbind(0):
            spike = self.hidden(x + self.back(spike))
            spikes.append(spike)
        return torch.stack(spikes)
