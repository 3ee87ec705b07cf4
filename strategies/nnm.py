"""Nearest-neighbour mixing: each update becomes the mean of those nearest to it, before a robust rule sees them.

Allouah, Farhadkhani, Guerraoui, Gupta, Pinot, Stephan 2023, "Fixing by Mixing: A Recipe for Optimal Byzantine ML under
Heterogeneity" (AISTATS; arXiv 2302.01772). Who is near is decided as in exact arithmetic (``_krum_scores``), so ties are ties.
"""

import numpy as np

from oleander.learning.updates import Cohort
from strategies import RuleError
from strategies._krum_scores import exact_distances, lowest
from strategies._mixture import mixture
from strategies._sums import bounded_distances, first_equals


def nnm(cohort: Cohort, *, assumed_malicious: int) -> Cohort:
    """Replace each update by the mean of the n - f nearest to it, itself among them (Allouah et al. 2023).

    Args:
        cohort: n updates; ties go to the lowest row.
        assumed_malicious: f.

    Raises:
        RuleError: n <= f.
    """
    n, f = len(cohort), assumed_malicious
    if n <= f:
        raise RuleError(
            f"nnm averages n - f updates and needs n > f clients, but n = {n} and f = {f} (so n >= {f + 1})"
        )
    distances, bounds = bounded_distances(cohort.deltas)  # (n, n), (n, n)
    apart = exact_distances(cohort.deltas, first_equals(distances))
    np.fill_diagonal(distances, -1)  # itself before all others, even before its equals
    shares = np.zeros((n, n))
    for i, (row, bound) in enumerate(zip(distances, bounds, strict=True)):
        nearest = lowest(row - bound, row + bound, n - f, lambda j, i=i: apart(i, j))  # type: ignore[misc]
        shares[i, nearest] = 1 / (n - f)
    return mixture(cohort, shares)
