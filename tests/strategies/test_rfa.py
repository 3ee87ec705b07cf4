"""RFA against its recursion written out coordinate by coordinate, against SciPy's minimum, and its bound against a far minority."""

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from strategies.rfa import rfa
from tests.cohorts import cohort_of, random_cohort, updates, with_deltas


def reference(deltas: np.ndarray, examples: list[int], iterations: int, nu: float) -> tuple[list[float], list[float]]:
    """The centre after so many iterations and the weights β_i / Σ β, in Python floats."""
    rows = [[float(x) for x in row] for row in deltas]
    alpha = [count / sum(examples) for count in examples]

    def mean(shares: list[float]) -> list[float]:
        return [sum(s * row[j] for s, row in zip(shares, rows, strict=True)) for j in range(len(rows[0]))]

    shares, centre = alpha, mean(alpha)
    for _ in range(iterations):
        beta = []
        for a, row in zip(alpha, rows, strict=True):
            apart = sqrt(sum((x - c) ** 2 for x, c in zip(row, centre, strict=True)))
            beta.append(a / max(nu, apart))
        shares = [b / sum(beta) for b in beta]
        centre = mean(shares)
    return centre, shares


@given(members=updates(least=1), iterations=st.integers(1, 5), nu=st.sampled_from([1e-6, 1e-2, 3.0]))
@settings(max_examples=100, deadline=None)
def test_it_agrees_with_the_reference(members, iterations, nu):
    cohort = cohort_of(1, members)
    result = rfa(cohort, rfa_iterations=iterations, rfa_nu=nu)
    centre, shares = reference(cohort.deltas, cohort.num_examples.tolist(), iterations, nu)
    np.testing.assert_allclose(result.influence, shares, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(result.delta, centre, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        result.statistics, np.array(shares) @ cohort.statistics.astype(float), rtol=1e-5, atol=1e-5
    )


def test_three_iterations_and_a_nu_of_a_millionth_are_the_default():
    cohort = random_cohort(6)
    wanted, _ = reference(cohort.deltas, cohort.num_examples.tolist(), 3, 1e-6)
    np.testing.assert_allclose(rfa(cohort).delta, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("n", [3, 6, 9])
def test_with_many_iterations_it_is_the_geometric_median_that_scipy_finds(n):
    cohort = replace(random_cohort(n, d=4, seed=n), num_examples=np.ones(n, np.int64))
    rows = cohort.deltas.astype(np.float64)

    def cost(point: np.ndarray) -> float:
        return float(np.linalg.norm(rows - point, axis=1).sum())

    best = minimize(
        cost, rows.mean(axis=0), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12, "maxiter": 9999}
    )
    found = rfa(cohort, rfa_iterations=2000)
    assert cost(found.delta.astype(np.float64)) <= best.fun * (1 + 1e-6)


@pytest.mark.parametrize("far", [1e3, 1e10, 1e30])
def test_a_minority_moves_the_geometric_median_no_farther_than_the_honest_spread_allows(far):
    """The paper's promise: with a share τ < ½ of corrupt weight, at most 2 (1 − τ)/(1 − 2τ) times the greatest honest distance."""
    cohort = replace(random_cohort(10, d=5), num_examples=np.ones(10, np.int64))
    honest = cohort.deltas[4:].astype(np.float64)
    deltas = cohort.deltas.copy()
    deltas[:4] = far
    found = rfa(replace(cohort, deltas=deltas), rfa_iterations=500).delta.astype(np.float64)
    centre = rfa(replace(cohort, deltas=cohort.deltas[4:], statistics=cohort.statistics[4:], client_ids=np.arange(6),
                         num_examples=np.ones(6, np.int64)), rfa_iterations=500).delta.astype(np.float64)  # fmt: skip
    spread = max(np.linalg.norm(row - centre) for row in honest)
    assert np.linalg.norm(found - centre) <= 2 * 0.6 / 0.2 * spread * (1 + 1e-6)


def test_equal_updates_keep_each_its_weight():
    """A code that keeps weights in a set lets them collapse."""
    cohort = replace(with_deltas([[1, 0], [1, 0], [1, 0], [0, 5]]), num_examples=np.ones(4, np.int64))
    found = rfa(cohort, rfa_iterations=300)
    np.testing.assert_allclose(found.delta, [1, 0], atol=1e-4)
    assert found.influence[0] == found.influence[1] == found.influence[2]


def test_zeros_and_denormals_are_numbers():
    assert (rfa(with_deltas(np.zeros((4, 3)))).delta == 0).all()
    tiny = np.float32(1e-44)
    assert (rfa(with_deltas(np.full((3, 2), tiny))).delta == tiny).all()
