"""The lock, the ranges and the installed packages agree."""

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
LOCKED_PYTHON = {"python_version": "3.11", "python_full_version": "3.11.0"}


def requirements(name: str) -> list[Requirement]:
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in (ROOT / name).read_text().splitlines())
    return [Requirement(line) for line in lines if line]


RANGES = requirements("requirements.txt")
LOCK = {canonicalize_name(r.name): r for r in requirements("requirements.lock")}


def pinned(requirement: Requirement) -> Version:
    (specifier,) = requirement.specifier
    assert specifier.operator == "=="
    return Version(specifier.version)


@pytest.mark.parametrize("wanted", [r for r in RANGES if not r.marker or r.marker.evaluate(LOCKED_PYTHON)], ids=str)
def test_the_lock_satisfies_each_range(wanted):
    assert pinned(LOCK[canonicalize_name(wanted.name)]) in wanted.specifier


def test_the_lock_is_exact_and_names_no_place():
    for requirement in LOCK.values():
        assert requirement.url is None
        assert pinned(requirement).local is None


def test_torch_is_the_same_everywhere():
    (torch,) = (r for r in RANGES if r.name == "torch")
    assert torch.marker is None
    assert torch.specifier == LOCK["torch"].specifier


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14"])
def test_each_package_has_one_range_on_each_python(python):
    active = [r.name for r in RANGES if not r.marker or r.marker.evaluate({"python_version": python})]
    assert len(active) == len(set(active)) == len({r.name for r in RANGES})


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the lock is for Python 3.11")
def test_what_is_installed_is_what_is_locked():
    installed = {name: Version(version(name)) for name in LOCK}
    assert {name: v for name, v in installed.items() if Version(v.public) != pinned(LOCK[name])} == {}


PYTHON = """#!/bin/sh
# Stands for Python: makes an empty environment of scripts that do nothing, and writes down what it was asked for.
echo "$*" >> "$LOG"
case "$*" in
"-m venv --clear .venv")
    rm -rf .venv; mkdir -p .venv/bin
    printf '#!/bin/sh\\necho "$*" >> "$LOG"\\n' > .venv/bin/python
    printf '#!%s/.venv/bin/python\\n' "$(pwd -P)" > .venv/bin/pip
    chmod +x .venv/bin/*;;
*version_info\\[:2\\]*) echo 3.11;;
esac
"""


def test_an_environment_that_was_moved_is_made_again(tmp_path):
    home, log, python = tmp_path / "home", tmp_path / "log", tmp_path / "python"
    home.mkdir()
    for name in ("Makefile", "requirements.txt", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, home / name)
    python.write_text(PYTHON)
    python.chmod(0o755)

    def made(folder: Path) -> tuple[bool, bool]:
        """Whether set-up there made an environment, and whether it installed anything."""
        log.write_text("")
        variables = {**os.environ, "LOG": str(log), "MAKEFLAGS": ""}
        command = ["make", "-C", str(folder), "setup", f"PYTHON={python}"]
        subprocess.run(command, env=variables, check=True, capture_output=True)
        return "venv --clear" in log.read_text(), "pip install" in log.read_text()

    assert made(home) == (True, True)
    assert made(home) == (False, False)
    (home / "requirements.txt").write_text((home / "requirements.txt").read_text() + "# changed\n")
    assert made(home) == (False, True)
    home.rename(tmp_path / "moved")
    assert made(tmp_path / "moved") == (True, True)
    assert made(tmp_path / "moved") == (False, False)
