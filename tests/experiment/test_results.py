"""results.csv and rounds.csv: a row a run, a row a round and run, and the settings that tell them apart."""

import csv
import dataclasses
import json
from dataclasses import replace
from pathlib import Path

import pandas
import pytest

from oleander.experiment.records import MODEL_FILES, RunFolder, is_finished, left_no_model, read_summary
from oleander.experiment.results import columns_of, finished, write_runs
from oleander.experiment.study import NOT_IN_KEY, Job, StudyFolder
from oleander.reports import plots, tables, webpage
from oleander.settings.config import Experiment
from oleander.settings.sweeps import NOT_SWEPT
from tests.experiment.test_records import ROUND, START, SUMMARY


def run_in(path, finish=True, **settings):
    """A run's folder as a run leaves it, as far as tables look at it; gives its job."""
    experiment = Experiment(rounds=1, dataset="digits").changed(**settings)
    run = RunFolder(path)
    run.write_settings(experiment, {"commit": "a", "packages": {}})
    for record in (START, ROUND):
        run.append(record)
    for name in MODEL_FILES:
        (path / name).write_bytes(b"a model")
    summary = replace(
        SUMMARY, seed=experiment.seed, strategy=experiment.strategy, attack=experiment.attack, robust_accuracy=0.4,
        malicious=list(experiment.malicious_clients), mta=0.5 + 0.01 * experiment.seed, dataset=experiment.dataset,
    )  # fmt: skip
    if finish:
        run.write_summary(summary)
    run.release()
    return Job(experiment, path)


def table(path, name="results.csv"):
    return list(csv.DictReader((path / name).open(encoding="utf-8")))


def test_every_setting_that_varies_or_is_no_default_has_a_column():
    runs = [Experiment(dataset="digits", rounds=2, strategy=s).changed(clip_norm=2.0) for s in ("fedavg", "clip")]
    assert columns_of(runs) == ["dataset", "rounds", "strategy", "clip_norm"]
    assert columns_of([Experiment()]) == []
    assert (
        columns_of([Experiment(scenario="a", description="b", out="c", seed=4, data_dir="d")]) == []
    )  # have their own, or say nothing


def test_a_row_a_run_and_a_row_a_round_as_runs_end(tmp_path):
    study = StudyFolder(tmp_path)
    jobs = [
        run_in(tmp_path / "runs" / f"{s}{i}", s == "krum", strategy=s, seed=i)
        for i in range(2)
        for s in ("krum", "clip")
    ]
    study.write_results(jobs)
    assert [(row["strategy"], row["seed"]) for row in table(tmp_path)] == [("krum", "0"), ("krum", "1")]
    head = list(table(tmp_path)[0])
    run_in(tmp_path / "other", strategy="clip")
    (tmp_path / "other" / "summary.json").rename(jobs[1].folder / "summary.json")
    study.write_results(jobs)
    study.write_results(jobs)  # a study that goes on
    rows = table(tmp_path)
    assert [row["folder"] for row in rows] == ["runs/krum0", "runs/clip0", "runs/krum1"] and list(rows[0]) == head
    assert rows[0]["robust_accuracy"] == "0.4" and rows[0]["dataset"] == "digits" and rows[0]["rounds"] == "1"
    rounds = table(tmp_path, "rounds.csv")
    assert [(row["folder"], row["round"]) for row in rounds] == [(row["folder"], n) for row in rows for n in "01"]
    counts = {name: rounds[1][name] for name in ("left_out", "malicious_clients", "dropped", "loss")}
    assert counts == {"left_out": "1", "malicious_clients": "1", "dropped": "1", "loss": ""}
    study.release()
    (tmp_path / "study.json").write_text("{}")
    again = StudyFolder(tmp_path)
    again.write_results(jobs)
    assert table(tmp_path) == rows
    again.release()


def test_two_lines_of_pandas_give_a_table(tmp_path):
    jobs = [
        run_in(tmp_path / f"{s}{i}", strategy=s, seed=i, attack="none") for i in range(3) for s in ("fedavg", "krum")
    ]
    runs = [finished(job.experiment, job.folder) for job in jobs]
    write_runs(tmp_path, runs, columns_of(job.experiment for job in jobs))
    frame = pandas.read_csv(tmp_path / "results.csv")
    means = frame.groupby("strategy")["mta"].mean()
    assert means.to_dict() == pytest.approx({"fedavg": 0.51, "krum": 0.51})


def test_a_setting_that_a_run_has_no_use_for_is_left_empty(tmp_path):
    jobs = [run_in(tmp_path / "a", strategy="fedavg"), run_in(tmp_path / "b", strategy="clip+fedavg", clip_norm=2.0)]
    write_runs(tmp_path, [finished(j.experiment, j.folder) for j in jobs], columns_of(j.experiment for j in jobs))
    assert [row["clip_norm"] for row in table(tmp_path)] == ["", "2.0"]


def test_the_target_stands_there_by_its_name_too_where_an_asr_is_measured(tmp_path):
    jobs = [run_in(tmp_path / name, target=2, attack=name) for name in ("blend", "sign_flip")]
    for job, asr, named in zip(jobs, (0.5, None), ("bird", "bird"), strict=True):
        summary = replace(read_summary(job.folder), target_class=named, asr=asr, baseline_asr=asr)
        (job.folder / "summary.json").write_text(json.dumps(dataclasses.asdict(summary)))
    write_runs(tmp_path, [finished(j.experiment, j.folder) for j in jobs], columns_of(j.experiment for j in jobs))
    for file in ("results.csv", "rounds.csv"):
        found = {row["attack"]: (row["target"], row["target_class"]) for row in table(tmp_path, file)}
        assert found == {"blend": ("2", "bird"), "sign_flip": ("2", "")}


@pytest.mark.parametrize("keep", ["models", "none"])
def test_models_go_only_when_a_run_that_keeps_none_is_finished(tmp_path, monkeypatch, keep):
    monkeypatch.setattr(plots, "draw_figures", lambda *_: None)
    there = []
    monkeypatch.setattr(webpage, "write_run_page", lambda path, _: there.append([*path.glob("model*")]))
    job = run_in(tmp_path / "run", finish=False, keep=keep)
    assert not left_no_model(job.folder)
    run = RunFolder(job.folder, again=True)
    run.drop_models()
    tables.finish_run(run, SUMMARY)
    run.release()
    assert len(there[0]) == 2  # until then
    assert len([*job.folder.glob("model*")]) == (2 if keep == "models" else 0)
    assert is_finished(job.folder) and read_summary(job.folder).model_sha256 == SUMMARY.model_sha256
    assert left_no_model(job.folder) == (keep == "none")
    told = tables._closing_lines(SUMMARY, not left_no_model(job.folder))[-1]
    assert ("not there" in told) == (keep == "none")
    assert len(table(job.folder)) == 1 and len(table(job.folder, "rounds.csv")) == 2


def test_what_is_kept_makes_no_other_run_and_is_not_swept():
    assert "keep" in NOT_IN_KEY and "keep" in NOT_SWEPT


def test_a_run_is_named_as_it_is_seen_from_the_table(tmp_path):
    job = run_in(tmp_path / "elsewhere" / "run")
    (tmp_path / "report").mkdir()
    write_runs(tmp_path / "report", [finished(job.experiment, job.folder)], [])
    assert Path(table(tmp_path / "report")[0]["folder"]) == Path("../elsewhere/run")
