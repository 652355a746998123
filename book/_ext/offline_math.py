"""Make the book readable without a network: MathJax from a Python package, and no script that asks a server.

The theme's default loads MathJax from a CDN. Here the one file that is needed, with its fonts, is copied out of the package
`sphinx-mathjax-offline` (MathJax 3.2.2, licence in `_static/vendor`). Jupyter Book also loads sphinx-thebe on every page, twice,
which needs a server; its tags are dropped.
"""

import importlib.util
import shutil
from pathlib import Path

SCRIPT = "tex-chtml-full.js"
FONTS = "output/chtml/fonts/woff-v2"
XPATH = "https://cdn.jsdelivr.net/npm/wicked-good-xpath@1.3.0/dist/wgxpath.install.js"  # for browsers of before 2015


def copy_mathjax(app, error):
    """Copy MathJax and its fonts to `_static/mathjax` of the finished book, without its one outside address."""
    if error is not None or app.builder.format != "html":
        return
    package = importlib.util.find_spec("sphinx-mathjax-offline")  # the name of the module has hyphens
    source = Path(package.origin).parent / "static" / "mathjax"
    target = Path(app.outdir) / "_static" / "mathjax"
    shutil.copytree(source / FONTS, target / FONTS, dirs_exist_ok=True)
    text = (source / SCRIPT).read_text(encoding="utf-8")
    (target / SCRIPT).write_text(text.replace(XPATH, ""), encoding="utf-8")


def drop_thebe(app, pagename, templatename, context, doctree):
    """Remove the script and style tags of sphinx-thebe from a page."""

    def keep(file):
        return "thebe" not in str(getattr(file, "filename", file) or "").lower() and "THEBE" not in str(
            getattr(file, "attributes", {})
        )

    for key in ("script_files", "css_files"):
        context[key] = [file for file in context.get(key, []) if keep(file)]


def setup(app):
    """Register with Sphinx."""
    app.connect("build-finished", copy_mathjax)
    app.connect("html-page-context", drop_thebe, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
