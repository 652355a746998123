"""Neuron models: their parameters, and one time step in plain NumPy as the readable reference.

The current-based leaky integrate-and-fire neuron (LIF) in continuous time, with rest at 0 and unit resistance:

    tau_mem dU/dt = -U + I,      dI/dt = -I / tau_syn + sum_j W_j S_j(t),      spike where U exceeds the threshold.

Papers discretise it in different ways. Each difference is a field of `LIF`, never a hidden default.
"""

from typing import Literal, NamedTuple

import numpy as np

from snnrepro.errors import UserError


class Surrogate(NamedTuple):
    """Name and slope of the function that stands in for the derivative of a spike (see `snnrepro.surrogate.derivatives`)."""

    name: str = "fast_sigmoid"
    slope: float = 100.0


class LIF(NamedTuple):
    """Parameters of a layer of current-based LIF neurons. Times in seconds; voltages in units of the threshold.

    Attributes:
        tau_mem: membrane time constant, a number or one a neuron `(n,)`.
        tau_syn: synaptic time constant, likewise.
        dt: time step.
        threshold: a neuron spikes where its membrane potential is above (not at) the threshold.
        reset: what a spike does to the next membrane potential:
            `subtract`  beta U + g I - threshold S;
            `multiply`  (beta U + g I) (1 - S): the input of that step is lost too;
            `zero`      beta U (1 - S) + g I: only the old potential is cleared;
            `none`      no reset.
        reset_gradient: whether the gradient passes through the reset.
        recurrent_gradient: whether the gradient passes through recurrent spikes.
        current: `old`, the membrane integrates the current of the step before, so that an input needs two steps to cause a
            spike (SpyTorch); `new`, it integrates the current that already holds this step's input (snnTorch).
        gain: g above. `one`: 1 (SpyTorch); `leak`: 1 - beta (Zenke & Vogels 2021); `exact`: exact integration over one step.
        refractory: steps that the membrane stays at 0 after a spike, the step of the spike itself included (as in Brian2).
        surrogate: stands in for the derivative of the spike.
    """

    tau_mem: float | np.ndarray = 10e-3
    tau_syn: float | np.ndarray = 5e-3
    dt: float = 1e-3
    threshold: float = 1.0
    reset: Literal["subtract", "multiply", "zero", "none"] = "multiply"
    reset_gradient: bool = False
    recurrent_gradient: bool = True
    current: Literal["old", "new"] = "old"
    gain: Literal["one", "leak", "exact"] = "one"
    refractory: int = 0
    surrogate: Surrogate = Surrogate()


CHOICES = {
    "reset": ("subtract", "multiply", "zero", "none"),
    "current": ("old", "new"),
    "gain": ("one", "leak", "exact"),
}


def check(p: LIF) -> LIF:
    """Return `p` where it makes sense.

    Raises:
        UserError: an unknown choice, a time constant or step that is not positive, or a negative refractory period.
    """
    for field, choices in CHOICES.items():
        if getattr(p, field) not in choices:
            raise UserError(f"LIF: {field} is {getattr(p, field)!r}; choose one of {', '.join(choices)}")
    for field in ("tau_mem", "tau_syn", "dt"):
        if not np.all(np.asarray(getattr(p, field)) > 0):
            raise UserError(f"LIF: {field} must be positive, in seconds")
    if p.refractory < 0:
        raise UserError("LIF: refractory must be 0 or more steps")
    return p


def alpha(p: LIF) -> np.ndarray:
    """Decay of the synaptic current over one step, exp(-dt / tau_syn)."""
    return np.exp(-p.dt / np.asarray(p.tau_syn, dtype=float))


def beta(p: LIF) -> np.ndarray:
    """Decay of the membrane potential over one step, exp(-dt / tau_mem)."""
    return np.exp(-p.dt / np.asarray(p.tau_mem, dtype=float))


def gain(p: LIF) -> np.ndarray:
    """Factor of the current in the membrane update (see `LIF.gain`).

    For `exact`, the membrane's response over one step to a current that starts at 1 and decays:
    tau_syn (alpha - beta) / (tau_syn - tau_mem), and its limit (dt / tau) exp(-dt / tau) for equal time constants.
    """
    if p.gain == "one":
        return np.ones_like(beta(p))
    if p.gain == "leak":
        return 1.0 - beta(p)
    mem, syn = np.broadcast_arrays(np.asarray(p.tau_mem, dtype=float), np.asarray(p.tau_syn, dtype=float))
    same = np.isclose(mem, syn, rtol=1e-9)
    gap = np.where(same, 1.0, syn - mem)
    return np.where(same, p.dt / mem * np.exp(-p.dt / mem), syn * (np.exp(-p.dt / syn) - np.exp(-p.dt / mem)) / gap)


class State(NamedTuple):
    """State of a layer: potential `u`, current `i`, spikes `s` of the step before, refractory steps left `r`; all `(..., n)`."""

    u: np.ndarray
    i: np.ndarray
    s: np.ndarray
    r: np.ndarray


def zero_state(shape: tuple[int, ...]) -> State:
    """A silent layer."""
    return State(*(np.zeros(shape) for _ in range(4)))


def _membrane(state: State, p: LIF) -> tuple[np.ndarray, np.ndarray]:
    """Next potential and refractory count after the spikes `state.s`."""
    leaked, driven = beta(p) * state.u, gain(p) * state.i
    u = {
        "subtract": leaked + driven - p.threshold * state.s,
        "multiply": (leaked + driven) * (1 - state.s),
        "zero": leaked * (1 - state.s) + driven,
        "none": leaked + driven,
    }[p.reset]
    r = np.where(state.s > 0, max(p.refractory - 1, 0), np.maximum(state.r - 1, 0))
    return np.where(r > 0, 0.0, u), r


def lif_step(state: State, drive: np.ndarray, p: LIF, v: np.ndarray | None = None) -> tuple[State, State]:
    """One step of a LIF layer.

    Args:
        state: the layer before the step.
        drive: weighted input spikes of this step, W S_in[n], `(..., n)`.
        p: parameters.
        v: recurrent weights `(n, n)`, row = sender, or None.

    Returns:
        the layer as recorded at this step (`u`, `i`, `s` belong together) and the layer to hand to the next step.
    """
    if p.current == "old":
        now = state._replace(s=(state.u > p.threshold).astype(float))
        u, r = _membrane(now, p)
        i = alpha(p) * now.i + drive + (0.0 if v is None else now.s @ v)
        return now, State(u, i, now.s, r)
    i = alpha(p) * state.i + drive + (0.0 if v is None else state.s @ v)
    u, r = _membrane(state._replace(i=i), p)
    now = State(u, i, (u > p.threshold).astype(float), r)
    return now, now
