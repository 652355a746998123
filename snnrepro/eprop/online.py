"""e-prop while the network runs: nothing is kept but the present state, so that memory does not grow with time.

The same rule as `networks.online_gradients`, in plain NumPy, from input that arrives step by step and errors that are known at once.
Equation numbers: chapter `bellec2020`.
"""

import math
from collections.abc import Callable, Iterable

import numpy as np

from snnrepro.eprop.networks import Neurons, Weights, check
from snnrepro.errors import UserError


def stream(
    neurons: Neurons,
    weights: Weights,
    inputs: Iterable[np.ndarray],
    error: Callable[[int, np.ndarray], np.ndarray],
    feedback: np.ndarray | None = None,
) -> tuple[Weights, np.ndarray]:
    """Gradients of the weights by e-prop, and the spikes of each neuron `(batch, n)`.

    Kept are the state of the neurons, two components of the eligibility vector and the filtered trace of each synapse and sample.

    Args:
        neurons: neurons and readout.
        weights: their type is that of all numbers.
        inputs: input spikes of one step after another, `(batch, m)` each.
        error: derivative of the loss with respect to the readout at a step, from the step's number and the readout `(batch, k)`.
        feedback: B, `(n, k)`; None: the output weights.

    Raises:
        UserError: neurons, weights and feedback that do not fit, no step, input of another width or other than spikes, a batch that
            changes, an error of another shape or not finite.
    """
    check(neurons, weights)
    w_in, w_rec, w_out = weights
    dtype, (m, n), k = w_out.dtype, w_in.shape, w_out.shape[1]
    feedback = w_out if feedback is None else feedback
    if feedback.shape != (n, k):
        raise UserError(f"e-prop: feedback has shape {feedback.shape}; give {n, k}")
    if not np.isfinite(feedback).all():
        raise UserError("e-prop: feedback is not finite; use a smaller learning rate")
    w = np.concatenate([w_in, w_rec * (1 - np.eye(n, dtype=dtype))])
    alpha, rho, kappa = (
        dtype.type(math.exp(-1 / tau)) for tau in (neurons.tau, neurons.tau_adaptation, neurons.tau_out)
    )
    theta, beta = dtype.type(neurons.threshold), neurons.beta.astype(dtype)
    gain = 1 - alpha if neurons.scaled else dtype.type(1)
    height = dtype.type(neurons.damping) / theta
    g, g_out, state = np.zeros((m + n, n), dtype), np.zeros_like(w_out), None
    for t, x in enumerate(inputs):
        if x.shape[1:] != (m,) or not len(x) or not np.isin(x, (0, 1)).all():
            raise UserError(f"e-prop: input of step {t} has shape {x.shape}; give (batch, {m}), each 0 or 1")
        if state is None:
            batch = len(x)
            v, a, z, psi, waits, count, z_filtered = np.zeros((7, batch, n), dtype)
            y = np.zeros((batch, k), dtype)
            state = eps_v, eps_a, filtered = np.zeros((3, batch, m + n, n), dtype)
        if len(x) != batch:
            raise UserError(f"e-prop: input of step {t} has {len(x)} samples; give {batch}, as in step 0")
        before = np.concatenate([x, z], 1).astype(dtype)
        v = alpha * v + gain * (before @ w) - theta * z  # Eq. (1)
        a = rho * a + z  # Eq. (2)
        eps_a *= (rho - beta * psi)[:, None]
        eps_a += psi[:, None] * eps_v  # Eq. (7)
        eps_v *= alpha
        eps_v += (gain * before)[:, :, None]  # Eq. (6)
        above, free = v - theta - beta * a, waits <= 0
        z = ((above > 0) & free).astype(dtype)  # Eq. (3)
        psi = free * height * np.maximum(0, 1 - np.abs(above) / theta)  # Eq. (4)
        waits = np.maximum(waits + neurons.refractory * z - 1, 0)
        y = kappa * y + (1 - kappa) * (z @ w_out)  # Eq. (5)
        filtered *= kappa
        filtered += (1 - kappa) * psi[:, None] * (eps_v - beta * eps_a)  # Eq. (8)
        z_filtered = kappa * z_filtered + (1 - kappa) * z
        found = np.asarray(error(t, y.copy()), dtype)  # a copy, since it may be changed in place
        if found.shape != y.shape:
            raise UserError(f"e-prop: the error at step {t} has shape {found.shape}; give {y.shape}")
        if not np.isfinite(found).all():
            raise UserError(f"e-prop: the error at step {t} is not finite; use a smaller learning rate")
        if found.any():
            g += np.einsum("bj,bij->ij", found @ feedback.T, filtered)  # Eq. (9)
            g_out += z_filtered.T @ found
        count += z
    if state is None:
        raise UserError("e-prop: there is no input; give one step or more")
    g[m:] *= 1 - np.eye(n, dtype=dtype)
    return Weights(g[:m], g[m:], g_out), count
