"""Electrocardiograms in spikes: the encoded QT database of Yin, Corradi & Bohte (2020), and a generator with exact labels.

Two leads at 250 Hz, 1301 steps of 4 ms. Each lead gives two trains of events: it rises by a threshold, it falls by it. The label of a
step is the part of the heart beat: P, PQ, QR, RS, ST or TP; -1 where there is none.
"""

import io
from typing import NamedTuple

import numpy as np

from snnrepro.data import registry
from snnrepro.errors import UserError

CLASSES = ("P", "PQ", "QR", "RS", "ST", "TP")
STEPS = 1301
RATE_HZ = 250.0
UNLABELLED = -1


class Ecg(NamedTuple):
    """Traces in two parts.

    Attributes:
        x_train: events (n, steps, 4) uint8: lead 1 up and down, lead 2 up and down.
        y_train: part of the beat (n, steps) int64, 0 to 5, or -1.
        x_test: as `x_train`.
        y_test: as `y_train`.
        tag: which samples these are.
        leads: the two leads of the test traces (n, steps, 2), in standard deviations; None for the published data, which has events alone.
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    tag: str
    leads: np.ndarray | None = None


# The published data ---------------------------------------------------------------------------------------------------------


def qtdb(download: bool = False) -> Ecg:
    """The 618 training and 141 test traces that the authors encoded.

    Steps without a label (8.2 % and 10.4 %, rows of zeros that an argmax would call P) have the label -1. The -1 that ends channel 0 of the
    training traces is no event and becomes 0.

    Raises:
        UserError: a file is missing or damaged.
    """
    parts = []
    for part in ("train", "test"):
        name = f"qtdb-spikes-yin2020/QTDB_{part}.mat"
        content = registry.read(name, download)
        if content is None:
            raise UserError(f"{name} is missing; run `snnrepro data get qtdb-spikes-yin2020`, or set SNNREPRO_DATA")
        parts += _read_mat(content, name)
    return Ecg(*parts, "qtdb")


def _read_mat(content: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Events and labels of a file of the authors."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        found = loadmat(io.BytesIO(content))
        x, y = found["x"], found["y"]
    except (MatReadError, ValueError, KeyError, NotImplementedError, OSError, TypeError) as error:
        raise UserError(f"{name} is truncated or no such file ({type(error).__name__}); fetch it again") from None
    if x.shape[1:] != (STEPS, 4) or y.shape != (len(x), STEPS, len(CLASSES)):
        raise UserError(f"{name}: traces {x.shape} and labels {y.shape}; expected (n, {STEPS}, 4) and (n, {STEPS}, 6)")
    if not (np.isin(x, (-1, 0, 1)).all() and np.isin(y, (0, 1)).all() and (y.sum(2) <= 1).all()):
        raise UserError(f"{name}: events or labels out of range; expected -1, 0, 1 and one label a step at most")
    return np.maximum(x, 0).astype(np.uint8), np.where(y.any(2), y.argmax(2), UNLABELLED).astype(np.int64)


# The generator --------------------------------------------------------------------------------------------------------------


class Waves(NamedTuple):
    """Waves P, Q, R, S, T of a beat: angle in radians (R is at 0), height, width in radians."""

    angle: np.ndarray
    height: np.ndarray
    width: np.ndarray


ECGSYN = Waves(
    np.deg2rad([-70.0, -15.0, 0.0, 15.0, 100.0]),
    np.array([1.2, -5.0, 30.0, -7.5, 0.75]),
    np.array([0.25, 0.1, 0.1, 0.1, 0.4]),
)
"""Defaults of ECGSYN, the program of McSharry, Clifford, Tarassenko & Smith (2003)."""

BORDER = 2.0
"""Widths from the centre of a wave to where it begins and ends."""


def borders(waves: Waves) -> np.ndarray:
    """Angles at which P, PQ, QR, RS, ST and TP begin, ascending `(..., 6)`; TP lasts until P begins again."""
    angle, width = waves.angle, BORDER * waves.width
    begin, end = angle - width, angle + width
    edges = [begin[..., 0], end[..., 0], begin[..., 1], angle[..., 2], end[..., 3], end[..., 4]]
    return np.stack(edges, -1)


def ecg(
    samples: int, rng: np.random.Generator, steps: int = STEPS, substeps: int = 2
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two-lead electrocardiograms by the three equations of McSharry et al. (2003), with their phase as ground truth.

        dx/dt = a x - w y,  dy/dt = a y + w x,  a = 1 - sqrt(x^2 + y^2)
        dz/dt = -sum_i h_i d_i exp(-d_i^2 / (2 b_i^2)) - (z - z_0(t)),  d_i = the angle of (x, y) less that of wave i

    The two leads share (x, y) and differ in the heights h. Of each trace are drawn: the mean beat (232 +- 55 steps, cut to 148 to 314, as
    in the QT database), the heights of all waves in both leads, their widths and angles, and the slow wander z_0. Each beat lasts 4 % more
    or less than the mean.

    Args:
        samples: traces.
        rng: where the randomness comes from.
        steps: time steps of 4 ms.
        substeps: Runge-Kutta steps a time step.

    Returns:
        leads (samples, steps, 2); angle (samples, steps) in [-pi, pi); borders (samples, 6) of the parts of a beat.
    """
    dt = 1 / RATE_HZ / substeps
    mean = np.clip(rng.normal(232, 55, samples), 148, 314)
    spread = rng.normal(1, 0.05, (samples, 5))
    waves = Waves(
        ECGSYN.angle * spread,
        ECGSYN.height * rng.lognormal(0, 0.4, (samples, 2, 5)) * np.where(rng.random((samples, 2, 5)) < 0.1, -1, 1),
        ECGSYN.width * rng.lognormal(0, 0.1, (samples, 5)),
    )
    waves.height[:, 1] *= rng.choice([-1, 1], (samples, 1))
    wander, pace, start = rng.uniform(0, 0.15, samples), rng.uniform(0.15, 0.35, samples), rng.uniform(0, 1, samples)

    def slope(state: np.ndarray, time: float, omega: np.ndarray) -> np.ndarray:
        x, y, z = state[:, 0], state[:, 1], state[:, 2:]
        a = 1 - np.hypot(x, y)
        d = np.arctan2(y, x)[:, None] - waves.angle
        d = (d + np.pi) % (2 * np.pi) - np.pi
        bump = d * np.exp(-0.5 * (d / waves.width) ** 2)
        rest = wander * np.sin(2 * np.pi * (pace * time + start))
        dz = -np.einsum("skw,sw->sk", waves.height, bump) - (z - rest[:, None])
        return np.column_stack([a * x - omega * y, a * y + omega * x, dz])

    def beat() -> np.ndarray:
        return 2 * np.pi * RATE_HZ / (mean * rng.normal(1, 0.04, samples))

    angle = rng.uniform(-np.pi, np.pi, samples)
    state = np.column_stack([np.cos(angle), np.sin(angle), np.zeros((samples, 2))])
    omega, warm_up = beat(), int(RATE_HZ)
    leads, angles = np.empty((samples, steps, 2)), np.empty((samples, steps))
    for n in range(warm_up + steps):
        for k in range(substeps):
            time = (n * substeps + k) * dt
            k1 = slope(state, time, omega)
            k2 = slope(state + dt / 2 * k1, time + dt / 2, omega)
            k3 = slope(state + dt / 2 * k2, time + dt / 2, omega)
            k4 = slope(state + dt * k3, time + dt, omega)
            state = state + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        now = np.arctan2(state[:, 1], state[:, 0])
        omega, angle = np.where(now < angle - np.pi, beat(), omega), now
        if n >= warm_up:
            leads[:, n - warm_up], angles[:, n - warm_up] = state[:, 2:], angle
    return leads, angles, borders(waves)


def parts(angle: np.ndarray, edges: np.ndarray, delay: int) -> np.ndarray:
    """Part of the beat of each step, `delay` steps late, from the angle (samples, steps) and `borders` (samples, 6).

    The first beat counts from its first whole P on; before it the label is -1.
    """
    label = (np.sum(angle[:, :, None] >= edges[:, None, :], axis=2) - 1) % len(CLASSES)
    label = np.concatenate([np.full((len(label), delay), UNLABELLED), label[:, : label.shape[1] - delay]], axis=1)
    for row in label:
        begins = np.flatnonzero((row[1:] == 0) & (row[:-1] == len(CLASSES) - 1))
        row[: begins[0] + 1 if begins.size else len(row)] = UNLABELLED
    return label.astype(np.int64)


def level_crossing(x: np.ndarray, threshold: float) -> np.ndarray:
    """Events of a signal: up where it rises by the threshold or more from one step to the next, down where it falls by as much.

    The signal is smoothed first by a Savitzky-Golay filter (5 points, cubic), as in the authors' code.

    Args:
        x: (..., steps).
        threshold: in the units of `x`.

    Returns:
        (..., steps, 2) uint8, up and down; the last step has none.

    Raises:
        UserError: fewer than 5 steps, NaN or infinite values, or a threshold that is not positive.
    """
    from scipy.signal import savgol_filter

    x = np.asarray(x, float)
    if x.shape[-1] < 5 or not np.isfinite(x).all() or not threshold > 0:
        raise UserError("level_crossing: give 5 steps or more of finite values, and a threshold above 0")
    change = np.diff(savgol_filter(x, 5, 3, axis=-1), axis=-1)
    up, down = change >= threshold, change <= -threshold
    events = np.zeros((*x.shape, 2), np.uint8)
    events[..., :-1, 0], events[..., :-1, 1] = up, down
    return events


def generated(train: int, test: int, seed: int, delay: int = 12, threshold: float = 0.03) -> Ecg:
    """Traces of the generator, encoded.

    The labels are `delay` steps late: in the published data they lag the waves by 12 to 15 steps.

    Args:
        train: training traces.
        test: test traces.
        seed: of the generator.
        delay: steps.
        threshold: of `level_crossing`, in standard deviations of a lead; 0.03 gives about half as many again as the published data have.
    """
    leads, angle, edges = ecg(train + test, np.random.default_rng([seed, 12]))
    z = (leads - leads.mean(1, keepdims=True)) / leads.std(1, keepdims=True)
    events = level_crossing(z.transpose(0, 2, 1), threshold)  # (samples, leads, steps, 2)
    x = events.transpose(0, 2, 1, 3).reshape(train + test, STEPS, 4)
    y = parts(angle, edges, delay)
    return Ecg(x[:train], y[:train], x[train:], y[train:], "ecg-generated", z[train:])
