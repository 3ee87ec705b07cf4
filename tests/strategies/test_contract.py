"""Every file of strategies/ keeps the contract of rules and filters."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from oleander.learning.parameters import ModelState
from oleander.learning.updates import Aggregate, Cohort
from oleander.settings.config import Experiment
from oleander.settings.registry import bind
from strategies import _sums, kind_of, known_strategies, pipeline_of
from strategies.clamp import clamp
from strategies.clip import clip
from tests.cohorts import cohort_of, random_cohort, updates

KNOWN = {name: p for name, p in known_strategies().items() if kind_of(p) != "finish" and not p.asks}
"""Those that are functions of a cohort alone."""
RULES = [name for name, plugin in KNOWN.items() if kind_of(plugin) == "rule"]
FILTERS = [name for name, plugin in KNOWN.items() if kind_of(plugin) == "filter"]


def function(name: str):
    return bind(KNOWN[name], Experiment())


def arrays_of(cohort: Cohort) -> list[np.ndarray]:
    return [cohort.client_ids, cohort.deltas, cohort.statistics, cohort.num_examples]


def test_walk_finds_the_strategies_of_the_course_and_the_worked_example():
    assert {"fedavg", "krum", "multi_krum", "median"} <= set(RULES)
    assert {"clip"} <= set(FILTERS)


@pytest.mark.parametrize("name", KNOWN)
@given(members=updates())
@settings(max_examples=40, deadline=None)
def test_input_is_left_alone_and_shapes_and_types_are_kept(name, members):
    cohort = cohort_of(1, members)
    before = [array.copy() for array in arrays_of(cohort)]
    result = function(name)(cohort)
    for array, copy in zip(arrays_of(cohort), before, strict=True):
        np.testing.assert_array_equal(array, copy)
    n, d = cohort.deltas.shape
    if kind_of(KNOWN[name]) == "filter":
        assert isinstance(result, Cohort)
        assert set(result.client_ids) <= set(cohort.client_ids) and len(set(result.client_ids)) == len(result)
        assert result.deltas.shape == (len(result), d) and result.deltas.dtype == np.float32
        assert result.statistics.shape == (len(result), cohort.statistics.shape[1])
        assert result.statistics.dtype == np.float32
    else:
        assert isinstance(result, Aggregate)
        assert result.delta.shape == (d,) and result.delta.dtype == np.float32
        assert result.statistics.shape == cohort.statistics.shape[1:] and result.statistics.dtype == np.float32
        assert result.influence.shape == (n,)
        assert (result.influence >= 0).all() and result.influence.sum() == pytest.approx(1)


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("seed", range(5))
def test_which_row_a_client_stands_in_changes_only_where_its_influence_stands(name, seed):
    cohort = random_cohort(9, seed=seed)
    turned = np.random.default_rng(seed).permutation(9)
    other = replace(
        cohort,
        deltas=cohort.deltas[turned],
        statistics=cohort.statistics[turned],
        num_examples=cohort.num_examples[turned],
    )
    one, two = function(name)(cohort), function(name)(other)
    if kind_of(KNOWN[name]) == "filter":
        np.testing.assert_allclose(one.deltas[turned], two.deltas, rtol=1e-6)
        np.testing.assert_allclose(one.statistics[turned], two.statistics, rtol=1e-6)
        return
    np.testing.assert_allclose(one.delta, two.delta, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(one.statistics, two.statistics, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(one.influence[turned], two.influence, rtol=1e-9)


@pytest.mark.parametrize("name", KNOWN)
@given(members=updates())
@settings(max_examples=40, deadline=None)
def test_a_unanimous_cohort_comes_back_unchanged(name, members):
    first = members[0]
    cohort = cohort_of(1, [replace(u, delta=first.delta, statistics=first.statistics) for u in members])
    result = function(name)(cohort)
    if kind_of(KNOWN[name]) == "filter":
        np.testing.assert_array_equal(result.deltas, cohort.deltas)
        np.testing.assert_array_equal(result.statistics, cohort.statistics)
    else:
        np.testing.assert_array_equal(result.delta, first.delta)
        np.testing.assert_array_equal(result.statistics, first.statistics)


def test_a_bound_of_its_own_may_change_a_unanimous_cohort():
    """As CONTRIBUTING.md says: what the contract above does not hold for."""
    cohort = random_cohort(5)
    same = replace(cohort, deltas=np.ones_like(cohort.deltas))
    assert (clip(same, clip_norm=1.0).deltas < 1).all() and (clamp(same, clip_norm=0.5).deltas == 0.5).all()
    started = replace(same, start=ModelState(np.full(50, 9, np.float32), cohort.start.statistics))
    assert (clamp(started, clip_norm="median").deltas < 1).all()


@pytest.mark.parametrize("name", RULES)
def test_nothing_depends_on_how_many_cores_there_are(name, monkeypatch):
    cohort = random_cohort(7, d=5 * _sums.WIDTH + 3)
    found = []
    for cores in (1, 4):
        monkeypatch.setattr(_sums, "cpu_count", lambda cores=cores: cores)
        found.append(function(name)(cohort))
    np.testing.assert_array_equal(found[0].delta, found[1].delta)
    np.testing.assert_array_equal(found[0].influence, found[1].influence)


def test_no_rule_can_read_who_is_malicious():
    forbidden = {"malicious", "attack", "poison_rate", "gamma", "target"}
    import inspect

    for name, plugin in KNOWN.items():
        assert not forbidden & set(inspect.signature(plugin.function).parameters), name


def test_every_pair_of_filter_and_rule_runs():
    for filter_, rule in itertools.product(FILTERS, RULES):
        pipeline_of(Experiment(strategy=f"{filter_}+{rule}"))
