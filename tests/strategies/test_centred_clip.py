"""Centred clipping against the formula written out coordinate by coordinate, and its bound on every single client."""

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oleander.learning.updates import Cohort
from strategies.centred_clip import centred_clip
from tests.cohorts import cohort_of, random_cohort, updates
from tests.strategies.remembering import assert_resumes


def reference(deltas: np.ndarray, centre: list[float], tau: float, iterations: int) -> list[float]:
    """v ← v + (1/n) Σ (Δ_i − v) min(1, τ / ‖Δ_i − v‖), in Python floats."""
    rows, v = [[float(x) for x in row] for row in deltas], list(centre)
    for _ in range(iterations):
        total = [0.0] * len(v)
        for row in rows:
            away = [x - c for x, c in zip(row, v, strict=True)]
            length = sqrt(sum(a * a for a in away))
            if length:
                total = [t + a * min(1.0, tau / length) for t, a in zip(total, away, strict=True)]
        v = [c + t / len(rows) for c, t in zip(v, total, strict=True)]
    return v


@given(members=updates(least=1), tau=st.floats(1e-2, 1e4), iterations=st.integers(1, 3), data=st.data())
@settings(max_examples=100, deadline=None)
def test_it_agrees_with_the_reference_from_any_centre(members, tau, iterations, data):
    cohort = cohort_of(1, members)
    centre = np.array(data.draw(st.lists(st.floats(-99, 99, width=32), min_size=12, max_size=12)), np.float32)
    centre = centre[: cohort.deltas.shape[1]]
    result, memory = centred_clip(
        cohort, memory={"centre": centre}, centred_clip_tau=tau, centred_clip_iterations=iterations
    )
    wanted = reference(cohort.deltas, centre.tolist(), tau, iterations)
    np.testing.assert_allclose(result.delta, wanted, rtol=1e-6, atol=1e-5)
    np.testing.assert_array_equal(memory["centre"], result.delta)
    assert result.influence.sum() == pytest.approx(1) and (result.influence > 0).all()


def test_the_first_centre_is_0_and_each_later_one_the_aggregate_before():
    memory, centre = {}, [0.0] * 50
    for seed in range(4):
        cohort = random_cohort(5, seed=seed)
        result, memory = centred_clip(cohort, memory=memory, centred_clip_tau=2.0)
        centre = reference(cohort.deltas, centre, 2.0, 1)
        np.testing.assert_allclose(result.delta, centre, rtol=1e-5, atol=1e-6)


def moved_to(cohort: Cohort, row: int, value: float) -> Cohort:
    deltas = cohort.deltas.copy()
    deltas[row] = value
    return replace(cohort, deltas=deltas)


@pytest.mark.parametrize("value", [50.0, 1e6, 1e30])
def test_one_client_moves_the_aggregate_by_two_taus_over_n_at_most_however_long_its_update(value):
    """The paper's promise: bounded by τ per client."""
    cohort = random_cohort(10)
    one, _ = centred_clip(moved_to(cohort, 3, value), memory={}, centred_clip_tau=1.5)
    other, _ = centred_clip(moved_to(cohort, 3, -value), memory={}, centred_clip_tau=1.5)
    assert np.linalg.norm(one.delta.astype(np.float64) - other.delta) <= 2 * 1.5 / 10 * (1 + 1e-6)
    assert np.linalg.norm(one.delta.astype(np.float64)) <= 1.5 * (1 + 1e-6)


def test_an_update_at_the_centre_adds_nothing():
    centre = np.arange(4, dtype=np.float32)
    cohort = replace(random_cohort(3, d=4), deltas=np.tile(centre, (3, 1)))
    result, _ = centred_clip(cohort, memory={"centre": centre})
    np.testing.assert_array_equal(result.delta, centre)
    np.testing.assert_allclose(result.influence, 1 / 3)


def test_within_tau_it_is_the_plain_mean():
    cohort = random_cohort(7)
    result, _ = centred_clip(cohort, memory={}, centred_clip_tau=1e3)
    np.testing.assert_allclose(result.delta, cohort.deltas.astype(np.float64).mean(axis=0), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(result.statistics, cohort.statistics.astype(np.float64).mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(result.influence, 1 / 7)


def test_influence_and_statistics_go_by_the_factor_of_each_update():
    """Of norms 1, 2 and 4 with τ 2: the factors are 1, 1 and ½."""
    cohort = replace(random_cohort(3, d=2), deltas=np.array([[1, 0], [0, 2], [0, -4]], np.float32))
    result, _ = centred_clip(cohort, memory={}, centred_clip_tau=2.0)
    np.testing.assert_allclose(result.influence, [0.4, 0.4, 0.2])
    np.testing.assert_allclose(result.delta, [1 / 3, 0], atol=1e-7)
    wanted = np.array([1, 1, 0.5]) / 3 @ cohort.statistics.astype(np.float64)
    np.testing.assert_allclose(result.statistics, wanted, rtol=1e-6)


def test_after_two_iterations_the_influence_is_each_updates_share_of_the_aggregate():
    """Found by moving one update a little: the derivative along a direction in which no length changes."""
    deltas = np.array([[3, 0, 0, 0], [0, 4, 0, 0], [0, 0, 5, 0]], np.float32)
    cohort = replace(random_cohort(3, d=4), deltas=deltas)
    told = {"memory": {}, "centred_clip_tau": 2.0, "centred_clip_iterations": 2}
    before, _ = centred_clip(cohort, **told)
    shares = []
    for row in range(3):
        moved = deltas.copy()
        moved[row, 3] = 1e-3
        shares.append(centred_clip(replace(cohort, deltas=moved), **told)[0].delta[3] / 1e-3)
    np.testing.assert_allclose(before.influence, np.array(shares) / sum(shares), rtol=1e-3)


def test_what_it_remembers_comes_back_bit_for_bit(tmp_path):
    assert_resumes("centred_clip", tmp_path)
