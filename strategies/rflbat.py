"""RFLBAT: outliers and clusters among the updates' two principal components.

Wang, Zhai, Xia and others 2022, "RFLBAT: A Robust Federated Learning Algorithm against Backdoor Attack" (arXiv 2201.03772): the
updates are projected to their first two principal components; those go whose distances to all others add up to more than ε₁ times
the median; the rest is clustered by k-means, as many clusters as the gap statistic finds; the cluster stays whose members are least
alike (the least median of their mean cosines with each other: attackers want the same, honest clients have data of their own); of
it those go whose distances add up to more than ε₂ times the median; the others are averaged. From memory of the paper, beside
public codes: which cluster stays, and that one of a single client counts as alike (1).
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from oleander.learning.parameters import FloatArray
from oleander.learning.updates import Aggregate, Cohort
from oleander.settings.ranges import Positive
from strategies._choices import fewer_digits, mean_of
from strategies._cosines import cosine_distances
from strategies._gap import cluster_count, kmeans
from strategies._sums import Part, by_columns, squared_distances

UNEQUAL = 1e6
"""Where the first component's variance is so many times the second's, the second is not taken from products with both in them."""


def rflbat(
    cohort: Cohort, *, rng: np.random.Generator, rflbat_outlier: Positive = 10.0, rflbat_inlier: Positive = 4.0
) -> Aggregate:
    """Mean of the cluster, in two principal components, whose updates are least alike, without outliers (Wang et al. 2022).

    Args:
        cohort: n updates; ties go to the lowest client id.
        rng: of k-means and of the gap statistic's references.
        rflbat_outlier: ε₁: who is farther from all, in sum, than that many medians goes first (> 0).
        rflbat_inlier: ε₂: the same within the cluster that stays (> 0).
    """
    order = np.argsort(cohort.client_ids, kind="stable")  # what is drawn does not depend on the order of rows
    points = _components(cohort.deltas)[order]
    left = _not_far(points, np.arange(len(order)), rflbat_outlier)
    count = cluster_count(points[left], rng)
    labels = kmeans(points[left][None], count, rng)[0][0]
    alike = 1 - cosine_distances(cohort.deltas)[np.ix_(order, order)]
    clusters = sorted((left[labels == c] for c in set(labels.tolist())), key=lambda members: int(members[0]))
    chosen = min(clusters, key=lambda members: _alikeness(alike, members))
    kept = np.zeros(len(order), dtype=bool)
    kept[order[_not_far(points, chosen, rflbat_inlier)]] = True
    return mean_of(cohort, kept)


def _components(rows: FloatArray) -> NDArray[np.float64]:
    """The rows' coordinates along their two first principal components, up to a shift: (n, d) → (n, 2).

    They come from the rows' products. Where one component is that of a far row, whose products are so much larger that the others'
    are lost in their rounding, that one is taken out of the rows before the next is looked for.
    """
    squares = squared_distances(rows)
    centred = squares - squares.mean(axis=0)
    products = -(centred - centred.mean(axis=1, keepdims=True)) / 2
    values, vectors = np.linalg.eigh(products)
    if len(rows) < 2 or values[-1] <= UNEQUAL * values[-2]:
        return np.asarray(vectors[:, :-3:-1] * np.sqrt(np.maximum(values[:-3:-1], 0)))
    middle = rows[np.median(squares, axis=1).argmin()].astype(np.float64)  # (d,) near most: what is subtracted is small

    def each(work: Callable[[NDArray[np.float64], slice], Part]) -> list[Part]:
        return by_columns(rows.shape[1], lambda block: work(rows[:, block] - middle[block], block))

    first = vectors[:, -1] - vectors[:, -1].mean()
    direction = np.concatenate(each(lambda part, _: np.einsum("i,ij->j", first, part)))  # (d,)
    direction /= np.linalg.norm(direction)
    along = np.sum(each(lambda part, block: np.einsum("ij,j->i", part, direction[block])), axis=0)  # (n,)

    def product(part: NDArray[np.float64], block: slice) -> NDArray[np.float64]:
        rest = part - np.outer(along, direction[block])
        rest -= rest.mean(axis=0)
        return np.einsum("ij,kj->ik", rest, rest)

    values, vectors = np.linalg.eigh(np.sum(each(product), axis=0))
    return np.stack([along, vectors[:, -1] * np.sqrt(max(values[-1], 0))], axis=1)


def _not_far(points: NDArray[np.float64], members: NDArray[np.intp], most: float) -> NDArray[np.intp]:
    """Those members whose distances to the others add up to ``most`` medians at most."""
    own = points[members]
    sums = np.sqrt(((own[:, None] - own) ** 2).sum(axis=2)).sum(axis=1)
    return members[fewer_digits(sums) <= fewer_digits(np.array(most * np.median(sums)))]


def _alikeness(alike: NDArray[np.float64], members: NDArray[np.intp]) -> float:
    """The median of the members' mean cosines with each other, themselves among them; 1 of one alone."""
    return float(np.round(np.median(alike[np.ix_(members, members)].mean(axis=1)), 9)) if len(members) > 1 else 1.0
