"""Sound into spikes: the filters, the neurons by hand, and the readers of spoken digits with all that can be wrong with a file."""

import io
import os
import tarfile
import wave

import h5py
import numpy as np
import pytest

from snnrepro.data import cochlea, registry, speech
from snnrepro.data.cochlea import EAR
from snnrepro.errors import UserError

REAL_DATA = os.environ.get("SNNREPRO_DATA")


def tone(frequency, duration=0.4):
    return 0.3 * np.sin(2 * np.pi * frequency * np.arange(int(duration * EAR.rate)) / EAR.rate)


# Filters --------------------------------------------------------------------------------------------------------------------


def test_centres_are_evenly_spaced_on_the_erb_scale():
    f = cochlea.centres(EAR)
    assert len(f) == 64
    assert f[[0, -1]] == pytest.approx([80, 3600])
    erb = 21.4 * np.log10(1 + 4.37 * f / 1000)
    np.testing.assert_allclose(np.diff(erb), (erb[-1] - erb[0]) / 63)
    assert 21.4 * np.log10(5.37) == pytest.approx(15.6, abs=0.05)  # ERB number of 1 kHz


def test_filters_pass_their_centre_and_little_else():
    h, f = cochlea.filters(EAR), cochlea.centres(EAR)
    t = np.arange(h.shape[1]) / EAR.rate
    gain = np.abs(h @ np.exp(-2j * np.pi * t[:, None] * f))
    np.testing.assert_allclose(np.diag(gain), 1, rtol=1e-9)
    assert np.array_equal(gain.argmax(1), np.arange(64))
    k = 40
    edge = 1.019 * 24.7 * (4.37e-3 * f[k] + 1)
    side = np.abs(h[k] @ np.exp(-2j * np.pi * t * (f[k] + edge)))
    assert side == pytest.approx(0.25, abs=0.01)  # order 4: (1 + 1)^(-4 / 2)


@pytest.mark.parametrize("frequency", [120, 440, 1000, 3000])
def test_a_pure_tone_is_loudest_in_the_channel_at_its_frequency(frequency):
    [(time, channel)] = cochlea.encode([tone(frequency)])
    found = np.bincount(channel, minlength=64)
    best = np.abs(cochlea.centres(EAR) - frequency).argmin()
    loudest = np.flatnonzero(found == found.max())
    assert found.max() > 20
    assert loudest.min() <= best <= loudest.max()
    assert np.ptp(loudest) <= 6
    assert found[np.abs(np.arange(64) - best) > 20].sum() == 0
    assert (np.diff(time) >= 0).all()


def test_hair_cells_rectify_compress_and_smooth():
    drive = cochlea.hair_cells(tone(1000), EAR, cochlea.filters(EAR))
    assert drive.shape == (800, 64)
    k = np.abs(cochlea.centres(EAR) - 1000).argmin()
    level = 0.1 * np.sqrt(2)  # amplitude of a tone whose root mean square is 0.1
    phase = np.linspace(0, 2 * np.pi, 8000, endpoint=False)
    expected = EAR.drive * (np.maximum(level * np.sin(phase), 0) ** 0.4).mean()
    assert drive[400:, k].mean() == pytest.approx(expected, rel=0.1)
    assert drive[400:, k].std() < 0.3 * drive[400:, k].mean()
    assert drive.min() >= -1e-9
    np.testing.assert_allclose(
        cochlea.hair_cells(7 * tone(1000), EAR, cochlea.filters(EAR)), drive, rtol=1e-6, atol=1e-4
    )


def test_each_step_of_the_low_pass_is_that_of_its_edge():
    """An impulse through the smoothing decays with the time constant of 250 Hz, 0.64 ms."""
    c = EAR._replace(dt=1 / EAR.rate)
    h = np.zeros((64, 10))
    h[:, 0] = 1.0
    impulse = np.zeros(200)
    impulse[20] = 1.0
    drive = cochlea.hair_cells(impulse, c, h)[:, 0]
    assert drive[:20].max() == pytest.approx(0, abs=1e-4)
    assert drive[25] / drive[20] == pytest.approx(np.exp(-5 / 8000 * 2 * np.pi * 250), rel=1e-3)
    level = 0.1 * np.sqrt(200)
    assert drive[20] == pytest.approx(16 * level**0.4 * (1 - np.exp(-2 * np.pi * 250 / 8000)), rel=1e-3)


# Neurons --------------------------------------------------------------------------------------------------------------------


def test_a_trace_by_hand():
    """tau = dt / ln 2, so that each step goes half of the way; two steps of rest after a spike."""
    c = EAR._replace(tau=1e-3 / np.log(2), dt=1e-3, refractory=2e-3)
    drive = np.array([1.0, 1.5, 0.5, 8.0, 8.0, 1.0, 2.0, 0.0])[:, None]
    # u: 0.5, 1.0 (spike), rest, rest, 4 (spike), rest, rest, 0
    assert cochlea.fire(drive, c)[:, 0].tolist() == [False, True, False, False, True, False, False, False]
    free = c._replace(refractory=0.0)  # 0.5, 1 (spike), 0.25, 4.125 (spike), 4 (spike), 0.5, 1.25 (spike), 0
    assert cochlea.fire(drive, free)[:, 0].tolist() == [False, True, False, True, True, False, True, False]


@pytest.mark.parametrize("strength", [1.05, 1.5, 4.0])
def test_constant_drive_gives_the_interval_of_the_closed_form(strength):
    spikes = np.flatnonzero(cochlea.fire(np.full((2000, 1), strength), EAR)[:, 0])
    rise = EAR.tau * np.log(strength / (strength - 1))
    expected = np.ceil(rise / EAR.dt - 1e-9) + round(EAR.refractory / EAR.dt)
    assert set(np.diff(spikes)) == {int(expected)}
    assert not cochlea.fire(np.full((2000, 1), 0.99), EAR).any()


def test_a_sound_is_encoded_alike_alone_and_among_others():
    sounds = [tone(300, 0.2), tone(900, 0.35), tone(2000, 0.05), *[tone(500 + 10 * k, 0.1) for k in range(60)]]
    together = cochlea.encode(sounds)
    assert len(together) == 63
    for k in (0, 1, 2, 62):
        [(time, channel)] = cochlea.encode([sounds[k]])
        assert np.array_equal(together[k][0], time)
        assert np.array_equal(together[k][1], channel)
        assert time.max() < len(sounds[k]) / EAR.rate
    assert len(cochlea.encode([np.zeros(800)])[0][0]) == 0


@pytest.mark.parametrize(
    ("sound", "message"),
    [
        (np.zeros(0), r"shape \(0,\); give one channel"),
        (np.zeros((10, 2)), r"shape \(10, 2\); give one channel"),
        (np.array([0.1, np.nan]), "holds NaN or infinite values"),
    ],
)
def test_a_bad_sound_is_named(sound, message):
    with pytest.raises(UserError, match=message) as caught:
        cochlea.encode([sound])
    assert "\n" not in str(caught.value)


# Files of sound -------------------------------------------------------------------------------------------------------------


def wav(samples=800, rate=8000, channels=1, width=2):
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        values = (8000 * np.sin(np.arange(samples * channels) / 3)).astype("<i2")
        file.writeframes(values.tobytes() if width == 2 else bytes(samples * channels * width))
    return out.getvalue()


def test_a_wav_file_is_read():
    found = cochlea.read_wav(wav(), "a.wav")
    np.testing.assert_allclose(found, (8000 * np.sin(np.arange(800) / 3)).astype(int) / 32768)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (wav(rate=16000), "a.wav has a rate of 16000 Hz; resample it to 8000 Hz"),
        (wav(channels=2), "a.wav has 2 channels; mix them down to one"),
        (wav(width=1), "a.wav has samples of 8 bit; convert it to 16 bit"),
        (wav(samples=0), "a.wav holds no sound; leave it out"),
        (wav()[:-100], "a.wav is truncated: 750 samples of 800; get it again"),
        (wav()[:30], "a.wav is no whole wav file"),
        (b"", "a.wav is no whole wav file .it ends too early"),
        (b"not a wav file at all", "a.wav is no whole wav file"),
    ],
)
def test_a_bad_wav_file_is_named(content, message):
    with pytest.raises(UserError, match=message) as caught:
        cochlea.read_wav(content, "a.wav")
    assert "\n" not in str(caught.value)


def archive(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"set/recordings/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


SET = {
    f"{digit}_{name}_{k}.wav": wav(300 + 40 * digit)
    for digit in (0, 7)
    for name in speech.SPEAKERS
    for k in (0, 4, 5, 11)
}


def test_an_archive_is_read():
    found = speech.read_archive(archive(SET | {"metadata.py": b"x", "README.md": b"y"}))
    assert len(found) == 48
    assert {len(s.samples) for s in found if s.digit == 7} == {580}
    assert sorted({(s.speaker, s.index) for s in found}) == [(k, i) for k in range(6) for i in (0, 4, 5, 11)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dt": 3e-4}, "dt is 0.0003 s, 2.4 samples of the sound; give a whole number"),
        ({"dt": 1e-5}, "dt is 1e-05 s, 0.08 samples of the sound; give a whole number"),
        ({"highest": 4100.0}, "filters from 80 to 4100 Hz at 8000 Hz; give 0 < lowest < highest <= 4000 Hz"),
        ({"lowest": 3700.0}, "filters from 3700 to 3600 Hz"),
    ],
)
def test_settings_that_contradict_each_other_are_named(settings, message):
    with pytest.raises(UserError, match=message):
        cochlea.encode([np.zeros(800)], EAR._replace(**settings))


def test_recordings_must_have_the_rate_of_the_cochlea(monkeypatch):
    monkeypatch.setattr(registry, "read", lambda name, download=False: archive(SET))
    with pytest.raises(UserError, match="has a rate of 8000 Hz; resample it to 16000 Hz"):
        speech.spoken_digits(cochlea=EAR._replace(rate=16000))


def test_both_splits(monkeypatch):
    monkeypatch.setattr(registry, "read", lambda name, download=False: archive(SET))
    train, test = speech.spoken_digits()
    assert (len(train.label), len(test.label)) == (24, 24)
    assert sorted(set(test.group)) == sorted(set(train.group)) == list(range(6))
    assert (train.units, train.duration, train.tag) == (64, 0.7, "fsdd")
    assert sorted(set(train.label)) == [0, 7]
    train, test = speech.spoken_digits(2, duration=0.05, limit=5)
    assert set(test.group) == {2}
    assert set(train.group) == {0, 1, 3, 4, 5}
    assert (len(train.label), len(test.label), test.duration) == (20, 4, 0.05)
    [(time, channel)] = cochlea.encode([cochlea.read_wav(SET["0_lucas_0.wav"], "")])
    assert np.array_equal(test.time[: test.starts[1]], time.astype(np.float32))
    assert np.array_equal(test.unit[: test.starts[1]], channel)
    with pytest.raises(UserError, match=r"there is no speaker 6; give 0 \.\. 5"):
        speech.spoken_digits(6)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (archive({"a.txt": b""}), "holds no wav file"),
        (archive({"11_theo_0.wav": wav()}), "11_theo_0.wav is not named <digit 0 to 9>_<speaker>_<number>.wav"),
        (archive({"1_nobody_0.wav": wav()}), "1_nobody_0.wav is not named"),
        (archive({"1_theo_0.wav": wav(rate=44100)}), "1_theo_0.wav has a rate of 44100 Hz"),
        (archive({"1_theo_0.wav": wav()})[:700], "the archive of spoken digits is truncated or damaged"),
        (b"no archive", "the archive of spoken digits is truncated or damaged"),
    ],
)
def test_a_bad_archive_is_named(content, message):
    with pytest.raises(UserError, match=message) as caught:
        speech.read_archive(content)
    assert "\n" not in str(caught.value)


def test_missing_recordings_are_a_clear_line(monkeypatch, tmp_path):
    monkeypatch.delenv("SNNREPRO_DATA", raising=False)
    monkeypatch.setenv("SNNREPRO_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"spoken digits are neither in .*run `snnrepro data get fsdd`"):
        speech.sounds()
    with pytest.raises(UserError, match=r"shd_test\.h5\.gz is neither in .*run `snnrepro data get shd`"):
        speech.heidelberg_digits("test")
    with pytest.raises(UserError, match="part is 'valid'; choose train or test"):
        speech.heidelberg_digits("valid")


def test_the_real_recordings(monkeypatch):
    if not REAL_DATA:
        pytest.skip("SNNREPRO_DATA is not set: the recorded digits are not checked")
    if registry.find(registry.DIGITS_SPOKEN) is None:
        pytest.skip("the recorded digits are not in SNNREPRO_DATA")
    found = speech.sounds()
    assert len(found) == 3000
    assert np.bincount([s.digit for s in found]).tolist() == [300] * 10
    assert np.bincount([s.speaker for s in found]).tolist() == [500] * 6
    assert sum(s.index < speech.OFFICIAL for s in found) == 300
    assert np.mean([len(s.samples) for s in found]) / 8000 == pytest.approx(0.437, abs=0.001)
    some = cochlea.encode([s.samples for s in found[::60]])
    assert 800 < np.mean([len(time) for time, _ in some]) < 2000


# The Heidelberg digits ------------------------------------------------------------------------------------------------------


def heidelberg(times=((0.1, 0.2), (0.05,)), units=((0, 699), (3,)), labels=(19, 0), speaker=(0, 4), without=None):
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        for name, rows, kind in (("times", times, np.float16), ("units", units, np.uint16)):
            table = file.create_dataset(f"spikes/{name}", (len(rows),), h5py.vlen_dtype(kind))
            for k, row in enumerate(rows):
                table[k] = np.array(row, kind)
        file["labels"], file["extra/speaker"] = np.array(labels, np.uint16), np.array(speaker, np.uint16)
        if without:
            del file[without]
    return out.getvalue()


def test_the_heidelberg_digits_are_read():
    r = speech.read_heidelberg(heidelberg(), "shd.h5")
    assert r.starts.tolist() == [0, 2, 3]
    assert r.unit.tolist() == [0, 699, 3]
    assert r.time.tolist() == pytest.approx([0.1, 0.2, 0.05], abs=1e-3)
    assert (r.label.tolist(), r.group.tolist(), r.units, r.duration, r.tag) == ([19, 0], [0, 4], 700, 1.0, "shd")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (heidelberg()[:2000], r"shd\.h5 is truncated or no HDF5 file"),
        (b"something else", r"shd\.h5 is truncated or no HDF5 file"),
        (heidelberg(without="labels"), r"shd\.h5 lacks a table .*labels"),
        (heidelberg(labels=(20, 0)), r"shd\.h5 has labels 0 \.\. 20; they must be 0 \.\. 19"),
        (heidelberg(labels=(1,)), r"shd\.h5 has 2 times, 2 units, 1 labels and 2 speakers"),
        (heidelberg(units=((0, 700), (3,))), r"units 0 \.\. 700 lie outside 0 \.\. 699"),
        (heidelberg(units=((0,), (3,))), "sample 0 has 2 times and 1 units; give equal lengths"),
    ],
)
def test_a_bad_file_of_the_heidelberg_digits_is_named(content, message):
    with pytest.raises(UserError, match=message) as caught:
        speech.read_heidelberg(content, "shd.h5")
    assert "\n" not in str(caught.value)
