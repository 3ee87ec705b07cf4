"""How often 95 % intervals of a mean over a few seeds cover the true mean, by method: which one MTA and ASR are given with.

    python -m benchmarks.coverage            # some half a minute; its figures are in docs/definitions.md, "Intervals"

The distributions over seeds are made up after what runs of this program gave: steady and unsteady accuracies, broken models,
rates near their ends, and rates that are near 0 in some seeds and near 100 % in others. Shares are of 9,000 images.
"""

import argparse
import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from oleander.experiment.intervals import interval

Values = NDArray[np.float64]
Ends = tuple[Values, Values]
IMAGES = 9000
RESAMPLES = 1999


def beta(mean: float, deviation: float) -> tuple[Callable[[np.random.Generator, tuple[int, int]], Values], float]:
    """A beta distribution of this mean and standard deviation."""
    sum_ = mean * (1 - mean) / deviation**2 - 1
    return lambda rng, size: rng.beta(mean * sum_, (1 - mean) * sum_, size), mean


def clusters(share: float) -> tuple[Callable[[np.random.Generator, tuple[int, int]], Values], float]:
    """Near 100 % in so many seeds, near 0 in the others."""

    def draw(rng: np.random.Generator, size: tuple[int, int]) -> Values:
        return np.where(rng.random(size) < share, rng.beta(50, 1, size), rng.beta(1, 30, size))

    return draw, share * 50 / 51 + (1 - share) / 31


DISTRIBUTIONS = {
    "MTA, steady: 77 %, deviation 1.2": beta(0.77, 0.012),
    "MTA, unsteady: 65 %, deviation 12": beta(0.65, 0.12),
    "MTA, broken: 15 %, deviation 7": (lambda rng, size: 0.1 + 0.9 * rng.beta(0.5, 8, size), 0.1 + 0.9 * 0.5 / 8.5),
    "ASR, at 100 % in most seeds": (lambda rng, size: rng.beta(50, 0.1, size), 50 / 50.1),
    "ASR, high: 95 %, deviation 4.5": (lambda rng, size: rng.beta(20, 1, size), 20 / 21),
    "ASR, low: 2.4 %, deviation 3.3": (lambda rng, size: rng.beta(0.5, 20, size), 0.5 / 20.5),
    "ASR, anywhere: 40 %, deviation 24": (lambda rng, size: rng.beta(1.2, 1.8, size), 0.4),
    "ASR, two clusters, 60 : 40": clusters(0.6),
    "ASR, two clusters, 90 : 10": clusters(0.9),
    "ASR, exactly 100 %, 1 seed in 20 at 0": (lambda rng, size: np.where(rng.random(size) < 0.95, 1.0, 0.0), 0.95),
}


def student(shares: Values) -> Ends:
    """Student's interval, which may reach beyond 0 and 1: rows are studies, columns seeds."""
    mean, error = shares.mean(1), stats.sem(shares, axis=1)
    return stats.t.interval(0.95, shares.shape[1] - 1, loc=mean, scale=error)  # type: ignore[no-any-return]


def cut(shares: Values) -> Ends:
    """The same, cut at 0 and 1."""
    low, high = student(shares)
    return low.clip(0, 1), high.clip(0, 1)


def ours(shares: Values) -> Ends:
    """Student's on the logit of the mean, as this program gives it."""
    found = [interval(row) for row in shares.tolist()]
    return np.array([one.low for one in found]), np.array([one.high for one in found])


def each(shares: Values) -> Ends:
    """Student's of the values' logits."""
    logits = stats.logistic.ppf((shares * IMAGES + 0.5) / (IMAGES + 1))
    low, high = student(logits)
    return stats.logistic.cdf(low), stats.logistic.cdf(high)


def bootstrap(method: str, shares: Values) -> Ends:
    """The bootstrap, as scipy has it."""
    found = stats.bootstrap(
        (shares,), np.mean, axis=1, vectorized=True, n_resamples=RESAMPLES, batch=200, method=method,
        rng=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    return found.low, found.high


METHODS = {
    "t": student, "t, cut": cut, "logit of mean": ours, "mean of logits": each, "BCa": partial(bootstrap, "BCa"),
    "percentile": partial(bootstrap, "percentile"),
}  # fmt: skip


def coverage(
    name: str, seeds: int, studies: int, methods: dict[str, Callable[[Values], Ends]]
) -> tuple[list[str], float]:
    """Of each method the percentage that covers and the mean width in points; and the share of studies whose seeds are all alike.

    Those are left out of the rest: no interval is given for them.
    """
    draw, true = DISTRIBUTIONS[name]
    shares = np.round(draw(np.random.default_rng(0), (studies, seeds)) * IMAGES) / IMAGES
    alike = shares.max(1) == shares.min(1)
    cells = []
    for method in methods.values():
        low, high = method(shares[~alike])
        cells.append(f"{100 * np.mean((low <= true) & (true <= high)):.0f} ({100 * np.mean(high - low):.1f})")
    return cells, float(alike.mean())


def main() -> None:
    """Print a table for five seeds and one for ten."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2000, help="made up for each distribution")
    studies = parser.parse_args().studies
    warnings.simplefilter("ignore")  # of the bootstrap, where a resample has no spread
    for seeds in (5, 10):
        print(f"\n{seeds} seeds, {studies} studies: covered, % (mean width, points)\n")
        print("| values over seeds | " + " | ".join(METHODS) + " | all alike, % |\n|" + "---|" * (len(METHODS) + 2))
        for name in DISTRIBUTIONS:
            cells, alike = coverage(name, seeds, studies, METHODS)
            print(f"| {name} | " + " | ".join(cells) + f" | {100 * alike:.0f} |", flush=True)


if __name__ == "__main__":
    main()
