"""HTML for the pages: the strip of claims under a figure, the table of a chapter's claims, the card of a paper.

Each function gives one fragment, styled by classes; all text is escaped. Roles are spelt out so that a style sheet may stack the
cells of a row on a phone without taking the table's meaning from a screen reader.
"""

import math
import re
from collections.abc import Sequence
from functools import lru_cache
from html import escape
from pathlib import Path

from snnrepro import paths
from snnrepro.errors import UserError
from snnrepro.files import one_line, shown
from snnrepro.ledger.claims import ChapterClaims
from snnrepro.ledger.verdicts import Row

MARKS = {
    "reproduced": "✓", "pass": "✓", "partly": "◐", "not reproduced": "✗", "fail": "✗", "stale": "△", "open": "○",
    "not run": "○", "not judged": "·",
}  # fmt: skip
"""A sign beside each verdict, so that colour is not the only one."""

NOTHING = "–"
CELL = 'style="text-align:left;vertical-align:top"'


def strip_html(rows: Sequence[Row], figure: str) -> str:
    """The claims of one figure (`fig-4`): what the paper or we say, and where, what came out here, the verdicts.

    Raises:
        UserError: no claim belongs to the figure.
    """
    chosen = [row for row in rows if row.claim.figure == figure]
    if not chosen:
        known = ", ".join(dict.fromkeys(row.claim.figure for row in rows))
        raise UserError(f"no claim belongs to {figure!r}; claims.yml has: {known or 'none'}")
    return _claims_table(chosen, "snn-strip", _strip_caption(figure), full=False)


def table_html(rows: Sequence[Row], caption: str) -> str:
    """All claims of a chapter, with their ids and why each band is what it is."""
    return _claims_table(rows, "snn-table", caption, full=True)


def card_html(claims: ChapterClaims) -> str:
    """Citation, links, data tiers, and the paper, or the papers it rests on, in Richards et al.'s three words.

    Raises:
        UserError: a paper is not in book/references.bib, or that file cannot be read.
    """
    entries = [_entry(citekey) for citekey in claims.rests_on or (claims.paper,)]
    doi, arxiv = ([e.fields[name] for e in entries if name in e.fields] for name in ("doi", "eprint"))
    facts = [
        ("DOI", ", ".join(_link(f"https://doi.org/{one}", one) for one in doi)),
        ("arXiv", ", ".join(_link(f"https://arxiv.org/abs/{one}", one) for one in arxiv)),
        ("Official code", _link(claims.code, claims.code.split("://")[1]) if claims.code else ""),
        ("Data", f"{text(claims.data.quick)} (quick); {text(claims.data.paper)} (paper scale)"),
        ("Architecture", text(claims.architecture)),
        ("Objective", text(claims.objective)),
        ("Learning rule", text(claims.learning_rule)),
    ]
    citations = "".join(f'<p class="snn-citation">{_citation(entry)}</p>' for entry in entries)
    items = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts if value)
    return f'<section class="snn-card" aria-label="The paper">{citations}<dl class="snn-facts">{items}</dl></section>'


def number(x: float, spread: float = 0.0) -> str:
    """A number for readers: two digits of its spread, or four significant ones where there is no spread; counts in full."""
    if x == 0:
        return "0"
    if spread <= 0 and x == round(x) and abs(x) < 1e9:
        return f"{x:,.0f}"
    if not 1e-3 <= max(abs(x), spread) < 1e5:
        mantissa, exponent = f"{x:.{_digits(x, spread)}e}".split("e")
        return f"{_trim(mantissa)}e{int(exponent)}"
    if spread > 0:
        decimals = min(max(1 - math.floor(math.log10(spread)), 0), 8)
        return f"{round(x, decimals) + 0.0:.{decimals}f}"  # + 0.0: no negative zero
    return _trim(f"{x:.{max(3 - math.floor(math.log10(abs(x))), 0)}f}")


def _digits(x: float, spread: float) -> int:
    """Digits after the point of the mantissa."""
    if spread <= 0:
        return 3
    return min(max(math.floor(math.log10(abs(x))) - math.floor(math.log10(spread)) + 1, 1), 5)


def _trim(digits: str) -> str:
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


def interval(mean: float, low: float, high: float) -> str:
    """A mean with its interval, `0.954 [0.949, 0.959]`; the mean alone where the interval is a point."""
    spread = high - low
    middle, *ends = (number(x, max(spread, 0.0)) for x in (mean, low, high))
    if ends == [middle, middle]:
        return number(mean)
    return f"{middle} [{ends[0]}, {ends[1]}]"


def extremes(values: Sequence[float]) -> str:
    """The lowest and the highest of some numbers, `1e-15 to 3e-14`: each of them decides about an identity, and not their mean."""
    low, high = number(min(values)), number(max(values))
    return low if low == high else f"{low} to {high}"


def outcome(evidence: str, values: Sequence[float], mean: float, low: float, high: float) -> str:
    """What came out over seeds: of an identity the extremes, of anything else the mean and its interval."""
    return extremes(values) if evidence == "identity" else interval(mean, low, high)


def text(words: str) -> str:
    """Escaped text, with `code` between backticks."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(words, quote=False))


def badge(state: str, scale: str) -> str:
    """A verdict as a sign and a word; `scale` says which of the two verdicts it is."""
    return (
        f'<span class="snn-verdict snn-verdict-{state.replace(" ", "-")}"><span aria-hidden="true">{MARKS[state]}</span> '
        f'<span class="snn-scale">{scale}:</span> {state}</span>'
    )


def published(mean: float, n: int | None = None, sd: float | None = None, unit: str = "") -> str:
    """A published number, `0.863 ± 0.005 (n = 5)`."""
    deviation = f" ± {number(sd)}" if sd is not None else ""
    runs = f" (n\u00a0=\u00a0{n})" if n is not None else ""
    return f'<span class="snn-value">{_signed(number(mean))}{deviation}{_unit(unit)}{runs}</span>'


def source(where: str, evidence: str) -> str:
    """Where the paper says it, and how strong that evidence is."""
    grade = f'<span class="snn-evidence snn-evidence-{evidence}">{evidence}</span>'
    return f'<span class="snn-where">{text(where)}</span> {grade}'


def measured(found: str, n: int | None, unit: str, band: object) -> str:
    """What came out here (`outcome`), its seeds (None: no seed enters it) and the band that accepts it."""
    words = f'<span class="snn-unbroken">{_signed(band_words(str(band)))}</span>'
    accepted = f' <span class="snn-band">accepted: {words}</span>' if band else ""
    seeds = "no seed enters" if n is None else f"n\u00a0=\u00a0{n}"
    return f'<span class="snn-number">{_unbroken(_signed(found))}{_unit(unit)}</span> <span class="snn-n">{seeds}</span>{accepted}'


def band_words(band: str) -> str:
    """A band as a reader writes it: `≥ 0.9`, `0.85 to 0.88`, `exactly 0`, `1 ± 0.1`."""
    band = re.sub(r"(?<![\d.])\d{4,}(?![\d.])", lambda whole: f"{int(whole[0]):,}", band)
    if band.startswith("==") and band.endswith("+- 0"):
        return f"exactly {band[2:-4].strip()}"
    for sign, word in ((">=", "≥"), ("<=", "≤"), ("..", "to"), ("== ", ""), ("+-", "±")):
        band = band.replace(sign, word)
    return re.sub(r"(e-?)\+?0+(?=\d)", r"\1", band)  # 1e-6, as `number` writes it


def _unbroken(words: str) -> str:
    """An interval, and a number with an exponent, stay on one line."""
    return re.sub(r"\[[^]]*\]|\S*\de-\S+", r'<span class="snn-unbroken">\g<0></span>', words)


def _signed(words: str) -> str:
    """With minus signs before negative numbers, where Python writes hyphens."""
    return re.sub(r"(?<![\w.])-(?=\d)", "−", words)


def _unit(unit: str) -> str:
    return f" {text(unit)}" if unit else ""


def _quick(row: Row) -> str:
    """Content of the quick cell. The mean decides at this profile, so it stands alone."""
    if row.quick_mean is None:
        return NOTHING
    claim, mean = row.claim, row.quick_mean
    n = None if claim.deterministic else len(row.quick_values)
    found = outcome(claim.evidence, row.quick_values, mean, mean, mean)
    return measured(found, n, claim.unit, claim.band("quick"))


def _recorded(row: Row) -> str:
    """Content of the paper-scale cell."""
    paper, claim = row.paper, row.claim
    if row.record is None:
        return NOTHING
    n = None if claim.deterministic else paper.n
    values = row.record.values(claim.metric_name)
    found = outcome(claim.evidence, values, paper.mean, paper.low, paper.high)
    numbers = measured(found, n, claim.unit, claim.band("paper"))
    return f'{numbers} <span class="snn-data">data: {text(row.record.data)}</span>'


def badges(quick: str, paper: str) -> str:
    """Both verdicts of a claim."""
    return f"{badge(quick, 'quick')} {badge(paper, 'paper scale')}"


def cell(css: str, label: str, content: str) -> str:
    """A cell that carries its column's name for narrow screens."""
    return f'<td role="cell" class="{css}" data-label="{label}" {CELL}>{content}</td>'


def head(names: Sequence[str]) -> str:
    """Header row of a table."""
    cells = "".join(f'<th role="columnheader" scope="col" {CELL}>{name}</th>' for name in names)
    return f'<thead role="rowgroup"><tr role="row">{cells}</tr></thead>'


def _claims_table(rows: Sequence[Row], css: str, caption: str, full: bool) -> str:
    names = ("Claim and where it comes from", "Here, quick (live)", "Here, paper scale (recorded)", "Verdict")
    groups = "".join(_group(row, full) for row in rows)
    return f'<table role="table" class="{css}"><caption class="snn-caption">{text(caption)}</caption>{head(names)}{groups}</table>'


def _group(row: Row, full: bool) -> str:
    """One claim: its row, and below it what there is to say."""
    claim = row.claim
    value = f" {published(claim.value.mean, claim.value.n, claim.value.sd, claim.unit)}" if claim.value else ""
    name = f' <code class="snn-id">{claim.id}</code>' if full else ""
    says = f'<span class="snn-says">{text(claim.says)}</span>{value} {source(claim.where, claim.evidence)}{name}'
    anchor = "" if full else f' id="claim-{claim.id}"'
    cells = (
        cell("snn-quick", "Here, quick", _quick(row)),
        cell("snn-recorded", "Here, paper scale", _recorded(row)),
        cell("snn-verdicts", "Verdict", badges(row.quick, row.paper.state)),
    )
    return (
        f'<tbody role="rowgroup" class="snn-claim-group"{anchor}><tr role="row" class="snn-row">'
        f"{row_head(says)}{''.join(cells)}</tr>{_note_row(row, full)}</tbody>"
    )


def row_head(content: str) -> str:
    """Header cell of a claim's row."""
    return f'<th role="rowheader" scope="row" class="snn-claim" {CELL}>{content}</th>'


def _note_row(row: Row, full: bool) -> str:
    """What there is to say about a claim, in a row of its own."""
    claim = row.claim
    parts = [text(row.reason), text(claim.note or "")]
    if full and claim.why:
        parts.append(f'<span class="snn-why">Band: {text(claim.why)}</span>')
    words = " ".join(part for part in parts if part)
    if not words:
        return ""
    return f'<tr role="row" class="snn-note-row"><td role="cell" colspan="4" class="snn-note" {CELL}>{words}</td></tr>'


def _strip_caption(figure: str) -> str:
    """`Claims: Figure 4` for `fig-4`, whose name is that of the paper; `Claims` for names of our own, as `fig-times`."""
    kind, _, rest = figure.partition("-")
    name = {"fig": "Figure", "tab": "Table"}.get(kind)
    return f"Claims: {name} {rest}" if name and re.fullmatch(r"\d+[a-z]?", rest) else "Claims"


def _link(url: str, words: str) -> str:
    return f'<a href="{escape(url)}">{escape(words)}</a>'


def _entry(citekey: str):
    file = paths.root() / "book" / "references.bib"
    try:
        entries = _bibliography(file, file.stat().st_mtime_ns)
    except OSError as error:
        raise UserError(f"{shown(file)}: cannot read it: {error.strerror}") from None
    if citekey not in entries:
        raise UserError(f"{shown(file)}: has no entry {citekey}; add the paper's bibliography entry")
    return entries[citekey]


@lru_cache(maxsize=4)
def _bibliography(file: Path, changed: int):
    """Entries of a BibTeX file; `changed` (its time stamp) is there for the cache."""
    from pybtex.database import parse_file
    from pybtex.exceptions import PybtexError

    try:
        return parse_file(str(file), bib_format="bibtex").entries
    except PybtexError as error:
        raise UserError(f"{shown(file)}: {one_line(error)}") from None


def _citation(entry) -> str:
    """Authors (year). Title. Journal volume(number), pages."""
    field = {name: escape(_plain(value), quote=False) for name, value in entry.fields.items()}
    authors = [escape(_person(person), quote=False) for person in entry.persons.get("author", [])]
    several = f"{', '.join(authors[:-1])} and {authors[-1]}" if len(authors) > 1 else "".join(authors)
    where = field.get("journal") or field.get("booktitle") or field.get("publisher") or ""
    volume = field.get("volume", "") + (f"({field['number']})" if "number" in field else "")
    pages = field.get("pages", "").replace("--", "–")
    venue = ", ".join(part for part in (f"{where} {volume}".strip(), pages) if part)
    title = f"<cite>{field.get('title', '')}</cite>."
    return " ".join(
        part for part in (several, f"({field.get('year', 'n.d.')}).", title, f"{venue}." if venue else "") if part
    )


def _person(person) -> str:
    """Initials, then the name: E. O. Neftci."""
    initials = [f"{_plain(name)[:1]}." for name in person.first_names + person.middle_names]
    return " ".join([*initials, *map(_plain, person.prelast_names + person.last_names + person.lineage_names)])


def _plain(latex: str) -> str:
    """Text of a BibTeX field without braces and with its accents."""
    from pybtex.richtext import Text

    return str(Text.from_latex(latex))
