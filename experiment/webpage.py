"""report.html of a run or a study, from its records: one file that needs no network, for screens light and dark, and paper."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from experiment.caveats import counted, warnings_of
from experiment.config import SETTINGS, Experiment
from experiment.plan import Chart
from experiment.plots import ACCURACY, BENIGN, GRID, INK, MALICIOUS
from experiment.progress import percent
from experiment.records import ENVIRONMENT, RoundRecord, Summary, read_rounds, read_summary, replace_file, settings_of
from experiment.report import shown
from experiment.study import Runs, StudyResult

REPORT = "report.html"
PHASES = ("startup", "train", "aggregate", "evaluate", "other")
MOST_CLIENTS = 40
_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, trim_blocks=True, lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)  # fmt: skip
_TEMPLATES.filters |= {"percent": percent, "shown": shown}


def write_run_page(folder: Path, summary: Summary) -> Path:
    """Write report.html of a run whose figures are drawn; returns the file."""
    run = _run(folder, summary)
    figures = [
        ("Scores", "MTA and ASR after each round.", figure(folder / "figures" / "scores.svg")),
        (
            "Update norms",
            "Each client's update, as sent and as it went into the aggregate.",
            figure(folder / "figures" / "norms.svg"),
        ),
        ("Trigger", _GALLERY, figure(folder / "figures" / "samples.svg")),
    ]
    return _write(folder, "run.html.j2", run=run, figures=figures, title=summary.scenario)


def write_study_page(folder: Path, study: StudyResult) -> Path:
    """Write report.html of a study whose charts are drawn; returns the file."""
    runs = [_run(path, read_summary(path)) for path in study.folders()]
    warnings = counted([run["warnings"] for run in runs])
    if study.repeats < 2:
        warnings.insert(0, "One seed: each number is one draw. --repeats 5 gives intervals.")
    commits = {str(run["environment"].get("commit")) for run in runs}
    if len(commits) > 1:
        warnings.append(f"The runs are of {len(commits)} different commits of this program.")
    return _write(
        folder, "study.html.j2", study=study, charts=[_chart(chart, folder) for chart in study.charts], runs=runs,
        warnings=warnings, galleries=_galleries(study), title=study.name,
        seconds=sum(run["summary"].seconds["total"] for run in runs),
    )  # fmt: skip


_GALLERY = "Test images: clean, as each attacker trains on them, and as the test shows them."


def _write(folder: Path, template: str, **content: Any) -> Path:
    html = _TEMPLATES.get_template(template).render(**content, phases=PHASES)
    replace_file(folder / REPORT, html.encode())
    return folder / REPORT


def _run(folder: Path, summary: Summary) -> dict[str, Any]:
    """What the templates show of one run."""
    rounds = read_rounds(folder)
    experiment = settings_of(folder)
    environment = json.loads((folder / ENVIRONMENT).read_text(encoding="utf-8"))
    return {
        "name": folder.name,
        "summary": summary,
        "rounds": rounds,
        "experiment": experiment,
        "environment": environment,
        "changed": _changed(experiment),
        "warnings": warnings_of(experiment, summary, rounds, environment),
        "selection": _selection(rounds, summary),
        "defended": summary.strategy != "fedavg" and summary.true_positive_rate is not None,
    }


def _changed(experiment: Experiment) -> dict[str, Any]:
    """The settings that are not at their defaults."""
    settings = dataclasses.asdict(experiment)
    left_out = ("scenario", "description", "out")
    return {name: value for name, value in settings.items() if value != SETTINGS[name] and name not in left_out}


def _selection(rounds: list[RoundRecord], summary: Summary) -> list[dict[str, Any]]:
    """A row for each client that ever took part: what the defence gave it each round, None where it was not selected."""
    trained = rounds[1:]
    seen = sorted({c for record in trained for c in (*record.client_ids, *(d["client"] for d in record.dropped))})
    rows = []
    for client in seen[:MOST_CLIENTS]:
        cells: list[dict[str, Any] | None] = []
        for record in trained:
            dropped = [d["cause"] for d in record.dropped if d["client"] == client]
            if client in record.client_ids:
                at = record.client_ids.index(client)
                cells.append(
                    {
                        "influence": record.influence[at],
                        "norm": record.norms_before[at],
                        "after": record.norms_after[at],
                    }
                )
            else:
                cells.append({"dropped": dropped[0]} if dropped else None)
        rows.append({"client": client, "malicious": client in summary.malicious, "cells": cells})
    return rows


def _chart(chart: Chart[Runs], folder: Path) -> dict[str, Any]:
    files = [folder / "figures" / f"{chart.name}{end}.svg" for end in ("", "_norms")]
    return {
        "chart": chart,
        "figures": [figure(file) for file in files if file.is_file() and (file.stem == chart.name or chart.norms)],
        "published": any(cell.published.mta is not None or cell.published.asr is not None for cell in chart.cells),
    }


def _galleries(study: StudyResult) -> list[tuple[str, Markup]]:
    """One for each different trigger, however many attackers train on it."""
    found: dict[frozenset[bytes], tuple[str, Markup]] = {}
    for path in study.folders():
        with np.load(path / "samples.npz") as samples:
            shown = (
                [samples["clean"], *samples["parts"], samples["whole"]] if "whole" in samples else [samples["clean"]]
            )
        trigger = frozenset(images.tobytes() for images in shown)
        if trigger not in found:
            found[trigger] = settings_of(path).attack, figure(path / "figures" / "samples.svg")
    return list(found.values())


_COLOURS = {
    INK: "currentColor", GRID: "var(--grid)", ACCURACY: "var(--blue)", MALICIOUS: "var(--red)", BENIGN: "var(--green)",
    "fill: #ffffff": "fill: none",
}  # fmt: skip


def figure(file: Path) -> Markup:
    """An SVG file of ours as part of a page: its ink and grid take the page's colours, its paper is left out."""
    text = file.read_text(encoding="utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    for colour, own in _COLOURS.items():
        text = text.replace(colour, own)
    text = re.sub(r'(<svg[^>]*?) width="([\d.]+)pt" height="[\d.]+pt"', r'\1 style="width: \2pt"', text, count=1)
    return Markup(text)
