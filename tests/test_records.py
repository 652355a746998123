"""Result files: whole or absent, no pickle, and one clear line for each that cannot be used."""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnrepro import files, runner
from snnrepro.errors import UserError
from snnrepro.experiment import Experiment
from snnrepro.files import read_json, read_npz, shown, write_json, write_npz, write_text
from snnrepro.ledger import build_record, load_arrays, load_record, records, save_record


@dataclass(frozen=True)
class Config:
    steps: int = 3
    rate: float = 0.5


EXPERIMENT = Experiment(lambda *_: None, Config(), Config(steps=30), (0, 1), (0, 1, 2))
RESULTS = {
    seed: {
        "metrics": {"accuracy": value},
        "early": {"loss": 2.0},
        "cpu_seconds": 1.5,
        "data": "mnist-5k",
        "sources": {},
    }
    for seed, value in [(10, 0.8), (2, 0.6), (1, 0.7)]
}
ARRAYS = {f"{seed}/curve": np.linspace(0, 1, 5) for seed in RESULTS}


def record(results=RESULTS):
    return build_record("demo2020", "walk", "paper", EXPERIMENT, results)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# Files


def test_json_and_text_come_back(tmp_path):
    write_json(tmp_path / "new" / "a.json", {"b": np.float64(1.5), "a": np.arange(2), "name": "Göltz"})
    assert read_json(tmp_path / "new" / "a.json") == {"a": [0, 1], "b": 1.5, "name": "Göltz"}
    write_text(tmp_path / "a.txt", "é\n")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "é\n"
    assert names(tmp_path) == ["a.txt", "new"]


@given(
    st.dictionaries(
        st.text(max_size=5),
        st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False),
    )
)
def test_any_json_comes_back_exactly(tmp_path_factory, content):
    file = tmp_path_factory.getbasetemp() / "any.json"
    content.pop("schema", None)
    write_json(file, content)
    assert read_json(file) == content


def test_npz_comes_back_and_has_the_same_bytes_each_time(tmp_path, monkeypatch):
    arrays = {
        "0/curve": np.arange(6.0).reshape(2, 3),
        "n": np.int64(3),
        "empty": np.zeros((0, 2), np.float32),
        "flags": [True],
    }
    write_npz(tmp_path / "a.npz", arrays)
    back = read_npz(tmp_path / "a.npz")
    assert back.keys() == arrays.keys()
    for name, array in back.items():
        np.testing.assert_array_equal(array, arrays[name], strict=name in ("0/curve", "empty"))
    with np.load(tmp_path / "a.npz", allow_pickle=False) as numpy_reads:
        np.testing.assert_array_equal(numpy_reads["0/curve"], arrays["0/curve"])
    monkeypatch.setattr("time.time", lambda: 2e9)
    write_npz(tmp_path / "b.npz", dict(reversed(arrays.items())))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_no_pickle_goes_in_or_out(tmp_path):
    with pytest.raises(UserError, match=r"a.npz, array x: holds Python objects"):
        write_npz(tmp_path / "a.npz", {"x": np.array([{}], dtype=object)})
    assert names(tmp_path) == []
    np.savez(tmp_path / "b.npz", x=np.array([{}], dtype=object))
    with pytest.raises(UserError, match=r"b.npz: is damaged or not npz \(Object arrays cannot be loaded"):
        read_npz(tmp_path / "b.npz")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32("nan"), object()])
def test_what_json_cannot_hold_leaves_the_old_file(tmp_path, value):
    write_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises(UserError, match=r"a\.json: cannot be stored as JSON"):
        write_json(tmp_path / "a.json", {"x": value})
    assert read_json(tmp_path / "a.json") == {"x": 1}
    assert names(tmp_path) == ["a.json"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(30, "Read-only file system"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, call, error):
    write_json(tmp_path / "a.json", {"x": 1})

    def fail(*_):
        raise error

    monkeypatch.setattr(*((os, "fsync") if call == "fsync" else (Path, "replace")), fail)
    with pytest.raises(UserError if isinstance(error, OSError) else KeyboardInterrupt) as caught:
        write_json(tmp_path / "a.json", {"x": 2})
    assert names(tmp_path) == ["a.json"]
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": 1}
    if isinstance(error, OSError):
        assert re.fullmatch(r".*/a\.json: cannot write it: Read-only file system", str(caught.value))


def test_the_new_file_is_whole_on_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (calls.append("fsync"), fsync(handle)))
    monkeypatch.setattr(Path, "replace", lambda old, new: (calls.append(old.read_text()), replace(old, new))[1])
    write_text(tmp_path / "a.txt", "whole")
    assert calls == ["fsync", "whole", "fsync"]  # the file, the rename, the folder


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "results").write_text("a file where a folder should be")
    with pytest.raises(UserError, match=r"results/a\.json: cannot write it: (File exists|Not a directory)"):
        write_json(tmp_path / "results" / "a.json", {})

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match=r"a\.npz: cannot write it: Permission denied"):
        write_npz(tmp_path / "a.npz", {"x": 1})


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match=r"absent\.json: cannot read it: No such file"):
        read_json(tmp_path / "absent.json")
    with pytest.raises(UserError, match=r"cannot read it: Is a directory"):
        read_npz(tmp_path)


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe", b'{"a": NaN}', b"[" * 100_000])
def test_damaged_json(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.json: is damaged or not JSON") as error:
        read_json(tmp_path / "a.json")
    assert str(error.value).isprintable()


@pytest.mark.parametrize("schema", [files.SCHEMA + 1, "2", None, 1.5])
def test_json_of_a_newer_schema(tmp_path, schema):
    write_json(tmp_path / "a.json", {"schema": schema})
    with pytest.raises(UserError, match=r"a\.json, field schema: is .*; update snnrepro"):
        read_json(tmp_path / "a.json")


def test_npz_cut_or_altered_anywhere(tmp_path):
    file = tmp_path / "a.npz"
    write_npz(file, {"x": np.random.default_rng(0).normal(size=50)})
    whole = file.read_bytes()
    for end in range(0, len(whole), 13):
        file.write_bytes(whole[:end])
        with pytest.raises(UserError, match=r"a\.npz: is damaged or not npz"):
            read_npz(file)
    middle = len(whole) // 2
    file.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    with pytest.raises(UserError, match=r"a\.npz: is damaged or not npz"):
        read_npz(file)


# Records


def test_a_record_holds_every_number_and_where_it_comes_from(demo):
    made = record()
    assert list(made.seeds) == [1, 2, 10]
    assert made.values("accuracy") == [0.7, 0.6, 0.8]
    summary = made.summary["accuracy"]
    assert (summary.n, summary.mean) == (3, pytest.approx(0.7))
    assert summary.sd == pytest.approx(0.1)
    assert summary.high - summary.mean == pytest.approx(4.302653 * 0.1 / 3**0.5, rel=1e-6)
    assert made.config == {"steps": 30, "rate": 0.5}
    assert "snnrepro.papers.demo2020" in made.sources
    assert made.data == "mnist-5k"
    assert {"python", "numpy"} <= made.versions.keys()
    assert made.machine["cores"] == os.cpu_count()


def test_a_record_comes_back(demo):
    file = save_record(record(), ARRAYS)
    assert file == demo / "chapters" / "demo2020" / "results" / "walk.paper.json"
    back = load_record("demo2020", "walk", "paper")
    assert back == record().model_copy(update={"arrays": "walk.paper.npz", "arrays_sha256": back.arrays_sha256})
    assert list(back.seeds) == [1, 2, 10]
    curve = load_arrays(back)[10]["curve"]
    assert curve.dtype == np.float32
    np.testing.assert_allclose(curve, ARRAYS["10/curve"])
    content = json.loads(file.read_text())
    assert content["schema"] == 1
    assert str(demo) not in file.read_text()
    assert os.uname().nodename not in file.read_text().replace(content["machine"]["cpu"], "")


def test_no_record_and_no_chapter(demo):
    assert load_record("demo2020", "walk", "quick") is None
    with pytest.raises(UserError, match="unknown chapter 'demo2021'; did you mean demo2020"):
        load_record("demo2021", "walk", "quick")


def test_one_seed_has_no_deviation_and_no_seed_is_an_error(demo):
    one = record({3: RESULTS[1]}).summary["accuracy"]
    assert (one.n, one.sd, one.low, one.high) == (1, None, 0.7, 0.7)
    with pytest.raises(UserError, match=r"nothing to record for demo2020/walk \(paper\)"):
        record({})


def test_seeds_must_agree_on_their_metrics(demo):
    with pytest.raises(UserError, match=r"demo2020/walk \(paper\): seeds 1 and 2 have different metrics"):
        record({**RESULTS, 2: {**RESULTS[2], "metrics": {"other": 1.0}}})


def test_seeds_must_agree_on_their_data(demo):
    said = rf"seeds 1 and 2 had different data, {RESULTS[1]['data']} and half of it; run again with --fresh"
    with pytest.raises(UserError, match=said):
        record({**RESULTS, 2: {**RESULTS[2], "data": "half of it"}})


def test_saving_again_touches_nothing_when_only_time_and_machine_differ(demo, monkeypatch):
    file = save_record(record(), ARRAYS)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in file.parent.iterdir()}
    again = {seed: {**result, "cpu_seconds": 99.0} for seed, result in RESULTS.items()}
    monkeypatch.setattr(records.provenance, "machine", lambda: {"cpu": "other", "cores": 64, "system": "Linux"})
    later = record(again).model_copy(update={"date": "2099-01-01"})
    assert save_record(later, ARRAYS) == file
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in file.parent.iterdir()} == before


@pytest.mark.parametrize("what", ["metric", "seeds", "array", "config", "damaged npz", "damaged json"])
def test_saving_again_writes_when_anything_else_differs(demo, what):
    file = save_record(record(), ARRAYS)
    made, arrays = record(), dict(ARRAYS)
    if what == "metric":
        made = record({**RESULTS, 1: {**RESULTS[1], "metrics": {"accuracy": 0.7000001}}})
    elif what == "seeds":
        made = record({**RESULTS, 4: RESULTS[1]})
    elif what == "array":
        arrays["1/curve"] = arrays["1/curve"] + 1e-3
    elif what == "config":
        made = made.model_copy(
            update={"config": {"steps": 9}, "config_hash": records.provenance.plain_hash({"steps": 9})}
        )
    else:
        damaged = file if what == "damaged json" else file.with_suffix(".npz")
        damaged.write_bytes(damaged.read_bytes()[:-10])
    save_record(made, arrays)
    back = load_record("demo2020", "walk", "paper")
    assert (back.seeds.keys(), back.config_hash) == (made.seeds.keys(), made.config_hash)
    assert back.summary == made.summary
    np.testing.assert_array_equal(load_arrays(back)[1]["curve"], arrays["1/curve"].astype(np.float32))


def test_arrays_that_are_gone_leave_no_file(demo):
    file = save_record(record(), ARRAYS)
    save_record(record(), {})
    assert names(file.parent) == ["walk.paper.json"]
    assert load_arrays(load_record("demo2020", "walk", "paper")) == {1: {}, 2: {}, 10: {}}


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda content: content.update(schema=2), "field schema: is 2, this version reads up to 1; update snnrepro"),
        (lambda content: content.pop("schema"), "field schema: is missing"),
        (lambda content: content.pop("config_hash"), "field config_hash: Field required"),
        (lambda content: content.update(colour="red"), "field colour: Extra inputs"),
        (lambda content: content.update(seeds={}), "field seeds: "),
        (lambda content: content["seeds"]["1"].update(metrics={"accuracy": "x"}), "field seeds.1.metrics.accuracy: "),
        (lambda content: content["seeds"]["1"].update(metrics={}), "field summary.accuracy: not every seed has it"),
        (lambda content: content.update(experiment="run"), ": is a record of demo2020/run (paper)"),
        (lambda content: content["summary"]["accuracy"].update(mean=0.9), "field summary.accuracy: does not follow"),
        (lambda content: content["summary"]["accuracy"].update(n=500), "field summary.accuracy: does not follow"),
        (lambda content: content["summary"]["accuracy"].update(sd=None), "field summary.accuracy: does not follow"),
        (
            lambda content: content["seeds"]["1"]["metrics"].update(accuracy=0.5),
            "field summary.accuracy: does not follow",
        ),
        (lambda content: content["seeds"].pop("1"), "field summary.accuracy: does not follow"),
        (lambda content: content["config"].update(steps=999), "field config: is not what config_hash stands for"),
    ],
)
def test_a_broken_record_is_named_with_its_field(demo, edit, words):
    file = save_record(record(), {})
    content = json.loads(file.read_text())
    edit(content)
    write_json(file, content)
    with pytest.raises(UserError) as error:
        load_record("demo2020", "walk", "paper")
    assert "results/walk.paper.json" in str(error.value)
    assert words in str(error.value)
    assert str(error.value).isprintable()


def test_a_results_folder_that_is_read_only(demo, monkeypatch):
    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    made = record()
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match=r"results/walk\.paper\.npz: cannot write it: Read-only file system"):
        save_record(made, ARRAYS)


def test_arrays_of_a_record_must_belong_to_it(demo):
    file = save_record(record(), ARRAYS)
    made = load_record("demo2020", "walk", "paper").model_copy(update={"arrays_sha256": None})
    write_npz(file.with_suffix(".npz"), {"5/curve": 1})
    with pytest.raises(UserError, match=r"array 5/curve: belongs to no seed"):
        load_arrays(made)
    file.with_suffix(".npz").unlink()
    with pytest.raises(UserError, match=r"walk\.paper\.npz: cannot read it"):
        load_arrays(made)


@pytest.mark.parametrize("content", ["{", "{}", '{"schema": 1}'])
def test_damaged_record_says_how_it_is_made_again(demo, content):
    """Recording reads the old record first, so that the message would come again and again."""
    runner.run("demo2020", "walk", "quick", jobs=1, quiet=True)
    file = runner.record("demo2020", "walk", "quick")
    file.write_text(content)
    with pytest.raises(UserError, match=r"; restore it from git, or delete it and record it again$"):
        runner.record("demo2020", "walk", "quick")
    file.unlink()
    assert runner.record("demo2020", "walk", "quick") == file


def test_damaged_arrays_name_the_record_beside_them(demo):
    save_record(record(), ARRAYS).with_suffix(".npz").write_bytes(b"")
    with pytest.raises(
        UserError, match=r"; restore it from git, or delete it and walk\.paper\.json and record it again$"
    ):
        load_arrays(load_record("demo2020", "walk", "paper"))


def test_paths_are_shown_from_the_root_of_the_repository(demo, tmp_path, monkeypatch):
    """A notebook works in its chapter's folder."""
    monkeypatch.chdir(demo / "chapters" / "demo2020")
    assert shown(demo / "_config.yml") == "_config.yml"
    monkeypatch.chdir(tmp_path)
    assert [shown(tmp_path / "x"), shown(tmp_path.parent / "x")] == ["x", str(tmp_path.parent / "x")]


def test_arrays_of_another_recording_are_refused(demo, monkeypatch):
    """A kill between the two files leaves new arrays beside the old record."""
    file = save_record(record(), ARRAYS)
    new = {name: array + 1 for name, array in ARRAYS.items()}
    with monkeypatch.context() as patch:
        patch.setattr(records, "write_json", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            save_record(record(), new)
    with pytest.raises(
        UserError, match=r"walk\.paper\.npz: does not belong to the record beside it; restore it from git"
    ):
        load_arrays(load_record("demo2020", "walk", "paper"))
    assert save_record(record(), new) == file
    np.testing.assert_allclose(load_arrays(load_record("demo2020", "walk", "paper"))[1]["curve"], new["1/curve"])


def test_record_from_before_the_checksum_is_read_and_stays_as_it_is(demo):
    file = save_record(record(), ARRAYS)
    content = json.loads(file.read_text())
    del content["arrays_sha256"]
    write_json(file, content)
    before = file.read_bytes()
    assert load_arrays(load_record("demo2020", "walk", "paper")).keys() == {1, 2, 10}
    save_record(record(), ARRAYS)
    assert file.read_bytes() == before
