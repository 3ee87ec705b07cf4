"""k-means against all partitions of a few points, and what number of clusters the gap statistic finds."""

import itertools

import numpy as np
import pytest

from strategies._gap import cluster_count, kmeans


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def best(points: np.ndarray, k: int) -> float:
    """The least sum of squares within clusters, of all ways to deal the points to k."""
    return min(
        sum(
            ((points[np.array(labels) == c] - points[np.array(labels) == c].mean(axis=0)) ** 2).sum()
            for c in set(labels)
        )
        for labels in itertools.product(range(k), repeat=len(points))
    )


@pytest.mark.parametrize("k", [1, 2, 3])
def test_it_finds_the_best_of_all_partitions(k):
    samples = rng(k).normal(size=(4, 6, 2))
    labels, within = kmeans(samples, k, rng())
    np.testing.assert_allclose(within, [best(sample, k) for sample in samples], rtol=1e-9)
    for sample, own, sum_ in zip(samples, labels, within, strict=True):
        assert sum_ == pytest.approx(
            sum(((sample[own == c] - sample[own == c].mean(axis=0)) ** 2).sum() for c in set(own))
        )


@pytest.mark.parametrize("p", [1, 2])
def test_two_groups_that_are_far_apart_are_counted(p):
    """Of three it may say one: it stops where splitting the first time gains no more than in a uniform cloud."""
    for seed in range(3):
        centres = np.array([[0, 0], [1, 0]], dtype=float)[np.arange(12) % 2, :p]
        assert cluster_count(centres + 0.02 * rng(seed).normal(size=(12, p)), rng(seed)) == 2


def test_a_uniform_cloud_is_one_cluster_more_often_than_not():
    assert sum(cluster_count(rng(seed).uniform(size=(12, 2)), rng(seed)) == 1 for seed in range(7)) >= 4


@pytest.mark.parametrize("points", [np.zeros((5, 2)), np.ones((1, 1))])
def test_points_that_are_all_one_are_one_cluster(points):
    assert cluster_count(points, rng()) == 1
