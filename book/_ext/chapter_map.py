"""The rows of the map: `{theme-papers}` shows each paper of a theme with its chapter, its verdicts and Richards et al.'s three words.

A chapter that rests on several papers shows its verdicts with each of them.

The body is a YAML list. Each entry: `paper`, a key of the bibliography; `chapter`, the key of its chapter where it is not the
paper's own; `planned: false` where none is planned; and, until a chapter's claims.yml says them, `architecture`, `objective` and
`learning_rule`.
"""

from collections import Counter

import yaml
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

from snnrepro import ledger

WORDS = {"architecture": "Architecture", "objective": "Objective", "learning_rule": "Learning rule"}


def verdicts(citekey):
    """One line of Markdown with the number of claims in each state."""
    rows = [row for row in ledger.board_rows() if row["citekey"] == citekey]
    counts = Counter(row["paper_verdict"] for row in rows)
    chips = [
        f'<span class="snn-verdict snn-verdict-{state.replace(" ", "-")}">{counts[state]} {state}</span>'
        for state in ledger.STATES
        if counts[state]
    ]
    quick = Counter(row["quick_verdict"] for row in rows)
    live = quick["pass"] + quick["fail"]
    return " ".join(chips) + (f" {quick['pass']} of {live} pass in the quick run." if live else "")


class ThemePapers(SphinxDirective):
    """Show the papers of one theme. The body is YAML, see the module."""

    has_content = True

    def run(self):
        """Return one block a paper; the page is read again in every build."""
        self.env.note_reread()
        return [self.paper(entry) for entry in yaml.safe_load("\n".join(self.content))]

    def paper(self, entry):
        """Return the block of one paper."""
        citekey = entry["paper"]
        chapter = entry.get("chapter", citekey)
        document = f"chapters/{chapter}/{chapter}"
        written = document in self.env.found_docs
        lines = [f"{{cite:t}}`{citekey}`: " + self.where(entry, document, written), ""]
        claims = ledger.load_claims(chapter) if written else None
        if written and citekey in (chapter, *claims.rests_on):
            lines += [f"{verdicts(chapter)} [Claims](claims.md)", ""]
        if written and citekey == chapter:
            entry = {word: getattr(claims, word) for word in WORDS}
        lines += [line for word, name in WORDS.items() for line in (f"{name}", f": {entry[word]}", "")]
        block = nodes.container(classes=["snn-map-paper"])
        self.state.nested_parse(StringList(lines, source=self.get_source_info()[0]), 0, block)
        return block

    def where(self, entry, document, written):
        """Say in Markdown where the paper is treated."""
        if written:
            return f"{{doc}}`/{document}`"
        if entry.get("planned", True):
            return "chapter planned" if "chapter" not in entry else f"planned, with {{cite:t}}`{entry['chapter']}`"
        return "no chapter planned yet"


def setup(app):
    """Register with Sphinx."""
    app.add_directive("theme-papers", ThemePapers)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
