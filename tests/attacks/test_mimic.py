"""Mimic: whom it copies, by an independent principal component, and that Krum falls for it and NNM helps."""

from dataclasses import replace

import numpy as np
import pytest

from attacks import Attack
from attacks.mimic import mimic
from oleander.system.errors import UserError
from strategies.krum import krum
from strategies.nnm import nnm
from tests.attacks.trained import SETTINGS
from tests.cohorts import random_cohort
from tests.spaces import attack_of

MIMIC = mimic(Attack(), clients=50, malicious=2)


def copied(cohort, attackers) -> int:
    """The client whom the attackers copy."""
    sent = MIMIC.meet(cohort, attackers)
    others = [i for i in range(len(cohort)) if i not in attackers]
    np.testing.assert_array_equal(sent.deltas[others], cohort.deltas[others])
    found = {i for i in others for a in attackers if np.array_equal(sent.deltas[a], cohort.deltas[i])}
    (client,) = found
    for attacker in attackers:
        np.testing.assert_array_equal(sent.deltas[attacker], cohort.deltas[client])
        np.testing.assert_array_equal(sent.statistics[attacker], cohort.statistics[client])
    return client


def test_golden_cohort_worked_out_by_hand():
    """Along the first axis they vary most: µ = (5, 0); 1 is 4 away, 2 is 2, 3 is 6; 4 is far along the other."""
    cohort = random_cohort(6, d=2)
    cohort.deltas[:] = [[99, 99], [1, 0], [3, 0], [11, 0], [5, 3], [5, -3]]
    assert copied(cohort, [0]) == 3
    cohort.deltas[3], cohort.deltas[1] = [9, 0], [-1, 0]  # µ = 4.2: now 1 is the farthest, on the other side
    assert copied(cohort, [0]) == 1


@pytest.mark.parametrize("seed", range(8))
def test_it_is_the_farthest_along_the_first_principal_component(seed):
    cohort = random_cohort(9, d=40, seed=seed)
    cohort.deltas[:] += 5
    honest = cohort.deltas[[0, 1, 3, 4, 6, 7, 8]].astype(np.float64)
    _, _, directions = np.linalg.svd(honest - honest.mean(axis=0))  # of the whole matrix, not of inner products
    along = np.abs((honest - honest.mean(axis=0)) @ directions[0])
    assert copied(cohort, [2, 5]) == [0, 1, 3, 4, 6, 7, 8][along.argmax()]


def test_of_two_equally_far_the_lowest_id_is_copied():
    cohort = random_cohort(5, d=30, seed=1)
    for first, second in ((1, 3), (3, 1)):
        cohort.deltas[[0, 2, 4]] = cohort.deltas[0]
        cohort.deltas[first] = cohort.deltas[0] + 3
        cohort.deltas[second] = cohort.deltas[0] - 3
        assert copied(cohort, [0, 2, 4]) == 1
    pair = random_cohort(3, d=2000, seed=5)
    assert copied(pair, [0]) == 1  # two are as far from their mean as each other, whatever rounding says


def test_what_the_attackers_trained_does_not_matter_and_updates_that_agree_are_copied_too():
    cohort, other = random_cohort(7), random_cohort(7)
    other.deltas[:2] = 1e6
    np.testing.assert_array_equal(MIMIC.meet(cohort, [0, 1]).deltas[:2], MIMIC.meet(other, [0, 1]).deltas[:2])
    cohort.deltas[2:], cohort.statistics[2:] = cohort.deltas[2], cohort.statistics[2]
    np.testing.assert_array_equal(MIMIC.meet(cohort, [0, 1]).deltas, np.tile(cohort.deltas[2], (7, 1)))


@pytest.mark.parametrize("seed", range(5))
def test_krum_falls_for_it_on_clients_that_differ_and_nearest_neighbour_mixing_helps(seed):
    """The paper's setting: clients that differ more than they agree; f = 3 of n = 13; errors are distances to the honest mean."""
    cohort = random_cohort(13, d=100, seed=seed)
    cohort.deltas[:] = 3 * cohort.deltas + 1
    honest = cohort.deltas[3:].astype(np.float64).mean(axis=0)
    sent = MIMIC.meet(cohort, range(3))

    def error(given) -> float:
        return float(np.linalg.norm(krum(given, assumed_malicious=3).delta.astype(np.float64) - honest))

    copied_client = next(i for i in range(3, 13) if np.array_equal(sent.deltas[i], sent.deltas[0]))
    found = krum(sent, assumed_malicious=3)
    assert found.influence[[0, 1, 2, copied_client]].sum() == 1  # the copied one is what Krum takes
    assert error(nnm(sent, assumed_malicious=3)) < 0.5 * error(sent)


def test_without_an_honest_client_it_is_refused_and_in_a_round_without_one_they_send_their_own():
    cohort = random_cohort(3)
    np.testing.assert_array_equal(MIMIC.meet(cohort, [0, 1, 2]).deltas, cohort.deltas)
    with pytest.raises(
        UserError, match=r"^--attack mimic: 7 of 7 clients are malicious, so that there is nobody to copy$"
    ):
        attack_of(replace(SETTINGS, attack="mimic", malicious=7))


def test_where_all_honest_updates_are_equal_it_is_the_lowest_id():
    cohort = random_cohort(5, d=7)
    cohort.deltas[1:] = cohort.deltas[1]
    assert np.array_equal(MIMIC.meet(cohort, [0]).statistics[0], cohort.statistics[1])
