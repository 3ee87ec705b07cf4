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
from strategies._choices import influence_of
from strategies._clusters import majority
from strategies._cosines import cosine_distances
from strategies._sums import comparable_norms, weighted

EXCEPT = {"unanimous": "noise is added"}


def flame(cohort: Cohort, *, rng: np.random.Generator, flame_lambda: NotNegative = 0.001) -> Aggregate:
    """Average the largest cluster of local models, clipped to the median norm, and add noise (Nguyen et al. 2022).

    Args:
        cohort: n updates and the model that they start from.
        rng: of the noise.
        flame_lambda: Noise λ: its standard deviation is λ times the clipping bound (>= 0).
    """
    influence = influence_of(majority(_cosine_distances(cohort)))  # (n,)
    norms = comparable_norms(cohort.deltas)  # (n,)
    bound = float(np.median(norms))
    factors = np.divide(bound, norms, out=np.ones_like(norms), where=norms > bound)
    mean = weighted(cohort, influence * factors)
    noise = rng.normal(0.0, flame_lambda * bound, len(mean.delta))  # (d,)
    return replace(mean, delta=(mean.delta + noise).astype(np.float32), influence=influence)


def _cosine_distances(cohort: Cohort) -> NDArray[np.float64]:
    """1 − cos of each pair of local models, 1 with one that is 0: (n, n)."""
    return cosine_distances(cohort.deltas, cohort.start.weights)
