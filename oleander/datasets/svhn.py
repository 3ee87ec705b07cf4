"""SVHN: digits of house numbers in photographs, 32 × 32 pixels in colour; ten classes, 73,257 for training, 26,032 for testing.

Netzer, Wang, Coates, Bissacco, Wu, Ng 2011, "Reading Digits in Natural Images with Unsupervised Feature Learning" (NIPS Workshop on
Deep Learning and Unsupervised Feature Learning). Its 531,131 extra images are not used. Mean and deviation are of the training
images' pixels.
"""

from pathlib import Path

import numpy as np

from oleander.datasets.data import Images
from oleander.datasets.downloads import Archive, read_or_fetched
from oleander.datasets.listing import files_key
from oleander.datasets.space import ImageSpace

SPACE = ImageSpace(3, 32, mean=(0.4377, 0.4438, 0.4728), std=(0.1980, 0.2010, 0.1970))
PROTOCOL = {"model": "resnet18light", "samples_per_client": 1000, "lr": 0.1, "rounds": 20, "augment": "none"}
"""A mirrored digit is another, so no flips."""


def cache_key(data_dir: Path) -> str:
    """Of its files' names, sizes and times."""
    return files_key(_archives(data_dir))


def svhn(data_dir: Path) -> Images:
    """SVHN, digits of house numbers; downloaded to --data-dir if it is not there.

    Args:
        data_dir: where train_32x32.mat and test_32x32.mat are, or are put.

    Raises:
        UserError: it cannot be had.
    """
    from torchvision.datasets import SVHN

    def read() -> Images:
        parts = []
        for split in ("train", "test"):
            found = SVHN(
                data_dir, split=split
            )  # checks its MD5 sum, and gives the digit 0, which has the label 10, its own
            parts += [np.ascontiguousarray(found.data), np.asarray(found.labels, dtype=np.int64)]
        return Images(parts[0], parts[1], parts[2], parts[3], tuple("0123456789"), SPACE)

    return read_or_fetched("SVHN", data_dir, _archives(data_dir), read)


def _archives(data_dir: Path) -> list[Archive]:
    from torchvision.datasets import SVHN

    files = [SVHN.split_list[split] for split in ("train", "test")]
    return [Archive(data_dir / name, (url,), md5) for url, name, md5 in files]
