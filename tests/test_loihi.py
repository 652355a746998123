"""Loihi in integers: golden traces of Intel's simulator, a slow transcription in Python's own integers, a trace of the chip, bad input."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnrepro.errors import UserError
from snnrepro.hardware import loihi
from snnrepro.hardware.loihi import Layer, Neurons, Synapses, run, run_golden

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


def slow(x, n, weights, p, recurrent=None):
    """Trace as lists [step][neuron] of a, u, v, s. weights[post][pre] = (weight, delay); with bits, sign, exponent in p."""
    m = 2**23
    u, v, due, trace = [0] * n, [0] * n, {}, []
    for t in range(1, len(x) + 1):
        if p["interval"] and t % p["interval"] == p["offset"] % p["interval"]:
            u, v = [0] * n, [0] * n
        a, s = [due.pop((t, k), 0) for k in range(n)], [0] * n
        for k in range(n):
            u[k] = tz(u[k] * (4096 - (p["du"][k] + 1)), 12) + a[k] * 64
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
                    sums[delay] = sums.get(delay, 0) + payload * cut(w, bundle["bits"], bundle["sign"])
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
    payload = st.integers(-300, 300) if graded else st.integers(0, 1)
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


@settings(max_examples=300, deadline=None, derandomize=True)
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
        (
            lambda f: (f / "recurrent_trace.csv").write_text("t,u0,v0,s0\n1,2,3,0\n"),
            "recurrent_trace.csv: u has shape (1, 1)",
        ),
        (lambda f: (f / "recurrent_trace.csv").write_text("t,u0,v0\n1,2,3\n"), "no columns s0"),
        (lambda f: (f / "recurrent_input.csv").write_text("t,y0\n1,2\n"), "no columns x0"),
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
    ],
)
def test_a_mistake_is_one_clear_line(build, said):
    with pytest.raises(UserError) as error:
        build()
    assert said in str(error.value)
    assert "\n" not in str(error.value)
