"""What each rule gives, by its definition, in exact arithmetic: fractions, and roots and logarithms to sixty digits.

Nothing here is taken from the rules of ``strategies/``, and nothing of them is imported. Each function takes a cohort and settings
and returns every result that the paper allows: where it leaves a tie open, one for each way to break it, the first with ties to
the lowest client. Where a rule cannot be computed it raises ``Refused``.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from fractions import Fraction

DIGITS = 60
MOST_WAYS = 200
"""Ways to break a tie that are listed."""

Vector = list[Fraction]


class Refused(Exception):
    """The rule is not defined for this cohort: the bound that it breaks."""


@dataclass(frozen=True)
class Given:
    """A cohort: n updates of d numbers, and what some rules want beside them."""

    updates: list[Vector]
    examples: list[int]
    server_update: Vector | None = None
    """What the server's own training comes to."""
    output_layer: tuple[int, int] | None = None
    """First number of the output layer, and one past its last."""
    global_model: Vector | None = None
    """G, which the updates are changes of."""


@dataclass(frozen=True)
class Result:
    """An aggregate (d,) and the influence (n,) that each client has in it; None: the paper gives none."""

    aggregate: Vector
    influence: list[Fraction] | None = field(default=None)


Rule = Callable[..., list[Result]]


# ---- arithmetic ---------------------------------------------------------------------------------------------------------


def root(number: Fraction) -> Fraction:
    """The square root, to DIGITS digits at least."""
    if number == 0:
        return Fraction(0)
    size = len(str(number.numerator)) - len(str(number.denominator))
    scale = 10 ** (2 * (DIGITS + max(0, -size)))
    return Fraction(math.isqrt(number.numerator * scale // number.denominator), math.isqrt(scale))


def logarithm(number: Fraction) -> Fraction:
    """The natural logarithm, to about DIGITS digits."""
    with localcontext() as context:
        context.prec = DIGITS + 10
        return Fraction((Decimal(number.numerator) / Decimal(number.denominator)).ln())


def minus(a: Vector, b: Vector) -> Vector:
    """Their difference."""
    return [x - y for x, y in zip(a, b, strict=True)]


def times(factor: Fraction, a: Vector) -> Vector:
    """A multiple."""
    return [factor * x for x in a]


def product(a: Vector, b: Vector) -> Fraction:
    """The inner product."""
    return sum((x * y for x, y in zip(a, b, strict=True)), Fraction(0))


def square(a: Vector) -> Fraction:
    """The squared length."""
    return product(a, a)


def weighted(rows: list[Vector], weights: list[Fraction]) -> Vector:
    """Σ weight · row."""
    return [
        sum((w * x for w, x in zip(weights, column, strict=True)), Fraction(0)) for column in zip(*rows, strict=True)
    ]


def mean(rows: list[Vector]) -> Vector:
    """The plain mean."""
    return weighted(rows, [Fraction(1, len(rows))] * len(rows))


def median_of(values: list[Fraction]) -> Fraction:
    """The middle one; of an even number the mean of the two in the middle."""
    ordered, n = sorted(values), len(values)
    return (ordered[(n - 1) // 2] + ordered[n // 2]) / 2


def cosine(a: Vector, b: Vector) -> Fraction:
    """Of the angle between two vectors; 0 where one of them is 0."""
    lengths = root(square(a) * square(b))
    return product(a, b) / lengths if lengths else Fraction(0)


def least(scores: list[Fraction], count: int) -> list[list[int]]:
    """Every choice of ``count`` with the lowest scores, ties in all ways; the first has ties to the lowest."""
    order = sorted(range(len(scores)), key=lambda i: (scores[i], i))
    bound = scores[order[count - 1]]
    sure = [i for i in range(len(scores)) if scores[i] < bound]
    tied = [i for i in range(len(scores)) if scores[i] == bound]
    ways = itertools.combinations(tied, count - len(sure))
    return [sorted(sure + list(way)) for way in itertools.islice(ways, MOST_WAYS)]


def share(n: int, chosen: list[int]) -> list[Fraction]:
    """1/m for the m that were chosen, 0 for the others."""
    return [Fraction(i in chosen, len(chosen)) for i in range(n)]


# ---- rules that need no root --------------------------------------------------------------------------------------------


def fedavg(given: Given) -> list[Result]:
    """McMahan et al. 2017, arXiv 1602.05629: the mean, weighted with the numbers of examples."""
    weights = [Fraction(count, sum(given.examples)) for count in given.examples]
    return [Result(weighted(given.updates, weights), weights)]


def krum_scores(rows: list[Vector], neighbours: int) -> list[Fraction]:
    """Of each the sum of the squared distances to so many nearest others."""
    distances = [[square(minus(a, b)) for b in rows] for a in rows]
    return [sum(sorted(row[:i] + row[i + 1 :])[:neighbours], Fraction(0)) for i, row in enumerate(distances)]


def krum(given: Given, *, f: int) -> list[Result]:
    """Blanchard et al. 2017, "Machine Learning with Adversaries" (NeurIPS): n − f − 2 neighbours, n ≥ 2f + 3."""
    return multi_krum(given, f=f, m=1)


def multi_krum(given: Given, *, f: int, m: int) -> list[Result]:
    """The same paper, section 4: the mean of the m updates with the lowest scores."""
    n = len(given.updates)
    if n < 2 * f + 3:
        raise Refused("n >= 2f + 3")
    if not 1 <= m <= n:
        raise Refused("1 <= m <= n")
    ways = least(krum_scores(given.updates, n - f - 2), m)
    return [Result(mean([given.updates[i] for i in way]), share(n, way)) for way in ways]


def median(given: Given) -> list[Result]:
    """Yin et al. 2018, arXiv 1803.01498, option I: the median of each coordinate."""
    return [Result([median_of(list(column)) for column in zip(*given.updates, strict=True)])]


def trimmed_mean(given: Given, *, trim: int) -> list[Result]:
    """The same paper, option II: of each coordinate the mean without the ``trim`` largest and smallest; n > 2 trim."""
    n = len(given.updates)
    if n <= 2 * trim:
        raise Refused("n > 2 trim")
    columns = [sorted(column)[trim : n - trim] for column in zip(*given.updates, strict=True)]
    return [Result([sum(column, Fraction(0)) / len(column) for column in columns])]


def nnm(given: Given, *, f: int) -> list[Result]:
    """Allouah et al. 2023, arXiv 2302.01772: each row the mean of the n − f nearest to it, itself among them; then the plain mean."""
    n, rows = len(given.updates), given.updates
    if n <= f:
        raise Refused("n > f")
    shares = []
    for i in range(n):
        distances = [Fraction(-1) if j == i else square(minus(rows[i], rows[j])) for j in range(n)]
        ways = least(distances, n - f)
        if len({tuple(mean([rows[j] for j in way])) for way in ways}) > 1:
            raise NotImplementedError("a tie between neighbours that are not equal: no vector")
        shares.append(share(n, ways[0]))
    influence = mean(shares)
    return [Result(weighted(rows, influence), influence)]


def rlr(given: Given, *, threshold: int) -> list[Result]:
    """Özdayi et al. 2021, arXiv 2007.03767: the weighted mean, negated where |Σ sgn| is below the threshold."""
    if threshold > len(given.updates):
        raise Refused("threshold <= n")
    before = fedavg(given)[0]
    signs = [sum((x > 0) - (x < 0) for x in column) for column in zip(*given.updates, strict=True)]
    turned = [x if abs(sign) >= threshold else -x for x, sign in zip(before.aggregate, signs, strict=True)]
    return [Result(turned, before.influence)]


def bulyan(given: Given, *, f: int, theta: int) -> list[Result]:
    """El Mhamdi et al. 2018, arXiv 1802.07927: θ times Krum's winner among those that are left, each with its max(1, k − f − 2)
    nearest of the k; then of each coordinate the mean of the θ − 2f values nearest to the median. n ≥ 4f + 3.
    """
    n = len(given.updates)
    if n < 4 * f + 3:
        raise Refused("n >= 4f + 3")
    results: list[Result] = []
    for way in selections(given.updates, f, theta):
        aggregate = []
        for column in zip(*(given.updates[i] for i in way), strict=True):
            middle, beta = median_of(list(column)), theta - 2 * f
            nearest = sorted((abs(x - middle), x) for x in column)
            if beta < theta and nearest[beta - 1][0] == nearest[beta][0] and nearest[beta - 1][1] != nearest[beta][1]:
                raise NotImplementedError("a tie around the median: no vector")
            aggregate.append(sum((x for _, x in nearest[:beta]), Fraction(0)) / beta)
        results.append(Result(aggregate))
    return results


def selections(rows: list[Vector], f: int, theta: int) -> list[list[int]]:
    """What Bulyan may select, ties in all ways, the first with ties to the lowest. (Where each of those left has one neighbour, the
    two that are nearest to each other tie.)
    """
    ways: list[list[int]] = [[]]
    for _ in range(theta):
        longer: dict[frozenset[int], list[int]] = {}
        for way in ways:
            left = [i for i in range(len(rows)) if i not in way]
            scores = krum_scores([rows[i] for i in left], max(1, len(left) - f - 2))
            for i, score in zip(left, scores, strict=True):
                if score == min(scores):
                    longer.setdefault(frozenset([*way, i]), [*way, i])
        ways = list(longer.values())[:MOST_WAYS]
    return ways


# ---- rules with lengths and angles --------------------------------------------------------------------------------------


def clip(given: Given, *, bound: str) -> list[Result]:
    """Sun et al. 2019, arXiv 1911.07963: Δ · min(1, M / ‖Δ‖), then the weighted mean; M a number or the norms' median."""
    norms = [root(square(row)) for row in given.updates]
    most = median_of(norms) if bound == "median" else Fraction(bound)
    clipped = [times(min(Fraction(1), most / norm) if norm else Fraction(1), row)
               for row, norm in zip(given.updates, norms, strict=True)]  # fmt: skip
    return fedavg(Given(clipped, given.examples))


def centred_clip(given: Given, *, tau: str, iterations: int) -> list[Result]:
    """Karimireddy et al. 2021, arXiv 2012.10333, first round (v = 0): v ← v + mean of (Δ − v) · min(1, τ / ‖Δ − v‖)."""
    centre = [Fraction(0)] * len(given.updates[0])
    for _ in range(iterations):
        apart = [minus(row, centre) for row in given.updates]
        norms = [root(square(row)) for row in apart]
        cut = [times(min(Fraction(1), Fraction(tau) / norm) if norm else Fraction(1), row)
               for row, norm in zip(apart, norms, strict=True)]  # fmt: skip
        centre = minus(centre, times(Fraction(-1), mean(cut)))
    return [Result(centre)]


def rfa(given: Given, *, iterations: int, nu: str) -> list[Result]:
    """Pillutla et al. 2019, arXiv 1912.13445: smoothed Weiszfeld steps from the weighted mean: β = α / max(ν, ‖v − Δ‖)."""
    alpha = [Fraction(count, sum(given.examples)) for count in given.examples]
    middle, weights = weighted(given.updates, alpha), alpha
    for _ in range(iterations):
        beta = [a / max(Fraction(nu), root(square(minus(middle, row))))
                for a, row in zip(alpha, given.updates, strict=True)]  # fmt: skip
        weights = [rounded(b / sum(beta)) for b in beta]
        middle = weighted(given.updates, weights)
    return [Result(middle, weights)]


def rounded(number: Fraction) -> Fraction:
    """To so many digits that nothing shows, or each step would double the length of the numbers."""
    return number.limit_denominator(10**DIGITS)


def foolsgold(given: Given, *, kappa: str) -> list[Result]:
    """Fung et al. 2020, arXiv 1808.04866, algorithm 1, first round, on the output layer; the mean with weights α / Σ α."""
    first, end = given.output_layer or (0, len(given.updates[0]))
    rows, n = [row[first:end] for row in given.updates], len(given.updates)
    similar = [
        [max(Fraction(0), cosine(a, b)) if i != j else Fraction(0) for j, b in enumerate(rows)]
        for i, a in enumerate(rows)
    ]
    similar = [[Fraction(1) if 1 - c < Fraction(1, 10**9) else c for c in row] for row in similar]
    most = [max(row) for row in similar]
    pardoned = [
        [c * most[i] / most[j] if most[i] < most[j] else c for j, c in enumerate(row)] for i, row in enumerate(similar)
    ]
    alpha = [1 - max(row) for row in pardoned]
    if not any(alpha):
        return [Result([Fraction(0)] * len(given.updates[0]), [Fraction(0)] * n)]
    alpha = [min(a / max(alpha), Fraction(99, 100)) for a in alpha]
    alpha = [min(Fraction(1), max(Fraction(0), Fraction(kappa) * (logarithm(a / (1 - a)) + Fraction(1, 2)))) if a else a
             for a in alpha]  # fmt: skip
    weights = [a / (sum(alpha) or 1) for a in alpha]
    return [Result(weighted(given.updates, weights), weights)]


def fltrust(given: Given) -> list[Result]:
    """Cao et al. 2021, arXiv 2012.13995: Σ trust (‖g₀‖ / ‖Δ‖) Δ / Σ trust, trust = max(0, cos(Δ, g₀)); nobody trusted: 0."""
    own = given.server_update
    assert own is not None
    n, length = len(given.updates), root(square(own))
    trust = [max(Fraction(0), cosine(row, own)) for row in given.updates]
    if not any(trust):
        return [Result([Fraction(0)] * len(own), [Fraction(0)] * n)]
    influence = [t / sum(trust) for t in trust]
    scaled = [times(length / root(square(row)), row) if any(row) else row for row in given.updates]
    return [Result(weighted(scaled, influence), influence)]


RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        fedavg,
        krum,
        multi_krum,
        median,
        trimmed_mean,
        nnm,
        rlr,
        bulyan,
        clip,
        centred_clip,
        rfa,
        foolsgold,
        fltrust,
    )
}
