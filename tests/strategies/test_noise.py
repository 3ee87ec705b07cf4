"""The noise has the deviation that was asked for, is on the weights alone, and is drawn by seed and round."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import kstest

from oleander.settings.config import Experiment
from oleander.system.errors import UserError
from strategies import Server, pipeline_of
from strategies.fedavg import fedavg
from strategies.noise import noise
from tests.cohorts import random_cohort

COHORT = random_cohort(5, d=20_000)
PLAIN = fedavg(COHORT)


def added(strategy: str = "noise", seed: int = 0, number: int = 1, **settings) -> np.ndarray:
    pipeline = pipeline_of(Experiment(strategy=strategy).changed(**settings))
    return pipeline.run(replace(COHORT, round=number), {}, Server(seed)).aggregate.delta.astype(float) - PLAIN.delta


@pytest.mark.parametrize("std", [0.025, 1.0])
def test_it_is_normal_with_the_deviation_asked_for(std):
    found = added(noise_std=std)
    assert found.std() == pytest.approx(std, rel=0.03) and abs(found.mean()) < 4 * std / np.sqrt(len(found))
    assert kstest(found / std, "norm").pvalue > 0.01


def test_golden_values():
    """numpy.random.default_rng(0).standard_normal(3) · 0.5, rounded to float32."""
    aggregate = replace(PLAIN, delta=np.ones(3, np.float32))
    found = noise(aggregate, COHORT, rng=np.random.default_rng(0), noise_std=0.5).delta
    np.testing.assert_allclose(found, [1.0628651, 0.93394756, 1.3202113], rtol=1e-6)


def test_the_same_seed_and_round_draw_the_same_and_others_another():
    np.testing.assert_array_equal(added(), added())
    for other in (added(number=2), added(seed=1)):
        assert abs(np.corrcoef(added(), other)[0, 1]) < 0.03


def test_two_of_it_draw_each_its_own():
    assert added("noise+noise").std() == pytest.approx(0.025 * np.sqrt(2), rel=0.03)


def test_statistics_and_influence_stay():
    found = noise(PLAIN, COHORT, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(found.statistics, PLAIN.statistics)
    np.testing.assert_array_equal(found.influence, PLAIN.influence)
    assert not added(noise_std=0).any()


def test_what_overflows_is_refused_before_anything_starts():
    with pytest.raises(UserError, match="the finish noise returned an aggregate that is not finite"):
        added(noise_std=1e39)
