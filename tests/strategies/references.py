"""Krum's scores in plain Python, for the tests of Krum and of Multi-Krum."""

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
