"""The trimmed mean agrees with its definition, and fewer liars than it drops cannot move it out of the honest values."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import trim_mean

from oleander.settings.config import Experiment
from oleander.system.errors import UserError
from strategies import RuleError, _sums, pipeline_of
from strategies.fedavg import fedavg
from strategies.median import median
from strategies.trimmed_mean import WIDTH, trimmed_mean
from tests.cohorts import cohort_of, random_cohort, updates


def reference(rows, trim: int) -> tuple[list[float], list[float]]:
    """Coordinate by coordinate in Python floats: means, and how often each row is left; of equal values the lowest ids."""
    n, means, left = len(rows), [], [0] * len(rows)
    for column in rows.T.astype(float).tolist():
        kept = sorted(column)[trim : n - trim]
        means.append(sum(kept) / len(kept))
        for value in set(kept):
            for i in [i for i, own in enumerate(column) if own == value][: kept.count(value)]:
                left[i] += 1
    return means, [count / max(1, sum(left)) for count in left]


@given(members=updates(least=3), trim=st.integers(0, 4), coarse=st.booleans())
@settings(max_examples=100, deadline=None)
def test_it_agrees_with_the_definition_ties_and_all(members, trim, coarse):
    cohort = cohort_of(1, members)
    if coarse:
        cohort = replace(cohort, deltas=np.sign(cohort.deltas))
    trim = min(trim, (len(cohort) - 1) // 2)
    found = trimmed_mean(cohort, assumed_malicious=trim)
    means, influence = reference(cohort.deltas, trim)
    np.testing.assert_allclose(found.delta, means, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found.influence, influence, rtol=1e-12)
    np.testing.assert_allclose(found.statistics, reference(cohort.statistics, trim)[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("n", "trim"), [(3, 1), (7, 2), (10, 4)])
def test_it_agrees_with_scipy_over_more_than_one_block(n, trim):
    cohort = random_cohort(n, d=2 * WIDTH + 5)
    found = trimmed_mean(cohort, assumed_malicious=0, trimmed_mean_trim=trim)
    expected = trim_mean(cohort.deltas.astype(float), trim / n, axis=0)
    np.testing.assert_array_equal(found.delta, expected.astype(np.float32))


def test_golden_values():
    """[0, 1, 2, 9] and [5, 5, 5, -1], one dropped at each end: means 1.5 and 5; of the three 5 the first two stay."""
    rows = np.array([[0, 5], [1, 5], [2, 5], [9, -1]], np.float32)
    found = trimmed_mean(replace(random_cohort(4), deltas=rows), assumed_malicious=1)
    assert found.delta.tolist() == [1.5, 5.0] and found.influence.tolist() == [0.25, 0.5, 0.25, 0.0]


@pytest.mark.parametrize("n", [5, 6, 9])
def test_dropping_none_is_the_mean_and_dropping_all_but_the_middle_the_median(n):
    cohort = replace(random_cohort(n), num_examples=np.ones(n, np.int64))
    np.testing.assert_allclose(
        trimmed_mean(cohort, assumed_malicious=0).delta, fedavg(cohort).delta, rtol=1e-5, atol=1e-7
    )
    found, middle = trimmed_mean(cohort, assumed_malicious=(n - 1) // 2), median(cohort)
    np.testing.assert_array_equal(found.delta, middle.delta)
    np.testing.assert_allclose(found.influence, middle.influence, rtol=1e-12)


@pytest.mark.parametrize("f", [1, 2, 3])
@given(lie=st.floats(-1e6, 1e6, width=32), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_no_more_than_f_liars_stay_within_the_honest_values(f, lie, seed):
    cohort = random_cohort(8, seed=seed)
    deltas = cohort.deltas.copy()
    deltas[:f] = lie * np.random.default_rng(seed).normal(size=deltas[:f].shape)
    found = trimmed_mean(replace(cohort, deltas=deltas), assumed_malicious=f).delta
    assert (found >= deltas[f:].min(axis=0)).all() and (found <= deltas[f:].max(axis=0)).all()


@pytest.mark.parametrize(("n", "f"), [(n, f) for n in range(1, 8) for f in range(1, 5) if n <= 2 * f])
def test_too_few_clients_are_refused_with_n_and_f(n, f):
    with pytest.raises(RuleError, match=rf"n > 2 trim.* n = {n} and f = {f}$"):
        trimmed_mean(random_cohort(n), assumed_malicious=f)
    with pytest.raises(RuleError, match=rf"n = {n} and trim = {f}$"):
        trimmed_mean(random_cohort(n), assumed_malicious=0, trimmed_mean_trim=f)


def test_it_is_refused_before_anything_starts():
    with pytest.raises(UserError, match=r"--strategy trimmed_mean: .* n = 5 and f = 3"):
        pipeline_of(Experiment(strategy="trimmed_mean").changed(assumed_malicious=3))


def test_a_negative_zero_never_comes_out():
    zeros = replace(random_cohort(5), deltas=np.full((5, 50), -0.0, np.float32))
    assert not np.signbit(trimmed_mean(zeros, assumed_malicious=1).delta).any()


def test_no_second_copy_of_the_cohort_is_made(monkeypatch):
    """Blocks of columns, one a core: what is allocated at once does not grow with d."""
    import tracemalloc

    monkeypatch.setattr(_sums, "cpu_count", lambda: 2)
    cohort = random_cohort(9, d=64 * WIDTH)
    tracemalloc.start()
    trimmed_mean(cohort, assumed_malicious=2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < cohort.deltas.nbytes
