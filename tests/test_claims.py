"""The claims parser: what it takes, and one clear line for everything else."""

import copy
import math
import re
from fractions import Fraction

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from snnrepro import check, runner
from snnrepro.errors import UserError
from snnrepro.ledger import Band, check_metrics, load_claims, parse_band, parse_claims

CHAPTER = {
    "paper": "demo2020",
    "title": "A title",
    "code": "https://example.org/code",
    "architecture": "feedforward",
    "objective": "cross-entropy",
    "learning_rule": "surrogate gradient",
    "data": {"quick": "mnist-5k", "paper": "mnist-60k"},
    "claims": [
        {
            "id": "first-claim",
            "figure": "fig-4",
            "says": "It learns.",
            "where": "Figure 4",
            "evidence": "paper",
            "value": {"mean": 0.86, "n": 2, "sd": 0.01},
            "metric": "train.accuracy",
            "accept": {"quick": ">= 0.8", "paper": "0.84 .. 0.88"},
            "why": "three standard deviations",
        },
        {
            "id": "second-claim",
            "figure": "tab-1",
            "says": "It scales.",
            "where": "Section IV",
            "evidence": "secondary",
            "open": "needs a data set that is not here",
        },
    ],
}


def message(content, name="claims.yml"):
    """The one line that a broken file gives; `content` is the file's data or its text."""
    text = content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False)
    with pytest.raises(UserError) as error:
        parse_claims(text, name)
    line = str(error.value)
    assert line.startswith(name)
    assert line.isprintable(), "more than one line"
    return line


def changed(**fields):
    """The chapter with other fields in its first claim; None removes a field."""
    content = copy.deepcopy(CHAPTER)
    claim = content["claims"][0]
    claim.update(fields)
    content["claims"][0] = {key: value for key, value in claim.items() if value is not None}
    return content


def test_reads_every_field():
    chapter = parse_claims(yaml.safe_dump(CHAPTER))
    first, second = chapter.claims
    assert (chapter.paper, chapter.code, chapter.data.paper) == ("demo2020", "https://example.org/code", "mnist-60k")
    assert (first.value.mean, first.value.n, first.value.sd) == (0.86, 2, 0.01)
    assert (first.experiment, first.metric_name) == ("train", "accuracy")
    assert first.band("quick") == Band(">=", (0.8,))
    assert first.band("paper") == Band("..", (0.84, 0.88))
    assert second.metric is None
    assert second.band("paper") is None


def test_code_is_optional_and_scientific_notation_is_a_number():
    content = changed(value={"mean": 1e-7}, accept={"paper": "<= 0.01"})
    del content["code"]
    text = yaml.safe_dump(content).replace("1.0e-07", "1e-7")
    assert "mean: 1e-7" in text
    assert parse_claims(text).claims[0].value.mean == 1e-7


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"says": None}, "says", "is missing"),
        ({"says": "  "}, "says", "is empty"),
        ({"says": False}, "says", "put it in quotes"),
        ({"syas": "typo"}, "syas", "did you mean says?"),
        ({"colour": "red"}, "colour", "known: id, figure"),
        ({"id": "Not Kebab"}, "id", "hyphens"),
        ({"figure": "4"}, "figure", "fig-4"),
        ({"evidence": "hearsay"}, "evidence", "'identity'"),
        ({"value": {"mean": "much"}}, "value.mean", "number"),
        ({"value": {"mean": True}}, "value.mean", "number"),
        ({"value": {"mean": math.inf}}, "value.mean", "finite"),
        ({"value": {"mean": 0.5, "n": 0}}, "value.n", "greater than or equal to 1"),
        ({"value": {"mean": 0.5, "sd": -1.0}}, "value.sd", "greater than or equal to 0"),
        ({"value": {"n": 3}}, "value.mean", "is missing"),
        ({"value": {"mean": 0.5, "std": 0.1}}, "value.std", "did you mean sd?"),
        ({"value": 0.86}, "value", "write {mean: …, n: …, sd: …}, not 0.86"),
        ({"accept": ">= 0.9"}, "accept", "write {quick: …, paper: …}, not '>= 0.9'"),
        ({"deterministic": "often"}, "deterministic", "write true or false, not 'often'"),
        ({"value": {"mean": 0.5, "n": "many"}}, "value.n", "should be a whole number, not 'many'"),
        ({"evidense": "paper", "evidence": None}, "evidense", "did you mean evidence? (and 1 more)"),
        ({"metric": "accuracy"}, "metric", "experiment.metric"),
        ({"accept": {"quick": "> 0.9"}}, "accept.quick", "write '>= x'"),
        ({"accept": {"quick": 0.9}}, "accept.quick", "text in quotes"),
        ({"accept": {"paper": "0.9 .. 0.8"}}, "accept.paper", "runs backwards"),
        ({"accept": {"qiuck": ">= 0.9"}}, "accept.qiuck", "did you mean quick?"),
        ({"accept": {}}, "accept", "gives no band"),
        ({"accept": {"quick": "<= 0.5", "paper": ">= 0.6"}}, "accept", "contradicts itself"),
        ({"evidence": "pilot"}, "value", "no number was published"),
        ({"evidence": "identity", "accept": {"paper": "== 0.5 +- 0.1"}}, "accept.paper", "excludes 0.86"),
        ({"accept": None}, "accept", "is missing"),
        ({"metric": None}, "metric", "is missing"),
        ({"why": None}, "why", "is missing"),
        ({"metric": None, "accept": None, "why": None}, "open", "is missing"),
    ],
)
def test_a_broken_claim_is_named_with_its_field(fields, field, words):
    line = message(changed(**fields), "chapters/demo2020/claims.yml")
    claim = fields.get("id", "first-claim")
    assert line.startswith(f"chapters/demo2020/claims.yml, claim {claim}, field {field}: ")
    assert words in line


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"titel": "x"}, "titel", "did you mean title?"),
        ({"code": "ftp://example.org"}, "code", "web address"),
        ({"code": "javascript:alert(1)"}, "code", "web address"),
        ({"data": {"quick": "mnist-5k"}}, "data.paper", "is missing"),
        ({"claims": []}, "claims", "at least 1"),
        ({"claims": None}, "claims", "write a list, one entry a line, each after a hyphen, not None"),
        ({"data": "mnist-5k"}, "data", "write {quick: …, paper: …}, not 'mnist-5k'"),
    ],
)
def test_a_broken_head_is_named_with_its_field(fields, field, words):
    line = message({**CHAPTER, **fields})
    assert line.startswith(f"claims.yml, field {field}: ")
    assert words in line


def test_several_errors_are_counted():
    assert message(changed(says=None, where=None)).endswith("field says: is missing (and 1 more)")


def test_a_claim_without_a_usable_id_goes_by_its_number():
    assert message(changed(id=None)) == "claims.yml, claim 1, field id: is missing"
    content = copy.deepcopy(CHAPTER)
    content["claims"][1] = "text"
    assert message(content).startswith("claims.yml, claim 2: ")


def test_duplicate_ids():
    content = changed(id="second-claim")
    assert message(content) == "claims.yml, claim second-claim, field id: two claims have it; rename one"


def test_a_field_given_twice():
    text = yaml.safe_dump(CHAPTER, sort_keys=False)
    line = message(text.replace("  says: It learns.", "  says: It learns.\n  says: It does not."))
    assert re.search(r"^claims.yml, line \d+: field 'says' is given twice", line)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- a",
        "a: [",
        "\t",
        "a: &x [*x]",
        "date: 2019-13-45",
        "? [a]\n: b",
        "!!python/name:os.system {}",
        "[" * 5000,
        "\x00",
    ],
)
def test_what_is_no_claims_file(text):
    message(text)


def test_the_file_is_named_and_agrees_with_its_folder(demo):
    file = demo / "chapters" / "demo2020" / "claims.yml"
    good = file.read_text()
    file.write_text(good.replace("paper: demo2020", "paper: other2020"))
    with pytest.raises(UserError, match=r"chapters/demo2020/claims.yml, field paper: is 'other2020'"):
        load_claims("demo2020")
    file.write_bytes(b"paper: \xff")
    with pytest.raises(UserError, match=r"chapters/demo2020/claims.yml: is not UTF-8"):
        load_claims("demo2020")
    file.write_text(good)
    assert load_claims("demo2020").paper == "demo2020"


def test_a_metric_needs_its_experiment():
    chapter = parse_claims(yaml.safe_dump(CHAPTER))
    check_metrics(chapter, {"train"})
    with pytest.raises(UserError, match=r"claim first-claim, field metric: there is no experiment 'train'"):
        check_metrics(chapter, {"other"})


finite = st.floats(allow_nan=False, allow_infinity=False, width=64).filter(lambda x: abs(x) < 1e300)


@st.composite
def bands(draw):
    """A band, its text, and its lowest and highest number."""
    form = draw(st.sampled_from([">=", "<=", "..", "=="]))
    a, b = draw(finite), draw(finite)
    space = draw(st.sampled_from(["", " ", "  "]))
    if form == ">=":
        return f">={space}{a!r}", a, math.inf
    if form == "<=":
        return f"<={space}{a!r}", -math.inf, a
    if form == "==":
        centre, tolerance = Fraction(repr(a)), Fraction(repr(abs(b)))
        return f"=={space}{a!r} +- {abs(b)!r}", float(centre - tolerance), float(centre + tolerance)
    a, b = sorted((a, b))
    return f"{a!r} ..{space}{b!r}", a, b


@given(bands(), finite, finite)
def test_a_band_holds_what_it_says_and_reads_back(written, x, y):
    text, low, high = written
    if low == high and ".." in text:
        with pytest.raises(ValueError, match="point"):
            parse_band(text)
        return
    band = parse_band(text)
    x, y = sorted((x, y))
    assert band.contains(x) == (low <= x <= high)
    assert band.contains_interval(x, y) == (low <= x and y <= high)
    assert parse_band(str(band)) == band
    for end in (low, high):
        assert band.contains(end) == math.isfinite(end)
        if math.isfinite(end):
            assert band.contains(math.nextafter(end, math.inf)) == (end != high)
            assert band.contains(math.nextafter(end, -math.inf)) == (end != low)


@given(bands(), bands())
def test_bands_overlap_where_an_end_lies_in_the_other(one, other):
    if ".." in one[0] + other[0] and (one[1] == one[2] or other[1] == other[2]):
        return
    a, b = parse_band(one[0]), parse_band(other[0])
    shared = max(one[1], other[1]) <= min(one[2], other[2])
    assert a.overlaps(b) == b.overlaps(a) == shared


@given(st.text(max_size=30) | st.from_regex(r"[<>=.+\-0-9e ]{1,20}", fullmatch=True))
def test_no_text_crashes_the_band_parser(text):
    try:
        band = parse_band(text)
    except ValueError as error:
        assert str(error)
        return
    assert parse_band(str(band)) == band


@pytest.mark.parametrize(
    "text", [">= nan", ">= inf", "1e999 .. 2", "== 1e308 +- 1e308", "== 1 +- -1", "0 .. 0", ">= 1_0", ">= ٣", "= 1"]
)
def test_bands_that_are_none(text):
    with pytest.raises(ValueError, match="band"):
        parse_band(text)


@pytest.mark.parametrize("x", [math.nan, math.inf, -math.inf])
def test_no_band_holds_what_is_not_finite(x):
    assert not any(parse_band(text).contains(x) for text in (">= 0", "<= 0", "0 .. 1", "== 0 +- 1"))


words = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1).filter(str.strip)


@given(
    says=words,
    where=words,
    evidence=st.sampled_from(["identity", "paper", "authors-code", "secondary"]),
    mean=st.floats(0.85, 0.87),
    note=st.none() | words,
)
def test_what_is_written_is_what_is_read(says, where, evidence, mean, note):
    content = changed(says=says, where=where, evidence=evidence, value={"mean": mean}, note=note)
    claim = parse_claims(yaml.safe_dump(content, allow_unicode=True)).claims[0]
    assert (claim.says, claim.where, claim.evidence) == (says.strip(), where.strip(), evidence)
    assert claim.value.mean == mean
    assert claim.note == (note.strip() if note else None)


junk = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3),
    max_leaves=5,
)
claim_fields = st.sampled_from([*CHAPTER["claims"][0], "note", "open", "unit", "else"])


@given(claim_fields, junk)
def test_junk_in_a_claim_is_one_line_or_a_claim(field, value):
    content = copy.deepcopy(CHAPTER)
    content["claims"][0][field] = value
    assert_one_line_or_claims(yaml.safe_dump(content))


@given(st.sampled_from([*CHAPTER, "else"]), junk)
def test_junk_in_the_head_is_one_line_or_claims(field, value):
    assert_one_line_or_claims(yaml.safe_dump({**CHAPTER, field: value}))


@given(st.text(max_size=60))
def test_any_text_is_one_line_or_claims(text):
    assert_one_line_or_claims(text)


def assert_one_line_or_claims(text):
    try:
        assert parse_claims(text).claims
    except UserError as error:
        assert str(error).startswith("claims.yml")
        assert str(error).isprintable()


def test_ends_of_a_band_are_those_of_its_numbers_as_written():
    assert parse_band("== 0.7 +- 0.1").contains(0.8)
    assert parse_band("== 0.3 +- 0.1").contains(0.2)
    assert not parse_band("== 0.7 +- 0.1").contains(0.8000000000000002)
    assert parse_band("== 0 +- 0").contains(0.0)
    for text in ("== 1e308 +- 1e308", "== 1e999 +- 1", ">= 1e999"):
        with pytest.raises(ValueError, match="has a number that is not finite"):
            parse_band(text)


def test_check_refuses_a_misspelt_metric(demo):
    """One whose experiment is unknown ends the comparison; one that its experiment does not give is left out, by name."""
    runner.run("demo2020", "walk", "quick", jobs=1, quiet=True)
    runner.record("demo2020", "walk", "quick")
    file = demo / "chapters" / "demo2020" / "claims.yml"
    right = file.read_text()
    file.write_text(right.replace("metric: walk.size", "metric: wlak.size"))
    with pytest.raises(UserError, match=r"field metric: there is no experiment 'wlak'"):
        check.compare("demo2020")
    file.write_text(right.replace("metric: walk.size", "metric: walk.sise"))
    compared, left_out = check.compare("demo2020")
    assert compared == []
    assert [(one.target, one.why) for one in left_out] == [("demo2020/size-bounded", "its experiment gives no sise")]
