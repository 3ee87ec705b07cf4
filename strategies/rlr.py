"""Robust learning rate: the aggregate is turned round in coordinates where too few clients agree on its direction.

Özdayi, Kantarcioglu, Gel 2021, "Defending against Backdoors in Federated Learning with Robust Learning Rate" (AAAI;
arXiv 2007.03767). Theirs behind plain averaging; ours behind any rule, by the signs of the updates as that rule saw them. Statistics
are put through the same, coordinate by coordinate. A network with batch norm may fall to chance under it.
"""

from dataclasses import replace

import numpy as np

from oleander.learning.parameters import FloatArray
from oleander.learning.updates import Aggregate, Cohort
from oleander.settings.ranges import Count
from strategies import RuleError
from strategies._sums import by_columns


def rlr(aggregate: Aggregate, cohort: Cohort, *, rlr_threshold: Count = 4) -> Aggregate:
    """Negate the aggregate in coordinates where the updates' signs add up to less than θ (Özdayi et al. 2021).

    Args:
        aggregate: of the rule, or of the finish before.
        cohort: n updates, as the rule saw them.
        rlr_threshold: Least sum of signs, θ, that keeps a coordinate as it is (1 to n; the paper: 4 of 10).

    Raises:
        RuleError: θ > n.
    """
    n, least = len(cohort), rlr_threshold
    if least > n:
        raise RuleError(
            f"rlr would negate everything: n updates' signs add up to n at most, but theta = {least} and n = {n}"
        )
    return replace(
        aggregate,
        delta=_turned(aggregate.delta, cohort.deltas, least),
        statistics=_turned(aggregate.statistics, cohort.statistics, least),
    )


def _turned(values: FloatArray, rows: FloatArray, least: int) -> FloatArray:
    """(d,), (n, d) → (d,)"""
    result = values.copy()

    def part(block: slice) -> None:
        signs = np.sum(rows[:, block] > 0, axis=0) - np.sum(rows[:, block] < 0, axis=0)  # (≤ width,) whole numbers
        np.negative(result[block], out=result[block], where=np.abs(signs) < least)

    by_columns(len(values), part)
    return result
