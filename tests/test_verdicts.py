"""The two verdicts on a claim: every state, and why."""

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given
from hypothesis import strategies as st

from snnrepro.errors import UserError
from snnrepro.ledger import (
    board_rows,
    build_record,
    by_numbers,
    card_html,
    changes,
    experiments,
    load_claims,
    paper_verdict,
    quick_verdict,
    rows,
    save_record,
    strip_html,
    t_interval,
    table_html,
)
from snnrepro.ledger.claims import Claim
from snnrepro.ledger.tables import extremes, interval, measured, number, text

numbers = st.floats(-1e6, 1e6)


def claim(**fields):
    base = {
        "id": "size", "figure": "fig-1", "says": "It is so.", "where": "Figure 1", "evidence": "paper",
        "metric": "walk.size", "accept": {"quick": ">= 0.5", "paper": "0.4 .. 0.6"}, "why": "pilot runs",
    }  # fmt: skip
    return Claim(**{key: value for key, value in {**base, **fields}.items() if value is not None})


@pytest.fixture
def walk(demo):
    """The demo's experiment, and a function that records values of its metric."""
    experiment = experiments("demo2020")["walk"]

    def record(values, profile="paper", metric="size"):
        results = {
            seed: {"metrics": {metric: value}, "early": {}, "cpu_seconds": 1.0, "data": "generated"}
            for seed, value in enumerate(values)
        }
        return build_record("demo2020", "walk", profile, experiment, results)

    return experiment, record


# The interval


@given(st.lists(numbers, min_size=2, max_size=20), st.sampled_from([0.5, 0.95, 0.99]))
def test_the_t_interval_is_scipys(values, level):
    assume(max(values) - min(values) > 1e-6)
    mean, low, high = t_interval(values, level)
    scale = scipy.stats.sem(values)
    expected = scipy.stats.t.interval(level, len(values) - 1, loc=np.mean(values), scale=scale)
    assert mean == pytest.approx(np.mean(values), rel=1e-9, abs=1e-6)
    assert (low, high) == pytest.approx(expected, rel=1e-9, abs=1e-6)


def test_the_t_interval_of_known_numbers():
    # n = 5, sd = 1.581139, t(0.975, 4) = 2.776445: half a width of 1.963243
    assert t_interval([1, 2, 3, 4, 5]) == pytest.approx((3, 1.036757, 4.963243), abs=1e-6)


@given(numbers, st.integers(1, 10))
def test_equal_values_are_their_own_interval(value, n):
    assert t_interval([value] * n) == (value, value, value)


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_there_is_no_interval_without_finite_numbers(values):
    with pytest.raises(ValueError, match="finite"):
        t_interval(values)


# Quick


@pytest.mark.parametrize(
    ("values", "state"),
    [
        ([0.5], "pass"),
        ([0.4, 0.6], "pass"),  # the mean decides
        ([0.4, 0.59], "fail"),
        (np.array([0.6, 0.7]), "pass"),
        ([0.9, math.nan], "fail"),
        ([], "not run"),
        (None, "not run"),
    ],
)
def test_quick(values, state):
    assert quick_verdict(claim(), values) == state


def test_quick_without_a_band():
    assert quick_verdict(claim(accept={"paper": ">= 0"}), [1.0]) == "not judged"
    assert quick_verdict(claim(accept={"paper": ">= 0"}), []) == "not run"


# Paper scale: the states of the design


@pytest.mark.parametrize(
    ("values", "state"),
    [
        ([0.49, 0.50, 0.50, 0.50, 0.51], "reproduced"),
        ([0.5] * 5, "reproduced"),
        ([0.5] * 4, "partly"),  # too few seeds
        ([0.5], "partly"),
        ([0.2, 0.3, 0.5, 0.7, 0.8], "partly"),  # the interval reaches out of the band, the mean does not
        ([0.57, 0.58, 0.59, 0.60, 0.61], "partly"),  # at the upper end only
        ([0.39, 0.40, 0.41, 0.42, 0.43], "partly"),  # at the lower end only
        ([0.69, 0.70, 0.71, 0.70, 0.70], "not reproduced"),
        ([0.3], "not reproduced"),
        ([0.1, 0.9, 0.9, 0.9, 0.9], "not reproduced"),  # the interval covers the band, the mean is outside
    ],
)
def test_paper_scale(walk, values, state):
    experiment, record = walk
    verdict = paper_verdict(claim(), record(values), experiment)
    assert (verdict.state, verdict.measured, verdict.n, verdict.changed) == (state, state, len(values), ())
    assert (verdict.mean, verdict.low, verdict.high) == t_interval(values)


@pytest.mark.parametrize(("value", "state"), [(0.5, "reproduced"), (0.7, "not reproduced")])
def test_an_identity_needs_one_seed(walk, value, state):
    experiment, record = walk
    assert paper_verdict(claim(evidence="identity"), record([value]), experiment).state == state


def test_a_metric_that_a_present_record_lacks_is_an_error(walk):
    experiment, record = walk
    with pytest.raises(UserError, match=r"claim size, field metric: walk gives no 'size'; it gives other$"):
        paper_verdict(claim(), record([0.5] * 5, metric="other"), experiment)
    old = record([0.5] * 5, metric="other").model_copy(update={"config_hash": "0" * 16})
    assert paper_verdict(claim(), old, experiment).state == "open"  # measured before the metric was there


def test_a_metric_that_a_live_run_lacks_is_an_error_where_it_is_judged(demo):
    chapter, known = load_claims("demo2020"), experiments("demo2020")
    with pytest.raises(UserError, match=r"claim size-bounded, field metric: walk gives no 'size'; it gives other$"):
        rows(chapter, known, {"walk.other": [0.5]})
    unjudged = chapter.model_copy(update={"claims": (claim(accept={"paper": ">= 0"}),)})
    assert [row.quick for row in rows(unjudged, known, {"walk.other": [0.5]})] == ["not run"]


@pytest.mark.parametrize(
    ("values", "state"), [([0.5], "reproduced"), ([0.5, 0.5], "reproduced"), ([0.7], "not reproduced")]
)
def test_a_number_that_no_seed_enters_needs_one_run(walk, values, state):
    experiment, record = walk
    assert paper_verdict(claim(deterministic=True), record(values), experiment).state == state


def test_an_identity_holds_for_every_seed(walk):
    experiment, record = walk
    same = claim(evidence="identity", accept={"quick": "<= 1e-12", "paper": "<= 1e-12"})
    assert paper_verdict(same, record([0.0] * 20), experiment).state == "reproduced"
    assert paper_verdict(same, record([0.0] * 19 + [3e-12]), experiment).state == "not reproduced"
    assert quick_verdict(same, [0, 0, 0, 3e-12]) == "fail"
    between = claim(evidence="identity", accept={"paper": "0 .. 1e-10"})
    assert paper_verdict(between, record([0, 0, 1e-14, 0, 0]), experiment).state == "reproduced"


def test_open(walk):
    experiment, record = walk
    for verdict in (
        paper_verdict(claim(), None, experiment),
        paper_verdict(claim(accept={"quick": ">= 0"}), record([0.5] * 5), experiment),
        paper_verdict(claim(metric=None, accept=None, why=None, open="no data"), None, None),
    ):
        assert (verdict.state, verdict.mean, verdict.n) == ("open", None, 0)


def test_stale_names_what_changed_and_keeps_the_numbers(walk):
    experiment, record = walk
    good = record([0.5] * 5)
    slower = replace(experiment, paper=replace(experiment.paper, steps=7))
    other = {**good.sources, "snnrepro.papers.demo2020": "0" * 16, "snnrepro.gone": "1" * 16}
    edited = good.model_copy(update={"sources": other})
    for verdict, changed in (
        (paper_verdict(claim(), good, slower), ("configuration",)),
        (paper_verdict(claim(), good, None), ("experiment",)),
        (paper_verdict(claim(), edited, experiment), ("snnrepro.gone", "snnrepro.papers.demo2020")),
        (paper_verdict(claim(), edited, slower), ("configuration", "snnrepro.gone", "snnrepro.papers.demo2020")),
    ):
        assert (verdict.state, verdict.measured, verdict.changed) == ("stale", "reproduced", changed)
        assert (verdict.mean, verdict.n) == (0.5, 5)
    assert changes(good, experiment) == ()
    assert changes(record([0.5], "quick"), slower) == ()  # only the paper configuration is another


def test_by_numbers_judges_the_profile_of_the_record(walk):
    _, record = walk
    assert by_numbers(claim(), record([0.7], "quick")) == "pass"
    assert by_numbers(claim(), record([0.7], "paper")) == "not reproduced"
    assert by_numbers(claim(), record([0.7], "paper", metric="other")) == "open"


# Rows, and why


def write_claims(demo, claims):
    file = demo / "chapters" / "demo2020" / "claims.yml"
    file.write_text(file.read_text().partition("claims:")[0] + "claims:\n" + claims)


CLAIM = """\
  - {{id: {id}, figure: fig-1, says: It is so., where: Figure 1, evidence: paper, metric: walk.size,
     accept: {{quick: ">= 0.5", paper: "0.4 .. 0.6"}}, why: pilot runs{more}}}
"""


def one_row(demo, experiment, quick=None, more=""):
    write_claims(demo, CLAIM.format(id="size", more=more))
    [row] = rows(load_claims("demo2020"), {"walk": experiment} if experiment else {}, quick)
    return row


def test_reasons(demo, walk):
    experiment, record = walk
    row = one_row(demo, experiment)
    assert (row.quick, row.paper.state, row.record) == ("not run", "open", None)
    assert "`snnrepro run demo2020/walk --profile paper`, then `snnrepro record demo2020/walk`" in row.reason
    assert one_row(demo, experiment, more=", open: takes a week").reason == "takes a week"
    for values, reason in (
        ([0.5] * 5, ""),
        ([0.5] * 3, "Only 3 of at least 5 seeds are recorded."),
        ([0.2, 0.3, 0.5, 0.7, 0.8], "The 95 per cent interval of the mean reaches beyond the band."),
        ([0.9] * 5, "The mean is outside the band."),
    ):
        save_record(record(values), {})
        row = one_row(demo, experiment)
        assert row.reason == reason
        assert row.record.values("size") == values
    row = one_row(demo, None)
    assert row.reason.startswith(
        "Changed since the record: experiment. The numbers said not reproduced. To record it: "
    )


def test_quick_values_live_or_from_the_last_recorded_run(demo, walk):
    experiment, record = walk
    save_record(record([0.7, 0.9], "quick"), {})
    row = one_row(demo, experiment)
    assert (row.quick, row.quick_values, row.quick_mean) == ("pass", (0.7, 0.9), pytest.approx(0.8))
    live = one_row(demo, experiment, {"walk.size": np.array([0.1])})
    assert (live.quick, live.quick_values) == ("fail", (0.1,))
    assert one_row(demo, experiment, {}).quick == "not run"


# Numbers for readers


@pytest.mark.parametrize(
    ("x", "spread", "shown"),
    [
        (0, 0, "0"),
        (0.86, 0, "0.86"),
        (0.9996, 0, "0.9996"),
        (1.0, 0, "1"),
        (-12.3456, 0, "-12.35"),
        (12345, 0, "12,345"),
        (1.23456e-8, 0, "1.235e-8"),
        (2.5e6, 0, "2,500,000"),
        (2.5e9, 0, "2.5e9"),
        (123456.7, 0, "1.235e5"),
        (0.95432, 0.012, "0.954"),
        (0.95432, 0.3, "0.95"),
        (123.4, 56, "123"),
        (1e-5, 0.01, "0.000"),
        (0.99999, 0.0001, "0.99999"),
    ],
)
def test_number(x, spread, shown):
    assert number(x, spread) == shown


@given(st.floats(-1e12, 1e12), st.floats(0, 1e6))
def test_no_number_is_shown_further_off_than_its_last_digits(x, spread):
    error = abs(float(number(x, spread).replace(",", "")) - x)
    assert error <= (max(0.05 * spread, 1e-8) if spread > 0 else 0) + 6e-4 * abs(x)


def test_interval():
    assert interval(0.95432, 0.9489, 0.9598) == "0.954 [0.949, 0.960]"
    assert interval(0.5, 0.5, 0.5) == "0.5"
    assert interval(1.0, 1 - 1e-12, 1 + 1e-12) == "1"


def test_extremes():
    assert extremes([3e-14, 1e-15, 2e-15]) == "1e-15 to 3e-14"
    assert extremes([0.0, 0.0]) == "0"


@pytest.mark.parametrize(
    ("found", "band", "shown"),
    [
        ("-0.5 [-0.75, 1e-5]", "-0.8 .. -0.2", "−0.5 [−0.75, 1e-5] accepted: −0.8 to −0.2"),
        ("-5e-4", ">= -0.05", "−5e-4 accepted: ≥ −0.05"),
        ("4,521,984", "== 4521984 +- 0", "4,521,984 accepted: exactly 4,521,984"),
        ("1", "== 1 +- 0.00001", "1 accepted: 1 ± 0.00001"),
    ],
)
def test_signs_and_counts_in_a_cell(found, band, shown):
    words = parse(measured(found, None, "", band))[1].replace(" no seed enters", "")
    assert words == shown


def test_text_is_escaped_and_code_is_marked():
    assert text("<b> & `a<b`") == "&lt;b&gt; &amp; <code>a&lt;b</code>"


# Tables: parsed, not compared letter by letter


def parse(html):
    from html.parser import HTMLParser

    class Tags(HTMLParser):
        """Keeps tags and text; fails where tags are not nested."""

        def __init__(self):
            super().__init__()
            self.open, self.tags, self.words = [], [], []

        def handle_starttag(self, tag, attributes):
            self.open.append(tag)
            self.tags.append((tag, dict(attributes)))

        def handle_endtag(self, tag):
            assert self.open.pop() == tag

        def handle_data(self, data):
            self.words.append(data)

    parser = Tags()
    parser.feed(html)
    assert parser.open == []
    return parser.tags, " ".join(" ".join(parser.words).split())


def test_strip_and_table(demo, walk):
    experiment, record = walk
    save_record(record([0.49, 0.50, 0.50, 0.50, 0.51]), {})
    more = ", value: {mean: 0.55, n: 2}, unit: mV, note: A note with `code`."
    write_claims(demo, CLAIM.format(id="size", more=more) + CLAIM.format(id="other", more="").replace("fig-1", "tab-2"))
    found = rows(load_claims("demo2020"), {"walk": experiment}, {"walk.size": [0.45]})
    tags, words = parse(strip_html(found, "fig-1"))
    assert [a["scope"] for t, a in tags if t == "th"] == ["col"] * 4 + ["row"]
    assert [a["id"] for t, a in tags if t == "tbody"] == ["claim-size"]
    assert [a["data-label"] for t, a in tags if "data-label" in a] == ["Here, quick", "Here, paper scale", "Verdict"]
    assert all("role" in a for t, a in tags if t in ("table", "tbody", "thead", "tr", "th", "td"))
    assert "Claims: Figure 1" in words
    assert "It is so. 0.55 mV (n = 2) Figure 1 paper" in words
    assert "0.45 mV n = 1 accepted: ≥ 0.5" in words
    assert "0.500 [0.491, 0.509] mV n = 5 accepted: 0.4 to 0.6 data: generated" in words
    assert "✗ quick: fail ✓ paper scale: reproduced A note with code ." in words
    assert "pilot runs" not in words
    tags, words = parse(table_html(found, "All <claims>"))
    assert [t for t, _ in tags].count("caption") == 1
    assert "All <claims>" in words
    assert "size" in words
    assert "other" in words
    assert "Band: pilot runs" in words
    assert not [a for t, a in tags if "id" in a]  # the strips have the anchors
    with pytest.raises(UserError, match=r"no claim belongs to 'fig-9'; claims.yml has: fig-1, tab-2"):
        strip_html(found, "fig-9")


def test_an_identity_shows_its_extremes_and_a_name_of_our_own_is_no_figure_of_the_paper(demo, walk):
    experiment, record = walk
    save_record(record([0.4, 0.5, 0.5, 0.5, 0.6]), {})
    same = CLAIM.format(id="same", more="").replace("evidence: paper", "evidence: identity")
    write_claims(demo, same.replace("fig-1", "fig-drawn"))
    found = rows(load_claims("demo2020"), {"walk": experiment}, {"walk.size": [0.52, 0.5]})
    words = parse(strip_html(found, "fig-drawn"))[1]
    assert words.startswith("Claims Claim and where it comes from")
    assert "0.5 to 0.52 n = 2" in words
    assert "0.4 to 0.6 n = 5" in words


BIB = r"""
@article{demo2020,
  title = {Why {SNNs} < ANNs \& more}, author = {G{\"o}ltz, Julian and van der Berg, Anna B. and Zenke, Friedemann},
  journal = {Journal of Demos}, volume = {3}, number = {4}, pages = {5--7}, year = {2020},
  doi = {10.1/ab<c}, eprint = {2001.00001}
}
"""


def test_card(demo):
    (demo / "book").mkdir(exist_ok=True)
    bib = demo / "book" / "references.bib"
    bib.write_text(BIB, encoding="utf-8")
    tags, words = parse(card_html(load_claims("demo2020")))
    assert words.startswith(
        "J. Göltz, A. B. van der Berg and F. Zenke (2020). Why SNNs < ANNs & more . Journal of Demos 3(4), 5–7."
    )
    assert [a["href"] for t, a in tags if t == "a"] == ["https://doi.org/10.1/ab<c", "https://arxiv.org/abs/2001.00001"]
    assert "Data generated (quick); generated (paper scale)" in words
    assert [t for t, _ in tags].count("dt") == 6  # no official code
    bib.write_text("@misc{other, title = {x}}\n")
    with pytest.raises(UserError, match=r"references\.bib: has no entry demo2020"):
        card_html(load_claims("demo2020"))
    bib.write_text("@article{demo2020, title = {x}")
    with pytest.raises(UserError, match=r"references\.bib: ") as error:
        card_html(load_claims("demo2020"))
    assert str(error.value).isprintable()
    bib.unlink()
    with pytest.raises(UserError, match=r"references\.bib: cannot read it"):
        card_html(load_claims("demo2020"))


def test_text_in_tables_is_escaped(demo, walk):
    write_claims(demo, CLAIM.format(id="size", more=", note: <script>alert(1)</script>").replace("It is so.", "<i>x"))
    [row] = rows(load_claims("demo2020"), {"walk": walk[0]})
    for html in (strip_html([row], "fig-1"), table_html([row], "<u>")):
        assert not {"script", "i", "u"} & {tag for tag, _ in parse(html)[0]}
    assert board_rows()[0]["says"] == "<i>x"
