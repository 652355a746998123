"""Kills a run at random moments: what was finished stays, and the same command completes the set."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from snnrepro import files, runner

KILLS = 20
SEEDS = 100  # a seed waits 80 ms: many more than the twenty short runs can finish
SNNREPRO = str(Path(sys.executable).with_name("snnrepro"))
GONE_SECONDS = 10  # much less than a slow seed needs, and half of what an idle worker waits for work
COMMAND = [SNNREPRO, "run", "demo2020/walk", "--profile", "paper", "--seeds", f"0-{SEEDS - 1}"]


def finished(folder):
    """Content of the finished seeds; reading fails on a file that was cut off."""
    for file in folder.glob("*.npz"):
        files.read_npz(file)
    return {file.name: json.loads(file.read_text()) for file in folder.glob("*.json")}


def wait_for_progress(folder, process):
    """Returns once a seed of this run has come to its first step."""
    start = time.time()
    while process.poll() is None and time.time() < start + 20:
        with contextlib.suppress(FileNotFoundError):  # a seed that is done removes its file
            if any(file.stat().st_mtime > start for file in folder.glob("*.progress")):
                return
        time.sleep(0.01)
    raise AssertionError("no seed started")


@pytest.fixture
def slow(demo, monkeypatch):
    """A repository whose seeds take 40 s each."""
    file = demo / "papers" / "demo2020.py"
    assert "units=40, pause=0.01" in file.read_text()
    file.write_text(file.read_text().replace("units=40, pause=0.01", "units=40, pause=5.0"))
    monkeypatch.setenv("SNNREPRO_PAPERS", str(file.parent))
    return demo


@contextlib.contextmanager
def under_way(demo, ignored=()):
    """A run at work and the processes that it has started; some signals are ignored from the start, as under nohup.

    Only those, even where the tests themselves run under nohup.
    """

    def prepare():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)

    run = subprocess.Popen(COMMAND, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, preexec_fn=prepare)
    workers = []
    try:
        wait_for_progress(demo / ".runs" / "demo2020" / "walk.paper", run)
        workers = psutil.Process(run.pid).children(recursive=True)
        assert len(workers) >= 2
        yield run, workers
    finally:
        for process in (run, *workers):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        run.communicate()


@pytest.mark.parametrize(
    ("number", "ignored"),
    [(signal.SIGTERM, ()), (signal.SIGTERM, (signal.SIGINT, signal.SIGHUP)), (signal.SIGHUP, ()), (signal.SIGKILL, ())],
    ids=["term", "term-in-the-background", "hangup", "kill"],
)
def test_workers_end_with_a_run_that_is_stopped_alone(slow, number, ignored):
    with under_way(slow, ignored) as (run, workers):
        os.kill(run.pid, number)
        said = run.communicate(timeout=20)[1]
        assert psutil.wait_procs(workers, GONE_SECONDS)[1] == []
    if number == signal.SIGKILL:
        assert run.returncode == -number
    else:
        last = "snnrepro: stopped; what is finished is kept, the same command does the rest"
        assert run.returncode == 128 + number and said.splitlines()[-1] == last
        assert "Traceback" not in said


def test_stop_while_a_seed_is_stored_ends_the_workers_without_a_word(demo, monkeypatch, recwarn):
    workers = []

    def stop(*arguments):
        workers.extend(one for one in psutil.Process().children() if "popen_loky" in " ".join(one.cmdline()))
        raise KeyboardInterrupt

    monkeypatch.setattr(runner._Job, "write", stop)
    with pytest.raises(KeyboardInterrupt):
        runner.run("demo2020", "walk", "paper", quiet=True)
    assert len(workers) == 2
    assert psutil.wait_procs(workers, GONE_SECONDS)[1] == []
    assert not recwarn.list


def test_hangup_does_not_stop_a_run_under_nohup(demo):
    with under_way(demo, (signal.SIGHUP,)) as (run, _):
        os.kill(run.pid, signal.SIGHUP)
        run.communicate(timeout=60)
        assert run.returncode == 0


def test_twenty_kills_lose_no_finished_seed(demo):
    folder = demo / ".runs" / "demo2020" / "walk.paper"
    chance = random.Random(1)
    before = {}
    for kill in range(KILLS):
        run = subprocess.Popen(COMMAND, start_new_session=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        if kill % 5:
            wait_for_progress(folder, run)
        time.sleep(chance.uniform(0, 0.3))
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        now = finished(folder)
        assert before.items() <= now.items()
        before = now
    assert 0 < len(before) < SEEDS, "the kills should hit a run that is under way"
    last = subprocess.run(COMMAND, capture_output=True, text=True, timeout=60)
    assert last.returncode == 0, last.stderr
    assert len(finished(folder)) == SEEDS and before.items() <= finished(folder).items()
    assert {file.suffix for file in folder.iterdir()} == {".json", ".npz"}
    assert len(list(folder.iterdir())) == 2 * SEEDS

    killed = runner.run("demo2020", "walk", "paper", quiet=True)
    whole = runner.run("demo2020", "walk", "paper", fresh=True, quiet=True)
    for name, values in whole.metrics.items():
        assert (values == killed.metrics[name]).all()
    for first, second in zip(killed.arrays, whole.arrays, strict=True):
        assert (first["sizes"] == second["sizes"]).all()
