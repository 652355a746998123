"""Spiking networks that are trained by FORCE: static sparse weights, and a feedback loop whose decoder is learned.

The current into a neuron is the filtered input through static weights, plus feedback times the decoded output:

    s = G omega r + Q eta z + W d,      z = phi^T r,

with filtered spikes r, a decoder phi that starts at 0, and, where there is one, an outer signal d. Equation numbers are those of the
chapter `nicola2017`.
"""

import math
from typing import NamedTuple

import numpy as np

from snnrepro.errors import UserError
from snnrepro.force import rls
from snnrepro.kernels import force as kernel


class Lif(NamedTuple):
    """Leaky integrate-and-fire neuron: tau v' = -v + s + bias while not refractory. Times in s, potentials in mV."""

    tau: float = 10e-3
    refractory: float = 2e-3
    threshold: float = -40.0
    reset: float = -65.0
    bias: float = -40.0


class Theta(NamedTuple):
    """Theta neuron: v' = (1 - cos v) + pi^2 (1 + cos v) s; spikes at pi. Times in s."""


class Izhikevich(NamedTuple):
    """Izhikevich neuron: c v' = k (v - rest) (v - threshold) - u + s + bias, u' = a (b (v - rest) - u). Times in ms, mV, pA."""

    c: float = 250.0
    k: float = 2.5
    rest: float = -60.0
    threshold: float = -20.0
    peak: float = 30.0
    reset: float = -65.0
    a: float = 0.01
    b: float = 0.0
    d: float = 200.0
    bias: float = 1000.0


Model = Lif | Theta | Izhikevich
RUNAWAY = 0.1
"""Spikes a neuron and step that no sound network comes near: over 100 steps or more, a run ends there."""
JUMP, JUMPS = 0.25, 0.01
"""A potential that moves by more than this share of the way from reset to spike in one step has jumped. Where more than one in a hundred
neurons and steps jump, over 1,000 steps or more, a run ends: its time step is too large, or its current explodes. Where learning begins,
published networks jump for a few hundred steps.
"""
KINDS = {Lif: kernel.LIF, Theta: kernel.THETA, Izhikevich: kernel.IZHIKEVICH}


class Columns(NamedTuple):
    """Static weights by sending neuron: those of neuron j go to `rows[starts[j] : starts[j + 1]]`."""

    starts: np.ndarray
    rows: np.ndarray
    values: np.ndarray


class Network(NamedTuple):
    """A network.

    Attributes:
        model: neurons.
        dt: time step, in the unit of the model.
        rise: time constant of the synapse's rise; tau_r.
        fall: of its decay; tau_d.
        static: G omega.
        feedback: Q eta, `(k, n)`.
        inputs: W, weights of an outer signal `(m, n)`; None: there is none.
    """

    model: Model
    dt: float
    rise: float
    fall: float
    static: Columns
    feedback: np.ndarray
    inputs: np.ndarray | None = None


class Learning(NamedTuple):
    """When and how the decoder learns.

    Attributes:
        first, last: it learns in the steps first < i < last.
        every: steps from one update to the next.
        initial: P starts at this times the identity.
    """

    first: int
    last: int
    every: int
    initial: float


class State(NamedTuple):
    """Everything that changes; arrays are changed in place.

    Attributes:
        v, u: potential and recovery `(n,)`.
        free: step from which a neuron moves again, int64 `(n,)`; only LIF neurons are held.
        current, rising: filtered input and the first stage of its filter `(n,)`.
        rate, rate_rising: filtered spikes likewise `(n,)`.
        z: decoded output `(k,)`.
        decoder: phi, `(k, n)`.
        step: number of steps so far, int64 `(1,)`.
        rls: state of the learning rule.
    """

    v: np.ndarray
    u: np.ndarray
    free: np.ndarray
    current: np.ndarray
    rising: np.ndarray
    rate: np.ndarray
    rate_rising: np.ndarray
    z: np.ndarray
    decoder: np.ndarray
    step: np.ndarray
    rls: rls.RLS


class Trace(NamedTuple):
    """What a run showed.

    Attributes:
        outputs: decoded output after each step `(steps, k)`.
        spike_steps, spike_units: a list of the first spikes, in order.
        spikes: how many there were.
    """

    outputs: np.ndarray
    spike_steps: np.ndarray
    spike_units: np.ndarray
    spikes: int


def static_weights(n: int, gain: float, share: float, balanced: bool, random: np.random.Generator) -> Columns:
    """Sparse random weights `gain * omega`: a share of the entries is normal with standard deviation 1 / (share sqrt(n)).

    Args:
        n: neurons.
        gain: G.
        share: of entries that are not 0; p.
        balanced: shift the entries that are not 0 so that each receiver's sum is 0.
        random: where the randomness comes from.

    Raises:
        UserError: a share outside (0, 1], no whole number of neurons, or a gain that is not finite.
    """
    if not isinstance(n, int | np.integer) or n < 1 or not 0 < share <= 1:
        raise UserError(
            f"static_weights: {n} neurons, share {share}; give 1 or more, and a share above 0 and at most 1"
        )
    if not math.isfinite(gain):
        raise UserError(f"static_weights: the gain is {gain}; give a finite number")
    present = random.random((n, n)) < share
    dense = np.where(present, gain * random.standard_normal((n, n)) / (share * math.sqrt(n)), 0.0)  # Eq. (2)
    if balanced:
        count = np.maximum(present.sum(1, keepdims=True), 1)
        dense = np.where(present, dense - dense.sum(1, keepdims=True) / count, 0.0)
    return columns(dense)


def columns(dense: np.ndarray) -> Columns:
    """`Columns` of a matrix `(to, from)`.

    Raises:
        UserError: a matrix that is not square, or not finite.
    """
    if dense.ndim != 2 or dense.shape[0] != dense.shape[1] or not np.isfinite(dense).all():
        raise UserError(f"columns: the matrix has shape {dense.shape}; give (n, n), of finite numbers")
    sender, receiver = np.nonzero(dense.T)
    starts = np.concatenate([[0], np.cumsum(np.bincount(sender, minlength=dense.shape[1]))])
    return Columns(starts, receiver.astype(np.uint32), dense[receiver, sender])


def dense(static: Columns) -> np.ndarray:
    """The matrix `(to, from)` of `Columns`.

    Raises:
        UserError: lists that do not fit together, or a neuron that there is not.
    """
    n = len(static.starts) - 1
    if not static.starts[-1] == len(static.rows) == len(static.values):
        raise UserError(
            f"dense: {len(static.rows)} rows and {len(static.values)} values; give {static.starts[-1]} of each, as starts says"
        )
    if len(static.rows) and not 0 <= static.rows.min() <= static.rows.max() < n:
        raise UserError(f"dense: rows {static.rows.min()} to {static.rows.max()}; give neurons 0 to {n - 1}")
    matrix = np.zeros((n, n))
    matrix[static.rows, np.repeat(np.arange(n), np.diff(static.starts))] = static.values
    return matrix


def _aligned(array: np.ndarray) -> np.ndarray:
    """A copy that begins with a cache line: steps are slower by a tenth where the processor reads across two."""
    space = np.empty(array.nbytes + 64, np.uint8)
    first = -space.ctypes.data % 64
    copy = space[first : first + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def start(network: Network, v: np.ndarray, initial: float) -> State:
    """A network that has not spiked yet, with potentials v, a decoder of 0 and P = initial * identity.

    Raises:
        UserError: parameters that do not fit together, are not finite, or make no sense.
    """
    if network.feedback.ndim != 2:
        raise UserError(f"force: feedback has shape {network.feedback.shape}; give (k, n)")
    k, n = network.feedback.shape
    if k < 1:
        raise UserError("force: the network has no output; give feedback of shape (k, n) with k of 1 or more")
    if n < 1:
        raise UserError("force: the network has no neurons; give feedback of shape (k, n) with n of 1 or more")
    if v.shape != (n,) or len(network.static.starts) != n + 1:
        raise UserError(
            f"force: feedback is for {n} neurons, potentials have shape {v.shape}, weights {len(network.static.starts) - 1}"
        )
    if not network.static.starts[-1] == len(network.static.rows) == len(network.static.values):
        raise UserError(
            f"force: {len(network.static.rows)} rows and {len(network.static.values)} values of static weights; "
            f"give {network.static.starts[-1]} of each, as starts says"
        )
    if network.static.starts[0] != 0 or (np.diff(network.static.starts) < 0).any():
        raise UserError("force: starts of the static weights begin at 0 and do not fall; give them as columns does")
    if len(network.static.rows) and not 0 <= network.static.rows.min() <= network.static.rows.max() < n:
        raise UserError(
            f"force: static weights go to neurons {network.static.rows.min()} to {network.static.rows.max()}; give 0 to {n - 1}"
        )
    if network.inputs is not None and (network.inputs.ndim != 2 or network.inputs.shape[1] != n):
        raise UserError(f"force: inputs have shape {network.inputs.shape}; give (m, {n})")
    for name, array in (("potentials", v), ("static weights", network.static.values), ("feedback", network.feedback)):
        if not np.isfinite(array).all():
            raise UserError(f"force: the {name} hold NaN or infinite values; give finite ones")
    if network.inputs is not None and not np.isfinite(network.inputs).all():
        raise UserError("force: the inputs hold NaN or infinite values; give finite ones")
    if type(network.model) not in KINDS:
        raise UserError(f"force: the model is {network.model!r}; give Lif, Theta or Izhikevich")
    if not all(math.isfinite(value) for value in network.model):
        raise UserError(f"force: a parameter is not finite in {network.model}; give finite ones")
    if not _way(network.model) > 0:
        raise UserError(f"force: the reset is not below the spike in {network.model}; lower it")
    if isinstance(network.model, Lif) and not (network.model.tau > 0 and network.model.refractory >= 0):
        raise UserError(f"force: tau must be positive, and refractory 0 or more, in {network.model}")
    if isinstance(network.model, Izhikevich) and not network.model.c > 0:
        raise UserError(f"force: the capacitance c is {network.model.c}; it must be positive")
    for name in ("dt", "rise", "fall"):
        if not 0 < getattr(network, name) < math.inf:
            raise UserError(f"force: {name} is {getattr(network, name)}; it must be positive and finite")
    slowest = network.model.tau if isinstance(network.model, Lif) else math.inf
    if network.dt > min(network.rise, network.fall, slowest):
        raise UserError(
            f"force: a time step of {network.dt} is longer than a time constant of the network; make it smaller"
        )
    zero = np.zeros(n)
    vectors = v.astype(float), zero, np.zeros(n, np.int64), zero, zero, zero, zero, np.zeros(k), np.zeros((k, n))
    return State(*map(_aligned, vectors), np.zeros(1, np.int64), rls.start(n, initial))


def constants(network: Network) -> np.ndarray:
    """What the compiled loop takes of the model."""
    model = network.model
    if isinstance(model, Lif):
        return np.array([model.tau, round(model.refractory / network.dt), model.threshold, model.reset, model.bias])
    return np.array([float(value) for value in model] or [0.0])


def _way(model: Model) -> float:
    """How far a potential moves from its reset to a spike."""
    if isinstance(model, Lif):
        return model.threshold - model.reset
    return 2 * math.pi if isinstance(model, Theta) else model.peak - model.reset


def run(
    network: Network,
    state: State,
    count: int,
    teacher: np.ndarray | None,
    learning: Learning | None,
    listed: int = 0,
    drive: np.ndarray | None = None,
) -> Trace:
    """Advance a network by `count` steps, in place, and let its decoder learn where that is due.

    Args:
        network: the network.
        state: where it is.
        count: steps.
        teacher: what the output should be after each step `(count, k)`; needed to learn.
        learning: when the decoder learns; None: never.
        listed: how many spikes are listed, the first ones.
        drive: the outer signal in each step `(count, m)`; None: it is silent.

    Raises:
        UserError: a teacher, an outer signal or a state that does not fit, numbers that stop being finite, a P that is not positive any
            more, potentials that jump, or a network that runs away.
    """
    if network.feedback.ndim != 2:
        raise UserError(f"force: feedback has shape {network.feedback.shape}; give (k, n)")
    k, n = network.feedback.shape
    for name, number in (("count", count), ("listed", listed)):
        if not isinstance(number, int | np.integer) or number < 0:
            raise UserError(f"force: {name} is {number}; give a whole number of 0 or more")
    if type(network.model) not in KINDS:
        raise UserError(f"force: the model is {network.model!r}; give Lif, Theta or Izhikevich")
    if len(network.static.starts) != n + 1:
        raise UserError(f"force: static weights are for {len(network.static.starts) - 1} neurons, feedback for {n}")
    if not network.static.starts[-1] == len(network.static.rows) == len(network.static.values):
        raise UserError(
            f"force: {len(network.static.rows)} rows and {len(network.static.values)} values of static weights; "
            f"give {network.static.starts[-1]} of each, as starts says"
        )
    if network.inputs is not None and (network.inputs.ndim != 2 or network.inputs.shape[1] != n):
        raise UserError(f"force: inputs have shape {network.inputs.shape}; give (m, {n})")
    for name, array, shape in zip(State._fields[:9], state[:9], [*7 * [(n,)], (k,), (k, n)], strict=True):
        if array.shape != shape or array.dtype != (np.int64 if name == "free" else np.float64):
            raise UserError(
                f"force: {name} of the state is {array.dtype} of shape {array.shape}; "
                f"give {'int64' if name == 'free' else 'float64'} of shape {shape}, as start does"
            )
    if state.step.shape != (1,):
        raise UserError(f"force: step of the state has shape {state.step.shape}; give (1,)")
    if learning is not None and (not isinstance(learning.every, int | np.integer) or learning.every < 1):
        raise UserError(f"force: the decoder learns every {learning.every} steps; give a whole number of 1 or more")
    if learning is not None and (teacher is None or teacher.shape != (count, k) or not np.isfinite(teacher).all()):
        raise UserError(f"force: give a finite teacher of shape ({count}, {k}) to learn from")
    inputs = np.zeros((0, n)) if network.inputs is None else network.inputs
    drive = np.zeros((count, len(inputs))) if drive is None else drive
    if drive.shape != (count, len(inputs)) or not np.isfinite(drive).all():
        raise UserError(f"force: give a finite outer signal of shape ({count}, {len(inputs)})")
    fixed = constants(network)
    rise, fall = math.exp(-network.dt / network.rise), math.exp(-network.dt / network.fall)
    kick = 1.0 / (network.rise * network.fall)
    outputs, arrived, parts = np.empty((count, k)), _aligned(np.empty(n)), _aligned(np.empty(kernel.PARTS))
    spike_steps, spike_units, jumps = np.empty(listed, np.int64), np.empty(listed, np.int64), np.zeros(1, np.int64)
    most, done, place = JUMP * _way(network.model), 0, 0
    while done < count:
        now = int(state.step[0])
        chunk = count - done
        if learning is not None:
            chunk = min(chunk, -now % learning.every + 1)  # up to the next step i with i mod every = 1
        place = kernel.steps(
            KINDS[type(network.model)], chunk, now, network.dt, fixed, rise, fall, kick, *network.static, network.feedback, inputs,
            drive[done : done + chunk], state.decoder, state.v, state.u, state.free, state.current, state.rising, state.rate,
            state.rate_rising, arrived, parts, state.z, outputs[done : done + chunk], spike_steps, spike_units, place, most, jumps,
        )  # fmt: skip
        if place < 0:
            raise UserError(
                f"force: a potential is not finite at about step {now + chunk}; use a smaller time step, gain or feedback"
            )
        if jumps[0] > JUMPS * n * (done + chunk) and done + chunk >= 1000:
            raise UserError(
                f"force: potentials jump: {jumps[0] / (n * (done + chunk)):.2g} of all neurons and steps, up to step {now + chunk}, move "
                f"more than {JUMP:g} of the way to a spike at once; use a smaller time step, gain, feedback or initial P"
            )
        if place > RUNAWAY * n * (done + chunk) and done + chunk >= 100:
            raise UserError(
                f"force: the network runs away: {place / (n * (done + chunk)):.2g} spikes a neuron and step, up to step {now + chunk}; "
                "use a smaller gain, feedback or initial P"
            )
        done += chunk
        state.step[0] = now + chunk
        i = now + chunk  # one-based number of the step that has just been made
        if learning is not None and i % learning.every == 1 % learning.every and learning.first < i < learning.last:
            rls.update(state.rls, state.decoder, state.rate, state.z - teacher[done - 1])
    kept = min(place, listed)
    return Trace(outputs, spike_steps[:kept], spike_units[:kept], place)


def pack(state: State) -> dict[str, np.ndarray]:
    """A state as arrays, for a checkpoint."""
    arrays = {name: value for name, value in state._asdict().items() if name != "rls"}
    return arrays | {f"rls_{name}": value for name, value in state.rls._asdict().items()}


def unpack(arrays: dict[str, np.ndarray]) -> State:
    """A state from what `pack` gave; it goes on bit for bit.

    Raises:
        UserError: an array is missing.
    """
    for name in (*State._fields[:-1], *(f"rls_{name}" for name in rls.RLS._fields)):
        if name not in arrays:
            raise UserError(f"force: there is no array {name!r}; give what pack gave")
    parts = {name: _aligned(arrays[name]) for name in State._fields if name != "rls"}
    kept = {name: np.array(arrays[f"rls_{name}"], order="F") for name in rls.RLS._fields}
    return State(**parts, rls=rls.RLS(**kept))
