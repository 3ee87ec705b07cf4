"""SignGuard: updates of usual length, whose signs are distributed as most others' are.

Xu, Huang, Song, Lan 2022, "Byzantine-robust Federated Learning through Collaborative Malicious Gradient Filtering" (ICDCS;
arXiv 2109.05872), the plain variant: norms between L and R times their median; shares of positive, zero and negative values in a run
of coordinates that is drawn at random, clustered by mean shift; whoever is in the largest cluster and of usual length is kept, cut to
the median norm of all, and averaged. The bandwidth is the mean distance to the ⌊n/2⌋-th nearest, itself counted, which is
scikit-learn's estimate with quantile ½, as in the authors' code. They begin from bins and leave out what no kernel reaches; ours
begins from every client, and each belongs to the nearest cluster, as scikit-learn's mean shift does by default. (It comes to the same
labels, a hundred times as fast.) They divide each share by the greatest client's; ours are shares. (Other codes cluster by DBSCAN.)
"""

import numpy as np
from numpy.typing import NDArray

from oleander.learning.parameters import FloatArray
from oleander.learning.updates import Aggregate, Cohort
from oleander.settings.ranges import NotNegative, Positive, Rate
from strategies._choices import clipped_mean, fewer_digits, share_of
from strategies._sums import comparable_norms

STEPS = 300
"""How often a kernel is moved at most."""


def signguard(
    cohort: Cohort, *, rng: np.random.Generator, signguard_lower: NotNegative = 0.1, signguard_upper: Positive = 3.0,
    signguard_share: Rate = 0.1,
) -> Aggregate:  # fmt: skip
    """Mean of the updates of typical norm whose signs are like most others', clipped to the median norm (Xu et al. 2022).

    Args:
        cohort: n updates.
        rng: draws where the run of coordinates begins.
        signguard_lower: Norms up to L times the median are left out (>= 0).
        signguard_upper: Norms from R times the median are left out (> 0).
        signguard_share: Share of the coordinates whose signs are counted (0 to 1; one coordinate at least).
    """
    norms = comparable_norms(cohort.deltas)  # (n,)
    ratios = fewer_digits(np.divide(norms, np.median(norms), out=np.zeros_like(norms), where=np.median(norms) > 0))
    usual = (ratios > signguard_lower) & (ratios < signguard_upper)
    length = share_of(signguard_share, cohort.deltas.shape[1])
    start = int(rng.integers(cohort.deltas.shape[1] - length + 1))
    kept = usual & _largest_cluster(_sign_shares(cohort.deltas[:, start : start + length]))
    return clipped_mean(cohort, kept, over=np.ones(len(cohort), dtype=bool))


def _sign_shares(rows: FloatArray) -> NDArray[np.float64]:
    """(n, k) → the shares of positive, zero and negative values in each row: (n, 3)."""
    counts = [np.count_nonzero(test, axis=1) for test in (rows > 0, rows == 0, rows < 0)]
    return np.stack(counts, axis=1) / rows.shape[1]


def _largest_cluster(points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of these points are in the largest of mean shift's clusters, as scikit-learn's come out: (n, 3) → (n,).

    A flat kernel starts from every point. Of equally large clusters it is the one with the denser centre; where the bandwidth is 0,
    that of the lowest client.
    """
    apart = _distances(points, points)
    near = max(1, len(points) // 2)
    reach = float(np.partition(apart, near - 1, axis=1)[:, :near].max(axis=1).mean()) * (
        1 + 1e-12
    )  # the very edge is in
    if reach < 1e-12:  # all have half of them at their own place: only those that are alike are together
        alike = apart < 1e-12  # (n, n)
        return np.asarray(alike[alike.sum(axis=1).argmax()])
    centres = points
    for _ in range(STEPS):
        inside = _distances(centres, points) <= reach  # (n, n)
        before, centres = centres, inside @ points / inside.sum(axis=1, keepdims=True)
        if (np.linalg.norm(centres - before, axis=1) < 1e-3 * reach).all():
            break
    density = (_distances(centres, points) <= reach).sum(axis=1)  # (n,)
    peaks: list[NDArray[np.float64]] = []
    for i in np.lexsort((*centres.T[::-1], density))[::-1]:
        if all(np.linalg.norm(centres[i] - peak) > reach for peak in peaks):
            peaks.append(centres[i])
    labels = _distances(points, np.stack(peaks)).argmin(axis=1)
    return np.asarray(labels == np.bincount(labels).argmax())


def _distances(some: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """(m, 3), (n, 3) → (m, n)."""
    return np.sqrt(((some[:, None] - others) ** 2).sum(axis=2))
