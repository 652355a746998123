"""This package: the compiled kernel on events and on a dense tensor, and the plain loop in torch that is its reference."""

import warnings

import torch
from torch import Tensor

from benchmarks.model import TorchModel, largest
from benchmarks.tasks import ADAPTIVE, SPIKING, Data, Task
from snnrepro import surrogate
from snnrepro.neurons import LIF

RATE = 0.05
"""Share of hidden neurons that spike in a step, where only products are timed."""


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
        return largest(u), hidden


class Events(Ours):
    """Compiled, input as a list of events."""

    as_events = True


class Reference(Ours):
    """The plain loop under automatic differentiation."""

    engine = "reference"


class Products(TorchModel):
    """The matrix products of one step and nothing else, dense.

    Products of the whole sequence at once wherever the network allows it: the input of each layer, the gradients of the weights, and
    what the readout and a second layer send back. Within a recurrent layer there are two products a time step, one forward and one
    back. Hidden spikes are drawn at random; what is drawn does not change the time of a dense product.
    """

    def __init__(self, task: Task, data: Data, dtype: str):
        super().__init__(task, data, dtype)
        self.w = {name: torch.tensor(w, dtype=self.dtype) for name, w in data.weights.items()}
        random = torch.Generator().manual_seed(2021)
        shapes = [(task.steps, task.batch, n) for n in task.sizes[1:]]
        self.spikes = [(torch.rand(shape, generator=random) < RATE).to(self.dtype) for shape in shapes[:-1]]
        self.sent_back = [torch.randn(shape, generator=random).to(self.dtype) for shape in shapes]
        self.first(self.x.flatten(0, 1))

    def first(self, rows: Tensor) -> None:
        """Set the input as it is multiplied, and its transpose."""
        self.rows, self.columns = rows, rows.T

    @torch.no_grad()
    def infer(self) -> Tensor:
        """Products of the forward pass."""
        out = self.rows @ self.w["w1"]
        for k, spikes in enumerate(self.spikes, start=1):
            if v := self.recurrent(k):
                for s in spikes.unbind(0):
                    s @ v[0]
            out = spikes.flatten(0, 1) @ self.w[f"w{k + 1}"]
        return out

    @torch.no_grad()
    def train(self) -> Tensor:
        """Products of both passes."""
        out = self.infer()
        for k in range(len(self.spikes), 0, -1):
            spikes, g, g_next = self.spikes[k - 1].flatten(0, 1), self.sent_back[k - 1], self.sent_back[k].flatten(0, 1)
            spikes.T @ g_next
            g_next @ self.w[f"w{k + 1}"].T
            if v := self.recurrent(k):
                for one in g.unbind(0):
                    one @ v[0].T
                spikes.T @ g.flatten(0, 1)
        self.columns @ self.sent_back[0].flatten(0, 1)
        return out

    def recurrent(self, k: int) -> tuple[Tensor, ...]:
        """The recurrent weights of layer k, or nothing."""
        return (self.w[f"v{k}"],) if f"v{k}" in self.w else ()


class SparseProducts(Products):
    """The same, with the input as a compressed sparse matrix of torch, and its transpose, both made beforehand."""

    def first(self, rows: Tensor) -> None:
        """As `Products.first`."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch calls these matrices a beta feature
            self.rows, self.columns = rows.to_sparse_csr(), rows.T.contiguous().to_sparse_csr()
