"""Every file of strategies/ keeps each check of the contract, and each check fails a plug-in that is wrong."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load, save

from oleander.experiment.resume import _memory, _named
from oleander.learning.parameters import Layout, ModelState
from oleander.learning.root import Root
from oleander.learning.updates import Update
from oleander.settings import outside
from oleander.settings.config import Experiment
from oleander.system.errors import UserError
from strategies import _sums, kind_of, known_strategies, pipeline_for, pipeline_of, trial_server
from strategies.clamp import clamp
from strategies.clip import clip
from strategies.contract import CHECKS, failures, main
from tests.cohorts import FINITE, random_cohort
from tests.shards import shard
from tests.strategies.conftest import HEADER

KNOWN = known_strategies()
KINDS = {name: kind_of(plugin) for name, plugin in KNOWN.items()}


@pytest.fixture(scope="module", autouse=True)
def one_thread_for_all():
    """DeepSight's five rounds cost 0.4 s of CPU with one thread and 1.2 with two, which wait for each other over arrays so small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", KNOWN)
def test_a_strategy_keeps_every_check(name):
    assert failures(name) == {}


def test_the_walk_finds_each_kind():
    assert {"fedavg", "krum", "multi_krum", "median"} <= {n for n, kind in KINDS.items() if kind == "rule"}
    assert {"clip", "clamp"} <= {n for n, kind in KINDS.items() if kind == "filter"}


@pytest.mark.parametrize("name", KNOWN)
@given(deltas=st.integers(7, 9).flatmap(lambda n: hnp.arrays(np.float32, (n, 8), elements=FINITE)), alike=st.booleans())
@settings(max_examples=30, deadline=None)
def test_whatever_numbers_come_the_aggregate_is_one_and_what_was_handed_in_is_left(name, deltas, alike):
    cohort = random_cohort(len(deltas), d=8, s=2)
    deltas = deltas[[0] * len(deltas)] if alike else deltas
    cohort = replace(cohort, deltas=deltas, statistics=deltas[:, :2])
    before = deltas.copy()
    passed = pipeline_for([name], Experiment(), name).run(cohort, {}, trial_server(np.ones(8, np.float32)))
    found = passed.aggregate
    np.testing.assert_array_equal(cohort.deltas, before)
    assert found.delta.dtype == found.statistics.dtype == np.float32
    assert not found.influence.any() or found.influence.sum() == pytest.approx(1)
    excused = KNOWN[name].function.__globals__.get("EXCEPT", {})
    if alike and "unanimous" not in excused:
        for rows, expected in ((passed.filtered.deltas, found.delta), (passed.filtered.statistics, found.statistics)):
            assert (rows == before[0, : rows.shape[1]]).all() and (expected == before[0, : rows.shape[1]]).all()


def test_a_bound_of_its_own_may_change_a_unanimous_cohort():
    """As CONTRIBUTING.md says: what the checks, which run with the default settings, do not hold for."""
    cohort = random_cohort(5)
    same = replace(cohort, deltas=np.ones_like(cohort.deltas))
    assert (clip(same, clip_norm=1.0).deltas < 1).all() and (clamp(same, clip_norm=0.5).deltas == 0.5).all()
    started = replace(same, start=ModelState(np.full(50, 9, np.float32), cohort.start.statistics))
    assert (clamp(started, clip_norm="median").deltas < 1).all()


def test_every_pair_of_filter_and_rule_runs_or_the_rule_says_that_it_knows_no_mixtures():
    filters, rules = ([n for n, kind in KINDS.items() if kind == wanted] for wanted in ("filter", "rule"))
    for filter_, rule in itertools.product(filters, rules):
        try:
            pipeline_of(Experiment(strategy=f"{filter_}+{rule}", clients=24, clients_per_round=24))
        except UserError as error:
            assert "memory" in KNOWN[rule].asks and "rows mix several clients'" in str(error)


@pytest.mark.parametrize("name", KNOWN)
def test_nothing_depends_on_how_many_cores_there_are(name, monkeypatch):
    cohort, found = random_cohort(7, d=5 * _sums.WIDTH + 3), []
    names, shapes = ("body.weight", "linear.weight", "linear.bias", "mean"), ((5 * _sums.WIDTH,), (1, 2), (1,), (6,))
    layout = Layout(names, shapes, (True, True, True, False))
    own = Update(-1, random_cohort(1, d=layout.weight_count, seed=1).deltas[0], np.ones(6, np.float32), 1)
    server = replace(trial_server(own.delta[:8]), layout=layout, root=Root(shard(), lambda *_: own))
    for cores in (1, 4):
        monkeypatch.setattr(_sums, "cpu_count", lambda cores=cores: cores)
        found.append(pipeline_for([name], Experiment(), name).run(cohort, {}, server).aggregate)
    np.testing.assert_array_equal(found[0].delta, found[1].delta)
    np.testing.assert_array_equal(found[0].influence, found[1].influence)


# ---- wrong ones ------------------------------------------------------------------------------------------------------

RIGHT = {
    "a_rule": "(cohort: Cohort) -> Aggregate: return fedavg(cohort)",
    "a_filter": "(cohort: Cohort) -> Cohort: return cohort.only(np.flatnonzero(cohort.client_ids > cohort.client_ids.min()))",
    "a_finish": "(aggregate: Aggregate, cohort: Cohort, *, a_finish_by: Literal['no'] | Positive = 'no') -> Aggregate: "
    "return aggregate",
    "a_counter": "(cohort: Cohort, *, memory: Memory) -> tuple[Aggregate, Memory]: "
    "return fedavg(cohort), {'calls': np.asarray(memory.get('calls', 0) + 1)}",
    "a_doubter": "(cohort: Cohort) -> Aggregate: a = fedavg(cohort); return Aggregate(0 * a.delta, 0 * a.statistics, 0 * a.influence)"
    "\nEXCEPT = {'unanimous': 'it trusts nobody'}",
}  # fmt: skip
RULE, FILTER, FINISH = (
    "(cohort: Cohort{}) -> Aggregate: ",
    "(cohort: Cohort) -> Cohort: ",
    "(aggregate: Aggregate, cohort: Cohort) -> Aggregate: ",
)
PLAIN, KEEPING = RULE.format(""), "(cohort: Cohort, *, memory: Memory) -> tuple[Cohort, Memory]: "
WRONG = [
    ("kind", "(cohort: Cohort) -> float: return 1.0"),
    ("kind", RULE.format(", *, memory: Memory") + "return fedavg(cohort)"),
    ("kind", "(cohort: Cohort) -> tuple[Aggregate, Memory]: return fedavg(cohort), {}"),
    ("asks", RULE.format(", *, malicious: int") + "return fedavg(cohort)"),
    ("asks", RULE.format(", *, gamma: float") + "return fedavg(cohort)"),
    ("asks", RULE.format(", *, seed: int") + "return fedavg(cohort)"),
    ("declared", RULE.format(", *, my_setting: Count = 3") + "return fedavg(cohort)"),
    ("declared", RULE.format(", bound: float = 3.0") + "return fedavg(cohort)"),
    ("declared", RULE.format(", *, a_plugins_k: Count = 3") + "return fedavg(cohort)"),
    ("source", PLAIN + "return fedavg(cohort)\n__doc__ = 'Of my own.'"),
    ("shapes", PLAIN + "return replace(fedavg(cohort), delta=np.zeros(3, np.float32))"),
    ("shapes", PLAIN + "a = fedavg(cohort); return replace(a, delta=a.delta.astype(float))"),
    ("shapes", PLAIN + "a = fedavg(cohort); return replace(a, statistics=a.statistics * np.float32('nan'))"),
    ("shapes", PLAIN + "return replace(fedavg(cohort), influence=np.ones(len(cohort)))"),
    ("shapes", PLAIN + "a = fedavg(cohort); return replace(a, influence=0 * a.influence)"),
    ("shapes", FINISH + "return replace(aggregate, influence=aggregate.influence[::-1])"),
    ("inputs_left", FILTER + "cohort.deltas[0] *= 2; return cohort"),
    ("inputs_left", FILTER + "cohort.start.weights[0] = 9; return cohort"),
    ("inputs_left", FINISH + "aggregate.delta[0] *= 2; return aggregate"),
    ("inputs_left", FINISH + "cohort.statistics[0] *= 2; return aggregate"),
    ("inputs_left", KEEPING + "sums = memory.get('sums', np.zeros(1)); sums += 1; return cohort, {'sums': sums}"),
    ("rows", FILTER + "return cohort.only(np.arange(1, len(cohort)))"),
    ("rows", PLAIN + "return replace(fedavg(cohort), influence=np.eye(len(cohort))[0])"),
    ("rows", KEEPING + "kept = cohort.deltas; "
     "return replace(cohort, deltas=kept - memory.get('rows', 0 * kept)), {'rows': kept}"),
    ("unanimous", FILTER + "return replace(cohort, deltas=cohort.deltas / 2)"),
    ("unanimous", FILTER + "return replace(cohort, deltas=np.clip(cohort.deltas, -9, 9))"),
    ("unanimous", FINISH + "return replace(aggregate, statistics=aggregate.statistics / 2)"),
    ("zero_update", FILTER + "return replace(cohort, deltas=cohort.deltas / np.linalg.norm(cohort.deltas, axis=1)[:, None])"),
    ("no_statistics", PLAIN + "assert cohort.statistics.max(axis=1).min() > -99; return fedavg(cohort)"),
    ("deterministic", FILTER + "CALLS[0] += 1; return replace(cohort, deltas=cohort.deltas * np.float32(CALLS[0]))"),
    ("resume", KEEPING + "CALLS[0] = 1 + CALLS[0] * len(memory); "
     "return replace(cohort, deltas=cohort.deltas * np.float32(CALLS[0])), {'x': np.ones(1)}"),
    ("resume", KEEPING + "return cohort, {'x': np.ones(1, np.longdouble)}"),
]  # fmt: skip


def failures_of(plugin) -> dict[str, str]:
    return failures(plugin.name)


@pytest.mark.parametrize("name", RIGHT)
def test_a_good_one_of_each_kind_passes_them_all(made, name):
    assert failures_of(made(RIGHT[name], name)) == {}


@pytest.mark.parametrize(("check", "text"), WRONG)
def test_each_check_fails_a_wrong_plugin(made, check, text):
    assert check in failures_of(made(text))


def test_for_every_check_there_is_a_wrong_plugin():
    assert {check for check, _ in WRONG} == set(CHECKS)


def test_a_setting_without_help_is_said(made):
    wrong = failures_of(made(RULE.format(", *, a_plugin_k: Count = 3") + "return fedavg(cohort)"))
    assert wrong == {"declared": "a_plugin_k has no line under Args:"}


def test_an_excuse_holds_for_its_check_alone_and_must_be_needed(made):
    half = FILTER + "return replace(cohort, deltas=cohort.deltas / 2)\n"
    assert failures_of(made(half + "EXCEPT = {'unanimous': 'halves'}")) == {}


def test_a_crash_is_not_excused(made):
    wrong = failures_of(made(FILTER + "return cohort.dropped\nEXCEPT = {'unanimous': 'so it is'}"))
    assert "AttributeError" in wrong["unanimous"]


@pytest.mark.parametrize(
    ("excuse", "found"),
    [("rows", "EXCEPT rows"), ("rowz", "EXCEPT rowz")],
)
def test_an_excuse_that_does_not_hold_is_a_failure(made, excuse, found):
    wrong = failures_of(made(PLAIN + f"return fedavg(cohort)\nEXCEPT = {{'{excuse}': 'why not'}}"))
    assert list(wrong) == [found] and ("why not" in wrong[found] or "no such check" in wrong[found])


@pytest.fixture
def own_file(tmp_path):
    """A rule of somebody's own, outside the repository, whose sum of influences is not 1."""
    file = tmp_path / "my_rule.py"
    body = "    return replace(fedavg(cohort), influence=np.ones(len(cohort)))\n"
    file.write_text(
        f'{HEADER}def my_rule(cohort: Cohort, *, my_rule_k: Count = 3) -> Aggregate:\n    """Mine."""\n{body}'
    )
    yield file
    outside.forget()


def test_a_file_of_ones_own_is_checked_by_its_path(own_file, capsys):
    wrong = failures(str(own_file))
    assert wrong["declared"] == "my_rule_k has no line under Args:" and "1 together" in wrong["shapes"]
    assert main([str(own_file), "krum"]) == 1
    said = capsys.readouterr().out
    assert (
        f"{own_file}: \n" in said and "  declared: my_rule_k has no line" in said and "krum: keeps its contract" in said
    )
    mended = own_file.read_text().replace("replace(fedavg(cohort), influence=np.ones(len(cohort)))", "fedavg(cohort)")
    own_file.write_text(mended.replace("Mine.", "Mine.\n\n    Args:\n        my_rule_k: How many.\n    "))
    assert failures(str(own_file)) == {}


def test_a_step_that_is_none_is_said_with_those_that_are():
    with pytest.raises(UserError, match=r"'krumm'.*krum"):
        failures("krumm")
    with pytest.raises(UserError, match=r"no_rule\.py"):
        failures("./no_rule.py")


def test_what_is_remembered_comes_out_of_a_runs_file_as_it_went_in():
    """A single number too: arrays of one are not numbers."""
    kept = {
        "step": {
            "count": np.array(3),
            "sums": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
            "none": np.zeros((0, 4)),
        }
    }
    found = _memory(load(save(_named(kept))))
    assert list(found) == ["step"] and set(found["step"]) == set(kept["step"])
    for name, array in kept["step"].items():
        assert found["step"][name].dtype == array.dtype and found["step"][name].shape == array.shape
        np.testing.assert_array_equal(found["step"][name], array)
