"""Rows that are mixtures of clients: influence stays the clients', and records, table, figures and page say what is mixed."""

import io
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from oleander.experiment.recorder import Recorder
from oleander.experiment.records import ENVIRONMENT, detection_rates, read_rounds, write_scenario
from oleander.learning.evaluation import Scores
from oleander.learning.updates import MIXED, Aggregate, Cohort
from oleander.reports.plots import draw_figures
from oleander.reports.tables import print_results
from oleander.reports.webpage import write_run_page
from oleander.settings.config import Experiment
from strategies import Pipeline, RuleError, Server, Step, pipeline_of
from strategies.clip import clip
from strategies.fedavg import fedavg
from strategies.krum import krum
from strategies.nnm import nnm
from tests.cohorts import random_cohort
from tests.experiment.test_records import ROUND, START, SUMMARY, folder_of
from tests.played_network import Network, run


def passed(strategy: str, cohort: Cohort, **settings):
    experiment = Experiment(clients=len(cohort), clients_per_round=len(cohort), strategy=strategy).changed(**settings)
    return pipeline_of(experiment).run(cohort, {}, Server(0))


@pytest.mark.parametrize(
    "strategy", ["nnm", "bucketing", "nnm+bucketing", "bucketing+nnm", "clip+nnm", "bucketing+clip"]
)
@pytest.mark.parametrize("rule", ["krum", "fedavg", "multi_krum"])
def test_influence_is_by_client_through_whatever_mixes(strategy, rule):
    """It is what the aggregate is made of: Σ influence_i · Δ_i, where no filter changes a row's length."""
    cohort = random_cohort(11, d=8)
    found = passed(f"{strategy}+{rule}", cohort, clip_norm=1e6)
    assert found.aggregate.influence.shape == (11,) and found.aggregate.influence.sum() == pytest.approx(1)
    expected = found.aggregate.influence @ cohort.deltas.astype(float)
    np.testing.assert_allclose(found.aggregate.delta, expected, rtol=1e-4, atol=1e-5)


def test_of_the_bucket_that_krum_takes_each_client_has_its_share():
    cohort = random_cohort(10, d=8)
    found = passed("bucketing+krum", cohort)
    taken = krum(found.filtered, assumed_malicious=1).influence.argmax()
    assert found.aggregate.influence.tolist() == found.filtered.sources[taken].tolist()
    assert sorted(set(found.aggregate.influence.tolist())) == [0.0, 0.5]


def test_a_filter_behind_bucketing_clips_the_buckets():
    cohort = random_cohort(10, d=8)
    mixed = passed("bucketing", cohort).filtered
    both = passed("bucketing+clip", cohort).filtered
    np.testing.assert_array_equal(both.deltas, clip(mixed).deltas)
    np.testing.assert_array_equal(both.sources, mixed.sources)


def test_clients_whom_a_filter_dropped_before_the_mixing_have_no_influence():
    cohort = random_cohort(6, d=8)

    def drop(cohort: Cohort) -> Cohort:
        return cohort.only(np.array([0, 2, 3, 5]))

    steps = Step("drop", drop), Step("nnm", lambda c: nnm(c, assumed_malicious=1))
    found = Pipeline("x", steps, Step("fedavg", fedavg)).run(cohort, {}, Server(0))
    assert found.filtered.sources.shape == (4, 6)
    assert not found.aggregate.influence[[1, 4]].any() and (found.aggregate.influence[[0, 2, 3, 5]] > 0).all()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda c: replace(c, sources=None), "lost what its rows are made of"),
        (lambda c: replace(c, sources=c.sources[:, :-1]), r"sources of shape \(3, 4\), not \(3, 5\)"),
        (lambda c: replace(c, sources=c.sources * 2), "shares of clients are not from 0 to 1"),
        (lambda c: replace(c, sources=1 - c.sources), "shares of clients are not from 0 to 1"),
    ],
)
def test_a_filter_behind_bucketing_that_loses_whose_rows_they_are_is_refused(spoil, words):
    bucketing = pipeline_of(Experiment(strategy="bucketing")).filters[0]
    with pytest.raises(RuleError, match=f"spoil .*{words}"):
        Pipeline("x", (bucketing, Step("spoil", spoil)), Step("fedavg", fedavg)).run(random_cohort(5), {}, Server(0))


def test_where_nobody_is_trusted_nothing_is_finished_and_the_global_model_stays(task):
    """Noise, too, is not added: there is no aggregate that it could hide."""

    def nobody(cohort: Cohort) -> Aggregate:
        return Aggregate(0 * cohort.deltas[0], 0 * cohort.statistics[0], np.zeros(len(cohort)))

    finish = pipeline_of(Experiment(strategy="noise")).finishes
    found = Pipeline("x", (), Step("nobody", nobody), finish).run(random_cohort(5), {}, Server(0)).aggregate
    assert not found.delta.any() and not found.statistics.any() and not found.influence.any()
    with pytest.raises(RuleError, match="nobody trusts nobody and yet"):
        Pipeline("x", (), Step("nobody", lambda c: replace(nobody(c), delta=c.deltas[0]))).run(
            random_cohort(5), {}, Server(0)
        )


@pytest.fixture
def run_folder(tmp_path, task):
    """The records of a run in which two pairs of clients are mixed and one client stands alone, attacker 0 among them."""
    settings = {"strategy": "bucketing+fedavg", "attack": "patch", "malicious": 1, "clients": 5}
    experiment = Experiment(**settings)
    _, outcomes = run(Network(5), **settings)
    recorder = SimpleNamespace(setup=SimpleNamespace(experiment=experiment))
    records = [Recorder._record(recorder, o.round, o, Scores(0.5, 0.9, 1.0), 0.0) for o in outcomes]
    folder = folder_of(tmp_path / "run", [START, *records])
    write_scenario(folder.path / "config.toml", experiment)
    (folder.path / ENVIRONMENT).write_text(
        json.dumps({"command": "x", "python": "3", "commit": "abc", "packages": {}, "cpus": 2, "cpu": "x", "gpu": None})
    )
    folder.write_summary(replace(SUMMARY, strategy="bucketing+fedavg"))
    return folder, records


def test_a_mixed_clients_norm_after_the_filters_is_unknown_in_records_table_figure_and_page(run_folder):
    folder, records = run_folder
    summary = replace(SUMMARY, strategy="bucketing+fedavg")
    for record in records:
        assert sorted(norm is None for norm in record.norms_after) == [False] + [True] * 4
        alone = record.norms_after.index(next(norm for norm in record.norms_after if norm is not None))
        assert record.norms_after[alone] == record.norms_before[alone]
        assert sum(record.influence) == pytest.approx(1) and all(record.influence)
    assert read_rounds(folder.path) == [START, *records] and detection_rates([START, *records]) == (0.0, 0.0)
    text = io.StringIO()
    print_results(Console(file=text, width=250), folder.path, summary)
    assert text.getvalue().count("→mixed") == 4 * len(records)
    draw_figures(folder.path, summary)
    assert (folder.path / "figures" / "norms.svg").read_text().count(">4 mixed<") == len(records)
    write_run_page(folder.path, summary)
    assert (folder.path / "report.html").read_text().count("after the defence mixed with others") == 4 * len(records)


def test_of_many_mixed_clients_the_figure_says_it_once_a_round(tmp_path):
    record = replace(
        ROUND, client_ids=list(range(20)), malicious=[False] * 20, norms_before=[1.0] * 20, norms_after=[None] * 20,
        influence=[0.05] * 20, dropped=[],
    )  # fmt: skip
    folder = folder_of(tmp_path / "run", [START, record])
    draw_figures(folder.path, SUMMARY)
    text = (folder.path / "figures" / "norms.svg").read_text()
    assert text.count("mixed by a filter") == 1 and ">mixed<" not in text


def test_rows_made_of_one_client_keep_its_id_and_others_have_none():
    cohort = random_cohort(5)
    assert passed("bucketing", cohort, bucketing_s=1).filtered.client_ids.tolist() == [0, 1, 2, 3, 4]
    assert passed("bucketing", cohort, bucketing_s=5).filtered.client_ids.tolist() == [MIXED]
