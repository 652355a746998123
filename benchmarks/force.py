"""`python -m benchmarks.force`: FORCE training of spiking networks against the authors' loop in NumPy and against Brian2.

All run in one process on one core, one stretch of simulated time after the other, in an order that is shuffled anew in each round; each
stretch begins at the same state. Before that, their spikes are compared. Then the number of neurons varies. Writes `force.json` and
`force.svg`.
"""

import gc
import multiprocessing
import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil

from benchmarks import report
from benchmarks.peers import force as peers
from benchmarks.script import options, stamped
from benchmarks.worker import THREADS, confine, said
from snnrepro import ledger
from snnrepro.files import read_json, shown, write_json, write_text
from snnrepro.force import networks, rls, teachers
from snnrepro.force.networks import Learning, Lif
from snnrepro.progress import say

RESULTS = Path(__file__).parent / "results" / "force.json"
FIGURE = RESULTS.with_suffix(".svg")


class Setting(NamedTuple):
    """The network of the sine in figure 2, and how it is measured. Times in seconds.

    Attributes:
        n: neurons.
        every: steps between two updates of the decoder.
        gain, feedback, initial: G, Q and P(0).
        share: of the static weights that are not 0.
        settle: before the network learns for the first time.
        taught: for which it then learns; where that ends, all measurements begin.
        stretch: of one measurement.
        checked: of which the spikes are compared.
        sizes: numbers of neurons of the figure.
        numbers: of the array that is read for the bandwidth.
    """

    n: int = 2000
    dt: float = 5e-5
    rise: float = 2e-3
    fall: float = 20e-3
    every: int = 50
    gain: float = 0.04
    feedback: float = 10.0
    initial: float = 5e-6
    share: float = 0.1
    settle: float = 0.25
    taught: float = 0.5
    stretch: float = 0.2
    checked: float = 0.1
    sizes: tuple[int, ...] = (500, 1000, 2000, 4000)
    numbers: int = 64_000_000


FULL = Setting()
QUICK = Setting(n=100, settle=0.05, taught=0.05, stretch=0.04, checked=0.02, sizes=(50, 100), numbers=1_000_000)


class Case(NamedTuple):
    """What is measured: label, how it works, and the class."""

    title: str
    says: str
    build: type


CASES = {
    "ours": Case(
        "ours", "compiled steps, a spike adds its sparse column; half of P is read in each update", peers.Ours
    ),
    "numpy": Case(
        "NumPy",
        "the authors' loop with dense weights; P -= outer(c, c / s), with work space for the product",
        peers.Plain,
    ),
    "blas": Case("NumPy, P by BLAS", "the same, but SciPy's dger changes P in place", peers.PlainBlas),
    "brian2": Case("Brian2, Cython", "compiled Cython code; decoder and RLS are an operation in NumPy", peers.Brian2),
    "program": Case(
        "Brian2, C++ program",
        "standalone mode, compiled before; each entry of P is a synapse, as in Brian2's own example of the paper",
        peers.Brian2Program,
    ),
}
PHASES = {"learning": "while learning", "free": "without learning"}
TARGETS = {"NumPy": (10.0, ("numpy",)), "Brian2": (5.0, ("brian2", "program"))}
"""Set before the measurement. The fastest of the cases counts."""

UPDATES: dict[str, Callable[[int, float], Any]] = {
    "ours": peers.OurUpdate,
    "numpy": lambda n, initial: peers.PlainUpdate(n, initial, peers.change_by_numpy),
    "blas": lambda n, initial: peers.PlainUpdate(n, initial, peers.change_by_blas),
}
STEPPED = ("ours", "numpy", "brian2")
"""Cases of the figure."""


def problem(setting: Setting, n: int, learns: bool) -> peers.Problem:
    """A network that has learned for a while, and goes on from there; if it learns, then with a new P."""
    g = np.random.default_rng(2017)
    static = networks.static_weights(n, setting.gain, setting.share, True, g)
    feedback = setting.feedback * g.uniform(-1, 1, (1, n))
    network = networks.Network(Lif(), setting.dt, setting.rise, setting.fall, static, feedback)
    start = networks.start(network, g.uniform(-65.0, 30.0, n), setting.initial)
    settle, taught, stretch = (round(t / setting.dt) for t in (setting.settle, setting.taught, setting.stretch))
    teacher = teachers.sine(taught + stretch, setting.dt)
    learning = Learning(0, settle + taught + stretch + 1, setting.every, setting.initial)
    networks.run(network, start, settle, None, None)
    networks.run(network, start, taught, teacher[:taught], learning)
    start.free[:], start.step[0] = 0, 0
    return peers.Problem(network, start, teacher[taught:], learning if learns else None)


def compared(ours: peers.Found, theirs: peers.Found, steps: int) -> dict[str, Any]:
    """Spikes of the first steps, how many of them only one of two has, and the largest difference of the outputs."""
    sets = [set(zip(f.steps.tolist(), f.units.tolist(), strict=True)) for f in (ours, theirs)]
    early = [{spike for spike in one if spike[0] < steps} for one in sets]
    outputs = None
    if theirs.outputs is not None:
        outputs = float(np.abs(ours.outputs[:steps] - theirs.outputs[:steps]).max())
    return {"spikes": len(early[0]), "different": len(early[0] ^ early[1]), "outputs": outputs}


def timed(rounds: int, cases: dict[Any, Callable[[], float]], what: str) -> dict[Any, list[float]]:
    """Seconds of each case in each round."""
    order, times = random.Random(0), {key: [] for key in cases}
    for round_ in range(rounds):
        say(f"{what}: round {round_ + 1} of {rounds}")
        for key in order.sample(list(cases), len(cases)):
            gc.collect()
            times[key].append(cases[key]())
    return times


def bandwidth(numbers: int) -> dict[str, float]:
    """Bytes a second on this core: reading an array that fits in no cache, and reading it and writing it back. The best of several."""
    a = np.ones(numbers)
    reads = (lambda: a @ a, lambda: a.max(), lambda: a.sum())
    changes = (lambda: np.negative(a, out=a), lambda: np.multiply(a, 1.0, out=a))

    def best(ways: tuple[Callable[[], Any], ...]) -> float:
        found = []
        for way in ways * 5:
            began = time.perf_counter()
            way()
            found.append(time.perf_counter() - began)
        return min(found)

    return {"read": a.nbytes / best(reads), "change": 2 * a.nbytes / best(changes)}


def measure(rounds: int, setting: Setting) -> dict[str, Any]:
    """Check and time everything, in a process that was started with one thread."""
    from benchmarks.run import Load

    confine(1)
    load, began, missing = Load(), time.monotonic(), {}
    checks, times = [], []
    for phase in PHASES:
        given, ready, reference = problem(setting, setting.n, phase == "learning"), {}, None
        for name, case in CASES.items():
            if name in missing:
                continue
            say(f"{PHASES[phase]}: {case.title} is built, and compared with ours")
            try:
                check = case.build(given, listed=True)
                check.run()
                found = check.found
                del check
                ready[name] = case.build(given)
                ready[name].run()
            except Exception as error:  # a library that fails is a line in the report, not the end of the run
                missing[name] = said(error)
                ready.pop(name, None)
                continue
            reference = found if reference is None else reference  # ours is the first
            checks.append(
                {"phase": phase, "case": name} | compared(reference, found, round(setting.checked / setting.dt))
            )
        found = timed(rounds, {name: one.run for name, one in ready.items()}, PHASES[phase])
        times += [{"phase": phase, "case": name, "wall": per_second(t, setting.stretch)} for name, t in found.items()]
    sweep = swept(rounds, setting, missing)
    say("bandwidth of the memory")
    return {
        "setting": setting._asdict(),
        "checks": checks,
        "times": times,
        "sweep": sweep,
        "bandwidth": bandwidth(setting.numbers),
        "missing": missing,
        "machine": ledger.machine() | {"memory_gib": round(psutil.virtual_memory().total / 2**30)},
        "others_percent": round(load.percent(), 1),
        "seconds": round(time.monotonic() - began),
    }


def per_second(times: list[float], stretch: float) -> list[float]:
    """Wall time of a simulated second."""
    return [round(t / stretch, 6) for t in times]


def swept(rounds: int, setting: Setting, missing: dict[str, str]) -> list[dict[str, Any]]:
    """Steps without learning and updates alone, for several numbers of neurons."""
    found = []
    for n in setting.sizes:
        given, cases, g = problem(setting, n, False), {}, np.random.default_rng(0)
        rates = g.random((2 * rls.PENDING, n))
        for name in STEPPED:
            if name in missing:
                continue
            try:
                one = CASES[name].build(given)
                one.run()
            except Exception as error:  # as above
                say(f"N = {n}: {CASES[name].title}: {said(error)}")
                continue
            cases["steps", name] = one.run
        for name, build in UPDATES.items():
            update = build(n, setting.initial)
            update.run(rates)
            cases["update", name] = partial(update.run, rates)
        for (what, name), times in timed(rounds, cases, f"N = {n}").items():
            wall = per_second(times, setting.stretch) if what == "steps" else [round(t / len(rates), 9) for t in times]
            found.append({"n": n, "what": what, "case": name, "wall": wall})
    return found


# What is shown --------------------------------------------------------------------------------------------------------------


def load(path: Path = RESULTS) -> dict[str, Any]:
    """The results of the last run."""
    return read_json(path)


def median(results: dict[str, Any], phase: str, case: str) -> float | None:
    """Median wall time of a simulated second; None where it was not measured."""
    found = [e["wall"] for e in results["times"] if (e["phase"], e["case"]) == (phase, case)]
    return statistics.median(found[0]) if found else None


def swept_median(results: dict[str, Any], what: str, case: str, n: int) -> float | None:
    """Median time of a point of the figure."""
    found = [e["wall"] for e in results["sweep"] if (e["what"], e["case"], e["n"]) == (what, case, n)]
    return statistics.median(found[0]) if found else None


def targets(results: dict[str, Any]) -> list[report.Reached]:
    """One for each target and phase."""
    found = []
    for library, (factor, cases) in TARGETS.items():
        for phase, words in PHASES.items():
            times = {case: median(results, phase, case) for case in cases}
            times = {case: t for case, t in times.items() if t is not None}
            says = f"against {library}, {words}"
            if not times:
                found.append(report.Reached(says, factor, "–", "not measured"))
                continue
            fastest = min(times, key=times.get)
            ratio = times[fastest] / median(results, phase, "ours")
            verdict = "reached" if ratio >= factor else "not reached"
            who = f" ({CASES[fastest].title.partition(', ')[2]})" if len(cases) > 1 else ""
            found.append(report.Reached(says, factor, f"{report.ratio_text(ratio)}{who}", verdict))
    return found


def by_hand(results: dict[str, Any]) -> str:
    """What Brian2's C++ program would take with an update of its own, by adding up two measurements; empty where one is missing."""
    setting = results["setting"]
    steps, ours = median(results, "free", "program"), median(results, "learning", "ours")
    update = swept_median(results, "update", "blas", setting["n"])
    if steps is None or update is None:
        return ""
    whole = steps + update / (setting["every"] * setting["dt"])
    return (
        f"not measured: the C++ program with an update of all of P by BLAS that one writes into it by hand; its steps and such updates "
        f"add up to {report.seconds(whole)}, {report.ratio_text(whole / ours)}"
    )


def check_text(results: dict[str, Any], case: str) -> str:
    """What the comparison of the spikes gave, over all phases."""
    found = [c for c in results["checks"] if c["case"] == case]
    if case == "ours":
        return " and ".join(str(c["spikes"]) for c in found) + " spikes"
    different = sum(c["different"] for c in found)
    outputs = [c["outputs"] for c in found if c["outputs"] is not None]
    text = f"✗ {different} spikes differ" if different else "✓ same spikes"
    return text + (f", output {max(outputs):.0e}" if outputs else "")


def table_html(results: dict[str, Any]) -> str:
    """Times of a simulated second and how many times ours they are, what the checks found, and what became of the targets."""
    setting = results["setting"]
    head = ["", *PHASES.values(), f"first {1e3 * setting['checked']:g} ms"]
    rows = []
    for name, case in CASES.items():
        if name in results["missing"]:
            continue
        cells = [f"<strong>{case.title}</strong>" if name == "ours" else escape(case.title)]
        for phase in PHASES:
            time_, ours = median(results, phase, name), median(results, phase, "ours")
            shown_ = ("–", "") if time_ is None else (report.seconds(time_), report.ratio_text(time_ / ours))
            cells.append(f'<span class="snn-value">{shown_[0]}</span> <span class="snn-n">{shown_[1]}</span>')
        rows.append([*cells, escape(check_text(results, name))])
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    machine, busy = results["machine"], results["others_percent"]
    caption = (
        f"Median wall time of one simulated second on one core, and how many times ours it is; {setting['n']} neurons, "
        f"{1 / setting['dt']:.0f} steps and {1 / (setting['every'] * setting['dt']):.0f} updates a second. {results['date']}, "
        f"{machine['cpu']}, {report.load_text(busy)}; {versions}."
    )
    lines = [f"{case.title}: {case.says}" for case in CASES.values()]
    lines += [f"not measured: {CASES[case].title}: {why}" for case, why in results["missing"].items()]
    lines += [line for line in [by_hand(results)] if line]
    lines += [f"target {one}" for one in targets(results)]
    return report.table(head, rows, caption) + "<ul>" + "".join(f"<li>{escape(line)}.</li>" for line in lines) + "</ul>"


def text(results: dict[str, Any]) -> str:
    """The table for a terminal."""
    lines = [f"{'wall time of a simulated second':32}" + "".join(f"{words:>24}" for words in PHASES.values())]
    for name, case in CASES.items():
        cells = ""
        for phase in PHASES:
            time_, ours = median(results, phase, name), median(results, phase, "ours")
            shown_ = "–" if time_ is None else f"{report.seconds(time_)} {report.ratio_text(time_ / ours):>7}"
            cells += f"{shown_:>24}"
        why = results["missing"].get(name)
        lines.append(f"{case.title:32}{cells}  {f'not measured: {why}' if why else check_text(results, name)}")
    gigabytes = {what: value / 1e9 for what, value in results["bandwidth"].items()}
    lines.append(f"memory: {gigabytes['read']:.1f} GB/s read, {gigabytes['change']:.1f} GB/s read and written back")
    for n in results["setting"]["sizes"]:
        points = [e for e in results["sweep"] if e["n"] == n]
        shown_ = [f"{e['what']} {e['case']} {report.seconds(statistics.median(e['wall']))}" for e in points]
        lines.append(f"N = {n}: {', '.join(shown_)}")
    lines += [line for line in [by_hand(results)] if line] + [str(one) for one in targets(results)]
    return "\n".join(lines)


# Figure ---------------------------------------------------------------------------------------------------------------------

LINES = {
    "ours": ("ours", "blue", "o", "-"),
    "numpy": ("NumPy", "orange", "D", "-"),
    "blas": ("NumPy, P by BLAS", "vermillion", "v", "-"),
    "brian2": ("Brian2, Cython", "green", "^", "-"),
    "half": ("half of P read from memory", "sky", "", "--"),
    "whole": ("all of P read and written", "black", "", ":"),
}
"""Label, colour, marker and dash of each line."""


def arrays(results: dict[str, Any]) -> dict[str, np.ndarray]:
    """The arrays that the figure draws: `what/case`, `(2, points)`, neurons and milliseconds."""
    found: dict[str, list[tuple[float, float]]] = {}
    for e in results["sweep"]:
        found.setdefault(f"{e['what']}/{e['case']}", []).append((e["n"], 1e3 * statistics.median(e["wall"])))
    for n in results["setting"]["sizes"]:
        half, whole = 8 * n * (n + 1) / 2, 2 * 8 * n * n  # bytes
        found.setdefault("update/half", []).append((n, 1e3 * half / results["bandwidth"]["read"]))
        found.setdefault("update/whole", []).append((n, 1e3 * whole / results["bandwidth"]["change"]))
    return {name: np.array(sorted(points)).T for name, points in found.items()}


def figure(results: dict[str, Any]) -> Any:
    """The figure: cost of the steps and of an update over the number of neurons."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    from snnrepro import figures

    figures.use_style()
    drawn = arrays(results)
    fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 3.9))
    labels = {"steps": "steps of one simulated second (ms)", "update": "one update of P (ms)"}
    for letter, ax, (what, label) in zip("AB", axes, labels.items(), strict=True):
        figures.panel_letter(ax, letter)
        for case, (name, colour, marker, dash) in LINES.items():
            if f"{what}/{case}" in drawn:
                style = {"color": figures.OKABE_ITO[colour], "marker": marker, "linestyle": dash, "label": name}
                ax.plot(*drawn[f"{what}/{case}"], **style, gid=f"{what}/{case}")
        ax.set(xscale="log", yscale="log", xlabel="neurons N", ylabel=label)
        ax.set_xticks(results["setting"]["sizes"], [f"{n:g}" for n in results["setting"]["sizes"]])
        ax.set_xticks([], minor=True)
        ax.yaxis.set_major_formatter("{x:g}")
        ax.grid(True, which="major", axis="y", color="0.9", linewidth=0.8)
        ax.set_axisbelow(True)
    handles = {label: h for ax in axes for h, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    names = [name for name, *_ in LINES.values() if name in handles]
    fig.legend([handles[n] for n in names], names, loc="outside lower center", ncols=3, columnspacing=1.2)
    return fig


def svg(results: dict[str, Any]) -> str:
    """The figure as SVG, with the fingerprint of its data."""
    import matplotlib.pyplot as plt

    from snnrepro import figures

    fig = figure(results)
    drawn = figures.to_svg(fig)
    plt.close(fig)
    start, tag, rest = drawn.partition("<svg")
    return f"{start}<!-- data {report.digest(arrays(results))} -->\n{tag}{rest}"


def caption(results: dict[str, Any]) -> str:
    """What the figure shows."""
    read, change = (results["bandwidth"][name] / 1e9 for name in ("read", "change"))
    return (
        "Cost over the number of neurons: the steps of one simulated second without learning (A), and one update of decoder and P (B). "
        f"One core, medians. Dashed: the time to read half of P at {read:.0f} GB/s. Dotted: to read all of P and write it back at "
        f"{change:.0f} GB/s. Both rates are measured on an array that fits in no cache, so a P that does fit can be faster."
    )


def alternative(results: dict[str, Any]) -> str:
    """The figure in words, for a reader who cannot see it."""
    drawn, found = arrays(results), []
    for what, words in (("steps", "the steps of a simulated second"), ("update", "one update")):
        for case, (name, *_) in LINES.items():
            if f"{what}/{case}" in drawn:
                x, y = drawn[f"{what}/{case}"]
                found.append(f"{words}, {name}, from {report.seconds(y[0] / 1e3)} to {report.seconds(y[-1] / 1e3)}")
    return f"Two panels with logarithmic axes, from {x[0]:g} to {x[-1]:g} neurons: {'; '.join(found)}."


def main(arguments: list[str] | None = None) -> int:
    """Run, write and print."""
    given = options("force", __doc__).parse_args(arguments)
    os.environ.update(dict.fromkeys(THREADS, "1"))  # read when a process imports NumPy: hence another one
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        results = pool.submit(measure, given.rounds, QUICK if given.quick else FULL).result()
    results = stamped(results, *(p for p in ("numpy", "scipy", "numba", "brian2") if p not in results["missing"]))
    drawn = svg(results)
    print(text(results))
    if not given.quick:
        write_json(RESULTS, results)
        write_text(FIGURE, drawn)
        say(f"written: {shown(RESULTS)}, {shown(FIGURE)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
