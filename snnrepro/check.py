"""Compares what the finished seeds say now with what the chapters have on record."""

from collections import defaultdict
from typing import NamedTuple

from snnrepro import ledger, runner

ORDER = {
    "quick": ("not run", "not judged", "fail", "pass"),
    "paper": ("open", "not reproduced", "partly", "reproduced"),
}


class Comparison(NamedTuple):
    """Verdict of one claim in one profile, on record and from the finished seeds."""

    claim: str
    profile: str
    recorded: str
    now: str

    @property
    def worse(self) -> bool:
        """Whether the verdict fell."""
        order = ORDER[self.profile]
        return order.index(self.now) < order.index(self.recorded)


class LeftOut(NamedTuple):
    """A record that nothing here can be compared with.

    Attributes:
        target: `citekey/experiment`.
        why: what is missing or has changed, by seed.
    """

    target: str
    profile: str
    why: str


def compare(citekey: str) -> tuple[list[Comparison], list[LeftOut]]:
    """Comparisons of a chapter, one a claim and profile, over the seeds of the record; and the records that had to be left out.

    The verdict on record is the one its numbers gave when they were recorded, whatever changed since.
    """
    judged_by, chapter = defaultdict(list), ledger.load_claims(citekey)
    ledger.check_metrics(chapter, runner.experiments(citekey))
    for claim in chapter.claims:
        for profile in ORDER:
            if claim.band(profile):
                judged_by[claim.experiment, profile].append(claim)
    compared, left_out = [], []
    for (experiment, profile), claims in judged_by.items():
        old = ledger.load_record(citekey, experiment, profile)
        if old is None:
            continue
        if why := runner.unfinished(citekey, experiment, profile, list(old.seeds)):
            left_out.append(LeftOut(f"{citekey}/{experiment}", profile, why))
            continue
        new = runner.recordable(citekey, experiment, profile, list(old.seeds))
        for claim in claims:
            if claim.metric_name not in new.summary:
                left_out.append(
                    LeftOut(f"{citekey}/{claim.id}", profile, f"its experiment gives no {claim.metric_name}")
                )
                continue
            verdicts = [ledger.by_numbers(claim, record) for record in (old, new)]
            compared.append(Comparison(f"{citekey}/{claim.id}", profile, *verdicts))
    return compared, left_out
