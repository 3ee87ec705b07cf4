"""FreqFed: its transform against the sum of cosines, its clusters against single linkage, and a pattern of low frequency."""

from dataclasses import replace
from math import cos, pi, sqrt

import numpy as np
import pytest

from strategies.freqfed import _low_frequencies, freqfed
from tests.cohorts import random_cohort, with_deltas
from tests.strategies.references import single_linkage


def transform(row: list[float]) -> list[float]:
    """DCT-II, orthonormal: s_k Σ_j x_j cos(π k (2j + 1) / 2d), s_0 = √(1/d), the others √(2/d)."""
    d = len(row)
    return [
        sqrt((1 if k == 0 else 2) / d) * sum(x * cos(pi * k * (2 * j + 1) / (2 * d)) for j, x in enumerate(row))
        for k in range(d)
    ]


def kept_by(deltas: np.ndarray, share: float = 0.5) -> list[int]:
    """Single linkage on the cosine distances of the low frequencies."""
    low = [transform([float(x) for x in row])[: max(1, int(share * len(row)))] for row in deltas]
    units = [[x / sqrt(sum(y * y for y in row)) for x in row] for row in low]
    return single_linkage([[1 - sum(a * b for a, b in zip(u, v, strict=True)) for v in units] for u in units])


@pytest.mark.parametrize("seed", range(10))
def test_it_agrees_with_the_reference(seed):
    cohort = random_cohort(3 + seed, d=24, seed=seed)
    for share in (0.5, 0.2):
        result, kept = freqfed(cohort, freqfed_share=share), kept_by(cohort.deltas, share)
        assert np.flatnonzero(result.influence).tolist() == kept
        np.testing.assert_allclose(
            result.delta, cohort.deltas[kept].astype(np.float64).mean(axis=0), rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("scale", [1e-40, 1.0, 1e38])
def test_the_transform_is_the_sum_of_cosines_up_to_a_factor_whatever_the_size(scale):
    row = (np.random.default_rng(0).uniform(-1, 1, size=11) * scale).astype(np.float32)
    wanted = np.array(transform((row.astype(np.float64) / np.abs(row).max()).tolist()))[:5]
    np.testing.assert_allclose(_low_frequencies(row[None], 5)[0], wanted, rtol=1e-5, atol=1e-6)


def test_a_pattern_of_low_frequency_is_left_out_where_high_ones_are_louder():
    """The paper's promise: the lower half tells what noise of high frequency hides; the whole vector's cosines do not."""
    generator, d = np.random.default_rng(0), 400
    waves = np.cos(pi * np.outer(np.arange(d), 2 * np.arange(d) + 1) / (2 * d))
    honest = generator.normal(size=30) @ waves[:30]
    loud = 30 * generator.normal(size=(9, 100)) @ waves[300:]
    rows = honest + 0.3 * generator.normal(size=(9, 30)) @ waves[:30] + loud
    rows[:3] += 2 * generator.normal(size=30) @ waves[:30]
    kept = np.flatnonzero(freqfed(with_deltas(rows)).influence)
    assert len(kept) >= 5 and kept.min() >= 3


@pytest.mark.parametrize("n", [1, 2, 5])
def test_clients_that_all_send_the_same_are_all_kept(n):
    row = random_cohort(1, d=9).deltas[0]
    result = freqfed(with_deltas(np.tile(row, (n, 1))))
    np.testing.assert_allclose(result.influence, 1 / n)
    np.testing.assert_array_equal(result.delta, row)


def test_zeros_and_single_weights_are_cohorts_too():
    assert not freqfed(with_deltas(np.zeros((5, 6)))).delta.any()
    cohort = replace(random_cohort(3, d=1), deltas=np.array([[1], [2], [3]], np.float32))
    np.testing.assert_allclose(freqfed(cohort).delta, [2])
