"""FedAvgM against hand-computed steps."""

import numpy as np
import pytest

from oleander.learning.updates import Aggregate
from strategies import aggregate
from strategies.fedavgm import fedavgm
from tests.cohorts import random_cohort
from tests.strategies.remembering import assert_resumes

COHORT = random_cohort(3, d=4)


def given(delta) -> Aggregate:
    influence = np.array([0.5, 0.5, 0])
    return Aggregate(np.array(delta, np.float32), np.array([7, 8], np.float32), influence)


def test_three_steps_are_those_computed_by_hand():
    """β ½: 8; 8/2 + 4 = 8; 8/2 − 6 = −2."""
    memory, found = {}, []
    for value in (8, 4, -6):
        result, memory = fedavgm(given([value, 0, -value, 2 * value]), COHORT, memory=memory, fedavgm_momentum=0.5)
        found.append(result.delta.tolist())
    assert found == [[8, 0, -8, 16], [8, 0, -8, 16], [-2, 0, 2, -4]]
    assert memory["momentum"].tolist() == [-2, 0, 2, -4]


def test_a_constant_aggregate_is_multiplied_by_ten_in_the_end():
    """1 / (1 − 0.9), the paper's momentum."""
    memory = {}
    for _ in range(300):
        result, memory = fedavgm(given([1, 2, 3, 4]), COHORT, memory=memory)
    np.testing.assert_allclose(result.delta, [10, 20, 30, 40], rtol=1e-5)


def test_it_agrees_with_float64_over_many_rounds():
    rng, memory, momentum = np.random.default_rng(0), {}, np.zeros(4)
    for _ in range(50):
        before = given(rng.normal(size=4))
        result, memory = fedavgm(before, COHORT, memory=memory)
        momentum = 0.9 * momentum + before.delta.astype(np.float64)
        np.testing.assert_allclose(result.delta, momentum, rtol=1e-5, atol=1e-5)


def test_statistics_and_influence_pass_as_they_are_and_what_was_given_is_left_alone():
    before = given([1, 2, 3, 4])
    _, memory = fedavgm(before, COHORT, memory={})
    kept = memory["momentum"].copy()
    result, _ = fedavgm(before, COHORT, memory=memory)
    assert result.statistics is before.statistics and result.influence is before.influence
    assert before.delta.tolist() == [1, 2, 3, 4]
    np.testing.assert_array_equal(memory["momentum"], kept)


@pytest.mark.parametrize("momentum", [0.0, 1.0])
def test_no_momentum_changes_nothing_and_a_whole_one_adds_all_rounds_up(momentum):
    memory = {}
    for _ in range(3):
        found = aggregate("fedavgm", [[1.0, 2.0]], memory=memory, fedavgm_momentum=momentum)
        memory = found.memory
    assert found.delta.tolist() == ([3, 6] if momentum else [1, 2])


def test_what_it_remembers_comes_back_bit_for_bit(tmp_path):
    assert_resumes("fedavgm", tmp_path)
