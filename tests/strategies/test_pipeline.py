"""Filters and a rule in a row, somebody else's too: what they may do, to the last record and page; what is refused by name."""

import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

import strategies
from oleander.experiment.recorder import Recorder
from oleander.experiment.records import ENVIRONMENT, detection_rates, read_rounds, write_scenario
from oleander.learning.evaluation import Scores
from oleander.learning.updates import Cohort
from oleander.reports.plots import draw_figures
from oleander.reports.tables import print_results
from oleander.reports.webpage import write_run_page
from oleander.settings import registry
from oleander.settings.config import Experiment
from oleander.settings.declared import forget
from oleander.system.errors import RunError, UserError
from strategies import Pipeline, Server, Step, pipeline_of
from strategies.clip import clip
from strategies.fedavg import fedavg
from strategies.krum import krum
from tests.cohorts import random_cohort
from tests.experiment.test_records import START, SUMMARY, folder_of
from tests.played_network import Network, run

HEADER = '''"""A strategy of a test's."""
from dataclasses import replace
import numpy as np
from oleander.learning.updates import Aggregate, Cohort
from strategies.fedavg import fedavg

def rows(cohort, keep):
    names = ("client_ids", "deltas", "statistics", "num_examples")
    return replace(cohort, **{name: getattr(cohort, name)[keep] for name in names})

'''
BODIES = {
    "drop_longest": "-> Cohort: return rows(cohort, np.arange(len(cohort)) != np.linalg.norm(cohort.deltas, axis=1).argmax())",
    "drop_all": "-> Cohort: return rows(cohort, np.zeros(len(cohort), bool))",
    "drop_zeros": "-> Cohort: return rows(cohort, (cohort.deltas != 0).any(axis=1))",
    "drop_even": "-> Cohort: return rows(cohort, cohort.deltas[:, 0] % 2 != 0)",
    "reverse": "-> Cohort: return rows(cohort, slice(None, None, -1))",
    "twice": "-> Cohort: return rows(cohort, [0, *range(len(cohort))])",
    "rename": "-> Cohort: return replace(cohort, client_ids=cohort.client_ids + 100)",
    "shorten": "-> Cohort: return replace(cohort, deltas=cohort.deltas[:-1])",
    "widen": "-> Cohort: return replace(cohort, deltas=cohort.deltas.astype(float))",
    "spoil": "-> Cohort: return replace(cohort, deltas=cohort.deltas * np.float32('nan'))",
    "uncounted": "-> Cohort: return replace(cohort, num_examples=cohort.num_examples[1:])",
    "no_cohort": "-> Cohort: return [cohort]",
    "smaller_rule": "-> Aggregate: return fedavg(rows(cohort, slice(1, None)))",
    "wider_rule": "-> Aggregate: return replace(fedavg(cohort), delta=np.zeros(99, np.float32))",
    "greedy_rule": "-> Aggregate: return replace(fedavg(cohort), influence=np.ones(len(cohort)))",
}


@pytest.fixture
def plugins(tmp_path_factory):
    """The strategies above, as files that are found by name."""
    folder = tmp_path_factory.mktemp("plugins")
    for name, body in BODIES.items():
        kept, returned = body.removeprefix("-> ").split(": ", 1)
        (folder / f"{name}.py").write_text(
            f'{HEADER}def {name}(cohort: Cohort) -> {kept}:\n    """Of a test."""\n    {returned}\n'
        )
    strategies.__path__.append(str(folder))
    forget()
    registry.find.cache_clear()
    yield
    strategies.__path__.remove(str(folder))
    for name in BODIES:
        sys.modules.pop(f"strategies.{name}", None)
    forget()
    registry.find.cache_clear()


def test_a_dropped_client_has_no_influence_and_is_recorded_as_left_out(plugins, task, tmp_path):
    """Client i moves by i + round, so the longest update is the last drawn client's."""
    experiment = Experiment(strategy="drop_longest+fedavg", attack="patch", malicious=6, clients=6, clients_per_round=5)
    strategy, outcomes = run(Network(6), strategy=experiment.strategy)
    for outcome in outcomes:
        assert len(outcome.client_ids) == 5 and outcome.influence == [0.25] * 4 + [0.0]
        assert outcome.norms_after == [*outcome.norms_before[:4], 0.0]
        assert len(outcome.losses) == 5
        assert outcome.cosines == pytest.approx([1.0] * 5)  # all coordinates move alike
    moved = sum(np.mean(outcome.client_ids[:4]) + outcome.round for outcome in outcomes)
    np.testing.assert_allclose(strategy.state.weights, moved, rtol=1e-6)

    recorder = SimpleNamespace(setup=SimpleNamespace(experiment=experiment))
    records = [Recorder._record(recorder, o.round, o, Scores(0.5, 0.9, 1.0), 0.0) for o in outcomes]
    assert detection_rates([START, *records]) == (pytest.approx(0.2), None)
    folder = folder_of(tmp_path / "run", [START, *records])
    write_scenario(folder.path / "config.toml", experiment)
    (folder.path / ENVIRONMENT).write_text(
        json.dumps({"command": "x", "python": "3", "commit": "abc", "packages": {}, "cpus": 2, "cpu": "x", "gpu": None})
    )
    summary = replace(SUMMARY, strategy="drop_longest+fedavg", true_positive_rate=0.2, false_positive_rate=None)
    folder.write_summary(summary)
    assert read_rounds(folder.path) == [START, *records]
    console = Console(record=True, width=200)
    print_results(console, folder.path, summary)
    assert "→0.00, 0.00" in console.export_text()
    draw_figures(folder.path, summary)
    assert "left out by the defence" in (folder.path / "figures" / "norms.svg").read_text()
    write_run_page(folder.path, summary)


@pytest.mark.parametrize("rule", [fedavg, lambda cohort: krum(cohort, assumed_malicious=0)])
@pytest.mark.parametrize("left_out", [(0,), (3,), (1, 4)])
def test_whom_a_filter_leaves_out_the_aggregate_is_that_of_the_others(rule, left_out):
    cohort = replace(random_cohort(6), client_ids=np.array([2, 3, 5, 7, 11, 13]))
    keep = np.delete(np.arange(6), left_out)

    def part(cohort: Cohort, rows) -> Cohort:
        names = ("client_ids", "deltas", "statistics", "num_examples")
        return replace(cohort, **{name: getattr(cohort, name)[rows] for name in names})

    expected = rule(part(cohort, keep))
    for order in (keep, keep[::-1], np.random.default_rng(0).permutation(keep)):
        steps = Step("part", lambda c, order=order: part(c, order)), Step("rule", rule)
        passed = Pipeline("x", steps[:1], steps[1]).run(cohort, {}, Server(0))
        filtered, found = passed.filtered, passed.aggregate
        assert filtered.client_ids.tolist() == cohort.client_ids[keep].tolist()
        np.testing.assert_array_equal(found.delta, expected.delta)
        assert (
            found.influence[keep].tolist() == expected.influence.tolist() and not found.influence[list(left_out)].any()
        )


def test_ties_go_to_the_lowest_id_behind_a_filter_that_reorders(plugins):
    cohort = random_cohort(5)
    same = replace(cohort, deltas=np.zeros_like(cohort.deltas))
    found = pipeline_of(Experiment(strategy="reverse+krum")).run(same, {}, Server(0)).aggregate
    assert found.influence.tolist() == [1, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        ("twice", ["twice", "[0, 0, 1, 2, 3, 4]", "once"]),
        ("rename", ["rename", "[100, 101", "[0, 1, 2, 3, 4]"]),
        ("shorten+krum", ["shorten", "(4, 8)", "(5, 8)"]),
        ("clip+widen", ["widen", "float64", "float32"]),
        ("spoil+median", ["spoil", "not finite"]),
        ("uncounted", ["uncounted", "4 counts", "5 clients"]),
        ("no_cohort", ["no_cohort", "list", "not a cohort"]),
        ("smaller_rule", ["smaller_rule", "4 of 5 clients"]),
        ("clip+wider_rule", ["wider_rule", "(99,)", "(8,)"]),
        ("greedy_rule", ["greedy_rule", "[1.0, 1.0", "1 together"]),
        ("drop_longest+multi_krum", ["m = 5", "n = 4"]),
    ],
)
def test_what_breaks_the_contract_is_refused_by_name_before_anything_starts(plugins, strategy, words):
    with pytest.raises(UserError) as error:
        pipeline_of(Experiment(strategy=strategy).changed(multi_krum_m=5))
    assert all(word in str(error.value) for word in [f"--strategy {strategy}", *words]), error.value


def test_a_filter_that_leaves_nobody_ends_the_round_by_name(plugins, task):
    with pytest.raises(RunError, match="round 1: the filter drop_all left out all 5 clients"):
        run(Network(6), strategy="drop_all+krum")


def test_a_filter_that_would_leave_none_of_zeros_may_still_run(plugins, task):
    _, outcomes = run(Network(6), strategy="drop_zeros+krum")
    assert all(sum(outcome.influence) == 1 for outcome in outcomes)


def test_too_few_left_for_the_rule_is_said_with_its_numbers(plugins, task):
    with pytest.raises(UserError, match=r"--strategy drop_longest.krum: .* n = 4 and f = 1"):
        pipeline_of(Experiment(strategy="drop_longest+krum"))
    with pytest.raises(RunError, match=r"round 1: Krum needs .* n = [23] and f = 1"):
        run(Network(6), strategy="drop_even+krum")


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


@pytest.mark.parametrize("rule", ["krum", "multi_krum"])
def test_a_rule_that_is_tried_on_fewer_clients_than_it_needs_is_refused_before_anything_starts(rule):
    with pytest.raises(UserError, match=f"^--strategy clip.{rule}: Krum needs"):
        pipeline_of(Experiment(strategy=f"clip+{rule}", clients=9, clients_per_round=6, assumed_malicious=2))
    assert pipeline_of(Experiment(strategy=f"clip+{rule}", clients=9, clients_per_round=7, assumed_malicious=2)).name


def test_a_round_of_one_client_can_be_averaged():
    assert pipeline_of(Experiment(clients_per_round=1)).name == "fedavg"
    assert pipeline_of(Experiment(clients_per_round=1, strategy="clip+median")).name == "clip+median"
