"""The lowest coefficients of a discrete cosine transform (II, orthonormal), also where the length has a large prime factor.

SciPy transforms such a length by a convolution of more than twice the length: 2,797,610 = 10 · 279,761 weights take it 350 MB and
a second. Here the convolutions are those of the large factor alone, and the rest is a small transform across them (Cooley and
Tukey 1965, "An Algorithm for the Machine Calculation of Complex Fourier Series"). The cosine transform comes from a Fourier
transform of the same length (Makhoul 1980, "A Fast Cosine Transform in One and Two Dimensions").
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
SMALL = (2, 3, 5, 7, 11)
"""Prime factors that a fast Fourier transform takes as they are."""
LARGE = 1_000
"""What is left of a length without them, from which on it is worth while to take it apart."""


def cosine_transform(length: int, count: int) -> Callable[[Vector], Vector]:
    """What makes the first ``count`` coefficients of a vector: (length,) → (count,)."""
    from scipy.fft import dct  # here, since it takes time to load

    large = length
    for prime in SMALL:
        while large % prime == 0:
            large //= prime
    if large < LARGE or large == length:
        return lambda values: np.asarray(dct(values, norm="ortho")[:count])
    return _taken_apart(large, length // large, count)


def _taken_apart(a: int, b: int, count: int) -> Callable[[Vector], Vector]:
    """The same for a length a · b, by b transforms of length a and a of length b."""
    from scipy.fft import fft, rfft

    length, half = a * b, a // 2 + 1
    turns = np.exp(-2j * np.pi / length * np.outer(np.arange(half), np.arange(b)))  # (half, b)
    shifts = np.exp(-0.5j * np.pi / length * np.arange(count)) * np.sqrt(2 / length)  # (count,)
    shifts[0] /= np.sqrt(2)

    def transform(values: Vector) -> Vector:
        folded = np.concatenate((values[::2], values[1::2][::-1]))
        parts = rfft(folded.reshape(a, b), axis=0)  # (half, b)
        parts *= turns
        found = fft(parts, axis=1, overwrite_x=True)
        coefficients = np.empty(count)
        for column, start in enumerate(range(0, count, a)):
            # the other half of a real vector's transform is the first one's conjugate, from the other end
            whole = np.concatenate((found[:, column], found[a - half : 0 : -1, b - 1 - column].conj()))  # (a,)
            here = slice(start, min(start + a, count))
            coefficients[here] = (whole[: here.stop - start] * shifts[here]).real
        return coefficients

    return transform
