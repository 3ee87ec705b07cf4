"""Rules that leave clients out by scores, exactly: AlignIns, Multi-Metrics, LASA, DnC, SignGuard.

As in ``exact.py``: written from the definitions, and nothing of ``strategies/`` is read or imported. Where the answer hangs on what
a definition leaves open (a share of coordinates that is no whole number, a deviation with n or n − 1), or on differences that
float64 cannot be asked to see, there is no vector: ``NotImplementedError``. A deviation of 0 is none, whatever it is divided by.
"""

import math
from decimal import Decimal, localcontext
from fractions import Fraction

from conformance.exact import (
    MOST_WAYS,
    Given,
    Refused,
    Result,
    Rule,
    Vector,
    cosine,
    least,
    mean,
    median_of,
    minus,
    product,
    root,
    share,
    square,
    times,
)

NEAR = Fraction(1, 10**9)
"""Relative difference below which two unlike numbers are too near each other for float64."""
SAME = Fraction(1, 10**40)
"""… and below which they are equal: their roots were cut off."""
APART = Fraction(1, 10**6)
"""What eigenvalues and determinants, which magnify rounding, must be apart by."""


class Undecided(NotImplementedError):
    """No vector: the definition leaves it open, or float64 does."""


def differ(a: Fraction, b: Fraction, near: Fraction = NEAR) -> bool:
    """Whether they do; what is too near to tell is undecided."""
    gap, size = abs(a - b), max(abs(a), abs(b))
    if gap <= SAME * size:
        return False
    if gap <= near * size:
        raise Undecided("numbers that decide are too near each other")
    return True


def below(a: Fraction, b: Fraction) -> bool:
    """Whether a < b; equal ones are not."""
    return differ(a, b) and a < b


def told_apart(values: list[Fraction], near: Fraction = NEAR) -> list[Fraction]:
    """The same with those that are equal made the very same; refuses such as are neither equal nor apart, beside the largest."""
    size, found = max(map(abs, values), default=Fraction(0)), dict[int, Fraction]()
    order = sorted(range(len(values)), key=lambda i: values[i])
    for before, i in zip([None, *order], order, strict=False):
        gap = values[i] - values[before] if before is not None else size
        if SAME * size < gap <= near * size:
            raise Undecided("scores are too near each other")
        found[i] = values[i] if before is None or gap > SAME * size else found[before]
    return [found[i] for i in range(len(values))]


def brief(x: Fraction) -> Fraction:
    """To some eighty digits, or numbers would become longer with every step."""
    shift = 270 - x.numerator.bit_length() + x.denominator.bit_length()
    return Fraction(round(x * Fraction(2) ** shift)) / Fraction(2) ** shift


def cut(rows: list[Vector], bound: Fraction) -> list[Vector]:
    """Each at most so long."""
    norms = [root(square(row)) for row in rows]
    return [times(min(Fraction(1), bound / norm) if norm else Fraction(1), row)
            for row, norm in zip(rows, norms, strict=True)]  # fmt: skip


def whole(part: Fraction) -> int:
    """A number of coordinates, if it is one."""
    if part.denominator != 1:
        raise Undecided("a share of the coordinates that is no whole number")
    return int(part)


def largest(row: Vector, count: int) -> list[int]:
    """Where the so many largest |x| are; a tie at the end is undecided."""
    order = sorted(range(len(row)), key=lambda j: -abs(row[j]))
    if 0 < count < len(row) and not differ(abs(row[order[count - 1]]), abs(row[order[count]])):
        raise Undecided("a tie at the end of the largest coordinates")
    return order[:count]


def sign(x: Fraction) -> int:
    """−1, 0 or 1."""
    return (x > 0) - (x < 0)


def near_median(values: list[Fraction], bound: Fraction) -> list[bool]:
    """Whether |x − median| / deviation is below the bound, where a deviation with n and one with n − 1 say the same."""
    values = told_apart(values)
    middle, n = median_of(values), len(values)
    centre = sum(values, Fraction(0)) / n
    spread = sum(((x - centre) ** 2 for x in values), Fraction(0))
    found = []
    for x in values:
        says = {x == middle or below((x - middle) ** 2 * d, bound**2 * spread) for d in {n, max(n - 1, 1)}}
        if len(says) > 1:
            raise Undecided("a deviation with n and one with n − 1 say different things")
        found.append(says.pop())
    return found


def kept_mean(rows: list[Vector], chosen: list[int], n: int) -> Result:
    """The plain mean of the rows that are kept; nobody: 0, and nobody has influence."""
    if not chosen:
        return Result([Fraction(0)] * len(rows[0]), [Fraction(0)] * n)
    return Result(mean([rows[i] for i in chosen]), share(n, chosen))


def alignins(given: Given) -> list[Result]:
    """Xu et al. 2025, arXiv 2503.07978: TDA = cos(Δ, G); MPSA = of the 30 % largest |Δ| the share whose sign is that of Σ sgn; keep
    |x − median| / std < 1 in both; cut to the kept ones' median norm; the plain mean; nobody kept: 0.
    """
    rows, n = given.updates, len(given.updates)
    assert given.global_model is not None
    if not any(map(any, rows)):
        return [kept_mean(rows, [], n)]
    if not all(map(any, rows)) or not any(given.global_model):
        raise Undecided("an update or a model of 0 has no direction")
    count = whole(Fraction(3, 10) * len(rows[0]))
    principal = [sign(Fraction(sum(map(sign, column)))) for column in zip(*rows, strict=True)]
    direction = [cosine(row, given.global_model) for row in rows]
    alike = [Fraction(sum(sign(row[j]) == principal[j] for j in largest(row, count)), count) for row in rows]
    one, other = (near_median(values, Fraction(1)) for values in (direction, alike))
    chosen = [i for i in range(n) if one[i] and other[i]]
    if not chosen:
        return [kept_mean(rows, chosen, n)]
    return [kept_mean(cut(rows, median_of([root(square(rows[i])) for i in chosen])), chosen, n)]


def lasa(given: Given) -> list[Result]:
    """Xu et al. 2025, arXiv 2409.01435: cut to the median norm; the 70 % largest coordinates of each client stay (where of the whole
    and of each layer are the same); in each layer the mean of those with |x − median| / std < 2 of norms and < 1 of Σ sgn / Σ |sgn|;
    nobody: 0 there. (As in the authors' code what is cut is the whole update.)
    """
    rows, d = given.updates, len(given.updates[0])
    first = given.output_layer[0] if given.output_layer else 0
    layers = [(0, first), (first, d)] if first else [(0, d)]
    sparse = []
    for row in cut(rows, median_of([root(square(row)) for row in rows])):
        stay = set(largest(row, whole(Fraction(7, 10) * d)))
        for start, end in layers:
            of_layer = {start + j for j in largest(row[start:end], whole(Fraction(7, 10) * (end - start)))}
            if any(row) and of_layer != stay & set(range(start, end)):
                raise Undecided("the largest of the whole are not those of each layer")
        sparse.append([x if j in stay else Fraction(0) for j, x in enumerate(row)])
    aggregate: Vector = []
    for start, end in layers:
        parts = [row[start:end] for row in sparse]
        if not all(map(any, parts)):
            raise Undecided("a layer of 0 has no signs")
        purity = [Fraction(sum(map(sign, part)), sum(abs(sign(x)) for x in part)) for part in parts]
        one, other = near_median([root(square(part)) for part in parts], Fraction(2)), near_median(purity, Fraction(1))
        chosen = [i for i in range(len(rows)) if one[i] and other[i]]
        aggregate += kept_mean(parts, chosen, len(rows)).aggregate
    return [Result(aggregate)]


def multi_metrics(given: Given) -> list[Result]:
    """Huang et al. 2023, arXiv 2303.06601, of local models w = G + Δ: t = (Σ (1 − cos)², Σ Manhattan distances, Σ |‖w‖ − ‖w′‖|); the
    plain mean of the ⌊0.3 n⌋ (≥ 1) with the least tᵀ Σ⁻¹ t, Σ the covariance of the n vectors t.
    """
    assert given.global_model is not None
    models = [[g + x for g, x in zip(given.global_model, row, strict=True)] for row in given.updates]
    if not all(map(any, models)):
        raise Undecided("a model of 0 has no direction")
    n, norms = len(models), [root(square(model)) for model in models]
    metrics = [
        list(map(brief, (
            sum(((1 - cosine(a, b)) ** 2 for b in models if b != a), Fraction(0)),
            sum((abs(x) for b in models for x in minus(a, b)), Fraction(0)),
            sum((abs(norm - other) for other in norms), Fraction(0)),
        )))
        for a, norm in zip(models, norms, strict=True)
    ]  # fmt: skip
    scores = [Fraction(0)] * n if not any(map(any, metrics)) else told_apart(quadratic(metrics), APART)
    ways = least(scores, max(1, 3 * n // 10))
    return [kept_mean(given.updates, way, n) for way in ways]


def quadratic(vectors: list[Vector]) -> list[Fraction]:
    """tᵀ Σ⁻¹ t of each; undecided where Σ is singular, or so nearly that rounding shows."""
    centre = mean(vectors)
    away = list(zip(*(map(brief, minus(v, centre)) for v in vectors), strict=True))
    variances = [brief(product(list(a), list(a))) for a in away]
    if not all(variances):
        raise Undecided("a singular covariance")
    scales = [root(v) for v in variances]
    alike = [[brief(product(list(a), list(b)) / (s * t)) for b, t in zip(away, scales, strict=True)]
             for a, s in zip(away, scales, strict=True)]  # fmt: skip
    (a, b, c), (_, e, f), (_, _, i) = alike
    inverse = [[e * i - f * f, c * f - b * i, b * f - c * e], [c * f - b * i, a * i - c * c, b * c - a * f],
               [b * f - c * e, b * c - a * f, a * e - b * b]]  # fmt: skip
    determinant = a * inverse[0][0] + b * inverse[0][1] + c * inverse[0][2]
    if determinant < APART:
        raise Undecided("a covariance that is nearly singular")
    scaled = [[brief(x / s) for x, s in zip(v, scales, strict=True)] for v in vectors]
    return [
        sum((product(row, v) * x for row, x in zip(inverse, v, strict=True)), Fraction(0)) / determinant for v in scaled
    ]


def dnc(given: Given, *, f: int, c: str) -> list[Result]:
    """Shejwalkar, Houmansadr 2021 (NDSS), on all coordinates: centred, v the first right singular vector, the ⌈c f⌉ with the largest
    ⟨x − µ, v⟩² go; the plain mean of the others; ⌈c f⌉ < n.
    """
    n, out = len(given.updates), math.ceil(Fraction(c) * f)
    if out >= n:
        raise Refused("n > ceil(c f)")
    centre = mean(given.updates)
    away = [minus(row, centre) for row in given.updates]
    if not any(map(any, away)):
        return [kept_mean(given.updates, list(range(n - out)), n)]
    first = principal(away)
    scores = told_apart([product(row, first) ** 2 for row in away])
    return [kept_mean(given.updates, way, n) for way in least(scores, n - out)]


def principal(rows: list[Vector]) -> Vector:
    """The unit eigenvector of RᵀR with the largest eigenvalue, by Jacobi's rotations; undecided where it is not alone."""
    d = len(rows[0])
    scatter = [[sum((row[i] * row[j] for row in rows), Fraction(0)) for j in range(d)] for i in range(d)]
    trace = sum((scatter[i][i] for i in range(d)), Fraction(0))
    with localcontext() as context:
        context.prec = 90
        a = [[Decimal((x / trace).numerator) / Decimal((x / trace).denominator) for x in row] for row in scatter]
        vectors = [[Decimal(i == j) for j in range(d)] for i in range(d)]
        for _ in range(60):
            for p in range(d):
                for q in range(p + 1, d):
                    rotate(a, vectors, p, q)
        order = sorted(range(d), key=lambda i: -a[i][i])
        if d > 1 and a[order[0]][order[0]] - a[order[1]][order[1]] < Decimal(APART.numerator) / APART.denominator:
            raise Undecided("two directions of most variance")
        return [Fraction(vectors[i][order[0]]) for i in range(d)]


def rotate(a: list[list[Decimal]], vectors: list[list[Decimal]], p: int, q: int) -> None:
    """Make a[p][q] 0 by a rotation of both, in place."""
    if abs(a[p][q]) < Decimal(10) ** -85:
        return
    theta = (a[q][q] - a[p][p]) / (2 * a[p][q])
    t = (1 if theta >= 0 else -1) / (abs(theta) + (theta * theta + 1).sqrt())
    cos = 1 / (t * t + 1).sqrt()
    sin = t * cos
    for row in (*a, *vectors):
        row[p], row[q] = cos * row[p] - sin * row[q], sin * row[p] + cos * row[q]
    a[p], a[q] = ([cos * x - sin * y for x, y in zip(a[p], a[q], strict=True)],
                  [sin * x + cos * y for x, y in zip(a[p], a[q], strict=True)])  # fmt: skip


def signguard(given: Given, *, share: str) -> list[Result]:
    """Xu et al. 2022, arXiv 2109.05872: norms in (0.1, 3) medians; of the shares of +, 0 and − in a run of the coordinates, drawn at
    random, the largest cluster by mean shift; who is in both is cut to the median norm of all; the plain mean; nobody: 0. One
    result for each run that may be drawn; of clusters only such as no bandwidth in question changes.
    """
    rows, n, d = given.updates, len(given.updates), len(given.updates[0])
    norms = [root(square(row)) for row in rows]
    middle, length = median_of(norms), whole(Fraction(share) * d)
    if not any(map(any, rows)):
        return [kept_mean(rows, [], n)]
    sound = {i for i in range(n) if below(middle / 10, norms[i]) and below(norms[i], 3 * middle)}
    clipped = cut(rows, middle)
    results = []
    for start in range(d - length + 1):
        run = range(start, start + length)
        shares = [[Fraction(sum(sign(row[j]) == s for j in run), length) for s in (1, 0, -1)] for row in rows]
        groups = clusters(shares)
        most = max(map(len, groups))
        results += [kept_mean(clipped, sorted(sound & set(g)), n) for g in groups if len(g) == most]
    return results[:MOST_WAYS]


def clusters(points: list[Vector]) -> list[list[int]]:
    """Groups that mean shift with a flat kernel comes to at once: each within the bandwidth, all others farther off.

    The bandwidth is scikit-learn's estimate: the mean distance to the ⌊q n⌋-th nearest, itself counted, for q = 0.3 (its default)
    and 0.5 (the authors'); both must come to the same.
    """
    n = len(points)
    apart = [[root(square(minus(a, b))) for b in points] for a in points]
    found = []
    for q in (Fraction(3, 10), Fraction(1, 2)):
        reach = sum((sorted(row)[max(1, int(q * n)) - 1] for row in apart), Fraction(0)) / n
        groups = [[j for j in range(n) if apart[i][j] <= reach] for i in range(n)]
        for group in groups:
            wide = max(apart[i][j] for i in group for j in group)
            others = [apart[i][j] for i in group for j in range(n) if j not in group]
            if (wide and not below(wide, reach)) or (others and not below(reach + wide, min(others))):
                raise Undecided("clusters that hang on the bandwidth")
        found.append(sorted({tuple(group) for group in groups}))
    if found[0] != found[1]:
        raise Undecided("clusters that hang on the bandwidth")
    return [list(group) for group in found[0]]


RULES: dict[str, Rule] = {rule.__name__: rule for rule in (alignins, multi_metrics, lasa, dnc, signguard)}
