"""DnC against its steps with a singular value decomposition of each draw, and colluders that it is made for."""

from dataclasses import replace
from math import ceil

import numpy as np
import pytest

from strategies import RuleError
from strategies.dnc import dnc
from tests.cohorts import random_cohort, with_deltas


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def kept_by(deltas: np.ndarray, f: int, b: int = 10_000, draws: int = 5, c: float = 1.0) -> list[int]:
    generator, (n, d) = rng(), deltas.shape
    kept = set(range(n))
    for _ in range(draws if b < d else 1):
        columns = sorted(generator.choice(d, b, replace=False, shuffle=False)) if b < d else range(d)
        rows = deltas[:, columns].astype(np.float64)
        rows = rows - sum(rows) / n
        direction = np.linalg.svd(rows)[2][0]
        scores = [float(row @ direction) ** 2 for row in rows]
        order = sorted(range(n), key=lambda i: (scores[i], i))  # type: ignore[misc]
        kept &= set(order[: n - ceil(c * f)])
    return sorted(kept)


@pytest.mark.parametrize("seed", range(8))
def test_it_agrees_with_the_reference(seed):
    cohort = random_cohort(5 + seed, d=60, seed=seed)
    for told in ({}, {"dnc_b": 20}, {"dnc_b": 20, "dnc_draws": 2, "dnc_c": 1.5}, {"dnc_c": 0.5}):
        f = 1 + seed % 3
        result = dnc(cohort, rng=rng(), assumed_malicious=f, **told)
        kept = kept_by(cohort.deltas, f, **{name.removeprefix("dnc_"): value for name, value in told.items()})
        assert np.flatnonzero(result.influence).tolist() == kept
        wanted = cohort.deltas[kept].astype(np.float64).mean(axis=0) if kept else np.zeros(60)
        np.testing.assert_allclose(result.delta, wanted, rtol=1e-5, atol=1e-6)


def test_colluders_that_all_shift_one_way_are_left_out():
    """The paper's promise: what many do along one direction is the direction of most variance."""
    generator = np.random.default_rng(1)
    rows = generator.normal(size=(12, 300))
    rows[:3] += 1.5 * generator.choice([-1, 1], size=300)
    result = dnc(with_deltas(rows), rng=rng(), assumed_malicious=3)
    assert np.flatnonzero(result.influence).tolist() == list(range(3, 12))


def test_of_equals_the_lowest_ids_stay():
    same = np.ones((5, 4))
    assert dnc(with_deltas(same), rng=rng(), assumed_malicious=2).influence.tolist() == [1 / 3, 1 / 3, 1 / 3, 0, 0]
    pair = np.array([[0, 0], [5, 1], [5, 1], [0, 0], [0, 0], [0, 0]])
    assert np.flatnonzero(dnc(with_deltas(pair), rng=rng(), assumed_malicious=1).influence).tolist() == [0, 1, 3, 4, 5]


def test_one_far_update_is_the_first_to_go():
    for far in (1e10, 1e30):
        rows = random_cohort(6, d=8).deltas.copy()
        rows[2] = far
        assert dnc(with_deltas(rows), rng=rng(), assumed_malicious=1).influence[2] == 0


def test_draws_may_leave_nobody_and_the_model_stays():
    cohort = random_cohort(3, d=40)
    left = [dnc(cohort, rng=np.random.default_rng(s), assumed_malicious=2, dnc_b=2, dnc_draws=9) for s in range(5)]
    nobody = [found for found in left if not found.influence.any()]
    assert nobody and not any(found.delta.any() or found.statistics.any() for found in nobody)


@pytest.mark.parametrize(("n", "f", "c", "dropped"), [(2, 2, 1.0, 2), (3, 2, 1.5, 3), (4, 2, 2.5, 5)])
def test_who_would_drop_all_is_refused_with_the_least_number(n, f, c, dropped):
    with pytest.raises(RuleError, match=rf"n = {n}, c = {c:g} and f = {f} \(so n >= {dropped + 1}\)"):
        dnc(random_cohort(n), rng=rng(), assumed_malicious=f, dnc_c=c)


def test_nobody_assumed_malicious_is_the_plain_mean():
    cohort = replace(random_cohort(4), num_examples=np.array([1, 2, 3, 4]))
    assert dnc(cohort, rng=rng(), assumed_malicious=0).influence.tolist() == [0.25] * 4


@pytest.mark.parametrize(("c", "f", "dropped"), [(0.28, 25, 7), (2.2, 25, 55), (1.1, 10, 11), (0.29, 25, 8)])
def test_c_times_f_is_what_it_is_in_decimals(c, f, dropped):
    cohort = random_cohort(dropped + 1, d=5)
    assert np.count_nonzero(dnc(cohort, rng=rng(), assumed_malicious=f, dnc_c=c).influence) == 1
    with pytest.raises(RuleError, match=f"n >= {dropped + 1}"):
        dnc(random_cohort(dropped, d=5), rng=rng(), assumed_malicious=f, dnc_c=c)
