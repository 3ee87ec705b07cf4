"""The results' charts: each run that a chart's scenario asks for has its row among the records."""

import csv
import importlib.util
import itertools

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.transforms import Bbox

from tests.programs import ROOT

SPEC = importlib.util.spec_from_file_location("docs_charts", ROOT / "docs" / "charts.py")
charts = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(charts)


@pytest.mark.parametrize(("scenario", "name"), charts.CHARTS.items())
def test_every_cell_of_a_chart_has_the_runs_of_all_seeds(scenario, name):
    rows = list(csv.DictReader((charts.RESULTS / f"{name}.csv").open()))
    seeds = sorted({int(row["seed"]) for row in rows})
    (chart,) = charts.study_of(charts.planned(scenario, len(seeds)), rows).charts
    scores = {(float(row["mta"]), float(row["asr"])) for row in rows}
    for cell in chart.cells:
        assert [summary.seed for summary in cell.summaries] == seeds
        assert {(summary.mta, summary.asr) for summary in cell.summaries} <= scores
    assert len({(s.mta, s.asr) for cell in chart.cells for s in cell.summaries}) > len(seeds)


def test_a_run_that_has_no_row_is_none_of_a_chart():
    plan = charts.planned("fig2_krum", 1)
    with pytest.raises(ValueError, match="0 rows for blend, fedavg, seed 0"):
        charts.study_of(plan, [])


def test_each_number_stands_beside_its_point_inside_the_axes_and_on_no_whisker():
    """With one client of two that attacks, the ASR of three seeds is 0 to 100 %: there is no room above or below that."""
    rows = list(csv.DictReader((charts.RESULTS / "selected_clients.csv").open()))
    figure = charts.study_figure(charts.study_of(charts.planned("selected_clients", 3), rows))
    figure.draw_without_rendering()
    for axes in figure.axes:
        boxes = {text: text.get_window_extent() for text in axes.texts}
        assert len(boxes) == 15
        assert not [pair for pair in itertools.combinations(boxes.values(), 2) if pair[0].overlaps(pair[1])]
        bars = [bar for bars in axes.collections if isinstance(bars, LineCollection) for bar in bars.get_segments()]
        whiskers = [Bbox(axes.transData.transform(bar)) for bar in bars]
        for text, box in boxes.items():
            assert text.get_text() == f"{100 * text.xy[1]:.0f}"
            at, middle = axes.transData.transform(text.xy), np.mean(box.get_points(), axis=0)
            assert np.hypot(*(at - middle)) < 25 * figure.dpi / 72, text
            assert axes.bbox.y0 <= box.y0 and box.y1 <= axes.bbox.y1, text
            assert not [bar for bar in whiskers if box.x0 < bar.x0 < box.x1 and box.y0 < bar.y1 and bar.y0 < box.y1], (
                text
            )
