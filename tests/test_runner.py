import dataclasses
import functools
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from snnrepro import papers, progress, runner
from snnrepro.errors import UserError

FILES = ("0.json", "0.npz", "1.json", "1.npz", "2.json", "2.npz")


def walk(**options):
    return runner.run("demo2020", "walk", "quick", quiet=True, **options)


def folder(demo, name="walk.quick"):
    return demo / ".runs" / "demo2020" / name


def contents(place):
    """Everything in a folder but the CPU seconds."""
    numbers = {file.name: json.loads(file.read_text()) | {"cpu_seconds": 0} for file in place.glob("*.json")}
    return numbers, {file.name: file.read_bytes() for file in place.glob("*.npz")}


def change(monkeypatch, **fields):
    """Another quick configuration of the walk."""
    known = runner.experiments("demo2020")
    config = dataclasses.replace(known["walk"].quick, **fields)
    monkeypatch.setitem(known, "walk", dataclasses.replace(known["walk"], quick=config))


PAPER = """
from dataclasses import dataclass
from snnrepro.experiment import Experiment, Result

GAIN = 1.0

@dataclass(frozen=True)
class Config:
    size: float = 1.0

def one(config, seed, progress, checkpoint):
    return Result({"size": config.size})

def two(config, seed, progress, checkpoint):
    return Result({"size": GAIN * config.size})

EXPERIMENTS = {
    name: Experiment(function, Config(), Config(), (0, 1), (0, 1)) for name, function in (("one", one), ("two", two))
}
"""
NUMBERS = itertools.count()


@pytest.fixture
def paper(demo, monkeypatch):
    """A chapter of its own, not imported yet, and the file with its experiments."""
    citekey = f"made{next(NUMBERS)}"
    shutil.copytree(demo / "chapters" / "demo2020", demo / "chapters" / citekey)
    file = demo / "papers" / f"{citekey}.py"
    file.write_text(PAPER)
    monkeypatch.setattr(papers, "__path__", [*papers.__path__, str(file.parent)])
    return citekey, file


def edit(file, old, new):
    """Change a file, and its time stamp whatever the clock says."""
    assert old in file.read_text()
    stamp = file.stat().st_mtime_ns + 1_000_000
    file.write_text(file.read_text().replace(old, new))
    os.utime(file, ns=(stamp, stamp))


def test_same_bits_for_one_process_two_processes_and_again(demo):
    walk(jobs=1)
    one = contents(folder(demo))
    walk(jobs=2, fresh=True)
    two = contents(folder(demo))
    walk(jobs=2, fresh=True)
    assert one == two == contents(folder(demo))
    assert sorted([*one[0], *one[1]]) == sorted(FILES)


def test_runs_hold_what_the_seeds_returned_in_the_order_asked_for(demo):
    runs = walk(seeds=(2, 0), jobs=1)
    assert runs.seeds == (2, 0) and runs.data == "generated" and runs.config.steps == 5
    assert runs.cpu_seconds.shape == (2,) and (runs.cpu_seconds > 0).all()
    for place, seed in enumerate(runs.seeds):
        alone = runner.experiments("demo2020")["walk"].function(runs.config, seed, lambda *_, **__: None, None)
        assert runs.metrics["size"][place] == alone.metrics["size"]
        assert runs.early["first"][place] == alone.early["first"]
        np.testing.assert_array_equal(runs.arrays[place]["sizes"], alone.arrays["sizes"])


def test_one_seed_that_is_computed_again_is_one(demo, monkeypatch, capsys):
    walk(seeds=(0,), jobs=1)
    change(monkeypatch, steps=6)
    runner.run("demo2020", "walk", "quick", seeds=(0,), jobs=1)
    assert "computing seed 0 again, the configuration changed since" in capsys.readouterr().err


def test_finished_seeds_are_kept(demo):
    walk(seeds=(0, 1), jobs=1)
    before = {file: file.stat().st_mtime_ns for file in folder(demo).iterdir()}
    walk(jobs=1)
    assert runner.finished("demo2020", "walk", "quick") == [0, 1, 2]
    assert all(file.stat().st_mtime_ns == time for file, time in before.items())


def test_seed_of_another_configuration_is_run_again(demo, monkeypatch, capsys):
    walk(jobs=1)
    change(monkeypatch, steps=6)
    assert runner.finished("demo2020", "walk", "quick") == []
    runs = runner.run("demo2020", "walk", "quick", jobs=1)
    assert runs.arrays[0]["sizes"].shape == (6,)
    assert "computing seeds 0-2 again, the configuration changed since" in capsys.readouterr().err


def test_seed_of_other_sources_is_run_again(demo, capsys):
    walk(jobs=1)
    for file in folder(demo).glob("*.json"):
        content = json.loads(file.read_text())
        content["sources"]["snnrepro.papers.demo2020"] = "0"
        file.write_text(json.dumps(content))
    assert runner.finished("demo2020", "walk", "quick") == []
    runner.run("demo2020", "walk", "quick", jobs=1)
    assert "computing seeds 0-2 again, snnrepro.papers.demo2020 changed since" in capsys.readouterr().err
    assert runner.finished("demo2020", "walk", "quick") == [0, 1, 2]


@pytest.mark.parametrize("jobs", [1, 2])
def test_process_that_has_loaded_other_sources_stops(demo, monkeypatch, jobs):
    walk(seeds=(0, 1), jobs=jobs)
    hashes = runner.ledger.experiment_sources
    monkeypatch.setattr(runner.ledger, "experiment_sources", lambda key, e: hashes(key, e) | {"other": "0"})
    with pytest.raises(UserError, match="a process has other sources than those on disk here"):
        walk(seeds=(0, 1), jobs=jobs)


def test_code_that_was_edited_after_it_was_loaded_is_not_recorded_as_the_new_one(paper):
    citekey, file = paper
    runner.run(citekey, "one", "quick", jobs=1, quiet=True)
    edit(file, "GAIN = 1.0", "GAIN = 2.0")
    with pytest.raises(UserError, match="a process has other sources than those on disk here"):
        runner.run(citekey, "two", "quick", jobs=1, quiet=True)
    assert runner.finished(citekey, "two", "quick") == []


def test_process_with_another_configuration_stops(demo, monkeypatch):
    change(monkeypatch, steps=6)
    with pytest.raises(UserError, match="a process has other sources than those on disk here"):
        walk(jobs=2)


def test_machine_code_of_each_state_of_the_kernels_has_its_own_folder(demo, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", "mine")
    runner.experiments("demo2020")
    assert os.environ["NUMBA_CACHE_DIR"] == "mine"
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    runner.experiments("demo2020")
    first = Path(os.environ["NUMBA_CACHE_DIR"])
    assert first.parent == demo / ".runs" / "numba"
    runner.experiments("demo2020")
    assert Path(os.environ["NUMBA_CACHE_DIR"]) == first
    hashes = runner.ledger.kernel_hashes()
    assert {"snnrepro.kernels.lif", "snnrepro.kernels", "snnrepro.neurons"} <= hashes.keys()
    monkeypatch.setattr(runner.ledger, "kernel_hashes", lambda: hashes | {"snnrepro.kernels.lif": "0"})
    runner.experiments("demo2020")
    assert Path(os.environ["NUMBA_CACHE_DIR"]).parent == first.parent and Path(os.environ["NUMBA_CACHE_DIR"]) != first


def test_the_folder_of_machine_code_is_named_before_numba_is_there(demo):
    program = (
        "import sys; from snnrepro import cli, execute, runner; assert 'numba' not in sys.modules;"
        "runner.experiments('demo2020'); import numba; print(numba.config.CACHE_DIR)"
    )
    variables = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    done = subprocess.run([sys.executable, "-c", program], env=variables, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()).parent == demo / ".runs" / "numba"


def test_npz_without_json_is_not_a_finished_seed(demo):
    whole = walk(jobs=1)
    (folder(demo) / "1.json").unlink()
    (folder(demo) / "1.npz").write_bytes(b"cut off")
    (folder(demo) / "1.progress").write_text("[1")
    again = walk(jobs=1)
    np.testing.assert_array_equal(again.metrics["size"], whole.metrics["size"])
    assert sorted(file.name for file in folder(demo).iterdir()) == sorted(FILES)


@pytest.mark.parametrize("jobs", [1, 2])
def test_number_that_is_not_finite_is_named_and_the_other_seeds_are_finished(demo, capfd, jobs):
    with pytest.raises(
        UserError, match=r"^demo2020/broken \(quick\), seed 1: metric loss is nan, not a finite number$"
    ):
        runner.run("demo2020", "broken", "quick", seeds=range(8), jobs=jobs, quiet=True)
    assert sorted(file.name for file in folder(demo, "broken.quick").glob("*.json")) == [
        f"{seed}.json" for seed in (0, 2, 3, 4, 5, 6, 7)
    ]
    assert len(list(folder(demo, "broken.quick").iterdir())) == 14
    assert capfd.readouterr() == ("", "")


def test_seeds_that_fail_are_named_with_their_reasons(paper, capsys):
    citekey, file = paper
    edit(file, 'return Result({"size": config.size})', "raise UserError(['give it', 'take it'][seed // 2])")
    edit(file, "from dataclasses", "from snnrepro.errors import UserError\nfrom dataclasses")
    with pytest.raises(UserError) as caught:
        runner.run(citekey, "one", "quick", seeds=range(3), jobs=1)
    assert str(caught.value) == f"{citekey}/one (quick), seeds 0-1: give it; seed 2: take it"
    assert f"{citekey}/one (quick): seed 2 failed, 3/3  take it" in capsys.readouterr().err


def test_seeds_with_different_metrics(paper):
    citekey, file = paper
    edit(file, 'return Result({"size": config.size})', 'return Result({f"size{seed}": config.size})')
    with pytest.raises(UserError, match=rf"{citekey}/one \(quick\): seeds 0 and 1 have different metrics; run again"):
        runner.run(citekey, "one", "quick", jobs=1, quiet=True)


def test_seeds_with_different_data(paper):
    citekey, file = paper
    edit(
        file,
        'return Result({"size": config.size})',
        'return Result({"size": config.size}, data=["whole", "half"][seed])',
    )
    said = rf"{citekey}/one \(quick\): seeds 0 and 1 had different data, whole and half; run again with --fresh"
    with pytest.raises(UserError, match=said):
        runner.run(citekey, "one", "quick", jobs=1, quiet=True)


def test_experiments_that_run_side_by_side_give_what_each_gives_alone(demo, capfd):
    alone = runner.run("demo2020", "walk", "quick", seeds=(0, 2), quiet=True)
    runs = runner.run_all("demo2020", ["broken", "walk", "broken"], "quick", seeds=(0, 2), fresh=True)
    assert list(runs) == ["broken", "walk"] and runs["walk"].seeds == (0, 2)
    np.testing.assert_array_equal(runs["walk"].metrics["size"], alone.metrics["size"])
    np.testing.assert_array_equal(runs["walk"].arrays[1]["sizes"], alone.arrays[1]["sizes"])
    said = capfd.readouterr().err
    assert "demo2020 (quick): 4 seeds to run" in said and ", 4/4" in said
    assert all(f"demo2020 (quick): {key}, seed {seed} finished" in said for key in runs for seed in (0, 2))
    runner.run_all("demo2020", ["broken", "walk"], "quick", seeds=(0, 2))
    assert capfd.readouterr().err == ""
    assert runner.run_all("demo2020", [], "quick") == {}


def test_first_seeds_of_all_experiments_start_before_the_second_ones(demo, capfd):
    runner.run_all("demo2020", ["broken", "walk"], "quick", seeds=(0, 2), jobs=1)
    finished = re.findall(r"(\w+, seed \d) finished", capfd.readouterr().err)
    assert finished == ["broken, seed 0", "walk, seed 0", "broken, seed 2", "walk, seed 2"]


def test_seeds_that_fail_side_by_side_are_named_with_their_experiment(demo):
    with pytest.raises(UserError) as caught:
        runner.run_all("demo2020", ["broken", "walk"], "quick", seeds=(0, 1), quiet=True)
    assert str(caught.value) == "demo2020 (quick), broken, seed 1: metric loss is nan, not a finite number"
    assert runner.finished("demo2020", "broken", "quick") == [0]
    assert runner.finished("demo2020", "walk", "quick") == [0, 1]


def test_second_run_of_a_target_says_who_is_at_work(demo):
    command = [sys.executable, "-m", "snnrepro", "run", "demo2020/walk", "--profile", "paper"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True) as first:
        try:
            while not list(folder(demo, "walk.paper").glob("*.json")):
                assert first.poll() is None
                time.sleep(0.05)
            hint = rf"another run \(process {first.pid}\) is at work on demo2020/walk \(paper\); wait until it ends"
            with pytest.raises(UserError, match=hint):
                runner.run("demo2020", "walk", "paper", jobs=1, quiet=True)
            walk(seeds=(0,), jobs=1)
        finally:
            os.killpg(first.pid, signal.SIGKILL)
    assert len(runner.run("demo2020", "walk", "paper", seeds=(98, 99), jobs=1, quiet=True).seeds) == 2


def test_file_that_another_process_removes_first_is_no_error(demo, monkeypatch):
    folder(demo).mkdir(parents=True)
    left = folder(demo) / "0.progress"
    glob = Path.glob
    monkeypatch.setattr(Path, "glob", lambda place, what: [*glob(place, what), *([left] if what == "0.*" else [])])
    walk(seeds=(0,), jobs=1)


@pytest.mark.parametrize("jobs", [1, 2])
def test_mistake_in_an_experiment_is_one_line_with_its_traceback_in_a_file(demo, jobs):
    with pytest.raises(UserError) as caught:
        runner.run("demo2020", "mistaken", "quick", seeds=(1, 0), jobs=jobs, quiet=True)
    trace = folder(demo, "mistaken.quick") / "0.error"
    line = (
        f"demo2020/mistaken (quick), seeds 0-1: ZeroDivisionError: a mistake (traceback in {trace.relative_to(demo)})"
    )
    assert str(caught.value) == line
    written = trace.read_text()
    assert written.startswith("demo2020/mistaken (quick), seed 0\n\nTraceback (most recent call last):\n")
    assert 'raise ZeroDivisionError("a mistake")' in written


@pytest.mark.parametrize("jobs", [1, 2])
def test_mistake_in_one_seed_does_not_stop_the_others(demo, jobs):
    long, place = (
        {"citekey": "demo2020", "experiment": "long", "profile": "quick", "quiet": True},
        folder(demo, "long.quick"),
    )
    with pytest.raises(UserError, match=r"seed 1: ZeroDivisionError: half-way \(traceback in .*/1\.error\)$"):
        runner.run(**long, seeds=(1,))
    with pytest.raises(
        UserError, match=r"\(quick\), seed 0: ZeroDivisionError: half-way \(traceback in .*/0\.error\)$"
    ):
        runner.run(**long, seeds=(0, 1), jobs=jobs)
    assert runner.finished("demo2020", "long", "quick") == [1]
    assert [file.name for file in place.glob("*.error")] == ["0.error"]
    runner.run(**long, seeds=(0, 1), jobs=jobs)
    assert sorted(file.name for file in place.iterdir()) == ["0.json", "0.npz", "1.json", "1.npz"]


def test_traceback_is_that_of_the_last_failure(demo, monkeypatch):
    errors = [ValueError("matrix\nis singular " + 100 * "very "), UserError("give it")]

    def failing(config, seed, report, checkpoint):
        raise errors[0]

    known = runner.experiments("demo2020")
    monkeypatch.setitem(known, "failing", dataclasses.replace(known["walk"], function=failing))
    with pytest.raises(
        UserError, match=r"seed 2: ValueError: matrix is singular very .* \.\.\. \(traceback in "
    ) as caught:
        runner.run("demo2020", "failing", "quick", seeds=(2,), jobs=1, quiet=True)
    assert len(str(caught.value).split(" (traceback")[0]) < 400
    assert (folder(demo, "failing.quick") / "2.error").exists()
    del errors[0]
    with pytest.raises(UserError, match=r"seed 2: give it$"):
        runner.run("demo2020", "failing", "quick", seeds=(2,), jobs=1, quiet=True)
    assert list(folder(demo, "failing.quick").iterdir()) == []


def stopping(monkeypatch, at):
    """Let the walk be stopped at one seed, as by Ctrl-C; returns the seeds that begin."""
    known, begun = runner.experiments("demo2020"), []
    plain = known["walk"].function

    @functools.wraps(plain)  # and so of the same sources
    def walk(config, seed, report, checkpoint):
        begun.append(seed)
        if seed == at:
            raise KeyboardInterrupt
        return plain(config, seed, report, checkpoint)

    monkeypatch.setitem(known, "walk", dataclasses.replace(known["walk"], function=walk))
    return begun


def test_fresh_run_that_is_stopped_leaves_no_old_seed_and_is_finished_without_fresh(demo, monkeypatch):
    whole = walk(jobs=1, seeds=(0, 1, 2, 7))
    with monkeypatch.context() as patch:
        stopping(patch, at=1)
        with pytest.raises(KeyboardInterrupt):
            walk(jobs=1, fresh=True)
    assert runner.finished("demo2020", "walk", "quick") == [0, 7]
    assert sorted({file.name.partition(".")[0] for file in folder(demo).iterdir()} - {"1"}) == ["0", "7"]
    begun = stopping(monkeypatch, at=None)
    again = walk(jobs=1)
    assert begun == [1, 2]
    np.testing.assert_array_equal(again.metrics["size"], whole.metrics["size"][:3])


def test_discard_removes_nothing_where_a_run_is_at_work(demo):
    walk(jobs=1)
    runner.run("demo2020", "broken", "quick", seeds=(0,), jobs=1, quiet=True)
    targets = [("demo2020", "walk"), ("demo2020", "broken")]
    with runner._alone(runner._job("demo2020", "broken", "quick")), pytest.raises(UserError, match="is at work on"):
        runner.discard(targets, "quick")
    assert len(list(folder(demo).iterdir())) == 6
    left = folder(demo) / "1.0123456789ab.checkpoint.npz"
    left.write_bytes(b"")
    runner.discard(targets, "quick", (1, 5))
    assert sorted(file.name for file in folder(demo).iterdir()) == ["0.json", "0.npz", "2.json", "2.npz"]
    runner.discard(targets, "quick")
    assert list(folder(demo).iterdir()) == list(folder(demo, "broken.quick").iterdir()) == []


def test_worker_that_dies_is_one_clear_line(demo):
    with pytest.raises(UserError, match=r"demo2020/dying .*a worker process died.*the same command goes on"):
        runner.run("demo2020", "dying", "quick", quiet=True)


def test_long_seed_goes_on_from_its_checkpoint(demo, monkeypatch):
    long = {"citekey": "demo2020", "experiment": "long", "profile": "quick", "seeds": (0,), "quiet": True}
    with pytest.raises(UserError, match="ZeroDivisionError: half-way"):
        runner.run(**long)
    runs = runner.run(**long)
    assert runs.metrics["started_at"][0] == 2
    assert sorted(file.name for file in folder(demo, "long.quick").iterdir()) == ["0.json", "0.npz"]


def test_a_resumed_seed_counts_the_seconds_before(demo):
    run = {"citekey": "demo2020", "experiment": "long", "profile": "quick", "seeds": (0,), "jobs": 1, "quiet": True}
    for before, counted in (("[2, 5, {}, 100.5]", True), ("[2, 5, {}]", False), ("[2", False)):
        with pytest.raises(UserError):
            runner.run(**run)
        (folder(demo, "long.quick") / "0.progress").write_text(before)
        found = runner.run(**run)
        assert found.metrics["started_at"].tolist() == [2]
        assert (found.cpu_seconds[0] > 100) == counted
        runner.discard([("demo2020", "long")], "quick")
        (folder(demo, "long.quick")).mkdir(exist_ok=True)
        (folder(demo, "long.quick") / "0.progress").write_text("[2, 5, {}, 100.5]")  # no checkpoint: another run's
    with pytest.raises(UserError):
        runner.run(**run)
    assert not (folder(demo, "long.quick") / "0.progress").exists()


def test_failed_seed_tells_nothing_of_the_time_left(monkeypatch, tmp_path, capsys):
    watch = progress.Watch("walk", {f"seed {seed}": tmp_path / "none" for seed in range(3)}, quiet=False)
    watch.failed("seed 0", "no data")
    watch.finished("seed 1", {})
    first, second = capsys.readouterr().err.splitlines()
    assert first == "walk: seed 0 failed, 1/3  no data"
    assert "finished, 2/3, about 0:00:00 left" in second


def test_time_left_of_a_resumed_seed_is_judged_by_what_this_run_did(monkeypatch):
    monkeypatch.setattr(progress.time, "monotonic", lambda: 160.0)
    assert progress._left(100.0, 0.95, 0.9) == ", about 0:01:00 left"
    assert progress._left(100.0, 0.5, 0.0) == ", about 0:01:00 left"
    assert progress._left(100.0, 0.9, 0.9) == progress._left(100.0, 1.0, 0.0) == ""


def test_checkpoint_of_another_configuration_is_not_used(demo, monkeypatch):
    with pytest.raises(UserError, match="ZeroDivisionError: half-way"):
        runner.run("demo2020", "long", "quick", seeds=(0,), quiet=True)
    known = runner.experiments("demo2020")
    config = dataclasses.replace(known["long"].quick, steps=0)
    monkeypatch.setitem(known, "long", dataclasses.replace(known["long"], quick=config))
    assert runner.run("demo2020", "long", "quick", seeds=(0,), quiet=True).metrics["started_at"][0] == 0


def test_seed_runs_with_one_thread_and_gives_the_threads_back(demo, monkeypatch):
    seen = []
    known = runner.experiments("demo2020")

    def look(config, seed, report, checkpoint):
        seen.append(torch.get_num_threads())
        return known["walk"].function(config, seed, report, checkpoint)

    monkeypatch.setitem(known, "look", dataclasses.replace(known["walk"], function=look))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        runner.run("demo2020", "look", "quick", seeds=(0,), quiet=True)
        assert seen == [1] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"seeds": ()}, "at least one"), ({"seeds": (-1,)}, "none negative"), ({"jobs": 0}, "jobs must be at least 1")],
)
def test_wrong_numbers(demo, options, message):
    with pytest.raises(UserError, match=message):
        walk(**options)
    assert not (demo / ".runs").exists()


def test_progress_of_a_worker_process_reaches_this_one(demo):
    seen = {}

    class Spy(progress.Watch):
        def _say_lines(self):
            seen.update(self._read())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "Watch", Spy)
        patch.setattr(progress, "LINE_SECONDS", 0.0)
        patch.setattr(progress, "POLL_SECONDS", 0.01)
        patch.setattr(progress, "say", lambda line, quiet=False: None)
        runner.run("demo2020", "walk", "paper", seeds=(0, 1), jobs=2)
    assert sorted(seen) == ["seed 0", "seed 1"]
    done, total, metrics = seen["seed 0"]
    assert 1 <= done <= total == 8 and 0 < metrics["size"] < 1
    assert not list(folder(demo, "walk.paper").glob("*.progress"))


def test_what_a_kill_left_beside_a_finished_seed_is_removed(demo):
    walk(seeds=(0,), jobs=1)
    left = [folder(demo) / "0.progress", folder(demo) / "0.0123456789ab.checkpoint.npz"]
    for file in left:
        file.write_bytes(b"")
    walk(seeds=(0, 1), jobs=1)
    assert sorted(file.name for file in folder(demo).iterdir()) == ["0.json", "0.npz", "1.json", "1.npz"]


def test_quiet_says_nothing(demo, capfd):
    walk(jobs=1)
    assert capfd.readouterr() == ("", "")


def test_record_merges_the_seeds_of_the_profile(demo):
    walk(seeds=(0, 1, 2, 7), jobs=1)
    path = runner.record("demo2020", "walk", "quick")
    assert path == demo / "chapters" / "demo2020" / "results" / "walk.quick.json"
    stored = runner.ledger.load_record("demo2020", "walk", "quick")
    assert sorted(int(seed) for seed in stored.seeds) == [0, 1, 2]
    before = path.read_bytes(), path.with_suffix(".npz").read_bytes()
    walk(jobs=1, fresh=True)
    runner.record("demo2020", "walk", "quick")
    assert (path.read_bytes(), path.with_suffix(".npz").read_bytes()) == before
    with np.load(path.with_suffix(".npz"), allow_pickle=False) as arrays:
        assert set(arrays) == {"0/sizes", "1/sizes", "2/sizes"}


def test_record_keeps_seeds_that_were_run_elsewhere(demo, monkeypatch):
    walk(jobs=1)
    path = runner.record("demo2020", "walk", "quick")
    before = path.read_bytes(), path.with_suffix(".npz").read_bytes()
    (folder(demo) / "1.json").unlink()
    runner.record("demo2020", "walk", "quick")
    assert (path.read_bytes(), path.with_suffix(".npz").read_bytes()) == before

    monkeypatch.setattr(runner.ledger.provenance, "versions", lambda: {"numpy": "0.1"})
    with pytest.raises(UserError, match=r"other package versions; first: .*--seeds 1$"):
        runner.record("demo2020", "walk", "quick")
    assert path.read_bytes() == before[0]

    change(monkeypatch, steps=6)
    walk(seeds=(0,), jobs=1)
    runner.record("demo2020", "walk", "quick")
    assert list(runner.ledger.load_record("demo2020", "walk", "quick").seeds) == [0]


def test_nothing_to_record_names_the_command(demo):
    with pytest.raises(UserError, match=r"first: snnrepro run demo2020/walk --profile paper$"):
        runner.record("demo2020", "walk", "paper")
