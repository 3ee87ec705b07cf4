"""The charts of a study that have panels for each setting: norms in the last round, and scores by round."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from oleander.experiment.intervals import ends_are, interval
from oleander.experiment.records import read_rounds, settings_of
from oleander.experiment.study import Runs
from oleander.reports import findings
from oleander.reports.plots import write_course
from oleander.reports.style import (
    ACCURACY,
    ASR,
    INK,
    MTA,
    SOFT,
    SUCCESS,
    WIDTH,
    headed,
    sentence,
    subplots,
    who_bars,
    who_key,
    wrapped,
)
from oleander.settings.plan import Chart


def draw_norms(chart: Chart[Runs], cells: Sequence[Runs]) -> Figure:
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


def draw_rounds(chart: Chart[Runs], cells: Sequence[Runs]) -> Figure:
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
