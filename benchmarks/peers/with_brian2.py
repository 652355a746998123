"""Brian2, inference only: the hidden layer and the readout as differential equations, one sample after another in one network.

C++ standalone mode, which its documentation names as the fastest on a CPU: the program is built once, then run; only the run counts.
Side by side, each sample would need synapses of its own, which took several times as long. The state is cleared between samples.
"""

import os
import tempfile

import brian2 as b2
import numpy as np

from benchmarks.model import Outputs
from benchmarks.tasks import SPIKING, Data, Task
from snnrepro import neurons

GAIN = float(neurons.gain(SPIKING._replace(gain="exact")))
EQUATIONS = """
dU/dt = (I - U) / tau_mem : 1
dI/dt = -I / tau_syn : 1
"""


class Network:
    """Feed-forward, exact integration between steps, reset to 0."""

    def __init__(self, task: Task, data: Data, dtype: str):
        b2.prefs.core.default_float_dtype = getattr(np, dtype)
        b2.set_device("cpp_standalone", build_on_run=False)
        b2.device.reinit()  # a program was built before, where this is not the first network of the process
        b2.device.activate(build_on_run=False)
        threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
        b2.prefs.devices.cpp_standalone.openmp_threads = threads if threads > 1 else 0
        b2.defaultclock.dt = SPIKING.dt * b2.second
        inputs, hidden, classes = task.sizes
        tau = {"tau_mem": SPIKING.tau_mem * b2.second, "tau_syn": SPIKING.tau_syn * b2.second}
        self.shape = (task.batch, task.steps, hidden)
        samples, steps, units = np.nonzero(data.x.swapaxes(0, 1))
        times = (samples * task.steps + steps) * b2.defaultclock.dt
        source = b2.SpikeGeneratorGroup(inputs, units, times)
        cells = b2.NeuronGroup(hidden, EQUATIONS, threshold="U > 1", reset="U = 0", method="exact", namespace=tau)
        out = b2.NeuronGroup(classes, EQUATIONS, method="exact", namespace=tau)
        for group in (cells, out):
            group.run_regularly("U = 0; I = 0", dt=task.steps * b2.defaultclock.dt)
        first = self._connect(source, cells, data.weights["w1"])
        last = self._connect(cells, out, data.weights["w2"])
        self.monitor = b2.SpikeMonitor(cells)
        self.network = b2.Network(source, cells, out, first, last, self.monitor)
        self.network.run(task.batch * task.steps * b2.defaultclock.dt)
        self.folder = tempfile.TemporaryDirectory()
        b2.device.build(directory=self.folder.name, run=False)

    @staticmethod
    def _connect(source, target, w: np.ndarray) -> b2.Synapses:
        """All to all; weights are larger by 1 / gain, since a spike counts one step's integral."""
        synapses = b2.Synapses(source, target, "weight : 1", on_pre="I_post += weight")
        synapses.connect()
        synapses.weight = w.ravel() / GAIN
        return synapses

    def infer(self) -> float:
        """Run the program; returns the seconds of its loop over time, without reading and writing files."""
        b2.device.run(self.folder.name, with_output=False, run_args=[])
        return b2.device._last_run_time

    def train(self) -> object:
        """Brian2 has no gradient."""
        raise NotImplementedError

    def outputs(self, gradients: bool) -> Outputs:
        """Spikes of the hidden layer. It tests the threshold at the end of a step, we at the start of the next."""
        self.infer()
        sample, step = np.divmod(
            np.rint(np.asarray(self.monitor.t / b2.second) / SPIKING.dt).astype(int), self.shape[1]
        )
        spikes = np.zeros((self.shape[1] + 1, self.shape[0], self.shape[2]), bool)
        spikes[step + 1, sample, np.asarray(self.monitor.i)] = True
        return Outputs([spikes[:-1]], {})
