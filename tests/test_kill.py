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

from snnrepro import files, runner

KILLS = 20
SEEDS = 100  # a seed waits 80 ms: many more than the twenty short runs can finish
SNNREPRO = str(Path(sys.executable).with_name("snnrepro"))
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
