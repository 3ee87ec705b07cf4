"""Every file of strategies/ keeps the contract of rules and filters; the known ones agree with independent references."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oleander.learning.parameters import ModelState
from oleander.learning.updates import Aggregate, Cohort
from oleander.settings.config import Experiment
from oleander.settings.registry import bind
from oleander.system.errors import UserError
from strategies import RuleError, Server, _sums, kind_of, known_strategies, pipeline_of
from strategies._sums import squared_distances
from strategies.clamp import clamp
from strategies.clip import clip
from strategies.fedavg import fedavg
from strategies.krum import krum
from strategies.median import median
from strategies.multi_krum import multi_krum
from tests.cohorts import cohort_of, random_cohort, updates

KNOWN = known_strategies()
RULES = [name for name, plugin in KNOWN.items() if kind_of(plugin) == "rule"]
FILTERS = [name for name, plugin in KNOWN.items() if kind_of(plugin) == "filter"]


def function(name: str):
    return bind(KNOWN[name], Experiment())


def arrays_of(cohort: Cohort) -> list[np.ndarray]:
    return [cohort.client_ids, cohort.deltas, cohort.statistics, cohort.num_examples]


# ---- the contract, for every file ------------------------------------------------------------------------------------


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


# ---- references ------------------------------------------------------------------------------------------------------


def test_clamp_forces_the_values_of_local_models_into_the_bound():
    cohort = random_cohort(5, d=20)
    start = ModelState(np.linspace(-9, 9, 20).astype(np.float32), cohort.start.statistics)
    cohort = replace(cohort, start=start)
    for clip_norm, bound in (
        (2.5, 2.5),
        ("median", np.median(np.linalg.norm(cohort.deltas.astype(np.float64), axis=1))),
    ):
        models = clamp(cohort, clip_norm=clip_norm).deltas + start.weights
        np.testing.assert_allclose(models, np.clip(cohort.deltas + start.weights, -bound, bound), rtol=1e-5, atol=1e-5)


def reference_krum_scores(deltas: np.ndarray, f: int) -> list[float]:
    """Straight from the paper, pair by pair in Python floats."""
    rows = [[float(v) for v in row] for row in deltas]
    scores = []
    for i, row in enumerate(rows):
        distances = sorted(
            sum((a - b) ** 2 for a, b in zip(row, other, strict=True)) for j, other in enumerate(rows) if j != i
        )
        scores.append(sum(distances[: len(rows) - f - 2]))
    return scores


@pytest.mark.parametrize(
    ("n", "f", "seed"), [(n, f, s) for n in range(3, 12) for f in range(5) if n >= 2 * f + 3 for s in (0, 1)]
)
def test_krum_and_multi_krum_agree_with_the_reference(n, f, seed):
    cohort = random_cohort(n, d=20, seed=seed)
    order = np.argsort(reference_krum_scores(cohort.deltas, f), kind="stable")
    np.testing.assert_array_equal(krum(cohort, assumed_malicious=f).delta, cohort.deltas[order[0]])
    np.testing.assert_array_equal(krum(cohort, assumed_malicious=f).statistics, cohort.statistics[order[0]])
    for m in (None, 1, n):
        result = multi_krum(cohort, assumed_malicious=f, multi_krum_m=m)
        best = order[: n - f if m is None else m]
        np.testing.assert_allclose(
            result.delta, cohort.deltas[best].astype(np.float64).mean(axis=0), rtol=1e-6, atol=1e-7
        )
        assert set(np.flatnonzero(result.influence)) == set(best.tolist())


@pytest.mark.parametrize(("n", "f"), [(n, f) for n in range(1, 12) for f in range(6) if n < 2 * f + 3])
def test_krum_refuses_too_few_clients_and_names_n_and_f(n, f):
    for rule in (
        lambda c: krum(c, assumed_malicious=f),
        lambda c: multi_krum(c, assumed_malicious=f, multi_krum_m=None),
    ):
        with pytest.raises(RuleError, match=f"n = {n} and f = {f}"):
            rule(random_cohort(n))


def test_krum_ties_go_to_the_lowest_id():
    cohort = random_cohort(5)
    same = replace(cohort, deltas=np.zeros_like(cohort.deltas))
    assert krum(same, assumed_malicious=1).influence.tolist() == [1, 0, 0, 0, 0]


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


@pytest.mark.parametrize("name", RULES)
def test_nothing_depends_on_how_many_cores_there_are(name, monkeypatch):
    cohort = random_cohort(7, d=5 * _sums.WIDTH + 3)
    found = []
    for cores in (1, 4):
        monkeypatch.setattr(_sums, "cpu_count", lambda cores=cores: cores)
        found.append(function(name)(cohort))
    np.testing.assert_array_equal(found[0].delta, found[1].delta)
    np.testing.assert_array_equal(found[0].influence, found[1].influence)


def test_sums_over_many_blocks_are_those_of_numpy():
    rows = random_cohort(5, d=3 * _sums.WIDTH + 17).deltas
    wide = rows.astype(np.float64)
    np.testing.assert_allclose(_sums.squared_norms(rows), (wide**2).sum(axis=1), rtol=1e-12)
    cohort = replace(random_cohort(5, d=rows.shape[1]), deltas=rows)
    expected = np.average(wide, axis=0, weights=cohort.num_examples)
    np.testing.assert_allclose(fedavg(cohort).delta, expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(median(cohort).delta, np.median(wide, axis=0).astype(np.float32))


def test_fedavg_agrees_with_numpy():
    cohort = random_cohort(7)
    result = fedavg(cohort)
    for got, rows in ((result.delta, cohort.deltas), (result.statistics, cohort.statistics)):
        expected = np.average(rows.astype(np.float64), axis=0, weights=cohort.num_examples)
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("n", [1, 2, 5, 6])
def test_median_agrees_with_numpy(n):
    cohort = random_cohort(n)
    result = median(cohort)
    np.testing.assert_array_equal(result.delta, np.median(cohort.deltas.astype(np.float64), axis=0).astype(np.float32))
    np.testing.assert_array_equal(
        result.statistics, np.median(cohort.statistics.astype(np.float64), axis=0).astype(np.float32)
    )


@given(members=updates(), bound=st.floats(1e-3, 1e4))
@settings(max_examples=100, deadline=None)
def test_clip_bound_holds_and_clipping_again_changes_nothing(members, bound):
    cohort = cohort_of(1, members)
    once = clip(cohort, clip_norm=bound)
    norms = np.linalg.norm(once.deltas.astype(np.float64), axis=1)
    assert (norms <= bound).all()
    twice = clip(once, clip_norm=bound)
    np.testing.assert_array_equal(once.deltas, twice.deltas)
    np.testing.assert_array_equal(once.statistics, twice.statistics)
    short = np.linalg.norm(cohort.deltas.astype(np.float64), axis=1) <= bound
    np.testing.assert_array_equal(once.deltas[short], cohort.deltas[short])


def test_clip_median_is_numpys_and_statistics_shrink_with_the_weights():
    cohort = random_cohort(6)
    norms = np.linalg.norm(cohort.deltas.astype(np.float64), axis=1)
    result = clip(cohort, clip_norm="median")
    factors = np.minimum(1, np.median(norms) / norms)
    np.testing.assert_allclose(result.deltas, cohort.deltas * factors[:, None], rtol=1e-6)
    np.testing.assert_allclose(result.statistics, cohort.statistics * factors[:, None], rtol=1e-6)


# ---- composition -----------------------------------------------------------------------------------------------------


def test_pipelines_compose_and_clip_alone_means_clip_fedavg():
    assert pipeline_of(Experiment(strategy="clip")).name == "clip+fedavg"
    pipeline = pipeline_of(Experiment(strategy="clip+krum"))
    cohort = random_cohort(5)
    expected = krum(clip(cohort, clip_norm="median"), assumed_malicious=1)
    np.testing.assert_array_equal(pipeline.run(cohort, {}, Server(0)).aggregate.delta, expected.delta)


@pytest.mark.parametrize(
    ("settings_", "words"),
    [
        ({"strategy": "krumm"}, ["krumm", "krum", "fedavg"]),
        ({"strategy": "krum+fedavg"}, ["krum (rule)", "fedavg (rule)", "then one rule"]),
        ({"strategy": ""}, ["''", "known"]),
        ({"strategy": "krum", "assumed_malicious": 2}, ["n = 5", "f = 2"]),
        ({"strategy": "multi_krum", "multi_krum_m": 6}, ["m = 6", "n = 5"]),
    ],
)
def test_impossible_strategies_are_refused_by_name(settings_, words):
    with pytest.raises(UserError) as error:
        pipeline_of(Experiment().changed(**settings_))
    assert all(word in str(error.value) for word in words)


def test_no_rule_can_read_who_is_malicious():
    forbidden = {"malicious", "attack", "poison_rate", "gamma", "target"}
    import inspect

    for name, plugin in KNOWN.items():
        assert not forbidden & set(inspect.signature(plugin.function).parameters), name


def test_every_pair_of_filter_and_rule_runs():
    for filter_, rule in itertools.product(FILTERS, RULES):
        pipeline_of(Experiment(strategy=f"{filter_}+{rule}"))
