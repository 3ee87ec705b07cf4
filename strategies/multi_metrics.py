"""Multi-Metrics: the models that three distances together, decorrelated, find nearest to all others.

Huang, Li, Wang, Chen 2023, "Multi-metrics adaptively identifies backdoors in Federated Learning" (ICCV; arXiv 2303.06601): of each
client t = (Σ_j (1 − cos)², Σ_j ‖w_i − w_j‖₁, Σ_j |‖w_i‖ − ‖w_j‖|) over local models w_i = G + Δ_i, as the authors take them; its
score is tᵀ Σ⁻¹ t, Σ the covariance of the n vectors; the share p with the least scores is averaged, plainly. Where Σ is singular
(two measures are one, or one is the same for all) it is its pseudo-inverse; what singular means does not hang on the measures' units.
The L1 sums are taken column by column from sorted values: n log n, not n². Seen on made-up cohorts: one attacker of ten is left out,
but of two or three that are alike one is often kept, since they stretch Σ their way. (Other codes take updates, or p = ½.)
"""

import numpy as np
from numpy.typing import NDArray

from oleander.learning.parameters import FloatArray
from oleander.learning.updates import Aggregate, Cohort
from oleander.settings.ranges import Rate
from strategies._choices import lowest_ones, mean_of, share_of
from strategies._cosines import cosine_distances, lengths_of
from strategies._sums import by_columns

WIDTH = 1 << 13
"""Columns that are sorted at a time."""
ROUNDING = 2.0**-46
"""How far a measure is off by rounding, as a share of the greatest of all clients, generously."""


def multi_metrics(cohort: Cohort, *, multi_metrics_share: Rate = 0.3) -> Aggregate:
    """Mean of the models nearest to all others by cosine, L1 distance and norm together, decorrelated (Huang et al. 2023).

    Args:
        cohort: n updates and the model that they start from; ties go to the lowest client id.
        multi_metrics_share: Share p of the clients that are kept: the whole part of p · n, one at least (0 to 1).
    """
    start, n = cohort.start.weights, len(cohort)
    lengths = lengths_of(cohort.deltas, start)  # (n,)
    measures = np.stack(
        [
            (cosine_distances(cohort.deltas, start) ** 2).sum(axis=1),
            _absolute_distances(cohort.deltas),
            np.abs(lengths[:, None] - lengths).sum(axis=1),
        ],
        axis=1,
    )  # (n, 3)
    count = share_of(multi_metrics_share, n)
    return mean_of(cohort, lowest_ones(_scores(measures), cohort.client_ids, count))


def _absolute_distances(rows: FloatArray) -> NDArray[np.float64]:
    """Σ_j ‖row_i − row_j‖₁: (n, d) → (n,).

    Of sorted values, the gap behind the k-th lies between k pairs' lower and n − k pairs' upper ends: no difference is taken twice.
    """
    n, d = rows.shape
    below = np.arange(1, n)  # of the n − 1 gaps

    def part(block: slice) -> NDArray[np.float64]:
        values = np.ascontiguousarray(rows[:, block].T)  # (≤ WIDTH, n)
        order = np.argsort(values, axis=1)
        gaps = np.diff(np.take_along_axis(values, order, axis=1).astype(np.float64), axis=1)  # (≤ WIDTH, n − 1)
        away = np.zeros(values.shape)  # by rank
        away[:, 1:] += np.cumsum(gaps * below, axis=1)
        away[:, :-1] += np.cumsum((gaps * (n - below))[:, ::-1], axis=1)[:, ::-1]
        of_client = np.empty_like(away)
        np.put_along_axis(of_client, order, away, axis=1)
        return of_client.sum(axis=0)

    return np.sum([np.zeros(n), *by_columns(d, part, WIDTH)], axis=0)


def _scores(measures: NDArray[np.float64]) -> NDArray[np.float64]:
    """tᵀ Σ⁺ t of each row: (n, 3) → (n,)."""
    away = measures - measures.mean(axis=0)
    spread = np.sqrt((away**2).sum(axis=0) / max(1, len(measures) - 1))  # (3,)
    constant = spread <= 1e-12 * np.abs(measures).max(axis=0)  # what differs is rounding
    away[:, constant] = 0
    scale = np.where(constant, 1.0, spread)
    values = np.linalg.svd(away / scale, compute_uv=False)
    rounding = ROUNDING * (np.abs(measures).max(axis=0) / scale)[~constant].max(initial=0) * np.sqrt(len(measures))
    rank = int(
        (values > rounding).sum()
    )  # of the measures brought to one scale: what is left of the others is rounding
    if rank == measures.shape[1]:  # the inverse, which any scale leaves as it is
        away, measures = away / scale, measures / scale
    _, values, directions = np.linalg.svd(away, full_matrices=False)
    along = measures @ directions[:rank].T / values[:rank]
    return np.asarray((along**2).sum(axis=1))
