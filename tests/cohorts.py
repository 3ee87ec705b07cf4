"""Cohorts for the tests of rules and filters: random ones, and ones of given updates."""

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from oleander.learning.parameters import ModelState
from oleander.learning.updates import Cohort, Update

FINITE = st.floats(-1e3, 1e3, width=32)


def cohort_of(round_number: int, updates: list[Update]) -> Cohort:
    """The cohort of these updates, sorted by client id: the order they came in leaves no trace."""
    ordered = sorted(updates, key=lambda update: update.client_id)
    return Cohort(
        round=round_number,
        client_ids=np.array([u.client_id for u in ordered], dtype=np.int64),
        deltas=np.stack([u.delta for u in ordered]),  # (n, d)
        statistics=np.stack([u.statistics for u in ordered]),  # (n, s)
        num_examples=np.array([u.num_examples for u in ordered], dtype=np.int64),
        start=ModelState(np.zeros_like(ordered[0].delta), np.zeros_like(ordered[0].statistics)),
    )


@st.composite
def updates(draw, least: int = 5, most: int = 9):
    """A list of updates with distinct client ids, n of them from ``least`` to ``most``."""
    n = draw(st.integers(least, most))
    d, s = draw(st.integers(1, 12)), draw(st.integers(0, 4))
    ids = draw(st.lists(st.integers(0, 99), min_size=n, max_size=n, unique=True))
    deltas = draw(hnp.arrays(np.float32, (n, d), elements=FINITE))
    statistics = draw(hnp.arrays(np.float32, (n, s), elements=FINITE))
    counts = draw(st.lists(st.integers(1, 500), min_size=n, max_size=n))
    return [Update(*parts) for parts in zip(ids, deltas, statistics, counts, strict=True)]


def random_cohort(n: int, d: int = 50, s: int = 6, seed: int = 0):
    """A cohort of normal updates."""
    rng = np.random.default_rng(seed)
    return cohort_of(
        1,
        [
            Update(
                i,
                rng.normal(size=d).astype(np.float32),
                rng.normal(size=s).astype(np.float32),
                int(rng.integers(1, 99)),
            )
            for i in range(n)
        ],
    )


def with_deltas(deltas) -> Cohort:
    """A cohort of these updates of the weights, from a global model of zeros."""
    deltas = np.asarray(deltas, dtype=np.float32)
    cohort = random_cohort(len(deltas), d=1)
    return replace(cohort, deltas=deltas, start=replace(cohort.start, weights=np.zeros_like(deltas[0])))
