"""Gradients of a recurrent LIF layer, compiled: forward in time with all sensitivities, or one a synapse, and backward in time.

Arrays are (time, batch, unit), float64. alpha, beta, gain, rho, jump, strength: factors of one step, one a neuron (n,); strength is empty
without adaptation. kick is empty where the reset is left out of the gradient. multiply: a spike of the step before clears the potential.
old: the membrane integrates the current of the step before. Equation numbers are those of the chapter `zenkeneftci2021`. All loops are
written out, so that the same lines count products when they are given numbers that count.
"""

from snnrepro.kernels.events import compiled


@compiled
def exact(
    pre, s, slope, kick, coupling, feedback, error, alpha, beta, gain, rho, jump, strength, kappa, multiply, old,
    g_i, g_u, g_a, g_y, z, learning, total,
):  # fmt: skip
    """Add the gradient of each weight to total (q,), going forwards in time with the sensitivity of all states to all weights.

    pre (time, batch, m): what comes in. coupling (n, n): recurrent weights through which sensitivities pass, row = sender. feedback
    (n, k), error (time, batch, k). Weight q goes from sender q // n to neuron q % n. g_i, g_u, g_a (q, n): the influence matrix, g_y
    (q, k) its rows of a leaky readout; g_a and g_y are empty where there is none. z, learning (n,): work space.
    """
    steps, batch, n = s.shape
    outputs = feedback.shape[1]
    for b in range(batch):
        g_i[:] = 0
        g_u[:] = 0
        g_a[:] = 0
        g_y[:] = 0
        for t in range(steps):
            for k in range(n):
                learning[k] = 0
                if g_y.size == 0:
                    for c in range(outputs):
                        learning[k] += feedback[k, c] * error[t, b, c]
            for q in range(g_i.shape[0]):
                j, i = q // n, q % n
                current, potential = g_i[q], g_u[q]
                for k in range(n):
                    if t == 0:
                        z[k] = 0
                    elif strength.size:
                        z[k] = slope[t - 1, b, k] * (potential[k] - strength[k] * g_a[q, k])
                    else:
                        z[k] = slope[t - 1, b, k] * potential[k]
                for turn in range(2):
                    if turn == (0 if old else 1):
                        for k in range(n):
                            if multiply and t > 0:
                                kept = 1 - s[t - 1, b, k]
                                potential[k] = kept * (beta[k] * potential[k] + gain[k] * current[k])
                            else:
                                potential[k] = beta[k] * potential[k] + gain[k] * current[k]
                            if kick.size:
                                potential[k] += kick[t, b, k] * z[k]
                    else:
                        for k in range(n):
                            current[k] = alpha[k] * current[k]  # Eq. (7): the implicit part of H
                        for sender in range(n):
                            for k in range(n):
                                current[k] += coupling[sender, k] * z[sender]  # the explicit part of H
                        current[i] += pre[t, b, j]  # F
                if strength.size:
                    for k in range(n):
                        g_a[q, k] = rho[k] * g_a[q, k] + jump[k] * z[k]
                for k in range(n):
                    if strength.size:
                        z[k] = slope[t, b, k] * (potential[k] - strength[k] * g_a[q, k])
                    else:
                        z[k] = slope[t, b, k] * potential[k]
                if g_y.size:
                    for c in range(outputs):
                        g_y[q, c] = kappa * g_y[q, c]
                        for k in range(n):
                            g_y[q, c] += feedback[k, c] * z[k]
                        total[q] += (1 - kappa) * error[t, b, c] * g_y[q, c]
                else:
                    for k in range(n):
                        total[q] += learning[k] * z[k]  # Eq. (8)


@compiled
def synapses(
    pre, s, slope, kick, own, feedback, error, alpha, beta, gain, rho, jump, strength, kappa, multiply, old,
    e_i, e_u, e_a, filtered, learning, total,
):  # fmt: skip
    """Add the gradient of each weight to total (m, n), going forwards in time with the sensitivity of its own neuron.

    own (n,): weight of each neuron onto itself through which sensitivities pass; empty: none. e_i, e_u, e_a, filtered (m, n): traces; the
    last two are empty without adaptation and without leaky readout. Everything else as in `exact`.
    """
    steps, batch, n = s.shape
    outputs = feedback.shape[1]
    for b in range(batch):
        e_i[:] = 0
        e_u[:] = 0
        e_a[:] = 0
        filtered[:] = 0
        for t in range(steps):
            for k in range(n):
                learning[k] = 0
                for c in range(outputs):
                    learning[k] += feedback[k, c] * error[t, b, c]  # Eq. (11)
            for j in range(pre.shape[2]):
                for k in range(n):
                    z = 0.0
                    if t > 0 and strength.size:
                        z = slope[t - 1, b, k] * (e_u[j, k] - strength[k] * e_a[j, k])
                    elif t > 0 and (own.size or kick.size):
                        z = slope[t - 1, b, k] * e_u[j, k]
                    current = alpha[k] * e_i[j, k] + pre[t, b, j]  # Eq. (9)
                    if own.size:
                        current += own[k] * z
                    used = e_i[j, k] if old else current
                    potential = beta[k] * e_u[j, k] + gain[k] * used
                    if multiply and t > 0:
                        potential = (1 - s[t - 1, b, k]) * potential
                    if kick.size:
                        potential += kick[t, b, k] * z
                    e_i[j, k], e_u[j, k] = current, potential
                    if strength.size:
                        e_a[j, k] = rho[k] * e_a[j, k] + jump[k] * z
                        trace = slope[t, b, k] * (potential - strength[k] * e_a[j, k])
                    else:
                        trace = slope[t, b, k] * potential  # Eq. (10)
                    if filtered.size:
                        filtered[j, k] = kappa * filtered[j, k] + (1 - kappa) * trace
                        trace = filtered[j, k]
                    total[j, k] += learning[k] * trace


@compiled
def lines(pre, slope, feedback, error, alpha, beta, gain, kappa, old, p, q, filtered, learning, total):
    """Add the gradient of each weight to total (m, n), with two traces an input line, p and q (m,), which know nothing of the reset.

    alpha, beta, gain: one number each. filtered (m, n): empty without leaky readout. Everything else as in `synapses`.
    """
    steps, batch, n = slope.shape
    outputs = feedback.shape[1]
    for b in range(batch):
        p[:] = 0
        q[:] = 0
        filtered[:] = 0
        for t in range(steps):
            for k in range(n):
                learning[k] = 0
                for c in range(outputs):
                    learning[k] += feedback[k, c] * error[t, b, c]
                if filtered.size == 0:
                    learning[k] = slope[t, b, k] * learning[k]
            for j in range(pre.shape[2]):
                current = alpha * p[j] + pre[t, b, j]
                used = p[j] if old else current
                q[j] = beta * q[j] + gain * used
                p[j] = current
                for k in range(n):
                    if filtered.size:
                        filtered[j, k] = kappa * filtered[j, k] + (1 - kappa) * slope[t, b, k] * q[j]
                        total[j, k] += learning[k] * filtered[j, k]
                    else:
                        total[j, k] += learning[k] * q[j]


@compiled
def adjoint(
    pre, s, slope, kick, coupling, feedback, error, alpha, beta, gain, rho, jump, strength, kappa, multiply, old,
    d_i, d_u, d_a, d_s, late, total,
):  # fmt: skip
    """Add the gradient of each weight to total (m, n), going backwards in time. d_i, d_u, d_a, d_s (n,), late (k,): work space.

    coupling (n, n) may be empty: no gradient passes through recurrent spikes. Everything else as in `exact`.
    """
    steps, batch, n = s.shape
    outputs = feedback.shape[1]
    for b in range(batch):
        d_i[:] = 0
        d_u[:] = 0
        d_a[:] = 0
        late[:] = 0
        for t in range(steps - 1, -1, -1):
            for c in range(outputs):
                late[c] = kappa * late[c] + (1 - kappa) * error[t, b, c]
            for k in range(n):
                d_s[k] = 0
                for c in range(outputs):
                    d_s[k] += feedback[k, c] * late[c]
                if coupling.size:
                    for i in range(n):
                        d_s[k] += coupling[k, i] * d_i[i]
                if kick.size and t + 1 < steps:
                    d_s[k] += kick[t + 1, b, k] * d_u[k]
                if strength.size:
                    d_s[k] += jump[k] * d_a[k]
            for k in range(n):
                arrived = slope[t, b, k] * d_s[k]
                passed = d_u[k]
                if multiply:
                    passed = (1 - s[t, b, k]) * passed
                if old:
                    d_i[k] = alpha[k] * d_i[k] + gain[k] * passed
                d_u[k] = beta[k] * passed + arrived
                if not old:
                    now = d_u[k]
                    if multiply and t > 0:
                        now = (1 - s[t - 1, b, k]) * now
                    d_i[k] = alpha[k] * d_i[k] + gain[k] * now
                if strength.size:
                    d_a[k] = rho[k] * d_a[k] - strength[k] * arrived
            for j in range(pre.shape[2]):
                for k in range(n):
                    total[j, k] += d_i[k] * pre[t, b, j]
