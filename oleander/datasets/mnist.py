"""MNIST: handwritten digits, 28 × 28 pixels in grey; ten classes, 60,000 for training, 10,000 for testing.

LeCun, Bottou, Bengio, Haffner 1998, "Gradient-Based Learning Applied to Document Recognition" (Proceedings of the IEEE 86). Mean and
deviation are of the training images' pixels.
"""

from pathlib import Path

from oleander.datasets.data import Images
from oleander.datasets.formats import mnist_files, mnist_like
from oleander.datasets.listing import files_key
from oleander.datasets.space import ImageSpace

SPACE = ImageSpace(1, 28, mean=(0.1307,), std=(0.3081,))
PROTOCOL = {
    "model": "cnn",
    "samples_per_client": 600,
    "batch_size": 32,
    "lr": 0.1,
    "rounds": 10,
    "augment": "none",
    "patch_size": 5,
}
"""600 images a client is what 100 clients would share, as in McMahan et al. 2017; a mirrored digit is another, so no flips."""


def cache_key(data_dir: Path) -> str:
    """Of its files' names, sizes and times."""
    from torchvision import datasets

    return files_key(mnist_files(data_dir, datasets.MNIST))


def mnist(data_dir: Path) -> Images:
    """MNIST, handwritten digits; downloaded to --data-dir if it is not there.

    Args:
        data_dir: where torchvision's folder MNIST/raw is, or is made.

    Raises:
        UserError: it cannot be had.
    """
    from torchvision import datasets

    return mnist_like("MNIST", data_dir, datasets.MNIST, tuple("0123456789"), SPACE)
