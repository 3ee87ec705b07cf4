"""A vote of models on test images: against a count in plain Python, ties, voters without an answer, and what is voted on."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from oleander.datasets.data import Dataset
from oleander.learning.evaluation import NO_CLASS, UNCOUNTED, Answers, Victims
from oleander.learning.votes import Count, Poll
from tests.spaces import CIFAR10


def dataset(count=250, classes=10) -> Dataset:
    labels = np.arange(count) % classes
    images = np.repeat(labels.astype(np.uint8), 12).reshape(count, 3, 2, 2)
    names = tuple(f"c{c}" for c in range(classes))
    return Dataset(images, labels, images, labels, names, CIFAR10, "made up", "0", Path("/"))


def elected(*ballots, classes=4):
    count = Count(classes)
    for ballot in ballots:
        count.add(np.array(ballot))
    return count.elected().tolist()


def test_the_answer_is_the_class_that_most_name_as_a_plain_count_has_it():
    ballots = np.random.default_rng(0).integers(0, 4, (9, 200))
    wanted = [min(c for c, n in Counter(b).items() if n == max(Counter(b).values())) for b in ballots.T.tolist()]
    assert elected(*ballots) == wanted


def test_of_equal_ones_the_lowest_and_who_has_no_answer_does_not_vote():
    none, out = NO_CLASS, UNCOUNTED
    assert elected([3, 1, none, none, out], [1, 1, none, 2, out], [3, 2, none, none, out]) == [3, 1, none, 2, out]
    assert elected([3, 2], [1, 0]) == [1, 0]


def test_scores_are_those_of_the_elected_answers():
    """Two of three voters take every stamped image for the target; each is wrong on other clean images."""
    poll = Poll(dataset(), None, 0, seed=1)
    assert len(poll.rows) == 250 and poll.labels.tolist() == dataset().test_labels.tolist()
    for voter in range(3):
        clean = np.where(np.arange(250) % 25 == voter, 9, poll.labels)
        stamped = poll.labels if voter == 0 else np.zeros(250, np.int64)
        poll.count(Answers(clean, np.where(poll.victims.wanted >= 0, stamped, UNCOUNTED)))
    found = poll.scores()
    assert (found.mta, found.asr, found.robust_accuracy, found.loss, poll.voters) == (1.0, 1.0, 0.0, None, 3)


def test_without_victims_there_is_no_asr():
    poll = Poll(dataset(), None, 0, seed=1)
    poll.count(Answers(poll.labels, None))
    assert (poll.scores().asr, poll.scores().robust_accuracy) == (None, None)


def test_a_thousand_images_are_drawn_by_the_seed_and_of_an_attacks_own_as_many():
    one, again, other = (Poll(dataset(3000), None, 0, seed).rows.tolist() for seed in (1, 1, 2))
    assert one == again != other and len(set(one)) == 1000 and one == sorted(one)
    wanted = np.arange(3000) % 10
    same = Poll(dataset(3000), Victims(wanted, stamped=False), 0, 1)
    np.testing.assert_array_equal(same.victims.wanted, wanted[one])
    own = np.arange(1200, dtype=np.uint8).repeat(12).reshape(1200, 3, 2, 2)
    few = Poll(dataset(30), Victims(np.arange(1200) % 10, images=own), 0, 1)
    assert len(few.rows) == 30 and few.victims.images is not None and len(few.victims.images) == 1000
    rows = Poll(dataset(1200), None, 0, 1).rows
    np.testing.assert_array_equal(few.victims.images, own[rows])
    np.testing.assert_array_equal(few.victims.wanted, (np.arange(1200) % 10)[rows])


def test_nobody_has_voted_before_the_first():
    with pytest.raises(AssertionError):
        Poll(dataset(), None, 0, 1).scores()
