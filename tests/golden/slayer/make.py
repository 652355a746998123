"""Makes `cuba.json`: Intel's training library lava-dl 0.6.0 runs its quantised neuron forwards.

python make.py FILE, with torch, h5py, matplotlib and `pip install --no-deps lava-dl==0.6.0` (its parts for pictures are not needed, and are
left out below).
"""

import json
import sys
import types
from importlib import metadata
from pathlib import Path

import numpy as np
import torch

sys.modules["lava.lib.dl.slayer.object_detection"] = types.ModuleType("object_detection")
from lava.lib.dl import slayer  # noqa: E402

STEPS, INPUTS, N = 150, 10, 6


def main(path):
    """Run, and write input, real weights and what the neuron did, in the chip's integers."""
    g = np.random.default_rng(7)
    x = (g.random((STEPS, INPUTS)) < 0.15).astype(int)
    w = g.normal(0.1, 1.2, (INPUTS, N))
    neuron = slayer.neuron.cuba.Neuron(threshold=4.7, current_decay=0.2113, voltage_decay=0.0837)
    quantised = slayer.utils.quantize(torch.from_numpy(w), step=2 / 64).clamp(-256 / 64, 254 / 64)
    drive = (torch.from_numpy(x).double() @ quantised).T[None]
    current, voltage = neuron.dynamics(drive)
    spikes = neuron.spike(voltage)

    def rows(states, scale):
        return [[round(v) for v in row] for row in (scale * states[0].T.double()).tolist()]

    content = {
        "lava_dl": metadata.version("lava-dl"),
        "threshold": 4.7,
        "current_decay": 0.2113,
        "voltage_decay": 0.0837,
        "registers": {k: int(v) for k, v in neuron.device_params.items() if k in ("iDecay", "vDecay", "vThMant")},
        "weights": w.tolist(),
        "input": x.tolist(),
        "u": rows(current, neuron.s_scale),
        "v_before_reset": rows(voltage, neuron.s_scale),
        "s": rows(spikes, 1),
    }
    print(content["registers"], spikes.sum().item(), np.abs(w).max())
    path.write_text(json.dumps(content) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
