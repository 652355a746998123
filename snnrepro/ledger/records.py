"""Records: what the seeds of an experiment gave, with provenance, kept in a chapter's `results`."""

import datetime
import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from snnrepro import paths
from snnrepro.errors import UserError
from snnrepro.experiment import Experiment
from snnrepro.files import SCHEMA, one_line, read_json, read_npz, remedy, shown, write_json, write_npz
from snnrepro.ledger import provenance


def t_interval(values: Sequence[float] | np.ndarray, level: float = 0.95) -> tuple[float, float, float]:
    """Mean and two-sided Student t interval of independent values.

    Returns:
        (mean, low, high); a single value is its own interval.

    Raises:
        ValueError: no values, or one that is not finite.
    """
    from scipy.special import stdtrit

    mean, sd = _moments(values)
    if sd is None:
        return mean, mean, mean
    n = len(values)
    half = float(stdtrit(n - 1, 0.5 + level / 2)) * sd / math.sqrt(n)
    return mean, mean - half, mean + half


def _moments(values: Sequence[float] | np.ndarray) -> tuple[float, float | None]:
    """Mean and sample standard deviation; None for one value. Equal values have exactly their mean and no spread."""
    numbers = [float(value) for value in values]
    if not numbers or not all(map(math.isfinite, numbers)):
        raise ValueError(f"needs one finite number or more, not {numbers}")
    mean = min(max(math.fsum(numbers) / len(numbers), min(numbers)), max(numbers))
    if len(numbers) == 1:
        return mean, None
    return mean, math.sqrt(math.fsum((x - mean) ** 2 for x in numbers) / (len(numbers) - 1))


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Finite = Annotated[float, Field(allow_inf_nan=False)]


class Seed(_Model):
    """What one seed gave."""

    metrics: dict[str, Finite]
    early: dict[str, Finite]
    cpu_seconds: Finite
    data: str


class Summary(_Model):
    """A metric over the seeds: mean, standard deviation (None for one seed) and 95 % t interval."""

    n: int
    mean: Finite
    sd: Finite | None
    low: Finite
    high: Finite


class Record(_Model):
    """A recorded run: `chapters/<citekey>/results/<experiment>.<profile>.json`.

    Attributes:
        seeds: by seed, ascending.
        summary: by metric.
        config: the configuration as plain data.
        sources: module name to source hash.
        data: provenance tag of the samples.
        date: day of the recording, ISO 8601.
        arrays: name of the npz beside it, keys `<seed>/<array>`; None where the experiment returns none.
        arrays_sha256: of what that npz holds; None in records from before there was this field.
    """

    citekey: str
    experiment: str
    profile: Literal["quick", "paper"]
    seeds: Annotated[dict[int, Seed], Field(min_length=1)]
    summary: dict[str, Summary]
    config: dict[str, Any]
    config_hash: str
    sources: dict[str, str]
    versions: dict[str, str]
    machine: dict[str, Any]
    data: str
    date: str
    arrays: str | None = None
    arrays_sha256: str | None = None

    def values(self, metric: str) -> list[float] | None:
        """A metric of all seeds, None where the record has no such metric."""
        if metric not in self.summary:
            return None
        return [seed.metrics[metric] for seed in self.seeds.values()]


def check_alike(name: str, results: Mapping[int, Mapping[str, Any]]) -> None:
    """Check that seeds may be averaged: `metrics` and `early` by the same names, of the same `data`.

    Args:
        name: of the experiment, for the message.
        results: by seed.

    Raises:
        UserError: they disagree.
    """
    first, *others = results
    for other in others:
        if any(results[other][field].keys() != results[first][field].keys() for field in ("metrics", "early")):
            raise UserError(f"{name}: seeds {first} and {other} have different metrics; run again with --fresh")
        if results[other]["data"] != results[first]["data"]:
            used = f"{results[first]['data']} and {results[other]['data']}"
            raise UserError(f"{name}: seeds {first} and {other} had different data, {used}; run again with --fresh")


def build_record(
    citekey: str,
    experiment_name: str,
    profile: str,
    experiment: Experiment,
    seed_results: Mapping[int, Mapping[str, Any]],
) -> Record:
    """A record from finished seeds, with the provenance of the code as it is now.

    Args:
        citekey: the chapter.
        experiment_name: its key in the chapter's EXPERIMENTS.
        profile: `quick` or `paper`.
        experiment: the experiment itself, for its configuration.
        seed_results: by seed: `metrics`, `early`, `cpu_seconds` and `data`; other keys are left out.

    Raises:
        UserError: no seeds, or seeds that disagree on their data or the names of their metrics.
    """
    name = f"{citekey}/{experiment_name} ({profile})"
    if not seed_results:
        raise UserError(f"nothing to record for {name}: no seed is finished")
    seeds = {
        seed: Seed(**{field: seed_results[seed][field] for field in Seed.model_fields}) for seed in sorted(seed_results)
    }
    check_alike(name, {seed: seed_results[seed] for seed in seeds})
    first = next(iter(seeds))
    config = experiment.quick if profile == "quick" else experiment.paper
    return Record(
        citekey=citekey,
        experiment=experiment_name,
        profile=profile,
        seeds=seeds,
        summary={
            metric: _summary([seed.metrics[metric] for seed in seeds.values()]) for metric in seeds[first].metrics
        },
        config=provenance.config_dict(config),
        config_hash=provenance.config_hash(config),
        sources=provenance.experiment_sources(citekey, experiment),
        versions=provenance.versions(),
        machine=provenance.machine(),
        data=seeds[first].data,
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
    )


def _summary(values: list[float]) -> Summary:
    mean, low, high = t_interval(values)
    return Summary(n=len(values), mean=mean, sd=_moments(values)[1], low=low, high=high)


def record_path(citekey: str, experiment: str, profile: str) -> Path:
    """Where a record is kept."""
    return paths.chapter(citekey) / "results" / f"{experiment}.{profile}.json"


def save_record(record: Record, arrays: Mapping[str, Any]) -> Path:
    """Stores a record and its arrays, floating ones as float32.

    The files stay as they are, byte for byte, when nothing but the date, CPU seconds or the machine would change.

    Args:
        record: from `build_record`.
        arrays: keys `<seed>/<array>`.

    Returns:
        The JSON file.

    Raises:
        UserError: a file cannot be written.
    """
    file = record_path(record.citekey, record.experiment, record.profile)
    npz = file.with_suffix(".npz")
    stored = {name: _float32(np.asarray(array)) for name, array in arrays.items()}
    about = (
        {"arrays": npz.name, "arrays_sha256": _sha256(stored)} if stored else {"arrays": None, "arrays_sha256": None}
    )
    record = record.model_copy(update=about)
    if _is_stored(record, stored, file):
        return file
    if stored:
        write_npz(npz, stored)
    write_json(file, {"schema": SCHEMA, **record.model_dump(mode="json")})
    if not stored and npz.exists():
        npz.unlink()
    return file


def load_record(citekey: str, experiment: str, profile: str) -> Record | None:
    """A recorded run, None where there is none.

    Raises:
        UserError: unknown chapter, or a file that is damaged, of a newer schema or of another experiment, or whose summary or
            configuration does not agree with the rest.
    """
    file = record_path(citekey, experiment, profile)
    if not file.exists():
        return None
    content = read_json(file)
    if not isinstance(content, dict) or content.pop("schema", None) != SCHEMA:
        raise UserError(f"{shown(file)}, field schema: is missing; {remedy(file)}")
    try:
        record = Record.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{shown(file)}, field {field}: {one_line(first['msg'])}; {remedy(file)}") from None
    if (record.citekey, record.experiment, record.profile) != (citekey, experiment, profile):
        raise UserError(
            f"{shown(file)}: is a record of {record.citekey}/{record.experiment} ({record.profile}); {remedy(file)}"
        )
    seeds = dict(sorted(record.seeds.items()))
    lacking = {name for name in record.summary for seed in seeds.values() if name not in seed.metrics}
    if lacking:
        raise UserError(f"{shown(file)}, field summary.{min(lacking)}: not every seed has it; {remedy(file)}")
    for name, stored in record.summary.items():
        if not _agree(stored, _summary([seed.metrics[name] for seed in seeds.values()])):
            raise UserError(f"{shown(file)}, field summary.{name}: does not follow from the seeds; {remedy(file)}")
    if provenance.plain_hash(record.config) != record.config_hash:
        raise UserError(f"{shown(file)}, field config: is not what config_hash stands for; {remedy(file)}")
    return record.model_copy(update={"seeds": seeds})


def _agree(one: Summary, other: Summary) -> bool:
    """Whether two summaries are the same up to rounding."""
    pairs = [(getattr(one, field), getattr(other, field)) for field in Summary.model_fields]
    return all(a == b or (None not in (a, b) and math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)) for a, b in pairs)


def load_arrays(record: Record) -> dict[int, dict[str, np.ndarray]]:
    """Arrays of a record by seed, empty where the experiment returns none.

    Raises:
        UserError: the npz is missing, damaged or not that of the record.
    """
    arrays: dict[int, dict[str, np.ndarray]] = {seed: {} for seed in record.seeds}
    if record.arrays is None:
        return arrays
    file = record_path(record.citekey, record.experiment, record.profile).with_suffix(".npz")
    found = read_npz(file)
    if record.arrays_sha256 not in (None, _sha256(found)):
        raise UserError(f"{shown(file)}: does not belong to the record beside it; {remedy(file)}")
    for key, array in found.items():
        seed, slash, name = key.partition("/")
        if not (slash and seed.isdigit() and int(seed) in arrays):
            raise UserError(f"{shown(file)}, array {key}: belongs to no seed of the record; {remedy(file)}")
        arrays[int(seed)][name] = array
    return arrays


def _float32(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32) if array.dtype.kind == "f" else array


def _sha256(arrays: Mapping[str, np.ndarray]) -> str:
    """Checksum of names, types, shapes and numbers, whatever the compression of the file."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _is_stored(record: Record, arrays: dict[str, np.ndarray], file: Path) -> bool:
    """Whether the files hold this record already, apart from what changes with every run. A damaged file does not."""
    try:
        present = load_record(record.citekey, record.experiment, record.profile)
        if present is None or _lasting(present) != _lasting(record):
            return False
        there = read_npz(file.with_suffix(".npz")) if record.arrays else {}
    except UserError:
        return False
    if present.arrays_sha256 not in (None, record.arrays_sha256):
        return False
    return there.keys() == arrays.keys() and all(_same(there[name], arrays[name]) for name in arrays)


def _lasting(record: Record) -> dict[str, Any]:
    content = record.model_dump(exclude={"date", "machine", "arrays_sha256"})
    for seed in content["seeds"].values():
        del seed["cpu_seconds"]
    return content


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
