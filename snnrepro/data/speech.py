"""Spoken digits as spikes: recordings of the Free Spoken Digit Dataset through our own cochlea, and the Heidelberg digits as published."""

import io
import re
import tarfile
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np

from snnrepro.data import registry
from snnrepro.data.cochlea import EAR, Cochlea, encode, read_wav
from snnrepro.data.recordings import Recordings, joined, subset
from snnrepro.errors import UserError

SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
OFFICIAL = 5
"""Recordings 0 to 4 of each speaker and digit are the official test samples."""

SHD_UNITS, SHD_CLASSES, SHD_DURATION = 700, 20, 1.0


class Sound(NamedTuple):
    """One recording: samples at 8 kHz, the digit, the speaker's place in `SPEAKERS`, its number."""

    samples: np.ndarray
    digit: int
    speaker: int
    index: int


def sounds(download: bool = False, rate: int = 8000) -> list[Sound]:
    """All 3,000 recordings of the Free Spoken Digit Dataset, in the order of their names. `rate`, in Hz, is that they must have.

    Raises:
        UserError: the archive is not here and not asked for, is damaged, or holds a file that does not fit.
    """
    content = registry.read(registry.DIGITS_SPOKEN, download)
    if content is None:
        raise UserError(
            f"the spoken digits are neither in $SNNREPRO_DATA/fsdd nor in {registry.cache()}; run `snnrepro data get fsdd`"
        )
    return read_archive(content, rate)


def read_archive(content: bytes, rate: int = 8000) -> list[Sound]:
    """Recordings of an unpacked archive whose wav files are named {digit}_{speaker}_{index}.wav and have this rate, in Hz.

    Raises:
        UserError: it is truncated, has no such file, or one that does not fit.
    """
    found = []
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            for member in sorted(archive.getmembers(), key=lambda m: m.name):
                name = PurePosixPath(member.name).name
                if name.endswith(".wav"):
                    found.append(_sound(name, archive.extractfile(member).read(), rate))
    except (tarfile.TarError, EOFError) as error:
        raise UserError(f"the archive of spoken digits is truncated or damaged ({error}); get it again") from None
    if not found:
        raise UserError("the archive of spoken digits holds no wav file; get it again")
    return found


def _sound(name: str, content: bytes, rate: int) -> Sound:
    parts = re.fullmatch(r"(\d+)_([a-z]+)_(\d+)\.wav", name)
    if not parts or not 0 <= int(parts[1]) <= 9 or parts[2] not in SPEAKERS:
        raise UserError(f"{name} is not named <digit 0 to 9>_<speaker>_<number>.wav; rename it or leave it out")
    return Sound(read_wav(content, name, rate), int(parts[1]), SPEAKERS.index(parts[2]), int(parts[3]))


def spoken_digits(
    held_out: int | None = None,
    duration: float = 0.7,
    limit: int | None = None,
    cochlea: Cochlea = EAR,
    download: bool = False,
) -> tuple[Recordings, Recordings]:
    """Training and test samples of the Free Spoken Digit Dataset through the cochlea. Half a minute for all of them.

    Args:
        held_out: place in `SPEAKERS` of the speaker whose recordings are the test samples, so that none of them is in training;
            None: the official split, where all speakers are in both parts.
        duration: window in seconds; what lies behind it is cut.
        limit: use only the first `limit` recordings of each speaker and digit; None: all 50.
        cochlea: settings of the encoder.
        download: fetch the archive where it is not here.

    Raises:
        UserError: as `sounds`, or there is no such speaker.
    """
    if held_out is not None and not 0 <= held_out < len(SPEAKERS):
        raise UserError(f"spoken digits: there is no speaker {held_out}; give 0 .. {len(SPEAKERS) - 1}")
    kept = [sound for sound in sounds(download, cochlea.rate) if limit is None or sound.index < limit]
    digit, speaker, index = (np.array([getattr(s, field) for s in kept]) for field in ("digit", "speaker", "index"))
    both = joined(encode([s.samples for s in kept], cochlea), digit, cochlea.channels, duration, speaker, "fsdd")
    test = index < OFFICIAL if held_out is None else speaker == held_out
    return subset(both, ~test), subset(both, test)


def heidelberg_digits(part: str, download: bool = False) -> Recordings:
    """The Spiking Heidelberg Digits: 8,156 (`train`) or 2,264 (`test`) samples of 700 channels and 20 classes, first second.

    Raises:
        UserError: another part, the file is not here and not asked for, or it is damaged.
    """
    if part not in ("train", "test"):
        raise UserError(f"heidelberg_digits: part is {part!r}; choose train or test")
    content = registry.read(f"shd/shd_{part}.h5.gz", download)
    if content is None:
        raise UserError(
            f"shd_{part}.h5.gz is neither in $SNNREPRO_DATA/shd nor in {registry.cache()}; run `snnrepro data get shd`"
        )
    return read_heidelberg(content, f"shd_{part}.h5")


def read_heidelberg(content: bytes, name: str) -> Recordings:
    """Samples of an HDF5 file with spikes/times, spikes/units, labels and extra/speaker.

    Raises:
        UserError: it is truncated or no HDF5 file, lacks a table, has tables of different length, or a label or unit out of range.
    """
    import h5py

    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            times, units = list(file["spikes/times"][:]), list(file["spikes/units"][:])
            label, speaker = file["labels"][:].astype(np.int64), file["extra/speaker"][:].astype(np.int64)
    except OSError as error:
        raise UserError(f"{name} is truncated or no HDF5 file ({str(error).splitlines()[0]}); get it again") from None
    except KeyError as error:
        raise UserError(f"{name} lacks a table ({error.args[0]}); get it again") from None
    if len({len(times), len(units), len(label), len(speaker)}) > 1:
        raise UserError(
            f"{name} has {len(times)} times, {len(units)} units, {len(label)} labels and {len(speaker)} speakers; get it again"
        )
    if label.size and not 0 <= label.min() <= label.max() < SHD_CLASSES:
        raise UserError(f"{name} has labels {label.min()} .. {label.max()}; they must be 0 .. {SHD_CLASSES - 1}")
    return joined(list(zip(times, units, strict=True)), label, SHD_UNITS, SHD_DURATION, speaker, "shd")
