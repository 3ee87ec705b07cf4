"""Bulyan: Krum chooses θ updates one after the other, and in each coordinate those of their values count that are near the median.

El Mhamdi, Guerraoui, Rouault 2018, "The Hidden Vulnerability of Distributed Learning in Byzantium" (ICML; arXiv 1802.07927), with
n ≥ 4f + 3, θ = n − 2f and β = θ − 2f. Krum's winner is taken out, and the k that are left are scored anew, each by its max(1, k −
f − 2) nearest others: the last choices have fewer neighbours than Krum's proof wants, which is why two of the authors' own codes
stop at θ = n − 2f − 2 (``bulyan_theta``). Who wins, and who is nearer to a median, is decided as in exact arithmetic. (Other
codes choose by one Multi-Krum, never come to the second stage, count a client twice, or take f neighbours too many or too few.)
"""

import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from oleander.learning.parameters import FloatArray
from oleander.learning.updates import Aggregate, Cohort
from oleander.settings.ranges import Count
from strategies import RuleError
from strategies._krum_scores import exact_distances, lowest
from strategies._sums import bounded_distances, by_columns, first_equals

WIDTH = 1 << 13
"""Columns that are sorted at a time."""


def bulyan(cohort: Cohort, *, assumed_malicious: int, bulyan_theta: Count | None = None) -> Aggregate:
    """In each coordinate, mean of the values nearest to the median, of the updates that Krum selects (El Mhamdi et al. 2018).

    A client's influence is its part of what is taken in the weights' coordinates. Statistics go through the second stage, over the
    same clients.

    Args:
        cohort: n updates; ties go to the lowest client id.
        assumed_malicious: f.
        bulyan_theta: How many updates Krum chooses, θ (2f + 1 to n - 2f; default: n - 2f).

    Raises:
        RuleError: n < 4f + 3, or θ out of its range.
    """
    n, f = len(cohort), assumed_malicious
    if n < 4 * f + 3:
        raise RuleError(f"Bulyan needs n >= 4f + 3 clients a round, but n = {n} and f = {f} (so n >= {4 * f + 3})")
    theta = n - 2 * f if bulyan_theta is None else bulyan_theta
    if not 2 * f + 1 <= theta <= n - 2 * f:
        raise RuleError(f"bulyan_theta = {theta} with n = {n} and f = {f}; wanted: from {2 * f + 1} to {n - 2 * f}")
    chosen = _chosen(cohort, f, theta)
    delta, taken = _near_median(cohort.deltas, chosen, theta - 2 * f)
    statistics, _ = _near_median(cohort.statistics, chosen, theta - 2 * f)
    influence = np.zeros(n)
    influence[chosen] = taken / taken.sum()
    return Aggregate(delta, statistics, influence)


def _chosen(cohort: Cohort, f: int, theta: int) -> NDArray[np.intp]:
    """Krum's winners, each of those that the ones before it left, by rising client id: (θ,)."""
    distances, bounds = bounded_distances(cohort.deltas)  # (n, n), (n, n)
    apart = exact_distances(cohort.deltas, first_equals(distances))
    np.fill_diagonal(distances, np.inf)  # a client is not its own neighbour
    low, high = distances - bounds, distances + bounds
    by_id = left = np.argsort(cohort.client_ids, kind="stable")  # of two that are left to each other, each is as near
    for _ in range(theta):
        of_left, near = np.ix_(left, left), min(max(1, len(left) - f - 2), len(left) - 1)
        scores = [np.sort(side[of_left], axis=1)[:, :near].sum(axis=1) for side in (low, high)]
        winner = lowest(scores[0], scores[1], 1, functools.partial(_exact_score, left, near, apart))[0]
        left = np.delete(left, winner)
    return by_id[~np.isin(by_id, left)]


def _exact_score(left: NDArray[np.intp], near: int, apart: Callable[[int, int], int], place: int) -> int:
    """Σ of the exact squared distances of one of those left to its nearest."""
    i = int(left[place])
    return sum(sorted(apart(i, int(j)) for j in left if j != i)[:near])


def _near_median(rows: FloatArray, chosen: NDArray[np.intp], beta: int) -> tuple[FloatArray, NDArray[np.float64]]:
    """(n, d), (θ,) → in each coordinate the mean (d,) of the β values nearest to the median; how often each one's is one (θ,)."""
    theta, d = len(chosen), rows.shape[1]
    result = np.empty(d, dtype=np.float32)

    def part(block: slice) -> NDArray[np.int64]:
        values = np.ascontiguousarray(rows[chosen, block].T).astype(np.float64)  # (≤ WIDTH, θ)
        ordered = np.sort(values, axis=1)
        twice = ordered[:, [(theta - 1) // 2]], ordered[:, [theta // 2]]  # twice the median is their sum; (≤ WIDTH, 1)
        # of the β in order: as long as the first is farther away than the one behind the last, it gives way
        first = np.count_nonzero(_compared((ordered[:, : theta - beta], ordered[:, beta:]), twice) < 0, axis=1)
        low, high = (np.take_along_axis(ordered, first[:, None] + i, axis=1) for i in (0, beta - 1))
        below = _compared((low, high), twice) <= 0  # whether the farthest of them lies below the median
        farthest = np.where(below, low, high)
        mirrored = _compared((values, farthest), twice)  # 0 where a value is as far on the other side
        equal = (values == farthest) | (mirrored == 0)  # of these the first clients are
        taken = ((values > farthest) == below) & ((mirrored < 0) == below) & ~equal
        taken |= equal & (equal.cumsum(axis=1) <= beta - taken.sum(axis=1, keepdims=True))
        result[block] = np.where(taken, values, 0).sum(axis=1) / beta + 0.0  # never -0.0
        return taken.sum(axis=0)

    return result, np.sum([np.zeros(theta), *by_columns(d, part, WIDTH)], axis=0)


Pair = tuple[NDArray[np.float64], NDArray[np.float64]]


def _compared(one: Pair, other: Pair) -> NDArray[np.int8]:
    """The sign of the sum of one pair minus that of the other, as in exact arithmetic.

    Two values are equally far from the median where their sum is twice the median; a difference would be rounded.
    """
    sums, wanted = one[0] + one[1], other[0] + other[1]
    signs = np.subtract(sums > wanted, sums < wanted, dtype=np.int8)
    if (tied := signs == 0).any():
        left, right = (_rounding(*(np.broadcast_to(part, signs.shape)[tied] for part in pair)) for pair in (one, other))
        signs[tied] = np.subtract(left > right, left < right, dtype=np.int8)
    return signs


def _rounding(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """What a sum of two lost when it was rounded, exactly (Knuth's TwoSum)."""
    total = one + other
    part = total - one
    return (one - (total - part)) + (other - part)
