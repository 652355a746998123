"""S4NN: temporal backpropagation with one spike a neuron, Kheradpisheh & Masquelier (2020).

Non-leaky integrate-and-fire neurons in discrete time. A neuron spikes at most once, one step after its potential exceeds its threshold;
the output neuron that spikes first names the class. Equation numbers are those of the chapter `kheradpisheh2020`.
"""

from typing import NamedTuple

import numpy as np

from snnrepro.errors import UserError
from snnrepro.kernels import s4nn as kernel


class Settings(NamedTuple):
    """Neurons and learning rule.

    Attributes:
        end: number of time steps t_max; "spiking" at `end` means silence.
        thresholds: of the hidden and the output neurons.
        rate: learning rate of both layers.
        decay: strength lambda of the weight decay; each update takes off rate * lambda * w.
        margin: the other outputs should spike this many steps after the first one, gamma.
        hidden_range, output_range: initial weights are uniform from 0 to this.
        least_active: a hidden neuron that spikes for a smaller share of the images of an epoch is dead.
    """

    end: int = 256
    thresholds: tuple[float, float] = (100.0, 100.0)
    rate: float = 0.2
    decay: float = 1e-6
    margin: int = 3
    hidden_range: float = 5.0
    output_range: float = 48.0
    least_active: float = 1e-3


class Images(NamedTuple):
    """Active pixels of many images, each in order of their times.

    Attributes:
        starts: first active pixel of each image, int64 `(images + 1,)`.
        pixels: index of each active pixel, int32.
        times: step at which it spikes, int32.
        size: pixels of an image.
    """

    starts: np.ndarray
    pixels: np.ndarray
    times: np.ndarray
    size: int


class Network(NamedTuple):
    """Weights: `hidden` (pixels, neurons) and `output` (neurons, classes)."""

    hidden: np.ndarray
    output: np.ndarray


class Answers(NamedTuple):
    """What a network did with some images.

    Attributes:
        hidden: spike times of the hidden neurons `(images, neurons)`, `end` where silent; empty while it learns.
        output: of the output neurons `(images, classes)`.
        crossed: potential of each output neuron when it exceeded its threshold, or at last `(images, classes)`.
        late: potential of each output neuron three steps before the end.
    """

    hidden: np.ndarray
    output: np.ndarray
    crossed: np.ndarray
    late: np.ndarray


def encode(pixels: np.ndarray, end: int = 256) -> Images:
    """Spike times of pixels: the brighter, the earlier; a black pixel never spikes.

    Args:
        pixels: uint8 `(images, pixels)`.
        end: number of time steps.

    Raises:
        UserError: pixels of another type or shape, no pixels, or fewer than four whole steps.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 2:
        raise UserError(f"encode: pixels are {pixels.dtype} of shape {pixels.shape}; give uint8 (images, pixels)")
    if not isinstance(end, int | np.integer):
        raise UserError(f"encode: {end} time steps; give a whole number")
    if end < 4:
        raise UserError(f"encode: {end} time steps; give 4 or more")
    return images((255 - pixels.astype(np.int64)) * end // 255, end)  # Eq. (1)


def images(times: np.ndarray, end: int = 256) -> Images:
    """`Images` from spike times themselves, integers `(images, units)`; those at or after `end` never come.

    Raises:
        UserError: times that are no integers, or negative, no times, or no steps.
    """
    if times.dtype.kind not in "iu" or times.ndim != 2 or (times.size and times.min() < 0):
        raise UserError(f"images: times are {times.dtype} of shape {times.shape}; give integers from 0 (images, units)")
    if min(times.shape) < 1:
        raise UserError(f"images: times have shape {times.shape}; give one image and one unit or more")
    if not end >= 1:
        raise UserError(f"images: {end} time steps; give 1 or more")
    image, unit = np.nonzero(times < end)
    order = np.lexsort((times[image, unit], image))
    starts = np.concatenate([[0], np.cumsum(np.bincount(image, minlength=len(times)))])
    return Images(starts, unit[order].astype(np.int32), times[image, unit][order].astype(np.int32), times.shape[1])


def initial_network(sizes: tuple[int, int, int], p: Settings, random: np.random.Generator) -> Network:
    """Weights uniform from 0 to the range of their layer; `sizes` are pixels, hidden neurons, classes.

    Raises:
        UserError: other sizes than three numbers from 1, or a range that is negative or not finite.
    """
    if len(sizes) != 3 or not all(isinstance(n, int | np.integer) and n >= 1 for n in sizes):
        raise UserError(f"s4nn: sizes are {sizes}; give the numbers of pixels, hidden neurons and classes, each from 1")
    for name, value in (("hidden", p.hidden_range), ("output", p.output_range)):
        if not 0 <= value < np.inf:
            raise UserError(f"s4nn: {name}_range is {value}; give a finite number from 0")
    pixels, hidden, classes = sizes
    return Network(
        random.uniform(0, p.hidden_range, (pixels, hidden)), random.uniform(0, p.output_range, (hidden, classes))
    )


def _check(network: Network, given: Images, p: Settings) -> None:
    """Refuse what does not fit together: the compiled loops look at no bounds."""
    if np.ndim(p.thresholds) != 1:
        raise UserError(f"s4nn: thresholds are {p.thresholds}; give two, of the hidden and of the output neurons")
    if not isinstance(p.end, int | np.integer) or not p.margin < np.inf:
        raise UserError(f"s4nn: end is {p.end}, margin {p.margin}; give whole numbers of steps")
    if not all(isinstance(w, np.ndarray) for w in network):
        raise UserError("s4nn: the weights are no NumPy arrays; give floats (pixels, hidden) and (hidden, classes)")
    numbers = (*p.thresholds, p.rate, p.decay, p.hidden_range, p.output_range, p.least_active)
    sensible = len(p.thresholds) == 2 and all(np.isfinite(numbers)) and min(p.thresholds) > 0 and min(numbers) >= 0
    if (
        not sensible
        or p.rate * p.decay >= 1
        or p.end < 4
        or p.margin < 1
        or int(p.margin) != p.margin
        or int(p.end) != p.end
    ):
        raise UserError(
            "s4nn: give at least 4 steps, two positive thresholds, a margin of 1 or more whole steps, and no negative rate or decay"
        )
    if any(w.ndim != 2 or w.dtype.kind != "f" for w in network) or network.hidden.shape[1] != network.output.shape[0]:
        shapes = f"{network.hidden.shape} and {network.output.shape}"
        raise UserError(f"s4nn: weights have shapes {shapes}; give floats (pixels, hidden) and (hidden, classes)")
    for name, w in network._asdict().items():
        if w.dtype not in (np.float32, np.float64):
            raise UserError(f"s4nn: the {name} weights are {w.dtype}; give float32 or float64")
        if w.shape[1] < 1:
            raise UserError(f"s4nn: the {name} weights have shape {w.shape}; give one neuron or more")
    if given.size != len(network.hidden):
        raise UserError(f"s4nn: images have {given.size} pixels, the network takes {len(network.hidden)}")
    for name, w in network._asdict().items():
        if not np.isfinite(w).all():
            raise UserError(f"s4nn: the {name} weights hold NaN or infinite values")
    for name, listed in zip(("starts", "pixels", "times"), given[:3], strict=True):
        if not isinstance(listed, np.ndarray) or listed.ndim != 1 or listed.dtype.kind != "i":
            raise UserError(
                f"s4nn: the {name} of the images are no list of integers; make them with `encode` or `images`"
            )
    starts, pixels, times = given[:3]
    if len(starts) < 2 or starts[0] != 0 or not starts[-1] == len(times) == len(pixels) or (np.diff(starts) < 0).any():
        raise UserError("s4nn: the lists of pixels do not fit together; make them with `encode` or `images`")
    if not len(times):
        raise UserError("s4nn: no pixel of any image spikes")
    if not 0 <= int(pixels.min()) <= int(pixels.max()) < given.size or int(times.min()) < 0:
        raise UserError("s4nn: a pixel or a time lies outside the images; make them with `encode` or `images`")
    if int(times.max()) >= p.end:
        raise UserError(f"s4nn: a pixel spikes at step {int(times.max())} of {p.end}; encode the images with this end")
    inside = np.ones(len(times), bool)
    inside[starts[:-1][starts[:-1] < len(times)]] = (
        False  # the first pixel of an image may come before the last of the one before
    )
    if (np.diff(times, prepend=times[:1]) < 0)[inside].any():
        raise UserError(
            "s4nn: the pixels of an image are not in order of their times; make them with `encode` or `images`"
        )


def respond(network: Network, given: Images, p: Settings) -> Answers:
    """Show images without learning.

    Raises:
        UserError: images that do not fit the network or the settings.
    """
    _check(network, given, p)
    count, (size, classes) = len(given.starts) - 1, network.output.shape
    found = Answers(
        np.empty((count, size), np.int64),
        np.empty((count, classes), np.int64),
        np.empty((count, classes)),
        np.empty((count, classes)),
    )
    kernel.present(*given[:3], np.arange(count), *network, np.array(p.thresholds), p.end, p.end - 3, *found)
    return found


def train_epoch(
    network: Network, given: Images, label: np.ndarray, p: Settings, order: np.ndarray
) -> tuple[Answers, np.ndarray]:
    """One epoch of learning in place, an update an image.

    Args:
        network: weights.
        given: images.
        label: their classes, int64.
        p: settings.
        order: in which images are shown.

    Returns:
        answers before each update in this order, without hidden spike times, and the indices of dead hidden neurons, for `redraw`.

    Raises:
        UserError: images, labels or an order that do not fit, or weights that cannot be written.
    """
    _check(network, given, p)
    for name, listed in (("labels", label), ("order", order)):
        if not isinstance(listed, np.ndarray) or listed.ndim != 1 or listed.dtype.kind not in "iu":
            raise UserError(f"s4nn: the {name} must be a list of integers; give an int64 array (images,)")
    if not all(w.flags.writeable for w in network):
        raise UserError("s4nn: the weights are read-only, and learning changes them in place; give a copy")
    classes = network.output.shape[1]
    if len(label) != len(given.starts) - 1 or (len(label) and not 0 <= label.min() <= label.max() < classes):
        raise UserError(f"s4nn: give one label from 0 to {classes - 1} for each of {len(given.starts) - 1} images")
    if len(order) and not 0 <= int(np.min(order)) <= int(np.max(order)) < len(label):
        raise UserError(f"s4nn: the order names images outside 0 .. {len(label) - 1}")
    output = np.empty((len(order), classes), np.int64)
    crossed, late = np.empty(output.shape), np.empty(output.shape)
    spiked = np.zeros(len(network.output), np.int64)
    kernel.learn(
        *given[:3], order, label[order], *network, np.array(p.thresholds), p.end, p.end - 3, p.margin, p.rate, p.rate * p.decay, spiked,
        output, crossed, late,
    )  # fmt: skip
    dead = np.flatnonzero(spiked < p.least_active * len(order))
    return Answers(np.empty((0, len(network.output)), np.int64), output, crossed, late), dead


def redraw(network: Network, dead: np.ndarray, p: Settings, random: np.random.Generator) -> None:
    """Give hidden neurons new weights, as at the start. They spike early for every image until they have learned, so test before.

    Raises:
        UserError: `dead` is no list of indices of hidden neurons, or the range of the weights is negative or not finite.
    """
    if dead.ndim != 1 or dead.dtype.kind not in "iu":
        raise UserError(f"redraw: dead neurons are {dead.dtype} of shape {dead.shape}; give a list of their indices")
    if len(dead) and not 0 <= int(dead.min()) <= int(dead.max()) < network.hidden.shape[1]:
        raise UserError(
            f"redraw: dead neurons {dead.min()} .. {dead.max()} lie outside 0 .. {network.hidden.shape[1] - 1}"
        )
    if not 0 <= p.hidden_range < np.inf:
        raise UserError(f"redraw: hidden_range is {p.hidden_range}; give a finite number from 0")
    network.hidden[:, dead] = random.uniform(0, p.hidden_range, (len(network.hidden), len(dead)))


def score(answers: Answers, label: np.ndarray, p: Settings) -> dict[str, float]:
    """Accuracy in three ways. They differ where several output neurons spike first.

    `lenient`: right where the true class is among the first (as the official code counts). `potential`: the one of them with the largest
    potential decides. `lowest`: the one with the lowest index does. Where all are silent the largest potential three steps before the
    end decides, in all three.

    Raises:
        UserError: no answers, labels that do not fit them, or answers of a network with more steps.
    """
    if min(answers.output.shape) < 1:
        raise UserError(f"score: answers have shape {answers.output.shape}; give one image and one class or more")
    if not isinstance(label, np.ndarray) or label.shape != (len(answers.output),) or label.dtype.kind not in "iu":
        raise UserError(f"score: give labels as an array of {len(answers.output)} integers, one for each answer")
    if not 0 <= int(label.min()) <= int(label.max()) < answers.output.shape[1]:
        raise UserError(f"score: labels {label.min()} .. {label.max()} lie outside 0 .. {answers.output.shape[1] - 1}")
    if answers.output.max() > p.end:
        raise UserError(
            f"score: an answer lasts {answers.output.max()} steps of {p.end}; give the settings it was made with"
        )
    first = answers.output.min(1)
    tied = answers.output == first[:, None]
    by_potential = np.where(tied, answers.crossed, -np.inf).argmax(1)
    silent = first == p.end
    fallback = answers.late.argmax(1)
    rows = np.arange(len(label))
    chosen = {"potential": by_potential, "lowest": tied.argmax(1)}
    found = {name: float(np.mean(np.where(silent, fallback, c) == label)) for name, c in chosen.items()}
    return {"lenient": float(np.mean(np.where(silent, fallback == label, tied[rows, label]))), **found}


# The reference --------------------------------------------------------------------------------------------------------------


def _step_through(times: np.ndarray, w: np.ndarray, threshold: float, end: int) -> tuple[np.ndarray, np.ndarray]:
    """Spike times of a layer and its potentials after every step `(end, n)`, all steps at once."""
    arrives = np.zeros((end, len(times)))
    inside = times < end
    arrives[times[inside], np.flatnonzero(inside)] = 1.0
    v = np.cumsum(arrives, 0) @ w  # Eq. (2)
    above = v > threshold
    return np.where(above.any(0), np.minimum(above.argmax(0) + 1, end), end), v  # Eq. (3)


def reference_update(
    network: Network, times: np.ndarray, label: int, p: Settings
) -> tuple[Network, np.ndarray, np.ndarray]:
    """One image and one update in plain NumPy: new weights, spike times of the hidden and of the output neurons.

    Args:
        network: weights.
        times: spike times of the pixels, `end` where silent, `(pixels,)`.
        label: true class.
        p: settings.

    Raises:
        UserError: times or a label that do not fit the network, or weights that are not finite.
    """
    if network.hidden.ndim != 2 or network.output.ndim != 2 or network.hidden.shape[1] != len(network.output):
        raise UserError(
            f"s4nn: weights have shapes {network.hidden.shape} and {network.output.shape}; give (pixels, hidden) and (hidden, classes)"
        )
    if not (np.isfinite(network.hidden).all() and np.isfinite(network.output).all()):
        raise UserError("s4nn: the weights hold NaN or infinite values")
    if times.shape != (len(network.hidden),) or times.dtype.kind not in "iu" or times.min() < 0:
        raise UserError(f"s4nn: give one time for each of {len(network.hidden)} pixels, an integer from 0")
    if not isinstance(label, int | np.integer) or not 0 <= label < network.output.shape[1]:
        raise UserError(f"s4nn: the label is {label}; give an integer from 0 to {network.output.shape[1] - 1}")
    hidden, _ = _step_through(times, network.hidden, p.thresholds[0], p.end)
    output, _ = _step_through(hidden, network.output, p.thresholds[1], p.end)
    first = output.min()
    if first < p.end:  # Eq. (4)
        wanted = np.where(output - first < p.margin, np.minimum(first + p.margin, p.end), output)
        wanted[label] = first
    else:
        wanted = np.full(len(output), p.end)
        wanted[label] = p.end - p.margin
    error = (wanted - output) / p.end  # Eq. (5)
    norm = np.linalg.norm(error)
    delta = error / norm if norm > 0 else error
    before = hidden[:, None] < output[None, :]
    w_output = (network.output - p.rate * before * delta) * (1 - p.rate * p.decay)  # Eq. (6)
    back = (before * w_output) @ delta
    norm = np.linalg.norm(back)
    back = back / norm if norm > 0 else back
    earlier = times[:, None] < hidden[None, :]
    w_hidden = (network.hidden - p.rate * earlier * back) * (1 - p.rate * p.decay)  # Eq. (7)
    return Network(w_hidden, w_output), hidden, output
