"""Hashes change with what can change a number, and with nothing else."""

import enum
import os
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest

import snnrepro
from snnrepro import papers
from snnrepro.errors import UserError
from snnrepro.ledger import changed_sources, config_dict, config_hash, machine, source_hashes, versions

SOURCE = '''"""Docstring."""

from snnrepro.method import step  # what the paper calls a step
from snnrepro.errors import UserError
import numpy as np


class Model:
    """Another docstring."""

    gain: float = 1.5
    """What the gain is."""

    def __call__(self, x):
        return self.gain * step(x) - 1
'''


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package in the place of snnrepro: papers.mine -> method -> kernels.fast (in a function) -> kernels."""
    root = tmp_path / "snnrepro"
    for name, text in {
        "__init__.py": "__version__ = '1'\n",
        "papers/__init__.py": "",
        "papers/mine.py": SOURCE,
        "method.py": "def step(x):\n    from .kernels import fast\n    return fast.run(x)\n",
        "kernels/__init__.py": "LIMIT = 3\n",
        "kernels/fast.py": "from . import LIMIT\nfrom snnrepro import ledger\ndef run(x):\n    return x % LIMIT\n",
        "kernels/slow.py": "def run(x):\n    return x\n",
        "ledger/__init__.py": "import snnrepro.unrelated\n",
        "errors.py": "class UserError(Exception):\n    pass\n",
        "unrelated.py": "x = 1\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    monkeypatch.setattr(snnrepro, "__path__", [str(root)])
    monkeypatch.setattr(papers, "__path__", [str(root / "papers")])

    def edit(name, old, new):
        file = root / name
        assert old in file.read_text()
        stamp = file.stat().st_mtime_ns
        file.write_text(file.read_text().replace(old, new))
        os.utime(file, ns=(stamp + 1_000_000, stamp + 1_000_000))

    return edit


def hashes():
    return source_hashes("snnrepro.papers.mine")


def test_only_what_is_imported_directly_or_not(package):
    assert list(hashes()) == ["snnrepro.kernels", "snnrepro.kernels.fast", "snnrepro.method", "snnrepro.papers.mine"]


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("papers/mine.py", '"""Docstring."""\n', ""),
        ("papers/mine.py", '    """Another docstring."""\n', '    """Reworded."""\n'),
        ("papers/mine.py", '    """What the gain is."""\n', ""),
        ("papers/mine.py", "  # what the paper calls a step", ""),
        (
            "papers/mine.py",
            "return self.gain * step(x) - 1",
            "return (\n            self.gain * step(x)\n            - 1\n        )",
        ),
        ("kernels/slow.py", "return x", "return -x"),
        ("unrelated.py", "1", "2"),
        ("ledger/__init__.py", "unrelated", "method"),
        ("errors.py", "pass", "code = 2"),
        ("__init__.py", "'1'", "'2'"),
    ],
)
def test_what_cannot_change_a_number_changes_no_hash(package, file, old, new):
    before = hashes()
    package(file, old, new)
    assert hashes() == before


@pytest.mark.parametrize(
    ("file", "old", "new", "name"),
    [
        ("papers/mine.py", "- 1", "+ 1", "snnrepro.papers.mine"),
        ("papers/mine.py", "1.5", "1.25", "snnrepro.papers.mine"),
        ("papers/mine.py", "- 1", "- 1.0", "snnrepro.papers.mine"),
        ("papers/mine.py", "step(x) - 1", "step(x - 1)", "snnrepro.papers.mine"),
        ("method.py", "run(x)", "run(-x)", "snnrepro.method"),
        ("kernels/fast.py", "x % LIMIT", "x // LIMIT", "snnrepro.kernels.fast"),
        ("kernels/__init__.py", "3", "4", "snnrepro.kernels"),
    ],
)
def test_a_change_of_code_is_named(package, file, old, new, name):
    before = hashes()
    package(file, old, new)
    assert changed_sources(before, hashes()) == [name]


def test_new_and_lost_imports_are_named(package):
    before = hashes()
    package("method.py", "kernels import fast", "kernels import slow as fast")
    names = ["snnrepro.kernels.fast", "snnrepro.kernels.slow", "snnrepro.method"]
    assert changed_sources(before, hashes()) == names


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("import snnrepro.kernels.slow", True),
        ("from snnrepro.kernels import slow", True),
        ("from snnrepro.kernels.slow import run", True),
        ("from ..kernels.slow import run", True),
        ("from ..kernels import slow as other", True),
        ("if True:\n    from ..kernels import slow", True),
        ("text = 'import snnrepro.kernels.slow'", False),
        ("# import snnrepro.kernels.slow", False),
        ("import kernels.slow", False),
    ],
)
def test_every_form_of_import(package, line, found):
    package("papers/mine.py", "import numpy as np", line)
    assert ("snnrepro.kernels.slow" in hashes()) == found


def test_circles_end(package):
    package("kernels/slow.py", "return x", "return x\nimport snnrepro.papers.mine\nimport snnrepro.kernels.slow")
    package("method.py", "kernels import fast", "kernels import slow")
    assert "snnrepro.papers.mine" in hashes()


def test_a_module_that_is_missing_or_no_python(package):
    with pytest.raises(UserError, match=r"no module snnrepro\.papers\.yours"):
        source_hashes("snnrepro.papers.yours")
    package("method.py", "def", "deff")
    with pytest.raises(UserError, match=r"method\.py: is not Python"):
        hashes()


class Reset(enum.Enum):
    ZERO = 1


class Neuron(NamedTuple):
    tau: float = 20.0
    reset: Reset = Reset.ZERO


NEURON, GAIN = Neuron(), np.float64(2.0)


@dataclass(frozen=True)
class Config:
    neuron: Neuron = NEURON
    layers: tuple[int, ...] = (700, 100)
    surrogate: object = np.tanh
    limit: float = float("inf")
    gain: np.float64 = GAIN


def test_a_configuration_as_plain_data():
    plain = config_dict(Config())
    assert plain["neuron"] == {"tau": 20.0, "reset": "ZERO"}
    assert (plain["layers"], plain["limit"], plain["gain"]) == ([700, 100], "inf", 2.0)
    assert config_dict(Config(surrogate=len))["surrogate"] == "builtins.len"
    for wrong in ({"a": 1}, Config, Config(gain=object())):
        with pytest.raises(TypeError):
            config_dict(wrong)


def test_the_hash_of_a_configuration_follows_each_field():
    others = [
        Config(neuron=Neuron(tau=10.0)),
        Config(layers=(100, 700)),
        Config(surrogate=len),
        Config(limit=1.0),
        Config(gain=3.0),
    ]
    assert len({config_hash(config) for config in [Config(), *others]}) == 6
    assert config_hash(Config()) == config_hash(Config(layers=(700, 100)))


def test_versions_and_machine_name_no_host():
    assert versions()["numpy"] == np.__version__
    assert versions()["python"].count(".") == 1
    assert machine().keys() == {"cpu", "cores", "system"}
    assert machine()["cpu"]


def test_the_package_of_an_imported_module_counts(package):
    package("method.py", "from .kernels import fast", "import snnrepro.kernels.slow as fast")
    assert "snnrepro.kernels" in hashes()
    before = hashes()
    package("kernels/__init__.py", "3", "4")
    assert changed_sources(before, hashes()) == ["snnrepro.kernels"]


EXPERIMENTS = """
from dataclasses import dataclass
from snnrepro.method import step as advance
from snnrepro.kernels import slow
TABLE = {"a": 1}
TABLE["a"] = 2
setattr(slow, "speed", 3)
GAIN = 4
DEFAULT = 5
OTHER = 6
if GAIN > 10:
    def halve(x):
        kept = x / 7
        return kept
def twice(function):
    return lambda *p: 8 * function(*p)
class Part:
    size: int = 9
@dataclass(frozen=True)
class Config:
    part: Part = None
def helper(x):
    return deeper(x) + halve(x)
def deeper(x):
    return advance(x) * GAIN
@twice
def one(config: Config, seed, start=DEFAULT):
    return helper(seed - 10)
def two(config, seed):
    return OTHER + 11
"""


@pytest.mark.parametrize(
    ("old", "new", "counts"),
    [
        ("deeper(x) +", "deeper(x) -", True),  # a helper
        ("advance(x) *", "advance(x) +", True),  # its helper
        ("GAIN = 4", "GAIN = 5", True),
        ("size: int = 9", "size: int = 8", True),  # class of a field
        ("DEFAULT = 5", "DEFAULT = 6", True),
        ("8 * function", "9 * function", True),  # decorator
        ("import step as advance", "import stop as advance", True),
        ("x / 7", "x / 6", True),  # function in an `if`
        ('TABLE["a"] = 2', 'TABLE["a"] = 3', True),  # binds no name
        ('"speed", 3', '"speed", 4', True),
        ("from snnrepro.kernels import slow", "from snnrepro.kernels import fast as slow", True),
        ("seed - 10", "seed - 11", True),
        ("OTHER + 11", "OTHER + 12", False),
        ("OTHER = 6", "OTHER = 7", False),
    ],
)
def test_what_counts_for_one_experiment(package, old, new, counts):
    package("papers/mine.py", SOURCE, EXPERIMENTS)
    before = source_hashes("snnrepro.papers.mine", "one")
    assert "snnrepro.method" in before
    package("papers/mine.py", old, new)
    assert (source_hashes("snnrepro.papers.mine", "one") != before) == counts
    assert source_hashes("snnrepro.papers.mine") != before


@pytest.mark.parametrize(
    ("old", "new", "counts"),
    [
        ("    return x % LIMIT", "    if x < 0:\n        raise UserError('no')\n    return x % LIMIT", False),
        ("from . import", "from snnrepro.errors import UserError\nfrom . import", False),
        ("    return x % LIMIT", "    for y in x:\n        if y < 0:\n            raise UserError(y)\n    return x % LIMIT", False),
        ("    return x % LIMIT", "    if (x := x + 1) < 0:\n        raise UserError('no')\n    return x % LIMIT", True),
        ("    return x % LIMIT", "    if x < 0:\n        x = 0\n        raise UserError('no')\n    return x % LIMIT", True),
        ("    return x % LIMIT", "    if x < 0:\n        raise UserError('no')\n    else:\n        x = 1\n    return x % LIMIT", True),
        ("    return x % LIMIT", "    if x < 0:\n        raise StopIteration\n    return x % LIMIT", True),
        ("    return x % LIMIT", "    for y in [1]:\n        if x < 0:\n            raise UserError(x)\n        x = y\n    return x % LIMIT", True),  # noqa: E501
    ],
)  # fmt: skip
def test_a_guard_counts_for_nothing_unless_it_does_more(package, old, new, counts):
    before = hashes()
    package("kernels/fast.py", old, new)
    assert changed_sources(before, hashes()) == ["snnrepro.kernels.fast"] * counts


@pytest.mark.parametrize(
    ("handled", "counts"),
    [
        ("except UserError:\n        return 0", True),
        ("except (ValueError, Exception):\n        return 0", True),
        ("except:\n        return 0", True),
        ("except UserError:\n        if x:\n            return 0\n        raise", True),
        ("except UserError as error:\n        raise UserError(f'step: {error}') from None", False),
        ("except ValueError:\n        return 0", False),
    ],
)
def test_guards_count_where_their_error_is_caught(package, handled, counts):
    package("method.py", "    return fast.run(x)", f"    try:\n        return fast.run(x)\n    {handled}")
    before = hashes()
    package(
        "kernels/fast.py", "    return x % LIMIT", "    if x < 0:\n        raise UserError('no')\n    return x % LIMIT"
    )
    assert changed_sources(before, hashes()) == ["snnrepro.kernels.fast"] * counts
    package("method.py", "return fast.run(x)", "with contextlib.suppress(UserError):\n            return fast.run(x)")
    before = hashes()
    package("kernels/fast.py", "x < 0", "x < 1")
    assert changed_sources(before, hashes()) == ["snnrepro.kernels.fast"]
