"""Gradients of a recurrent layer: exact and approximate, forward and backward in time. Equation numbers: chapter `zenkeneftci2021`."""

from typing import Literal, NamedTuple

import numpy as np

from snnrepro.errors import UserError
from snnrepro.kernels import rtrl as kernel
from snnrepro.rtrl.networks import Activity, Model, Weights, check, factors

Paths = Literal["all", "own", "none"]
PATHS = ("all", "own", "none")
"""Through which recurrent weights a gradient passes: all of them; those of a neuron onto itself; none."""


class Given(NamedTuple):
    """What all kernels take: input and spikes of the step before side by side, activity, feedback, error, factors, two switches."""

    pre: np.ndarray
    s: np.ndarray
    slope: np.ndarray
    kick: np.ndarray
    feedback: np.ndarray
    error: np.ndarray
    factors: tuple[np.ndarray, ...]
    kappa: float
    multiply: bool
    old: bool


def influence(model: Model, weights: Weights) -> dict[str, np.ndarray]:
    """The arrays in which exact RTRL keeps its sensitivities, a row a weight: all that it needs beside the activity of a step."""
    m, n, k, adaptive, leaky = _sizes(model, weights)
    q = (m + n) * n
    sizes = {"g_i": (q, n), "g_u": (q, n), "g_a": (q * adaptive, n * adaptive), "g_y": (q * leaky, k * leaky)}
    return {name: np.zeros(shape) for name, shape in sizes.items()} | {name: np.zeros(n) for name in ("z", "learning")}


def traces(model: Model, weights: Weights) -> dict[str, np.ndarray]:
    """The arrays of a rule with eligibility traces, one set a synapse."""
    m, n, _, adaptive, leaky = _sizes(model, weights)
    shape = (m + n, n)
    sizes = {"e_i": 1, "e_u": 1, "e_a": adaptive, "filtered": leaky}
    return {name: np.zeros((shape[0] * on, n * on)) for name, on in sizes.items()} | {"learning": np.zeros(n)}


def line_traces(model: Model, weights: Weights) -> dict[str, np.ndarray]:
    """The arrays of a rule with two traces an input line."""
    m, n, _, _, leaky = _sizes(model, weights)
    shape = ((m + n) * leaky, n * leaky)
    return {"p": np.zeros(m + n), "q": np.zeros(m + n), "filtered": np.zeros(shape), "learning": np.zeros(n)}


def history(model: Model, activity: Activity) -> dict[str, np.ndarray]:
    """The arrays that backpropagation through time keeps of one sample, and its state."""
    _, _, n = activity.s.shape
    adaptive = model.neuron.adaptation is not None
    kept = {name: getattr(activity, name)[:, 0] for name in ("s", "slope", "kick") if getattr(activity, name).size}
    state = {name: np.zeros(n) for name in ("d_i", "d_u", "d_s")} | {"d_a": np.zeros(n * adaptive)}
    return kept | state | {"late": np.zeros(activity.y.shape[2])}


def exact(
    model: Model,
    weights: Weights,
    activity: Activity,
    error: np.ndarray,
    feedback: np.ndarray | None = None,
    paths: Paths = "all",
) -> Weights:
    """Real-time recurrent learning: forward in time, with the sensitivity of every state to every weight.

    Args:
        model: neurons and readout.
        weights: with which the activity was found.
        activity: from `networks.run`.
        error: derivative of the loss with respect to the readout `(time, batch, k)`.
        feedback: B `(n, k)`; None: the output weights.
        paths: `all` is exact; `own` and `none` leave out blocks of the matrix H, at full cost.

    Raises:
        UserError: parts that do not fit.
    """
    given = _given(model, weights, activity, error, feedback)
    n = len(weights.output)
    coupling = {"all": weights.recurrent, "own": np.diag(np.diag(weights.recurrent)), "none": np.zeros((n, n))}[
        _known(paths)
    ]
    total = np.zeros(given.pre.shape[2] * n)
    kernel.exact(*_start(given), coupling, *_end(given), *influence(model, weights).values(), total)
    return _split(model, weights, activity, error, total)


def local(
    model: Model,
    weights: Weights,
    activity: Activity,
    error: np.ndarray,
    feedback: np.ndarray | None = None,
    paths: Paths = "none",
) -> Weights:
    """Eligibility traces: forward in time, with the sensitivity of each neuron to its own weights.

    `none` leaves out all of the explicit recurrence: e-prop, and SuperSpike with its recurrent weights; `own` keeps the weights
    of neurons onto themselves: the block diagonal of H. Arguments as in `exact`.

    Raises:
        UserError: parts that do not fit.
    """
    given = _given(model, weights, activity, error, feedback)
    if _known(paths) == "all":
        raise UserError("rtrl: local traces do not know other neurons; choose paths own or none")
    own = np.diag(weights.recurrent).copy() if paths == "own" else np.empty(0)
    total = np.zeros((given.pre.shape[2], len(weights.output)))
    kernel.synapses(*_start(given), own, *_end(given), *traces(model, weights).values(), total)
    return _split(model, weights, activity, error, total)


def by_lines(
    model: Model, weights: Weights, activity: Activity, error: np.ndarray, feedback: np.ndarray | None = None
) -> Weights:
    """Traces of input lines, as in DECOLLE: no trace knows the reset, so that all synapses of an input share theirs.

    Without a reset, or with one that subtracts and is left out of the gradient, this is `local`. Arguments as in `exact`.

    Raises:
        UserError: parts that do not fit, neurons that adapt, or time constants that differ between neurons.
    """
    given = _given(model, weights, activity, error, feedback)
    single = [np.unique(f) for f in given.factors[:3]]
    if model.neuron.adaptation is not None or max(map(len, single)) > 1:
        raise UserError("rtrl: traces of input lines need neurons that are alike and do not adapt")
    total = np.zeros((given.pre.shape[2], len(weights.output)))
    kernel.lines(
        given.pre, given.slope, given.feedback, given.error, *(float(f[0]) for f in single), given.kappa, given.old,
        *line_traces(model, weights).values(), total,
    )  # fmt: skip
    return _split(model, weights, activity, error, total)


def adjoint(
    model: Model,
    weights: Weights,
    activity: Activity,
    error: np.ndarray,
    feedback: np.ndarray | None = None,
    paths: Paths = "all",
) -> Weights:
    """Backpropagation through time; with `paths` other than `all`, what the approximations give. Arguments as in `exact`.

    Raises:
        UserError: parts that do not fit.
    """
    given = _given(model, weights, activity, error, feedback)
    v = weights.recurrent
    coupling = {"all": v, "own": np.diag(np.diag(v)), "none": np.empty((0, 0))}[_known(paths)]
    total = np.zeros((given.pre.shape[2], len(weights.output)))
    work = history(model, activity)
    kernel.adjoint(
        *_start(given), np.ascontiguousarray(coupling), *_end(given), *(work[name] for name in ("d_i", "d_u", "d_a", "d_s", "late")),
        total,
    )  # fmt: skip
    return _split(model, weights, activity, error, total)


def jacobian(
    model: Model, weights: Weights, activity: Activity, step: int, sample: int = 0, paths: Paths = "all"
) -> np.ndarray:
    """H: derivative of all states after a step with respect to all states before it, in full. States are sorted by kind, I, U and a.

    Args:
        model: neurons and readout.
        weights: of the network.
        activity: from `networks.run`.
        step: of the activity.
        sample: of the batch.
        paths: as in `exact`.

    Raises:
        UserError: a step or a sample that the activity does not have, or recurrent weights that do not fit.
    """
    steps, batch, n = activity.s.shape
    if weights.recurrent.shape != (n, n):
        raise UserError(f"jacobian: recurrent weights have shape {weights.recurrent.shape}; give {n, n}")
    if not (0 <= step < steps and 0 <= sample < batch):
        raise UserError(f"jacobian: step {step} of {steps}, sample {sample} of {batch}; both count from 0")
    c, p, eye = factors(model, n), model.neuron, np.eye(n)
    before = step > 0
    slope = activity.slope[step - 1, sample] if before else np.zeros(n)
    spiked = activity.s[step - 1, sample] if before else np.zeros(n)
    adaptive = bool(c.strength.size)
    sent = np.hstack(
        [np.zeros((n, n)), np.diag(slope), *([-np.diag(slope * c.strength)] if adaptive else [])]
    )  # dS / dh
    v = weights.recurrent.T
    explicit = {"all": v, "own": np.diag(np.diag(v)), "none": 0 * v}[_known(paths)]
    i = explicit @ sent
    i[:, :n] += np.diag(c.alpha)
    current = np.hstack([eye, np.zeros((n, sent.shape[1] - n))]) if p.current == "old" else i
    kept = np.diag(1 - spiked if p.reset == "multiply" else np.ones(n))
    u = kept @ (c.gain[:, None] * current)
    u[:, n : 2 * n] += kept * c.beta
    if activity.kick.size:
        u += activity.kick[step, sample][:, None] * sent
    if not adaptive:
        return np.vstack([i, u])
    a = c.jump[:, None] * sent
    a[:, 2 * n :] += np.diag(c.rho)
    return np.vstack([i, u, a])  # Eq. (7)


def influx(model: Model, weights: Weights, activity: Activity, step: int, sample: int = 0) -> np.ndarray:
    """F: direct derivative of all states after a step with respect to W and V `(states, (m + n) n)`; weight q goes from q // n to q % n.

    Raises:
        UserError: a step or a sample that the activity does not have.
    """
    if not (0 <= step < activity.s.shape[0] and 0 <= sample < activity.s.shape[1]):
        raise UserError(
            f"influx: step {step} of {activity.s.shape[0]}, sample {sample} of {activity.s.shape[1]}; both count from 0"
        )
    n, p, c = activity.s.shape[2], model.neuron, factors(model, activity.s.shape[2])
    spiked = activity.s[step - 1, sample] if step else np.zeros(n)
    pre = np.concatenate([activity.x[step, sample], spiked])
    i = np.kron(pre, np.eye(n))
    kept = 1 - spiked if p.reset == "multiply" else np.ones(n)
    u = (kept * c.gain)[:, None] * i if p.current == "new" else np.zeros_like(i)
    return np.vstack([i, u, *([np.zeros_like(i)] if c.strength.size else [])])


def by_matrices(
    model: Model, weights: Weights, activity: Activity, error: np.ndarray, diagonal: bool = False
) -> Weights:
    """RTRL as it is written: G = H G + F with matrices. `diagonal`: the blocks of H that couple neurons are set to zero.

    Raises:
        UserError: parts that do not fit, or an error that is not finite.
    """
    for name in ("x", "s", "slope", "y"):
        if getattr(activity, name).ndim != 3 or getattr(activity, name).shape[:2] != activity.s.shape[:2]:
            raise UserError(
                f"rtrl: {name} of the activity has shape {getattr(activity, name).shape}; give (time, batch, ...) as in s"
            )
    steps, batch, n = activity.s.shape
    if (len(weights.input), *weights.output.shape) != (activity.x.shape[2], n, activity.y.shape[2]):
        raise UserError(
            f"rtrl: weights have shapes {[w.shape for w in weights]}, the activity {activity.x.shape, activity.s.shape, activity.y.shape}"
        )
    if error.shape != activity.y.shape:
        raise UserError(f"rtrl: error has shape {error.shape}; give {activity.y.shape}")
    if not np.isfinite(error).all():
        raise UserError("rtrl: error is not finite; use a smaller learning rate")
    c, total = factors(model, n), 0.0
    for b in range(batch):
        g = y = 0.0
        for t in range(steps):
            h = jacobian(model, weights, activity, t, b)
            if diagonal:
                h = h * np.tile(np.eye(n), (len(h) // n,) * 2)
            f = influx(model, weights, activity, t, b)
            g = h @ g + f if t else f  # Eq. (7)
            above = g[n : 2 * n] - c.strength[:, None] * g[2 * n :] if c.strength.size else g[n:]
            sent = weights.output.T @ (activity.slope[t, b][:, None] * above)
            y = c.kappa * y + (1 - c.kappa) * sent
            total = total + error[t, b] @ y  # Eq. (8)
    return _split(model, weights, activity, error, total)


def cosine(a: Weights, b: Weights, names: tuple[str, ...] = ("input", "recurrent")) -> float:
    """Cosine of the angle between two gradients, of the named weights taken together; 0 where one of them vanishes.

    Raises:
        UserError: names of no weights, or gradients that differ in shape or are not finite.
    """
    if not names or not set(names) <= set(Weights._fields):
        raise UserError(f"cosine: names are {names!r}; give a tuple of some of {', '.join(Weights._fields)}")
    for name in names:
        if getattr(a, name).shape != getattr(b, name).shape:
            raise UserError(
                f"cosine: {name} gradients have shapes {getattr(a, name).shape}, {getattr(b, name).shape}; give the same"
            )
        if not (np.isfinite(getattr(a, name)).all() and np.isfinite(getattr(b, name)).all()):
            raise UserError(f"cosine: {name} gradients are not finite; use a less steep surrogate or smaller weights")
    a, b = (np.concatenate([getattr(w, name).ravel() for name in names]) for w in (a, b))
    size = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / size) if size > 0 else 0.0


def _known(paths: str) -> str:
    if paths not in PATHS:
        raise UserError(f"rtrl: paths is {paths!r}; choose one of {', '.join(PATHS)}")
    return paths


def _sizes(model: Model, weights: Weights) -> tuple[int, int, int, bool, bool]:
    """Inputs, neurons, outputs; whether neurons adapt, whether the readout is leaky.

    Raises:
        UserError: weights that do not fit.
    """
    if weights.output.ndim != 2 or weights.input.shape[1:] != weights.output.shape[:1]:
        raise UserError(
            f"rtrl: input and output weights have shapes {weights.input.shape}, {weights.output.shape}; give (m, n), (n, k)"
        )
    return len(weights.input), *weights.output.shape, model.neuron.adaptation is not None, model.tau_out is not None


def _given(model: Model, weights: Weights, activity: Activity, error: np.ndarray, feedback: np.ndarray | None) -> Given:
    """Checked and contiguous.

    Raises:
        UserError: parts that do not fit, or an error that is not finite.
    """
    check(weights)
    n, k = weights.output.shape
    for name in ("x", "s", "slope", "y"):
        if getattr(activity, name).ndim != 3 or getattr(activity, name).shape[:2] != activity.s.shape[:2]:
            raise UserError(
                f"rtrl: {name} of the activity has shape {getattr(activity, name).shape}; give (time, batch, ...) as in s"
            )
    if activity.slope.shape != activity.s.shape:
        raise UserError(f"rtrl: slope of the activity has shape {activity.slope.shape}; give {activity.s.shape}")
    if activity.kick.size and activity.kick.shape != activity.s.shape:
        raise UserError(f"rtrl: kick of the activity has shape {activity.kick.shape}; give {activity.s.shape}, or none")
    sizes = activity.x.shape[2], activity.s.shape[2], activity.y.shape[2]
    if sizes != (len(weights.input), n, k):
        raise UserError(
            f"rtrl: the activity is that of {sizes} inputs, neurons and outputs, the weights are for {len(weights.input), n, k}"
        )
    feedback = weights.output if feedback is None else feedback
    shapes = {"error": (error, activity.y.shape), "feedback": (feedback, (n, k))}
    for name, (array, expected) in shapes.items():
        if array.shape != expected:
            raise UserError(f"rtrl: {name} has shape {array.shape}; give {expected}")
        if not np.isfinite(array).all():
            raise UserError(f"rtrl: {name} is not finite; use a smaller learning rate")
    before = np.concatenate([np.zeros((1, *activity.s.shape[1:])), activity.s[:-1]])
    pre = np.concatenate([activity.x, before], 2)
    c, p = factors(model, n), model.neuron
    feedback, error = (np.ascontiguousarray(part, float) for part in (feedback, error))
    return Given(
        pre, activity.s, activity.slope, activity.kick, feedback, error, c[:-1], c.kappa, p.reset == "multiply", p.current == "old"
    )  # fmt: skip


def _start(given: Given) -> tuple:
    return given.pre, given.s, given.slope, given.kick


def _end(given: Given) -> tuple:
    return given.feedback, given.error, *given.factors, given.kappa, given.multiply, given.old


def _split(model: Model, weights: Weights, activity: Activity, error: np.ndarray, total: np.ndarray) -> Weights:
    """Gradients by weight matrix; that of the output weights is local for all methods."""
    m, n = weights.input.shape
    total, kappa = total.reshape(-1, n), factors(model, n).kappa
    filtered, out = np.zeros(activity.s.shape[1:]), np.zeros_like(weights.output)
    for s, e in zip(activity.s, error, strict=True):
        filtered = kappa * filtered + (1 - kappa) * s
        out += filtered.T @ e
    return Weights(total[:m], total[m:], out)
