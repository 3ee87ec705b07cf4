"""A study's charts, from made-up records."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from oleander.experiment.intervals import interval
from oleander.experiment.records import RoundRecord
from oleander.experiment.study import Runs, StudyResult
from oleander.reports import charts
from oleander.settings.plan import Chart, Published
from tests.experiment.test_records import ROUND, START, SUMMARY


def runs_of(x, folders):
    return Runs(x, "", Published(0.5, None), tuple(folders), (SUMMARY,) * len(folders))


def folder_of(path, records, **settings):
    path.mkdir()
    (path / "rounds.jsonl").write_text("".join(json.dumps(vars(r) | {"loss": None}) + "\n" for r in records))
    (path / "config.toml").write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
    return path


def test_norms_of_the_last_round_are_drawn_by_setting(tmp_path):
    """Two settings, two seeds, of which one client is missing in the last round of one."""
    folders = []
    for number in range(2):
        last: RoundRecord = replace(ROUND, client_ids=[0, 2 + number, 5])
        folders.append(folder_of(tmp_path / str(number), [START, last]))
    cells = tuple(runs_of(x, folders) for x in ("FedAvg", "clip $_$"))
    lines = tuple(replace(cell, series=str(s), x=str(x)) for s in (1, 2) for x, cell in enumerate(cells))
    chart = Chart("a", "A title", "x", "", ordered=False, norms=True, rounds=False, cells=cells)
    other = Chart("b", "Another", "x", "series", ordered=True, norms=False, rounds=False, cells=lines)
    drawn = charts.draw_charts(tmp_path, StudyResult("s", "d", "c", 2, (chart, other)))
    assert [path.stem for path in drawn] == ["a", "a_trade", "a_norms", "b", "b_grid", "b_trade"]
    for name in (path.stem for path in drawn):
        image = np.asarray(Image.open(tmp_path / "figures" / f"{name}.png").convert("RGB"))
        assert min(image.shape[:2]) > 300 and image.std() > 5
    assert "clip $_$" in (tmp_path / "figures" / "a_norms.svg").read_text()


def test_no_title_of_a_panel_is_under_the_legend(tmp_path):
    cells = tuple(runs_of(x, [folder_of(tmp_path / x[:2], [START, ROUND])]) for x in ("a setting", "clipping, FedAvg"))
    chart = Chart("a", "A title", "x", "", ordered=False, norms=True, rounds=False, cells=cells)
    figure = charts.study_figure(StudyResult("s", "d", "c", 1, (chart,)), "a_norms")
    titles = [axes._left_title.get_window_extent() for axes in figure.axes]
    legend = figure.axes[1].get_legend().get_window_extent()
    assert len(titles) == 4 and not [title for title in titles if title.overlaps(legend)]


@pytest.mark.parametrize(("asr", "names"), [(0.4, [charts.MTA, charts.ASR]), (None, [charts.MTA])])
def test_the_legend_names_an_asr_where_there_is_one(asr, names, tmp_path, monkeypatch):
    figures = {}
    monkeypatch.setattr(charts, "save", lambda figure, path, **_: figures.setdefault(path.name, figure) and path)
    cell = runs_of("a", [folder_of(tmp_path / "run", [START, ROUND])])
    cell = replace(cell, summaries=tuple(replace(summary, asr=asr, baseline_asr=asr) for summary in cell.summaries))
    for lined in (cell, replace(cell, series="s")):
        chart = Chart("a", "A title", "x", lined.series, ordered=False, norms=False, rounds=True, cells=(lined, lined))
        charts.draw_charts(tmp_path, StudyResult("s", "d", "c", 1, (chart,)))
        if not lined.series:
            shown = [text.get_text() for text in figures.pop("a").axes[0].get_legend().get_texts()]
            assert [text for text in shown if text in (charts.MTA, charts.ASR)] == names


def test_scores_by_round_are_means_over_the_seeds(tmp_path, monkeypatch):
    """Five settings, the last of which has its attackers leave and leaves a round unscored."""
    figures = {}
    monkeypatch.setattr(charts, "save", lambda figure, path, **_: figures.setdefault(path.name, figure) and path)
    stay, leave = [], []
    for seed, asr in enumerate((0.2, 0.6)):
        records = [START, replace(ROUND, round=1, asr=asr), replace(ROUND, round=2, asr=None)]
        stay.append(folder_of(tmp_path / f"stay{seed}", records, rounds=3, attack_rounds=3))
        leave.append(folder_of(tmp_path / f"leave{seed}", records, rounds=3, attack_rounds=1))
    cells = (*(runs_of(f"stays {i}", stay) for i in range(4)), runs_of("leaves", leave))
    chart = Chart("a", "A title", "x", "", ordered=False, norms=False, rounds=True, cells=cells)
    charts.draw_charts(tmp_path, StudyResult("s", "d", "c", 2, (chart,)))
    panels = [axes for axes in figures["a_rounds"].axes if axes.get_visible()]
    assert [axes.get_title() for axes in panels] == [*(f"stays {i}" for i in range(4)), "leaves"]
    for axes in panels:
        means = {tuple(line.get_xdata()): line.get_ydata() for line in axes.lines if line.get_marker() in ("o", "s")}
        assert means[0, 1] == pytest.approx([START.asr, interval([0.2, 0.6]).mean])
        assert means[0, 1, 2] == pytest.approx([START.mta, ROUND.mta, ROUND.mta])
    ends = [[line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == ":"] for axes in panels]
    assert ends == [[], [], [], [], [1.5]]
