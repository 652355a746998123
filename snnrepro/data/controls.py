"""An ordinary network on the same samples, so that a reader compares gaps and not raw accuracies."""

import warnings
from collections.abc import Iterable

import numpy as np

from snnrepro.data.sets import Split
from snnrepro.errors import UserError


def ann_control(
    split: Split, hidden: tuple[int, ...] = (100,), seeds: Iterable[int] = (0, 1, 2), epochs: int = 50
) -> np.ndarray:
    """Test accuracy of scikit-learn's multi-layer perceptron (ReLU, Adam at its defaults) on the pixels of a split.

    It trains for `epochs` epochs, fewer if the training loss stands still before. The test samples are looked at once,
    at the end. One thread: about 2 s a seed on 4,000 digits.

    Returns:
        (seeds,) accuracies in [0, 1].

    Raises:
        UserError: samples or labels that do not fit each other, NaN, no seed, or a size or number of epochs below 1.
    """
    if np.ndim(split.x_train) != 2 or np.ndim(split.x_test) != 2 or split.x_train.shape[1] != split.x_test.shape[1]:
        raise UserError(
            f"ann_control: samples have shapes {np.shape(split.x_train)} and {np.shape(split.x_test)}; give (n, features) twice"
        )
    for part, x, y in (("training", split.x_train, split.y_train), ("test", split.x_test, split.y_test)):
        if min(x.shape) < 1 or np.shape(y) != (len(x),) or np.asarray(y).dtype.kind not in "iu":
            raise UserError(f"ann_control: give one {part} sample or more, and a whole number as the label of each")
        if not np.isfinite(x).all():
            raise UserError(f"ann_control: the {part} samples hold NaN or infinite values")
    if not all(isinstance(n, int | np.integer) and n >= 1 for n in (epochs, *np.ravel(hidden))):
        raise UserError(f"ann_control: {epochs} epochs, hidden layers {hidden}; give whole numbers from 1")
    if not isinstance(seeds, Iterable):
        raise UserError(f"ann_control: seeds are {seeds}; give a list of them")
    # Imported here: scikit-learn takes over a second, and few of those who load data need it.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier
    from threadpoolctl import threadpool_limits

    accuracies = []
    with threadpool_limits(limits=1), warnings.catch_warnings():
        # The number of epochs is the budget; to use it up is no fault.
        warnings.simplefilter("ignore", ConvergenceWarning)
        for seed in seeds:
            if not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
                raise UserError(f"ann_control: a seed is {seed}; give a whole number from 0 to 2**32 - 1")
            network = MLPClassifier(hidden, random_state=seed, max_iter=epochs).fit(split.x_train, split.y_train)
            accuracies.append(network.score(split.x_test, split.y_test))
    if not accuracies:
        raise UserError("ann_control: there are no seeds; give one or more")
    return np.array(accuracies)
