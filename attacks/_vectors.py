"""What attackers who see a round's updates work out of them: mean, deviations and inner products, in float64 and block by block."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from oleander.learning.parameters import FloatArray
from oleander.system.errors import UserError

BLOCK = 2**16
"""Columns at a time, so that no float64 copy of all updates is made."""


def blocks(width: int) -> Iterator[slice]:
    """The columns of ``width``, block by block."""
    return (slice(start, start + BLOCK) for start in range(0, width, BLOCK))


def mean_of(rows: FloatArray) -> NDArray[np.float64]:
    """(n, d) → (d,) mean of the rows."""
    return np.mean(rows, axis=0, dtype=np.float64)


def deviation_of(rows: FloatArray) -> NDArray[np.float64]:
    """(n, d) → (d,) deviation of the rows, with n - 1."""
    parts = [np.std(rows[:, part], axis=0, ddof=1, dtype=np.float64) for part in blocks(rows.shape[1])]
    return np.concatenate(parts) if parts else np.zeros(0)


def products(rows: FloatArray, centre: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, d) rows and (d,) centre → (n, n) inner products of the rows less the centre."""
    total = np.zeros((len(rows), len(rows)))
    for part in blocks(rows.shape[1]):
        away = rows[:, part] - centre[part]  # (n, b) float64
        total += away @ away.T
    return total


def check_seen(attack: str, knows: str, clients: int, malicious: int) -> None:
    """Refuse an attack on two updates or more whose attackers can never see so many.

    Raises:
        UserError: names the numbers.
    """
    if knows == "own" and malicious == 1:
        raise UserError(
            f"--attack {attack}: malicious = 1; with --{attack.replace('_', '-')}-knows own it takes 2 or more, whose updates differ"
        )
    if knows == "all" and clients - malicious < 2 and malicious:
        raise UserError(
            f"--attack {attack}: {malicious} of {clients} clients are malicious, and it takes 2 honest ones or more, whose "
            "updates differ"
        )
