"""An ordinary network on the same samples, so that a reader compares gaps and not raw accuracies."""

import warnings
from collections.abc import Iterable

import numpy as np

from snnrepro.data.sets import Split


def ann_control(
    split: Split, hidden: tuple[int, ...] = (100,), seeds: Iterable[int] = (0, 1, 2), epochs: int = 50
) -> np.ndarray:
    """Test accuracy of scikit-learn's multi-layer perceptron (ReLU, Adam at its defaults) on the pixels of a split.

    It trains for `epochs` epochs, fewer if the training loss stands still before. The test samples are looked at once,
    at the end. One thread: about 2 s a seed on 4,000 digits.

    Returns:
        (seeds,) accuracies in [0, 1].
    """
    # Imported here: scikit-learn takes over a second, and few of those who load data need it.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier
    from threadpoolctl import threadpool_limits

    accuracies = []
    with threadpool_limits(limits=1), warnings.catch_warnings():
        # The number of epochs is the budget; to use it up is no fault.
        warnings.simplefilter("ignore", ConvergenceWarning)
        for seed in seeds:
            network = MLPClassifier(hidden, random_state=seed, max_iter=epochs).fit(split.x_train, split.y_train)
            accuracies.append(network.score(split.x_test, split.y_test))
    return np.array(accuracies)
