"""A few test images as the run saw them, kept with its records so that plots need neither the dataset nor the attack."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from oleander.datasets.data import to_pixels
from oleander.experiment.prepare import Setup
from oleander.experiment.records import SAMPLES
from oleander.learning.evaluation import Classifier, answers
from oleander.system.files import replace_file

MOST_IMAGES = 20
MOST_ATTACKERS = 6


def write_samples(folder: Path, setup: Setup, classify: Classifier | None = None, device: str = "cpu") -> None:
    """Write samples.npz: an image of each class (the first of the test set) or, of many classes, of MOST_IMAGES spread over all.

    It holds clean images (k, c, h, w) uint8 and their ``classes``, what each attacker trains on (µ, k, c, h, w), the ``whole``
    trigger on them, ``target``, the name of its class, and of a classifier, if there is one already, the ``answers`` on clean and on
    stamped images (2, k), nothing where it gives none, and how sure it is of them (2, k), the softmax of its logits.
    """
    dataset, attack = setup.dataset, setup.attack
    labels, target = np.asarray(dataset.test_labels), setup.target
    shown = _classes_shown(labels, len(dataset.classes), target)
    rows = [int(np.flatnonzero(labels == label)[0]) for label in shown]
    clean = np.array(dataset.test_images[rows])  # (k, c, h, w)
    arrays: dict[str, Any] = {"clean": clean, "classes": np.array([dataset.classes[labels[row]] for row in rows])}
    arrays["target"] = np.array(dataset.classes[target])
    pixels = to_pixels(clean)
    seen = [pixels]
    if attack.trigger is not None:
        attackers = range(min(len(setup.experiment.malicious_clients), MOST_ATTACKERS))
        stamps = [attack.part(j) or attack.trigger for j in attackers]
        parts = [_bytes(stamp(pixels)) for stamp in stamps]
        arrays["parts"] = np.array(parts, dtype=np.uint8).reshape(-1, *clean.shape)
        seen.append(attack.trigger(pixels))
        arrays["whole"] = _bytes(seen[1])
    if classify is not None:
        told = [_answered(classify, images.to(device), dataset.classes) for images in seen]
        arrays["answers"], arrays["sure"] = np.array([t[0] for t in told]), np.array([t[1] for t in told], np.float32)
    with io.BytesIO() as opened:
        np.savez(opened, **arrays)
        replace_file(folder / SAMPLES, opened.getvalue())


def _classes_shown(labels: NDArray[Any], classes: int, target: int) -> list[int]:
    """The classes that have test images, the target's last; of many, some spread over all."""
    there = np.flatnonzero(np.bincount(labels, minlength=classes))
    others = there[there != target]
    most = MOST_IMAGES - 1
    if len(others) > most:
        others = others[np.linspace(0, len(others) - 1, most).round().astype(int)]
    return [*others.tolist(), *([target] if target in there else [])]


@torch.inference_mode()
def _answered(
    classify: Classifier, pixels: Tensor, classes: tuple[str, ...] | list[str]
) -> tuple[list[str], list[float]]:
    """The names that a classifier gives these images (k,), nothing where it gives none, and how sure it is of each."""
    logits = classify(pixels)  # (k, classes)
    found = answers(logits).tolist()
    sure = logits.softmax(1).max(1).values.nan_to_num(0.0).tolist()
    return [classes[answer] if answer >= 0 else "" for answer in found], sure


def _bytes(pixels: Tensor) -> NDArray[np.uint8]:
    return (pixels.clamp(0, 1) * 255).round().byte().numpy()
