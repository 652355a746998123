"""The network of `networks` in plain NumPy, after the authors' MATLAB code: dense weights, one step after another, the whole of P."""

import math

import numpy as np

from snnrepro.errors import UserError
from snnrepro.force.networks import Izhikevich, Learning, Lif, Network, Trace, dense
from snnrepro.kernels.force import versine


def _ordered_sum(terms: np.ndarray) -> float:
    """Sum in 64 interleaved parts, as the compiled network adds, so that rounding is the same."""
    part = np.zeros(64)
    for row in np.pad(terms, (0, -len(terms) % 64)).reshape(-1, 64):
        part = part + row
    while len(part) > 1:
        part = part[: len(part) // 2] + part[len(part) // 2 :]
    return part[0]


def run(
    network: Network,
    v: np.ndarray,
    count: int,
    teacher: np.ndarray,
    learning: Learning | None,
    decoder: np.ndarray | None = None,
    drive: np.ndarray | None = None,
) -> tuple[Trace, np.ndarray, np.ndarray]:
    """A `Trace` of all spikes, the decoder, and P.

    Args:
        network: the network.
        v: initial potentials `(n,)`.
        count: steps.
        teacher: what the output should be after each step `(count, k)`.
        learning: when the decoder learns; None: never.
        decoder: to begin with, `(k, n)`; 0 where it is None.
        drive: the outer signal in each step `(count, m)`; None: there is none.

    Raises:
        UserError: shapes that do not fit, numbers that are not finite, or steps that cannot be counted.
    """
    if network.feedback.ndim != 2:
        raise UserError(f"force: feedback has shape {network.feedback.shape}; give (k, n)")
    model, dt = network.model, network.dt
    k, n = network.feedback.shape
    if not isinstance(count, int | np.integer) or count < 0:
        raise UserError(f"force: count is {count}; give a whole number of 0 or more")
    if len(network.static.starts) != n + 1:
        raise UserError(f"force: static weights are for {len(network.static.starts) - 1} neurons, feedback for {n}")
    if v.shape != (n,) or not np.isfinite(v).all():
        raise UserError(f"force: give finite potentials of shape ({n},), not {v.shape}")
    if decoder is not None and decoder.shape != (k, n):
        raise UserError(f"force: the decoder has shape {decoder.shape}; give ({k}, {n})")
    if learning is not None and (not isinstance(learning.every, int | np.integer) or learning.every < 1):
        raise UserError(f"force: the decoder learns every {learning.every} steps; give a whole number of 1 or more")
    if learning is not None and (teacher is None or teacher.shape[1:] != (k,) or len(teacher) < count):
        raise UserError(f"force: give a teacher of shape ({count}, {k}) to learn from")
    if learning is not None and not np.isfinite(teacher).all():
        raise UserError("force: the teacher holds NaN or infinite values; give finite ones")
    if drive is not None and (network.inputs is None or network.inputs.shape[1:] != (n,)):
        raise UserError(f"force: an outer signal needs inputs of shape (m, {n})")
    if drive is not None and (drive.shape[1:] != (len(network.inputs),) or len(drive) < count):
        raise UserError(f"force: the outer signal has shape {drive.shape}; give ({count}, {len(network.inputs)})")
    if drive is not None and not np.isfinite(drive).all():
        raise UserError("force: the outer signal holds NaN or infinite values; give finite ones")
    weights = dense(network.static)
    rise, fall = math.exp(-dt / network.rise), math.exp(-dt / network.fall)
    kick = 1.0 / (network.rise * network.fall)
    v, u, last = v.astype(float).copy(), np.zeros(n), np.full(n, -np.inf)
    current, h, rate, h_rate, z = np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(k)
    phi = np.zeros((k, n)) if decoder is None else decoder.copy()
    p = np.eye(n) * (1.0 if learning is None else learning.initial)
    outputs, steps, units = np.empty((count, k)), [], []
    for i in range(1, count + 1):
        s = current.copy()
        for j in np.flatnonzero(drive[i - 1]) if drive is not None else ():
            s = s + network.inputs[j] * drive[i - 1, j]
        for j in range(k):
            s = s + network.feedback[j] * z[j]  # Eq. (1)
        if isinstance(model, Lif):
            free = i - last > round(model.refractory / dt)
            v = np.where(free, v + dt / model.tau * (model.bias + s - v), v)  # Eq. (3)
            peak = model.threshold
        elif isinstance(model, Izhikevich):
            old = v
            v = v + dt / model.c * (model.k * (old - model.rest) * (old - model.threshold) - u + s + model.bias)
            u = u + dt * model.a * (model.b * (old - model.rest) - u)
            peak = model.peak
        else:
            less = np.array([versine(value) for value in v])  # 1 - cos v; tested against math.cos
            v = v + dt * (less + math.pi * math.pi * (2 - less) * s)
            peak = math.pi
        spiking = np.flatnonzero(v >= peak)
        current = current * rise + h * dt  # Eq. (4)
        h = h * fall
        for j in spiking:
            h = h + weights[:, j] * kick
        rate = rate * rise + h_rate * dt
        h_rate = h_rate * fall
        h_rate[spiking] += kick
        for j in range(k):
            z[j] = _ordered_sum(phi[j] * rate)  # Eq. (5)
        outputs[i - 1] = z
        if learning is not None and i % learning.every == 1 % learning.every and learning.first < i < learning.last:
            c = p @ rate
            phi = phi - np.outer(z - teacher[i - 1], c)  # Eq. (6)
            p = p - np.outer(c, c) / (1 + rate @ c)  # Eq. (7)
        steps += [i - 1] * len(spiking)
        units += spiking.tolist()
        last[spiking] = i
        if isinstance(model, Lif):
            v[spiking] = model.reset
        elif isinstance(model, Izhikevich):
            v[spiking] = model.reset
            u[spiking] += model.d
        else:
            v[spiking] = -math.pi
    return Trace(outputs, np.array(steps), np.array(units), len(units)), phi, p
