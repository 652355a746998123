"""A recurrent network of spiking neurons with a leaky readout, and the gradients of its weights. Equation numbers: chapter `bellec2020`."""

import math
from typing import NamedTuple

import numpy as np

from snnrepro.errors import UserError
from snnrepro.kernels import eprop as kernel
from snnrepro.kernels.parallel import in_parallel, threads


class Neurons(NamedTuple):
    """Neurons and readout. Times are in steps.

    Attributes:
        beta: strength of the adaptation of each neuron `(n,)`; 0 where it has none.
        tau: time constant of the potential.
        tau_adaptation: of the adaptation.
        tau_out: of the readout.
        threshold: of a neuron that has not adapted; also what a spike takes off the potential.
        refractory: least number of steps from one spike to the next.
        scaled: inputs are multiplied by 1 - alpha, as in the authors' pattern generation.
        damping: height of the pseudo-derivative, in units of 1 / threshold.
    """

    beta: np.ndarray
    tau: float = 20.0
    tau_adaptation: float = 2000.0
    tau_out: float = 20.0
    threshold: float = 0.6
    refractory: int = 5
    scaled: bool = False
    damping: float = 0.3


class Weights(NamedTuple):
    """Weights, or gradients of them: input `(m, n)`, recurrent `(n, n)` with a diagonal that is not used, output `(n, k)`."""

    input: np.ndarray
    recurrent: np.ndarray
    output: np.ndarray


class Activity(NamedTuple):
    """What a network did, all `(time, batch, ...)`.

    Attributes:
        x: input spikes, uint8.
        z: spikes, uint8.
        psi: pseudo-derivatives.
        y: readout.
        v, a: potential and adaptation; empty unless they were asked for.
    """

    x: np.ndarray
    z: np.ndarray
    psi: np.ndarray
    y: np.ndarray
    v: np.ndarray
    a: np.ndarray


def check(neurons: Neurons, weights: Weights) -> None:
    """Do neurons and weights fit?

    Raises:
        UserError: shapes that do not fit, a time constant or threshold that is not positive, weights that are not finite, or not all
            float32 or all float64.
    """
    if weights.output.ndim != 2 or not weights.output.size:
        raise UserError(f"e-prop: output weights have shape {weights.output.shape}; give (n, k), not empty")
    n, k = weights.output.shape
    shapes = {"recurrent weights": (weights.recurrent.shape, (n, n)), "input weights": (weights.input.shape[1:], (n,))}
    shapes["beta"] = (np.shape(neurons.beta), (n,))
    for name, (found, expected) in shapes.items():
        if found != expected:
            raise UserError(f"e-prop: {name} end in shape {found}; the output weights {n, k} ask for {expected}")
    for name in ("tau", "tau_adaptation", "tau_out", "threshold", "refractory", "damping"):
        if np.ndim(getattr(neurons, name)) > 0:
            raise UserError(
                f"e-prop: {name} has shape {np.shape(getattr(neurons, name))}; give one number for all neurons"
            )
    for name in ("tau", "tau_adaptation", "tau_out", "threshold"):
        if not getattr(neurons, name) > 0:
            raise UserError(f"e-prop: {name} is {getattr(neurons, name)}; it must be positive")
    if not neurons.refractory >= 0 or neurons.refractory % 1:
        raise UserError(f"e-prop: refractory is {neurons.refractory}; give a whole number of steps, 0 or more")
    if not 0 <= neurons.damping < math.inf:
        raise UserError(f"e-prop: damping is {neurons.damping}; give a finite number, 0 or more")
    if not isinstance(neurons.beta, np.ndarray):
        raise UserError(f"e-prop: beta is a {type(neurons.beta).__name__}; give an array")
    if not np.isfinite(neurons.beta).all():
        raise UserError("e-prop: beta is not finite; give a number for each neuron, 0 where it does not adapt")
    for name, w in weights._asdict().items():
        if w.dtype not in (np.float32, np.float64) or w.dtype != weights.output.dtype:
            raise UserError(
                f"e-prop: {name} weights are {w.dtype}, output weights {weights.output.dtype}; give all float32 or float64"
            )
        if not np.isfinite(w).all():
            raise UserError(f"e-prop: {name} weights are not finite; use a smaller learning rate")


def _constants(neurons: Neurons, dtype: np.dtype) -> np.ndarray:
    """What the compiled loops take of the neurons.

    Raises:
        UserError: a time constant or threshold that is not positive.
    """
    for name in ("tau", "tau_adaptation", "tau_out", "threshold"):
        if not getattr(neurons, name) > 0:
            raise UserError(f"e-prop: {name} is {getattr(neurons, name)}; it must be positive")
    alpha, kappa = math.exp(-1 / neurons.tau), math.exp(-1 / neurons.tau_out)
    rho, threshold = math.exp(-1 / neurons.tau_adaptation), neurons.threshold
    height = neurons.damping / threshold
    gain = 1 - alpha if neurons.scaled else 1.0
    return np.array([alpha, rho, threshold, gain, kappa, 1 - kappa, height, height / threshold, 0, 1], dtype)


def _without_loops(w: np.ndarray) -> np.ndarray:
    """Recurrent weights without connections from a neuron to itself."""
    w = w.copy()
    np.fill_diagonal(w, 0)
    return w


def _by_sample(part: np.ndarray) -> np.ndarray:
    """An array (time, batch, unit) as the compiled loops take it: (batch, time, unit), in this order in memory."""
    return np.ascontiguousarray(part.swapaxes(0, 1))


def run(neurons: Neurons, weights: Weights, x: np.ndarray, watch: bool = False) -> Activity:
    """Let a network run from rest.

    Args:
        neurons: neurons and readout.
        weights: in the type in which everything is computed, float32 or float64.
        x: input spikes `(time, batch, m)`, 0 or 1.
        watch: keep potentials and adaptations.

    Raises:
        UserError: parts that do not fit, or input other than spikes.
    """
    check(neurons, weights)
    if x.ndim != 3 or x.shape[2] != len(weights.input) or not x.size:
        raise UserError(f"e-prop: input has shape {x.shape}; give (time, batch, {len(weights.input)}), not empty")
    spikes = x.astype(np.uint8)
    if not np.array_equal(spikes, x) or spikes.max() > 1:
        raise UserError("e-prop: input holds something other than 0 and 1")
    spikes = _by_sample(spikes)
    dtype, (steps, batch, _), (n, k) = weights.output.dtype, x.shape, weights.output.shape
    c = _constants(neurons, dtype)
    z, psi, y = (
        np.empty((batch, steps, n), np.uint8),
        np.empty((batch, steps, n), dtype),
        np.empty((batch, steps, k), dtype),
    )
    v, a = (np.empty((batch, steps, n) if watch else (0, 0, 0), dtype) for _ in range(2))
    beta, recurrent = neurons.beta.astype(dtype), _without_loops(weights.recurrent)

    def share(worker: int, low: int, high: int) -> None:
        kernel.forward(
            low, high, spikes, weights.input, recurrent, weights.output, c, beta, dtype.type(neurons.refractory), z, psi, y, v, a
        )  # fmt: skip

    in_parallel(share, min(threads(), batch), batch)
    spikes, z, psi, y, v, a = (part.swapaxes(0, 1) for part in (spikes, z, psi, y, v, a))
    return Activity(spikes, z, psi, np.ascontiguousarray(y), v, a)


class Rule(NamedTuple):
    """Which paths the gradient takes: through recurrent spikes, and through the reset. e-prop takes neither, BPTT both."""

    through: bool
    reset: bool


EPROP, BPTT = Rule(False, False), Rule(True, True)


def gradients(
    neurons: Neurons,
    weights: Weights,
    activity: Activity,
    error: np.ndarray,
    rule: Rule = EPROP,
    feedback: np.ndarray | None = None,
    rate_error: np.ndarray | None = None,
    signal: np.ndarray | None = None,
) -> Weights:
    """Gradients of the weights in the adjoint form: filters run over learning signals, backwards in time, and not over traces.

    They equal those of `online_gradients` where `rule.through` is False, and take memory for (time, batch, n) only.

    Args:
        neurons: neurons and readout.
        weights: the weights with which the activity was found.
        activity: from `run`.
        error: derivative of the loss with respect to the readout `(time, batch, k)`.
        rule: EPROP or BPTT.
        feedback: B, `(n, k)`; None: the output weights, as BPTT has it.
        rate_error: derivative of the regulariser with respect to each spike `(batch, n)`; None: 0.
        signal: filled with the derivative of the loss with respect to each spike `(time, batch, n)`; None: not wanted.

    Raises:
        UserError: parts that do not fit, or an error that is not finite.
    """
    given = _given(weights, activity, error, feedback, rate_error)
    dtype, batch, c = weights.output.dtype, activity.z.shape[1], _constants(neurons, weights.output.dtype)
    if np.shape(neurons.beta) != activity.z.shape[2:] or not np.isfinite(neurons.beta).all():
        raise UserError(
            f"e-prop: beta has shape {np.shape(neurons.beta)}; give {activity.z.shape[2]} finite numbers, as in the run"
        )
    if signal is not None and (signal.shape != activity.z.shape or signal.dtype != dtype):
        raise UserError(f"e-prop: signal has shape {signal.shape}, {signal.dtype}; give {activity.z.shape}, {dtype}")
    workers = min(threads(), batch)
    parts = [Weights(*(np.zeros_like(w) for w in weights)) for _ in range(workers)]
    beta, feedback = neurons.beta.astype(dtype), np.ascontiguousarray(given.feedback.T)
    receivers = np.ascontiguousarray(_without_loops(weights.recurrent).T)
    arrays = [_by_sample(part) for part in (activity.x, activity.z, activity.psi, given.error)]
    signals = np.empty((0, 0, 0) if signal is None else arrays[2].shape, dtype)

    def share(worker: int, low: int, high: int) -> None:
        kernel.adjoint(
            low, high, *arrays[:3], receivers, feedback, arrays[3], given.rate_error, c, beta, rule.through, rule.reset,
            *parts[worker], signals,
        )  # fmt: skip

    in_parallel(share, workers, batch)
    if signal is not None:
        signal[...] = signals.swapaxes(0, 1)
    total = Weights(*(np.sum(each, 0) for each in zip(*parts, strict=True)))
    np.fill_diagonal(total.recurrent, 0)
    return total


class Traces(NamedTuple):
    """Eligibility of a few synapses over time, for the last sample: `(time, synapses)` each.

    Attributes:
        v, a: both components of the eligibility vector.
        e: eligibility trace.
        filtered: the same, filtered like the readout.
    """

    v: np.ndarray
    a: np.ndarray
    e: np.ndarray
    filtered: np.ndarray


def online_gradients(
    neurons: Neurons,
    weights: Weights,
    activity: Activity,
    error: np.ndarray,
    reset: bool = False,
    feedback: np.ndarray | None = None,
    rate_error: np.ndarray | None = None,
    watched: np.ndarray | None = None,
) -> tuple[Weights, Traces]:
    """Gradients of e-prop in the online form: an eligibility trace a synapse, forwards in time; its memory does not grow with time.

    Args:
        neurons: neurons and readout.
        weights: the weights with which the activity was found.
        activity: from `run`.
        error: derivative of the loss with respect to the readout `(time, batch, k)`.
        reset: traces go through the reset.
        feedback: B, `(n, k)`; None: the output weights.
        rate_error: derivative of the regulariser with respect to each spike `(batch, n)`; None: 0.
        watched: synapses `(sender, receiver)` whose traces are kept; senders below m are inputs, the others neurons.

    Raises:
        UserError: parts that do not fit, or an error that is not finite.
    """
    given = _given(weights, activity, error, feedback, rate_error)
    dtype, (steps, batch, n), c = weights.output.dtype, activity.z.shape, _constants(neurons, weights.output.dtype)
    if np.shape(neurons.beta) != (n,) or not np.isfinite(neurons.beta).all():
        raise UserError(f"e-prop: beta has shape {np.shape(neurons.beta)}; give {n} finite numbers, as in the run")
    if watched is not None and np.size(watched) and np.asarray(watched).dtype.kind not in "iu":
        raise UserError(
            f"e-prop: watched holds {np.asarray(watched).dtype}; give whole numbers, pairs (sender, receiver)"
        )
    m, beta = len(weights.input), neurons.beta.astype(dtype)
    learning = _by_sample(given.error @ given.feedback.T)
    before = np.concatenate([np.zeros((1, batch, n), np.uint8), activity.z[:-1]])
    pre = _by_sample(np.concatenate([activity.x, before], 2))
    watched = np.zeros((0, 2), np.int64) if watched is None else np.asarray(watched, np.int64)
    if watched.ndim != 2 or watched.shape[1] != 2 or not ((watched >= 0) & (watched < (m + n, n))).all():
        raise UserError(
            f"e-prop: watched are pairs (sender below {m + n}, receiver below {n}); found {watched.tolist()}"
        )
    g, traces = np.zeros((m + n, n), dtype), np.empty((steps, len(watched), 4), dtype)
    kernel.online(
        0, batch, pre, _by_sample(activity.psi), learning, given.rate_error, c, beta, reset, g,
        *(np.empty((m + n, n), dtype) for _ in range(3)), watched, traces,
    )  # fmt: skip
    filtered, out = np.zeros((batch, n), dtype), np.zeros_like(weights.output)
    for t in range(steps):
        filtered = c[4] * filtered + c[5] * activity.z[t]
        out += filtered.T @ given.error[t]
    recurrent = _without_loops(g[m:])
    return Weights(g[:m], recurrent, out), Traces(*np.moveaxis(traces, 2, 0))


class _Given(NamedTuple):
    error: np.ndarray
    feedback: np.ndarray
    rate_error: np.ndarray


def _given(
    weights: Weights, activity: Activity, error: np.ndarray, feedback: np.ndarray | None, rate_error: np.ndarray | None
) -> _Given:
    """Errors and feedback in the type of the weights.

    Raises:
        UserError: parts that do not fit, an error or weights that are not finite, or an activity of another type than the weights.
    """
    for name, w in weights._asdict().items():
        if w.ndim != 2 or w.dtype not in (np.float32, np.float64) or w.dtype != activity.psi.dtype:
            raise UserError(
                f"e-prop: {name} weights are {w.dtype} {w.shape}, the activity {activity.psi.dtype}; give those of the run"
            )
        if not np.isfinite(w).all():
            raise UserError(f"e-prop: {name} weights are not finite; use a smaller learning rate")
    for name in ("x", "z", "psi", "y"):
        if getattr(activity, name).ndim != 3 or getattr(activity, name).shape[:2] != activity.z.shape[:2]:
            raise UserError(
                f"e-prop: {name} of the activity has shape {getattr(activity, name).shape}; give (time, batch, ...) as in z"
            )
    for name in ("x", "z"):
        if getattr(activity, name).dtype != np.uint8:
            raise UserError(
                f"e-prop: {name} of the activity is {getattr(activity, name).dtype}; give spikes as uint8, as from run"
            )
    if activity.psi.shape != activity.z.shape:
        raise UserError(f"e-prop: psi of the activity has shape {activity.psi.shape}; give {activity.z.shape}")
    dtype, batch, (n, k) = weights.output.dtype, activity.z.shape[1], weights.output.shape
    sizes = activity.x.shape[2], activity.z.shape[2], activity.y.shape[2]
    if sizes != (len(weights.input), n, k):
        raise UserError(
            f"e-prop: the activity is that of {sizes} inputs, neurons and outputs, the weights are for {len(weights.input), n, k}"
        )
    if weights.input.shape[1] != n or weights.recurrent.shape != (n, n):
        raise UserError(
            f"e-prop: input and recurrent weights have shapes {weights.input.shape}, {weights.recurrent.shape}; give (m, {n}), {n, n}"
        )
    feedback = weights.output if feedback is None else feedback
    rate_error = np.zeros((batch, n)) if rate_error is None else rate_error
    expected = {"error": activity.y.shape, "feedback": (n, k), "rate_error": (batch, n)}
    for name, array in {"error": error, "feedback": feedback, "rate_error": rate_error}.items():
        if array.shape != expected[name]:
            raise UserError(f"e-prop: {name} has shape {array.shape}; give {expected[name]}")
        if not np.isfinite(array).all():
            raise UserError(f"e-prop: {name} is not finite; use a smaller learning rate")
    return _Given(*(np.ascontiguousarray(array, dtype=dtype) for array in (error, feedback, rate_error)))
