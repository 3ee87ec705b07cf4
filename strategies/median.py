"""Coordinate-wise median: in each coordinate the median of the clients' values.

Yin, Chen, Ramchandran, Bartlett 2018, "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates" (ICML;
arXiv 1803.01498), option I. Statistics are put through the same rule, coordinate by coordinate.
"""

import numpy as np
from numpy.typing import NDArray

from oleander.learning.parameters import FloatArray
from oleander.learning.updates import Aggregate, Cohort
from strategies._sums import by_columns

WIDTH = 1 << 13
"""Columns that are sorted at a time."""


def median(cohort: Cohort) -> Aggregate:
    """Median of the clients' values in each coordinate, for an even n the mean of the middle two (Yin et al. 2018).

    A client's influence is the share of the weights' coordinates in which its value is the median (a half where it is
    one of the middle two); among equal values it goes to the lowest client id.

    Args:
        cohort: n updates.
    """
    delta, taken = _columnwise(cohort.deltas)
    statistics, _ = _columnwise(cohort.statistics)
    return Aggregate(delta, statistics, taken / taken.sum())


def _columnwise(rows: FloatArray) -> tuple[FloatArray, NDArray[np.float64]]:
    """(n, d) → the medians (d,) and how often each row was one of the middle two (n,)."""
    n, d = rows.shape
    middle = ((n - 1) // 2, n // 2)
    result = np.empty(d, dtype=np.float32)

    def part(block: slice) -> NDArray[np.float64]:
        values = np.ascontiguousarray(rows[:, block].T)  # (≤ WIDTH, n)
        ordered = np.sort(values, axis=1)
        result[block] = (ordered[:, middle[0]].astype(np.float64) + ordered[:, middle[1]]) / 2 + 0.0  # never -0.0
        return np.sum([_holders(values, ordered[:, k]) for k in middle], axis=0)

    return result, np.sum([np.zeros(n), *by_columns(d, part, WIDTH)], axis=0)


def _holders(values: FloatArray, sought: FloatArray) -> NDArray[np.int64]:
    """How often each client is the first whose value is the one sought: (columns, n), (columns,) → (n,)."""
    return np.bincount((values == sought[:, None]).argmax(axis=1), minlength=values.shape[1])
