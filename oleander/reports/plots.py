"""The figures of a run, from its folder alone, as PNG and SVG."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, PercentFormatter

from oleander.experiment.records import RoundRecord, Summary, read_rounds
from oleander.reports import findings
from oleander.reports.classes import draw_accuracy, draw_confusion, draw_shards
from oleander.reports.gallery import draw_samples, read_samples
from oleander.reports.headings import run_line
from oleander.reports.style import (
    ACCURACY,
    BENIGN,
    MALICIOUS,
    SOFT,
    STYLE,
    SUCCESS,
    WIDTH,
    drawn,
    headed,
    key,
    save,
    styled,
    subplots,
)  # fmt: skip
from oleander.reports.updates import draw_updates
from oleander.system.errors import UserError
from oleander.system.files import own_folder
from oleander.system.numbers import trimmed

MOST_NUMBERS = 13
"""Points of a line that have their numbers beside them; of more, the first, the last and the extremes."""

FIGURES: dict[str, Callable[[Path, str], Figure | None]] = {
    "scores": lambda folder, run: _scores(read_rounds(folder), run),
    "norms": lambda folder, run: _norms(read_rounds(folder)[1:], run),
    "updates": lambda folder, run: draw_updates(read_rounds(folder)[1:], run),
    "samples": lambda folder, run: draw_samples(read_samples(folder), run),
    "confusion": draw_confusion,
    "classes": draw_accuracy,
    "shards": draw_shards,
}
"""Name → figure of a run's folder; None where the folder does not hold what it shows, as those of old runs do not."""


def draw_figures(folder: Path, summary: Summary) -> None:
    """Draw all of FIGURES that a finished run has into figures/."""
    figures = own_folder(folder / "figures")
    for name in FIGURES:
        with matplotlib.rc_context(STYLE):
            if found := FIGURES[name](folder, run_line(folder, summary)):
                save(found, figures / name, pdf=name == "scores")


def run_figure(folder: Path, summary: Summary, name: str) -> Figure:
    """A figure of a finished run, by its name.

    Raises:
        UserError: an unknown name, or one that this run has not kept the numbers for; lists the known.
    """

    def draw() -> Figure:
        if found := FIGURES[name](folder, run_line(folder, summary)):
            return found
        raise UserError(f"figure {name!r}: this run's folder does not hold what it shows; known: {', '.join(FIGURES)}")

    if name not in FIGURES:
        raise UserError(f"figure {name!r}: a run has none of this name; known: {', '.join(FIGURES)}")
    return styled(draw)


def samples_svg(folder: Path, run: str) -> str:
    """The figure of a run's samples, drawn anew: a page takes in no markup that lay in a folder."""
    with matplotlib.rc_context(STYLE):
        return drawn(draw_samples(read_samples(folder), run), "svg").decode()


def _scores(rounds: list[RoundRecord], run: str) -> Figure:
    """MTA and ASR after each round; round 0 is the starting model."""
    figure, axes = subplots(figsize=(WIDTH, 3.6))
    courses = {
        by: {r.round: v for r in rounds if (v := getattr(r, by)) is not None} for by in ("mta", "asr")
    }  # not of every round, if so asked
    counts = {
        "mta": {r.round: r.scored_images for r in rounds},
        "asr": {r.round: r.scored_victims for r in rounds},
    }
    for by, name, colour, mark in (("mta", "MTA", ACCURACY, "o-"), ("asr", "ASR", SUCCESS, "s-")):
        if not (course := courses[by]):
            continue
        errors = [standard_error(value, counts[by].get(number)) for number, value in course.items()]
        axes.errorbar(
            list(course),
            list(course.values()),
            errors,
            fmt=mark,
            color=colour,
            lw=1.8,
            ms=4.5,
            elinewidth=0.9,
            capsize=2,
        )
        write_course(axes, course, courses["asr" if by == "mta" else "mta"], colour)
        axes.annotate(
            name, (max(course), _label_at(courses, by)), xytext=(8, 0), textcoords="offset points", va="center",
            color=colour, fontweight="bold", annotation_clip=False,
        )  # fmt: skip
    if courses["mta"] and not courses["asr"]:  # what such an attack does is how far the MTA falls below this
        axes.axhline(next(iter(courses["mta"].values())), ls="--", lw=0.9, color=SOFT, zorder=1)
    axes.set(xlabel="round (0: starting model)", ylabel="share of the test images", ylim=(-0.07, 1.1))
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    headed(figure, findings.of_scores(rounds), "; ".join(filter(None, (run, _scored_on(rounds)))))
    return figure


def _scored_on(rounds: list[RoundRecord]) -> str:
    """Of how many images the scores are, where that differs; nothing where it is the same in all rounds, or not known."""
    counts = dict.fromkeys(r.scored_images for r in rounds if r.scored_images)
    if len(counts) < 2:
        return ""
    return f"bars: standard error; scored on {min(counts):,} test images, start and last round on {max(counts):,}"


def standard_error(share: float, count: int | None) -> float:
    """Of a share of ``count`` images drawn at random, binomial; 0 where the count is not known."""
    return math.sqrt(share * (1 - share) / count) if count else 0.0


def _label_at(courses: dict[str, dict[int, float]], by: str) -> float:
    """Where a line's name stands: at its end, moved off the other's."""
    own, other = (list(courses[name].values()) for name in (by, "mta" if by == "asr" else "asr"))
    if not other or abs(own[-1] - other[-1]) >= 0.07:
        return own[-1]
    above = own[-1] > other[-1] or (own[-1] == other[-1] and by == "mta")
    return (own[-1] + other[-1]) / 2 + (0.035 if above else -0.035)


def write_course(axes: Axes, course: dict[int, float], other: dict[int, float], colour: str, size: float = 7.5) -> None:
    """Percents beside a line's points, on the side where the other line is not."""
    rounds = list(course)
    if len(rounds) > MOST_NUMBERS:
        rounds = sorted(
            {min(course), max(course), min(course, key=course.__getitem__), max(course, key=course.__getitem__)}
        )
    for number in rounds:
        value, up = course[number], _is_up(course, other.get(number), number, colour == ACCURACY)
        axes.annotate(
            f"{100 * value:.0f}", (number, value), xytext=(0, 5 if up else -5), textcoords="offset points", ha="center",
            va="bottom" if up else "top", fontsize=size, color=colour, annotation_clip=False,
        )  # fmt: skip


def _is_up(course: dict[int, float], beside: float | None, number: int, first: bool) -> bool:
    """Whether a point's number stands above it: away from the other line where that is near, else outside of its own line's bend."""
    value, rounds = course[number], list(course)
    if beside is not None and abs(value - beside) < 0.16:
        return value > beside or (value == beside and first)
    at = rounds.index(number)
    neighbours = [course[rounds[i]] for i in (at - 1, at + 1) if 0 <= i < len(rounds)]
    return value <= 0.03 or value >= sum(neighbours) / max(1, len(neighbours))


def _norms(rounds: list[RoundRecord], run: str) -> Figure:
    """L2 norms of the updates by round, as sent and, on the same scale, as they went into the aggregate."""
    changed = any(record.norms_after != record.norms_before for record in rounds)
    panels = [("norms_before", "as sent")] + [("norms_after", "after the defence")] * changed
    figure, grid = subplots(
        len(panels), 1, figsize=(WIDTH, 1.2 + 2.1 * len(panels)), squeeze=False, sharex=True, sharey=True
    )
    for axes, (which, what) in zip(grid[:, 0], panels, strict=True):
        _norm_points(axes, rounds, which)
        axes.set_ylabel(f"update norm ‖Δ‖₂\n{what}")
        axes.grid(visible=False, axis="x")
    norms = [norm for record in rounds for norm in record.norms_before if norm > 0]
    if norms and max(norms) > 20 * min(norms):
        grid[0, 0].set_yscale("log")
        grid[0, 0].yaxis.set_major_formatter(FuncFormatter(lambda norm, _: trimmed(norm)))
        grid[0, 0].yaxis.set_minor_formatter(NullFormatter())
    else:
        grid[0, 0].set_ylim(bottom=0)
    grid[-1, 0].xaxis.set_major_locator(MaxNLocator(integer=True))
    grid[-1, 0].set_xlabel("round")
    figure.align_ylabels(grid[:, 0])
    _norms_key(grid[0, 0], rounds, changed)
    unchanged = "" if changed or not rounds else " No filter changed a norm."
    headed(figure, findings.of_norms(rounds) + ("." + unchanged if unchanged else ""), run)
    return figure


def _norms_key(axes: Axes, rounds: list[RoundRecord], changed: bool) -> None:
    marks = [("benign", BENIGN, "o", BENIGN), ("malicious", MALICIOUS, "^", MALICIOUS)]
    marks = marks if any(any(r.malicious) for r in rounds) else marks[:1]
    if any(0 in record.influence for record in rounds):
        marks.append(("left out by the defence", SOFT, "o", "white"))
    handles = [Line2D([], [], color=edge, marker=m, mfc=face, lw=0, ms=5, label=name) for name, edge, m, face in marks]
    if changed and any(None in record.norms_after for record in rounds):
        handles.append(Line2D([], [], lw=0, label="mixed by a filter: no norm of its own"))
    key(axes, handles, 2 if len(handles) > 3 else None)


def _norm_points(axes: Axes, rounds: Sequence[RoundRecord], which: str) -> None:
    """A point for each client and round, hollow where the defence gave it no influence, and the medians, with their numbers."""
    medians: dict[bool, dict[int, float]] = {True: {}, False: {}}
    for record in rounds:
        norms, count = getattr(record, which), max(1, len(record.client_ids))
        for bad, colour, mark in ((False, BENIGN, "o"), (True, MALICIOUS, "^")):
            own = [
                (record.round + 0.5 * ((at + 0.5) / count - 0.5), norm, record.influence[at])
                for at, norm in enumerate(norms)
                if norm is not None and record.malicious[at] == bad and (norm > 0 or which == "norms_before")
            ]
            if not own:
                continue
            medians[bad][record.round] = float(np.median([norm for _, norm, _ in own]))
            faces = [colour if influence else "white" for *_, influence in own]
            axes.scatter(
                [x for x, *_ in own], [y for _, y, _ in own], marker=mark, s=20, facecolors=faces, edgecolors=colour,
                linewidths=0.9, zorder=3, clip_on=False,
            )  # fmt: skip
        if len(rounds) <= MOST_NUMBERS and (mixed := sum(norm is None for norm in norms)):
            axes.text(
                record.round, 0.02, f"{mixed} mixed", transform=axes.get_xaxis_transform(), ha="center", va="bottom",
                fontsize=7, color=SOFT,
            )  # fmt: skip
    for bad, colour in ((False, BENIGN), (True, MALICIOUS)):
        if course := medians[bad]:
            axes.plot(list(course), list(course.values()), color=colour, lw=1, alpha=0.6, zorder=2)
            last = max(course)
            above = 8 if bad == _is_above(medians, last) else -8
            axes.annotate(
                f"{'malicious' if bad else 'benign'} {course[last]:.2f}", (last + 0.25, course[last]), xytext=(6, above),
                textcoords="offset points", fontsize=7.5, color=colour, va="center", annotation_clip=False,
            )  # fmt: skip


def _is_above(medians: dict[bool, dict[int, float]], number: int) -> bool:
    """Whether the malicious median is the upper one: then its number stands above."""
    return medians[True].get(number, 0.0) >= medians[False].get(number, 0.0)
