"""Gaussian: how the noise is spread, that it hangs on nothing but the generator, and that it drowns an average."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from attacks import Attack
from attacks.gaussian import gaussian
from clients.malicious import MaliciousClient
from oleander.learning.parameters import arrays_of
from oleander.learning.updates import Update
from oleander.settings.config import validated
from oleander.system.errors import UserError
from strategies.fedavg import fedavg
from strategies.median import median
from tests.attacks.trained import SETTINGS, Tiny, four_classes
from tests.cohorts import random_cohort
from tests.spaces import attack_of


def sent(std=1.0, seed=0, scale=1.0, d=20_000):
    honest = Update(3, np.full(d, scale, np.float32), np.full(4, 0.25, np.float32), 64)
    return gaussian(Attack(), gaussian_std=std).tamper(honest, {"rng": np.random.default_rng(seed)}.__getitem__)


@pytest.mark.parametrize("std", [0.01, 1.0, 200.0])
def test_the_weights_are_normal_noise_of_mean_0_and_the_deviation_asked_for(std):
    found = sent(std)
    assert stats.kstest(found.delta / std, "norm").pvalue > 1e-3
    assert found.delta.dtype == np.float32 and np.isfinite(found.delta).all()
    np.testing.assert_array_equal(found.statistics, np.full(4, 0.25, np.float32))  # as training made them
    assert (found.client_id, found.num_examples) == (3, 64)


def test_nothing_of_what_was_learned_is_in_it_and_each_generator_has_its_own():
    np.testing.assert_array_equal(sent(scale=1.0).delta, sent(scale=-7.0).delta)
    assert abs(np.corrcoef(sent(seed=0).delta, sent(seed=1).delta)[0, 1]) < 0.05
    np.testing.assert_array_equal(sent(2.0).delta, 2 * sent(1.0).delta)  # twice the deviation, the same draw


def client(number, round_number):
    torch.set_num_threads(1)
    model, experiment = Tiny(), SETTINGS.changed(attack="gaussian")
    start = [array.copy() for array in arrays_of(model)]
    malicious = MaliciousClient(four_classes(number), model, experiment, attack_of(experiment))
    found, *_ = malicious.fit(start, {"server-round": round_number})
    return np.concatenate([(a - b).ravel() for a, b in zip(found[:4], start[:4], strict=True)])


def test_attackers_and_rounds_have_draws_of_their_own_that_come_out_the_same_again():
    first, again, other, later = client(0, 1), client(0, 1), client(1, 1), client(0, 2)
    np.testing.assert_array_equal(first, again)
    assert 0.8 < first.std() < 1.2
    assert abs(np.corrcoef(first, other)[0, 1]) < 0.3 and abs(np.corrcoef(first, later)[0, 1]) < 0.3


def test_one_attacker_drowns_the_average_and_not_the_median():
    """The paper's promise, that no linear rule stands one attacker, on honest updates that agree to 0.01."""
    cohort = random_cohort(7, d=500)
    rng = np.random.default_rng(1)
    honest = (1 + 0.01 * rng.normal(size=(7, 500))).astype(np.float32)
    noise = gaussian(Attack(), gaussian_std=200.0)
    row = noise.tamper(Update(0, honest[0], cohort.statistics[0], 64), {"rng": rng}.__getitem__).delta
    bad = replace(cohort, deltas=np.concatenate([row[None], honest[1:]]))
    assert np.abs(fedavg(bad).delta - 1).mean() > 1
    assert np.abs(median(bad).delta - 1).max() < 0.05


def test_noise_of_no_deviation_is_refused():
    for bad in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(UserError, match="gaussian_std"):
            validated({"attack": "gaussian", "gaussian_std": bad}, "test")
