"""FoolsGold against the definition written out pair by pair, and what the paper promises of sybils."""

from dataclasses import replace
from math import inf, log, sqrt

import numpy as np
import pytest
from hypothesis import given, settings

from oleander.learning.parameters import Layout, ModelState
from oleander.learning.updates import MIXED, Cohort
from strategies import RuleError, aggregate
from strategies.foolsgold import foolsgold
from tests.cohorts import cohort_of, random_cohort, updates
from tests.strategies.remembering import assert_resumes

LAYOUT = Layout(("body.weight", "out.weight", "out.bias"), ((4,), (2, 4), (2,)), (True, True, True))
"""14 weights, the last 10 of them the output layer's."""


def reference(histories: list[list[float]], kappa: float = 1.0) -> list[float]:
    """The weights a_i of docs/definitions.md, in Python floats."""
    n = len(histories)

    def cosine(one: list[float], other: list[float]) -> float:
        lengths = sqrt(sum(a * a for a in one)) * sqrt(sum(b * b for b in other))
        return max(0.0, sum(a * b for a, b in zip(one, other, strict=True)) / lengths) if lengths else 0.0

    c = [[cosine(histories[i], histories[j]) if i != j else 0.0 for j in range(n)] for i in range(n)]
    v = [max(row) for row in c]
    pardoned = [[c[i][j] * v[i] / v[j] if v[i] < v[j] else c[i][j] for j in range(n)] for i in range(n)]
    a = [1 - max(row) for row in pardoned]
    a = [0.0 if x < 1e-9 else x for x in a]
    if not any(a):
        return a
    a = [min(x / max(a), 0.99) for x in a]
    return [min(1.0, max(0.0, kappa * (log(x / (1 - x)) + 0.5 if x else -inf))) for x in a]


def rounds_of(deltas: np.ndarray, ids: list[int] | None = None) -> Cohort:
    n = len(deltas)
    start = ModelState(np.zeros(deltas.shape[1], np.float32), np.zeros(1, np.float32))
    statistics = np.arange(n, dtype=np.float32)[:, None]
    return Cohort(1, np.array(ids or range(n)), deltas.astype(np.float32), statistics, np.ones(n, np.int64), start)


@pytest.mark.parametrize("kappa", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("alike", [0.0, 1.0, 5.0])
def test_three_rounds_of_other_clients_agree_with_the_reference(kappa, alike):
    """Clients come, go and come again; only the output layer counts, and it is remembered by client."""
    rng = np.random.default_rng(0)
    common, sums, memory = rng.normal(size=14), {}, {}
    for ids in ([0, 2, 3, 7], [1, 2, 5, 7, 9], [0, 1, 2, 3, 9]):
        deltas = (alike * common + rng.normal(size=(len(ids), 14))).astype(np.float32)
        for client, row in zip(ids, deltas.astype(np.float64), strict=True):
            sums[client] = sums.get(client, np.zeros(10)) + row[4:]
        result, memory = foolsgold(rounds_of(deltas, ids), memory=memory, layout=LAYOUT, foolsgold_kappa=kappa)
        weights = np.array(reference([sums[client].tolist() for client in ids], kappa))
        np.testing.assert_allclose(result.influence, weights / weights.sum(), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(result.delta, result.influence @ deltas.astype(np.float64), rtol=1e-5, atol=1e-6)
    assert memory["clients"].tolist() == [0, 1, 2, 3, 5, 7, 9]
    np.testing.assert_allclose(memory["sums"], [sums[client] for client in sorted(sums)], rtol=1e-12)


@given(members=updates(least=1, most=8))
@settings(max_examples=100, deadline=None)
def test_any_round_agrees_with_the_reference(members):
    cohort = cohort_of(1, members)
    layout = Layout(("out.weight",), (cohort.deltas.shape[1:]), (True,))
    result, _ = foolsgold(cohort, memory={}, layout=layout)
    weights = np.array(reference(cohort.deltas.astype(np.float64).tolist()))
    total = weights.sum() or 1
    np.testing.assert_allclose(result.influence, weights / total, atol=1e-6)


def test_sybils_that_share_a_direction_lose_their_weight_and_honest_clients_keep_theirs():
    """The paper's promise: three sybils of different lengths behind noise of their own, seven honest clients each with a class
    of its own.
    """
    rng, memory = np.random.default_rng(1), {}
    honest, target = np.eye(14)[4:11], np.eye(14)[11:].sum(axis=0)
    for _ in range(20):
        rows = np.concatenate([honest, np.stack([1.0 * target, 3.0 * target, 0.2 * target])])
        rows = rows + 1.5 * np.linalg.norm(rows, axis=1, keepdims=True) / sqrt(14) * rng.normal(size=rows.shape)
        result, memory = foolsgold(rounds_of(rows), memory=memory, layout=LAYOUT)
    assert result.influence[7:].sum() < 0.01
    assert (result.influence[:7] > 0.05).all()
    alone, _ = foolsgold(rounds_of(rows), memory={}, layout=LAYOUT)
    assert result.influence[7:].sum() < alone.influence[7:].sum()  # it is history that tells them


@pytest.mark.parametrize("lengths", [[1, 1, 1], [1, 2, 3], [0.1, 1e3, 7], [1 / 3, 1e-20, 1e20]])
def test_clients_that_all_point_the_same_way_leave_the_model_as_it_is(lengths):
    row = np.random.default_rng(0).normal(size=14).astype(np.float32)
    result, _ = foolsgold(rounds_of(np.outer(lengths, row)), memory={}, layout=LAYOUT)
    assert not result.influence.any() and not result.delta.any() and not result.statistics.any()


def test_one_client_is_like_no_other():
    row = np.ones((1, 14), np.float32)
    result, _ = foolsgold(rounds_of(row), memory={}, layout=LAYOUT)
    assert result.influence.tolist() == [1] and (result.delta == 1).all()


def test_updates_of_zero_are_like_no_other():
    rows = np.zeros((4, 14), np.float32)
    rows[2:] = 1
    result, _ = foolsgold(rounds_of(rows), memory={}, layout=LAYOUT)
    assert result.influence.tolist() == [0.5, 0.5, 0, 0]


def test_the_authors_sum_is_that_of_the_weighted_updates_and_statistics_stay_a_mean():
    cohort = rounds_of(np.random.default_rng(0).normal(size=(6, 14)))
    mean, _ = foolsgold(cohort, memory={}, layout=LAYOUT)
    total, _ = foolsgold(cohort, memory={}, layout=LAYOUT, foolsgold_sum=True)
    weights = np.array(reference(cohort.deltas[:, 4:].astype(np.float64).tolist()))
    np.testing.assert_allclose(total.delta, weights @ cohort.deltas.astype(np.float64), rtol=1e-6)
    np.testing.assert_allclose(mean.delta * weights.sum(), total.delta, rtol=1e-5)
    np.testing.assert_array_equal(total.influence, mean.influence)
    np.testing.assert_array_equal(total.statistics, mean.statistics)
    np.testing.assert_allclose(mean.statistics, mean.influence @ cohort.statistics, rtol=1e-6)


def test_which_row_a_client_stands_in_does_not_matter_in_any_round():
    rng, straight, turned = np.random.default_rng(2), {}, {}
    for ids in ([3, 5, 8, 9], [1, 3, 5, 9]):
        cohort, order = rounds_of(rng.normal(size=(4, 14)), ids), rng.permutation(4)
        other = replace(
            cohort,
            client_ids=cohort.client_ids[order],
            deltas=cohort.deltas[order],
            statistics=cohort.statistics[order],
        )
        one, straight = foolsgold(cohort, memory=straight, layout=LAYOUT)
        two, turned = foolsgold(other, memory=turned, layout=LAYOUT)
        np.testing.assert_allclose(one.influence[order], two.influence, rtol=1e-12)
        for name in straight:
            np.testing.assert_array_equal(straight[name], turned[name])


def test_rows_that_mix_clients_are_refused_with_their_number():
    cohort = replace(random_cohort(5, d=14), client_ids=np.array([0, MIXED, 2, MIXED, MIXED]))
    with pytest.raises(RuleError, match="foolsgold keeps a history of each client, but 3 of 5 rows mix"):
        foolsgold(cohort, memory={}, layout=LAYOUT)


def test_it_needs_a_layout():
    with pytest.raises(RuleError, match="foolsgold needs layout"):
        aggregate("foolsgold", np.ones((3, 14)))


def test_what_it_remembers_comes_back_bit_for_bit(tmp_path):
    assert_resumes("foolsgold", tmp_path)
