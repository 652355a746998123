"""The book's own Sphinx extensions."""

import importlib.util
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from docutils.parsers.rst import DirectiveError

EXTENSIONS = Path(__file__).parents[1] / "book" / "_ext"


def load(name):
    spec = importlib.util.spec_from_file_location(f"book_{name}", EXTENSIONS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PAGE = """
<div class="math notranslate nohighlight" id="equation-current"><span class="eqno">(1)<a href="#x">#</a></span>I</div>
<div class="math notranslate nohighlight" id="equation-membrane"><span class="eqno">(2)<a href="#x">#</a></span>U</div>
<div class="cell_input"><pre><span class="n">u</span>  <span class="c1"># {comment}</span></pre></div>
"""


def linked(comment):
    context = {"body": PAGE.replace("{comment}", comment)}
    load("eqlinks").link_comments(None, "page", "page.html", context, doctree=object())
    return context["body"]


@pytest.mark.parametrize(
    "comment", ["Eq. (2)", "now Eq. (2): leak (3 ms)", "Eqs. (1), (2)", "Eqs. (1) and (2)", "Eqs. (1)-(2)"]
)
def test_a_comment_links_to_its_equation(comment):
    body = linked(comment)
    assert '<a class="eqlink" href="#equation-membrane">(2)</a>' in body
    assert ('href="#equation-current"' in body) == ("(1)" in comment)


def test_a_comment_without_equation_stays_as_it_is():
    assert linked("(2) is the number of layers") == PAGE.replace("{comment}", "(2) is the number of layers")


def test_a_number_that_no_equation_has_is_a_warning():
    eqlinks = load("eqlinks")
    said = []
    eqlinks.logger = SimpleNamespace(warning=lambda text, *words, location: said.append((text % words, location)))
    context = {"body": PAGE.replace("{comment}", "Eq. (7)")}
    eqlinks.link_comments(None, "page", "page.html", context, doctree=object())
    assert said == [("a code comment names Eq. (7), which this page does not have", "page")]
    assert "eqlink" not in context["body"]


def test_a_figure_opens_alone():
    page = '<div class="cell_output"><figure><img alt="a" src="x.svg"/><p>c</p></figure></div><img src="y.svg"/>'
    context = {"body": page}
    load("figure_links").link_pictures(None, "page", "page.html", context, doctree=object())
    assert (
        '<a class="snn-plain" href="x.svg" title="Open the picture alone"><img alt="a" src="x.svg"/></a>'
        in context["body"]
    )
    assert 'href="y.svg"' not in context["body"]


def test_the_gallery_reads_published_figures_in_order(tmp_path):
    def output(name):
        data = {"image/svg+xml": ["<svg>", f"{name}</svg>"], "text/plain": "Figure"}
        return {
            "output_type": "display_data",
            "data": data,
            "metadata": {"snnrepro": {"name": name, "caption": "c", "alt": "a"}},
        }

    plain = {"output_type": "display_data", "data": {"image/svg+xml": "<svg/>"}, "metadata": {}}
    cells = [{"cell_type": "markdown"}, {"outputs": [output("b")]}, {"outputs": [plain, output("a")]}]
    notebook = tmp_path / "made2024.ipynb"
    notebook.write_text(json.dumps({"cells": cells}))
    assert list(load("gallery").published(notebook)) == [
        ("b", "c", "a", "<svg>b</svg>"),
        ("a", "c", "a", "<svg>a</svg>"),
    ]


def test_the_gallery_names_a_chapter_by_its_first_heading(tmp_path):
    cells = [{"cell_type": "code", "source": ["# a comment\n"]}]
    cells += [{"cell_type": "markdown", "source": source} for source in (["Text\n", "# A title"], "# Another")]
    notebook = tmp_path / "made2024.ipynb"
    notebook.write_text(json.dumps({"cells": cells}))
    assert load("gallery").title(notebook) == "A title"


def test_the_gallery_takes_chapters_in_the_order_of_the_contents():
    names = ["book/intro", "chapters/z2020/z2020", "chapters/a2021/a2021", "chapters/lost/lost"]
    env = SimpleNamespace(
        app=SimpleNamespace(config=SimpleNamespace(external_site_map=names)), found_docs=set(names[:3])
    )
    assert load("gallery").chapters(env) == names[1:3]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("`U` above |x|", r"``U`` above \|x\|"),
        ("``a|b`` and `c|d`", "``a|b`` and ``c|d``"),
        (":func:`spike` stays", ":func:`spike` stays"),
    ],
)
def test_docstrings_may_be_plain(line, expected):
    assert load("docstrings").plain_line(line) == expected


def test_parameters_that_share_a_line_get_one_each():
    given = [
        "Args:",
        "    low, high: ends of",
        "        the range.",
        "    x: S.",
        "    y: S. and T.",
        "    z: state, all: fine.",
    ]
    expected = ["Args:", "    low: ends of", "        the range.", "    high: ends of", "        the range."]
    expected += ["    x: \\S.", "    y: \\S. and T.", "    z: state, all: fine."]
    assert load("docstrings").apart(given) == expected


def test_verdict_counts_of_the_map(monkeypatch):
    module = load("chapter_map")
    states = [("reproduced", "pass"), ("reproduced", "pass"), ("not reproduced", "fail"), ("open", "not run")]
    rows = [{"citekey": "a", "paper_verdict": paper, "quick_verdict": quick} for paper, quick in states]
    rows.append({"citekey": "b", "paper_verdict": "partly", "quick_verdict": "pass"})
    monkeypatch.setattr(module.ledger, "board_rows", lambda: rows)
    line = module.verdicts("a")
    assert '<span class="snn-verdict snn-verdict-reproduced">2 reproduced</span>' in line
    assert '<span class="snn-verdict snn-verdict-not-reproduced">1 not reproduced</span>' in line
    assert "partly" not in line
    assert line.endswith("2 of 3 pass in the quick run.")


def test_the_map_shows_each_state_of_the_ledger(monkeypatch):
    module = load("chapter_map")
    row = {"citekey": "a", "paper_verdict": "new", "quick_verdict": "not run"}
    monkeypatch.setattr(module.ledger, "board_rows", lambda: [row])
    monkeypatch.setattr(module.ledger, "STATES", ("new",))
    assert module.verdicts("a") == '<span class="snn-verdict snn-verdict-new">1 new</span>'


def shown(module, *arguments):
    """What the benchmark directive gives, and the files that its page depends on."""
    noted = []
    directive = module.Benchmark.__new__(module.Benchmark)
    directive.arguments = list(arguments)
    environment = SimpleNamespace(note_dependency=noted.append)
    directive.state = SimpleNamespace(document=SimpleNamespace(settings=SimpleNamespace(env=environment)))
    return directive.run()[0], [Path(file) for file in noted]


def test_results_that_are_missing_hide_their_own_parts_only(monkeypatch, tmp_path):
    module = load("benchmark_page")
    for name, part in module.PARTS.items():
        if part.module is module.report:
            monkeypatch.setitem(module.PARTS, name, part._replace(files=(tmp_path / "absent.json",)))
    node, files = shown(module, "about")
    assert node.astext() == "Not measured yet: run make bench." and files == [tmp_path / "absent.json"]
    for name in ("first-spikes", "force", "eprop", "loihi"):
        node, files = shown(module, name)
        assert node.tagname == "raw" and "<table" in node.astext() and files == [module.PARTS[name].module.RESULTS]


def test_parts_of_the_benchmark_page():
    module = load("benchmark_page")
    page = (EXTENSIONS.parent / "benchmark.md").read_text()
    assert set(re.findall(r"```{benchmark} (\S+)", page)) <= module.PARTS.keys()
    assert shown(module, "task", "feedforward")[0].tagname == "raw"
    for wrong in (["nothing"], ["about", "more"], ["task"], ["task", "nothing"]):
        with pytest.raises(DirectiveError) as caught:
            shown(module, *wrong)
        assert re.search(f"no (part|task) .*{wrong[-1]}.*; there are ", caught.value.msg)
