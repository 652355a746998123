"""Spyx: `CuBaLIF` and `RCuBaLIF` between `Linear` layers, run by `spyx.nn.run` under `jit`; the readout is its `LI`.

It shows the spikes of the state before the step, leaks what the reset left, and has the reset in its gradient. Its readout has no
synaptic filter.
"""

import numpy as np
from flax import nnx
from spyx import axn, nn

from benchmarks.peers.with_jax import ALPHA, BETA, JaxModel
from benchmarks.tasks import SPIKING, Data, Task


class Network(JaxModel):
    """Feed-forward or recurrent."""

    def __init__(self, task: Task, data: Data, dtype: str):
        inputs, hidden, classes = task.sizes
        rngs = nnx.Rngs(0)
        neuron = nn.RCuBaLIF if task.kind == "recurrent" else nn.CuBaLIF
        gradient = axn.superspike(SPIKING.surrogate.slope)
        parts = {
            "first": nnx.Linear(inputs, hidden, use_bias=False, rngs=rngs),
            "hidden": neuron((hidden,), ALPHA, BETA, activation=gradient, rngs=rngs),
            "last": nnx.Linear(hidden, classes, use_bias=False, rngs=rngs),
            "readout": nn.LI((classes,), BETA, rngs=rngs),
        }
        parts["first"].kernel[...] = data.weights["w1"].astype(np.float32)
        parts["last"].kernel[...] = data.weights["w2"].astype(np.float32)
        if task.kind == "recurrent":
            parts["hidden"].recurrent_w[...] = data.weights["v1"].astype(np.float32)
        split = {name: nnx.split(part) for name, part in parts.items()}
        graphs = {name: graph for name, (graph, _) in split.items()}

        def forward(states, x):
            net = {name: nnx.merge(graphs[name], states[name]) for name in graphs}
            spikes, _ = nn.run(net["hidden"], net["first"](x))
            u, _ = nn.run(net["readout"], net["last"](spikes))
            return u.max(0), [spikes]

        super().__init__(forward, {name: state for name, (_, state) in split.items()}, data, dtype)
