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
    if not tau.is_floating_point() or not (tau < torch.inf).all():
        raise UserError(
            f"time constants are {tau.dtype} up to {float(tau.max()):g}; give finite floating-point numbers"
        )
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

    Raises:
        UserError: a layer without units, no hidden layer, or time constants that are too short, not finite or not three.
    """
    if len(sizes) < 3 or min(sizes) < 1:
        raise UserError(f"timescales: sizes are {sizes}; give inputs, one hidden layer or more, and classes")
    if len(tau) != 3 or not all(1.5 <= value < torch.inf for value in tau):
        raise UserError(f"timescales: time constants are {tau}; give three of 1.5 or more, counted in steps")
    if len(spread) != 3 or not all(0 <= value < torch.inf for value in spread):
        raise UserError(f"timescales: spread is {spread}; give three standard deviations of 0 or more, in steps")
    if not dtype.is_floating_point:
        raise UserError(f"timescales: dtype is {dtype}; give a floating-point one")
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
    """The layer's neurons as the engine knows them.

    Raises:
        UserError: an adaptation that is not finite.
    """
    if not abs(cell.strength) < torch.inf:
        raise UserError(f"timescales: strength is {cell.strength}; give a finite number")
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

    Raises:
        UserError: shapes or dtypes that do not fit, or as `snnrepro.surrogate.lif`.
    """
    if not network.layers:
        raise UserError("timescales: the network has no hidden layer; give one or more")
    if x.ndim != 3 or min(x.shape) < 1 or x.shape[2] != len(network.layers[0].w) - 1:
        raise UserError(
            f"timescales: input has shape {tuple(x.shape)}; give (time, batch, {len(network.layers[0].w) - 1}), none of them empty"
        )
    for w in network.weights():
        if x.dtype != w.dtype:
            raise UserError(f"timescales: input is {x.dtype}, weights are {w.dtype}; give the same")
    if not torch.isfinite(network.out).all():
        raise UserError("timescales: the weights of the readout hold NaN or infinite values; give finite ones")
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
    """A silent network.

    Raises:
        UserError: an empty batch.
    """
    if batch < 1:
        raise UserError(f"timescales: a batch of {batch}; give 1 or more")
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

    Raises:
        UserError: an input or a state that does not fit.
    """
    if not 0 < len(network.layers) == len(before.s):
        raise UserError(f"timescales: {len(network.layers)} hidden layers and a state of {len(before.s)}; give as many")
    if x.ndim != 2 or x.shape != (len(before.v), len(network.layers[0].w) - 1):
        raise UserError(
            f"timescales: input of a step has shape {tuple(x.shape)}; give ({len(before.v)}, {len(network.layers[0].w) - 1})"
        )
    if x.dtype != network.out.dtype:
        raise UserError(f"timescales: input is {x.dtype}, weights are {network.out.dtype}; give the same")
    for layer, s, u, eta in zip(network.layers, *before[:3], strict=True):
        if not s.shape == u.shape == eta.shape == (len(x), layer.w.shape[1]):
            raise UserError(
                f"timescales: a state has shapes {tuple(s.shape)}, {tuple(u.shape)}, {tuple(eta.shape)}; "
                f"give ({len(x)}, {layer.w.shape[1]}) three times"
            )
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
    """Run a network step by step, from a state or from the zero state; what it does, and the state after it.

    Raises:
        UserError: shapes or dtypes that do not fit, values that are not finite, or parameters that make no sense.
    """
    if not network.layers:
        raise UserError("timescales: the network has no hidden layer; give one or more")
    if x.ndim != 3 or min(x.shape) < 1 or x.shape[2] != len(network.layers[0].w) - 1:
        raise UserError(
            f"timescales: input has shape {tuple(x.shape)}; give (time, batch, {len(network.layers[0].w) - 1}), none of them empty"
        )
    for w in network.weights():
        if x.dtype != w.dtype:
            raise UserError(f"timescales: input is {x.dtype}, weights are {w.dtype}; give the same")
        if not torch.isfinite(w).all():
            raise UserError("timescales: the weights hold NaN or infinite values; give finite ones")
    if not torch.isfinite(x).all():
        raise UserError("timescales: the input holds NaN or infinite values; give finite ones")
    if not 0 < cell.threshold < torch.inf or not abs(cell.strength) < torch.inf:
        raise UserError(
            f"timescales: threshold {cell.threshold}, strength {cell.strength}; give a positive threshold, and finite numbers"
        )
    for layer in network.layers:
        if layer.v is not None and layer.v.shape != (layer.w.shape[1], layer.w.shape[1]):
            raise UserError(
                f"timescales: recurrent weights have shape {tuple(layer.v.shape)}; give ({layer.w.shape[1]}, {layer.w.shape[1]})"
            )
        if not {tuple(layer.mem.shape), tuple(layer.adp.shape)} <= {(1,), (layer.w.shape[1],)}:
            raise UserError(
                f"timescales: time constants of a layer have shapes {tuple(layer.mem.shape)}, {tuple(layer.adp.shape)}; "
                f"give ({layer.w.shape[1]},)"
            )
    if network.out.shape != (network.layers[-1].w.shape[1] + 1, len(network.last)):
        raise UserError(
            f"timescales: weights of the readout have shape {tuple(network.out.shape)}; "
            f"give ({network.layers[-1].w.shape[1] + 1}, {len(network.last)})"
        )
    for raw in (*network.hidden_constants(), network.last):
        if not (time_constant(raw, cell.positive) > 0).all():
            raise UserError(
                "timescales: a time constant is not positive; keep the raw ones above 0, or set positive=True"
            )
    state = zero_state(network, x.shape[1]) if state is None else state
    seen = []
    for now in x.unbind(0):
        state = step(now, state, network, cell)
        seen.append(state)
    spikes = [torch.stack([one.s[k] for one in seen]) for k in range(len(network.layers))]
    return Run(torch.stack([one.v for one in seen]), spikes), state
