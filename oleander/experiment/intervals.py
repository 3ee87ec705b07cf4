"""Means over seeds and what is known of them: the single values and their range, and from five seeds on an interval.

MTA and ASR are shares. Student's interval may reach beyond 0 and 1 (75.3 ± 223.8 %), so theirs is Student's on the logit of the
mean. Why this one, and how often it covers the true mean: ``docs/definitions.md``, "Intervals"; ``benchmarks/coverage.py``.
Settings are compared seed by seed, since equal seeds share partition, selection and starting model.
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from scipy.special import expit, logit, stdtr, stdtrit  # scipy.stats would take a second more to import

LEVEL = 0.95
ENOUGH = 5
"""Seeds from which on an interval is given; of fewer, the values and their range."""
MOST_DECIMALS = 4


@dataclass(frozen=True)
class Interval:
    """The mean of at least one value, and the ends of an interval for the true mean, where one is given."""

    values: tuple[float, ...]
    low: float | None = None
    """None where no interval is given: for too few values, and for equal ones, whose spread nobody knows."""
    high: float | None = None

    @property
    def mean(self) -> float:
        """Arithmetic mean."""
        return self.values[0] if self.alike else statistics.fmean(self.values)

    @property
    def n(self) -> int:
        """How many values."""
        return len(self.values)

    @property
    def least(self) -> float:
        """Lower end of the values' range."""
        return min(self.values)

    @property
    def greatest(self) -> float:
        """Upper end of the values' range."""
        return max(self.values)

    @property
    def alike(self) -> bool:
        """Whether all values are equal: then they say nothing of how far another seed may be off."""
        return self.least == self.greatest

    @property
    def span(self) -> tuple[float, float]:
        """What a figure draws as a bar or a band: the interval, where none is given the values' range."""
        return (self.least, self.greatest) if self.low is None or self.high is None else (self.low, self.high)


def interval(shares: Sequence[float]) -> Interval:
    """Mean of shares from 0 to 1, from five on with a 95 % interval inside 0 to 1: Student's on the logit of the mean.

    logit(m) ± t(n-1) · s / (√n · m (1 - m)), mapped back (the delta method).
    """
    found = Interval(tuple(shares))
    if found.least < 0 or found.greatest > 1:
        raise ValueError(f"shares from 0 to 1 are wanted, not {found.least} to {found.greatest}")
    if found.n < ENOUGH or found.alike:
        return found
    middle, half = logit(found.mean), _half_width(found.values) / (found.mean * (1 - found.mean))
    return Interval(found.values, float(expit(middle - half)), float(expit(middle + half)))


def student(values: Sequence[float]) -> Interval:
    """Mean of any numbers (norms, seconds), from two different ones on with Student's 95 % interval: mean ± t(n-1) · s / √n."""
    found = Interval(tuple(values))
    if found.alike:
        return found
    half = _half_width(found.values)
    return Interval(found.values, found.mean - half, found.mean + half)


def _half_width(values: Sequence[float]) -> float:
    n = len(values)
    return float(stdtrit(n - 1, (1 + LEVEL) / 2)) * statistics.stdev(values) / math.sqrt(n)


@dataclass(frozen=True)
class Paired:
    """One setting's shares minus another's, seed by seed."""

    seeds: tuple[int, ...]
    """Those that both have finished; only they count."""
    difference: Interval
    """From -1 to 1. Its ends are Student's of the differences, cut at -1 and 1."""
    p: float | None
    """Of the two-sided paired t test that the true difference is 0; None for fewer than five pairs, and where all differ by the
    same, which leaves nothing to test by. It is below 0.05 just where the interval leaves 0 out."""


def paired(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Paired | None:
    """What two settings differ by on the seeds that they share (seed → share); None where they share none."""
    seeds = tuple(sorted(ours.keys() & theirs.keys()))
    if not seeds:
        return None
    found = Interval(tuple(round(ours[seed] - theirs[seed], 12) for seed in seeds))  # equal but for rounding is equal
    if found.n < ENOUGH:
        return Paired(seeds, found, None)
    if found.alike:
        return Paired(seeds, found, 1.0 if found.mean == 0 else None)
    wide = student(found.values)
    assert wide.low is not None and wide.high is not None
    cut = Interval(found.values, max(-1.0, wide.low), min(1.0, wide.high))
    t = found.mean / (statistics.stdev(found.values) / math.sqrt(found.n))
    return Paired(seeds, cut, float(2 * stdtr(found.n - 1, -abs(t))))


def holm(ps: Sequence[float | None], comparisons: int | None = None) -> list[float | None]:
    """The same p values corrected by Holm's step-down method (1979); None stays None.

    Args:
        ps: of one family of comparisons.
        comparisons: how many there are (default: those that have a p value).
    """
    known = sorted((p, place) for place, p in enumerate(ps) if p is not None)
    count = len(known) if comparisons is None else comparisons
    corrected: list[float | None] = [None] * len(ps)
    least = 0.0
    for rank, (p, place) in enumerate(known):
        least = corrected[place] = max(least, min(1.0, (count - rank) * p))
    return corrected


def shown(value: Interval | None, signed: bool = False) -> str:
    """Shares in percent: ``75.3 [70.1, 79.8]``, of fewer than five ``75.3 (70.1–80.2)``, of equal ones ``100.0 (all 5 alike)``.

    Args:
        value: of ``interval``, or of ``paired``.
        signed: with a sign, as differences are shown.
    """
    if value is None:
        return "–"
    if value.n == 1:
        return in_percent(value.mean, 1, signed)
    if value.alike:
        return f"{in_percent(value.mean, 1, signed)} (all {value.n} alike)"
    decimals = decimals_for(value)
    mean, low, high = (in_percent(share, decimals, signed) for share in (value.mean, *value.span))
    return f"{mean} ({low}{' to ' if signed else '–'}{high})" if value.low is None else f"{mean} [{low}, {high}]"


def signs_of(found: Iterable[Interval | None]) -> list[str]:
    """What stands behind the means that ``shown`` shows, a sentence for each form that occurs."""
    several = [value for value in found if value is not None and value.n > 1]
    said = []
    if any(value.low is not None for value in several):
        said.append("[low, high]: 95 % interval of the mean over the seeds.")
    if any(value.low is None and not value.alike for value in several):
        said.append(f"(least–greatest): the range of fewer than {ENOUGH} seeds, too few for an interval.")
    if alike := [value.n for value in several if value.alike]:
        others = 1 - (1 - LEVEL) ** (1 / min(alike))
        said.append(
            f"All alike: no interval, for equal values show no spread; {min(alike)} alike leave open that up to "
            f"{100 * others:.0f} % of all seeds end otherwise."
        )
    return said


def ends_are(seeds: int) -> str:
    """What ``span`` is for so many seeds, in words."""
    return "95 % interval" if seeds >= ENOUGH else "range"


def decimals_for(value: Interval) -> int:
    """One, or as many as it takes (at most four) for the two ends not to look like one number."""
    low, high = value.span
    apart = (d for d in range(1, MOST_DECIMALS) if in_percent(low, d) != in_percent(high, d))
    return next(apart, MOST_DECIMALS) if low != high else 1


def in_percent(share: float, decimals: int = 1, signed: bool = False) -> str:
    """A share in percent without its sign; with ``signed`` the plus or minus of a difference."""
    text = f"{abs(100 * share):.{decimals}f}"
    if float(text) == 0:
        return text
    return ("−" if share < 0 else "+" * signed) + text


def p_shown(p: float | None) -> str:
    """A p value to three decimals."""
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
