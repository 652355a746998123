"""What a chapter's notebook calls: its card, its live runs, its figures, its claims."""

import os
from typing import Any

import numpy as np
from IPython.display import HTML, display
from matplotlib.figure import Figure

from snnrepro import figures, ledger, runner
from snnrepro.ledger import Record
from snnrepro.runner import Runs


class Chapter:
    """A chapter at work: its claims, its recorded runs, and what has been run live so far.

    Args:
        citekey: of the paper, as in `chapters/<citekey>`.
    """

    def __init__(self, citekey: str):
        self.citekey = citekey
        self.claims = ledger.load_claims(citekey)
        self.experiments = runner.experiments(citekey)
        ledger.check_metrics(self.claims, self.experiments)
        self._live: dict[str, Runs] = {}

    def card(self) -> None:
        """Show the paper: citation, links, code, data, architecture, objective, learning rule."""
        display(HTML(ledger.card_html(self.claims)))

    def run(self, experiment: str) -> Runs:
        """Run the quick profile of an experiment now, whatever has been run before, on two processes.

        Progress goes to the screen unless $SNNREPRO_QUIET is set.
        """
        return self.run_all(experiment)[experiment]

    def run_all(self, *experiments: str) -> dict[str, Runs]:
        """Run the quick profile of several experiments as `run` does, side by side; experiments of one seed fill both processes."""
        quiet = bool(os.environ.get("SNNREPRO_QUIET"))
        runs = runner.run_all(self.citekey, experiments, "quick", fresh=True, quiet=quiet)
        self._live |= runs
        return runs

    def recorded(self, experiment: str) -> tuple[Record, dict[str, dict[str, np.ndarray]]] | None:
        """The record of an experiment at paper scale and its arrays by seed, or None where there is none."""
        record = ledger.load_record(self.citekey, experiment, "paper")
        return None if record is None else (record, ledger.load_arrays(record))

    def figure(
        self,
        fig: Figure,
        name: str,
        *,
        caption: str,
        alt: str,
        data: dict[str, np.ndarray],
        tolerance: float | dict[str, float],
    ) -> None:
        """Show a figure and write down what it draws (see `figures.publish`)."""
        figures.publish(fig, name, citekey=self.citekey, caption=caption, alt=alt, data=data, tolerance=tolerance)

    def samples(self, *experiments: str) -> str:
        """A sentence for captions: the data of these runs and of their records, where there are any."""
        kept = [ledger.load_record(self.citekey, name, "paper") for name in experiments]
        used = {
            "quick": [self._live[name].data for name in experiments if name in self._live],
            "paper scale": [record.data for record in kept if record],
        }
        named = [f"{profile} {' and '.join(dict.fromkeys(tags))}" for profile, tags in used.items() if tags]
        return f"Data: {', '.join(named)}."

    def interactive(
        self,
        name: str,
        *,
        caption: str,
        alt: str,
        data: dict[str, Any],
        tolerance: float | dict[str, float] = 1e-6,
    ) -> None:
        """Show a figure with a slider (see `figures.interactive`)."""
        figures.interactive(name, citekey=self.citekey, caption=caption, alt=alt, data=data, tolerance=tolerance)

    def strip(self, figure: str) -> None:
        """Show the claims of a figure: what is said where, what came out live and recorded, the verdicts."""
        display(HTML(ledger.strip_html(self._rows(), figure)))

    def table(self) -> None:
        """Show all claims of the chapter."""
        display(HTML(ledger.table_html(self._rows(), "All claims of this chapter")))

    def verdicts(self) -> None:
        """Print the quick verdict of each claim that was run live: `id: pass` or `id: fail`."""
        for row in self._rows():
            if row.quick in ("pass", "fail"):
                print(f"{row.claim.id}: {row.quick}")

    def _rows(self) -> list[ledger.Row]:
        live = {
            f"{name}.{metric}": list(values)
            for name, runs in self._live.items()
            for metric, values in runs.metrics.items()
        }
        return ledger.rows(self.claims, self.experiments, live)
