"""The Yin-Yang generator against the published arrays."""

import hashlib
import os
import re
from pathlib import Path

import numpy as np
import pytest

from snnrepro.data import yinyang
from snnrepro.errors import UserError

HASHES = {
    "train": ("f5a4054d56f2a058", "534d12acda4f9dbc", (1681, 1702, 1617)),
    "validation": ("5eac358bdf212276", "5a4c2f605814a620", (316, 336, 348)),
    "test": ("7bab3ed668ed4992", "daa0f8f4e3b37b1d", (350, 316, 334)),
}


@pytest.mark.parametrize("part", yinyang.SAMPLES)
def test_samples_are_the_published_ones(part):
    x, label = yinyang.yin_yang(*yinyang.SAMPLES[part])
    samples, labels, counts = HASHES[part]
    assert hashlib.sha256(x.tobytes()).hexdigest()[:16] == samples
    assert hashlib.sha256(label.tobytes()).hexdigest()[:16] == labels
    assert tuple(np.bincount(label)) == counts
    folder = Path(os.environ.get("SNNREPRO_DATA", "")) / "yin-yang" / "publication_data"
    if folder.is_dir():
        assert np.array_equal(x, np.load(folder / f"{part}_samples.npy", allow_pickle=False))
        assert np.array_equal(label, np.load(folder / f"{part}_labels.npy", allow_pickle=False))


def test_distance_from_the_border():
    """Crossing a border changes the class: walk from each point to where the distance says the border is."""
    random = np.random.default_rng(0)
    x, label = yinyang.yin_yang(300, 7)
    distance = yinyang.border_distance(x[:, 0], x[:, 1])
    angle = np.linspace(0, 2 * np.pi, 720)
    for k in random.choice(300, 60, replace=False):
        near = yinyang.region(
            x[k, 0] + 0.98 * distance[k] * np.cos(angle), x[k, 1] + 0.98 * distance[k] * np.sin(angle)
        )
        far = yinyang.region(
            x[k, 0] + (1.05 * distance[k] + 2e-3) * np.cos(angle), x[k, 1] + (1.05 * distance[k] + 2e-3) * np.sin(angle)
        )
        assert (near == label[k]).all()
        assert (far != label[k]).any()


POINT = np.array([0.3, 0.6])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        *[
            (lambda n=n: yinyang.yin_yang(n, 0), f"yin_yang: {n} samples; give a whole number from 1")
            for n in (0, -1, 2.5)
        ],
        *[
            (
                lambda seed=seed: yinyang.yin_yang(1, seed),
                f"yin_yang: the seed is {seed}; give a whole number from 0 to 2**32 - 1",
            )
            for seed in (-1, 2**32, 0.5, None)
        ],
        (lambda: yinyang.region(POINT, POINT[:, None]), "region: x has shape (2,), y (2, 1); give one y for each x"),
        *[
            (
                lambda x=x, y=y: yinyang.border_distance(x, y),
                f"border_distance: x has shape {x.shape}, y {y.shape}; give two equal lists",
            )
            for x, y in ((POINT, POINT[:, None]), (POINT, POINT[:1]), (POINT[None], POINT[None]))
        ],
        *[
            (lambda x=x, y=y: yinyang.border_distance(x, y), "border_distance: a coordinate is NaN or infinite")
            for x, y in ((POINT * np.nan, POINT), (POINT, POINT * np.inf))
        ],
        *[
            (
                lambda n=n: yinyang.border_distance(POINT, POINT, n),
                f"border_distance: {n} points a circle; give 10 or more",
            )
            for n in (-1, 0, 1)
        ],
    ],
)
def test_what_makes_no_sense_is_named(call, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        call()
