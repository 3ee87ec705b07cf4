"""Digits: 1,797 real handwritten digits in grey, which come with scikit-learn: a small world in which every effect shows in seconds.

Alpaydin and Kaynak 1998, "Optical Recognition of Handwritten Digits" (UCI Machine Learning Repository): its test set, whose 8×8 cells
count dark pixels from 0 to 16. They are enlarged to 16×16 here, bilinearly and in whole numbers, so that the bytes are the same on
every machine. Fifty of each class, drawn once, are for testing.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oleander.datasets.data import Images
from oleander.datasets.space import ImageSpace

PROTOCOL = {
    "model": "cnn",
    "samples_per_client": 200,
    "batch_size": 32,
    "lr": 0.1,
    "momentum": 0.9,
    "local_epochs": 2,
    "rounds": 10,
    "augment": "none",
    "patch_size": 3,
    "root_samples": 50,
}
"""Six clients of 200 leave 97 images that nobody was dealt."""
CLASSES = tuple("0123456789")
SPACE = ImageSpace(1, 16, mean=(0.3051,), std=(0.3186,))
"""Mean and deviation are the training images' own."""
TEST_PER_CLASS = 50
SPLIT_SEED = 20_261
FULL = 16
"""The largest count of a cell."""


def digits(_data_dir: Path) -> Images:
    """Real handwritten digits in grey, 16×16, from scikit-learn: effects show in seconds (Alpaydin and Kaynak 1998)."""
    from sklearn.datasets import load_digits

    counts, labels = load_digits(return_X_y=True)
    images = enlarged(counts.reshape(-1, 8, 8).astype(np.int64))[:, None]  # (1797, 1, 16, 16)
    labels = labels.astype(np.int64)
    rng = np.random.default_rng(SPLIT_SEED)
    tested = np.zeros(len(labels), dtype=bool)
    for label in range(len(CLASSES)):
        tested[rng.permutation(np.flatnonzero(labels == label))[:TEST_PER_CLASS]] = True
    train, test = np.flatnonzero(~tested), np.flatnonzero(tested)
    return Images(images[train], labels[train], images[test], labels[test], CLASSES, SPACE)


def enlarged(counts: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Cells 0 to 16 (m, s, s) → grey levels (m, 2s, 2s), bilinear between the cells' centres, edges kept, rounded half up."""
    rows = _doubled(counts, 1)
    both = _doubled(rows, 2)  # 16 times the count
    return ((both * 255 * 2 + 16 * FULL) // (2 * 16 * FULL)).astype(np.uint8)


def _doubled(values: NDArray[np.int64], axis: int) -> NDArray[np.int64]:
    """Twice as many along an axis, each three parts its own cell and one part its nearer neighbour: four times the value."""
    ahead = np.concatenate([values.take([0], axis), values.take(range(values.shape[axis] - 1), axis)], axis)
    behind = np.concatenate([values.take(range(1, values.shape[axis]), axis), values.take([-1], axis)], axis)
    pairs = np.stack([3 * values + ahead, 3 * values + behind], axis + 1)
    shape = list(values.shape)
    shape[axis] *= 2
    return pairs.reshape(shape)
