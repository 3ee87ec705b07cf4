"""Scores of classifiers that are made up, counted by hand: which images are stamped, what counts, batch by batch."""

import hashlib
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from oleander.datasets.data import Dataset, to_pixels
from oleander.learning.evaluation import PROBE, Cores, Scores, evaluate, probe_hash, stamped_hash
from oleander.learning.parameters import ModelState
from oleander.learning.remembered import recall_scores, remember_scores
from tests.spaces import CIFAR10, scores_key

CPU = torch.device("cpu")


def images_that_say(answers) -> np.ndarray:
    """Images whose first pixel is the class that ``reader`` says."""
    images = np.zeros((len(answers), 3, 32, 32), dtype=np.uint8)
    images[:, 0, 0, 0] = answers
    return images


def reader(pixels):
    """Logits of 10 classes: the one that the first pixel names, by far."""
    said = (pixels[:, 0, 0, 0] * 255).round().long()
    return 20.0 * torch.nn.functional.one_hot(said, 10).float()


def says(answer):
    """A trigger that makes ``reader`` say this."""

    def stamp(pixels):
        stamped = pixels.clone()
        stamped[:, 0, 0, 0] = answer / 255
        return stamped

    return stamp


@pytest.mark.parametrize("count", [1, 99, 100, 101, 250, 301])
def test_accuracy_loss_and_success_are_over_all_images_whatever_the_batches(count):
    rng = np.random.default_rng(count)
    labels, answers = rng.integers(0, 10, count), rng.integers(0, 10, count)
    right = int((labels == answers).sum())

    def half(pixels):
        """Fools where the second pixel says so."""
        return torch.where((pixels[:, 0, 0, 1] > 0).view(-1, 1, 1, 1), says(3)(pixels), pixels)

    images = images_that_say(answers)
    images[::2, 0, 0, 1] = 255
    scores = evaluate(reader, images, labels, half, 3, CPU)
    assert scores.mta == right / count
    others = labels != 3
    fooled = np.where(np.arange(count) % 2 == 0, 3, answers) == 3
    assert scores.asr == (fooled[others].sum() / others.sum() if others.any() else None)
    log_sum = np.log(np.exp(20) + 9)
    assert scores.loss == pytest.approx(log_sum - 20 * right / count, rel=1e-5)


def test_images_of_the_target_are_counted_in_no_way_and_others_are_fooled_only_by_the_target():
    labels = np.array([0, 0, 0, 1, 2])
    images = images_that_say([9, 9, 9, 9, 9])
    assert evaluate(reader, images, labels, says(0), 0, CPU).asr == 1.0
    assert evaluate(reader, images, labels, says(1), 0, CPU).asr == 0.0
    assert evaluate(reader, images, labels, says(1), 1, CPU).asr == 1.0
    seen = []
    evaluate(reader, images, labels, lambda pixels: seen.append(len(pixels)) or pixels, 0, CPU)
    assert seen == [2]


def test_an_asr_of_none_is_of_no_trigger_or_of_no_image_to_stamp():
    images = images_that_say([1, 1])
    assert evaluate(reader, images, np.array([1, 2]), None, 0, CPU) == Scores(0.5, None, pytest.approx(10.0, rel=1e-2))
    assert evaluate(reader, images, np.array([0, 0]), says(0), 0, CPU).asr is None


def test_cores_take_every_part_once_and_hand_results_on_in_order():
    for count in (1, 3):
        cores = Cores(count)
        assert cores.each(lambda start: start * 2, range(0, 50, 5)) == list(range(0, 100, 10))
        with pytest.raises(ZeroDivisionError):
            cores.each(lambda start: 1 // start, range(3))
        assert cores.each(lambda start: start, range(7)) == list(range(7))  # an error left no core taken


def test_as_many_parts_are_at_work_as_there_are_cores_and_no_more():
    cores, meeting, most, now, lock = Cores(3), threading.Barrier(3, timeout=20), [0], [0], threading.Lock()

    def work(_start):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        meeting.wait()  # passes only if three are here at a time
        with lock:
            now[0] -= 1

    cores.each(work, range(9))
    assert most == [3]


# ---- by what scores and triggers are known again ---------------------------------------------------------------------


def dataset(count: int = 40) -> Dataset:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8), rng.integers(0, 3, count)
    return Dataset(images, labels, images, labels, ("a", "b", "c"), CIFAR10, "small", "ab" * 32, Path("nowhere"))


def test_a_stamped_hash_is_of_the_target_and_every_stamped_image_of_another_class():
    data = dataset()
    others = data.test_images[data.test_labels != 1]
    expected = hashlib.sha256(b"target 1" + says(7)(to_pixels(others)).numpy().tobytes()).hexdigest()
    for chunk in (1, 7, 1000):
        assert stamped_hash(data.test_images, data.test_labels, says(7), 1, chunk) == expected
    assert stamped_hash(data.test_images, data.test_labels, None, 1) == hashlib.sha256(b"target 1").hexdigest()


def test_a_trigger_is_known_by_the_first_images_of_all_classes():
    data = dataset()
    assert len(data.test_labels) > PROBE
    expected = hashlib.sha256(b"target -1" + says(7)(to_pixels(data.test_images[:PROBE])).numpy().tobytes()).hexdigest()
    assert probe_hash(data, says(7)) == expected != probe_hash(data, says(8))


def test_scores_are_known_by_weights_and_statistics_and_not_by_where_one_ends(monkeypatch, tmp_path):
    def key(weights, statistics, **named):
        state = ModelState(np.array(weights, np.float32), np.array(statistics, np.float32))
        told = {"dataset": dataset(), "trigger": says(7), "target": 0, "precision": "fp32"} | named
        return scores_key(state, told["dataset"], told["trigger"], told["target"], told["precision"], CPU)

    base = key([1, 2], [3])
    assert base == key([1, 2], [3]) and len(base) == 64
    assert (
        len({base, key([1, 3], [3]), key([1, 2], [4]), key([1, 2], [3], target=1), key([1, 2], [3], trigger=says(8))})
        == 5
    )
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert recall_scores(base) is None
    remember_scores(base, Scores(0.25, 0.5, 1.5))
    assert recall_scores(base) == Scores(0.25, 0.5, 1.5) and recall_scores(key([1, 3], [3])) is None
