"""A study on disk: one folder with a run folder for each setting and seed, and what compares them.

A run is known again by the content of all that it comes from, so what is finished is not run a second time, whichever chart
or command asks for it; what was stopped goes on.
"""

import dataclasses
import hashlib
import json
import shlex
import statistics
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oleander.datasets.cifar10 import CIFAR10
from oleander.experiment.intervals import Interval, interval
from oleander.experiment.prepare import Setup, Sources, prepare
from oleander.experiment.records import (
    CONFIG,
    MOST_RECORDS,
    STUDY,
    Summary,
    check_safe,
    contents,
    free,
    is_finished,
    read_summary,
    settings_of,
    taken,
)
from oleander.experiment.results import Rows, columns_of, finished, rows_of, write_rows
from oleander.settings.config import SETTINGS, Experiment
from oleander.settings.declared import FLAGS, declared
from oleander.settings.outside import HASH
from oleander.settings.plan import Chart, Plan, Published
from oleander.settings.steps import short_value, shown
from oleander.system import itself
from oleander.system.environment import call
from oleander.system.errors import UserError
from oleander.system.files import absolute, file_name, replace_file
from oleander.system.foreign import parsed_json, read_bytes, refusing
from oleander.system.numbers import count

NOT_IN_KEY = ("scenario", "description", "out", "keep", "pages", "runs_at_once", "dataset", "data_dir", "weights", "ray_address",
              "actors", "client_cpus", "no_cache", "min_clients")  # fmt: skip
"""Settings that change no result, and paths, whose content counts instead."""
NOT_IN_OLD_KEYS = ("attackers", "classes_per_client", "crfl_votes", "cuda_graphs", "dba_parts", "evaluate_images", "image_channels",
                   "image_size", "model", "norm", "repair", "root_samples", "shards_per_client")  # fmt: skip
"""Settings that came since ``KEY_VERSION``: they count where they are not at their defaults, with which the runs before were made."""
PARTITION_OF = {"shards": "shards", "classes": "pathological"}
MOST_PAGES = 40
"""A study of more runs draws none of their pages unless it is asked to (``--pages all``)."""
KEY_VERSION = 3
"""Raise it when the same settings come to other results: a study's finished runs from before are then not taken for new ones."""


@dataclass(frozen=True)
class Job:
    """One run of a study."""

    experiment: Experiment
    """With what ``auto`` chose."""
    folder: Path

    @property
    def stopped(self) -> Path | None:
        """Its folder, where it was begun and not finished."""
        return self.folder if (self.folder / CONFIG).is_file() and not is_finished(self.folder) else None


@dataclass(frozen=True)
class Runs:
    """One cell of a chart, from the records: its place, and its finished runs."""

    x: str
    series: str
    published: Published
    folders: tuple[Path, ...]
    summaries: tuple[Summary, ...]

    def mta(self) -> Interval:
        """Over the seeds."""
        return interval([summary.mta for summary in self.summaries])

    def asr(self) -> Interval | None:
        """Over the seeds; None where no trigger is measured."""
        values = [summary.asr for summary in self.summaries if summary.asr is not None]
        return interval(values) if values else None

    def robust_accuracy(self) -> Interval | None:
        """Over the seeds; None where it is not measured."""
        values = [summary.robust_accuracy for summary in self.summaries if summary.robust_accuracy is not None]
        return interval(values) if values else None

    def repaired(self, score: str) -> Interval | None:
        """``mta`` or ``asr`` of the repaired models, over the seeds; None where none was repaired."""
        return self._besides("repaired", score)

    def voted(self, score: str) -> Interval | None:
        """``mta`` or ``asr`` of the votes at test time, over the seeds; None where there was none."""
        return self._besides("voted", score)

    def _besides(self, how: str, score: str) -> Interval | None:
        found = [one for summary in self.summaries if (one := getattr(summary, how))]
        values = [value for one in found if (value := getattr(one, score)) is not None]
        return interval(values) if values else None

    def scores(self) -> list[Interval | None]:
        """MTA and ASR; nothing where no run is finished."""
        return [self.mta(), self.asr()] if self.summaries else []

    def baseline_mta(self) -> float | None:
        """Mean over the seeds' starting models; None where no run is finished."""
        return statistics.fmean(summary.baseline_mta for summary in self.summaries) if self.summaries else None

    def baseline_asr(self) -> float | None:
        """Mean over the seeds' starting models: what the trigger does without an attack."""
        values = [summary.baseline_asr for summary in self.summaries if summary.baseline_asr is not None]
        return statistics.fmean(values) if values else None


def besides(cells: Sequence[Runs]) -> list[str]:
    """What was scored besides the final models: names of methods of ``Runs``."""
    return [how for how in ("voted", "repaired") if any(getattr(cell, how)("mta") for cell in cells)]


@dataclass(frozen=True)
class StudyResult:
    """All that plots and reports show of a study, read from its folder."""

    name: str
    description: str
    command: str
    repeats: int
    charts: tuple[Chart[Runs], ...]
    planned: int = 0
    """Runs that it is to have, the finished ones among them."""

    def folders(self) -> list[Path]:
        """Each run's, once."""
        return list(dict.fromkeys(folder for chart in self.charts for cell in chart.cells for folder in cell.folders))

    def augment(self) -> str:
        """When crops and flips are drawn: attacks and defences depend on it, so it is always said."""
        drawn = {
            folder: summary.augment
            for chart in self.charts
            for cell in chart.cells
            for folder, summary in zip(cell.folders, cell.summaries, strict=True)
        }
        counts = Counter(drawn.values())
        return ", ".join(
            f"{name} ({count(number, 'run')})" if len(counts) > 1 else name for name, number in counts.items()
        )


class StudyFolder:
    """The folder of a study; no other process can write to it while this object lives."""

    def __init__(self, path: Path) -> None:
        """Make the folder, or take one that holds a study or nothing.

        Raises:
            UserError: it holds something else, cannot be made, or another process writes to it.
        """
        self.path = path
        check_study(path)
        self._lock = taken(path, "runs")
        self._columns: list[str] | None = None
        self._rows: dict[Path, Rows] = {}

    def release(self) -> None:
        """Let other processes write to the folder."""
        free(self.path, self._lock)

    def write_plan(self, plan: Plan, jobs: dict[Experiment, Job]) -> None:
        """Write study.json: the charts, and which runs stand where in them."""
        charts = [
            dataclasses.asdict(dataclasses.replace(chart, cells=()))
            | {
                "cells": [
                    {
                        "x": cell.x,
                        "series": cell.series,
                        "published": dataclasses.asdict(cell.published),
                        "runs": [jobs[experiment].folder.name for experiment in cell.experiments],
                    }
                    for cell in chart.cells
                ]
            }
            for chart in plan.charts
        ]
        content = {
            "name": plan.name, "description": plan.description, "repeats": plan.repeats,
            "command": call() or shlex.join([*itself.command().split(), *sys.argv[1:]]), "charts": charts,
        }  # fmt: skip
        replace_file(
            self.path / STUDY, json.dumps(content, indent=1, ensure_ascii=False).encode(errors="backslashreplace")
        )

    def write_results(self, jobs: Iterable[Job]) -> None:
        """Write results.csv and rounds.csv of the runs that are finished; each run's records are read, and its rows made, once.

        ``jobs`` are the study's, the same ones in each call.
        """
        jobs = list(jobs)
        if self._columns is None:
            self._columns = columns_of(job.experiment for job in jobs)
        for job in jobs:
            if job.folder not in self._rows and is_finished(job.folder):
                self._rows[job.folder] = rows_of(finished(job.experiment, job.folder), self.path, self._columns)
        rows = [self._rows[job.folder] for job in jobs if job.folder in self._rows]
        write_rows(self.path, rows, self._columns)


def has_page(asked: str, runs: int) -> bool:
    """Whether each of so many runs gets figures and a page of its own, by ``--pages``."""
    return asked == "all" or (asked == "auto" and runs <= MOST_PAGES)


def check_study(path: Path) -> None:
    """Refuse a folder that a study cannot be written to, since it holds something else.

    Raises:
        UserError: it is a file, or holds what is no study.
    """
    check_safe(path)
    if path.exists() and not path.is_dir():
        raise UserError(f"--out {path}: is a file")
    if path.is_dir() and not (path / STUDY).is_file() and not _is_blank(path):
        raise UserError(
            f"--out {path}: is not empty, and holds no study; name a new folder, so that nothing is overwritten"
        )


def _is_blank(path: Path) -> bool:
    """Whether it holds nothing, or no more than a study that was ended before its first run."""
    return contents(path) <= {"runs"} and not list(path.glob("runs/*"))


def study_path(plan: Plan) -> Path:
    """The folder that ``--out`` names, else runs/<kind>: a study that is run again finds what it has."""
    return absolute(plan.out) if plan.out else Path("runs").resolve() / plan.kind


def jobs_of(plan: Plan, folder: Path, sources: Sources) -> dict[Experiment, Job]:
    """Experiment → its run, all of them prepared for a try; equal ones have one job.

    Raises:
        UserError: one of them cannot be; says which.
    """
    jobs: dict[str, Job] = {}
    found: dict[Experiment, Job] = {}
    for experiment in plan.experiments():
        setup = _tried(experiment, sources)
        key = run_key(setup)
        if key not in jobs:
            e = setup.experiment
            steps = file_name(f"{shown(e.attack)}-{setup.pipeline.name}")
            name = f"{steps}-m{e.malicious}-n{e.clients_per_round}-s{e.seed}-{key[:8]}"
            jobs[key] = Job(e, folder / "runs" / name)
            if jobs[key].stopped:
                prepare(e, sources, jobs[key].stopped)
        found[experiment] = jobs[key]
    return found


def _tried(experiment: Experiment, sources: Sources) -> Setup:
    try:
        return prepare(experiment, sources)
    except UserError as error:
        e = experiment
        which = f"attack {e.attack}, strategy {e.strategy}, {e.malicious} malicious, {e.clients_per_round} a round"
        raise UserError(f"{error} (in {e.scenario}: {which})") from None


def run_key(setup: Setup) -> str:
    """SHA-256 of all that a run's result comes from: settings, images, starting model, trigger."""
    experiment = setup.experiment
    if experiment.on_bad_reply == "fail":  # then a timeout ends a run, and changes none
        experiment = dataclasses.replace(experiment, round_timeout=Experiment.round_timeout)
    unused = set() if "root" in setup.asks else {"root_samples"}
    unused |= {f"{what}_per_client" for what in ("shards", "classes") if experiment.partition != PARTITION_OF[what]}
    paths = {name for name, setting in declared().items() if setting.is_path}
    settings = {k: v for k, v in experiment.settings().items() if k not in {*NOT_IN_KEY, *paths, *unused}}
    settings = {k: v for k, v in settings.items() if k not in NOT_IN_OLD_KEYS or v != SETTINGS[k]}
    for flag in settings.keys() & set(FLAGS.values()):
        settings[flag] = short_value(flag, settings[flag])  # where their files are changes nothing
    digest = hashlib.sha256(json.dumps([KEY_VERSION, settings], sort_keys=True).encode())
    digest.update(setup.dataset.fingerprint.encode())
    if setup.dataset.image != CIFAR10:  # the only one that there was before
        digest.update(str(setup.dataset.image).encode())
    digest.update(setup.start.state.weights.data)
    digest.update(setup.start.state.statistics.data)
    digest.update(setup.trigger_sha256.encode())
    return digest.hexdigest()


def changed_plugins(folder: Path, jobs: Iterable[Job]) -> list[str]:
    """What must be known of finished runs in a study's folder that were made with another file of a plug-in: they do not count."""
    jobs = list(jobs)
    now = {name: value for job in jobs for name, value in job.experiment.own if name.endswith(HASH)}
    found: dict[str, set[str]] = {}
    counted = {job.folder for job in jobs}
    for path in sorted((folder / "runs").glob("*")) if now else []:
        if path not in counted and is_finished(path):
            for name, then in settings_of(path).own:
                if name in now and then != now[name]:
                    found.setdefault(name, set()).add(path.name)
    return [
        f"The file of {name.removesuffix(HASH)} has another SHA-256 ({now[name][:12]}…) than when "
        f"{count(len(paths), 'finished run')} in {folder} {'was made; it does' if len(paths) == 1 else 'were made; they do'} "
        "not count, and what is asked for is run anew."
        for name, paths in found.items()
    ]


def read_study(folder: Path) -> StudyResult:
    """A study as its folder holds it, with the runs that are finished.

    Raises:
        UserError: no study.
    """
    with refusing(f"{folder}: holds no study"):
        content = parsed_json(read_bytes(folder / STUDY, MOST_RECORDS))
        charts = tuple(
            Chart(**{**chart, "cells": tuple(_runs(cell, folder) for cell in chart["cells"])})
            for chart in content["charts"]
        )
        names = {name for chart in content["charts"] for cell in chart["cells"] for name in cell["runs"]}
        return StudyResult(**{**content, "charts": charts}, planned=len(names))


def _runs(cell: dict[str, Any], folder: Path) -> Runs:
    folders = tuple(path for name in cell["runs"] if is_finished(path := folder / "runs" / name))
    return Runs(cell["x"], cell["series"], Published(**cell["published"]), folders, tuple(map(read_summary, folders)))
