"""Cosine distances of updates, or of the models that they lead to, with all their digits where rows are nearly alike."""

import numpy as np
from numpy.typing import NDArray

from oleander.learning.parameters import FloatArray
from strategies._sums import dot, squared_distances, sum_for_each


def lengths_of(rows: FloatArray, start: FloatArray | None = None) -> NDArray[np.float64]:
    """‖start + row‖₂ of each row: (n, d) → (n,)."""

    def square(delta: NDArray[np.float64], block: slice) -> float:
        moved = delta if start is None else start[block] + delta
        return dot(moved, moved)

    return np.asarray(np.sqrt(sum_for_each(rows, square)))


def cosine_distances(rows: FloatArray, start: FloatArray | None = None) -> NDArray[np.float64]:
    """1 − cos of each pair of start + row, 1 with one that is 0: (n, d) → (n, n), 0 on the diagonal.

    It is (‖x − y‖² − (‖x‖ − ‖y‖)²) / (2 ‖x‖ ‖y‖), and a common start falls out of x − y: models are so alike that a cosine loses
    most digits when it is subtracted from 1.
    """
    lengths = lengths_of(rows, start)  # (n,)
    both = np.outer(lengths, lengths)
    apart = squared_distances(rows) - (lengths[:, None] - lengths) ** 2
    distances = np.divide(apart, 2 * both, out=np.ones_like(both), where=both > 0)
    np.fill_diagonal(distances, 0)
    return np.maximum(distances, 0)
