"""norse: layers that run over time themselves, `LIF`, `LIFRecurrent`, `LSNNRecurrent` and the leaky integrator `LI`.

Its current-based neuron clears the potential to 0 and weighs the current by dt / tau_mem; the weights here are larger by as much. Its
SuperSpike derivative is 1 / (1 + |x|)^2 whatever slope it is given (version 1.1.0).
"""

import numpy as np
import torch
from norse.torch import LI, LIF, LIFParameters, LIFRecurrent, LIParameters, LSNNParameters, LSNNRecurrent
from torch import Tensor

from benchmarks.model import TorchModel, largest
from benchmarks.tasks import ADAPTIVE, SPIKING, STRENGTH, TAU_ADAPT, TAU_MEM, Data, Task


def rate(dt: float, tau: float) -> Tensor:
    """The 1 / tau whose Euler step decays by exp(-dt / tau)."""
    return torch.tensor(-np.expm1(-dt / tau) / dt, dtype=torch.float64)


class Network(TorchModel):
    """Feed-forward or recurrent."""

    factor = float(-1 / np.expm1(-SPIKING.dt / SPIKING.tau_mem))

    def __init__(self, task: Task, data: Data, dtype: str):
        super().__init__(task, data, dtype)
        decay = {"tau_syn_inv": rate(SPIKING.dt, SPIKING.tau_syn), "tau_mem_inv": rate(SPIKING.dt, SPIKING.tau_mem)}
        p = LIFParameters(**decay)
        first, self.last = self.linear(data, "w1"), self.linear(data, "w2")
        if task.kind == "recurrent":
            v = self.linear(data, "v1").weight
            sizes = task.sizes[:2]
            self.hidden = LIFRecurrent(*sizes, p, input_weights=first.weight, recurrent_weights=v, autapses=True)
        else:
            self.hidden = torch.nn.Sequential(first, LIF(p))
        self.readout = LI(LIParameters(**decay))

    def forward(self) -> tuple[Tensor, list[Tensor]]:
        """As `TorchModel.forward`."""
        out = self.hidden(self.x)
        spikes = out[0]
        return largest(self.readout(self.last(spikes))[0]), [spikes]


class Adaptive(TorchModel):
    """Two layers of `LSNNRecurrent`: reset and adaptation outside the gradient, fixed time constants."""

    def __init__(self, task: Task, data: Data, dtype: str):
        super().__init__(task, data, dtype)
        p = LSNNParameters(
            tau_syn_inv=torch.tensor(1 / ADAPTIVE.dt),
            tau_mem_inv=rate(ADAPTIVE.dt, TAU_MEM),
            tau_adapt_inv=rate(ADAPTIVE.dt, TAU_ADAPT),
            beta=torch.tensor(STRENGTH * -np.expm1(-ADAPTIVE.dt / TAU_ADAPT)),
        )
        self.hidden = []
        for k, (n, m) in enumerate(zip(task.sizes[:-2], task.sizes[1:-1], strict=True), start=1):
            w, v = (self.linear(data, f"{letter}{k}").weight for letter in "wv")
            self.hidden.append(LSNNRecurrent(n, m, p, input_weights=w, recurrent_weights=v, autapses=True))
        self.last = self.linear(data, f"w{len(task.sizes) - 1}")
        self.readout = LI(LIParameters(torch.tensor(1 / ADAPTIVE.dt), rate(ADAPTIVE.dt, TAU_MEM)))

    def forward(self) -> tuple[Tensor, list[Tensor]]:
        """As `TorchModel.forward`."""
        spikes, hidden = self.x, []
        for layer in self.hidden:
            spikes, _ = layer(spikes)
            hidden.append(spikes)
        return largest(self.readout(self.last(spikes))[0]), hidden
