"""Figures: one style, and one way to publish.

A published figure has a caption, an alternative text and the arrays it draws. The arrays are written beside the run, and a test
compares the committed ones with them: notebook tests do not look at pictures.
"""

import html
import json
import math
from io import StringIO
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from snnrepro import paths
from snnrepro.errors import UserError
from snnrepro.files import read_npz, write_npz

OKABE_ITO = {
    "black": "#000000",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "green": "#009E73",
    "yellow": "#F0E442",
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "purple": "#CC79A7",
    "grey": "#6E6E6E",
}
"""Colours that people with any common colour vision tell apart (Okabe & Ito), and a grey."""

COLOURS = {
    "ours": OKABE_ITO["blue"],
    "paper": OKABE_ITO["black"],
    "peer": OKABE_ITO["orange"],
    "control": OKABE_ITO["vermillion"],
    "ann": OKABE_ITO["green"],
    "true": OKABE_ITO["grey"],
    "surrogate": OKABE_ITO["purple"],
    "input": OKABE_ITO["grey"],
    "hidden": OKABE_ITO["blue"],
    "output": OKABE_ITO["vermillion"],
    "threshold": OKABE_ITO["grey"],
    "current": OKABE_ITO["green"],
    "membrane": OKABE_ITO["blue"],
    "step": OKABE_ITO["purple"],
    "piecewise_linear": OKABE_ITO["green"],
    "exponential": OKABE_ITO["orange"],
    "fast_sigmoid": OKABE_ITO["blue"],
}
"""Colour by what is drawn, the same in every chapter. `book.css` holds the same roles for interactive figures."""

WIDTH = 6.5
"""Width of a full figure in inches: the text column of the book."""

STYLE = {
    "figure.figsize": (WIDTH, 2.8),
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "axes.facecolor": "white",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.titlesize": 10,
    "axes.titleweight": "normal",
    "axes.labelsize": 10,
    "axes.prop_cycle": matplotlib.cycler(
        color=[OKABE_ITO[c] for c in ("blue", "orange", "green", "vermillion", "purple", "sky")]
    ),
    "font.family": "DejaVu Sans",  # ships with matplotlib, so that shapes are the same everywhere
    "font.size": 10,
    "mathtext.fontset": "dejavusans",
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "xtick.direction": "out",
    "ytick.direction": "out",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.6,
    "lines.markersize": 4,
    "image.cmap": "cividis",
    "savefig.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "snnrepro",
}


def use_style() -> None:
    """Set the style for the figures made from here on."""
    matplotlib.rcParams.update(STYLE)


def panel_letter(ax: Axes, letter: str) -> None:
    """Write a bold panel letter at the upper left, outside the axes."""
    ax.set_title(letter, loc="left", fontweight="bold", fontsize=11)


def raster(
    ax: Axes,
    spikes: np.ndarray | tuple[np.ndarray, np.ndarray],
    *,
    dt: float = 1.0,
    colour: str = OKABE_ITO["black"],
    height: float = 0.8,
    offset: float = 0.0,
    linewidth: float = 0.8,
) -> None:
    """Draw spikes as short vertical ticks.

    Args:
        ax: axes to draw on.
        spikes: `(time, units)`, non-zero where a unit spikes, or a pair `(times, units)` of equally long arrays.
        dt: length of a time step, in the unit of the axis (dense form only).
        colour: of the ticks.
        height: of a tick, in rows.
        offset: row of unit 0.
        linewidth: in points.
    """
    if isinstance(spikes, tuple):
        times, units = (np.asarray(s) for s in spikes)
    else:
        steps, units = np.nonzero(np.asarray(spikes))
        times = steps * dt
    row = units + offset
    gap = np.full(len(times), np.nan)
    x = np.stack([times, times, gap], axis=1).ravel()
    y = np.stack([row - height / 2, row + height / 2, gap], axis=1).ravel()
    ax.plot(x, y, color=colour, linewidth=linewidth, solid_capstyle="butt", rasterized=len(times) > 20_000)


def publish(
    fig: Figure,
    name: str,
    *,
    citekey: str,
    caption: str,
    alt: str,
    data: dict[str, np.ndarray],
    tolerance: float | dict[str, float],
) -> None:
    """Show a figure once, as SVG, and write the arrays it draws to `.runs/<citekey>/figures/<name>.npz`.

    The output carries `{"snnrepro": {"name", "caption", "alt"}}` as metadata. The name there is `<citekey>-<name>`: it is the
    label of the figure in the book, and labels are shared by all chapters.

    Args:
        fig: the figure; it is closed.
        name: of the figure in its chapter, such as `fig-4`.
        citekey: of the chapter.
        caption: Markdown; says which figure of the paper this is.
        alt: what a reader who cannot see the figure needs to know.
        data: every array drawn.
        tolerance: largest absolute difference that is no change: one for all arrays, or one an array.

    Raises:
        UserError: an empty caption, alternative text or data, or a tolerance that misses an array.
    """
    import matplotlib.pyplot as plt

    caption, alt = _texts(name, caption, alt)
    _write_data(name, citekey, data, tolerance)
    svg = to_svg(fig)
    plt.close(fig)
    bundle = {"image/svg+xml": svg, "text/plain": f"Figure: {caption}"}
    _display(bundle, {"name": f"{citekey}-{name}", "caption": caption, "alt": alt})


def to_svg(fig: Figure) -> str:
    """Return the figure as SVG: text as paths, no date, the same bytes for the same drawing."""
    buffer = StringIO()
    with matplotlib.rc_context({"svg.fonttype": "path", "svg.hashsalt": "snnrepro", "savefig.bbox": None}):
        fig.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return buffer.getvalue()


def interactive(
    name: str,
    *,
    citekey: str,
    caption: str,
    alt: str,
    data: dict,
    tolerance: float | dict[str, float] = 1e-6,
) -> None:
    """Show a line plot with one slider, drawn in the page from data embedded in it. Show a static figure beside it for print.

    `data` holds `x_label`, `y_label`, `slider_label`, `slider_values` (numbers), and either `series` or `panels`, a list of
    `{title, series}` with an optional `y_label` each. A series is `{name, role, x, y}`: `x` a list of n numbers, `y` one list of
    n numbers a slider value; `role` is a key of `COLOURS`. Optional: `start`, the index of the slider at first.

    Args:
        name: of the figure in its chapter.
        citekey: of the chapter.
        caption: plain text.
        alt: what a reader who cannot see the figure needs to know.
        data: see above.
        tolerance: as in `publish`; the arrays are `slider`, and `x0`, `y0`, `x1`, ... of the series.

    Raises:
        UserError: empty texts, a missing key, series whose lengths do not fit, or what is no plain list of finite numbers.
    """
    caption, alt = _texts(name, caption, alt)
    series = _check_interactive(name, data)
    try:
        embedded = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False).replace("</", "<\\/")
    except (TypeError, ValueError) as error:
        raise UserError(f"figure {name}: data must be plain lists of finite numbers ({error}); try .tolist()") from None
    arrays = {"slider": np.asarray(data["slider_values"], dtype=float)}
    for number, one in enumerate(series):
        arrays[f"x{number}"], arrays[f"y{number}"] = np.asarray(one["x"], float), np.asarray(one["y"], float)
    _write_data(name, citekey, arrays, tolerance)
    figure = (
        f'<figure class="snn-interactive-figure" id="{html.escape(citekey)}-{html.escape(name)}">\n'
        f'<div class="snn-interactive" role="group" aria-label="{html.escape(alt)}">'
        f'<script type="application/json">{embedded}</script>'
        '<p class="snn-fallback">The slider works in the book, with scripts allowed. The still figure beside it shows the same'
        " curves.</p></div>\n"
        f"<figcaption>{html.escape(caption)}</figcaption>\n</figure>"
    )
    _display({"text/html": figure, "text/plain": f"Interactive figure: {caption}"}, None)


def compare_data(live: Path, committed: Path) -> list[str]:
    """Compare the arrays of a figure with the committed ones, within the committed tolerances.

    Returns:
        One readable line a difference: the array, where it is largest, both values, the tolerance. Empty where all is equal.
    """
    ours, theirs = read_npz(live), read_npz(committed)
    limits = {
        key.removeprefix("tolerance/"): float(value) for key, value in theirs.items() if key.startswith("tolerance/")
    }
    ours, theirs = _without_tolerances(ours), _without_tolerances(theirs)
    lines = [f"{key}: not drawn any more" for key in sorted(theirs.keys() - ours.keys())]
    lines += [f"{key}: new, not among the committed arrays" for key in sorted(ours.keys() - theirs.keys())]
    for key in sorted(ours.keys() & theirs.keys()):
        lines += _difference(key, ours[key], theirs[key], limits.get(key, 0.0))
    return lines


def _difference(key: str, ours: np.ndarray, theirs: np.ndarray, limit: float) -> list[str]:
    if ours.shape != theirs.shape:
        return [f"{key}: shape {ours.shape}, committed {theirs.shape}"]
    if ours.size == 0:
        return []
    a, b = ours.astype(float), theirs.astype(float)
    with np.errstate(invalid="ignore"):
        gap = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
    gap = np.where(np.isnan(gap), math.inf, gap)
    if gap.max() <= limit:
        return []
    at = np.unravel_index(gap.argmax(), gap.shape)
    index = ", ".join(str(int(i)) for i in at)
    share = f"{int((gap > limit).sum())} of {gap.size} values differ"
    return [f"{key}[{index}]: {a[at]:.6g}, committed {b[at]:.6g}, tolerance {limit:g}; {share}"]


def _without_tolerances(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {key: value for key, value in arrays.items() if not key.startswith("tolerance/")}


def _texts(name: str, caption: str, alt: str) -> tuple[str, str]:
    for word, text in (("a caption", caption), ("an alternative text", alt)):
        if not text or not text.strip():
            raise UserError(f"figure {name}: {word} is required")
    return " ".join(caption.split()), " ".join(alt.split())


def _write_data(name: str, citekey: str, data: dict[str, np.ndarray], tolerance: float | dict[str, float]) -> None:
    if not data:
        raise UserError(f"figure {name}: data is required, the arrays that the figure draws")
    limits = tolerance if isinstance(tolerance, dict) else dict.fromkeys(data, tolerance)
    if limits.keys() != data.keys():
        odd = ", ".join(sorted(limits.keys() ^ data.keys()))
        raise UserError(f"figure {name}: tolerance must name the same arrays as data; differs in {odd}")
    arrays = {key: np.asarray(value) for key, value in data.items()}
    for key, value in arrays.items():
        if value.dtype.kind not in "biuf":
            raise UserError(f"figure {name}: data {key} must be numbers, not {value.dtype}")
        if not (math.isfinite(limits[key]) and limits[key] >= 0):
            raise UserError(f"figure {name}: tolerance of {key} must be a finite number, 0 or more")
    arrays |= {f"tolerance/{key}": np.asarray(float(limit)) for key, limit in limits.items()}
    write_npz(paths.runs(citekey) / "figures" / f"{name}.npz", arrays)


def _check_interactive(name: str, data: dict) -> list[dict]:
    missing = {"x_label", "y_label", "slider_label", "slider_values"} - data.keys()
    if missing or not ("series" in data) ^ ("panels" in data):
        raise UserError(
            f"figure {name}: data needs x_label, y_label, slider_label, slider_values, and series or panels"
        )
    if any({"title", "series"} - panel.keys() for panel in data.get("panels", ())):
        raise UserError(f"figure {name}: each panel needs title and series")
    series = data["series"] if "series" in data else [one for panel in data["panels"] for one in panel["series"]]
    sliders = _numbers(name, "slider_values", data["slider_values"])
    if not series or sliders.ndim != 1 or len(sliders) < 2:
        raise UserError(f"figure {name}: at least one series and two slider values are needed")
    for one in series:
        if lacking := {"name", "role", "x", "y"} - one.keys():
            raise UserError(f"figure {name}: a series lacks {', '.join(sorted(lacking))}")
        if one["role"] not in COLOURS:
            raise UserError(f"figure {name}: role {one['role']!r} of {one['name']!r} is not in figures.COLOURS")
        x, y = (_numbers(name, f"{axis} of {one['name']!r}", one[axis]) for axis in ("x", "y"))
        if x.ndim != 1 or y.shape != (len(sliders), len(x)):
            raise UserError(f"figure {name}: series {one['name']!r} needs one y a slider value, each as long as x")
    return series


def _numbers(name: str, what: str, values: list) -> np.ndarray:
    """Values as an array, if they are numbers in lists of equal lengths."""
    try:
        return np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        raise UserError(f"figure {name}: {what} must be numbers, in lists of equal lengths") from None


def _display(bundle: dict[str, str], snnrepro: dict[str, str] | None) -> None:
    from IPython.display import display

    display(bundle, raw=True, metadata={"snnrepro": snnrepro} if snnrepro else {})
