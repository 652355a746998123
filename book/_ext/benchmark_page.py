"""Parts of the benchmark page: `{benchmark} PART`, made while building from what `make bench` wrote.

PART is a key of `PARTS`; `task` takes a name as well. The results are copied to `benchmark.json` at the root of the site.
"""

import os
import shutil
import sys
from collections.abc import Callable
from html import escape
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

sys.path.append(str(Path(__file__).resolve().parents[2]))  # benchmarks is no part of the installed package

from benchmarks import eprop, first_spike, force, loihi, report

RESULTS, FIGURE = report.RESULTS / "benchmark.json", report.RESULTS / "sweeps.svg"


class Part(NamedTuple):
    """Something that the page can show.

    Attributes:
        module: its `load` reads the results; `alternative` and `caption` describe a figure.
        files: the results, and the figure where the part is one.
        html: of the results; None for a figure.
        how: how to measure it.
    """

    module: ModuleType
    files: tuple[Path, ...]
    html: Callable[..., str] | None = None
    how: str = "run make bench"


PARTS = {
    "about": Part(report, (RESULTS,), lambda results: f"<p>{escape(report.about(results))}</p>"),
    "targets": Part(report, (RESULTS,), report.targets_html),
    "further-targets": Part(report, (RESULTS,), lambda results: report.further_html(further())),
    "faster": Part(report, (RESULTS,), report.faster_html),
    "task": Part(report, (RESULTS,), report.task_html),
    "figure": Part(report, (RESULTS, FIGURE)),
    "libraries": Part(report, (RESULTS,), report.libraries_html),
    "skipped": Part(report, (RESULTS,), report.skipped_html),
    "numbers": Part(report, (RESULTS,), report.numbers_html),
    "first-spikes": Part(first_spike, (first_spike.RESULTS,), first_spike.table_html),
    "force": Part(force, (force.RESULTS,), force.table_html),
    "force-figure": Part(force, (force.RESULTS, force.FIGURE)),
    "eprop": Part(eprop, (eprop.RESULTS,), eprop.table_html),
    "loihi": Part(loihi, (loihi.RESULTS,), loihi.table_html, "see benchmarks/loihi.py"),
}


SMALLER = {"First spikes": first_spike, "FORCE": force, "e-prop": eprop, "Loihi": loihi}


def further():
    """Return the targets of the smaller benchmarks that have results."""
    return {title: module.targets(module.load()) for title, module in SMALLER.items() if module.RESULTS.exists()}


class Benchmark(SphinxDirective):
    """Put one part of the results here."""

    required_arguments = 1
    optional_arguments = 1

    def run(self):
        """Return the part; the page is read again when its files changed."""
        name, *task = self.arguments
        if name not in PARTS or bool(task) != (name == "task"):
            raise self.error(f"benchmark: no part {' '.join(self.arguments)!r}; there are {', '.join(PARTS)}")
        part = PARTS[name]
        for path in part.files:
            self.env.note_dependency(str(path))
        if not all(path.exists() for path in part.files):
            return [nodes.paragraph("", f"Not measured yet: {part.how}.")]
        results = part.module.load()
        if part.html is None:
            return [self.figure(part.files[-1], part.module.alternative(results), part.module.caption(results))]
        if task and task[0] not in results["tasks"]:
            raise self.error(f"benchmark: no task {task[0]!r}; there are {', '.join(results['tasks'])}")
        return [raw(part.html(results, *task))]

    def figure(self, path, alternative, caption):
        """Return a figure with its number, caption and alternative text; its label is `benchmark-` and the name of the file."""
        folder = Path(self.env.doc2path(self.env.docname)).parent
        uri = os.path.relpath(path, folder).replace(os.sep, "/")
        image = nodes.image(uri=uri, alt=alternative, candidates={})
        figure = nodes.figure("", image, classes=["snn-picture"])
        text = nodes.paragraph()
        self.state.nested_parse(StringList([caption], source=self.get_source_info()[0]), 0, text)
        figure += nodes.caption("", "", *text.children[0].children)
        target = f"benchmark-{path.stem}"
        figure["ids"].append(target)
        figure["names"].append(target)
        self.state.document.note_explicit_target(figure)
        return figure


def raw(html):
    """HTML as a node."""
    return nodes.raw("", html, format="html")


def copy_results(app, error):
    """Copy the results to the root of the site."""
    if error is None and app.builder.format == "html" and RESULTS.exists():
        shutil.copyfile(RESULTS, Path(app.outdir, "benchmark.json"))


def setup(app):
    """Register with Sphinx."""
    app.add_directive("benchmark", Benchmark)
    app.add_css_file("benchmark.css")
    app.connect("build-finished", copy_results)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
