"""LASA: layer by layer, the mean of those whose sparsified update is as long, and as much of one sign, as most others' there.

Xu, Zhang, Hu 2025, "Achieving Byzantine-Resilient Federated Learning via Layer-Adaptive Sparsified Model Aggregation" (WACV;
arXiv 2409.01435). Each update is cut to the median norm of all, and of its coordinates the 70 % largest stay, the others become 0.
Then in each layer, a tensor of the model, two numbers: the norm, and the sign purity Σ sgn / Σ |sgn| (0 of a layer of zeros); a
client is trusted there if both are within so many standard deviations (divided by n) of their medians. The mean of those who are
is the layer's; nobody: the layer stays. (In the authors' code matrices and convolutions alone are sparsified, the mean is of what was
not, whoever is exactly so many deviations away is left out, and where nobody is trusted all are.)
A client's influence is its part of the layers' means, each layer by its number of weights, over all clients'. Statistics belong to
no such layer: they go by that influence and the factor of the cut.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from oleander.learning.parameters import FloatArray, Layout
from oleander.learning.updates import Aggregate, Cohort
from oleander.settings.ranges import Positive, Rate
from strategies import RuleError
from strategies._choices import influence_of, near_median, share_of
from strategies._largest import least_of_largest
from strategies._sums import by_columns, comparable_norms, squared_norms, weighted

EXCEPT = {"unanimous": "the smallest coordinates become 0"}


def lasa(
    cohort: Cohort, *, layout: Layout, lasa_kept: Rate = 0.7, lasa_norm: Positive = 2.0, lasa_signs: Positive = 1.0
) -> Aggregate:
    """In each layer, mean of the sparsified updates whose norm and signs are like most others' (Xu et al. 2025).

    Args:
        cohort: n updates.
        layout: which tensor the numbers belong to.
        lasa_kept: Share of each update's coordinates, the largest, that stay (0 to 1; one at least).
        lasa_norm: How many standard deviations a layer's norm may be from the median (> 0).
        lasa_signs: The same for its sign purity (> 0).

    Raises:
        RuleError: updates of another model than the layout's.
    """
    (n, d) = cohort.deltas.shape
    if layout.weight_count != d:
        raise RuleError(f"lasa goes by layers: the layout has {layout.weight_count} weights, the updates have {d}")
    norms = comparable_norms(cohort.deltas)  # (n,)
    factors = np.divide(np.median(norms), norms, out=np.ones(n), where=norms > np.median(norms))
    least = _least_kept(cohort.deltas, share_of(lasa_kept, d))
    delta, influence = np.zeros(d, np.float32), np.zeros(n)
    for layer in _layers(layout):
        squares, purities = _measured(cohort.deltas, layer, least)
        trusted = near_median(factors * np.sqrt(squares), lasa_norm, at_most=True)
        trusted &= near_median(purities, lasa_signs, at_most=True)
        shares = influence_of(trusted)
        _put_mean(delta, cohort, layer, least, shares * factors)
        influence += shares * (layer.stop - layer.start)
    influence /= influence.sum() or 1
    statistics = weighted(replace(cohort, deltas=cohort.deltas[:, :0]), influence * factors).statistics
    return Aggregate(delta, statistics, influence)


def _layers(layout: Layout) -> list[slice]:
    """Where each tensor's numbers are among the weights."""
    sizes = [size for size, weight in zip(layout.sizes, layout.is_weight, strict=True) if weight]
    ends = np.cumsum(sizes).tolist()
    return [slice(end - size, end) for size, end in zip(sizes, ends, strict=True) if size]


def _least_kept(rows: FloatArray, count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Of each row, the least magnitude that stays, and the last place at which it does: (n,), (n,)."""
    found = by_columns(len(rows), lambda row: least_of_largest(rows[row.start], count), width=1)
    return np.array([least for least, _ in found], np.float32), np.array([last for _, last in found])


def _block_of(layer: slice, block: slice) -> slice:
    """Where a block of a layer is among the weights."""
    return slice(layer.start + block.start, layer.start + block.stop)


def _measured(
    rows: FloatArray, layer: slice, least: tuple[NDArray[np.float32], NDArray[np.int64]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each sparsified row in one layer, its squared norm, and Σ sgn / Σ |sgn|, 0 of one of zeros: (n, d) → (n,), (n,)."""

    def part(block: slice) -> NDArray[np.float64]:
        sparse = _sparsified(rows, _block_of(layer, block), least)
        above, below = np.count_nonzero(sparse > 0, axis=1), np.count_nonzero(sparse < 0, axis=1)
        return np.stack([squared_norms(sparse), above, below])

    parts = by_columns(layer.stop - layer.start, part)
    squares, above, below = np.sum([np.zeros((3, len(rows))), *parts], axis=0)
    return squares, np.divide(above - below, above + below, out=np.zeros(len(rows)), where=above + below > 0)


def _put_mean(
    delta: FloatArray, cohort: Cohort, layer: slice, least: tuple[NDArray[np.float32], NDArray[np.int64]],
    weights: NDArray[np.float64],
) -> None:  # fmt: skip
    """Put Σ weight · sparsified row into the layer's place."""

    def part(block: slice) -> None:
        place = _block_of(layer, block)
        sparse = replace(cohort, deltas=_sparsified(cohort.deltas, place, least), statistics=cohort.statistics[:, :0])
        delta[place] = weighted(sparse, weights).delta

    by_columns(layer.stop - layer.start, part)


def _sparsified(rows: FloatArray, block: slice, least: tuple[NDArray[np.float32], NDArray[np.int64]]) -> FloatArray:
    """The rows in these columns, with 0 in place of what does not stay: (n, k)."""
    part = rows[:, block]
    sizes, places = np.abs(part), np.arange(block.start, block.stop)
    stays = (sizes > least[0][:, None]) | ((sizes == least[0][:, None]) & (places <= least[1][:, None]))
    return np.where(stays, part, np.float32(0))
