"""AlignIns against its definition written out coordinate by coordinate, and a backdoor as long as honest updates."""

from dataclasses import replace
from math import sqrt
from statistics import median

import numpy as np
import pytest

from oleander.learning.parameters import ModelState
from oleander.learning.updates import Cohort
from strategies.alignins import alignins
from tests.cohorts import random_cohort, with_deltas


def sign(x: float) -> int:
    return (x > 0) - (x < 0)


def kept_by(
    deltas: np.ndarray, model: np.ndarray, share: float = 0.3, direction: float = 1.0, signs: float = 1.0
) -> list[int]:
    rows, g = [[float(x) for x in row] for row in deltas], [float(x) for x in model]
    n, d = len(rows), len(g)

    def length(row: list[float]) -> float:
        return sqrt(sum(x * x for x in row))

    tda = []
    for row in rows:
        both = length(row) * length(g)
        tda.append(round(sum(a * b for a, b in zip(row, g, strict=True)) / both, 12) if both else 0.0)
    principal = [sign(sum(sign(row[j]) for row in rows)) for j in range(d)]
    count, mpsa = max(1, int(share * d)), []
    for row in rows:
        top = sorted(range(d), key=lambda j: (-abs(row[j]), j))[:count]  # type: ignore[misc]
        mpsa.append(sum(sign(row[j]) == principal[j] for j in top) / count)

    def near(values: list[float], most: float) -> set[int]:
        mean, middle = sum(values) / n, median(values)
        std = sqrt(sum((v - mean) ** 2 for v in values) / n)
        return {i for i, v in enumerate(values) if v == middle or abs(v - middle) < most * std * (1 - 1e-9)}

    return sorted(near(tda, direction) & near(mpsa, signs))


def moving(deltas: np.ndarray, seed: int = 0) -> Cohort:
    start = np.random.default_rng([seed, 1]).normal(size=deltas.shape[1]).astype(np.float32)
    cohort = with_deltas(deltas)
    return replace(cohort, start=ModelState(start, cohort.start.statistics))


@pytest.mark.parametrize("seed", range(10))
def test_it_agrees_with_the_reference(seed):
    generator = np.random.default_rng(seed)
    n = 5 + seed
    deltas = generator.normal(size=(n, 40)) + generator.normal(size=40) * generator.choice([-1, 1, 1], size=(n, 1))
    deltas[generator.random(deltas.shape) < 0.1] = 0
    cohort = moving(deltas, seed)
    for told in ({}, {"share": 0.1}, {"direction": 2.0, "signs": 0.5}):
        kept = kept_by(cohort.deltas, cohort.start.weights, **told)
        result = alignins(cohort, **{f"alignins_{name}": value for name, value in told.items()})
        assert np.flatnonzero(result.influence).tolist() == kept
        norms = np.linalg.norm(cohort.deltas.astype(np.float64), axis=1)
        factors = np.minimum(1, np.median(norms[kept]) / norms)[:, None] if kept else 1
        for found, rows in ((result.delta, cohort.deltas), (result.statistics, cohort.statistics)):
            wanted = (rows * factors)[kept].mean(axis=0) if kept else np.zeros(rows.shape[1])
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_a_backdoor_as_long_as_honest_updates_is_left_out_by_its_signs():
    """The paper's promise: what norms and plain cosines hide, the signs of the largest weights tell."""
    generator = np.random.default_rng(0)
    common = generator.normal(size=500)
    rows = common + generator.normal(size=(10, 500))
    rows[:2, :100] = -2 * common[:100] + 0.2 * generator.normal(size=(2, 100))
    rows[:2] *= np.linalg.norm(rows[2:], axis=1).mean() / np.linalg.norm(rows[:2], axis=1, keepdims=True)
    result = alignins(moving(rows))
    assert not result.influence[:2].any() and result.influence[2:].any()


@pytest.mark.parametrize("rows", [np.zeros((5, 8)), np.ones((5, 8)), [[1, 2, 3]]])
def test_updates_that_are_all_alike_are_all_kept(rows):
    result = alignins(moving(np.array(rows, dtype=float)))
    np.testing.assert_allclose(result.influence, 1 / len(rows))
    assert (result.delta == rows[0]).all()


def test_cosines_that_are_equal_but_for_rounding_are_equal():
    """Updates along one ray have one cosine, whatever its last bits: who is kept does not hang on them."""
    rows = np.outer([1, 3, 7, 11, 13], np.random.default_rng(0).integers(-9, 10, size=50))
    np.testing.assert_allclose(alignins(moving(rows)).influence, 0.2)


def test_two_clients_that_differ_are_each_a_deviation_from_the_median_and_nobody_is_kept():
    result = alignins(moving(random_cohort(2, d=20).deltas))
    assert not result.influence.any() and not result.delta.any()


def test_a_model_of_zero_has_no_direction_and_leaves_the_signs_to_tell():
    rows = random_cohort(7, d=30).deltas
    assert np.flatnonzero(alignins(with_deltas(rows)).influence).tolist() == kept_by(rows, np.zeros(30))


def test_among_equally_large_weights_the_first_coordinates_count():
    rows = np.array([[1, -1, 1, -1], [1, -1, 1, 1], [1, -1, -1, 1]], dtype=float)
    assert np.flatnonzero(alignins(moving(rows), alignins_share=0.5).influence).tolist() == kept_by(
        rows, moving(rows).start.weights, share=0.5
    )


def test_one_far_update_is_finite():
    rows = random_cohort(6, d=12).deltas.copy()
    rows[3] = 1e30
    assert np.isfinite(alignins(moving(rows)).delta).all()
