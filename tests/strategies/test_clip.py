"""Clipping: its bound holds, to the last bit, and its median is NumPy's."""

from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies import _sums
from strategies.clip import clip
from tests.cohorts import cohort_of, random_cohort, updates, with_deltas


@given(members=updates(), bound=st.floats(1e-3, 1e4))
@settings(max_examples=100, deadline=None)
def test_clip_bound_holds_and_clipping_again_changes_nothing(members, bound):
    cohort = cohort_of(1, members)
    once = clip(cohort, clip_norm=bound)
    norms = np.linalg.norm(once.deltas.astype(np.float64), axis=1)
    assert (norms <= bound).all()
    twice = clip(once, clip_norm=bound)
    np.testing.assert_array_equal(once.deltas, twice.deltas)
    np.testing.assert_array_equal(once.statistics, twice.statistics)
    short = np.linalg.norm(cohort.deltas.astype(np.float64), axis=1) <= bound
    np.testing.assert_array_equal(once.deltas[short], cohort.deltas[short])


def test_clip_median_is_numpys_and_statistics_shrink_with_the_weights():
    cohort = random_cohort(6)
    norms = np.linalg.norm(cohort.deltas.astype(np.float64), axis=1)
    result = clip(cohort, clip_norm="median")
    factors = np.minimum(1, np.median(norms) / norms)
    np.testing.assert_allclose(result.deltas, cohort.deltas * factors[:, None], rtol=1e-6)
    np.testing.assert_allclose(result.statistics, cohort.statistics * factors[:, None], rtol=1e-6)


def test_norms_that_are_equal_in_exact_arithmetic_are_equal_and_clip_leaves_them():
    row = np.random.default_rng(0).lognormal(sigma=3, size=5000).astype(np.float32)
    deltas = np.stack([np.random.default_rng(i).permutation(row) for i in range(9)])
    assert len(set(_sums.squared_norms(deltas))) > 1  # rounded in other orders
    norms = _sums.comparable_norms(deltas)
    assert set(norms) == {np.sqrt(float(sum(Fraction(float(v)) ** 2 for v in row)))}
    for clip_norm in ("median", float(norms[0])):
        np.testing.assert_array_equal(clip(with_deltas(deltas), clip_norm=clip_norm).deltas, deltas)
