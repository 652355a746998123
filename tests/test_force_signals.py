"""What FORCE networks are taught, and how it is scored."""

import itertools

import numpy as np
import pytest

from snnrepro.errors import UserError
from snnrepro.force import scores, teachers

DT = 1e-3


def test_sine_triangle_and_product():
    t = DT * np.arange(1, 2001)
    assert np.allclose(teachers.sine(2000, DT)[:, 0], np.sin(10 * np.pi * t))
    triangle = teachers.triangle(2000, DT)[:, 0]
    assert triangle.max() == pytest.approx(np.pi / 2, abs=1e-6)
    assert np.allclose(np.abs(np.diff(triangle))[:40], 10 * np.pi * DT)
    assert np.allclose(teachers.product(2000, DT)[:, 0], np.sin(8 * np.pi * t) * np.sin(12 * np.pi * t))
    noisy = teachers.product(20_000, DT, noise=0.05, seed=1) - teachers.product(20_000, DT)
    assert noisy.std() == pytest.approx(0.05, rel=0.03)
    assert abs(noisy.mean()) < 2e-3


@pytest.mark.parametrize(("mu", "amplitude"), [(0.5, 0.2), (5.0, 0.2)])
def test_van_der_pol_is_on_its_limit_cycle(mu, amplitude):
    signal = teachers.van_der_pol(6000, DT, mu)
    assert signal.shape == (6000, 2)
    assert signal[:, 0].max() == pytest.approx(amplitude, rel=0.05)
    first, last = (scores.frequency(part[:, 0], DT) for part in (signal[:3000], signal[3000:]))
    assert first == pytest.approx(last, rel=0.02)
    assert (signal[:3000, 0].max() - signal[3000:, 0].max()) == pytest.approx(0, abs=1e-3)
    # x' = mu (x - 100 x^3 / 3 - y), 20 times as fast
    slope = np.gradient(signal[:, 0], DT)[1:-1]
    x, y = signal[1:-1].T
    expected = 20 * mu * (x - 100 * x**3 / 3 - y)
    assert np.corrcoef(slope, expected)[0, 1] > 0.995


def test_lorenz_follows_its_equations():
    signal = teachers.lorenz(20_000, DT)
    x, y, z = signal[5000:].T
    assert np.abs(x).max() < 0.35
    assert 0.05 < z.min() < z.max() < 0.7
    for value, slope in ((x, 10 * (y - x)), (y, x * (28 - 70 * z) - y), (z, 70 * x * y - 8 / 3 * z)):
        assert np.corrcoef(np.gradient(value, DT)[1:-1], slope[1:-1])[0, 1] > 0.999


def test_ode_to_joy():
    signal = teachers.ode_to_joy(8000, DT)
    assert np.allclose(signal[:4000], signal[4000:], atol=1e-9)
    assert ((signal > 1e-9).sum(1) <= 1).all()
    for slot, channel in enumerate(teachers.NOTES[:14]):
        assert signal[250 * slot + 124].argmax() == channel
        assert signal[250 * slot + 124, channel] == pytest.approx(1.0)
    assert signal[3749, 1] == pytest.approx(1.0)  # the long note peaks in its middle
    assert signal[3624, 1] == pytest.approx(np.sin(np.pi / 4), abs=1e-6)


def test_the_temporal_signal_shows_one_channel_after_another():
    signal = teachers.temporal_signal(2000, DT, 8, 1.0)
    assert np.allclose(signal[:1000], signal[1000:], atol=1e-9)
    assert ((signal > 1e-9).sum(1) <= 1).all()
    for channel in range(8):
        assert signal[125 * channel + 61 : 125 * channel + 63, channel].max() == pytest.approx(1.0, abs=1e-3)


def test_the_speed_of_the_temporal_signal():
    """Twice as fast is every second value; backwards is the same from the end of the period."""
    signal = teachers.temporal_signal(4000, DT, 8, 1.0)
    assert np.allclose(teachers.temporal_signal(1500, DT, 8, 1.0, speed=2.0), signal[1:3000:2], atol=1e-9)
    assert np.allclose(teachers.temporal_signal(300, DT, 8, 1.0, speed=8.0), signal[7:2400:8], atol=1e-9)
    backwards = teachers.temporal_signal(1998, DT, 8, 1.0, speed=-1.0)
    assert np.allclose(backwards, signal[1998::-1][:1998], atol=1e-9)
    assert backwards[61].argmax() == 7


@pytest.mark.parametrize("speed", [1.0, 1.7, 8.0, -1.0])
def test_the_temporal_signal_goes_on_from_block_to_block(speed):
    whole = teachers.temporal_signal(3000, DT, 8, 1.0, speed=speed)
    edges = [0, 1, 333, 1000, 2750, 3000]
    parts = [teachers.temporal_signal(b - a, DT, 8, 1.0, a, speed) for a, b in itertools.pairwise(edges)]
    assert np.allclose(np.concatenate(parts), whole, atol=1e-9)
    later = teachers.temporal_signal(500, DT, 8, 1.0, 260, speed)
    assert not np.allclose(later, whole[:500], atol=0.1)


def test_the_film_repeats_and_has_a_direction():
    film = teachers.film(1600, 1e-2, 6, 8, period=8.0)
    assert film.shape == (1600, 48)
    assert np.allclose(film[:800], film[800:], atol=1e-9)
    assert not np.allclose(film[:400], film[400:800], atol=0.1)
    assert 0 <= film.min() < 0.05
    assert 0.9 < film.max() < 1.75
    forward, backwards = (scores.aligned(part, film[:800], 800).correlation[0] for part in (film[:800], film[799::-1]))
    assert forward == pytest.approx(1)
    assert backwards < 0.6  # no shift of the film is like the reversed film
    # The brighter spot is lowest and rightmost at a quarter of the period, opposite at three quarters
    quarter, later = (film[k].reshape(6, 8) for k in (199, 599))
    assert quarter[4:, 6:].max() > 0.8 > quarter[:2, :2].max()
    assert later[:2, :2].max() > 0.8 > later[4:, 6:].max()


def test_the_song_repeats():
    picture = teachers.song(2000, 5e-3, period=5.0)
    assert picture.shape == (2000, 30)
    assert np.allclose(picture[:1000], picture[1000:], atol=1e-9)
    assert picture.min() == 0
    assert 0.5 < picture.max() < 2
    assert not np.allclose(picture, teachers.song(2000, 5e-3, seed=1))


@pytest.mark.parametrize("hz", [3.0, 5.0, 5.1])
def test_frequency(hz):
    noise = 0.1 * np.random.default_rng(0).standard_normal(5000)
    assert scores.frequency(0.4 + teachers.sine(5000, DT, hz)[:, 0] + noise, DT, 30e-3) == pytest.approx(hz, rel=0.02)
    assert scores.frequency(np.zeros(100), DT) == 0


@pytest.mark.parametrize("window", [200, 500, 730])
def test_alignment_finds_the_shift(window):
    """A shifted teacher fits without error, whatever the length of the window; all shifts are tried in the plain version."""
    random = np.random.default_rng(0)
    cycle = random.standard_normal((400, 3))
    long = np.tile(cycle, (8, 1))
    noise = 0.1 * random.standard_normal((2200, 3))
    found = scores.aligned(long[137 : 137 + 2200] + noise, cycle, window)
    assert len(found.rmse) == 2200 // window
    for k, shift in enumerate(found.shift):
        assert shift == (137 + k * window) % 400
        part = (long[137 : 137 + 2200] + noise)[k * window : (k + 1) * window]
        errors = [np.sqrt(np.mean((part - long[s : s + window]) ** 2)) for s in range(400)]
        assert found.rmse[k] == pytest.approx(min(errors))
    assert found.correlation.min() > 0.98
    assert scores.aligned(noise, cycle, window).correlation.max() < 0.5


def test_clocked_error_is_not_what_is_scored():
    cycle = teachers.sine(200, DT)
    drifting = teachers.sine(3000, DT, 5.05)
    assert scores.aligned(drifting, cycle, 1000).rmse.max() < 0.15
    assert np.sqrt(np.mean((drifting - teachers.sine(3000, DT)) ** 2)) > 0.3


def test_lorenz_statistics_tell_the_attractor_from_noise():
    z = teachers.lorenz(60_000, DT)[5000:, 2]
    found = scores.lorenz(z, DT)
    assert found.interval == pytest.approx(0.75, abs=0.03)
    assert found.mean == pytest.approx(0.54, abs=0.02)
    assert found.explained > 0.9  # the tent map
    shuffled = z.copy()
    random = np.random.default_rng(0)
    at = np.flatnonzero((z[1:-1] > z[:-2]) & (z[1:-1] >= z[2:])) + 1
    edges = np.concatenate([[0], (at[:-1] + at[1:]) // 2, [len(z)]])
    pieces = [z[a:b] for a, b in itertools.pairwise(edges)]
    shuffled = np.concatenate([pieces[k] for k in random.permutation(len(pieces))])
    assert scores.lorenz(shuffled, DT).explained < 0.5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: teachers.sine(0, DT), "teacher: 0 steps"),
        (lambda: teachers.temporal_signal(10, DT, 0, 1.0), "temporal_signal: 0 channels"),
        (lambda: scores.aligned(np.zeros((5, 1)), np.zeros((3, 2)), 2), "aligned: signal"),
        (lambda: scores.aligned(np.zeros((5, 1)), np.zeros((3, 1)), 6), "aligned: signal"),
        (lambda: scores.lorenz(np.zeros(1000), DT), "lorenz: 0 peaks"),
        (lambda: teachers.sine(10.5, DT), r"teacher: 10\.5 steps"),
        (lambda: teachers.sine(10, np.inf), "teacher: 10 steps of inf s"),
        (lambda: teachers.sine(10, DT, np.nan), "sine: nan Hz; give a positive frequency"),
        (lambda: teachers.triangle(10, DT, 0.0), r"triangle: 0\.0 Hz; give a positive frequency"),
        (lambda: teachers.product(10, DT, 4.0), r"product: frequencies are 4\.0; give a tuple"),
        (lambda: teachers.product(10, DT, ()), r"product: frequencies are \(\); give a tuple"),
        (lambda: teachers.product(10, DT, (4.0, np.nan)), r"product: frequencies are \(4\.0, nan\)"),
        (lambda: teachers.product(10, DT, noise=-1.0), r"product: noise is -1\.0; give 0 or more"),
        (lambda: teachers.van_der_pol(10, DT, 0.0), r"van_der_pol: mu is 0\.0; give a positive number"),
        (lambda: teachers.van_der_pol(10, DT, scale=np.nan), "van_der_pol: scale is nan; give a positive number"),
        (lambda: teachers.van_der_pol(10, DT, speed=-20.0), r"van_der_pol: speed is -20\.0; give a positive number"),
        (lambda: teachers.lorenz(10, DT, 0.0), r"lorenz: the scale is 0\.0; give a positive number"),
        (
            lambda: teachers._solved(lambda t, x: x**2, (1.0,), np.full(1, 2.0), 0.0),  # 1 / (1 - t)
            "teacher: the equation has no solution for 2 s",
        ),
        (lambda: teachers.temporal_signal(10, DT, 4.0, 1.0), r"temporal_signal: 4\.0 channels"),
        (lambda: teachers.temporal_signal(10, DT, 4, np.inf), "temporal_signal: 4 channels in inf s"),
        (lambda: teachers.temporal_signal(10, DT, 4, 1.0, speed=np.nan), "temporal_signal: speed nan, first step 0"),
        (lambda: teachers.film(10, DT, 0, 8), "film: 0 rows, 8 columns"),
        (lambda: teachers.film(10, DT, period=0.0), r"film: 6 rows, 8 columns, a period of 0\.0 s"),
        (lambda: teachers.song(10, DT, 0), "song: 0 bands"),
        (lambda: teachers.song(10, DT, syllables=0), "song: 30 bands, 0 syllables"),
        (lambda: teachers.song(10, DT, period=np.nan), "song: 30 bands, 12 syllables, a period of nan s"),
        (lambda: scores.frequency(np.zeros((5, 1)), DT), r"frequency: the signal has shape \(5, 1\); give \(steps,\)"),
        (
            lambda: scores.frequency(np.zeros(0), DT),
            r"frequency: the signal has shape \(0,\); give \(steps,\), not empty",
        ),
        (lambda: scores.frequency(np.full(5, np.nan), DT), "frequency: the signal has shape .* of finite numbers"),
        (lambda: scores.frequency(np.zeros(5), 0.0), r"frequency: steps of 0\.0 s"),
        (lambda: scores.frequency(np.zeros(5), DT, np.nan), r"frequency: steps of 0\.001 s, smoothed over nan s"),
        (
            lambda: scores.aligned(np.zeros((5, 1)), np.zeros((3, 1)), 2.0),
            r"aligned: cycle \(3, 1\), window 2\.0; give",
        ),
        (lambda: scores.aligned(np.zeros((5, 1)), np.zeros((0, 1)), 2), r"aligned: cycle \(0, 1\), window 2; give one"),
        (
            lambda: scores.aligned(np.full((5, 1), np.nan), np.zeros((3, 1)), 2),
            "aligned: the signal or the cycle holds",
        ),
        (
            lambda: scores.aligned(np.zeros((5, 1)), np.full((3, 1), np.inf), 2),
            "aligned: the signal or the cycle holds",
        ),
        (lambda: scores.lorenz(np.zeros((5, 1)), DT), r"lorenz: the signal has shape \(5, 1\); give \(steps,\)"),
        (lambda: scores.lorenz(np.full(5, np.nan), DT), r"lorenz: the signal has shape \(5,\)"),
        (lambda: scores.lorenz(np.zeros(5), 0.0), r"lorenz: steps of 0\.0 s"),
        (lambda: scores.lorenz(np.zeros(5), DT, bins=0), "lorenz: .* 0 bins; give positive numbers"),
        (lambda: scores.lorenz(np.tile(np.arange(500.0), 9), DT, 0.0), "lorenz: all peaks are alike"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(UserError, match=f"^{message}") as caught:
        call()
    assert "\n" not in str(caught.value)
