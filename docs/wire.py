"""Draws docs/wire.svg and docs/wire.png: what crosses the wire of a real network. ``python docs/wire.py``."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

Point = tuple[float, float]
GATE = (
    "the public port", "(child process)", "", "TLS", "key signed it?", "fleet API only", "own name only", "one reply each",
    "size limit",
)  # fmt: skip
INK, SOFT, BLUE, GREEN, RED = "#1c1d1f", "#6b6f76", "#2463ab", "#2a9d5c", "#d1383d"


def box(
    axes: Axes, x: float, y: float, width: float, height: float, title: str, lines: tuple[str, ...] = (),
    colour: str = INK, fill: str = "white",
) -> None:  # fmt: skip
    """A box with a title and lines under it."""
    axes.add_patch(
        FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0,rounding_size=0.12", fc=fill, ec=colour, lw=1.4)
    )
    axes.text(x + 0.16, y + height - 0.17, title, va="top", fontsize=10, color=colour, weight="bold")
    for i, line in enumerate(lines):
        axes.text(x + 0.16, y + height - 0.52 - 0.29 * i, line, va="top", fontsize=8.4, color=INK)


def arrow(
    axes: Axes, start: Point, end: Point, text: str = "", colour: str = BLUE, dy: float = 0.09, style: str = "-|>"
) -> None:
    """An arrow with words over it."""
    axes.annotate("", end, start, arrowprops={"arrowstyle": style, "color": colour, "lw": 1.5})
    axes.text((start[0] + end[0]) / 2, (start[1] + end[1]) / 2 + dy, text, ha="center", fontsize=8.2, color=colour)


def main() -> None:
    """Draw."""
    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "oleander", "font.size": 9})
    figure, axes = plt.subplots(figsize=(11.2, 5.1))
    axes.set(xlim=(0, 14), ylim=(0, 6.4))
    axes.axis("off")
    box(axes, 0.1, 0.5, 5.6, 5.4, "python server.py", colour=SOFT, fill="#fafafa")
    box(axes, 0.35, 3.6, 2.5, 1.75, "server", ("strategy, scores,", "records, table", "(this process)"), BLUE)
    box(axes, 0.35, 0.8, 2.5, 1.75, "SuperLink", ("Flower's own,", "on loopback only", "(child process)"))
    box(axes, 3.55, 0.8, 1.95, 4.55, "gate", GATE, GREEN)
    arrow(axes, (1.6, 3.58), (1.6, 2.57), "", style="<|-|>")
    axes.text(1.72, 3.02, "control, runtime", fontsize=8.2, color=BLUE)
    arrow(axes, (2.87, 1.65), (3.53, 1.65), "", style="<|-|>")
    rows = (
        (4.42, GREEN, "client 5", ("one warm process: images,", "model and PyTorch stay")),
        (2.66, RED, "client 0, malicious", ("the same; poisons its images,", "sends what it likes")),
        (0.9, GREEN, "client 1 …", ("one warm process: images,", "model and PyTorch stay")),
    )
    for y, colour, name, lines in rows:
        box(axes, 10.6, y, 3.3, 1.45, "python -m clients", (name, *lines), colour)
    for y, text, colour, style in (
        (5.35, "who are you?  number, versions, hash of its images", SOFT, "<|-|>"),
        (4.75, "anything for me?  every moment; alive?  every 4 s", SOFT, "<|-|>"),
        (3.75, "global model, round, settings: 11 MB", BLUE, "<|-"),
        (3.0, "any update at all: that is the experiment", RED, "-|>"),
        (2.0, "global model, round, settings: 11 MB", BLUE, "<|-"),
        (1.3, "local model, loss: 11 MB, signed by client-1.key", GREEN, "-|>"),
    ):
        arrow(axes, (10.5, y), (5.8, y), text, colour, 0.09, style)
    axes.text(8.15, 6.05, "the network, under TLS", ha="center", fontsize=9, color=SOFT)
    arrow(axes, (10.5, 0.3), (5.8, 0.3), "", RED, style="-[, widthB=0.5")
    axes.text(10.6, 0.3, "start-run, register-node, strange keys, other", fontsize=8.2, color=RED, va="bottom")
    axes.text(10.6, 0.3, "names, replies of 1 GB: refused, and told", fontsize=8.2, color=RED, va="top")
    here = Path(__file__).parent
    figure.savefig(here / "wire.svg", bbox_inches="tight", metadata={"Date": None})
    figure.savefig(here / "wire.png", bbox_inches="tight", dpi=140)


if __name__ == "__main__":
    main()
