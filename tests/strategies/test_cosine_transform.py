"""The lowest coefficients of a cosine transform, of lengths that are transformed whole and of those that are taken apart."""

import numpy as np
import pytest
from scipy.fft import dct

from strategies import _cosine_transform
from strategies._cosine_transform import LARGE, cosine_transform

APART = [2 * 1009, 3 * 1009, 9 * 1009, 12 * 2003, 2 * 1021 * 1031]
WHOLE = [1, 2, 9, 1009, 1024, 2 * 997, 1021 * 1031]


@pytest.mark.parametrize("length", [*APART, *WHOLE])
def test_it_is_the_orthonormal_cosine_transform(length):
    values = np.random.default_rng(0).normal(size=length)
    for count in {1, max(1, length // 2), length}:
        np.testing.assert_allclose(
            cosine_transform(length, count)(values), dct(values, norm="ortho")[:count], atol=1e-12
        )


def test_it_is_that_of_its_definition():
    length, values = 2 * 1009, np.random.default_rng(1).normal(size=2 * 1009)
    k, at = np.arange(7)[:, None], np.arange(length)
    expected = np.sqrt(2 / length) * (np.cos(np.pi * (2 * at + 1) * k / (2 * length)) @ values)
    expected[0] /= np.sqrt(2)
    np.testing.assert_allclose(cosine_transform(length, 7)(values), expected, atol=1e-12)


@pytest.mark.parametrize("length", [*APART, *WHOLE])
def test_only_a_length_with_a_large_factor_beside_small_ones_is_taken_apart(length, monkeypatch):
    taken = []
    monkeypatch.setattr(_cosine_transform, "_taken_apart", lambda a, b, count: taken.append((a, b)))
    cosine_transform(length, 1)
    assert bool(taken) == (length in APART)
    for a, b in taken:
        assert a >= LARGE and b > 1 and a * b == length
