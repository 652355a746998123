"""What a network costs: operations, spikes, and the energy that published tables make of them.

Counts are results. Energy is derived from them by a table, leaves out memory access, and is shown as such. A MAC is a multiplication with
an addition, an AC an addition alone: what a spike asks of a synapse.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from snnrepro.errors import UserError


class Operations(NamedTuple):
    """Operations, of a time step or of a sample.

    Attributes:
        macs: multiply-accumulates.
        acs: accumulates.
    """

    macs: float
    acs: float


class SynapticOperations(NamedTuple):
    """Synaptic operations a sample, as NeuroBench (Yik et al. 2025) defines them; biases do not count.

    Attributes:
        macs: pairs of an input and a weight, neither of them zero, where the inputs are numbers.
        acs: the same where the inputs are spikes.
        dense: all pairs.
    """

    macs: float
    acs: float
    dense: float


class Energy(NamedTuple):
    """What an operation costs, in pJ.

    Attributes:
        mac: a multiply-accumulate.
        ac: an accumulate.
        source: technology, number format, and where the numbers are from.
    """

    mac: float
    ac: float
    source: str


ENERGY = {
    "float32": Energy(4.6, 0.9, "45 nm, 32-bit floating point; Horowitz (2014), as quoted by later papers"),
    "int32": Energy(3.2, 0.1, "45 nm, 32-bit integer; Horowitz (2014), as quoted by later papers"),
    "int8": Energy(
        0.23, 0.03, "45 nm, 8-bit integer: multiply 0.2, add 0.03; Horowitz (2014), as quoted by later papers"
    ),
}
"""Energy of one operation by number format. Each ratio of two networks is shown for all of them."""


class Chip(NamedTuple):
    """Energy of one event on a chip, in pJ.

    Attributes:
        synapse: a synaptic operation.
        neuron: an update of a neuron.
        source: where the numbers are from.
    """

    synapse: float
    neuron: float
    source: str


_KERAS_SPIKING = "table in keras-spiking's model_energy.py"
CHIPS = {
    "Loihi": Chip(23.6, 81.0, f"{_KERAS_SPIKING}, after Davies et al. (2018)"),
    "SpiNNaker": Chip(13300.0, 26000.0, _KERAS_SPIKING),
    "SpiNNaker 2": Chip(450.0, 2190.0, _KERAS_SPIKING),
}
"""Energy of spiking chips, as a widely used tool lists it."""


def _size(m: int, n: int) -> None:
    if m < 1 or n < 1:
        raise UserError(f"operations of a layer: {m} inputs and {n} units; give 1 or more of each")


def _rate(**rates: float) -> None:
    for name, rate in rates.items():
        if not 0 <= rate <= 1:
            raise UserError(f"operations of a layer: {name} is {rate}; give spikes a unit and step, 0 to 1")


def rnn_step(m: int, n: int) -> Operations:
    """A step of a plain recurrent layer of n units with m inputs: mn + nn MACs."""
    _size(m, n)
    return Operations(m * n + n * n, 0)


def lstm_step(m: int, n: int) -> Operations:
    """A step of an LSTM layer: 4 (mn + nn) + 17 n MACs, as TC-LIF (Zhang et al. 2024) counts it after Yin et al. (2021)."""
    _size(m, n)
    return Operations(4 * (m * n + n * n) + 17 * n, 0)


def srnn_step(
    m: int, n: int, rate_in: float, rate: float, *, recurrent: bool = True, adaptive: bool = False
) -> Operations:
    """A step of a recurrent spiking layer: (m n rate_in + (n n + n) rate) ACs and n MACs, from the same source.

    Every input spike adds a row of weights, every spike of the layer a row of recurrent weights and its own reset; the decay of the
    membrane is a MAC a neuron.

    Args:
        m: inputs.
        n: neurons.
        rate_in: spikes an input and step.
        rate: spikes a neuron and step.
        recurrent: without it, n n rate falls away.
        adaptive: an adaptive threshold: two more MACs a neuron, the decay of the adaptation and its share in the threshold.

    Raises:
        UserError: an empty layer, or a rate that is not in [0, 1].
    """
    _size(m, n)
    _rate(rate_in=rate_in, rate=rate)
    return Operations((3 if adaptive else 1) * n, m * n * rate_in + ((n * n if recurrent else 0) + n) * rate)


def total(parts: Iterable[Operations]) -> Operations:
    """Sum over layers."""
    macs, acs = zip(*parts, strict=True)
    return Operations(sum(macs), sum(acs))


def energy(count: Operations | SynapticOperations, price: Energy) -> float:
    """Energy in pJ of these operations, without memory access."""
    return count.macs * price.mac + count.acs * price.ac


def chip_energy(synaptic_operations: float, updates: float, chip: Chip) -> float:
    """Energy in pJ of events on a chip: synaptic operations and updates of neurons."""
    return synaptic_operations * chip.synapse + updates * chip.neuron


def _layer(x: np.ndarray, w: np.ndarray) -> None:
    if x.ndim != 3 or w.ndim != 2 or x.shape[2] != len(w) or x.shape[1] < 1:
        raise UserError(
            f"synaptic operations: input {x.shape} and weights {w.shape}; give (time, samples, units) and (units, neurons)"
        )


def synaptic_operations(layers: Iterable[tuple[np.ndarray, np.ndarray]]) -> SynapticOperations:
    """Synaptic operations a sample, summed over layers.

    Args:
        layers: for each set of synapses its input `(time, samples, units)` and weights `(units, neurons)`. Recurrent weights are a
            set of their own, whose input is the layer's spikes. Input of zeros and ones alone are spikes.

    Raises:
        UserError: shapes that do not fit.
    """
    macs = acs = dense = 0.0
    for x, w in layers:
        x, w = np.asarray(x), np.asarray(w)
        _layer(x, w)
        active = np.count_nonzero(x, axis=(0, 1)) @ np.count_nonzero(w, axis=1) / x.shape[1]
        if np.isin(x, (0, 1)).all():
            acs += active
        else:
            macs += active
        dense += x.shape[0] * w.size
    return SynapticOperations(float(macs), float(acs), float(dense))


def activation_sparsity(activations: Iterable[np.ndarray]) -> float:
    """Share of zeros among the outputs of all neurons, of arrays of any shape, one a layer (NeuroBench)."""
    arrays = [np.asarray(a) for a in activations]
    return 1.0 - sum(map(np.count_nonzero, arrays)) / sum(a.size for a in arrays)


def connection_sparsity(weights: Iterable[np.ndarray]) -> float:
    """Share of zeros among all weights (NeuroBench, which rounds it to four places)."""
    return activation_sparsity(weights)


def membrane_updates(potentials: Iterable[np.ndarray]) -> float:
    """Membrane potentials that changed, a sample, of `(time, samples, neurons)`, one a layer; the first step counts whole
    (NeuroBench).
    """
    updates = 0.0
    for u in potentials:
        u = np.asarray(u)
        updates += (u[0].size + np.count_nonzero(np.diff(u, axis=0))) / u.shape[1]
    return float(updates)


def spikes_a_sample(spikes: Iterable[np.ndarray]) -> float:
    """Spikes a sample, of `(time, samples, neurons)`, one a layer."""
    return float(sum(np.count_nonzero(s) / np.shape(s)[1] for s in spikes))
