"""Bulyan against its two stages written out in exact fractions, and what Krum alone cannot do."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies import RuleError
from strategies.bulyan import bulyan
from strategies.krum import krum
from tests.cohorts import cohort_of, random_cohort, updates, with_deltas


def chosen(rows: list[list[Fraction]], f: int, theta: int) -> list[int]:
    """Krum's winner again and again, each time of those that are left; ties to the lowest."""
    left, found = list(range(len(rows))), []
    for _ in range(theta):
        k = len(left)
        scores = {}
        for i in left:
            apart = sorted(sum((a - b) ** 2 for a, b in zip(rows[i], rows[j], strict=True)) for j in left if j != i)
            scores[i] = sum(apart[: max(1, k - f - 2)])
        best = min(left, key=lambda i: (scores[i], i))
        left.remove(best)
        found.append(best)
    return sorted(found)


def reference(deltas: np.ndarray, f: int, theta: int | None = None) -> tuple[list[float], list[float]]:
    """The aggregate and each client's influence."""
    rows = [[Fraction(float(x)) for x in row] for row in deltas]
    theta = len(rows) - 2 * f if theta is None else theta
    beta = theta - 2 * f
    selected, taken, result = chosen(rows, f, theta), [0] * len(rows), []
    for j in range(len(rows[0])):
        values = sorted(rows[i][j] for i in selected)
        middle = (values[(theta - 1) // 2] + values[theta // 2]) / 2
        nearest = sorted(selected, key=lambda i: (abs(rows[i][j] - middle), i))[:beta]
        result.append(float(sum(rows[i][j] for i in nearest) / beta))
        for i in nearest:
            taken[i] += 1
    return result, [t / sum(taken) for t in taken]


@given(members=updates(least=7, most=9), f=st.integers(0, 1))
@settings(max_examples=25, deadline=None)
def test_it_agrees_with_the_reference(members, f):
    cohort = cohort_of(1, members)
    result = bulyan(cohort, assumed_malicious=f)
    wanted, influence = reference(cohort.deltas, f)
    np.testing.assert_allclose(result.delta, wanted, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(result.influence, influence, atol=1e-12)


@pytest.mark.parametrize(("n", "f"), [(3, 0), (7, 1), (11, 2), (12, 2)])
def test_at_the_bound_and_with_every_theta_it_agrees_with_the_reference(n, f):
    cohort = random_cohort(n, d=6, seed=n)
    for theta in (None, *range(2 * f + 1, n - 2 * f + 1)):
        wanted, influence = reference(cohort.deltas, f, theta)
        result = bulyan(cohort, assumed_malicious=f, bulyan_theta=theta)
        np.testing.assert_allclose(result.delta, wanted, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(result.influence, influence, atol=1e-12)


@pytest.mark.parametrize(
    "rows",
    [
        [[0], [1], [2], [3], [4], [5], [6]],  # even gaps: ties in Krum's scores and in the distances to the median
        [[1, 2]] * 5 + [[3, 0]] * 2,
        [[0, 0]] * 7,
        [[1e30, -1e30]] + [[k, 1] for k in range(6)],
        [[2**-149 * k, 0] for k in range(8)],
        [[-1], [1], [-1], [1], [0], [2], [-2], [0]],
        [[0], [2.8286188e-18], [0], [0], [1], [1], [1], [1]],  # float64 does not tell who is nearer to the median
        [[1e-30], [0], [0], [-1], [1], [1], [-1]],
        [[0, 2**100], [1e-20, 1], [0, -1], [3, 2**100], [1, 0], [1, 2**-100], [1, -(2**100)]],
    ],
)
def test_ties_duplicates_zeros_and_extremes_agree_with_the_reference(rows):
    cohort = with_deltas(rows)
    result = bulyan(cohort, assumed_malicious=1)
    wanted, influence = reference(cohort.deltas, 1)
    np.testing.assert_allclose(result.delta, np.array(wanted, np.float32), rtol=1e-6)
    np.testing.assert_allclose(result.influence, influence, atol=1e-12)


@pytest.mark.parametrize(("n", "f"), [(n, f) for n in range(1, 16) for f in range(5) if n < 4 * f + 3])
def test_too_few_clients_are_refused_with_the_least_number(n, f):
    with pytest.raises(RuleError, match=rf"n >= 4f \+ 3 .* n = {n} and f = {f} \(so n >= {4 * f + 3}\)"):
        bulyan(random_cohort(n), assumed_malicious=f)


@pytest.mark.parametrize("theta", [2, 6, 7])
def test_a_theta_out_of_its_range_is_refused_with_the_range(theta):
    with pytest.raises(RuleError, match=rf"theta = {theta} .* from 3 to 5"):
        bulyan(random_cohort(7), assumed_malicious=1, bulyan_theta=theta)


def test_statistics_go_by_the_same_rule_over_the_clients_that_were_selected():
    cohort = random_cohort(7, d=5, s=4)
    selected = chosen([[Fraction(float(x)) for x in row] for row in cohort.deltas], 1, 5)
    wanted = []
    for j in range(4):
        values = cohort.statistics[selected, j].astype(np.float64)
        nearest = sorted(range(5), key=lambda k: (abs(values[k] - np.median(values)), k))[:3]
        wanted.append(values[nearest].mean())
    np.testing.assert_allclose(bulyan(cohort, assumed_malicious=1).statistics, wanted, rtol=1e-6)


def test_one_coordinate_far_off_in_an_update_that_krum_takes_is_not_taken_over():
    """The paper's promise: Krum may follow an attacker who is near in all coordinates but one; Bulyan looks at each."""
    rng = np.random.default_rng(0)
    d, rows = 400, []
    for _ in range(9):
        rows.append(rng.normal(size=d))
    centre = np.mean(rows, axis=0)
    for _ in range(2):
        attack = centre.copy()
        attack[7] += 8
        rows.append(attack)
    cohort = replace(random_cohort(11, d=d), deltas=np.array(rows, np.float32))
    assert krum(cohort, assumed_malicious=2).delta[7] - centre[7] > 7
    assert abs(bulyan(cohort, assumed_malicious=2).delta[7] - centre[7]) < 1.5
