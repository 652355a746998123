"""The board: all claims as rows, as published data, and as a page."""

import json
import re
import shutil

import pytest

from snnrepro.errors import UserError
from snnrepro.ledger import board_html, board_rows, build_record, experiments, ledger_json, save_record

SECOND = """
paper: other2021
title: <Another> "chapter"
architecture: a
objective: b
learning_rule: c
data: {quick: generated, paper: generated}
claims:
  - id: nobody
    figure: text-1
    says: 1 < 2 & so on
    where: Section II
    evidence: secondary
    value: {mean: 0.5, sd: 0.01}
    open: The `data` is not public.
"""


@pytest.fixture
def two(demo):
    """A second chapter beside the demo, without a module in snnrepro.papers and without records."""
    folder = demo / "chapters" / "other2021"
    folder.mkdir()
    (folder / "claims.yml").write_text(SECOND)
    return demo


def record(value, profile, seeds=5):
    results = {
        seed: {"metrics": {"size": value}, "early": {}, "cpu_seconds": 1.0, "data": "generated"}
        for seed in range(seeds)
    }
    save_record(build_record("demo2020", "walk", profile, experiments("demo2020")["walk"], results), {})


def test_a_chapter_without_module_and_records_is_open(two):
    assert experiments("other2021") == {}
    assert [(row["citekey"], row["quick_verdict"], row["paper_verdict"]) for row in board_rows()] == [
        ("demo2020", "not run", "open"),
        ("other2021", "not run", "open"),
    ]


def test_rows_come_from_both_records(two):
    record(0.5, "quick", 2)
    record(1.5, "paper")
    row = board_rows()[0]
    assert (row["quick_verdict"], row["quick_mean"], row["quick_n"]) == ("pass", 0.5, 2)
    assert (row["paper_verdict"], row["paper_mean"], row["paper_n"]) == ("not reproduced", 1.5, 5)
    assert (row["data"], row["changed"]) == ("generated", [])
    assert row["accept"] == {"quick": "0 .. 1", "paper": "0 .. 1"}


def test_an_error_inside_a_papers_module_is_not_taken_for_a_missing_one(two, tmp_path, monkeypatch):
    from snnrepro import papers

    (tmp_path / "other2021.py").write_text("import no_such_package\n")
    monkeypatch.setattr(papers, "__path__", [*papers.__path__, str(tmp_path)])
    with pytest.raises(
        UserError, match=r"other2021\.py, line 1: ModuleNotFoundError: No module named 'no_such_package'"
    ):
        board_rows()


def test_the_published_data_is_plain_and_counts(two):
    record(0.5, "quick", 2)
    published = ledger_json()
    assert json.loads(json.dumps(published, allow_nan=False)) == published
    assert published["counts"] == {"paper": {"open": 2}, "quick": {"pass": 1, "not run": 1}}
    assert published["claims"] == board_rows()
    assert published == ledger_json()


def test_the_page(two):
    record(0.5, "quick", 2)
    record(1.5, "paper")
    html = board_html(board_rows())
    assert re.findall(r"<strong>(\d+)</strong> ([a-z ]+)<", html) == [
        ("0", "reproduced"),
        ("0", "partly"),
        ("1", "not reproduced"),
        ("0", "stale"),
        ("1", "open"),
    ]
    assert "1 of 1 pass in the quick run." in html
    first, second = re.findall(r'<tr role="row" class="snn-row".*?</tr>', html)
    assert 'data-chapter="demo2020" data-evidence="identity" data-verdict="not reproduced" data-quick="pass"' in first
    assert 'href="../chapters/demo2020/demo2020.html#claim-size-bounded"' in first
    assert '<span class="snn-number">1.5</span> <span class="snn-n">n\u00a0=\u00a05</span>' in first
    assert "The mean is outside the band." in first
    assert 'data-verdict="open" data-quick="not run"' in second
    assert "1 &lt; 2 &amp; so on" in second
    assert "0.5 ± 0.01" in second
    assert "The <code>data</code> is not public." in second
    assert 'title="&lt;Another&gt; &quot;chapter&quot;"' in second
    assert '<option value="not reproduced">' in html
    assert '<option value="partly">' not in html
    assert html.count('scope="col"') == 6
    assert html.count('scope="row"') == 2


def test_links_can_be_set(demo):
    assert 'href="x/demo2020/size-bounded"' in board_html(board_rows(), link="x/{citekey}/{id}")


def test_no_chapters(demo):
    shutil.rmtree(demo / "chapters" / "demo2020")
    assert board_rows() == []
    assert "No chapter has claims yet." in board_html([])


def test_a_broken_chapter_is_named(two):
    (two / "chapters" / "other2021" / "claims.yml").write_text("paper: x")
    with pytest.raises(UserError, match=r"chapters/other2021/claims\.yml, field title: is missing"):
        board_rows()
