"""Chapters as committed: source and notebook agree, everything was run, and the story holds no machinery."""

import ast
import json

import pytest

from snnrepro import execute, ledger, paths
from snnrepro.figures import compare_data

CITEKEYS = paths.citekeys()


def notebook(citekey):
    return json.loads((paths.chapter(citekey) / f"{citekey}.ipynb").read_text())


def code_cells(citekey):
    return [cell for cell in notebook(citekey)["cells"] if cell["cell_type"] == "code"]


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
def test_claim_cell_is_compared_and_cells_that_may_move_are_not(citekey):
    for cell in code_cells(citekey):
        source, tags = "".join(cell["source"]), cell["metadata"].get("tags", [])
        moves = any(call in source for call in (".figure(", ".interactive(", ".strip(", ".table(", ".card(", ".run("))
        assert moves == ("nbval-ignore-output" in tags), source
    (verdicts,) = [cell for cell in code_cells(citekey) if "chapter.verdicts()" in "".join(cell["source"])]
    lines = "".join("".join(output["text"]) for output in verdicts["outputs"]).splitlines()
    live = [claim.id for claim in ledger.load_claims(citekey).claims if claim.band("quick")]
    assert [line.split(": ")[0] for line in lines] == live
    assert {line.split(": ")[1] for line in lines} <= {"pass", "fail"}


@pytest.mark.parametrize("citekey", CITEKEYS)
def test_every_claim_has_its_strip(citekey):
    source = (paths.chapter(citekey) / f"{citekey}.md").read_text()
    for figure in {claim.figure for claim in ledger.load_claims(citekey).claims}:
        assert f'chapter.strip("{figure}")' in source


@pytest.mark.after_chapters
@pytest.mark.parametrize("citekey", CITEKEYS)
def test_figures_drew_the_committed_data(citekey):
    committed = paths.chapter(citekey) / "results" / "figures"
    live = paths.runs(citekey) / "figures"
    names = sorted(path.name for path in committed.glob("*.npz"))
    assert names
    assert sorted(path.name for path in live.glob("*.npz")) == names
    assert {name: compare_data(live / name, committed / name) for name in names} == {name: [] for name in names}
