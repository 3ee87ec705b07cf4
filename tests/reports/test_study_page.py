"""A study's page: which of its runs have a page of their own, and how much of each it shows."""

import dataclasses
import json
import re

import numpy as np
import pytest

from oleander.experiment.intervals import interval
from oleander.experiment.records import RunFolder, is_finished
from oleander.experiment.study import MOST_PAGES, NOT_IN_KEY, Runs, StudyResult, has_page
from oleander.reports import plots, webpage
from oleander.reports.style import LINES
from oleander.reports.tables import finish_run
from oleander.settings.config import Experiment
from oleander.settings.plan import Chart, Published
from oleander.system.environment import environment
from tests.experiment.test_records import ROUND, START, SUMMARY


@pytest.fixture
def drawn(monkeypatch):
    """Names of the runs whose figures were drawn."""
    names = []
    monkeypatch.setattr(plots, "draw_figures", lambda path, _: names.append(path.name))
    monkeypatch.setattr(webpage, "_galleries", lambda *_: [])
    return names


def finished_run(path, pages="auto", of=1):
    run = RunFolder(path)
    run.write_settings(Experiment(rounds=1, dataset="digits", pages=pages), environment("cpu", None, 1))
    for record in (START, ROUND):
        run.append(record)
    finish_run(run, SUMMARY, of)
    run.release()
    return path


def page_of(folder, *runs):
    cell = Runs("x", "", Published(), runs, (SUMMARY,) * len(runs))
    chart = Chart("a", "T", "x", "", ordered=False, norms=False, rounds=False, cells=(cell,))
    return webpage.write_study_page(folder, StudyResult("s", "d", "c", len(runs), (chart,), len(runs))).read_text()


@pytest.mark.parametrize(
    ("pages", "of", "has"),
    [("auto", 1, True), ("auto", MOST_PAGES, True), ("auto", MOST_PAGES + 1, False), ("all", 999, True), ("none", 1, False)],
)  # fmt: skip
def test_a_run_is_whole_with_its_page_or_without(tmp_path, drawn, pages, of, has):
    path = finished_run(tmp_path / "run", pages, of)
    assert has_page(pages, of) == has == (path / "report.html").is_file() == (drawn == ["run"])
    assert is_finished(path) and (path / "results.csv").is_file() and "pages" in NOT_IN_KEY


def test_a_study_links_the_pages_that_there_are_and_counts_those_that_are_not(tmp_path, drawn):
    with_page = finished_run(tmp_path / "s" / "runs" / "with page")
    without = finished_run(tmp_path / "s" / "runs" / "without", "none")
    page = page_of(tmp_path / "s", with_page, without)
    assert page.count('href="runs/with%20page/report.html"') == 1 and "runs/without/report.html" not in page
    assert "1 of 2 runs have no page of their own" in page
    assert "no page of their own" not in page_of(tmp_path / "s", with_page)


def test_nouns_agree_with_what_is_counted(tmp_path, drawn):
    runs = [finished_run(tmp_path / "s" / "runs" / name) for name in "ab"]
    for count, seconds, said in (
        (1, 60, "1 run, 1 seed of each setting, 1 minute in all;"),
        (2, 60, "2 runs, 2 seeds of each setting, 2 minutes in all;"),
        (1, 20, "1 run, 1 seed of each setting, 20 seconds in all;"),
    ):
        for run in runs:
            (run / "summary.json").write_text(
                json.dumps(
                    dataclasses.asdict(dataclasses.replace(SUMMARY, seconds=SUMMARY.seconds | {"total": seconds}))
                )
            )
        assert said in page_of(tmp_path / "s", *runs[:count])


def test_the_signs_of_the_table_of_influence_are_told_apart_from_what_they_mean(tmp_path, drawn):
    page = page_of(tmp_path / "s", finished_run(tmp_path / "s" / "runs" / "one"))
    assert (
        "*: malicious; ·: not selected; <s>0</s>: left out by the defence; ✕: a reply that could not be used."
        in " ".join(page.split())
    )


def test_a_page_of_very_many_runs_has_their_table_and_no_folds(tmp_path, drawn, monkeypatch):
    run = finished_run(tmp_path / "s" / "runs" / "one")
    assert page_of(tmp_path / "s", run).count("<details") == 1
    monkeypatch.setattr(webpage, "MOST_DETAILS", 0)
    page = page_of(tmp_path / "s", run)
    assert "<details" not in page and 'href="runs/one/report.html"' in page


def test_the_colours_of_settings_are_the_pages_own_so_that_a_dark_page_has_lighter_ones(tmp_path):
    svg = "".join(f'<path style="stroke: {colour}"/>' for colour in LINES)
    assert webpage.figure(f"<svg>{svg}</svg>").count("var(--s") == len(LINES)
    page = page_of(tmp_path)
    dark = page[page.index("prefers-color-scheme: dark") :]
    for number, colour in enumerate(LINES, 1):
        assert f"--s{number}: {colour};" in page[: page.index(dark)]
        assert f"--s{number}: #" in dark


def test_a_narrow_page_breaks_a_mean_before_its_interval_and_not_inside():
    assert webpage._unbroken(interval([0.9, 0.92, 0.94, 0.96, 0.97])).count(" ") == 1
    assert webpage._unbroken(interval([1.0] * 5)) == "100.0 (all&nbsp;5&nbsp;alike)"
    assert webpage._unbroken(None) == "–"


def stamped_run(path, trigger, **settings):
    """A run whose samples have this byte stamped on them, as its settings made it."""
    run = RunFolder(path)
    run.write_settings(Experiment(rounds=1, dataset="digits").changed(**settings), environment("cpu", None, 1))
    run.append(START)
    run.append(ROUND)
    run.write_summary(SUMMARY)
    run.release()
    clean = np.zeros((1, 1, 4, 4), np.uint8)
    np.savez(
        path / "samples.npz", clean=clean, classes=np.array(["a"]), parts=clean[None] + trigger, whole=clean + trigger
    )
    return path


def headings(folder, *runs):
    """Of the triggers on the page of a study of these runs: settings, trigger."""
    page = page_of(folder, *(stamped_run(folder / str(n), np.uint8(t), **own) for n, (own, t) in enumerate(runs)))
    return re.findall(r"<div><h3>(.*?)</h3><figure>", page)


def test_the_headings_of_triggers_say_what_differs_between_the_settings_of_one_attack(tmp_path, monkeypatch):
    monkeypatch.setattr(webpage, "samples_svg", lambda *_: "<svg></svg>")
    rules, seeds = ("fedavg", "krum"), (0, 1)
    dba = [({"attack": "dba", "malicious": m, "strategy": rule, "seed": seed}, m)
           for m in (1, 2) for rule in rules for seed in seeds]  # fmt: skip
    patch = [({"attack": "patch", "malicious": m}, 3) for m in (1, 2)]
    assert headings(tmp_path / "a", *dba, *patch) == ["dba, malicious clients 1", "dba, malicious clients 2", "patch"]
    drawn = [({"attack": "dba", "malicious": 1, "seed": seed}, seed + 1) for seed in seeds]
    assert headings(tmp_path / "b", *drawn) == ["dba, seed 0", "dba, seed 1"]
    assert headings(tmp_path / "c", *dba[:4]) == ["dba"]
    mixed = [({"attack": "dba", "malicious": m, "seed": seed}, 1 + (m + seed) % 2) for m in (1, 2) for seed in seeds]
    assert headings(tmp_path / "d", *mixed) == [
        "dba, malicious clients 1, seed 0", "dba, malicious clients 1, seed 1",
    ]  # fmt: skip
