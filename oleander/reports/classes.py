"""Class by class: how the final model answers clean images, what becomes of stamped ones, and which clients hold which classes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from oleander.experiment.classes import ClassCounts, read_classes
from oleander.experiment.records import CONFIG, settings_of
from oleander.reports import findings
from oleander.reports.style import ACCURACY, INK, SUCCESS, WIDTH, cell_numbers, headed, key, subplots
from oleander.reports.updates import label_clients
from oleander.system.foreign import plain, shortened

MOST_CLASSES = 40
MOST_NUMBERED = 12
REDS = LinearSegmentedColormap.from_list("asr", ["#fbf3f2", SUCCESS])
TEALS = LinearSegmentedColormap.from_list("mta", ["#f1f7f6", ACCURACY])
"""A share's own colour, from none to all."""


def draw_accuracy(folder: Path, run: str) -> Figure | None:
    """Of each class: the share of its clean images that is right, and the share of its stamped ones that becomes the target."""
    counts = read_classes(folder)
    if counts is None or not any(map(any, counts.clean)):
        return None
    names = _names(counts)
    right = _shares(counts.clean, range(len(names)))
    wanted = _shares(counts.victims, [counts.target] * len(names)) if counts.victims else np.full(len(names), np.nan)
    there = np.flatnonzero(np.isfinite(right))
    shown = np.sort(there[np.argsort(right[there], kind="stable")[:MOST_CLASSES]])
    figure, axes = subplots(figsize=(WIDTH, 0.9 + 0.24 * len(shown)))
    for shares, colour, mark, name in (
        (right, ACCURACY, "o", "right on clean images"),
        (wanted, SUCCESS, "s", _what(counts)),
    ):
        places = [row for row, at in enumerate(shown) if np.isfinite(shares[at])]
        if places:
            axes.plot(
                [shares[shown[row]] for row in places],
                places,
                mark,
                color=colour,
                ms=5.5,
                lw=0,
                label=name,
                clip_on=False,
            )
    for row, at in enumerate(shown):
        pair = [(right[at], ACCURACY), (wanted[at], SUCCESS)]
        _write_pair(axes, row, [(share, colour) for share, colour in pair if np.isfinite(share)])
    axes.set_yticks(range(len(shown)), [names[at] for at in shown])
    axes.set(xlim=(-0.02, 1.02), ylim=(len(shown) - 0.4, -0.6))
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    key(axes, axes.get_legend_handles_labels()[0])
    more = f" The {len(shown)} classes with the lowest accuracy of {len(there)}." if len(there) > len(shown) else ""
    headed(figure, findings.of_classes(counts), run + "." + more)
    return figure


def _write_pair(axes: Axes, row: int, pair: list[tuple[float, str]]) -> None:
    """Percents beside the points of a row: the smaller one's to the left, the greater one's to the right."""
    pair = sorted(pair, key=lambda found: found[0])
    for place, (share, colour) in enumerate(pair):
        left = place == 0 and (len(pair) > 1 or share > 0.5) and share > 0.08
        axes.annotate(
            f"{100 * share:.0f}", (share, row), xytext=(-6 if left else 6, 0), textcoords="offset points",
            ha="right" if left else "left", va="center", fontsize=7.5, color=colour, annotation_clip=False,
        )  # fmt: skip


def draw_confusion(folder: Path, run: str) -> Figure | None:
    """Stamped images by their true class and by the final model's answer, in shares of the class."""
    counts = read_classes(folder)
    if counts is None or counts.victims is None or not any(map(any, counts.victims)):
        return None
    names, table = _names(counts), np.array(counts.victims, float)
    columns = [*names, "none"] if table[:, -1].any() else names
    table = table[:, : len(columns)]
    rows = np.flatnonzero(table.sum(1))
    shares = table[rows] / np.array(counts.victims, float)[rows].sum(1, keepdims=True)
    side = min(0.36 * len(columns) + 1.2, WIDTH)
    figure, axes = subplots(figsize=(WIDTH, max(2.6, side * len(rows) / len(columns) + 1.1)))
    image = axes.imshow(shares, cmap=REDS, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    if len(columns) <= MOST_NUMBERED + 1:
        cell_numbers(axes, image, np.where(shares > 0, shares, np.nan), lambda share: f"{100 * share:.0f}")
    _class_ticks(axes, columns, counts.target)
    axes.set_yticks(range(0, len(rows), _step(len(rows))), [names[at] for at in rows[:: _step(len(rows))]], fontsize=8)
    axes.set(xlabel="the final model's answer, % of the class", ylabel="true class")
    headed(figure, findings.of_victims(counts), run)
    return figure


def _class_ticks(axes: Axes, columns: list[str], target: int | None) -> None:
    """The classes' names below the columns, of many some; the target's, where there is one, is red."""
    axes.grid(visible=False)
    places = sorted({*range(0, len(columns), _step(len(columns))), *([] if target is None else [target])})
    slant = max(map(len, columns)) > 2
    axes.set_xticks(
        places, [columns[at] for at in places], rotation=50 if slant else 0, ha="right" if slant else "center",
        rotation_mode="anchor", fontsize=8, va="center" if slant else "top",
    )  # fmt: skip
    for place, label in zip(places, axes.get_xticklabels(), strict=True):
        label.set(color=SUCCESS if place == target else INK, fontweight="bold" if place == target else "normal")


def _step(names: int) -> int:
    """Every which name is written, so that they can be read."""
    return -(-names // 26)


def draw_shards(folder: Path, run: str) -> Figure | None:
    """Who holds which classes: a row a client, malicious ones first, of many sorted by the class that they hold most of."""
    if (counts := read_classes(folder)) is None:
        return None
    names, table = _names(counts), np.array(counts.shards, float)
    bad = {*settings_of(folder).malicious_clients} if (folder / CONFIG).is_file() else set()
    many = len(table) > 24
    order = sorted(range(len(table)), key=lambda c: (c not in bad, int(table[c].argmax()) if many else c, c))
    figure, axes = subplots(figsize=(WIDTH, min(5.5, 1.6 + 0.24 * len(order))))
    image = axes.imshow(table[order], cmap="Purples", vmin=0, aspect="auto", interpolation="nearest")
    if len(order) <= 2 * MOST_NUMBERED and len(names) <= MOST_NUMBERED:
        cell_numbers(axes, image, np.where(table[order] > 0, table[order], np.nan), lambda number: f"{number:.0f}")
    _class_ticks(axes, names, counts.target if counts.victims is not None else None)
    label_clients(axes, order, bad)
    bar = figure.colorbar(image, ax=axes, pad=0.015, aspect=20, label="training images")
    bar.outline.set_visible(False)
    axes.set_xlabel("class" + (" (red: the target)" if counts.victims is not None else ""))
    headed(figure, findings.of_shards(counts), run + (". Clients by the class that they hold most of." if many else ""))
    return figure


def _what(counts: ClassCounts) -> str:
    return f"{'stamped' if counts.stamped else 'attacked'} images answered {plain(shortened(counts.classes[counts.target], 20))}"


def _names(counts: ClassCounts) -> list[str]:
    return [plain(shortened(name, 20)) for name in counts.classes]


def _shares(rows: list[list[int]], columns: Sequence[int]) -> np.ndarray:
    """Of each row the share in its column; NaN where it has none."""
    return np.array([row[at] / sum(row) if sum(row) else np.nan for row, at in zip(rows, columns, strict=True)])
