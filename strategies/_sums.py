"""Sums that several rules share, in float64 whatever the updates' own precision, block of columns by block.

A block is small, so widening it costs no memory and little time; blocks are independent, so all cores work,
and what comes out does not depend on how many there are. The last bits depend on the order in which a processor's kernels
add up; so whatever is decided by comparing such sums knows how far they may be off, and settles what is nearer exactly.
"""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from oleander.learning.parameters import FloatArray
from oleander.learning.updates import Aggregate, Cohort
from oleander.system.machine import cpu_count
from strategies._exact import nearest_float, sum_of_products

Part = TypeVar("Part")
WIDTH = 1 << 16
"""Columns in a block where rows are read one after the other: enough for threads not to wait for Python's lock."""
PRODUCT_BYTES = 1 << 22
"""Float64 bytes of all rows' part in one block of a matrix product: they stay in a core's cache."""
_ALONE = threading.Lock()
"""How many threads a BLAS has is the process's: two at a time would each put back what the other had set."""
CANCELLED = 1e-4
"""A squared distance below this share of the two squared norms has lost digits in the subtraction; it is taken directly."""


def weighted(cohort: Cohort, influence: NDArray[np.float64]) -> Aggregate:
    """Σ influence_i · update_i, weights and statistics alike; clients with no influence are not read."""
    return Aggregate(
        delta=weighted_row(cohort.deltas, influence),
        statistics=weighted_row(cohort.statistics, influence),
        influence=influence,
    )


def scaled(rows: FloatArray, factors: NDArray[np.float64]) -> FloatArray:
    """Each row times its factor, in float64 and rounded once; what has the factor 1 stays as it is: (n, d), (n,) → (n, d)."""
    made = np.empty_like(rows)

    def part(block: slice) -> None:
        for row, factor, into in zip(rows, factors, made, strict=True):
            if factor == 1:
                into[block] = row[block]
            else:  # NumPy widens and rounds in a small buffer: nothing is written but the result
                np.multiply(row[block], factor, out=into[block], dtype=np.float64, casting="same_kind")

    by_columns(rows.shape[1], part)
    return made


def by_columns(columns: int, work: Callable[[slice], Part], width: int = WIDTH) -> list[Part]:
    """``work`` on each block of columns, in order, on all cores (NumPy leaves Python's lock while it works)."""
    return list(_each(columns, work, width))


def _each(columns: int, work: Callable[[slice], Part], width: int) -> Iterator[Part]:
    """The same one after the other, so that large ones need not be kept."""
    blocks = _slices(columns, width)
    if len(blocks) < 2:
        yield from map(work, blocks)
        return
    with ThreadPoolExecutor(min(cpu_count(), len(blocks))) as pool:
        yield from pool.map(work, blocks)


def squared_norms(rows: FloatArray) -> NDArray[np.float64]:
    """‖row‖₂² of each row: (n, d) → (n,)."""
    return sum_for_each(rows, lambda wide, _: dot(wide, wide))


def sum_for_each(rows: FloatArray, term: Callable[[NDArray[np.float64], slice], float]) -> NDArray[np.float64]:
    """Σ of ``term`` over each row's blocks, given as float64 with the columns they are: (n, d) → (n,)."""

    def part(block: slice) -> NDArray[np.float64]:
        return np.array([term(row[block].astype(np.float64), block) for row in rows])

    return np.sum([np.zeros(len(rows)), *by_columns(rows.shape[1], part)], axis=0)


def dot(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Σ one_j · other_j, in an order that does not depend on a BLAS."""
    return float(np.einsum("j,j->", one, other))


def comparable_norms(rows: FloatArray, mark: float | None = None) -> NDArray[np.float64]:
    """‖row‖₂ of each row, to be compared with each other or with a mark: (n, d) → (n,).

    Those so near to another, or to the mark, that rounding could have put them in another order are summed exactly and rounded
    once. So norms that are equal in exact arithmetic are equal, to the last bit and on every machine.
    """
    squares = squared_norms(rows)
    values = squares if mark is None else np.append(squares, mark * mark)
    for i in _near_another(values, most_rounding(*rows.shape) * values):
        if i < len(rows):
            squares[i] = nearest_float(exact_dot(rows[i], rows[i]))
    return np.sqrt(squares)


def _near_another(values: NDArray[np.float64], bounds: NDArray[np.float64]) -> NDArray[np.intp]:
    """Which of these values (n,) are within their bounds of another; 0 is exact as it is."""
    order = np.argsort(values)
    close = np.diff(values[order]) <= bounds[order][:-1] + bounds[order][1:]  # (n − 1,)
    near = np.zeros(len(values), dtype=bool)
    near[order[:-1][close]] = near[order[1:][close]] = True
    return np.flatnonzero(near & (values > 0))


def exact_dot(one: FloatArray, other: FloatArray) -> int:
    """Σ one_j · other_j of two rows (d,), in units of 2^-298: ``_exact``."""
    return sum(by_columns(len(one), lambda block: sum_of_products(one[block], other[block])))


def squared_distances(rows: FloatArray) -> NDArray[np.float64]:
    """‖row_i − row_j‖₂² of each pair: (n, d) → (n, n), 0 on the diagonal and exactly 0 between equal rows."""
    return bounded_distances(rows)[0]


def bounded_distances(rows: FloatArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The squared distances, and how far each is from the exact one at most: (n, d) → (n, n), (n, n).

    Through the Gram matrix of the rows around their mean. Where two rows are so close that this subtracts away their
    digits, they are subtracted from each other before they are squared. The bounds hold in whatever order sums are added up.
    """
    n, d = rows.shape
    gram = _gram(rows)  # (n, n)
    squares = np.diag(gram)
    both = squares[:, None] + squares  # (n, n)
    distances = np.maximum(both - 2 * gram, 0)
    np.fill_diagonal(distances, 0)
    bounds = most_rounding(n, d) * both
    close = np.triu(distances < CANCELLED * both, 1)
    _take_directly(distances, rows, close)
    close |= close.T | np.eye(n, dtype=bool)
    bounds[close] = most_rounding(n, d) * distances[close]
    return _same_for_equal_rows(distances, bounds)


def _gram(rows: FloatArray) -> NDArray[np.float64]:
    """Products of each pair of rows around their mean: (n, d) → (n, n). Rounded, as it is; its last bits are the BLAS's own.

    Each core works on blocks of its own. Were a block shared among a BLAS's threads, they would wait for each other at its end,
    and where the machine has other work too, for whichever of them is not on a core.
    """
    n, d = rows.shape
    gram = np.zeros((n, n))

    def part(block: slice) -> NDArray[np.float64]:
        wide = rows[:, block].astype(np.float64)  # (n, ≤ width)
        wide -= wide.mean(axis=0)
        return wide @ wide.T

    with one_blas_thread():
        for product in _each(d, part, max(1, PRODUCT_BYTES // (8 * n))):
            gram += product
    return gram


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """For blocks that are worked out side by side, a core each."""
    with _ALONE, _blas().limit(limits=1, user_api="blas"):
        yield


@functools.cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()  # it looks through all libraries of the process


def most_rounding(n: int, d: int) -> float:
    """Bound on the relative error of float64 sums over (n, d) numbers, generously.

    A sum of d products is off by at most d · 2^-53 of their absolute sum to first order, in whatever order they are added, fused
    or not (Higham 2002, "Accuracy and Stability of Numerical Algorithms", 3.1). A distance through a Gram matrix takes two such
    for each norm, the centring and the difference some more, a score n more. Here it is twice all of them.
    """
    return 4 * (d + n + 16) * 2.0**-53


def _take_directly(distances: NDArray[np.float64], rows: FloatArray, pairs: NDArray[np.bool_]) -> None:
    """Put the squared distance of each of these pairs (n, n) in its place and the mirrored one."""
    firsts = np.flatnonzero(pairs.any(axis=1))
    distances[pairs | pairs.T] = 0
    for block in _slices(rows.shape[1], max(1, PRODUCT_BYTES // (8 * len(rows)))):
        for i in firsts:
            others = np.flatnonzero(pairs[i])
            apart = rows[others, block].astype(np.float64) - rows[i, block]  # (k, ≤ width)
            distances[i, others] += np.einsum("ij,ij->i", apart, apart)
    for i in firsts:
        others = np.flatnonzero(pairs[i])
        distances[others, i] = distances[i, others]


def _same_for_equal_rows(
    distances: NDArray[np.float64], bounds: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Equal rows are equally far from each other row, to the last bit, so that their ties are ties."""
    first = first_equals(distances)
    return distances[np.ix_(first, first)], bounds[np.ix_(first, first)]


def first_equals(distances: NDArray[np.float64]) -> NDArray[np.intp]:
    """The first of the rows that are equal to each: (n, n) → (n,)."""
    return (distances == 0).argmax(axis=1)


def _slices(columns: int, width: int) -> list[slice]:
    return [slice(start, min(start + width, columns)) for start in range(0, columns, width)]


def weighted_row(rows: FloatArray, influence: NDArray[np.float64], into: FloatArray | None = None) -> FloatArray:
    """Σ influence_i · row_i, client after client in float64, rounded once; ``into`` a row if one is given: (n, d), (n,) → (d,)."""
    result = np.empty(rows.shape[1], dtype=np.float32) if into is None else into
    counted = [(row, weight) for row, weight in zip(rows, influence, strict=True) if weight]

    def part(block: slice) -> None:
        total = np.zeros(block.stop - block.start)
        product = np.empty_like(total)
        for row, weight in counted:  # the same sum for any number of threads
            product[:] = row[block]  # to widen first is faster than to multiply into a wider type
            product *= weight
            total += product
        result[block] = total

    by_columns(len(result), part)
    return result
