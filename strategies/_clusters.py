"""HDBSCAN as several defences use it: the cluster that more than half of the clients form."""

import numpy as np
from numpy.typing import NDArray


def majority(distances: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Who is in the largest cluster, which has more than half of the n; all where there is none: (n, n) → (n,).

    scikit-learn's HDBSCAN counts a point among its own neighbours: its ``min_samples`` 2 is the 1 of the ``hdbscan`` package.
    Distances are rounded to float32, since no cluster should hang on a sum's last bits.
    """
    from sklearn.cluster import HDBSCAN  # here, since it takes a second to load, and few strategies need it

    n = len(distances)
    if n == 1:
        return np.ones(1, dtype=bool)
    rounded = distances.astype(np.float32).astype(np.float64)
    most = n // 2 + 1  # so there are never two clusters, and all that is no noise is the largest
    clusters = HDBSCAN(min_cluster_size=most, min_samples=2, allow_single_cluster=True, metric="precomputed", copy=True)
    kept = clusters.fit_predict(rounded) >= 0  # (n,)
    return np.asarray(kept if kept.any() else np.ones(n, dtype=bool))
