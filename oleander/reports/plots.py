"""The figures of a run, from its folder alone, as PNG and SVG: scores by round, norms by client, and samples.

Drawn without pyplot, which would choose a backend for the whole process: a notebook has its own.
"""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, PercentFormatter

from oleander.experiment.records import SAMPLES, RoundRecord, Summary, read_rounds
from oleander.system.errors import UserError
from oleander.system.files import own_folder, replace_file
from oleander.system.foreign import MIB, check_unpacked, plain, read_bytes, refusing

MOST_SAMPLES = 64 * MIB
MOST_PARTS = 64
"""Of samples.npz, which may be another's: bytes, packed and unpacked, and attackers."""

BENIGN, MALICIOUS = "#2a9d5c", "#d1383d"
ACCURACY, SUCCESS = "#2463ab", "#d1383d"
MTA, ASR = "main task accuracy (MTA)", "attack success rate (ASR)"
INK, GRID = "#1c1d1f", "#e6e6e6"
"""Colours that stand for a page's own in a report."""
STYLE: dict[str, Any] = {
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "legend.frameon": False,
    "figure.dpi": 100,
    "savefig.dpi": 160,
    "svg.fonttype": "none",
    "svg.hashsalt": "oleander",
    "text.parse_math": False,  # a $ in a folder's name is a $
}


FIGURES: dict[str, Callable[[Path, str], Figure]] = {
    "scores": lambda folder, title: _scores(read_rounds(folder), title),
    "norms": lambda folder, title: _norms(read_rounds(folder)[1:], title),
    "samples": lambda folder, title: _samples(read_samples(folder), title),
}
"""Name → figure of a run's folder."""


class Picture(Figure):
    """A figure that a notebook shows as it is, whatever backend it has."""

    def _repr_png_(self) -> bytes:
        return _drawn(self, "png")


def subplots(
    *shape: int, figsize: tuple[float, float], layout: Literal["constrained"] | None = None, **more: Any
) -> tuple[Figure, Any]:
    """A figure and its axes, as pyplot's."""
    figure = Picture(figsize=figsize, layout=layout)
    return figure, figure.subplots(*shape, **more)


def draw_figures(folder: Path, summary: Summary) -> None:
    """Draw figures/scores, figures/norms and figures/samples of a finished run."""
    figures = own_folder(folder / "figures")
    for name in FIGURES:
        with matplotlib.rc_context(STYLE):
            save(FIGURES[name](folder, _title(summary)), figures / name, pdf=name == "scores")


def run_figure(folder: Path, summary: Summary, name: str) -> Figure:
    """A figure of a finished run, by its name.

    Raises:
        UserError: an unknown name; lists the known.
    """
    if name not in FIGURES:
        raise UserError(f"figure {name!r}: a run has none of this name; known: {', '.join(FIGURES)}")
    return styled(lambda: FIGURES[name](folder, _title(summary)))


def styled(draw: Callable[[], Figure]) -> Figure:
    """A figure in our style, also when it is shown later."""
    with matplotlib.rc_context(STYLE):
        figure = draw()
        figure.draw_without_rendering()  # marks along the axes are made when they are first drawn
        return figure


def samples_svg(samples: dict[str, Any], summary: Summary) -> str:
    """The figure of a run's samples, drawn from them anew: a page takes in no markup that lay in a folder."""
    with matplotlib.rc_context(STYLE):
        return _drawn(_samples(samples, _title(summary)), "svg").decode()


def read_samples(folder: Path) -> dict[str, Any]:
    """The images of samples.npz: clean (k, c, h, w) of 1 or 3 channels, parts (µ, k, c, h, w), whole (k, c, h, w), and their classes.

    Raises:
        UserError: it cannot be read, or holds something else.
    """
    with refusing(f"{folder / SAMPLES}: no samples of a run"):
        content = read_bytes(folder / SAMPLES, MOST_SAMPLES)
        check_unpacked(content)
        with np.load(io.BytesIO(content), allow_pickle=False) as members:
            samples = {name: members[name] for name in ("clean", "classes", "parts", "whole") if name in members}
        clean, classes = samples["clean"], samples["classes"]
        parts, whole = samples.get("parts", clean[None]), samples.get("whole", clean)
        if clean.ndim != 4 or clean.shape[1] not in (1, 3) or not clean.size or classes.shape != clean.shape[:1]:
            raise ValueError(f"it has images of shape {clean.shape} for classes of shape {classes.shape}")
        if whole.shape != clean.shape or parts.shape[1:] != clean.shape or len(parts) > MOST_PARTS:
            raise ValueError(f"it has stamped images of shapes {parts.shape} and {whole.shape}")
        if any(array.dtype != np.uint8 for array in (clean, parts, whole)) or classes.dtype.kind != "U":
            raise ValueError("it has images that are not uint8, or classes that are not named")
        return samples


def save(figure: Figure, path: Path, *, pdf: bool = False) -> Path:
    """Write PATH.png and PATH.svg, for papers PATH.pdf as well; returns the SVG file."""
    svg = path.with_name(f"{path.name}.svg")  # a name may have a dot in it
    replace_file(path.with_name(f"{path.name}.png"), _drawn(figure, "png"))
    replace_file(svg, _drawn(figure, "svg"))
    if pdf:
        replace_file(path.with_name(f"{path.name}.pdf"), _drawn(figure, "pdf"))
    return svg


_NO_DATE = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
"""The same figure is the same file."""


def _drawn(figure: Figure, form: str) -> bytes:
    with io.BytesIO() as opened:
        figure.savefig(opened, format=form, bbox_inches="tight", metadata=_NO_DATE.get(form))
        return opened.getvalue()


def _title(summary: Summary) -> str:
    return plain(
        f"{summary.scenario}: {summary.attack} against {summary.strategy}, {summary.dataset}, seed {summary.seed}"
    )


def _scores(rounds: list[RoundRecord], title: str) -> Figure:
    """MTA and ASR after each round; round 0 is the starting model."""
    figure, axes = subplots(figsize=(6.4, 4.0))
    mta = {record.round: record.mta for record in rounds if record.mta is not None}  # not in every round, if so asked
    asr = {record.round: record.asr for record in rounds if record.asr is not None}
    axes.plot(list(mta), list(mta.values()), "o-", color=ACCURACY, lw=2, label=MTA)
    if 0 in asr:
        axes.plot(list(asr), list(asr.values()), "s-", color=SUCCESS, lw=2, label=ASR)
        axes.axhline(asr[0], color=SUCCESS, lw=1, ls=":", label="baseline ASR")
    axes.set(xlabel="round (0: starting model)", ylabel="share of the test images", ylim=(-0.02, 1.02))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_title(title, fontsize=10, loc="left")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncol=3, fontsize=8.5)
    return figure


def _norms(rounds: list[RoundRecord], title: str) -> Figure:
    """L2 norms of each client's update, as sent and as it went into the aggregate; each row of panels has its own scale."""
    most = 8
    shown = rounds if len(rounds) <= most else rounds[-most:]
    figure, grid = subplots(
        2, len(shown), figsize=(max(6.4, 1.6 * len(shown)), 4.6), sharey="row", squeeze=False, layout="constrained"
    )
    for column, record in enumerate(shown):
        _norm_bars(grid[0, column], record, record.norms_before, [False] * len(record.client_ids))
        _norm_bars(grid[1, column], record, record.norms_after, [influence == 0 for influence in record.influence])
        grid[0, column].set_title(f"round {record.round}", fontsize=9.5)
        grid[1, column].set_xlabel("client")
    grid[0, 0].set_ylabel("update norm ‖Δ‖₂\nas sent")
    grid[1, 0].set_ylabel("update norm ‖Δ‖₂\nafter the defence")
    handles = [Patch(color=BENIGN, label="benign"), Patch(color=MALICIOUS, label="malicious")]
    if any(influence == 0 for record in shown for influence in record.influence):
        handles.append(Patch(facecolor="white", edgecolor="#555", hatch="////", label="left out by the defence"))
    note = f" (last {most} of {len(rounds)} rounds)" if len(rounds) > most else ""
    figure.suptitle(title + note, fontsize=10, x=0.01, ha="left")
    figure.legend(handles=handles, loc="outside lower center", ncol=3, fontsize=8.5)
    return figure


def write_mixed(axes: Axes, places: Sequence[int], bars: int) -> None:
    """Say of the clients at these places, where no bar can stand, that a filter mixed them; of many, once for all."""
    if places and bars > 12:
        axes.text(0.5, 0.5, "mixed by a filter", transform=axes.transAxes, ha="center", va="center", fontsize=8.5)
        return
    for place in places:
        axes.text(
            place,
            0.04,
            "mixed",
            transform=axes.get_xaxis_transform(),
            rotation=90,
            ha="center",
            va="bottom",
            fontsize=8,
        )


def _norm_bars(axes: Axes, record: RoundRecord, norms: Sequence[float | None], left_out: list[bool]) -> None:
    colours = [MALICIOUS if malicious else BENIGN for malicious in record.malicious]
    heights = [0.0 if norm is None else norm for norm in norms]
    write_mixed(axes, [place for place, norm in enumerate(norms) if norm is None], len(norms))
    bars = axes.bar(range(len(norms)), heights, color=colours, width=0.75)
    for bar, colour, out in zip(bars, colours, left_out, strict=True):
        if out:
            bar.set(facecolor="white", edgecolor=colour, hatch="////", linewidth=0.8)
    if len(norms) <= 12:
        axes.set_xticks(range(len(norms)), [str(client) for client in record.client_ids])
    else:
        axes.set_xticks([])
    axes.grid(visible=False, axis="x")


def _samples(samples: dict[str, Any], title: str) -> Figure:
    """Test images: clean, as each attacker trains on them, as the test stamps them."""
    rows = [("clean", samples["clean"])]
    if "whole" in samples:
        rows += [(f"attacker {j}\ntrains on", part) for j, part in enumerate(samples["parts"])]
        rows.append(("the test\nsees", samples["whole"]))
    columns = len(samples["clean"])
    figure, grid = subplots(
        len(rows), columns, figsize=(1.1 * columns + 0.9, 1.1 * len(rows) + 0.6), squeeze=False, layout="constrained"
    )
    for axes_row, (label, images) in zip(grid, rows, strict=True):
        for axes, image in zip(axes_row, images, strict=True):
            axes.imshow(image.transpose(1, 2, 0), interpolation="nearest", cmap="gray", vmin=0, vmax=255)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        axes_row[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
    for axes, name in zip(grid[0], samples["classes"], strict=True):
        axes.set_title(plain(name), fontsize=9)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    return figure
