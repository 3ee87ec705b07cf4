"""FLAME: its clusters against golden ones and single linkage, its mean against its definition, and what the paper promises."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sklearn.cluster

from oleander.learning.parameters import ModelState
from oleander.learning.updates import Cohort
from strategies import aggregate
from strategies.flame import _cosine_distances, flame
from tests.cohorts import random_cohort
from tests.strategies.references import single_linkage

GOLDEN = {
    (5, 0): [0, 1, 4], (8, 0): [0, 1, 2, 3, 4, 5, 6, 7], (11, 0): [0, 1, 2, 4, 8, 10],
    (5, 1): [0, 1, 4], (8, 1): [1, 3, 4, 5, 6], (11, 1): [1, 3, 4, 5, 9, 10],
    (5, 2): [0, 1, 2, 3], (8, 2): [1, 3, 4, 6, 7], (11, 2): [1, 3, 4, 6, 7, 8, 9],
    (5, 3): [1, 3, 4], (8, 3): [0, 3, 4, 5, 7], (11, 3): [0, 1, 3, 4, 5, 7],
}  # fmt: skip
"""(n, seed) → whom scikit-learn 1.9.1 kept of random_cohort(n, d=6, seed=seed):

for n, seed in GOLDEN:
    print((n, seed), kept(random_cohort(n, d=6, seed=seed)))
"""


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def kept(cohort: Cohort) -> list[int]:
    return np.flatnonzero(flame(cohort, rng=rng(), flame_lambda=0.0).influence).tolist()


def by_single_linkage(cohort: Cohort) -> list[int]:
    """The cluster by the cosine distances of the local models."""
    models = cohort.start.weights.astype(np.float64) + cohort.deltas
    units = models / np.linalg.norm(models, axis=1, keepdims=True)
    distances = ((units[:, None] - units) ** 2).sum(axis=2) / 2

    return single_linkage(distances)


@pytest.mark.parametrize(("n", "seed"), GOLDEN)
def test_the_clusters_are_the_golden_ones(n, seed):
    assert kept(random_cohort(n, d=6, seed=seed)) == GOLDEN[n, seed]


@pytest.mark.parametrize("seed", range(40))
def test_the_cluster_is_that_of_single_linkage(seed):
    n = 3 + seed % 10
    start = np.random.default_rng(seed).normal(size=20).astype(np.float32) * 3
    cohort = replace(random_cohort(n, d=20, seed=seed), start=ModelState(start, np.zeros(6, np.float32)))
    assert kept(cohort) == by_single_linkage(cohort)


def test_distances_are_those_of_local_models_and_keep_their_digits_where_models_are_nearly_alike():
    """As late in training: 1 − cos of float64 would keep one digit of 10⁻¹⁵."""
    generator = np.random.default_rng(0)
    start = generator.normal(size=200).astype(np.float32)
    cohort = replace(random_cohort(5, d=200), start=ModelState(start, np.zeros(6, np.float32)))
    for scale in (1e-7, 1e-3, 1.0):
        small = replace(cohort, deltas=cohort.deltas * np.float32(scale))
        models = start.astype(np.longdouble) + small.deltas
        units = models / np.sqrt((models**2).sum(axis=1, keepdims=True))
        exact = ((units[:, None] - units) ** 2).sum(axis=2) / 2
        np.testing.assert_allclose(_cosine_distances(small), exact.astype(np.float64), rtol=1e-6)


def test_it_agrees_with_its_definition_without_noise():
    """The bound is the median of all norms, of those left out too; the mean of the kept is a plain one."""
    for seed in range(10):
        cohort = random_cohort(7, d=6, seed=seed)
        members = by_single_linkage(cohort)
        norms = np.linalg.norm(cohort.deltas.astype(np.float64), axis=1)
        factors = np.minimum(1, np.median(norms) / norms)[:, None]
        result = flame(cohort, rng=rng(), flame_lambda=0.0)
        for found, rows in ((result.delta, cohort.deltas), (result.statistics, cohort.statistics)):
            np.testing.assert_allclose(found, (rows * factors)[members].mean(axis=0), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(result.influence[members], 1 / len(members))
        assert result.influence.sum() == pytest.approx(1)


def test_noise_is_normal_with_lambda_times_the_bound_and_its_generators():
    cohort = random_cohort(5, d=20_000)
    bound = np.median(np.linalg.norm(cohort.deltas.astype(np.float64), axis=1))
    clean, noisy = (flame(cohort, rng=rng(), flame_lambda=strength) for strength in (0.0, 0.02))
    noise = (noisy.delta.astype(np.float64) - clean.delta) / (0.02 * bound)
    np.testing.assert_allclose(noise, rng().normal(size=20_000), atol=1e-4)
    np.testing.assert_array_equal(noisy.statistics, clean.statistics)
    again = flame(cohort, rng=rng(), flame_lambda=0.02)
    np.testing.assert_array_equal(again.delta, noisy.delta)


@pytest.mark.parametrize("far", [1, 2, 4])
def test_the_far_minority_is_left_out(far):
    """The paper's promise; of ten, up to four whose models point elsewhere."""
    generator = np.random.default_rng(far)
    start = generator.normal(size=50).astype(np.float32)
    cohort = replace(random_cohort(10), start=ModelState(start, np.zeros(6, np.float32)))
    backdoor = 20 * generator.normal(size=50)
    deltas = 0.1 * cohort.deltas
    deltas[:far] += backdoor.astype(np.float32)
    found = kept(replace(cohort, deltas=deltas))
    assert found and min(found) >= far and len(found) > 5


def test_a_scaled_update_in_the_cluster_is_cut_to_the_median_norm():
    """Models along one ray have a cosine distance of 0, whatever their length."""
    row = np.ones(4, np.float32)
    cohort = replace(random_cohort(3, d=4), deltas=np.stack([row, 100 * row, row]))
    result = flame(cohort, rng=rng(), flame_lambda=0.0)
    np.testing.assert_allclose(result.influence, 1 / 3)
    np.testing.assert_allclose(result.delta, row, rtol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_clients_that_all_send_the_same_are_all_kept(n):
    cohort = random_cohort(n)
    same = replace(cohort, deltas=np.tile(cohort.deltas[0], (n, 1)))
    result = flame(same, rng=rng(), flame_lambda=0.0)
    np.testing.assert_allclose(result.influence, 1 / n)
    np.testing.assert_array_equal(result.delta, cohort.deltas[0])


def test_models_of_zero_are_a_direction_of_their_own():
    cohort = replace(random_cohort(5, d=4), deltas=np.zeros((5, 4), np.float32))
    assert kept(cohort) == [0, 1, 2, 3, 4]
    deltas = np.array([[0, 0], [1, 0], [1, 0.01], [1, 0.02], [2, 0.03]], np.float32)
    assert 0 not in kept(replace(random_cohort(5, d=2), deltas=deltas))


def test_were_all_noise_all_would_be_kept(monkeypatch):
    """It has not been seen to happen: without a second cluster some always stay together longest."""
    monkeypatch.setattr(sklearn.cluster.HDBSCAN, "fit_predict", lambda self, x: np.full(len(x), -1))
    np.testing.assert_allclose(flame(random_cohort(4), rng=rng()).influence, 0.25)


def test_what_it_draws_is_keyed_by_seed_and_round():
    rows = random_cohort(4).deltas
    one, two, later = (aggregate("flame", rows, seed=seed, round=number) for seed, number in ((0, 1), (1, 1), (0, 2)))
    assert len({found.delta.tobytes() for found in (one, two, later)}) == 3
    assert aggregate("flame", rows, seed=0, round=1).delta.tobytes() == one.delta.tobytes()


def test_nobody_waits_for_scikit_learn_who_does_not_use_it():
    code = "import sys, strategies; strategies.known_strategies(); print([m for m in sys.modules if m.startswith('sklearn')])"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("length", [1e3, 1e8, 1e12, 1e16, 1e17, 1e30])
def test_however_long_an_update_is_its_direction_counts(length):
    """Of lengths that differ so much, (‖x − y‖² − (‖x‖ − ‖y‖)²) / (2 ‖x‖ ‖y‖) would be rounding, and often 0."""
    rng = np.random.default_rng(7)
    start = rng.normal(size=50).astype(np.float32)
    deltas = (0.01 * rng.normal(size=(10, 50))).astype(np.float32)
    deltas[9] = -length * start
    cohort = replace(random_cohort(10, d=50), deltas=deltas, start=ModelState(start, np.zeros(6, np.float32)))
    models = start.astype(np.float64) + deltas
    units = models / np.linalg.norm(models, axis=1, keepdims=True)
    np.testing.assert_allclose(_cosine_distances(cohort)[9, :9], 1 - units[:9] @ units[9], rtol=1e-12)
    assert _cosine_distances(cohort)[9].max() <= 2
    assert 9 not in kept(cohort) and len(kept(cohort)) > 5
