"""The built book asks for nothing outside itself, and nothing in it points nowhere. Runs where there is a build."""

import json
import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup

SITE = Path(__file__).parents[1] / "_build" / "html"

LOADS = dict.fromkeys(("script", "img", "iframe", "source", "audio", "video", "embed", "track", "input"), "src")
LOADS |= {"object": "data", "image": "href", "use": "href"}
"""Tags that make a browser fetch something, and the attribute that says what."""

LOADING_LINKS = {"stylesheet", "icon", "preload", "prefetch", "modulepreload", "preconnect", "dns-prefetch", "manifest"}
CSS_LOADS = re.compile(r"""url\(\s*['"]?([^'")]+)|@import\s+['"]([^'"]+)""")
OUTSIDE = re.compile(r"^(?:[a-z][a-z0-9+.-]*:)?//|^(?:https?|ftp|wss?):", re.IGNORECASE)

# How a script reaches out: a call with an outside address, or an address of something to load.
SCRIPT_LOADS = re.compile(
    r"""(?:\bfetch\(|\bimport\(|importScripts\(|\.open\(\s*['"]GET['"]\s*,|new\s+(?:EventSource|WebSocket|Worker)\("""
    r"""|sendBeacon\(|\.(?:src|href)\s*=)\s*[`'"](?:https?:|wss?:)?//"""
    r"""|[`'"](?:https?:)?//[^`'"\s]+\.(?:m?js|css|json|woff2?)[`'"?]"""
)


def files(pattern):
    if not (SITE / "index.html").exists():
        pytest.skip("the book is not built; run `make html` first")
    return sorted(SITE.rglob(pattern))


def pages():
    return [page for page in files("*.html") if "_static" not in page.relative_to(SITE).parts]


@cache
def soup(page):
    return BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")


@cache
def anchors(page):
    return {tag["id"] for tag in soup(page).find_all(id=True)} | {
        tag["name"] for tag in soup(page).find_all("a", attrs={"name": True})
    }


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
    styles = [s.get_text() for s in soup(page).find_all("style")] + [
        e["style"] for e in soup(page).find_all(style=True)
    ]
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
    assert len(pages()) > 8
    assert (SITE / "book" / "intro.html").exists()


def test_no_page_loads_anything_from_outside():
    assert [f"{name(page)}: {a}" for page in pages() for a in loaded(page) if OUTSIDE.match(a)] == []


def test_every_loaded_file_exists():
    wanted = {(name(page), a) for page in pages() for a in loaded(page) if (t := target(page, a)) and not t.exists()}
    assert sorted(wanted) == []


def test_no_stylesheet_loads_anything_from_outside_or_missing():
    bad = []
    for sheet in files("*.css"):
        for address in in_css(sheet.read_text(encoding="utf-8")):
            file = target(sheet, address)
            if OUTSIDE.match(address) or (file and not file.exists()):
                bad.append(f"{name(sheet)}: {address}")
    assert bad == []


def test_no_picture_loads_anything_from_outside():
    pattern = re.compile(r"""href=["'](?:https?:)?//|<!ENTITY""")
    assert [name(p) for p in files("*.svg") if pattern.search(p.read_text(encoding="utf-8"))] == []


def scripts():
    for page in pages():
        for script in soup(page).find_all("script"):
            if not script.get("src") and script.get("type", "") not in ("application/json", "application/ld+json"):
                yield name(page), script.get_text()
    for file in files("*.js"):
        yield name(file), file.read_text(encoding="utf-8")


def test_no_script_asks_a_server():
    assert [f"{where}: {found[0]}" for where, text in scripts() if (found := SCRIPT_LOADS.search(text))] == []


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
    bad = [
        f"{name(page)}: {i.get('src')}"
        for page in pages()
        for i in soup(page).find_all("img")
        if not i.get("alt", "").strip()
    ]
    assert bad == []


def test_formulas_are_drawn_by_a_script_of_the_book():
    for page in pages():
        if soup(page).select(".math"):
            sources = [s["src"] for s in soup(page).find_all("script", src=True)]
            assert any("mathjax/tex-chtml-full.js" in s for s in sources), name(page)


def test_the_ledger_is_published():
    assert pages()
    ledger = json.loads((SITE / "ledger.json").read_text(encoding="utf-8"))
    assert ledger["claims"]
    rows = soup(SITE / "book" / "claims.html").select(".snn-board-table .snn-row")
    assert len(rows) == len(ledger["claims"])


def test_the_board_shows_everything_without_scripts():
    assert pages()
    board = soup(SITE / "book" / "claims.html")
    assert board.select(".snn-filters[hidden]"), "the form is shown by the script that serves it"
    assert not board.select(".snn-row[hidden]")


def test_vendored_scripts_keep_their_licences():
    assert {p.name for p in files("_static/vendor/*LICENSE*")} == {
        "mathjax.LICENSE",
        "popper.LICENSE.md",
        "tippy.LICENSE",
    }


@pytest.mark.parametrize(
    "poison",
    [
        '<script src="https://cdn.example/a.js"></script>',
        '<script src="//cdn.example/a.js"></script>',
        '<link rel="stylesheet" href="https://cdn.example/a.css">',
        '<link rel="preload" as="font" href="https://cdn.example/a.woff2">',
        '<img src="http://example.org/a.png">',
        '<img srcset="a.png 1x, https://example.org/a.png 2x">',
        '<iframe src="https://example.org"></iframe>',
        '<svg><image xlink:href="https://example.org/a.png"/></svg>',
        "<style>@import 'https://example.org/a.css';</style>",
        '<p style="background: url(https://example.org/a.png)"></p>',
    ],
)
def test_the_scan_sees_what_a_page_would_load(tmp_path, poison):
    page = tmp_path / "page.html"
    page.write_text(f'<a href="https://doi.org/1">paper</a><img src="a.png">{poison}', encoding="utf-8")
    assert [a for a in loaded(page) if OUTSIDE.match(a)] != []


@pytest.mark.parametrize(
    "poison",
    [
        "fetch('https://example.org/x')",
        'import("//cdn.example/x")',
        "image.src = 'https://example.org/a.png'",
        "require.config({paths: {plotly: 'https://cdn.example/plotly.min.js'}})",
        "new WebSocket('wss://example.org')",
    ],
)
def test_the_scan_sees_what_a_script_would_ask(poison):
    assert SCRIPT_LOADS.search(poison)
    assert not SCRIPT_LOADS.search("// see https://example.org/docs\nfetch('data.json')")
