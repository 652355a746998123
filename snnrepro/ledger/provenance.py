"""Where a number comes from: hash of the configuration, hashes of the sources, versions, machine.

A source hash sees the syntax tree of a module and nothing else: comments, layout and docstrings do not change it. Nor does a guard, an
`if` that only raises a `UserError`: a run that has ended was not stopped by one, so that input can be refused without running all again.
"""

import ast
import dataclasses
import enum
import functools
import hashlib
import json
import math
import os
import platform
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import snnrepro
from snnrepro import papers
from snnrepro.errors import UserError
from snnrepro.experiment import Experiment

NOT_SOURCES = (
    "snnrepro",
    "snnrepro.papers",
    *(
        f"snnrepro.{name}"
        for name in ("ledger", "figures", "cli", "runner", "check", "progress", "execute", "skeleton")
    ),
    *(f"snnrepro.{name}" for name in ("notebook", "paths", "files", "errors", "data.registry")),
)
"""Modules that cannot change a number: bookkeeping, drawing, the list of files (each has its checksum), and the two packages that
only hold the version and a search path."""

PACKAGES = ("numpy", "scipy", "torch", "numba", "scikit-learn", "snntorch", "brian2")
"""Packages whose versions a record keeps."""


def config_dict(config: Any) -> dict[str, Any]:
    """A frozen configuration as plain JSON data: dataclasses and named tuples become mappings, functions their names.

    Raises:
        TypeError: the configuration is no dataclass, or holds something that has no plain form.
    """
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise TypeError(f"a configuration is a dataclass, not {type(config).__name__}")
    return _plain(config)


def config_hash(config: Any) -> str:
    """Hash of a configuration, 16 hexadecimal digits."""
    return plain_hash(config_dict(config))


def plain_hash(plain: Mapping[str, Any]) -> str:
    """Hash of a configuration that is plain JSON data already."""
    return _sha(json.dumps(plain, sort_keys=True))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {name: _plain(item) for name, item in zip(value._fields, value, strict=True)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic | np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    raise TypeError(f"a configuration cannot hold a {type(value).__name__}: {value!r}")


def source_hashes(module: str, function: str | None = None) -> dict[str, str]:
    """Hashes of a module and of the snnrepro modules that it imports, directly or not.

    Imports are read from the source, so nothing is executed and an import inside a function counts. A package's `__init__` counts
    with each of its modules. Guards count only where code on the way catches a `UserError` and goes on.

    Args:
        module: full name, like `snnrepro.papers.neftci2019`.
        function: an experiment of that module. Of the module itself, only the definitions and imports count that this function
            needs, so that a change to one experiment leaves the records of the others alone.

    Returns:
        Full module name to 16 hexadecimal digits, in alphabetical order.

    Raises:
        UserError: there is no such module, or a file on the way is no Python.
    """
    if _file(module) is None:
        raise UserError(f"there is no module {module}; a chapter's experiments are in snnrepro/papers/<citekey>.py")
    found = _walk(module, function, guards=False)
    if any(source.goes_on for source in found.values()):
        found = _walk(module, function, guards=True)
    return {name: found[name].hash for name in sorted(found)}


class _Source(NamedTuple):
    """What counts of a file: its hash, what it imports, and whether it catches a `UserError` and goes on."""

    hash: str
    imports: tuple[str, ...]
    goes_on: bool


def _walk(module: str, function: str | None, guards: bool) -> dict[str, _Source]:
    """A module and what it imports, directly or not, with guards or without."""
    found: dict[str, _Source] = {}
    todo = [module]
    while todo:
        name = todo.pop()
        if name in found or _is_bookkeeping(name):
            continue
        file = _file(name)
        if file is None:
            continue
        found[name] = _read(file, file.stat().st_mtime_ns, name, function if name == module else None, guards)
        todo += found[name].imports
        todo += _parents(name)
    return found


def experiment_sources(citekey: str, experiment: Experiment) -> dict[str, str]:
    """`source_hashes` of one experiment of a chapter."""
    module = f"snnrepro.papers.{citekey}"
    function = experiment.function
    return source_hashes(module, function.__name__ if function.__module__ == module else None)


def kernel_hashes() -> dict[str, str]:
    """Hashes of all that goes into compiled loops: the modules in `snnrepro/kernels` and what they import."""
    hashes: dict[str, str] = {}
    for folder in snnrepro.__path__:
        for file in Path(folder, "kernels").glob("*.py"):
            hashes |= source_hashes(f"snnrepro.kernels.{file.stem}")
    return hashes


def changed_sources(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Names of the modules that differ, appeared or are gone."""
    return sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))


def _is_bookkeeping(name: str) -> bool:
    return name in NOT_SOURCES or name.startswith("snnrepro.ledger.")


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts))]


def _file(name: str) -> Path | None:
    """Source of a module of this package, found without importing anything; None where there is none."""
    parts = name.split(".")
    if parts[0] != "snnrepro":
        return None
    folders, rest = snnrepro.__path__, parts[1:]
    if parts[:2] == ["snnrepro", "papers"]:
        folders, rest = papers.__path__, parts[2:]
    for folder in folders:
        base = Path(folder).joinpath(*rest)
        for file in (base.with_suffix(".py") if rest else None, base / "__init__.py"):
            if file is not None and file.is_file():
                return file
    return None


@functools.lru_cache(maxsize=1024)
def _read(file: Path, changed: int, name: str, function: str | None, guards: bool) -> _Source:
    """What counts of a file, or of what one function of it needs; `changed` (its time stamp) is there for the cache."""
    try:
        tree = ast.parse(file.read_bytes(), filename=str(file))
    except (SyntaxError, ValueError) as error:
        raise UserError(f"{file}: is not Python: {error}") from None
    if not guards:
        tree = _WithoutGuards().visit(tree)
    if function is not None:
        tree = _needed(tree, function)
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    return _Source(_sha(_dump(tree)), tuple(dict.fromkeys(_imports(tree, package))), _goes_on(tree))


class _WithoutGuards(ast.NodeTransformer):
    """Takes guards out, loops that hold nothing else, and the import of the error that they raise."""

    def visit_If(self, node: ast.If) -> ast.stmt | None:
        """An `if` that only raises a `UserError`, and binds nothing."""
        raises = (
            len(node.body) == 1 and isinstance(node.body[0], ast.Raise) and _called(node.body[0].exc) == "UserError"
        )
        binds = any(isinstance(child, ast.NamedExpr) for child in ast.walk(node.test))
        return None if raises and not binds and not node.orelse else self.generic_visit(node)

    def visit_For(self, node: ast.For) -> ast.stmt | None:
        """A loop over guards."""
        self.generic_visit(node)
        return node if node.body or node.orelse else None

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.stmt | None:
        """The import of `UserError`."""
        return None if node.module == "snnrepro.errors" else node


def _called(node: ast.expr | None) -> str:
    """Name of what a call calls, without the module; empty where it is no call of a name."""
    return getattr(node.func, "attr", getattr(node.func, "id", "")) if isinstance(node, ast.Call) else ""


def _goes_on(tree: ast.AST) -> bool:
    """Whether something catches a `UserError` and does more than to raise another error."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            caught = [node.type] if node.type else []
            goes_on = not (len(node.body) == 1 and isinstance(node.body[0], ast.Raise))
        elif _called(node) == "suppress":
            caught, goes_on = node.args, True
        else:
            continue
        names = {getattr(child, "attr", getattr(child, "id", "")) for part in caught for child in ast.walk(part)}
        if goes_on and (not caught or names & {"UserError", "Exception", "BaseException"}):
            return True
    return False


def _needed(tree: ast.Module, function: str) -> ast.Module:
    """The top-level statements that a function needs, itself included, in the order of the file; each import on its own.

    A statement that binds no name, like `TABLE["a"] = 2`, may change anything: it always counts.
    """
    statements: list[ast.stmt] = []
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            fields = dict(ast.iter_fields(node))
            statements += [type(node)(**fields | {"names": [alias]}) for alias in node.names]
        else:
            statements.append(node)
    given: dict[str, list[int]] = {}
    for k, node in enumerate(statements):
        for name in _names_given(node) or [""]:
            given.setdefault(name, []).append(k)
    needed: set[int] = set()
    todo = [function, ""]
    while todo:
        for k in given.pop(todo.pop(), []):
            needed.add(k)
            todo += [child.id for child in ast.walk(statements[k]) if isinstance(child, ast.Name)]
    return ast.Module([statements[k] for k in sorted(needed)], [])


def _names_given(node: ast.stmt) -> list[str]:
    """Names that a top-level statement binds; of one that holds others, like `if` and `try`, those that are bound in it."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    names = []
    for child in ast.walk(node):
        if isinstance(child, ast.FunctionDef | ast.ClassDef):
            names.append(child.name)
        elif isinstance(child, ast.alias):
            names.append(child.asname or child.name.partition(".")[0])
        elif isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
            names.append(child.id)
    return names


def _imports(tree: ast.AST, package: str) -> Iterator[str]:
    """Modules that a tree imports; `from a import b` gives both a and a.b, which may be a module or not."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _dump(node: Any) -> str:
    """Text of a syntax tree without docstrings and positions.

    `ast.dump` would do, but its text depends on the version of Python: newer ones add empty fields. Here they are left out.
    """
    if isinstance(node, ast.Constant):
        return f"{type(node.value).__name__}:{node.value!r}"
    if isinstance(node, ast.AST):
        fields = [(name, value) for name, value in ast.iter_fields(node) if value is not None and value != []]
        return f"{type(node).__name__}({','.join(f'{name}={_dump(value)}' for name, value in fields)})"
    if isinstance(node, list):
        return f"[{','.join(_dump(item) for item in node if not _is_docstring(item))}]"
    return repr(node)


def _is_docstring(node: Any) -> bool:
    """A string that stands alone does nothing, wherever it is."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def versions() -> dict[str, str]:
    """Versions of Python (major and minor), this package, and the packages that do the computing, as far as they are installed."""
    found = {"python": ".".join(platform.python_version_tuple()[:2]), "snnrepro": snnrepro.__version__}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """CPU model, number of cores and operating system; no host name and no path."""
    return {"cpu": _cpu(), "cores": os.cpu_count(), "system": platform.system()}


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
