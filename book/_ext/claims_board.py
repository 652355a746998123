"""The claims board as a directive, and `ledger.json` at the root of the site.

`{claims-board}` shows every claim with its evidence and both verdicts, drawn from claims.yml and the records while building.
"""

import json
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from snnrepro import ledger


class ClaimsBoard(SphinxDirective):
    """Put the board of all chapters here. No arguments."""

    def run(self):
        """Return the board as raw HTML; the page is read again in every build."""
        self.env.note_reread()
        return [nodes.raw("", ledger.board_html(ledger.board_rows()), format="html")]


def write_ledger(app, error):
    """Write the data behind the board to `ledger.json`."""
    if error is None and app.builder.format == "html":
        text = json.dumps(ledger.ledger_json(), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
        Path(app.outdir, "ledger.json").write_text(text + "\n", encoding="utf-8")


def setup(app):
    """Register with Sphinx."""
    app.add_directive("claims-board", ClaimsBoard)
    app.connect("build-finished", write_ledger)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
