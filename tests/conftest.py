"""Shared by all tests: a small repository with one chapter that tries the runner."""

import os
import shutil
from pathlib import Path

import pytest

for threads in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[threads] = "1"  # before torch is imported: small tensors are many times slower on several threads

DEMO = Path(__file__).parent / "demo"
os.environ["SNNREPRO_PAPERS"] = str(DEMO / "papers")  # before snnrepro.papers is imported, here and in worker processes


def pytest_configure():
    """Before numba is imported: no test meets machine code of the kernels as they were before an edit."""
    from snnrepro import runner

    runner.keep_compiled_apart()


@pytest.fixture
def demo(tmp_path, monkeypatch):
    """A copy of the demo repository, which the commands then take for the repository."""
    root = tmp_path / "demo"
    shutil.copytree(DEMO, root, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    monkeypatch.setenv("SNNREPRO_ROOT", str(root))
    return root
