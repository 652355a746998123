"""Who may import whom inside snnrepro: the arrows of the architecture section of the README, by reading the code."""

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "snnrepro"

BASE = {"errors", "paths", "files"}
METHODS = {"surrogate", "first_spike", "force", "eprop", "rtrl", "hardware", "heterogeneity", "timescales"}
GROUND = {"neurons", "kernels", "data", "costs"}
MAY_IMPORT = {
    "errors": set(),
    "paths": {"errors"},
    "files": {"errors", "paths"},
    "experiment": set(),
    "progress": set(),
    "memory": set(),
    # Ground floor and methods. A method imports another only where it wraps its networks or uses its plain layers.
    "neurons": BASE,
    "costs": BASE,
    "data": BASE,
    "kernels": BASE | {"neurons"},
    **dict.fromkeys(METHODS, BASE | GROUND),
    "eprop": BASE | GROUND | {"surrogate"},
    "heterogeneity": BASE | GROUND | {"surrogate"},
    "timescales": BASE | GROUND | {"surrogate"},
    "hardware": BASE | GROUND | {"surrogate", "first_spike"},
    "peers": BASE | {"neurons", "first_spike", "force"},
    "papers": BASE | GROUND | METHODS | {"peers", "experiment"},
    # Beside them. None imports a method; papers are looked up by name when a run asks for one.
    "ledger": BASE | {"experiment"},
    "figures": BASE,
    "runner": BASE | {"experiment", "progress", "ledger", "memory"},
    "check": BASE | {"experiment", "ledger", "runner"},
    "execute": BASE | {"figures", "progress", "ledger", "runner"},
    "skeleton": BASE,
    "notebook": BASE | {"experiment", "ledger", "figures", "runner"},
    "cli": BASE | {"data", "experiment", "ledger", "runner", "check", "execute", "skeleton"},
    "__main__": {"cli"},
}
SEARCH_PATH = "snnrepro.papers"  # this package itself holds no code, only where its modules are found


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
ROOMS = sorted({name.split(".")[1] for name in FILES if "." in name})


def resolve(name: str) -> str | None:
    """The longest part of a dotted name that is a module of ours: `snnrepro.data.mnist_5k` is in `snnrepro.data`."""
    while name and name not in FILES:
        name = name.rpartition(".")[0]
    return name or None


@cache
def imports(module: str) -> frozenset[str]:
    """Modules of ours that a module names in its import statements, also inside functions."""
    path = FILES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                base = ".".join([*parents[: len(parents) - node.level + 1], *([node.module] if node.module else [])])
            found |= {f"{base}.{alias.name}" for alias in node.names}
    ours = {resolve(name) for name in found if name.split(".")[0] == "snnrepro"}
    return frozenset(ours - {None, module})


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_imports_only_what_lies_below_it(name):
    assert name in MAY_IMPORT, f"snnrepro.{name} has no arrows yet: say in MAY_IMPORT what it may import"
    wrong = [
        f"{module} imports {target}"
        for module in FILES
        if room(module) == name
        for target in imports(module)
        if target != SEARCH_PATH and room(target) not in MAY_IMPORT[name] | {name, ""}
    ]
    assert wrong == []


def test_the_rooms_form_no_circle():
    allowed = {name: targets - {name} for name, targets in MAY_IMPORT.items()}
    TopologicalSorter(allowed).prepare()


def test_the_modules_form_no_circle():
    try:
        TopologicalSorter({module: imports(module) for module in FILES}).prepare()
    except CycleError as error:
        pytest.fail("circle: " + " -> ".join(error.args[1]))


def test_a_paper_imports_no_other_paper():
    papers = [module for module in FILES if module.startswith("snnrepro.papers.")]
    assert [(m, t) for m in papers for t in imports(m) if t.startswith("snnrepro.papers.")] == []


def test_the_reader_of_imports_sees_them_all(tmp_path, monkeypatch):
    path = tmp_path / "probe.py"
    path.write_text(
        "import snnrepro.errors\nfrom snnrepro import paths as p\nfrom . import neurons\n"
        "def f():\n    from snnrepro.surrogate.layers import lif\n    import torch\n"
    )
    monkeypatch.setitem(FILES, "snnrepro.probe", path)
    found = imports("snnrepro.probe")
    assert found == {"snnrepro.errors", "snnrepro.paths", "snnrepro.neurons", "snnrepro.surrogate.layers"}
