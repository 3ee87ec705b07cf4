"""Centred clipping: the mean of the updates, each clipped around the aggregate of the round before.

Karimireddy, He, Jaggi 2021, "Learning from History for Byzantine Robust Optimization" (ICML; arXiv 2012.10333). Their workers
send momenta; ours send updates of whole local trainings. A client's share of the aggregate is the factor with which its update
is in it; its influence is that share of all clients' together, and its statistics are taken by the same factor. The centre is what
this rule came to in the round before, whatever a finish made of it.
"""

import numpy as np
from numpy.typing import NDArray

from oleander.learning.parameters import FloatArray
from oleander.learning.updates import Aggregate, Cohort, Memory
from oleander.settings.ranges import Count, Positive
from strategies._sums import by_columns, dot, sum_for_each

EXCEPT = {"unanimous": "what is farther than τ from the aggregate of the round before is cut"}


def centred_clip(
    cohort: Cohort, *, memory: Memory, centred_clip_tau: Positive = 10.0, centred_clip_iterations: Count = 1
) -> tuple[Aggregate, Memory]:
    """Mean of the updates, each clipped to τ around the aggregate of the round before (Karimireddy et al. 2021).

    Args:
        cohort: n updates.
        memory: "centre" (d,), the aggregate of the round before.
        centred_clip_tau: Radius τ: how far from the centre an update may pull, in the L2 norm (> 0).
        centred_clip_iterations: How often the centre is moved each round (at least 1).
    """
    n, d = cohort.deltas.shape
    centre, shares = memory.get("centre", np.zeros(d, np.float32)).astype(np.float64), np.zeros(n)
    for _ in range(centred_clip_iterations):
        norms = np.sqrt(sum_for_each(cohort.deltas, lambda delta, block: _square(delta - centre[block])))  # (n,)
        factors = centred_clip_tau / np.maximum(norms, centred_clip_tau) / n  # of Δ_i − v: (1/n) min(1, τ / ‖Δ_i − v‖)
        _move(centre, cohort.deltas, factors)
        shares = shares * (1 - factors.sum()) + factors  # of Δ_i in v
    delta = centre.astype(np.float32)
    statistics = np.einsum("i,ij->j", shares, cohort.statistics).astype(np.float32)
    return Aggregate(delta, statistics, shares / shares.sum()), {"centre": delta}


def _square(vector: NDArray[np.float64]) -> float:
    return dot(vector, vector)


def _move(centre: NDArray[np.float64], rows: FloatArray, factors: NDArray[np.float64]) -> None:
    """Centre += Σ factor_i · (row_i − centre), in place."""

    def part(block: slice) -> None:
        moved = np.zeros(block.stop - block.start)
        for row, factor in zip(rows, factors, strict=True):
            moved += factor * (row[block] - centre[block])
        centre[block] += moved

    by_columns(len(centre), part)
