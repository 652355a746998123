"""What is computed: the networks, their sizes and their data, the same for every library."""

from typing import NamedTuple

import numpy as np

from snnrepro.neurons import LIF, Adaptation, Surrogate

SPIKING = LIF(tau_mem=10e-3, tau_syn=5e-3, reset="subtract", current="new", surrogate=Surrogate("fast_sigmoid", 25.0))
"""Neurons of the first two networks. The readout has the same time constants and neither spikes nor resets."""

TAU_MEM, TAU_ADAPT, STRENGTH, WIDTH = 20e-3, 150e-3, 1.8, 0.5
"""Adaptive neurons, initial values: time constants in seconds, strength of the adaptation, width of the surrogate."""

ADAPTIVE = LIF(
    tau_mem=TAU_MEM,
    tau_syn=None,
    reset="subtract_adapted",
    reset_gradient=True,
    current="new",
    gain="leak",
    surrogate=Surrogate("multi_gaussian", 1.0 / WIDTH),
    adaptation=Adaptation(TAU_ADAPT, STRENGTH, "leak"),
)
"""Adaptive neurons of Yin, Corradi & Bohte (2021); the time constants are learned, one a neuron."""


class Task(NamedTuple):
    """One network and its input.

    Attributes:
        kind: `feedforward` or `recurrent` (one hidden layer of `SPIKING` neurons and a leaky readout), or `adaptive` (two recurrent
            layers of `ADAPTIVE` neurons and a leaky readout; the input is analogue).
        sizes: inputs, hidden neurons of each layer, classes.
        steps: time steps.
        batch: samples.
        density: share of ones in the input; 1.0 for analogue input.
    """

    kind: str
    sizes: tuple[int, ...] = (700, 256, 20)
    steps: int = 100
    batch: int = 128
    density: float = 0.05


FEEDFORWARD, RECURRENT = Task("feedforward"), Task("recurrent")
DEEP = Task("adaptive", (1, 256, 256, 10), steps=784, batch=64, density=1.0)


class Data(NamedTuple):
    """Input and weights of a task.

    Attributes:
        x: input `(time, batch, units)`.
        label: class of each sample, int64 `(batch,)`.
        weights: `w1`, `w2`, .. `(from, to)` from layer to layer, the last one to the readout; `v1`, `v2`, .. `(n, n)` within hidden
            layers that are recurrent. float64.
    """

    x: np.ndarray
    label: np.ndarray
    weights: dict[str, np.ndarray]


def make(task: Task) -> Data:
    """The data of a task, always the same. Weights are scaled so that hidden neurons spike in about one step of twenty."""
    random = np.random.default_rng(2021)
    inputs = task.sizes[0]
    shape = (task.steps, task.batch, inputs)
    if task.kind == "adaptive":
        x, scales = random.random(shape, np.float32), (8.0, 40.0, 1.0)
    else:
        x = (random.random(shape, np.float32) < task.density).astype(np.float32)
        scales = (0.6 * (0.05 / task.density) ** 0.5, 0.6)
    weights = {}
    for k, (n, m) in enumerate(zip(task.sizes, task.sizes[1:], strict=False), start=1):
        weights[f"w{k}"] = random.normal(size=(n, m)) * scales[k - 1] / n**0.5
        if k < len(task.sizes) - 1 and task.kind != "feedforward":
            weights[f"v{k}"] = random.normal(size=(m, m)) * 0.1 / m**0.5
    return Data(x, random.integers(task.sizes[-1], size=task.batch), weights)
