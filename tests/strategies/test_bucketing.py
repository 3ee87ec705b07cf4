"""Buckets hold each client once; they keep the mean, and what rules see varies less."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oleander.learning.updates import MIXED
from oleander.settings.config import Experiment
from oleander.system.errors import UserError
from strategies import RuleError, Server, pipeline_of
from strategies.bucketing import bucketing
from strategies.fedavg import fedavg
from tests.cohorts import random_cohort


def drawn(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(n=st.integers(1, 12), s=st.integers(1, 12), seed=st.integers(0, 999))
@settings(max_examples=100, deadline=None)
def test_each_client_is_in_one_bucket_whose_row_is_the_mean(n, s, seed):
    s, cohort = min(n, s), random_cohort(n, d=5)
    found = bucketing(cohort, rng=drawn(seed), bucketing_s=s)
    sizes = (found.sources > 0).sum(axis=1)  # (⌈n/s⌉,)
    assert sorted(sizes.tolist()) == sorted([s] * (n // s) + ([n % s] if n % s else []))
    assert ((found.sources > 0).sum(axis=0) == 1).all()
    for row, source in enumerate(found.sources):
        members = np.flatnonzero(source)
        np.testing.assert_allclose(
            found.deltas[row], cohort.deltas[members].astype(float).mean(axis=0), rtol=1e-6, atol=1e-7
        )
        np.testing.assert_allclose(
            found.statistics[row], cohort.statistics[members].astype(float).mean(axis=0), rtol=1e-6, atol=1e-7
        )
        assert found.client_ids[row] == (cohort.client_ids[members[0]] if len(members) == 1 else MIXED)


def test_golden_values():
    """numpy.random.default_rng(0).permutation(5) is [2, 4, 3, 0, 1]: buckets {2, 4}, {3, 0} and {1}."""
    cohort = replace(random_cohort(5), deltas=np.array([[0], [1], [2], [4], [8]], np.float32))
    found = bucketing(cohort, rng=drawn())
    assert found.deltas.ravel().tolist() == [5.0, 2.0, 1.0] and found.client_ids.tolist() == [MIXED, MIXED, 1]


@pytest.mark.parametrize("s", [1, 2, 3, 6])
def test_equal_buckets_keep_the_mean(s):
    cohort = replace(random_cohort(6), num_examples=np.full(6, 7))
    found = fedavg(bucketing(cohort, rng=drawn(), bucketing_s=s))
    np.testing.assert_allclose(found.delta, fedavg(cohort).delta, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("s", [2, 5])
def test_rows_vary_s_times_less(s):
    """The paper's lemma 1: the variance among buckets is that among clients, divided by s."""
    cohort = random_cohort(200, d=400)
    found = bucketing(cohort, rng=drawn(), bucketing_s=s)
    assert found.deltas.var() * s == pytest.approx(cohort.deltas.var(), rel=0.05)


def test_other_rounds_and_seeds_draw_other_buckets_and_the_same_the_same():
    pipeline, cohort = (
        pipeline_of(Experiment(strategy="bucketing", clients=20, clients_per_round=20)),
        random_cohort(20, d=8),
    )

    def sources(seed: int, number: int):
        return pipeline.run(replace(cohort, round=number), {}, Server(seed)).filtered.sources

    np.testing.assert_array_equal(sources(0, 1), sources(0, 1))
    assert not np.array_equal(sources(0, 1), sources(0, 2)) and not np.array_equal(sources(0, 1), sources(1, 1))


def test_a_bucket_larger_than_the_round_is_refused_with_s_and_n():
    with pytest.raises(RuleError, match="s = 6 and n = 5"):
        bucketing(random_cohort(5), rng=drawn(), bucketing_s=6)
    with pytest.raises(UserError, match=r"--strategy bucketing: .*s = 6 and n = 5"):
        pipeline_of(Experiment(strategy="bucketing").changed(bucketing_s=6))


def test_the_rule_behind_it_sees_its_rows_and_the_same_f():
    with pytest.raises(UserError, match=r"n = 3 and f = 1 .*; bucketing made 3 rows of 5 clients"):
        pipeline_of(Experiment(strategy="bucketing+krum"))
    pipeline_of(Experiment(strategy="bucketing+krum", clients=9, clients_per_round=9))
