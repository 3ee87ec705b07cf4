"""Of runs without an ASR no figure, page or table has an empty place for one; the MTA stands beside the starting model's."""

import io
import re
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from oleander.experiment.records import Repaired, RunFolder, Voted
from oleander.experiment.study import Runs, StudyResult
from oleander.reports import charts, gallery, plots, webpage
from oleander.reports.charts import START_MTA
from oleander.reports.style import ACCURACY, ASR, INK, MTA
from oleander.reports.tables import print_results, print_study
from oleander.settings.config import Experiment
from oleander.settings.plan import Chart, Published
from oleander.system.environment import environment
from tests.experiment.test_records import ROUND, START, SUMMARY

UNTARGETED = replace(SUMMARY, asr=None, baseline_asr=None, attack="sign_flip", baseline_mta=0.75)


def run_in(path, summary):
    run = RunFolder(path)
    run.write_settings(Experiment(rounds=1, dataset="digits", attack=summary.attack), environment("cpu", None, 1))
    for record in (START, ROUND):
        run.append(replace(record, asr=record.asr if summary.asr is not None else None))
    clean = np.zeros((2, 1, 16, 16), np.uint8)
    stamped = {"parts": clean[None], "whole": clean + 9} if summary.asr is not None else {}
    told = np.array([["a", "a"]] * (1 + bool(stamped)))
    np.savez(path / "samples.npz", clean=clean, classes=np.array(["a", "b"]), target=np.array("b"), answers=told,
             sure=np.ones(told.shape, np.float32), **stamped)  # fmt: skip
    run.write_summary(summary)
    run.release()
    return path


def study_in(folder, summary, series=("krum", "median")):
    path = run_in(folder / "runs" / "one", summary)
    cells = [
        Runs(x, s, Published(), (path,), (replace(summary, strategy=s or "fedavg"),))
        for s in series
        for x in ("1", "2")
    ]
    title = "strategy" if series[0] else ""
    chart = Chart("a", "T", "malicious clients", title, ordered=True, norms=False, rounds=True, cells=tuple(cells))
    return StudyResult("s", "d", "c", 1, (chart,), len(cells))


@pytest.mark.parametrize(("summary", "panels"), [(SUMMARY, [MTA, ASR]), (UNTARGETED, [MTA])])
def test_a_study_has_a_panel_for_the_asr_only_where_a_run_has_one(tmp_path, summary, panels):
    study = study_in(tmp_path, summary)
    assert [axes.get_ylabel() for axes in charts.study_figure(study, "a").axes] == panels
    assert [axes.get_title(loc="left") for axes in charts.study_figure(study, "a_grid").axes] == [
        f"{p}, %" for p in panels
    ]
    assert ("red" in charts.study_figure(study, "a_rounds").get_supxlabel()) == (ASR in panels)


@pytest.mark.parametrize("series", [("krum", "median"), ("",)])
def test_the_starting_models_mta_is_a_line_beside_the_settings(tmp_path, series):
    study = study_in(tmp_path, UNTARGETED, series)
    figure = charts.study_figure(study, "a")
    lines = [line for line in figure.axes[0].lines if line.get_linestyle() == "--"]
    assert lines and {y for line in lines for y in line.get_ydata()} == {0.75}
    assert START_MTA in [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def test_a_run_without_an_asr_has_the_starts_mta_as_a_line(tmp_path):
    axes = plots.run_figure(run_in(tmp_path / "run", UNTARGETED), UNTARGETED, "scores").axes[0]
    (line,) = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert set(line.get_ydata()) == {START.mta}
    backdoor = plots.run_figure(run_in(tmp_path / "other", SUMMARY), SUMMARY, "scores").axes[0]
    assert "--" not in [line.get_linestyle() for line in backdoor.lines]


def texts_of(page):
    return " ".join(re.sub(r"<(style|svg)\b.*?</\1>|<footer.*?</footer>|<[^>]+>", " ", page, flags=re.S).split())


def test_pages_have_no_column_card_or_section_of_what_is_not_there(tmp_path):
    folder = run_in(tmp_path / "run", UNTARGETED)
    plots.draw_figures(folder, UNTARGETED)
    said = texts_of(webpage.write_run_page(folder, UNTARGETED).read_text())
    assert "ASR –" not in said and "round MTA loss" in said and "starting model 75.0 %" in said
    assert "What the trigger does" not in said and "Test images and the final model" in said
    study = study_in(tmp_path, UNTARGETED)
    said = texts_of(webpage.write_study_page(tmp_path, study).read_text())
    assert "MTA, % baseline MTA runs" in said and "ASR, %" not in said and "Triggers" not in said
    backdoor = texts_of(webpage.write_study_page(tmp_path, study_in(tmp_path / "b", SUMMARY)).read_text())
    assert "MTA, % ASR, % baseline MTA baseline ASR runs" in backdoor and "Triggers" in backdoor


def test_the_terminals_tables_have_none_either(tmp_path):
    printed = io.StringIO()
    console = Console(file=printed, width=200)
    print_results(console, run_in(tmp_path / "run", UNTARGETED), UNTARGETED)
    print_study(console, tmp_path, study_in(tmp_path, UNTARGETED))
    said = printed.getvalue()
    assert "baseline MTA" in said and "75.0 %" in said
    assert not re.search(r"ASR\W*(–|baseline|%|┃|│)", said) and "robust accuracy" not in said


def test_neither_a_vote_nor_a_repair_has_an_asr_where_the_run_has_none(tmp_path):
    besides = {
        "voted": Voted(0.7, None, None, 5, 100, 1.0),
        "repaired": Repaired(0.6, None, 1.0, "0" * 64, 1.0),
        "repair": "finetune",
    }
    for summary in (replace(UNTARGETED, **besides), replace(SUMMARY, **besides)):
        shown = io.StringIO()
        path = run_in(tmp_path / summary.attack, summary)
        print_results(Console(file=shown, width=200), path, summary)
        assert "MTA 70.0 %" in shown.getvalue() and "after repair finetune: MTA 60.0 %" in shown.getvalue()
        page = webpage.write_run_page(path, summary).read_text()
        assert (
            ("ASR –" in shown.getvalue())
            == ("ASR of the vote" in page)
            == ("ASR after" in page)
            == (summary.asr is not None)
        )


def test_answers_to_images_that_nobody_stamped_are_right_or_wrong_and_none_is_the_target(tmp_path):
    figure = gallery.draw_samples(gallery.read_samples(run_in(tmp_path / "run", UNTARGETED)), "what was run")
    colours = {
        axes.get_title(loc="left"): axes.texts[0].get_color() for axes in figure.axes if axes.get_title(loc="left")
    }
    assert colours == {"a": ACCURACY, "b": INK}  # both are answered "a"
    assert "1 of 2" in figure.get_suptitle() and "stamped" not in figure.get_supxlabel()
