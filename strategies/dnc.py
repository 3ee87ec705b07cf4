"""Divide and conquer, DnC: those are left out who reach farthest along the direction in which the updates differ most.

Shejwalkar, Houmansadr 2021, "Manipulating the Byzantine: Optimizing Model Poisoning Attacks and Defenses for Federated Learning"
(NDSS; doi 10.14722/ndss.2021.24498), algorithm 2: b coordinates are drawn, their values centred, v is the first right singular
vector, and ⟨x_i − µ, v⟩² is how far client i reaches; the ⌈c · f⌉ that reach farthest go; whoever stays in every draw is averaged.
Nobody may be left: the global model stays then. Where b is not below d, all coordinates are taken, once. Where the two greatest
singular values are equal, v is any vector between them, and so is the choice. (b, c and the number of draws differ in every code:
they are settings here.)
"""

import math

import numpy as np
from numpy.typing import NDArray

from oleander.learning.updates import Aggregate, Cohort
from oleander.settings.ranges import Count, Positive
from strategies import RuleError
from strategies._choices import in_decimals, lowest_ones, mean_of


def dnc(
    cohort: Cohort, *, rng: np.random.Generator, assumed_malicious: int, dnc_b: Count = 10_000, dnc_draws: Count = 5,
    dnc_c: Positive = 1.0,
) -> Aggregate:  # fmt: skip
    """Mean of the updates that are never among the farthest along the first singular vector (Shejwalkar, Houmansadr 2021).

    Args:
        cohort: n updates; ties go to the lowest client id.
        rng: draws coordinates.
        assumed_malicious: f.
        dnc_b: Coordinates in a draw, b (at least 1; all, where there are not so many).
        dnc_draws: How often coordinates are drawn (at least 1).
        dnc_c: How many are left out of each draw for each that is assumed malicious, c (> 0).

    Raises:
        RuleError: n <= ⌈c · f⌉.
    """
    (n, d), dropped = cohort.deltas.shape, math.ceil(in_decimals(dnc_c * assumed_malicious))
    if n <= dropped:
        raise RuleError(
            f"dnc leaves out ceil(c f) clients and needs more, but n = {n}, c = {dnc_c:g} and f = {assumed_malicious} "
            f"(so n >= {dropped + 1})"
        )
    kept = np.ones(n, dtype=bool)
    for _ in range(dnc_draws if dnc_b < d else 1):
        columns = np.sort(rng.choice(d, dnc_b, replace=False, shuffle=False)) if dnc_b < d else slice(None)
        kept &= lowest_ones(_reach(cohort.deltas[:, columns].astype(np.float64)), cohort.client_ids, n - dropped)
    return mean_of(cohort, kept)


def _reach(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """⟨x_i − µ, v⟩² of each row, v the first right singular vector of x − µ: (n, b) → (n,)."""
    rows -= rows.mean(axis=0)
    left = np.linalg.eigh(rows @ rows.T)[1][:, -1]  # (n,) the first left one; v is what the rows make of it
    direction = np.einsum("i,ij->j", left, rows)  # (b,)
    length = np.linalg.norm(direction)
    along = np.einsum("ij,j->i", rows, direction)  # no BLAS: equal rows reach equally far
    return np.asarray((along / (length or 1)) ** 2)
