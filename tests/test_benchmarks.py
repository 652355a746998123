"""The benchmark: our own cases do the same, verdicts are computed, and what is committed is complete."""

import copy
import re
import statistics
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

sys.path.append(str(Path(__file__).resolve().parents[1]))  # benchmarks is no part of the installed package

from benchmarks import eprop, first_spike, force, install, loihi, report, run, worker
from benchmarks.cases import CASES
from benchmarks.tasks import Task, make
from snnrepro.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
TINY = {
    "feedforward": Task("feedforward", (30, 20, 5), 30, 4),
    "recurrent": Task("recurrent", (30, 20, 5), 30, 4),
    "adaptive": Task("adaptive", (1, 12, 12, 4), 30, 4, 1.0),
}


def outputs(case, kind, *p):
    return worker.load(CASES[case].models[kind])(TINY[kind], make(TINY[kind]), "float64", *p).outputs(True)


@pytest.mark.parametrize("kind", TINY)
@pytest.mark.parametrize("case", ["events", "dense"])
def test_our_cases_do_the_same(case, kind):
    if kind in CASES[case].models:
        found = report.compared(outputs("reference", kind), outputs(case, kind))
        assert report.passed(found)
        assert found["gradient"] < 1e-10
        assert found["weights"] == sorted(outputs("reference", kind).gradients)


@pytest.mark.parametrize("kind", ["feedforward", "recurrent"])
def test_snntorch_does_the_same(kind):
    twin = CASES["snntorch"].twins[kind]
    assert report.passed(report.compared(outputs("dense", kind, twin), outputs("snntorch", kind)))


def test_a_difference_is_seen():
    ours = outputs("dense", "feedforward")
    theirs = copy.deepcopy(ours)
    theirs.spikes[0][3, 2, 1] ^= True
    assert report.compared(ours, theirs)["different"] == 1
    assert not report.passed(report.compared(ours, theirs))
    theirs = copy.deepcopy(ours)
    theirs.gradients["w1"][0, 0] += 1e-3 * np.abs(ours.gradients["w1"]).max()
    assert not report.passed(report.compared(ours, theirs))


@pytest.mark.parametrize("case", ["products", "sparse_products"])
def test_the_limit_multiplies_the_same_matrices(case):
    for kind in CASES[case].models:
        task = TINY[kind]
        data = make(task)
        model = worker.load(CASES[case].models[kind])(task, data, "float64")
        expected = data.x.reshape(-1, task.sizes[0]).astype(float) @ data.weights["w1"]
        np.testing.assert_allclose((model.rows @ model.w["w1"]).numpy(), expected, rtol=1e-6)
        back = model.sent_back[0].flatten(0, 1)
        expected = data.x.reshape(-1, task.sizes[0]).astype(float).T @ back.numpy()
        np.testing.assert_allclose((model.columns @ back).numpy(), expected, rtol=1e-6)
        model.train()


# Verdicts

TIMES = {"events": 0.010, "dense": 0.020, "snntorch": 0.090, "jax": 0.040, "spyx": 0.025}


def made_up(default=TIMES, tuned=TIMES):
    times = [
        {"task": "feedforward", "case": case, "phase": "train", "threads": 2, "allocator": allocator}
        | {"wall": [0.5 * t, t, 9 * t], "cpu": [t]}
        for allocator, by_case in (("default", default), ("tuned", tuned))
        for case, t in by_case.items()
    ]
    return {"times": times, "tasks": {"feedforward": TINY["feedforward"]._asdict()}, "checks": [], "rates": {}}


def verdicts(results):
    return [one.verdict for one in report.outcomes(results)]


def test_verdicts_are_ratios_of_medians():
    first = report.outcomes(made_up())[0]
    assert first.ratios == pytest.approx({"default": 9.0, "tuned": 9.0})
    nothing = "not measured"
    assert verdicts(made_up()) == ["reached", "not reached", nothing, "not reached", nothing, nothing, nothing]


def test_the_fastest_of_several_counts():
    one = report.outcomes(made_up())[3]
    assert one.against == {"default": "spyx", "tuned": "spyx"}
    assert one.ratios["default"] == pytest.approx(2.5)
    without = {case: t for case, t in TIMES.items() if case != "spyx"}
    assert report.outcomes(made_up(without, without))[3].verdict == "reached"


def test_a_target_met_with_one_allocator_is_partly_met():
    assert verdicts(made_up(tuned=TIMES | {"snntorch": 0.05}))[0] == "partly"
    assert verdicts(made_up(tuned={}))[0] == "reached"


def test_the_page_shows_the_computed_verdict():
    assert "✓ reached" in report.targets_html(made_up())
    slow = TIMES | {"events": 0.080}
    assert "✓ reached" not in report.targets_html(made_up(slow, slow))


def test_further_targets_have_a_badge_each():
    found = [report.Reached("against A", 5.0, "3.2×", "not reached"), report.Reached("against B", 2.0, "4×", "reached")]
    page = report.further_html({"FORCE": found, "Loihi": []})
    assert "FORCE, against A" in page
    assert page.index("✗ not reached") < page.index("FORCE, against B") < page.index("✓ reached")
    assert str(found[0]) == "against A, at least 5 times: 3.2×: not reached"


def test_a_faster_library_is_named():
    assert report.faster_peers(made_up()) == ([], 2)
    lines, places = report.faster_peers(made_up(default=TIMES | {"jax": 0.005}))
    assert places == 2
    assert lines == ["Feed-forward, training, 2 threads: JAX scan by hand, 2.0× faster"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (17.514, "17.5 s"),
        (1.0651, "1.07 s"),
        (0.1049, "105 ms"),
        (0.0112, "11.2 ms"),
        (0.000025, "25.0 µs"),
        (0.99996, "1.00 s"),
        (0.0999, "99.9 ms"),
    ],
)
def test_times_have_three_digits(value, shown):
    assert report.seconds(value) == shown


# What is committed


@pytest.fixture(scope="module")
def committed():
    return report.load()


def test_the_committed_run_is_a_full_one(committed):
    assert not committed["quick"]
    assert committed["tasks"] == {n: task._asdict() | {"sizes": list(task.sizes)} for n, task in run.FULL.tasks.items()}
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", committed["date"])
    assert {"cpu", "cores", "memory_gib", "system"} == set(committed["machine"])


def test_every_case_is_measured_or_the_reason_is_given(committed):
    left_out = {(s["task"], s["case"], s["threads"], s["allocator"]) for s in committed["skipped"]}
    for task in committed["tasks"]:
        for name, case in CASES.items():
            if name in committed["missing"] or task not in case.models or name == "brian2":
                continue
            for phase, threads, allocator, _ in report.COLUMNS:
                found = report.entry(committed, task, name, phase, threads, allocator)
                assert found or (task, name, threads, allocator) in left_out, (task, name, phase, threads, allocator)


def test_every_library_with_our_neuron_passed_its_check(committed):
    checks = {(c["task"], c["case"]): c for c in committed["checks"]}
    for name, case in CASES.items():
        for task in case.twins:
            if name not in committed["missing"]:
                assert report.passed(checks[task, name]), checks[task, name]


def test_every_target_was_measured(committed):
    needed = {case for target in report.TARGETS for case in target.others}
    if not needed & committed["missing"].keys():
        assert "not measured" not in verdicts(committed)


def test_the_sweeps_are_complete(committed):
    ended = {(s["task"], s["case"]) for s in committed["skipped"]}
    arrays = report.sweep_arrays(committed)
    for axis, values in run.SWEEPS.items():
        for case in set(run.SWEPT) - committed["missing"].keys():
            points = arrays[f"{axis}/{case}"][0].tolist()
            assert points == sorted(values)[: len(points)]
            assert len(points) == len(values) or (axis, case) in ended


def test_a_damaged_file_is_refused(committed):
    for field in report.FIELDS:
        broken = {key: value for key, value in committed.items() if key != field}
        with pytest.raises(UserError, match=field):
            report.check_schema(broken)
    broken = committed | {"times": [committed["times"][0] | {"wall": []}]}
    with pytest.raises(UserError, match=r"times\[0\]"):
        report.check_schema(broken)


def test_the_committed_figure_is_drawn_from_the_committed_numbers(committed):
    svg = (report.RESULTS / "sweeps.svg").read_text()
    assert f"<!-- data {report.digest(report.sweep_arrays(committed))} -->" in svg


def test_the_lines_of_the_figure_are_the_medians(committed):
    import matplotlib.pyplot as plt

    fig = report.sweep_figure(committed)
    drawn = {line.get_gid(): line.get_xydata() for ax in fig.axes for line in ax.get_lines() if line.get_gid()}
    plt.close(fig)
    expected = {}
    for e in committed["sweeps"]:
        expected.setdefault(f"{e['axis']}/{e['case']}", []).append((e["value"], 1000 * statistics.median(e["wall"])))
    assert drawn.keys() == expected.keys()
    for name, points in expected.items():
        np.testing.assert_allclose(drawn[name], sorted(points))


def test_the_page_types_no_number_and_no_verdict():
    page = (ROOT / "book" / "benchmark.md").read_text()
    assert not re.search(r"\d\s*(?:ms|×|times)\b|\d×", page)
    assert {"about", "targets", "faster", "figure"} <= set(re.findall(r"```\{benchmark\} (\w+)", page))
    tasks = re.findall(r"```\{benchmark\} task (\w+)", page)
    assert tasks == list(run.FULL.tasks)


def test_every_part_of_the_page_can_be_made(committed):
    for part in (report.about, report.text, report.libraries_html, report.skipped_html, report.numbers_html):
        assert part(committed)
    assert len(report.alternative(committed)) > 100
    for task in committed["tasks"]:
        assert CASES["reference"].title in report.task_html(committed, task)


# What may go wrong


def test_a_missing_library_is_reported_and_not_fatal(monkeypatch):
    def load(place):
        if "norse" in place:
            raise ImportError("no module named norse in /" + "opt/somewhere/lib")
        return object

    monkeypatch.setattr(worker, "load", load)
    missing = worker.prepare(worker.Kind("torch", 1, "default"))
    assert missing == {"norse": "ImportError: no module named norse in lib"}
    left = [case for case in CASES if case not in missing]
    assert "snntorch" in left
    results = made_up() | {"missing": missing, "skipped": [], "versions": {}}
    assert "Not measured: ImportError" in report.libraries_html(results)


def test_a_library_that_cannot_be_installed_is_reported_and_not_fatal(monkeypatch, tmp_path, capsys):
    def refuse(command, **options):
        return SimpleNamespace(returncode=1, stderr="WARNING: x\nERROR: No matching distribution found\n")

    monkeypatch.setattr(subprocess, "run", refuse)
    monkeypatch.setattr(install, "PEERS", tmp_path)
    assert install.main() == 0
    said = capsys.readouterr().err
    assert "norse==1.1.0: not possible here, goes on without it: No matching distribution found" in said


def test_every_library_is_pinned():
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in install.wanted())


def test_a_worker_measures_fails_and_ends(tmp_path):
    remote = run.Remote(worker.Kind("ours", 2, "default"), str(tmp_path))
    try:
        remote.ready()
        assert remote.missing == {}
        wall, cpu = remote.ask("time", TINY["recurrent"], "events", "train")
        assert 0 < wall < 60
        assert cpu > 0
        with pytest.raises(run.Failed, match="KeyError"):
            remote.ask("time", TINY["recurrent"], "no such case", "train")
        remote.process.terminate()
        with pytest.raises(run.Failed, match="ended"):
            remote.ask("drop")
            remote.ask("drop")
    finally:
        remote.close()
    assert not remote.process.is_alive()


def test_compilation_does_not_make_a_case_slow():
    times = iter([9.0, 0.01])
    remote = SimpleNamespace(ask=lambda method, task, case, phase: (next(times), None))
    assert run.Run(run.FULL, "").warm_up(remote, TINY["recurrent"], "events", "train", False) == 0.01
    assert next(times, None) is None


def test_a_very_slow_step_warms_up_on_fewer_steps():
    asked = []
    remote = SimpleNamespace(ask=lambda method, task, *rest: asked.append(task.steps) or (1.0, None))
    assert run.Run(run.FULL, "").warm_up(remote, run.DEEP, "norse", "train", True) == 8.0
    assert asked == [98, 98]


@pytest.mark.parametrize("arguments", [["--fast"], ["--out", "FILE"]])
def test_a_mistake_is_one_line_and_code_2(arguments, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(run, "measured", lambda plan: pytest.fail("measured"))
    file = tmp_path / "file"
    file.write_text("x")
    assert run.main([a.replace("FILE", str(file)) for a in arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("bench: ") and said.err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


# First spikes ---------------------------------------------------------------------------------------------------------------

SMALL = {name: task._replace(sizes=(20, 30, 8), batch=4) for name, task in first_spike.TASKS.items()}


@pytest.mark.parametrize("name", SMALL)
def test_first_spikes_ours_and_plain_torch_do_the_same(name):
    ours, plain = (first_spike.build(SMALL[name], case)() for case in ("ours", "plain"))
    found = first_spike.compared(ours, plain)
    assert np.isfinite(ours[0]).mean() > 0.5
    assert found["existence"] == 0
    assert found["times"] < 1e-12
    assert found["gradients"] < 1e-9


def test_first_spikes_a_difference_is_seen():
    ours = first_spike.build(SMALL["Yin-Yang"], "ours")()
    theirs = copy.deepcopy(ours)
    theirs[0][0, 0] = np.inf
    theirs[1][1][0, 0] = np.nan
    found = first_spike.compared(ours, theirs)
    assert found["existence"] == 1
    assert found["gradients"] is None


def test_first_spikes_ratios_and_targets():
    def task(name, **times):
        check = {"existence": 0, "times": 1e-15, "gradients": 1e-12}
        times = {case: [t, 2 * t, 3 * t] for case, t in times.items()}
        return {"task": name, "sizes": [2, 3, 4], "batch": 5, "checks": dict.fromkeys(times, check), "times": times}

    results = {
        "tasks": [task("Yin-Yang", ours=1e-3, plain=4e-3, jaxsnn=4e-3), task("MNIST", ours=1e-3, plain=81e-3)],
        "missing": {"jaxsnn": "no <room>"},
        "versions": {"numpy": "1"},
        "date": "2026-01-01",
    }
    assert first_spike.ratios(results, "plain") == [("Yin-Yang", pytest.approx(4)), ("MNIST", pytest.approx(81))]
    assert first_spike.ratios(results, "jaxsnn")[1] == ("MNIST", None)
    plain, jaxsnn = map(str, first_spike.targets(results))
    assert plain.endswith("MNIST 81×: reached")
    assert jaxsnn.endswith("Yin-Yang 4.0×: not reached")
    html = first_spike.table_html(results)
    assert "no &lt;room&gt;" in html
    assert ">81×<" in html
    assert ">–<" in html


def test_first_spikes_what_is_committed_is_complete():
    results = first_spike.load()
    assert [task["task"] for task in results["tasks"]] == list(first_spike.TASKS)
    for task in results["tasks"]:
        assert set(task["times"]) >= {"ours", "plain"}
        assert task["checks"]["plain"]["existence"] == 0
        assert task["checks"]["plain"]["times"] < 1e-10


# FORCE ----------------------------------------------------------------------------------------------------------------------

SMALL_FORCE = force.QUICK._replace(n=60)


@pytest.mark.parametrize("case", ["numpy", "blas"])
@pytest.mark.parametrize("learns", [True, False])
def test_force_ours_and_numpy_have_the_same_spikes(case, learns):
    given = force.problem(SMALL_FORCE, SMALL_FORCE.n, learns)
    found = []
    for name in ("ours", case):
        one = force.CASES[name].build(given, listed=True)
        one.run()
        first = one.found
        assert one.run() > 0
        np.testing.assert_array_equal(one.found.outputs, first.outputs)  # it begins at the same state again
        found.append(first)
    check = force.compared(*found, len(given.teacher))
    assert check["spikes"] > 20
    assert check["different"] == 0
    assert check["outputs"] < 1e-12


def test_force_learning_changes_the_output():
    free, taught = (force.peers.Plain(force.problem(SMALL_FORCE, SMALL_FORCE.n, learns)) for learns in (False, True))
    free.run(), taught.run()
    assert np.abs(free.found.outputs - taught.found.outputs).max() > 1e-6


def test_force_updates_alone_are_the_same():
    rates = np.random.default_rng(0).random((20, 30))
    ours, *plain = (build(30, 0.5) for build in force.UPDATES.values())
    ours.run(rates)
    for other in plain:
        other.run(rates)
        np.testing.assert_allclose(force.rls.matrix(ours.state), other.p, atol=1e-12)
        np.testing.assert_allclose(ours.phi[0], other.phi, atol=1e-12)


def test_force_brian2_has_the_same_spikes():
    given = force.problem(SMALL_FORCE, SMALL_FORCE.n, True)
    ours = force.peers.Ours(given, listed=True)
    brian2 = force.peers.Brian2(given, listed=True, target="numpy")  # no compiler is needed here
    ours.run(), brian2.run()
    check = force.compared(ours.found, brian2.found, len(given.teacher))
    assert check["spikes"] > 20
    assert check["different"] == 0
    assert check["outputs"] < 1e-12


def test_force_a_difference_is_seen():
    spikes = force.peers.Found(np.zeros(5), np.array([0, 1, 3]), np.array([2, 2, 2]))
    other = force.peers.Found(np.full(5, 0.5), np.array([0, 2, 3]), np.array([2, 2, 1]))
    assert force.compared(spikes, other, 3) == {"spikes": 2, "different": 2, "outputs": 0.5}
    assert force.compared(spikes, other._replace(outputs=None), 1) == {"spikes": 1, "different": 0, "outputs": None}


def made_up_force(learning, free):
    times = [
        {"phase": phase, "case": case, "wall": [0.5 * t, t, 9 * t]}
        for phase, found in (("learning", learning), ("free", free))
        for case, t in found.items()
    ]
    check = {"spikes": 9, "different": 0, "outputs": 1e-15}
    sweep = [
        {"n": n, "what": what, "case": case, "wall": [1e-6 * n, 2e-6 * n, 9e-6 * n]}
        for n in (100, 200)
        for what, cases in (("steps", force.STEPPED), ("update", force.UPDATES))
        for case in cases
    ]
    return {
        "setting": force.FULL._replace(n=200, sizes=(100, 200))._asdict(),
        "checks": [{"phase": "free", "case": case} | check for case in free],
        "times": times,
        "sweep": sweep,
        "bandwidth": {"read": 20e9, "change": 40e9},
        "missing": {},
        "machine": {"cpu": "A & B"},
        "others_percent": 0.0,
        "versions": {"numpy": "1"},
        "date": "2026-01-01",
    }


def test_force_ratios_and_targets():
    results = made_up_force(
        {"ours": 0.1, "numpy": 1.1, "brian2": 0.4}, {"ours": 0.1, "numpy": 0.9, "brian2": 0.8, "program": 0.6}
    )
    numpy, numpy_free, brian2, brian2_free = map(str, force.targets(results))
    assert numpy == "against NumPy, while learning, at least 10 times: 11.0×: reached"
    assert numpy_free == "against NumPy, without learning, at least 10 times: 9.0×: not reached"
    assert brian2 == "against Brian2, while learning, at least 5 times: 4.0× (Cython): not reached"
    assert brian2_free == "against Brian2, without learning, at least 5 times: 6.0× (C++ program): reached"
    html = force.table_html(results)
    assert ">11.0×<" in html and ">–<" in html and "A &amp; B" in html
    assert "✓ same spikes" in html
    assert "add up to 760 ms, 7.6×" in force.by_hand(results)  # 0.6 s, and 400 updates of 0.4 ms
    results["checks"][1]["different"] = 3
    assert "✗ 3 spikes differ" in force.table_html(results)


def test_force_what_is_missing_is_a_line():
    results = made_up_force({"ours": 0.1, "numpy": 1.1}, {"ours": 0.1, "numpy": 0.9})
    results["missing"] = {"brian2": "no <compiler>", "program": "no <compiler>"}
    results["sweep"] = [e for e in results["sweep"] if e["case"] != "brian2"]
    html = force.table_html(results)
    assert "not measured: Brian2, Cython: no &lt;compiler&gt;" in html
    assert "Brian2, while learning, at least 5 times: –: not measured" in html
    assert force.by_hand(results) == ""
    assert "steps/brian2" not in force.arrays(results)
    assert "not measured: no <compiler>" in force.text(results | {"seconds": 1})


def test_force_a_library_that_fails_is_not_the_end(monkeypatch):
    def refuse(problem, listed=False):
        raise OSError("no compiler in /" + "opt/somewhere/bin")

    monkeypatch.setattr(force, "confine", lambda threads: None)
    cases = {
        name: case._replace(build=refuse) if "brian2" in name or name == "program" else case
        for name, case in force.CASES.items()
    }
    monkeypatch.setattr(force, "CASES", cases)
    results = force.measure(1, SMALL_FORCE._replace(sizes=(20, 40), numbers=1000))
    assert results["missing"] == dict.fromkeys(("brian2", "program"), "OSError: no compiler in bin")
    assert {(e["phase"], e["case"]) for e in results["times"]} == {
        (phase, case) for phase in force.PHASES for case in ("ours", "numpy", "blas")
    }


def test_force_the_limits_are_bytes_over_bandwidth():
    drawn = force.arrays(made_up_force({}, {}))
    np.testing.assert_allclose(drawn["update/half"], [[100, 200], [100 * 101 * 4 / 20e6, 200 * 201 * 4 / 20e6]])
    np.testing.assert_allclose(drawn["update/whole"], [[100, 200], [16e4 / 40e6, 64e4 / 40e6]])
    np.testing.assert_allclose(drawn["update/ours"], [[100, 200], [0.2, 0.4]])


def test_force_what_is_committed_is_complete():
    results = force.load()
    assert results["setting"] == force.FULL._asdict() | {"sizes": list(force.FULL.sizes)}
    assert {"NumPy", "Brian2"} == set(force.TARGETS)
    here = [name for name in force.CASES if name not in results["missing"]]
    for phase in force.PHASES:
        assert {e["case"] for e in results["times"] if e["phase"] == phase} == set(here)
        checks = {c["case"]: c for c in results["checks"] if c["phase"] == phase}
        for name in here:
            assert checks[name]["spikes"] > 1000
            assert checks[name]["different"] == 0
    points = {(e["what"], e["case"], e["n"]) for e in results["sweep"]}
    for n in force.FULL.sizes:
        assert points >= {("steps", case, n) for case in force.STEPPED if case in here}
        assert points >= {("update", case, n) for case in force.UPDATES}
    assert f"<!-- data {report.digest(force.arrays(results))} -->" in force.FIGURE.read_text()
    assert "not measured" not in "".join(map(str, force.targets(results))) or results["missing"]
    assert len(force.alternative(results)) > 100 and force.caption(results)


# Loihi ----------------------------------------------------------------------------------------------------------------------


def made_up_loihi(ours, lava, check):
    tasks = [
        {
            "task": name,
            "sizes": [3, 4],
            "recurrent": name == "recurrent",
            "steps": 9,
            "ours": ours,
            "lava": lava,
            "check": check,
        }
        for name in loihi.TASKS
    ]
    return {
        "tasks": tasks,
        "set": {"samples": 7, "steps": 5, "sizes": [3, 4], "seconds": 0.25, "spikes": 3},
        "missing": {} if lava else {"lava-nc": "no <lava>"},
        "machine": {"cpu": "A & B"},
        "others_percent": 0.0,
        "versions": {"numpy": "2"},
        "lava_versions": {"lava-nc": "0"} if lava else {},
        "date": "2026-01-01",
    }


def test_loihi_the_networks_spike_as_networks_do():
    for name, task in loihi.TASKS.items():
        x, layers = loihi.problem(task._replace(steps=200), 2)
        for trace in loihi.loihi.run_network(x, layers, states=False):
            assert 0.02 < trace.s.mean() < 0.4, name


def test_loihi_a_difference_is_seen():
    ours = {"u": np.zeros((4, 2), int), "v": np.ones((4, 2), int), "s": np.ones((4, 2), int)}
    theirs = ours | {"v": ours["v"] + np.array([[1, 0]] * 4)}
    assert loihi.compared(ours, ours) == {"spikes": 8, "u": 0, "v": 0, "s": 0}
    found = loihi.compared(ours, theirs)
    assert found["v"] == 4
    assert loihi.check_text(found) == "✗ 4 differ"
    assert loihi.check_text(loihi.compared(ours, ours)) == "✓ same u, v and 8 spikes"


def test_loihi_ratios_and_targets():
    check = {"spikes": 5, "u": 0, "v": 0, "s": 0}
    fast, slow = (made_up_loihi([0.1, 0.2, 0.9], [t], check) for t in (2.2, 1.8))
    assert loihi.lines(fast)[0].endswith("recurrent 11.0×, classifier 11.0×: reached")
    assert loihi.lines(slow)[0].endswith("9.0×: not reached")
    assert loihi.lines(fast)[1] == "7 samples of 5 steps through 3-4: 250 ms on one core"
    html = loihi.table_html(fast)
    assert ">11.0×<" in html and "A &amp; B" in html and "recurrent<br>3-4, 9 steps" in html
    without = made_up_loihi([0.1], [], None)
    assert "not measured" in loihi.lines(without)[0]
    assert "no &lt;lava&gt;" in loihi.table_html(without)


def test_loihi_without_the_other_python(tmp_path, capsys):
    assert loihi.main(["--python", str(tmp_path / "none"), "--quick"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("benchmark: cannot start")
    task = {"one layer": loihi.Task((5, 4), False, 6)}
    found = loihi.measure(sys.executable, 1, task, 3)  # a Python without lava-nc
    assert found["missing"]["lava-nc"].startswith("RuntimeError: ModuleNotFoundError: No module named 'lava")
    assert len(found["tasks"][0]["ours"]) == 0 or found["tasks"][0]["lava"] == []
    assert found["set"]["seconds"] > 0


def test_loihi_what_is_committed_is_complete():
    results = loihi.load()
    assert [entry["task"] for entry in results["tasks"]] == list(loihi.TASKS)
    for entry, task in zip(results["tasks"], loihi.TASKS.values(), strict=True):
        assert (tuple(entry["sizes"]), entry["steps"]) == (task.sizes, task.steps)
        assert entry["check"]["spikes"] > 1000
        assert entry["check"]["u"] == entry["check"]["v"] == entry["check"]["s"] == 0
        assert loihi.ratio(entry) > loihi.TARGET
    assert results["set"]["samples"] == 1000


# e-prop ---------------------------------------------------------------------------------------------------------------------


def test_eprop_all_compute_the_same_gradients():
    p = eprop.problem(eprop.QUICK)
    found = {case: eprop.gradient(case, p) for case in eprop.CASES}
    assert found["forward"] is None
    for case, (_, ours) in eprop.TARGETS.items():
        assert eprop.apart(found[case], found[ours]) < 1e-4
    assert eprop.apart(found["eprop"], found["bptt"]) > 0.1  # other feedback, fewer paths
    assert np.abs(found["eprop"].recurrent).max() > 0


def test_eprop_memory_does_not_grow():
    p = eprop.problem(eprop.QUICK)
    eprop.peak(p, eprop.QUICK, 1)
    once, thrice = (eprop.peak(p, eprop.QUICK, n) for n in (1, 3))
    assert thrice < 1.2 * once


def test_eprop_table_and_targets():
    times = {
        "forward": [1.0] * 3,
        "eprop": [2.0, 2.0, 4.0],
        "bptt": [3.0] * 3,
        "online": [120.0, 80.0, 400.0],
        "autograd": [6.0] * 3,
    }
    results = {
        "setting": eprop.QUICK._replace(task=eprop.QUICK.task._asdict())._asdict(),
        **{"steps": 60, "checks": {"online": 1e-7, "autograd": 2e-7}, "times": times, "memory": [2**20, 2**20]},
        **{"machine": {"cpu": "a CPU"}, "others_percent": 0.0, "versions": {"numpy": "2"}, "date": "2020-01-01"},
    }
    assert eprop.ratio(results, "online") == 60 and eprop.ratio(results, "autograd") == 2
    online, autograd = (line for line in eprop.lines(results) if line.startswith("target"))
    assert "60×: reached" in online and "2.0×: not reached" in autograd
    html = eprop.table_html(results)
    assert "otherwise idle" in html and "4 trials of 60 steps, 20 neurons" in html and "1.00 MiB for two" in html
