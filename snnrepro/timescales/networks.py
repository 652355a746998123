"""The adaptive spiking recurrent network of Yin, Corradi & Bohte (2020, 2021), with one pair of time constants a neuron that is trained.

Time is counted in steps. Equation numbers are those of the chapter `yin2020`. `run` uses the compiled engine of `snnrepro.surrogate`;
`unroll` is the same network written out step by step, the readable reference, which can also start from a given state.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from snnrepro.errors import UserError
from snnrepro.neurons import LIF, Adaptation, Surrogate
from snnrepro.surrogate import lif, readout, spike

MULTI_GAUSSIAN = Surrogate("multi_gaussian", slope=2.0, scale=0.5)
GAUSSIAN = Surrogate("gaussian", slope=2.0, scale=0.5)
LINEAR = Surrogate("piecewise_linear", slope=1.0, scale=0.5)
EXPONENTIAL = Surrogate("exponential", slope=5.0, scale=0.5)
"""The authors' surrogates: standard deviation 0.5 where they have one, all halved (their gamma)."""


class Cell(NamedTuple):
    """What all neurons of a network share.

    Attributes:
        threshold: b_0, the threshold of a neuron that has not spiked.
        strength: beta, how much the adaptation raises the threshold; 0: it does not adapt.
        surrogate: stands in for the derivative of a spike.
        positive: time constants are 1 + softplus(raw), so that no update can make them zero or negative. False: the raw numbers
            themselves, as in the authors' code.
    """

    threshold: float = 0.1
    strength: float = 0.0
    surrogate: Surrogate = MULTI_GAUSSIAN
    positive: bool = True


class Layer(NamedTuple):
    """Weights and raw time constants of a layer.

    Attributes:
        w: from the inputs and a constant 1 (the bias, last row), `(inputs + 1, neurons)`.
        v: recurrent `(neurons, neurons)`, row = sender; None without recurrence.
        mem: raw time constants of the membranes `(neurons,)`.
        adp: raw time constants of the adaptation `(neurons,)`.
    """

    w: Tensor
    v: Tensor | None
    mem: Tensor
    adp: Tensor


class Network(NamedTuple):
    """Spiking layers and a leaky readout.

    Attributes:
        layers: from the input on.
        out: to the readout, with the bias in the last row, `(neurons + 1, classes)`.
        last: raw time constants of the readout `(classes,)`.
    """

    layers: tuple[Layer, ...]
    out: Tensor
    last: Tensor

    def weights(self) -> list[Tensor]:
        """Weights and biases."""
        return [w for layer in self.layers for w in (layer.w, layer.v) if w is not None] + [self.out]

    def hidden_constants(self) -> list[Tensor]:
        """Raw time constants of the spiking layers."""
        return [tau for layer in self.layers for tau in (layer.mem, layer.adp)]


def time_constant(raw: Tensor, positive: bool) -> Tensor:
    """Time constants in steps, from the numbers that are trained."""
    return 1.0 + softplus(raw) if positive else raw


def raw_constant(tau: Tensor, positive: bool) -> Tensor:
    """Inverse of `time_constant`.

    Raises:
        UserError: a time constant that it cannot give.
    """
    if not (tau > (1 if positive else 0)).all():
        raise UserError(f"time constants must be above {1 if positive else 0} steps, found {float(tau.min()):g}")
    return tau - 1.0 + torch.log(-torch.expm1(1.0 - tau)) if positive else tau.clone()


def network(
    sizes: tuple[int, ...],
    tau: tuple[float, float, float],
    generator: torch.Generator,
    *,
    recurrent: bool = True,
    positive: bool = True,
    spread: tuple[float, float, float] = (0.0, 0.0, 0.0),
    dtype: torch.dtype = torch.float32,
) -> Network:
    """A network before training: Xavier-uniform weights, orthogonal recurrent weights, biases 0.

    Args:
        sizes: inputs, hidden layers, classes.
        tau: means of the time constants of membranes, adaptation and readout, in steps.
        generator: where the randomness comes from.
        recurrent: whether the hidden layers are.
        positive: as in `Cell`.
        spread: standard deviations of the time constants, of a normal distribution that is cut to 1.5 steps and more.
        dtype: of all tensors.
    """
    *hidden, classes = sizes[1:]

    def dense(n: int, m: int) -> Tensor:
        w = torch.zeros(n + 1, m, dtype=dtype)
        torch.nn.init.xavier_uniform_(w[:n], generator=generator)
        return w

    def constants(n: int, k: int) -> Tensor:
        drawn = tau[k] + spread[k] * torch.randn(n, generator=generator, dtype=dtype)
        return raw_constant(drawn.clamp(min=1.5), positive)

    layers = []
    for n, m in zip(sizes, hidden, strict=False):
        w = dense(n, m)
        v = torch.nn.init.orthogonal_(torch.empty(m, m, dtype=dtype), generator=generator) if recurrent else None
        layers.append(Layer(w, v, constants(m, 0), constants(m, 1)))
    return Network(tuple(layers), dense(hidden[-1], classes), constants(classes, 2))


def require_gradients(network: Network, constants: bool) -> None:
    """Say what is to be trained: the weights always, the time constants where asked for."""
    for w in network.weights():
        w.requires_grad_()
    for raw in [*network.hidden_constants(), network.last]:
        raw.requires_grad_(constants)


def neuron(layer: Layer, cell: Cell) -> LIF:
    """The layer's neurons as the engine knows them."""
    adaptation = None
    if cell.strength:
        adaptation = Adaptation(time_constant(layer.adp, cell.positive), cell.strength, "leak")
    return LIF(
        tau_mem=time_constant(layer.mem, cell.positive),
        tau_syn=None,
        dt=1.0,
        threshold=cell.threshold,
        reset="subtract_adapted" if adaptation else "subtract",
        reset_gradient=True,
        current="new",
        gain="leak",
        surrogate=cell.surrogate,
        adaptation=adaptation,
    )


def with_bias(x: Tensor) -> Tensor:
    """The input with a constant 1 behind it, `(..., units + 1)`."""
    return torch.cat([x, x.new_ones(*x.shape[:-1], 1)], -1)


class Run(NamedTuple):
    """What a network does.

    Attributes:
        u: potential of the readout after each step `(time, batch, classes)`.
        spikes: of each hidden layer, `(time, batch, neurons)`.
    """

    u: Tensor
    spikes: list[Tensor]


def run(x: Tensor, network: Network, cell: Cell, engine: Literal["auto", "reference", "fast", "graph"] = "auto") -> Run:
    """Run a network from the zero state.

    Args:
        x: input `(time, batch, units)`.
        network: weights and time constants.
        cell: what the neurons share.
        engine: see `snnrepro.surrogate.lif`.
    """
    spikes = []
    for layer in network.layers:
        given = with_bias(spikes[-1] if spikes else x)
        spikes.append(lif(given, layer.w, neuron(layer, cell), layer.v, engine=engine, states=False).spikes)
    last = LIF(tau_mem=time_constant(network.last, cell.positive), tau_syn=None, dt=1.0, current="new", gain="leak")
    u = readout(spikes[-1], network.out[:-1], last, engine=engine)[1:]
    kappa = torch.exp(-1.0 / time_constant(network.last, cell.positive))
    steps = torch.arange(1, len(x) + 1, dtype=u.dtype)[:, None, None]
    return Run(u + network.out[-1] * (1.0 - kappa**steps), spikes)  # a constant current into Eq. (6)


# Step by step ---------------------------------------------------------------------------------------------------------------


class State(NamedTuple):
    """Spikes, potential and adaptation trace of each hidden layer, `(batch, neurons)`, and the readout's potential."""

    s: list[Tensor]
    u: list[Tensor]
    eta: list[Tensor]
    v: Tensor


def zero_state(network: Network, batch: int) -> State:
    """A silent network."""
    rest = [network.out.new_zeros(batch, layer.w.shape[1]) for layer in network.layers]
    return State(rest, rest, rest, network.out.new_zeros(batch, network.out.shape[1]))


def detached(state: State) -> State:
    """The same state, at which a gradient ends."""
    return State(*([part.detach() for part in parts] for parts in state[:3]), state.v.detach())


def step(x: Tensor, before: State, network: Network, cell: Cell) -> State:
    """One step of the network, in the notation of the chapter.

    Args:
        x: input of this step `(batch, units)`.
        before: state before it.
        network: weights and time constants.
        cell: what the neurons share.
    """
    after = State([], [], [], before.v)
    for layer, s, u, eta in zip(network.layers, *before[:3], strict=True):
        alpha = torch.exp(-1.0 / time_constant(layer.mem, cell.positive))
        rho = torch.exp(-1.0 / time_constant(layer.adp, cell.positive))
        current = with_bias(x) @ layer.w  # Eq. (1)
        if layer.v is not None:
            current = current + s @ layer.v
        eta = rho * eta + (1.0 - rho) * s  # Eq. (2)
        theta = cell.threshold + cell.strength * eta  # Eq. (3)
        u = alpha * u + (1.0 - alpha) * current - theta * s  # Eq. (4)
        x = spike(u - theta, cell.surrogate)  # Eq. (5)
        for part, new in zip(after[:3], (x, u, eta), strict=True):
            part.append(new)
    kappa = torch.exp(-1.0 / time_constant(network.last, cell.positive))
    return after._replace(v=kappa * before.v + (1.0 - kappa) * (with_bias(x) @ network.out))  # Eq. (6)


def unroll(x: Tensor, network: Network, cell: Cell, state: State | None = None) -> tuple[Run, State]:
    """Run a network step by step, from a state or from the zero state; what it does, and the state after it."""
    state = zero_state(network, x.shape[1]) if state is None else state
    seen = []
    for now in x.unbind(0):
        state = step(now, state, network, cell)
        seen.append(state)
    spikes = [torch.stack([one.s[k] for one in seen]) for k in range(len(network.layers))]
    return Run(torch.stack([one.v for one in seen]), spikes), state
