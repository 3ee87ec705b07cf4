"""What a call returns: a run or a study as its folder holds it. Everything here reads records only."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oleander.experiment.records import RoundRecord, Summary, read_rounds, read_summary, settings_of
from oleander.system.console import percent
from oleander.system.errors import UserError
from oleander.system.numbers import count

if TYPE_CHECKING:  # each takes a second and more to import
    import pandas
    from matplotlib.figure import Figure

    from oleander.experiment.intervals import Interval
    from oleander.reports.differences import Difference


class Rounds(list[RoundRecord]):
    """A run's rounds; round 0 is the starting model."""

    def frame(self) -> pandas.DataFrame:
        """A row a round, as a pandas data frame; what is said of each client is a list.

        Raises:
            UserError: pandas is not installed.
        """
        rows = [dataclasses.asdict(record) | {"seconds": sum(record.seconds.values())} for record in self]
        return _frame(rows).set_index("round")


@dataclass(frozen=True)
class Run:
    """A finished run."""

    folder: Path
    """With all its files; docs/reference/files.md says what they hold."""
    mta: float
    """Main task accuracy of the final model, a share from 0 to 1."""
    asr: float | None
    """Attack success rate of the final model, a share from 0 to 1; None where no trigger is measured."""
    rounds: Rounds
    """A record a round (MTA, ASR, loss, clients, norms, influence); ``rounds.frame()`` is a pandas data frame."""
    summary: Summary
    """summary.json: baselines, what the defence left out, the model's SHA-256, a repaired model's scores, seconds."""
    settings: dict[str, Any]
    """config.toml: every setting, with what ``auto`` chose."""
    notices: tuple[str, ...] = ()
    """What the command line would print in a box: what weakens the result, such as data that could not be downloaded."""

    def frame(self) -> pandas.DataFrame:
        """``rounds.frame()``."""
        return self.rounds.frame()

    def figure(self, name: str = "scores") -> Figure:
        """A figure of the run, drawn anew: ``scores`` or ``norms`` by round, ``updates`` by client and round, or ``samples``.

        Also ``confusion`` of attacked images, accuracy by ``classes``, and ``shards``: who holds which classes.

        Raises:
            UserError: an unknown name, or one that the run's folder, since it is old, does not hold the numbers for.
        """
        from oleander.reports.plots import run_figure

        return run_figure(self.folder, self.summary, name)

    def __repr__(self) -> str:
        """In a line, with the notices below."""
        s = self.summary
        scores = f"MTA {percent(self.mta)}, ASR {percent(self.asr)}"
        what = f"{s.scenario}: attack {s.attack}, strategy {s.strategy}, dataset {s.dataset}, seed {s.seed}"
        return _with_notices(
            f"{scores} after {count(len(self.rounds) - 1, 'round')} ({what}); {_near(self.folder)}", self.notices
        )


@dataclass(frozen=True)
class Row:
    """One setting of a study: its scores over the seeds."""

    chart: str
    series: str
    """Empty where a chart has one line."""
    setting: str
    runs: int
    mta: Interval
    """``mean``, the runs' ``values``, and from five on ``low`` and ``high`` of the 95 % interval, else None."""
    asr: Interval | None
    """None where no trigger is measured."""
    robust_accuracy: Interval | None = None
    """Of stamped images answered with their true class; None where there is no ASR, and of runs from before it was measured."""


class Table(list[Row]):
    """A study's rows."""

    def frame(self) -> pandas.DataFrame:
        """A row a setting, as a pandas data frame: means, ``mta low`` and ``mta high`` of the 95 % interval, and the range.

        The interval's ends are None below five seeds and where all are alike.

        Raises:
            UserError: pandas is not installed.
        """
        return _frame([_flat(row) for row in self])


class Differences(list["Difference"]):
    """What a study's settings differ by, seed by seed; ``oleander.reports.differences`` says against what."""

    def frame(self) -> pandas.DataFrame:
        """A row a comparison, as a pandas data frame: the columns of differences.csv.

        Raises:
            UserError: pandas is not installed.
        """
        from oleander.reports.differences import row_of

        return _frame([row_of(difference) for difference in self])


@dataclass(frozen=True)
class Study:
    """A finished study."""

    folder: Path
    runs: tuple[Run, ...]
    """Each once, in the order of the charts."""
    table: Table
    """A row a setting: means over the seeds with their intervals; ``table.frame()`` is a pandas data frame."""
    notices: tuple[str, ...] = ()
    """As a run's."""

    @property
    def differences(self) -> Differences:
        """Each setting against its reference, paired by seed; ``differences.frame()`` is a pandas data frame."""
        from oleander.experiment.study import read_study
        from oleander.reports.differences import study_differences

        return Differences(study_differences(read_study(self.folder)))

    def frame(self) -> pandas.DataFrame:
        """``table.frame()``."""
        return self.table.frame()

    def figure(self, name: str = "") -> Figure:
        """A figure of the study, drawn anew; without a name its first: MTA and ASR by setting.

        NAME_grid and NAME_trade are its heat map, and its scatter of ASR against MTA.

        Raises:
            UserError: an unknown name.
        """
        from oleander.experiment.study import read_study
        from oleander.reports.charts import study_figure

        return study_figure(read_study(self.folder), name)

    def __repr__(self) -> str:
        """The table, a line a setting."""
        rows = [_line(row) for row in self.table]
        return _with_notices("\n".join([f"{count(len(self.runs), 'run')}; {_near(self.folder)}", *rows]), self.notices)


def run_in(folder: Path, notices: tuple[str, ...] = ()) -> Run:
    """The finished run in this folder."""
    summary = read_summary(folder)
    settings = {name: value for name, value in settings_of(folder).settings().items() if name != "out"}
    return Run(folder, summary.mta, summary.asr, Rounds(read_rounds(folder)), summary, settings, notices)


def study_in(folder: Path, notices: tuple[str, ...] = ()) -> Study:
    """The finished study in this folder."""
    from oleander.experiment.study import read_study

    found = read_study(folder)
    rows = Table(
        Row(chart.name, cell.series, cell.x, len(cell.summaries), cell.mta(), cell.asr(), cell.robust_accuracy())
        for chart in found.charts
        for cell in chart.cells
        if cell.summaries
    )
    return Study(folder, tuple(map(run_in, found.folders())), rows, notices)


def _flat(row: Row) -> dict[str, Any]:
    flat: dict[str, Any] = {"chart": row.chart, "series": row.series, "setting": row.setting, "runs": row.runs}
    for name, score in (("mta", row.mta), ("asr", row.asr), ("robust_accuracy", row.robust_accuracy)):
        flat[name] = score and score.mean
        flat |= {f"{name} {part}": score and getattr(score, part) for part in ("low", "high", "least", "greatest")}
    return flat


def _line(row: Row) -> str:
    from oleander.experiment.intervals import shown

    place = ", ".join(filter(None, (row.series, row.setting)))
    return f"  {place}: MTA {shown(row.mta)}, ASR {shown(row.asr)}, in % ({count(row.runs, 'run')})"


def _with_notices(text: str, notices: tuple[str, ...]) -> str:
    return "\n".join([text, *(f"notice: {notice}" for notice in notices)])


def _near(folder: Path) -> Path:
    """A path as it is named from here."""
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder


def _frame(rows: list[dict[str, Any]]) -> pandas.DataFrame:
    try:
        import pandas
    except ImportError:
        raise UserError("a data frame needs pandas, which is not installed: pip install pandas") from None
    return pandas.DataFrame(rows)
