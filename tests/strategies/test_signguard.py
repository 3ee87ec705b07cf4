"""SignGuard against its steps written out client by client, and what its paper promises of flipped signs."""

from dataclasses import replace
from math import sqrt
from statistics import median

import numpy as np
import pytest
from sklearn.cluster import MeanShift, estimate_bandwidth
from threadpoolctl import threadpool_limits

from strategies.signguard import _sign_shares, signguard
from tests.cohorts import random_cohort, with_deltas


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def window(d: int, share: float) -> range:
    """The coordinates that the generator draws: a run of max(1, ⌊share · d⌋), each start equally likely."""
    length = max(1, int(share * d))
    start = int(rng().integers(d - length + 1))
    return range(start, start + length)


def mean_shift(points: list[tuple[float, ...]]) -> list[int]:
    """The members of the largest cluster that scikit-learn finds; of equally large ones, its first."""
    with threadpool_limits(1):  # of ten points; threads that wait for each other take a hundred times as long
        reach = estimate_bandwidth(np.array(points), quantile=0.5)
        labels = MeanShift(bandwidth=reach).fit_predict(np.array(points)).tolist()
    largest = max(sorted(set(labels)), key=lambda label: (labels.count(label), -label))
    return [i for i, label in enumerate(labels) if label == largest]


def kept_by(deltas: np.ndarray, share: float = 0.1) -> list[int]:
    rows = [[float(x) for x in row] for row in deltas]
    norms = [sqrt(sum(x * x for x in row)) for row in rows]
    middle = median(norms)
    by_norm = [i for i, norm in enumerate(norms) if 0.1 * middle < norm < 3 * middle]
    part = window(len(rows[0]), share)
    features = []
    for row in rows:
        values = [row[j] for j in part]
        features.append(tuple(sum(1 for x in values if test(x)) / len(values)
                              for test in (lambda x: x > 0, lambda x: x == 0, lambda x: x < 0)))  # fmt: skip
    return sorted(set(by_norm) & set(mean_shift(features)))


def wanted(deltas: np.ndarray, kept: list[int]) -> np.ndarray:
    norms = np.linalg.norm(deltas.astype(np.float64), axis=1)
    bound = np.median(norms)
    return sum(deltas[i].astype(np.float64) * min(1.0, bound / norms[i]) for i in kept) / len(kept)


@pytest.mark.parametrize("seed", range(6))
def test_it_agrees_with_the_reference(seed):
    """Some point mostly one way, some the other; some are longer than others; some coordinates are 0."""
    generator = np.random.default_rng(seed)
    n = 5 + seed % 6
    deltas = generator.normal(size=(n, 200)) + np.where(np.arange(n) < n // 3, -1.2, 0.6)[:, None]
    deltas *= generator.choice([0.05, 1, 1, 2, 5], size=(n, 1))
    deltas[generator.random(deltas.shape) < 0.1] = 0
    cohort = replace(random_cohort(n, d=200, seed=seed), deltas=deltas.astype(np.float32))
    kept = kept_by(cohort.deltas)
    result = signguard(cohort, rng=rng())
    assert np.flatnonzero(result.influence).tolist() == kept
    np.testing.assert_allclose(result.delta, wanted(cohort.deltas, kept), rtol=1e-5, atol=1e-6)


def test_flipped_signs_are_left_out_where_norms_say_nothing():
    """The paper's promise: an update and its negative are equally long, and no norm tells them apart."""
    generator = np.random.default_rng(0)
    honest = generator.normal(0.4, 1, size=(7, 3000))
    rows = np.concatenate([honest, -honest[:3]])
    assert np.flatnonzero(signguard(with_deltas(rows), rng=rng()).influence).tolist() == list(range(7))


def test_norms_of_an_eighth_and_of_three_times_the_median_are_left_out():
    rows = np.ones((7, 10)) * np.array([1, 1, 1, 1, 1, 0.125, 3])[:, None]
    result = signguard(with_deltas(rows), rng=rng(), signguard_lower=0.125)
    assert np.flatnonzero(result.influence).tolist() == [0, 1, 2, 3, 4]
    wider = signguard(with_deltas(rows), rng=rng(), signguard_lower=0.12, signguard_upper=3.1)
    np.testing.assert_allclose(wider.delta, (5 + 0.125 + 1) / 7, rtol=1e-6)  # 3 is cut to the median norm


def test_updates_of_zero_leave_the_model_as_it_is():
    result = signguard(with_deltas(np.zeros((5, 20))), rng=rng())
    assert not result.influence.any() and not result.delta.any() and not result.statistics.any()


def test_one_far_client_and_one_alone():
    rows = np.ones((5, 20))
    rows[4] = 1e30
    assert np.flatnonzero(signguard(with_deltas(rows), rng=rng()).influence).tolist() == [0, 1, 2, 3]
    assert signguard(with_deltas(rows[:1]), rng=rng()).influence.tolist() == [1]


def test_statistics_are_cut_by_the_factor_of_their_clients_weights():
    rows = np.ones((3, 4)) * np.array([1, 1, 2])[:, None]
    cohort = with_deltas(rows)
    wanted_statistics = cohort.statistics.astype(np.float64).T @ [1 / 3, 1 / 3, 1 / 6]
    np.testing.assert_allclose(signguard(cohort, rng=rng()).statistics, wanted_statistics, rtol=1e-6)


@pytest.mark.parametrize(
    ("signs", "kept"),
    [
        ("+-+--+", [0, 2, 5]),
        ("-+-+", [0, 2]),
        ("+--+-++", [0, 3, 5, 6]),
        ("-+--", [0, 2, 3]),
        ("+++++", [0, 1, 2, 3, 4]),
    ],
)
def test_halves_that_are_alike_are_two_clusters_and_not_nobody(signs, kept):
    """The bandwidth is 0 then; of equally large clusters it is the lowest client's. (The vector "plain" of conformance/ showed it.)"""  # noqa: E501
    deltas = np.array([[1.0 if sign == "+" else -1.0] * 4 for sign in signs], np.float32)
    found = signguard(with_deltas(deltas), rng=rng(), signguard_share=1.0)
    assert np.flatnonzero(found.influence).tolist() == kept


@pytest.mark.parametrize(("share", "d", "length"), [(0.29, 100, 29), (0.58, 50, 29), (0.1, 30, 3), (0.07, 100, 7)])
def test_the_share_of_the_coordinates_is_what_it_is_in_decimals(share, d, length, monkeypatch):
    seen = []
    monkeypatch.setattr("strategies.signguard._sign_shares", lambda rows: seen.append(rows) or _sign_shares(rows))
    signguard(random_cohort(6, d=d), rng=rng(), signguard_share=share)
    assert seen[0].shape == (6, length)
