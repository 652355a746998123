"""What a paper claims and what counts as reproduced: models and parser of `chapters/<citekey>/claims.yml`."""

import difflib
import math
import re
from collections.abc import Container
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    model_validator,
)

from snnrepro import paths
from snnrepro.errors import UserError
from snnrepro.files import one_line, shown

EVIDENCE = ("identity", "paper", "authors-code", "secondary", "pilot")
"""Grades of evidence, strongest first."""

_NUMBER = r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
_FORMS = {
    ">=": re.compile(rf">=\s*{_NUMBER}"),
    "<=": re.compile(rf"<=\s*{_NUMBER}"),
    "..": re.compile(rf"{_NUMBER}\s*\.\.\s*{_NUMBER}"),
    "==": re.compile(rf"==\s*{_NUMBER}\s*\+-\s*{_NUMBER}"),
}


@dataclass(frozen=True)
class Band:
    """A closed interval that a number must fall into.

    Attributes:
        form: `>=`, `<=`, `..` or `==`.
        numbers: as written: one for `>=` and `<=`, low and high for `..`, centre and tolerance for `==`.
    """

    form: str
    numbers: tuple[float, ...]

    @property
    def low(self) -> float:
        """Lowest number accepted, -inf for `<= x`."""
        if self.form == "==":
            return self._end(-1)
        return -math.inf if self.form == "<=" else self.numbers[0]

    @property
    def high(self) -> float:
        """Highest number accepted, inf for `>= x`."""
        if self.form == "==":
            return self._end(1)
        return math.inf if self.form == ">=" else self.numbers[-1]

    def _end(self, sign: int) -> float:
        """End of an `==` band, of its numbers as they are written: 0.7 +- 0.1 ends at 0.8."""
        centre, tolerance = (Fraction(_number(x)) for x in self.numbers)
        try:
            return float(centre + sign * tolerance)
        except OverflowError:
            return sign * math.inf

    def contains(self, x: float) -> bool:
        """Whether the band holds a number; no band holds one that is not finite."""
        return math.isfinite(x) and self.low <= x <= self.high

    def contains_interval(self, low: float, high: float) -> bool:
        """Whether the band holds a whole interval."""
        return self.contains(low) and self.contains(high)

    def overlaps(self, other: "Band") -> bool:
        """Whether some number lies in both bands."""
        return max(self.low, other.low) <= min(self.high, other.high)

    def __str__(self) -> str:
        """The text that `parse_band` reads back."""
        numbers = [_number(x) for x in self.numbers]
        if self.form == "..":
            return " .. ".join(numbers)
        return f"{self.form} {' +- '.join(numbers)}"


def _number(x: float) -> str:
    """Shortest text that reads back as the same number, without a trailing `.0`."""
    return repr(x).removesuffix(".0")


def parse_band(text: str) -> Band:
    """Reads `>= x`, `<= x`, `a .. b` or `== x +- tol`.

    Raises:
        ValueError: anything else, numbers that are not finite, a >= b, or a negative tolerance.
    """
    if not isinstance(text, str):
        raise ValueError(f"a band is text in quotes, like '>= 0.9', not {text!r}")
    for form, pattern in _FORMS.items():
        if found := pattern.fullmatch(text.strip()):
            band = Band(form, tuple(float(number) for number in found.groups()))
            break
    else:
        raise ValueError(f"cannot read the band {text!r}; write '>= x', '<= x', 'a .. b' or '== x +- tol'")
    written = all(map(math.isfinite, band.numbers))
    if not written or (form == "==" and not (math.isfinite(band.low) and math.isfinite(band.high))):
        raise ValueError(f"the band {text!r} has a number that is not finite")
    if form == ".." and band.low >= band.high:
        raise ValueError(f"the band {text!r} runs backwards or is a point; for a point write '== x +- tol'")
    if form == "==" and band.numbers[1] < 0:
        raise ValueError(f"the band {text!r} has a negative tolerance")
    return band


def _plain_number(value: Any) -> Any:
    """Keeps `true` from passing as 1."""
    if isinstance(value, bool):
        raise ValueError(f"should be a number, not {value}")
    return value


Text = Annotated[str, Field(min_length=1)]
Url = Annotated[str, Field(pattern=r"^https?://[^\s\"'<>]+$")]
Number = Annotated[float, Field(allow_inf_nan=False), BeforeValidator(_plain_number)]
BandField = Annotated[Band, PlainValidator(parse_band), PlainSerializer(str)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class Value(_Model):
    """A published number: mean over n runs with standard deviation sd, as far as they are given."""

    mean: Number
    n: Annotated[int, Field(ge=1), BeforeValidator(_plain_number)] | None = None
    sd: Annotated[Number, Field(ge=0)] | None = None


class Accept(_Model):
    """Bands of the two profiles; at least one is given."""

    quick: BandField | None = None
    paper: BandField | None = None

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.quick is None and self.paper is None:
            raise ValueError("gives no band; write quick, paper or both")
        if self.quick and self.paper and not self.quick.overlaps(self.paper):
            raise ValueError(f"contradicts itself: no number meets both quick ({self.quick}) and paper ({self.paper})")
        return self


class Data(_Model):
    """Data tier of each profile, as the card states it."""

    quick: Text
    paper: Text


class Claim(_Model):
    """One claim of a paper. The fields are those of claims.yml; the contributor's page of the book explains them."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    figure: Annotated[str, Field(pattern=r"^(fig|tab|text)(-[a-z0-9]+)+$")]
    says: Text
    where: Text
    evidence: Literal["identity", "paper", "authors-code", "secondary", "pilot"]
    value: Value | None = None
    unit: str = ""
    metric: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$")] | None = None
    accept: Accept | None = None
    deterministic: bool = False  # no seed enters the metric
    why: Text | None = None
    note: Text | None = None
    open: Text | None = None

    @property
    def experiment(self) -> str | None:
        """Name of the experiment that measures it."""
        return self.metric.split(".")[0] if self.metric else None

    @property
    def metric_name(self) -> str | None:
        """Name of the metric within its experiment."""
        return self.metric.split(".")[1] if self.metric else None

    def band(self, profile: str) -> Band | None:
        """Band of a profile (`quick` or `paper`), if there is one."""
        return getattr(self.accept, profile) if self.accept else None

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.evidence == "pilot" and self.value:
            raise ValueError(
                "value: evidence pilot means that no number was published; remove value or name its source"
            )
        if self.metric and not self.accept:
            raise ValueError("accept: is missing; a claim with a metric says what counts as reproduced")
        if self.accept and not self.metric:
            raise ValueError("metric: is missing; a band needs something to be measured")
        if self.accept and not self.why:
            raise ValueError("why: is missing; say why this band")
        if not self.metric and not self.open:
            raise ValueError("open: is missing; a claim without a metric says why nobody measures it here")
        band = self.band("paper")
        if self.value and band and not band.contains(self.value.mean):
            raise ValueError(f"accept.paper: contradicts value: {band} excludes {_number(self.value.mean)}")
        return self


class ChapterClaims(_Model):
    """Everything in a claims.yml."""

    paper: Text
    rests_on: tuple[Text, ...] = ()  # keys of the bibliography, where the chapter is about several papers
    title: Text
    code: Url | None = None
    architecture: Text
    objective: Text
    learning_rule: Text
    data: Data
    claims: Annotated[tuple[Claim, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _unique(self) -> Self:
        seen: set[str] = set()
        for claim in self.claims:
            if claim.id in seen:
                raise ValueError(f"claim {claim.id}, field id: two claims have it; rename one")
            seen.add(claim.id)
        return self


def load_claims(citekey: str) -> ChapterClaims:
    """Claims of a chapter.

    Raises:
        UserError: unknown chapter, or a claims.yml that breaks a rule; the message names file, claim and field.
    """
    file = paths.chapter(citekey) / "claims.yml"
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{shown(file)}: is not UTF-8 text") from None
    except OSError as error:
        raise UserError(f"{shown(file)}: cannot read it: {error.strerror}") from None
    claims = parse_claims(text, shown(file))
    if claims.paper != citekey:
        raise UserError(f"{shown(file)}, field paper: is {claims.paper!r} but the folder is {citekey!r}")
    return claims


def parse_claims(text: str, name: str = "claims.yml") -> ChapterClaims:
    """Claims from the text of a claims.yml; `name` is how messages call the file.

    Raises:
        UserError: one line that names the file, the claim and the field.
    """
    try:
        content = yaml.load(text, _Loader)  # a SafeLoader: builds plain data only
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{name}, line {line}: {one_line(error.problem or 'is not YAML')}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{name}: is not YAML: {one_line(str(error))}") from None
    if not isinstance(content, dict):
        raise UserError(f"{name}: should be a mapping with the fields {', '.join(ChapterClaims.model_fields)}")
    try:
        return ChapterClaims.model_validate(content)
    except ValidationError as error:
        raise UserError(_message(name, content, error)) from None


def check_metrics(claims: ChapterClaims, experiments: Container[str]) -> None:
    """Checks that the experiment of every metric exists.

    Raises:
        UserError: names the claim whose metric no experiment measures.
    """
    for claim in claims.claims:
        if claim.experiment and claim.experiment not in experiments:
            file = Path("chapters") / claims.paper / "claims.yml"
            raise UserError(
                f"{file}, claim {claim.id}, field metric: there is no experiment {claim.experiment!r} in"
                f" snnrepro.papers.{claims.paper}"
            )


class _Loader(yaml.SafeLoader):
    """YAML that refuses a field given twice, of which plain YAML keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen if isinstance(key, yaml.ScalarNode) else False:
                raise yaml.constructor.ConstructorError(
                    None, None, f"field {key.value!r} is given twice; keep one", key.start_mark
                )
            if isinstance(key, yaml.ScalarNode):
                seen.add(key.value)
        return super().construct_mapping(node, deep)


_FIELDS = {"value": Value, "accept": Accept, "data": Data}


def _message(name: str, content: dict, error: ValidationError) -> str:
    """The first error of a validation as one line: file, claim, field, what is wrong."""
    errors = error.errors(include_url=False, include_context=False, include_input=True)
    errors = [one for one in errors if one["loc"] != ("claims",)] or errors  # "too short" follows from a wrong claim
    first = next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])  # "missing" may follow from it
    loc = [part for part in first["loc"] if isinstance(part, str | int)]
    model: type[BaseModel] = ChapterClaims
    where = name
    if loc[:1] == ["claims"] and len(loc) > 1:
        model = Claim
        claim = content["claims"][loc[1]]
        label = claim.get("id") if isinstance(claim, dict) else None
        where += f", claim {label if isinstance(label, str) else loc[1] + 1}"
        loc = loc[2:]
    for part in loc[:-1]:
        model = _FIELDS.get(part, model)
    field = ".".join(str(part) for part in loc)
    text = _reason(first, loc, model)
    if first["type"] == "value_error" and not field:
        prefix, colon, rest = text.partition(": ")
        if colon and re.fullmatch(r"[a-z._]+", prefix):
            field, text = prefix, rest
        elif text.startswith("claim "):
            where, text = f"{where}, {text.partition(':')[0]}", text.partition(": ")[2]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return one_line(f"{where}{f', field {field}' if field else ''}: {text}{more}")


def _reason(error: dict, loc: list, model: type[BaseModel]) -> str:
    """What is wrong with a field, in words for somebody who does not know pydantic."""
    kind, given = error["type"], error.get("input")
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(str(loc[-1]), model.model_fields, n=1)
        return "unknown field; " + (f"did you mean {near[0]}?" if near else f"known: {', '.join(model.model_fields)}")
    if kind == "string_type":
        return f"should be text, not {_short(given)}; put it in quotes"
    if kind == "string_too_short":
        return "is empty"
    if kind == "string_pattern_mismatch":
        return f"{_short(given)} is not allowed here; {_PATTERNS.get(loc[-1], 'give a web address (http or https)')}"
    if kind == "model_type":
        known = ", ".join(f"{name}: …" for name in _FIELDS.get(loc[-1] if loc else "", model).model_fields)
        return f"write {{{known}}}, not {_short(given)}"
    if kind in _KINDS:
        return f"{_KINDS[kind]}, not {_short(given)}"
    if kind == "invalid_key":
        return "a field's name should be text"
    text = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return text if kind == "value_error" else f"{text}, not {_short(given)}"


_PATTERNS = {
    "id": "use lower case letters, digits and single hyphens",
    "figure": "write fig-4, tab-1 or text-2",
    "metric": "write experiment.metric",
}


_KINDS = {
    "bool_type": "write true or false",
    "bool_parsing": "write true or false",
    "float_type": "should be a number",
    "float_parsing": "should be a number",
    "int_type": "should be a whole number",
    "int_parsing": "should be a whole number",
    "int_from_float": "should be a whole number",
    "tuple_type": "write a list, one entry a line, each after a hyphen",
}
"""What a value of a wrong kind should be."""


def _short(value: Any) -> str:
    text = one_line(repr(value))
    return text if len(text) <= 60 else text[:57] + "..."
