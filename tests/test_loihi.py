"""Loihi in integers: golden traces of Intel's simulator, a slow transcription in Python's own integers, a trace of the chip, bad input, and
training with these integers.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snnrepro.errors import UserError
from snnrepro.hardware import loihi, loihi_training
from snnrepro.hardware.loihi import Layer, Neurons, Synapses, run, run_golden
from snnrepro.hardware.loihi_training import Cells, Training
from snnrepro.neurons import Surrogate

GOLDEN = Path(__file__).parent / "golden"
FOLDERS = [GOLDEN / "loihi", GOLDEN / "loihi_more"]
SETS = [
    pytest.param(folder, entry, id=entry["name"])
    for folder in FOLDERS
    for entry in json.loads((folder / "manifest.json").read_text())["sets"]
]


# The rule once more, in Python's integers, one neuron after the other -----------------------------------------------------------


def tz(x, k):
    return (1 if x > 0 else -1) * (abs(x) // 2**k)


def cut(w, bits, sign):
    """The weight the chip keeps."""
    if sign == "inhibitory":
        return -cut(-w, bits, "excitatory")
    step = 2 ** (8 - bits + (sign == "mixed"))
    return max(-256 if sign == "mixed" else 0, min(255, w)) // step * step


def int32(x):
    """What 32 bits keep."""
    return (x + 2**31) % 2**32 - 2**31


def slow(x, n, weights, p, recurrent=None):
    """Trace as lists [step][neuron] of a, u, v, s. weights[post][pre] = (weight, delay); with bits, sign, exponent in p."""
    m = 2**23
    u, v, due, trace = [0] * n, [0] * n, {}, []
    for t in range(1, len(x) + 1):
        if p["interval"] and t % p["interval"] == p["offset"] % p["interval"]:
            u, v = [0] * n, [0] * n
        a, s = [int32(due.pop((t, k), 0)) for k in range(n)], [0] * n
        for k in range(n):
            u[k] = int32(tz(u[k] * (4096 - (p["du"][k] + 1)), 12) + a[k] * 64)
            if u[k] > m:
                u[k] = u[k] - 2 * m
            elif u[k] <= -m:
                u[k] = u[k] + 2 * m
            v[k] = tz(v[k] * (4096 - p["dv"][k]), 12) + u[k] + p["bias_mant"][k] * 2 ** p["bias_exp"][k]
            v[k] = min(m - 1, max(1 - m, v[k]))
            if v[k] > p["vth"][k] * 64:
                s[k], v[k] = 1, 0
        trace.append((a, list(u), list(v), s))
        for senders, bundle in ((x[t - 1], weights), (s, recurrent)):
            if bundle is None:
                continue
            for k in range(n):
                sums = {}
                for j, payload in enumerate(senders):
                    w, delay = bundle["rows"][k][j]
                    sums[delay] = sums.get(delay, 0) + int32(payload * cut(w, bundle["bits"], bundle["sign"]))
                if not any(delay for row in bundle["rows"] for _, delay in row):
                    sums = {0: int32(sums[0])}  # Lava adds up 32 bits here, and 64 where there are delays
                for delay, total in sums.items():  # what starts together and arrives together is added before the shift
                    e = bundle["exponent"]
                    shifted = total * 2**e if e > 0 else total // 2**-e
                    due[t + 1 + delay, k] = due.get((t + 1 + delay, k), 0) + shifted
    return [[row[k] for row in trace] for k in range(4)]


@st.composite
def bundles(draw, n, senders):
    lowest, highest = draw(st.sampled_from([(-300, 300), (0, 260), (-260, 0), (-9, 9)]))
    longest = draw(st.sampled_from([0, 0, 3, 63]))
    entry = st.tuples(st.integers(lowest, highest), st.integers(0, longest))
    rows = draw(st.lists(st.lists(entry, min_size=senders, max_size=senders), min_size=n, max_size=n))
    sign = draw(st.sampled_from(["mixed", "mixed", "excitatory", "inhibitory"]))
    return {"rows": rows, "bits": draw(st.integers(1, 8)), "sign": sign, "exponent": draw(st.integers(-8, 7))}


def each(draw, n, low, high, often):
    return draw(st.lists(st.one_of(st.sampled_from(often), st.integers(low, high)), min_size=n, max_size=n))


@st.composite
def problems(draw):
    n, inputs, steps = draw(st.integers(1, 4)), draw(st.integers(1, 5)), draw(st.integers(1, 40))
    graded = draw(st.booleans())
    largest = draw(st.sampled_from([300, 300, 2**16, 2**31 - 1]))
    payload = st.integers(-largest, largest) if graded else st.integers(0, 1)
    x = draw(st.lists(st.lists(payload, min_size=inputs, max_size=inputs), min_size=steps, max_size=steps))
    p = {
        "du": each(draw, n, 0, 4095, [0, 1, 4095]),
        "dv": each(draw, n, 0, 4095, [0, 0, 1, 4095]),
        "vth": each(draw, n, 0, 131071, [0, 1, 10, 100, 131071]),
        "bias_mant": each(draw, n, -4096, 4095, [0, 0, 1, 4095]),
        "bias_exp": each(draw, n, 0, 7, [0, 7]),
        "interval": draw(st.sampled_from([None, None, 1, 7, 20])),
        "offset": draw(st.integers(0, 25)),
    }
    recurrent = draw(st.one_of(st.none(), bundles(n, n)))
    return x, n, draw(bundles(n, inputs)), p, recurrent, graded


def synapses(bundle, graded=False):
    pairs = np.array(bundle["rows"])
    w, delays = pairs[..., 0].T, pairs[..., 1].T
    delays = delays if delays.any() else None
    return Synapses(w, bundle["exponent"], bundle["bits"], bundle["sign"], delays, graded)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(problems())
def test_every_number_is_that_of_the_slow_transcription(problem):
    x, n, weights, p, recurrent, graded = problem
    neurons = Neurons(p["du"], p["dv"], p["vth"], p["bias_mant"], p["bias_exp"], p["interval"], p["offset"])
    layer = Layer(synapses(weights, graded), neurons, None if recurrent is None else synapses(recurrent))
    trace = run(np.array(x), layer)
    for found, expected in zip((trace.a, trace.u, trace.v, trace.s), slow(x, n, weights, p, recurrent), strict=True):
        assert found.tolist() == expected


def test_the_slow_transcription_repeats_golden_traces_too():
    for name in ("n_inh8_expm3", "j_delay", "l_reset50"):
        (entry,) = (e for e in json.loads((FOLDERS[0] / "manifest.json").read_text())["sets"] if e["name"] == name)
        columns = {
            kind: np.loadtxt(FOLDERS[0] / f"{name}_{kind}.csv", int, delimiter=",", skiprows=1)[:, 1:].tolist()
            for kind in ("input", "weights", "trace", *(["delays"] if entry["delay"] else []))
        }
        n = entry["n"]
        delays = columns.get("delays", [[0] * entry["n_in"]] * n)
        rows = [list(zip(*pair, strict=True)) for pair in zip(columns["weights"], delays, strict=True)]
        bundle = {"rows": rows, "bits": entry["num_weight_bits"], "sign": entry["sign_mode"].lower()}
        p = {field: [entry[field]] * n for field in ("du", "dv", "vth", "bias_mant", "bias_exp")}
        p |= {"interval": entry["reset_interval"], "offset": 0}
        found = slow(columns["input"], n, bundle | {"exponent": entry["weight_exp"]}, p)
        assert [[*a, *u, *v, *s] for a, u, v, s in zip(*found, strict=True)] == columns["trace"]


# Golden traces ------------------------------------------------------------------------------------------------------------------


def copied(folder, entry, target):
    """A folder with one set only."""
    for path in folder.glob(f"{entry['name']}_*.csv"):
        shutil.copy(path, target)
    (target / "manifest.json").write_text(json.dumps({"sets": [entry]}))
    return target


@pytest.mark.parametrize(("folder", "entry"), SETS)
def test_golden_traces_are_met_bit_for_bit(folder, entry, tmp_path):
    assert run_golden(copied(folder, entry, tmp_path)) == []


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_whole_folder_at_once(folder):
    assert run_golden(folder) == []


def test_the_committed_traces_are_the_ones_of_their_manifest():
    hashes = json.loads((FOLDERS[0] / "manifest.json").read_text())["sha256"]
    assert len(hashes) == 41
    for name, expected in hashes.items():
        assert hashlib.sha256((FOLDERS[0] / name).read_bytes()).hexdigest() == expected


@pytest.mark.parametrize(
    "entry", [e for folder, e in (p.values for p in SETS) if folder == FOLDERS[0]], ids=lambda e: e["name"]
)
def test_effective_weights_are_those_of_the_simulator(entry):
    raw, kept = (
        np.loadtxt(FOLDERS[0] / f"{entry['name']}_{kind}.csv", int, delimiter=",", skiprows=1)[:, 1:].T
        for kind in ("weights", "weights_eff")
    )
    made = loihi.effective_weights(Synapses(raw, bits=entry["num_weight_bits"], sign=entry["sign_mode"].lower()))
    assert np.array_equal(made, kept)


def entry_of(folder, name):
    (entry,) = (e for e in json.loads((folder / "manifest.json").read_text())["sets"] if e["name"] == name)
    return entry


@pytest.mark.parametrize("variable", ["a", "u", "v", "s"])
def test_a_wrong_number_is_reported_with_its_place(variable, tmp_path):
    folder = copied(FOLDERS[1], entry_of(FOLDERS[1], "recurrent"), tmp_path)
    path = folder / "recurrent_trace.csv"
    lines = path.read_text().splitlines()
    column, cells = lines[0].split(",").index(f"{variable}3"), lines[41].split(",")
    right = int(cells[column])
    cells[column] = str(right + 1)
    lines[41] = ",".join(cells)
    path.write_text("\n".join(lines))
    assert run_golden(folder) == [("recurrent", variable, 41, 3, right + 1, right)]


def test_optional_fields_may_be_missing(tmp_path):
    entry = entry_of(FOLDERS[1], "recurrent")
    least = {field: entry[field] for field in ("name", "du", "dv", "vth")}
    assert run_golden(copied(FOLDERS[1], least, tmp_path)) == []
    graded = entry_of(FOLDERS[1], "graded_delay")
    least = {field: graded[field] for field in ("name", "du", "dv", "vth", "weight_exp")}
    assert run_golden(copied(FOLDERS[1], least, tmp_path)) == []


def test_columns_are_taken_by_their_numbers(tmp_path):
    folder = copied(FOLDERS[1], entry_of(FOLDERS[1], "recurrent"), tmp_path)
    for path in folder.glob("*.csv"):
        rows = [line.split(",") for line in path.read_text().splitlines()]
        path.write_text("\n".join(",".join([row[0], *row[:0:-1]]) for row in rows))
    assert run_golden(folder) == []


@pytest.mark.parametrize(
    ("sign", "exponent", "bits", "mode"),
    [
        *((1, 2, 6, mode) for mode in ("excitatory", "mixed", None)),
        *((1, 0, 8, mode) for mode in ("mixed", None)),
        *((-1, 2, 6, mode) for mode in ("mixed", None)),
        *((-1, 0, 8, mode) for mode in ("mixed", None)),
        *((1, *other, "mixed") for other in ((0, 6), (2, 8))),
    ],
)
def test_recurrent_weights_that_no_field_describes_are_read_as_they_fit(sign, exponent, bits, mode, tmp_path):
    random = np.random.default_rng(5)
    x, w = (random.random((60, 5)) < 0.3).astype(int), random.integers(1, 255, (5, 4))
    back = sign * random.integers(1, 60, (4, 4))
    layer = Layer(Synapses(w, 2, 6, "excitatory"), Neurons(900, 300, 900), Synapses(back, exponent, bits, mode))
    trace = run(x, layer)
    columns = {
        "input": {"x": x},
        "weights": {"w": w.T},
        "rec_weights": {"w": back.T},
        "trace": {variable: getattr(trace, variable) for variable in "auvs"},
    }
    for kind, parts in columns.items():
        heading = ",".join(["t", *(f"{letter}{k}" for letter, part in parts.items() for k in range(part.shape[1]))])
        rows = np.concatenate(list(parts.values()), 1)
        lines = [",".join(map(str, (k, *row))) for k, row in enumerate(rows.tolist(), 1)]
        (tmp_path / f"one_{kind}.csv").write_text("\n".join([heading, *lines]))
    entry = {"name": "one", "du": 900, "dv": 300, "vth": 900, "sign_mode": "EXCITATORY"}
    entry |= {"weight_exp": 2, "num_weight_bits": 6}
    (tmp_path / "manifest.json").write_text(json.dumps({"sets": [entry]}))
    assert trace.s.sum() > 10
    assert run_golden(tmp_path) == []
    set_field(tmp_path, rec_weight_exp=exponent)  # one is said, the others are still to be found
    assert run_golden(tmp_path) == []
    set_field(tmp_path, rec_weight_exp=1)  # it is said, and wrong
    assert run_golden(tmp_path)


def test_bits_may_be_written_with_a_point_and_are_one_number(tmp_path):
    folder = copied(FOLDERS[1], entry_of(FOLDERS[1], "recurrent_5bit"), tmp_path)
    set_field(folder, num_weight_bits=5.0)
    assert run_golden(folder) == []
    for field in ("num_weight_bits", "weight_exp"):
        for value in ([5], [5, 5]):
            set_field(folder, **{"num_weight_bits": 5, "weight_exp": -1, field: value})
            with pytest.raises(UserError, match="is shared by all weights; give one number"):
                run_golden(folder)


def test_a_folder_that_others_wrote_may_have_a_schema_empty_fields_and_numbers_with_a_point(tmp_path):
    folder = copied(FOLDERS[1], entry_of(FOLDERS[1], "recurrent"), tmp_path)
    set_field(folder, weight_exp=None, num_weight_bits=None, bias_exp=None)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"schema": "golden traces, 7"}))
    path = folder / "recurrent_trace.csv"
    heading, *lines = path.read_text().splitlines()
    path.write_text("\n".join([heading, *(",".join(f"{cell}.0" for cell in line.split(",")) for line in lines)]))
    assert run_golden(folder) == []


def test_activation_of_a_loop_may_be_that_of_the_input_alone(tmp_path):
    entry = entry_of(FOLDERS[1], "recurrent")
    folder = copied(FOLDERS[1], entry, tmp_path)
    x, layer = loihi.golden_layer(folder, entry)
    alone = run(x, layer._replace(recurrent=None)).a
    path = folder / "recurrent_trace.csv"
    rows = [line.split(",") for line in path.read_text().splitlines()]
    whole = [row[1 : 1 + alone.shape[1]] for row in rows[1:]]
    for row, a in zip(rows[1:], alone.tolist(), strict=True):
        row[1 : 1 + len(a)] = map(str, a)
    path.write_text("\n".join(map(",".join, rows)))
    assert (alone != np.array(whole, int)).any()
    assert run_golden(folder) == []


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda f: (f / "manifest.json").unlink(), "manifest.json: cannot read it"),
        (lambda f: (f / "manifest.json").write_text("{"), "manifest.json: is damaged"),
        (lambda f: (f / "manifest.json").write_text("[]"), "field sets"),
        (lambda f: (f / "manifest.json").write_text('{"sets": [{"name": "recurrent", "du": 1}]}'), "no field dv, vth"),
        (lambda f: (f / "recurrent_input.csv").unlink(), "recurrent_input.csv: cannot read it"),
        (lambda f: (f / "recurrent_input.csv").write_text(""), "recurrent_input.csv: is damaged"),
        (lambda f: (f / "recurrent_rec_weights.csv").unlink(), "recurrent_rec_weights.csv: cannot read it"),
        (lambda f: (f / "recurrent_trace.csv").write_text("t,u0,v0,s0\n1,2,3\n"), "recurrent_trace.csv: is damaged"),
        (lambda f: (f / "recurrent_trace.csv").write_text("t,u0,v0,s0\n1,2,3,x\n"), "recurrent_trace.csv: is damaged"),
        (lambda f: (f / "recurrent_trace.csv").write_text("t,u0,v0,s0\n1,2,3,.5\n"), "recurrent_trace.csv: is damaged"),
        (
            lambda f: (f / "recurrent_trace.csv").write_text("t,u0,v0,s0\n1,2,3,inf\n"),
            "recurrent_trace.csv: is damaged",
        ),
        (
            lambda f: (f / "recurrent_trace.csv").write_text("t,u0,v0,s0\n1,2,3,0\n"),
            "recurrent_trace.csv: u has shape (1, 1)",
        ),
        (lambda f: (f / "recurrent_trace.csv").write_text("t,u0,v0\n1,2,3\n"), "no columns s0"),
        (lambda f: (f / "recurrent_input.csv").write_text("t,y0\n1,2\n"), "no columns x0"),
        (lambda f: (f / "recurrent_input.csv").write_text("t,x0,x2\n1,1,0\n"), "columns x do not count from 0"),
        (lambda f: (f / "recurrent_input.csv").write_text("t,x0,x0\n1,1,0\n"), "columns x do not count from 0"),
        (
            lambda f: (f / "recurrent_weights.csv").write_text("post,w0\n0,2\n"),
            "set recurrent: loihi: weights have shape",
        ),
        (lambda f: set_field(f, du=5000), "set recurrent: loihi: du is 5000"),
        (lambda f: set_field(f, sign_mode="WAVY"), "sign is 'wavy'"),
        (lambda f: set_field(f, weight_exp="two"), "exponent holds 'two'"),
        (lambda f: set_field(f, reset_interval="x"), "reset_interval"),
    ],
)
def test_a_damaged_folder_is_one_clear_line(damage, said, tmp_path):
    folder = copied(FOLDERS[1], entry_of(FOLDERS[1], "recurrent"), tmp_path)
    damage(folder)
    with pytest.raises(UserError) as error:
        run_golden(folder)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def set_field(folder, **fields):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["sets"][0] |= fields
    path.write_text(json.dumps(manifest))


# A chip -------------------------------------------------------------------------------------------------------------------------


def test_the_trace_recorded_on_a_chip():
    folder = os.environ.get("SNNREPRO_GOLDEN")
    if not folder:
        pytest.skip("SNNREPRO_GOLDEN is not set: the recorded trace may not be committed")
    x, v, s = np.loadtxt(Path(folder) / "lif_platforms" / "lif_lava_loihi_fixed.csv", delimiter=",").T
    trace = run(x[:, None].astype(int), Layer(Synapses([[10]]), Neurons(4095, 163, 25)))
    assert np.array_equal(trace.s[:, 0], s)
    assert np.flatnonzero(s).tolist() == [461, 511, 711, 761]
    differs = trace.v[:, 0] != v
    assert np.flatnonzero(differs).tolist() == [461, 511, 711, 761]
    assert (v[differs] == 128).all()  # the probe's reading in the step of a reset


# By hand ------------------------------------------------------------------------------------------------------------------------


def one(x, weight=2, du=4095, dv=0, vth=131071, **more):
    """Trace of one neuron with one input."""
    bundle = {field: more.pop(field) for field in ("exponent", "bits", "sign", "delays", "graded") if field in more}
    return run(np.array(x)[:, None], Layer(Synapses(np.array([[weight]]), **bundle), Neurons(du, dv, vth, **more)))


def test_a_spike_arrives_a_step_later_and_moves_current_and_voltage_at_once():
    trace = one([1, 0, 0, 0])
    assert trace.a[:, 0].tolist() == [0, 2, 0, 0]
    assert trace.u[:, 0].tolist() == [0, 128, 0, 0]
    assert trace.v[:, 0].tolist() == [0, 128, 128, 128]


def test_a_sum_has_32_bits_before_the_shift_but_64_where_there_are_delays():
    synapses = Synapses([[1], [1]], exponent=-2, sign="excitatory", graded=True)
    delayed = synapses._replace(delays=[[1], [1]])
    large = np.array([[2**30, 2**30], [0, 0], [0, 0]])
    one_each, three_each = (
        [
            run(large, Layer(s._replace(weights=w), Neurons(4095, 0, 131071))).a[:, 0].tolist()
            for s in (synapses, delayed)
        ]
        for w in ([[1], [1]], [[3], [3]])
    )
    assert one_each == [[0, -(2**29), 0], [0, 0, 2**29]]
    assert three_each == [[0, -(2**29), 0], [0, 0, -(2**29)]]  # a product has 32 bits in either case


def test_a_neuron_at_its_threshold_is_silent():
    assert one([1, 0, 0], vth=2).s[:, 0].tolist() == [0, 0, 0]
    above = one([1, 0, 0], vth=1)
    assert above.s[:, 0].tolist() == [0, 1, 0]
    assert above.v[:, 0].tolist() == [0, 0, 0]


def test_current_wraps_beyond_24_bits_and_not_at_them():
    def currents(total):  # one payload that brings the current to 64 total
        return one([total // 2, 0, 0], graded=True).u[1, 0]

    assert currents(2**17) == 2**23  # exactly M is kept
    assert currents(2**17 + 2) == 128 - 2**23
    assert currents(-(2**17)) == 2**23  # -M is not
    assert currents(-(2**17) + 2) == 128 - 2**23


def test_voltage_is_clipped():
    trace = one([-60000] * 4 + [1] * 2, graded=True)
    assert trace.v[1:, 0].tolist() == [-7680000, 1 - 2**23, 1 - 2**23, 1 - 2**23, 1 - 2**23 + 128]
    assert one([60000] * 2, graded=True).s[:, 0].tolist() == [0, 0]
    assert one([60000] * 3, graded=True).s[:, 0].tolist() == [0, 0, 1]  # at the upper limit every threshold is passed


def test_a_batch_is_its_samples():
    g = np.random.default_rng(0)
    x = (g.random((40, 5, 7)) < 0.3).astype(np.uint8)
    layer = Layer(
        Synapses(g.integers(-200, 200, (7, 4))), Neurons(300, 200, 200), Synapses(g.integers(-90, 90, (4, 4)))
    )
    whole = run(x, layer)
    assert whole.s.sum() > 20
    for b in range(5):
        for part, alone in zip(whole, run(x[:, b], layer), strict=True):
            assert np.array_equal(part[:, b], alone)
    silent = run(x, layer, states=False)
    assert np.array_equal(silent.s, whole.s)
    assert silent.a is silent.u is silent.v is None


def test_layers_follow_each_other():
    g = np.random.default_rng(1)
    x = (g.random((60, 2, 9)) < 0.4).astype(int)
    layers = [Layer(Synapses(g.integers(-100, 200, (a, b))), Neurons(500, 100, 150)) for a, b in ((9, 8), (8, 3))]
    first, second = loihi.run_network(x, layers)
    assert np.array_equal(second.s, run(first.s, layers[1]).s)
    assert second.s.sum() > 20


# Mistakes -----------------------------------------------------------------------------------------------------------------------

X = np.ones((3, 2), int)
W = np.array([[1, 2, 3], [4, 5, 6]])


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (
            lambda: run(X, Layer(Synapses(W * 60, clip=False), Neurons(0, 0, 1))),
            "mixed weights 60 .. 360 lie outside -256 .. 255",
        ),
        (
            lambda: run(X, Layer(Synapses(-W, sign="excitatory", clip=False), Neurons(0, 0, 1))),
            "excitatory weights -6 .. -1",
        ),
        (lambda: run(X, Layer(Synapses(W, sign="inhibitory", clip=False), Neurons(0, 0, 1))), "lie outside -255 .. 0"),
        (lambda: run(X, Layer(Synapses(W + 0.5), Neurons(0, 0, 1))), "weights holds 1.5; the chip takes whole numbers"),
        (lambda: run(X, Layer(Synapses(W * np.nan), Neurons(0, 0, 1))), "weights holds NaN"),
        (lambda: run(X, Layer(Synapses(W[0]), Neurons(0, 0, 1))), "weights have shape (3,)"),
        (lambda: run(X, Layer(Synapses(W.T), Neurons(0, 0, 1))), "weights have shape (3, 2); give (2, any)"),
        (lambda: run(X, Layer(Synapses(W, sign="both"), Neurons(0, 0, 1))), "sign is 'both'"),
        (lambda: run(X, Layer(Synapses(W, bits=9), Neurons(0, 0, 1))), "bits is 9; the chip takes 1 .. 8"),
        (lambda: run(X, Layer(Synapses(W, exponent=8), Neurons(0, 0, 1))), "exponent is 8; the chip takes -8 .. 7"),
        (lambda: run(X, Layer(Synapses(W, exponent=[0, 1]), Neurons(0, 0, 1))), "exponent is shared"),
        (lambda: run(X, Layer(Synapses(W, delays=W + 60), Neurons(0, 0, 1))), "delays is 66; the chip takes 0 .. 63"),
        (lambda: run(X, Layer(Synapses(W, delays=W.T), Neurons(0, 0, 1))), "delays of the weights have shape (3, 2)"),
        (lambda: run(X, Layer(Synapses(W), Neurons(4096, 0, 1))), "du is 4096; the chip takes 0 .. 4095"),
        (lambda: run(X, Layer(Synapses(W), Neurons(0, -1, 1))), "dv is -1; the chip takes 0 .. 4095"),
        (lambda: run(X, Layer(Synapses(W), Neurons(0, 12.5, 1))), "dv holds 12.5"),
        (lambda: run(X, Layer(Synapses(W), Neurons(0, [1, 2], 1))), "dv has shape (2,)"),
        (lambda: run(X, Layer(Synapses(W), Neurons(0, 0, 131072))), "vth is 131072; the chip takes 0 .. 131071"),
        (lambda: run(X, Layer(Synapses(W), Neurons(0, 0, 1, 4096))), "bias_mant is 4096"),
        (lambda: run(X, Layer(Synapses(W), Neurons(0, 0, 1, 1, 8))), "bias_exp is 8; the chip takes 0 .. 7"),
        (lambda: run(X, Layer(Synapses(W), Neurons(0, 0, 1, reset_interval=0))), "reset_interval 0"),
        (
            lambda: run(X, Layer(Synapses(W), Neurons(0, 0, 1), Synapses(W))),
            "recurrent weights have shape (2, 3); give (3, 3)",
        ),
        (lambda: run(X[0], Layer(Synapses(W), Neurons(0, 0, 1))), "input has shape (2,)"),
        (lambda: run(X[:0], Layer(Synapses(W), Neurons(0, 0, 1))), "input has shape (0, 2)"),
        (lambda: run(2 * X, Layer(Synapses(W), Neurons(0, 0, 1))), "other numbers than 0 and 1"),
        (lambda: run(X * np.nan, Layer(Synapses(W), Neurons(0, 0, 1))), "other numbers than 0 and 1"),
        (lambda: run(X * np.inf, Layer(Synapses(W, graded=True), Neurons(0, 0, 1))), "payload holds NaN or infinite"),
        (lambda: run(X * 2**40, Layer(Synapses(W, graded=True), Neurons(0, 0, 1))), "payload is"),
        (lambda: run(X, Layer(Synapses("w"), Neurons(0, 0, 1))), "weights holds 'w'"),
        (lambda: run(X, Layer(Synapses([[1, 2], [3]]), Neurons(0, 0, 1))), "weights has rows of different lengths"),
        (lambda: run(X, Layer(Synapses(W * 1e300), Neurons(0, 0, 1))), "weights holds 1e+300, more than 64 bits"),
        (lambda: run(X, Layer(Synapses(W), Neurons(2**64 - 1, 0, 1))), "du holds 1.84467e+19, more than 64 bits"),
        (
            lambda: run(X, Layer(Synapses(W), Neurons(2**65, 0, 1))),
            "du holds '36893488147419103232'; give whole numbers of",
        ),
        (lambda: run(X, Layer(Synapses(W), Neurons(0, 0, 1, reset_interval=[2, 3]))), "reset_offset are shared"),
    ],
)
def test_a_mistake_is_one_clear_line(build, said):
    with pytest.raises(UserError) as error:
        build()
    assert said in str(error.value)
    assert "\n" not in str(error.value)


# Training with the chip's integers ----------------------------------------------------------------------------------------------

SOFT = Surrogate("exponential", 1.0)


def cells(n=6, inputs=9, seed=0, recurrent=True, size=1.2, threshold=1.5):
    g = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return size * torch.randn(*shape, generator=g, dtype=torch.float64)

    decays = (0.05 + 0.5 * torch.rand(n, generator=g, dtype=torch.float64) for _ in range(2))
    return Cells(0.3 + normal(inputs, n), *decays, threshold, normal(n, n) / 3 if recurrent else None)


def pattern(steps=80, batch=3, inputs=9, seed=1):
    return (torch.rand(steps, batch, inputs, generator=torch.Generator().manual_seed(seed)) < 0.3).double()


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("recurrent", [False, True])
def test_the_chip_computes_what_training_computed(bits, recurrent):
    x, p = pattern(), Training((9, 6, 3), bits=bits)
    network = [cells(recurrent=recurrent), cells(3, 6, 2, False, threshold=None)]
    assert loihi_training.differences(x, network, p) == dict.fromkeys("sauv", 0)
    first, last = loihi_training.forward(x, network, bits, SOFT)
    assert first.s.sum() > 100 and last.s.sum() == 0
    assert (last.v != 0).any()


def test_a_difference_is_counted(monkeypatch):
    x, network, p = pattern(), [cells()], Training((9, 6))
    right = loihi_training.deploy(network)
    neurons = right[0].neurons
    monkeypatch.setattr(
        loihi_training, "deploy", lambda *_: [right[0]._replace(neurons=neurons._replace(dv=neurons.dv + 1))]
    )
    assert loihi_training.differences(x, network, p)["v"] > 100


def test_states_stay_equal_where_the_current_wraps_and_the_voltage_is_clipped():
    x = torch.ones(400, 1, 40).double()
    wild = Cells(
        torch.full((40, 2), 4.0).double() * torch.tensor([1.0, -1.0]), *(torch.tensor([0.001]).double(),) * 2, None
    )
    assert loihi_training.differences(x, [wild], Training((40, 2))) == dict.fromkeys("sauv", 0)
    states = loihi_training.layer(x, wild, 8, SOFT)
    assert (states.u[1:] * states.u[:-1] < 0).any()
    assert (states.v == 1 - 2**23).any()


def test_training_computes_what_slayer_computes():
    golden = json.loads((GOLDEN / "slayer" / "cuba.json").read_text())
    x = torch.tensor(golden["input"]).double()[:, None]
    decays = (torch.tensor([golden[f"{what}_decay"]]).double() for what in ("current", "voltage"))
    found = Cells(torch.tensor(golden["weights"]).double(), *decays, golden["threshold"])
    states = loihi_training.layer(torch.cat([x, torch.zeros_like(x[:1])]), found, 8, SOFT)  # a step later than SLAYER
    u, v, s = (torch.tensor(golden[name]).double() for name in ("u", "v_before_reset", "s"))
    assert 50 < s.sum() < 450
    for ours, theirs in ((states.u, u), (states.v, v * (1 - s)), (states.s, s)):
        assert torch.equal(ours[1:, 0], theirs)
    (layer,) = loihi_training.deploy([found])
    registers = golden["registers"]
    assert set(layer.neurons.du) == {registers["iDecay"] - 1}
    assert set(layer.neurons.dv) == {registers["vDecay"]}
    assert layer.neurons.vth == registers["vThMant"]


def test_weights_on_the_grid_by_hand():
    w = torch.tensor([0.0, 0.02, -0.02, 1.0, 1.04, 9.0, -9.0], dtype=torch.float64, requires_grad=True)
    whole = loihi_training.weights_on_grid(w, 8)
    assert whole.tolist() == [0, 2, -2, 64, 66, 254, -256]
    whole.sum().backward()
    assert w.grad.tolist() == [64, 64, 64, 64, 64, 0, 0]  # as if it were not rounded; clipped weights stay
    assert loihi_training.weights_on_grid(w, 3).tolist() == [0, 0, 0, 64, 64, 192, -256]
    assert torch.equal(loihi_training.weights_on_grid(w, 0), 64 * w)


def test_without_bits_a_layer_is_the_plain_recursion():
    x, c = pattern(), cells()
    states = loihi_training.layer(x, c, 0, SOFT)
    u = v = s = a = np.zeros((3, 6))
    for t in range(len(x)):
        a = np.zeros((3, 6)) if t == 0 else x[t - 1].numpy() @ c.w.numpy() + s @ c.v.numpy()
        u = (1 - c.current_decay.numpy()) * u + a
        v = (1 - c.voltage_decay.numpy()) * v + u
        s = (v > 1.5).astype(float)
        v = v * (1 - s)
        for found, expected in zip(states, (s, 64 * a, 4096 * u, 4096 * v), strict=True):
            assert np.allclose(found[t], expected, rtol=1e-9, atol=1e-9)
    assert states.s.sum() > 100


def test_rounding_passes_the_gradient_of_the_real_network():
    # On the grid, and without spikes, rounding changes the states but none of the factors of the gradient.
    x = pattern()
    base = cells(recurrent=False, threshold=None)
    grid = (2 * torch.round(32 * base.w.clamp(-3, 3)) / 64, *(torch.round(4096 * d) / 4096 for d in base[1:3]))
    target = torch.randn(80, 3, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    found = []
    for bits in (0, 8):
        leaves = [part.clone().requires_grad_() for part in grid]
        states = loihi_training.layer(x, Cells(*leaves, None), bits, SOFT)
        found.append([states.v, *torch.autograd.grad((states.v * target).sum(), leaves[:1])])
    assert not torch.equal(found[0][0], found[1][0])
    assert torch.allclose(found[0][1], found[1][1], rtol=1e-12)


def test_the_gradient_is_the_finite_difference_where_the_layer_is_smooth():
    x, base = pattern(30), cells(recurrent=False, threshold=None)
    leaves = [part.clone().requires_grad_() for part in base[:3]]

    def total(*parts):
        return (loihi_training.layer(x, Cells(*parts, None), 0, SOFT).v / 4096).square().mean()

    for k, slope in enumerate(torch.autograd.grad(total(*leaves), leaves)):
        for at in list(np.ndindex(*slope.shape))[:12]:
            nearby = []
            for step in (1e-6, -1e-6):
                parts = [part.detach().clone() for part in leaves]
                parts[k][at] += step
                nearby.append(total(*parts).item())
            assert slope[at].item() == pytest.approx((nearby[0] - nearby[1]) / 2e-6, rel=1e-5, abs=1e-6)


def test_a_spike_passes_its_surrogate_in_units_of_the_weights():
    w = torch.tensor([[2.0]], dtype=torch.float64, requires_grad=True)
    one_step = (torch.tensor([1.0]).double(), torch.tensor([1.0 - 2**-12]).double())
    x = torch.tensor([1.0, 0.0]).double()[:, None, None]
    spikes = loihi_training.layer(x, Cells(w, *one_step, 1.5), 8, SOFT).s
    assert spikes.flatten().tolist() == [0, 1]
    assert torch.autograd.grad(spikes.sum(), w)[0].item() == pytest.approx(np.exp(-0.5))


def points(samples, seed):
    """Two classes: which of two inputs spikes first."""
    g = np.random.default_rng(seed)
    times = g.permuted(np.tile(np.arange(8), (samples, 1)), axis=1)[:, :2]
    x = torch.zeros(15, samples, 2).double()
    for k in range(2):
        x[times[:, k], np.arange(samples), k] = 1.0
    return x, torch.from_numpy((times[:, 0] < times[:, 1]).astype(int))


@pytest.mark.parametrize("bits", [0, 8, 4])
def test_a_network_learns_and_keeps_its_accuracy_on_the_chip(bits):
    x, label = points(300, 0)
    p = Training((2, 12, 2), bits=bits, epochs=6, batch=30, rate=2e-2)
    generator = torch.Generator().manual_seed(0)
    untrained = loihi_training.accuracy(x, label, loihi_training.initial_network(p, generator), p)
    losses = []
    network = loihi_training.train_quantised(
        x, label, p, generator, progress=lambda done, of, loss: losses.append(loss)
    )
    assert untrained < 0.7
    trained = loihi_training.accuracy(*points(200, 1), network, p)
    assert trained > 0.9
    assert losses[-1] < 0.7 * losses[0] and len(losses) == 6
    if bits:
        assert loihi_training.differences(x, network, p) == dict.fromkeys("sauv", 0)
        assert loihi_training.chip_accuracy(*points(200, 1), loihi_training.deploy(network, bits)) == trained
    else:
        coarse, fine = (
            loihi_training.chip_accuracy(*points(200, 1), loihi_training.deploy(network, b)) for b in (2, 8)
        )
        assert fine > 0.88 and fine >= coarse


def test_a_scaled_network_is_the_same_without_rounding():
    x, _ = points(40, 2)
    p = Training((2, 6, 6, 2), bits=0)
    network = loihi_training.initial_network(p, torch.Generator().manual_seed(0))
    network[0] = network[0]._replace(v=0.3 * torch.randn(6, 6, dtype=torch.float64))
    twice = loihi_training.scaled(network, 2.0)
    assert [cells.threshold for cells in twice] == [4.0, 4.0, None]
    with torch.no_grad():
        one, two = (loihi_training.forward(x, net, 0, p.surrogate) for net in (network, twice))
    assert all(torch.equal(a.s, b.s) for a, b in zip(one[:2], two[:2], strict=True))
    assert one[0].s.sum() > 20
    torch.testing.assert_close(2 * one[-1].v, two[-1].v, rtol=1e-12, atol=0)


def test_training_goes_on_from_a_copy():
    x, label = points(60, 0)
    p = Training((2, 4, 2), epochs=1, batch=30)
    start = loihi_training.initial_network(p, torch.Generator().manual_seed(0))
    before = [c.w.detach().clone() for c in start]
    again = loihi_training.train_quantised(x, label, p, torch.Generator().manual_seed(1), start=start)
    assert all(torch.equal(c.w, w) for c, w in zip(start, before, strict=True))
    assert all(not torch.equal(c.w, w) for c, w in zip(again, before, strict=True))
    assert all(not torch.equal(c.current_decay, b.current_decay) for c, b in zip(again, start, strict=True))
    held = loihi_training.train_quantised(x, label, p._replace(learn_decays=False), torch.Generator().manual_seed(1))
    assert all((c.current_decay == p.current_decay).all() for c in held)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: loihi_training.deploy([cells()], 9), "bits is 9; the chip takes 1 .. 8"),
        (
            lambda: loihi_training.deploy([cells()._replace(w=torch.full((9, 6), torch.nan).double())]),
            "layer 0 holds NaN",
        ),
        (lambda: loihi_training.initial_network(Training((3,)), torch.Generator()), "sizes are (3,)"),
        (lambda: loihi_training.initial_network(Training((3, 2), bits=9), torch.Generator()), "bits is 9"),
        (
            lambda: loihi_training.train_quantised(*points(5, 0), Training((3, 2)), torch.Generator()),
            "give (time, samples, 3)",
        ),
        (
            lambda: loihi_training.train_quantised(
                points(5, 0)[0], torch.zeros(4), Training((2, 2)), torch.Generator()
            ),
            "and 4 labels",
        ),
        (
            lambda: loihi_training.train_quantised(
                points(5, 0)[0], torch.full((5,), 2), Training((2, 2)), torch.Generator()
            ),
            "labels must lie in 0 .. 1",
        ),
        (
            lambda: loihi_training.chip_accuracy(
                0.5 * points(5, 0)[0],
                points(5, 0)[1],
                loihi_training.deploy([cells()._replace(w=torch.ones(2, 2).double())]),
            ),
            "other numbers than 0 and 1",
        ),
        (
            lambda: loihi_training.train_quantised(*points(5, 0), Training((2, 2), scale=torch.nan), torch.Generator()),
            "no longer finite",
        ),
        (
            lambda: loihi_training.train_quantised(
                torch.full((15, 5, 2), torch.nan).double(), points(5, 0)[1], Training((2, 2)), torch.Generator()
            ),
            "no longer finite",
        ),
    ],
)
def test_a_mistake_in_training_is_one_clear_line(build, said):
    with pytest.raises(UserError) as error:
        build()
    assert said in str(error.value)
    assert "\n" not in str(error.value)
