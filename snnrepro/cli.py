"""Command line: `snnrepro list | run | record | check | data | execute | new`.

Anything the user can mend is one line on stderr and exit code 2. Heavy imports happen inside the commands.
"""

import argparse
import contextlib
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from snnrepro import __version__
from snnrepro.errors import UserError

if TYPE_CHECKING:
    from snnrepro.check import LeftOut
    from snnrepro.experiment import Experiment

MOST_SEEDS = 100_000


class _Parser(argparse.ArgumentParser):
    """Reports mistakes the way everything else here does."""

    def error(self, message: str) -> None:
        raise UserError(f"{message}; see {self.prog} --help")


class _Stopped(KeyboardInterrupt):
    """Raised where a signal, its only argument, asks the process to end; whoever minds Ctrl-C minds it too."""


def main(argv: list[str] | None = None) -> int:
    """Run a command and return its exit code: 0 done, 1 a check failed, 2 the user has to mend something, 128 + a signal's number."""
    arguments = argparse.Namespace(rest="the same command")
    try:
        with _stoppable():
            _, extra = _parser().parse_known_args(argv, arguments)
            if extra:
                raise UserError(_too_much(arguments, extra))
            _warn_of_two_copies()
            code = arguments.command(arguments)
            sys.stdout.flush()
            return code
    except UserError as error:
        print(f"snnrepro: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever read us has stopped, as in `snnrepro list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt as stop:
        with contextlib.suppress(OSError):  # the terminal may be gone
            print(f"snnrepro: stopped; what is finished is kept, {arguments.rest} does the rest", file=sys.stderr)
        return 128 + (stop.args[0] if isinstance(stop, _Stopped) else signal.SIGINT)


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGTERM and SIGHUP stop a command as Ctrl-C does, and a second one at once. What is ignored, as under nohup, stays so."""
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        numbers = []
    taken = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    try:
        for number in taken:
            signal.signal(number, _stop)
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _stop(number: int, frame: FrameType | None) -> None:
    """Raise what a signal stands for, the first time."""
    signal.signal(number, signal.SIG_DFL)
    raise _Stopped(number)


def _warn_of_two_copies() -> None:
    """Say so where the code that runs is not that of the repository it works on."""
    from snnrepro import paths

    there = paths.root() / "snnrepro" / "cli.py"
    if there.exists() and not there.samefile(__file__):
        print(
            f"snnrepro: note: this is the code of {Path(__file__).resolve().parent.parent}, at work on"
            f" {paths.root()}; use the environment of the latter to run its own code",
            file=sys.stderr,
        )


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds from `0-9`, `4` or `0,3,5-7`, in ascending order.

    Raises:
        UserError: anything else, an empty or a descending range included.
    """
    seeds: set[int] = set()
    for part in text.split(","):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        numbers = (first, last if dash else first)
        if not all(number.isascii() and number.isdigit() for number in numbers):
            raise UserError(f"seeds {text!r}: cannot read {part!r}; write 0-9, 4 or 0,3,5-7")
        low, high = map(int, numbers)
        if high < low:
            raise UserError(f"seeds {text!r}: {part.strip()} runs backwards; write {high}-{low}")
        if high - low >= MOST_SEEDS or high >= 2**32:
            raise UserError(f"seeds {text!r}: at most {MOST_SEEDS} seeds, each below 2**32")
        seeds.update(range(low, high + 1))
    return tuple(sorted(seeds))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="snnrepro", description="Papers on spiking-network learning, reproduced and checked.")
    parser.add_argument("--version", action="version", version=f"snnrepro {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, function, help: str, targets: str | None = None) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=help, description=help)
        command.set_defaults(command=function, prog=command.prog)
        if targets:
            command.add_argument("citekey", nargs=targets, help="chapter, e.g. neftci2019 (default: all)")
        return command

    def add_target(command: argparse.ArgumentParser, profile: str) -> None:
        command.add_argument("target", metavar="CITEKEY[/EXPERIMENT]", help="chapter, or one of its experiments")
        command.add_argument("--profile", default=profile, help=f"quick or paper (default: {profile})")

    add("list", _list, "chapters, their experiments, claims and verdicts", "?")
    run = add("run", _run, "run experiments; finished seeds are kept, so the same command goes on after a stop")
    add_target(run, "quick")
    run.add_argument("--seeds", help="0-9 or 0,3,5-7 (default: those of the profile)")
    run.add_argument("--jobs", type=int, default=2, help="processes (default: 2)")
    run.add_argument("--cluster", metavar="ADDRESS", help="Dask scheduler to run on, e.g. tcp://127.0.0.1:8786")
    run.add_argument("--fresh", action="store_true", help="remove finished seeds first, and compute all")
    add_target(add("record", _record, "merge finished seeds into the chapter's results folder"), "paper")
    add("check", _check, "compare verdicts of finished seeds with the recorded ones; exit 1 if one is worse", "?")
    data = add("data", _data, "data sets: which are here; `data get NAME` downloads one")
    data.add_argument("action", nargs="?", metavar="get", help="get: download")
    data.add_argument("name", nargs="?", help="data set, e.g. mnist")
    execute = add("execute", _execute, "build the notebooks from their Markdown sources and run them", "*")
    how = execute.add_mutually_exclusive_group()
    how.add_argument("--check", action="store_true", help="only check that both agree; exit 1 if not")
    how.add_argument("--text", action="store_true", help="only take changed prose over; the code must be as it was run")
    add("new", _new, "write the skeleton of a new chapter", None).add_argument("citekey", help="e.g. zenke2018")
    return parser


def _too_much(arguments: argparse.Namespace, extra: list[str]) -> str:
    """Say that a command does not take some arguments, and what was meant where it looks like an experiment."""
    from snnrepro import paths

    target, name = getattr(arguments, "target", "/"), extra[0]
    word = len(extra) == 1 and name and not name.startswith("-") and "/" not in target + name
    meant = word and name not in paths.citekeys()
    hint = f"did you mean {target}/{name}? see" if meant else "see"
    return f"unrecognized arguments: {shlex.join(extra)}; {hint} {arguments.prog} --help"


def _count(number: int, what: str) -> str:
    """A number of things in words: 1 seed, 3 seeds."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def _targets(target: str) -> list[tuple[str, str]]:
    """Pairs of chapter and experiment."""
    from snnrepro import runner

    citekey, slash, experiment = target.partition("/")
    return [(citekey, experiment)] if slash else [(citekey, key) for key in runner.experiments(citekey)]


def _run(arguments: argparse.Namespace) -> int:
    seeds = None if arguments.seeds is None else parse_seeds(arguments.seeds)
    if arguments.jobs < 1:
        raise UserError(f"--jobs must be at least 1, not {arguments.jobs}")
    from snnrepro import ledger, runner

    targets = _targets(arguments.target)
    for target in targets:
        runner.find(*target, arguments.profile)
    if arguments.fresh:
        runner.discard(targets, arguments.profile, seeds)
        arguments.rest = "the same command without --fresh"
    options = {"jobs": arguments.jobs, "cluster": arguments.cluster}
    problems = []
    for target in targets:
        try:
            runs = runner.run(*target, arguments.profile, seeds, **options)
        except UserError as error:  # the other experiments may do without what this one lacks
            problems.append(str(error))
            continue
        print(f"{'/'.join(target)} ({arguments.profile}), {_count(len(runs.seeds), 'seed')}, data {runs.data}")
        for name, values in runs.metrics.items():
            mean, low, high = ledger.t_interval(values)
            print(f"  {name}: {mean:.4g}" + (f" [{low:.4g}, {high:.4g}]" if len(values) > 1 else ""))
    if problems:
        raise UserError("; ".join(dict.fromkeys(problems)))
    return 0


def _record(arguments: argparse.Namespace) -> int:
    from snnrepro import paths, runner

    targets = _targets(arguments.target)
    if "/" not in arguments.target:
        targets = [target for target in targets if any(runner.standing(*target, arguments.profile))]
        if not targets:
            other = "quick" if arguments.profile == "paper" else "paper"
            there = any(runner.finished(*target, other) for target in _targets(arguments.target))
            only = f", finished are only seeds of {other}, see --profile {other}" if there else ""
            raise UserError(
                f"nothing to record for {arguments.target} ({arguments.profile}){only}; first:"
                f" snnrepro run {arguments.target} --profile {arguments.profile}"
            )
    problems = []
    for target in targets:
        try:
            print(runner.record(*target, arguments.profile).relative_to(paths.root()))
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError("; ".join(problems))
    return 0


def _chapters(citekey: str | None) -> list[str]:
    """Return the named chapter, or all."""
    from snnrepro import paths

    if citekey is not None:
        name, slash, experiment = citekey.partition("/")
        paths.chapter(name)
        if slash:
            raise UserError(f"{citekey}: this command takes a chapter, without /{experiment}")
        return [citekey]
    if known := paths.citekeys():
        return known
    raise UserError(
        f"there are no chapters in {paths.root()}; run it in the repository, or set SNNREPRO_ROOT to its folder"
    )


def _list(arguments: argparse.Namespace) -> int:
    problems = []
    for citekey in _chapters(arguments.citekey):
        try:
            lines = _listed(citekey)
        except UserError as error:  # the other chapters may be whole
            problems.append(str(error))
            continue
        print("\n".join(lines), flush=True)
    if problems:
        raise UserError("; ".join(dict.fromkeys(problems)))
    return 0


def _listed(citekey: str) -> list[str]:
    """Lines on a chapter: its experiments, with what is recorded and finished, and its claims."""
    from snnrepro import ledger

    chapter = ledger.load_claims(citekey)
    experiments = ledger.experiments(citekey)
    ledger.check_metrics(chapter, experiments)
    lines = [f"{citekey}  {chapter.title}", "  experiments"]
    for key, experiment in experiments.items():
        lines.append(f"    {key}")
        lines += [f"      {profile}: {_standing(citekey, key, profile, experiment)}" for profile in ("quick", "paper")]
    lines.append("  claims")
    for row in ledger.rows(chapter, experiments):
        lines += [f"    {row.claim.id}", f"      quick: {row.quick}, paper: {row.paper.state}"]
    return lines


def _standing(citekey: str, key: str, profile: str, experiment: "Experiment") -> str:
    """How many seeds of a profile are recorded, and how many are finished here."""
    from snnrepro import ledger, runner

    seeds = experiment.quick_seeds if profile == "quick" else experiment.paper_seeds
    whole, damaged = runner.standing(citekey, key, profile)
    here = f"{len(set(whole) & set(seeds))} finished here"
    here += "".join(f", seed {seed} damaged: {why}" for seed, why in damaged.items() if seed in seeds)
    record = ledger.load_record(citekey, key, profile)
    if record is None:
        return f"0 of {_count(len(seeds), 'seed')} recorded, {here}"
    took = _each([seed.cpu_seconds for seed in record.seeds.values()])
    old = ", of other code or settings" if ledger.changes(record, experiment) else ""
    return f"{len(record.seeds)} of {_count(len(seeds), 'seed')} recorded ({took} a seed){old}, {here}"


def _each(spent: list[float]) -> str:
    """Time that a seed took of one core, on average over seconds spent."""
    mean = sum(spent) / len(spent)
    return f"{mean:.0f} s" if mean < 100 else f"{mean / 60:.0f} min"


def _check(arguments: argparse.Namespace) -> int:
    from snnrepro import check

    total = worse = 0
    missed = []
    for citekey in _chapters(arguments.citekey):
        compared, left_out = check.compare(citekey)
        for one in compared:
            mark = "WORSE" if one.worse else "ok"
            print(f"{mark:5}  {one.claim} ({one.profile}): recorded {one.recorded}, now {one.now}")
        for record in left_out:
            print(f"{'-':5}  {record.target} ({record.profile}): not compared, {record.why}")
        total, worse, missed = total + len(compared), worse + sum(one.worse for one in compared), missed + left_out
    first = "" if total else _first(arguments.citekey, missed)
    print(f"{_count(total, 'verdict')} compared, {worse} worse; {_count(len(missed), 'record')} not compared{first}")
    return 1 if worse else 0


def _first(citekey: str | None, missed: list["LeftOut"]) -> str:
    """What to run where nothing could be compared."""
    if missed:
        return f"; first: snnrepro run {missed[0].target.partition('/')[0]} --profile {missed[0].profile}"
    run = f"{citekey or 'CITEKEY'} --profile quick"
    return f"; nothing is on record, first: snnrepro run {run}, then snnrepro record {run}"


def _data(arguments: argparse.Namespace) -> int:
    from snnrepro import data

    if arguments.action is None:
        rows = data.status()
        widths = [max(len(row[k]) for row in rows) for k in range(2)]
        for row in rows:
            size = "" if row.bytes is None else f"{row.bytes} bytes"
            print(f"{row.set:{widths[0]}}  {row.file:{widths[1]}} {size:>16}  {row.licence:14}  {row.where}")
        return 0
    if arguments.action != "get":
        known = {file.partition("/")[0] for file in data.FILES}
        if arguments.action in known:
            raise UserError(f"data {arguments.action}: to download it, say snnrepro data get {arguments.action}")
        raise UserError(f"data {arguments.action}: the only action is get; see snnrepro data --help")
    if arguments.name is None:
        raise UserError("data get: name a data set, e.g. snnrepro data get mnist")
    for path in data.fetch(arguments.name):
        print(path)
    return 0


def _execute(arguments: argparse.Namespace) -> int:
    from snnrepro import execute

    chapters = [name for citekey in arguments.citekey or [None] for name in _chapters(citekey)]
    if arguments.check:
        problems = [problem for citekey in chapters for problem in execute.check(citekey)]
        for problem in problems:
            print(problem, file=sys.stderr)
        return 1 if problems else 0
    for citekey in chapters:
        (execute.rewrite if arguments.text else execute.execute)(citekey)
    return 0


def _new(arguments: argparse.Namespace) -> int:
    from snnrepro import skeleton

    print(skeleton.create(arguments.citekey))
    return 0
