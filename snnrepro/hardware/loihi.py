"""Loihi's current-based LIF neurons, bit for bit: a chip without analog parts, in integers only.

One step of a neuron, with M = 2^23 and tz(x, k) = sign(x) (|x| >> k), the shift towards zero::

    u <- tz(u (4096 - (du + 1)), 12) + (a << 6)          u - 2M where u > M, u + 2M where u <= -M
    v <- clip(tz(v (4096 - dv), 12) + u + bias_mant 2^bias_exp, -M + 1, M - 1)
    s =  v > (vth << 6),  v <- 0 where s;                u is not reset

The activation a of step t + 1 + d is the sum of effective weights (times payload, with graded spikes) over the spikes of step t whose
synapse has delay d, shifted by the weight exponent after it has been added up; recurrent spikes go the same way. Sums are shifted apart and
then added: that of the inputs, that of recurrent spikes, and, where there are delays, that of each sending step. a is 0 in the first step.
u wraps once a step, so large payloads or exponents carry it beyond 24 bits; a, and u before that, wrap at 2^31, as in Lava.

Arrays are `(time, inputs)` or `(time, batch, inputs)`, weights and delays `(sender, neuron)`, all integers. The rule is that of
Intel's simulator lava-nc 0.10.0 (`proc/lif/models.py`, `proc/dense/models.py`, `utils/weightutils.py`).
"""

import re
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from snnrepro.errors import UserError
from snnrepro.files import one_line, read_foreign_json, shown
from snnrepro.kernels import loihi as kernel
from snnrepro.kernels.loihi import ALIGN_BITS

DECAY_UNITY = 4096
SIGNS = ("mixed", "excitatory", "inhibitory")
RANGES = {
    "du": (0, 4095),
    "dv": (0, 4095),
    "vth": (0, 131071),
    "bias_mant": (-4096, 4095),
    "bias_exp": (0, 7),
    "exponent": (-8, 7),
    "bits": (1, 8),
    "delays": (0, 63),
    "payload": (-(2**31), 2**31 - 1),
}
"""Smallest and largest value that the registers hold; delays and payloads are those of Loihi 2."""


class Neurons(NamedTuple):
    """Parameters of a layer of neurons, each an integer or one a neuron `(n,)`. Times in steps.

    Attributes:
        du: decay of the current, 0 .. 4095; it loses (du + 1) / 4096 a step.
        dv: decay of the voltage, 0 .. 4095; it loses dv / 4096 a step.
        vth: threshold, 0 .. 131071; a neuron spikes above 64 vth.
        bias_mant: -4096 .. 4095; bias_mant 2^bias_exp enters the voltage in each step.
        bias_exp: 0 .. 7.
        reset_interval: current and voltage are cleared before the update of step t = 1, 2, ... where t mod reset_interval is
            reset_offset mod reset_interval. None: never.
        reset_offset: see there.
    """

    du: int | np.ndarray
    dv: int | np.ndarray
    vth: int | np.ndarray
    bias_mant: int | np.ndarray = 0
    bias_exp: int | np.ndarray = 0
    reset_interval: int | None = None
    reset_offset: int = 0


class Synapses(NamedTuple):
    """Connections from all senders to all neurons of a layer.

    Attributes:
        weights: whole numbers `(senders, neurons)`; `effective_weights` says what becomes of them.
        exponent: -8 .. 7; the sum of a step is multiplied by 2^exponent.
        bits: 1 .. 8, of a weight.
        sign: `mixed`, `excitatory`, `inhibitory`, or None: as the signs of the weights are.
        delays: steps `(senders, neurons)`, 0 .. 63, on top of the one that every synapse takes; None: no more than that.
        graded: spikes carry an integer that multiplies the weight. Recurrent spikes carry 1.
        clip: weights outside the range are clipped to it; False: they are refused.
    """

    weights: np.ndarray
    exponent: int = 0
    bits: int = 8
    sign: str | None = "mixed"
    delays: np.ndarray | None = None
    graded: bool = False
    clip: bool = True


class Layer(NamedTuple):
    """Neurons, the synapses of their input, and those among them, `(neurons, neurons)`, if any."""

    synapses: Synapses
    neurons: Neurons
    recurrent: Synapses | None = None


class Trace(NamedTuple):
    """What a layer did, each `(time, neurons)` or `(time, batch, neurons)`.

    Attributes:
        s: spikes, 0 or 1.
        a: activation that arrived in this step, recurrent spikes included; None where the states were not asked for. So are u and v.
        u: current after the step.
        v: voltage after the step, 0 where the neuron has just spiked.
    """

    s: np.ndarray
    a: np.ndarray | None
    u: np.ndarray | None
    v: np.ndarray | None


class Mismatch(NamedTuple):
    """A number that differs from a golden trace: the set, `a`, `u`, `v` or `s`, the step from 1, the neuron, what it should be and is."""

    name: str
    variable: str
    step: int
    neuron: int
    expected: int
    found: int


# Weights and checks -----------------------------------------------------------------------------------------------------------


def effective_weights(s: Synapses) -> np.ndarray:
    """The weights that the chip multiplies with, int64 `(senders, neurons)`, before the exponent.

    They are clipped to -256 .. 255 (mixed) or to magnitudes of 255, and the lowest bits are cut off: 9 - bits of them for mixed signs, to
    minus infinity, and 8 - bits otherwise, towards zero. Mixed 8-bit weights are therefore even.

    Raises:
        UserError: weights that are no finite whole numbers in two dimensions, an unknown sign, bits out of range, or, with `clip=False`,
            weights that clipping would change.
    """
    w = _whole("weights", s.weights)
    if w.ndim != 2 or not w.size:
        raise UserError(f"loihi: weights have shape {w.shape}; give (senders, neurons), neither of them empty")
    bits = _one("bits", s.bits)
    sign = _sign(w) if s.sign is None else s.sign
    if sign not in SIGNS:
        raise UserError(f"loihi: sign is {sign!r}; choose one of {', '.join(SIGNS)}, or None")
    low, high = {"mixed": (-256, 255), "excitatory": (0, 255), "inhibitory": (-255, 0)}[sign]
    if not s.clip and not low <= w.min() <= w.max() <= high:
        raise UserError(
            f"loihi: {sign} weights {w.min()} .. {w.max()} lie outside {low} .. {high}; scale them, or allow clipping"
        )
    w = np.clip(w, low, high)
    if sign == "mixed":
        cut = 8 - bits + 1
        return w >> cut << cut
    cut = 8 - bits
    return np.sign(w) * (np.abs(w) >> cut << cut)


def _sign(w: np.ndarray) -> str:
    """The mode that Lava takes where none is named."""
    return "excitatory" if w.min() >= 0 else "inhibitory" if w.max() <= 0 else "mixed"


def _whole(field: str, value: Any) -> np.ndarray:
    """A value as int64, once it is seen to be whole."""
    try:
        array = np.asarray(value)
    except ValueError:
        raise UserError(f"loihi: {field} has rows of different lengths; give an array") from None
    if array.dtype.kind not in "biuf":
        raise UserError(f"loihi: {field} holds {one_line(value)[:40]!r}; give whole numbers of up to 64 bits")
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise UserError(f"loihi: {field} holds NaN or infinite values; give whole numbers")
        if (array != np.rint(array)).any():
            wrong = array[array != np.rint(array)].flat[0]
            raise UserError(f"loihi: {field} holds {wrong:g}; the chip takes whole numbers, so round it first")
    if (beyond := np.abs(array.astype(float)) >= 2.0**63).any():
        raise UserError(f"loihi: {field} holds {array[beyond].flat[0]:g}, more than 64 bits; give smaller numbers")
    return array.astype(np.int64)


def _within(field: str, value: Any) -> np.ndarray:
    """A value as int64, once it is seen to be whole and in its range."""
    array, (low, high) = _whole(field, value), RANGES[field]
    if array.size and not low <= array.min() <= array.max() <= high:
        wrong = array.min() if array.min() < low else array.max()
        raise UserError(f"loihi: {field} is {wrong}; the chip takes {low} .. {high}")
    return array


def _one(field: str, value: Any) -> int:
    """A parameter that all weights share."""
    array = _within(field, value)
    if array.ndim:
        raise UserError(f"loihi: {field} is shared by all weights; give one number")
    return int(array)


def _each(field: str, value: Any, n: int) -> np.ndarray:
    """A parameter, one a neuron."""
    array = _within(field, value)
    if array.shape not in ((), (1,), (n,)):
        raise UserError(f"loihi: {field} has shape {array.shape}; give one number, or one for each of {n} neurons")
    return np.broadcast_to(array, (n,)).copy()


class _Wired(NamedTuple):
    """Synapses as the kernel takes them, with the longest delay."""

    w: np.ndarray
    exponent: int
    delays: np.ndarray
    longest: int


def _wired(s: Synapses, shape: tuple[int | None, int | None], what: str) -> _Wired:
    w = np.ascontiguousarray(effective_weights(s))  # one order in memory: the kernel is compiled once
    if any(wanted not in (None, size) for wanted, size in zip(shape, w.shape, strict=True)):
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise UserError(f"loihi: {what} have shape {w.shape}; give ({wanted})")
    exponent = _one("exponent", s.exponent)
    if s.delays is None:
        return _Wired(w, exponent, kernel.NONE, 0)
    delays = _within("delays", s.delays)
    if delays.shape != w.shape:
        raise UserError(f"loihi: delays of the {what} have shape {delays.shape}; give {w.shape}, one a weight")
    return _Wired(w, exponent, np.ascontiguousarray(delays), int(delays.max()))


# Running ----------------------------------------------------------------------------------------------------------------------


def run(x: np.ndarray, layer: Layer, *, states: bool = True) -> Trace:
    """Run a layer from the zero state.

    Args:
        x: spikes `(time, inputs)` or `(time, batch, inputs)`: 0 and 1, or payloads if the synapses are graded.
        layer: neurons and synapses.
        states: False: only the spikes are kept.

    Raises:
        UserError: shapes that do not fit, numbers that are not whole or out of range, or input other than 0 and 1 that is not graded.
    """
    spikes = _input(x, layer.synapses.graded)
    single = spikes.ndim == 2
    spikes = spikes[:, None] if single else spikes
    steps, batch, inputs = spikes.shape
    into = _wired(layer.synapses, (inputs, None), "weights")
    n, p = into.w.shape[1], layer.neurons
    back = _Wired(kernel.NONE, 0, kernel.NONE, 0)
    if layer.recurrent is not None:
        back = _wired(layer.recurrent, (n, n), "recurrent weights")
    interval, offset = _reset(p)
    record = (steps, batch, n) if states else (0, 0, 0)
    seen = [np.empty(record, np.int64) for _ in range(3)]
    s = np.empty((steps, batch, n), np.uint8)
    kernel.layer(
        spikes,
        *into[:3],
        *back[:3],
        DECAY_UNITY - (_each("du", p.du, n) + 1),
        DECAY_UNITY - _each("dv", p.dv, n),
        _each("vth", p.vth, n) << ALIGN_BITS,
        _each("bias_mant", p.bias_mant, n) << _each("bias_exp", p.bias_exp, n),
        interval,
        offset,
        *(
            np.empty((longest + 1, n), np.int64)
            for longest in (max(into.longest, back.longest), into.longest, back.longest)
        ),
        *(np.empty(n, np.int64) for _ in range(2)),
        np.empty(n, np.uint8),
        *seen,
        s,
    )
    found = [array[:, 0] if single else array for array in (s, *seen)]
    return Trace(found[0], *(found[1:] if states else (None, None, None)))


def run_network(x: np.ndarray, layers: list[Layer], *, states: bool = True) -> list[Trace]:
    """Run layers one after another, each on the spikes of the one before; each takes one step more. Otherwise as `run`."""
    traces = []
    for layer in layers:
        traces.append(run(x if not traces else traces[-1].s, layer, states=states))
    return traces


def _input(x: np.ndarray, graded: bool) -> np.ndarray:
    """Spikes as the kernel takes them: bytes, or int64 payloads."""
    spikes = np.asarray(x)
    if spikes.ndim not in (2, 3) or not spikes.size:
        raise UserError(
            f"loihi: input has shape {spikes.shape}; give (time, inputs) or (time, batch, inputs), none of them empty"
        )
    if graded:
        return np.ascontiguousarray(_within("payload", spikes))
    if spikes.dtype != np.bool_ and not ((spikes == 0) | (spikes == 1)).all():
        raise UserError("loihi: the input holds other numbers than 0 and 1; give spikes, or set graded for payloads")
    return np.ascontiguousarray(spikes.astype(np.uint8))


def _reset(p: Neurons) -> tuple[int, int]:
    """Interval and offset of the periodic reset as the kernel takes them."""
    if p.reset_interval is None:
        return 0, 0
    interval, offset = (_whole(field, getattr(p, field)) for field in ("reset_interval", "reset_offset"))
    if interval.ndim or offset.ndim:
        raise UserError("loihi: reset_interval and reset_offset are shared by all neurons; give one number")
    interval, offset = int(interval), int(offset)
    if interval < 1 or offset < 0:
        raise UserError(f"loihi: reset_interval {interval}, reset_offset {offset}; give 1 or more, and 0 or more steps")
    return interval, offset % interval


# Golden traces ----------------------------------------------------------------------------------------------------------------


def run_golden(folder: str | Path) -> list[Mismatch]:
    """Run every set of a folder of golden traces and report every a, u, v and s that differs; an empty list is what one wants.

    The folder holds `manifest.json`, whose list `sets` gives for each set a name and its parameters, and CSV files, each with a heading
    and a first column that only counts::

        <name>_input.csv         a row a step from 1; columns x0, x1, ...: spikes, or payloads
        <name>_weights.csv       a row a neuron, a column an input: weights before they are clipped and cut
        <name>_trace.csv         a row a step; columns a0 ..., u0 ..., v0 ..., s0 ...
        <name>_delays.csv        if there is one: delays of these weights
        <name>_rec_weights.csv   if there is one: a row a neuron, a column a sender among the neurons
        <name>_rec_delays.csv    if there is one: delays of these weights

    A set needs `name`, `du`, `dv` and `vth`. What may be missing, and stands for what then: `bias_mant`, `bias_exp` and `weight_exp` 0,
    `num_weight_bits` 8, `sign_mode` MIXED (null: as the signs of the weights are), `reset_interval` none, `reset_offset` 0; `graded`:
    whether the input holds other numbers than 0 and 1 (false: such a number is one spike); `recurrent` and `delay`: whether the file is
    there; `rec_weight_exp`, `rec_num_weight_bits`, `rec_sign_mode`: see below. Other fields, and `<name>_weights_eff.csv`, are ignored.

    A recurrent set can be read in more than one way; the reading that leaves the fewest differences counts for the whole set. Activation
    a: the whole one or, since Lava keeps one object for each bundle of synapses, only that of the input. Recurrent weights, each where no
    field says it: exponent of the input or 0; bits of the input or 8; sign mode of the input, mixed, or as their signs are. Columns a may
    be missing; u, v and s may not.

    Raises:
        UserError: a file that is missing, damaged or does not fit the others, or a parameter that the chip does not take.
    """
    folder = Path(folder)
    manifest = read_foreign_json(folder / "manifest.json")
    sets = manifest.get("sets") if isinstance(manifest, dict) else None
    if not isinstance(sets, list) or not sets or not all(isinstance(entry, dict) for entry in sets):
        raise UserError(
            f"{shown(folder / 'manifest.json')}, field sets: is not a list of parameter sets; mend the manifest"
        )
    return [mismatch for entry in sets for mismatch in _compared(folder, entry)]


def golden_layer(folder: str | Path, entry: dict[str, Any]) -> tuple[np.ndarray, Layer]:
    """Input `(time, inputs)` and layer of one entry of a manifest's `sets` (see `run_golden`), in its first reading.

    Raises:
        UserError: as `run_golden`.
    """
    folder = Path(folder)
    missing = [field for field in ("name", "du", "dv", "vth") if field not in entry]
    if missing:
        name = entry.get("name", "a set without a name")
        raise UserError(f"{shown(folder / 'manifest.json')}, set {name}: has no field {', '.join(missing)}; add it")
    name = str(entry["name"])
    x = _columns(folder / f"{name}_input.csv", "x")
    graded = entry.get("graded")
    graded = bool(((x != 0) & (x != 1)).any()) if graded is None else bool(graded)
    bundle = _bundle(folder, name, entry, "", entry.get("delay"))
    rec = None
    if _there(folder / f"{name}_rec_weights.csv", entry.get("recurrent")):
        rec = _bundle(folder, name, entry, "rec_", None)
    neurons = Neurons(
        *(entry[field] for field in ("du", "dv", "vth")),
        *(entry.get(field) or 0 for field in ("bias_mant", "bias_exp")),
        entry.get("reset_interval") or None,
        entry.get("reset_offset") or 0,
    )
    return x if graded else (x != 0).astype(np.int64), Layer(bundle._replace(graded=graded), neurons, rec)


def _bundle(folder: Path, name: str, entry: dict[str, Any], prefix: str, delayed: bool | None) -> Synapses:
    """Synapses of the input (no prefix), or recurrent ones, from files and fields with a prefix."""
    weights = _matrix(folder / f"{name}_{prefix}weights.csv")
    path = folder / f"{name}_{prefix}delays.csv"
    delays = _matrix(path) if _there(path, delayed) else None
    exponent, bits = (
        next(value for value in (entry.get(prefix + field), entry.get(field), default) if value is not None)
        for field, default in (("weight_exp", 0), ("num_weight_bits", 8))
    )
    sign = entry.get(f"{prefix}sign_mode", entry.get("sign_mode", "MIXED"))
    sign = None if sign is None else str(sign).rpartition(".")[2].lower()
    return Synapses(weights, exponent, bits, sign, delays)


def _readings(layer: Layer, entry: dict[str, Any]) -> list[Layer]:
    """All layers that one entry of a manifest may mean."""
    rec = layer.recurrent
    if rec is None:
        return [layer]

    def choices(field: str, first: Any, *others: Any) -> list[Any]:
        said = entry.get(f"rec_{field}") is not None
        return [first] if said else [first, *(other for other in others if other != first)]

    return [
        layer._replace(recurrent=rec._replace(exponent=e, bits=b, sign=sign))
        for e, b, sign in product(
            choices("weight_exp", rec.exponent, 0),
            choices("num_weight_bits", rec.bits, 8),
            choices("sign_mode", rec.sign, "mixed", None),
        )
    ]


def _there(path: Path, said: bool | None) -> bool:
    """Whether an optional file counts: as the manifest says, else whether it exists."""
    return path.exists() if said is None else bool(said)


def _table(path: Path) -> dict[str, np.ndarray]:
    """Columns of a CSV file with a heading, int64 `(rows, count)`, by the letters of their heading; the first column only counts.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        text = path.read_text()
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a NUL in the name
        raise UserError(f"{shown(path)}: cannot read it: {one_line(error)}; restore the file") from None
    heading, *lines = [line.split(",") for line in text.splitlines() if line.strip()] or [[]]
    found = [re.fullmatch(r"([A-Za-z_]+)(\d+)", name.strip()) for name in heading[1:]]
    if not found or None in found or not lines or any(len(line) != len(heading) for line in lines):
        raise UserError(f"{shown(path)}: is damaged (columns do not fit their heading); restore the file")
    try:
        rows = np.array([[_number(cell) for cell in line] for line in lines], np.int64)
    except (ValueError, OverflowError) as error:
        raise UserError(f"{shown(path)}: is damaged ({one_line(error)}); restore the file") from None
    columns: dict[str, dict[int, int]] = {}
    for k, match in enumerate(found):
        columns.setdefault(match[1], {})[int(match[2])] = k + 1
    for letters, places in columns.items():
        if sorted(places) != list(range(len(places))) or len(places) != sum(match[1] == letters for match in found):
            raise UserError(f"{shown(path)}: is damaged (columns {letters} do not count from 0); restore the file")
    return {letters: rows[:, [places[n] for n in range(len(places))]] for letters, places in columns.items()}


def _number(cell: str) -> int:
    """A whole number, which may be written as 1.0."""
    try:
        return int(cell)
    except ValueError:
        if not float(cell).is_integer():
            raise
        return int(float(cell))


def _columns(path: Path, letters: str) -> np.ndarray:
    """Columns of one kind."""
    table = _table(path)
    if letters not in table:
        raise UserError(f"{shown(path)}: has no columns {letters}0, {letters}1, ...; restore the file")
    return table[letters]


def _matrix(path: Path) -> np.ndarray:
    """A table with one kind of columns, turned to (sender, neuron)."""
    return np.concatenate(list(_table(path).values()), 1).T


def _compared(folder: Path, entry: dict[str, Any]) -> list[Mismatch]:
    """What differs in one set."""
    x, layer = golden_layer(folder, entry)
    name, path = str(entry["name"]), folder / f"{entry['name']}_trace.csv"
    golden = _table(path) | {variable: _columns(path, variable) for variable in "uvs"}
    try:
        traces = [run(x, reading) for reading in _readings(layer, entry)]
    except UserError as error:
        raise UserError(f"{shown(folder)}, set {name}: {error}") from None
    if layer.recurrent is not None:
        alone = run(x, layer._replace(recurrent=None)).a
        traces += [trace._replace(a=alone) for trace in traces]
    shape = traces[0].s.shape
    wrong = {variable: rows.shape for variable, rows in golden.items() if variable in "auvs" and rows.shape != shape}
    if wrong:
        raise UserError(
            f"{shown(path)}: {next(iter(wrong))} has shape {next(iter(wrong.values()))}, not {shape}; restore it"
        )
    seen = [variable for variable in "auvs" if variable in golden]
    found = [
        [m for variable in seen for m in _differences(name, variable, golden[variable], getattr(trace, variable))]
        for trace in traces
    ]
    return sorted(min(found, key=len), key=lambda m: (m.step, "auvs".index(m.variable), m.neuron))


def _differences(name: str, variable: str, expected: np.ndarray, found: np.ndarray) -> list[Mismatch]:
    return [
        Mismatch(name, variable, int(t) + 1, int(k), int(expected[t, k]), int(found[t, k]))
        for t, k in np.argwhere(expected != found)
    ]
