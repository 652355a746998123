"""What may be in the repository at all: sizes, no pickle, no trace of the machine it was written on."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MEGABYTES = 2
# Written in pieces, so that this file does not find itself.
MACHINE = re.compile(
    r"(?<![\w./~-])/(?:root|work|opt|home|mnt)/\w"
    "|file:/" + r"//\w"
    r"|(?<![\d.])(?:10\.\d{1,3}|192\.168)\.\d{1,3}\.\d{1,3}(?![\d.])"
)
THIRD_PARTY = ("book/_static/vendor/",)


def tracked() -> list[Path]:
    """Files git knows, or would add."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("not a git checkout")
    return [path for name in listing.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def text(path: Path) -> str:
    """Content of a text file; empty for a binary one."""
    content = path.read_bytes()
    return "" if b"\0" in content else content.decode(errors="replace")


def test_no_file_is_large():
    assert [
        f"{path.relative_to(ROOT)}: {path.stat().st_size}"
        for path in tracked()
        if path.stat().st_size > MEGABYTES * 2**20
    ] == []


def test_no_text_names_a_place_on_a_machine():
    found = []
    for path in tracked():
        name = str(path.relative_to(ROOT))
        if not name.startswith(THIRD_PARTY):
            found += [f"{name}: {match.group()}" for match in MACHINE.finditer(text(path))]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "see /" + "root/x",
        "(/" + "work/main)",
        '"/' + 'opt/wheels"',
        "file:/" + "//srv",
        "10" + ".0.0.7",
        "192" + ".168.1.1",
    ],
)
def test_a_place_on_a_machine_is_noticed(line):
    assert MACHINE.search(line)


@pytest.mark.parametrize("line", ["https://a.org/work/main", "chapters/work/x", "../opt/x", "tcp://127.0.0.1:8786"])
def test_an_ordinary_path_is_not(line):
    assert not MACHINE.search(line)


def pickles(source: str) -> list[str]:
    """Calls and imports that can run code hidden in a data file, as `line: what`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            names = {name.split(".")[0] for name in modules}
            found += [
                f"{node.lineno}: import {name}"
                for name in names & {"pickle", "cloudpickle", "dill", "shelve", "marshal"}
            ]
        elif isinstance(node, ast.Call):
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            called = ast.unparse(node.func)
            if called == "torch.load" and given.get("weights_only") != "True":
                found.append(f"{node.lineno}: torch.load without weights_only=True")
            if given.get("allow_pickle", "False") != "False":
                found.append(f"{node.lineno}: {called} with allow_pickle")
            if called.endswith(("read_pickle", "to_pickle")) or called in ("joblib.load", "joblib.dump"):
                found.append(f"{node.lineno}: {called}")
    return found


@pytest.mark.parametrize(
    "path", sorted((ROOT / "snnrepro").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_no_module_reads_or_writes_pickles(path):
    assert pickles(path.read_text()) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from pickle import load",
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "np.load(f, allow_pickle=True)",
        "np.load(f, allow_pickle=x)",
        "joblib.load(f)",
        "frame.to_pickle(f)",
    ],
)
def test_a_pickle_is_noticed(line):
    assert pickles(line)


def test_safe_reading_is_not():
    assert pickles("np.load(f, allow_pickle=False); torch.load(f, weights_only=True); json.load(f)") == []
