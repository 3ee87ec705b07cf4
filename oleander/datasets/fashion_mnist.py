"""Fashion-MNIST: articles of clothing, 28 × 28 pixels in grey; ten classes, 60,000 for training, 10,000 for testing.

Xiao, Rasul, Vollgraf 2017, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms" (arXiv 1708.07747).
Mean and deviation are of the training images' pixels.
"""

from pathlib import Path

from oleander.datasets.data import Images
from oleander.datasets.formats import mnist_files, mnist_like
from oleander.datasets.listing import files_key
from oleander.datasets.space import ImageSpace

SPACE = ImageSpace(1, 28, mean=(0.2860,), std=(0.3530,))
PROTOCOL = {
    "model": "cnn",
    "samples_per_client": 600,
    "batch_size": 32,
    "lr": 0.1,
    "rounds": 10,
    "augment": "none",
    "patch_size": 5,
}
"""As MNIST is, whose place it was made to take."""


def cache_key(data_dir: Path) -> str:
    """Of its files' names, sizes and times."""
    from torchvision import datasets

    return files_key(mnist_files(data_dir, datasets.FashionMNIST))


def fashion_mnist(data_dir: Path) -> Images:
    """Fashion-MNIST, articles of clothing; downloaded to --data-dir if it is not there.

    Args:
        data_dir: where torchvision's folder FashionMNIST/raw is, or is made.

    Raises:
        UserError: it cannot be had.
    """
    from torchvision import datasets

    classes = tuple(name.lower() for name in datasets.FashionMNIST.classes)
    return mnist_like("Fashion-MNIST", data_dir, datasets.FashionMNIST, classes, SPACE)
