"""AlignIns: those are kept whose updates lie to the global model, and to the majority's signs, as most others' do.

Xu, Zhang, Hu 2025, "Detecting Backdoor Attacks in Federated Learning via Direction Alignment Inspection" (CVPR; arXiv 2503.07978):
TDA_i = cos(Δ_i, G); MPSA_i = of the share of coordinates where |Δ_i| is largest, the part whose sign is the majority's, that of
Σ_j sgn Δ_j; a client stays if both are less than so many standard deviations (of all n, divided by n) from their medians; those
who stay are cut to the median of their norms and averaged. Nobody: the global model stays. The sign of 0 is a sign of its own. What
is the median itself stays, whatever the deviation. Cosines are compared to 12 decimals. On weights alone: in the authors' code the
statistics of batch norm are in the vectors as well.
"""

import numpy as np
from numpy.typing import NDArray

from oleander.learning.parameters import FloatArray
from oleander.learning.updates import Aggregate, Cohort
from oleander.settings.ranges import Positive, Rate
from strategies._choices import clipped_mean, near_median, share_of
from strategies._largest import largest
from strategies._sums import by_columns, dot, squared_norms, sum_for_each


def alignins(
    cohort: Cohort, *, alignins_share: Rate = 0.3, alignins_direction: Positive = 1.0, alignins_signs: Positive = 1.0
) -> Aggregate:
    """Mean of the updates whose direction and main signs are like most others', clipped to their median norm (Xu et al. 2025).

    Args:
        cohort: n updates and the model that they start from.
        alignins_share: Share of an update's coordinates, the largest, whose signs are compared (0 to 1; one at least).
        alignins_direction: How many standard deviations a cosine with the model may be from the median (> 0).
        alignins_signs: The same for the share of signs that are the majority's (> 0).
    """
    kept = near_median(_cosines(cohort), alignins_direction) & near_median(
        _agreeing(cohort.deltas, share_of(alignins_share, cohort.deltas.shape[1])),
        alignins_signs,
    )
    return clipped_mean(cohort, kept, over=kept)


def _cosines(cohort: Cohort) -> NDArray[np.float64]:
    """cos(Δ_i, G), 0 where one of them is 0: (n,)."""
    start = cohort.start.weights
    lengths = np.sqrt(squared_norms(cohort.deltas)) * float(np.sqrt(squared_norms(start[None])[0]))  # (n,)
    products = sum_for_each(cohort.deltas, lambda delta, block: dot(delta, start[block].astype(np.float64)))
    cosines: NDArray[np.float64] = np.divide(products, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    return cosines.round(12)


def _agreeing(rows: FloatArray, count: int) -> NDArray[np.float64]:
    """Of each row's ``count`` largest coordinates, the share whose sign is the majority's: (n, d) → (n,)."""
    n, d = rows.shape
    majority = np.empty(d, dtype=np.int8)

    def signs(block: slice) -> None:
        majority[block] = np.sign(np.sum(rows[:, block] > 0, axis=0) - np.sum(rows[:, block] < 0, axis=0))

    def share(row: slice) -> float:
        top = largest(rows[row.start], count)  # (d,)
        return float(np.count_nonzero(np.sign(rows[row.start][top]) == majority[top])) / count

    by_columns(d, signs)
    return np.array(by_columns(n, share, width=1))
