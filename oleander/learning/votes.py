"""A vote of several models on test images: each names a class for each image, and the class that most name is the answer.

It is how smoothed models are asked: many copies of one, each with noise of its own (``docs/definitions.md``, CRFL).
"""

from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from oleander.datasets.data import Dataset
from oleander.learning.evaluation import NO_CLASS, UNCOUNTED, Answers, Scores, Victims, of_other_classes, shares
from oleander.system.streams import generator

VOTED_ON = 1000
"""Test images that are voted on, at most; as many of an attack's own."""


class Poll:
    """A vote on some of the test images, which the seed draws; one voter after the other is counted."""

    def __init__(self, dataset: Dataset, victims: Victims | None, target: int, seed: int) -> None:
        """``victims`` are what the ASR is measured on among all (default: images of other classes than ``target``, stamped)."""
        self._dataset, self._victims, self._target, self._seed = dataset, victims, target, seed
        self.voters = 0
        self._clean, self._fooled = Count(len(dataset.classes)), Count(len(dataset.classes))

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """Which of the test images are voted on, in their order."""
        return _drawn(self._seed, len(self._dataset.test_labels))

    @cached_property
    def images(self) -> NDArray[np.uint8]:
        """(m, c, h, w)"""
        return np.asarray(self._dataset.test_images)[self.rows]

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """(m,) their true classes."""
        return np.asarray(self._dataset.test_labels)[self.rows]

    @cached_property
    def victims(self) -> Victims:
        """What the ASR is measured on among them, or as many of the attack's own images."""
        if self._victims is None:
            return of_other_classes(self.labels, self._target)
        if self._victims.images is None:
            return replace(self._victims, wanted=self._victims.wanted[self.rows])
        own = _drawn(self._seed, len(self._victims.images))
        return replace(self._victims, wanted=self._victims.wanted[own], images=self._victims.images[own])

    def count(self, answers: Answers) -> None:
        """Count one voter's answers."""
        self.voters += 1
        self._clean.add(answers.clean)
        if answers.victims is not None:
            self._fooled.add(answers.victims)

    def scores(self) -> Scores:
        """Of the answers that most voters gave, without a loss."""
        fooled = None if self._fooled.votes is None else self._fooled.elected()
        return shares(Answers(self._clean.elected(), fooled), self.labels, self.victims)


class Count:
    """The votes for each class, on each image."""

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.votes: NDArray[np.int64] | None = None
        """(m, classes); None before the first voter."""
        self._uncounted: NDArray[np.bool_] | None = None

    def add(self, answers: NDArray[np.int64]) -> None:
        """Count the answers (m,) of one voter; it may have none to an image."""
        if self.votes is None:
            self.votes, self._uncounted = np.zeros((len(answers), self.classes), np.int64), answers == UNCOUNTED
        named = np.flatnonzero(answers >= 0)
        self.votes[named, answers[named]] += 1

    def elected(self) -> NDArray[np.int64]:
        """(m,) the class with the most votes, of several the lowest; NO_CLASS where none has any."""
        assert self.votes is not None and self._uncounted is not None
        most = np.where(self.votes.any(1), self.votes.argmax(1), NO_CLASS)
        return np.where(self._uncounted, UNCOUNTED, most)


def _drawn(seed: int, count: int) -> NDArray[np.int64]:
    """The rows of at most ``VOTED_ON`` of so many images."""
    return np.sort(generator(seed, "voted on").choice(count, min(count, VOTED_ON), replace=False))
