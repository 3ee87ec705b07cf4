"""Every update, client by client and round by round: how long it was, and how far it pointed where the aggregate does."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from oleander.experiment.records import RoundRecord
from oleander.reports import findings
from oleander.reports.style import INK, MALICIOUS, WIDTH, cell_numbers, headed, subplots
from oleander.system.numbers import count, fixed, significant, trimmed

MOST_CLIENTS = 120
MOST_NUMBERED = 12
"""Rows and columns whose cells have their numbers in them."""


def draw_updates(rounds: Sequence[RoundRecord], run: str) -> Figure | None:
    """Norms and cosines, a row a client, a column a round; None of a run that kept no cosines."""
    if not any(record.cosines for record in rounds):
        return None
    bad = {c for r in rounds for c, malicious in zip(r.client_ids, r.malicious, strict=True) if malicious}
    everybody = sorted({c for r in rounds for c in r.client_ids})
    shown = [*(c for c in everybody if c in bad), *(c for c in everybody if c not in bad)][:MOST_CLIENTS]
    height = min(0.24 * len(shown) + 0.5, 3.4)
    figure, grid = subplots(2, 1, figsize=(WIDTH, 2 * height + 1.2), sharex=True)
    norms, cosines = _table(rounds, shown, "norms_before"), _table(rounds, shown, "cosines")
    positive = norms[np.isfinite(norms) & (norms > 0)]
    wide = positive.size and positive.max() > 20 * positive.min()
    scale: Normalize = (
        LogNorm(positive.min(), positive.max()) if wide else Normalize(0, norms[np.isfinite(norms)].max(initial=1e-9))
    )
    what = "norm ‖Δ‖₂ as sent" + " (log scale)" * bool(wide)
    _cells(figure, grid[0], norms, shown, bad, "Purples", scale, what, significant)
    what, scale = "cosine to the aggregate", Normalize(-1, 1)
    _cells(figure, grid[1], cosines, shown, bad, "PRGn", scale, what, lambda cosine: fixed(cosine, 2))
    numbers = [record.round for record in rounds]
    step = -(-len(numbers) // 15)
    grid[1].set_xticks(range(0, len(numbers), step), [str(n) for n in numbers[::step]])
    grid[1].set_xlabel("round; blank: not selected")
    unshown = len(everybody) - len(shown)
    left = f" Not shown: {count(unshown, 'more client')}." if unshown else ""
    headed(figure, findings.of_cosines(rounds), run + "." + left)
    return figure


def _table(rounds: Sequence[RoundRecord], clients: list[int], which: str) -> np.ndarray:
    """(clients, rounds), NaN where one took no part."""
    table = np.full((len(clients), len(rounds)), np.nan)
    place = {client: row for row, client in enumerate(clients)}
    for column, record in enumerate(rounds):
        values = getattr(record, which) or [None] * len(record.client_ids)
        for client, value in zip(record.client_ids, values, strict=True):
            if client in place and value is not None:
                table[place[client], column] = value
    return table


def _cells(
    figure: Figure, axes: Axes, table: np.ndarray, clients: list[int], bad: set[int], colours: str, scale: Normalize,
    what: str, form: Callable[[float], str],
) -> None:  # fmt: skip
    image = axes.imshow(np.ma.masked_invalid(table), aspect="auto", cmap=colours, norm=scale, interpolation="nearest")
    if max(table.shape) <= MOST_NUMBERED:
        cell_numbers(axes, image, table, form, size=7)
    bar = figure.colorbar(image, ax=axes, pad=0.015, aspect=14)
    bar.minorticks_off()
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: trimmed(value)))
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7.5)
    axes.grid(visible=False)
    axes.set_title(what, fontsize=9, loc="left")
    label_clients(axes, clients, bad)


def label_clients(axes: Axes, clients: list[int], bad: set[int], most: int = 24) -> None:
    """Clients' numbers along the rows, malicious ones orange with a star; of many, how many there are of either."""
    axes.set_ylabel("client (* malicious)" if bad & {*clients} else "client")
    if len(clients) <= most:
        axes.set_yticks(range(len(clients)), [f"{c}*" if c in bad else str(c) for c in clients], fontsize=8)
        for client, label in zip(clients, axes.get_yticklabels(), strict=True):
            label.set(color=MALICIOUS if client in bad else INK, fontweight="bold" if client in bad else "normal")
        return
    first = sum(client in bad for client in clients)
    ends: list[tuple[float, str, Any]] = [((first + len(clients) - 1) / 2, f"{len(clients) - first} benign", INK)]
    if first:
        axes.axhline(first - 0.5, color=MALICIOUS, lw=1.2)
        ends.insert(0, ((first - 1) / 2, f"{first} malicious*", MALICIOUS))
    axes.set_yticks([at for at, *_ in ends], [name for _, name, _ in ends], fontsize=8, rotation=90, va="center")
    for (*_, colour), label in zip(ends, axes.get_yticklabels(), strict=True):
        label.set_color(colour)
    axes.set_ylabel("")
