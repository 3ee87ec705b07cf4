"""FLDetector: its L-BFGS against BFGS's own recursion on a matrix, its scores round by round, and an attacker who is inconsistent."""

from dataclasses import replace

import numpy as np
import pytest

from oleander.learning.parameters import ModelState
from oleander.learning.updates import Cohort
from oleander.settings.config import Experiment
from oleander.system.errors import UserError
from strategies import RuleError, pipeline_of
from strategies.fldetector import _product, fldetector
from tests.cohorts import with_deltas


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def curvature(steps: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """B ← B − B s sᵀ B / sᵀ B s + y yᵀ / yᵀ s, pair by pair, from σ I; σ = yᵀ s / sᵀ s of the last."""
    s, y = steps[-1].astype(np.float64), turns[-1].astype(np.float64)
    matrix = (y @ s) / (s @ s) * np.eye(len(s))
    for s, y in zip(steps.astype(np.float64), turns.astype(np.float64), strict=True):
        across = matrix @ s
        matrix = matrix - np.outer(across, across) / (s @ across) + np.outer(y, y) / (y @ s)
    return matrix


@pytest.mark.parametrize("pairs", [1, 2, 4])
def test_the_product_is_that_of_the_matrix_that_bfgs_builds(pairs):
    generator = np.random.default_rng(pairs)
    root = generator.normal(size=(8, 8))
    steps = generator.normal(size=(pairs, 8)).astype(np.float32)
    turns = (-steps @ (root @ root.T + np.eye(8)) * 0.1).astype(np.float32)  # an update turns against the gradient
    vector = generator.normal(size=8).astype(np.float32)
    np.testing.assert_allclose(_product(steps, turns, vector), curvature(steps, turns) @ vector, rtol=1e-5, atol=1e-5)


def rounds(count: int, attackers: int = 0, n: int = 8, d: int = 6) -> list[Cohort]:
    """Clients that descend quadratics of their own from where the mean leads; attackers send something else each round."""
    generator, model, made = np.random.default_rng(0), np.zeros(d, np.float32), []
    optima = 3 + 0.3 * generator.normal(size=(n, d))
    for number in range(1, count + 1):
        deltas = 0.2 * (optima - model) + 0.001 * generator.normal(size=(n, d))
        deltas[:attackers] = generator.normal(size=(attackers, d))
        cohort = replace(with_deltas(deltas), round=number)
        made.append(replace(cohort, start=ModelState(model, cohort.start.statistics)))
        model = (model + deltas[attackers:].mean(axis=0)).astype(np.float32)
    return made


def test_scores_are_the_distances_from_what_is_predicted_divided_by_their_sum():
    memory, seen, means = {}, [], []
    for cohort in rounds(6):
        seen.append(cohort)
        result, memory = fldetector(cohort, memory=memory, rng=rng(), fldetector_rounds=3)
        means.append(result.delta.astype(np.float64))
        if cohort.round < 3:
            assert len(memory["scores"]) == 0
            continue
        steps = np.diff([c.start.weights.astype(np.float64) for c in seen], axis=0)  # the last is to be explained
        turns = np.diff(means[:-1], axis=0)
        matrix = curvature(steps[:-1][-3:], turns[-3:])
        away = cohort.deltas.astype(np.float64) - seen[-2].deltas - matrix @ steps[-1]
        apart = np.array([sum(x * x for x in row) ** 0.5 for row in away.tolist()])
        np.testing.assert_allclose(memory["scores"][-1], apart / apart.sum(), rtol=1e-3, atol=1e-4)
    assert len(memory["scores"]) == len(memory["steps"]) == len(memory["turns"]) == 3


def test_attackers_whose_updates_do_not_follow_from_their_last_are_found():
    """The paper's promise; before there is a pair to estimate curvature from, all are kept."""
    memory = {}
    for cohort in rounds(8, attackers=2):
        result, memory = fldetector(cohort, memory=memory, rng=rng())
        if cohort.round < 3:
            assert (result.influence > 0).all()
    assert np.flatnonzero(result.influence).tolist() == list(range(2, 8))
    np.testing.assert_allclose(result.delta, cohort.deltas[2:].astype(np.float64).mean(axis=0), rtol=1e-5, atol=1e-6)


def test_clients_that_repeat_themselves_are_all_kept():
    memory, cohort = {}, with_deltas(np.ones((4, 3)))
    for number in range(1, 5):
        result, memory = fldetector(replace(cohort, round=number), memory=memory, rng=rng())
        assert result.influence.tolist() == [0.25] * 4


def test_other_clients_are_refused_in_the_round_and_before_a_run():
    cohort = with_deltas(np.ones((3, 2)))
    _, memory = fldetector(cohort, memory={}, rng=rng())
    with pytest.raises(RuleError, match=r"all clients in every round .* after \[0, 1, 2\] came \[0, 1, 5\]"):
        fldetector(replace(cohort, client_ids=np.array([0, 1, 5])), memory=memory, rng=rng())
    with pytest.raises(UserError, match="fldetector needs all clients in every round"):
        pipeline_of(Experiment(strategy="fldetector", clients=6, clients_per_round=5))
    pipeline_of(Experiment(strategy="fldetector", clients=6, clients_per_round=6))


def test_rows_in_another_order_come_to_the_same():
    memory, other = {}, {}
    for cohort in rounds(5, attackers=2):
        turned = np.array([3, 1, 0, 7, 6, 5, 4, 2])
        rows = {name: getattr(cohort, name)[turned] for name in ("client_ids", "deltas", "statistics", "num_examples")}
        one, memory = fldetector(cohort, memory=memory, rng=rng())
        two, other = fldetector(replace(cohort, **rows), memory=other, rng=rng())
        np.testing.assert_allclose(one.influence[turned], two.influence)
        np.testing.assert_allclose(one.delta, two.delta, rtol=1e-6, atol=1e-7)
