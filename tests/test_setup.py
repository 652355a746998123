"""The lock, the ranges and the installed packages agree."""

import re
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
