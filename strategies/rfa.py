"""RFA, robust federated averaging: the geometric median of the updates, by a few iterations of smoothed Weiszfeld.

Pillutla, Kakade, Harchaoui 2022, "Robust Aggregation for Federated Learning" (IEEE Transactions on Signal Processing;
arXiv 1912.13445), algorithm 2: v is the weighted mean Σ α_i Δ_i at first, α_i = n_i / Σ n; then β_i = α_i / max(ν, ‖v − Δ_i‖) and
v = Σ β_i Δ_i / Σ β. Theirs is on models; on updates it is the same, as G moves all alike. Three iterations, as there, are not the
geometric median yet: one update of 10³⁰ still carries them off. 3 and ν = 10⁻⁶ are from memory of the paper. Statistics are
taken by the weights β_i / Σ β of the last iteration, which are the influence. (Other codes start at 0, or keep weights in a set, in
which equal ones collapse.)
"""

import numpy as np
from numpy.typing import NDArray

from oleander.learning.updates import Aggregate, Cohort
from oleander.settings.ranges import Count, Positive
from strategies._sums import by_columns, dot, sum_for_each, weighted


def rfa(cohort: Cohort, *, rfa_iterations: Count = 3, rfa_nu: Positive = 1e-6) -> Aggregate:
    """Geometric median of the updates, approximated by a few Weiszfeld iterations from the mean (Pillutla et al. 2022).

    Args:
        cohort: n updates and their clients' numbers of images.
        rfa_iterations: Weiszfeld iterations from the weighted mean (at least 1); many come to the geometric median.
        rfa_nu: Smoothing ν, in the update's units: what is nearer to the centre than ν counts as that far (> 0).
    """
    alpha = cohort.num_examples / cohort.num_examples.sum()  # (n,)
    shares = alpha
    for _ in range(rfa_iterations):
        beta = alpha / np.maximum(_distances(cohort, _centre(cohort, shares)), rfa_nu)
        shares = beta / beta.sum()
    return weighted(cohort, shares)


def _centre(cohort: Cohort, shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Σ share_i Δ_i in float64: (d,)."""
    centre = np.zeros(cohort.deltas.shape[1])

    def part(block: slice) -> None:
        for row, share in zip(cohort.deltas, shares, strict=True):
            centre[block] += share * row[block].astype(np.float64)

    by_columns(len(centre), part)
    return centre


def _distances(cohort: Cohort, centre: NDArray[np.float64]) -> NDArray[np.float64]:
    """‖Δ_i − centre‖₂: (n,)."""

    def square(delta: NDArray[np.float64], block: slice) -> float:
        apart = delta - centre[block]
        return dot(apart, apart)

    return np.sqrt(sum_for_each(cohort.deltas, square))
