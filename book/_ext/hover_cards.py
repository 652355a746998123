"""Keep the hover cards of sphinx-tippy whole when a book is built again.

It collects the cards of the pages that a build writes, and forgets those of the others: after a partial build, links to unchanged
pages would have no card. It also leaves its old script files behind. So every build writes every page, into an empty folder.
"""

import shutil
from pathlib import Path


def empty(app):
    """Remove the scripts that an earlier build made."""
    shutil.rmtree(Path(app.outdir) / "_static" / "tippy", ignore_errors=True)


def write_all(app, env):
    """Name every page as one to be written."""
    return sorted(env.found_docs)


def setup(app):
    """Register with Sphinx."""
    app.connect("builder-inited", empty)
    app.connect("env-updated", write_all)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
