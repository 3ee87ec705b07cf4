"""CIFAR-10: 60,000 photographs of ten classes, 32 × 32 pixels in colour; 50,000 for training, 10,000 for testing.

Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images" (University of Toronto). Mean and deviation are those that
the course's protocol normalises with.
"""

from pathlib import Path

import numpy as np

from oleander.datasets.data import Images
from oleander.datasets.downloads import Archive, fetch
from oleander.datasets.listing import listing_key
from oleander.datasets.space import ImageSpace

CIFAR10 = ImageSpace(3, 32, mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010))
FOLDER = "cifar-10-batches-py"


def cache_key(data_dir: Path) -> str:
    """Of its files' names, sizes and times."""
    return listing_key(data_dir / FOLDER, f"--data-dir {data_dir}")


def cifar10(data_dir: Path) -> Images:
    """CIFAR-10, downloaded to --data-dir if it is not there.

    Args:
        data_dir: where torchvision's archive and folder are, or are put.

    Raises:
        UserError: it cannot be had.
    """
    from torchvision import datasets

    try:
        return _read(data_dir)
    except (RuntimeError, OSError):  # torchvision found no whole CIFAR-10 there
        archive = Archive(data_dir / datasets.CIFAR10.filename, (datasets.CIFAR10.url,), datasets.CIFAR10.tgz_md5)
        fetch("CIFAR-10", data_dir, [archive], damaged=(data_dir / FOLDER).is_dir())
        datasets.CIFAR10(data_dir, train=True, download=True)  # unpacks it
        return _read(data_dir)


def _read(data_dir: Path) -> Images:
    from torchvision import datasets

    train, test = (
        datasets.CIFAR10(data_dir, train=train) for train in (True, False)
    )  # checks MD5 sums before it unpickles
    return Images(
        np.ascontiguousarray(train.data.transpose(0, 3, 1, 2)),  # (50000, 3, 32, 32)
        np.array(train.targets, dtype=np.int64),
        np.ascontiguousarray(test.data.transpose(0, 3, 1, 2)),  # (10000, 3, 32, 32)
        np.array(test.targets, dtype=np.int64),
        tuple(train.classes),
        CIFAR10,
    )
