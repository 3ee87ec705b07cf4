"""The charts of a study, from its records alone, as PNG and SVG: scores by setting with 95 % intervals, norms, scores by round."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, PercentFormatter

from oleander.experiment.intervals import Interval, ends_are, interval
from oleander.experiment.records import read_rounds, settings_of
from oleander.experiment.study import Runs, StudyResult
from oleander.reports.plots import (
    ACCURACY,
    ASR,
    BENIGN,
    INK,
    MALICIOUS,
    MTA,
    STYLE,
    SUCCESS,
    save,
    styled,
    subplots,
    write_mixed,
)  # fmt: skip
from oleander.settings.plan import Chart
from oleander.system.errors import UserError
from oleander.system.files import own_folder
from oleander.system.foreign import plain

APART = 0.11
"""How far MTA and ASR of one setting stand left and right of its place."""
BESIDE = 0.05
"""How far the single runs stand right of their mean."""
LINES = ("#2463ab", "#d1383d", "#b8860b", "#2a9d5c", "#7a4fbf", "#4d4d4d")
MARKS = "os^Dv*P"


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
        several = len({cell.series for cell in cells}) > 1
        found[chart.name] = partial(_lines if several else _scores, chart, cells)
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
    """MTA and ASR of each setting side by side: mean, interval, single runs, published value."""
    figure, axes = subplots(figsize=(max(5.4, 1.5 * len(cells) + 1.6), 4.4), layout="constrained")
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
        said = [getattr(cell.published, by) for cell in cells]
        _draw_published(axes, x + offset, said, colour)
    _frame(axes, chart, cells, x)
    axes.set_ylabel("share of the test images")
    figure.legend(handles=[*handles, *_small_print(cells)], loc="outside lower center", ncol=2, fontsize=8.5)
    return figure


def _lines(chart: Chart[Runs], cells: Sequence[Runs]) -> Figure:
    """MTA in one panel, ASR in the other, a line for each series."""
    figure, panels = subplots(1, 2, figsize=(9.6, 4.4), sharey=True, layout="constrained")
    places = list(dict.fromkeys(cell.x for cell in cells))
    names = list(dict.fromkeys(cell.series for cell in cells))
    handles = []
    for number, name in enumerate(names):
        own = [cell for cell in cells if cell.series == name]
        x = np.array([places.index(cell.x) for cell in own]) + 0.09 * (number - (len(names) - 1) / 2)
        colour, mark = LINES[number % len(LINES)], MARKS[number % len(MARKS)]
        for axes, of, by in ((panels[0], Runs.mta, "mta"), (panels[1], Runs.asr, "asr")):
            singles = [[getattr(summary, by) for summary in cell.summaries] for cell in own]
            _draw(axes, x, [of(cell) for cell in own], singles, colour, mark, joined=chart.ordered)
            _draw_published(axes, x, [getattr(cell.published, by) for cell in own], colour)
        handles.append(Line2D([], [], color=colour, marker=mark, lw=1.5 * chart.ordered, label=name))
    for axes, what in zip(panels, (MTA, ASR), strict=True):
        _frame(
            axes, chart, [next(cell for cell in cells if cell.x == place) for place in places], np.arange(len(places))
        )
        axes.set_title(what, fontsize=10, loc="left")
    figure.suptitle(chart.title, fontsize=11, x=0.01, ha="left")
    handles = [Line2D([], [], lw=0, label=f"{chart.series_title}:"), *handles, *_small_print(cells)]
    figure.legend(handles=handles, loc="outside lower center", ncol=len(handles), fontsize=8.5)
    return figure


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


def _frame(axes: Axes, chart: Chart[Runs], cells: Sequence[Runs], x: np.ndarray) -> None:
    axes.set_xticks(x, [_wrapped(cell.x) for cell in cells])
    axes.set(xlabel=chart.x_title, ylim=(-0.02, 1.02), xlim=(x[0] - 0.5, x[-1] + 0.5))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(visible=False, axis="x")
    axes.set_title(chart.title, fontsize=10.5, loc="left")


def _wrapped(label: str, width: int = 16) -> str:
    lines = [""]
    for word in label.split():
        if lines[-1] and len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)


def _small_print(cells: Sequence[Runs]) -> list[Line2D]:
    """Legend entries for whatever else is drawn."""
    seeds = max(len(cell.summaries) for cell in cells)
    toy = any(summary.dataset == "toy" for cell in cells for summary in cell.summaries)
    handles = []
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
            Line2D([], [], color="#777777", marker="D", mfc="none", lw=0, label="published" + " (on CIFAR-10)" * toy)
        )
    return handles


def _norms(chart: Chart[Runs], cells: Sequence[Runs]) -> Figure:
    """L2 norms of each client's update in the last round, as sent and as they went into the aggregate, by setting.

    Bars are means over the runs whose last round the client took part in without being mixed with others, dots the single runs.
    """
    figure, grid = subplots(
        2, len(cells), figsize=(max(5.2, 3.4 * len(cells)), 4.8), squeeze=False, sharey="row", layout="constrained"
    )
    for column, cell in enumerate(cells):
        last = [read_rounds(folder)[-1] for folder in cell.folders]
        clients = sorted({client for record in last for client in record.client_ids})
        malicious = {c for record in last for c, bad in zip(record.client_ids, record.malicious, strict=True) if bad}
        for row, (pick, what) in enumerate(((_before, "as sent"), (_after, "after the defence"))):
            axes = grid[row, column]
            norms_of = [[pick(record, c) for record in last if c in record.client_ids] for c in clients]
            values = [[norm for norm in norms if norm is not None] or [0.0] for norms in norms_of]
            write_mixed(axes, [at for at, norms in enumerate(norms_of) if set(norms) == {None}], len(clients))
            colours = [MALICIOUS if c in malicious else BENIGN for c in clients]
            axes.bar(range(len(clients)), [float(np.mean(v)) for v in values], color=colours, width=0.72)
            if len(last) > 1:
                for place, norms in enumerate(values):
                    axes.scatter([place] * len(norms), norms, s=9, color=INK, alpha=0.55, linewidths=0, zorder=3)
            axes.set_xticks(range(len(clients)), [str(c) for c in clients])
            axes.grid(visible=False, axis="x")
            if column == 0:
                axes.set_ylabel(f"update norm ‖Δ‖₂\n{what}")
        grid[0, column].set_title(_name(cell), fontsize=9.5)
        grid[1, column].set_xlabel("client")
    figure.align_ylabels(grid[:, 0])
    figure.suptitle(f"{chart.title}: update norms in the last round", fontsize=10, x=0.01, ha="left")
    handles = [Patch(color=BENIGN, label="benign"), Patch(color=MALICIOUS, label="malicious")]
    figure.legend(handles=handles, loc="outside lower center", ncol=2, fontsize=8.5)
    return figure


def _rounds(chart: Chart[Runs], cells: Sequence[Runs]) -> Figure:
    """MTA and ASR after each scored round, a panel for each setting: single runs, their mean, and its interval as a band.

    A dotted line stands after the last round that had an attacker among all clients, where rounds follow it.
    """
    columns = min(len(cells), 4)
    rows = -(-len(cells) // columns)
    figure, grid = subplots(
        rows, columns, figsize=(max(5.4, 3.2 * columns), 2.9 * rows + 0.9), squeeze=False, sharey=True,
        layout="constrained",
    )  # fmt: skip
    for axes, cell in zip(grid.flat, cells, strict=False):
        runs = [read_rounds(path) for path in cell.folders]
        for by, colour, mark in (("mta", ACCURACY, "o"), ("asr", SUCCESS, "s")):
            scores = [{r.round: v for r in run if (v := getattr(r, by)) is not None} for run in runs]
            _draw_course(axes, scores, colour, mark)
        last = settings_of(cell.folders[0])
        if last.last_attack < last.rounds:
            axes.axvline(last.last_attack + 0.5, color=INK, lw=1, ls=":")
        axes.set_title(_wrapped(_name(cell), 34), fontsize=9.5)
        axes.set(xlabel="round (0: starting model)", ylim=(-0.02, 1.02))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    for axes in grid.flat[len(cells) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel("share of the test images")
    figure.suptitle(f"{chart.title}: scores by round", fontsize=10, x=0.01, ha="left")
    handles: list[Artist] = [
        Line2D([], [], color=ACCURACY, marker="o", ms=3.5, lw=2, label=MTA),
        Line2D([], [], color=SUCCESS, marker="s", ms=3.5, lw=2, label=ASR),
    ]
    if (seeds := max(len(cell.folders) for cell in cells)) > 1:
        handles.append(Line2D([], [], color="#777777", lw=0.8, alpha=0.7, label=f"single runs ({seeds} seeds)"))
        handles.append(Patch(color="#777777", alpha=0.2, label=ends_are(seeds)))
    figure.legend(handles=handles, loc="outside lower center", ncol=len(handles), fontsize=8.5)
    return figure


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


def _name(cell: Runs) -> str:
    return ", ".join(filter(None, (cell.x, cell.series)))


def _pick(which: str) -> Callable[..., float | None]:
    return lambda record, client: getattr(record, which)[record.client_ids.index(client)]


_before, _after = _pick("norms_before"), _pick("norms_after")
