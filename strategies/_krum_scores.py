"""Who has the lowest of Krum's scores, which krum and multi_krum share (Blanchard et al., NeurIPS 2017).

Scores are compared as in exact arithmetic, whatever the order in which a machine adds up: rounded scores, whose error is
bounded, leave most clients without doubt, and those that they leave in doubt are scored in integers. So a tie is a tie.
"""

import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from oleander.learning.parameters import FloatArray
from oleander.learning.updates import Cohort
from strategies import RuleError
from strategies._sums import bounded_distances, exact_dot, first_equals


def lowest_scores(cohort: Cohort, f: int, m: int) -> NDArray[np.intp]:
    """The m rows with the lowest scores, in rising order; among equal scores the first rows: (m,).

    A score is Σ of a client's squared distances to its n − f − 2 nearest others.

    Raises:
        RuleError: n < 2f + 3.
    """
    n = len(cohort)
    if n < 2 * f + 3:
        raise RuleError(f"Krum needs n >= 2f + 3 clients a round, but n = {n} and f = {f} (so n >= {2 * f + 3})")
    distances, bounds = bounded_distances(cohort.deltas)  # (n, n), (n, n)
    first = first_equals(distances)  # (n,)
    np.fill_diagonal(distances, np.inf)  # a client is not its own neighbour
    low, high = distances - bounds, distances + bounds
    apart = exact_distances(cohort.deltas, first)

    @functools.cache
    def exact(i: int) -> int:
        reach = np.sort(high[i])[n - f - 3]
        return sum(sorted(apart(i, int(j)) for j in np.flatnonzero(low[i] <= reach))[: n - f - 2])

    # equal rows score alike
    return lowest(_of_nearest(low, n - f - 2), _of_nearest(high, n - f - 2), m, lambda i: exact(int(first[i])))


def lowest(
    low: NDArray[np.float64], high: NDArray[np.float64], m: int, exact: Callable[[int], int]
) -> NDArray[np.intp]:
    """The places of the m lowest of scores that lie between low and high (n,), in rising order: (m,).

    Those whose place that leaves open are compared by their exact scores; among equal ones the first.
    """
    chosen, open_ = _sure_and_open(low, high, m)
    if len(open_) > m - len(chosen):
        open_ = np.array(sorted(open_, key=lambda i: (exact(int(i)), i)), dtype=np.intp)
    return np.sort(np.concatenate([chosen, open_[: m - len(chosen)]]))


def _of_nearest(distances: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Σ of the k least of each row: (n, n) → (n,)."""
    return np.sort(distances, axis=1)[:, :k].sum(axis=1)


def _sure_and_open(
    low: NDArray[np.float64], high: NDArray[np.float64], m: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Of scores that lie between low and high (n,): which are surely among the m lowest, and which may be."""
    rivals = (low <= high[:, None]).sum(axis=1) - 1  # others that may be as low (n,)
    better = (high < low[:, None]).sum(axis=1)  # others that are lower (n,)
    return np.flatnonzero(rivals < m), np.flatnonzero((rivals >= m) & (better < m))


def exact_distances(rows: FloatArray, first: NDArray[np.intp]) -> Callable[[int, int], int]:
    """Exact squared distances of pairs of rows, in units of 2^-298, each worked out once; ``first`` as of ``first_equals``."""

    @functools.cache
    def dot(i: int, j: int) -> int:
        return exact_dot(rows[i], rows[j])

    def apart(i: int, j: int) -> int:
        i, j = sorted((int(first[i]), int(first[j])))
        return 0 if i == j else dot(i, i) - 2 * dot(i, j) + dot(j, j)

    return apart
