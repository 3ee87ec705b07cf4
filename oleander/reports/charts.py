"""The charts of a study, from its records alone, as PNG and SVG: scores by setting, and what ``grids.py`` and ``panels.py`` draw."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from oleander.experiment.intervals import Interval, ends_are
from oleander.experiment.study import Runs, StudyResult
from oleander.reports import findings
from oleander.reports.grids import draw_grid, draw_trade
from oleander.reports.labels import Number, write_numbers
from oleander.reports.panels import draw_norms, draw_rounds
from oleander.reports.style import (
    ACCURACY,
    ASR,
    LINES,
    MTA,
    SOFT,
    STYLE,
    SUCCESS,
    WIDTH,
    headed,
    key,
    save,
    styled,
    subplots,
    wrapped,
)  # fmt: skip
from oleander.settings.plan import Chart
from oleander.system.errors import UserError
from oleander.system.files import own_folder
from oleander.system.foreign import plain

APART = 0.11
"""How far MTA and ASR of one setting stand left and right of its place."""
BESIDE = 0.05
"""How far the single runs stand right of their mean."""
START_MTA = "the starting model's MTA"
ENDS = ("", "_grid", "_trade", "_norms", "_rounds")
"""What the names of a chart's figures end in."""
MARKS = "os^Dv*P"
MOST_SERIES = 12
"""Above so many a heat map alone shows them: nobody tells so many marks apart."""
MOST_NUMBERED = 30
"""Means that have their numbers beside them."""
LONGEST_LABEL = 13
"""Characters of a line of a setting's label, which stands beside the next one's."""
STRUCK = 0.03
"""A number within so much of a line would be struck through by it."""


def draw_charts(folder: Path, study: StudyResult) -> list[Path]:
    """Draw figures/<chart>, <chart>_norms and <chart>_rounds of each chart that has finished runs; returns the SVG files."""
    figures = own_folder(folder / "figures")
    with matplotlib.rc_context(STYLE):
        return [save(draw(), figures / name, pdf=True) for name, draw in _figures(study).items()]


def study_figure(study: StudyResult, name: str = "") -> Figure:
    """A figure of a study, by its name; without one, the first.

    Raises:
        UserError: an unknown name; lists the known.
    """
    known = _figures(study)
    if name and name not in known:
        raise UserError(f"figure {name!r}: the study has none of this name; known: {', '.join(known)}")
    return styled(known[name or next(iter(known))])


def _figures(study: StudyResult) -> dict[str, Callable[[], Figure]]:
    """Name → figure, of the charts that have finished runs."""
    found: dict[str, Callable[[], Figure]] = {}
    for chart in map(_plain, study.charts):
        cells = [cell for cell in chart.cells if cell.summaries]
        if not cells:
            continue
        series = len({cell.series for cell in cells})
        a_grid = series > 1 and len({cell.x for cell in cells}) > 1
        if not (a_grid and series > MOST_SERIES):
            found[chart.name] = partial(_lines if series > 1 else _scores, chart, cells)
        if a_grid:
            found[f"{chart.name}_grid"] = partial(draw_grid, chart, cells)
        if len(cells) > 1 and any(cell.asr() for cell in cells):
            found[f"{chart.name}_trade"] = partial(draw_trade, chart, cells)
        if chart.norms:
            found[f"{chart.name}_norms"] = partial(draw_norms, chart, cells)
        if chart.rounds:
            found[f"{chart.name}_rounds"] = partial(draw_rounds, chart, cells)
    return found


def _plain(chart: Chart[Runs]) -> Chart[Runs]:
    """The chart with its words as figures can hold them."""
    cells = tuple(dataclasses.replace(cell, x=plain(cell.x), series=plain(cell.series)) for cell in chart.cells)
    title, x_title, series_title = plain(chart.title), plain(chart.x_title), plain(chart.series_title)
    return dataclasses.replace(chart, title=title, x_title=x_title, series_title=series_title, cells=cells)


def _scores(chart: Chart[Runs], cells: Sequence[Runs]) -> Figure:
    """MTA and ASR of each setting side by side: mean, what its ends are, single runs, published value."""
    figure, axes = subplots(figsize=(max(WIDTH, 1.0 * len(cells) + 1.6), 4.2))
    x = np.arange(len(cells), dtype=float)
    handles, starts = [], [cell.baseline_mta() for cell in cells]
    for of, by, name, colour, mark, offset in (
        (Runs.mta, "mta", MTA, ACCURACY, "o", -APART),
        (Runs.asr, "asr", ASR, SUCCESS, "s", APART),
    ):
        means = [of(cell) for cell in cells]
        if all(mean is None for mean in means):
            continue
        handles.append(Line2D([], [], color=colour, marker=mark, lw=0, label=name))
        singles = [[getattr(summary, by) for summary in cell.summaries] for cell in cells]
        _draw(axes, x + offset, means, singles, colour, mark, joined=chart.ordered)
        _write_beside(axes, x + offset, means, starts, colour, left=offset < 0)
        said = [getattr(cell.published, by) for cell in cells]
        _draw_published(axes, x + offset, said, colour)
    _draw_start(axes, x, cells)
    _frame(axes, chart, cells, x)
    axes.set_ylabel("share of the test images")
    key(axes, [*handles, *_small_print(cells)], 2)
    headed(figure, findings.of_settings(chart), chart.title)
    return figure


def _lines(chart: Chart[Runs], cells: Sequence[Runs]) -> Figure:
    """MTA in one panel, ASR, where a run has one, in another below it; a line for each series."""
    shown = [(Runs.mta, "mta", MTA, ACCURACY), (Runs.asr, "asr", ASR, SUCCESS)][: 1 + any(cell.asr() for cell in cells)]
    places = list(dict.fromkeys(cell.x for cell in cells))
    names = list(dict.fromkeys(cell.series for cell in cells))
    width = max(WIDTH, 0.75 * len(places) + 1.6)
    size = (width, 2.0 + 2.2 * len(shown))
    figure, grid = subplots(len(shown), 1, figsize=size, sharey=True, sharex=True, squeeze=False)
    panels = grid[:, 0]
    handles = []
    numbers: dict[Axes, list[Number]] = {axes: [] for axes in panels}
    for number, name in enumerate(names):
        own = [cell for cell in cells if cell.series == name]
        x = np.array([places.index(cell.x) for cell in own]) + 0.6 * ((number + 0.5) / len(names) - 0.5)
        colour, mark = LINES[number % len(LINES)], MARKS[number % len(MARKS)]
        for axes, (of, by, *_) in zip(panels, shown, strict=True):
            singles = [[getattr(summary, by) for summary in cell.summaries] for cell in own]
            means = [of(cell) for cell in own]
            _draw(axes, x, means, singles, colour, mark, joined=chart.ordered)
            numbers[axes] += [
                Number((place, mean.mean), f"{100 * mean.mean:.0f}", colour)
                for place, mean in zip(x, means, strict=True)
                if mean
            ]
            _draw_published(axes, x, [getattr(cell.published, by) for cell in own], colour)
        handles.append(Line2D([], [], color=colour, marker=mark, lw=1.5 * chart.ordered, label=name))
    firsts = [next(cell for cell in cells if cell.x == place) for place in places]
    for axes, (_, _, what, colour) in zip(panels, shown, strict=True):
        _frame(axes, chart, firsts, np.arange(len(places)))
        axes.set_ylabel(what, color=colour, fontweight="bold")
        axes.label_outer()
    _draw_start(panels[0], [places.index(cell.x) for cell in cells], cells)
    key(panels[0], [*handles, *_small_print(cells)], 3, chart.series_title)
    headed(figure, findings.of_settings(chart), chart.title)
    if len(cells) <= MOST_NUMBERED:
        write_numbers(figure, [*numbers.items()])
    return figure


def _write_beside(
    axes: Axes,
    x: np.ndarray,
    means: Sequence[Interval | None],
    starts: Sequence[float | None],
    colour: str,
    *,
    left: bool,
) -> None:
    """Percents left or right of the means, not on the lines of the starting models' MTA, nor on the single runs."""
    for place, mean, start in zip(x, means, starts, strict=True):
        if mean:
            off = 0.0 if start is None or abs(mean.mean - start) > STRUCK else math.copysign(6, mean.mean - start)
            if left:
                _write(axes, mean, (place, mean.mean), (-8, off), colour, "right")
            elif mean.n == 1:
                _write(axes, mean, (place, mean.mean), (8, off), colour, "left")
            else:
                _write(axes, mean, (place + BESIDE, mean.mean), (6, off), colour, "left")


def _write(
    axes: Axes,
    mean: Interval,
    at: tuple[float, float],
    off: tuple[float, float],
    colour: str,
    ha: str,
    va: str = "center",
) -> None:
    """The percent of a mean, so many points off a place."""
    axes.annotate(
        f"{100 * mean.mean:.0f}", at, xytext=off, textcoords="offset points", ha=ha, va=va,
        fontsize=8, color=colour, annotation_clip=False, zorder=5,
    )  # fmt: skip


def _draw(
    axes: Axes, x: np.ndarray, means: Sequence[Interval | None], singles: Sequence[Sequence[float | None]], colour: str,
    mark: str, *, joined: bool,
) -> None:  # fmt: skip
    """Means with their intervals, and the single runs behind them."""
    known = [(place, mean, values) for place, mean, values in zip(x, means, singles, strict=True) if mean]
    if joined:
        axes.plot([place for place, *_ in known], [mean.mean for _, mean, _ in known], color=colour, lw=1.2, alpha=0.5)
    for place, mean, values in known:
        if mean.n > 1:
            beside = [place + BESIDE] * len(values)
            axes.plot(beside, values, ".", ms=6, color=colour, alpha=0.45, mew=0, clip_on=False, zorder=2)  # type: ignore[arg-type]
        ends = None if mean.n == 1 else [[mean.mean - mean.span[0]], [mean.span[1] - mean.mean]]
        axes.errorbar(
            [place],
            [mean.mean],
            yerr=ends,
            fmt=mark,
            color=colour,
            ms=6.5,
            capsize=4,
            lw=1.6,
            clip_on=ends is not None,
            zorder=3,
        )


def _draw_published(axes: Axes, x: np.ndarray, values: Sequence[float | None], colour: str) -> None:
    known = [(place, value) for place, value in zip(x, values, strict=True) if value is not None]
    if known:
        axes.scatter(
            [place for place, _ in known], [value for _, value in known], marker="D", s=58, facecolors="none",
            edgecolors=colour, linewidths=1.3, clip_on=False, zorder=4,
        )  # fmt: skip


def _draw_start(axes: Axes, x: Iterable[float], cells: Sequence[Runs]) -> None:
    """The starting models' MTA, which a setting's own stands beside, at each place."""
    for place, cell in zip(x, cells, strict=True):
        if (mta := cell.baseline_mta()) is not None:
            axes.plot([place - 0.5, place + 0.5], [mta, mta], ls="--", lw=0.9, color=SOFT, zorder=1)


def _frame(axes: Axes, chart: Chart[Runs], cells: Sequence[Runs], x: np.ndarray) -> None:
    axes.set_xticks(x, [wrapped(cell.x, LONGEST_LABEL) for cell in cells])
    axes.set(xlabel=chart.x_title, ylim=(-0.04, 1.04), xlim=(x[0] - 0.5, x[-1] + 0.5))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.grid(visible=False, axis="x")


def _small_print(cells: Sequence[Runs]) -> list[Line2D]:
    """Legend entries for whatever else is drawn."""
    seeds = max(len(cell.summaries) for cell in cells)
    others = any(summary.dataset != "cifar10" for cell in cells for summary in cell.summaries)
    handles = [Line2D([], [], color=SOFT, ls="--", lw=0.9, label=START_MTA)]
    if seeds > 1:
        handles.append(
            Line2D(
                [],
                [],
                color="#777777",
                marker="|",
                lw=0,
                ms=9,
                mew=1.6,
                label=f"mean, {ends_are(seeds)} ({seeds} seeds)",
            )
        )
    if any(cell.published.given for cell in cells):
        handles.append(
            Line2D([], [], color="#777777", marker="D", mfc="none", lw=0, label="published" + " (on CIFAR-10)" * others)
        )
    return handles
