"""This package: the compiled kernel on events and on a dense tensor, and the plain loop in torch that is its reference."""

import torch
from torch import Tensor

from benchmarks.model import TorchModel
from benchmarks.tasks import ADAPTIVE, SPIKING, Data, Task
from snnrepro import surrogate
from snnrepro.neurons import LIF


class Ours(TorchModel):
    """Networks of one or more spiking layers; `p` may follow another library's neuron, for the check."""

    engine, as_events, transposed = "fast", False, False

    def __init__(self, task: Task, data: Data, dtype: str, p: LIF | None = None):
        super().__init__(task, data, dtype)
        for name, w in data.weights.items():
            self.weights[name] = torch.tensor(w, dtype=self.dtype, requires_grad=True)
        if task.kind == "adaptive":
            self.neurons = [self._adaptive(k, n) for k, n in enumerate(task.sizes[1:-1], start=1)]
        else:
            self.neurons = [p or SPIKING]
        self.readout = ADAPTIVE if task.kind == "adaptive" else p or SPIKING
        self.input = self.x
        if self.as_events:
            self.input = surrogate.events(*self.x.nonzero(as_tuple=True), tuple(self.x.shape))

    def _adaptive(self, k: int, n: int) -> LIF:
        """Neurons of layer k with time constants that learn, one a neuron."""
        start = {f"tau_mem{k}": ADAPTIVE.tau_mem, f"tau_adapt{k}": ADAPTIVE.adaptation.tau}
        tau = {name: torch.full((n,), value, dtype=self.dtype, requires_grad=True) for name, value in start.items()}
        self.weights |= tau
        adaptation = ADAPTIVE.adaptation._replace(tau=tau[f"tau_adapt{k}"])
        return ADAPTIVE._replace(tau_mem=tau[f"tau_mem{k}"], adaptation=adaptation)

    def forward(self) -> tuple[Tensor, list[Tensor]]:
        """As `TorchModel.forward`."""
        spikes, hidden = self.input, []
        for k, p in enumerate(self.neurons, start=1):
            w, v = self.weights[f"w{k}"], self.weights.get(f"v{k}")
            spikes = surrogate.lif(spikes, w, p, v, engine=self.engine, states=False).spikes
            hidden.append(spikes)
        u = surrogate.readout(spikes, self.weights[f"w{len(self.neurons) + 1}"], self.readout, engine=self.engine)
        return surrogate.max_over_time(u), hidden


class Events(Ours):
    """Compiled, input as a list of events."""

    as_events = True


class Reference(Ours):
    """The plain loop under automatic differentiation."""

    engine = "reference"


class Products(TorchModel):
    """The limit: the matrix products of the input layer and nothing else, on the whole sequence at once."""

    def __init__(self, task: Task, data: Data, dtype: str):
        super().__init__(task, data, dtype)
        self.rows = self.x.flatten(0, 1)
        self.w = torch.tensor(data.weights["w1"], dtype=self.dtype)
        self.sent = torch.ones(len(self.rows), self.w.shape[1], dtype=self.dtype)

    def train(self) -> Tensor:
        """Weighted input, and the gradient of the weights."""
        return self.rows @ self.w, self.rows.T @ self.sent

    def infer(self) -> Tensor:
        """Weighted input."""
        return self.rows @ self.w
