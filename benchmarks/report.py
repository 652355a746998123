"""What is read out of a run's results: checks, medians, ratios, targets, the tables and the figure. Nothing here is typed in by hand.

The results are the JSON that `benchmarks.run` writes. `check_schema` says what it holds.
"""

import hashlib
import json
import statistics
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.cases import CASES
from benchmarks.model import Outputs
from snnrepro.errors import UserError
from snnrepro.files import SCHEMA, read_json

RESULTS = Path(__file__).resolve().parent / "results"
Results = dict[str, Any]

FIELDS: dict[str, type | tuple[type, ...]] = {
    "schema": int,
    "date": str,
    "quick": bool,
    "seconds": (int, float),
    "machine": dict,
    "others_percent": (int, float),
    "versions": dict,
    "tasks": dict,
    "base": dict,
    "sweep_kind": dict,
    "missing": dict,
    "skipped": list,
    "checks": list,
    "rates": dict,
    "times": list,
    "sweeps": list,
}
TIME_FIELDS = {"task", "case", "phase", "threads", "allocator", "wall", "cpu"}
SWEEP_FIELDS = {"axis", "value", "case", "wall", "cpu"}

TITLES = {
    "feedforward": "Feed-forward",
    "recurrent": "Recurrent",
    "adaptive": "Adaptive recurrent, two layers",
}
OURS = ("events", "dense")
"""Our own cases; ratios refer to the faster one."""

COLUMNS = (
    ("train", 2, "default", "training, 2 threads"),
    ("train", 2, "tuned", "training, 2 threads, memory kept"),
    ("train", 1, "default", "training, 1 thread"),
    ("infer", 2, "default", "inference, 2 threads"),
    ("infer", 1, "default", "inference, 1 thread"),
)
"""Phase, threads, allocator and heading of the columns of a table."""

CLOSE = 1e-6
"""Largest difference of gradients, relative to the largest entry, that counts as equal in float64."""


class Target(NamedTuple):
    """At least so many times faster.

    Attributes:
        says: in words.
        task: where.
        ours: our case.
        others: cases of which the fastest counts.
        factor: at least.
    """

    says: str
    task: str
    ours: str
    others: tuple[str, ...]
    factor: float


JAX = tuple(name for name, case in CASES.items() if case.group == "jax")
TARGETS = (
    Target("Feed-forward, input as events, against snnTorch", "feedforward", "events", ("snntorch",), 7.0),
    Target("Feed-forward, dense input, against snnTorch", "feedforward", "dense", ("snntorch",), 5.0),
    Target("Recurrent, input as events, against snnTorch", "recurrent", "events", ("snntorch",), 5.0),
    Target("Feed-forward, input as events, against the fastest on JAX", "feedforward", "events", JAX, 3.0),
    Target("Recurrent, input as events, against the fastest on JAX", "recurrent", "events", JAX, 3.0),
    Target("Adaptive, against the plain torch loop", "adaptive", "dense", ("reference",), 3.5),
    Target("Adaptive, against norse", "adaptive", "dense", ("norse",), 10.0),
)
"""Of a training step on two threads."""

ALLOCATORS = ("default", "tuned")


def load(path: Path | None = None) -> Results:
    """The committed results, or those of a file.

    Raises:
        UserError: there is no such file, or it does not fit.
    """
    results = read_json(path or RESULTS / "benchmark.json")
    check_schema(results)
    return results


def check_schema(results: Any) -> None:
    """Whether results hold what the page needs.

    Raises:
        UserError: naming the first field that is wrong.
    """
    if not isinstance(results, dict):
        raise UserError("benchmark results: not an object; run `make bench`")
    for field, kind in FIELDS.items():
        if field not in results:
            raise UserError(f"benchmark results: field {field} is missing; run `make bench`")
        if not isinstance(results[field], kind):
            raise UserError(f"benchmark results: field {field} is {results[field]!r:.40}; run `make bench`")
    if results["schema"] != SCHEMA:
        raise UserError(f"benchmark results: schema {results['schema']}, this version reads {SCHEMA}; run `make bench`")
    for name, fields in (("times", TIME_FIELDS), ("sweeps", SWEEP_FIELDS)):
        for number, entry in enumerate(results[name]):
            if not isinstance(entry, dict) or set(entry) != fields:
                raise UserError(f"benchmark results: {name}[{number}] does not hold {', '.join(sorted(fields))}")
            if entry["case"] not in CASES or not entry["wall"] or min(entry["wall"]) <= 0:
                raise UserError(f"benchmark results: {name}[{number}]: unknown case, or no time above 0")


# Checks


def compared(ours: Outputs, theirs: Outputs) -> dict[str, Any]:
    """How two outputs differ: spikes in one and not in the other, and the gradients relative to the largest entry."""
    found: dict[str, Any] = {
        "spikes": int(sum(s.sum() for s in ours.spikes)),
        "different": int(sum((a != b).sum() for a, b in zip(ours.spikes, theirs.spikes, strict=True))),
    }
    if theirs.gradients:
        names = ours.gradients.keys() & theirs.gradients.keys()
        found["gradient"] = max(_relative(ours.gradients[name], theirs.gradients[name]) for name in sorted(names))
        found["weights"] = sorted(names)
    return found


def _relative(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.abs(ours - theirs).max() / np.abs(ours).max())


def passed(check: dict[str, Any]) -> bool:
    """Whether a library did the same as our neuron; False also where it could not be compared."""
    return check.get("spikes", 0) > 0 and check["different"] == 0 and check.get("gradient", 0.0) < CLOSE


def check_text(check: dict[str, Any]) -> str:
    """A check in a few words."""
    if "failed" in check:
        return f"could not be compared: {check['failed']}"
    if not check["twin"]:
        return "other equations; only the rate is compared"
    if passed(check):
        return "same spikes and gradients" if "gradient" in check else "same spikes"
    return f"DIFFERENT: {check['different']} spikes, gradients by {check.get('gradient', 0.0):.1e}"


def check_lines(checks: Iterable[dict[str, Any]]) -> list[str]:
    """One line a check."""
    return [f"{c['task']}: {CASES[c['case']].title}: {check_text(c)}" for c in checks]


def rate_text(rates: Iterable[float]) -> str:
    """Firing rates of the layers."""
    return ", ".join(f"{100 * rate:.1f}" for rate in rates) + "\N{NO-BREAK SPACE}%"


# Numbers


def entry(results: Results, task: str, case: str, phase: str, threads: int, allocator: str) -> dict[str, Any] | None:
    """The measurements of one step."""
    key = (task, case, phase, threads, allocator)
    names = ("task", "case", "phase", "threads", "allocator")
    return next((e for e in results["times"] if tuple(e[name] for name in names) == key), None)


def median(results: Results, task: str, case: str, phase: str, threads: int, allocator: str) -> float | None:
    """Median wall time of one step, in seconds."""
    found = entry(results, task, case, phase, threads, allocator)
    return statistics.median(found["wall"]) if found else None


def seconds(value: float) -> str:
    """A duration with three digits."""
    unit, factor = ("s", 1.0) if value >= 0.9995 else ("ms", 1e3) if value >= 0.9995e-3 else ("µs", 1e6)
    value *= factor
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f} {unit}"


def ratio_text(value: float) -> str:
    """A ratio with two digits, more where it is large."""
    return f"{value:.0f}×" if value >= 20 else f"{value:.1f}×" if value >= 2 else f"{value:.2f}×"


class Reached(NamedTuple):
    """A target of one of the smaller benchmarks as it came out.

    Attributes:
        says: against what.
        factor: at least so many times faster.
        found: how many times, in words.
        verdict: `reached`, `not reached` or `not measured`.
    """

    says: str
    factor: float
    found: str
    verdict: str

    def __str__(self) -> str:
        return f"{self.says}, at least {self.factor:g} times: {self.found}: {self.verdict}"


class Outcome(NamedTuple):
    """A target as it came out.

    Attributes:
        target: the target.
        ratios: how many times faster we are, by allocator; None where not measured.
        against: the case that counts, by allocator.
        verdict: `reached` (with both allocators), `partly` (with one), `not reached` or `not measured`.
    """

    target: Target
    ratios: dict[str, float | None]
    against: dict[str, str | None]
    verdict: str


def outcomes(results: Results) -> list[Outcome]:
    """All targets."""
    return [outcome(results, target) for target in TARGETS]


def outcome(results: Results, target: Target) -> Outcome:
    """What a target came to: the time of the fastest of the others over ours."""
    ratios: dict[str, float | None] = {}
    against: dict[str, str | None] = {}
    for allocator in ALLOCATORS:
        ours = median(results, target.task, target.ours, "train", 2, allocator)
        others = {case: median(results, target.task, case, "train", 2, allocator) for case in target.others}
        others = {case: time for case, time in others.items() if time is not None}
        fastest = min(others, key=others.get, default=None)
        against[allocator] = fastest
        ratios[allocator] = others[fastest] / ours if fastest and ours else None
    values = [r for r in ratios.values() if r is not None]
    met = sum(r >= target.factor for r in values)
    verdict = (
        "not measured" if not values else "not reached" if not met else "reached" if met == len(values) else "partly"
    )
    return Outcome(target, ratios, against, verdict)


def faster_peers(results: Results) -> tuple[list[str], int]:
    """Where another library is faster than our fastest case, in words; and the number of places that were looked at."""
    lines, places = [], 0
    for task in results["tasks"]:
        for phase, threads, allocator, heading in COLUMNS:
            times = {case: median(results, task, case, phase, threads, allocator) for case in CASES}
            ours = [times[c] for c in OURS if times[c] is not None]
            peers = {c: t for c, t in times.items() if t is not None and CASES[c].package}
            if not ours or not peers:
                continue
            places += 1
            for case in sorted((c for c in peers if peers[c] < min(ours)), key=peers.get):
                ratio = ratio_text(min(ours) / peers[case])
                lines.append(f"{TITLES[task]}, {heading}: {CASES[case].title}, {ratio} faster")
    return lines, places


# Text


def text(results: Results) -> str:
    """The tables for a terminal."""
    lines = [about(results), ""]
    for task in results["tasks"]:
        lines += [f"{TITLES[task]}: {task_text(results, task)}", f"{'':38}" + "".join(f"{c[3]:>34}" for c in COLUMNS)]
        for case in measured_cases(results, task):
            cells = [cell(results, task, case, column) for column in COLUMNS]
            shown = "".join(f"{time + (f' {ratio:>7}' if ratio else ''):>34}" for time, ratio in cells)
            lines.append(f"{CASES[case].title:38}" + shown)
        lines.append("")
    lines.append(f"{'at least':>72}{'default':>10}{'kept':>10}")
    for one in outcomes(results):
        found = "".join(f"{f'{r:.2f}×' if r else '-':>10}" for r in one.ratios.values())
        lines.append(f"{one.target.says:62}{one.target.factor:>9g}×{found}  {one.verdict}")
    faster, places = faster_peers(results)
    lines += [
        "",
        f"Another library is faster than our fastest in {len(faster)} cases ({places} columns compared)",
        *faster,
    ]
    for case, reason in results["missing"].items():
        lines.append(f"not measured: {CASES[case].title}: {reason}")
    return "\n".join(lines)


def measured_cases(results: Results, task: str) -> list[str]:
    """Cases with any time of a task, in the order of the list."""
    return [case for case in CASES if any(e["task"] == task and e["case"] == case for e in results["times"])]


def cell(results: Results, task: str, case: str, column: tuple) -> tuple[str, str]:
    """Time and ratio to ours, as shown."""
    phase, threads, allocator, _ = column
    time = median(results, task, case, phase, threads, allocator)
    ours = [t for name in OURS if (t := median(results, task, name, phase, threads, allocator)) is not None]
    if time is None:
        return "–", ""
    return seconds(time), ratio_text(time / min(ours)) if ours else ""


def load_text(percent: float, machine: str = "the machine") -> str:
    """What other programs took of the machine."""
    return f"other programs used {percent:.0f}\N{NO-BREAK SPACE}% of {machine}" if percent >= 1 else "otherwise idle"


def task_text(results: Results, task: str) -> str:
    """Sizes of a task."""
    t = results["tasks"][task]
    values = "analogue input" if t["density"] == 1 else f"input density {100 * t['density']:g}\N{NO-BREAK SPACE}%"
    return f"{'-'.join(map(str, t['sizes']))} neurons, {t['steps']} steps, batch {t['batch']}, {values}"


def about(results: Results) -> str:
    """Date, machine and circumstances in one line."""
    m, v = results["machine"], results["versions"]
    load = load_text(results["others_percent"], "it")
    start = "Smoke run with tiny tasks: the numbers mean nothing. " if results["quick"] else ""
    memory = f", {m['memory_gib']} GiB" if "memory_gib" in m else ""
    return (
        f"{start}Measured on {results['date']}: {m['cpu']}, {m['cores']} cores{memory}, {m['system']}, {load}; "
        f"Python {v['python']}, {results['seconds'] / 60:.0f} minutes."
    )


# HTML

VERDICTS = {
    "reached": ("reproduced", "✓"),
    "partly": ("partly", "◐"),
    "not reached": ("not-reproduced", "✗"),
    "not measured": ("open", "○"),
}
"""Class of `book.css` and sign of each verdict."""


def table(head: list[str], rows: list[list[str]], caption: str, name: str = "") -> str:
    """A table whose rows turn into blocks on a phone; cells are HTML."""
    cells = "".join(f'<th role="columnheader" scope="col">{escape(h)}</th>' for h in head)
    body = ""
    for row in rows:
        rest = "".join(
            f'<td role="cell" data-label="{escape(h)}">{value}</td>' for h, value in zip(head[1:], row[1:], strict=True)
        )
        body += f'<tr role="row"><th role="rowheader" scope="row" class="snn-claim">{row[0]}</th>{rest}</tr>'
    return (
        f'<table role="table" class="snn-board-table snn-bench {name}"><caption>{escape(caption)}</caption>'
        f'<thead role="rowgroup"><tr role="row">{cells}</tr></thead><tbody role="rowgroup">{body}</tbody></table>'
    )


SIGNS = (
    "✓: same spikes, and gradients where there are any, as our neuron with that library's switches; "
    "≈: other equations, only the rate is compared; ✗: differs."
)
"""What the signs before the firing rates say."""


def task_html(results: Results, task: str) -> str:
    """Times of one task."""
    checks = {c["case"]: c for c in results["checks"] if c["task"] == task}
    rates = results["rates"].get(task, {})
    rows = []
    for case in measured_cases(results, task):
        title = escape(CASES[case].title)
        cells = []
        for column in COLUMNS:
            time, ratio = cell(results, task, case, column)
            cells.append(f'<span class="snn-value">{time}</span> <span class="snn-n">{ratio}</span>')
        sign = "" if case not in checks else "✓ " if passed(checks[case]) else "✗ " if checks[case]["twin"] else "≈ "
        shown = escape(sign + rate_text(rates[case])) if rates.get(case) else sign or "–"
        rows.append([f"<strong>{title}</strong>" if title.startswith("ours") else title, *cells, shown])
    head = ["", *(heading for *_, heading in COLUMNS), "check; firing rate"]
    layers = " Two rates: first and second hidden layer." if any(len(found) == 2 for found in rates.values()) else ""
    caption = f"{task_text(results, task)}. Median time of one step, and how many times ours it is. {SIGNS}{layers}"
    return table(head, rows, caption)


def targets_html(results: Results) -> str:
    """Targets and what came out."""
    rows = []
    for one in outcomes(results):
        cells = []
        for allocator in ALLOCATORS:
            ratio, against = one.ratios[allocator], one.against[allocator]
            who = (
                f'<span class="snn-n">{escape(CASES[against].title)}</span>'
                if len(one.target.others) > 1 and against
                else ""
            )
            cells.append(f'<span class="snn-value">{f"{ratio:.2f}×" if ratio else "–"}</span> {who}')
        rows.append([escape(one.target.says), f"at least {one.target.factor:g}×", *cells, badge(one.verdict)])
    head = ["training step, 2 threads", "target", "as it comes", "memory kept", "verdict"]
    return table(
        head,
        rows,
        "How many times faster ours is; targets were set before the measurement. Small: the library that counts, where there are several.",
    )


def badge(verdict: str) -> str:
    """A verdict as a sign and a word."""
    kind, sign = VERDICTS[verdict]
    return f'<span class="snn-verdict snn-verdict-{kind}">{sign} {verdict}</span>'


def further_html(targets: dict[str, list[Reached]]) -> str:
    """Targets of the smaller benchmarks, by the title of their section."""
    rows = [
        [escape(f"{title}, {one.says}"), f"at least {one.factor:g}×", escape(one.found), badge(one.verdict)]
        for title, found in targets.items()
        for one in found
    ]
    return table(["", "target", "found", "verdict"], rows, "Targets of the sections below.")


def faster_html(results: Results) -> str:
    """Where another library is faster."""
    lines, places = faster_peers(results)
    if not lines:
        place = f'any of the {places} columns of the tables under <a href="#the-same-work">The same work</a>'
        return f"<p>No other library is faster than ours in {place} where both were measured.</p>"
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<p>Another library is faster than our fastest in {len(lines)} cases ({places} columns compared):</p><ul>{items}</ul>"


def libraries_html(results: Results) -> str:
    """Each case: version, how it is run, and why it is missing."""
    rows = []
    for name, case in CASES.items():
        version = results["versions"].get(case.package, "") if case.package else ""
        note = f"{case.note[0].upper()}{case.note[1:]}."
        if name in results["missing"]:
            note += f" Not measured: {results['missing'][name]}."
        rows.append([escape(case.title), escape(version) or "–", escape(note)])
    return table(
        ["", "version", "how it is run, and what differs"], rows, "Libraries and ways of using them.", "snn-bench-notes"
    )


def skipped_html(results: Results) -> str:
    """What was left out."""
    lines = []
    for s in results["skipped"]:
        what = CASES[s["case"]].title if s["case"] else f"group {s['group']}"
        place = TITLES.get(s["task"], f"figure, over {AXES[s['task']][0]}" if s["task"] in AXES else "set-up")
        threads = "1 thread" if s["threads"] == 1 else f"{s['threads']} threads"
        memory = ", memory kept" if s["allocator"] == "tuned" else ""
        lines.append(f"<li>{escape(f'{place}: {what}, {threads}{memory}: ' + s['reason'])}</li>")
    return f"<p>Left out:</p><ul>{''.join(lines)}</ul>" if lines else ""


def numbers_html(results: Results) -> str:
    """Every measurement, folded away."""
    rows = []
    for e in results["times"]:
        how = f"{e['phase']}, {e['threads']} thr., {'memory kept' if e['allocator'] == 'tuned' else 'default'}"
        cpu = seconds(statistics.median(e["cpu"])) if e["cpu"] else "–"
        times = [seconds(statistics.median(e["wall"])), seconds(min(e["wall"])), cpu, str(len(e["wall"]))]
        rows.append([f"{escape(TITLES[e['task']])}: {escape(CASES[e['case']].title)}", how, *times])
    body = table(
        ["", "what", "median", "best", "CPU", "rounds"], rows, "Wall time, best wall time and CPU time of one step."
    )
    return f'<details class="snn-bench-all"><summary>All numbers of the tables</summary>{body}</details>'


# Figure

AXES = {
    "steps": ("time steps T", lambda t: t["steps"]),
    "neurons": ("hidden neurons N", lambda t: t["sizes"][1]),
    "batch": ("batch size", lambda t: t["batch"]),
    "density": ("input density", lambda t: t["density"]),
}
"""Panels of the figure: label of the axis, and where the task stands that the panels share."""

LINES = {
    "events": ("ours, events", "blue", "o", "-"),
    "dense": ("ours, dense", "sky", "s", "-"),
    "reference": ("plain torch loop", "green", "^", "-"),
    "snntorch": ("snnTorch", "orange", "D", "-"),
    "jax": ("JAX scan", "purple", "v", "-"),
    "products": ("products alone, dense", "grey", "", "--"),
    "sparse_products": ("products alone, sparse", "black", "", ":"),
}
"""Label, colour, marker and dash of each line."""


def sweep_arrays(results: Results) -> dict[str, np.ndarray]:
    """The arrays that the figure draws: `axis/case`, `(2, points)`, value and median milliseconds."""
    found: dict[str, list[tuple[float, float]]] = {}
    for e in results["sweeps"]:
        found.setdefault(f"{e['axis']}/{e['case']}", []).append((e["value"], 1e3 * statistics.median(e["wall"])))
    return {name: np.array(sorted(points)).T for name, points in found.items()}


def digest(arrays: dict[str, np.ndarray]) -> str:
    """A short fingerprint of arrays; the figure file carries it."""
    plain = {name: array.tolist() for name, array in arrays.items()}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


def sweep_figure(results: Results) -> Any:
    """The figure: cost of a training step over steps, neurons, batch and density."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    from snnrepro import figures

    figures.use_style()
    arrays = sweep_arrays(results)
    fig, axes = plt.subplots(2, 2, figsize=(figures.WIDTH, 6.0), sharey=True)
    for letter, ax, (axis, (label, _)) in zip("ABCD", axes.flat, AXES.items(), strict=True):
        figures.panel_letter(ax, letter)
        for case, (name, colour, marker, dash) in LINES.items():
            if f"{axis}/{case}" in arrays:
                x, y = arrays[f"{axis}/{case}"]
                style = {"color": figures.OKABE_ITO[colour], "marker": marker, "linestyle": dash, "label": name}
                ax.plot(x, y, **style, gid=f"{axis}/{case}")
        ax.set(xscale="log", yscale="log", xlabel=label)
        values = sorted({e["value"] for e in results["sweeps"] if e["axis"] == axis})
        ax.set_xticks(values, [f"{v:g}" for v in values])
        ax.set_xticks([], minor=True)
        ax.yaxis.set_major_formatter("{x:g}")
        ax.grid(True, which="major", axis="y", color="0.9", linewidth=0.8)
        ax.set_axisbelow(True)
    for ax in axes[:, 0]:
        ax.set_ylabel("training step (ms)")
    handles = {label: h for ax in axes.flat for h, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    names = [name for name, *_ in LINES.values() if name in handles]
    fig.legend(
        [handles[n] for n in names], names, loc="outside lower center", ncols=4, columnspacing=1.2, handlelength=1.8
    )
    return fig


def sweep_svg(results: Results) -> str:
    """The figure as SVG, with the fingerprint of its data."""
    import matplotlib.pyplot as plt

    from snnrepro import figures

    fig = sweep_figure(results)
    svg = figures.to_svg(fig)
    plt.close(fig)
    start, tag, rest = svg.partition("<svg")
    return f"{start}<!-- data {digest(sweep_arrays(results))} -->\n{tag}{rest}"


def caption(results: Results) -> str:
    """What the figure shows."""
    b, k = results["base"], results["sweep_kind"]
    memory = "freed memory kept by the process, for all" if k["allocator"] == "tuned" else "default allocator"
    return (
        f"Time of one training step over the number of steps (A), hidden neurons (B), samples (C) and the input density (D); "
        f"elsewhere {b['steps']} steps, {b['sizes'][1]} neurons, batch {b['batch']}, density {100 * b['density']:g}\N{NO-BREAK SPACE}%. "
        f"Feed-forward network, {k['threads']} threads, {memory}; medians. "
        f"Limit: the time of the matrix products alone, the lower of the dashed and the dotted line."
    )


def alternative(results: Results) -> str:
    """The figure in words, for a reader who cannot see it."""
    arrays = sweep_arrays(results)
    found = []
    for axis, (label, _) in AXES.items():
        ours, peer = arrays.get(f"{axis}/events"), arrays.get(f"{axis}/snntorch")
        if ours is None:
            continue
        part = f"over {label} from {ours[0, 0]:g} to {ours[0, -1]:g}, ours goes from "
        part += f"{seconds(ours[1, 0] / 1e3)} to {seconds(ours[1, -1] / 1e3)}"
        if peer is not None:
            part += f" and snnTorch from {seconds(peer[1, 0] / 1e3)} to {seconds(peer[1, -1] / 1e3)}"
        found.append(part)
    return f"Four panels with logarithmic axes, one line a library. Training step with input as events: {'; '.join(found)}."
