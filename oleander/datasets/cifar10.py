"""CIFAR-10: photographs of ten classes, 32 × 32 pixels in colour; 50,000 for training, 10,000 for testing.

Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images" (University of Toronto). Mean and deviation are those that
the course's protocol normalises with; the deviation is the mean of the images' own, as in much code of the field.
"""

from pathlib import Path

from oleander.datasets.data import Images
from oleander.datasets.formats import cifar_like
from oleander.datasets.listing import listing_key
from oleander.datasets.space import ImageSpace

CIFAR10 = ImageSpace(3, 32, mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010))


def cache_key(data_dir: Path) -> str:
    """Of its files' names, sizes and times."""
    return listing_key(data_dir / "cifar-10-batches-py", f"--data-dir {data_dir}")


def cifar10(data_dir: Path) -> Images:
    """CIFAR-10, downloaded to --data-dir if it is not there.

    Args:
        data_dir: where torchvision's archive and folder are, or are put.

    Raises:
        UserError: it cannot be had.
    """
    from torchvision import datasets

    return cifar_like("CIFAR-10", data_dir, datasets.CIFAR10, CIFAR10)
