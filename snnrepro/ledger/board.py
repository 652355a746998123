"""The claims board: every claim of every chapter with both verdicts, as rows, as a page and as published data."""

import importlib
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import snnrepro
from snnrepro import papers, paths
from snnrepro.errors import UserError
from snnrepro.experiment import Experiment
from snnrepro.files import one_line, shown
from snnrepro.ledger import tables
from snnrepro.ledger.claims import EVIDENCE, ChapterClaims, load_claims
from snnrepro.ledger.verdicts import STATES, Row, rows

SCHEMA = 1


def experiments(citekey: str) -> Mapping[str, Experiment]:
    """Experiments of a chapter, looked up by name; empty where `snnrepro.papers` has no module for it yet.

    Raises:
        UserError: the module has a mistake, or no EXPERIMENTS.
    """
    name = f"snnrepro.papers.{citekey}"
    try:
        module = importlib.import_module(name)
    except UserError:
        raise
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == name:
            return {}
        words = error.msg if isinstance(error, SyntaxError) else str(error)
        what = one_line(": ".join(filter(None, (type(error).__name__, words))))
        raise UserError(f"{_place(citekey, error)}: {what}; mend it") from error
    if not hasattr(module, "EXPERIMENTS"):
        raise UserError(f"snnrepro/papers/{citekey}.py: defines no EXPERIMENTS; add the table of its experiments")
    return module.EXPERIMENTS


def _place(citekey: str, error: Exception) -> str:
    """File and line in this package at which the import of a chapter's module stopped."""
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return f"{shown(Path(error.filename))}, line {error.lineno}"
    folders = (*snnrepro.__path__, *papers.__path__)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = Path(frame.filename)
        if file != Path(__file__) and any(file.is_relative_to(folder) for folder in folders):
            return f"{shown(file)}, line {frame.lineno}"
    return f"snnrepro/papers/{citekey}.py"


def board() -> list[tuple[ChapterClaims, list[Row]]]:
    """All chapters with their claims and verdicts; the quick ones from the notebooks' recorded runs.

    Raises:
        UserError: a claims.yml or a record breaks a rule.
    """
    chapters = [load_claims(citekey) for citekey in paths.citekeys()]
    return [(chapter, rows(chapter, experiments(chapter.paper))) for chapter in chapters]


def board_rows() -> list[dict[str, Any]]:
    """The claims of all chapters as plain data, in the order of the chapters' files.

    Fields: `citekey`, `title`, those of the claim (`accept` as text), `reason`, `quick_verdict`, `quick_mean`, `quick_n`,
    `paper_verdict`, `paper_mean`, `paper_low`, `paper_high`, `paper_n`, `changed`, `data` and `date` of the record, and
    `quick_values` and `paper_values`, one a seed. What is not known is None.
    """
    return [_plain(chapter, row) for chapter, claims in board() for row in claims]


def _plain(chapter: ChapterClaims, row: Row) -> dict[str, Any]:
    paper, record = row.paper, row.record
    return {
        "citekey": row.citekey,
        "title": chapter.title,
        **row.claim.model_dump(mode="json"),
        "reason": row.reason,
        "quick_verdict": row.quick,
        "quick_mean": row.quick_mean,
        "quick_n": len(row.quick_values),
        "paper_verdict": paper.state,
        "paper_mean": paper.mean,
        "paper_low": paper.low,
        "paper_high": paper.high,
        "paper_n": paper.n,
        "changed": list(paper.changed),
        "data": record.data if record else None,
        "date": record.date if record else None,
        "quick_values": list(row.quick_values),
        "paper_values": record.values(row.claim.metric_name) if record else None,
    }


def ledger_json() -> dict[str, Any]:
    """The board as data, published at the root of the site: `schema`, `counts` of paper-scale and quick verdicts, `claims`."""
    claims = board_rows()
    return {
        "schema": SCHEMA,
        "counts": {"paper": _counts(claims, "paper_verdict"), "quick": _counts(claims, "quick_verdict")},
        "claims": claims,
    }


def _counts(claims: Sequence[Mapping[str, Any]], field: str) -> dict[str, int]:
    return dict(Counter(claim[field] for claim in claims))


def board_html(
    claims: Sequence[Mapping[str, Any]], link: str = "../chapters/{citekey}/{citekey}.html#claim-{id}"
) -> str:
    """The board as a page: counts, filters (hidden until a script takes them over) and one row a claim.

    Args:
        claims: from `board_rows`.
        link: address of a claim in its chapter, relative to the board's page.
    """
    if not claims:
        return '<div class="snn-board"><p>No chapter has claims yet.</p></div>'
    names = ("Claim", "Chapter", "Source", "Here, quick", "Here, paper scale", "Verdict")
    body = "".join(_board_row(claim, link) for claim in claims)
    return (
        f'<div class="snn-board">{_counts_html(claims)}{_filters(claims)}'
        f'<table role="table" class="snn-board-table"><caption class="snn-caption">All claims</caption>{tables.head(names)}'
        f'<tbody role="rowgroup">{body}</tbody></table></div>'
    )


def _counts_html(claims: Sequence[Mapping[str, Any]]) -> str:
    """How many claims are in each paper-scale state, and how many pass in the quick run."""
    counts, quick = _counts(claims, "paper_verdict"), _counts(claims, "quick_verdict")
    passed, ran = quick.get("pass", 0), quick.get("pass", 0) + quick.get("fail", 0)
    items = "".join(
        f'<li class="snn-verdict-{state.replace(" ", "-")}" data-verdict="{state}"><strong>{counts.get(state, 0)}</strong> {state}</li>'
        for state in STATES
    )
    return f'<ul class="snn-counts">{items}</ul><p class="snn-quick-count">{passed} of {ran} pass in the quick run.</p>'


def _filters(claims: Sequence[Mapping[str, Any]]) -> str:
    used = {field: {claim[field] for claim in claims} for field in ("citekey", "evidence", "paper_verdict")}
    selects = (
        _select("Chapter", "chapter", sorted(used["citekey"])),
        _select("Evidence", "evidence", [grade for grade in EVIDENCE if grade in used["evidence"]]),
        _select("Verdict", "verdict", [state for state in STATES if state in used["paper_verdict"]]),
    )
    return f'<form class="snn-filters" hidden>{"".join(selects)}<output class="snn-shown" aria-live="polite"></output></form>'


def _select(label: str, field: str, values: Sequence[str]) -> str:
    options = "".join(f'<option value="{escape(value)}">{escape(value)}</option>' for value in values)
    return f'<label>{label} <select data-filter="{field}"><option value="">all</option>{options}</select></label>'


def _board_row(claim: Mapping[str, Any], link: str) -> str:
    accept, value = claim["accept"] or {}, claim["value"]
    address = link.format(citekey=claim["citekey"], id=claim["id"])
    note = " ".join(tables.text(words) for words in (claim["reason"], claim["note"]) if words)
    says = f'<a href="{escape(address)}">{tables.text(claim["says"])}</a>'
    says += f' <span class="snn-note">{note}</span>' if note else ""
    paper = f"{tables.published(**value, unit=claim['unit'])} " if value else ""
    mean, quick, recorded = claim["quick_mean"], tables.NOTHING, tables.NOTHING
    quick_n, paper_n = (None if claim["deterministic"] else claim[f"{profile}_n"] for profile in ("quick", "paper"))
    if mean is not None:
        found = tables.outcome(claim["evidence"], claim["quick_values"], mean, mean, mean)
        quick = tables.measured(found, quick_n, claim["unit"], accept.get("quick"))
    if claim["paper_mean"] is not None:
        numbers = (claim[f"paper_{field}"] for field in ("values", "mean", "low", "high"))
        recorded = tables.measured(
            tables.outcome(claim["evidence"], *numbers), paper_n, claim["unit"], accept.get("paper")
        )
    cells = (
        tables.cell(
            "snn-chapter", "Chapter", f'<span title="{escape(claim["title"])}">{escape(claim["citekey"])}</span>'
        ),
        tables.cell("snn-value-cell", "Source", paper + tables.source(claim["where"], claim["evidence"])),
        tables.cell("snn-quick", "Here, quick", quick),
        tables.cell("snn-recorded", "Here, paper scale", recorded),
        tables.cell("snn-verdicts", "Verdict", tables.badges(claim["quick_verdict"], claim["paper_verdict"])),
    )
    return (
        f'<tr role="row" class="snn-row" id="claim-{escape(claim["citekey"])}-{claim["id"]}"'
        f' data-chapter="{escape(claim["citekey"])}" data-evidence="{claim["evidence"]}"'
        f' data-verdict="{claim["paper_verdict"]}" data-quick="{claim["quick_verdict"]}">'
        f"{tables.row_head(says)}{''.join(cells)}</tr>"
    )
