"""Recursive least squares with a symmetric matrix that is brought up to date now and then.

The inverse correlation matrix P changes by one symmetric rank-1 term an update. The last few terms are kept as vectors; when there are
`PENDING` of them they enter P together. This is the same algebra, and reads half of P an update instead of writing all of it.
"""

from typing import NamedTuple

import numpy as np
from scipy.linalg.blas import dsymv, dsyrk

from snnrepro.errors import UserError

PENDING = 16


class RLS(NamedTuple):
    """State of recursive least squares, changed in place.

    Attributes:
        p: inverse correlation matrix `(n, n)`, Fortran order; the lower triangle counts.
        vectors: pending terms `(n, PENDING)`, Fortran order, scaled so that P is less by v v^T for each.
        count: how many of them there are, `(1,)`.
    """

    p: np.ndarray
    vectors: np.ndarray
    count: np.ndarray


def start(n: int, initial: float) -> RLS:
    """P = initial * identity.

    Raises:
        UserError: an initial value that is not positive and finite, or no whole number of neurons.
    """
    if not isinstance(n, int | np.integer) or n < 1:
        raise UserError(f"rls: {n} neurons; give a whole number of 1 or more")
    if not 0 < initial < np.inf:
        raise UserError(f"rls: P starts at {initial}; give a positive number")
    p = np.zeros((n, n), order="F")
    np.fill_diagonal(p, initial)
    return RLS(p, np.zeros((n, PENDING), order="F"), np.zeros(1, np.int64))


def update(state: RLS, decoder: np.ndarray, rate: np.ndarray, error: np.ndarray) -> float:
    """One update of the decoder and of P, in place; returns 1 + r^T P r.

    As in the authors' code, the decoder moves by the P before the update.

    Args:
        state: P.
        decoder: `(k, n)`.
        rate: filtered spikes r `(n,)`.
        error: decoded output less teacher `(k,)`.

    Raises:
        UserError: arrays that do not fit together, an error that is not finite, or a P that is not positive any more.
    """
    if decoder.ndim != 2 or rate.shape != decoder.shape[1:] or error.shape != decoder.shape[:1]:
        raise UserError(
            f"rls: decoder {decoder.shape}, rate {rate.shape}, error {error.shape}; give (k, n), (n,) and (k,)"
        )
    if decoder.dtype != np.float64:
        raise UserError(f"rls: the decoder is {decoder.dtype}, and changes in place; give float64")
    if not np.isfinite(error).all():
        raise UserError("rls: the error is not finite; check the teacher")
    if state.p.shape != 2 * rate.shape or state.vectors.shape != (len(rate), PENDING):
        raise UserError(
            f"rls: P {state.p.shape}, vectors {state.vectors.shape}; give ({len(rate)}, {len(rate)}) and ({len(rate)}, {PENDING})"
        )
    if state.p.dtype != np.float64 or not state.p.flags.f_contiguous:
        raise UserError("rls: P changes in place; give float64 in Fortran order, as start does")
    if not 0 <= state.count[0] < PENDING:
        raise UserError(f"rls: {state.count[0]} terms are pending; give 0 to {PENDING - 1}")
    m = int(state.count[0])
    c = dsymv(1.0, state.p, rate, lower=1)
    if m:
        pending = state.vectors[:, :m]
        c -= pending @ (pending.T @ rate)
    scale = 1.0 + float(rate @ c)
    if not 1.0 - 1e-9 <= scale < np.inf:
        raise UserError(
            f"rls: 1 + r'Pr is {scale:g}; P is not positive any more. Use a smaller initial P or fewer updates"
        )
    decoder -= np.outer(error, c)  # Eq. (6)
    state.vectors[:, m] = c / np.sqrt(scale)  # Eq. (7)
    state.count[0] = m + 1
    if m + 1 == PENDING:
        flush(state)
    return scale


def flush(state: RLS) -> None:
    """Let the pending terms enter P.

    Raises:
        UserError: a P that is no float64 in Fortran order, or vectors that do not fit.
    """
    if state.p.dtype != np.float64 or not state.p.flags.f_contiguous:
        raise UserError("rls: P changes in place; give float64 in Fortran order, as start does")
    if state.p.shape != 2 * (len(state.p),) or state.vectors.shape != (len(state.p), PENDING):
        raise UserError(f"rls: P {state.p.shape}, vectors {state.vectors.shape}; give (n, n) and (n, {PENDING})")
    m = int(state.count[0])
    if m:
        dsyrk(-1.0, state.vectors[:, :m], 1.0, state.p, lower=1, overwrite_c=1)
        state.count[0] = 0


def matrix(state: RLS) -> np.ndarray:
    """P as a full matrix, pending terms included.

    Raises:
        UserError: vectors that do not fit P.
    """
    if state.p.shape != 2 * (len(state.p),) or state.vectors.shape != (len(state.p), PENDING):
        raise UserError(f"rls: P {state.p.shape}, vectors {state.vectors.shape}; give (n, n) and (n, {PENDING})")
    low = np.tril(state.p)
    full = low + np.tril(low, -1).T
    pending = state.vectors[:, : int(state.count[0])]
    return full - pending @ pending.T
