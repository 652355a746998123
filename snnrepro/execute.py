"""Builds each chapter's notebook from its reviewed Markdown source, runs it, and checks that the two agree.

The executed notebook holds nothing that a second run would change, apart from the outputs of cells tagged
`nbval-ignore-output`: no timings, no patch version of Python, and cell ids that follow from place and content.
"""

import asyncio
import hashlib
import os
import re
import shutil
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jupytext
import nbformat
import numpy as np
import yaml
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupytext.myst import MystMetadataParsingError
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from snnrepro import figures, files, ledger, paths, progress, runner
from snnrepro.errors import UserError

CELL_SECONDS = 600
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {
        "file_extension": ".py",
        "mimetype": "text/x-python",
        "name": "python",
        "pygments_lexer": "ipython3",
    },
}


SHOWS = re.compile(r"chapter\.(card|figure|interactive|strip|table|verdicts)\(")
"""What a cell calls that must have an output."""


def build(citekey: str) -> NotebookNode:
    """Make the chapter's notebook from its Markdown source, not yet run.

    Raises:
        UserError: no such chapter, or no readable source in it.
    """
    source = paths.chapter(citekey) / f"{citekey}.md"
    try:
        notebook = jupytext.read(source, fmt="md:myst")
    except FileNotFoundError:
        raise UserError(f"chapter {citekey} has no {source.name}") from None
    except (OSError, ValueError, yaml.YAMLError, nbformat.ValidationError, MystMetadataParsingError) as error:
        reason = " ".join((getattr(error, "message", "") or str(error)).split())
        raise UserError(f"{files.shown(source)}: cannot read it: {reason}") from None
    notebook.metadata.pop("jupytext", None)
    notebook.metadata.update(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for index, cell in enumerate(notebook.cells):
        cell.id = hashlib.sha256(f"{index}\n{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:12]
    return notebook


def execute(citekey: str, quiet: bool = False) -> Path:
    """Run a chapter's notebook in the chapter's folder with the Python that runs this.

    Then store the executed notebook, the data of its figures and the quick records. Nothing is stored if a cell fails.

    Returns:
        The notebook's path.

    Raises:
        UserError: a cell fails, hangs or kills its process; a claim names a figure that is not published; another process executes the
            chapter; or a file cannot be written.
    """
    notebook = build(citekey)
    folder = paths.chapter(citekey)
    live = paths.runs(citekey) / "figures"
    with files.alone(paths.runs(citekey) / "execute.lock", f"the notebook of {citekey}"):
        shutil.rmtree(live, ignore_errors=True)
        _run_cells(notebook, citekey, folder, quiet)
        _clean(notebook)
        _all_there(notebook, citekey, live)
        target = folder / f"{citekey}.ipynb"
        files.write_text(target, nbformat.writes(notebook) + "\n")
        _keep_figures(live, folder / "results" / "figures")
        for experiment in runner.experiments(citekey):
            if runner.finished(citekey, experiment, "quick"):
                runner.record(citekey, experiment, "quick")
    return target


def rewrite(citekey: str) -> Path:
    """Take changes of the prose over into the executed notebook. Nothing is run, so that the code has to be the same.

    Returns:
        The notebook's path.

    Raises:
        UserError: a code cell changed, or source or notebook cannot be read or written.
    """
    notebook = build(citekey)
    target = paths.chapter(citekey) / f"{citekey}.ipynb"
    wanted, ran = _code(notebook), _code(_executed(citekey, target))
    if not _same(wanted, ran):
        raise UserError(f"{citekey}: code cells differ from those that were run; run snnrepro execute {citekey}")
    for cell, kept in zip(wanted, ran, strict=True):
        cell.update({part: value for part, value in kept.items() if part != "id"})
    files.write_text(target, nbformat.writes(notebook) + "\n")
    return target


def _code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _same(wanted: list[NotebookNode], ran: list[NotebookNode]) -> bool:
    """Whether code cells are those that were run."""
    one, other = ([(cell.source, _part(cell, "tags")) for cell in cells] for cells in (wanted, ran))
    return one == other


def _executed(citekey: str, target: Path) -> NotebookNode:
    """The executed notebook."""
    command = f"run snnrepro execute {citekey}"
    try:
        return nbformat.read(target, as_version=4)
    except FileNotFoundError:
        raise UserError(f"{citekey}: {target.name} is missing; {command}") from None
    except (OSError, ValueError, AttributeError, nbformat.ValidationError) as error:
        raise UserError(f"{citekey}: cannot read {target.name} ({type(error).__name__}); {command}") from None


def check(citekey: str) -> list[str]:
    """Say what is wrong with a chapter's pair of source and notebook; empty if all is well.

    Cells must agree in type, source and tags, and code cells must have been run in order from 1, without an error; those that show
    figures and claims must have an output.

    Raises:
        UserError: no such chapter, or its source cannot be read.
    """
    source = build(citekey)
    wanted = source.cells
    target = paths.chapter(citekey) / f"{citekey}.ipynb"
    command = f"run snnrepro execute {citekey}"
    try:
        executed = _executed(citekey, target)
    except UserError as error:
        return [str(error)]
    cells, problems = executed.cells, []
    take_over = f"{command} --text" if _same(_code(source), _code(executed)) else command
    if len(cells) != len(wanted):
        problems.append(f"{citekey}: {len(wanted)} cells in the source, {len(cells)} in the notebook; {take_over}")
    for number, (cell, expected) in enumerate(zip(cells, wanted, strict=False), start=1):
        for part in ("cell_type", "source", "tags"):
            if _part(cell, part) != _part(expected, part):
                problems.append(f"{citekey}: cell {number} differs from the source in its {part}; {take_over}")
    for number, cell in enumerate((cell for cell in cells if cell.cell_type == "code"), start=1):
        if cell.execution_count != number:
            problems.append(f"{citekey}: code cell {number} has execution count {cell.execution_count}; {command}")
        if "raises-exception" not in _part(cell, "tags") and any(out.output_type == "error" for out in cell.outputs):
            problems.append(f"{citekey}: code cell {number} holds an error; {command}")
        if SHOWS.search(cell.source) and not cell.outputs:
            problems.append(f"{citekey}: code cell {number} shows nothing; {command}")
    return problems


def _part(cell: NotebookNode, part: str) -> object:
    return sorted(cell.metadata.get("tags", [])) if part == "tags" else cell[part]


class _Stopped(Exception):
    """Ctrl-C before the next cell began."""


def _run_cells(notebook: NotebookNode, citekey: str, folder: Path, quiet: bool) -> None:
    """Fill in the outputs, with a bar over the cells."""
    manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
    manager.kernel_spec.argv[0] = sys.executable
    runner.keep_compiled_apart()
    total = sum(cell.cell_type == "code" for cell in notebook.cells)
    done, begun, stopped = 0, threading.Event(), threading.Event()
    # In the main thread the client would take Ctrl-C for itself, and report a dead process.
    with progress.Steps(f"{citekey}: cells", total, quiet) as steps, ThreadPoolExecutor(1) as thread:

        def begin(cell: NotebookNode, cell_index: int) -> None:
            if stopped.is_set():
                raise _Stopped
            begun.set()

        def count(cell: NotebookNode, cell_index: int, **reply: object) -> None:
            nonlocal done
            done += 1
            steps.move(done)

        client = NotebookClient(
            notebook,
            km=manager,
            timeout=CELL_SECONDS,
            resources={"metadata": {"path": str(folder)}},
            record_timing=False,
            coalesce_streams=True,
            extra_arguments=["--IPKernelApp.log_level=40"],  # errors only
            on_cell_start=begin,
            on_cell_executed=count,
        )
        quietly = os.environ | {"SNNREPRO_QUIET": "1"}  # no progress among the outputs
        running = thread.submit(client.execute, env=quietly, cleanup_kc=True)  # the process ends with its chapter
        try:
            running.result()
        except KeyboardInterrupt:
            stopped.set()
            if begun.is_set():
                asyncio.run(manager.interrupt_kernel())
            raise
        except CellExecutionError as error:
            if error.ename == "KeyboardInterrupt":
                raise KeyboardInterrupt from None
            raise UserError(f"chapter {citekey}, code cell {done}: {error.ename}: {_line(error.evalue)}") from None
        except CellTimeoutError:
            raise UserError(f"chapter {citekey}, code cell {done + 1}: not done after {CELL_SECONDS} s") from None
        except DeadKernelError:
            raise UserError(
                f"chapter {citekey}, code cell {done + 1}: its Python process died or was stopped"
            ) from None


def _line(text: str) -> str:
    """First line of a message, without the temporary file that stands for the cell."""
    return re.sub(r"\(\d+\.py, line (\d+)\)$", r"(line \1)", text.strip().partition("\n")[0])


def _clean(notebook: NotebookNode) -> None:
    """Remove what changes from run to run, and give a figure's cell what the book needs to number and describe it."""
    notebook.metadata.update(METADATA)  # the kernel put the version of Python there
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            if figure := output.get("metadata", {}).get("snnrepro"):
                cell.metadata["mystnb"] = {
                    "figure": {"name": figure["name"], "caption": figure["caption"]},
                    "image": {"alt": figure["alt"]},
                }


def _all_there(notebook: NotebookNode, citekey: str, live: Path) -> None:
    """Refuse to go on where the data of a published figure have gone, as another run of the cells removes them, or a claim's figure
    is not published.
    """
    published = set()
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            figure = output.get("metadata", {}).get("snnrepro")
            name = figure and figure["name"].removeprefix(f"{citekey}-")
            published.add(name)
            if name and not (live / f"{name}.npz").exists():
                raise UserError(f"{files.shown(live)}: the data of {name} are gone; run the chapter again, alone")
    for claim in ledger.load_claims(citekey).claims:
        if claim.figure.startswith("fig-") and claim.figure not in published:
            what = f"claim {claim.id}, field figure: the notebook publishes no {claim.figure}"
            raise UserError(f"chapters/{citekey}/claims.yml, {what}; name one that it does, or add chapter.figure")


def _keep_figures(live: Path, committed: Path) -> None:
    """Make the committed figure data those of this run; a file that is equal within its tolerance stays as it is."""
    names = {file.name for file in live.glob("*.npz")}
    for old in committed.glob("*.npz"):
        if old.name not in names:
            old.unlink()
    for name in sorted(names):
        new = files.read_npz(live / name)
        if not (committed / name).exists() or figures.compare_data(live / name, committed / name):
            files.write_npz(committed / name, new)
        elif (old := files.read_npz(committed / name)) and _tolerances(old) != _tolerances(new):
            files.write_npz(committed / name, old | _tolerances(new))


def _tolerances(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {key: value for key, value in arrays.items() if key.startswith("tolerance/")}
