"""Mixtures of a cohort's rows, which filters make: the bits of sums in turn, at the speed of a matrix product.

A mixture is Σ share_i · update_i, client after client in float64, and rounded to float32 once: so it is the same on every machine.
A BLAS adds up in an order of its own, but no order is off by more than is known. Where all numbers within that bound of its product
round to one float32, the sum in turn, which is one of them, does too; the few others are summed in turn.
"""

import numpy as np
from numpy.typing import NDArray

from oleander.learning.parameters import FloatArray
from oleander.learning.updates import Cohort
from strategies._sums import by_columns, one_blas_thread, weighted_row

FEW = 8
"""Rows in a mixture up to which sums in turn are as fast."""
BLOCK_BYTES = 1 << 20
"""Float64 bytes of all rows' part in one block of the product, of which a few more arrays of that size are made."""


def mixture(cohort: Cohort, shares: NDArray[np.float64]) -> Cohort:
    """The cohort of m rows that hold such shares (m, n) of today's n, weights and statistics alike."""
    return cohort.mixed(shares, _mixed(cohort.deltas, shares), _mixed(cohort.statistics, shares))


def _mixed(rows: FloatArray, shares: NDArray[np.float64]) -> FloatArray:
    """(n, d), (m, n) → (m, d)"""
    means = np.empty((len(shares), rows.shape[1]), np.float32)
    if np.count_nonzero(shares) <= FEW * len(shares):
        for mean, row in zip(means, shares, strict=True):
            weighted_row(rows, row, mean)
        return means

    def part(block: slice) -> None:
        _product(rows[:, block], shares, means[:, block])

    with one_blas_thread():
        by_columns(rows.shape[1], part, max(1, BLOCK_BYTES // (8 * len(rows))))
    return means


def _product(rows: FloatArray, shares: NDArray[np.float64], into: FloatArray) -> None:
    """Each mixture of a block of columns, rounded as its sum in turn is: (n, k), (m, n) → ``into`` (m, k)."""
    wide = rows.astype(np.float64)
    sums = shares @ wide  # (m, k)
    # both orders are off by at most (n + 2) 2^-53 Σ |share · value|, to first order; here it is twice both
    bounds = np.abs(wide, out=wide).sum(axis=0)  # (k,)
    bounds *= 4 * (len(rows) + 4) * 2.0**-53 * np.abs(shares).max()
    most = np.empty_like(into, order="C")
    with np.errstate(over="ignore"):  # NumPy rounds in a small buffer: no float64 is written
        np.subtract(sums, bounds, out=into, casting="same_kind")
        np.add(sums, bounds, out=most, casting="same_kind")
    mixtures, columns = np.nonzero(into.view(np.int32) != most.view(np.int32))  # 0.0 is not -0.0
    for start in range(0, len(columns), rows.shape[1]):  # all of them at once would be m blocks
        i, j = mixtures[start : start + rows.shape[1]], columns[start : start + rows.shape[1]]
        into[i, j] = np.cumsum(rows[:, j].astype(np.float64) * shares[i].T, axis=0)[-1] + 0.0
