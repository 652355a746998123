"""Which library does which task, and which of our neurons its own neuron equals."""

from typing import NamedTuple

from benchmarks.tasks import ADAPTIVE, SPIKING
from snnrepro.neurons import LIF, Surrogate

CLEARED = SPIKING._replace(reset="zero")


class Case(NamedTuple):
    """A library, or one way of using it.

    Attributes:
        title: as shown.
        group: cases of one group share worker processes: `ours`, `torch`, `jax` or `brian2`.
        package: to report a version of; None for our own.
        models: by kind of task, where the model is: `module:Class` in `benchmarks.peers`.
        twins: by kind of task, the neuron of ours whose spikes and gradients must be the same; a task that is missing has equations
            that none of our switches reproduces, and only its firing rate is compared.
        note: how it is run, and what is different.
    """

    title: str
    group: str
    package: str | None
    models: dict[str, str]
    twins: dict[str, LIF]
    note: str


def _both(model: str) -> dict[str, str]:
    return dict.fromkeys(("feedforward", "recurrent"), model)


def _all(model: str) -> dict[str, str]:
    return dict.fromkeys(("feedforward", "recurrent", "adaptive"), model)


CASES = {
    "events": Case(
        "ours, input as events",
        "ours",
        None,
        _both("ours:Events"),
        dict.fromkeys(("feedforward", "recurrent"), SPIKING),
        "the compiled kernel with threads of its own, torch with one; the list of events is made once, as a data set would hold it",
    ),
    "dense": Case(
        "ours, dense input",
        "ours",
        None,
        _all("ours:Ours"),
        dict.fromkeys(("feedforward", "recurrent"), SPIKING) | {"adaptive": ADAPTIVE},
        "the same kernel on the dense tensor that the other libraries get; finding the spikes in it is part of the time",
    ),
    "reference": Case(
        "ours, plain torch loop",
        "torch",
        None,
        _all("ours:Reference"),
        dict.fromkeys(("feedforward", "recurrent"), SPIKING) | {"adaptive": ADAPTIVE},
        "the readable reference, under automatic differentiation",
    ),
    "jax": Case(
        "JAX scan by hand",
        "jax",
        "jax",
        _all("with_jax:Scan"),
        dict.fromkeys(("feedforward", "recurrent"), SPIKING) | {"adaptive": ADAPTIVE},
        "a scan over time under jit, the product with the input outside the loop",
    ),
    "snntorch": Case(
        "snnTorch",
        "torch",
        "snntorch",
        _both("with_snntorch:Network"),
        dict.fromkeys(("feedforward", "recurrent"), SPIKING),
        "Synaptic and RSynaptic in a loop over time, as in its tutorials; it has no neuron with an adaptive threshold",
    ),
    "norse": Case(
        "norse",
        "torch",
        "norse",
        _both("with_norse:Network") | {"adaptive": "with_norse:Adaptive"},
        {
            "feedforward": CLEARED._replace(reset_gradient=True, surrogate=Surrogate("fast_sigmoid", 1.0)),
            "recurrent": CLEARED._replace(surrogate=Surrogate("fast_sigmoid", 1.0)),
        },
        "LIF, LIFRecurrent, LSNNRecurrent; a spike clears the potential; in the adaptive task the reset and the adaptation are outside "
        "the gradient and time constants are not learned, which is less work",
    ),
    "spikingjelly": Case(
        "SpikingJelly",
        "torch",
        "spikingjelly",
        _both("with_spikingjelly:Network"),
        dict.fromkeys(
            ("feedforward", "recurrent"),
            CLEARED._replace(surrogate=SPIKING.surrogate._replace(scale=SPIKING.surrogate.slope / 2)),
        ),
        "CUBALIFNode, multi-step where the network allows it; a spike clears the potential",
    ),
    "sinabs": Case(
        "sinabs",
        "torch",
        "sinabs",
        _both("with_sinabs:Network") | {"adaptive": "with_sinabs:Adaptive"},
        dict.fromkeys(
            ("feedforward", "recurrent"),
            SPIKING._replace(reset_gradient=True, surrogate=Surrogate("exponential", 4.0)),
        ),
        "LIF, LIFRecurrent, ALIFRecurrent; the reset is in the gradient; in the adaptive task the threshold is outside it",
    ),
    "spyx": Case(
        "Spyx",
        "jax",
        "spyx",
        _both("with_spyx:Network"),
        {},
        "CuBaLIF and RCuBaLIF under jit; shows a spike one step later and lets it leak before the reset counts; the readout has no "
        "synaptic filter",
    ),
    "brian2": Case(
        "Brian2",
        "brian2",
        "brian2",
        {"feedforward": "with_brian2:Network"},
        {"feedforward": CLEARED._replace(current="old")},
        "C++ standalone, exact integration, inference only, one thread, one sample after another; the program's own time of its loop; the "
        "readout's potential is computed and not kept",
    ),
    "products": Case(
        "matrix products alone, dense",
        "torch",
        None,
        _all("ours:Products"),
        {},
        "the products of the step and nothing else, for the whole sequence at once where the network allows it",
    ),
    "sparse_products": Case(
        "matrix products alone, sparse input",
        "torch",
        None,
        _both("ours:SparseProducts"),
        {},
        "the same, with the two products of the input by torch.sparse (CSR), whose matrices are made beforehand",
    ),
}
