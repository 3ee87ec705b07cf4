"""CIFAR-100: photographs of a hundred classes, 32 × 32 pixels in colour; 50,000 for training, 10,000 for testing.

Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images" (University of Toronto); the fine labels. Mean and deviation
are of the training images' pixels.
"""

from pathlib import Path

from oleander.datasets.data import Images
from oleander.datasets.formats import cifar_like
from oleander.datasets.listing import listing_key
from oleander.datasets.space import ImageSpace

SPACE = ImageSpace(3, 32, mean=(0.5071, 0.4867, 0.4408), std=(0.2675, 0.2565, 0.2761))
PROTOCOL = {"model": "resnet18light", "samples_per_client": 2000, "lr": 0.1, "rounds": 30, "augment": "epoch"}
"""A hundred classes want more of everything than ten."""


def cache_key(data_dir: Path) -> str:
    """Of its files' names, sizes and times."""
    return listing_key(data_dir / "cifar-100-python", f"--data-dir {data_dir}")


def cifar100(data_dir: Path) -> Images:
    """CIFAR-100, 100 classes of photographs; downloaded to --data-dir if it is not there.

    Args:
        data_dir: where torchvision's archive and folder are, or are put.

    Raises:
        UserError: it cannot be had.
    """
    from torchvision import datasets

    return cifar_like("CIFAR-100", data_dir, datasets.CIFAR100, SPACE)
