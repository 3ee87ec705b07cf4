"""FLAME: the largest cluster of local models, their updates clipped to the median norm, averaged, with noise.

Nguyen et al. 2022, "FLAME: Taming Backdoors in Federated Learning" (USENIX Security; arXiv 2101.02281). HDBSCAN is
scikit-learn's, which counts a point among its own neighbours: its ``min_samples`` 2 is the 1 of the ``hdbscan`` package. Cosine
distances are of local models G + Δ_i, as in the paper. Statistics shrink with their client's weights and get no noise. Were all
clients noise, all would be kept, each with an influence of 1/n. No privacy is claimed.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from oleander.learning.updates import Aggregate, Cohort
from oleander.settings.ranges import NotNegative
from strategies._sums import comparable_norms, dot, squared_distances, sum_for_each, weighted

EXCEPT = {"unanimous": "noise is added"}


def flame(cohort: Cohort, *, rng: np.random.Generator, flame_lambda: NotNegative = 0.001) -> Aggregate:
    """Average the largest cluster of local models, clipped to the median norm, and add noise (Nguyen et al. 2022).

    Args:
        cohort: n updates and the model that they start from.
        rng: of the noise.
        flame_lambda: Noise λ: its standard deviation is λ times the clipping bound (>= 0).
    """
    influence = _largest_cluster(_cosine_distances(cohort))  # (n,)
    norms = comparable_norms(cohort.deltas)  # (n,)
    bound = float(np.median(norms))
    factors = np.divide(bound, norms, out=np.ones_like(norms), where=norms > bound)
    mean = weighted(cohort, influence * factors)
    noise = rng.normal(0.0, flame_lambda * bound, len(mean.delta))  # (d,)
    return replace(mean, delta=(mean.delta + noise).astype(np.float32), influence=influence)


def _cosine_distances(cohort: Cohort) -> NDArray[np.float64]:
    """1 − cos of each pair of local models, 1 with one that is 0: (n, n).

    It is (‖L_i − L_j‖² − (‖L_i‖ − ‖L_j‖)²) / (2 ‖L_i‖ ‖L_j‖), and L_i − L_j = Δ_i − Δ_j: models are so alike that a cosine loses
    most digits when it is subtracted from 1.
    """

    def square(delta: NDArray[np.float64], block: slice) -> float:
        model = cohort.start.weights[block] + delta
        return dot(model, model)

    lengths = np.sqrt(sum_for_each(cohort.deltas, square))  # (n,)
    both = np.outer(lengths, lengths)
    apart = squared_distances(cohort.deltas) - (lengths[:, None] - lengths) ** 2
    distances = np.divide(apart, 2 * both, out=np.ones_like(both), where=both > 0)
    np.fill_diagonal(distances, 0)
    rounded = np.maximum(distances, 0).astype(np.float32)  # no cluster should hang on a sum's last bits
    return rounded.astype(np.float64)


def _largest_cluster(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, n) → the shares (n,) of a mean over the largest cluster, over all where there is none."""
    from sklearn.cluster import HDBSCAN  # here, since it takes a second to load, and no other strategy needs it

    n = len(distances)
    if n == 1:
        return np.ones(1)
    most = n // 2 + 1  # so there are never two clusters, and all that is no noise is the largest
    clusters = HDBSCAN(min_cluster_size=most, min_samples=2, allow_single_cluster=True, metric="precomputed", copy=True)
    kept = clusters.fit_predict(distances) >= 0  # (n,)
    return kept / kept.sum() if kept.any() else np.full(n, 1 / n)
