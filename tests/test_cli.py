import dataclasses
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pexpect
import pytest
from conftest import DEMO

import snnrepro
from snnrepro import cli, data, papers, runner
from snnrepro.errors import UserError

SNNREPRO = str(Path(sys.executable).with_name("snnrepro"))
CLAIMS = "chapters/demo2020/claims.yml"


def fails(capsys, *arguments):
    """The one line that a refused command prints."""
    assert cli.main(list(arguments)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("snnrepro: ") and captured.err.count("\n") == 1, captured.err
    return captured.err


def files(root):
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def mine(monkeypatch):
    """The demo repository owned by somebody who is not root, whom no permission would stop."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "demo"
        shutil.copytree(DEMO, root, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        monkeypatch.setenv("SNNREPRO_ROOT", str(root))
        user = os.geteuid()
        if user == 0:
            for place in (Path(folder), root, *root.rglob("*")):
                os.chown(place, 65534, -1)
            os.seteuid(65534)
        try:
            yield root
        finally:
            for place in (root, *root.rglob("*")):
                place.chmod(0o755)
            os.seteuid(user)


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("0-3", (0, 1, 2, 3)), ("4", (4,)), ("0,3,5-7", (0, 3, 5, 6, 7)), (" 2 - 3 ,1", (1, 2, 3)), ("3,1-3", (1, 2, 3))],
)
def test_seeds(text, seeds):
    assert cli.parse_seeds(text) == seeds


@pytest.mark.parametrize(
    "text",
    ["", " ", "5-2", "a-b", "-1", "1-", "1--2", "1,,2", "1.5", "0-99999999999", "4294967296", "²", "1-2-3", "0x1"],
)
def test_wrong_seeds_are_quoted(text):
    with pytest.raises(UserError, match=r"^seeds ") as caught:
        cli.parse_seeds(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "demo2021"], "unknown chapter 'demo2021'; did you mean demo2020?"),
        (["list", "nobody"], "unknown chapter 'nobody'; known: demo2020"),
        (["check", "nobody"], "unknown chapter"),
        (["execute", ""], "unknown chapter ''"),
        (["list", ""], "unknown chapter ''"),
        (["execute", "nobody"], "unknown chapter"),
        (["record", "nobody"], "unknown chapter"),
        (["run", "demo2020/run"], "unknown experiment 'run' in demo2020; known: walk, broken"),
        (["run", "demo2020/"], "unknown experiment ''"),
        (["run", "demo2020/walk", "--profile", "long"], "unknown profile 'long'; known: quick, paper"),
        (["run", "demo2020/walk", "--seeds", "5-2"], "5-2 runs backwards; write 2-5"),
        (["run", "demo2020/walk", "--seeds", ""], "cannot read ''"),
        (["run", "demo2020/walk", "--seeds", "a-b"], "cannot read 'a-b'"),
        (["run", "demo2020/walk", "--jobs", "0"], "--jobs must be at least 1, not 0"),
        (["run", "demo2020/walk", "--jobs", "two"], "invalid int value: 'two'"),
        (["record", "demo2020/walk"], "nothing to record for demo2020/walk (paper); first: snnrepro run"),
        (["record", "demo2020"], "nothing to record for demo2020 (paper); first: snnrepro run"),
        (["run", "demo2020/WALK"], "unknown experiment 'WALK' in demo2020; did you mean walk?"),
        (["run", "DEMO2020"], "unknown chapter 'DEMO2020'; did you mean demo2020?"),
        (["list", "DEMO2020"], "unknown chapter 'DEMO2020'; did you mean demo2020?"),
        (
            ["run", "demo2020", "walk"],
            "unrecognized arguments: walk; did you mean demo2020/walk? see snnrepro run --help",
        ),
        (["run", "demo2020", "demo2020"], "unrecognized arguments: demo2020; see snnrepro run --help"),
        (["run", "demo2020", ""], "unrecognized arguments: ''; see snnrepro run --help"),
        (["list", "demo2020", "walk"], "unrecognized arguments: walk; see snnrepro list --help"),
        (["list", "demo2020/walk"], "demo2020/walk: this command takes a chapter, without /walk"),
        (["check", "demo2020/walk"], "takes a chapter, without /walk"),
        (["execute", "demo2020/walk"], "takes a chapter, without /walk"),
        (["data", "put"], "data put: the only action is get"),
        (["data", "mnist"], "say snnrepro data get mnist"),
        (["data", "get", "MNIST"], "unknown data set 'MNIST'; did you mean mnist?"),
        (["data", "get"], "name a data set"),
        (["data", "get", "minst"], "unknown data set 'minst'; did you mean mnist?"),
        (["new", "Zenke 2018"], "cannot name a chapter"),
        (["new", "demo-2024"], "use lower case letters, digits and _, beginning with a letter"),
        (["new", "surrogate"], "cannot name a chapter 'surrogate', which is the name of a method"),
        (["new", "numpy"], "cannot name a chapter 'numpy', which is the name of a Python package"),
        (["new", "class"], "cannot name a chapter 'class', which is a word of Python"),
        (["new", "demo2020"], "demo2020 is there already"),
        (["walk"], "invalid choice: 'walk'"),
        ([], "required"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(demo, capsys, arguments, message):
    before = files(demo)
    assert message in fails(capsys, *arguments)
    assert files(demo) == before


def test_number_that_is_not_finite_keeps_the_seeds_before_it(demo, capsys):
    assert cli.main(["run", "demo2020/broken", "--jobs", "1"]) == 2
    assert "snnrepro: demo2020/broken (quick), seed 1: metric loss is nan" in capsys.readouterr().err
    assert sorted(file.name for file in (demo / ".runs/demo2020/broken.quick").iterdir()) == ["0.json", "0.npz"]


def test_run_of_a_chapter_finishes_what_it_can(demo, capsys, monkeypatch):
    known = runner.experiments("demo2020")

    def lacking(config, seed, progress, checkpoint):
        raise UserError("the digits are missing; run `snnrepro data get mnist`")

    for key in ("mistaken", "dying", "long"):
        monkeypatch.delitem(known, key)
    monkeypatch.setitem(known, "lacking", dataclasses.replace(known["walk"], function=lacking))
    monkeypatch.setitem(known, "last", known["walk"])
    assert cli.main(["run", "demo2020", "--jobs", "1"]) == 2
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-1] == (
        "snnrepro: demo2020/broken (quick), seed 1: metric loss is nan, not a finite number; "
        "demo2020/lacking (quick), seeds 0-2: the digits are missing; run `snnrepro data get mnist`"
    )
    assert [line.split()[0] for line in captured.out.splitlines() if line[0] != " "] == [
        "demo2020/walk",
        "demo2020/last",
    ]


def test_chapter_without_a_module(demo, capsys):
    folder = demo / "chapters" / "lost2020"
    folder.mkdir()
    (folder / "claims.yml").write_text((demo / CLAIMS).read_text().replace("demo2020", "lost2020"))
    assert "chapter lost2020 has no experiments; write snnrepro/papers/lost2020.py" in fails(capsys, "run", "lost2020")


@pytest.mark.parametrize("command", [["list"], ["check"], ["execute", "--check"], ["run", "demo2020"]])
def test_repository_that_is_not_there(capsys, monkeypatch, tmp_path, command):
    for wrong in (tmp_path, tmp_path / "absent"):
        monkeypatch.setenv("SNNREPRO_ROOT", str(wrong))
        assert f"SNNREPRO_ROOT names {wrong}, which has no folder chapters; mend or unset it" in fails(capsys, *command)
    (tmp_path / "chapters").mkdir()
    monkeypatch.setenv("SNNREPRO_ROOT", str(tmp_path))
    message = fails(capsys, *command)
    assert (f"there are no chapters in {tmp_path}; run it in the" in message) == (command[0] != "run")


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("x = (\n", "line 1: SyntaxError: '(' was never closed"),
        ("\nimport nunpy\n", "line 2: ModuleNotFoundError: No module named 'nunpy'"),
        ("def f():\n    int('x')\n\n\nf()\n", "line 2: ValueError: invalid literal for int() with base 10: 'x'"),
    ],
)
def test_mistake_in_a_module_is_named_and_the_other_chapters_are_listed(demo, capsys, monkeypatch, code, what):
    folder, module = demo / "chapters" / "broken2021", demo / "snnrepro" / "papers" / "broken2021.py"
    for place in (folder, module.parent):
        place.mkdir(parents=True)
    (folder / "claims.yml").write_text((demo / CLAIMS).read_text().replace("demo2020", "broken2021"))
    module.write_text(code)
    monkeypatch.setattr(papers, "__path__", [*papers.__path__, str(module.parent)])
    wrong = f"snnrepro: snnrepro/papers/broken2021.py, {what}; mend it\n"
    assert fails(capsys, "run", "broken2021") == wrong
    assert cli.main(["list"]) == 2
    captured = capsys.readouterr()
    assert captured.err == wrong
    assert captured.out.startswith("demo2020  A chapter") and "size-bounded" in captured.out


def test_chapter_is_listed_whole_or_not_at_all(demo, capsys):
    runner.run("demo2020", "walk", "quick", jobs=1, quiet=True)
    runner.record("demo2020", "walk", "quick").write_text("{")
    assert "walk.quick.json: is damaged" in fails(capsys, "list")


def test_list_says_what_the_record_is_not_of(demo, capsys):
    runner.run("demo2020", "walk", "quick", jobs=1, quiet=True)
    record = runner.record("demo2020", "walk", "quick")
    content = json.loads(record.read_text())
    content["sources"]["snnrepro.experiment"] = "0"
    record.write_text(json.dumps(content))
    assert cli.main(["list"]) == 0
    assert "quick: 3 of 3 seeds recorded (0 s a seed), of other code or settings, 3 finished" in capsys.readouterr().out


def test_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"snnrepro {snnrepro.__version__}\n"


def test_one_seed_is_one(demo, capsys):
    assert cli.main(["run", "demo2020/walk", "--jobs", "1", "--seeds", "1"]) == 0
    assert capsys.readouterr().out.startswith("demo2020/walk (quick), 1 seed, data")


def test_metric_that_no_experiment_gives(demo, capsys):
    (demo / CLAIMS).write_text((demo / CLAIMS).read_text().replace("walk.size", "wolk.size"))
    message = fails(capsys, "list")
    assert "claims.yml, claim size-bounded, field metric" in message


def test_result_of_a_newer_schema(demo, capsys):
    runner.run("demo2020", "walk", "quick", jobs=1, quiet=True)
    record = runner.record("demo2020", "walk", "quick")
    seed = demo / ".runs" / "demo2020" / "walk.quick" / "1.json"
    for file in (seed, record):
        good = file.read_text()
        file.write_text(json.dumps(json.loads(good) | {"schema": 99}))
        before, message = files(demo), f"{file.relative_to(demo)}, field schema: is 99"
        for command in (["record", "demo2020/walk", "--profile", "quick"], ["check"], ["list"]):
            stops = file == record or command[0] == "record"
            assert cli.main(command) == (2 if stops else 0)
            captured = capsys.readouterr()
            assert message in (captured.err if stops else captured.out) and captured.err.count("\n") == stops
        assert files(demo) == before
        file.write_text(good)
    assert cli.main(["check"]) == 0


@pytest.mark.parametrize("content", [b"", b'{"schema": 1, "see', b"[]", b"{}", b"\xff\xfe"])
def test_damaged_seed_file_is_named(demo, capsys, content):
    runner.run("demo2020", "walk", "quick", jobs=1, quiet=True)
    (demo / ".runs" / "demo2020" / "walk.quick" / "1.json").write_bytes(content)
    assert ".runs/demo2020/walk.quick/1.json: is " in fails(capsys, "run", "demo2020/walk")
    assert cli.main(["run", "demo2020/walk", "--fresh", "--jobs", "1"]) == 0


WRONG = [
    {"metrics": None}, {"metrics": {"size": "x", "spread": 1.0}}, {"metrics": {"size": True, "spread": 1.0}}, {"early": [1.0]},
    {"early": {"first": [1.0]}}, {"sources": {"snnrepro.experiment": ["0"]}}, {"sources": None}, {"config_hash": 1}, {"data": None},
    {"cpu_seconds": "1"}, {"cpu_seconds": None}, {"metrics": {"size": 10**400, "spread": 1.0}},
]  # fmt: skip


@pytest.mark.parametrize("change", WRONG)
def test_seed_file_with_a_wrong_type_is_named(demo, capsys, change):
    for profile in ("quick", "paper"):
        runner.run("demo2020", "walk", profile, seeds=range(3), jobs=1, quiet=True)
        runner.record("demo2020", "walk", profile)
    file = demo / ".runs" / "demo2020" / "walk.quick" / "1.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    name, field = file.relative_to(demo), next(iter(change))
    wrong = f"{name}: is no result of a seed, field {field} is missing or of a wrong type; delete it and run again"
    assert fails(capsys, "run", "demo2020/walk") == f"snnrepro: {wrong}\n"
    for target in ("demo2020/walk", "demo2020"):
        assert fails(capsys, "record", target, "--profile", "quick") == f"snnrepro: {wrong}\n"
    assert cli.main(["check"]) == 0
    checked = capsys.readouterr().out
    assert f"-      demo2020/walk (quick): not compared, seed 1 damaged: {wrong}\n" in checked
    assert "size-bounded (paper): recorded" in checked and "1 record not compared\n" in checked
    assert cli.main(["list"]) == 0
    listed = capsys.readouterr().out
    assert f"quick: 3 of 3 seeds recorded (0 s a seed), 2 finished here, seed 1 damaged: {wrong}\n" in listed
    assert "paper: 3 of 100 seeds recorded (0 s a seed), 3 finished here\n" in listed


def test_damaged_seeds_that_the_profile_does_not_name_matter_to_nobody(demo, capsys):
    cli.main(["run", "demo2020/walk", "--jobs", "1", "--seeds", "0-2,7"])
    (demo / ".runs" / "demo2020" / "walk.quick" / "7.json").write_text("{")
    assert cli.main(["record", "demo2020", "--profile", "quick"]) == 0
    assert cli.main(["check"]) == cli.main(["list"]) == 0
    assert "damaged" not in capsys.readouterr().out


@pytest.mark.parametrize("target", ["demo2020", "demo2020/walk"])
def test_fresh_run_that_is_stopped_goes_on_without_fresh(demo, capsys, monkeypatch, target):
    known = runner.experiments("demo2020")
    for key in ("broken", "mistaken", "dying", "long"):
        monkeypatch.delitem(known, key)
    plain = known["walk"]

    @functools.wraps(plain.function)  # and so of the same sources
    def stopped(config, seed, progress, checkpoint):
        if seed == 1:
            raise KeyboardInterrupt
        return plain.function(config, seed, progress, checkpoint)

    monkeypatch.setitem(known, "last", plain)
    command = ["run", target, "--jobs", "1"]
    assert cli.main(["run", "demo2020", "--jobs", "1"]) == 0
    with monkeypatch.context() as patch:
        patch.setitem(known, "walk", dataclasses.replace(plain, function=stopped))
        capsys.readouterr()
        assert cli.main([*command, "--fresh"]) == 130
        last = capsys.readouterr().err.splitlines()[-1]
        assert last == "snnrepro: stopped; what is finished is kept, the same command without --fresh does the rest"
        assert runner.finished("demo2020", "walk", "quick") == [0]
        assert runner.finished("demo2020", "last", "quick") == ([] if target == "demo2020" else [0, 1, 2])
        assert cli.main(command) == 130
        assert capsys.readouterr().err.splitlines()[-1].endswith("is kept, the same command does the rest")
    assert cli.main(command) == 0
    assert [runner.finished("demo2020", key, "quick") for key in known] == [[0, 1, 2], [0, 1, 2]]


def test_truncated_arrays_are_named(demo, capsys):
    runner.run("demo2020", "walk", "quick", jobs=1, quiet=True)
    file = demo / ".runs" / "demo2020" / "walk.quick" / "1.npz"
    file.write_bytes(file.read_bytes()[:100])
    assert ".runs/demo2020/walk.quick/1.npz: is damaged" in fails(capsys, "run", "demo2020/walk")
    file.unlink()
    assert cli.main(["run", "demo2020/walk", "--jobs", "1"]) == 0


def test_read_only_folders(mine, capsys):
    mine.chmod(0o555)
    assert ".runs/demo2020/walk.quick: cannot write there: Permission denied" in fails(capsys, "run", "demo2020/walk")
    mine.chmod(0o755)
    runner.run("demo2020", "walk", "quick", jobs=1, quiet=True)
    results = mine / "chapters" / "demo2020" / "results"
    results.mkdir(mode=0o555)
    message = fails(capsys, "record", "demo2020/walk", "--profile", "quick")
    assert "chapters/demo2020/results/walk.quick.npz: cannot write it: Permission denied" in message
    assert list(results.iterdir()) == []
    (mine / "chapters").chmod(0o555)
    before = sorted(mine.rglob("*"))
    assert "chapters/next2021: cannot write it: " in fails(capsys, "new", "next2021")
    assert sorted(mine.rglob("*")) == before


def test_no_network(demo, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("SNNREPRO_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SNNREPRO_DATA", raising=False)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    assert cli.main(["data", "get", "fashion-mnist"]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("snnrepro: ") and "fashion-mnist" in last
    assert not [file for file in (tmp_path / "cache").rglob("*") if file.is_file()]


def test_run_record_list_and_check(demo, capsys):
    assert cli.main(["run", "demo2020/walk", "--jobs", "1"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("demo2020/walk (quick), 3 seeds, data generated\n  size: 0.")
    assert "seed 2 finished, 3/3" in captured.err
    assert cli.main(["record", "demo2020", "--profile", "quick"]) == 0
    assert capsys.readouterr().out == "chapters/demo2020/results/walk.quick.json\n"
    assert cli.main(["list", "demo2020"]) == 0
    listed = capsys.readouterr().out
    assert (
        "quick: 3 of 3 seeds recorded (0 s a seed), 3 finished here\n" in listed
        and "paper: 0 of 100 seeds recorded, 0 finished here" in listed
    )
    assert "size-bounded\n      quick: pass, paper: open" in listed
    assert cli.main(["check"]) == 0
    assert "demo2020/size-bounded (quick): recorded pass, now pass" in capsys.readouterr().out


def test_record_says_what_it_leaves_out(demo, capsys):
    cli.main(["run", "demo2020/walk", "--jobs", "1", "--seeds", "7-8"])
    capsys.readouterr()
    only = "nothing to record for demo2020/walk (quick), finished is only seeds 7-8, not of the profile; first: snnrepro run"
    for target in ("demo2020/walk", "demo2020"):
        assert only in fails(capsys, "record", target, "--profile", "quick")
    only = (
        "nothing to record for demo2020/walk (paper), finished is only seeds 7-8 of quick, see --profile quick; first:"
    )
    assert only in fails(capsys, "record", "demo2020/walk")
    only = "nothing to record for demo2020 (paper), finished are only seeds of quick, see --profile quick; first:"
    assert only in fails(capsys, "record", "demo2020")
    cli.main(["run", "demo2020/walk", "--jobs", "1"])
    capsys.readouterr()
    assert cli.main(["record", "demo2020", "--profile", "quick"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "chapters/demo2020/results/walk.quick.json\n"
    assert captured.err == "demo2020/walk (quick): left out seeds 7-8, not of the profile\n"


def test_record_of_a_chapter_records_what_it_can(demo, capsys):
    cli.main(["run", "demo2020/walk", "--jobs", "1"])
    cli.main(["run", "demo2020/broken", "--jobs", "1", "--seeds", "5"])
    capsys.readouterr()
    assert cli.main(["record", "demo2020", "--profile", "quick"]) == 2
    captured = capsys.readouterr()
    assert captured.out == "chapters/demo2020/results/walk.quick.json\n"
    assert "nothing to record for demo2020/broken (quick), finished is only seed 5, not of the profile" in captured.err


def test_record_says_when_it_has_fewer_seeds_than_the_one_before(demo, capsys):
    cli.main(["run", "demo2020/walk", "--jobs", "1"])
    cli.main(["record", "demo2020/walk", "--profile", "quick"])
    file = demo / "chapters" / "demo2020" / "results" / "walk.quick.json"
    content = json.loads(file.read_text())
    content["sources"]["snnrepro.experiment"] = "0"
    file.write_text(json.dumps(content))
    for seed in (1, 2):
        (demo / ".runs" / "demo2020" / "walk.quick" / f"{seed}.json").unlink()
    capsys.readouterr()
    assert cli.main(["record", "demo2020/walk", "--profile", "quick"]) == 0
    assert "the record had 3 seeds, of code or settings before a change; now it has 1" in capsys.readouterr().err


def test_code_of_another_copy_is_named(demo, capsys):
    (demo / "snnrepro").mkdir(exist_ok=True)
    (demo / "snnrepro" / "cli.py").write_text("")
    assert cli.main(["list", "demo2020"]) == 0
    assert f"at work on {demo}; use the environment of the latter" in capsys.readouterr().err


def test_check_fails_when_a_verdict_is_worse(demo, capsys, monkeypatch):
    cli.main(["run", "demo2020/walk", "--jobs", "1"])
    cli.main(["record", "demo2020/walk", "--profile", "quick"])
    for seed in range(3):
        file = demo / ".runs" / "demo2020" / "walk.quick" / f"{seed}.json"
        content = json.loads(file.read_text())
        content["metrics"]["size"] = 2.0
        file.write_text(json.dumps(content))
    capsys.readouterr()
    assert cli.main(["check"]) == 1
    assert "WORSE  demo2020/size-bounded (quick): recorded pass, now fail" in capsys.readouterr().out


def test_check_compares_whole_sets_only_and_says_what_is_left_out(demo, capsys, monkeypatch):
    cli.main(["run", "demo2020/walk", "--jobs", "1"])
    cli.main(["record", "demo2020/walk", "--profile", "quick"])
    (demo / ".runs" / "demo2020" / "walk.quick" / "1.json").unlink()
    capsys.readouterr()
    assert cli.main(["check"]) == 0
    left_out = "-      demo2020/walk (quick): not compared, seed 1 not run here\n"
    summary = "0 verdicts compared, 0 worse; 1 record not compared; first: snnrepro run demo2020 --profile quick\n"
    assert capsys.readouterr().out == left_out + summary
    monkeypatch.setattr(runner.ledger, "experiment_sources", lambda *_: {"snnrepro.other": "0"})
    assert cli.main(["check"]) == 0
    why = (
        "seeds 0,2 run before a change of snnrepro.experiment, snnrepro.other, snnrepro.papers.demo2020; seed 1 not run"
    )
    assert why in capsys.readouterr().out


def test_check_says_what_to_do_where_nothing_is_on_record(demo, capsys):
    assert cli.main(["check", "demo2020"]) == 0
    run = "demo2020 --profile quick"
    first = f"nothing is on record, first: snnrepro run {run}, then snnrepro record {run}\n"
    assert capsys.readouterr().out == f"0 verdicts compared, 0 worse; 0 records not compared; {first}"


def test_check_compares_the_seeds_of_the_record(demo, capsys, monkeypatch):
    cli.main(["run", "demo2020/walk", "--jobs", "1", "--seeds", "0-1"])
    cli.main(["record", "demo2020/walk", "--profile", "quick"])
    cli.main(["run", "demo2020/walk", "--jobs", "1"])
    file = demo / ".runs" / "demo2020" / "walk.quick" / "2.json"
    content = json.loads(file.read_text())
    content["metrics"]["size"] = 99.0
    file.write_text(json.dumps(content))
    capsys.readouterr()
    assert cli.main(["check"]) == 0
    assert "demo2020/size-bounded (quick): recorded pass, now pass" in capsys.readouterr().out


def test_data_lists_every_file(capsys):
    assert cli.main(["data"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(data.status())


def test_new_chapter_is_taken_by_the_other_commands(demo, capsys, monkeypatch):
    (demo / "snnrepro" / "papers").mkdir(parents=True)
    monkeypatch.setattr(papers, "__path__", [str(demo / "snnrepro" / "papers")])
    assert cli.main(["new", "next2021"]) == 0
    assert "book/references.bib" in capsys.readouterr().out
    made = sorted(str(path.relative_to(demo)) for path in demo.rglob("*next2021*"))
    assert made == ["chapters/next2021", "chapters/next2021/next2021.md", "snnrepro/papers/next2021.py"]
    assert (demo / "chapters" / "next2021" / "results").is_dir()
    assert cli.main(["list", "next2021"]) == 0
    assert cli.main(["run", "next2021", "--jobs", "1"]) == 0
    assert cli.main(["record", "next2021", "--profile", "quick"]) == 0
    capsys.readouterr()
    assert cli.main(["list", "next2021"]) == 0
    assert "quick: pass" in capsys.readouterr().out
    ruff = [sys.executable, "-m", "ruff", "check", "--config", str(DEMO.parent.parent / "pyproject.toml"), "--no-cache"]
    assert subprocess.run([*ruff, str(demo / "snnrepro")]).returncode == 0
    before = files(demo)
    assert "is there already" in fails(capsys, "new", "next2021")
    assert files(demo) == before


def test_new_chapter_leaves_nothing_when_its_folder_cannot_be_written(demo, capsys):
    (demo / "snnrepro").mkdir()
    (demo / "snnrepro" / "papers").write_text("a file, not a folder")
    before = files(demo), sorted(demo.rglob("*"))
    assert "chapters/next2021: cannot write it: " in fails(capsys, "new", "next2021")
    assert (files(demo), sorted(demo.rglob("*"))) == before


def test_command_loads_nothing_heavy():
    subprocess.run([SNNREPRO, "--help"], check=True, capture_output=True)
    program = "import sys; from snnrepro import cli; cli._parser(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
    assert not {"numpy", "torch", "rich", "joblib", "dask", "pydantic", "nbclient"} & set(loaded)


def test_bars_on_a_terminal(demo):
    command = ["run", "demo2020/walk", "--profile", "paper", "--seeds", "0-19"]
    child = pexpect.spawn(SNNREPRO, command, encoding="utf-8", timeout=30, dimensions=(20, 120))
    shown = child.read()
    child.close()
    assert child.exitstatus == 0
    assert "demo2020/walk (paper)" in shown and "/20 seeds" in shown
    assert "seed 1" in shown and "/8" in shown and "size 0." in shown


@pytest.mark.parametrize(
    ("seconds", "said"), [((3.0, 4.2), "4 s"), ((99.0,), "99 s"), ((200.0, 100.0), "2 min"), ((3600.0,), "60 min")]
)
def test_how_long_a_recorded_seed_took(seconds, said):
    assert cli._each(list(seconds)) == said
