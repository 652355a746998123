"""What the smaller benchmarks share: their options, and the date and versions that go with their results."""

import argparse
import datetime
from importlib import metadata
from typing import Any

from snnrepro.files import SCHEMA


def options(name: str, description: str, rounds: int = 7) -> argparse.ArgumentParser:
    """The options of `python -m benchmarks.<name>`."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    parser.add_argument("--rounds", type=_positive, default=rounds, help=f"measurements of each, {rounds} if not given")
    parser.add_argument("--quick", action="store_true", help="tiny networks, nothing written")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"is {text!r}, give 1 or more")
    return int(text)


def stamped(results: dict[str, Any], *packages: str) -> dict[str, Any]:
    """The results with their date and the versions of those packages that are installed."""
    versions = {}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return results | {"schema": SCHEMA, "date": datetime.date.today().isoformat(), "versions": versions}
