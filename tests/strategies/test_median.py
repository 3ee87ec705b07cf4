"""The coordinate-wise median, against NumPy's and a plain loop: whose values it takes, and what it does at the limits of float32."""

from dataclasses import replace

import numpy as np
import pytest

from strategies.median import median
from tests.cohorts import random_cohort, with_deltas


@pytest.mark.parametrize("n", [1, 2, 5, 6])
def test_median_agrees_with_numpy(n):
    cohort = random_cohort(n)
    result = median(cohort)
    np.testing.assert_array_equal(result.delta, np.median(cohort.deltas.astype(np.float64), axis=0).astype(np.float32))
    np.testing.assert_array_equal(
        result.statistics, np.median(cohort.statistics.astype(np.float64), axis=0).astype(np.float32)
    )


def reference_median(rows):
    """Coordinate by coordinate in Python: the median, and who holds one of the middle two, the lowest id where values are equal."""
    n, medians, taken = len(rows), [], [0.0] * len(rows)
    for column in np.asarray(rows, dtype=np.float64).T.tolist():
        ordered = sorted(column)
        middle = ordered[(n - 1) // 2], ordered[n // 2]
        medians.append((middle[0] + middle[1]) / 2)
        for value in middle:
            taken[column.index(value)] += 0.5
    return medians, [share / len(medians) for share in taken]


@pytest.mark.parametrize("n", [1, 2, 3, 6, 7])
@pytest.mark.parametrize("ties", [False, True])
def test_medians_influence_is_the_share_of_weights_in_which_a_client_is_the_median(n, ties):
    cohort = random_cohort(n, d=400, s=30, seed=n)
    if ties:
        cohort = replace(cohort, deltas=np.round(cohort.deltas), statistics=np.round(cohort.statistics))
    delta, influence = reference_median(cohort.deltas)
    statistics, of_statistics = reference_median(cohort.statistics)
    found = median(cohort)
    np.testing.assert_allclose(found.influence, influence, atol=1e-12)
    np.testing.assert_array_equal(found.delta, np.array(delta, np.float32))
    np.testing.assert_array_equal(found.statistics, np.array(statistics, np.float32))
    assert n < 3 or not np.allclose(influence, of_statistics)  # they would not do in the weights' place


def test_medians_influence_is_over_all_of_the_weights():
    """Client 1 holds the median in the first half of the weights, client 2 in the second, and 0 in the last tenth."""
    rows = np.zeros((3, 200_000), dtype=np.float32)
    rows[0], rows[1, :100_000], rows[2, :100_000] = -1, 1, 2
    rows[1, 100_000:], rows[2, 100_000:] = 2, 1
    rows[0, 180_000:] = 1.5
    assert median(with_deltas(rows)).influence.tolist() == pytest.approx([0.1, 0.5, 0.4])


@pytest.mark.parametrize("n", [2, 4])
def test_the_mean_of_the_middle_two_does_not_overflow(n):
    rows = np.full((n, 3), 3e38, dtype=np.float32)
    rows[0] = -3e38 if n == 4 else 3e38
    cohort = replace(with_deltas(rows), statistics=rows)
    found = median(cohort)
    np.testing.assert_array_equal(found.delta, np.float32(3e38))
    np.testing.assert_array_equal(found.statistics, np.float32(3e38))


def test_the_median_of_zeros_of_both_signs_is_a_positive_zero():
    """Which of them a sort puts in the middle is its own affair."""
    for rows in ([[-0.0], [0.0], [-0.0]], [[-0.0], [-0.0], [-0.0]], [[0.0], [-0.0], [-0.0], [0.0]]):
        assert not np.signbit(median(with_deltas(rows)).delta).any()
