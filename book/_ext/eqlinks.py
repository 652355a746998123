"""Turn `# Eq. (3)` in a code cell into a link to the third numbered equation of the page.

The link is made while building, so it works without scripts, and sphinx-tippy adds the formula on hover. A number that no
equation of the page has is a warning, so that a comment cannot point nowhere. Forms: `Eq. (3)`, `Eqs. (3), (4)`, `Eqs. (3)-(5)`.
"""

import re

from bs4 import BeautifulSoup
from sphinx.util import logging

MENTION = re.compile(r"\bEqs?\.\s*\(\d+\)(?:\s*(?:,|and|-|–)\s*\(\d+\))*")
NUMBER = re.compile(r"\((\d+)\)")
logger = logging.getLogger(__name__)


def equations(body):
    """Number of each numbered equation of a page, with the id of its element."""
    found = {}
    for number in body.select("div.math .eqno"):
        text = NUMBER.search(number.get_text())
        anchor = number.find_parent("div", id=True)
        if text and anchor is not None:
            found[text.group(1)] = anchor["id"]
    return found


def link_numbers(body, mention, known, pagename):
    """Pieces of a mention, with each number that is known as a link."""
    for position, part in enumerate(NUMBER.split(mention)):  # text, number, text, number, ..., text
        if position % 2 == 0:
            yield part
        elif part not in known:
            logger.warning("a code comment names Eq. (%s), which this page does not have", part, location=pagename)
            yield f"({part})"
        else:
            link = body.new_tag("a", href=f"#{known[part]}", attrs={"class": "eqlink"})
            link.string = f"({part})"
            yield link


def link_comments(app, pagename, templatename, context, doctree):
    """Link the equation numbers in the code comments of a page."""
    if doctree is None or "Eq" not in context.get("body", ""):
        return
    body = BeautifulSoup(context["body"], "html.parser")
    comments = [c for c in body.select(".cell_input span.c1") if MENTION.search(c.get_text())]
    if not comments:
        return
    known = equations(body)
    for comment in comments:
        text, end, pieces = comment.get_text(), 0, []
        for mention in MENTION.finditer(text):
            pieces += [text[end : mention.start()], *link_numbers(body, mention.group(), known, pagename)]
            end = mention.end()
        comment.clear()
        comment.extend([*pieces, text[end:]])
    context["body"] = str(body)


def setup(app):
    """Register with Sphinx; before sphinx-tippy (450), which collects the links of a page."""
    app.connect("html-page-context", link_comments, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
