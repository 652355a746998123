"""Runs seeds on a real Dask cluster of two worker processes on this machine."""

import numpy as np
import pytest

from snnrepro import cli, runner
from snnrepro.errors import UserError


@pytest.fixture(scope="module")
def cluster():
    from dask.distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None
    ) as started:
        yield started


def test_cluster_gives_the_same_bits(demo, cluster, capsys):
    assert cli.main(["run", "demo2020/walk", "--cluster", cluster.scheduler_address]) == 0
    assert "demo2020/walk (quick), 3 seeds" in capsys.readouterr().out
    there = runner.run("demo2020", "walk", "quick", quiet=True)
    here = runner.run("demo2020", "walk", "quick", jobs=1, fresh=True, quiet=True)
    for name, values in here.metrics.items():
        np.testing.assert_array_equal(there.metrics[name], values)
    np.testing.assert_array_equal(there.arrays[2]["sizes"], here.arrays[2]["sizes"])


def test_error_on_a_worker_says_which_seed(demo, cluster):
    with pytest.raises(UserError, match=r"seeds 0-1: ZeroDivisionError: a mistake \(traceback in .*0\.error\)$"):
        runner.run("demo2020", "mistaken", "quick", cluster=cluster.scheduler_address, quiet=True)


def test_worker_with_other_sources_is_refused(demo, cluster, monkeypatch):
    hashes = runner.ledger.experiment_sources
    monkeypatch.setattr(runner.ledger, "experiment_sources", lambda key, e: hashes(key, e) | {"other": "other"})
    with pytest.raises(UserError, match="a process has other sources than those on disk here"):
        runner.run("demo2020", "walk", "quick", cluster=cluster.scheduler_address, quiet=True)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense://"])
def test_no_scheduler_there(demo, address, capsys, monkeypatch):
    monkeypatch.setattr(runner, "CONNECT_SECONDS", 1)
    assert cli.main(["run", "demo2020/walk", "--cluster", address]) == 2
    captured = capsys.readouterr()
    assert f"no Dask scheduler answers at '{address}'" in captured.err
    assert not list((demo / ".runs").rglob("*.json"))
