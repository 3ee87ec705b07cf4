"""Which of an update's coordinates are the largest."""

import numpy as np
from numpy.typing import NDArray

from oleander.learning.parameters import FloatArray


def largest(row: FloatArray, count: int) -> NDArray[np.bool_]:
    """Which coordinates (d,) are the ``count`` largest by magnitude; among equal ones the first."""
    least, last = least_of_largest(row, count)
    sizes = np.abs(row)
    found = sizes >= least
    found[last + 1 :] &= sizes[last + 1 :] > least
    return found


def least_of_largest(row: FloatArray, count: int) -> tuple[float, int]:
    """The magnitude of the least of the ``count`` largest coordinates, and the place of the last that has it and is one of them."""
    sizes = np.abs(row)
    least = np.partition(sizes, len(row) - count)[len(row) - count]
    equal = np.flatnonzero(sizes == least)
    return float(least), int(equal[count - np.count_nonzero(sizes > least) - 1])
