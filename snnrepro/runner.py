"""Runs experiments over seeds: in parallel, resumable, with the same bits whatever the number of processes.

A finished seed is two files in `.runs/<citekey>/<experiment>.<profile>/`: `<seed>.npz` and then `<seed>.json`, whose
presence says that the seed is finished. A killed run loses at most the seeds in flight, and its processes end with it. The traceback of
a seed that failed by a mistake lies in `<seed>.error` until the seed succeeds.
"""

import contextlib
import ctypes
import dataclasses
import difflib
import functools
import hashlib
import json
import math
import os
import signal
import sys
import textwrap
import threading
import time
import traceback
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import threadpoolctl

from snnrepro import files, ledger, paths, progress
from snnrepro.errors import UserError
from snnrepro.experiment import Experiment, Progress, Result, silent
from snnrepro.memory import keep_freed_memory

SCHEMA = 1
PROFILES = ("quick", "paper")
FIELDS = {"config_hash": "text", "data": "text", "cpu_seconds": "number"}
FIELDS_BY_NAME = {"sources": "text", "metrics": "number", "early": "number"}
CONNECT_SECONDS = 10
LONGEST_REASON = 300
PR_SET_PDEATHSIG = 1
COMPILED = (".runs", "numba")


@dataclass(frozen=True)
class Runs:
    """Finished seeds of one experiment, in the order of `seeds`.

    Attributes:
        config: the frozen configuration that was run.
        metrics: one number a seed and name, arrays of shape (seeds,).
        early: the same for the numbers known after the first few updates.
        arrays: curves and figure data, one dictionary a seed.
        data: provenance tag of the samples.
        cpu_seconds: CPU time of each seed, (seeds,).
    """

    citekey: str
    experiment: str
    profile: str
    config: Any
    seeds: tuple[int, ...]
    metrics: dict[str, np.ndarray]
    early: dict[str, np.ndarray]
    arrays: list[dict[str, np.ndarray]]
    data: str
    cpu_seconds: np.ndarray


def experiments(citekey: str) -> Mapping[str, Experiment]:
    """Experiments of a chapter.

    Raises:
        UserError: no such chapter, or it has no experiments.
    """
    paths.chapter(citekey)
    keep_compiled_apart()
    if known := ledger.experiments(citekey):
        _loaded_sources(citekey)
        return known
    raise UserError(f"chapter {citekey} has no experiments; write snnrepro/papers/{citekey}.py")


def keep_compiled_apart() -> None:
    """Let numba keep its machine code in `.runs/numba/<hash of the kernels>`, in this process and those it starts.

    numba does not notice changes in functions called from other files, so that each state of the kernels has a folder of its own. A
    folder that the user names in $NUMBA_CACHE_DIR stays as it is. Has to come before numba is imported.
    """
    named = os.environ.get("NUMBA_CACHE_DIR")
    if named and Path(named).parts[-3:-1] != COMPILED:
        return
    hashes = ledger.kernel_hashes() | {"numba": metadata.version("numba")}
    made_by = hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()
    os.environ["NUMBA_CACHE_DIR"] = str(paths.root().joinpath(*COMPILED, made_by[:12]))


def find(citekey: str, experiment: str, profile: str) -> Experiment:
    """One experiment of a chapter; checks the profile's name as well.

    Raises:
        UserError: unknown chapter, experiment or profile; the message lists the known ones.
    """
    known = experiments(citekey)
    if experiment not in known:
        near = difflib.get_close_matches(experiment.lower(), known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
        raise UserError(f"unknown experiment {experiment!r} in {citekey}; {hint}")
    if profile not in PROFILES:
        raise UserError(f"unknown profile {profile!r}; known: {', '.join(PROFILES)}")
    return known[experiment]


def finished(citekey: str, experiment: str, profile: str) -> list[int]:
    """Seeds in the runs folder that belong to the present configuration and sources, in ascending order, without damaged ones."""
    return standing(citekey, experiment, profile)[0]


def standing(citekey: str, experiment: str, profile: str) -> tuple[list[int], dict[int, str]]:
    """Return the finished seeds in the runs folder, and those whose file is damaged, with what is wrong; both in ascending order."""
    job = _job(citekey, experiment, profile)
    whole, damaged = [], {}
    for seed in sorted(int(file.stem) for file in job.folder.glob("*.json") if file.stem.isdigit()):
        try:
            if job.state(seed) == "finished":
                whole.append(seed)
        except UserError as error:
            damaged[seed] = str(error)
    return whole, damaged


def discard(targets: Iterable[tuple[str, str]], profile: str, seeds: Iterable[int] | None = None) -> None:
    """Remove seeds of some experiments, finished or not, so that they are computed from the beginning.

    Args:
        targets: pairs of chapter and experiment.
        profile: `quick` or `paper`.
        seeds: default: the seeds of the profile.

    Raises:
        UserError: a name is wrong, or a run is at work on one of them: nothing is removed then; or a file cannot be removed.
    """
    jobs = [_job(citekey, experiment, profile) for citekey, experiment in targets]
    with contextlib.ExitStack() as held:
        for job in jobs:
            held.enter_context(_alone(job))
        for job in jobs:
            with _writing(job):
                for seed in job.seeds if seeds is None else seeds:
                    job.discard(seed)


def run(
    citekey: str,
    experiment: str,
    profile: str,
    seeds: Sequence[int] | None = None,
    jobs: int = 2,
    cluster: str | None = None,
    fresh: bool = False,
    quiet: bool = False,
) -> Runs:
    """Run the seeds of an experiment that are not finished yet, then return all that were asked for. See `run_all`."""
    return run_all(citekey, [experiment], profile, seeds, jobs, cluster, fresh, quiet)[experiment]


def run_all(
    citekey: str,
    experiments: Sequence[str],
    profile: str,
    seeds: Sequence[int] | None = None,
    jobs: int = 2,
    cluster: str | None = None,
    fresh: bool = False,
    quiet: bool = False,
) -> dict[str, Runs]:
    """Run the seeds of several experiments that are not finished yet, on the same processes, then return all that were asked for.

    Args:
        citekey: chapter.
        experiments: their names in the chapter, in the order in which they start: the first seed of each, then the second.
        profile: `quick` or `paper`.
        seeds: default: the seeds of the profile.
        jobs: processes on this machine; 1 stays in this process. Results do not depend on it.
        cluster: address of a Dask scheduler that takes the place of the processes here. Its workers need the same code.
        fresh: removes the seeds first, finished ones as well, and computes all of them. To go on after a stop, leave it out.
        quiet: shows no progress.

    Raises:
        UserError: a name or number above is wrong, another run is at work there, a file cannot be read or written, a worker
            dies; or seeds failed, for lack of data, with a number that is not finite or by a mistake: the others are finished then.
    """
    if jobs < 1:
        raise UserError(f"jobs must be at least 1, not {jobs}")
    asked, work = [], []
    for experiment in dict.fromkeys(experiments):
        job = _job(citekey, experiment, profile)
        wanted = tuple(dict.fromkeys(job.seeds if seeds is None else seeds))
        asked.append((job, wanted))
        if not wanted or min(wanted) < 0:
            raise UserError(f"seeds of {job.name}: give at least one, none negative")
        states = {seed: "missing" if fresh else job.state(seed) for seed in wanted}
        todo = [seed for seed in wanted if states[seed] != "finished"]
        if old := [seed for seed in todo if states[seed] != "missing"]:
            progress.say(f"{job.name}: computing {_named(old)} again, {states[old[0]]} changed since", quiet)
        if todo:
            work.append((job, todo, [seed for seed in wanted if seed not in todo]))
    with contextlib.ExitStack() as held:
        for job, _, finished in work:
            held.enter_context(_alone(job))
            _tidy(job, finished)
        if work:
            # first seeds first: the processes then compile the kernels of different experiments, not all the same ones
            turns = sorted(
                ((turn, job, seed) for job, todo, _ in work for turn, seed in enumerate(todo)), key=itemgetter(0)
            )
            _compute([(job, seed) for _, job, seed in turns], jobs, cluster, fresh, quiet)
    return {job.key: _load(job, wanted) for job, wanted in asked}


def unfinished(citekey: str, experiment: str, profile: str, seeds: Iterable[int]) -> str:
    """Say in words which of the seeds are not finished, and why; empty where all are."""
    job = _job(citekey, experiment, profile)
    reasons: dict[str, list[int]] = {}
    for seed in seeds:
        try:
            state = job.state(seed)
            reason = "not run here" if state == "missing" else f"run before a change of {state}"
        except UserError as error:
            state, reason = "damaged", f"damaged: {error}"
        if state != "finished":
            reasons.setdefault(reason, []).append(seed)
    return "; ".join(f"{_named(which)} {reason}" for reason, which in reasons.items())


def recordable(citekey: str, experiment: str, profile: str, seeds: Iterable[int] | None = None) -> ledger.Record | None:
    """Build the record that the finished ones of some seeds make, those of the profile by default; None if there are none."""
    job = _job(citekey, experiment, profile)
    seeds = [seed for seed in (job.seeds if seeds is None else seeds) if job.state(seed) == "finished"]
    if not seeds:
        return None
    return ledger.build_record(citekey, experiment, profile, job.experiment, {seed: job.read(seed) for seed in seeds})


def record(citekey: str, experiment: str, profile: str) -> Path:
    """Merge the finished seeds of a profile into the chapter's `results/<experiment>.<profile>.json` and `.npz`.

    A record of the same code and configuration never loses a seed that the profile names: seeds that are not finished here, because
    they were run on another machine, stay as they are in the record. Finished seeds that the profile does not name are left out, with a
    line that says so.

    Raises:
        UserError: no seed is finished, or the present record holds seeds that are not finished here and were run with other
            versions of the packages.
    """
    job = _job(citekey, experiment, profile)
    new = recordable(citekey, experiment, profile)
    command = f"snnrepro run {citekey}/{experiment} --profile {profile}"
    extra = [seed for seed in finished(citekey, experiment, profile) if seed not in job.seeds]
    if new is None:
        there = [f"{_named(extra)}, not of the profile"] if extra else []
        other = "quick" if profile == "paper" else "paper"
        if seeds := finished(citekey, experiment, other):
            there.append(f"{_named(seeds)} of {other}, see --profile {other}")
        only = f", finished is only {' and '.join(there)}" if there else ""
        raise UserError(f"nothing to record for {job.name}{only}; first: {command}")
    if extra:
        progress.say(f"{job.name}: left out {_named(extra)}, not of the profile")
    results = {seed: job.read(seed) for seed in new.seeds}
    arrays = {f"{seed}/{name}": array for seed in new.seeds for name, array in job.arrays(seed).items()}
    old = ledger.load_record(citekey, experiment, profile)
    same = old is not None and (old.config_hash, old.sources) == (new.config_hash, new.sources)
    if same and (kept := set(old.seeds) & set(job.seeds) - set(new.seeds)):
        if old.versions != new.versions:
            hint = f"with other package versions; first: {command} --seeds {_ranges(kept)}"
            raise UserError(f"the record of {job.name} has seeds that are not finished here, {hint}")
        stored = ledger.load_arrays(old)
        results |= {seed: old.seeds[seed].model_dump() for seed in kept}
        arrays |= {f"{seed}/{name}": array for seed in kept for name, array in stored[seed].items()}
        new = ledger.build_record(citekey, experiment, profile, job.experiment, results)
    if old is not None and len(old.seeds) > len(new.seeds):
        progress.say(
            f"{job.name}: the record had {len(old.seeds)} seeds, of code or settings before a change; now it has {len(new.seeds)}"
        )
    return ledger.save_record(new, arrays)


@dataclass(frozen=True)
class _Job:
    """One experiment in one profile, and what its seed files must have been made by."""

    citekey: str
    key: str
    profile: str
    experiment: Experiment
    config: Any
    config_hash: str
    sources: dict[str, str]
    folder: Path

    @property
    def name(self) -> str:
        return f"{self.citekey}/{self.key} ({self.profile})"

    @property
    def seeds(self) -> tuple[int, ...]:
        return self.experiment.quick_seeds if self.profile == "quick" else self.experiment.paper_seeds

    def read(self, seed: int) -> dict[str, Any]:
        """Content of a seed's JSON file."""
        file = self.folder / f"{seed}.json"
        content = files.read_json(file)
        if not isinstance(content, dict):
            raise UserError(f"{files.shown(file)}: is no result of a seed; delete it and run again")
        if field := _wrong_field(content):
            hint = f"field {field} is missing or of a wrong type; delete it and run again"
            raise UserError(f"{files.shown(file)}: is no result of a seed, {hint}")
        return content

    def arrays(self, seed: int) -> dict[str, np.ndarray]:
        """Arrays of a seed."""
        return files.read_npz(self.folder / f"{seed}.npz")

    def state(self, seed: int) -> str:
        """Says `finished`, `missing`, or what changed since the seed was run."""
        if not all((self.folder / f"{seed}.{kind}").exists() for kind in ("json", "npz")):
            return "missing"
        found = self.read(seed)
        if found["config_hash"] != self.config_hash:
            return "the configuration"
        changed = sorted(name for name, _ in self.sources.items() ^ found["sources"].items())
        return ", ".join(dict.fromkeys(changed)) or "finished"

    def write(self, seed: int, result: Result, cpu_seconds: float) -> None:
        """Store a seed, the JSON file last."""
        content = {
            "schema": SCHEMA, "seed": seed, "config_hash": self.config_hash, "sources": self.sources,
            "metrics": result.metrics, "early": result.early, "data": result.data, "cpu_seconds": cpu_seconds,
        }  # fmt: skip
        target = self.folder / f"{seed}.json"
        target.unlink(missing_ok=True)
        files.write_npz(target.with_suffix(".npz"), {key: np.asarray(array) for key, array in result.arrays.items()})
        files.write_json(target, content)

    def checkpoint(self, seed: int) -> Path:
        """File that a long seed may use; named after configuration and sources, so that no old one is taken."""
        made_by = hashlib.sha256(json.dumps([self.config_hash, self.sources], sort_keys=True).encode()).hexdigest()
        return self.folder / f"{seed}.{made_by[:12]}.checkpoint.npz"

    def sweep(self, seed: int, keep: Path | None = None) -> None:
        """Remove what an unfinished seed leaves behind: progress, checkpoints, files cut off in the writing.

        Of the checkpoint `keep`, files that an experiment keeps beside it under the same stem stay as well, and so does the traceback;
        where there is that checkpoint, so does the progress, which knows what the seed has cost so far.
        """
        spent = {self.folder / f"{seed}.progress"} if keep is not None and _goes_on(keep) else set()
        for file in self.folder.glob(f"{seed}.*"):
            part = keep is not None and file.suffix == ".npz" and file.name.startswith(keep.stem)
            kept = part or (keep is not None and file == self.trace(seed)) or file in spent
            if not kept and file not in (self.folder / f"{seed}.json", self.folder / f"{seed}.npz"):
                file.unlink(missing_ok=True)

    def discard(self, seed: int) -> None:
        """Remove all that there is of a seed, the JSON file first."""
        for kind in ("json", "npz"):
            (self.folder / f"{seed}.{kind}").unlink(missing_ok=True)
        self.sweep(seed)

    def trace(self, seed: int) -> Path:
        """File with the traceback of a seed that failed by a mistake."""
        return self.folder / f"{seed}.error"

    def explain(self, seed: int, error: UserError) -> None:
        """Store the traceback that a failed seed's error carries as a note; without one, remove that of an earlier failure."""
        if notes := getattr(error, "__notes__", None):
            files.write_text(self.trace(seed), f"{self.name}, seed {seed}\n\n" + "\n".join(notes))
        else:
            self.trace(seed).unlink(missing_ok=True)


def _job(citekey: str, key: str, profile: str) -> _Job:
    experiment = find(citekey, key, profile)
    config = _config(experiment, profile)
    sources = ledger.experiment_sources(citekey, experiment)
    folder = paths.runs(citekey) / f"{key}.{profile}"
    return _Job(citekey, key, profile, experiment, config, ledger.config_hash(config), sources, folder)


def _ranges(seeds: Iterable[int]) -> str:
    """Seeds as the command line takes them: 0-2,5."""
    parts: list[list[int]] = []
    for seed in sorted(seeds):
        if parts and seed == parts[-1][-1] + 1:
            parts[-1].append(seed)
        else:
            parts.append([seed])
    return ",".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)


def _named(seeds: Collection[int]) -> str:
    """Seeds in words: seed 3, seeds 0-2,5."""
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {_ranges(seeds)}"


def _wrong_field(content: dict[str, Any]) -> str | None:
    """Name the first field of a seed's file that is missing or of a wrong type, numbers that are not finite included."""
    for field, kind in FIELDS.items():
        if not _is(kind, content.get(field)):
            return field
    for field, kind in FIELDS_BY_NAME.items():
        found = content.get(field)
        if not isinstance(found, dict) or not all(_is(kind, value) for value in found.values()):
            return field
    return None


def _is(kind: str, value: Any) -> bool:
    """Whether a value of a JSON file is a text or a finite number."""
    if kind == "text":
        return isinstance(value, str)
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _finite(numbers: dict[str, float]) -> dict[str, float]:
    """Return the numbers as plain floats."""
    plain = {name: float(value) for name, value in numbers.items()}
    for name, value in plain.items():
        if not math.isfinite(value):
            raise UserError(f"metric {name} is {value}, not a finite number")
    return plain


def _load(job: _Job, seeds: tuple[int, ...]) -> Runs:
    found = [job.read(seed) for seed in seeds]
    ledger.check_alike(job.name, dict(zip(seeds, found, strict=True)))

    def columns(field: str) -> dict[str, np.ndarray]:
        return {name: np.array([one[field][name] for one in found]) for name in found[0][field]}

    return Runs(
        job.citekey, job.key, job.profile, job.config, seeds,
        metrics=columns("metrics"),
        early=columns("early"),
        arrays=[job.arrays(seed) for seed in seeds],
        data=found[0]["data"],
        cpu_seconds=np.array([one["cpu_seconds"] for one in found]),
    )  # fmt: skip


def _alone(job: _Job) -> contextlib.AbstractContextManager[None]:
    """Hold the run folder: a second run there would remove the files of the first. The lock is a file beside it."""
    try:
        job.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{files.shown(job.folder)}: cannot write there: {error.strerror}") from None
    return files.alone(job.folder.with_name(f"{job.folder.name}.lock"), job.name)


@contextlib.contextmanager
def _writing(job: _Job) -> Iterator[None]:
    """Say in one line that files in the run folder cannot be written or removed."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{files.shown(job.folder)}: cannot write there: {error.strerror}") from None


def _tidy(job: _Job, finished: list[int]) -> None:
    """Remove what stayed beside finished seeds, where a run was killed between the last file of a seed and its sweep."""
    with _writing(job):
        for seed in finished:
            job.sweep(seed)


def _compute(work: list[tuple[_Job, int]], jobs: int, cluster: str | None, fresh: bool, quiet: bool) -> None:
    """Run seeds and store each as soon as it is there. Seeds that fail do not stop the others; they are named at the end."""
    for job, seed in work:
        with _writing(job):
            if fresh:
                job.discard(seed)
            else:
                job.sweep(seed, keep=job.checkpoint(seed))
    by_key = {job.key: job for job, _ in work}
    one = len(by_key) == 1
    name = job.name if one else f"{job.citekey} ({job.profile})"
    said = {(job.key, seed): f"seed {seed}" if one else f"{job.key}, seed {seed}" for job, seed in work}
    failed: dict[tuple[str, str], list[int]] = {}
    watched = {said[job.key, seed]: job.folder / f"{seed}.progress" for job, seed in work}
    with progress.Watch(name, watched, quiet) as watch:
        for key, seed, result, cpu_seconds in _outcomes(name, work, jobs, cluster):
            if isinstance(result, UserError):
                failed.setdefault((key, str(result)), []).append(seed)
                watch.failed(said[key, seed], str(result))
                by_key[key].explain(seed, result)
                by_key[key].sweep(seed, keep=by_key[key].checkpoint(seed))
            else:
                by_key[key].write(seed, result, cpu_seconds)
                watch.finished(said[key, seed], result.metrics)
                by_key[key].sweep(seed)
    if failed:
        reasons = [
            f"{'' if one else f'{key}, '}{_named(which)}: {reason}{_see(by_key[key].trace(min(which)))}"
            for (key, reason), which in failed.items()
        ]
        raise UserError(f"{name}, {'; '.join(reasons)}")


def _see(trace: Path) -> str:
    """Name the file with the traceback, where there is one."""
    return f" (traceback in {files.shown(trace)})" if trace.exists() else ""


def _outcomes(
    name: str, work: list[tuple[_Job, int]], jobs: int, cluster: str | None
) -> Iterator[tuple[str, int, Result | UserError, float]]:
    """Results, or why there is none, in the order in which the seeds finish."""
    jobs = min(jobs, len(work))
    if cluster is None and jobs == 1:
        yield from (_seed(*_call(job, seed)) for job, seed in work)
        return
    import joblib
    from joblib.externals.loky.process_executor import BrokenProcessPool

    lasting = threading.current_thread() is threading.main_thread()  # Linux means the thread that starts a worker
    parent = os.getpid() if cluster is None and lasting else None
    tasks = [joblib.delayed(_seed)(*_call(job, seed), parent) for job, seed in work]
    with _backend(jobs, cluster):
        try:
            results = joblib.Parallel(return_as="generator_unordered", batch_size=1)(tasks)
            for one in results:  # noqa: UP028, since `yield from` would close the results first
                yield one
        except GeneratorExit:  # stopped while a seed was stored: joblib ends the workers, and would warn of it
            with warnings.catch_warnings(action="ignore"):
                results.close()
            raise
        except BrokenProcessPool:
            hint = "perhaps for lack of memory; the same command goes on where it stopped, without --fresh, with --jobs 1 if need be"
            raise UserError(f"{name}: a worker process died, {hint}") from None


@contextlib.contextmanager
def _backend(jobs: int, cluster: str | None) -> Iterator[None]:
    """Send joblib's tasks to processes here or to a Dask cluster, one thread each."""
    import joblib

    if cluster is None:
        # idle workers outlive a notebook that is stopped, and whoever waits for its output
        with joblib.parallel_config("loky", n_jobs=jobs, inner_max_num_threads=1, idle_worker_timeout=20):
            yield
        return
    from dask.distributed import Client

    try:
        client = Client(cluster, timeout=CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        hint = f"({type(error).__name__}); give its address, like tcp://127.0.0.1:8786"
        raise UserError(f"no Dask scheduler answers at {cluster!r} {hint}") from None
    with client, joblib.parallel_config("dask"):
        yield


def _call(job: _Job, seed: int) -> tuple[str, str, str, int, Path, str, dict[str, str]]:
    """Arguments of `_seed`: plain data, which reaches other processes."""
    return job.citekey, job.key, job.profile, seed, job.checkpoint(seed), job.config_hash, job.sources


def _seed(
    citekey: str,
    key: str,
    profile: str,
    seed: int,
    checkpoint: Path,
    config_hash: str,
    sources: dict[str, str],
    parent: int | None = None,
) -> tuple[str, int, Result | UserError, float]:
    """Run one seed in whatever process this is; return experiment, seed, result and CPU seconds, those before a checkpoint included.

    In place of a result there is a UserError where the seed fails, with the traceback as a note unless it fails with a UserError, or
    where the code that this process has loaded is not the one that the seed will be said to come from. Progress and checkpoints need
    the runs folder, which the workers of a cluster may not share. A process started by `parent` for such work ends with it.
    """
    if parent is not None:
        _end_with(parent)
    keep_compiled_apart()
    experiment = ledger.experiments(citekey)[key]
    loaded = _loaded_sources(citekey).get(key) or ledger.experiment_sources(citekey, experiment)
    if (ledger.config_hash(_config(experiment, profile)), loaded) != (config_hash, sources):
        hint = "run the command again; on a cluster, install the same version there"
        return key, seed, UserError(f"a process has other sources than those on disk here; {hint}"), 0.0
    shared = checkpoint.parent.is_dir()
    file = checkpoint.with_name(f"{seed}.progress")
    start = time.process_time() - (_spent(file) if _goes_on(checkpoint) else 0.0)
    report = _reporter(file, start) if shared else silent
    keep_freed_memory()
    try:
        with _one_thread():
            result = experiment.function(_config(experiment, profile), seed, report, checkpoint if shared else None)
        result = dataclasses.replace(result, metrics=_finite(result.metrics), early=_finite(result.early))
    except UserError as error:
        result = error
    except Exception as error:
        result = _mistake(error)
    return key, seed, result, time.process_time() - start


def _mistake(error: Exception) -> UserError:
    """Put an error that no user is meant to meet into one line, with its traceback as a note, which reaches other processes too."""
    line = files.one_line(": ".join(filter(None, (type(error).__name__, str(error)))))
    known = UserError(textwrap.shorten(line, LONGEST_REASON, placeholder=" ..."))
    known.add_note("".join(traceback.format_exception(error)))
    return known


def _end_with(parent: int) -> None:
    """Let Linux kill this process, a worker, as soon as the one that started it has ended, however it ended.

    Nobody would take its results, and a second run might write the same checkpoints.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it has ended already
            os._exit(1)


@functools.cache
def _loaded_sources(citekey: str) -> dict[str, dict[str, str]]:
    """Return the source hashes of all experiments of a chapter as they were when this process first used the chapter.

    A run of a whole chapter comes to its last experiment hours later, and its code is still the one that was loaded.
    """
    return {key: ledger.experiment_sources(citekey, one) for key, one in ledger.experiments(citekey).items()}


def _config(experiment: Experiment, profile: str) -> Any:
    return experiment.quick if profile == "quick" else experiment.paper


def _goes_on(checkpoint: Path) -> bool:
    """Whether a seed has a checkpoint, or a part of one."""
    return any(checkpoint.parent.glob(f"{checkpoint.stem}*.npz"))


def _spent(file: Path) -> float:
    """CPU seconds of a seed until its last report, by its file of progress; 0 where it does not say."""
    try:
        return max(float(json.loads(file.read_text())[3]), 0.0)
    except (OSError, ValueError, IndexError, KeyError, TypeError):
        return 0.0


def _reporter(file: Path, start: float) -> Progress:
    """Write how far a seed is into a file that the parent process reads, five times a second at most, and the CPU seconds since `start`."""
    last = -math.inf

    def report(done: int, total: int, **metrics: float) -> None:
        nonlocal last
        if time.monotonic() - last < 0.2:
            return
        last = time.monotonic()
        with contextlib.suppress(OSError):
            now = {name: float(value) for name, value in metrics.items()}
            file.write_text(json.dumps([done, total, now, time.process_time() - start]))

    return report


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Use one thread in BLAS, OpenMP and torch, so that results do not depend on the number of cores."""
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else None
    with threadpoolctl.threadpool_limits(1):
        if torch:
            torch.set_num_threads(1)
        try:
            yield
        finally:
            if torch:
                torch.set_num_threads(before)
