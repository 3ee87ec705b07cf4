"""What the learning hands to the aggregation: one client's update, a round's cohort of them, and their aggregate."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oleander.learning.parameters import FloatArray, ModelState

Memory = Mapping[str, NDArray[Any]]
"""What a step keeps from round to round: named arrays, replaced and never changed; {} before the first round."""
MIXED = -1
"""The client id of a row that is no client's own."""


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
    """The updates of one round as a real server sees them: n rows, by rising client id. Who is malicious is not in it.

    Each row is one client's until a filter mixes them; filters that drop rows or mix them say so by ``only`` and ``mixed``.
    """

    round: int
    client_ids: NDArray[np.int64]
    """(n,), ``MIXED`` for a row that is no client's own"""
    deltas: FloatArray
    """(n, d)"""
    statistics: FloatArray
    """(n, s)"""
    num_examples: NDArray[np.int64]
    """(n,)"""
    start: ModelState
    """The global model that the updates start from."""
    sources: NDArray[np.float64] | None = None
    """(n, clients of the round) what share of each client's update a row is made of; None: each row is a client's own."""

    def __len__(self) -> int:
        """n, the rows: the clients of the round until a filter drops or mixes them."""
        return len(self.client_ids)

    def mixed(self, shares: NDArray[np.float64], deltas: FloatArray, statistics: FloatArray) -> "Cohort":
        """The cohort of m rows that are such mixtures of today's n.

        A row made of one row alone keeps its client id; any other has none. Its examples are the mean of its sources', so that
        a rule that weighs by examples weighs a mixture as what is in it.

        Args:
            shares: (m, n) what share of each of today's rows is in a new one; each row sums to 1.
            deltas: (m, d)
            statistics: (m, s)
        """
        alone = (shares == 1).any(axis=1)  # (m,)
        ids = np.where(alone, self.client_ids[shares.argmax(axis=1)], MIXED)
        examples = np.rint(shares @ self.num_examples).astype(np.int64)
        sources = shares if self.sources is None else shares @ self.sources
        return replace(
            self, client_ids=ids, deltas=deltas, statistics=statistics, num_examples=examples, sources=sources
        )

    def only(self, rows: NDArray[np.int64]) -> "Cohort":
        """The cohort of these rows, by their numbers."""
        return self.mixed(np.eye(len(self))[rows], self.deltas[rows], self.statistics[rows])


@dataclass(frozen=True)
class Aggregate:
    """What a rule makes of a cohort: the global model's change, and the weight that each client had in it."""

    delta: FloatArray
    """(d,)"""
    statistics: FloatArray
    """(s,)"""
    influence: NDArray[np.float64]
    """(n,) in [0, 1]; they sum to 1, or are all 0 where nobody is trusted: the delta is 0 then, and the global model stays."""
