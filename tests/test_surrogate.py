"""Surrogate derivatives, layers, losses and training."""

import math
import re

import numpy as np
import pytest
import torch

from snnrepro import surrogate
from snnrepro.errors import UserError
from snnrepro.neurons import LIF, Adaptation, Surrogate

X = torch.linspace(-3, 3, 601, dtype=torch.float64)


def test_asymptotic_integral_tends_to_the_step():
    x = torch.linspace(-50, 50, 1_000_001, dtype=torch.float64)
    area = torch.trapezoid(surrogate.derivative(Surrogate("asymptotic", 20.0))(x), x)
    assert float(area) == pytest.approx(2.0, abs=0.01)  # of its antiderivative, from -1 to 1


def test_unknown_surrogate_is_named():
    with pytest.raises(UserError, match="unknown surrogate 'relu'; known: step, fast_sigmoid"):
        surrogate.spike(X, Surrogate("relu", 1.0))


def test_a_spike_counted_twice_weighs_twice():
    zero = torch.zeros(2, dtype=torch.int64)
    drive = surrogate.project(surrogate.events(zero, zero, zero, (1, 1, 1)), torch.tensor([[0.7]]))
    assert float(drive) == pytest.approx(1.4)


@pytest.mark.parametrize(
    ("x", "w", "message"),
    [
        ((5, 0, 3), (3, 2), r"input has shape \(5, 0, 3\)"),
        ((5, 3), (3, 2), r"input has shape \(5, 3\)"),
        ((5, 2, 3), (4, 2), r"weights have shape \(4, 2\); give \(3, neurons\)"),
    ],
)
def test_bad_shapes_are_named(x, w, message):
    with pytest.raises(UserError, match=message):
        surrogate.lif(torch.zeros(x), torch.zeros(w), LIF())


def test_bad_recurrent_weights_and_engine_are_named():
    x, w = torch.zeros(4, 1, 3), torch.zeros(3, 2)
    with pytest.raises(UserError, match=r"recurrent weights have shape \(3, 3\); give \(2, 2\)"):
        surrogate.lif(x, w, LIF(), torch.zeros(3, 3))
    with pytest.raises(UserError, match="unknown engine 'gpu'"):
        surrogate.lif(x, w, LIF(), engine="gpu")


def small_task(seed=0):
    g = torch.Generator().manual_seed(seed)
    x = (torch.rand(30, 12, 8, generator=g) < 0.15).float()
    return x, torch.randint(2, (12,), generator=g), surrogate.initial_network((8, 6, 2), 0.7, g)


def test_training_lowers_the_loss_and_the_penalty_the_activity():
    p, results = LIF(), {}
    for strength in (0.0, 0.01):
        x, label, network = small_task()
        optimiser = torch.optim.Adam(network.weights().values(), lr=0.02)
        penalty = (lambda s, k=strength: surrogate.spytorch_penalty(s, k, 0.0)) if strength else None
        losses = surrogate.train(network, [(x, label)] * 60, p, optimiser, penalty)
        results[strength] = losses, surrogate.evaluate(network, [(x, label)], p)
    assert results[0.0][0][-1] < 0.6 * results[0.0][0][0]
    assert results[0.0][1][0] > 0.65
    assert results[0.01][1][1] < 0.8 * results[0.0][1][1]


@pytest.mark.parametrize("kind", ["Adam", "Adamax"])
def test_a_checkpoint_continues_bit_for_bit(kind):
    x, label, network = small_task()
    optimiser = getattr(torch.optim, kind)(network.weights().values(), lr=0.01)
    surrogate.train(network, [(x, label)] * 5, LIF(), optimiser)
    saved = surrogate.pack(network, optimiser)
    through = surrogate.train(network, [(x, label)] * 5, LIF(), optimiser)
    _, _, again = small_task(7)
    fresh = getattr(torch.optim, kind)(again.weights().values(), lr=0.01)
    surrogate.unpack(saved, again, fresh)
    assert surrogate.train(again, [(x, label)] * 5, LIF(), fresh) == through
    assert all(torch.equal(a, b) for a, b in zip(network.weights().values(), again.weights().values(), strict=True))


def test_one_step_of_one_neuron_has_a_gradient():
    w = torch.ones(1, 1, dtype=torch.float64, requires_grad=True)
    surrogate.lif(torch.ones(1, 1, 1).double(), w, LIF(current="new"), engine="fast").u.sum().backward()
    assert float(w.grad) == 1.0


# What is refused --------------------------------------------------------------------------------------------------------

GIVEN, W = torch.zeros(5, 2, 4), torch.ones(4, 2)
LISTED = surrogate.events(*(torch.tensor(index) for index in ([0, 2], [1, 0], [3, 0])), (5, 2, 4))
U, SCORE, LABEL, SPIKES = torch.zeros(7, 3, 2), torch.zeros(3, 2), torch.tensor([0, 1, 1]), torch.ones(5, 2, 3)


def given_events(shape):
    return lambda: surrogate.events(*[torch.zeros(0, dtype=torch.int64)] * 3, shape)


def generator():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        *[
            (
                lambda s=s: surrogate.spike(X, s),
                f"surrogate: slope is {s.slope}, scale {s.scale}; give finite numbers, the slope 0 or more",
            )
            for s in (
                Surrogate(slope=-1.0),
                Surrogate(slope=math.nan),
                Surrogate(slope=math.inf),
                Surrogate(scale=math.nan),
                Surrogate(scale=math.inf),
            )
        ],
        (
            lambda: surrogate.derivative(Surrogate("multi_gaussian", 0.0)),
            "surrogate: the slope of multi_gaussian is 0; it must be positive",
        ),
        *[
            (given_events(shape), f"events: the shape is {shape}; give whole numbers (time, batch, units)")
            for shape in ((5, 2), (5, 2, 4, 1), (-5, -2, 4), (5.0, 2, 4))
        ],
        *[
            (
                lambda x=x, w=w: surrogate.project(x, w),
                f"project: input has shape {tuple(x.shape)}, weights {tuple(w.shape)}; "
                "give (time, batch, units) and (units, neurons)",
            )
            for x, w in ((LISTED, W[:2]), (LISTED, torch.ones(9, 2)), (GIVEN, W[:, 0]), (GIVEN[0], W), (GIVEN, W[:2]))
        ],
        (
            lambda: surrogate.project(GIVEN.double(), W),
            "project: input is torch.float64, weights are torch.float32; give the same",
        ),
        *[
            (
                lambda x=x, w=w, v=v: surrogate.lif(x, w, LIF(), v),
                "lif: give the weights as tensors of torch, and the input as a tensor or as `events`",
            )
            for x, w, v in ((GIVEN.numpy(), W, None), (GIVEN, W.numpy(), None), (GIVEN, W, np.ones((2, 2))))
        ],
        *[
            (
                lambda x=x: surrogate.lif(x, W.long(), LIF()),
                "lif: weights are torch.int64; give floats, like float32 or float64",
            )
            for x in (GIVEN.long(), LISTED)
        ],
        *[
            (
                lambda x=x, engine=engine: surrogate.lif(x, W, LIF(), engine=engine),
                f"lif: the list of events does not fit its shape {x.shape}; make it with `events`",
            )
            for engine in ("fast", "reference")
            for x in (
                LISTED._replace(units=LISTED.units + 1),
                LISTED._replace(units=LISTED.units - 1),
                LISTED._replace(starts=LISTED.starts[:3]),
                LISTED._replace(starts=2 * LISTED.starts),
                LISTED._replace(starts=LISTED.starts + 1),
                LISTED._replace(starts=np.where(np.arange(11) == 5, 9, LISTED.starts)),
                LISTED._replace(shape=(6, 2, 4)),
            )
        ],
        *[
            (
                lambda x=x: surrogate.lif(x, W, LIF(), engine="auto"),
                f"lif: input is {x.dtype}, weights are torch.float32; give the same",
            )
            for x in (GIVEN.long(), GIVEN.double())
        ],
        *[
            (
                lambda engine=engine: surrogate.lif(GIVEN, W, LIF(adaptation=Adaptation(0.1, math.nan)), engine=engine),
                "lif: adaptation.strength holds NaN or infinite values",
            )
            for engine in ("fast", "reference")
        ],
        *[
            (
                lambda f=f, u=u: f(u),
                f"{f.__name__}: potentials have shape {tuple(u.shape)}; give (time, batch, classes), none of them empty",
            )
            for f in (surrogate.max_over_time, surrogate.last_step)
            for u in (U[0], U[:0])
        ],
        *[
            (lambda f=f, score=score, label=label: f(score, label), f"{f.__name__}: {message}")
            for f in (surrogate.classification_loss, surrogate.accuracy)
            for score, label, message in (
                (SCORE[0], LABEL, "scores have shape (2,); give (batch, classes), neither of them empty"),
                (SCORE[:0], LABEL[:0], "scores have shape (0, 2); give (batch, classes), neither of them empty"),
                (SCORE, LABEL.float(), "labels are of type torch.float32; give a tensor of int64"),
                (SCORE, SCORE, "labels are of type torch.float32; give a tensor of int64"),
                (SCORE, LABEL.numpy(), "labels are of type int64; give a tensor of int64"),
                (SCORE, LABEL[:2], "labels have shape (2,); give (3,), one a sample"),
                (SCORE, LABEL[:, None], "labels have shape (3, 1); give (3,), one a sample"),
                (SCORE, LABEL + 1, "labels 1 .. 2 lie outside 0 .. 1"),
                (SCORE, LABEL - 101, "labels -101 .. -100 lie outside 0 .. 1"),
            )
        ],
        *[
            (
                lambda f=f, s=s: f(s, 1.0, 1.0),
                f"{f.__name__}: spikes are {s.dtype} of shape {tuple(s.shape)}; give floats (time, batch, neurons)",
            )
            for f in (surrogate.spytorch_penalty, surrogate.lower_bound, surrogate.upper_bound)
            for s in (SPIKES[0], SPIKES[None], SPIKES[:, :0], SPIKES.long())
        ],
        *[
            (lambda f=f, a=a, b=b: f(SPIKES, a, b), f"{f.__name__}: {named[0]} is {a}, {named[1]} {b}; {wanted}")
            for f, named, wanted in (
                (surrogate.spytorch_penalty, ("l1", "l2"), "give finite numbers from 0"),
                (surrogate.lower_bound, ("strength", "least"), "give finite numbers from 0"),
                (surrogate.upper_bound, ("strength", "most"), "give numbers from 0"),
            )
            for a, b in ((-1.0, 1.0), (math.nan, 1.0), (1.0, -1.0), (1.0, math.nan))
        ],
        *[
            (lambda f=f, sizes=sizes: f(sizes), f"{name}: sizes are {sizes}; {wanted}")
            for name, f, wanted in (
                (
                    "initial_network",
                    lambda sizes: surrogate.initial_network(sizes, 1.0, generator()),
                    "give two or more whole numbers from 1: inputs, hidden layers, classes",
                ),
                (
                    "uniform_network",
                    lambda sizes: surrogate.uniform_network(sizes, True, generator()),
                    "give two or more whole numbers from 1: inputs, hidden layers, classes",
                ),
            )
            for sizes in ((4,), (4, 0, 2), (4, -1, 2), (4.0, 3, 2))
        ],
        *[
            (
                lambda scale=scale: surrogate.initial_network((4, 3, 2), scale, generator()),
                f"initial_network: scale is {scale}; give a finite number from 0",
            )
            for scale in (-1.0, math.nan)
        ],
        *[
            (
                lambda hidden=hidden: surrogate.classify(GIVEN, surrogate.Network(hidden, W), LIF()),
                "classify: the hidden weights are no tuple or an empty one; give one matrix a hidden layer",
            )
            for hidden in ((), W, W[None])
        ],
        *[
            (
                lambda count=count: surrogate.classify(
                    GIVEN, surrogate.Network((W, W[:2]), W[:2], (W[:2],) * count), LIF()
                ),
                f"classify: {count} recurrent weights for 2 hidden layers; give one a layer, or none",
            )
            for count in (1, 3)
        ],
        (lambda: surrogate.train(small_task()[2], [], LIF(), None), "train: there are no batches"),
        (lambda: surrogate.evaluate(small_task()[2], [], LIF()), "evaluate: there are no batches"),
        (
            lambda: surrogate.train(small_task()[2], [small_task()[:2]], LIF(), None, lambda s: s.sum((0, 1))),
            "train: the penalty has shape (6,); give one number for a layer",
        ),
    ],
)
def test_what_does_not_fit_is_named(call, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        call()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight/output": None}, "unpack: the checkpoint holds no weights output; give one of a network like this"),
        (
            {"weight/hidden0": np.ones((1, 6), np.float32)},
            "unpack: hidden0 is float32 of shape (1, 6) in the checkpoint, torch.float32 of shape (8, 6) here",
        ),
        (
            {"weight/hidden0": np.ones((8, 6), int)},
            "unpack: hidden0 is int64 of shape (8, 6) in the checkpoint, torch.float32 of shape (8, 6) here",
        ),
        (
            {"state/output/exp_avg": np.ones((6, 1), np.float32)},
            "unpack: the state of the optimiser for output has not the shape (6, 2) of the weights",
        ),
    ],
)
def test_a_checkpoint_of_another_network_is_refused(change, message):
    x, label, network = small_task()
    optimiser = torch.optim.Adam(network.weights().values())
    surrogate.train(network, [(x, label)], LIF(), optimiser)
    arrays = {name: a for name, a in (surrogate.pack(network, optimiser) | change).items() if a is not None}
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        surrogate.unpack(arrays, network, optimiser)
