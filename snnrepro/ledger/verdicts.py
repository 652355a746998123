"""What came out: the two verdicts on a claim, quick (live or from the notebook's run) and paper scale (from the record)."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from snnrepro.errors import UserError
from snnrepro.experiment import Experiment
from snnrepro.ledger import provenance
from snnrepro.ledger.claims import ChapterClaims, Claim
from snnrepro.ledger.records import Record, load_record, t_interval

QuickState = Literal["pass", "fail", "not judged", "not run"]
State = Literal["reproduced", "partly", "not reproduced", "stale", "open"]
STATES: tuple[State, ...] = ("reproduced", "partly", "not reproduced", "stale", "open")

ENOUGH_SEEDS = 5
"""Seeds from which an interval can make a claim reproduced; an identity needs one."""


@dataclass(frozen=True)
class Verdict:
    """Paper-scale verdict on a claim.

    Attributes:
        mean, low, high: over the recorded seeds with the 95 % t interval; None where nothing is recorded.
        n: number of recorded seeds.
        changed: what is no longer as it was recorded: `configuration`, or names of modules.
        measured: the state by the numbers alone; differs from `state` where that is `stale`.
    """

    state: State
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    changed: tuple[str, ...] = ()
    measured: State = "open"


@dataclass(frozen=True)
class Row:
    """A claim with everything that is known about it here.

    Attributes:
        quick: the quick verdict.
        quick_values: the metric at quick profile, one a seed.
        paper: the paper-scale verdict.
        record: the record behind the paper-scale verdict, or None.
        reason: why the claim is open, stale or not fully reproduced; empty where there is nothing to say.
    """

    citekey: str
    claim: Claim
    quick: QuickState
    quick_values: tuple[float, ...]
    paper: Verdict
    record: Record | None
    reason: str

    @property
    def quick_mean(self) -> float | None:
        """Mean over the quick seeds; None where there is none."""
        finite = self.quick_values and all(map(math.isfinite, self.quick_values))
        return t_interval(self.quick_values)[0] if finite else None


def quick_verdict(claim: Claim, values: Sequence[float] | None) -> QuickState:
    """Whether the mean over the quick seeds, of an identity each of them, meets the quick band; `not judged` without a band."""
    band = claim.band("quick")
    if values is None or len(values) == 0:
        return "not run"
    if band is None:
        return "not judged"
    if not all(math.isfinite(value) for value in values):
        return "fail"
    judged = values if claim.evidence == "identity" else t_interval(values)[:1]
    return "pass" if all(map(band.contains, judged)) else "fail"


def paper_verdict(claim: Claim, record: Record | None, experiment: Experiment | None) -> Verdict:
    """Verdict of a record on a claim.

    Args:
        claim: the claim.
        record: of the claim's experiment, paper profile; None where nothing is recorded.
        experiment: as it is now, to see whether the record is stale; None where it no longer exists.

    Raises:
        UserError: a record of the present code has no such metric.
    """
    measured = by_numbers(claim, record) if record else "open"
    changed = changes(record, experiment) if record else ()
    if measured == "open":
        if record and claim.band("paper") and not changed:
            _lacks(record.citekey, claim, record.summary)
        return Verdict("open")
    summary = record.summary[claim.metric_name]
    state: State = "stale" if changed else measured
    return Verdict(state, summary.mean, summary.low, summary.high, summary.n, changed, measured)


def by_numbers(claim: Claim, record: Record) -> QuickState | State:
    """Verdict of a record's numbers alone, whatever has changed since: a quick state or a paper-scale one, by its profile.

    An identity holds where it holds for every seed. So does a number that no seed enters: copies of it are no sample.
    """
    if record.profile == "quick":
        return quick_verdict(claim, record.values(claim.metric_name))
    band, summary = claim.band("paper"), record.summary.get(claim.metric_name)
    if band is None or summary is None:
        return "open"
    if claim.evidence == "identity" or claim.deterministic:
        return "reproduced" if all(map(band.contains, record.values(claim.metric_name))) else "not reproduced"
    if summary.n >= ENOUGH_SEEDS and band.contains_interval(summary.low, summary.high):
        return "reproduced"
    return "partly" if band.contains(summary.mean) else "not reproduced"


def _lacks(citekey: str, claim: Claim, metrics: Iterable[str]) -> None:
    """Say that an experiment gives no metric of that name."""
    raise UserError(
        f"chapters/{citekey}/claims.yml, claim {claim.id}, field metric: {claim.experiment} gives no {claim.metric_name!r};"
        f" it gives {', '.join(sorted(metrics))}"
    )


def changes(record: Record, experiment: Experiment | None) -> tuple[str, ...]:
    """What has changed since a record was made: `experiment`, `configuration`, names of modules; empty where nothing has."""
    if experiment is None:
        return ("experiment",)
    config = experiment.quick if record.profile == "quick" else experiment.paper
    found = [] if provenance.config_hash(config) == record.config_hash else ["configuration"]
    sources = provenance.experiment_sources(record.citekey, experiment)
    return (*found, *provenance.changed_sources(record.sources, sources))


def rows(
    chapter: ChapterClaims,
    experiments: Mapping[str, Experiment],
    quick: Mapping[str, Sequence[float]] | None = None,
) -> list[Row]:
    """All claims of a chapter with their verdicts.

    Args:
        chapter: from `load_claims`.
        experiments: the chapter's experiments as they are now; empty where there are none yet.
        quick: live values by `experiment.metric`; None takes those of the notebook's last recorded run.

    Raises:
        UserError: an experiment that was run live, or whose record is of the present code, has no such metric.
    """
    for claim in chapter.claims if quick else ():
        given = [key.partition(".")[2] for key in quick if key.partition(".")[0] == claim.experiment]
        if given and claim.band("quick") and claim.metric not in quick:
            _lacks(chapter.paper, claim, given)
    names = {claim.experiment for claim in chapter.claims if claim.experiment}
    paper = _records(chapter.paper, names, "paper")
    if quick is None:
        quick = values_by_metric(_records(chapter.paper, names, "quick").values())
    return judge(chapter, experiments, quick, paper)


def judge(
    chapter: ChapterClaims,
    experiments: Mapping[str, Experiment],
    quick: Mapping[str, Sequence[float]],
    paper: Mapping[str, Record],
) -> list[Row]:
    """All claims of a chapter with the verdicts of given quick values (by `experiment.metric`) and records (by experiment)."""
    return [_row(chapter.paper, claim, experiments, quick, paper) for claim in chapter.claims]


def values_by_metric(records: Iterable[Record]) -> dict[str, list[float]]:
    """Metrics of records by `experiment.metric`, one value a seed."""
    return {f"{record.experiment}.{metric}": record.values(metric) for record in records for metric in record.summary}


def _records(citekey: str, names: Iterable[str], profile: str) -> dict[str, Record]:
    found = {name: load_record(citekey, name, profile) for name in sorted(names)}
    return {name: record for name, record in found.items() if record}


def _row(
    citekey: str,
    claim: Claim,
    experiments: Mapping[str, Experiment],
    quick: Mapping[str, Sequence[float]],
    paper: Mapping[str, Record],
) -> Row:
    values = quick.get(claim.metric, ()) if claim.metric else ()
    record = paper.get(claim.experiment) if claim.experiment else None
    verdict = paper_verdict(claim, record, experiments.get(claim.experiment) if claim.experiment else None)
    return Row(
        citekey, claim, quick_verdict(claim, values), tuple(float(value) for value in values), verdict,
        record if verdict.state != "open" else None, _why(citekey, claim, verdict),
    )  # fmt: skip


def _why(citekey: str, claim: Claim, verdict: Verdict) -> str:
    if verdict.state == "open":
        if claim.open:
            return claim.open
        if claim.band("paper") is None:
            return "Has no band at paper scale."
        return f"Not recorded yet. {_command(citekey, claim)}"
    if verdict.state == "stale":
        changed = ", ".join(verdict.changed)
        return f"Changed since the record: {changed}. The numbers said {verdict.measured}. {_command(citekey, claim)}"
    if verdict.state == "reproduced":
        return ""
    few = verdict.state == "partly" and claim.evidence != "identity" and verdict.n < ENOUGH_SEEDS
    if few:
        return f"Only {verdict.n} of at least {ENOUGH_SEEDS} seeds {'is' if verdict.n == 1 else 'are'} recorded."
    return (
        "The 95 per cent interval of the mean reaches beyond the band."
        if verdict.state == "partly"
        else "The mean is outside the band."
    )


def _command(citekey: str, claim: Claim) -> str:
    target = f"{citekey}/{claim.experiment}"
    return f"To record it: `snnrepro run {target} --profile paper`, then `snnrepro record {target}`."
