"""Sums keep their digits; on updates as long as a real model's they are summed part by part, and no part is lost."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_info

from strategies import _sums
from strategies._sums import squared_distances, squared_norms
from strategies.clamp import clamp
from strategies.clip import clip
from strategies.fedavg import fedavg
from strategies.krum import krum
from strategies.median import median
from strategies.multi_krum import multi_krum
from tests.cohorts import random_cohort, updates, with_deltas

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
    assert np.argmax(krum(with_deltas(rows), assumed_malicious=1).influence) == best[0]
    for m in (1, 2, 4, 6):
        found = multi_krum(with_deltas(rows), assumed_malicious=1, multi_krum_m=m).influence
        assert set(np.flatnonzero(found)) == set(best[:m].tolist())


def exact_in(rows, stretch):
    wide = rows[:, stretch].astype(np.float64)
    return np.array([[((a - b) ** 2).sum() for b in wide] for a in wide])


@pytest.mark.parametrize("stretch", STRETCHES, ids=lambda s: str(s.start))
def test_krum_sees_a_difference_in_any_one_part(rows, stretch):
    """Clients that differ in one part only: 4 is in the middle of the others, and wins."""
    alike = np.zeros((5, D), dtype=np.float32)
    alike[:, stretch] = np.array([[-3], [3], [-1], [1.4], [0]], np.float32)
    assert krum(with_deltas(alike), assumed_malicious=1).influence.tolist() == [0, 0, 0, 0, 1]


def test_krum_sees_beyond_what_all_clients_have_in_common():
    """Far from 0, where squares of the updates themselves would have no digit left for their differences."""
    rng = np.random.default_rng(2)
    rows = (3000 + rng.normal(size=(5, 20_000)) * [[1.0], [1.01], [0.99], [0.98], [1.02]] * 1e-3).astype(np.float32)
    wide = rows.astype(np.longdouble)
    distances = np.array([[((a - b) ** 2).sum() for b in wide] for a in wide], dtype=np.float64)
    np.testing.assert_allclose(squared_distances(rows), distances, rtol=1e-9)
    assert np.argmax(krum(with_deltas(rows), assumed_malicious=1).influence) == order(distances, 1)[0]


def test_means_reach_to_the_last_of_a_models_weights(rows):
    cohort = with_deltas(rows)
    found = fedavg(cohort)
    for stretch in STRETCHES:
        expected = np.average(rows[:, stretch].astype(np.float64), axis=0, weights=cohort.num_examples)
        np.testing.assert_allclose(found.delta[stretch], expected, rtol=1e-6, atol=1e-7)
    assert not found.delta[1000:400_000].any()


def test_clip_and_clamp_measure_the_whole_of_a_models_weights(rows):
    norms = np.sqrt((rows.astype(np.float64) ** 2).sum(axis=1))
    clipped = clip(with_deltas(rows), clip_norm="median").deltas
    np.testing.assert_allclose(
        np.linalg.norm(clipped.astype(np.float64), axis=1), np.minimum(norms, np.median(norms)), rtol=1e-6
    )
    tall = rows * np.float32(100)  # whose values are above the median norm in places
    bound = np.median(norms) * 100
    assert (np.abs(tall) < bound).all()
    np.testing.assert_array_equal(clamp(with_deltas(tall), clip_norm="median").deltas, tall)


def test_a_mean_of_great_updates_does_not_overflow():
    rows = np.full((3, 4), 3e38, dtype=np.float32)
    np.testing.assert_array_equal(fedavg(with_deltas(rows)).delta, np.float32(3e38))
    assert np.isfinite(squared_norms(rows)).all() and np.isfinite(squared_distances(rows)).all()


def test_distances_keep_their_digits_far_from_zero():
    rng = np.random.default_rng(0)
    rows = (1000 + rng.normal(size=(4, 1000)) * 1e-2).astype(np.float32)
    exact = [[float(((a.astype(np.longdouble) - b) ** 2).sum()) for b in rows] for a in rows]
    np.testing.assert_allclose(squared_distances(rows), exact, rtol=1e-12)


def exact_distances(rows):
    wide = rows.astype(np.longdouble)
    return np.array([[((a - b) ** 2).sum() for b in wide] for a in wide], dtype=np.float64)


@pytest.mark.parametrize("apart", [1.0, 1e-3, 1e-6])
def test_distances_keep_their_digits_where_some_rows_nearly_coincide(apart):
    """Two clusters far from each other and from 0, their members ``apart``: a Gram matrix alone has no digit left."""
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(2, 3000)) * 100
    rows = np.concatenate([centre + rng.normal(size=(4, 3000)) * apart for centre in centres]).astype(np.float32)
    np.testing.assert_allclose(squared_distances(rows), exact_distances(rows), rtol=1e-9)


@given(members=updates(least=2, most=7), twin=st.booleans())
@settings(max_examples=100, deadline=None)
def test_distances_agree_with_exact_ones_and_equal_rows_are_equally_far(members, twin):
    rows = np.stack([u.delta for u in members])
    if twin:
        rows[-1] = rows[0]
    found = squared_distances(rows)
    np.testing.assert_allclose(found, exact_distances(rows), rtol=1e-6)
    np.testing.assert_array_equal(found, found.T)
    if twin:
        assert found[0, -1] == 0
        np.testing.assert_array_equal(found[0], found[-1])


def test_sums_over_many_blocks_are_those_of_numpy():
    rows = random_cohort(5, d=3 * _sums.WIDTH + 17).deltas
    wide = rows.astype(np.float64)
    np.testing.assert_allclose(_sums.squared_norms(rows), (wide**2).sum(axis=1), rtol=1e-12)
    cohort = replace(random_cohort(5, d=rows.shape[1]), deltas=rows)
    expected = np.average(wide, axis=0, weights=cohort.num_examples)
    np.testing.assert_allclose(fedavg(cohort).delta, expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(median(cohort).delta, np.median(wide, axis=0).astype(np.float32))


def test_scaled_rows_are_products_in_float64_rounded_once_and_the_rest_as_it_was(monkeypatch):
    monkeypatch.setattr(_sums, "WIDTH", 1 << 8)
    rng = np.random.default_rng(3)
    rows, factors = rng.normal(size=(5, 3001)).astype(np.float32), np.array([1, 1 / 3, 0, 1e-42, 1 - 2**-23])
    rows[0, :2] = -0.0, 1e-45
    kept = rows.copy()
    expected = np.stack(
        [(row.astype(np.float64) * factor).astype(np.float32) for row, factor in zip(rows, factors, strict=True)]
    )
    assert _sums.scaled(rows, factors).tobytes() == expected.tobytes()
    assert rows.tobytes() == kept.tobytes()


@pytest.mark.parametrize("cores", [1, 2, 5])
def test_a_gram_matrix_is_worked_out_by_one_thread_a_block_whatever_the_cores_and_puts_them_back(cores, monkeypatch):
    monkeypatch.setattr(_sums, "PRODUCT_BYTES", 1 << 14)
    _sums._blas.cache_clear()  # SciPy's BLAS, which no Gram matrix is made by, may have been loaded since
    rows = np.random.default_rng(4).normal(size=(6, 5003)).astype(np.float32)
    expected, before, seen = np.zeros((6, 6)), blas_threads(), []
    for block in _sums._slices(5003, (1 << 14) // (8 * 6)):
        wide = rows[:, block].astype(np.float64)
        expected += (wide - wide.mean(axis=0)) @ (wide - wide.mean(axis=0)).T
    each = _sums._each

    def watched(columns, work, width):
        return each(columns, lambda block: (seen.append(blas_threads()), work(block))[1], width)

    monkeypatch.setattr(_sums, "cpu_count", lambda: cores)
    monkeypatch.setattr(_sums, "_each", watched)
    np.testing.assert_allclose(_sums._gram(rows), expected, rtol=1e-12, atol=1e-9)
    assert len(seen) == 15 and {count for counts in seen for count in counts} == {1}
    assert blas_threads() == before


def blas_threads():
    return [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]
