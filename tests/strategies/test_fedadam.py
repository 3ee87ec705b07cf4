"""FedAdam against steps computed by hand and algorithm 2 of the paper in float64."""

import numpy as np
import pytest

from oleander.learning.updates import Aggregate
from strategies.fedadam import fedadam
from tests.cohorts import random_cohort
from tests.strategies.remembering import assert_resumes

COHORT = random_cohort(3, d=4)


def given(delta) -> Aggregate:
    influence = np.array([0.5, 0.5, 0])
    return Aggregate(np.array(delta, np.float32), np.array([7, 8], np.float32), influence)


def test_two_steps_are_those_computed_by_hand():
    """η 1, β₁ ½, β₂ ¾, τ 2, gradients 4 and then 0.

    m = 2, v = ¾·4 + ¼·16 = 7: the step is 2 / (√7 + 2). Then m = 1, v = ¾·7 = 5.25: it is 1 / (√5.25 + 2).
    """
    told = {"fedadam_lr": 1.0, "fedadam_beta1": 0.5, "fedadam_beta2": 0.75, "fedadam_tau": 2.0}
    one, memory = fedadam(given([4, -4, 0, 4]), COHORT, memory={}, **told)
    np.testing.assert_allclose(one.delta, np.array([1, -1, 0, 1]) * 2 / 4.6457513, rtol=1e-6)
    np.testing.assert_allclose(memory["scale"][:2], [2.6457513, 2.6457513], rtol=1e-6)
    two, memory = fedadam(given([0, 0, 0, 0]), COHORT, memory=memory, **told)
    np.testing.assert_allclose(two.delta, np.array([1, -1, 0, 1]) / 4.2912878, rtol=1e-6)
    assert memory["first"].tolist() == [1, -1, 0, 1]


@pytest.mark.parametrize("size", [1e-30, 1e-6, 1e-3, 1.0, 1e25])
def test_it_agrees_with_the_paper_in_float64_over_many_rounds(size):
    """With its defaults, from v = τ²; also where a square would overflow or vanish in float32."""
    rng, memory, first, second = np.random.default_rng(0), {}, np.zeros(4), np.full(4, 0.001**2)
    for _ in range(50):
        before = given(rng.normal(size=4) * size)
        result, memory = fedadam(before, COHORT, memory=memory)
        delta = before.delta.astype(np.float64)
        first = 0.9 * first + 0.1 * delta
        second = 0.99 * second + 0.01 * delta**2
        np.testing.assert_allclose(result.delta, 0.1 * first / (np.sqrt(second) + 0.001), rtol=2e-5, atol=1e-6 * size)


def test_steps_are_of_one_size_where_updates_are_large_and_of_the_updates_where_they_are_small():
    """What an adaptive method is for: large τ is plain averaging in another scale, small τ takes signs."""
    memory = {}
    for _ in range(500):
        result, memory = fedadam(given([100, 1, -10, 1e-6]), COHORT, memory=memory)
    np.testing.assert_allclose(result.delta, [0.1, 0.1, -0.1, 1e-4], rtol=0.1)


def test_statistics_and_influence_pass_as_they_are_and_what_was_given_is_left_alone():
    before = given([1, 2, 3, 4])
    _, memory = fedadam(before, COHORT, memory={})
    kept = {name: array.copy() for name, array in memory.items()}
    result, _ = fedadam(before, COHORT, memory=memory)
    assert result.statistics is before.statistics and result.influence is before.influence
    assert before.delta.tolist() == [1, 2, 3, 4]
    for name, array in kept.items():
        np.testing.assert_array_equal(memory[name], array)
        assert memory[name].dtype == np.float32


def test_what_it_remembers_comes_back_bit_for_bit(tmp_path):
    assert_resumes("fedadam", tmp_path)
