"""Random manifolds: classification problems of adjustable difficulty in spike times, Zenke & Vogels (2021), section 4.1.1.

A class is a smooth random manifold of low dimension in the space of M spike times. A sample is a random point on it; each input unit
spikes exactly once, so that firing rates tell nothing. Equation numbers are those of the chapter `zenkevogels2021`.
"""

from typing import Literal, NamedTuple

import numpy as np

from snnrepro.errors import UserError

TERMS = 1000
"""Most terms of the sum over frequencies."""

RELATIVE = 1e-3
"""The released code leaves out terms whose weight is below this."""


class Manifold(NamedTuple):
    """A random smooth function from the unit cube to M coordinates.

    Attributes:
        weight: amplitude of each term `(terms,)`.
        order: frequency of each term `(terms,)`.
        a, b, c: amplitudes, stretches and phases, each `(M, dimension, terms)` and uniform in [0, 1).
    """

    weight: np.ndarray
    order: np.ndarray
    a: np.ndarray
    b: np.ndarray
    c: np.ndarray


def manifold(
    units: int,
    dimension: int,
    smoothness: float,
    spectrum: Literal["formula", "released"],
    rng: np.random.Generator,
) -> Manifold:
    """Draw a manifold.

    Args:
        units: M, coordinates of the embedding.
        dimension: D, coordinates on the manifold.
        smoothness: alpha, how fast amplitudes fall with the frequency.
        spectrum: `formula`, as printed in the paper: frequencies k = 1 .. 1000 with amplitudes k^-alpha. `released`, as in the
            default of the authors' code (github.com/fzenke/randman at d3e22f5): frequencies k - 1, amplitudes 1 / (k^alpha + 1), the
            constant term off, and as many terms as have a k^-alpha of at least 0.001.
        rng: all that is random.

    Raises:
        UserError: an unknown spectrum.
    """
    if spectrum not in ("formula", "released"):
        raise UserError(f"randman: spectrum is {spectrum!r}; choose formula or released")
    terms = TERMS if spectrum == "formula" else min(int(np.ceil(RELATIVE ** (-1 / smoothness))), TERMS)
    k = np.arange(1, terms + 1, dtype=float)
    a, b, c = (rng.random((units, dimension, terms)) for _ in range(3))
    if spectrum == "formula":
        return Manifold(k**-smoothness, k, a, b, c)
    a[:, :, 0] = 0.0
    return Manifold(1 / (k**smoothness + 1), k - 1, a, b, c)


def embed(m: Manifold, x: np.ndarray) -> np.ndarray:
    """Coordinates `(samples, M)` of points x `(samples, dimension)` of the unit cube: a product over dimensions of sums of sines."""
    out = np.ones((len(x), len(m.a)))
    for unit in range(len(m.a)):
        for j in range(x.shape[1]):
            phase = 2 * np.pi * (x[:, j, None] * (m.order * m.b[unit, j]) + m.c[unit, j])
            out[:, unit] *= np.sin(phase) @ (m.weight * m.a[unit, j])  # Eq. (7)
    return out


def spike_times(
    classes: int,
    samples: int,
    units: int,
    dimension: int,
    smoothness: float,
    steps: int,
    spectrum: Literal["formula", "released"],
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Spike times of all samples and their class, in random order.

    Each coordinate is scaled to [0, steps) over the samples of its class, and rounded down.

    Args:
        classes: number of manifolds.
        samples: points on each.
        units: M, input units; this and the next two as in `manifold`.
        dimension: D.
        smoothness: alpha.
        steps: time steps in which an input spikes (tau_randman / dt).
        spectrum: as in `manifold`.
        rng: all that is random.

    Returns:
        steps int64 `(classes * samples, units)`, classes int64 `(classes * samples,)`.
    """
    times = []
    for _ in range(classes):
        m = manifold(units, dimension, smoothness, spectrum, rng)
        f = embed(m, rng.random((samples, dimension)))
        scaled = (f - f.min(0)) / (f.max(0) - f.min(0))
        times.append(np.minimum((scaled * steps).astype(np.int64), steps - 1))
    order = rng.permutation(classes * samples)
    return np.concatenate(times)[order], np.repeat(np.arange(classes), samples)[order]
