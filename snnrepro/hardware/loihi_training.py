"""Quantisation-aware training for Loihi, in the manner of lava-dl's SLAYER: the forward pass computes the chip's integers, the backward
pass takes them for real numbers.

Weights count in 64ths (1 is an integer weight of 64), states in 4096ths, both in float64, which holds these integers exactly. Rounding, of
weights to even integers, of decays to 4096ths, of decayed states towards zero, passes its gradient as if it were not there; a spike
passes that of a surrogate. `deploy` writes the registers, and `snnrepro.hardware.loihi.run_network` then computes the same numbers, which
`differences` counts. Arrays are `(time, batch, units)`.
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from snnrepro.errors import UserError
from snnrepro.hardware import loihi
from snnrepro.hardware.loihi import DECAY_UNITY, RANGES
from snnrepro.kernels.loihi import ALIGN_BITS, LIMIT
from snnrepro.neurons import Surrogate
from snnrepro.surrogate.derivatives import spike
from snnrepro.surrogate.losses import classification_loss

WEIGHT_UNITY = 64
STATE_UNITY = WEIGHT_UNITY << ALIGN_BITS


class Cells(NamedTuple):
    """A layer in training, float64.

    Attributes:
        w: weights `(inputs, neurons)`; 1 is an integer weight of 64.
        current_decay: share of the current that is lost in a step, 0 .. 1, one number or one a neuron.
        voltage_decay: the same of the voltage.
        threshold: in units of the weights, or None: the highest that the chip has, for a readout that stays below it.
        v: recurrent weights `(neurons, neurons)`, row = sender, or None.
    """

    w: Tensor
    current_decay: Tensor
    voltage_decay: Tensor
    threshold: float | None = 1.0
    v: Tensor | None = None

    def leaves(self) -> list[Tensor]:
        """What learns."""
        return [
            t for t in (self.w, self.current_decay, self.voltage_decay, self.v) if t is not None and t.requires_grad
        ]


class States(NamedTuple):
    """Spikes, activation, current and voltage `(time, batch, neurons)` as in `loihi.Trace`, float64 with gradient."""

    s: Tensor
    a: Tensor
    u: Tensor
    v: Tensor


class Training(NamedTuple):
    """How a network is trained.

    Attributes:
        sizes: inputs, hidden layers, classes.
        bits: of a weight, 1 .. 8; 0: real numbers throughout, the same network without any rounding.
        threshold: of the hidden layers, in units of the weights.
        current_decay: of all neurons at the start.
        voltage_decay: of all neurons at the start.
        learn_decays: whether they learn.
        scale: standard deviation of the first weights times the root of the fan-in.
        shift: their mean times the fan-in.
        surrogate: of a spike, as a function of (voltage - threshold) in units of the weights.
        epochs: how often all samples are shown.
        batch: samples of an update.
        rate: of Adam.
        slower: factor of the rate after each epoch.
    """

    sizes: tuple[int, ...]
    bits: int = 8
    threshold: float = 2.0
    current_decay: float = 0.25
    voltage_decay: float = 0.1
    learn_decays: bool = True
    scale: float = 2.0
    shift: float = 1.0
    surrogate: Surrogate = Surrogate("exponential", 1.0)
    epochs: int = 20
    batch: int = 100
    rate: float = 1e-2
    slower: float = 0.9


# The layer --------------------------------------------------------------------------------------------------------------------


class _Through(torch.autograd.Function):
    """A step function forward, nothing backward."""

    @staticmethod
    def forward(ctx, x: Tensor, step: Callable[[Tensor], Tensor]) -> Tensor:
        return step(x)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


def weights_on_grid(w: Tensor, bits: int) -> Tensor:
    """Integer weights for real ones: the nearest of the multiples of 2^(9 - bits) from -256 to 256 less one of them. bits 0: not rounded.

    At 8 bits, the even integers from -256 to 254.
    """
    if bits == 0:
        return WEIGHT_UNITY * w
    step = 2 ** (9 - bits)
    return _Through.apply(WEIGHT_UNITY / step * w, torch.round).clamp(-256 // step, 256 // step - 1) * step


def _kept(decay: Tensor, lowest: int, bits: int) -> Tensor:
    """4096 less the decay in 4096ths, which lies between `lowest` and lowest + 4095."""
    scaled = DECAY_UNITY * decay if bits == 0 else _Through.apply(DECAY_UNITY * decay, torch.round)
    return DECAY_UNITY - scaled.clamp(lowest, lowest + 4095)


def _threshold(cells: Cells) -> int:
    """The register vth, cut to a whole number as SLAYER does it."""
    return RANGES["vth"][1] if cells.threshold is None else int(WEIGHT_UNITY * cells.threshold)


def layer(x: Tensor, cells: Cells, bits: int, surrogate: Surrogate) -> States:
    """Run a layer from the zero state, with the delay of one step that every synapse takes.

    Args:
        x: spikes `(time, batch, inputs)`, float64.
        cells: weights, decays and threshold.
        bits: of a weight, or 0 for real numbers without rounding.
        surrogate: of a spike.
    """
    arriving = x @ weights_on_grid(cells.w, bits)
    back = None if cells.v is None else weights_on_grid(cells.v, bits)
    keep_u, keep_v = _kept(cells.current_decay, 1, bits), _kept(cells.voltage_decay, 0, bits)
    threshold = _threshold(cells) << ALIGN_BITS

    def decayed(state: Tensor, keep: Tensor) -> Tensor:
        left = state * keep / DECAY_UNITY
        return left if bits == 0 else _Through.apply(left, torch.trunc)

    a = u = v = s = torch.zeros_like(arriving[0])
    trace = []
    for t in range(len(x)):
        if t > 0:
            a = arriving[t - 1] if back is None else arriving[t - 1] + s @ back
        u = decayed(u, keep_u) + (1 << ALIGN_BITS) * a
        u = torch.where(u > LIMIT, u - 2 * LIMIT, torch.where(u <= -LIMIT, u + 2 * LIMIT, u))
        v = (decayed(v, keep_v) + u).clamp(1 - LIMIT, LIMIT - 1)
        s = spike((v - threshold) / STATE_UNITY, surrogate)
        v = v * (1 - s.detach())
        trace.append((s, a, u, v))
    return States(*(torch.stack(column) for column in zip(*trace, strict=True)))


def forward(x: Tensor, network: list[Cells], bits: int, surrogate: Surrogate) -> list[States]:
    """Run the layers of a network one after another."""
    states = []
    for cells in network:
        states.append(layer(states[-1].s if states else x, cells, bits, surrogate))
    return states


# Training ---------------------------------------------------------------------------------------------------------------------


def initial_network(p: Training, generator: torch.Generator) -> list[Cells]:
    """Normal weights, and the decays of the settings; the last layer is the readout.

    Raises:
        UserError: fewer than two sizes, or settings out of range.
    """
    if len(p.sizes) < 2 or min(p.sizes) < 1:
        raise UserError(f"loihi training: sizes are {p.sizes}; give inputs, hidden layers and classes, each 1 or more")
    if not 0 <= p.bits <= 8:
        raise UserError(f"loihi training: bits is {p.bits}; give 1 .. 8, or 0 for real numbers")
    network = []
    for k, (n, m) in enumerate(itertools.pairwise(p.sizes)):
        w = p.shift / n + p.scale / n**0.5 * torch.randn(n, m, generator=generator, dtype=torch.float64)
        decays = (torch.full((m,), d, dtype=torch.float64) for d in (p.current_decay, p.voltage_decay))
        last = k == len(p.sizes) - 2
        network.append(
            Cells(
                w.requires_grad_(), *(d.requires_grad_(p.learn_decays) for d in decays), None if last else p.threshold
            )
        )
    return network


def scores(voltage: Tensor | np.ndarray) -> Tensor | np.ndarray:
    """Class scores `(batch, classes)`: the readout's voltage, summed over time."""
    return voltage.sum(0)


def train_quantised(
    x: Tensor,
    label: Tensor,
    p: Training,
    generator: torch.Generator,
    start: list[Cells] | None = None,
    progress: Callable[[int, int, float], None] | None = None,
) -> list[Cells]:
    """Train a network by backpropagation through time, with the chip's integers in the forward pass (bits 0: without).

    Args:
        x: spikes of all samples `(time, samples, inputs)`, float64.
        label: their classes, int64 `(samples,)`.
        p: settings.
        generator: draws the first weights and the order of the samples.
        start: a trained network to go on from; it is copied. None: `initial_network`.
        progress: told epochs done, of how many, and the mean loss.

    Raises:
        UserError: settings or shapes that do not fit, or weights that are no longer finite.
    """
    if x.ndim != 3 or x.shape[2] != p.sizes[0] or x.shape[1] != len(label):
        raise UserError(
            f"loihi training: input {tuple(x.shape)} and {len(label)} labels; give (time, samples, {p.sizes[0]}) and one a sample"
        )
    if not len(label) or not 0 <= int(label.min()) <= int(label.max()) < p.sizes[-1]:
        raise UserError(f"loihi training: labels must lie in 0 .. {p.sizes[-1] - 1}, one for each sample")
    network = initial_network(p, generator) if start is None else [_copied(cells, p.learn_decays) for cells in start]
    leaves = [leaf for cells in network for leaf in cells.leaves()]
    optimiser = torch.optim.Adam(leaves, lr=p.rate)
    for epoch in range(p.epochs):
        total = 0.0
        for chosen in torch.randperm(len(label), generator=generator).split(p.batch):
            voltage = forward(x[:, chosen], network, p.bits, p.surrogate)[-1].v
            loss = classification_loss(scores(voltage) / (len(x) * STATE_UNITY), label[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.item() * len(chosen)
        for group in optimiser.param_groups:
            group["lr"] *= p.slower
        if not (np.isfinite(total) and all(bool(torch.isfinite(leaf).all()) for leaf in leaves)):
            raise UserError(
                "loihi training: the loss or a weight is no longer finite; check the input, or lower the learning rate"
            )
        if progress is not None:
            progress(epoch + 1, p.epochs, total / len(label))
    return [_fixed(cells) for cells in network]


def _copied(cells: Cells, learn_decays: bool) -> Cells:
    """A copy that learns."""

    def leaf(t: Tensor | None, learns: bool) -> Tensor | None:
        return None if t is None else t.detach().clone().requires_grad_(learns)

    decays = (leaf(d, learn_decays) for d in (cells.current_decay, cells.voltage_decay))
    return Cells(leaf(cells.w, True), *decays, cells.threshold, leaf(cells.v, True))


def _fixed(cells: Cells) -> Cells:
    return Cells(*(t.detach() if isinstance(t, Tensor) else t for t in cells))


def accuracy(x: Tensor, label: Tensor, network: list[Cells], p: Training) -> float:
    """Share of samples that the forward pass of training classifies rightly."""
    with torch.no_grad():
        found = scores(forward(x, network, p.bits, p.surrogate)[-1].v)
    return float((found.argmax(1) == label).double().mean())


# The chip ---------------------------------------------------------------------------------------------------------------------


def deploy(network: list[Cells], bits: int = 8) -> list[loihi.Layer]:
    """The registers that a network becomes: nearest weights on the grid of so many bits, exponent 0, decays in 4096ths.

    A network trained with as many bits is on the grid already; one trained with real numbers is quantised after training.

    Raises:
        UserError: bits out of range, or weights or decays that are not finite.
    """
    if not 1 <= bits <= 8:
        raise UserError(f"loihi: bits is {bits}; the chip takes 1 .. 8")
    layers = []
    for k, cells in enumerate(network):
        fixed = _fixed(cells)
        parts = [t for t in fixed if isinstance(t, Tensor)]
        if not all(torch.isfinite(t).all() for t in parts):
            raise UserError(f"loihi: layer {k} holds NaN or infinite values; train it again")

        def whole(t: Tensor) -> np.ndarray:
            return t.numpy().astype(np.int64)

        def bundle(w: Tensor) -> loihi.Synapses:
            return loihi.Synapses(whole(weights_on_grid(w, bits)), bits=bits, clip=False)

        neurons = loihi.Neurons(
            DECAY_UNITY - whole(_kept(fixed.current_decay, 1, bits)) - 1,
            DECAY_UNITY - whole(_kept(fixed.voltage_decay, 0, bits)),
            _threshold(fixed),
        )
        layers.append(loihi.Layer(bundle(fixed.w), neurons, None if fixed.v is None else bundle(fixed.v)))
    return layers


def scaled(network: list[Cells], factor: float) -> list[Cells]:
    """The same network on another part of the grid: all weights, and the thresholds of hidden layers, times `factor`.

    Without rounding and clipping, its spikes are the same, and its scores `factor` times as large.
    """
    return [
        cells._replace(
            w=factor * cells.w,
            threshold=None if cells.threshold is None else factor * cells.threshold,
            v=None if cells.v is None else factor * cells.v,
        )
        for cells in network
    ]


def chip_accuracy(x: Tensor, label: Tensor, layers: list[loihi.Layer]) -> float:
    """Share of samples that the chip classifies rightly."""
    spikes = x.numpy()
    for before in layers[:-1]:
        spikes = loihi.run(spikes, before, states=False).s
    found = scores(loihi.run(spikes, layers[-1]).v)
    return float((found.argmax(1) == label.numpy()).mean())


def differences(x: Tensor, network: list[Cells], p: Training) -> dict[str, int]:
    """How many entries of s, a, u and v, of all layers, the chip computes otherwise than the forward pass of training."""
    with torch.no_grad():
        trained = forward(x, network, p.bits, p.surrogate)
    traces = loihi.run_network(x.numpy(), deploy(network, p.bits))
    return {
        field: sum(
            int((getattr(states, field).numpy() != getattr(trace, field)).sum())
            for states, trace in zip(trained, traces, strict=True)
        )
        for field in States._fields
    }
