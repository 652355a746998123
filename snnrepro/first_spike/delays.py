"""Delays on the way into a layer that are learned with its weights, as Göltz et al. (2025) do it.

A spike that arrives later moves the spike of the neuron behind it, and the derivative of that time is known exactly (`exact`). So the
gradient of a delay is that of the time it is added to, summed over samples. Equation numbers are those of the chapter `hardware`.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from snnrepro.errors import UserError
from snnrepro.first_spike.exact import Neuron, spike_times
from snnrepro.first_spike.ttfs import Network


class Delays(NamedTuple):
    """Delays of all layers, in the unit of the spike times.

    Attributes:
        raw: of each layer: `(delays,)` for axons, which fall to the inputs in equal blocks, or `(inputs, neurons)` for synapses.
        shortest: the delay where `raw` is minus infinity.
        span: longest less shortest delay.
    """

    raw: tuple[Tensor, ...]
    shortest: float = 0.0
    span: float = 1.0


def initial_delays(
    shapes: tuple[tuple[int, ...], ...], sd: float, generator: torch.Generator, shortest: float = 0.0, span: float = 1.0
) -> Delays:
    """Delays whose `raw` is drawn from a normal distribution around 0, the middle of the span.

    Raises:
        UserError: no shapes, one that is not `(delays,)` or `(inputs, neurons)`, or a spread, a shortest delay or a span that is negative
            or not finite.
    """
    if not shapes or not all(len(shape) in (1, 2) and min(shape) >= 1 for shape in shapes):
        raise UserError(f"initial_delays: shapes are {shapes}; give (delays,) or (inputs, neurons) for each layer")
    for name, value in (("sd", sd), ("shortest", shortest), ("span", span)):
        if not 0 <= value < math.inf:
            raise UserError(f"initial_delays: {name} is {value}; give 0 or more, and finite")
    raw = [sd * torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    return Delays(tuple(d.requires_grad_() for d in raw), shortest, span)


def delay_of(delays: Delays, layer: int) -> Tensor:
    """Delays of a layer, in the shape of their `raw`."""
    return delays.shortest + delays.span * torch.sigmoid(delays.raw[layer])  # Eq. (7)


def delayed(t: Tensor, delays: Delays, layer: int) -> Tensor:
    """When spikes at `t` `(batch, inputs)` arrive at a layer: `(batch, inputs)`, or `(batch, inputs, neurons)` for synaptic delays.

    Raises:
        UserError: delays that do not fit the inputs.
    """
    found = delay_of(delays, layer)
    if found.ndim == 2:
        if t.ndim != 2 or len(found) != t.shape[1]:
            raise UserError(f"delayed: times have shape {tuple(t.shape)}; give (batch, {len(found)}) to fit the delays")
        return t[:, :, None] + found
    if t.ndim != 2 or t.shape[1] % len(found):
        raise UserError(
            f"delayed: times have shape {tuple(t.shape)}; give (batch, inputs) with a multiple of {len(found)} inputs"
        )
    return t + found.repeat_interleave(t.shape[1] // len(found))


def run(network: Network, delays: Delays, t: Tensor, p: Neuron, largest_change: float = math.inf) -> list[Tensor]:
    """Spike times `(batch, neurons)` of each layer, for input times `(batch, inputs)`. Differentiable in weights, delays and times.

    Raises:
        UserError: as `spike_times`; another number of delays than of layers, or a network with a bias.
    """
    if len(delays.raw) != len(network.weights):
        raise UserError(
            f"delays: delays for {len(delays.raw)} layers, {len(network.weights)} layers; give one of each a layer"
        )
    if any(bias is not None for bias in network.bias_times):
        raise UserError("delays: the network has a bias; a bias spikes when it should, give it among the inputs")
    layers = []
    for k, w in enumerate(network.weights):
        given = delayed(layers[-1] if layers else t, delays, k)
        if given.ndim == 2:
            layers.append(spike_times(given, w, p, largest_change=largest_change))
            continue
        if given.shape[2] != w.shape[1]:
            raise UserError(
                f"delays: synaptic delays of {given.shape[2]} neurons in layer {k + 1}, it has {w.shape[1]}"
            )
        each = [
            spike_times(given[:, :, j], w[:, j : j + 1], p, largest_change=largest_change) for j in range(w.shape[1])
        ]
        layers.append(torch.cat(each, 1))
    return layers
