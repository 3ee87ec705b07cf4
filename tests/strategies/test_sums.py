"""Rules on updates as long as a real model's, which are summed part by part: no part is lost, and none counts for the others."""

from dataclasses import replace

import numpy as np
import pytest

from strategies._sums import squared_distances, squared_norms
from strategies.clamp import clamp
from strategies.clip import clip
from strategies.fedavg import fedavg
from strategies.krum import krum
from strategies.median import median
from strategies.multi_krum import multi_krum
from tests.cohorts import random_cohort

D = 2_797_610
"""Weights of ResNet18Light."""
STRETCHES = [slice(start, start + 1000) for start in (0, 400_000, 900_000, 1_400_000, 1_900_000, 2_400_000, D - 1000)]
"""Far from each other, so that no part of a sum has two of them."""


@pytest.fixture(scope="module")
def rows():
    """Seven updates of a model's length; a client's are longer in some stretches than in others."""
    rng = np.random.default_rng(2)
    rows = np.zeros((7, D), dtype=np.float32)
    for stretch in STRETCHES:
        rows[:, stretch] = rng.normal(size=(7, 1000)) * rng.uniform(0.5, 2, size=(7, 1))
    return rows


def cohort_with(rows):
    cohort = random_cohort(len(rows), d=1)
    return replace(cohort, deltas=rows, start=replace(cohort.start, weights=np.zeros(rows.shape[1], np.float32)))


def exact(rows):
    """Squared distances, pair by pair, of the stretches that are not 0."""
    wide = np.concatenate([rows[:, stretch] for stretch in STRETCHES], axis=1).astype(np.longdouble)
    return np.array([[((a - b) ** 2).sum() for b in wide] for a in wide], dtype=np.float64)


def order(distances, f):
    """Clients by their Krum score."""
    others = np.sort(distances + np.diag(np.full(len(distances), np.inf)), axis=1)
    return np.argsort(others[:, : len(distances) - f - 2].sum(axis=1), kind="stable")


def test_distances_and_norms_are_over_the_whole_of_a_models_weights(rows):
    np.testing.assert_allclose(squared_distances(rows), exact(rows), rtol=1e-9)
    np.testing.assert_allclose(squared_norms(rows), (rows.astype(np.float64) ** 2).sum(axis=1), rtol=1e-12)


def test_distances_between_rows_that_nearly_coincide_are_over_the_whole_too(rows):
    """Two clusters far from each other: within one, rows are subtracted before they are squared, part by part as well."""
    near = rows * np.float32(1e-4)
    for stretch in STRETCHES:
        near[:3, stretch] += np.float32(50)
    np.testing.assert_allclose(squared_distances(near), exact(near), rtol=1e-9)


def test_krum_and_multi_krum_see_every_part_of_a_models_weights(rows):
    best = order(exact(rows), 1)
    parts = [order(exact_in(rows, stretch), 1)[0] for stretch in STRETCHES]
    assert len(set(parts)) > 2 and best[0] != parts[-1] and best[0] != parts[0]  # no one part would say the same
    assert np.argmax(krum(cohort_with(rows), assumed_malicious=1).influence) == best[0]
    for m in (1, 2, 4, 6):
        found = multi_krum(cohort_with(rows), assumed_malicious=1, multi_krum_m=m).influence
        assert set(np.flatnonzero(found)) == set(best[:m].tolist())


def exact_in(rows, stretch):
    wide = rows[:, stretch].astype(np.float64)
    return np.array([[((a - b) ** 2).sum() for b in wide] for a in wide])


@pytest.mark.parametrize("stretch", STRETCHES, ids=lambda s: str(s.start))
def test_krum_sees_a_difference_in_any_one_part(rows, stretch):
    """Clients that differ in one part only: 4 is in the middle of the others, and wins."""
    alike = np.zeros((5, D), dtype=np.float32)
    alike[:, stretch] = np.array([[-3], [3], [-1], [1.4], [0]], np.float32)
    assert krum(cohort_with(alike), assumed_malicious=1).influence.tolist() == [0, 0, 0, 0, 1]


def test_krum_sees_beyond_what_all_clients_have_in_common():
    """Far from 0, where squares of the updates themselves would have no digit left for their differences."""
    rng = np.random.default_rng(2)
    rows = (3000 + rng.normal(size=(5, 20_000)) * [[1.0], [1.01], [0.99], [0.98], [1.02]] * 1e-3).astype(np.float32)
    wide = rows.astype(np.longdouble)
    distances = np.array([[((a - b) ** 2).sum() for b in wide] for a in wide], dtype=np.float64)
    np.testing.assert_allclose(squared_distances(rows), distances, rtol=1e-9)
    assert np.argmax(krum(cohort_with(rows), assumed_malicious=1).influence) == order(distances, 1)[0]


def test_means_reach_to_the_last_of_a_models_weights(rows):
    cohort = cohort_with(rows)
    found = fedavg(cohort)
    for stretch in STRETCHES:
        expected = np.average(rows[:, stretch].astype(np.float64), axis=0, weights=cohort.num_examples)
        np.testing.assert_allclose(found.delta[stretch], expected, rtol=1e-6, atol=1e-7)
    assert not found.delta[1000:400_000].any()


def test_clip_and_clamp_measure_the_whole_of_a_models_weights(rows):
    norms = np.sqrt((rows.astype(np.float64) ** 2).sum(axis=1))
    clipped = clip(cohort_with(rows), clip_norm="median").deltas
    np.testing.assert_allclose(
        np.linalg.norm(clipped.astype(np.float64), axis=1), np.minimum(norms, np.median(norms)), rtol=1e-6
    )
    tall = rows * np.float32(100)  # whose values are above the median norm in places
    bound = np.median(norms) * 100
    assert (np.abs(tall) < bound).all()
    np.testing.assert_array_equal(clamp(cohort_with(tall), clip_norm="median").deltas, tall)


# ---- the median ------------------------------------------------------------------------------------------------------


def reference_median(rows):
    """Coordinate by coordinate in Python: the median, and who holds one of the middle two, the lowest id where values are equal."""
    n, medians, taken = len(rows), [], [0.0] * len(rows)
    for column in np.asarray(rows, dtype=np.float64).T.tolist():
        ordered = sorted(column)
        middle = ordered[(n - 1) // 2], ordered[n // 2]
        medians.append((middle[0] + middle[1]) / 2)
        for value in middle:
            taken[column.index(value)] += 0.5
    return medians, [share / len(medians) for share in taken]


@pytest.mark.parametrize("n", [1, 2, 3, 6, 7])
@pytest.mark.parametrize("ties", [False, True])
def test_medians_influence_is_the_share_of_weights_in_which_a_client_is_the_median(n, ties):
    cohort = random_cohort(n, d=400, s=30, seed=n)
    if ties:
        cohort = replace(cohort, deltas=np.round(cohort.deltas), statistics=np.round(cohort.statistics))
    delta, influence = reference_median(cohort.deltas)
    statistics, of_statistics = reference_median(cohort.statistics)
    found = median(cohort)
    np.testing.assert_allclose(found.influence, influence, atol=1e-12)
    np.testing.assert_array_equal(found.delta, np.array(delta, np.float32))
    np.testing.assert_array_equal(found.statistics, np.array(statistics, np.float32))
    assert n < 3 or not np.allclose(influence, of_statistics)  # they would not do in the weights' place


def test_medians_influence_is_over_all_of_the_weights():
    """Client 1 holds the median in the first half of the weights, client 2 in the second, and 0 in the last tenth."""
    rows = np.zeros((3, 200_000), dtype=np.float32)
    rows[0], rows[1, :100_000], rows[2, :100_000] = -1, 1, 2
    rows[1, 100_000:], rows[2, 100_000:] = 2, 1
    rows[0, 180_000:] = 1.5
    assert median(cohort_with(rows)).influence.tolist() == pytest.approx([0.1, 0.5, 0.4])


@pytest.mark.parametrize("n", [2, 4])
def test_the_mean_of_the_middle_two_does_not_overflow(n):
    rows = np.full((n, 3), 3e38, dtype=np.float32)
    rows[0] = -3e38 if n == 4 else 3e38
    cohort = replace(cohort_with(rows), statistics=rows)
    found = median(cohort)
    np.testing.assert_array_equal(found.delta, np.float32(3e38))
    np.testing.assert_array_equal(found.statistics, np.float32(3e38))


def test_a_mean_of_great_updates_does_not_overflow():
    rows = np.full((3, 4), 3e38, dtype=np.float32)
    np.testing.assert_array_equal(fedavg(cohort_with(rows)).delta, np.float32(3e38))
    assert np.isfinite(squared_norms(rows)).all() and np.isfinite(squared_distances(rows)).all()
