"""Min-Max and Min-Sum: golden numbers, a reference by root finding, bounds that hold and are reached, and the papers' promises."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import optimize
from scipy.spatial import distance

from attacks import Attack
from attacks.alie import alie
from attacks.min_max import min_max
from attacks.min_sum import min_sum
from oleander.settings.config import validated
from oleander.system.errors import UserError
from strategies.median import median
from strategies.trimmed_mean import trimmed_mean
from tests.attacks.trained import SETTINGS
from tests.cohorts import random_cohort
from tests.spaces import attack_of

STEPS = {"min_max": min_max, "min_sum": min_sum}
CASES = [("min_max", {}), ("min_sum", {}), ("min_sum", {"min_sum_bound": "min"})]
"""Attacks and settings."""


def made(name: str, **settings) -> Attack:
    return STEPS[name](Attack(), **{"clients": 50, "malicious": 2} | settings)


def margin(name: str, seen: np.ndarray, sent: np.ndarray, bound: str = "max") -> float:
    """How far from the bound, in squares; not negative where it holds. By the definition, with scipy's distances."""
    apart, away = distance.squareform(distance.pdist(seen, "sqeuclidean")), np.square(seen - sent).sum(axis=1)
    if name == "min_max":
        return apart.max() - away.max()
    sums = apart.sum(axis=1)
    return (sums.max() if bound == "max" else sums.min()) - away.sum()


def reference(name: str, seen: np.ndarray, kind: str, bound: str = "max") -> tuple[float, np.ndarray]:
    """γ by root finding on the margin, and the update that is sent."""
    mean = seen.mean(axis=0)
    step = {"unit": mean / np.sqrt((mean**2).sum()), "sign": np.sign(mean), "std": seen.std(axis=0, ddof=1)}[kind]
    gamma = optimize.brentq(lambda g: margin(name, seen, mean - g * step, bound), 0, 1e4, xtol=1e-12)
    return gamma, mean - gamma * step


def test_golden_vectors_worked_out_by_hand():
    """Honest: (0, 2), (0, 4): µ = (0, 3), 2 apart. Min-Max: (0, y) 2 from (0, 4), γ = 1. Min-Sum: 2 (y - 3)² + 2 = 4, γ = 1."""
    cohort = random_cohort(4, d=2, s=1)
    cohort.deltas[:] = [[9, 9], [0, 2], [0, 4], [9, 9]]
    cohort.statistics[:] = [[9], [6], [12], [9]]
    for name in STEPS:
        sent = made(name).meet(cohort, [0, 3])
        np.testing.assert_allclose(sent.deltas, [[0, 2], [0, 2], [0, 4], [0, 2]], atol=2e-5)
        np.testing.assert_allclose(sent.statistics[0], 9 - 9 / 3, atol=1e-4)  # the weights' factor, 1 - γ / 3
        np.testing.assert_array_equal(sent.statistics[1:3], cohort.statistics[1:3])


@pytest.mark.parametrize(("name", "settings"), CASES)
@pytest.mark.parametrize("kind", ["unit", "sign", "std"])
@pytest.mark.parametrize("knows", ["all", "own"])
def test_it_is_the_mean_less_the_largest_multiple_that_keeps_the_bound(name, settings, kind, knows):
    cohort = random_cohort(9, d=60, seed=4)
    cohort.deltas[:] += 0.3
    theirs = np.isin(np.arange(9), [1, 4, 5])
    own = {f"{name}_perturbation": kind, f"{name}_knows": knows}
    sent = made(name, **own, **settings).meet(cohort, [1, 4, 5])
    seen = cohort.deltas[theirs if knows == "own" else ~theirs].astype(np.float64)
    gamma, expected = reference(name, seen, kind, *settings.values())
    assert 1e-3 < gamma < 19  # within what is searched
    np.testing.assert_allclose(sent.deltas[theirs], [expected] * 3, atol=1e-4)
    np.testing.assert_array_equal(sent.deltas[~theirs], cohort.deltas[~theirs])
    assert margin(name, seen, sent.deltas[1].astype(np.float64), *settings.values()) > -1e-4
    assert sent.deltas.dtype == sent.statistics.dtype == np.float32
    statistics = cohort.statistics[theirs if knows == "own" else ~theirs].astype(np.float64)
    mean = statistics.mean(axis=0)
    factor = np.linalg.norm(seen.mean(axis=0))
    step = {"unit": mean / factor, "sign": np.sign(mean), "std": statistics.std(axis=0, ddof=1)}[kind]
    np.testing.assert_allclose(sent.statistics[theirs], [mean - gamma * step] * 3, atol=1e-4)


@pytest.mark.parametrize("name", STEPS)
def test_what_nobody_knows_is_not_looked_at(name):
    cohort, other = random_cohort(9, seed=1), random_cohort(9, seed=1)
    other.deltas[:2] = 1e6
    np.testing.assert_array_equal(made(name).meet(cohort, [0, 1]).deltas[:2], made(name).meet(other, [0, 1]).deltas[:2])
    own, blind = made(name, **{f"{name}_knows": "own"}), random_cohort(9, seed=1)
    blind.deltas[2:] = np.nan
    np.testing.assert_array_equal(own.meet(cohort, [0, 1]).deltas[:2], own.meet(blind, [0, 1]).deltas[:2])
    assert own.colludes and not own.omniscient


def test_updates_of_more_than_a_block_of_columns_come_out_as_the_reference():
    cohort = random_cohort(5, d=2**16 + 77, seed=2)
    cohort.deltas[:] *= 0.02
    sent = made("min_max").meet(cohort, [0])
    _, expected = reference("min_max", cohort.deltas[1:].astype(np.float64), "unit")
    np.testing.assert_allclose(sent.deltas[0], expected, atol=1e-6)


def shift(rule, cohort, attack, attackers, **settings) -> float:
    """How far the attack moves what the rule makes of the round."""
    honest = replace(cohort, num_examples=np.full(len(cohort), 64))
    moved = rule(attack.meet(honest, range(attackers)), **settings).delta
    return float(np.linalg.norm(moved.astype(np.float64) - rule(honest, **settings).delta))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("rule", [(median, {}), (trimmed_mean, {"assumed_malicious": 10, "trimmed_mean_trim": None})])
def test_min_max_moves_a_coordinate_wise_rule_at_least_as_far_as_min_sum_and_that_farther_than_alie(rule, seed):
    """The order of the authors' notebooks: 50 clients, 10 of them malicious, who know all; deviations as p.

    Where the attackers are beyond every honest value, a median can be moved no farther.
    """
    cohort = random_cohort(50, d=300, seed=seed)
    cohort.deltas[:] = 0.2 * cohort.deltas + 0.1
    found = [
        shift(rule[0], cohort, attack, 10, **rule[1])
        for attack in (
            alie(Attack(), clients_per_round=50, malicious=10, alie_knows="all"),
            made("min_sum", min_sum_perturbation="std", min_sum_bound="min"),
            made("min_max", min_max_perturbation="std"),
        )
    ]
    assert 1.2 * found[0] < found[1] <= found[2] and (rule[0] is median or found[1] < found[2])


def test_attackers_alone_or_beside_one_honest_client_send_their_own():
    cohort = random_cohort(4)
    for name in STEPS:
        for attackers in ([0, 1, 2], [0, 1, 2, 3]):
            np.testing.assert_array_equal(made(name).meet(cohort, attackers).deltas, cohort.deltas)
        alone = made(name, **{f"{name}_knows": "own"}).meet(cohort, [2])
        np.testing.assert_array_equal(alone.deltas, cohort.deltas)


def test_updates_that_agree_leave_no_room_and_a_mean_of_0_no_direction():
    same = random_cohort(5)
    same.deltas[:], same.statistics[:] = same.deltas[0], same.statistics[0]
    for name in STEPS:
        np.testing.assert_allclose(made(name).meet(same, [0, 1]).deltas, same.deltas, atol=2e-5)
    same.deltas[:] = 0
    for name in STEPS:
        assert not made(name).meet(same, [0, 1]).deltas.any()


@pytest.mark.parametrize("name", STEPS)
def test_where_fewer_than_two_could_be_seen_it_is_refused(name):
    lone = replace(SETTINGS, attack=name, malicious=1)
    with pytest.raises(UserError, match=rf"^--attack {name}: malicious = 1; with --{name.replace('_', '-')}-knows own"):
        attack_of(lone.changed(**{f"{name}_knows": "own"}))
    with pytest.raises(UserError, match=rf"^--attack {name}: 6 of 7 clients are malicious, and it takes 2 honest"):
        attack_of(replace(SETTINGS, attack=name, malicious=6))
    assert attack_of(lone).omniscient and attack_of(replace(SETTINGS, attack=name, malicious=0)).omniscient


def test_what_is_no_perturbation_bound_or_knowledge_is_refused():
    for settings in ({"min_max_perturbation": "mean"}, {"min_max_knows": "none"}, {"min_sum_bound": "mean"}):
        ((setting, value),) = settings.items()
        with pytest.raises(UserError, match=f"{setting} = {value!r}"):
            validated({"attack": setting[:7], **settings}, "test")
