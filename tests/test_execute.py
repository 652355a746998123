import json
import os
import shutil
import signal
import threading
import time

import nbformat
import numpy as np
import psutil
import pytest

from snnrepro import cli, execute, files, ledger, papers, paths, skeleton
from snnrepro.errors import UserError

SOURCE = "chapters/demo2020/demo2020.md"
NOTEBOOK = "chapters/demo2020/demo2020.ipynb"


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The demo chapter, executed once."""
    from conftest import DEMO

    root = tmp_path_factory.mktemp("executed") / "demo"
    shutil.copytree(DEMO, root, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SNNREPRO_ROOT", str(root))
        assert cli.main(["execute"]) == 0
    return root


@pytest.fixture
def done(executed, tmp_path, monkeypatch):
    """A copy of it to play with."""
    root = tmp_path / "done"
    shutil.copytree(executed, root)
    monkeypatch.setenv("SNNREPRO_ROOT", str(root))
    return root


def edit(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_notebook_holds_outputs_and_nothing_of_the_machine(done):
    text = (done / NOTEBOOK).read_text()
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [1, 2, 3]
    assert code[0].outputs[0].text == "here: demo2020\n"
    assert code[2].outputs[0].text == "size-bounded: pass\n"
    assert all("execution" not in cell.metadata for cell in code)
    assert "jupytext" not in notebook.metadata and "version" not in notebook.metadata.language_info
    assert str(done.parent) not in text


def test_second_run_gives_the_same_bytes(done):
    before = {file: file.read_bytes() for file in (done / "chapters").rglob("*") if file.is_file()}
    execute.execute("demo2020", quiet=True)
    assert {file: file.read_bytes() for file in (done / "chapters").rglob("*") if file.is_file()} == before


def test_figure_gets_its_number_and_its_alternative_text(done):
    cells = nbformat.read(done / NOTEBOOK, as_version=4).cells
    assert [cell.metadata.get("mystnb") for cell in cells if cell.cell_type == "code"] == [
        None,
        {"figure": {"name": "fig-1", "caption": "Sizes."}, "image": {"alt": "Three sizes below one."}},
        None,
    ]


def test_figure_data_and_quick_records_are_kept(done):
    results = done / "chapters" / "demo2020" / "results"
    kept = files.read_npz(results / "figures" / "fig-1.npz")
    assert kept["sizes"].shape == (3,) and kept["tolerance/sizes"] == 1e-6
    assert len(ledger.load_record("demo2020", "walk", "quick").seeds) == 3
    assert not (results / "broken.quick.json").exists()


def test_a_chapter_is_executed_by_one_process_at_a_time(done):
    before = (done / NOTEBOOK).stat().st_mtime_ns
    with (
        files.alone(paths.runs("demo2020") / "execute.lock", "the notebook of demo2020"),
        pytest.raises(UserError, match=r"^another run \(process \d+\) is at work on the notebook of demo2020; wait"),
    ):
        execute.execute("demo2020", quiet=True)
    assert (done / NOTEBOOK).stat().st_mtime_ns == before


def test_figure_data_that_vanish_leave_what_is_committed(done, monkeypatch):
    """As another run of the same cells, in Jupyter or under nbval, removes them."""
    run, results = execute._run_cells, done / "chapters" / "demo2020" / "results"
    before = {file: file.read_bytes() for file in (*results.rglob("*.*"), done / NOTEBOOK)}

    def and_lose(*arguments):
        run(*arguments)
        shutil.rmtree(paths.runs("demo2020") / "figures")

    monkeypatch.setattr(execute, "_run_cells", and_lose)
    with pytest.raises(UserError, match=r"figures: the data of fig-1 are gone; run the chapter again, alone$"):
        execute.execute("demo2020", quiet=True)
    assert {file: file.read_bytes() for file in before} == before


def test_figure_of_a_claim_has_to_be_published(done):
    edit(done / "chapters/demo2020/claims.yml", "figure: fig-1", "figure: fig-4")
    before = (done / NOTEBOOK).stat().st_mtime_ns
    where = r"^chapters/demo2020/claims\.yml, claim size-bounded, field figure: the notebook publishes no fig-4; "
    with pytest.raises(UserError, match=where):
        execute.execute("demo2020", quiet=True)
    assert (done / NOTEBOOK).stat().st_mtime_ns == before


def test_figure_data_within_tolerance_stay_as_they_are(done):
    live, kept = paths.runs("demo2020") / "figures", done / "chapters" / "demo2020" / "results" / "figures"
    arrays = files.read_npz(live / "fig-1.npz")
    before = (kept / "fig-1.npz").read_bytes()
    files.write_npz(live / "fig-1.npz", arrays | {"sizes": arrays["sizes"] + 5e-7})
    execute._keep_figures(live, kept)
    assert (kept / "fig-1.npz").read_bytes() == before
    files.write_npz(live / "fig-1.npz", arrays | {"sizes": arrays["sizes"] + 5e-6})
    execute._keep_figures(live, kept)
    np.testing.assert_array_equal(files.read_npz(kept / "fig-1.npz")["sizes"], arrays["sizes"] + 5e-6)
    files.write_npz(live / "fig-1.npz", arrays | {"sizes": arrays["sizes"] + 5e-6, "tolerance/sizes": np.array(1e-3)})
    execute._keep_figures(live, kept)
    assert files.read_npz(kept / "fig-1.npz")["tolerance/sizes"] == 1e-3
    (live / "fig-1.npz").rename(live / "fig-2.npz")
    execute._keep_figures(live, kept)
    assert [file.name for file in kept.iterdir()] == ["fig-2.npz"]


def test_pair_agrees(done, capsys):
    assert cli.main(["execute", "--check"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("A figure comes next.", "A figure.", "cell 3 differs from the source in its source"),
        ("[nbval-ignore-output]", "[hide-input]", "cell 4 differs from the source in its tags"),
        (
            "A figure comes next.\n",
            "A figure comes next.\n\n+++\n\nMore.\n",
            "6 cells in the source, 5 in the notebook",
        ),
        (
            "```{code-cell} ipython3\nprint",
            "```{code-block} python\nprint",
            "cell 5 differs from the source in its cell_type",
        ),
    ],
)
def test_pair_that_differs(done, capsys, old, new, message):
    edit(done / SOURCE, old, new)
    assert cli.main(["execute", "--check", "demo2020"]) == 1
    prose = " --text" if "A figure" in old else ""
    assert f"demo2020: {message}; run snnrepro execute demo2020{prose}\n" in capsys.readouterr().err


def test_changed_prose_is_taken_over_without_running_anything(done, monkeypatch, capsys):
    edit(done / SOURCE, "A figure comes next.\n", "A figure, *here*.\n\n+++\n\nMore.\n")
    with monkeypatch.context() as patched:
        patched.setattr(execute, "_run_cells", None)
        assert cli.main(["execute", "--text", "demo2020"]) == 0
    assert execute.check("demo2020") == []
    rewritten = (done / NOTEBOOK).read_bytes()
    execute.execute("demo2020", quiet=True)
    assert (done / NOTEBOOK).read_bytes() == rewritten
    assert b"*here*" in rewritten


@pytest.mark.parametrize(
    ("old", "new"),
    [("[nbval-ignore-output]", "[hide-input]"), ("print", "print  # aloud\nprint"), ("```{code-cell} ipython3\nprint", "```\nprint")],
)  # fmt: skip
def test_changed_code_has_to_run(done, capsys, old, new):
    before = (done / NOTEBOOK).read_bytes()
    edit(done / SOURCE, old, new)
    assert cli.main(["execute", "--text", "demo2020"]) == 2
    assert (
        "demo2020: code cells differ from those that were run; run snnrepro execute demo2020" in capsys.readouterr().err
    )
    assert (done / NOTEBOOK).read_bytes() == before


def test_notebook_not_run_in_order(done):
    notebook = nbformat.read(done / NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    code[1].execution_count, code[2].execution_count = 3, None
    code[2].outputs = [nbformat.v4.new_output("error", ename="E", evalue="", traceback=[])]
    nbformat.write(notebook, done / NOTEBOOK)
    problems = execute.check("demo2020")
    assert [problem.partition("; run")[0] for problem in problems] == [
        "demo2020: code cell 2 has execution count 3",
        "demo2020: code cell 3 has execution count None",
        "demo2020: code cell 3 holds an error",
    ]


def test_cell_that_shows_claims_has_an_output(done):
    edit(done / SOURCE, 'print("size-bounded', '# chapter.strip("fig-1")\nprint("size-bounded')
    notebook = nbformat.read(done / NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    code[2].source = '# chapter.strip("fig-1")\n' + code[2].source
    nbformat.write(notebook, done / NOTEBOOK)
    assert execute.check("demo2020") == []
    code[2].outputs = []
    nbformat.write(notebook, done / NOTEBOOK)
    assert execute.check("demo2020") == ["demo2020: code cell 3 shows nothing; run snnrepro execute demo2020"]


@pytest.mark.parametrize("content", [None, b"", b'{"cells": [', b"[]"])
def test_notebook_missing_or_damaged(done, content):
    (done / NOTEBOOK).unlink()
    if content is not None:
        (done / NOTEBOOK).write_bytes(content)
    (problem,) = execute.check("demo2020")
    assert problem.startswith("demo2020: ") and problem.endswith("run snnrepro execute demo2020")


def test_cell_that_fails_is_named_and_nothing_is_stored(done, capsys):
    before = {file: file.read_bytes() for file in (done / "chapters").rglob("*") if file.is_file()}
    edit(done / SOURCE, 'print("size-bounded:"', 'raise ValueError("no\\nway")\nprint("size-bounded:"')
    before[done / SOURCE] = (done / SOURCE).read_bytes()
    assert cli.main(["execute", "demo2020"]) == 2
    assert capsys.readouterr().err == "snnrepro: chapter demo2020, code cell 3: ValueError: no\n"
    assert {file: file.read_bytes() for file in (done / "chapters").rglob("*") if file.is_file()} == before


def test_mistake_in_a_cell_names_no_temporary_file(done, capsys):
    edit(done / SOURCE, 'print("size-bounded:"', 'x = (1,\ny = 2\nprint("size-bounded:"')
    assert cli.main(["execute", "demo2020"]) == 2
    error = capsys.readouterr().err
    assert error == "snnrepro: chapter demo2020, code cell 3: SyntaxError: '(' was never closed (line 1)\n"


@pytest.mark.parametrize(
    ("code", "message"),
    [("import os; os._exit(1)", "its Python process died"), ("import time; time.sleep(60)", "not done after 1 s")],
)
def test_cell_that_dies_or_hangs(done, monkeypatch, code, message):
    monkeypatch.setattr(execute, "CELL_SECONDS", 1)
    (done / SOURCE).write_text(
        (done / SOURCE).read_text().partition("```{code-cell}")[0] + f"```{{code-cell}}\n{code}\n```\n"
    )
    with pytest.raises(UserError, match=f"chapter demo2020, code cell 1: {message}"):
        execute.execute("demo2020", quiet=True)


def test_a_cell_that_is_interrupted_stops_everything(done):
    edit(done / SOURCE, 'print("size-bounded:"', 'raise KeyboardInterrupt\nprint("size-bounded:"')
    with pytest.raises(KeyboardInterrupt):
        execute.execute("demo2020", quiet=True)


@pytest.fixture
def control_c():
    """Ctrl-C as in a terminal, also where the tests run in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("control_c")
def test_control_c_stops_the_cell_that_runs(done):
    (done / SOURCE).write_text(
        (done / SOURCE).read_text().partition("```{code-cell}")[0]
        + "```{code-cell}\nimport pathlib, time\npathlib.Path('begun').touch()\ntime.sleep(8)\npathlib.Path('ended').touch()\n```\n"
    )
    folder, before = (done / SOURCE).parent, (done / NOTEBOOK).read_text()

    def press():
        while not (folder / "begun").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        execute.execute("demo2020", quiet=True)
    assert not (folder / "ended").exists()
    assert (done / NOTEBOOK).read_text() == before


def test_no_process_outlives_its_chapter(done):
    before = set(psutil.Process().children(recursive=True))
    execute.execute("demo2020", quiet=True)
    left = set(psutil.Process().children(recursive=True)) - before
    assert not [child for child in left if "ipykernel" in " ".join(child.cmdline())]


def test_kernel_is_this_python_whatever_the_user_has_installed(done, monkeypatch, tmp_path):
    spec = tmp_path / "kernels" / "python3"
    spec.mkdir(parents=True)
    (spec / "kernel.json").write_text(
        json.dumps({"argv": ["/nowhere/python"], "display_name": "x", "language": "python"})
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    header = "---\nkernelspec: {display_name: x, name: other}\n---\n\n"
    (done / SOURCE).write_text(header + "```{code-cell}\nimport sys; print(sys.executable)\n```\n")
    edit(done / "chapters/demo2020/claims.yml", "figure: fig-1", "figure: text-1")
    execute.execute("demo2020", quiet=True)
    cell = nbformat.read(done / NOTEBOOK, as_version=4).cells[0]
    assert cell.outputs[0].text.strip() == execute.sys.executable
    assert json.loads((done / NOTEBOOK).read_text())["metadata"]["kernelspec"]["name"] == "python3"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "has no demo2020.md"),
        (b"---\nkernelspec: [\n---\n", "demo2020.md: cannot read it: while parsing a flow node"),
        (b"---\nkernelspec: {name: x}\n---\n", "cannot read it: 'display_name' is a required property$"),
        (
            b"# Title\n\n```{code-cell}\n:tags: [a\n\n1\n```\n",
            "demo2020.md: cannot read it: Code cell 1 at line 3 could not be read",
        ),
        (b"\xff\xfe\x00", "cannot read it: 'utf-8' codec"),
    ],
)
def test_source_missing_or_damaged(demo, content, message):
    (demo / SOURCE).unlink()
    if content is not None:
        (demo / SOURCE).write_bytes(content)
    with pytest.raises(UserError, match=message):
        execute.build("demo2020")


def test_skeleton_of_a_new_chapter_executes(demo, monkeypatch):
    pytest.importorskip("snnrepro.notebook")
    folder = demo / "snnrepro" / "papers"
    folder.mkdir(parents=True)
    monkeypatch.setenv("SNNREPRO_PAPERS", str(folder))
    monkeypatch.setattr(papers, "__path__", [str(folder)])
    (demo / "book").mkdir()
    (demo / "book" / "references.bib").write_text("@misc{next2021, author={A. Author}, title={Title}, year={2021}}\n")
    skeleton.create("next2021")
    execute.execute("next2021", quiet=True)
    assert execute.check("next2021") == []
    results = demo / "chapters" / "next2021" / "results"
    assert (results / "figures" / "fig-1.npz").exists() and (results / "first.quick.json").exists()
    cells = nbformat.read(demo / "chapters/next2021/next2021.ipynb", as_version=4).cells
    assert cells[-1].outputs[0].text == "first-claim: pass\n"
