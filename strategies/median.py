"""Coordinate-wise median: in each coordinate the median of the clients' values.

Yin, Chen, Ramchandran, Bartlett 2018, "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates" (ICML;
arXiv 1803.01498), option I. Statistics are put through the same rule, coordinate by coordinate.
"""

import numpy as np
from numpy.typing import NDArray

from learning.parameters import FloatArray
from learning.updates import Aggregate, Cohort

BLOCK = 1 << 16
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
    result, taken = np.empty(d, dtype=np.float32), np.zeros(n)
    for start in range(0, d, BLOCK):
        block = rows[:, start : start + BLOCK]
        order = np.argsort(block, axis=0, kind="stable")  # (n, ≤ BLOCK)
        values = [np.take_along_axis(block, order[k : k + 1], axis=0)[0].astype(np.float64) for k in middle]
        result[start : start + BLOCK] = (values[0] + values[1]) / 2
        for k in middle:
            taken += np.bincount(order[k], minlength=n)
    return result, taken
