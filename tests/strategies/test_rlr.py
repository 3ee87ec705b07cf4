"""The robust learning rate turns round what fewer than θ agree on, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oleander.settings.config import Experiment
from oleander.system.errors import UserError
from strategies import RuleError, pipeline_of
from strategies._sums import WIDTH
from strategies.fedavg import fedavg
from strategies.rlr import rlr
from tests.cohorts import cohort_of, random_cohort, updates


def reference(aggregate, rows, threshold: int) -> list[float]:
    """By Python's integers, coordinate by coordinate."""
    found = []
    for value, column in zip(aggregate.tolist(), rows.T.tolist(), strict=True):
        agreed = abs(sum((v > 0) - (v < 0) for v in column))
        found.append(value if agreed >= threshold else -value)
    return found


@given(members=updates(), threshold=st.integers(1, 9))
@settings(max_examples=100, deadline=None)
def test_it_agrees_with_the_definition(members, threshold):
    cohort = cohort_of(1, members)
    mean, threshold = fedavg(cohort), min(threshold, len(cohort))
    found = rlr(mean, cohort, rlr_threshold=threshold)
    assert found.delta.tolist() == reference(mean.delta, cohort.deltas, threshold)
    assert found.statistics.tolist() == reference(mean.statistics, cohort.statistics, threshold)
    np.testing.assert_array_equal(found.influence, mean.influence)
    assert found.delta.dtype == np.float32


def test_it_agrees_over_more_than_one_block():
    cohort = random_cohort(6, d=2 * WIDTH + 7)
    mean = fedavg(cohort)
    agreed = np.abs(np.sign(cohort.deltas).sum(axis=0))
    np.testing.assert_array_equal(rlr(mean, cohort).delta, np.where(agreed >= 4, mean.delta, -mean.delta))


def test_golden_values():
    """Signs add up to 5, 3, -5, -4 (one is 0) and 0; θ is 4."""
    rows = [[1, 1, -1, -1, 0], [1, 1, -1, -1, 0], [1, 1, -1, -1, 0], [1, 1, -1, -1, 0], [1, -1, -1, 0, 0]]
    cohort = replace(random_cohort(5), deltas=np.array(rows, np.float32), num_examples=np.ones(5, np.int64))
    mean = replace(fedavg(cohort), delta=np.array([1, 2, 3, 4, 5], np.float32))
    assert rlr(mean, cohort).delta.tolist() == [1, -2, 3, 4, -5]


def test_a_direction_of_the_attackers_own_is_walked_backwards():
    """Eight honest clients agree on coordinate 0 and have no opinion of coordinate 1, which two attackers push."""
    rows = np.array([[1, 0.01], [1, -0.01]] * 4 + [[1, 9]] * 2, np.float32)
    cohort = replace(random_cohort(10), deltas=rows, num_examples=np.ones(10, np.int64))
    found = rlr(fedavg(cohort), cohort).delta
    assert found[0] == 1 and found[1] == pytest.approx(-1.8)


def test_what_could_never_agree_is_refused_with_theta_and_n():
    with pytest.raises(RuleError, match="theta = 6 and n = 5"):
        rlr(fedavg(random_cohort(5)), random_cohort(5), rlr_threshold=6)
    with pytest.raises(UserError, match=r"--strategy bucketing.rlr: .*theta = 4 and n = 3; bucketing made 3 rows of 5"):
        pipeline_of(Experiment(strategy="bucketing+rlr"))
