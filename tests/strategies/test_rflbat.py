"""RFLBAT against its steps written out, on groups that no two ways of clustering take apart, and its promise."""

from math import dist
from statistics import mean, median

import mpmath
import numpy as np
import pytest

from strategies.rflbat import _components, rflbat
from tests.cohorts import random_cohort, with_deltas


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def kept_by(deltas: np.ndarray, groups: list[list[int]], outlier: float = 10.0, inlier: float = 4.0) -> list[int]:
    """Who stays, where those that are no outliers form these groups."""
    rows = deltas.astype(np.float64)
    centred = rows - rows.mean(axis=0)
    points = (centred @ np.linalg.svd(centred)[2][:2].T).tolist()

    def near(members: list[int], most: float) -> list[int]:
        sums = {i: sum(dist(points[i], points[j]) for j in members) for i in members}
        return [i for i in members if sums[i] <= most * median(sums.values()) * (1 + 1e-9)]

    left = near(list(range(len(rows))), outlier)

    def cosine(i: int, j: int) -> float:
        return float(rows[i] @ rows[j] / (np.linalg.norm(rows[i]) * np.linalg.norm(rows[j])))

    def alike(members: list[int]) -> float:
        return 1.0 if len(members) == 1 else median(mean(cosine(i, j) for j in members) for i in members)

    assert sorted(i for group in groups for i in group) == left
    return near(min(groups, key=alike), inlier)


@pytest.mark.parametrize("seed", range(6))
def test_it_agrees_with_the_reference(seed):
    """Two groups in two directions, in one of which cosines are nearer to 1, and one far client."""
    generator = np.random.default_rng(seed)
    one, two = generator.normal(size=(2, 30)) * [[8], [2]]
    rows = np.concatenate([one, two]).reshape(2, 30).repeat([4, 7], axis=0) + 0.2 * generator.normal(size=(11, 30))
    assert np.flatnonzero(rflbat(with_deltas(rows), rng=rng()).influence).tolist() == kept_by(
        np.float32(rows), [[0, 1, 2, 3], list(range(4, 11))]
    )
    far = np.concatenate([rows, 500 * np.ones((1, 30))])
    result = rflbat(with_deltas(far), rng=rng(), rflbat_outlier=3.0)
    assert result.influence[11] == 0 and result.influence.sum() == pytest.approx(1)


def test_colluders_who_send_nearly_the_same_are_left_out():
    """The paper's promise: attackers want one thing and are alike, honest clients are not."""
    generator = np.random.default_rng(1)
    rows = np.concatenate(
        [generator.normal(size=(8, 60)), 6 * generator.normal(size=60) + 0.05 * generator.normal(size=(3, 60))]
    )
    kept = np.flatnonzero(rflbat(with_deltas(rows), rng=rng()).influence)
    assert len(kept) >= 4 and kept.max() < 8


@pytest.mark.parametrize("rows", [np.zeros((5, 3)), np.ones((5, 3)), np.ones((1, 3))])
def test_updates_that_are_all_alike_are_all_kept(rows):
    np.testing.assert_allclose(rflbat(with_deltas(rows), rng=rng()).influence, 1 / len(rows))


def test_whom_it_keeps_is_averaged_plainly():
    cohort = random_cohort(9, d=20)
    result = rflbat(cohort, rng=rng())
    kept = np.flatnonzero(result.influence)
    np.testing.assert_allclose(result.delta, cohort.deltas[kept].astype(np.float64).mean(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        result.statistics, cohort.statistics[kept].astype(np.float64).mean(axis=0), rtol=1e-5, atol=1e-6
    )


def test_one_far_client_and_two_clients_are_cohorts_too():
    rows = random_cohort(6, d=8).deltas.copy()
    rows[2] = 1e30
    assert rflbat(with_deltas(rows), rng=rng()).influence.sum() == pytest.approx(1)
    assert rflbat(random_cohort(2), rng=rng()).influence.sum() == pytest.approx(1)


@pytest.mark.parametrize("scale", [1e2, 1e6, 1e8, 1e10, 1e12])
def test_one_far_update_leaves_the_others_their_second_component(scale):
    """From the products alone, of which the far one's are scale² times the others', it would be rounding."""
    rows = np.random.default_rng(3).normal(size=(13, 40))
    rows[12] *= scale
    rows = np.float32(rows)
    with mpmath.workdps(90):
        exact = mpmath.matrix([[mpmath.mpf(float(x)) for x in row] for row in rows])
        centre = [mpmath.fsum(exact[:, j]) / 13 for j in range(40)]
        centred = mpmath.matrix(13, 40)
        for i in range(13):
            for j in range(40):
                centred[i, j] = exact[i, j] - centre[j]
        values, vectors = mpmath.eigsy(centred * centred.T)
        wanted = np.array([[float(vectors[i, k] * mpmath.sqrt(values[k])) for k in (12, 11)] for i in range(12)])
    found = _components(rows)[:12]
    apart, right = (np.sqrt(((p[:, None] - p) ** 2).sum(axis=2)) for p in (found, wanted))
    np.testing.assert_allclose(apart, right, rtol=1e-15 * scale + 1e-6, atol=1e-9 + 1e-15 * scale)
