"""Makes the golden traces of this folder with Intel's simulator, in the format of `snnrepro.hardware.loihi.run_golden`.

Needs Python 3.10 with lava-nc 0.10.0, numpy 1.26.4, scipy 1.15 and networkx 2.8.7:  python make.py FOLDER
"""

import json
import platform
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.dense.process import DelayDense, Dense
from lava.proc.io.source import RingBuffer
from lava.proc.lif.process import LIF, LIFReset
from lava.proc.monitor.process import Monitor
from lava.utils.weightutils import SignMode

STEPS, INPUTS, N = 100, 12, 6
SETS = {
    "wrap": {"du": 10, "dv": 3500, "vth": 100000, "weight_exp": 7, "rate": 0.5},
    "recurrent": {"du": 700, "dv": 300, "vth": 350, "recurrent": True, "rate": 0.1},
    "recurrent_5bit": {"du": 500, "dv": 200, "vth": 150, "weight_exp": -1, "num_weight_bits": 5, "recurrent": True},
    "graded": {"du": 900, "dv": 400, "vth": 20000, "graded": True, "rate": 0.3},
    "graded_delay": {"du": 1500, "dv": 100, "vth": 4000, "weight_exp": -3, "graded": True, "delay": True, "rate": 0.3},
    "delay_shift": {"du": 600, "dv": 300, "vth": 60, "weight_exp": -4, "delay": True, "rate": 0.5},
    "loop_delay": {"du": 800, "dv": 250, "vth": 60, "weight_exp": -2, "recurrent": True, "rec_delay": True, "rate": 0.2},
    "exc_shift": {"du": 1200, "dv": 500, "vth": 100, "weight_exp": -3, "sign_mode": "EXCITATORY", "rate": 0.3},
    "tiny": {"du": 100, "dv": 50, "vth": 3, "weight_exp": -8, "bias_mant": -30, "bias_exp": 1, "rate": 0.6},
    "reset_offset": {"du": 90, "dv": 60, "vth": 2500, "bias_mant": 25, "bias_exp": 5, "recurrent": True}
    | {"reset_interval": 30, "reset_offset": 7},
    "overflow": {"du": 40, "dv": 300, "vth": 100000, "weight_exp": 6, "graded": True, "top": 60000, "recurrent": True},
    "beyond": {"du": 40, "dv": 900, "vth": 60000, "weight_exp": 5, "graded": True, "recurrent": True, "rate": 0.3},
}  # fmt: skip
DEFAULTS = {
    "weight_exp": 0,
    "num_weight_bits": 8,
    "sign_mode": "MIXED",
    "bias_mant": 0,
    "bias_exp": 0,
    "rate": 0.15,
    "top": 255,
}
DEFAULTS |= {"graded": False, "recurrent": False, "delay": False, "rec_delay": False, "reset_interval": None}


def wiring(p, weights, delays, graded):
    """A bundle of synapses."""
    options = {field: p[field] for field in ("weight_exp", "num_weight_bits")} | {
        "weights": weights,
        "sign_mode": SignMode[p["sign_mode"]],
        "num_message_bits": 16 if graded else 0,
    }
    return Dense(**options) if delays is None else DelayDense(delays=delays, **options)


def simulate(p, x, w, delays, rec, rec_delays):
    """Activation, current, voltage and spikes, (steps, N) each."""
    neuron = {field: p[field] for field in ("du", "dv", "vth", "bias_mant", "bias_exp")}
    if p["reset_interval"]:
        cells = LIFReset(shape=(N,), reset_interval=p["reset_interval"], reset_offset=p["reset_offset"], **neuron)
    else:
        cells = LIF(shape=(N,), **neuron)
    source, bundles = RingBuffer(data=x.T), [wiring(p, w, delays, p["graded"])]
    source.s_out.connect(bundles[0].s_in)
    if p["recurrent"]:
        bundles.append(wiring(p, rec, rec_delays, False))
        cells.s_out.connect(bundles[1].s_in)
    watched = {"u": cells.u, "v": cells.v, "s": cells.s_out}
    for k, bundle in enumerate(bundles):
        bundle.a_out.connect(cells.a_in)
        watched[f"a{k}"] = bundle.a_out
    monitors = {name: Monitor() for name in watched}
    for name, port in watched.items():
        monitors[name].probe(port, STEPS)
    cells.run(condition=RunSteps(STEPS), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
    found = {}
    for name, monitor in monitors.items():
        (process,) = monitor.get_data().values()
        (found[name],) = process.values()
    cells.stop()
    found["a"] = sum(found.pop(f"a{k}") for k in range(len(bundles)))
    return {name: np.asarray(values, dtype=np.int64) for name, values in found.items()}


def write(path, heading, rows, first=0):
    """A CSV file with a heading and a counting column."""
    lines = [heading] + [",".join(str(int(c)) for c in (k + first, *row)) for k, row in enumerate(rows)]
    path.write_text("\n".join(lines) + "\n")


def head(first, *kinds):
    """The heading of a file: name of the counting column, then letters and counts."""
    return ",".join([first, *(f"{letter}{k}" for letter, count in kinds for k in range(count))])


def main(folder):
    """Make all sets."""
    entries = []
    for seed, (name, given) in enumerate(SETS.items(), 101):
        p, g = DEFAULTS | given, np.random.default_rng(seed)
        x = (g.random((STEPS, INPUTS)) < p["rate"]) * (
            g.integers(1, p["top"] + 1, (STEPS, INPUTS)) if p["graded"] else 1
        )
        low, high = (0, 255) if p["sign_mode"] == "EXCITATORY" else (-230, 255)
        w, rec = g.integers(low, high, (N, INPUTS)), g.integers(-120, 120, (N, N))
        delays = g.integers(0, 64, (N, INPUTS)) if p["delay"] else None
        rec_delays = g.integers(0, 12, (N, N)) if p["rec_delay"] else None
        t = simulate(p, x.astype(np.int32), w, delays, rec, rec_delays)
        write(folder / f"{name}_input.csv", head("t", ("x", INPUTS)), x, 1)
        write(folder / f"{name}_weights.csv", head("post", ("w", INPUTS)), w)
        if delays is not None:
            write(folder / f"{name}_delays.csv", head("post", ("d", INPUTS)), delays)
        if p["recurrent"]:
            write(folder / f"{name}_rec_weights.csv", head("post", ("w", N)), rec)
        if rec_delays is not None:
            write(folder / f"{name}_rec_delays.csv", head("post", ("d", N)), rec_delays)
        columns = np.concatenate([t["a"], t["u"], t["v"], t["s"]], 1)
        write(folder / f"{name}_trace.csv", head("t", *((letter, N) for letter in "auvs")), columns, 1)
        entries.append(
            {"name": name, "T": STEPS, "n_in": INPUTS, "n": N, "seed": seed, **p, "n_out_spikes": int(t["s"].sum())}
        )
        print(name, t["s"].sum(), *(f"{k} {t[k].min()}..{t[k].max()}" for k in "auv"))
    versions = {package: metadata.version(package) for package in ("lava-nc", "numpy")}
    manifest = {"python": platform.python_version(), **versions, "sets": entries}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
