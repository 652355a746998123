"""Electrocardiograms: the encoder by hand, the generator against what it must show, files of the authors and broken ones."""

import io
import os

import numpy as np
import pytest
from scipy.io import savemat

from snnrepro.data import ecg, registry
from snnrepro.errors import UserError

# The encoder ----------------------------------------------------------------------------------------------------------------


def test_events_of_a_trace_by_hand():
    """A ramp up, a plateau, a ramp down; a cubic filter leaves straight lines as they are."""
    x = np.concatenate([np.arange(0, 10) * 0.5, np.full(10, 4.5), 4.5 - np.arange(1, 11) * 0.25])
    events = ecg.level_crossing(x, 0.2)
    assert events.shape == (30, 2) and events.dtype == np.uint8
    assert events[:7].tolist() == [[1, 0]] * 7
    assert events[12:17].tolist() == [[0, 0]] * 5
    assert events[22:27].tolist() == [[0, 1]] * 5
    assert events[-1].tolist() == [0, 0]
    assert not ecg.level_crossing(x, 0.3)[22:27].any()  # 0.25 a step is below
    edge = np.arange(8) * 0.25
    assert ecg.level_crossing(edge, 0.25 - 1e-12)[:7, 0].all()


def test_encoder_takes_many_traces_at_once():
    x = np.random.default_rng(0).normal(size=(3, 2, 40)).cumsum(2)
    events = ecg.level_crossing(x, 0.4)
    assert events.shape == (3, 2, 40, 2)
    assert np.array_equal(events[1, 1], ecg.level_crossing(x[1, 1], 0.4))
    assert not (events[..., 0] & events[..., 1]).any()


@pytest.mark.parametrize(
    ("x", "threshold"),
    [(np.zeros(4), 0.1), (np.full(9, np.nan), 0.1), (np.array([0, 1, np.inf, 0, 0, 0]), 0.1), (np.zeros(9), 0.0)],
)
def test_encoder_refuses(x, threshold):
    with pytest.raises(UserError, match="level_crossing: give 5 steps or more of finite values"):
        ecg.level_crossing(x, threshold)


# The generator --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def traces():
    return ecg.ecg(30, np.random.default_rng(1))


def test_beats_have_the_length_of_the_database(traces):
    _, angle, _ = traces
    assert angle.shape == (30, ecg.STEPS)
    lengths = []
    for row in angle:
        starts = np.flatnonzero(np.diff(row) < -np.pi)
        lengths += np.diff(starts).tolist()
    lengths = np.array(lengths)
    assert len(lengths) > 100 and 205 < lengths.mean() < 260
    assert lengths.min() > 148 * 0.85 and lengths.max() < 314 * 1.2


def test_waves_are_where_the_angle_says(traces):
    """Each wave pulls its lead towards the sign of its height: R, the largest, peaks within a tenth of a beat of angle 0."""
    leads, angle, _ = traces
    near = []
    for k in range(30):
        z = leads[k, :, 0] - np.median(leads[k, :, 0])
        peak = np.abs(np.convolve(z, [0.5, 0, -0.5], "same"))[5:-5].argmax() + 5  # steepest: on a flank of R
        near.append(abs(angle[k, peak]))
    assert np.mean(np.array(near) < 0.35) > 0.9


def test_equations_by_an_independent_solver():
    """The three equations, solved by scipy with small tolerances, for the waves that the generator drew."""
    from scipy.integrate import solve_ivp

    class Fixed:
        """No spread: every draw is its mean, the first angle 0."""

        def normal(self, mean, sd, shape):
            return np.full(shape, float(mean))

        def lognormal(self, mean, sd, shape):
            return np.ones(shape)

        def random(self, shape):
            return np.ones(shape)

        def uniform(self, low, high, size):
            return np.full(size, 0.0 if low < 0 else high if (low, high) != (0, 1) else 0.0)

        def choice(self, options, shape):
            return np.ones(shape)

    leads, _, _ = ecg.ecg(1, Fixed(), steps=300, substeps=4)
    omega, wander, pace = 2 * np.pi * 250 / 232, 0.15, 0.35
    waves = ecg.ECGSYN

    def slope(t, state):
        x, y, z = state
        a = 1 - np.sqrt(x * x + y * y)
        d = np.angle(np.exp(1j * (np.arctan2(y, x) - waves.angle)))
        bump = (waves.height * d * np.exp(-(d**2) / (2 * waves.width**2))).sum()
        return [a * x - omega * y, a * y + omega * x, -bump - (z - wander * np.sin(2 * np.pi * pace * t))]

    times = np.arange(1, 551) / 250
    solved = solve_ivp(slope, (0, times[-1]), [1, 0, 0], t_eval=times, rtol=1e-9, atol=1e-11).y[2]
    assert np.ptp(solved) > 0.05
    assert np.allclose(leads[0, :, 0], solved[250:], atol=2e-4 * np.ptp(solved))
    assert np.array_equal(leads[0, :, 0], leads[0, :, 1])


def test_borders_and_parts():
    edges = ecg.borders(ecg.ECGSYN)
    assert np.all(np.diff(edges) > 0)
    degrees = np.rad2deg(edges)
    assert degrees[3] == pytest.approx(0)  # RS begins at the peak of R
    assert degrees[0] == pytest.approx(-70 - 2 * np.rad2deg(0.25))
    assert degrees[5] == pytest.approx(100 + 2 * np.rad2deg(0.4))
    angle = np.deg2rad(np.array([[-60, -30, -10, 10, 60, 170, -170, -90, -30, -10]]))
    late = ecg.parts(angle, edges[None], 0)
    assert late.tolist() == [[-1, -1, -1, -1, -1, -1, -1, 0, 1, 2]]
    assert ecg.parts(angle, edges[None], 2).tolist() == [[-1] * 9 + [0]]


def test_parts_follow_each_other_and_lag():
    traces = ecg.generated(12, 3, 4, delay=12)
    prompt = ecg.generated(12, 3, 4, delay=0)
    assert np.array_equal(traces.x_train, prompt.x_train)
    for late, label in zip(traces.y_train, prompt.y_train, strict=True):
        known = np.flatnonzero(late >= 0)
        assert late[known[0]] == 0 and (late[known[0] :] >= 0).all()
        steps = late[known]
        changes = np.flatnonzero(np.diff(steps))
        assert np.all((steps[changes] + 1) % 6 == steps[changes + 1])
        assert np.array_equal(late[known[0] :], label[known[0] - 12 : -12])


def test_generated_traces_are_like_the_database():
    traces = ecg.generated(60, 20, 0)
    assert traces.x_train.shape == (60, ecg.STEPS, 4) and traces.x_test.shape == (20, ecg.STEPS, 4)
    assert traces.leads.shape == (20, ecg.STEPS, 2) and traces.tag == "ecg-generated"
    assert 0.07 < traces.x_train.mean() < 0.14
    known = traces.y_train[traces.y_train >= 0]
    share = np.bincount(known, minlength=6) / known.size
    assert np.all(np.abs(share - [0.147, 0.062, 0.060, 0.055, 0.340, 0.336]) < 0.06)
    busy = traces.x_train.any(2)
    assert busy[traces.y_train == 2].mean() > 0.6 > 0.15 > busy[traces.y_train == 5].mean()
    again = ecg.generated(60, 20, 0)
    assert np.array_equal(traces.x_train, again.x_train) and np.array_equal(traces.y_test, again.y_test)
    assert not np.array_equal(traces.x_train, ecg.generated(60, 20, 1).x_train)


# The authors' files ---------------------------------------------------------------------------------------------------------


def content(x, y, **more):
    file = io.BytesIO()
    savemat(file, {"x": x, "y": y, **more})
    return file.getvalue()


def fine(n=3):
    x = np.zeros((n, ecg.STEPS, 4), np.int16)
    x[:, 10, 2], x[:, -1, 0] = 1, -1
    y = np.zeros((n, ecg.STEPS, 6), np.uint8)
    y[:, 5:, 3] = 1
    return x, y


@pytest.fixture
def stored(monkeypatch):
    files = {}
    monkeypatch.setattr(registry, "read", lambda name, download=False: files.get(name))
    return files


def both(stored, data):
    for part in ("train", "test"):
        stored[f"qtdb-spikes-yin2020/QTDB_{part}.mat"] = data


def test_file_is_read(stored):
    both(stored, content(*fine()))
    traces = ecg.qtdb()
    assert traces.tag == "qtdb" and traces.leads is None
    assert traces.x_train.sum() == 3 and traces.x_train[:, 10, 2].all()  # the -1 at the end is no event
    assert (traces.y_train[:, :5] == -1).all() and (traces.y_train[:, 5:] == 3).all()


def test_broken_files_are_named(stored):
    with pytest.raises(UserError, match=r"QTDB_train.mat is missing; run `snnrepro data get qtdb-spikes-yin2020`"):
        ecg.qtdb()
    whole = content(*fine())
    x, y = fine()
    two = y.copy()
    two[0, 7, 1] = 1
    for data, words in (
        (whole[: len(whole) // 2], "truncated or no such file"),
        (b"", "truncated or no such file"),
        (b"\x89HDF" + bytes(600), "truncated or no such file"),
        (content(x[:, :-1], y[:, :-1]), "traces .* expected"),
        (content(x, y[:2]), "traces .* expected"),
        (content(x + 2, y), "out of range"),
        (content(x, two), "out of range"),
    ):
        both(stored, data)
        with pytest.raises(UserError, match=words) as error:
            ecg.qtdb()
        assert "\n" not in str(error.value)


@pytest.mark.skipif(
    "SNNREPRO_DATA" not in os.environ or registry.find("qtdb-spikes-yin2020/QTDB_test.mat") is None,
    reason="the encoded QT database is not in $SNNREPRO_DATA",
)
def test_published_files():
    traces = ecg.qtdb()
    assert traces.x_train.shape == (618, 1301, 4) and traces.x_test.shape == (141, 1301, 4)
    assert (traces.y_train < 0).mean() == pytest.approx(0.082, abs=5e-4)
    assert (traces.y_test < 0).mean() == pytest.approx(0.104, abs=5e-4)
    known = traces.y_test[traces.y_test >= 0]
    share = np.bincount(known) / known.size
    assert share == pytest.approx([0.147, 0.062, 0.060, 0.055, 0.340, 0.336], abs=6e-4)
