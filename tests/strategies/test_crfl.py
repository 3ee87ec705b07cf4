"""CRFL's finish against its formula, number by number, and its bound on the model."""

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest
from scipy import stats

from oleander.learning.parameters import ModelState
from oleander.learning.updates import Aggregate, Cohort
from oleander.settings.config import Experiment
from strategies import pipeline_of
from strategies.crfl import crfl, voters
from strategies.fedavg import fedavg
from tests.cohorts import random_cohort


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def moving(scale: float = 1.0, d: int = 40) -> Cohort:
    cohort = random_cohort(5, d=d)
    start = scale * np.random.default_rng(9).normal(size=d)
    return replace(cohort, start=ModelState(start.astype(np.float32), cohort.start.statistics))


def model(cohort: Cohort, found: Aggregate) -> np.ndarray:
    return cohort.start.weights.astype(np.float64) + found.delta


@pytest.mark.parametrize("rho", [0.5, 3.0, 1e3])
@pytest.mark.parametrize("number", [1, 5])
def test_it_agrees_with_the_formula(rho, number):
    cohort = replace(moving(), round=number)
    before = fedavg(cohort)
    w = [float(g) + float(x) for g, x in zip(cohort.start.weights, before.delta, strict=True)]
    length = sqrt(sum(x * x for x in w))
    noise = rng().standard_normal(40) * 0.1 if number < 5 else np.zeros(40)
    wanted = [x / max(1, length / rho) + e for x, e in zip(w, noise.tolist(), strict=True)]
    found = crfl(before, cohort, rng=rng(), rounds=5, crfl_rho=rho, crfl_sigma=0.1)
    np.testing.assert_allclose(model(cohort, found), wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found.statistics, before.statistics)
    np.testing.assert_array_equal(found.influence, before.influence)


def test_no_model_leaves_the_last_round_longer_than_rho_however_far_an_attacker_pulls():
    """What the paper's certificate rests on."""
    for far in (1e3, 1e30):
        cohort = moving()
        deltas = cohort.deltas.copy()
        deltas[2] = far
        cohort = replace(cohort, deltas=deltas, round=5)
        found = crfl(fedavg(cohort), cohort, rng=rng(), rounds=5, crfl_rho=7.0)
        assert np.linalg.norm(model(cohort, found)) <= 7.0 * (1 + 1e-6)


def test_within_rho_and_in_the_last_round_nothing_changes():
    cohort = replace(moving(), round=5)
    before = fedavg(cohort)
    np.testing.assert_array_equal(crfl(before, cohort, rng=rng(), rounds=5).delta, before.delta)


def test_a_model_of_zeros_has_no_length_to_cut():
    cohort = replace(random_cohort(3, d=4), deltas=np.zeros((3, 4), np.float32), round=5)
    assert not crfl(fedavg(cohort), cohort, rng=rng(), rounds=5).delta.any()


def test_voters_are_copies_with_noise_of_the_deviation_asked_for_and_their_own_each():
    final = ModelState(np.full(20_000, 3.0, np.float32), np.arange(4, dtype=np.float32))
    first, second, *rest = voters(final, rng(), crfl_votes=2, crfl_sigma=0.5)
    assert not rest and not np.array_equal(first.weights, second.weights)
    for voter in (first, second):
        assert stats.kstest((voter.weights - 3.0) / 0.5, "norm").pvalue > 1e-3
        assert voter.weights.dtype == np.float32
        np.testing.assert_array_equal(voter.statistics, final.statistics)
    again = list(voters(final, rng(), crfl_votes=2, crfl_sigma=0.5))
    np.testing.assert_array_equal(again[1].weights, second.weights)
    assert not list(voters(final, rng(), crfl_votes=0, crfl_sigma=0.5))


def test_a_strategy_with_crfl_has_its_voters_and_another_none():
    final = ModelState(np.zeros(5, np.float32), np.zeros(0, np.float32))
    told = Experiment(strategy="clip+crfl").changed(crfl_votes=3)
    assert len(list(pipeline_of(told).voters(final, seed=0))) == 3
    for without in (Experiment(strategy="clip+crfl"), Experiment(strategy="clip+krum")):
        assert not list(pipeline_of(without).voters(final, seed=0))


@pytest.mark.parametrize("rho", [100.0, 1.0, 1e-3, 1e-5, 1e-7])
def test_the_models_norm_is_the_bound_however_long_it_was(rho):
    cohort = replace(random_cohort(3, d=6), start=ModelState(np.zeros(6, np.float32), np.zeros(6, np.float32)), round=5)
    cohort.deltas[:] = 3e38
    found = crfl(fedavg(cohort), cohort, rng=rng(), rounds=5, crfl_rho=rho)
    assert np.linalg.norm(model(cohort, found)) == pytest.approx(rho, rel=1e-6)
