"""IPM: golden numbers, an independent reference, who is looked at, and what the paper promises of the inner product."""

from dataclasses import replace

import numpy as np
import pytest

from attacks import Attack
from attacks.ipm import ipm
from oleander.settings.config import validated
from oleander.system.errors import UserError
from strategies.fedavg import fedavg
from strategies.krum import krum
from strategies.median import median
from tests.attacks.trained import SETTINGS
from tests.cohorts import random_cohort
from tests.spaces import attack_of


def made(**settings) -> Attack:
    return ipm(Attack(), **{"clients": 9, "malicious": 2} | settings)


def reference(rows, epsilon):
    """Number by number, in Python's floats."""
    columns = zip(*rows.tolist(), strict=True)
    return [-epsilon * sum(column) / len(rows) for column in columns]


def test_golden_vector_worked_out_by_hand():
    cohort = random_cohort(5, d=2, s=1)
    cohort.deltas[:] = [[9, 9], [1, 0], [2, 4], [6, 2], [9, 9]]
    cohort.statistics[:] = [[7], [1], [2], [3], [7]]
    sent = made(ipm_epsilon=0.5).meet(cohort, [0, 4])
    assert sent.deltas.tolist() == [[-1.5, -1], [1, 0], [2, 4], [6, 2], [-1.5, -1]]
    assert sent.statistics.tolist() == [[-1], [1], [2], [3], [-1]]


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("knows", ["all", "own"])
def test_it_is_the_mean_of_those_it_knows_times_minus_epsilon(epsilon, knows):
    cohort = random_cohort(9, d=40, seed=3)
    sent = made(ipm_epsilon=epsilon, ipm_knows=knows).meet(cohort, [1, 5])
    theirs = np.isin(np.arange(9), [1, 5])
    for before, after in ((cohort.deltas, sent.deltas), (cohort.statistics, sent.statistics)):
        expected = reference(before[theirs if knows == "own" else ~theirs], epsilon)
        np.testing.assert_allclose(after[theirs], [expected, expected], rtol=1e-6, atol=1e-7)
        np.testing.assert_array_equal(after[~theirs], before[~theirs])
    assert sent.deltas.dtype == np.float32


def test_the_attackers_own_training_is_not_in_it_and_of_their_own_nobody_elses():
    cohort, other = random_cohort(9, seed=1), random_cohort(9, seed=1)
    other.deltas[:2] = 1e6
    np.testing.assert_array_equal(made().meet(cohort, [0, 1]).deltas[:2], made().meet(other, [0, 1]).deltas[:2])
    other.deltas[:2], other.deltas[2:] = cohort.deltas[:2], np.nan
    own = made(ipm_knows="own")
    np.testing.assert_array_equal(own.meet(cohort, [0, 1]).deltas[:2], own.meet(other, [0, 1]).deltas[:2])
    assert own.colludes and not own.omniscient


@pytest.mark.parametrize("seed", range(5))
def test_the_inner_product_of_an_average_with_the_honest_mean_becomes_negative_from_where_the_paper_says(seed):
    """Average: (q - b ε) / n times the honest mean, so from ε > q / b on; q = 7 honest, b = 2 attackers, 3.5."""
    cohort = replace(random_cohort(9, d=300, seed=seed), num_examples=np.full(9, 64))
    honest = cohort.deltas[2:].astype(np.float64).mean(axis=0)
    for epsilon, negative in ((3.4, False), (3.6, True)):
        sent = made(ipm_epsilon=epsilon).meet(cohort, [0, 1])
        assert (fedavg(sent).delta.astype(np.float64) @ honest < 0) == negative


@pytest.mark.parametrize("seed", range(5))
def test_krum_takes_a_small_one_and_answers_against_the_honest_mean(seed):
    """Theorem on Krum: honest updates that are spread wider than their mean is long; f = 4 of n = 11."""
    rng = np.random.default_rng(seed)
    cohort = random_cohort(11, d=200)
    cohort.deltas[:] = 0.02 + rng.normal(size=(11, 200))
    sent = made(clients=11, malicious=4).meet(cohort, range(4))
    honest = cohort.deltas[4:].astype(np.float64).mean(axis=0)
    found = krum(sent, assumed_malicious=4)
    assert found.influence[:4].sum() == 1 and found.delta.astype(np.float64) @ honest < 0
    assert np.linalg.norm(sent.deltas[0]) < np.linalg.norm(cohort.deltas[4:], axis=1).min()
    assert median(cohort).delta.astype(np.float64) @ honest > 0


def test_where_everybody_drawn_attacks_they_send_their_own_and_without_an_honest_client_it_is_refused():
    cohort = random_cohort(3)
    np.testing.assert_array_equal(made().meet(cohort, [0, 1, 2]).deltas, cohort.deltas)
    everybody = replace(SETTINGS, attack="ipm", malicious=7)
    with pytest.raises(UserError, match=r"^--attack ipm: 7 of 7 clients are malicious, .*--ipm-knows own$"):
        attack_of(everybody)
    assert attack_of(everybody.changed(ipm_knows="own")).colludes


def test_what_is_no_factor_is_refused():
    for bad in (0.0, -0.1, float("inf")):
        with pytest.raises(UserError, match="ipm_epsilon"):
            validated({"attack": "ipm", "ipm_epsilon": bad}, "test")
