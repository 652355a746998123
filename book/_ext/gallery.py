"""The numbered figures of all chapters on one page: `{gallery}`.

Walks the notebooks named in the table of contents, in its order, and shows each published figure (an SVG output whose metadata
holds name, caption and alternative text) with its caption and a link to the place in the chapter.
"""

import hashlib
import json
import os
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx import addnodes
from sphinx.util.docutils import SphinxDirective


def chapters(env):
    """Names of the chapters' documents that exist, in the order of the table of contents."""
    return [
        name for name in env.app.config.external_site_map if name.startswith("chapters/") and name in env.found_docs
    ]


def published(notebook):
    """Yield name, caption, alternative text and SVG of each published figure of a notebook."""
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        for output in cell.get("outputs", []):
            about = output.get("metadata", {}).get("snnrepro")
            if about and "image/svg+xml" in output["data"]:
                yield about["name"], about["caption"], about["alt"], "".join(output["data"]["image/svg+xml"])


def title(notebook):
    """Return the first heading of a notebook."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    lines = [line for cell in cells if cell["cell_type"] == "markdown" for line in "".join(cell["source"]).splitlines()]
    return next(line.removeprefix("# ") for line in lines if line.startswith("# "))


class Gallery(SphinxDirective):
    """Put the gallery here. No arguments."""

    def run(self):
        """Return links to the chapters' grids and one titled grid a chapter; the page is read again in every build."""
        self.env.note_reread()
        found, links = [], []
        for chapter in chapters(self.env):
            notebook = Path(self.env.doc2path(chapter))
            figures = [self.figure(chapter, *one) for one in published(notebook)]
            if not figures:
                continue
            place = nodes.make_id(f"gallery-{Path(chapter).name}")
            to_place = nodes.reference("", title(notebook), refid=place, internal=True, classes=["snn-plain"])
            links += [nodes.Text(" · "), to_place]
            heading = nodes.paragraph(
                "", "", self.link("doc", f"/{chapter}", nodes.inline()), classes=["snn-gallery-title"], ids=[place]
            )
            found += [heading, nodes.container("", *figures, classes=["snn-gallery"])]
        if not found:
            return [nodes.paragraph("", "No chapter has a figure yet.")]
        return [nodes.paragraph("", "", *links[1:]), *found]

    def figure(self, chapter, name, caption, alt, svg):
        """Return one picture with its number and caption, leading to the figure in its chapter."""
        image = nodes.image(uri=self.write(svg), alt=alt)
        page = self.env.app.builder.get_relative_uri(self.env.docname, chapter)
        picture = nodes.reference(
            "", "", image, refuri=f"{page}#{nodes.make_id(name)}", internal=True, classes=["snn-plain"]
        )
        number = nodes.paragraph("", "", self.link("numref", name, nodes.literal("", name)))
        text = nodes.container(classes=["snn-gallery-caption"])
        self.state.nested_parse(StringList([caption], source=self.get_source_info()[0]), 0, text)
        return nodes.container("", picture, number, text, classes=["snn-gallery-item"])

    def link(self, kind, target, content):
        """Return a cross-reference that Sphinx resolves, or warns about."""
        about = {"refdomain": "std", "reftype": kind, "reftarget": target, "refexplicit": False, "refwarn": True}
        return addnodes.pending_xref("", content, refdoc=self.env.docname, **about)

    def write(self, svg):
        """Write a picture beside the build and return its path as Sphinx wants it."""
        folder = Path(self.env.doctreedir).parent / "gallery"
        folder.mkdir(exist_ok=True)
        path = folder / f"{hashlib.sha256(svg.encode()).hexdigest()[:16]}.svg"
        path.write_text(svg, encoding="utf-8")
        return os.path.relpath(path, Path(self.env.doc2path(self.env.docname)).parent).replace(os.sep, "/")


def setup(app):
    """Register with Sphinx."""
    app.add_directive("gallery", Gallery)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
