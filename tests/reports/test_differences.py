"""Differences between a study's settings: what is compared with what, and over which seeds."""

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from oleander.experiment.records import Repaired
from oleander.experiment.study import Runs, StudyResult
from oleander.reports.differences import differences_of, write_differences
from oleander.reports.tables import print_study
from oleander.settings.plan import Chart, Published
from tests.experiment.test_records import SUMMARY

SEEDS = range(5)


def cell(x, series="", strategy="fedavg", seeds=SEEDS, mta=0.7, asr=0.5, malicious=(0,), attack="blend"):
    """A setting whose scores rise by a point a seed, from what is given."""
    runs = tuple(
        replace(
            SUMMARY, strategy=strategy, seed=seed, mta=mta + 0.01 * seed, malicious=list(malicious), attack=attack,
            asr=None if asr is None else asr + 0.01 * seed**2,
        )
        for seed in seeds
    )  # fmt: skip
    return Runs(x, series, Published(), tuple(Path(x) for _ in runs), runs)


def chart(*cells):
    return Chart("c", "C", "x", "", ordered=False, norms=False, rounds=False, cells=cells)


def pairs_of(*cells):
    return list(dict.fromkeys((d.setting, d.reference) for d in differences_of(chart(*cells))))


def test_strategies_are_compared_with_plain_averaging_under_the_same_attack():
    defences = ("krum", "fedavg", "median")
    grid = [cell(a, s, s) for a in ("blend", "patch") for s in defences]
    wanted = [(f"{a} / {s}", f"{a} / fedavg") for a in ("blend", "patch") for s in ("krum", "median")]
    assert pairs_of(*grid) == wanted
    turned = [cell(s, a, s) for a in ("blend", "patch") for s in defences]
    assert pairs_of(*turned) == [
        (f"{s} / {a}", f"fedavg / {a}") for a in ("blend", "patch") for s in ("krum", "median")
    ]


@pytest.mark.parametrize(
    ("cells", "reference"),
    [
        ([cell("one"), cell("two")], "one"),
        ([cell("one"), cell("clean", malicious=()), cell("two")], "clean"),
        ([cell("one"), cell("none", attack="none"), cell("two")], "none"),
        ([cell("krum", strategy="krum"), cell("median", strategy="median")], "krum"),
        ([cell("clean", malicious=()), cell("plain"), cell("krum", strategy="krum")], "plain"),
        ([cell("clean", malicious=()), cell("krum", strategy="krum")], "clean"),
    ],
)
def test_the_reference_is_plain_or_clean_or_the_first(cells, reference):
    assert {r for _, r in pairs_of(*cells)} == {reference}


def test_only_seeds_that_both_have_finished_are_paired_and_their_number_is_told():
    found = differences_of(chart(cell("a"), cell("b", seeds=(1, 3, 9)), cell("c", seeds=(7,)), cell("d", seeds=())))
    assert [(d.setting, d.score, d.pairs) for d in found] == [("b", "mta", 2), ("b", "asr", 2)]
    assert all(d.paired.p is None and d.p_holm is None for d in found)


def test_p_values_are_corrected_over_all_comparisons_of_the_chart():
    found = differences_of(
        chart(cell("a"), cell("b", asr=0.2), cell("c", mta=0.5, seeds=range(1, 7)), cell("d", asr=None))
    )
    tested = [d for d in found if d.pairs == 5]
    assert [(d.setting, d.score) for d in tested] == [(s, k) for s in "b" for k in ("mta", "asr")] + [("d", "mta")]
    assert tested[0].paired.p == 1  # the same in each seed
    noisy = cell("b")
    noisy = replace(noisy, summaries=tuple(replace(s, mta=s.mta + 0.1 + 0.02 * (s.seed % 2)) for s in noisy.summaries))
    first = differences_of(chart(cell("a"), noisy, cell("c", mta=0.5)))
    p = next(d for d in first if d.setting == "b" and d.score == "mta")
    assert p.p_holm == pytest.approx(4 * p.paired.p)  # two settings in two scores


def test_no_score_without_an_asr():
    assert {d.score for d in differences_of(chart(cell("a", asr=None), cell("b", asr=None)))} == {"mta"}


def test_differences_are_written_a_row_each(tmp_path):
    study = StudyResult("s", "d", "c", 5, (chart(cell("=a"), cell("b", mta=0.6)), chart(cell("alone"))))
    written = write_differences(tmp_path, study)
    rows = list(csv.DictReader((tmp_path / "differences.csv").open()))
    assert len(rows) == len(written) == 2 and rows[0]["reference"] == "'=a"
    assert float(rows[0]["difference"]) == pytest.approx(-0.1) and rows[0]["low"] == "" and rows[0]["pairs"] == "5"
    write_differences(tmp_path, replace(study, charts=study.charts[1:]))
    assert list(csv.DictReader((tmp_path / "differences.csv").open())) == []


def test_the_terminal_shows_intervals_on_one_line_and_says_what_their_brackets_are(tmp_path):
    """At 80 columns; square brackets are rich's own markup, and were taken for it."""
    noisy = cell("blend", "krum", "krum")
    noisy = replace(noisy, summaries=tuple(replace(s, mta=s.mta - 0.02 * (s.seed % 3)) for s in noisy.summaries))
    study = StudyResult("s", "d", "c", 5, (replace(chart(cell("blend", "fedavg"), noisy), series_title="strategy"),))
    text = io.StringIO()
    print_study(Console(file=text, width=80), tmp_path, study)
    said = text.getvalue()
    assert "[low, high]: 95 % interval" in said and "differences by seed" in said
    assert all(line.count("[") == line.count("]") for line in said.splitlines())
    assert re.search(r"72\.0 \[[\d.]+, [\d.]+\] ", said) and re.search(r"−1\.6 \[−[\d.]+, \+?−?[\d.]+\]", said)


def test_repaired_models_are_compared_too_and_one_that_was_not_repaired_with_its_own_score():
    repaired = Repaired(mta=0.6, asr=0.1, loss=None, model_sha256="0" * 64, seconds=1.0)
    mended = cell("nad")
    runs = tuple(replace(run, repaired=replace(repaired, asr=0.01 * run.seed)) for run in mended.summaries)
    found = differences_of(chart(cell("none"), replace(mended, summaries=runs)))
    assert [(d.how, d.score) for d in found] == [("", "mta"), ("", "asr"), ("repaired", "mta"), ("repaired", "asr")]
    of = {(d.how, d.score): d.paired.difference.mean for d in found}
    assert of["", "asr"] == 0
    assert of["repaired", "mta"] == pytest.approx(0.6 - 0.72)
    assert of["repaired", "asr"] == pytest.approx(0.02 - 0.56)
