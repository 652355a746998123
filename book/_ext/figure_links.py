"""Let a click on a figure open the picture alone, where a phone can enlarge it: figures are drawn for a page, not for a pocket."""

from bs4 import BeautifulSoup


def link_pictures(app, pagename, templatename, context, doctree):
    """Wrap the pictures of published figures in links to their files."""
    if doctree is None or "<figure" not in context.get("body", ""):
        return
    body = BeautifulSoup(context["body"], "html.parser")
    for picture in body.select(".cell_output figure > img, figure.snn-picture > img"):
        attributes = {"class": "snn-plain", "title": "Open the picture alone"}
        picture.wrap(body.new_tag("a", href=picture["src"], attrs=attributes))
    context["body"] = str(body)


def setup(app):
    """Register with Sphinx; before sphinx-tippy (450), which copies figures into hover cards."""
    app.connect("html-page-context", link_pictures, priority=410)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
