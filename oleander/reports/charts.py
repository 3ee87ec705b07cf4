"""The charts of a study, from its records alone, as PNG and SVG: scores by setting with 95 % intervals, norms, scores by round."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from oleander.experiment.intervals import Interval, ends_are, interval
from oleander.experiment.records import read_rounds, settings_of
from oleander.experiment.study import Runs, StudyResult
from oleander.reports import findings
from oleander.reports.grids import draw_grid, draw_trade
from oleander.reports.plots import write_course
from oleander.reports.style import (
    ACCURACY,
    ASR,
    INK,
    LINES,
    MTA,
    SOFT,
    STYLE,
    SUCCESS,
    WIDTH,
    headed,
    key,
    save,
    sentence,
    styled,
    subplots,
    who_bars,
    who_key,
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
            found[f"{chart.name}_norms"] = partial(_norms, chart, cells)
        if chart.rounds:
            found[f"{chart.name}_rounds"] = partial(_rounds, chart, cells)
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
    handles = []
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
        _write_means(axes, x + offset, means, colour, left=offset < 0, lines=[cell.baseline_mta() for cell in cells])
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
    for number, name in enumerate(names):
        own = [cell for cell in cells if cell.series == name]
        x = np.array([places.index(cell.x) for cell in own]) + 0.6 * ((number + 0.5) / len(names) - 0.5)
        colour, mark = LINES[number % len(LINES)], MARKS[number % len(MARKS)]
        for axes, (of, by, *_) in zip(panels, shown, strict=True):
            singles = [[getattr(summary, by) for summary in cell.summaries] for cell in own]
            means = [of(cell) for cell in own]
            _draw(axes, x, means, singles, colour, mark, joined=chart.ordered)
            if len(cells) <= MOST_NUMBERED:
                _write_means(axes, x, means, colour, left=False, above=True, level=number % 2 if len(names) > 2 else 0)
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
    return figure


def _write_means(
    axes: Axes, x: np.ndarray, means: Sequence[Interval | None], colour: str,
    *, left: bool, above: bool = False, level: int = 0, lines: Sequence[float | None] = (),
) -> None:  # fmt: skip
    """Percents beside the means, or above them at one of two levels; not on the lines that run beside them, each at such a height."""
    for place, mean, line in itertools.zip_longest(x, means, lines):
        if not mean:
            continue
        up = mean.span[1] < 0.9
        beside = 0.0 if left or above or mean.n == 1 else BESIDE  # the single runs stand there
        at = (place + beside, mean.span[up] if above else mean.mean)
        if above:
            off, ha, va = (0.0, (7.0 + 9 * level) * (1 if up else -1)), "center", "bottom" if up else "top"
        else:
            aside = 0.0 if line is None or abs(mean.mean - line) > STRUCK else math.copysign(6, mean.mean - line)
            off, ha, va = (-8.0 if left else 6.0 if beside else 8.0, aside), "right" if left else "left", "center"
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


def _norms(chart: Chart[Runs], cells: Sequence[Runs]) -> Figure:
    """Norms of each client's update in the last round, as sent and, on the same scale, as they went into the aggregate, by setting.

    Bars are means over the runs whose last round the client took part in without being mixed with others, dots the single runs.
    """
    figure, grid = subplots(
        len(cells), 2, figsize=(WIDTH, 1.1 + 1.95 * len(cells)), squeeze=False, sharey=True, sharex="row"
    )
    rounds, attacked = {}, False
    for row, cell in enumerate(cells):
        last = rounds[findings.place(chart, cell)] = [read_rounds(folder)[-1] for folder in cell.folders]
        clients = sorted({client for record in last for client in record.client_ids})
        malicious = {c for record in last for c, bad in zip(record.client_ids, record.malicious, strict=True) if bad}
        attacked = attacked or bool(malicious)
        for axes, (pick, what) in zip(grid[row], ((_before, "as sent"), (_after, "after the defence")), strict=True):
            norms_of = [[pick(record, c) for record in last if c in record.client_ids] for c in clients]
            values = [[norm for norm in norms if norm is not None] or [0.0] for norms in norms_of]
            _write_mixed(axes, [at for at, norms in enumerate(norms_of) if set(norms) == {None}], len(clients))
            means = [float(np.mean(v)) for v in values]
            who_bars(axes, means, [c in malicious for c in clients], width=0.72)
            if len(last) > 1:
                for place, norms in enumerate(values):
                    axes.scatter([place] * len(norms), norms, s=9, color=INK, alpha=0.55, linewidths=0, zorder=3)
            if len(clients) <= 8:
                for place, norms in enumerate(values):
                    axes.text(
                        place, max(norms), f"{means[place]:.1f}", ha="center", va="bottom", fontsize=7, color=SOFT
                    )
            step = -(-len(clients) // 12)
            axes.set_xticks(range(0, len(clients), step), [str(c) for c in clients[::step]])
            axes.grid(visible=False, axis="x")
            axes.set_title(f"{wrapped(findings.place(chart, cell), 34)}\n{what}", fontsize=8.5, loc="left")
        grid[row, 0].set_ylabel("norm ‖Δ‖₂")
    for axes in grid[-1]:
        axes.set_xlabel("client")
    figure.align_ylabels(grid[:, 0])
    grid[0, 0].margins(y=0.15)  # for the numbers
    who_key(grid[0, 1], malicious=attacked, lines=1 + max(axes.get_title(loc="left").count("\n") for axes in grid[0]))
    headed(
        figure,
        findings.of_norms_by_setting(rounds),
        f"{sentence(chart.title)} Update norms in the last round, one scale for all.",
    )
    return figure


def _write_mixed(axes: Axes, places: Sequence[int], bars: int) -> None:
    """Say of the clients at these places, where no bar can stand, that a filter mixed them; of many, once for all."""
    if places and bars > 12:
        axes.text(0.5, 0.5, "mixed by a filter", transform=axes.transAxes, ha="center", va="center", fontsize=8.5)
        return
    for place in places:
        axes.text(
            place, 0.04, "mixed", transform=axes.get_xaxis_transform(), rotation=90, ha="center", va="bottom",
            fontsize=8, color=INK,
        )  # fmt: skip


def _rounds(chart: Chart[Runs], cells: Sequence[Runs]) -> Figure:
    """MTA and ASR after each scored round, a panel for each setting: single runs, their mean, and its interval as a band.

    A dotted line stands after the last round that had an attacker among all clients, where rounds follow it.
    """
    columns = min(len(cells), 2)
    rows = -(-len(cells) // columns)
    figure, grid = subplots(rows, columns, figsize=(WIDTH, 2.3 * rows + 0.9), squeeze=False, sharey=True)
    for axes, cell in zip(grid.flat, cells, strict=False):
        runs = [read_rounds(path) for path in cell.folders]
        courses = {
            by: [{r.round: v for r in run if (v := getattr(r, by)) is not None} for run in runs]
            for by in ("mta", "asr")
        }
        for by, other, colour, mark in (("mta", "asr", ACCURACY, "o"), ("asr", "mta", SUCCESS, "s")):
            _draw_course(axes, courses[by], colour, mark)
            _write_ends(axes, courses[by], courses[other], colour)
        last = settings_of(cell.folders[0])
        if last.last_attack < last.rounds:
            axes.axvline(last.last_attack + 0.5, color=INK, lw=1, ls=":")
        axes.set_title(wrapped(findings.place(chart, cell), 34), fontsize=9)
        axes.set(xlabel="round (0: starting model)", ylim=(-0.04, 1.12))
        axes.set_yticks(np.linspace(0, 1, 6))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    for axes in grid.flat[len(cells) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel("share of the test images")
    seeds = max(len(cell.folders) for cell in cells)
    red = f"; red: {ASR}" if any(cell.asr() for cell in cells) else ""
    thin = f" Thin: single seeds ({seeds}), band: {ends_are(seeds)}." if seeds > 1 else ""
    headed(figure, findings.of_settings(chart), f"{sentence(chart.title)} Teal: {MTA}{red}.{thin}")
    return figure


def _write_ends(axes: Axes, runs: Sequence[dict[int, float]], others: Sequence[dict[int, float]], colour: str) -> None:
    """The percents of the mean course's ends and extremes."""
    means, beside = _mean_course(runs), _mean_course(others)
    if means:
        few = {min(means), max(means), min(means, key=means.__getitem__), max(means, key=means.__getitem__)}
        write_course(axes, {number: means[number] for number in sorted(few)}, beside, colour)


def _mean_course(runs: Sequence[dict[int, float]]) -> dict[int, float]:
    scored = sorted(set.intersection(*(set(run) for run in runs))) if runs else []
    return {number: float(np.mean([run[number] for run in runs])) for number in scored}


def _draw_course(axes: Axes, runs: Sequence[dict[int, float]], colour: str, mark: str) -> None:
    """A score by round: runs as {round: score}."""
    scored = sorted(set.intersection(*(set(run) for run in runs)))
    if not scored:
        return
    means = [interval([run[number] for run in runs]) for number in scored]
    if len(runs) > 1:
        for run in runs:
            axes.plot(list(run), list(run.values()), color=colour, lw=0.8, alpha=0.45)
        axes.fill_between(
            scored, [m.span[0] for m in means], [m.span[1] for m in means], color=colour, alpha=0.13, lw=0
        )
    axes.plot(scored, [m.mean for m in means], f"{mark}-", color=colour, lw=2, ms=3.5)


def _pick(which: str) -> Callable[..., float | None]:
    return lambda record, client: getattr(record, which)[record.client_ids.index(client)]


_before, _after = _pick("norms_before"), _pick("norms_after")
