"""What is decided by comparing sums is decided as in exact arithmetic: ties are ties, whatever rounds otherwise elsewhere."""

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from strategies import _sums
from strategies._exact import nearest_float
from strategies.krum import krum
from strategies.multi_krum import multi_krum
from tests.cohorts import updates, with_deltas

ROOT = Path(__file__).parents[2]
CORES = ("Prescott", "Nehalem", "Haswell", "SkylakeX")
"""Processors whose kernels OpenBLAS can be told to take, the newer of them where this machine has their instructions."""


def chosen_by_fractions(deltas: np.ndarray, f: int, m: int) -> list[int]:
    """The m lowest scores in exact arithmetic, ties to the first."""
    rows = [[Fraction(float(v)) for v in row] for row in deltas]
    apart = [[sum((a - b) ** 2 for a, b in zip(one, two, strict=True)) for two in rows] for one in rows]
    n = len(rows)
    scores = [sum(sorted(apart[i][j] for j in range(n) if j != i)[: n - f - 2]) for i in range(n)]
    return sorted(sorted(range(n), key=lambda i: (scores[i], i))[:m])


def chosen(deltas: np.ndarray, f: int, m: int, *, check: bool = True) -> list[int]:
    cohort = with_deltas(deltas)
    if m == 1 and check:
        assert krum(cohort, assumed_malicious=f).influence.argmax() == chosen_by_fractions(deltas, f, 1)[0]
    influence = multi_krum(cohort, assumed_malicious=f, multi_krum_m=m).influence
    return np.flatnonzero(influence).tolist()


def test_scores_that_are_equal_in_exact_arithmetic_are_a_tie():
    """Scores 2 2 2 2 2 2 7, whose mean is no float64 number."""
    assert chosen([[0], [1], [0], [0], [1], [1], [2]], f=1, m=1) == [0]
    assert chosen([[0], [1], [0], [0], [1], [1], [2]], f=1, m=6) == [0, 1, 2, 3, 4, 5]
    assert chosen([[0], [1], [0], [0], [1], [1], [2]], f=1, m=4) == [0, 1, 2, 3]


@st.composite
def tied_cohorts(draw):
    """Updates among which ties are likely: small whole numbers, copies, permuted and mirrored columns, another scale."""
    n = draw(st.integers(3, 9))
    d = draw(st.integers(1, 6))
    values = st.one_of(st.integers(-3, 3).map(float), st.sampled_from([0.1, 1e-30, 1e30, 2.0**-149, -0.0]))
    rows = draw(hnp.arrays(np.float32, (n, d), elements=values.map(lambda v: float(np.float32(v)))))
    for i in range(1, n):
        kind = draw(st.sampled_from(["own", "copy", "permuted", "mirrored"]))
        if kind == "copy":
            rows[i] = rows[i - 1]
        elif kind == "permuted":
            rows[i] = rows[i - 1][draw(st.permutations(range(d)))]
        elif kind == "mirrored":
            rows[i] = -rows[i - 1]
    f = draw(st.integers(0, (n - 3) // 2))
    return rows * np.float32(2.0 ** draw(st.integers(-10, 10))), f, draw(st.integers(1, n))


@given(case=tied_cohorts())
@settings(max_examples=300, deadline=None)
def test_krum_chooses_as_exact_fractions_do(case):
    deltas, f, m = case
    assert chosen(deltas, f, m) == chosen_by_fractions(deltas, f, m)
    assert chosen(deltas, f, 1) == chosen_by_fractions(deltas, f, 1)


@given(members=updates(least=3, most=7), data=st.data())
@settings(max_examples=150, deadline=None)
def test_krum_chooses_as_exact_fractions_do_among_any_updates(members, data):
    deltas = np.stack([u.delta for u in members])
    f = data.draw(st.integers(0, (len(deltas) - 3) // 2))
    m = data.draw(st.integers(1, len(deltas)))
    assert chosen(deltas, f, m) == chosen_by_fractions(deltas, f, m)


@given(case=tied_cohorts(), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=200, deadline=None)
def test_no_kernel_whose_sums_are_rounded_otherwise_changes_krums_choice(case, seed):
    """A Gram matrix that is off by as much as d additions in another order may make it, both ways."""
    deltas, f, m = case
    expected = chosen_by_fractions(deltas, f, m)
    rng, gram = np.random.default_rng(seed), _sums._gram

    def off(rows):
        exact = gram(rows)
        most = rows.shape[1] * 2.0**-53 * np.sqrt(np.outer(np.diag(exact), np.diag(exact)))
        noise = np.triu(rng.choice([-1.0, 1.0], exact.shape) * most)
        return exact + noise + np.triu(noise, 1).T

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_sums, "_gram", off)
        assert chosen(deltas, f, m) == expected


def test_ties_over_several_blocks_go_to_the_lowest_id(monkeypatch):
    """The same numbers in other columns, and so in other blocks, make norms and distances to 0 that are equal."""
    monkeypatch.setattr(_sums, "WIDTH", 1 << 8)
    monkeypatch.setattr(_sums, "PRODUCT_BYTES", 1 << 14)
    row = np.random.default_rng(0).normal(size=1500).astype(np.float32)
    turned = [np.random.default_rng(i).permutation(row) for i in range(4)]
    for rows in ([*turned, -row], [turned[0], -turned[0], turned[1], -turned[1], 0 * row]):
        for m in (1, 2, 3):
            assert chosen(np.stack(rows), 1, m) == chosen_by_integers(np.stack(rows), 1, m)


def chosen_by_integers(deltas: np.ndarray, f: int, m: int) -> list[int]:
    """As by fractions, quicker: whole multiples of 2^-149, in Python's integers."""
    rows = [np.array([int(float(v) * 2.0**149) for v in row], dtype=object) for row in deltas]
    apart = [[int(((a - b) ** 2).sum()) for b in rows] for a in rows]
    n = len(rows)
    scores = [sum(sorted(apart[i][j] for j in range(n) if j != i)[: n - f - 2]) for i in range(n)]
    return sorted(sorted(range(n), key=lambda i: (scores[i], i))[:m])


KERNELS = """
import numpy as np
from tests.strategies.test_ties import chosen
for seed in range(8):
    row = np.random.default_rng(seed).normal(size=30_011).astype(np.float32)
    one, other = (np.random.default_rng((seed, i)).permutation(row) for i in range(2))
    print(chosen(np.stack([one, other, 0 * row]), f=0, m=1, check=False))
"""  # as far from 0 each, nearer to it than to each other


@pytest.mark.network  # not of the network, but whole processes
def test_neither_threads_nor_processors_kernels_change_the_choice():
    found = set()
    for settings_ in ({"OPENBLAS_NUM_THREADS": k} for k in "124"), ({"OPENBLAS_CORETYPE": k} for k in CORES):
        for changed in settings_:
            done = subprocess.run(
                [sys.executable, "-c", KERNELS], env=os.environ | changed, cwd=ROOT, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
            found.add(done.stdout)
    assert found == {"[0]\n" * 8}


@given(members=updates(least=2, most=7), scale=st.sampled_from([1.0, 1e-40, 1e30]))
@settings(max_examples=100, deadline=None)
def test_distances_are_within_their_bounds(members, scale):
    rows = np.stack([u.delta for u in members]) * np.float32(scale)
    found, bounds = _sums.bounded_distances(rows)
    for i, one in enumerate(rows):
        for j, other in enumerate(rows):
            exact = sum((Fraction(float(a)) - Fraction(float(b))) ** 2 for a, b in zip(one, other, strict=True))
            assert abs(Fraction(float(found[i, j])) - exact) <= Fraction(float(bounds[i, j]))


@given(members=updates(least=2, most=2), scale=st.sampled_from([1.0, 2.0**-149, 1e-40, 1e30]))
@settings(max_examples=100, deadline=None)
def test_exact_products_are_those_of_fractions(members, scale):
    one, other = (u.delta * np.float32(scale) for u in members)
    exact = sum((Fraction(float(a)) * Fraction(float(b)) for a, b in zip(one, other, strict=True)), Fraction(0))
    found = _sums.exact_dot(one, other)
    assert Fraction(found, 2**298) == exact
    assert nearest_float(found) == float(exact)
