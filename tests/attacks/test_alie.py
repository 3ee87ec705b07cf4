"""ALIE: golden numbers, an independent reference, when it is refused, and what the paper promises of it."""

import statistics
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from attacks import Attack
from attacks.alie import alie
from oleander.settings.config import validated
from oleander.system.errors import UserError
from strategies._krum_scores import lowest_scores
from strategies.fedavg import fedavg
from strategies.krum import krum
from tests.attacks.trained import SETTINGS
from tests.cohorts import random_cohort
from tests.spaces import attack_of


def met(attack: Attack, n: int = 7, attackers: int = 3, d: int = 50, seed: int = 0):
    """A cohort before and after its attackers, the clients 0 …, have met."""
    cohort = random_cohort(n, d=d, seed=seed)
    return cohort, attack.meet(cohort, range(attackers))


def test_golden_vector_worked_out_by_hand():
    """n = 7, m = 3: s = 4 - 3 = 1, z = Φ⁻¹(3/4) = 0.6745; rows (1, 0), (2, 0), (6, 3): µ = (3, 1), σ = (√7, √3)."""
    cohort = random_cohort(7, d=2, s=1)
    cohort.deltas[:3] = [[1, 0], [2, 0], [6, 3]]
    cohort.statistics[:3] = [[1], [2], [6]]
    sent = alie(Attack(), clients_per_round=7, malicious=3).meet(cohort, [0, 1, 2])
    np.testing.assert_allclose(sent.deltas[:3], [[3 - 1.784532, 1 - 1.168251]] * 3, rtol=1e-5)
    np.testing.assert_allclose(sent.statistics[:3], [[3 - 1.784532]] * 3, rtol=1e-5)
    np.testing.assert_array_equal(sent.deltas[3:], cohort.deltas[3:])


@pytest.mark.parametrize(("n", "m"), [(7, 3), (5, 2), (10, 3), (10, 4), (50, 24), (51, 12)])
@pytest.mark.parametrize("knows", ["own", "all"])
def test_it_is_the_mean_less_z_deviations_of_those_it_knows(n, m, knows):
    attack = alie(Attack(), clients_per_round=n, malicious=m, alie_knows=knows)
    cohort, sent = met(attack, n, m)
    s = np.floor(n / 2 + 1) - m
    z = stats.norm.ppf((n - m - s) / (n - m))
    assert z > 0
    for before, after in ((cohort.deltas, sent.deltas), (cohort.statistics, sent.statistics)):
        seen = (before[:m] if knows == "own" else before).astype(np.float64)
        expected = stats.tmean(seen, axis=0) - z * stats.tstd(seen, axis=0)
        np.testing.assert_allclose(after[:m], np.tile(expected, (m, 1)), rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(after[m:], before[m:])
    assert sent.deltas.dtype == np.float32


def test_z_is_the_papers_example_of_fifty_workers():
    """Section 3.3: 50 workers, 24 corrupted, s = 2, Φ(z) < 24/26 and so z = 1.43."""
    cohort, sent = met(alie(Attack(), clients_per_round=50, malicious=24), 50, 24)
    own = cohort.deltas[:24].astype(np.float64)
    assert np.allclose((own.mean(axis=0) - sent.deltas[0]) / own.std(axis=0, ddof=1), 1.43, atol=0.005)


def test_z_may_be_given():
    cohort, sent = met(alie(Attack(), clients_per_round=10, malicious=2, alie_z=1.5), 10, 2)
    low, high = np.sort(cohort.deltas[:2].astype(np.float64), axis=0)
    np.testing.assert_allclose(sent.deltas[0], (low + high) / 2 - 1.5 * (high - low) / np.sqrt(2), rtol=1e-4, atol=1e-6)


def test_attackers_of_their_own_know_nobody_elses_updates():
    attack = alie(Attack(), clients_per_round=7, malicious=3)
    cohort, sent = met(attack)
    deltas = cohort.deltas.copy()
    deltas[3:] = np.nan
    np.testing.assert_array_equal(attack.meet(replace(cohort, deltas=deltas), range(3)).deltas[:3], sent.deltas[:3])
    assert attack.colludes and not attack.omniscient
    everybody = alie(Attack(), clients_per_round=7, malicious=3, alie_knows="all")
    assert everybody.omniscient and not everybody.colludes


def test_in_a_round_with_one_attacker_it_sends_its_own_and_one_who_knows_all_does_not():
    cohort, sent = met(alie(Attack(), clients_per_round=7, malicious=3), attackers=1)
    np.testing.assert_array_equal(sent.deltas, cohort.deltas)
    cohort, sent = met(alie(Attack(), clients_per_round=5, malicious=1, alie_knows="all", alie_z=1.0), 5, 1)
    everybody = cohort.deltas.astype(np.float64)
    np.testing.assert_allclose(
        sent.deltas[0], everybody.mean(axis=0) - everybody.std(axis=0, ddof=1), rtol=1e-5, atol=1e-6
    )


def test_it_shifts_the_average_by_its_share_of_z_deviations():
    cohort, sent = met(alie(Attack(), clients_per_round=11, malicious=5), 11, 5, d=2000)
    sent, cohort = (replace(c, num_examples=np.full(11, 64)) for c in (sent, cohort))
    z = statistics.NormalDist().inv_cdf(5 / 6)
    shift = fedavg(cohort).delta - fedavg(sent).delta
    np.testing.assert_allclose(shift.mean(), 5 / 11 * z * cohort.deltas[:5].std(axis=0, ddof=1).mean(), rtol=1e-3)
    assert shift.min() > 0


@pytest.mark.parametrize("seed", range(5))
def test_krum_takes_the_attackers_update_and_would_not_have_taken_a_larger_shift(seed):
    """The paper's second promise. Honest updates lie about a common one, as a round's do; f = m = 5 of n = 13."""
    attack = alie(Attack(), clients_per_round=13, malicious=5)
    cohort, sent = met(attack, 13, 5, d=1000, seed=seed)
    assert krum(sent, assumed_malicious=5).influence[:5].sum() == 1
    assert sent.deltas[0].mean() < cohort.deltas[5:].mean(axis=1).min()  # all of it is to one side
    far = alie(Attack(), clients_per_round=13, malicious=5, alie_z=10.0).meet(cohort, range(5))
    alone = replace(far, deltas=np.concatenate([cohort.deltas[1:5], far.deltas[:1], cohort.deltas[5:]]))
    assert lowest_scores(alone, 5, 12).tolist().count(4) == 0  # a single such update is the last of 13


@pytest.mark.parametrize(("n", "m", "words"), [
    (10, 2, "z = 0 for n = 10 clients a round and m = 2 malicious"),
    (4, 2, "z = 0 for n = 4 clients a round and m = 2"),
    (6, 4, "z = inf for n = 6 clients a round and m = 4"),
    (3, 3, "z = inf for n = 3 clients a round and m = 3"),
    (10, 20, "z = inf for n = 10 clients a round and m = 20"),
])  # fmt: skip
def test_where_there_is_no_z_it_is_refused_unless_one_is_given(n, m, words):
    experiment = replace(SETTINGS, attack="alie", clients=30, clients_per_round=n, malicious=m)
    with pytest.raises(UserError, match=f"--attack alie: {words}.*--alie-z"):
        attack_of(experiment)
    assert attack_of(experiment.changed(alie_z=0.5)).colludes


def test_one_attacker_without_others_to_look_at_is_refused_and_none_is_not():
    one = replace(SETTINGS, attack="alie", malicious=1)
    for alone in (one, one.changed(alie_z=0.5)):
        with pytest.raises(UserError, match=r"malicious = 1; it takes 2 or more.*--alie-knows all"):
            attack_of(alone)
    assert attack_of(one.changed(alie_knows="all", alie_z=0.5)).omniscient
    assert attack_of(replace(SETTINGS, attack="alie", malicious=0)).colludes  # nobody to carry it out


def test_what_is_no_z_is_refused():
    for bad in (0.0, -1.0, float("inf")):
        with pytest.raises(UserError, match="alie_z"):
            validated({"attack": "alie", "alie_z": bad}, "test")
