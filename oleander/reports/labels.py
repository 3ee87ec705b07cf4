"""Numbers beside points, each where the least lies under it: near its point, inside the axes, on no other number or whisker."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

SIZE = 8.0
DIGIT, LINE, GAP = 0.64 * SIZE, 1.18 * SIZE, 1.0
"""Points: a digit's width, a line's height, and what is left free around a number."""
ASIDE, UP = (0, -7, 7, -11, 11, -14, 14, -18, 18), (11, -11, 0, 5, -5, 14, -14, 18, -18, 23, -23)
"""Points from a point to its number's middle, which are tried; of equally good ones the first is taken."""
SIDEWAYS, ON_INK, ON_NUMBER, OUTSIDE = 1.5, 3.0, 10.0, 100.0
"""How bad it is, beside a point of height: a point to the side, lying on so much that is drawn or on a number, leaving the axes."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Number:
    """What is written beside a point of the data."""

    at: tuple[float, float]
    text: str
    colour: str


def write_numbers(figure: Figure, panels: Sequence[tuple[Axes, Sequence[Number]]]) -> None:
    """Write numbers into a figure in which all else is drawn, and which has its heads: they do not move what is there."""
    figure.draw_without_rendering()  # only then is it known where axes lie
    for axes, numbers in panels:
        to_points = 72 / figure.dpi
        frame = axes.bbox.get_points() * to_points
        ink = _ink(axes) * to_points
        taken: Array = np.empty((0, 2))
        for number in numbers:
            at = axes.transData.transform(number.at) * to_points
            half = np.array([DIGIT * len(number.text), LINE]) / 2 + GAP
            off = min(itertools.product(UP, ASIDE), key=lambda to: _badness(at, to[::-1], half, ink, taken, frame))[
                ::-1
            ]
            taken = np.vstack([taken, _filled(at + off, half)])
            axes.annotate(
                number.text, number.at, xytext=off, textcoords="offset points", ha="center", va="center", fontsize=SIZE,
                color=number.colour, annotation_clip=False, zorder=5,
            ).set_in_layout(False)  # fmt: skip


def _badness(at: Array, off: tuple[int, int], half: Array, ink: Array, taken: Array, frame: Array) -> float:
    middle = at + off
    on_ink, on_numbers = (int((np.abs(points - middle) < half).all(axis=1).sum()) for points in (ink, taken))
    beyond = np.maximum(frame[0] - (middle - half), 0).sum() + np.maximum(middle + half - frame[1], 0).sum()
    return abs(off[1]) + SIDEWAYS * abs(off[0]) + ON_INK * on_ink + ON_NUMBER * on_numbers + OUTSIDE * float(beyond)


def _ink(axes: Axes) -> Array:
    """What is drawn in the axes, as pixels about a point apart: lines, bars of errors, and marks."""
    found = []
    for line in axes.lines:
        place = line.get_transform().transform(np.column_stack(line.get_data()).astype(float))
        if line.get_linestyle() != "None":
            found += [_along(start, end) for start, end in itertools.pairwise(place)]
        if line.get_marker() not in ("None", "", None):
            found += [_filled(middle, np.full(2, 0.5 * line.get_markersize())) for middle in place]
    for drawn in axes.collections:
        if isinstance(drawn, LineCollection):
            found += [_along(*axes.transData.transform(bar)) for bar in drawn.get_segments()]
        else:
            found += [_filled(middle, np.full(2, 4.0)) for middle in axes.transData.transform(drawn.get_offsets())]
    return np.vstack(found) if found else np.empty((0, 2))


def _along(start: Array, end: Array) -> Array:
    steps = max(2, int(np.hypot(*(end - start))))
    return np.linspace(start, end, steps)


def _filled(middle: Array, half: Array) -> Array:
    """Places all over a box."""
    across = [np.linspace(m - h, m + h, max(3, int(h))) for m, h in zip(middle, half, strict=True)]
    return np.stack(np.meshgrid(*across), axis=-1).reshape(-1, 2)
