"""Mixing nearest neighbours agrees with its definition, decides ties exactly, and gives Krum back whom mimicry took from it."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from oleander.learning.updates import MIXED
from oleander.settings.config import Experiment
from oleander.system.errors import UserError
from strategies import RuleError, Server, pipeline_of
from strategies.krum import krum
from strategies.nnm import nnm
from tests.cohorts import random_cohort


def reference(deltas: np.ndarray, f: int) -> np.ndarray:
    """Who is in whose mean (n, n), by exact distances: itself first, then the nearest, among equal ones the lowest row."""
    rows = [[Fraction(float(v)) for v in row] for row in deltas]
    n, shares = len(rows), np.zeros((len(rows), len(rows)))
    for i in range(n):
        apart = [sum((a - b) ** 2 for a, b in zip(rows[i], row, strict=True)) for row in rows]
        nearest = sorted(range(n), key=lambda j, i=i, apart=apart: (j != i, apart[j], j))[: n - f]
        shares[i, nearest] = 1 / (n - f)
    return shares


def with_deltas(deltas):
    return replace(random_cohort(len(deltas)), deltas=np.asarray(deltas, np.float32))


@given(
    deltas=hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=7).flatmap(
        lambda shape: hnp.arrays(np.float32, shape, elements=st.sampled_from([-2, -1, -0.1, 0, 0.1, 1, 2, 1e3]))
    ),
    f=st.integers(0, 5),
)
@settings(max_examples=150, deadline=None)
def test_it_agrees_with_the_definition_ties_and_all(deltas, f):
    f = min(f, len(deltas) - 1)
    cohort = with_deltas(deltas)
    found, shares = nnm(cohort, assumed_malicious=f), reference(deltas, f)
    np.testing.assert_array_equal(found.sources, shares)
    np.testing.assert_allclose(found.deltas, shares @ deltas.astype(float), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found.statistics, shares @ cohort.statistics.astype(float), rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(found.num_examples, np.rint(shares @ cohort.num_examples))


def test_golden_values():
    """0, 1, 3 and 100, the two nearest each: 0 and 1; 1 and 0; 3 and 1; 100 and 3."""
    found = nnm(with_deltas([[0], [1], [3], [100]]), assumed_malicious=2)
    assert found.deltas.ravel().tolist() == [0.5, 0.5, 2.0, 51.5] and found.client_ids.tolist() == [MIXED] * 4


def test_with_all_but_one_assumed_bad_each_update_stays_its_clients_own():
    cohort = random_cohort(5)
    found = nnm(cohort, assumed_malicious=4)
    np.testing.assert_array_equal(found.deltas, cohort.deltas)
    np.testing.assert_array_equal(found.client_ids, cohort.client_ids)


def test_under_mimicry_krum_is_nearer_to_the_honest_mean():
    """Clients differ, and two attackers send what client 0 sends: Krum takes a copy of it; mixed, it takes a mean."""
    nearer = []
    for seed in range(20):
        honest = np.random.default_rng(seed).normal(size=(9, 30))
        cohort = with_deltas(np.concatenate([honest, honest[:1], honest[:1]]))
        plain = krum(cohort, assumed_malicious=2).delta
        mixed = krum(nnm(cohort, assumed_malicious=2), assumed_malicious=2).delta
        nearer.append(np.linalg.norm(mixed - honest.mean(axis=0)) < 0.5 * np.linalg.norm(plain - honest.mean(axis=0)))
    assert all(nearer)


@pytest.mark.parametrize(("n", "f"), [(1, 1), (3, 3), (3, 7)])
def test_too_few_clients_are_refused_with_n_and_f(n, f):
    with pytest.raises(RuleError, match=rf"n > f .*n = {n} and f = {f} \(so n >= {f + 1}\)"):
        nnm(random_cohort(n), assumed_malicious=f)


def test_it_is_refused_before_anything_starts():
    with pytest.raises(UserError, match=r"--strategy nnm: .*n = 5 and f = 5"):
        pipeline_of(Experiment(strategy="nnm").changed(assumed_malicious=5))


def test_krums_influence_is_that_of_the_clients_in_its_mixture():
    cohort = random_cohort(6, d=8)
    found = pipeline_of(Experiment(strategy="nnm+krum")).run(cohort, {}, Server(0)).aggregate
    mixed = nnm(cohort, assumed_malicious=1)
    np.testing.assert_allclose(found.influence, mixed.sources[krum(mixed, assumed_malicious=1).influence.argmax()])
    assert np.count_nonzero(found.influence) == 5
    np.testing.assert_allclose(found.influence @ cohort.deltas, found.delta, rtol=1e-5, atol=1e-6)
