"""Any image folder: DIR/train/<class>/* and DIR/test/<class>/*, as torchvision's ImageFolder has it.

Pictures of every size are resized to a square. They are normalised as CIFAR-10 is, so that the shipped checkpoint fits CIFAR-10 as
a folder of files too.
"""

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from oleander.datasets.cifar10 import CIFAR10
from oleander.datasets.data import Images
from oleander.datasets.formats import decoded
from oleander.datasets.listing import listing_key
from oleander.datasets.pictures import read_picture
from oleander.datasets.space import ImageSpace
from oleander.system.errors import UserError
from oleander.system.files import absolute
from oleander.system.foreign import plain, refusing, shortened

LAYOUT = "DIR/train/<class>/* and DIR/test/<class>/* with two classes or more, the same in both"


def called(dir: str) -> str:  # as --dataset names it
    """How tables show it."""
    return f"folder:{absolute(dir).name}"


def cache_key(_data_dir: Path, dir: str) -> str:
    """Of the files, and of what their images are made."""
    return key_of(absolute(dir), CIFAR10)


def folder(data_dir: Path, dir: str) -> Images:
    """Any image folder: DIR/train/<class>/* and DIR/test/<class>/*.

    Args:
        data_dir: of --data-dir; no file of it is read.
        dir: the folder.

    Raises:
        UserError: it is no such folder, or a file of it cannot be read as an image.
    """
    return read_folder(absolute(dir), CIFAR10)


def key_of(root: Path, image: ImageSpace) -> str:
    """Of what a folder's images come from; refused is what is none.

    Raises:
        UserError: one of the two splits is not there.
    """
    for split in ("train", "test"):
        if not (root / split).is_dir():
            raise UserError(f"--dataset folder:{root}: {root / split} is not a folder; wanted: {LAYOUT}")
    return hashlib.sha256(f"{listing_key(root, f'--dataset folder:{root}')} {image}".encode()).hexdigest()


def read_folder(root: Path, image: ImageSpace) -> Images:
    """A folder's images, in this space. Raises as ``folder`` does."""
    from torchvision.datasets import ImageFolder

    splits = {}
    for split in ("train", "test"):
        try:
            splits[split] = ImageFolder(str(root / split))
        except OSError as error:
            said = shortened(plain(error), 300)
            raise UserError(f"--dataset folder:{root}: {split}: {said}; wanted: {LAYOUT}") from None
    train, test = splits["train"], splits["test"]
    if train.classes != test.classes:
        odd = sorted(set(train.classes) ^ set(test.classes))
        raise UserError(
            f"--dataset folder:{root}: train and test differ in the classes {', '.join(odd)}; wanted: {LAYOUT}"
        )
    if len(train.classes) < 2:
        raise UserError(f"--dataset folder:{root}: only the class {train.classes[0]}; wanted: {LAYOUT}")
    parts = (*_decode(train.samples, image), *_decode(test.samples, image))
    return Images(*parts, classes=tuple(train.classes), image=image)


def _decode(samples: list[tuple[str, int]], image: ImageSpace) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    def picture(i: int) -> Image.Image:
        with refusing(f"--dataset: {samples[i][0]} cannot be read as an image"):
            return read_picture(Path(samples[i][0]))

    return decoded(len(samples), picture, image), np.array([label for _, label in samples], dtype=np.int64)
