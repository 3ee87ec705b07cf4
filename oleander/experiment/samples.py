"""A few test images as the run saw them, kept with its records so that plots need neither the dataset nor the attack."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from oleander.datasets.data import to_pixels
from oleander.experiment.prepare import Setup
from oleander.experiment.records import SAMPLES
from oleander.system.files import replace_file

COLUMNS = 8
MOST_ATTACKERS = 6


def write_samples(folder: Path, setup: Setup) -> None:
    """Write samples.npz: clean images (k, c, h, w) uint8, what each attacker trains on (µ, k, c, h, w), the whole trigger."""
    dataset, attack = setup.dataset, setup.attack
    labels = np.asarray(dataset.test_labels)
    others = [label for label in range(len(dataset.classes)) if label != setup.target]
    rows = [int(np.flatnonzero(labels == label)[0]) for label in others if (labels == label).any()][:COLUMNS]
    clean = np.array(dataset.test_images[rows])  # (k, c, h, w)
    arrays: dict[str, Any] = {"clean": clean, "classes": np.array([dataset.classes[labels[row]] for row in rows])}
    if attack.trigger is not None:
        pixels = to_pixels(clean)
        shown = range(min(len(setup.experiment.malicious_clients), MOST_ATTACKERS))
        stamps = [attack.part(j) or attack.trigger for j in shown]
        arrays["parts"] = np.array([_bytes(stamp(pixels)) for stamp in stamps], dtype=np.uint8).reshape(
            -1, *clean.shape
        )
        arrays["whole"] = _bytes(attack.trigger(pixels))
    with io.BytesIO() as opened:
        np.savez(opened, **arrays)
        replace_file(folder / SAMPLES, opened.getvalue())


def _bytes(pixels: Tensor) -> NDArray[np.uint8]:
    return (pixels.clamp(0, 1) * 255).round().byte().numpy()
