"""Surrogate derivatives: what stands in for the derivative of the step function Theta(x), x = U - threshold.

Neftci, Mostafa & Zenke (2019), figure 3, and Zenke & Vogels (2021), section 4.2.6. All but `sigmoid` (peak 0.25), `asymptotic`
(peak = slope) and `step` (no derivative) have peak 1 at the threshold.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from snnrepro.errors import UserError
from snnrepro.neurons import MULTI_GAUSSIAN, Surrogate


def step(x: Tensor, slope: float) -> Tensor:
    """The true derivative: zero everywhere (it is infinite at 0, where a sampled membrane never is)."""
    return torch.zeros_like(x)


def fast_sigmoid(x: Tensor, slope: float) -> Tensor:
    """1 / (1 + slope |x|)^2: SuperSpike, Zenke & Ganguli (2018), without its prefactor."""
    return 1.0 / (1.0 + slope * x.abs()) ** 2


def asymptotic(x: Tensor, slope: float) -> Tensor:
    """slope / (1 + slope |x|)^2: the same with its prefactor, whose integral tends to the step function."""
    return slope / (1.0 + slope * x.abs()) ** 2


def piecewise_linear(x: Tensor, slope: float) -> Tensor:
    """max(0, 1 - slope |x|): Esser et al. (2016), Bellec et al. (2018)."""
    return torch.clamp(1.0 - slope * x.abs(), min=0.0)


def exponential(x: Tensor, slope: float) -> Tensor:
    """exp(-slope |x|): Shrestha & Orchard (2018)."""
    return torch.exp(-slope * x.abs())


def sigmoid(x: Tensor, slope: float) -> Tensor:
    """s (1 - s) with s = sigmoid(slope x), as in Zenke & Vogels (2021); peak 0.25."""
    s = torch.sigmoid(slope * x)
    return s * (1.0 - s)


def constant(x: Tensor, slope: float) -> Tensor:
    """1 everywhere: a spike passes the gradient as if it were linear."""
    return torch.ones_like(x)


def gaussian(x: Tensor, slope: float) -> Tensor:
    """Normal density of standard deviation 1 / slope: Yin, Corradi & Bohte (2020)."""
    return slope / math.sqrt(2 * math.pi) * torch.exp(-0.5 * (slope * x) ** 2)


def multi_gaussian(x: Tensor, slope: float) -> Tensor:
    """A narrow normal density less two wide ones beside it: Yin, Corradi & Bohte (2021). With N(x; m, d) the density of mean m and
    standard deviation d, h = 0.15 and s = 6: (1 + h) N(x; 0, d) - h N(x; d, s d) - h N(x; -d, s d), d = 1 / slope.
    """
    height, width = MULTI_GAUSSIAN
    side = gaussian(x - 1 / slope, slope / width) + gaussian(x + 1 / slope, slope / width)
    return (1 + height) * gaussian(x, slope) - height * side


DERIVATIVES: dict[str, Callable[[Tensor, float], Tensor]] = {
    f.__name__: f
    for f in (
        step,
        fast_sigmoid,
        asymptotic,
        piecewise_linear,
        exponential,
        sigmoid,
        constant,
        gaussian,
        multi_gaussian,
    )
}


def derivative(surrogate: Surrogate) -> Callable[[Tensor], Tensor]:
    """The function x -> scale h(x) that a `Surrogate` names.

    Raises:
        UserError: no surrogate has that name, a slope that is negative, or a slope or scale that is not finite.
    """
    if surrogate.name not in DERIVATIVES:
        raise UserError(f"unknown surrogate {surrogate.name!r}; known: {', '.join(DERIVATIVES)}")
    if not 0 <= surrogate.slope < math.inf or not -math.inf < surrogate.scale < math.inf:
        raise UserError(
            f"surrogate: slope is {surrogate.slope}, scale {surrogate.scale}; give finite numbers, the slope 0 or more"
        )
    if surrogate.slope == 0 and surrogate.name == "multi_gaussian":
        raise UserError("surrogate: the slope of multi_gaussian is 0; it must be positive")
    h = partial(DERIVATIVES[surrogate.name], slope=surrogate.slope)
    return h if surrogate.scale == 1.0 else lambda x: surrogate.scale * h(x)


class _Spike(torch.autograd.Function):
    """Theta(x) forward, the surrogate derivative backward."""

    @staticmethod
    def forward(ctx, x: Tensor, surrogate: Surrogate) -> Tensor:
        ctx.save_for_backward(x)
        ctx.surrogate = surrogate
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return grad * derivative(ctx.surrogate)(x), None  # Eq. (6)


def spike(x: Tensor, surrogate: Surrogate) -> Tensor:
    """Spikes Theta(x), with Theta(0) = 0, whose derivative is the surrogate's. Any shape."""
    derivative(surrogate)
    return _Spike.apply(x, surrogate)
