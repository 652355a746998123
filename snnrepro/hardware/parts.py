"""The parts of a substrate, each usable alone. A part whose numbers are at their defaults changes nothing.

Every part says where its numbers are from: measured on a chip, published by those who built or modelled it, or assumed here.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from snnrepro.errors import UserError

QUANTITIES = ("threshold", "tau_mem", "tau_syn", "gain")
"""What may differ from neuron to neuron. The gain multiplies all weights of a neuron."""
LEAST = 0.1
"""No neuron's quantity falls below this share of its nominal value."""


class Source(NamedTuple):
    """Where numbers are from."""

    kind: Literal["measured", "published", "assumed"]
    where: str


NONE = Source("assumed", "this part is ideal")


def check_seed(what: str, seed: int) -> None:
    """Refuse a seed that is no whole number, or negative."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise UserError(f"{what} is {seed!r}; give a whole number, 0 or more")


def _check(part, **fields: tuple[float, bool]) -> None:
    """Refuse fields that are not true; `fields` holds the value and whether it makes sense."""
    for name, (value, fine) in fields.items():
        if not fine:
            raise UserError(f"{type(part).__name__}: {name} is {value}, which makes no sense")


class _Instead(torch.autograd.Function):
    """A value that stands in for another one; the gradient passes as if it were that one."""

    @staticmethod
    def forward(ctx, nominal: Tensor, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx, g: Tensor) -> tuple[Tensor, None]:
        return g, None


def instead(nominal: Tensor, value: Tensor) -> Tensor:
    """`value` forward, exactly; the gradient goes to `nominal` (straight through)."""
    return _Instead.apply(nominal, value.detach())


class Held(NamedTuple):
    """Weights as a grid holds them.

    Attributes:
        levels: whole numbers, in the shape and type of the weights.
        step: weight of one level.
        unclipped: levels as they would be on an endless grid.
    """

    levels: Tensor
    step: float
    unclipped: Tensor

    @property
    def clipped(self) -> float:
        """Share of the weights that lay outside the grid."""
        return float((self.levels != self.unclipped).double().mean())


@dataclass(frozen=True)
class WeightGrid:
    """Weights a synapse can hold: whole multiples of a step.

    Attributes:
        lowest: lowest level, -1 or less. None, with `highest` None: any weight.
        highest: highest level.
        step: weight of one level. None: the weight of a layer that is largest, compared with the range, takes the last level.
        source: where the numbers are from.
    """

    lowest: int | None = None
    highest: int | None = None
    step: float | None = None
    source: Source = NONE

    def __post_init__(self):
        if (self.lowest is None) != (self.highest is None):
            raise UserError("WeightGrid: give both lowest and highest, or neither")
        if self.lowest is not None:
            _check(self, lowest=(self.lowest, self.lowest <= -1), highest=(self.highest, self.highest >= 1))
        if self.step is not None:
            _check(self, step=(self.step, 0 < self.step < math.inf))

    @property
    def bits(self) -> float:
        """Bits of a level, with its sign; infinite without a grid."""
        return math.inf if self.highest is None else math.ceil(math.log2(self.highest - self.lowest + 1))

    def hold(self, w: Tensor) -> Held:
        """Nearest levels of the weights, halves away from zero, and clipped. Needs a grid."""
        w = w.detach()
        step = self.step
        if step is None:
            share = torch.where(w < 0, w / self.lowest, w / self.highest)
            step = float(share.max()) or 1.0
        x = w / step
        levels = torch.copysign(torch.floor(x.abs() + 0.5), x)
        return Held(levels.clamp(self.lowest, self.highest), step, levels)

    def apply(self, w: Tensor) -> Tensor:
        """The weights that the grid holds; the gradient passes straight through. Without a grid, `w` itself."""
        if self.highest is None:
            return w
        held = self.hold(w)
        return instead(w, held.levels * held.step)

    def keep(self, w: Tensor) -> None:
        """Pull weights into the range of the grid, in place, as some training loops do after each update."""
        if self.step is not None and self.highest is not None:
            w.data.clamp_(self.lowest * self.step, self.highest * self.step)


def signed_bits(bits: int, source: Source = NONE) -> WeightGrid:
    """A grid of so many bits with the sign, as wide as the largest weight of each layer; 2 bits: -1, 0, 1."""
    if bits < 2 or bits != int(bits):
        raise UserError(f"signed_bits: {bits} bits cannot hold a sign and a value; give a whole number, 2 or more")
    most = 2 ** (bits - 1) - 1
    return WeightGrid(-most, most, None, source)


@dataclass(frozen=True)
class FixedPattern:
    """How a quantity differs from neuron to neuron, the same whenever a chip is used.

    Attributes:
        quantity: one of `QUANTITIES`.
        sd: standard deviation of the difference, normally distributed, as a share of the nominal value.
        mean: what all neurons have in common, likewise.
        source: where the numbers are from.
    """

    quantity: str
    sd: float = 0.0
    mean: float = 0.0
    source: Source = NONE

    def __post_init__(self):
        if self.quantity not in QUANTITIES:
            raise UserError(f"FixedPattern: unknown quantity {self.quantity!r}; known: {', '.join(QUANTITIES)}")
        _check(self, sd=(self.sd, 0 <= self.sd < math.inf), mean=(self.mean, math.isfinite(self.mean)))

    def realised(self, nominal: float | np.ndarray, z: np.ndarray) -> np.ndarray:
        """The quantity of neurons with standard normal deviations `z` (neurons,)."""
        return nominal * np.maximum(1 + self.mean + self.sd * z, LEAST)  # Eq. (2)


@dataclass(frozen=True)
class TrialNoise:
    """What changes from run to run.

    Attributes:
        threshold: standard deviation of each neuron's threshold, as a share of the nominal one, drawn anew for each batch.
        time: standard deviation of each spike's time, in units of tau_syn. For first-spike networks.
        source: where the numbers are from.
    """

    threshold: float = 0.0
    time: float = 0.0
    source: Source = NONE

    def __post_init__(self):
        _check(
            self,
            threshold=(self.threshold, 0 <= self.threshold < math.inf),
            time=(self.time, 0 <= self.time < math.inf),
        )


@dataclass(frozen=True)
class TimeGrid:
    """Resolution of spike times, in units of tau_syn; None: exact. Time-stepped networks have their own grid."""

    step: float | None = None
    source: Source = NONE

    def __post_init__(self):
        if self.step is not None:
            _check(self, step=(self.step, 0 < self.step < math.inf))


@dataclass(frozen=True)
class Events:
    """Transport of spikes: each one is lost with probability `loss`, on its way in and between layers."""

    loss: float = 0.0
    source: Source = NONE

    def __post_init__(self):
        _check(self, loss=(self.loss, 0 <= self.loss < 1))


@dataclass(frozen=True)
class Readout:
    """How potentials are read: clipped to `low` .. `high`, with noise, in 2^bits - 1 steps. `bits` None: as they are.

    Attributes:
        bits: of the converter.
        low: lowest potential, in nominal thresholds.
        high: highest.
        noise: standard deviation of the noise of a reading, in steps.
        source: where the numbers are from.
    """

    bits: int | None = None
    low: float = -1.0
    high: float = 1.0
    noise: float = 0.0
    source: Source = NONE

    def __post_init__(self):
        if self.bits is not None:
            _check(
                self,
                bits=(self.bits, self.bits >= 1),
                low=(self.low, math.isfinite(self.low)),
                high=(self.high, self.low < self.high < math.inf),
            )
        _check(self, noise=(self.noise, 0 <= self.noise < math.inf))

    def read(self, u: Tensor, random: np.random.Generator, threshold: float = 1.0) -> Tensor:
        """Potentials as read, of any shape, in units of their own; the gradient passes straight through.

        Args:
            u: potentials.
            random: draws the noise.
            threshold: nominal threshold of the neurons, in units of `u`.
        """
        if self.bits is None:
            return u
        low = self.low * threshold
        step = (self.high - self.low) * threshold / (2**self.bits - 1)
        x = (u.detach() - low) / step
        if self.noise:
            x = x + torch.from_numpy(self.noise * random.standard_normal(x.shape)).to(x)
        return instead(u, low + step * torch.round(x).clamp(0, 2**self.bits - 1))


@dataclass(frozen=True)
class Limits:
    """What a chip has; None: no limit.

    Attributes:
        circuits: neuron circuits, for neurons of all layers.
        rows: synapses of a circuit.
        rows_per_input: synapses that one signed input takes.
        merged: most circuits that may form one neuron, which then has the rows of all.
        inputs: input channels.
        hidden: hidden neurons, where they are counted apart.
        outputs: output neurons, likewise.
        source: where the numbers are from.
    """

    circuits: int | None = None
    rows: int | None = None
    rows_per_input: int = 1
    merged: int = 1
    inputs: int | None = None
    hidden: int | None = None
    outputs: int | None = None
    source: Source = NONE

    def __post_init__(self):
        numbers = {name: value for name, value in vars(self).items() if name != "source" and value is not None}
        _check(self, **{name: (value, value >= 1) for name, value in numbers.items()})


@dataclass(frozen=True)
class Cost:
    """What a chip spends; None: unknown.

    Attributes:
        synapse: energy of a synaptic operation, in pJ.
        neuron: energy of an update of a neuron, in pJ.
        power: power while it runs, in W, where energy is power times time.
        seconds: time of one sample, in s.
        source: where the numbers are from.
    """

    synapse: float | None = None
    neuron: float | None = None
    power: float | None = None
    seconds: float | None = None
    source: Source = NONE
