"""How every figure looks: one colour for one meaning, a title that states what was found, what was run below it.

Drawn without pyplot, which would choose a backend for the whole process: a notebook has its own.
"""

import io
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.transforms import Bbox

from oleander.system.files import replace_file

ACCURACY, SUCCESS = "#0b7a75", "#c52f35"
"""MTA is teal, ASR red, everywhere."""
BENIGN, MALICIOUS = "#2463ab", "#e07b00"
"""Blue and orange, which are told apart by those who see no red and green; bars of malicious clients are hatched as well."""
LINES = ("#7a4fbf", "#4d4d4d", "#b5499b", "#8c6d1f", "#3a3f8f", "#9aa0a6")
"""Settings beside each other; a page gives each a lighter one where it is dark (``--s1`` to ``--s6``)."""
HATCH, EDGE = "////", "#7a4300"
MTA, ASR = "main task accuracy (MTA)", "attack success rate (ASR)"
INK, SOFT, GRID = "#1c1d1f", "#667079", "#e6e6e6"
"""Colours that stand for a page's own in a report."""
DARK, LIGHT = "#111111", "#fefefe"
"""Of numbers in coloured cells: no page's own, since the cells are not either."""
WIDTH = 5.4
"""Inches: a figure of this width can be read on a phone."""
STYLE: dict[str, Any] = {
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "legend.frameon": False,
    "hatch.linewidth": 0.6,
    "figure.dpi": 100,
    "savefig.dpi": 160,
    "svg.fonttype": "none",
    "svg.hashsalt": "oleander",
    "text.parse_math": False,  # a $ in a folder's name is a $
}


class Picture(Figure):
    """A figure that a notebook shows as it is, whatever backend it has."""

    def _repr_png_(self) -> bytes:
        return drawn(self, "png")


def subplots(
    *shape: int, figsize: tuple[float, float], layout: Literal["constrained"] | None = "constrained", **more: Any
) -> tuple[Figure, Any]:
    """A figure and its axes, as pyplot's."""
    figure = Picture(figsize=figsize, layout=layout)
    return figure, figure.subplots(*shape, **more)


def styled(draw: Callable[[], Figure]) -> Figure:
    """A figure in our style, also when it is shown later."""
    with matplotlib.rc_context(STYLE):
        figure = draw()
        figure.draw_without_rendering()  # marks along the axes are made when they are first drawn
        return figure


_NO_DATE = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
"""The same figure is the same file."""


def save(figure: Figure, path: Path, *, pdf: bool = False) -> Path:
    """Write PATH.png and PATH.svg, for papers PATH.pdf as well; returns the SVG file."""
    forms = ("png", "svg", "pdf") if pdf else ("png", "svg")
    files = {form: path.with_name(f"{path.name}.{form}") for form in forms}  # a name may have a dot in it
    extent = _laid_out(figure)
    for form, file in files.items():
        replace_file(file, drawn(figure, form, extent))
    return files["svg"]


def _laid_out(figure: Figure) -> Bbox:
    """Settle where everything in a figure is, once for all forms of it; returns what it takes up, in inches."""
    shown_at, figure.dpi = figure.dpi, matplotlib.rcParams["savefig.dpi"]
    figure.draw_without_rendering()
    figure.set_layout_engine(None)  # with one, Matplotlib lays it out and draws it once more before each form
    extent = figure.get_tightbbox().padded(matplotlib.rcParams["savefig.pad_inches"])
    figure.dpi = shown_at
    return extent


def drawn(figure: Figure, form: str, extent: Bbox | Literal["tight"] = "tight") -> bytes:
    """A figure as PNG, SVG or PDF."""
    with io.BytesIO() as opened:
        figure.savefig(opened, format=form, bbox_inches=extent, metadata=_NO_DATE.get(form))
        return opened.getvalue()


def headed(figure: Figure, finding: str, run: str) -> None:
    """Write what was found over a figure, and what was run, small, below it."""
    width = figure.get_size_inches()[0]
    figure.suptitle(
        wrapped(finding.replace(" %", "\N{NO-BREAK SPACE}%"), int(width * 11.6)),
        fontsize=10.5,
        fontweight="bold",
        x=0.01,
        ha="left",
    )
    figure.supxlabel(wrapped(run, int(width * 17)), fontsize=8, color=SOFT, x=0.01, ha="left")


def sentence(text: str) -> str:
    """Text with one full stop behind it, whether it brings its own or not: others follow."""
    return text if text.endswith(("!", "?")) else f"{text.rstrip('.')}."


def wrapped(text: str, width: int) -> str:
    """Text in lines of at most about so many characters; what has no spaces is broken too, behind a + first."""
    if " " not in text:
        return "\n".join(textwrap.wrap(text.replace("+", "+ "), width)).replace("+ ", "+") or text
    return "\n".join(textwrap.wrap(text, width)) or text


def key(
    axes: Axes, handles: Sequence[Any], columns: int | None = None, title: str | None = None, lines: int = 0
) -> None:
    """A key above the axes, and above so many lines of their title, at their right end; the figure's layout leaves room for it."""
    axes.legend(
        handles=list(handles), title=title, title_fontsize=8.5, alignment="left", loc="lower right", bbox_to_anchor=(1.0, 1.0),
        ncol=columns or len(handles), fontsize=8.5, borderaxespad=0.1 + 1.4 * lines, handletextpad=0.4, columnspacing=1.2,
    )  # fmt: skip


def who_key(axes: Axes, *, malicious: bool, left_out: bool = False, lines: int = 0) -> None:
    """The key of bars of clients, above so many lines of a title."""
    handles = [Patch(color=BENIGN, label="benign")]
    if malicious:
        handles.append(Patch(facecolor=MALICIOUS, edgecolor=EDGE, hatch=HATCH, linewidth=0, label="malicious"))
    if left_out:
        handles.append(Patch(facecolor="white", edgecolor=SOFT, label="left out by the defence"))
    key(axes, handles, lines=lines)


def who_bars(axes: Axes, heights: Sequence[float], malicious: Sequence[bool], **more: Any) -> Any:
    """A bar for each client: benign ones blue, malicious ones orange and hatched."""
    bars = axes.bar(range(len(heights)), heights, **more)
    for bar, bad in zip(bars, malicious, strict=True):
        bar.set(facecolor=MALICIOUS if bad else BENIGN, edgecolor=EDGE if bad else BENIGN, linewidth=0)
        bar.set_hatch(HATCH if bad else None)
    return bars


def cell_numbers(axes: Axes, image: Any, values: Any, form: Callable[[float], str], size: float = 7.5) -> None:
    """Write its number into each cell of an image, dark or light, whichever can be read; not where there is none."""
    for y, row in enumerate(values):
        for x, value in enumerate(row):
            if value == value:
                red, green, blue, _ = image.cmap(image.norm(value))
                light = 0.299 * red + 0.587 * green + 0.114 * blue < 0.55
                axes.text(x, y, form(value), ha="center", va="center", fontsize=size, color=LIGHT if light else DARK)
