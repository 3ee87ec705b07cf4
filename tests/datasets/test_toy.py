"""The toy: its golden bytes, and how its images are dealt out."""

import hashlib

import numpy as np
import pytest

from oleander.datasets import sources, toy_drawing
from oleander.datasets.partition import partition, shard_of
from oleander.settings.config import Experiment
from oleander.system.errors import UserError
from tests.datasets.silent import refuse

TOY_SHA256 = "274067628b4809002f6cdfcf35bb53696ee1709e435da9393be16ceef7b8da61"
"""`fingerprint` of the toy dataset; changes only with toy_drawing.VERSION."""


@pytest.fixture(scope="module")
def toy_set():
    return sources.load_dataset("toy", "data", refuse)


def test_toy_is_the_same_everywhere(toy_set):
    assert toy_set.fingerprint == TOY_SHA256
    assert toy_set.train_images.shape == (10_000, 3, 32, 32) and toy_set.test_images.shape == (2_000, 3, 32, 32)
    assert toy_set.train_images.dtype == np.uint8
    assert toy_set.classes == toy_drawing.CLASSES and len(toy_set.classes) == 10
    np.testing.assert_array_equal(np.bincount(toy_set.train_labels), 1_000)
    np.testing.assert_array_equal(np.bincount(toy_set.test_labels), 200)


def test_toy_does_not_depend_on_the_number_of_processes():
    one, two = toy_drawing.make_toy(40, 20, processes=1), toy_drawing.make_toy(40, 20, processes=2)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


def test_toy_has_no_image_twice_and_none_in_both_splits(toy_set):
    images = np.concatenate([toy_set.train_images, toy_set.test_images])
    assert len({hashlib.sha256(image.tobytes()).digest() for image in images}) == 12_000


def test_actors_map_one_file_and_cannot_write_it(toy_set):
    assert isinstance(toy_set.train_images, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        toy_set.train_images[0] = 0


@pytest.mark.parametrize("how", ["main_label", "iid", "dirichlet"])
def test_shards_are_disjoint_of_equal_size_and_seeded(toy_set, how):
    experiment = Experiment(partition=how, clients=10, samples_per_client=200)
    shards = partition(toy_set, experiment)
    rows = np.concatenate(shards)
    assert [len(s) for s in shards] == [200] * 10 and len(np.unique(rows)) == 2_000
    again = partition(toy_set, Experiment(partition=how, clients=10, samples_per_client=200))
    np.testing.assert_array_equal(rows, np.concatenate(again))
    other = partition(toy_set, Experiment(partition=how, clients=10, samples_per_client=200, seed=1))
    assert not np.array_equal(rows, np.concatenate(other))
    shard = shard_of(3, toy_set, experiment)
    np.testing.assert_array_equal(shard.images, toy_set.train_images[shards[3]])
    np.testing.assert_array_equal(shard.labels, toy_set.train_labels[shards[3]])


def test_main_label_share(toy_set):
    for rows in partition(toy_set, Experiment(iid_rate=0.2)):
        counts = np.bincount(toy_set.train_labels[rows], minlength=10)
        assert counts.max() >= round(0.8 * 384) and (counts > 0).sum() > 5
    pure = partition(toy_set, Experiment(iid_rate=0.0))
    assert all(len(np.unique(toy_set.train_labels[rows])) == 1 for rows in pure)


def test_dirichlet_alpha_sets_how_uneven_shards_are_and_can_deal_everything(toy_set):
    def largest_share(alpha):
        shards = partition(toy_set, Experiment(partition="dirichlet", dirichlet_alpha=alpha))
        return np.mean([np.bincount(toy_set.train_labels[rows], minlength=10).max() / 384 for rows in shards])

    assert largest_share(0.05) > 0.6 > 0.2 > largest_share(1000.0)
    everything = Experiment(partition="dirichlet", dirichlet_alpha=0.1, clients=20, samples_per_client=500)
    assert len(np.unique(np.concatenate(partition(toy_set, everything)))) == 10_000


def test_more_samples_than_data_are_refused(toy_set):
    with pytest.raises(UserError, match=r"30 x 384 = 11520 images, but the training set has 10000"):
        partition(toy_set, Experiment(clients=30))
    with pytest.raises(UserError, match=r"which has 1000.*iid"):
        partition(toy_set, Experiment(clients=20, samples_per_client=500, iid_rate=0.0))
