"""What the tests of all chapters ask of the bands of their claims."""

from snnrepro import ledger
from snnrepro.ledger.claims import Claim


def judged(citekey: str) -> list[Claim]:
    """The claims of a chapter that have a band and are no identities: only these could be met without the effect."""
    return [claim for claim in ledger.load_claims(citekey).claims if claim.metric and claim.evidence != "identity"]


def leave_out(claim: Claim, value: float) -> None:
    """Fail where a band of the claim contains what a control, an untrained network or a missing effect gives."""
    bands = [band for band in (claim.band("quick"), claim.band("paper")) if band is not None]
    assert bands
    assert all(not band.contains(value) for band in bands)
