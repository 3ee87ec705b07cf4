"""k-means of a few points, and the gap statistic, which says how many clusters there are.

Tibshirani, Walther, Hastie 2001, "Estimating the Number of Clusters in a Data Set via the Gap Statistic" (J. R. Stat. Soc. B 63):
the least k with gap(k) ≥ gap(k + 1) − s(k + 1); gap(k) is how much lower log W_k, the sum of squares within clusters, is than that
of points drawn uniformly from their ranges. (Codes that bring each coordinate to [0, 1] first blow up what is noise.) All draws and
restarts go through one Lloyd iteration together: for a hundred points scikit-learn's k-means, called once for each, takes a hundred
times as long.
"""

import numpy as np
from numpy.typing import NDArray

DRAWS = 10
"""Uniform references."""
RESTARTS = 5
MOST = 8
"""Clusters that are tried at most."""
NOTHING = 1e-12
"""Sum of squares that is rounding, where the longest range is 1."""


def cluster_count(points: NDArray[np.float64], rng: np.random.Generator) -> int:
    """How many clusters the gap statistic finds in these points: (n, p)."""
    lowest, reach = points.min(axis=0), np.ptp(points, axis=0)
    unit = reach.max() or 1.0
    uniform = rng.random((DRAWS, *points.shape)) * reach  # each coordinate over its own range
    samples = np.concatenate([(points - lowest)[None], uniform]) / unit  # (1 + draws, n, p)
    before = None
    for k in range(1, min(MOST, len(points)) + 1):
        _, within = kmeans(samples, k, rng)  # (1 + draws,)
        if within[0] < NOTHING:  # no two points of a cluster differ
            return k
        logs = np.log(np.maximum(within, NOTHING))
        gap, spread = logs[1:].mean() - logs[0], np.sqrt(1 + 1 / DRAWS) * logs[1:].std()
        if before is not None and before >= gap - spread:
            return k - 1
        before = gap
    return min(MOST, len(points))


def kmeans(
    samples: NDArray[np.float64], k: int, rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The best of some k-means runs on each sample: (s, n, p) → labels (s, n), sums of squares within clusters (s,)."""
    s = len(samples)
    points = np.repeat(samples, RESTARTS, axis=0)  # (s · restarts, n, p)
    centres = _plus_plus(points, k, rng)
    for _ in range(100):
        belongs = _squares(points, centres).argmin(axis=2)[..., None] == np.arange(k)  # (s · restarts, n, k)
        counts = belongs.sum(axis=1)[..., None]  # (s · restarts, k, 1)
        moved = np.where(counts > 0, np.einsum("snk,snp->skp", belongs, points) / np.maximum(counts, 1), centres)
        if np.array_equal(moved, centres):
            break
        centres = moved
    squares = _squares(points, centres)
    within = squares.min(axis=2).sum(axis=1).reshape(s, RESTARTS)
    best = np.arange(s) * RESTARTS + within.argmin(axis=1)
    return squares[best].argmin(axis=2), within.min(axis=1)


def _plus_plus(points: NDArray[np.float64], k: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """k-means++: each next centre is a point drawn by its squared distance to those before: (s, n, p) → (s, k, p)."""
    rows = np.arange(len(points))
    centres = points[rows, rng.integers(points.shape[1], size=len(points))][:, None]
    for _ in range(1, k):
        reached = np.cumsum(_squares(points, centres).min(axis=2), axis=1)  # (s, n)
        drawn = (reached > rng.random((len(points), 1)) * reached[:, -1:]).argmax(axis=1)
        centres = np.concatenate([centres, points[rows, drawn][:, None]], axis=1)
    return centres


def _squares(points: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """(s, n, p), (s, k, p) → squared distances (s, n, k)."""
    return np.asarray(((points[:, :, None] - centres[:, None]) ** 2).sum(axis=3))
