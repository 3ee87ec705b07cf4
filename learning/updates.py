"""What the learning hands to the aggregation: one client's update, a round's cohort of them, and their aggregate."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from learning.parameters import FloatArray


@dataclass(frozen=True)
class Update:
    """One client's change of the global model, L_i − G."""

    client_id: int
    delta: FloatArray
    """(d,) change of the weights."""
    statistics: FloatArray
    """(s,) change of the batch-norm statistics."""
    num_examples: int


@dataclass(frozen=True)
class Cohort:
    """The updates of one round as a real server sees them: n clients, by rising client id. Who is malicious is not in it."""

    round: int
    client_ids: NDArray[np.int64]
    """(n,)"""
    deltas: FloatArray
    """(n, d)"""
    statistics: FloatArray
    """(n, s)"""
    num_examples: NDArray[np.int64]
    """(n,)"""

    def __len__(self) -> int:
        """n, the clients in the round."""
        return len(self.client_ids)


@dataclass(frozen=True)
class Aggregate:
    """What a rule makes of a cohort: the global model's change, and the weight that each client had in it."""

    delta: FloatArray
    """(d,)"""
    statistics: FloatArray
    """(s,)"""
    influence: NDArray[np.float64]
    """(n,) in [0, 1], sum 1."""


def cohort_of(round_number: int, updates: Sequence[Update]) -> Cohort:
    """The cohort of these updates, sorted by client id: the order they came in leaves no trace."""
    ordered = sorted(updates, key=lambda update: update.client_id)
    return Cohort(
        round=round_number,
        client_ids=np.array([u.client_id for u in ordered], dtype=np.int64),
        deltas=np.stack([u.delta for u in ordered]),  # (n, d)
        statistics=np.stack([u.statistics for u in ordered]),  # (n, s)
        num_examples=np.array([u.num_examples for u in ordered], dtype=np.int64),
    )
