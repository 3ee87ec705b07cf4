"""The results' charts: each run that a chart's scenario asks for has its row among the records."""

import csv
import importlib.util

import pytest

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
