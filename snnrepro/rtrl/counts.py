"""How many numbers a method keeps, and how many products it forms in a step: exact counts of the loops in `kernels.rtrl`.

For n neurons with `states` state variables, m inputs, k outputs, T steps, one sample. Left out, since all methods need them: the network's
own step, the weights, and the sums of their gradients. Products with zeros count: the loops form them.
"""

from collections.abc import Callable
from typing import NamedTuple

from snnrepro.errors import UserError


class Size(NamedTuple):
    """A network and a sequence.

    Attributes:
        n: recurrent neurons.
        m: inputs.
        k: outputs.
        steps: T.
        adaptive: a third state, the adaptation.
        leaky: a leaky readout.
        multiply: a spike clears the potential.
        kick: the gradient passes through the reset.
    """

    n: int
    m: int
    k: int
    steps: int
    adaptive: bool = False
    leaky: bool = False
    multiply: bool = True
    kick: bool = False


def influence_numbers(n: int, m: int, states: int = 2) -> int:
    """Numbers in the influence matrix of exact RTRL: every state of every neuron, every weight.

    Raises:
        UserError: a size that is not positive.
    """
    if min(n, m, states) < 1:
        raise UserError(f"influence_numbers: n, m, states are {n, m, states}; give at least 1 each")
    return states * n * n * (m + n)


def rtrl_numbers(c: Size) -> int:
    """Exact RTRL: the influence matrix, the rows of a leaky readout, and a spike's row with the learning signal."""
    q = c.n * (c.m + c.n)
    return influence_numbers(c.n, c.m, 2 + c.adaptive) + c.leaky * c.k * q + 2 * c.n


def rtrl_products(c: Size) -> int:
    """Exact RTRL, in a step."""
    q, n = c.n * (c.m + c.n), c.n
    state = n * n + n * (1 + 2 + c.multiply + 2 + c.kick + 4 * c.adaptive)
    reads = c.k * (1 + n + 2) if c.leaky else n
    return q * (state + reads) + (0 if c.leaky else n * c.k)


def local_numbers(c: Size) -> int:
    """Traces a synapse, and the learning signal."""
    return (2 + c.adaptive + c.leaky) * c.n * (c.m + c.n) + c.n


def local_products(c: Size, own: bool = False) -> int:
    """Traces a synapse, in a step; `own` keeps the weights of neurons onto themselves."""
    sent = 2 if c.adaptive else int(own or c.kick)
    trace = sent + 1 + own + 2 + c.multiply + c.kick + (2 + 2 if c.adaptive else 1) + 2 * c.leaky + 1
    return c.n * (c.m + c.n) * trace + c.n * c.k


def line_numbers(c: Size) -> int:
    """Two traces an input line, and the learning signal; a leaky readout brings back one trace a synapse."""
    return 2 * (c.m + c.n) + c.leaky * c.n * (c.m + c.n) + c.n


def line_products(c: Size) -> int:
    """Traces of input lines, in a step."""
    inner = 4 if c.leaky else 1
    return (c.m + c.n) * (3 + c.n * inner) + c.n * c.k + (0 if c.leaky else c.n)


def bptt_numbers(c: Size) -> int:
    """Backpropagation through time: input, spikes and slopes of all steps, and a state that goes backwards."""
    return c.steps * (c.m + (2 + c.kick) * c.n) + (3 + c.adaptive) * c.n + c.k


def bptt_products(c: Size, through: bool = True) -> int:
    """Backpropagation through time, in a step; `through`: the gradient passes through recurrent spikes."""
    n = c.n
    state = n * c.k + through * n * n + n * (1 + c.multiply + 2 + 1) + c.adaptive * 3 * n + c.kick * n
    return 2 * c.k + state + n * (c.m + n)


MEASURED: dict[str, tuple[Callable[[Size], int], Callable[[Size], int]]] = {
    "bptt": (bptt_numbers, bptt_products),
    "rtrl": (rtrl_numbers, rtrl_products),
    "block-diagonal": (local_numbers, lambda c: local_products(c, own=True)),
    "eligibility": (local_numbers, local_products),
    "decolle": (line_numbers, line_products),
}
"""Numbers and products of a step, of the methods that run here."""


class Standard(NamedTuple):
    """How a method scales by common knowledge of the field: `exact` in words, and the powers of n and T in memory and time a step."""

    exact: str
    online: bool
    memory: tuple[int, int]
    time: tuple[int, int]
    here: str = ""


STANDARD = {
    "BPTT": Standard("yes", False, (1, 1), (2, 0), "bptt"),
    "RTRL": Standard("yes", True, (3, 0), (4, 0), "rtrl"),
    "UORO": Standard("unbiased, noisy", True, (2, 0), (2, 0)),
    "KF-RTRL": Standard("unbiased, noisy", True, (2, 0), (3, 0)),
    "block-diagonal, SnAp-1, RFLO": Standard("biased", True, (2, 0), (2, 0), "block-diagonal"),
    "e-prop, SuperSpike": Standard("biased", True, (2, 0), (2, 0), "eligibility"),
    "DECOLLE": Standard("biased", True, (1, 0), (2, 0), "decolle"),
}
"""The usual orders for a fully connected network; not read in the paper's own table. `here`: the method of `MEASURED` beside it."""


def counted(method: str, size: Size) -> tuple[int, int]:
    """Numbers kept and products a step of a method that runs here.

    Raises:
        UserError: an unknown method, or a size that is no positive whole number.
    """
    if method not in MEASURED:
        raise UserError(f"counted: method is {method!r}; choose one of {', '.join(MEASURED)}")
    if any(not count >= 1 or count % 1 for count in size[:4]):
        raise UserError(f"counted: n, m, k, steps are {size[:4]}; give at least 1 each, whole numbers")
    numbers, products = MEASURED[method]
    return numbers(size), products(size)
