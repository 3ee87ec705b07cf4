"""Several runs and studies as one: what ``--report DIR…`` makes a report of. Settings in which the runs differ become its axes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oleander.experiment.records import CONFIG, STUDY, check_finished, is_finished, read_summary, settings_of
from oleander.experiment.results import columns_of
from oleander.settings.config import Experiment, shown_value
from oleander.settings.plan import Chart, Published
from oleander.settings.steps import short_value
from oleander.settings.sweeps import NOT_SWEPT, told, words
from oleander.system.errors import UserError
from oleander.system.numbers import count

if TYPE_CHECKING:  # it brings PyTorch, for which no refusal should have to wait
    from oleander.experiment.study import Runs, StudyResult

FIRST = ("attack", "strategy")
"""The settings that are a chart's axes where they vary, in this order."""


@dataclass(frozen=True)
class Found:
    """The finished runs in some folders, each once, and how many were left out and why."""

    folders: tuple[Path, ...]
    unfinished: int
    twice: int
    """Runs with the settings and the seed of another; the first counts."""


def found_in(given: Sequence[Path]) -> Found:
    """The runs of these folders: a run's own, a study's, or a folder that holds some of either.

    Raises:
        UserError: a folder that holds none, none that is finished, or records that do not fit together.
    """
    folders: dict[Path, None] = {}
    for path in given:
        runs = runs_below(path)
        if not runs:
            what = (
                f"holds neither a run ({CONFIG}) nor a study ({STUDY}), nor folders that do"
                if path.exists()
                else "is not there"
            )
            raise UserError(f"--report {path}: {what}")
        folders |= dict.fromkeys(run.resolve() for run in runs)
    done = [folder for folder in folders if is_finished(folder)]
    if not done:
        raise UserError(f"--report {' '.join(map(str, given))}: none of the {len(folders)} runs is finished")
    once: dict[tuple[Any, ...], Path] = {}
    for folder in done:
        check_finished(folder)
        experiment = settings_of(folder)
        once.setdefault((*told_apart_by(experiment), experiment.seed), folder)
    return Found(tuple(once.values()), len(folders) - len(done), len(done) - len(once))


def runs_below(path: Path) -> list[Path]:
    """The folders of runs that this one is, or holds: beside each other, or of studies."""
    if (path / CONFIG).is_file():
        return [path]
    if (path / STUDY).is_file():
        return [path / "runs" / name for name in planned_in(path) if (path / "runs" / name / CONFIG).is_file()]
    below = (
        sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.is_symlink()) if path.is_dir() else []
    )
    return [
        run for entry in below if (entry / CONFIG).is_file() or (entry / STUDY).is_file() for run in runs_below(entry)
    ]


def planned_in(study: Path) -> list[str]:
    """The names of all runs that a study is to have, and of those of its earlier plans that are there."""
    from oleander.experiment.study import read_study

    read_study(study)  # refuses what is no study
    return sorted(entry.name for entry in (study / "runs").iterdir()) if (study / "runs").is_dir() else []


def told_apart_by(experiment: Experiment) -> tuple[tuple[str, str], ...]:
    """The settings that make it another setting of a chart: all but the seed and what changes no result."""
    return tuple((name, str(value)) for name, value in experiment.settings().items() if name not in NOT_SWEPT)


def together(found: Found, command: str) -> StudyResult:
    """A study of these runs: a cell for each setting, its runs by rising seed."""
    from oleander.experiment.study import StudyResult

    experiments = {folder: settings_of(folder) for folder in found.folders}
    names = varying(list(experiments.values()))
    cells: dict[tuple[tuple[str, str], ...], list[Path]] = {}
    for folder, experiment in experiments.items():
        cells.setdefault(told_apart_by(experiment), []).append(folder)
    made = [_cell(folders, experiments, names) for folders in cells.values()]
    chart = Chart(
        "together", _title(names), words(names[0]) if names else "setting", ", ".join(map(words, names[1:])),
        ordered=len(names) == 1 and _rises([experiments[folders[0]].settings().get(names[0]) for folders in cells.values()]),
        norms=False, rounds=False, cells=tuple(made),
    )  # fmt: skip
    seeds = max(len(folders) for folders in cells.values())
    return StudyResult(
        "report",
        f"{count(len(experiments), 'finished run')}.",
        command,
        seeds,
        (chart,),
        len(experiments) + found.unfinished,
    )


def varying(experiments: Sequence[Experiment]) -> list[str]:
    """The settings in which they differ, attack and strategy first."""
    runs = [dict(told_apart_by(experiment)) for experiment in experiments]
    differ = [
        name for name in columns_of(experiments) if name not in NOT_SWEPT and len({run.get(name) for run in runs}) > 1
    ]
    return [*(name for name in FIRST if name in differ), *(name for name in differ if name not in FIRST)]


def _title(names: Iterable[str]) -> str:
    differ = ", ".join(map(words, names))
    return f"Runs that differ in {differ}" if differ else "Runs of one setting"


def _cell(folders: Sequence[Path], experiments: dict[Path, Experiment], names: Sequence[str]) -> Runs:
    from oleander.experiment.study import Runs

    by_seed = sorted(folders, key=lambda folder: experiments[folder].seed)
    settings = experiments[by_seed[0]].settings()
    values = [shown_value(short_value(name, settings[name])) if name in settings else "–" for name in names]
    x = values[0] if values else "all"
    series = values[1:] if len(values) == 2 else [told(words(n), v) for n, v in zip(names[1:], values[1:], strict=True)]
    return Runs(x, ", ".join(series), Published(), tuple(by_seed), tuple(map(read_summary, by_seed)))


def _rises(values: Sequence[Any]) -> bool:
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    return numbers and all(a < b for a, b in itertools.pairwise(values))


def told_of(found: Found) -> list[str]:
    """A sentence for each kind of run that was left out."""
    said = []
    if found.unfinished:
        said.append(
            f"Left out, since {'it is' if found.unfinished == 1 else 'they are'} not finished: {count(found.unfinished, 'run')}."
        )
    if found.twice:
        said.append(
            f"Left out, since the settings and the seed are another's: {count(found.twice, 'run')}; the first counts."
        )
    return said
