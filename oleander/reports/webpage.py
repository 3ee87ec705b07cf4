"""report.html of a run or a study, from its records: one file that needs no network, for screens light and dark, and paper."""

import itertools
import os
import re
import shlex
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup, escape

from oleander.experiment.intervals import Interval, p_shown, shown, signs_of
from oleander.experiment.records import (
    CONFIG,
    REPORT,
    RoundRecord,
    Summary,
    read_environment,
    read_rounds,
    read_summary,
    settings_of,
)
from oleander.experiment.study import Runs, StudyResult, besides
from oleander.reports.caveats import counted, warnings_of
from oleander.reports.charts import ENDS
from oleander.reports.differences import differences_of
from oleander.reports.gallery import read_samples
from oleander.reports.headings import own_words, run_line, run_title
from oleander.reports.plots import samples_svg
from oleander.reports.style import ACCURACY, BENIGN, GRID, INK, LINES, MALICIOUS, SOFT, SUCCESS
from oleander.settings.config import SETTINGS, Experiment, shown_value
from oleander.settings.outside import HASH
from oleander.settings.plan import Chart
from oleander.settings.session import FOLDER
from oleander.settings.steps import short_value
from oleander.settings.steps import shown as shown_steps
from oleander.settings.sweeps import told, varied, words
from oleander.settings.threats import threat_model
from oleander.system import itself
from oleander.system.console import percent
from oleander.system.files import replace_file
from oleander.system.foreign import plain
from oleander.system.numbers import count

PHASES = ("startup", "train", "aggregate", "evaluate", "other")
MOST_CLIENTS = 40
MOST_DETAILS = 200
"""Runs of a study whose rounds its page shows, each in a fold; of more, the page would be slow to open."""
FITS = 470.0
"""Points: a figure that is no wider can be read when it is made as narrow as a phone."""
SECTIONS = (
    ("scores", "Scores by round", ""),
    ("samples", "What the trigger does", ""),
    ("confusion", "Attacked images by answer", "Each row is a class, each column what the final model answers; the target is red."),
    ("classes", "Class by class", ""),
    ("norms", "Update norms", "A point is a client's update, a line the rounds' medians; hollow points had no influence."),
    ("updates", "Every update, round by round",
     "The cosine of an update and of what the global model moved by says how far the aggregate went this client's way."),
    ("shards", "Who holds which classes", ""),
)  # fmt: skip
"""Of a run's page: file of its figure, heading, what must be known to read it. A figure that was not drawn is left out."""
UNSTAMPED = "Test images and the final model's answers"
"""Heading of the samples where there is no trigger."""
COLUMNS = ("attack", "strategy", "malicious", "clients_per_round")
"""Settings that have a column for each run of any study; others have one where the study varies them."""


def _unbroken(value: Interval | None, signed: bool = False) -> Markup:
    """As ``shown``; where a narrow page breaks it, it does so before the interval, not inside."""
    mean, space, ends = shown(value, signed).partition(" ")
    return Markup(mean + space + ends.replace(" ", "&nbsp;"))  # numbers alone


def _shown(value: Any) -> Any:
    """What a template shows: text without control characters; autoescape then takes care of its markup."""
    return plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value


_TEMPLATES = jinja2.Environment(
    loader=jinja2.DictLoader(tomllib.loads((Path(__file__).parent / "templates.toml").read_text(encoding="utf-8"))),
    autoescape=True, finalize=_shown, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined,
)  # fmt: skip
_TEMPLATES.filters |= {
    "percent": percent,
    "shown": _unbroken,
    "words": words,
    "count": count,
    "lasted": lambda seconds: (
        count(round(seconds), "second") if seconds < 30 else count(max(1, round(seconds / 60)), "minute")
    ),
    "shown_value": shown_value,
    "p_shown": p_shown,
    "whole": lambda text: whole_words(plain(text)),
}


def whole_words(text: str) -> Markup:
    """A text whose commands and flags a narrow page breaks between words, not at their hyphens; copied it is the same text."""
    whole = Markup('<span class="whole">{}</span>').format
    return Markup(" ").join(whole(word) if "-" in word else escape(word) for word in text.split(" "))


def write_run_page(folder: Path, summary: Summary) -> Path:
    """Write report.html of a run whose figures are drawn; returns the file."""
    run = _run(folder, summary)
    stamped = (folder / "figures" / "samples.svg").is_file() and "whole" in read_samples(folder)
    figures = [
        (name if stamped or file != "samples" else UNSTAMPED, text, figure(_drawn(folder, file)))
        for file, name, text in SECTIONS
        if (folder / "figures" / f"{file}.svg").is_file()
    ]
    return _write(folder, "run.html", run=run, figures=figures, title=run["title"])


def write_study_page(folder: Path, study: StudyResult, drawn: Sequence[Path] = ()) -> Path:
    """Write report.html of a study whose charts are ``drawn`` into these SVG files; returns the file."""
    runs = [_run(path, read_summary(path)) for path in study.folders()]
    warnings = counted([run["warnings"] for run in runs])
    if study.repeats < 2:
        warnings.insert(0, "One seed: each number is one draw. --repeats 5 gives intervals.")
    if len(runs) < study.planned:
        warnings.insert(0, f"{len(runs)} of {study.planned} runs are finished: these numbers are of them alone.")
    others = [name for name in varied([run["experiment"] for run in runs]) if name not in COLUMNS]
    for path, run in zip(study.folders(), runs, strict=True):
        run["page"] = quote(os.path.relpath(path / REPORT, folder)) if (path / REPORT).is_file() else ""
        run["otherwise"] = _otherwise(run["experiment"], others)
    commits = {str(run["environment"].get("commit")) for run in runs}
    if len(commits) > 1:
        warnings.append(f"The runs are of {len(commits)} different commits of this program.")
    return _write(
        folder, "study.html", study=study, charts=[_chart(chart, drawn) for chart in study.charts], runs=runs,
        warnings=warnings, measured=any(run["measured"] for run in runs), galleries=_galleries(study),
        title=study.name, others=others, threats=threat_model(run["experiment"] for run in runs),
        seconds=sum(run["summary"].seconds["total"] for run in runs), detailed=len(runs) <= MOST_DETAILS,
        unpaged=sum(not run["page"] for run in runs), unpaged_command=f"{itself.command()} --report {_some_run(folder, study)}",
    )  # fmt: skip


def _some_run(folder: Path, study: StudyResult) -> str:
    below = any(path.is_relative_to(folder) for path in study.folders())
    return shlex.quote(str(folder / "runs")) + "/NAME" if below else "FOLDER"


def _drawn(folder: Path, name: str) -> str:
    return (folder / "figures" / f"{name}.svg").read_text(encoding="utf-8")


def _write(folder: Path, template: str, **content: Any) -> Path:
    html = _TEMPLATES.get_template(template).render(**content, phases=PHASES)
    replace_file(folder / REPORT, html.encode())
    return folder / REPORT


def _run(folder: Path, summary: Summary) -> dict[str, Any]:
    """What the templates show of one run."""
    rounds = read_rounds(folder)
    experiment = settings_of(folder)
    environment = read_environment(folder)
    return {
        "name": folder.name,
        "title": run_title(summary, experiment),
        "words": own_words(experiment),
        "threats": threat_model([experiment]),
        "again": _again(folder),
        "summary": summary,
        "rounds": rounds,
        "experiment": experiment,
        "environment": environment,
        "changed": _changed(experiment),
        "warnings": warnings_of(experiment, summary, rounds, environment),
        "selection": _selection(rounds),
        "unshown": max(0, len(_seen(rounds)) - MOST_CLIENTS),
        "settings": experiment.settings(),
        "measured": summary.measures_asr,
        "defended": summary.strategy != "fedavg" and summary.true_positive_rate is not None,
    }


def _again(folder: Path) -> str:
    """The command that runs it again; or that there is none, since a function of a Python session took part."""
    if files := sorted(path.name for path in folder.glob(f"{FOLDER}/*.py")):
        return f"Not by a command: {', '.join(files)} in {FOLDER}/ was a function of a Python session. Name that file in a new run."
    return shlex.join([*itself.command().split(), "--scenario", str(folder.resolve() / CONFIG)])


def _changed(experiment: Experiment) -> dict[str, Any]:
    """The settings that are not at their defaults."""
    settings = experiment.settings()
    left_out = ("scenario", "description", "out")
    return {
        name: short_value(name, value)
        for name, value in settings.items()
        if name not in left_out and (name not in SETTINGS or value != SETTINGS[name] or name.endswith(HASH))
    }


def _seen(rounds: list[RoundRecord]) -> list[int]:
    """Clients that were ever selected."""
    return sorted({c for record in rounds for c in (*record.client_ids, *(d["client"] for d in record.dropped))})


def _selection(rounds: list[RoundRecord]) -> list[dict[str, Any]]:
    """A row for each client that ever took part: what the defence gave it each round, None where it was not selected."""
    rows = []
    for client in _seen(rounds)[:MOST_CLIENTS]:
        cells = [_cell(record, client) for record in rounds[1:]]
        rows.append(
            {"client": client, "malicious": any(cell and cell.get("malicious") for cell in cells), "cells": cells}
        )
    return rows


def _cell(record: RoundRecord, client: int) -> dict[str, Any] | None:
    for dropped in record.dropped:
        if dropped["client"] == client:
            return {"dropped": dropped["cause"]}
    if client not in record.client_ids:
        return None
    at = record.client_ids.index(client)
    return {
        "malicious": record.malicious[at], "influence": record.influence[at], "norm": record.norms_before[at],
        "after": record.norms_after[at],
    }  # fmt: skip


def _chart(chart: Chart[Runs], drawn: Sequence[Path]) -> dict[str, Any]:
    names = [f"{chart.name}{end}.svg" for end in ENDS]
    return {
        "chart": chart,
        "figures": [figure(file.read_text(encoding="utf-8")) for file in drawn if file.name in names],
        "published": any(cell.published.given for cell in chart.cells),
        "measured": any(cell.asr() for cell in chart.cells),
        "besides": besides(chart.cells),
        "differences": differences_of(chart),
        "signs": signs_of(score for cell in chart.cells for score in cell.scores()),
    }


def _otherwise(experiment: Experiment, names: list[str]) -> str:
    """Those of a run's settings that are not at their defaults, to stand behind its attack."""
    changed = _changed(experiment)
    return "".join(f", {words(name)} {shown_value(changed[name])}" for name in names if name in changed)


def _galleries(study: StudyResult) -> list[tuple[str, Markup]]:
    """One for each different trigger, however many attackers train on it, under what tells it from the others."""
    found: dict[frozenset[bytes], list[Path]] = {}
    for path in study.folders():
        samples = read_samples(path)
        if "whole" in samples:
            trigger = frozenset(images.tobytes() for images in (samples["clean"], *samples["parts"], samples["whole"]))
            found.setdefault(trigger, []).append(path)
    drawn = [figure(samples_svg(paths[0], run_line(paths[0], read_summary(paths[0])))) for paths in found.values()]
    return list(zip(_headings([[*map(settings_of, paths)] for paths in found.values()]), drawn, strict=True))


def _headings(triggers: Sequence[Sequence[Experiment]]) -> list[str]:
    """Of each trigger, by the runs that have it: the attack, and the settings that tell it from others of this attack."""
    attacks = [shown_steps(runs[0].attack) for runs in triggers]
    said = []
    for attack, runs in zip(attacks, triggers, strict=True):
        alike = [others for name, others in zip(attacks, triggers, strict=True) if name == attack]
        own = runs[0].settings()
        values = [
            told(words(name), shown_value(short_value(name, own[name]))) for name in _telling(alike) if name in own
        ]
        said.append(", ".join([attack, *values]))
    return said


def _telling(triggers: Sequence[Sequence[Experiment]]) -> list[str]:
    """Settings of which each trigger has values of its own, or shares all of them; where none is, all that vary."""
    every = [run for runs in triggers for run in runs]
    names = [*varied(every), *["seed"] * (len({run.seed for run in every}) > 1)] if len(triggers) > 1 else []
    telling = []
    for name in names:
        values = [{str(run.settings().get(name)) for run in runs} for runs in triggers]
        apart = all(a == b or a.isdisjoint(b) for a, b in itertools.combinations(values, 2))
        if apart and any(own != values[0] for own in values):
            telling.append(name)
    return telling or names


_COLOURS = {
    INK: "currentColor", SOFT: "var(--soft)", GRID: "var(--grid)", ACCURACY: "var(--teal)", SUCCESS: "var(--red)",
    MALICIOUS: "var(--orange)", BENIGN: "var(--blue)", **{colour: f"var(--s{n})" for n, colour in enumerate(LINES, 1)},
    "fill: #ffffff": "fill: none",
}  # fmt: skip


def figure(text: str) -> Markup:
    """An SVG that was drawn here as part of a page: its ink and grid take the page's colours, its paper is left out."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    for colour, own in _COLOURS.items():
        text = text.replace(colour, own)
    return Markup(re.sub(r'(<svg[^>]*?) width="([\d.]+)pt" height="[\d.]+pt"', _sized, text, count=1))


def _sized(found: re.Match[str]) -> str:
    """As wide as it was drawn; on a phone smaller, but never so small that it could not be read: then it is scrolled."""
    start, width = found[1], float(found[2])
    least = f"; min-width: {0.68 * width:.0f}pt" if width > FITS else ""
    return f'{start} style="width: {width:g}pt{least}"'
