"""What the learning hands to the aggregation: one client's update, a round's cohort of them, and their aggregate."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oleander.learning.parameters import FloatArray, ModelState


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
    start: ModelState
    """The global model that the updates start from."""

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
