"""Runs experiments over seeds: in parallel, resumable, with the same bits whatever the number of processes.

A finished seed is two files in `.runs/<citekey>/<experiment>.<profile>/`: `<seed>.npz` and then `<seed>.json`, whose
presence says that the seed is finished. A killed run loses at most the seeds in flight.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import math
import os
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import threadpoolctl

try:
    import fcntl
except ImportError:  # Windows: two runs of one target are not told apart there
    fcntl = None

from snnrepro import files, ledger, paths, progress
from snnrepro.errors import UserError
from snnrepro.experiment import Experiment, Progress, Result, silent
from snnrepro.memory import keep_freed_memory

SCHEMA = 1
PROFILES = ("quick", "paper")
FIELDS = {"config_hash", "sources", "metrics", "early", "data", "cpu_seconds"}
CONNECT_SECONDS = 10
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
        raise UserError(f"unknown experiment {experiment!r} in {citekey}; known: {', '.join(known)}")
    if profile not in PROFILES:
        raise UserError(f"unknown profile {profile!r}; known: {', '.join(PROFILES)}")
    return known[experiment]


def finished(citekey: str, experiment: str, profile: str) -> list[int]:
    """Seeds in the runs folder that belong to the present configuration and sources, in ascending order."""
    job = _job(citekey, experiment, profile)
    seeds = sorted(int(file.stem) for file in job.folder.glob("*.json") if file.stem.isdigit())
    return [seed for seed in seeds if job.state(seed) == "finished"]


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
        experiments: their names in the chapter, in the order in which they start.
        profile: `quick` or `paper`.
        seeds: default: the seeds of the profile.
        jobs: processes on this machine; 1 stays in this process. Results do not depend on it.
        cluster: address of a Dask scheduler that takes the place of the processes here. Its workers need the same code.
        fresh: computes finished seeds again.
        quiet: shows no progress.

    Raises:
        UserError: a name or number above is wrong, another run is at work there, a file cannot be read or written, a worker
            dies; or seeds failed, for lack of data or with a number that is not finite: the others are finished then.
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
            progress.say(f"{job.name}: computing seeds {_ranges(old)} again, {states[old[0]]} changed since", quiet)
        if todo:
            work.append((job, todo, [seed for seed in wanted if seed not in todo]))
    with contextlib.ExitStack() as held:
        for job, _, finished in work:
            held.enter_context(_alone(job))
            _tidy(job, finished)
        if work:
            _compute([(job, seed) for job, todo, _ in work for seed in todo], jobs, cluster, fresh, quiet)
    return {job.key: _load(job, wanted) for job, wanted in asked}


def unfinished(citekey: str, experiment: str, profile: str, seeds: Iterable[int]) -> str:
    """Say in words which of the seeds are not finished, and why; empty where all are."""
    job = _job(citekey, experiment, profile)
    states: dict[str, list[int]] = {}
    for seed in seeds:
        states.setdefault(job.state(seed), []).append(seed)
    states.pop("finished", None)
    return "; ".join(
        f"{_named(which)} not run here" if state == "missing" else f"{_named(which)} run before a change of {state}"
        for state, which in states.items()
    )


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
        if not isinstance(content, dict) or not content.keys() >= FIELDS:
            raise UserError(f"{files.shown(file)}: is no result of a seed; delete it and run again")
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

        Of the checkpoint `keep`, files that an experiment keeps beside it under the same stem stay as well.
        """
        for file in self.folder.glob(f"{seed}.*"):
            kept = keep is not None and file.suffix == ".npz" and file.name.startswith(keep.stem)
            if not kept and file not in (self.folder / f"{seed}.json", self.folder / f"{seed}.npz"):
                file.unlink(missing_ok=True)


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


def _finite(numbers: dict[str, float]) -> dict[str, float]:
    """Return the numbers as plain floats."""
    plain = {name: float(value) for name, value in numbers.items()}
    for name, value in plain.items():
        if not math.isfinite(value):
            raise UserError(f"metric {name} is {value}, not a finite number")
    return plain


def _load(job: _Job, seeds: tuple[int, ...]) -> Runs:
    found = [job.read(seed) for seed in seeds]
    for seed, one in zip(seeds, found, strict=True):
        if any(one[field].keys() != found[0][field].keys() for field in ("metrics", "early")):
            raise UserError(f"{job.name}: seeds {seeds[0]} and {seed} have different metrics; run again with --fresh")

    def columns(field: str) -> dict[str, np.ndarray]:
        return {name: np.array([one[field][name] for one in found]) for name in found[0][field]}

    return Runs(
        job.citekey, job.key, job.profile, job.config, seeds,
        metrics=columns("metrics"),
        early=columns("early"),
        arrays=[job.arrays(seed) for seed in seeds],
        data=", ".join(dict.fromkeys(one["data"] for one in found)),
        cpu_seconds=np.array([one["cpu_seconds"] for one in found]),
    )  # fmt: skip


@contextlib.contextmanager
def _alone(job: _Job) -> Iterator[None]:
    """Hold the run folder: a second run there would remove the files of the first.

    The lock is one of the system, on a file beside the folder that says whose it is and stays. The system takes the lock from a
    process that ends, however it ends.
    """
    file = job.folder.with_name(f"{job.folder.name}.lock")
    try:
        job.folder.mkdir(parents=True, exist_ok=True)
        lock = file.open("a+b", buffering=0)
    except OSError as error:
        raise UserError(f"{files.shown(job.folder)}: cannot write there: {error.strerror}") from None
    with lock:
        try:
            if fcntl:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lock.truncate(0)
            lock.write(str(os.getpid()).encode())
        except BlockingIOError:
            whose = f"another run (process {file.read_text()})"
            raise UserError(f"{whose} is at work on {job.name}; wait until it ends, or stop it") from None
        except OSError:  # a file system without locks
            pass
        yield


def _tidy(job: _Job, finished: list[int]) -> None:
    """Remove what stayed beside finished seeds, where a run was killed between the last file of a seed and its sweep."""
    try:
        for seed in finished:
            job.sweep(seed)
    except OSError as error:
        raise UserError(f"{files.shown(job.folder)}: cannot write there: {error.strerror}") from None


def _compute(work: list[tuple[_Job, int]], jobs: int, cluster: str | None, fresh: bool, quiet: bool) -> None:
    """Run seeds and store each as soon as it is there. Seeds that fail do not stop the others; they are named at the end."""
    try:
        for job, seed in work:
            job.sweep(seed, keep=None if fresh else job.checkpoint(seed))
    except OSError as error:
        raise UserError(f"{files.shown(job.folder)}: cannot write there: {error.strerror}") from None
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
                by_key[key].sweep(seed, keep=by_key[key].checkpoint(seed))
            else:
                by_key[key].write(seed, result, cpu_seconds)
                watch.finished(said[key, seed], result.metrics)
                by_key[key].sweep(seed)
    if failed:
        reasons = [f"{'' if one else f'{key}, '}{_named(which)}: {reason}" for (key, reason), which in failed.items()]
        raise UserError(f"{name}, {'; '.join(reasons)}")


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

    tasks = [joblib.delayed(_seed)(*_call(job, seed)) for job, seed in work]
    with _backend(jobs, cluster):
        try:
            yield from joblib.Parallel(return_as="generator_unordered", batch_size=1)(tasks)
        except BrokenProcessPool:
            hint = "perhaps for lack of memory; the same command goes on where it stopped, with --jobs 1 if need be"
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
    citekey: str, key: str, profile: str, seed: int, checkpoint: Path, config_hash: str, sources: dict[str, str]
) -> tuple[str, int, Result | UserError, float]:
    """Run one seed in whatever process this is; return experiment, seed, result and CPU seconds.

    In place of a result there is a UserError where the seed fails with one, or where the code that this process has loaded is not
    the one that the seed will be said to come from. Progress and checkpoints need the runs folder, which the workers of a cluster
    may not share.
    """
    keep_compiled_apart()
    experiment = ledger.experiments(citekey)[key]
    loaded = _loaded_sources(citekey).get(key) or ledger.experiment_sources(citekey, experiment)
    if (ledger.config_hash(_config(experiment, profile)), loaded) != (config_hash, sources):
        hint = "run the command again; on a cluster, install the same version there"
        return key, seed, UserError(f"a process has other sources than those on disk here; {hint}"), 0.0
    shared = checkpoint.parent.is_dir()
    report = _reporter(checkpoint.with_name(f"{seed}.progress")) if shared else silent
    keep_freed_memory()
    start = time.process_time()
    try:
        with _one_thread():
            result = experiment.function(_config(experiment, profile), seed, report, checkpoint if shared else None)
        result = dataclasses.replace(result, metrics=_finite(result.metrics), early=_finite(result.early))
    except UserError as error:
        result = error
    except Exception as error:
        error.add_note(f"in {citekey}/{key} ({profile}), seed {seed}")
        raise
    return key, seed, result, time.process_time() - start


@functools.cache
def _loaded_sources(citekey: str) -> dict[str, dict[str, str]]:
    """Return the source hashes of all experiments of a chapter as they were when this process first used the chapter.

    A run of a whole chapter comes to its last experiment hours later, and its code is still the one that was loaded.
    """
    return {key: ledger.experiment_sources(citekey, one) for key, one in ledger.experiments(citekey).items()}


def _config(experiment: Experiment, profile: str) -> Any:
    return experiment.quick if profile == "quick" else experiment.paper


def _reporter(file: Path) -> Progress:
    """Write how far a seed is into a file that the parent process reads, five times a second at most."""
    last = -math.inf

    def report(done: int, total: int, **metrics: float) -> None:
        nonlocal last
        if time.monotonic() - last < 0.2:
            return
        last = time.monotonic()
        with contextlib.suppress(OSError):
            file.write_text(json.dumps([done, total, {name: float(value) for name, value in metrics.items()}]))

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
