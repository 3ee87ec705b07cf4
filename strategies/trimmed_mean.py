"""Coordinate-wise trimmed mean: in each coordinate the mean of the values that are neither among the largest nor the smallest.

Yin, Chen, Ramchandran, Bartlett 2018, "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates" (ICML;
arXiv 1803.01498), option II. Theirs drops a share β of the values at each end, ours a number, f unless told otherwise. Statistics
are put through the same rule, coordinate by coordinate.
"""

import numpy as np
from numpy.typing import NDArray

from oleander.learning.parameters import FloatArray
from oleander.learning.updates import Aggregate, Cohort
from oleander.settings.ranges import Count
from strategies import RuleError
from strategies._sums import by_columns

WIDTH = 1 << 13
"""Columns that are sorted at a time."""


def trimmed_mean(cohort: Cohort, *, assumed_malicious: int, trimmed_mean_trim: Count | None = None) -> Aggregate:
    """In each coordinate, mean of the values without the f largest and the f smallest (Yin et al. 2018).

    A client's influence is its part of what is left in the weights' coordinates; among equal values the lowest ids stay.

    Args:
        cohort: n updates.
        assumed_malicious: f.
        trimmed_mean_trim: How many values are dropped at each end (below n / 2; default: f).

    Raises:
        RuleError: n <= 2 · trim.
    """
    n, trim = len(cohort), assumed_malicious if trimmed_mean_trim is None else trimmed_mean_trim
    if n <= 2 * trim:
        said = f"n = {n} and {'f' if trimmed_mean_trim is None else 'trim'} = {trim}"
        raise RuleError(f"trimmed_mean drops trim values at each end and needs n > 2 trim clients, but {said}")
    delta, left = _columnwise(cohort.deltas, trim)
    statistics, _ = _columnwise(cohort.statistics, trim)
    return Aggregate(delta, statistics, left / left.sum())


def _columnwise(rows: FloatArray, trim: int) -> tuple[FloatArray, NDArray[np.float64]]:
    """(n, d) → the trimmed means (d,), and in how many coordinates each row's value is left (n,)."""
    n, d = rows.shape
    result = np.empty(d, dtype=np.float32)

    def part(block: slice) -> NDArray[np.int64]:
        values = np.ascontiguousarray(rows[:, block].T)  # (≤ WIDTH, n)
        kept = np.sort(values, axis=1)[:, trim : n - trim]  # (≤ WIDTH, n − 2 trim)
        result[block] = kept.mean(axis=1, dtype=np.float64) + 0.0  # never -0.0
        left = (values >= kept[:, :1]) & (values <= kept[:, -1:])  # (≤ WIDTH, n)
        tied = np.flatnonzero(left.sum(axis=1) > n - 2 * trim)  # columns of which some of equal values are dropped
        left[tied] = _left_of_ties(values[tied], kept[tied])
        return left.sum(axis=0)

    return result, np.sum([np.zeros(n), *by_columns(d, part, WIDTH)], axis=0)


def _left_of_ties(values: FloatArray, kept: FloatArray) -> NDArray[np.bool_]:
    """Which values are left where kept ones have equals that are not; the lowest ids stay: (k, n), (k, n − 2 trim) → (k, n)."""
    left = (values > kept[:, :1]) & (values < kept[:, -1:])
    for bound in (kept[:, :1], kept[:, -1:]):
        equal = values == bound
        left |= equal & (equal.cumsum(axis=1) <= (kept == bound).sum(axis=1, keepdims=True))
    return left
