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
        UserError: an unknown spectrum, a size below 1, or a smoothness that is not positive (with `released`: below 0.01).
    """
    for name, value in (("units", units), ("dimension", dimension)):
        if not isinstance(value, int | np.integer) or value < 1:
            raise UserError(f"randman: {name} is {value}; give a whole number from 1")
    if not 0 < smoothness < np.inf or (spectrum == "released" and smoothness < 0.01):
        raise UserError(f"randman: smoothness is {smoothness}; give a finite number above 0 (released: from 0.01)")
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
    """Coordinates `(samples, M)` of points x `(samples, dimension)` of the unit cube: a product over dimensions of sums of sines.

    Raises:
        UserError: points of another dimension, or outside the cube.
    """
    if np.ndim(x) != 2 or np.shape(x)[1] != m.a.shape[1]:
        raise UserError(f"randman: points have shape {np.shape(x)}; give (samples, {m.a.shape[1]}) to fit the manifold")
    if not ((x >= 0) & (x <= 1)).all():
        raise UserError("randman: a point is NaN or outside the unit cube; give coordinates from 0 to 1")
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

    Raises:
        UserError: as `manifold`; no class, no time step, or fewer than two samples of a class, which cannot be scaled.
    """
    for name, value, least in (("classes", classes, 1), ("samples", samples, 2), ("steps", steps, 1)):
        if not isinstance(value, int | np.integer) or value < least:
            raise UserError(f"randman: {name} is {value}; give a whole number from {least}")
    times = []
    for _ in range(classes):
        m = manifold(units, dimension, smoothness, spectrum, rng)
        f = embed(m, rng.random((samples, dimension)))
        scaled = (f - f.min(0)) / (f.max(0) - f.min(0))
        times.append(np.minimum((scaled * steps).astype(np.int64), steps - 1))
    order = rng.permutation(classes * samples)
    return np.concatenate(times)[order], np.repeat(np.arange(classes), samples)[order]
