"""Put one fault at a time into a copy of the repository and see which test notices.

A mutant is a unified diff `NNN-name.patch`. Its first lines say what the fault is and who should notice, as arguments of pytest:

    # what: the membrane decays with the synaptic time constant
    # caught-by: tests/test_neurons.py -k decay
    # caught-by: tests/test_surrogate.py::test_engines_agree

Several `caught-by` lines run one after another until one fails. Exit code 1: a mutant survived that `survivors.yml` does not list
with a reason, or a listed one is caught after all. Exit code 2: a patch no longer applies, or the tests fail without any fault.
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PATIENCE = 600  # seconds; a fault may make a loop endless
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


class Stop(Exception):
    """The harness itself cannot go on."""


class Mutant(NamedTuple):
    """A fault: its name, what it is, who should notice (arguments of pytest, one list a run), and its patch."""

    name: str
    what: str
    caught_by: list[list[str]]
    patch: Path


class Outcome(NamedTuple):
    """The first test that noticed, or None, and the seconds it took."""

    mutant: Mutant
    caught: str | None
    seconds: float


def read(path: Path) -> Mutant:
    """The mutant of a patch file."""
    fields = re.findall(r"^# (what|caught-by): (.+)$", path.read_text(), re.MULTILINE)
    what = [value for key, value in fields if key == "what"]
    caught_by = [shlex.split(value) for key, value in fields if key == "caught-by"]
    if len(what) != 1 or not caught_by:
        raise Stop(f"{path.name}: needs one line '# what: ...' and at least one '# caught-by: ...'")
    return Mutant(path.stem, what[0], caught_by, path)


def mutants(names: list[str]) -> list[Mutant]:
    """The named mutants (a name or its number), or all."""
    paths = sorted(HERE.glob("[0-9][0-9][0-9]-*.patch"))
    unknown = [name for name in names if not any(name in (path.stem, path.stem[:3]) for path in paths)]
    if unknown:
        raise Stop(f"no such mutant: {', '.join(unknown)}")
    found = [read(path) for path in paths if not names or path.stem in names or path.stem[:3] in names]
    if not found:
        raise Stop("there are no mutants")
    return found


def copy_tree(target: Path) -> None:
    """Copy what git knows, or would add, as it is in the working tree."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0"):
        source = ROOT / name
        if name and source.is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target / name)


def apply(patch: Path, tree: Path, reverse: bool = False) -> None:
    """Apply a patch exactly, without fuzz, or take it back."""
    outside = {**os.environ, "GIT_CEILING_DIRECTORIES": str(tree.parent)}
    command = ["git", "apply", "--whitespace=nowarn", *(["--reverse"] if reverse else []), str(patch)]
    done = subprocess.run(command, cwd=tree, env=outside, capture_output=True, text=True)
    if done.returncode:
        raise Stop(f"{patch.name} no longer applies: {done.stderr.strip()}")


def environment(tree: Path, cache: Path) -> dict[str, str]:
    """Variables under which the copy, not the installed package, is imported, and compiled afresh."""
    return {
        **os.environ,
        **dict.fromkeys(ONE_THREAD, "1"),
        "PYTHONPATH": str(tree),
        "SNNREPRO_ROOT": str(tree),
        "NUMBA_CACHE_DIR": str(cache),
    }


def pytest(arguments: list[str], tree: Path, variables: dict[str, str]) -> tuple[int, str]:
    """Exit code and output of pytest in the copy; an endless run counts as a failure."""
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", "--tb=line", "-rfE", *arguments]
    try:
        done = subprocess.run(command, cwd=tree, env=variables, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return 1, f"FAILED nothing-ended-within-{PATIENCE}-s"
    return done.returncode, done.stdout + done.stderr


def first_failure(output: str) -> str:
    """The test that failed first, from pytest's short summary."""
    found = re.search(r"^(?:FAILED|ERROR) (\S+)", output, re.MULTILINE)
    return found.group(1) if found else "pytest itself"


def in_copy(work, patch: Path | None = None):
    """Call `work(tree, variables)` in a fresh copy, patched if asked for."""
    with tempfile.TemporaryDirectory(prefix="snnrepro-mutant-") as folder:
        tree, cache = Path(folder).resolve() / "tree", Path(folder) / "numba"
        copy_tree(tree)
        if patch:
            apply(patch, tree)
        variables = environment(tree, cache)
        where = "import snnrepro; print(snnrepro.__file__)"
        done = subprocess.run([sys.executable, "-c", where], cwd=tree, env=variables, capture_output=True, text=True)
        if not Path(done.stdout.strip()).is_relative_to(tree):
            raise Stop(f"the tests would import {done.stdout.strip() or done.stderr}, not the copy")
        return work(tree, variables)


def try_mutant(mutant: Mutant) -> Outcome:
    """Run the tests that should notice the fault, until one does."""

    def work(tree: Path, variables: dict[str, str]) -> str | None:
        for arguments in mutant.caught_by:
            code, output = pytest(arguments, tree, variables)
            if code not in (0, 1, 2):
                raise Stop(f"{mutant.name}: pytest {shlex.join(arguments)} ended with {code}:\n{output}")
            if code:
                return first_failure(output)
        return None

    start = time.monotonic()
    caught = in_copy(work, mutant.patch)
    outcome = Outcome(mutant, caught, time.monotonic() - start)
    print(f"{mutant.name}: {caught or 'SURVIVED'} ({outcome.seconds:.0f} s)", flush=True)
    return outcome


def baseline(selected: list[Mutant]) -> None:
    """Check that without a fault all these tests pass."""
    runs = {tuple(arguments) for mutant in selected for arguments in mutant.caught_by}
    plain = {run for run in runs if not any(argument.startswith("-") for argument in run)}
    together = [sorted({argument for run in plain for argument in run})] if plain else []

    def work(tree: Path, variables: dict[str, str]) -> None:
        for arguments in [*together, *sorted(runs - plain)]:
            code, output = pytest(list(arguments), tree, variables)
            if code:
                raise Stop(f"without any fault: pytest {shlex.join(arguments)} ended with {code}:\n{output}")

    start = time.monotonic()
    in_copy(work)
    print(f"without any fault: all pass ({time.monotonic() - start:.0f} s)", flush=True)


def table(outcomes: list[Outcome], reasons: dict[str, str]) -> str:
    """The report, in Markdown."""
    lines = ["| mutant | fault | noticed first by | seconds |", "| --- | --- | --- | ---: |"]
    for mutant, caught, seconds in outcomes:
        who = f"`{caught}`" if caught else f"**nobody**: {reasons.get(mutant.name, 'a hole to close')}"
        lines.append(f"| {mutant.name} | {mutant.what} | {who} | {seconds:.0f} |")
    count = sum(outcome.caught is not None for outcome in outcomes)
    return "\n".join(["# Mutants", "", f"{count} of {len(outcomes)} noticed. Made by `make mutants`.", "", *lines, ""])


def main() -> int:
    """Run the harness."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="mutants, by name or number (default: all)")
    parser.add_argument("--ci", action="store_true", help="those of ci.txt, a few of each method")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at a time (default: 2)")
    options = parser.parse_args()

    names = (HERE / "ci.txt").read_text().split() if options.ci else options.names
    reasons = yaml.safe_load((HERE / "survivors.yml").read_text()) or {}
    selected = mutants(names)
    with ThreadPoolExecutor(options.jobs) as pool:
        plain = pool.submit(baseline, selected)
        tried = [pool.submit(try_mutant, mutant) for mutant in selected]
        try:
            plain.result()
            outcomes = [each.result() for each in tried]
        finally:  # after a failure nothing else is begun
            pool.shutdown(cancel_futures=True)

    report = table(outcomes, reasons)
    print(report)
    if not names:
        (HERE / "report.md").write_text(report)
    wrong = [f"{o.mutant.name}: nobody noticed" for o in outcomes if not o.caught and o.mutant.name not in reasons]
    wrong += [
        f"{o.mutant.name}: noticed, so drop it from survivors.yml"
        for o in outcomes
        if o.caught and o.mutant.name in reasons
    ]
    print("\n".join(wrong), file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Stop as stop:
        print(f"mutants: {stop}", file=sys.stderr)
        sys.exit(2)
