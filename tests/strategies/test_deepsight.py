"""DeepSight: each of its numbers written out in Python floats, whom its clusters keep, and clients with one class alone."""

from dataclasses import replace
from math import exp

import numpy as np
import pytest
import torch

from oleander.datasets.space import ImageSpace
from oleander.learning.parameters import Layout, ModelState
from oleander.learning.updates import Cohort
from strategies import RuleError
from strategies.deepsight import _apart, _ratios, _shares, _trusted, deepsight
from tests.cohorts import random_cohort, with_deltas

CLASSES, IMAGE = 4, ImageSpace(1, 2, (0.0,), (1.0,))
LAYOUT = Layout(("body.weight", "out.weight", "out.bias"), ((3,), (CLASSES, 4), (CLASSES,)), (True, True, True))


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def answers(state: ModelState, pixels: torch.Tensor) -> torch.Tensor:
    """A linear model of four pixels."""
    weight, bias = state.weights[3:19].reshape(CLASSES, 4), state.weights[19:]
    return pixels.flatten(1) @ torch.from_numpy(weight).T + torch.from_numpy(bias)


def run(cohort: Cohort, **told):
    known = {"rng": rng(), "layout": LAYOUT, "answers": answers, "image": IMAGE, "deepsight_images": 50}
    return deepsight(cohort, **known | told)


def moving(deltas: np.ndarray) -> Cohort:
    cohort = with_deltas(deltas)
    none = np.zeros((len(deltas), 0), np.float32)
    start = np.random.default_rng(5).normal(size=23).astype(np.float32)
    return replace(cohort, statistics=none, start=ModelState(start, none[0]))


def test_ratios_are_means_of_quotients_of_probabilities():
    cohort = moving(np.random.default_rng(1).normal(size=(3, 23)))
    found = _ratios(cohort, LAYOUT, answers, IMAGE, (2, 7), rng())
    generator = rng()

    def chances(weights: np.ndarray, pixels: list[float]) -> list[float]:
        logits = [
            sum(float(w) * x for w, x in zip(weights[3 + 4 * c : 7 + 4 * c], pixels, strict=True))
            + float(weights[19 + c])
            for c in range(CLASSES)
        ]
        return [exp(z) / sum(exp(y) for y in logits) for z in logits]

    for draw in range(2):
        images = generator.random((7, 1, 2, 2), np.float32).reshape(7, 4).astype(float).tolist()
        for i in range(3):
            own = cohort.start.weights + cohort.deltas[i]
            for c in range(CLASSES):
                wanted = sum(chances(own, x)[c] / chances(cohort.start.weights, x)[c] for x in images) / 7
                assert found[draw, i, c] == pytest.approx(wanted, rel=1e-4)


def test_shares_of_energy_are_squares_over_their_sum_whatever_their_size():
    energies = np.array([[1, 2, 3, 4], [0, 0, 0, 0], [1e30, 0, 0, 1e30]], dtype=float)
    np.testing.assert_allclose(_shares(energies), [[1 / 30, 4 / 30, 9 / 30, 16 / 30], [0] * 4, [0.5, 0, 0, 0.5]])


def test_those_in_no_cluster_share_none_and_a_third_of_suspicious_is_too_much():
    assert _apart(np.array([0, 0, 1, -1, -1])).tolist() == [
        [0, 0, 1, 1, 1], [0, 0, 1, 1, 1], [1, 1, 0, 1, 1], [1, 1, 1, 0, 1], [1, 1, 1, 1, 0],
    ]  # fmt: skip
    labels = np.array([0, 0, 0, 1, 1, 1, 1, -1, -1])
    suspicious = np.array([1, 0, 0, 1, 0, 0, 0, 1, 0], dtype=bool)
    assert _trusted(labels, suspicious).tolist() == [False] * 3 + [True] * 4 + [False, True]


def test_clients_trained_on_one_class_alone_are_left_out():
    """The paper's promise: a poisoned model's output layer shows how few classes it was trained for."""
    generator = np.random.default_rng(0)
    common = generator.normal(size=23)
    rows = common + 0.05 * generator.normal(size=(9, 23))
    rows[:3, 3:] = 0.002 * generator.normal(size=(3, 20))
    rows[:3, 3:7] = 2.0 + 0.02 * generator.normal(size=(3, 4))
    rows[:3, 19] = 2.0
    result = run(moving(rows))
    kept = np.flatnonzero(result.influence)
    assert kept.min() >= 3 and len(kept) >= 4
    norms = np.linalg.norm(np.float32(rows).astype(np.float64), axis=1)
    factors = np.minimum(1, np.median(norms) / norms)[:, None]
    np.testing.assert_allclose(result.delta, (rows * factors)[kept].mean(axis=0), rtol=1e-4, atol=1e-5)


def test_updates_that_are_all_alike_come_out_as_they_are():
    row = random_cohort(1, d=23).deltas[0]
    result = run(moving(np.tile(row, (5, 1))))
    np.testing.assert_array_equal(result.delta, row)


def test_updates_that_do_not_change_the_output_layer_make_nobody_suspicious():
    alike = np.zeros((7, 23), np.float32)
    alike[:, 0] = 1
    result = run(moving(alike))
    np.testing.assert_array_equal(result.delta, alike[0])
    np.testing.assert_allclose(result.influence, 1 / 7)


def test_a_model_that_answers_no_numbers_is_in_no_cluster_and_ends_nothing():
    rows = random_cohort(6, d=23).deltas.copy()
    rows[2] = 3e38
    assert np.isfinite(run(moving(rows)).delta).all()


def test_an_output_layer_without_a_bias_is_refused_by_name():
    bare = Layout(("body.weight", "out.weight"), ((3,), (5, 4)), (True, True))
    with pytest.raises(RuleError, match=r"with a bias, .* body\.weight and out\.weight"):
        run(moving(np.ones((3, 23))), layout=bare)
