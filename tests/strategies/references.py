"""Krum's scores and single linkage in plain Python, for the tests of rules that rest on them."""

from collections.abc import Sequence

import numpy as np


def krum_scores(deltas: np.ndarray, f: int) -> list[float]:
    """Straight from the paper, pair by pair in Python floats."""
    rows = [[float(v) for v in row] for row in deltas]
    scores = []
    for i, row in enumerate(rows):
        distances = sorted(
            sum((a - b) ** 2 for a, b in zip(row, other, strict=True)) for j, other in enumerate(rows) if j != i
        )
        scores.append(sum(distances[: len(rows) - f - 2]))
    return scores


def single_linkage(distances: Sequence[Sequence[float]]) -> list[int]:
    """What HDBSCAN comes to where a core distance is that to the nearest other, and no two clusters fit, of distances (n, n).

    Of the clients those fall off that the longest gap separates, as long as more than half stay together.
    """

    def parts(members: list[int], gap: float) -> list[list[int]]:
        left, found = set(members), []
        while left:
            group, edge = set(), {left.pop()}
            while edge:
                group |= edge
                edge = {j for j in left if any(distances[i][j] < gap for i in edge)}
                left -= edge
            found.append(sorted(group))
        return found

    n = len(distances)
    members = list(range(n))
    while True:
        gaps = sorted({distances[i][j] for i in members for j in members if i < j})
        gap = max(g for g in gaps if len(parts(members, g)) > 1)
        largest = max(parts(members, gap), key=len)
        if len(largest) < n // 2 + 1:
            return members
        members = largest
