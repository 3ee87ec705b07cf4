"""What rules share that leave clients out: whom they keep, and the mean of those.

What chooses by comparing rounded sums must not hang on their last bits; ``fewer_digits`` takes them off, so that what is equal
in exact arithmetic is equal here, and a tie goes to the lowest client id.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from oleander.learning.updates import Aggregate, Cohort
from strategies._sums import comparable_norms, weighted

BITS = 30
"""Binary digits that are kept: 9 decimal ones, of float64's 15 to 17."""


def fewer_digits(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The values, rounded to 9 significant digits."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.rint(np.ldexp(mantissa, BITS)), exponent - BITS)


def in_decimals(product: float) -> float:
    """A setting times a whole number, as it is in decimals: 0.29 · 100 is 29, and not a little less."""
    return float(fewer_digits(np.array(product)))


def share_of(share: float, whole: int) -> int:
    """The whole part of a share of so many, one at least."""
    return max(1, int(in_decimals(share * whole)))


def lowest_ones(scores: NDArray[np.float64], client_ids: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
    """Which rows (n,) have the lowest scores, so many of them; among equal scores the lowest client ids."""
    order = np.lexsort((client_ids, fewer_digits(scores)))
    kept = np.zeros(len(scores), dtype=bool)
    kept[order[:count]] = True
    return kept


def influence_of(kept: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The same influence for each that is kept: (n,); all 0 where nobody is."""
    return kept / max(1, kept.sum())


def mean_of(cohort: Cohort, kept: NDArray[np.bool_]) -> Aggregate:
    """Plain mean of those that are kept; nobody: 0, and the global model stays."""
    return weighted(cohort, influence_of(kept))


def clipped_mean(cohort: Cohort, kept: NDArray[np.bool_], over: NDArray[np.bool_]) -> Aggregate:
    """Plain mean of those that are kept, none longer than the median norm ``over`` those; statistics by their weights' factor."""
    influence = influence_of(kept)
    norms = comparable_norms(cohort.deltas)  # (n,)
    bound = np.median(norms[over]) if over.any() else 0.0
    factors = np.divide(bound, norms, out=np.ones_like(norms), where=norms > bound)
    return replace(weighted(cohort, influence * factors), influence=influence)


def near_median(values: NDArray[np.float64], most: float, *, at_most: bool = False) -> NDArray[np.bool_]:
    """Which values (n,) are less than ``most`` standard deviations (or that many at most) from their median; the median always is."""
    values = fewer_digits(
        values
    )  # of values that are equal but for rounding, one that is not would be many deviations away
    apart = np.abs(values - np.median(values))
    apart, bound = fewer_digits(apart), fewer_digits(np.array(most * np.std(values)))
    return np.asarray((apart < bound) | (apart == 0) | (at_most & (apart == bound)))
