"""Where things are: the repository, its chapters, and the folder of runs."""

import difflib
import os
from pathlib import Path

from snnrepro.errors import UserError


def root() -> Path:
    """The repository: $SNNREPRO_ROOT, else the nearest parent of the working folder that looks like it, else the package's parent.

    Raises:
        UserError: $SNNREPRO_ROOT names no folder with chapters.
    """
    if named := os.environ.get("SNNREPRO_ROOT"):
        if not Path(named, "chapters").is_dir():
            raise UserError(f"SNNREPRO_ROOT names {named}, which has no folder chapters; mend or unset it")
        return Path(named).resolve()
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "chapters").is_dir() and (folder / "_config.yml").is_file():
            return folder
    return Path(__file__).resolve().parent.parent


def citekeys() -> list[str]:
    """Chapters that have a claims.yml, in alphabetical order."""
    return sorted(path.parent.name for path in (root() / "chapters").glob("*/claims.yml"))


def chapter(citekey: str) -> Path:
    """Folder of a chapter.

    Raises:
        UserError: there is no such chapter; the message names the nearest one.
    """
    known = citekeys()
    if citekey in known:
        return root() / "chapters" / citekey
    nearest = difflib.get_close_matches(citekey.lower(), known, n=1)
    hint = f"did you mean {nearest[0]}?" if nearest else f"known: {', '.join(known) or 'none'}"
    raise UserError(f"unknown chapter {citekey!r}; {hint}")


def runs(citekey: str) -> Path:
    """Folder of a chapter's seed files and live figure data (ignored by git)."""
    return root() / ".runs" / citekey
