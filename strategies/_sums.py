"""Sums that several rules share, in float64 whatever the updates' own precision."""

import numpy as np
from numpy.typing import NDArray

from learning.parameters import FloatArray
from learning.updates import Aggregate, Cohort

BLOCK = 1 << 18
"""Columns that are widened to float64 at a time: 2 MB a client."""


def weighted(cohort: Cohort, influence: NDArray[np.float64]) -> Aggregate:
    """Σ influence_i · update_i, weights and statistics alike; clients with no influence are not read."""
    return Aggregate(
        delta=_weighted_rows(cohort.deltas, influence),
        statistics=_weighted_rows(cohort.statistics, influence),
        influence=influence,
    )


def squared_norms(rows: FloatArray) -> NDArray[np.float64]:
    """‖row‖₂² of each row: (n, d) → (n,)."""
    total = np.zeros(len(rows))
    for start in range(0, rows.shape[1], BLOCK):
        block = rows[:, start : start + BLOCK].astype(np.float64)  # (n, ≤ BLOCK)
        total += np.einsum("ij,ij->i", block, block)
    return total


def squared_distances(rows: FloatArray) -> NDArray[np.float64]:
    """‖row_i − row_j‖₂² of each pair: (n, d) → (n, n), 0 on the diagonal.

    Differences are taken before they are squared: the shortcut through a Gram matrix loses the digits of updates that
    are close together and far from 0.
    """
    n = len(rows)
    total = np.zeros((n, n))
    for start in range(0, rows.shape[1], BLOCK):
        block = rows[:, start : start + BLOCK].astype(np.float64)  # (n, ≤ BLOCK)
        for i in range(n - 1):
            apart = block[i + 1 :] - block[i]  # (n - i - 1, ≤ BLOCK)
            total[i, i + 1 :] += np.einsum("ij,ij->i", apart, apart)
    return total + total.T


def _weighted_rows(rows: FloatArray, influence: NDArray[np.float64]) -> FloatArray:
    total = np.zeros(rows.shape[1])
    for row, weight in zip(rows, influence, strict=True):
        if weight:
            total += weight * row.astype(np.float64)  # client after client: the same sum for any number of threads
    return total.astype(np.float32)
