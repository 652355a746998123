"""The Yin-Yang data set of Kriener, Göltz & Petrovici (2022): points of a disc, in three classes that no straight line separates."""

import numpy as np

from snnrepro.errors import UserError

R_BIG, R_SMALL = 0.5, 0.1
SAMPLES = {"train": (5000, 42), "validation": (1000, 41), "test": (1000, 40)}
"""Number of samples and seed of each published part."""


def region(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Class of points of the disc around (0.5, 0.5): 0 and 1 the two halves, 2 the two dots.

    Raises:
        UserError: coordinates of different shapes.
    """
    if np.shape(x) != np.shape(y):
        raise UserError(f"region: x has shape {np.shape(x)}, y {np.shape(y)}; give one y for each x")
    right = np.sqrt((x - 1.5 * R_BIG) ** 2 + (y - R_BIG) ** 2)
    left = np.sqrt((x - 0.5 * R_BIG) ** 2 + (y - R_BIG) ** 2)
    half = (right <= R_SMALL) | ((left > R_SMALL) & (left <= 0.5 * R_BIG)) | ((y > R_BIG) & (right > 0.5 * R_BIG))
    return np.where((right < R_SMALL) | (left < R_SMALL), 2, half.astype(np.int64))


def yin_yang(samples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Samples `(samples, 4)` float64, x, y, 1 - x, 1 - y, and their classes int64, as the published generator gives them.

    The class of a sample is drawn first; points are drawn until one falls into it.

    Raises:
        UserError: no samples, or a seed that NumPy's old generator does not take.
    """
    if not isinstance(samples, int | np.integer) or samples < 1:
        raise UserError(f"yin_yang: {samples} samples; give a whole number from 1")
    if not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise UserError(f"yin_yang: the seed is {seed}; give a whole number from 0 to 2**32 - 1")
    random = np.random.RandomState(seed)
    points, label = np.empty((samples, 2)), np.empty(samples, np.int64)
    for k in range(samples):
        wanted = random.randint(3)
        while True:
            x, y = random.rand(2) * 2.0 * R_BIG
            if np.sqrt((x - R_BIG) ** 2 + (y - R_BIG) ** 2) <= R_BIG and region(x, y) == wanted:
                break
        points[k], label[k] = (x, y), wanted
    return np.concatenate([points, 1 - points], 1), label


def border_distance(x: np.ndarray, y: np.ndarray, points: int = 2000) -> np.ndarray:
    """Distance of points to the nearest border between two classes.

    Args:
        x: first coordinate of each point, `(n,)`.
        y: second coordinate, likewise.
        points: the borders are drawn with so many points a circle.

    Raises:
        UserError: coordinates that are no two equal lists of finite numbers, or fewer than 10 points a circle.
    """
    if np.ndim(x) != 1 or np.shape(x) != np.shape(y):
        raise UserError(f"border_distance: x has shape {np.shape(x)}, y {np.shape(y)}; give two equal lists")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise UserError("border_distance: a coordinate is NaN or infinite")
    if not points >= 10:
        raise UserError(f"border_distance: {points} points a circle; give 10 or more")
    angle = np.linspace(0, 2 * np.pi, points)
    circles = [
        (cx + r * np.cos(angle), R_BIG + r * np.sin(angle))
        for cx in (0.5 * R_BIG, 1.5 * R_BIG)
        for r in (R_SMALL, 0.5 * R_BIG)
    ]
    # Of the two large circles the left one is a border in its lower half, the right one in its upper half.
    left, right = circles[1], circles[3]
    halves = [tuple(c[left[1] <= R_BIG] for c in left), tuple(c[right[1] >= R_BIG] for c in right)]
    borders = [circles[0], circles[2], *halves]
    bx, by = (np.concatenate(parts) for parts in zip(*borders, strict=True))
    return np.sqrt((x[:, None] - bx) ** 2 + (y[:, None] - by) ** 2).min(1)
