"""Install the other libraries of `requirements-bench.txt` into `.venv/peers`, each line alone and without its dependencies.

What is there in the right version stays. A line that cannot be installed is reported; the run goes on without that library.
"""

import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from benchmarks.worker import PEERS
from snnrepro.files import one_line
from snnrepro.progress import say

LIST = Path(__file__).resolve().parents[1] / "requirements-bench.txt"
PATIENCE = 300
"""Seconds for one line."""


def wanted(path: Path = LIST) -> list[str]:
    """The lines `name==version` of the list."""
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    return [line for line in lines if line]


def plain(name: str) -> str:
    """A package's name in the one form that all its spellings share."""
    return re.sub(r"[-_.]+", "-", name).lower()


def installed(folder: Path) -> dict[str, str]:
    """Version by name of what lies in a folder."""
    found = metadata.distributions(path=[str(folder)])
    return {plain(d.metadata["Name"]): d.version for d in found if d.metadata and d.metadata["Name"]}


def install(line: str, folder: Path) -> str:
    """Install one line; returns what went wrong, or an empty text."""
    name = plain(line.partition("==")[0])
    for old in folder.glob("*.dist-info"):
        if plain(old.name.partition("-")[0]) == name:
            shutil.rmtree(old)
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-qq",
        "--no-compile",
        "--disable-pip-version-check",
        "--no-deps",
    ]
    command += ["--retries", "1", "--timeout", "20", "--upgrade", "--target", str(folder), line]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return f"no end after {PATIENCE} s"
    if done.returncode == 0:
        return ""
    said = [text for text in done.stderr.splitlines() if text.startswith("ERROR")]
    return one_line(said[-1].removeprefix("ERROR:")) if said else f"pip ended with code {done.returncode}"


def main() -> int:
    """Install what is missing. Always 0: the run itself reports a library that cannot be imported."""
    have = installed(PEERS)
    new = [line for line in wanted() if have.get(plain(line.partition("==")[0])) != line.partition("==")[2]]
    for number, line in enumerate(new, start=1):
        say(f"install {number}/{len(new)}: {line}")
        if wrong := install(line, PEERS):
            say(f"install {line}: not possible here, goes on without it: {wrong}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
