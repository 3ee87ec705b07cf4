"""Two pictures of a whole study: MTA and ASR of any two settings that vary as a heat map, and one against the other."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from oleander.experiment.study import Runs
from oleander.reports import findings
from oleander.reports.classes import REDS, TEALS
from oleander.reports.style import (
    ACCURACY,
    ASR,
    INK,
    MTA,
    SOFT,
    SUCCESS,
    WIDTH,
    cell_numbers,
    headed,
    sentence,
    subplots,
    wrapped,
)
from oleander.settings.plan import Chart

MOST_NAMED = 30
"""Points that have their names beside them."""
TALL = 10
"""Rows above which each panel of a grid has its own names of columns: those of the last one are too far away."""


def draw_grid(chart: Chart[Runs], cells: Sequence[Runs]) -> Figure:
    """Mean MTA and, where a run has one, mean ASR: a column for each value of one setting, a row for each of the other."""
    shown = [(Runs.mta, MTA, ACCURACY, TEALS), (Runs.asr, ASR, SUCCESS, REDS)][: 1 + any(cell.asr() for cell in cells)]
    places, names = list(dict.fromkeys(cell.x for cell in cells)), list(dict.fromkeys(cell.series for cell in cells))
    found = {(cell.series, cell.x): cell for cell in cells}
    height = 0.34 * len(names) + 0.9
    size = (max(WIDTH, 0.55 * len(places) + 1.6), len(shown) * height + 0.9)
    figure, grid = subplots(len(shown), 1, figsize=size, sharex=True, squeeze=False)
    panels = grid[:, 0]
    for axes, (of, what, colour, shades) in zip(panels, shown, strict=True):
        means = [[of(found[name, x]) if (name, x) in found else None for x in places] for name in names]
        table = np.array([[np.nan if mean is None else mean.mean for mean in row] for row in means])
        image = axes.imshow(
            np.ma.masked_invalid(table), cmap=shades, vmin=0, vmax=1, aspect="auto", interpolation="nearest"
        )
        cell_numbers(axes, image, table, lambda share: f"{100 * share:.0f}", size=8.5 if len(places) < 12 else 7)
        axes.set_yticks(range(len(names)), [wrapped(name, 22) for name in names], fontsize=8.5)
        axes.set_title(f"{what}, %", fontsize=9.5, loc="left", color=colour, fontweight="bold")
        axes.set_ylabel(chart.series_title)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
    long = max(map(len, places)) * len(places) > 60
    for axes in panels if len(names) > TALL else panels[-1:]:
        axes.set_xticks(range(len(places)), [wrapped(x, 16) for x in places], rotation=35 if long else 0,
                        ha="right" if long else "center", rotation_mode="anchor" if long else None, fontsize=8.5)  # fmt: skip
        axes.tick_params(labelbottom=True)
    panels[-1].set_xlabel(chart.x_title)
    seeds = sorted({len(cell.summaries) for cell in cells})
    over = (
        f" Means over {' to '.join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))} seeds."
        if seeds[-1] > 1
        else " One seed each."
    )
    headed(figure, findings.of_settings(chart), f"{sentence(chart.title)}{over}")
    return figure


def draw_trade(chart: Chart[Runs], cells: Sequence[Runs]) -> Figure:
    """ASR against MTA, a point a setting, small ones its single runs: a defence does well at the bottom right."""
    figure, axes = subplots(figsize=(WIDTH, 4.6))
    shown = [(cell, cell.mta().mean, found.mean) for cell in cells if (found := cell.asr())]
    for cell, mta, asr in shown:
        singles = [(s.mta, s.asr) for s in cell.summaries if s.asr is not None]
        if len(singles) > 1:
            axes.plot(*zip(*singles, strict=True), ".", color=SOFT, ms=4, alpha=0.6, mew=0, clip_on=False)
        axes.plot([mta], [asr], "o", color=INK, ms=6, clip_on=False, zorder=3)
    if len(shown) <= MOST_NAMED:
        _name_points(axes, [(mta, asr, findings.place(chart, cell)) for cell, mta, asr in shown])
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.set_xlabel(MTA, color=ACCURACY)
    axes.set_ylabel(ASR, color=SUCCESS)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    what = " (small: single seeds)" if any(len(cell.summaries) > 1 for cell in cells) else ""
    headed(figure, findings.of_trade(chart), f"{sentence(chart.title)} A defence does well at the bottom right{what}.")
    return figure


def _name_points(axes: Axes, points: list[tuple[float, float, str]]) -> None:
    """Names beside points, to the left of those in the right half, moved apart where they would lie over each other."""
    for left in (True, False):
        level = -1.0
        for mta, asr, name in sorted((p for p in points if (p[0] > 0.5) == left), key=lambda p: (p[1], p[0])):
            level = max(asr, level + 0.043)
            moved = level - asr > 0.01
            axes.annotate(
                name, (mta, asr), xytext=(mta + (-0.03 if left else 0.03), level), ha="right" if left else "left", va="center",
                fontsize=7.5, annotation_clip=False, zorder=4,
                arrowprops={"arrowstyle": "-", "color": SOFT, "lw": 0.5, "shrinkB": 3} if moved else None,
            )  # fmt: skip
