"""The partitions beside the first three, unequal sizes, and that today's deals stay what they are."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from oleander.datasets.partition import partition, root_shard, shard_of
from oleander.datasets.shares import SHARES
from oleander.settings.cli import parse
from oleander.settings.config import Experiment, validated
from oleander.system.errors import UserError
from tests.datasets.test_partition import SETTINGS, counts, dataset, rows_of

GOLDEN = {
    ("main_label", 0): "59361fa9b17c57ac", ("main_label", 7): "35e2c79c9f867876",
    ("iid", 0): "0bf04f86367b3d3d", ("iid", 7): "5105d6a99b368b1b",
    ("dirichlet", 0): "5d7689b13553d96e", ("dirichlet", 7): "65d0cfca2951a87d",
}  # fmt: skip
"""Of the rows of seven clients with 37 images each and an iid_rate of 0.4, one after the other; from commit 9a838f3."""
BY_CLASS = [*SHARES]


@pytest.mark.parametrize(("how", "seed"), GOLDEN)
def test_deals_of_before_are_what_they_were(how, seed):
    shards = partition(
        dataset(), replace(SETTINGS, partition=how, seed=seed, clients=7, samples_per_client=37, iid_rate=0.4)
    )
    assert hashlib.sha256(np.concatenate(shards).tobytes()).hexdigest()[:16] == GOLDEN[how, seed]


def with_writers(made=(30, 10, 60, 5, 20)):
    """dataset(), its images by these writers, in no order; the rest by writer 99."""
    data = dataset()
    names = np.repeat([7, 3, 12, 40, 5], made)
    names = np.concatenate([names, np.full(500 - len(names), 99)])
    return replace(data, writers=np.random.default_rng(1).permutation(names))


# ---- shards ----------------------------------------------------------------------------------------------------------


def test_shards_are_pieces_of_the_images_sorted_by_label_and_all_can_be_dealt():
    """McMahan et al. 2017: 10 clients, two pieces of 25 each; four pieces a class, so that no piece has two classes."""
    for seed in range(10):
        data, experiment = dataset(), replace(SETTINGS, partition="shards", clients=10, seed=seed)
        shards = partition(data, experiment)
        assert sorted(np.concatenate(shards).tolist()) == list(range(500))
        found = [counts(data, rows) for rows in shards]
        assert all(set(count.tolist()) <= {0, 25, 50} and count.sum() == 50 for count in found)


def test_a_piece_may_span_two_classes_and_a_client_has_at_most_two_a_piece():
    for each in (1, 2, 3):
        experiment = replace(SETTINGS, partition="shards", clients=9, shards_per_client=each)
        found = np.array([counts(dataset(), rows) for rows in partition(dataset(), experiment)])  # (clients, classes)
        kinds = (found > 0).sum(axis=1)
        assert kinds.max() <= 2 * each and kinds.sum() <= 9 * each + 4  # four places where one class ends
        assert kinds.mean() < each + 0.6


def test_as_many_pieces_as_images_are_a_deal_at_random():
    experiment = replace(SETTINGS, partition="shards", clients=5, samples_per_client=100, shards_per_client=100)
    found = np.array([counts(dataset(), rows) for rows in partition(dataset(), experiment)])
    assert found.min() > 5 and found.max() < 40


def test_which_pieces_a_client_gets_is_drawn():
    experiment = replace(SETTINGS, partition="shards", clients=5, samples_per_client=100, shards_per_client=1)
    first = [counts(dataset(), partition(dataset(), replace(experiment, seed=seed))[0]) for seed in range(20)]
    assert {int(count.argmax()) for count in first} == set(range(5)) and all(count.max() == 100 for count in first)


# ---- pathological ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_each_client_has_exactly_so_many_classes_in_even_parts(k):
    for seed in range(5):
        experiment = replace(SETTINGS, partition="pathological", classes_per_client=k, seed=seed)
        for rows in partition(dataset(), experiment):
            has = counts(dataset(), rows)
            parts = has[has > 0]
            assert len(parts) == k and parts.sum() == 50 and parts.max() - parts.min() <= 1


def test_classes_are_drawn_alike_and_nearly_all_images_can_be_dealt():
    drawn = sum(
        (counts(dataset(), rows) > 0).astype(int)
        for seed in range(60)
        for rows in partition(dataset(), replace(SETTINGS, partition="pathological", seed=seed))
    )
    assert drawn.sum() == 480 and np.abs(drawn / 480 - 0.2).max() < 0.06
    for seed in range(20):  # 49 of the 50 parts that the classes have
        full = replace(SETTINGS, partition="pathological", clients=24, samples_per_client=20, seed=seed)
        assert len(partition(dataset(), full)) == 24


# ---- writers ---------------------------------------------------------------------------------------------------------


def test_each_client_has_the_images_of_a_writer_of_its_own():
    data = with_writers()
    for seed in range(8):
        experiment = replace(SETTINGS, partition="writers", clients=6, seed=seed, samples_per_client=1000)
        shards = partition(data, experiment)
        owners = [set(data.writers[rows].tolist()) for rows in shards]
        assert all(len(owner) == 1 for owner in owners) and len(set.union(*owners)) == 6
        assert sorted(np.concatenate(shards).tolist()) == list(range(500))
    orders = {
        tuple(int(data.writers[rows[0]]) for rows in partition(data, replace(experiment, seed=s))) for s in range(8)
    }
    assert len(orders) > 4  # whose client is whose is drawn


def test_a_number_is_the_most_of_a_writer_and_a_ranges_least_what_it_must_have_made():
    data = with_writers()
    sizes = [
        len(rows) for rows in partition(data, replace(SETTINGS, partition="writers", clients=6, samples_per_client=20))
    ]
    assert sorted(sizes) == [5, 10, 20, 20, 20, 20]
    experiment = replace(SETTINGS, partition="writers", samples_per_client="20-40")
    sizes = [len(rows) for rows in partition(data, experiment)]
    assert sorted(sizes) == [20, 30, 40, 40]
    with pytest.raises(UserError, match=r"^partition writers: --clients 5, but the training images of small are by 6 writers, "
                                        r"4 of whom made 20 or more \(--samples-per-client 20-40\)$"):  # fmt: skip
        partition(data, replace(experiment, clients=5))
    with pytest.raises(
        UserError, match=r"^partition writers: --clients 7, but the training images of small are by 6 writers$"
    ):
        partition(data, replace(experiment, clients=7, samples_per_client=384))
    some = [set(partition(data, replace(SETTINGS, partition="writers", clients=6, samples_per_client=20, seed=s))[0].tolist())
            for s in range(12)]  # fmt: skip
    assert len(set(map(frozenset, some))) > 6  # which of a writer's images are taken is drawn too


def test_images_of_nobody_known_cannot_be_dealt_by_who_made_them():
    with pytest.raises(UserError, match=r"^partition writers: small does not know who made its images$"):
        partition(dataset(), replace(SETTINGS, partition="writers"))


def test_the_servers_own_images_are_by_writers_whom_no_client_is():
    data, experiment = with_writers(), replace(SETTINGS, partition="writers", root_samples=20, samples_per_client=500)
    own = {w for client in range(4) for w in data.writers[rows_of(shard_of(client, data, experiment))].tolist()}
    assert not own & set(data.writers[rows_of(root_shard(data, experiment))].tolist())


# ---- unequal sizes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", BY_CLASS)
def test_a_range_is_drawn_of_by_each_client_whatever_the_partition(how):
    data = dataset()
    drawn = []
    for seed in range(20):
        experiment = replace(SETTINGS, partition=how, samples_per_client="10-60", seed=seed, iid_rate=0.9)
        shards = partition(data, experiment)
        assert len(np.unique(np.concatenate(shards))) == sum(map(len, shards))
        assert [len(shard_of(c, data, experiment).labels) for c in range(4)] == [len(rows) for rows in shards]
        drawn += map(len, shards)
    assert min(drawn) >= 10 and max(drawn) <= 60 and len(set(drawn)) > 25 and 30 < np.mean(drawn) < 40


def test_all_partitions_draw_the_same_sizes_and_so_it_can_be_told_what_they_do():
    sizes = {
        tuple(len(rows) for rows in partition(dataset(), replace(SETTINGS, partition=how, samples_per_client="10-60")))
        for how in BY_CLASS
    }
    assert len(sizes) == 1


def test_a_main_label_is_a_share_of_each_clients_own_number():
    experiment = replace(SETTINGS, samples_per_client="10-60", iid_rate=0.0)
    assert all((counts(dataset(), rows) > 0).sum() == 1 for rows in partition(dataset(), experiment))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"samples_per_client": "200-300"}, r"^clients x samples_per_client = 4 x 200-300 = \d+ images with seed 0, but the training "
                                            r"set has 500 and shards do not overlap$"),
        ({"partition": "shards", "shards_per_client": 51}, r"^--shards-per-client 51: more than the 50 images of a client "
                                                           r"\(--samples-per-client 50\)$"),
        ({"partition": "pathological", "classes_per_client": 6}, r"^--classes-per-client 6: the training set has 5 classes$"),
        ({"partition": "pathological", "classes_per_client": 4, "samples_per_client": 3},
         r"^--classes-per-client 4: more than the 3 images of a client \(--samples-per-client 3\)$"),
        ({"partition": "pathological", "classes_per_client": 1, "samples_per_client": 60, "clients": 6},
         r"^partition pathological: 1 classes with 60 images each for one of 6 clients, but only 0 classes have so many left"),
    ],
)  # fmt: skip
def test_settings_that_contradict_each_other_are_refused(changes, words):
    with pytest.raises(UserError, match=words):
        partition(dataset(), replace(SETTINGS, **changes))


@pytest.mark.parametrize("text", ["600-100", "0-5", "5-", "--5", "1.5", "x", "", "1-2-3", "10-2000000", "٣-٤"])
def test_what_is_no_number_and_no_range_is_refused_with_value_and_rule(text):
    with pytest.raises(UserError) as error:
        parse([f"--samples-per-client={text}"])
    assert "samples_per_client" in str(error.value) and "LEAST-MOST" in str(error.value)
    with pytest.raises(UserError, match="samples_per_client"):
        validated({"samples_per_client": text}, "a file")


def test_a_number_is_kept_as_a_number_so_that_records_and_keys_of_before_stay():
    for text, kept in (("384", 384), ("100-600", "100-600"), (" 100 - 600 ", "100-600"), ("50-50", 50)):
        assert parse([f"--samples-per-client={text}"]).samples_per_client == kept
        assert validated({"samples_per_client": text}, "a file").samples_per_client == kept
    experiment = validated({"samples_per_client": "100-600"}, "a file")
    assert Experiment.from_json(experiment.to_json()) == experiment
