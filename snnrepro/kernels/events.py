"""Input spikes as sorted lists, so that sparse input costs what it spikes."""

import numpy as np
from numba import njit

from snnrepro.kernels.parallel import in_parallel

compiled = njit(cache=True, error_model="numpy", nogil=True)


@compiled
def _sort(cells, units, starts, sorted_units):
    """Counting sort by cell, stable: the events of cell c end up at starts[c] .. starts[c + 1]."""
    for k in range(cells.size):
        starts[cells[k] + 1] += 1
    for c in range(starts.size - 1):
        starts[c + 1] += starts[c]
    place = starts[:-1].copy()
    for k in range(cells.size):
        sorted_units[place[cells[k]]] = units[k]
        place[cells[k]] += 1


def sort(cells: np.ndarray, units: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Events in order of their cell: `starts` int64 `(size + 1,)` and `units` int32, those of cell c at starts[c] .. starts[c + 1].

    Args:
        cells: int64 `(events,)`, each in [0, size).
        units: int64 `(events,)`.
        size: number of cells.
    """
    starts, out = np.zeros(size + 1, np.int64), np.empty(len(units), np.int32)
    _sort(cells, units, starts, out)
    return starts, out


@compiled
def _count(x):
    """Number of entries of x (any,) that are not 0."""
    total = 0
    for k in range(x.size):
        total += x[k] != 0
    return total


@compiled
def list_nonzero(row, units, place, pairs):
    """Write the indices of the entries of a row that are not 0 to units[place:], which has one place to spare; the place after them.

    Without branches: a place is written again until an entry counts. float32 is searched two at a time; `pairs` is work space.
    """
    if row.itemsize == 4 and row.size % 2 == 0:
        both, found = row.view(np.int64), 0
        for k in range(both.size):
            pairs[found] = k
            found += both[k] != 0
        for k in range(found):
            for unit in (2 * pairs[k], 2 * pairs[k] + 1):
                units[place] = unit
                place += row[unit] != 0
    else:
        for k in range(row.size):
            units[place] = k
            place += row[k] != 0
    return place


@compiled
def _find(x, ends, units, values):
    """List the entries of x (cells, units) that are not 0; returns whether all of them are 1. `units` has one place to spare."""
    place, binary, pairs = 0, True, np.empty(x.shape[1] // 2 + 1, np.int32)
    for c in range(x.shape[0]):
        row, first = x[c], place
        place = list_nonzero(row, units, place, pairs)
        for k in range(first, place):
            values[k] = row[units[k]]
            binary &= values[k] == 1
        ends[c] = place
    return binary


@compiled
def _finite(bits, exponent):
    """Whether no number has an exponent of ones, which means infinite or NaN; `bits` are the numbers as integers."""
    bad = 0
    for k in range(bits.size):
        bad += (bits[k] & exponent) == exponent
    return bad == 0


def finite(x: np.ndarray) -> bool:
    """Whether all entries of a contiguous float32 or float64 array are finite."""
    integer, exponent = (np.int32, 0x7F800000) if x.itemsize == 4 else (np.int64, 0x7FF0000000000000)
    return bool(_finite(x.reshape(-1).view(integer), integer(exponent)))


def find(x: np.ndarray, most: float, workers: int) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """The entries of x `(cells, units)` that are not 0: `starts` and `units` as `sort` gives them, and their values.

    The values are an empty array where all are 1. None where more than `most` of all entries are not 0.
    """
    counts = np.zeros(workers, np.int64)

    def count(k: int, low: int, high: int) -> None:
        counts[k] = _count(x[low:high].reshape(-1))

    in_parallel(count, workers, len(x))
    if counts.sum() > most * x.size:
        return None
    before = np.concatenate([[0], np.cumsum(counts)])
    starts, parts = np.zeros(len(x) + 1, np.int64), [None] * workers

    def listed(k: int, low: int, high: int) -> None:
        units, values = np.empty(counts[k] + 1, np.int32), np.empty(counts[k], x.dtype)
        binary = _find(x[low:high], starts[low + 1 : high + 1], units, values)
        starts[low + 1 : high + 1] += before[k]
        parts[k] = units[:-1], values, binary

    in_parallel(listed, workers, len(x))
    units, values, binary = zip(*parts, strict=True)
    return starts, np.concatenate(units), values[0][:0] if all(binary) else np.concatenate(values)
