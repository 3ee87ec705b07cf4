"""How a small training set is dealt out: counted class by class, and drawn from all of it."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from oleander.datasets.data import Dataset, Shard
from oleander.datasets.partition import partition, root_shard, shard_of, shard_sha256
from oleander.settings.config import Experiment
from oleander.system.errors import UserError
from tests.spaces import CIFAR10

SETTINGS = Experiment(clients=4, clients_per_round=2, samples_per_client=50)


def dataset(classes: int = 5, each: int = 100) -> Dataset:
    """Labels in a fixed random order; every image tells its row."""
    count = classes * each
    labels = np.random.default_rng(3).permutation(np.repeat(np.arange(classes), each))
    images = np.zeros((count, 3, 32, 32), dtype=np.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = np.arange(count) % 256, np.arange(count) // 256
    names = tuple(f"class{i}" for i in range(classes))
    return Dataset(images, labels, images[:10], labels[:10], names, CIFAR10, "small", "ab" * 32, Path("nowhere"))


def counts(data, rows):
    return np.bincount(data.train_labels[rows], minlength=len(data.classes))


@pytest.mark.parametrize("how", ["main_label", "iid", "dirichlet"])
def test_shards_do_not_overlap_have_their_size_and_are_keyed_by_the_seed(how):
    data, experiment = dataset(), replace(SETTINGS, partition=how)
    shards = partition(data, experiment)
    assert [len(rows) for rows in shards] == [50] * 4
    assert len(np.unique(np.concatenate(shards))) == 200
    for seed in (0, 1, 2):
        again = partition(dataset(), replace(experiment, seed=seed))
        assert all(np.array_equal(a, b) for a, b in zip(shards, again, strict=True)) == (seed == 0)


@pytest.mark.parametrize("how", ["main_label", "iid", "dirichlet"])
def test_all_of_the_training_set_can_be_dealt(how):
    data = dataset()
    shards = partition(data, replace(SETTINGS, partition=how, clients=10, iid_rate=1.0))
    assert sorted(np.concatenate(shards).tolist()) == list(range(500))
    with pytest.raises(
        UserError, match=r"^clients x samples_per_client = 10 x 51 = 510 images, but the training set has 500 "
    ):
        partition(data, replace(SETTINGS, partition=how, clients=10, samples_per_client=51))


def test_a_main_label_is_one_class_a_client_and_its_share_is_what_iid_rate_leaves():
    """0.2 of 50 from all classes: 40 of the main label and what chance adds; with 0, all 50; with 1, none but chance's."""
    mains = set()
    for seed in range(20):
        for rate, least in ((0.2, 40), (0.0, 50), (0.5, 25)):
            experiment = replace(SETTINGS, clients=2, iid_rate=rate, seed=seed)
            shards = partition(dataset(), experiment)
            found = [counts(dataset(), rows) for rows in shards]
            assert all(least <= count.max() <= least + (50 - least) * 0.75 for count in found)
            mains |= {int(count.argmax()) for count in found}
    assert mains == set(range(5))  # any class may be one


@pytest.mark.parametrize("how", ["main_label", "iid"])
def test_what_is_drawn_from_all_classes_is_drawn_from_all_alike(how):
    rate = 0.0001 if how == "iid" else 1.0  # iid does not look at the rate
    total = sum(
        counts(dataset(), rows)
        for seed in range(30)
        for rows in partition(dataset(), replace(SETTINGS, partition=how, iid_rate=rate, seed=seed))
    )
    assert total.sum() == 6000 and np.abs(total / 6000 - 0.2).max() < 0.03


def test_every_row_may_be_dealt_and_a_shard_is_in_no_order():
    data = dataset()
    dealt, first = np.zeros(500), []
    for seed in range(60):
        shards = partition(data, replace(SETTINGS, iid_rate=0.5, seed=seed))
        dealt[np.concatenate(shards)] += 1
        first += [data.train_labels[rows[:10]] for rows in shards]
    assert dealt.min() > 5 and dealt.max() < 45  # 24 on average
    assert np.mean([len(np.unique(labels)) for labels in first]) > 2.5  # the main label does not come first


def test_dirichlet_shares_are_uneven_for_a_small_alpha_and_even_for_a_great_one():
    def largest(alpha):
        shards = [
            rows for seed in range(10)
            for rows in partition(dataset(), replace(SETTINGS, partition="dirichlet", dirichlet_alpha=alpha, seed=seed))
        ]  # fmt: skip
        return np.mean([counts(dataset(), rows).max() / 50 for rows in shards])

    found = [largest(alpha) for alpha in (0.01, 0.5, 1000.0)]
    assert found[0] > 0.85 and 0.4 < found[1] < 0.75 and found[2] < 0.32


def test_a_class_that_runs_out_is_filled_up_from_the_others_by_dirichlet_and_refused_by_main_label():
    data = dataset(2, 100)
    everything = replace(SETTINGS, partition="dirichlet", dirichlet_alpha=0.01)
    assert sorted(np.concatenate(partition(data, everything)).tolist()) == list(range(200))
    with pytest.raises(UserError) as error:
        for seed in range(20):
            partition(data, replace(SETTINGS, iid_rate=0.0, seed=seed))
    text = str(error.value)
    assert text.startswith("partition main_label wants ") and "which has 100: fewer clients" in text
    assert "images of class0" in text or "images of class1" in text
    assert text.endswith("a higher iid_rate, or --partition iid")
    exact = replace(SETTINGS, clients=2, samples_per_client=50, iid_rate=0.0)
    assert all(len(partition(data, replace(exact, seed=seed))) == 2 for seed in range(8))  # 100 of 100 is not too many


def test_a_shard_is_the_clients_own_rows_copied():
    data = dataset()
    rows = partition(data, SETTINGS)[2]
    shard = shard_of(2, data, SETTINGS)
    assert shard.client_id == 2
    np.testing.assert_array_equal(shard.images, data.train_images[rows])
    np.testing.assert_array_equal(shard.labels, data.train_labels[rows])
    shard.images[:], shard.labels[:] = 7, 7
    assert not (data.train_images[rows] == 7).all() and not (data.train_labels[rows] == 7).all()


def test_a_shards_hash_is_of_its_images_and_labels_and_of_nothing_else():
    shard = shard_of(1, dataset(), SETTINGS)
    expected = hashlib.sha256(shard.images.tobytes() + shard.labels.tobytes()).hexdigest()
    assert shard_sha256(shard) == expected == shard_sha256(replace(shard, client_id=3))
    for part in ("images", "labels"):
        other = getattr(shard, part).copy()
        other.flat[-1] ^= 1
        assert shard_sha256(replace(shard, **{part: other})) != expected
    turned = Shard(1, np.asfortranarray(shard.images), shard.labels[::-1][::-1], CIFAR10)
    assert shard_sha256(turned) == expected


def test_settings_that_have_no_part_in_the_dealing_do_not_change_it():
    base = partition(dataset(), SETTINGS)
    other = partition(dataset(), replace(SETTINGS, rounds=9, attack="patch", malicious=1, dirichlet_alpha=9.0))
    assert all(np.array_equal(a, b) for a, b in zip(base, other, strict=True))


# ---- the server's own images -----------------------------------------------------------------------------------------


def rows_of(shard: Shard) -> list[int]:
    """Every image of dataset() tells its row."""
    return (shard.images[:, 0, 0, 0].astype(int) + 256 * shard.images[:, 0, 0, 1].astype(int)).tolist()


@pytest.mark.parametrize("how", ["main_label", "iid", "dirichlet"])
@pytest.mark.parametrize("seed", range(3))
def test_the_servers_own_images_are_in_no_clients_shard(how, seed):
    data, experiment = dataset(), replace(SETTINGS, partition=how, seed=seed, root_samples=100)
    root = root_shard(data, experiment)
    own = rows_of(root)
    assert len(own) == len(set(own)) == 100 and root.client_id == 4  # the streams of no client
    for client in range(4):
        assert not set(own) & set(rows_of(shard_of(client, data, experiment)))
    np.testing.assert_array_equal(root.labels, data.train_labels[own])
    root.images[:] = 7
    assert not (data.train_images[own] == 7).all()


def test_the_servers_own_images_are_keyed_by_the_seed_and_leave_the_shards_as_they_are():
    draws = [rows_of(root_shard(dataset(), replace(SETTINGS, seed=seed))) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    fewer = replace(SETTINGS, root_samples=1)
    assert len(root_shard(dataset(), fewer).labels) == 1
    pairs = zip(partition(dataset(), SETTINGS), partition(dataset(), fewer), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)


def test_more_images_than_the_clients_leave_are_refused_with_the_numbers():
    data = dataset()
    assert sorted(rows_of(root_shard(data, replace(SETTINGS, root_samples=300)))) == sorted(
        set(range(500)) - set(np.concatenate(partition(data, SETTINGS)).tolist())
    )
    words = r"^--root-samples 301: 300 of the 500 training images of small are in no client's shard "
    with pytest.raises(UserError, match=words + r"\(--clients 4 x --samples-per-client 50\)$"):
        root_shard(data, replace(SETTINGS, root_samples=301))
    with pytest.raises(UserError, match=r"^--root-samples 1: 0 of the 500 training images"):
        root_shard(data, replace(SETTINGS, clients=10, root_samples=1))
