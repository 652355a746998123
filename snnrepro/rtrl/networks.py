"""A recurrent layer of LIF neurons and a readout with an error in every step. Equation numbers: chapter `zenkeneftci2021`."""

from typing import NamedTuple

import numpy as np

from snnrepro import neurons
from snnrepro.errors import UserError
from snnrepro.neurons import LIF, Surrogate

RESETS = ("multiply", "subtract", "none")
SURROGATES = ("fast_sigmoid", "asymptotic")


class Model(NamedTuple):
    """Neurons and readout.

    Attributes:
        neuron: parameters of the neurons. Of its switches, `reset_gradient` says whether sensitivities pass through the reset;
            `recurrent_gradient` is not used, since each method says itself which recurrent paths it takes.
        tau_out: time constant of the readout in seconds; None: the readout is a weighted sum of the spikes of its step.
    """

    neuron: LIF = LIF(gain="leak", surrogate=Surrogate("fast_sigmoid", 10.0))
    tau_out: float | None = None


class Weights(NamedTuple):
    """Weights, or gradients of them, row = sender: input W `(m, n)`, recurrent V `(n, n)`, output `(n, k)`."""

    input: np.ndarray
    recurrent: np.ndarray
    output: np.ndarray


class Activity(NamedTuple):
    """What a network did, all `(time, batch, ...)` in float64.

    Attributes:
        x: input spikes.
        s: spikes S.
        slope: surrogate derivative of each spike.
        kick: derivative of the potential with respect to the neuron's spike of the step before; empty where it is left out.
        y: readout.
        u, i, a: potential, current, adaptation.
    """

    x: np.ndarray
    s: np.ndarray
    slope: np.ndarray
    kick: np.ndarray
    y: np.ndarray
    u: np.ndarray
    i: np.ndarray
    a: np.ndarray


class Loss(NamedTuple):
    """A loss and its derivative with respect to the readout `(time, batch, k)`."""

    value: float
    error: np.ndarray


class Factors(NamedTuple):
    """Factors of one step, one a neuron `(n,)`; `strength` is empty without adaptation. `kappa` is that of the readout."""

    alpha: np.ndarray
    beta: np.ndarray
    gain: np.ndarray
    rho: np.ndarray
    jump: np.ndarray
    strength: np.ndarray
    kappa: float


def factors(model: Model, n: int) -> Factors:
    """The factors of one step of `n` neurons.

    Raises:
        UserError: parameters that make no sense or are not finite, or that this method does not have.
    """
    p = neurons.check(model.neuron)
    if p.reset not in RESETS or p.refractory > 1:
        raise UserError(
            f"rtrl: reset {p.reset!r} with {p.refractory} refractory steps; it can do {', '.join(RESETS)} without"
        )
    if p.surrogate.name not in SURROGATES:
        raise UserError(f"rtrl: surrogate is {p.surrogate.name!r}; choose one of {', '.join(SURROGATES)}")
    if not (0 <= p.surrogate.slope < np.inf and 0 <= p.surrogate.scale < np.inf):
        raise UserError(f"rtrl: slope and scale of the surrogate are {p.surrogate[1:]}; give finite numbers, 0 or more")
    if np.shape(p.threshold) not in ((), (n,)):
        raise UserError(f"rtrl: threshold has shape {np.shape(p.threshold)}; give one number, or {n}")
    if np.ndim(model.tau_out):
        raise UserError(f"rtrl: tau_out has shape {np.shape(model.tau_out)}; give one number in seconds, or None")
    if model.tau_out is not None and not model.tau_out > 0:
        raise UserError(f"rtrl: tau_out is {model.tau_out}; it must be positive, in seconds, or None")
    found = [neurons.alpha(p), neurons.beta(p), neurons.gain(p), neurons.rho(p), neurons.jump(p)]
    if p.adaptation is not None:
        found.append(p.adaptation.strength)
    try:
        rows = [np.broadcast_to(np.asarray(f, float), (n,)).copy() for f in found]
    except ValueError:
        raise UserError(f"rtrl: a parameter has not one entry for each of {n} neurons") from None
    if not np.isfinite(rows).all():
        raise UserError(
            "rtrl: a parameter of the neurons is not finite; look at their time constants and their adaptation"
        )
    rows += [] if p.adaptation is not None else [np.empty(0)]
    return Factors(*rows, float(neurons.decay(p.dt, model.tau_out)))


def check(weights: Weights) -> None:
    """Do weights fit together?

    Raises:
        UserError: shapes that do not fit, weights that are not finite, or neither float32 nor float64.
    """
    if weights.output.ndim != 2 or not weights.output.size:
        raise UserError(f"rtrl: output weights have shape {weights.output.shape}; give (n, k), not empty")
    n = weights.output.shape[0]
    for name, (found, expected) in {
        "recurrent": (weights.recurrent.shape, (n, n)),
        "input": (weights.input.shape[1:], (n,)),
    }.items():
        if found != expected:
            raise UserError(f"rtrl: {name} weights end in shape {found}; the output weights ask for {expected}")
    for name, w in weights._asdict().items():
        if w.dtype not in (np.float32, np.float64):
            raise UserError(f"rtrl: {name} weights are {w.dtype}; give float64, or float32")
        if not np.isfinite(w).all():
            raise UserError(f"rtrl: {name} weights are not finite; use a smaller learning rate")


def _slope(x: np.ndarray, surrogate: Surrogate) -> np.ndarray:
    """Surrogate derivative at a distance x from the threshold."""
    height = surrogate.scale * (surrogate.slope if surrogate.name == "asymptotic" else 1.0)
    return height / (1 + surrogate.slope * np.abs(x)) ** 2  # Eq. (4)


def run(model: Model, weights: Weights, x: np.ndarray) -> Activity:
    """Let a network run from rest.

    Args:
        model: neurons and readout.
        weights: of the network.
        x: input `(time, batch, m)`.

    Raises:
        UserError: parts that do not fit, or input that is empty or not finite.
    """
    check(weights)
    n, p = weights.output.shape[0], model.neuron
    c = factors(model, n)
    if x.ndim != 3 or x.shape[2] != len(weights.input) or not x.size:
        raise UserError(f"rtrl: input has shape {x.shape}; give (time, batch, {len(weights.input)}), not empty")
    if not np.isfinite(x).all():
        raise UserError("rtrl: input is not finite")
    x, drive = x.astype(float), x @ weights.input
    state, y = neurons.zero_state((x.shape[1], n)), np.zeros((x.shape[1], weights.output.shape[1]))
    strength = c.strength if c.strength.size else np.zeros(n)
    record = {name: [] for name in ("s", "slope", "kick", "y", "u", "i", "a")}
    for step in drive:
        before, state = state, neurons.lif_step(state, step, p, weights.recurrent)  # Eqs. (1)-(3)
        y = c.kappa * y + (1 - c.kappa) * state.s @ weights.output  # Eq. (5)
        used = before.i if p.current == "old" else state.i
        kick = {"multiply": -(c.beta * before.u + c.gain * used), "subtract": np.full_like(used, -p.threshold)}
        record["kick"].append(kick.get(p.reset, np.zeros_like(used)))
        record["slope"].append(_slope(state.u - p.threshold - strength * state.a, p.surrogate))
        record["y"].append(y)
        for name in ("s", "u", "i", "a"):
            record[name].append(getattr(state, name))
    found = {name: np.stack(rows) for name, rows in record.items()}
    if not p.reset_gradient or p.reset == "none":
        found["kick"] = np.empty((0, 0, 0))
    return Activity(x, **found)


def cross_entropy(y: np.ndarray, label: np.ndarray) -> Loss:
    """Softmax cross-entropy in every step, averaged over steps and samples. label: class of each sample `(batch,)`.

    Raises:
        UserError: labels that do not fit, a readout of another form, or a loss that is not finite.
    """
    if y.ndim != 3 or not y.size:
        raise UserError(f"rtrl: readout has shape {y.shape}; give (time, batch, k), not empty")
    label = np.asarray(label)
    steps, batch, k = y.shape
    if label.shape != (batch,) or label.dtype.kind not in "iu" or not ((label >= 0) & (label < k)).all():
        raise UserError(f"rtrl: labels have shape {label.shape}; give {batch} whole numbers below {k}")
    shifted = y - y.max(2, keepdims=True)
    log_share = shifted - np.log(np.exp(shifted).sum(2, keepdims=True))
    value = -float(log_share[:, np.arange(batch), label].mean())  # Eq. (6)
    if not np.isfinite(value):
        raise UserError("rtrl: the loss is not finite; use a smaller learning rate")
    return Loss(value, (np.exp(log_share) - np.eye(k)[label]) / (steps * batch))
