"""EMNIST: handwritten digits and letters, 28 × 28 pixels in grey; 47 classes, 112,800 images for training, 18,800 for testing.

Cohen, Afshar, Tapson, van Schaik 2017, "EMNIST: an extension of MNIST to handwritten letters" (IJCNN; arXiv 1702.05373). These are
the split ``balanced``; the others are byclass (62 classes, 697,932 and 116,323 images), bymerge (47, as many), letters (26, 124,800
and 20,800), digits (10, 240,000 and 40,000) and mnist (10, 60,000 and 10,000). The files hold each image transposed; here they stand
upright. Mean and deviation are those that code for ``balanced`` has, for all splits.
"""

from pathlib import Path
from typing import Literal
from zipfile import ZipFile

import numpy as np

from oleander.datasets.data import Images
from oleander.datasets.downloads import Archive, read_or_fetched
from oleander.datasets.formats import MOST_BYTES, gunzipped, idx
from oleander.datasets.listing import files_key
from oleander.datasets.space import ImageSpace
from oleander.system.foreign import read_bytes

SPACE = ImageSpace(1, 28, mean=(0.1751,), std=(0.3332,))
PROTOCOL = {
    "model": "cnn",
    "samples_per_client": 1000,
    "batch_size": 32,
    "lr": 0.1,
    "rounds": 10,
    "augment": "none",
    "patch_size": 5,
}
"""As MNIST, with more images for more classes."""


def cache_key(data_dir: Path, *, emnist_split: str) -> str:
    """Of its files' names, sizes and times, and of which part of them is read."""
    return files_key([_archive(data_dir)], emnist_split, *_unpacked(data_dir, emnist_split))


def emnist(
    data_dir: Path,
    *,
    emnist_split: Literal["balanced", "byclass", "bymerge", "letters", "digits", "mnist"] = "balanced",
) -> Images:
    """EMNIST, handwritten digits and letters; downloaded to --data-dir if it is not there (536 MB).

    Args:
        data_dir: where torchvision's folder EMNIST/raw is, or is made.
        emnist_split: Which of its six sets: balanced has as many images of each of 47 classes.

    Raises:
        UserError: it cannot be had.
    """
    from torchvision import datasets

    archive, plain = _archive(data_dir), _unpacked(data_dir, emnist_split)
    classes = [name for name in datasets.EMNIST.classes_split_dict[emnist_split] if name != "N/A"]

    def read() -> Images:
        if archive.whole:
            with ZipFile(archive.file) as opened:
                contents = [gunzipped(opened.read(f"gzip/{file.name}.gz")) for file in plain]
        else:
            contents = [read_bytes(file, MOST_BYTES) for file in plain]
        parts = [idx(content, SPACE if i % 2 == 0 else None) for i, content in enumerate(contents)]
        first = 1 if emnist_split == "letters" else 0  # its labels begin with 1
        images = [np.ascontiguousarray(part.transpose(0, 1, 3, 2)) for part in parts[::2]]
        return Images(images[0], parts[1] - first, images[1], parts[3] - first, tuple(classes), SPACE)

    return read_or_fetched("EMNIST", data_dir, [archive], read, plain)


def _archive(data_dir: Path) -> Archive:
    from torchvision.datasets import EMNIST

    return Archive(data_dir / "EMNIST" / "raw" / "gzip.zip", (EMNIST.url,), EMNIST.md5)


def _unpacked(data_dir: Path, split: str) -> list[Path]:
    """Where torchvision puts a split's four files: train before test, images before labels."""
    names = [f"{part}-{what}-ubyte" for part in ("train", "test") for what in ("images-idx3", "labels-idx1")]
    return [data_dir / "EMNIST" / "raw" / f"emnist-{split}-{name}" for name in names]
