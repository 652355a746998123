"""A network of Loihi layers in lava-nc, run by a Python of its own: `benchmarks.loihi` starts it. Needs Python 3.10 and lava-nc.

python loihi_lava.py PROBLEM.npz FOUND.npz: writes what the last layer did, prints `@ VERSIONS`, and then, for each line `run` on its input,
the seconds that so many steps took.
"""

import json
import platform
import sys
import time
from importlib import metadata

import numpy as np
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.dense.process import Dense
from lava.proc.io.source import RingBuffer
from lava.proc.lif.process import LIF
from lava.proc.monitor.process import Monitor
from lava.utils.weightutils import SignMode


def build(problem):
    """Processes of all layers; the last ones are the neurons."""
    source = RingBuffer(data=problem["x"].T.astype(np.int32))
    before, layers = source.s_out, []
    for k in range(int(problem["layers"])):
        du, dv, vth = (int(value) for value in problem[f"neurons{k}"])
        cells = LIF(shape=(problem[f"w{k}"].shape[1],), du=du, dv=dv, vth=vth, bias_mant=0, bias_exp=0)
        bundles = [Dense(weights=problem[f"w{k}"].T, sign_mode=SignMode.MIXED)]
        before.connect(bundles[0].s_in)
        if f"v{k}" in problem:
            bundles.append(Dense(weights=problem[f"v{k}"].T, sign_mode=SignMode.MIXED))
            cells.s_out.connect(bundles[1].s_in)
        for bundle in bundles:
            bundle.a_out.connect(cells.a_in)
        layers.append(cells)
        before = cells.s_out
    return layers


def run(cells, steps):
    """Seconds of a run."""
    start = time.perf_counter()
    cells.run(condition=RunSteps(int(steps)), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
    return time.perf_counter() - start


def main(given, found):
    """Run once with probes, then without them as often as asked."""
    problem = dict(np.load(given, allow_pickle=False))
    steps, last = len(problem["x"]), build(problem)[-1]
    monitors = {name: Monitor() for name in ("u", "v", "s")}
    for name, monitor in monitors.items():
        monitor.probe(getattr(last, "s_out" if name == "s" else name), steps)
    run(last, steps)
    traces = {}
    for name, monitor in monitors.items():
        (process,) = monitor.get_data().values()
        (traces[name],) = process.values()
    last.stop()
    np.savez(found, **traces)

    last = build(problem)[-1]
    run(last, 1)  # builds and starts the processes
    versions = {package: metadata.version(package) for package in ("lava-nc", "numpy", "scipy", "networkx")}
    print("@", json.dumps({"python": platform.python_version()} | versions), flush=True)
    for line in sys.stdin:
        if line.strip() != "run":
            break
        print("@", run(last, steps), flush=True)
    last.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
