"""Exact sums of products of updates, for the few comparisons that rounded sums leave open.

The product of two float32 numbers is a float64 number, so only sums are rounded. Here products are cut into slices that
float64 sums without rounding, in whatever order (ExtractVector of Rump, Ogita, Oishi 2008, "Accurate Floating-Point Summation",
SIAM J. Sci. Comput. 31), and the slices are added up as Python's integers.
"""

import math

import numpy as np

from oleander.learning.parameters import FloatArray

UNIT = 298
"""Exact sums count in 2^-298, the square of the least float32."""


def sum_of_products(one: FloatArray, other: FloatArray) -> int:
    """Σ one_j · other_j of two rows (k,), in units of 2^-298."""
    rest = one.astype(np.float64) * other  # (k,) without rounding: 24 and 24 bits
    total = 0
    while most := float(np.abs(rest).max(initial=0)):
        grid = math.ldexp(
            1.0, math.frexp(most)[1] + len(rest).bit_length()
        )  # a power of two above k times the greatest
        head = (rest + grid) - grid  # the leading bits: whole multiples of 2^-53 grid, whose sums have 53 bits at most
        total += int(math.ldexp(float(head.sum()), UNIT))
        rest -= head
    return total


def nearest_float(units: int) -> float:
    """The float64 number nearest to an exact sum."""
    return units / (1 << UNIT)  # Python rounds a quotient of integers once
