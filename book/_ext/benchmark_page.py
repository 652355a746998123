"""Parts of the benchmark page: `{benchmark} PART`, made while building from what `make bench` wrote.

PART is `about`, `targets`, `faster`, `task NAME`, `figure`, `first-spikes`, `force`, `force-figure`, `eprop`, `loihi`, `libraries`,
`skipped` or `numbers`. The results are copied to `benchmark.json` at the root of the site.
"""

import os
import shutil
import sys
from html import escape
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

sys.path.append(str(Path(__file__).resolve().parents[2]))  # benchmarks is no part of the installed package

from benchmarks import eprop, first_spike, force, loihi, report

RESULTS, FIGURE = report.RESULTS / "benchmark.json", report.RESULTS / "sweeps.svg"
PARTS = {
    "about": lambda results: f"<p>{escape(report.about(results))}</p>",
    "targets": report.targets_html,
    "faster": report.faster_html,
    "libraries": report.libraries_html,
    "skipped": report.skipped_html,
    "numbers": report.numbers_html,
}


class Benchmark(SphinxDirective):
    """Put one part of the results here."""

    required_arguments = 1
    optional_arguments = 1

    def run(self):
        """Return the part; the page is read again when the results changed."""
        if not RESULTS.exists():
            return [nodes.paragraph("", "Not measured yet: run make bench.")]
        results = report.load()
        for path in (RESULTS, FIGURE):
            self.env.note_dependency(str(path))
        part, *names = self.arguments
        if part == "first-spikes":
            if not first_spike.RESULTS.exists():
                return [nodes.paragraph("", "Not measured yet: run make bench.")]
            self.env.note_dependency(str(first_spike.RESULTS))
            return [raw(first_spike.table_html(first_spike.load()))]
        if part == "eprop":
            if not eprop.RESULTS.exists():
                return [nodes.paragraph("", "Not measured yet: run make bench.")]
            self.env.note_dependency(str(eprop.RESULTS))
            return [raw(eprop.table_html(eprop.load()))]
        if part == "loihi":
            if not loihi.RESULTS.exists():
                return [nodes.paragraph("", "Not measured yet: see benchmarks/loihi.py.")]
            self.env.note_dependency(str(loihi.RESULTS))
            return [raw(loihi.table_html(loihi.load()))]
        if part in ("force", "force-figure"):
            if not force.RESULTS.exists() or not force.FIGURE.exists():
                return [nodes.paragraph("", "Not measured yet: run make bench.")]
            for path in (force.RESULTS, force.FIGURE):
                self.env.note_dependency(str(path))
            results = force.load()
            if part == "force":
                return [raw(force.table_html(results))]
            return [self.figure(force.FIGURE, force.alternative(results), force.caption(results), "benchmark-force")]
        if part == "figure":
            return [self.figure(FIGURE, report.alternative(results), report.caption(results), "benchmark-sweeps")]
        if part == "task" and names and names[0] in results["tasks"]:
            return [raw(report.task_html(results, names[0]))]
        if part not in PARTS or names:
            raise self.error(
                f"benchmark: no part {' '.join(self.arguments)!r}; there are {', '.join(PARTS)}, figure, first-spikes, "
                "force, force-figure, eprop, loihi, task"
            )
        return [raw(PARTS[part](results))]

    def figure(self, path, alternative, caption, target):
        """Return a figure with its number, caption and alternative text."""
        folder = Path(self.env.doc2path(self.env.docname)).parent
        uri = os.path.relpath(path, folder).replace(os.sep, "/")
        image = nodes.image(uri=uri, alt=alternative, candidates={})
        figure = nodes.figure("", image, classes=["snn-picture"])
        text = nodes.paragraph()
        self.state.nested_parse(StringList([caption], source=self.get_source_info()[0]), 0, text)
        figure += nodes.caption("", "", *text.children[0].children)
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
