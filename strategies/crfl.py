"""CRFL, its training: after each round the model itself is clipped and gets noise.

Xie, Chen, Chen, Li 2021, "CRFL: Certifiably Robust Federated Learning against Backdoor Attacks" (ICML; arXiv 2106.08283), algorithm
1: w ← w / max(1, ‖w‖ / ρ) + N(0, σ²) on the model that the aggregate leads to, without noise in the last round (``rounds``). Their
ρ grows with the rounds and is tuned for each task; ours is a number, 100 unless told otherwise, which a small network does not come
to. The weights alone are meant; batch-norm statistics pass as they are. The vote of noised copies at test time is not built, and no
certificate is worked out. (Other codes clip the update.)
"""

from dataclasses import replace

import numpy as np

from oleander.learning.updates import Aggregate, Cohort
from oleander.settings.ranges import NotNegative, Positive
from strategies._cosines import lengths_of

EXCEPT = {"unanimous": "noise is added"}


def crfl(
    aggregate: Aggregate, cohort: Cohort, *, rng: np.random.Generator, rounds: int, crfl_rho: Positive = 100.0,
    crfl_sigma: NotNegative = 0.01,
) -> Aggregate:  # fmt: skip
    """Clip the model to a norm of ρ, and add N(0, σ²) to each weight in all rounds but the last (Xie et al. 2021).

    Args:
        aggregate: of the rule, or of the finish before.
        cohort: n updates; of them the model that they start from.
        rng: of the noise.
        rounds: how many there are; the last gets no noise.
        crfl_rho: Bound ρ on the L2 norm of the model's weights (> 0).
        crfl_sigma: Standard deviation σ of the noise (>= 0).
    """
    start = cohort.start.weights
    length = float(lengths_of(aggregate.delta[None], start)[0])
    factor = min(1.0, crfl_rho / length) if length else 1.0
    moved = aggregate.delta * factor - start * (1 - factor)  # (G + Δ) · factor − G, without what that would cancel
    if cohort.round != rounds:
        moved = moved + crfl_sigma * rng.standard_normal(len(start))
    with np.errstate(over="ignore"):  # what overflows is refused by name
        return replace(aggregate, delta=moved.astype(np.float32))
