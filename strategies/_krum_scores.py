"""Krum's scores, which krum and multi_krum share (Blanchard et al., NeurIPS 2017)."""

import numpy as np
from numpy.typing import NDArray

from learning.updates import Cohort
from strategies import RuleError
from strategies._sums import squared_distances


def krum_scores(cohort: Cohort, f: int) -> NDArray[np.float64]:
    """Σ of each client's squared distances to its n − f − 2 nearest others: (n,).

    Raises:
        RuleError: n < 2f + 3.
    """
    n = len(cohort)
    if n < 2 * f + 3:
        raise RuleError(f"Krum needs n >= 2f + 3 clients a round, but n = {n} and f = {f} (so n >= {2 * f + 3})")
    distances = squared_distances(cohort.deltas)  # (n, n)
    np.fill_diagonal(distances, np.inf)  # a client is not its own neighbour
    return np.sort(distances, axis=1)[:, : n - f - 2].sum(axis=1)
