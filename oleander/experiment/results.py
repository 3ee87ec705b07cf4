"""results.csv and rounds.csv: a row a run, and a row a round and run, with the settings that say which run it is.

Both are written anew as each run ends, and put in the old ones' place whole: a reader never meets half a row, and a study that
goes on has each run once.
"""

import csv
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oleander.experiment.records import RoundRecord, Summary, read_rounds, read_summary
from oleander.settings.config import SETTINGS, Experiment
from oleander.settings.steps import short_value
from oleander.system.files import replace_file
from oleander.system.foreign import plain

RESULTS, ROUNDS_TABLE = "results.csv", "rounds.csv"
NO_COLUMN = ("scenario", "description", "out", "seed", "data_dir", "ray_address")
"""Settings that have a column anyway, or that say nothing of the run: where the images lay, and whose Ray it was."""
TARGET_CLASS = "target_class"
"""The name of the class that the backdoor leads to; the setting ``target`` is its number."""
SCORES = ("mta", "asr", "robust_accuracy", "baseline_mta", "baseline_asr", "true_positive_rate", "false_positive_rate")
REPAIRED = VOTED = ("mta", "asr", "robust_accuracy")


@dataclass(frozen=True)
class Finished:
    """A finished run, as far as the tables show it."""

    experiment: Experiment
    folder: Path
    summary: Summary
    rounds: Sequence[RoundRecord]


def finished(experiment: Experiment, folder: Path) -> Finished:
    """A finished run, read from its folder.

    Raises:
        UserError: its records cannot be read.
    """
    return Finished(experiment, folder, read_summary(folder), read_rounds(folder))


def columns_of(experiments: Iterable[Experiment]) -> list[str]:
    """The settings that are not at their defaults in some of these runs, or in which they differ."""
    runs = [experiment.settings() for experiment in experiments]
    names = dict.fromkeys([*SETTINGS, *(name for run in runs for name in run)])
    return [name for name in names if name not in NO_COLUMN and _is_told(name, runs)]


def _is_told(name: str, runs: Sequence[dict[str, Any]]) -> bool:
    used = [run[name] for run in runs if name in run]
    return any(value != SETTINGS.get(name) for value in used) or len(set(map(str, used))) > 1


@dataclass(frozen=True)
class Rows:
    """A run's lines of the two tables."""

    results: str
    rounds: str


def rows_of(run: Finished, folder: Path, columns: Sequence[str]) -> Rows:
    """A finished run's lines, for tables that lie in ``folder``."""
    told = _told(run, columns)
    rounds = [told | _round(record, run, folder) for record in run.rounds]
    return Rows(_lines([told | _result(run, folder)], columns, _RESULT), _lines(rounds, columns, _ROUND))


def write_runs(folder: Path, runs: Sequence[Finished], columns: Sequence[str]) -> None:
    """Write results.csv and rounds.csv.

    Args:
        folder: where they go; the runs' own folders are named as they are seen from it.
        runs: a row each, in this order.
        columns: the settings to tell; of a run that has no use for one, nothing.
    """
    write_rows(folder, [rows_of(run, folder, columns) for run in runs], columns)


def write_rows(folder: Path, rows: Sequence[Rows], columns: Sequence[str]) -> None:
    """The same of lines that are made: of a study's runs each has its own made once."""
    for name, own, parts in (
        (RESULTS, _RESULT, [row.results for row in rows]),
        (ROUNDS_TABLE, _ROUND, [row.rounds for row in rows]),
    ):
        text = _lines([], columns, own, header=True) + "".join(parts)
        replace_file(folder / name, text.encode(errors="backslashreplace"))


def _told(run: Finished, columns: Sequence[str]) -> dict[str, Any]:
    settings = run.experiment.settings()
    told = {name: short_value(name, settings[name]) for name in columns if name in settings}
    goal = {TARGET_CLASS: run.summary.target_class if run.summary.measures_asr else ""}
    return {"scenario": run.experiment.scenario} | told | {"seed": run.summary.seed} | goal


_RESULT = [
    *SCORES, *(f"repaired_{score}" for score in REPAIRED), *(f"voted_{score}" for score in VOTED), "seconds", "model_sha256",
    "folder",
]  # fmt: skip
_ROUND = [
    "round", "mta", "asr", "robust_accuracy", "loss", "clients", "malicious_clients", "left_out", "dropped", "images",
    "scored_images", "scored_victims", "seconds", "folder",
]  # fmt: skip


def _result(run: Finished, folder: Path) -> dict[str, Any]:
    summary = run.summary
    scores = {score: getattr(summary, score) for score in SCORES}
    scores |= {f"repaired_{score}": getattr(summary.repaired, score, None) for score in REPAIRED}
    scores |= {f"voted_{score}": getattr(summary.voted, score, None) for score in VOTED}
    seconds = f"{summary.seconds['total']:.1f}"
    return scores | {"seconds": seconds, "model_sha256": summary.model_sha256, "folder": _seen(run.folder, folder)}


def _round(record: RoundRecord, run: Finished, folder: Path) -> dict[str, Any]:
    """``left_out``: clients that the defence gave no influence; ``dropped``: replies that could not be used."""
    return {
        "round": record.round, "mta": record.mta, "asr": record.asr, "robust_accuracy": record.robust_accuracy,
        "loss": record.loss, "clients": len(record.client_ids), "malicious_clients": sum(record.malicious),
        "left_out": sum(influence == 0 for influence in record.influence), "dropped": len(record.dropped),
        "images": record.images, "scored_images": record.scored_images, "scored_victims": record.scored_victims,
        "seconds": f"{sum(record.seconds.values()):.2f}", "folder": _seen(run.folder, folder),
    }  # fmt: skip


def _seen(run: Path, folder: Path) -> str:
    return Path(os.path.relpath(run, folder)).as_posix()


def _lines(rows: Sequence[dict[str, Any]], columns: Sequence[str], own: Sequence[str], header: bool = False) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, ["scenario", *columns, "seed", TARGET_CLASS, *own], restval="", lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows({name: cell_text(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def cell_text(value: Any) -> Any:
    """A value in a CSV file; a text that a spreadsheet would take for a formula has an apostrophe before it."""
    if not isinstance(value, str):
        return "" if value is None else value
    return "'" + plain(value) if value.startswith(("=", "+", "-", "@", "\t", "\r")) else plain(value)
