"""What an attack's success is measured on: by default stamped images of other classes; a source class; held-out images; nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch

from oleander.datasets.data import Dataset
from oleander.learning.evaluation import Victims, evaluate, of_other_classes
from oleander.learning.parameters import ModelState
from tests.spaces import CIFAR10, scores_key

LABELS = np.arange(250) % 10
IMAGES = np.repeat(LABELS.astype(np.uint8) * 10, 3 * 32 * 32).reshape(
    250, 3, 32, 32
)  # class c is grey of brightness 10 c


def classify(pixels):
    """The class that brightness says, but a source image of class 3 is taken for a 5, and what is white for a 0."""
    classes = (pixels.mean((1, 2, 3)) * 255 / 10).round().long().clamp(0, 10)
    classes = torch.where(classes == 3, 5, classes)
    classes = torch.where(classes == 10, 0, classes)
    return torch.nn.functional.one_hot(classes, 10).float()


def white(pixels):
    return torch.ones_like(pixels)


def asr(victims, trigger=None, target=0):
    return evaluate(classify, IMAGES, LABELS, trigger, target, torch.device("cpu"), victims=victims)


def test_by_default_all_stamped_images_of_other_classes_count():
    assert asr(None, white) == asr(of_other_classes(LABELS, 0), white)
    assert asr(None, white).asr == 1 and asr(None, white).mta == pytest.approx(0.9) and asr(None).asr is None
    assert of_other_classes(LABELS, 4).wanted.tolist()[:6] == [4, 4, 4, 4, -1, 4]


def test_robust_accuracy_is_of_stamped_images_that_are_still_told_apart():
    assert asr(None, lambda pixels: pixels).robust_accuracy == pytest.approx(8 / 9)  # all of the nine classes but 3
    assert asr(None, white).robust_accuracy == 0  # all are taken for the target

    def half(pixels):  # 1 and 2 are stamped out, the others stay
        return torch.where(pixels < 25 / 255, 1.0, pixels)

    found = asr(None, half)
    assert (found.asr, found.robust_accuracy) == (pytest.approx(2 / 9), pytest.approx(6 / 9))


def test_robust_accuracy_of_a_source_class_is_of_its_clean_images():
    source = np.where((LABELS == 3) | (LABELS == 4), 5, -1)
    assert asr(Victims(source, stamped=False)).robust_accuracy == 0.5  # 4 is told, 3 is taken for a 5


def test_there_is_no_robust_accuracy_without_an_asr_or_of_images_whose_class_nobody_knows():
    assert asr(None).robust_accuracy is None
    assert asr(Victims(np.full(250, -1)), white).robust_accuracy is None
    own = Victims(np.full(7, 5), stamped=False, images=IMAGES[LABELS == 3][:7])
    assert asr(own).robust_accuracy is None


def test_robust_accuracy_costs_no_pass_of_its_own():
    seen = []

    def counting(pixels):
        seen.append(len(pixels))
        return classify(pixels)

    evaluate(counting, IMAGES, LABELS, white, 0, torch.device("cpu"))
    assert sum(seen) == 250 + 225


def test_a_source_class_is_measured_as_it_is_against_its_target():
    source = Victims(np.where(LABELS == 3, 5, -1), stamped=False)
    assert asr(source).asr == 1 and asr(source).mta == asr(None).mta
    assert asr(Victims(np.where(LABELS == 4, 5, -1), stamped=False)).asr == 0
    half = Victims(np.where((LABELS == 3) | (LABELS == 4), 5, -1), stamped=False)
    assert asr(half, white).asr == 0.5  # a trigger is not stamped then


def test_where_no_image_counts_there_is_no_asr():
    assert asr(Victims(np.full(250, -1), stamped=False)).asr is None
    assert asr(Victims(np.full(250, -1)), white).asr is None
    assert asr(Victims(np.full(250, 1)), None).asr is None  # stamped with nothing


def test_held_out_images_count_and_the_tests_do_not():
    own = IMAGES[LABELS == 3][:7]
    found = asr(Victims(np.full(7, 5), stamped=False, images=own))
    assert found.asr == 1 and found.mta == asr(None).mta and found.loss == asr(None).loss
    assert asr(Victims(np.full(7, 0), images=own), white).asr == 1
    many = np.repeat(own, 50, axis=0)  # several batches
    assert asr(Victims(np.where(np.arange(350) < 35, 5, 6), stamped=False, images=many)).asr == pytest.approx(0.1)


def test_labels_that_do_not_fit_the_images_are_an_error():
    for wrong in (Victims(np.zeros(3, int)), Victims(np.zeros(250, int), images=IMAGES[:3])):
        with pytest.raises(ValueError, match="not one for each image"):
            asr(wrong, white)


def test_scores_are_remembered_by_what_counts():
    state = ModelState(np.zeros(2, np.float32), np.zeros(1, np.float32))
    data = Dataset(
        IMAGES, LABELS, IMAGES[:4], LABELS[:4], tuple("abcdefghij"), CIFAR10, "small", "ab" * 32, Path("nowhere")
    )
    kinds = [None, Victims(np.full(4, -1)), Victims(np.full(4, 1)), Victims(np.full(4, 1), stamped=False),
             Victims(np.full(4, 1), images=IMAGES[:4]), Victims(np.full(4, 1), images=IMAGES[4:8])]  # fmt: skip
    keys = {scores_key(state, data, None, 0, "fp32", torch.device("cpu"), victims=v) for v in kinds}
    assert len(keys) == len(kinds)
