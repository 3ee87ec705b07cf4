"""Means with their uncertainty: Student's t interval over repeats that differ in their seed."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import stdtrit  # scipy.stats would take a second more to import

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """Mean of n values and the interval that covers the true mean with a probability of LEVEL, if values are normal.

    MTA and ASR are shares: near 0 and 1 they are not normal, and the interval may reach beyond; it is shown as it is, and
    the single values beside it.
    """

    mean: float
    half_width: float | None
    """None for a single value, of whose spread nothing is known."""
    n: int

    @property
    def low(self) -> float:
        """Lower end; the mean itself without a spread."""
        return self.mean - (self.half_width or 0.0)

    @property
    def high(self) -> float:
        """Upper end."""
        return self.mean + (self.half_width or 0.0)


def interval(values: Sequence[float]) -> Interval:
    """Mean and 95 % interval of at least one value: mean ± t(n-1) · s / √n."""
    n, mean = len(values), statistics.fmean(values)
    if n < 2:
        return Interval(mean, None, n)
    spread = statistics.stdev(values)
    return Interval(mean, float(stdtrit(n - 1, (1 + LEVEL) / 2)) * spread / math.sqrt(n), n)


def shown(value: Interval | None) -> str:
    """An interval of shares in percent."""
    if value is None:
        return "–"
    return f"{100 * value.mean:.1f}" + ("" if value.half_width is None else f" ± {100 * value.half_width:.1f}")
