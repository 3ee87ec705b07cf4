"""``--report DIR…``: what is finished of a study, of a folder of runs, of several together."""

import csv
import json
import shutil

import numpy as np
import pytest

import simulate
from oleander.experiment.records import read_rounds
from oleander.reports.together import found_in, runs_below, together, told_of, varying
from oleander.system.errors import UserError
from tests.experiment.test_results import run_in

COLOURS = np.zeros((2, 3, 32, 32), dtype=np.uint8)


def grid(folder, attacks=("blend", "patch"), strategies=("fedavg", "krum"), seeds=(0, 1), **settings):
    """Runs of attack × strategy × seed."""
    jobs = []
    for attack in attacks:
        for strategy in strategies:
            for seed in seeds:
                path = folder / f"{attack}-{strategy}-{seed}"
                path.parent.mkdir(exist_ok=True, parents=True)
                jobs.append(run_in(path, attack=attack, strategy=strategy, seed=seed, malicious=1, **settings))
                np.savez(
                    path / "samples.npz",
                    clean=COLOURS,
                    classes=np.array(["a", "b"]),
                    parts=COLOURS[None],
                    whole=COLOURS,
                )
                about = {
                    "packages": {},
                    "commit": "a",
                    "gpu": None,
                    "command": "c",
                    "cpu": "c",
                    "cpus": 1,
                    "python": "3",
                }
                (path / "environment.json").write_text(json.dumps(about))
    return jobs


def as_study(path, jobs):
    """The study's file over runs that lie below it."""
    cells = [
        {"x": job.experiment.attack, "series": job.experiment.strategy, "published": {}, "runs": [job.folder.name]}
        for job in jobs
    ]
    chart = {"name": "c", "title": "C", "x_title": "attack", "series_title": "strategy", "ordered": False, "norms": False,
             "rounds": False, "cells": cells}  # fmt: skip
    (path / "study.json").write_text(
        json.dumps({"name": "s", "description": "d", "repeats": 1, "command": "c", "charts": [chart]})
    )


def test_settings_that_differ_become_axes_and_seeds_a_cells_runs(tmp_path):
    grid(tmp_path / "one")
    grid(tmp_path / "two", attacks=("sig",), seeds=(0, 1, 2), lr=0.1)
    found = found_in([tmp_path / "one", tmp_path / "two"])
    study = together(found, "command")
    chart = study.charts[0]
    assert (chart.x_title, chart.series_title) == ("attack", "strategy, lr")
    assert [(cell.x, cell.series, len(cell.summaries)) for cell in chart.cells] == [
        ("blend", "fedavg, lr 0.2", 2), ("blend", "krum, lr 0.2", 2), ("patch", "fedavg, lr 0.2", 2),
        ("patch", "krum, lr 0.2", 2), ("sig", "fedavg, lr 0.1", 3), ("sig", "krum, lr 0.1", 3),
    ]  # fmt: skip
    assert [s.seed for s in chart.cells[-1].summaries] == [0, 1, 2] and study.repeats == 3 and study.planned == 14


def test_runs_are_found_alone_beside_each_other_and_in_studies(tmp_path):
    jobs = grid(tmp_path / "all" / "study" / "runs")
    as_study(tmp_path / "all" / "study", jobs)
    alone = grid(tmp_path / "all", attacks=("sig",), strategies=("fedavg",), seeds=(0,))
    assert set(runs_below(tmp_path / "all")) == {job.folder for job in [*jobs, *alone]}
    assert runs_below(alone[0].folder) == [alone[0].folder] and runs_below(tmp_path / "no") == []


def test_a_run_counts_once_and_what_is_left_out_is_told(tmp_path):
    jobs = grid(tmp_path / "runs", seeds=(0,))
    shutil.copytree(jobs[0].folder, tmp_path / "runs" / "copy")
    (jobs[-1].folder / "summary.json").unlink()
    found = found_in([tmp_path / "runs", jobs[0].folder])
    assert (len(found.folders), found.unfinished, found.twice) == (3, 1, 1)
    assert len(told_of(found)) == 2
    for job in jobs:
        (job.folder / "summary.json").unlink(missing_ok=True)
    with pytest.raises(UserError, match="none of the 4 runs is finished"):
        found_in([job.folder for job in jobs])


def test_where_nothing_differs_there_is_one_cell(tmp_path):
    jobs = grid(tmp_path, attacks=("blend",), strategies=("krum",))
    assert varying([job.experiment for job in jobs]) == []
    assert [cell.x for cell in together(found_in([tmp_path]), "c").charts[0].cells] == ["all"]


def test_a_number_that_rises_is_an_ordered_axis(tmp_path):
    for rate in (0.1, 0.25, 0.5):
        grid(tmp_path / str(rate), ("blend",), ("krum",), (0,), poison_rate=rate)
    chart = together(found_in([tmp_path / str(r) for r in (0.1, 0.25, 0.5)]), "c").charts[0]
    assert chart.ordered and chart.x_title == "poison rate"


def test_a_report_of_several_is_a_folder_of_its_own_and_changes_none_of_theirs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    grid(tmp_path / "one", ("blend",), seeds=(0,))
    grid(tmp_path / "two", ("patch",), seeds=(0, 1))
    before = {path: path.stat().st_mtime_ns for folder in ("one", "two") for path in (tmp_path / folder).rglob("*")}
    assert simulate.main(["--report", "one", "two", "--out", "both"]) == 0
    said = capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for f in ("one", "two") for path in (tmp_path / f).rglob("*")} == before
    names = {path.name for path in (tmp_path / "both").iterdir()}
    assert names >= {"results.csv", "rounds.csv", "table.md", "table.tex", "differences.csv", "report.html", "figures"}
    assert {path.suffix for path in (tmp_path / "both" / "figures").iterdir()} == {".png", ".svg", ".pdf"}
    rows = list(csv.DictReader((tmp_path / "both" / "results.csv").open()))
    assert len(rows) == 6 and all((tmp_path / "both" / row["folder"] / "config.toml").is_file() for row in rows)
    assert "differences by seed" in said and "krum − " in said
    assert simulate.main(["--report", "one", "two", "--out", "both"]) == 2  # nothing is written over


def test_a_study_that_was_stopped_is_reported_by_what_is_finished(tmp_path, capsys):
    jobs = grid(tmp_path / "runs", seeds=(0,))
    as_study(tmp_path, jobs)
    (jobs[-1].folder / "summary.json").unlink()
    assert simulate.main(["--report", str(tmp_path)]) == 0
    assert "3 of 4 runs are finished" in " ".join(capsys.readouterr().out.split())
    assert "3 of 4 runs are finished" in (tmp_path / "report.html").read_text()
    assert len(list(csv.DictReader((tmp_path / "results.csv").open()))) == 3
    assert len(read_rounds(jobs[-1].folder)) == 2  # goes on from there
    for job in jobs:
        (job.folder / "summary.json").unlink(missing_ok=True)
    assert simulate.main(["--report", str(tmp_path)]) == 2
    assert "none of the study's 4 runs" in " ".join(capsys.readouterr().err.split())
