"""JAX: the same equations written by hand, `lax.scan` over time under `jit`, the product with the input taken out of the loop."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from benchmarks.model import Outputs
from benchmarks.tasks import ADAPTIVE, SPIKING, STRENGTH, WIDTH, Data, Task
from snnrepro.neurons import MULTI_GAUSSIAN

ALPHA, BETA = (float(np.exp(-SPIKING.dt / tau)) for tau in (SPIKING.tau_syn, SPIKING.tau_mem))


def spike_with(derivative: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """The step function with another derivative."""

    @jax.custom_jvp
    def spike(x: Array) -> Array:
        return (x > 0).astype(x.dtype)

    @spike.defjvp
    def jvp(primals, tangents):
        (x,), (dx,) = primals, tangents
        return spike(x), derivative(x) * dx

    return spike


def normal(x: Array, mean: float, width: float) -> Array:
    """Density of the normal distribution."""
    return jnp.exp(-0.5 * ((x - mean) / width) ** 2) / (width * (2 * np.pi) ** 0.5)


def multi_gaussian(x: Array) -> Array:
    """Surrogate derivative of the adaptive neurons."""
    height, wide = MULTI_GAUSSIAN[0], MULTI_GAUSSIAN[1] * WIDTH
    return (1 + height) * normal(x, 0.0, WIDTH) - height * (normal(x, WIDTH, wide) + normal(x, -WIDTH, wide))


fast_sigmoid = spike_with(lambda x: 1.0 / (1.0 + SPIKING.surrogate.slope * jnp.abs(x)) ** 2)
adaptive_spike = spike_with(multi_gaussian)


def lif(drive: Array, v: Array | None) -> Array:
    """Spikes `(time, batch, n)` of a layer of `SPIKING` neurons."""

    def step(carry, x):
        u, i, s = carry
        i = ALPHA * i + x if v is None else ALPHA * i + x + s @ v
        u = BETA * u + i - jax.lax.stop_gradient(s)
        s = fast_sigmoid(u - 1.0)
        return (u, i, s), s

    return jax.lax.scan(step, (jnp.zeros_like(drive[0]),) * 3, drive)[1]


def adaptive(drive: Array, v: Array, tau_mem: Array, tau_adapt: Array) -> Array:
    """Spikes `(time, batch, n)` of a layer of `ADAPTIVE` neurons."""
    beta, rho = jnp.exp(-ADAPTIVE.dt / tau_mem), jnp.exp(-ADAPTIVE.dt / tau_adapt)

    def step(carry, x):
        u, a, s = carry
        a = rho * a + (1 - rho) * s
        threshold = 1.0 + STRENGTH * a
        u = beta * u + (1 - beta) * (x + s @ v) - threshold * s
        s = adaptive_spike(u - threshold)
        return (u, a, s), s

    return jax.lax.scan(step, (jnp.zeros_like(drive[0]),) * 3, drive)[1]


def readout(drive: Array, alpha: float, beta: float, gain: float) -> Array:
    """Class scores: the largest potential of leaky integrators over time, the zero state included."""

    def step(carry, x):
        u, i = carry
        i = alpha * i + x
        u = beta * u + gain * i
        return (u, i), u

    return jax.nn.relu(jax.lax.scan(step, (jnp.zeros_like(drive[0]),) * 2, drive)[1].max(0))


def forward(weights: dict[str, Array], x: Array) -> tuple[Array, list[Array]]:
    """Class scores and spikes of the network with one hidden layer."""
    spikes = lif(x @ weights["w1"], weights.get("v1"))
    return readout(spikes @ weights["w2"], ALPHA, BETA, 1.0), [spikes]


def forward_adaptive(weights: dict[str, Array], x: Array) -> tuple[Array, list[Array]]:
    """Class scores and spikes of the network with two adaptive layers."""
    hidden = []
    for k in ("1", "2"):
        x = adaptive(x @ weights["w" + k], weights["v" + k], weights["tau_mem" + k], weights["tau_adapt" + k])
        hidden.append(x)
    beta = float(np.exp(-ADAPTIVE.dt / ADAPTIVE.tau_mem))
    return readout(x @ weights["w3"], 0.0, beta, 1.0 - beta), hidden


def cross_entropy(score: Array, label: Array) -> Array:
    """Mean over the batch."""
    return -jnp.take_along_axis(jax.nn.log_softmax(score), label[:, None], axis=1).mean()


class JaxModel:
    """A network as a function of its weights. `forward` gives class scores and the spikes of the hidden layers."""

    def __init__(self, forward: Callable, weights: dict, data: Data, dtype: str):
        jax.config.update("jax_enable_x64", dtype == "float64")
        self.x, self.label = jnp.asarray(data.x, dtype), jnp.asarray(data.label)
        self.weights = jax.tree.map(lambda w: jnp.asarray(w, dtype), weights)
        self.forward = forward

        def loss(weights, x, label):
            score, spikes = forward(weights, x)
            return cross_entropy(score, label), spikes

        self.gradient = jax.jit(jax.value_and_grad(lambda *inputs: loss(*inputs)[0]))
        self.gradient_and_spikes = jax.jit(jax.grad(loss, has_aux=True))
        self.score = jax.jit(lambda weights, x: forward(weights, x)[0])
        self.spikes = jax.jit(lambda weights, x: forward(weights, x)[1])

    def train(self) -> object:
        """Forward pass, loss and gradients."""
        return jax.block_until_ready(self.gradient(self.weights, self.x, self.label))

    def infer(self) -> object:
        """Class scores."""
        return jax.block_until_ready(self.score(self.weights, self.x))

    def outputs(self, gradients: bool) -> Outputs:
        """Spikes and gradients."""
        found = {}
        if gradients:
            found, spikes = self.gradient_and_spikes(self.weights, self.x, self.label)
        else:
            spikes = self.spikes(self.weights, self.x)
        return Outputs([np.asarray(s) > 0 for s in spikes], {k: np.asarray(g) for k, g in found.items()})


class Scan(JaxModel):
    """The hand-written loop."""

    def __init__(self, task: Task, data: Data, dtype: str):
        weights = dict(data.weights)
        if task.kind == "adaptive":
            for k, n in enumerate(task.sizes[1:-1], start=1):
                weights[f"tau_mem{k}"] = np.full(n, ADAPTIVE.tau_mem)
                weights[f"tau_adapt{k}"] = np.full(n, ADAPTIVE.adaptation.tau)
        super().__init__(forward_adaptive if task.kind == "adaptive" else forward, weights, data, dtype)
