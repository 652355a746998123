"""Chapters as committed: source and notebook agree, everything was run, and the story holds no machinery."""

import ast
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest

from snnrepro import execute, ledger, paths, skeleton
from snnrepro.figures import compare_data
from snnrepro.files import read_npz, write_npz
from snnrepro.notebook import Chapter

CITEKEYS = paths.citekeys()


def notebook(citekey):
    return json.loads((paths.chapter(citekey) / f"{citekey}.ipynb").read_text())


def code_cells(citekey):
    return [cell for cell in notebook(citekey)["cells"] if cell["cell_type"] == "code"]


def the_cell(citekey, call):
    """The one code cell of a chapter that holds a call."""
    found = [cell for cell in code_cells(citekey) if call in "".join(cell["source"])]
    assert len(found) == 1, f"{citekey}: {len(found)} code cells call {call}; write one"
    return found[0]


def verdicts(citekey):
    """Lines of the cell that prints the verdicts."""
    cell = the_cell(citekey, "chapter.verdicts()")
    return "".join("".join(output["text"]) for output in cell["outputs"]).splitlines()


@pytest.mark.parametrize("citekey", CITEKEYS)
def test_source_and_notebook_agree_and_every_cell_was_run(citekey):
    assert execute.check(citekey) == []


@pytest.mark.parametrize("citekey", CITEKEYS)
def test_no_machinery_in_the_story(citekey):
    for cell in code_cells(citekey):
        tree = ast.parse("".join(cell["source"]))
        assert not [n for n in ast.walk(tree) if isinstance(n, ast.ClassDef | ast.While)]
        assert all(n.end_lineno - n.lineno < 6 for n in ast.walk(tree) if isinstance(n, ast.FunctionDef))
        assert "backward" not in "".join(cell["source"])


@pytest.mark.parametrize("citekey", CITEKEYS)
def test_code_names_the_equations(citekey):
    named = any("# Eq" in "".join(cell["source"]) for cell in code_cells(citekey))
    assert named, f"{citekey}: no code cell names an equation of the paper; write a comment like # Eq. (3)"


@pytest.mark.parametrize("calls", [0, 2])
def test_a_chapter_without_its_one_cell_of_verdicts_is_told_so(monkeypatch, calls):
    cell = {"cell_type": "code", "source": ["chapter.verdicts()"]}
    monkeypatch.setitem(globals(), "notebook", lambda citekey: {"cells": [cell] * calls})
    with pytest.raises(AssertionError, match=rf"new2021: {calls} code cells call chapter\.verdicts\(\); write one"):
        verdicts("new2021")


PLACEHOLDERS = (
    "Title of the page", "Richards et al.'s first word", "objective: the second", "learning_rule: the third",
    "One sentence of the paper.", "Say where the band comes from.", "The first equation, with a label:", "What is drawn.", "What one sees.",
)  # fmt: skip


def placeholders(text):
    return [words for words in PLACEHOLDERS if words in text]


@pytest.mark.parametrize("citekey", CITEKEYS)
def test_nothing_of_the_skeleton_is_left(citekey):
    for name in ("claims.yml", f"{citekey}.md"):
        left = placeholders((paths.chapter(citekey) / name).read_text())
        assert left == [], f"chapters/{citekey}/{name}: write your own in place of what snnrepro new has put there"


def test_placeholders_are_those_of_the_skeleton():
    assert placeholders(skeleton.CLAIMS + skeleton.CHAPTER) == list(PLACEHOLDERS)


@pytest.mark.parametrize("citekey", CITEKEYS)
def test_what_is_open_has_a_command_and_what_is_not_reproduced_a_reason(citekey):
    for row in ledger.rows(ledger.load_claims(citekey), ledger.experiments(citekey)):
        if row.paper.state == "open" and row.claim.band("paper") is not None:
            words = (row.claim.open or "").partition("`snnrepro run ")
            assert words[1] and len(words[0]) > 20, f"{row.claim.id}: say in `open` why it is not recorded, and how to"
        if row.paper.state == "not reproduced":
            assert row.claim.note, f"{row.claim.id}: say in `note` what is thought to be the reason"


@pytest.mark.parametrize("citekey", CITEKEYS)
def test_claim_cell_is_compared_and_cells_that_may_move_are_not(citekey):
    for cell in code_cells(citekey):
        source, tags = "".join(cell["source"]), cell["metadata"].get("tags", [])
        calls = ("figure(", "interactive(", "strip(", "table(", "card(", "run(", "run_all(")
        moves = any(f"chapter.{call}" in source for call in calls)
        assert moves == ("nbval-ignore-output" in tags), source
    lines = verdicts(citekey)
    live = [claim.id for claim in ledger.load_claims(citekey).claims if claim.band("quick")]
    assert [line.split(": ")[0] for line in lines] == live
    assert {line.split(": ")[1] for line in lines} <= {"pass", "fail"}
    identities = {claim.id for claim in ledger.load_claims(citekey).claims if claim.evidence == "identity"}
    assert not [line for line in lines if line.endswith("fail") and line.split(": ")[0] in identities]


@pytest.mark.parametrize("citekey", CITEKEYS)
def test_quick_records_are_those_of_this_code_and_of_the_notebook(citekey):
    claims = ledger.load_claims(citekey)
    rows = ledger.rows(claims, ledger.experiments(citekey))
    live = {c.metric.split(".")[0] for c in claims.claims if c.metric and c.band("quick") is not None}
    for name, experiment in ledger.experiments(citekey).items():
        if name not in live:  # only run at paper scale: no claim expects it in the notebook
            continue
        record = ledger.load_record(citekey, name, "quick")
        assert record is not None, f"run snnrepro execute {citekey}"
        assert ledger.changes(record, experiment) == (), f"run snnrepro execute {citekey}"
    lines = verdicts(citekey)
    assert lines == [f"{row.claim.id}: {row.quick}" for row in rows if row.quick in ("pass", "fail")]


def broken_versions(array):
    """Arrays that a broken figure might draw instead: nothing, and for curves their mean."""
    yield np.zeros_like(array)
    if array.size > 50 and array.dtype.kind == "f":
        yield np.full_like(array, array.mean())


@pytest.mark.parametrize("citekey", CITEKEYS)
def test_figure_tolerances_notice_an_empty_figure(citekey, tmp_path):
    for path in sorted((paths.chapter(citekey) / "results" / "figures").glob("*.npz")):
        arrays = read_npz(path)
        for key in [key for key in arrays if not key.startswith("tolerance/") and np.any(arrays[key])]:
            for broken in broken_versions(arrays[key]):
                write_npz(tmp_path / "live.npz", arrays | {key: broken})
                assert compare_data(tmp_path / "live.npz", path), f"{path.name}: {key} could be anything"


@pytest.mark.parametrize("citekey", CITEKEYS)
def test_captions_name_the_data(citekey):
    """Where samples are not generated, a figure says which they are."""
    outputs = [output for cell in code_cells(citekey) for output in cell["outputs"]]
    captions = " ".join(output["metadata"]["snnrepro"]["caption"] for output in outputs if output.get("metadata"))
    records = [
        ledger.load_record(citekey, name, which) for name in ledger.experiments(citekey) for which in ("quick", "paper")
    ]
    assert {record.data for record in records if record} - set(captions.replace(",", "").replace(".", "").split()) <= {
        "generated"
    }


def test_a_caption_names_the_data_of_this_run_and_of_the_record():
    chapter = Chapter("yin2020")
    assert chapter.samples("digits") == "Data: paper scale digits-8x8."
    chapter._live["digits"] = SimpleNamespace(data="mnist-5k")
    assert chapter.samples("digits", "smnist") == "Data: quick mnist-5k, paper scale digits-8x8 and mnist-60k."


@pytest.mark.parametrize("citekey", CITEKEYS)
def test_every_claim_has_its_strip(citekey):
    source = (paths.chapter(citekey) / f"{citekey}.md").read_text()
    for figure in {claim.figure for claim in ledger.load_claims(citekey).claims}:
        assert f'chapter.strip("{figure}")' in source


def words(html):
    """Text of an HTML fragment, with single spaces."""
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


@pytest.mark.parametrize("citekey", CITEKEYS)
def test_page_shows_the_recorded_numbers(citekey):
    """After a new record the chapter has to be run again; a stale verdict alone is no reason."""
    cell = the_cell(citekey, "chapter.table()")
    shown = words("".join("".join(output["data"]["text/html"]) for output in cell["outputs"] if "data" in output))
    rows = ledger.rows(ledger.load_claims(citekey), ledger.experiments(citekey))
    fresh = [row for row in rows if row.paper.state != "stale"]
    differ = [
        row.claim.id for row in fresh if words(ledger.table_html([row], "").partition("</thead>")[2]) not in shown
    ]
    assert differ == [], f"run snnrepro execute {citekey}"


@pytest.mark.parametrize("citekey", CITEKEYS)
def test_every_record_has_its_arrays(citekey):
    for name in ledger.experiments(citekey):
        for profile in ("quick", "paper"):
            record = ledger.load_record(citekey, name, profile)
            if record is not None and record.arrays is not None:
                assert record.arrays_sha256
                assert all(ledger.load_arrays(record).values())


@pytest.mark.after_chapters
@pytest.mark.parametrize("citekey", CITEKEYS)
def test_figures_drew_the_committed_data(citekey):
    committed = paths.chapter(citekey) / "results" / "figures"
    live = paths.runs(citekey) / "figures"
    names = sorted(path.name for path in committed.glob("*.npz"))
    assert names
    assert sorted(path.name for path in live.glob("*.npz")) == names
    assert {name: compare_data(live / name, committed / name) for name in names} == {name: [] for name in names}


@pytest.mark.parametrize("citekey", CITEKEYS)
def test_claims_can_be_read_alone(citekey):
    """The board can be filtered, so that no claim may lean on the one before."""
    says = [claim.says for claim in ledger.load_claims(citekey).claims]
    assert [
        s
        for s in says
        if re.match(r"(So|Nor|And|Also|There|It|They|Their|Its|This|That|These|Those|The same (with|at|holds))\b", s)
    ] == []
