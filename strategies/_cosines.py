"""Cosine distances of updates, or of the models that they lead to, with all their digits, however alike or unlike in length."""

import numpy as np
from numpy.typing import NDArray

from oleander.learning.parameters import FloatArray
from strategies._sums import by_columns, dot, squared_distances, sum_for_each

FAR = 1e3
"""Where one row is so many times as long as another, their directions are compared, since the difference hardly shows the other."""


def lengths_of(rows: FloatArray, start: FloatArray | None = None) -> NDArray[np.float64]:
    """‖start + row‖₂ of each row: (n, d) → (n,)."""

    def square(delta: NDArray[np.float64], block: slice) -> float:
        moved = delta if start is None else start[block] + delta
        return dot(moved, moved)

    return np.asarray(np.sqrt(sum_for_each(rows, square)))


def cosine_distances(rows: FloatArray, start: FloatArray | None = None) -> NDArray[np.float64]:
    """1 − cos of each pair of start + row, 1 with one that is 0: (n, d) → (n, n), 0 on the diagonal.

    It is (‖x − y‖² − (‖x‖ − ‖y‖)²) / (2 ‖x‖ ‖y‖), and a common start falls out of x − y: models are so alike that a cosine loses
    most digits when it is subtracted from 1. Of rows whose lengths are FAR apart this would lose them in turn, and a row long enough
    would be alike to all; there it is ‖x/‖x‖ − y/‖y‖‖² / 2.
    """
    lengths = lengths_of(rows, start)  # (n,)
    both = np.outer(lengths, lengths)
    apart = squared_distances(rows) - (lengths[:, None] - lengths) ** 2
    distances = np.divide(apart, 2 * both, out=np.ones_like(both), where=both > 0)
    far = (lengths[:, None] > FAR * lengths) & (both > 0)  # (n, n): the first is the longer one
    if far.any():
        distances[far] = _of_directions(rows, start, lengths, far)[far]
        distances.T[far] = distances[far]
    np.fill_diagonal(distances, 0)
    return np.clip(distances, 0, 2)


def _of_directions(
    rows: FloatArray, start: FloatArray | None, lengths: NDArray[np.float64], pairs: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """‖x/‖x‖ − y/‖y‖‖² / 2 of these pairs (n, n), in their places; 0 elsewhere."""

    def part(block: slice) -> NDArray[np.float64]:
        moved = rows[:, block].astype(np.float64) + (0 if start is None else start[block])
        units = moved / np.where(lengths > 0, lengths, 1)[:, None]  # (n, ≤ width)
        found = np.zeros(pairs.shape)
        for i in np.flatnonzero(pairs.any(axis=1)):
            apart = units[pairs[i]] - units[i]
            found[i, pairs[i]] = np.einsum("ij,ij->i", apart, apart) / 2
        return found

    return np.sum([np.zeros(pairs.shape), *by_columns(rows.shape[1], part)], axis=0)
