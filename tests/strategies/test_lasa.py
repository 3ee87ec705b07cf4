"""LASA against its definition written out layer by layer, and an attack that shows in one layer alone."""

from math import sqrt
from statistics import median

import numpy as np
import pytest

from oleander.learning.parameters import Layout
from strategies import RuleError
from strategies._sums import by_columns
from strategies.lasa import lasa
from tests.cohorts import random_cohort, with_deltas

LAYOUT = Layout(("a.weight", "b.weight", "b.bias", "n.mean"), ((4, 5), (3, 4), (3,), (6,)), (True, True, True, False))
"""35 weights in three tensors, and 6 statistics."""


def sign(x: float) -> int:
    return (x > 0) - (x < 0)


def parts(layout: Layout) -> list[range]:
    at, found = 0, []
    for size, weight in zip(layout.sizes, layout.is_weight, strict=True):
        if weight:
            found.append(range(at, at + size))
            at += size
    return found


def near(values: list[float], most: float) -> set[int]:
    mean, middle = sum(values) / len(values), median(values)
    std = sqrt(sum((v - mean) ** 2 for v in values) / len(values))
    return {i for i, v in enumerate(values) if v == middle or abs(v - middle) <= most * std * (1 + 1e-9)}


def reference(
    deltas: np.ndarray, layout: Layout, kept: float = 0.7, norm: float = 2.0, signs: float = 1.0
) -> tuple[list[float], list[float]]:
    """The aggregate and each client's influence."""
    rows = [[float(x) for x in row] for row in deltas]
    n, d = len(rows), len(rows[0])
    norms = [sqrt(sum(x * x for x in row)) for row in rows]
    sparse = []
    for row, length in zip(rows, norms, strict=True):
        factor = min(1.0, median(norms) / length) if length else 1.0
        top = set(sorted(range(d), key=lambda j: (-abs(row[j]), j))[: max(1, int(kept * d + 1e-9))])  # type: ignore[misc]
        sparse.append([factor * x if j in top else 0.0 for j, x in enumerate(row)])
    result, influence = [0.0] * d, [0.0] * n
    for part in parts(layout):
        lengths = [sqrt(sum(row[j] ** 2 for j in part)) for row in sparse]
        purities = []
        for row in sparse:
            total = sum(abs(sign(row[j])) for j in part)
            purities.append(sum(sign(row[j]) for j in part) / total if total else 0.0)
        trusted = near(lengths, norm) & near(purities, signs)
        for i in trusted:
            influence[i] += len(part) / len(trusted) / d
            for j in part:
                result[j] += sparse[i][j] / len(trusted)
    total = sum(influence)
    return result, [x / total if total else 0.0 for x in influence]


@pytest.mark.parametrize("seed", range(10))
def test_it_agrees_with_the_reference(seed):
    generator = np.random.default_rng(seed)
    n = 4 + seed
    deltas = generator.normal(size=(n, 35)) * generator.choice([0.1, 1, 1, 4], size=(n, 1))
    deltas[generator.random(deltas.shape) < 0.2] = 0
    cohort = with_deltas(deltas)
    for told in ({}, {"kept": 0.2}, {"norm": 0.5, "signs": 0.3}, {"kept": 1.0, "norm": 9.0, "signs": 9.0}):
        wanted, influence = reference(cohort.deltas, LAYOUT, **told)
        result = lasa(cohort, layout=LAYOUT, **{f"lasa_{name}": value for name, value in told.items()})
        np.testing.assert_allclose(result.delta, wanted, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(result.influence, influence, atol=1e-12)
        norms = np.linalg.norm(cohort.deltas.astype(np.float64), axis=1)
        factors = np.minimum(1, np.median(norms) / norms)
        np.testing.assert_allclose(
            result.statistics, (result.influence * factors) @ cohort.statistics.astype(np.float64), rtol=1e-5, atol=1e-6
        )


def test_an_attack_in_one_layer_alone_is_left_out_there_and_counts_elsewhere():
    """The paper's promise: layers are judged one by one, so a client is not lost for one of them.

    Its values in that layer, turned round, are as long and as much of one sign: who is left out there changes nothing by it.
    """
    rows, layer = random_cohort(9, d=35).deltas, slice(20, 32)

    def sent(i: int, values: np.ndarray):
        attacked = rows.copy()
        attacked[i, layer] = values
        return lasa(with_deltas(attacked), layout=LAYOUT)

    found = 0
    for i, own in enumerate(rows[:, layer]):
        honest, attack = (sent(i, own), sent(i, own[::-1])), (sent(i, np.abs(own)), sent(i, np.abs(own)[::-1]))
        trusted = [not np.array_equal(one.delta[layer], other.delta[layer]) for one, other in (honest, attack)]
        np.testing.assert_array_equal(honest[0].delta[:20], attack[0].delta[:20])
        found += trusted == [True, False] and attack[0].influence[i] > 0
    assert found >= 3


@pytest.mark.parametrize("rows", [np.zeros((5, 35)), np.ones((5, 35)), np.ones((1, 35))])
def test_updates_that_are_all_alike_come_out_as_far_as_their_largest_coordinates(rows):
    result = lasa(with_deltas(rows), layout=LAYOUT)
    np.testing.assert_allclose(result.influence, 1 / len(rows))
    assert result.delta.tolist() == [rows[0, j] if j < 24 else 0 for j in range(35)]


def test_a_layer_in_which_nobody_is_trusted_stays():
    cohort = with_deltas(random_cohort(2, d=35).deltas)
    result = lasa(
        cohort, layout=LAYOUT, lasa_norm=0.5, lasa_signs=0.5
    )  # two that differ are a deviation from the median each
    assert not result.delta.any() and not result.influence.any() and not result.statistics.any()


def test_one_far_update_is_cut():
    rows = random_cohort(6, d=35).deltas.copy()
    rows[3] = 1e30
    assert np.abs(lasa(with_deltas(rows), layout=LAYOUT).delta).max() < 10


def test_a_layout_of_other_weights_is_refused():
    with pytest.raises(RuleError, match=r"35 weights, the updates have 12"):
        lasa(random_cohort(5, d=12), layout=LAYOUT)


def test_a_layer_of_many_blocks_is_one_of_one_block(monkeypatch):
    rows = np.random.default_rng(0).normal(size=(7, LAYOUT.weight_count)).astype(np.float32)
    whole = lasa(with_deltas(rows), layout=LAYOUT)
    monkeypatch.setattr("strategies.lasa.by_columns", lambda columns, work, width=2: by_columns(columns, work, width))
    found = lasa(with_deltas(rows), layout=LAYOUT)
    assert np.array_equal(found.delta, whole.delta)
    assert np.array_equal(found.influence, whole.influence)


def test_layers_that_are_equally_long_are_so_in_whatever_order_their_squares_are_added():
    """Norms that differ in a last bit alone have a standard deviation too, and who differs is more than two of them away."""
    layout = Layout(("a.weight",), ((3,),), (True,))
    rows = np.float32([[6.7, 0.3, 0.4]] * 5 + [[0.3, 0.4, 6.7]])
    for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0], [2, 1, 0]):
        cohort = with_deltas(rows[:, order])
        np.testing.assert_allclose(lasa(cohort, layout=layout, lasa_kept=1.0).influence, 1 / 6)
