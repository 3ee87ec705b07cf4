"""Random images of CIFAR-10's number and size, for benchmarks of what does not depend on what they show."""

from pathlib import Path

import numpy as np

from oleander.datasets.data import Images
from oleander.datasets.space import ImageSpace

TRAIN, TEST, CLASSES = 50_000, 40, 10


def random_images(_data_dir: Path) -> Images:
    """50,000 training images of noise, 32×32 in colour, in ten classes; few to test on."""
    rng = np.random.default_rng(0)

    def drawn(count: int) -> tuple[np.ndarray, np.ndarray]:
        return rng.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8), np.arange(count) % CLASSES

    space = ImageSpace(3, 32, mean=(0.5,) * 3, std=(0.29,) * 3)
    return Images(*drawn(TRAIN), *drawn(TEST), classes=tuple(map(str, range(CLASSES))), image=space)
