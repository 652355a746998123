"""Random manifolds against their formulas, written out by hand."""

import math
import re

import numpy as np
import pytest

from snnrepro.data import randman
from snnrepro.errors import UserError


def test_a_point_is_a_product_of_sums_of_sines():
    m = randman.manifold(3, 2, 1.5, "formula", np.random.default_rng(0))
    x = np.random.default_rng(1).random((4, 2))
    out = randman.embed(m, x)
    for sample in range(4):
        for unit in range(3):
            expected = 1.0
            for j in range(2):
                expected *= sum(
                    k**-1.5
                    * m.a[unit, j, k - 1]
                    * math.sin(2 * math.pi * (k * x[sample, j] * m.b[unit, j, k - 1] + m.c[unit, j, k - 1]))
                    for k in range(1, 1001)
                )
            assert out[sample, unit] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("smoothness", "terms"), [(1.0, 1000), (2.0, 32), (3.0, 10), (0.5, 1000)])
def test_the_released_code_starts_at_frequency_0_and_leaves_out_small_terms(smoothness, terms):
    m = randman.manifold(2, 1, smoothness, "released", np.random.default_rng(0))
    assert m.order.tolist() == list(range(terms))
    assert m.weight == pytest.approx([1 / ((i + 1) ** smoothness + 1) for i in range(terms)])
    assert (m.a[:, :, 0] == 0).all()
    assert m.a[:, :, 1:].mean() == pytest.approx(0.5, abs=0.15)


def test_the_printed_formula_has_all_terms_from_frequency_1():
    m = randman.manifold(2, 1, 2.0, "formula", np.random.default_rng(0))
    assert (m.order[0], m.order[-1], len(m.order)) == (1, 1000, 1000)
    assert m.weight == pytest.approx(m.order**-2.0)


def test_a_larger_exponent_is_smoother():
    x = np.linspace(0, 1, 500)[:, None]
    bends = []
    for smoothness in (0.5, 1.0, 2.0, 3.0):
        f = randman.embed(randman.manifold(4, 1, smoothness, "formula", np.random.default_rng(2)), x)
        f = (f - f.min(0)) / (f.max(0) - f.min(0))
        bends.append(np.abs(np.diff(f, 2, axis=0)).mean())
    assert bends == sorted(bends, reverse=True)


def test_every_class_fills_the_time_and_samples_are_shuffled():
    times, label = randman.spike_times(4, 60, 5, 1, 1.0, 50, "formula", np.random.default_rng(3))
    assert times.shape == (240, 5)
    assert np.bincount(label).tolist() == [60] * 4
    assert (np.diff(label) != 0).sum() > 100
    for c in range(4):
        assert (times[label == c].min(0) == 0).all()
        assert (times[label == c].max(0) == 49).all()


def test_the_seed_decides_everything():
    one, again, other = (
        randman.spike_times(2, 20, 3, 1, 1.0, 50, "formula", np.random.default_rng(seed)) for seed in (5, 5, 6)
    )
    assert np.array_equal(one[0], again[0])
    assert np.array_equal(one[1], again[1])
    assert not np.array_equal(one[0], other[0])


def test_an_unknown_spectrum_is_named():
    with pytest.raises(UserError, match="spectrum is 'paper'; choose formula or released"):
        randman.manifold(2, 1, 1.0, "paper", np.random.default_rng(0))


SMALL = {"classes": 2, "samples": 5, "units": 3, "dimension": 1, "smoothness": 1.0, "steps": 10, "spectrum": "formula"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *[
            ({name: value}, f"randman: {name} is {value}; give a whole number from {least}")
            for name, least, values in (
                ("classes", 1, (0, -1, 2.5)),
                ("samples", 2, (0, 1, 2.5)),  # one sample cannot be scaled
                ("units", 1, (0, -1, 2.5)),
                ("dimension", 1, (0, -1)),
                ("steps", 1, (0, -1, 2.5, math.nan)),
            )
            for value in values
        ],
        *[
            (
                {"smoothness": value, "spectrum": spectrum},
                f"randman: smoothness is {value}; give a finite number above 0 (released: from 0.01)",
            )
            for value, spectrum in (
                (0.0, "formula"),
                (-1.0, "formula"),
                (math.nan, "formula"),
                (math.inf, "formula"),
                (1e-3, "released"),
            )
        ],
    ],
)
def test_sizes_that_make_no_sense_are_named(change, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        randman.spike_times(**SMALL | change, rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.full(4, 0.5), "points have shape (4,); give (samples, 2) to fit the manifold"),
        (np.full((4, 1), 0.5), "points have shape (4, 1); give (samples, 2) to fit the manifold"),
        (np.full((4, 2), 3.0), "a point is NaN or outside the unit cube; give coordinates from 0 to 1"),
        (np.full((4, 2), math.nan), "a point is NaN or outside the unit cube; give coordinates from 0 to 1"),
    ],
)
def test_points_off_the_manifold_are_refused(x, message):
    m = randman.manifold(3, 2, 1.0, "formula", np.random.default_rng(0))
    with pytest.raises(UserError, match=f"^randman: {re.escape(message)}$"):
        randman.embed(m, x)
