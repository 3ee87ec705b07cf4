"""Multi-Metrics against its scores written out pair by pair, and an attacker that no single distance shows."""

import itertools
from dataclasses import replace

import mpmath
import numpy as np
import pytest

from oleander.learning.parameters import ModelState
from strategies.multi_metrics import multi_metrics
from tests.cohorts import random_cohort, with_deltas


def measures(models: list[list[float]]) -> np.ndarray:
    """t_i = (Σ_j (1 − cos)², Σ_j ‖w_i − w_j‖₁, Σ_j |‖w_i‖ − ‖w_j‖|) of each."""
    n = len(models)
    lengths = [sum(x * x for x in w) ** 0.5 for w in models]
    t = np.zeros((n, 3))
    for i in range(n):
        for j in range(n):
            if i == j:
                continue
            product = sum(a * b for a, b in zip(models[i], models[j], strict=True))
            both = lengths[i] * lengths[j]
            t[i, 0] += (1 - (product / both if both else 0.0)) ** 2
            t[i, 1] += sum(abs(a - b) for a, b in zip(models[i], models[j], strict=True))
            t[i, 2] += abs(lengths[i] - lengths[j])
    return t


def kept_by(models: np.ndarray, share: float = 0.3) -> list[int]:
    t = measures([[float(x) for x in row] for row in models])
    inverse = np.linalg.pinv(np.cov(t.T))
    scores = [float(row @ inverse @ row) for row in t]
    count = max(1, int(share * len(models) + 1e-9))
    return sorted(sorted(range(len(models)), key=lambda i: (scores[i], i))[:count])


@pytest.mark.parametrize("seed", range(10))
def test_it_agrees_with_the_reference(seed):
    generator = np.random.default_rng(seed)
    n = 5 + seed
    cohort = replace(
        random_cohort(n, d=12, seed=seed),
        start=ModelState(generator.normal(size=12).astype(np.float32), np.zeros(6, np.float32)),
    )
    models = cohort.start.weights.astype(np.float64) + cohort.deltas
    for share in (0.3, 0.5, 1.0):
        result = multi_metrics(cohort, multi_metrics_share=share)
        kept = kept_by(models, share)
        assert np.flatnonzero(result.influence).tolist() == kept
        np.testing.assert_allclose(
            result.delta, cohort.deltas[kept].astype(np.float64).mean(axis=0), rtol=1e-5, atol=1e-6
        )


def test_measures_of_any_scale_count_alike():
    """Late in training 1 − cos is 10⁻⁸ where an L1 distance is 10⁴: an inverse with a cut-off would not see the former."""
    generator = np.random.default_rng(0)
    start = ModelState((100 * generator.normal(size=500)).astype(np.float32), np.zeros(6, np.float32))
    cohort = replace(random_cohort(10, d=500), start=start)
    t = measures((start.weights.astype(np.float64) + cohort.deltas).tolist())
    assert t[:, 0].max() < 1e-6 < 1e3 < t[:, 1].min()
    scaled = t / t.std(axis=0)
    inverse = np.linalg.inv(np.cov(scaled.T))
    scores = np.einsum("ij,jk,ik->i", scaled, inverse, scaled)
    assert np.flatnonzero(multi_metrics(cohort).influence).tolist() == sorted(np.argsort(scores)[:3].tolist())


@pytest.mark.parametrize("seed", range(6))
def test_an_attacker_who_is_as_long_as_others_is_left_out_by_its_direction(seed):
    """The paper's promise: several measures see what one does not. (Of one attacker: two alike stretch Σ, and may be kept.)"""
    generator = np.random.default_rng(seed)
    centre = generator.normal(size=400)
    rows = centre + 0.3 * generator.normal(size=(10, 400))
    rows[0] += centre * np.where(np.arange(400) < 40, -2, 0)  # a tenth of the weights has the other sign
    rows[0] *= np.linalg.norm(rows[1:], axis=1).mean() / np.linalg.norm(rows[0])
    assert multi_metrics(with_deltas(rows)).influence[0] == 0


@pytest.mark.parametrize(
    "rows", [np.zeros((5, 3)), np.ones((5, 3)), [[1, 2]], [[1, 2], [3, 4]], [[0, 1], [1, 0], [0, -1], [-1, 0]]]
)
def test_where_all_are_alike_to_the_measures_the_lowest_id_is_taken(rows):
    result = multi_metrics(with_deltas(rows))
    assert result.influence.tolist() == [1.0] + [0.0] * (len(rows) - 1)


def test_duplicates_and_one_far_client():
    rows = random_cohort(7, d=6).deltas.copy()
    rows[1] = rows[0]
    rows[6] = 1e30
    result = multi_metrics(with_deltas(rows), multi_metrics_share=0.9)
    assert result.influence[0] == result.influence[1] > 0 and result.influence.sum() == pytest.approx(1)


@pytest.mark.parametrize("scale", [1e6, 1e8, 1e10, 1e12])
def test_a_far_update_takes_no_measure_from_the_others(scale):
    """It brings two measures near to one, and only near: their inverse is what it is in exact arithmetic."""
    generator = np.random.default_rng(5)
    start = generator.normal(size=8).astype(np.float32)
    rows = generator.normal(size=(10, 8)).astype(np.float32)
    rows[9] *= np.float32(scale)
    with mpmath.workdps(100):
        models = [[mpmath.mpf(float(x)) for x in row] for row in start.astype(np.float64) + rows]
        lengths = [mpmath.sqrt(mpmath.fsum(x * x for x in row)) for row in models]
        t = mpmath.zeros(10, 3)
        for i, j in itertools.permutations(range(10), 2):
            cosine = mpmath.fsum(a * b for a, b in zip(models[i], models[j], strict=True)) / (lengths[i] * lengths[j])
            t[i, 0] += (1 - cosine) ** 2
            t[i, 1] += mpmath.fsum(abs(a - b) for a, b in zip(models[i], models[j], strict=True))
            t[i, 2] += abs(lengths[i] - lengths[j])
        away = t.copy()
        for k in range(3):
            middle = mpmath.fsum(t[:, k]) / 10
            for i in range(10):
                away[i, k] -= middle
        inverse = mpmath.inverse(away.T * away)
        scores = [(t[i, :] * inverse * t[i, :].T)[0] for i in range(10)]
    kept = sorted(sorted(range(10), key=lambda i: scores[i])[:3])
    cohort = replace(with_deltas(rows), start=ModelState(start, np.zeros(6, np.float32)))
    assert np.flatnonzero(multi_metrics(cohort).influence).tolist() == kept
