"""The charts of the results on CIFAR-10, drawn from the records in ``docs/results`` by the program's own charts.

``python docs/charts.py`` writes a PNG beside each csv file, for the scenarios below. Charts by round, and of norms, are of what these
files do not hold; they are copied from a study's folder. Look at each before it is committed.
"""

import csv
import dataclasses
from pathlib import Path

import matplotlib

from oleander.experiment.records import Summary
from oleander.experiment.study import Runs, StudyResult
from oleander.reports.charts import study_figure
from oleander.reports.style import STYLE, drawn
from oleander.settings.cli import parse_command
from oleander.settings.config import Experiment
from oleander.settings.plan import Cell, Plan, plan_of
from oleander.settings.steps import shown
from oleander.system.files import replace_file

RESULTS = Path(__file__).resolve().parent / "results"
CHARTS = {
    "fig1_malicious_count": "course",
    "fig2_krum": "course",
    "fig3_dba": "course",
    "fig5_clipping": "course",
    "why_blend": "course_differences",
    "why_dba": "course_differences",
    "why_krum": "course_differences",
    "why_scaling": "course_differences",
    "selected_clients": "selected_clients",
}
"""Scenario → file of its runs."""

Row = dict[str, str]


def main() -> None:
    """Draw them all."""
    for scenario, name in CHARTS.items():
        with (RESULTS / f"{name}.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        study = study_of(planned(scenario, len({row["seed"] for row in rows})), rows)
        with matplotlib.rc_context(STYLE):
            replace_file(RESULTS / f"{scenario}.png", drawn(study_figure(study, scenario), "png"))


def planned(scenario: str, seeds: int) -> Plan:
    """What the scenario runs."""
    words = ["--scenario", scenario, "--dataset", "cifar10", "--repeats", str(seeds)]
    plan = plan_of(parse_command(words))
    assert plan is not None
    return plan


def study_of(plan: Plan, rows: list[Row]) -> StudyResult:
    """The study whose runs came to what the rows hold."""
    charts = tuple(
        dataclasses.replace(chart, norms=False, rounds=False, cells=tuple(runs_of(cell, rows) for cell in chart.cells))
        for chart in plan.charts
    )
    return StudyResult(plan.name, plan.description, "", plan.repeats, charts)


def runs_of(cell: Cell, rows: list[Row]) -> Runs:
    """A cell's runs.

    Raises:
        ValueError: one has no row, or several of other scores.
    """
    found = [row_of(experiment, rows) for experiment in cell.experiments]
    summaries = tuple(map(summary_of, cell.experiments, found))
    return Runs(cell.x, cell.series, cell.published, tuple(Path(row["folder"]) for row in found), summaries)


def row_of(experiment: Experiment, rows: list[Row]) -> Row:
    """The row of the settings that it has columns for; an empty field is a setting that the run does not use."""
    settings = experiment.settings()

    def fits(row: Row) -> bool:
        return all(row[name] in ("", shown(value) if isinstance(value, tuple) else str(value))
                   for name, value in settings.items() if name in row and name != "scenario")  # fmt: skip

    found = [row for row in rows if fits(row)]
    if len({(row["mta"], row["asr"]) for row in found}) != 1:
        raise ValueError(f"{len(found)} rows for {experiment.attack}, {experiment.strategy}, seed {experiment.seed}")
    return found[0]


def summary_of(experiment: Experiment, row: Row) -> Summary:
    """What charts use of it."""
    rates = {name: float(row[name]) for name in ("mta", "asr", "baseline_mta", "baseline_asr")}
    return Summary(
        scenario=row["scenario"], strategy=row.get("strategy", "fedavg"), attack=row.get("attack", "blend"), dataset="cifar10",
        seed=experiment.seed, augment=row.get("augment", "once"), malicious=[], true_positive_rate=None, false_positive_rate=None,
        model_sha256=row["model_sha256"], start="", dataset_sha256="", device="cpu", seconds={}, **rates,
    )  # fmt: skip


if __name__ == "__main__":
    main()
