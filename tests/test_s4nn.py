"""S4NN: the compiled loop against a plain step-by-step reference, the target times, the scores."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnrepro.errors import UserError
from snnrepro.first_spike import s4nn
from snnrepro.first_spike.s4nn import Settings
from snnrepro.kernels import s4nn as kernel

P = Settings(end=16, thresholds=(3.0, 3.0), rate=0.2, decay=1e-3, margin=3)


def random_images(seed: int, count: int, size: int, end: int):
    random = np.random.default_rng(seed)
    return random.integers(0, end + 4, (count, size)), random


def random_network(random, sizes, scale=1.5):
    pixels, hidden, classes = sizes
    return s4nn.Network(random.normal(0.4, scale, (pixels, hidden)), random.normal(0.4, scale, (hidden, classes)))


def test_pixels_become_times():
    pixels = np.array([[255, 254, 128, 1, 0]], np.uint8)
    given_ = s4nn.encode(pixels)
    assert given_.pixels.tolist() == [0, 1, 2, 3]  # a black pixel never spikes
    assert given_.times.tolist() == [0, 1, 127, 254 * 256 // 255]
    assert s4nn.encode(pixels, 4).times.tolist() == [0, 0, 1, 3]
    assert given_.starts.tolist() == [0, 4]


def test_pixels_are_listed_in_order_of_time():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30)).astype(np.uint8)
    given_ = s4nn.encode(pixels, 64)
    for k in range(20):
        part = slice(given_.starts[k], given_.starts[k + 1])
        assert (np.diff(given_.times[part]) >= 0).all()
        times = (255 - pixels[k].astype(int)) * 64 // 255
        assert sorted(given_.pixels[part]) == np.flatnonzero(times < 64).tolist()
        assert np.array_equal(times[given_.pixels[part]], given_.times[part])


def test_two_neurons_by_hand():
    """Input times 1, 1, 4. Hidden: 2 + 2 > 3 at step 1, spikes at 2; 1 + 1 + 5 > 3 at step 4, spikes at 5."""
    times = np.array([[1, 1, 4]])
    hidden = np.array([[2.0, 1.0], [2.0, 1.0], [0.0, 5.0]])
    output = np.array([[4.0, 2.0, 1.0], [0.0, 2.0, 1.0]])
    found = s4nn.respond(s4nn.Network(hidden, output), s4nn.images(times, 16), P)
    assert found.hidden.tolist() == [[2, 5]]
    assert found.output.tolist() == [[3, 6, 16]]
    assert found.crossed.tolist() == [[4.0, 4.0, 2.0]]
    assert found.late.tolist() == [[4.0, 4.0, 2.0]]


def test_a_potential_at_the_threshold_does_not_spike():
    network = s4nn.Network(np.array([[3.0, 1.0], [0.5, 2.0]]), np.array([[3.0, 3.5], [0.0, 0.0]]))
    found = s4nn.respond(network, s4nn.images(np.array([[1, 4]]), 16), P)
    assert found.hidden.tolist() == [[5, 16]]
    assert found.output.tolist() == [[16, 6]]


@pytest.mark.parametrize(
    ("times", "label", "expected"),
    [
        ([4, 9, 12], 0, [4, 9, 12]),  # first, and early enough
        ([4, 5, 12], 0, [4, 7, 12]),  # first, one is too close
        ([4, 5, 12], 1, [7, 4, 12]),  # too late
        ([4, 4, 4], 2, [7, 7, 4]),
        ([14, 15, 16], 0, [14, 16, 16]),  # not beyond the end
        ([14, 15, 16], 2, [16, 16, 14]),
        ([16, 16, 16], 1, [16, 13, 16]),  # nobody spiked
    ],
)
def test_targets(times, label, expected):
    out = np.empty(3, np.int64)
    kernel.targets(np.array(times), label, 16, 3, out)
    assert out.tolist() == expected


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**31), end=st.sampled_from([4, 16, 64]), hidden=st.integers(1, 9), classes=st.integers(2, 5)
)
def test_learning_is_the_reference(seed, end, hidden, classes):
    """Several images, so that the common factor of the lazy decay counts."""
    times, random = random_images(seed, 6, 7, end)
    network = random_network(random, (7, hidden, classes))
    p = P._replace(end=end, thresholds=(random.uniform(0.5, 4), random.uniform(0.5, 4)), decay=0.3, least_active=0.0)
    label = random.integers(0, classes, 6)
    expected, outputs = network, []
    for k in range(6):
        expected, _, output = s4nn.reference_update(expected, np.minimum(times[k], end), int(label[k]), p)
        outputs.append(output)
    ours = s4nn.Network(network.hidden.copy(), network.output.copy())
    answers, dead = s4nn.train_epoch(ours, s4nn.images(times, end), label, p, np.arange(6))
    assert not len(dead)
    assert np.array_equal(answers.output, outputs)
    for w, e in zip(ours, expected, strict=True):
        np.testing.assert_allclose(w, e, rtol=1e-11, atol=1e-12)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**31), end=st.sampled_from([4, 16, 64]))
def test_answers_are_the_reference_s(seed, end):
    times, random = random_images(seed, 5, 8, end)
    network = random_network(random, (8, 6, 3))
    p = P._replace(end=end, rate=0.0)
    found = s4nn.respond(network, s4nn.images(times, end), p)
    for k in range(5):
        _, hidden, output = s4nn.reference_update(network, np.minimum(times[k], end), 0, p)
        assert np.array_equal(found.hidden[k], hidden)
        assert np.array_equal(found.output[k], output)
        _, v = s4nn._step_through(hidden, network.output, p.thresholds[1], end)
        np.testing.assert_allclose(found.late[k], v[end - 3], atol=1e-12)
        for j in range(3):
            np.testing.assert_allclose(found.crossed[k, j], v[output[j] - 1, j], atol=1e-12)


def test_the_three_scores():
    output = np.array([[3, 3, 9], [3, 3, 9], [16, 16, 16], [16, 16, 16], [5, 4, 6]])
    crossed = np.array([[4.0, 5, 0], [4.0, 5, 0], [0, 0, 0], [0, 0, 0], [4.0, 4, 4]])
    late = np.array([[0, 0, 9.0], [0, 0, 9.0], [1, 2, 0.5], [1, 2, 0.5], [9.0, 0, 0]])
    answers = s4nn.Answers(np.empty((0, 1), np.int64), output, crossed, late)
    found = s4nn.score(answers, np.array([0, 1, 1, 0, 1]), P)
    assert found == {"lenient": 0.8, "potential": 0.6, "lowest": 0.6}
    assert s4nn.score(answers, np.array([0, 0, 1, 0, 1]), P) == {"lenient": 0.8, "potential": 0.4, "lowest": 0.8}


def test_hidden_neurons_that_never_spike_get_new_weights():
    times, random = random_images(3, 40, 7, 16)
    network = random_network(random, (7, 5, 3))
    network.hidden[:, 2] = -1.0
    before = network.hidden[:, 2].copy()
    _, dead = s4nn.train_epoch(network, s4nn.images(times, 16), random.integers(0, 3, 40), P, np.arange(40))
    assert dead.tolist() == [2]
    np.testing.assert_allclose(network.hidden[:, 2], before, rtol=1e-2)  # weight decay
    others = np.delete(network.hidden, 2, 1)
    s4nn.redraw(network, dead, P, random)
    assert np.array_equal(np.delete(network.hidden, 2, 1), others)
    assert (network.hidden[:, 2] >= 0).all()
    assert (network.hidden[:, 2] <= P.hidden_range).all()
    assert not np.array_equal(network.hidden[:, 2], before)


def test_images_may_be_black_and_begin_early():
    """An image without active pixels, one that ends late before one that begins early."""
    times = np.array([[14, 15, 16], [99, 99, 99], [0, 1, 2], [99, 99, 99]])
    found = s4nn.respond(s4nn.Network(np.full((3, 2), 2.0), np.full((2, 2), 2.0)), s4nn.images(times, 16), P)
    assert found.hidden.tolist() == [[16, 16], [16, 16], [2, 2], [16, 16]]


def test_it_learns():
    random = np.random.default_rng(0)
    label = np.arange(300) % 3
    times = np.where(np.arange(12)[None] // 4 == label[:, None], 2, 12) + random.integers(0, 3, (300, 12))
    given_ = s4nn.images(times, 16)
    p = P._replace(thresholds=(8.0, 8.0), hidden_range=3.0, output_range=3.0, rate=0.05)
    network = s4nn.initial_network((12, 10, 3), p, random)
    before = s4nn.score(s4nn.respond(network, given_, p), label, p)
    for _ in range(20):
        s4nn.train_epoch(network, given_, label, p, random.permutation(300))
    after = s4nn.score(s4nn.respond(network, given_, p), label, p)
    assert before["potential"] < 0.7
    assert after["potential"] > 0.95


SETTINGS = "s4nn: give at least 4 steps, two positive thresholds, a margin of 1 or more whole steps, and no negative rate or decay"
IMAGES = s4nn.images(np.array([[1, 2, 3]]), 16)
NET = s4nn.Network(np.ones((3, 2)), np.ones((2, 2)))
ANSWERS = s4nn.respond(NET, s4nn.images(np.array([[1, 2, 3], [4, 1, 2]]), 16), P)  # all outputs are silent


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: s4nn.encode(np.zeros((1, 3))),
            "encode: pixels are float64 of shape (1, 3); give uint8 (images, pixels)",
        ),
        (lambda: s4nn.encode(np.zeros((1, 3), np.uint8), 2), "encode: 2 time steps; give 4 or more"),
        (
            lambda: s4nn.images(np.array([[-1, 2]])),
            "images: times are int64 of shape (1, 2); give integers from 0 (images, units)",
        ),
        (
            lambda: s4nn.images(np.array([[0.5, 2]])),
            "images: times are float64 of shape (1, 2); give integers from 0 (images, units)",
        ),
        (
            lambda: s4nn.respond(NET._replace(hidden=np.ones((4, 2))), IMAGES, P),
            "s4nn: images have 3 pixels, the network takes 4",
        ),
        (
            lambda: s4nn.respond(NET._replace(output=np.full((2, 2), np.nan)), IMAGES, P),
            "s4nn: the output weights hold NaN or infinite values",
        ),
        (
            lambda: s4nn.respond(NET, s4nn.images(np.array([[1, 2, 9]]), 16), P._replace(end=5)),
            "s4nn: a pixel spikes at step 9 of 5; encode the images with this end",
        ),
        *[
            (lambda change=change: s4nn.respond(NET, IMAGES, P._replace(**change)), SETTINGS)
            for change in (
                {"rate": -1.0},
                {"rate": np.nan},
                {"decay": np.nan},
                {"rate": 2.0, "decay": 0.5},
                {"thresholds": (3.0,)},
                {"thresholds": (3.0, np.nan)},
                {"margin": 1.7},
                {"end": 3},
            )
        ],
        (
            lambda: s4nn.respond(NET._replace(output=np.ones((50, 2))), IMAGES, P),
            "s4nn: weights have shapes (3, 2) and (50, 2); give floats (pixels, hidden) and (hidden, classes)",
        ),
        (
            lambda: s4nn.respond(NET._replace(hidden=np.ones((3, 2), int)), IMAGES, P),
            "s4nn: weights have shapes (3, 2) and (2, 2); give floats (pixels, hidden) and (hidden, classes)",
        ),
        (
            lambda: s4nn.respond(NET, IMAGES._replace(times=IMAGES.times[::-1].copy()), P),
            "s4nn: the pixels of an image are not in order of their times; make them with `encode` or `images`",
        ),
        (
            lambda: s4nn.respond(NET, IMAGES._replace(pixels=IMAGES.pixels + 1), P),
            "s4nn: a pixel or a time lies outside the images; make them with `encode` or `images`",
        ),
        (
            lambda: s4nn.respond(NET, IMAGES._replace(starts=np.array([0, 2])), P),
            "s4nn: the lists of pixels do not fit together; make them with `encode` or `images`",
        ),
        (lambda: s4nn.respond(NET, s4nn.images(np.full((2, 3), 99), 16), P), "s4nn: no pixel of any image spikes"),
        (
            lambda: s4nn.train_epoch(NET, IMAGES, np.array([1]), P, np.array([-1])),
            "s4nn: the order names images outside 0 .. 0",
        ),
        (lambda: train(np.array([2])), "s4nn: give one label from 0 to 1 for each of 1 images"),
        *[
            (
                lambda end=end: s4nn.encode(np.ones((1, 3), np.uint8), end),
                f"encode: {end} time steps; give a whole number",
            )
            for end in (16.5, np.nan)
        ],
        *[
            (
                lambda shape=shape: s4nn.images(np.zeros(shape, int)),
                f"images: times have shape {shape}; give one image and one unit or more",
            )
            for shape in ((0, 3), (2, 0))
        ],
        *[
            (lambda end=end: s4nn.images(np.ones((1, 3), int), end), f"images: {end} time steps; give 1 or more")
            for end in (0, -1, np.nan)
        ],
        *[
            (
                lambda sizes=sizes: s4nn.initial_network(sizes, P, np.random.default_rng(0)),
                f"s4nn: sizes are {sizes}; give the numbers of pixels, hidden neurons and classes, each from 1",
            )
            for sizes in ((3, 2), (3, 0, 2), (3, -1, 2), (3.0, 2, 2))
        ],
        *[
            (
                lambda change=change: s4nn.initial_network((3, 2, 2), P._replace(**change), np.random.default_rng(0)),
                f"s4nn: {next(iter(change))} is {next(iter(change.values()))}; give a finite number from 0",
            )
            for change in ({"hidden_range": -5.0}, {"output_range": np.nan})
        ],
        (
            lambda: s4nn.respond(NET, IMAGES, P._replace(thresholds=3.0)),
            "s4nn: thresholds are 3.0; give two, of the hidden and of the output neurons",
        ),
        *[
            (
                lambda change=change: s4nn.respond(NET, IMAGES, P._replace(**change)),
                f"s4nn: end is {change.get('end', 16)}, margin {change.get('margin', 3)}; give whole numbers of steps",
            )
            for change in ({"end": 16.0}, {"end": np.nan}, {"margin": np.nan})
        ],
        (
            lambda: s4nn.respond(s4nn.Network([[1.0]], [[1.0]]), IMAGES, P),
            "s4nn: the weights are no NumPy arrays; give floats (pixels, hidden) and (hidden, classes)",
        ),
        (
            lambda: s4nn.respond(NET._replace(output=NET.output.astype(np.float16)), IMAGES, P),
            "s4nn: the output weights are float16; give float32 or float64",
        ),
        (
            lambda: s4nn.respond(s4nn.Network(np.ones((3, 0)), np.ones((0, 2))), IMAGES, P),
            "s4nn: the hidden weights have shape (3, 0); give one neuron or more",
        ),
        (
            lambda: s4nn.respond(NET._replace(output=np.ones((2, 0))), IMAGES, P),
            "s4nn: the output weights have shape (2, 0); give one neuron or more",
        ),
        *[
            (
                lambda name=name, listed=listed: s4nn.respond(NET, IMAGES._replace(**{name: listed}), P),
                f"s4nn: the {name} of the images are no list of integers; make them with `encode` or `images`",
            )
            for name, listed in (
                ("starts", IMAGES.starts.astype(float)),
                ("pixels", IMAGES.pixels[:, None]),
                ("times", IMAGES.times + 0.5),
                ("times", IMAGES.times[::-1].astype(np.uint8)),  # differences of unsigned numbers are never negative
            )
        ],
        *[
            (
                lambda label=label: train(label),
                "s4nn: the labels must be a list of integers; give an int64 array (images,)",
            )
            for label in (np.array([0.5]), np.array([True]), np.array([[1]]), [1])
        ],
        *[
            (
                lambda order=order: s4nn.train_epoch(NET, IMAGES, np.array([1]), P, order),
                "s4nn: the order must be a list of integers; give an int64 array (images,)",
            )
            for order in (np.array([0.0]), np.array([True]), np.array([[0]]), [0])
        ],
        (
            lambda: s4nn.train_epoch(
                NET._replace(output=np.broadcast_to(1.0, (2, 2))), IMAGES, np.array([1]), P, np.arange(1)
            ),
            "s4nn: the weights are read-only, and learning changes them in place; give a copy",
        ),
        *[
            (
                lambda dead=dead: s4nn.redraw(NET, dead, P, np.random.default_rng(0)),
                f"redraw: dead neurons are {dead.dtype} of shape {dead.shape}; give a list of their indices",
            )
            for dead in (np.array([0.0]), np.array([True, False]), np.array([[0]]))
        ],
        *[
            (
                lambda k=k: s4nn.redraw(NET, np.array([k]), P, np.random.default_rng(0)),
                f"redraw: dead neurons {k} .. {k} lie outside 0 .. 1",
            )
            for k in (-1, 2)
        ],
        (
            lambda: s4nn.redraw(NET, np.array([0]), P._replace(hidden_range=np.nan), np.random.default_rng(0)),
            "redraw: hidden_range is nan; give a finite number from 0",
        ),
        *[
            (
                lambda label=label: s4nn.score(ANSWERS, label, P),
                "score: give labels as an array of 2 integers, one for each answer",
            )
            for label in (np.array([0]), np.array([[0], [1]]), np.array([0.0, 1.0]), [0, 1])
        ],
        *[
            (
                lambda label=label: s4nn.score(ANSWERS, np.array(label), P),
                f"score: labels {min(label)} .. {max(label)} lie outside 0 .. 1",
            )
            for label in ((0, 2), (-1, 0))
        ],
        (
            lambda: s4nn.score(s4nn.Answers(*(part[:0] for part in ANSWERS)), np.arange(0), P),
            "score: answers have shape (0, 2); give one image and one class or more",
        ),
        (
            lambda: s4nn.score(ANSWERS, np.array([0, 1]), P._replace(end=8)),
            "score: an answer lasts 16 steps of 8; give the settings it was made with",
        ),
        (
            lambda: s4nn.reference_update(NET._replace(output=np.ones((3, 2))), np.arange(3), 0, P),
            "s4nn: weights have shapes (3, 2) and (3, 2); give (pixels, hidden) and (hidden, classes)",
        ),
        (
            lambda: s4nn.reference_update(NET._replace(hidden=np.full((3, 2), np.nan)), np.arange(3), 0, P),
            "s4nn: the weights hold NaN or infinite values",
        ),
        *[
            (
                lambda times=times: s4nn.reference_update(NET, times, 0, P),
                "s4nn: give one time for each of 3 pixels, an integer from 0",
            )
            for times in (np.arange(2), np.arange(3)[None], np.arange(3) - 2, np.ones(3))
        ],
        *[
            (
                lambda label=label: s4nn.reference_update(NET, np.arange(3), label, P),
                f"s4nn: the label is {label}; give an integer from 0 to 1",
            )
            for label in (-1, 2, 1.0)
        ],
        (lambda: train(np.array([0, 1])), "s4nn: give one label from 0 to 1 for each of 1 images"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        call()


def train(label):
    return s4nn.train_epoch(NET, IMAGES, label, P, np.arange(1))
