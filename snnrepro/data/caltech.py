"""Faces and motorbikes of Caltech 101, as grey pictures; not shipped, read from a folder."""

from pathlib import Path

import numpy as np

from snnrepro.data.registry import BY_HAND, own_folder
from snnrepro.data.sets import Split
from snnrepro.errors import UserError
from snnrepro.files import shown

HEIGHT, WIDTH = 160, 250
CLASSES = BY_HAND["caltech101"]
TEST_SHARE = 0.5


def faces_and_motorbikes(folder: Path | None = None) -> Split:
    """All pictures of the two classes, grey and resized to 160 x 250; half of each class is for testing, drawn once.

    Args:
        folder: holds the folders `Faces` and `Motorbikes` with their jpg files; `$SNNREPRO_DATA/caltech101` where it is None.

    Raises:
        UserError: no folder is named, or it is not there, holds fewer than two pictures of a class, or a file is no picture.
    """
    from PIL import Image, UnidentifiedImageError

    if folder is None:
        base = own_folder()
        if base is None:
            raise UserError(
                "faces_and_motorbikes: $SNNREPRO_DATA is not set; put Caltech 101's folders under $SNNREPRO_DATA/caltech101"
            )
        folder = base / "caltech101"
    pixels, label = [], []
    for k, name in enumerate(CLASSES):
        files = sorted((folder / name).glob("*.jpg"))
        if len(files) < 2:
            raise UserError(
                f"faces_and_motorbikes: {len(files)} jpg files in {shown(folder / name)}; put Caltech 101's folders there"
            )
        for file in files:
            try:
                with Image.open(file) as picture:
                    pixels.append(
                        np.asarray(picture.convert("L").resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)).ravel()
                    )
            except (UnidentifiedImageError, OSError):
                raise UserError(f"faces_and_motorbikes: {shown(file)} is no picture that can be read") from None
            label.append(k)
    x, y = np.stack(pixels) / np.float32(255), np.array(label)
    test = np.zeros(len(y), bool)
    random = np.random.default_rng(0)
    for k in range(len(CLASSES)):
        rows = random.permutation(np.flatnonzero(y == k))
        test[rows[: round(TEST_SHARE * len(rows))]] = True
    return Split(x[~test], y[~test], x[test], y[test], "caltech-faces-motorbikes", (HEIGHT, WIDTH))
