"""Neuron models: their parameters, and one time step in plain NumPy as the readable reference.

The current-based leaky integrate-and-fire neuron (LIF) in continuous time, with rest at 0 and unit resistance:

    tau_mem dU/dt = -U + I,      dI/dt = -I / tau_syn + sum_j W_j S_j(t),      spike where U exceeds the threshold.

Papers discretise it in different ways. Each difference is a field of `LIF`, never a hidden default.
"""

from typing import Literal, NamedTuple

import numpy as np

from snnrepro.errors import UserError

RESETS = ("subtract", "multiply", "zero", "none", "subtract_adapted")
MULTI_GAUSSIAN = (0.15, 6.0)
"""Height and relative width of the two side lobes of the multi-Gaussian surrogate, Yin, Corradi & Bohte (2021)."""


class Surrogate(NamedTuple):
    """The function that stands in for the derivative of a spike: its name, its slope and a factor that multiplies it
    (see `snnrepro.surrogate.derivatives`).
    """

    name: str = "fast_sigmoid"
    slope: float = 100.0
    scale: float = 1.0


class Adaptation(NamedTuple):
    """Adaptive threshold A = threshold + strength a, where every spike raises a, which decays: a' = rho a + g S.

    Attributes:
        tau: time constant of a in seconds, rho = exp(-dt / tau); a number or one a neuron `(n,)`.
        strength: how much a raises the threshold, a number or one a neuron (0: a neuron that does not adapt).
        gain: g above. `one`: 1 (Bellec et al. 2020); `leak`: 1 - rho (Yin, Corradi & Bohte 2021).
    """

    tau: float | np.ndarray
    strength: float | np.ndarray
    gain: Literal["one", "leak"] = "one"


class LIF(NamedTuple):
    """Parameters of a layer of current-based LIF neurons. Times in seconds; voltages in units of the threshold.

    Attributes:
        tau_mem: membrane time constant, a number or one a neuron `(n,)`. This and the others may be torch tensors that learn.
        tau_syn: synaptic time constant, likewise. None: no filter, the current is the input of the step.
        dt: time step.
        threshold: a neuron spikes where its membrane potential is above (not at) the threshold.
        reset: what a spike does to the next membrane potential:
            `subtract`  beta U + g I - threshold S;
            `multiply`  (beta U + g I) (1 - S): the input of that step is lost too;
            `zero`      beta U (1 - S) + g I: only the old potential is cleared;
            `none`      no reset;
            `subtract_adapted`  beta U + g I - A S, with the adaptive threshold A.
        reset_gradient: whether the gradient passes through the spike that resets.
        recurrent_gradient: whether the gradient passes through recurrent spikes.
        current: `old`, the membrane integrates the current of the step before, so that an input needs two steps to cause a
            spike (SpyTorch); `new`, it integrates the current that already holds this step's input (snnTorch).
        gain: g above. `one`: 1 (SpyTorch); `leak`: 1 - beta (Zenke & Vogels 2021); `exact`: exact integration over one step.
        refractory: least number of steps from one spike to the next.
        refractory_kind: what holds a neuron back meanwhile. `clamp`: its membrane stays at 0 (as in Brian2); `mute`: the membrane
            goes on, but the neuron does not spike and its surrogate derivative is 0 (Bellec et al. 2020).
        surrogate: stands in for the derivative of the spike.
        adaptation: an adaptive threshold, or None.
    """

    tau_mem: float | np.ndarray = 10e-3
    tau_syn: float | np.ndarray | None = 5e-3
    dt: float = 1e-3
    threshold: float = 1.0
    reset: Literal["subtract", "multiply", "zero", "none", "subtract_adapted"] = "multiply"
    reset_gradient: bool = False
    recurrent_gradient: bool = True
    current: Literal["old", "new"] = "old"
    gain: Literal["one", "leak", "exact"] = "one"
    refractory: int = 0
    surrogate: Surrogate = Surrogate()
    refractory_kind: Literal["clamp", "mute"] = "clamp"
    adaptation: Adaptation | None = None


CHOICES = {
    "reset": RESETS,
    "current": ("old", "new"),
    "gain": ("one", "leak", "exact"),
    "refractory_kind": ("clamp", "mute"),
}


def check(p: LIF) -> LIF:
    """Return `p` where it makes sense.

    Raises:
        UserError: an unknown choice, a time constant, step or threshold that is not positive, a negative refractory period, or
            an adapted reset without adaptation.
    """
    for field, choices in CHOICES.items():
        if getattr(p, field) not in choices:
            raise UserError(f"LIF: {field} is {getattr(p, field)!r}; choose one of {', '.join(choices)}")
    positive = {field: getattr(p, field) for field in ("tau_mem", "tau_syn", "dt", "threshold")}
    if p.adaptation is not None:
        positive["adaptation.tau"] = p.adaptation.tau
        if p.adaptation.gain not in ("one", "leak"):
            raise UserError(f"LIF: adaptation.gain is {p.adaptation.gain!r}; choose one of one, leak")
    elif p.reset == "subtract_adapted":
        raise UserError("LIF: reset 'subtract_adapted' needs an adaptation")
    for field, value in positive.items():
        if value is not None and not (value > 0 if np.isscalar(value) else bool((value > 0).all())):
            raise UserError(f"LIF: {field} must be positive{', in seconds' if field != 'threshold' else ''}")
    if p.refractory < 0:
        raise UserError("LIF: refractory must be 0 or more steps")
    return p


def decay(dt: float, tau):
    """exp(-dt / tau) for a number, an array or a torch tensor; 0 without a time constant (None)."""
    if tau is None:
        return np.zeros(())
    return (-dt / tau).exp() if hasattr(tau, "requires_grad") else np.exp(-dt / np.asarray(tau, dtype=float))


def alpha(p: LIF):
    """Decay of the synaptic current over one step, exp(-dt / tau_syn)."""
    return decay(p.dt, p.tau_syn)


def beta(p: LIF):
    """Decay of the membrane potential over one step, exp(-dt / tau_mem)."""
    return decay(p.dt, p.tau_mem)


def gain(p: LIF):
    """Factor of the current in the membrane update (see `LIF.gain`).

    For `exact`, the membrane's response over one step to a current that starts at 1 and decays:
    tau_syn (alpha - beta) / (tau_syn - tau_mem), and its limit (dt / tau) exp(-dt / tau) for equal time constants.

    Raises:
        UserError: `exact` without a synaptic time constant, or with one that learns.
    """
    if p.gain == "one":
        return np.ones(np.shape(p.tau_mem))
    if p.gain == "leak":
        return 1.0 - beta(p)
    if p.tau_syn is None or any(hasattr(tau, "requires_grad") for tau in (p.tau_mem, p.tau_syn)):
        raise UserError("LIF: gain 'exact' needs two fixed time constants, tau_mem and tau_syn")
    mem, syn = np.broadcast_arrays(np.asarray(p.tau_mem, dtype=float), np.asarray(p.tau_syn, dtype=float))
    same = np.isclose(mem, syn, rtol=1e-9)
    gap = np.where(same, 1.0, syn - mem)
    return np.where(same, p.dt / mem * np.exp(-p.dt / mem), syn * (np.exp(-p.dt / syn) - np.exp(-p.dt / mem)) / gap)


def rho(p: LIF):
    """Decay of the adaptation over one step, exp(-dt / tau); 0 without adaptation."""
    return decay(p.dt, None if p.adaptation is None else p.adaptation.tau)


def jump(p: LIF):
    """What a spike adds to the adaptation (see `Adaptation.gain`)."""
    return 1.0 - rho(p) if p.adaptation is not None and p.adaptation.gain == "leak" else np.ones(())


class State(NamedTuple):
    """State of a layer, all `(..., n)`: potential `u`, current `i`, spikes `s`, refractory steps left `r`, adaptation `a`."""

    u: np.ndarray
    i: np.ndarray
    s: np.ndarray
    r: np.ndarray
    a: np.ndarray


def zero_state(shape: tuple[int, ...]) -> State:
    """A silent layer."""
    return State(*(np.zeros(shape) for _ in range(5)))


def lif_step(before: State, drive: np.ndarray, p: LIF, v: np.ndarray | None = None) -> State:
    """One step of a LIF layer: the state after it.

    A layer whose `current` is `old` shows the states from the zero state on, one with `new` those from the first step on.

    Args:
        before: the layer before the step.
        drive: weighted input spikes of this step, W S_in[n], `(..., n)`.
        p: parameters.
        v: recurrent weights `(n, n)`, row = sender, or None.
    """
    s = before.s
    strength = 0.0 if p.adaptation is None else p.adaptation.strength
    i = alpha(p) * before.i + drive + (0.0 if v is None else s @ v)
    a = rho(p) * before.a + jump(p) * s
    adapted = p.threshold + strength * a
    leaked, driven = beta(p) * before.u, gain(p) * (before.i if p.current == "old" else i)
    u = {
        "subtract": leaked + driven - p.threshold * s,
        "multiply": (leaked + driven) * (1 - s),
        "zero": leaked * (1 - s) + driven,
        "none": leaked + driven,
        "subtract_adapted": leaked + driven - adapted * s,
    }[p.reset]
    r = np.where(s > 0, max(p.refractory - 1, 0), np.maximum(before.r - 1, 0))
    u = np.where((r > 0) & (p.refractory_kind == "clamp"), 0.0, u)
    spikes = (u > adapted) & ~((r > 0) & (p.refractory_kind == "mute"))
    return State(u, i, spikes.astype(float), r, a)
