"""Writes the skeleton of a new chapter: what is needed for `snnrepro list`, `run` and `execute` to take it."""

import importlib.util
import keyword
import re
import shutil
import tempfile
from pathlib import Path

from snnrepro import files, paths
from snnrepro.errors import UserError

PAPER = '''"""CITEKEY: its configurations and its experiments."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from snnrepro.experiment import Experiment, Progress, Result


@dataclass(frozen=True)
class First:
    """Configuration of the first experiment."""

    samples: int


def first(config: First, seed: int, progress: Progress, checkpoint: Path | None) -> Result:
    """Replace this: the mean of uniform noise."""
    noise = np.random.default_rng(seed).random(config.samples)
    progress(1, 1)
    return Result(metrics={"mean": noise.mean()}, arrays={"noise": noise})


EXPERIMENTS = {
    "first": Experiment(
        first,
        quick=First(samples=1000),
        paper=First(samples=100_000),
        quick_seeds=(0, 1, 2),
        paper_seeds=(0, 1, 2, 3, 4),
    ),
}
'''

CLAIMS = """\
paper: CITEKEY
title: Title of the page
architecture: Richards et al.'s first word
objective: the second
learning_rule: the third
data: {quick: generated, paper: generated}
claims:
  - id: first-claim
    figure: fig-1
    says: One sentence of the paper.
    where: Figure 1
    evidence: pilot
    metric: first.mean
    accept: {quick: "0.4 .. 0.6", paper: "0.49 .. 0.51"}
    why: Say where the band comes from.
"""

CHAPTER = """\
---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

# Title of the page

```{code-cell} ipython3
:tags: [nbval-ignore-output]

from matplotlib import pyplot as plt

from snnrepro import figures
from snnrepro.notebook import Chapter

figures.use_style()
chapter = Chapter("CITEKEY")
chapter.card()
```

## The idea

## The model

The first equation, with a label:

$$
m = \\frac{1}{n} \\sum_{i=1}^n x_i
$$ (CITEKEY-mean)

## Figure 1

```{code-cell} ipython3
:tags: [nbval-ignore-output]

first = chapter.run("first")  # Eq. (1)
noise = first.arrays[0]["noise"]
fig, ax = plt.subplots()
_ = ax.hist(noise)
chapter.figure(
    fig, "fig-1", caption="What is drawn.", alt="What one sees.", data={"noise": noise}, tolerance=1e-6
)
```

```{code-cell} ipython3
:tags: [nbval-ignore-output]

chapter.strip("fig-1")
```

## What breaks it

## What differs from the paper

## A second opinion

## Claims

```{code-cell} ipython3
:tags: [nbval-ignore-output]

chapter.table()
```

```{code-cell} ipython3
chapter.verdicts()
```
"""

NEXT = """\
Wrote chapters/CITEKEY/ and snnrepro/papers/CITEKEY.py. Next:
  1. book/references.bib: add the paper under the key CITEKEY
  2. snnrepro/papers/CITEKEY.py: the experiments; chapters/CITEKEY/claims.yml: what the paper says and what counts
  3. snnrepro run CITEKEY, then write chapters/CITEKEY/CITEKEY.md
  4. snnrepro execute CITEKEY, and add chapters/CITEKEY/CITEKEY to _toc.yml
  5. make test, make html
book/adding.md has all steps, the fields of a claim, and what the tests ask."""


def create(citekey: str) -> str:
    """Write a chapter's folder and its module; return the next steps.

    Raises:
        UserError: the key is not a good name or taken, the chapter or the module is there already, or a folder cannot be
            written. Nothing is left behind then.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", citekey):
        allowed = "lower case letters, digits and _, beginning with a letter"
        raise UserError(f"cannot name a chapter {citekey!r}; use {allowed}, as in the paper's key in references.bib")
    if taken := _taken(citekey):
        raise UserError(f"cannot name a chapter {citekey!r}, which is {taken}; use one like zenke2018")
    folder = paths.root() / "chapters" / citekey
    module = paths.root() / "snnrepro" / "papers" / f"{citekey}.py"
    for target in (folder, module):
        if target.exists():
            raise UserError(f"{files.shown(target)} is there already; choose another key or remove it")
    try:
        _write(citekey, folder, module)
    except OSError as error:
        raise UserError(f"{files.shown(folder)}: cannot write it: {error.strerror}") from None
    return NEXT.replace("CITEKEY", citekey)


def _taken(citekey: str) -> str:
    """What a key is already; empty where it is nothing."""
    if keyword.iskeyword(citekey):
        return "a word of Python"
    if importlib.util.find_spec(f"snnrepro.{citekey}"):
        return "the name of a method"
    return "the name of a Python package" if importlib.util.find_spec(citekey) else ""


def _write(citekey: str, folder: Path, module: Path) -> None:
    """Write the chapter beside its place, then move it there once the module is in place too."""
    draft = Path(tempfile.mkdtemp(prefix=f".{citekey}-", dir=folder.parent))
    try:
        (draft / "results").mkdir()
        (draft / "results" / ".gitkeep").touch()
        (draft / "claims.yml").write_text(CLAIMS.replace("CITEKEY", citekey))
        (draft / f"{citekey}.md").write_text(CHAPTER.replace("CITEKEY", citekey))
        draft.chmod(0o755)
        with module.open("x") as file:
            file.write(PAPER.replace("CITEKEY", citekey))
        try:
            draft.rename(folder)
        except OSError:
            module.unlink()
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
