"""Recurrent networks of current-based neurons, each with its own decay of membrane and synapse, and a readout that does not spike.

Equation numbers are those of the chapter `pereznieves2021`. The neuron integrates (1 - b) I with b kept out of the gradient. The
synaptic filter is linear and b does not change in time, so that the factor may as well be applied to the weights: that is how the compiled
layers, which know no such factor, compute it.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from snnrepro.errors import UserError
from snnrepro.neurons import LIF, Surrogate
from snnrepro.surrogate import Network, accuracy, classification_loss, lif, max_over_time, readout
from snnrepro.surrogate.layers import Engine, Events

SHAPE = 3.0
"""Shape of the gamma distribution from which time constants are drawn."""

LIMITS = tuple(-0.5e-3 / np.log(decay) for decay in (2 / np.e, 0.995))
"""Shortest and longest time constant, in seconds: the authors keep decays between 2 / e and 0.995 at a time step of 0.5 ms."""

INITIAL = ("homogeneous", "heterogeneous")
TRAINING = ("none", "each", "shared")
FORMS = ("log", "decay")


class Constants(NamedTuple):
    """Time constants of a layer, as they are trained.

    Attributes:
        mem: of the membrane, `(n,)`, or `(1,)` where all neurons share one.
        syn: of the synapse, alike.
        form: what `mem` and `syn` hold. `log`: the logarithm of the time constant in seconds; `decay`: exp(-dt / tau), as in the
            authors' code.
        dt: time step in seconds.
    """

    mem: Tensor
    syn: Tensor
    form: Literal["log", "decay"]
    dt: float

    def taus(self) -> tuple[Tensor, Tensor]:
        """Time constants of membrane and synapse in seconds, each `(n,)` or `(1,)`; differentiable.

        Raises:
            UserError: an unknown form.
        """
        if self.form not in FORMS:
            raise UserError(f"heterogeneity: form is {self.form!r}; choose one of {', '.join(FORMS)}")
        if self.form == "log":
            return self.mem.exp(), self.syn.exp()
        return -self.dt / self.mem.log(), -self.dt / self.syn.log()

    def decays(self) -> tuple[Tensor, Tensor]:
        """b and a, the decays of membrane and synapse over one step, alike.

        Raises:
            UserError: an unknown form.
        """
        if self.form not in FORMS:
            raise UserError(f"heterogeneity: form is {self.form!r}; choose one of {', '.join(FORMS)}")
        if self.form == "decay":
            return self.mem, self.syn
        return torch.exp(-self.dt / self.mem.exp()), torch.exp(-self.dt / self.syn.exp())  # Eq. (1)


def draw(mean: float, size: int, initial: str, rng: np.random.Generator) -> np.ndarray:
    """Initial time constants `(size,)` in the unit of `mean`.

    Args:
        mean: their expectation.
        size: neurons.
        initial: `homogeneous`, all at the mean; `heterogeneous`, a gamma distribution of shape 3.
        rng: drawn from in either case, so that what is drawn afterwards is the same.

    Raises:
        UserError: another word for `initial`, a mean that is not positive, or no neurons.
    """
    if initial not in INITIAL:
        raise UserError(f"heterogeneity: initial is {initial!r}; choose one of {', '.join(INITIAL)}")
    if not 0 < mean < np.inf:
        raise UserError(f"heterogeneity: the mean time constant is {mean}; give a positive number")
    if not isinstance(size, int | np.integer) or size < 1:
        raise UserError(f"heterogeneity: {size} time constants; give a whole number of 1 or more")
    drawn = rng.gamma(SHAPE, mean / SHAPE, size)  # Eq. (8)
    return drawn if initial == "heterogeneous" else np.full(size, mean)


def constants(
    tau_mem: np.ndarray,
    tau_syn: np.ndarray,
    dt: float,
    training: str = "each",
    form: Literal["log", "decay"] = "log",
    limits: tuple[float, float] = LIMITS,
    dtype: torch.dtype = torch.float32,
) -> Constants:
    """`Constants` that start from given ones, moved into the limits.

    Args:
        tau_mem: of the membrane, in seconds `(n,)`.
        tau_syn: of the synapse, alike.
        dt: time step.
        training: `none`; `each`, every neuron learns its own; `shared`, one for all, which starts at their mean.
        form: what is learned, see `Constants`.
        limits: shortest and longest time constant, in seconds.
        dtype: of the tensors.

    Raises:
        UserError: an unknown word, limits that are not two positive times, the shorter first, or time constants, a step or a dtype that
            make no sense.
    """
    if training not in TRAINING:
        raise UserError(f"heterogeneity: training is {training!r}; choose one of {', '.join(TRAINING)}")
    if form not in FORMS:
        raise UserError(f"heterogeneity: form is {form!r}; choose one of {', '.join(FORMS)}")
    if len(limits) != 2 or not 0 < limits[0] < limits[1]:
        raise UserError(f"heterogeneity: limits are {limits}; give two positive times in seconds, the shorter first")
    if not 0 < dt < np.inf:
        raise UserError(f"heterogeneity: dt is {dt}; give a positive time in seconds")
    if not dtype.is_floating_point:
        raise UserError(f"heterogeneity: dtype is {dtype}; give a floating-point one")
    for tau in (tau_mem, tau_syn):
        if np.ndim(tau) > 1 or not np.size(tau) or not (np.asarray(tau) > 0).all():
            raise UserError(
                f"heterogeneity: time constants of shape {np.shape(tau)}; give (n,), all positive, in seconds"
            )
    if training != "shared" and 1 < np.size(tau_mem) != np.size(tau_syn) > 1:
        raise UserError(
            f"heterogeneity: {np.size(tau_mem)} time constants of membranes, {np.size(tau_syn)} of synapses; give as many"
        )
    made = []
    for tau in (tau_mem, tau_syn):
        tau = np.array([np.mean(tau)]) if training == "shared" else np.asarray(tau, dtype=float)
        value = np.log(tau) if form == "log" else np.exp(-dt / tau)
        made.append(torch.tensor(value, dtype=dtype, requires_grad=training != "none"))
    kept = Constants(*made, form, dt)
    clamp(kept, limits)
    return kept


def clamp(c: Constants, limits: tuple[float, float] = LIMITS) -> None:
    """Move time constants that have left the limits to the nearer limit, in place.

    Raises:
        UserError: an unknown form, or limits that are not two positive times, the shorter first.
    """
    if c.form not in FORMS:
        raise UserError(f"heterogeneity: form is {c.form!r}; choose one of {', '.join(FORMS)}")
    if len(limits) != 2 or not 0 < limits[0] < limits[1]:
        raise UserError(f"heterogeneity: limits are {limits}; give two positive times in seconds, the shorter first")
    low, high = np.log(limits) if c.form == "log" else np.exp(-c.dt / np.asarray(limits))
    for value in (c.mem, c.syn):
        value.data.clamp_(low, high)


def neurons(c: Constants, threshold: float = 1.0, slope: float = 100.0) -> LIF:
    """The neurons of the paper: subtractive reset without gradient, SuperSpike, membrane one step behind the synapse.

    Raises:
        UserError: a slope that is negative or not finite.
    """
    if not 0 <= slope < np.inf:
        raise UserError(f"heterogeneity: the slope is {slope}; give 0 or more")
    tau_mem, tau_syn = c.taus()
    return LIF(
        tau_mem, tau_syn, c.dt, threshold, reset="subtract", current="old", surrogate=Surrogate("fast_sigmoid", slope)
    )


def hidden(
    x: Tensor | Events,
    w: Tensor,
    v: Tensor | None,
    c: Constants,
    *,
    threshold: float = 1.0,
    slope: float = 100.0,
    engine: Engine = "auto",
    states: bool = False,
):
    """The spiking layer: `Trace` of shape `(time, batch, n)`; its current is (1 - b) I.

    Args:
        x: input spikes `(time, batch, units)`.
        w: input weights `(units, n)`.
        v: recurrent weights `(n, n)`, row = sender, or None.
        c: time constants.
        threshold: of all neurons.
        slope: of the surrogate derivative.
        engine: as in `surrogate.lif`.
        states: whether potential and current are kept.

    Raises:
        UserError: shapes or dtypes that do not fit, or as `surrogate.lif`.
    """
    if w.ndim != 2:
        raise UserError(f"heterogeneity: weights have shape {tuple(w.shape)}; give (units, n)")
    if v is not None and v.shape != (w.shape[1], w.shape[1]):
        raise UserError(
            f"heterogeneity: recurrent weights have shape {tuple(v.shape)}; give ({w.shape[1]}, {w.shape[1]})"
        )
    for tau in (c.mem, c.syn):
        if tuple(tau.shape) not in ((), (1,), (w.shape[1],)):
            raise UserError(
                f"heterogeneity: time constants have shape {tuple(tau.shape)}, weights {tuple(w.shape)}; give one for each neuron, or one"
            )
    if not isinstance(x, Events) and x.dtype != torch.promote_types(w.dtype, c.mem.dtype):
        raise UserError(
            f"heterogeneity: input is {x.dtype}, weights {w.dtype}, time constants {c.mem.dtype}; give all alike"
        )
    gain = (1 - c.decays()[0]).detach()  # Eq. (3)
    kept = None if v is None else v * gain
    return lif(x, w * gain, neurons(c, threshold, slope), kept, engine=engine, states=states)  # Eqs. (2), (4), (5)


def scores(
    x: Tensor | Events,
    network: Network,
    c: Constants,
    last: LIF,
    *,
    slope: float = 100.0,
    scale: float = 1.0,
    engine: Engine = "auto",
) -> tuple[Tensor, Tensor]:
    """Class scores `(batch, classes)`, scale times the largest potential of the readout, and the hidden spikes.

    Args:
        x: input spikes `(time, batch, units)`.
        network: weights, of one hidden layer with or without recurrence.
        c: time constants of the hidden layer.
        last: time constants of the readout, with gain `leak`.
        slope: of the surrogate derivative.
        scale: of the scores.
        engine: as in `surrogate.lif`.

    Raises:
        UserError: a network of another depth, a readout with another step or gain, a scale that is not positive, or as `hidden`.
    """
    if len(network.hidden) != 1 or len(network.recurrent) > 1:
        raise UserError(f"heterogeneity: the network has {len(network.hidden)} hidden layers; give one")
    if network.output.dtype != torch.promote_types(network.hidden[0].dtype, c.mem.dtype):
        raise UserError(
            f"heterogeneity: weights of the readout are {network.output.dtype}, others {network.hidden[0].dtype}; give the same"
        )
    if last.dt != c.dt or last.gain != "leak":
        raise UserError(
            f"heterogeneity: the readout has dt {last.dt} and gain {last.gain!r}; give {c.dt}, as the hidden layer has, and 'leak'"
        )
    if not 0 < scale < np.inf:
        raise UserError(f"heterogeneity: the scale of the scores is {scale}; give a positive number")
    v = network.recurrent[0] if network.recurrent else None
    spikes = hidden(x, network.hidden[0], v, c, slope=slope, engine=engine).spikes
    return scale * max_over_time(readout(spikes, network.output, last, engine=engine)), spikes  # Eqs. (6), (7)


def fit(
    network: Network,
    batches: Iterable[tuple[Tensor | Events, Tensor]],
    c: Constants,
    last: LIF,
    optimiser: torch.optim.Optimizer,
    limits: tuple[float, float] = LIMITS,
    **how,
) -> list[float]:
    """One update a batch, in place; the loss before each. `how` goes to `scores`.

    Raises:
        UserError: no batches, labels that do not fit, or as `scores`.
    """
    losses = []
    for x, label in batches:
        if label.dtype != torch.int64 or label.shape != (x.shape[1],):
            raise UserError(f"fit: labels are {label.dtype} of shape {tuple(label.shape)}; give int64, ({x.shape[1]},)")
        if not 0 <= int(label.min()) <= int(label.max()) < network.output.shape[1]:
            raise UserError(
                f"fit: labels from {int(label.min())} to {int(label.max())}; give classes 0 to {network.output.shape[1] - 1}"
            )
        loss = classification_loss(scores(x, network, c, last, **how)[0], label)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        clamp(c, limits)
        losses.append(loss.item())
    if not losses:
        raise UserError("fit: there are no batches; give one or more")
    return losses


def judge(
    network: Network, batches: Iterable[tuple[Tensor | Events, Tensor]], c: Constants, last: LIF, **how
) -> tuple[float, float]:
    """Accuracy, and hidden spikes a sample, over all samples of the batches.

    Raises:
        UserError: no batches, labels that do not fit, or as `scores`.
    """
    right = spikes = samples = 0.0
    with torch.no_grad():
        for x, label in batches:
            if label.dtype != torch.int64 or label.shape != (x.shape[1],):
                raise UserError(
                    f"judge: labels are {label.dtype} of shape {tuple(label.shape)}; give int64, ({x.shape[1]},)"
                )
            if not 0 <= int(label.min()) <= int(label.max()) < network.output.shape[1]:
                raise UserError(
                    f"judge: labels from {int(label.min())} to {int(label.max())}; give classes 0 to {network.output.shape[1] - 1}"
                )
            score, s = scores(x, network, c, last, **how)
            right += accuracy(score, label) * len(label)
            spikes += float(s.sum())
            samples += len(label)
    if not samples:
        raise UserError("judge: there are no samples; give one batch or more")
    return right / samples, spikes / samples
