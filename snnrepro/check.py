"""Compares what the finished seeds say now with what the chapters have on record."""

from typing import NamedTuple

from snnrepro import ledger, runner

ORDER = {"quick": ("not run", "fail", "pass"), "paper": ("open", "not reproduced", "partly", "reproduced")}


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


def compare(citekey: str) -> list[Comparison]:
    """Comparisons of a chapter, for each claim and profile that is on record and whose seeds are all finished here.

    The verdict on record is the one its numbers gave when they were recorded, whatever changed since.
    """
    found = []
    for claim in ledger.load_claims(citekey).claims:
        for profile in ORDER:
            old = ledger.load_record(citekey, claim.experiment, profile) if claim.band(profile) else None
            new = runner.recordable(citekey, claim.experiment, profile) if old else None
            if new and len(new.seeds) >= len(old.seeds):
                verdicts = [ledger.by_numbers(claim, record) for record in (old, new)]
                found.append(Comparison(f"{citekey}/{claim.id}", profile, *verdicts))
    return found
