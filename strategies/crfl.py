"""CRFL: after each round the model itself is clipped and gets noise; at test time noised copies of the last one vote.

Xie, Chen, Chen, Li 2021, "CRFL: Certifiably Robust Federated Learning against Backdoor Attacks" (ICML; arXiv 2106.08283), algorithm
1: w ← w / max(1, ‖w‖ / ρ) + N(0, σ²) on the model that the aggregate leads to, without noise in the last round (``rounds``). Their
ρ grows with the rounds and is tuned for each task; ours is a number, 100 unless told otherwise, which a small network does not come
to. The weights alone are meant; batch-norm statistics pass as they are. (Other codes clip the update.)

With ``--crfl-votes M``, the test of algorithm 2: M copies of the final model, each with noise N(0, σ²) of its own; the class that
most of them answer is the smoothed model's answer. The paper takes 100 to 1,000 copies, and so ought you. The scores of the vote
stand beside those of the model as it is. No certificate is worked out.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from oleander.learning.parameters import ModelState
from oleander.learning.updates import Aggregate, Cohort
from oleander.settings.ranges import CountOrZero, NotNegative, Positive
from strategies._cosines import lengths_of

EXCEPT = {"unanimous": "noise is added"}


def crfl(
    aggregate: Aggregate, cohort: Cohort, *, rng: np.random.Generator, rounds: int, crfl_rho: Positive = 100.0,
    crfl_sigma: NotNegative = 0.01, crfl_votes: CountOrZero = 0,
) -> Aggregate:  # fmt: skip
    """Clip the model to a norm of ρ, and add N(0, σ²) to each weight in all rounds but the last (Xie et al. 2021).

    Args:
        aggregate: of the rule, or of the finish before.
        cohort: n updates; of them the model that they start from.
        rng: of the noise.
        rounds: how many there are; the last gets no noise.
        crfl_rho: Bound ρ on the L2 norm of the model's weights (> 0).
        crfl_sigma: Standard deviation σ of the noise (>= 0).
        crfl_votes: Noised copies M of the final model that vote at test time (``voters``; 0: no vote).
    """
    start = cohort.start.weights
    length = float(lengths_of(aggregate.delta[None], start)[0])
    factor = min(1.0, crfl_rho / length) if length else 1.0
    delta = aggregate.delta.astype(np.float64)  # else the factor too is rounded to float32, where it may be 0
    moved = delta * factor - start * (1 - factor)  # (G + Δ) · factor − G, without what that would cancel
    if cohort.round != rounds:
        moved = moved + crfl_sigma * rng.standard_normal(len(start))
    with np.errstate(over="ignore"):  # what overflows is refused by name
        return replace(aggregate, delta=moved.astype(np.float32))


def voters(final: ModelState, rng: np.random.Generator, *, crfl_votes: int, crfl_sigma: float) -> Iterator[ModelState]:
    """M copies of the final model, with N(0, σ²) on each weight, whose vote is the smoothed model's answer."""
    for _ in range(crfl_votes):
        noise = crfl_sigma * rng.standard_normal(len(final.weights))
        yield ModelState((final.weights + noise).astype(np.float32), final.statistics)
