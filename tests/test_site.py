"""The built book asks for nothing outside itself, and nothing in it points nowhere. Runs where there is a build."""

import json
import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup

SITE = Path(__file__).parents[1] / "_build" / "html"
pytestmark = pytest.mark.skipif(not (SITE / "index.html").exists(), reason="the book is not built; run `make html` first")

LOADS = {
    "script": "src", "img": "src", "iframe": "src", "source": "src", "audio": "src", "video": "src", "embed": "src",
    "track": "src", "object": "data", "input": "src", "image": "href", "use": "href",
}
"""Tags that make a browser fetch something, and the attribute that says what."""

LOADING_LINKS = {"stylesheet", "icon", "preload", "prefetch", "modulepreload", "preconnect", "dns-prefetch", "manifest"}
CSS_LOADS = re.compile(r"""url\(\s*['"]?([^'")]+)|@import\s+['"]([^'"]+)""")
OUTSIDE = re.compile(r"^(?:[a-z][a-z0-9+.-]*:)?//|^(?:https?|ftp|wss?):", re.IGNORECASE)

# A script may only reach out by one of these, with an address that is not its own.
SCRIPT_LOADS = re.compile(
    r"""(?:\bfetch\(|\bimport\(|importScripts\(|\.open\(\s*['"]GET['"]\s*,|new\s+(?:EventSource|WebSocket|Worker)\(|sendBeacon\(|\.src\s*=)"""
    r"""\s*[`'"]((?:https?:|wss?:)?//[^`'"]*)"""
)


def pages():
    return sorted(SITE.rglob("*.html"))


@cache
def soup(page):
    return BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")


@cache
def anchors(page):
    return {tag["id"] for tag in soup(page).find_all(id=True)} | {tag["name"] for tag in soup(page).find_all("a", attrs={"name": True})}


def name(path):
    return path.relative_to(SITE).as_posix()


def loaded(page):
    """Addresses that a browser fetches when it shows a page."""
    for tag, attribute in LOADS.items():
        for element in soup(page).find_all(tag):
            yield from filter(None, [element.get(attribute), element.get("xlink:href"), element.get("poster")])
            yield from (part.split()[0] for part in element.get("srcset", "").split(",") if part.strip())
    for link in soup(page).find_all("link", href=True):
        if LOADING_LINKS & set(link.get("rel", [])):
            yield link["href"]
    styles = [s.get_text() for s in soup(page).find_all("style")] + [e["style"] for e in soup(page).find_all(style=True)]
    for text in styles:
        yield from in_css(text)


def in_css(text):
    return [a or b for a, b in CSS_LOADS.findall(text)]


def target(origin, address):
    """The file that a local address means, or None where it is data or outside."""
    parts = urlsplit(address)
    if parts.scheme or parts.netloc or not parts.path:
        return None
    return (origin.parent / unquote(parts.path)).resolve()


def test_there_are_pages():
    assert (SITE / "book" / "intro.html").exists()
    assert len(pages()) > 8


def test_no_page_loads_anything_from_outside():
    assert [f"{name(page)}: {a}" for page in pages() for a in loaded(page) if OUTSIDE.match(a)] == []


def test_every_loaded_file_exists():
    wanted = {(name(page), a) for page in pages() for a in loaded(page) if (t := target(page, a)) and not t.exists()}
    assert sorted(wanted) == []


def test_no_stylesheet_loads_anything_from_outside_or_missing():
    bad = []
    for sheet in sorted(SITE.rglob("*.css")):
        for address in in_css(sheet.read_text(encoding="utf-8")):
            file = target(sheet, address)
            if OUTSIDE.match(address) or (file and not file.exists()):
                bad.append(f"{name(sheet)}: {address}")
    assert bad == []


def test_no_picture_loads_anything_from_outside():
    pattern = re.compile(r"""(?:xlink:)?href=["']((?:https?:)?//[^"']+)|<!ENTITY""")
    pictures = sorted(SITE.rglob("*.svg"))
    assert [name(p) for p in pictures if pattern.search(p.read_text(encoding="utf-8"))] == []


def scripts():
    for page in pages():
        for script in soup(page).find_all("script"):
            if not script.get("src") and script.get("type", "") not in ("application/json", "application/ld+json"):
                yield name(page), script.get_text()
    for file in sorted(SITE.rglob("*.js")):
        yield name(file), file.read_text(encoding="utf-8")


def test_no_script_asks_a_server():
    assert [f"{where}: {address}" for where, text in scripts() for address in SCRIPT_LOADS.findall(text)] == []


def test_every_local_link_leads_somewhere():
    bad = set()
    for page in pages():
        for link in soup(page).find_all("a", href=True):
            parts = urlsplit(link["href"])
            if parts.scheme or parts.netloc:
                continue
            file = target(page, link["href"]) or page
            if not file.exists():
                bad.add(f"{name(page)}: {link['href']}")
            elif parts.fragment and file.suffix == ".html" and unquote(parts.fragment) not in anchors(file):
                bad.add(f"{name(page)}: {link['href']} (no such place)")
    assert sorted(bad) == []


def test_every_picture_has_an_alternative_text():
    bad = [f"{name(page)}: {i.get('src')}" for page in pages() for i in soup(page).find_all("img") if not i.get("alt", "").strip()]
    assert bad == []


def test_no_page_holds_an_unresolved_formula_script():
    """MathJax comes from the book itself, on every page that has a formula."""
    for page in pages():
        if soup(page).select(".math"):
            sources = [s["src"] for s in soup(page).find_all("script", src=True)]
            assert any("mathjax/tex-chtml-full.js" in s for s in sources), name(page)


def test_the_ledger_is_published():
    ledger = json.loads((SITE / "ledger.json").read_text(encoding="utf-8"))
    assert ledger["claims"]
    rows = soup(SITE / "book" / "claims.html").select(".snn-board-table .snn-row")
    assert len(rows) == len(ledger["claims"])


def test_the_board_shows_everything_without_scripts():
    board = soup(SITE / "book" / "claims.html")
    assert board.select(".snn-filters[hidden]"), "the form is shown by the script that serves it"
    assert not board.select(".snn-row[hidden]")


def test_vendored_scripts_keep_their_licences():
    folder = SITE / "_static" / "vendor"
    assert {p.name for p in folder.glob("*LICENSE*")} == {"popper.LICENSE.md", "tippy.LICENSE"}
