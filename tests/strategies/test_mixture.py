"""A mixture by a matrix product has the bits of its sum in turn, whatever the order in which a BLAS adds up."""

import numpy as np
import pytest

from strategies._mixture import FEW, mixture
from tests.cohorts import with_deltas

N, D = 24, 500
KINDS = {
    "plain": lambda rng, rows: rows,
    "cancelling": lambda rng, rows: rows + np.float32(1e12) * np.where(np.arange(N) % 2, 1, -1)[:, None],
    "magnitudes": lambda rng, rows: rows * 10.0 ** rng.integers(-44, 30, rows.shape),
    "zeros": lambda rng, rows: np.where(rng.random(rows.shape) < 0.7, np.copysign(0, rows), rows),
    "great": lambda rng, rows: np.sign(rows) * np.float32(3.4e38),
    "few values": lambda rng, rows: np.round(rows),
}  # fmt: skip


def in_turn(rows, shares):
    total = np.zeros(rows.shape[1])
    for row, share in zip(rows, shares, strict=True):
        if share:
            total += row.astype(np.float64) * share
    return total.astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sources", [FEW - 6, N - 2])
def test_a_mixture_is_the_sum_in_turn_to_the_last_bit(kind, sources):
    rng = np.random.default_rng(0)
    rows = np.asarray(KINDS[kind](rng, rng.normal(size=(N, D))), np.float32)
    shares = np.zeros((N, N))
    for row in shares:
        row[rng.choice(N, sources, replace=False)] = 1 / sources
    found = mixture(with_deltas(rows), shares).deltas
    expected = np.stack([in_turn(rows, row) for row in shares])
    assert np.array_equal(found.view(np.int32), expected.view(np.int32))  # 0.0 is not -0.0
