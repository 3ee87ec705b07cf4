"""Any image folder: DIR/train/<class>/* and DIR/test/<class>/*, as torchvision's ImageFolder has it.

Pictures of every size are resized to a square of ``--image-size``, and are RGB or grey (``--image-channels``). They are normalised as
CIFAR-10 is, so that the shipped checkpoint fits CIFAR-10 as a folder of files too; grey ones as CIFAR-10 in grey.
"""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from oleander.datasets.cifar10 import CIFAR10
from oleander.datasets.data import Images
from oleander.datasets.formats import decoded
from oleander.datasets.listing import listing_key
from oleander.datasets.pictures import read_picture
from oleander.datasets.space import ImageSpace
from oleander.settings.ranges import Side
from oleander.system.errors import UserError
from oleander.system.files import absolute
from oleander.system.foreign import plain, refusing, shortened

SIDE, CHANNELS = CIFAR10.side, CIFAR10.channels
"""Where nothing else is asked for."""
GREY = ImageSpace(1, SIDE, mean=(0.480,), std=(0.197,))
"""Measured on 5,000 training images of CIFAR-10 in grey; the deviation is the mean of the images' own, as CIFAR10's is."""
LAYOUT = "DIR/train/<class>/* and DIR/test/<class>/* with two classes or more, the same in both"


def called(dir: str) -> str:  # as --dataset names it
    """How tables show it."""
    return f"folder:{absolute(dir).name}"


def cache_key(_data_dir: Path, dir: str, *, image_size: int | None, image_channels: int | None) -> str:
    """Of the files, and of what their images are made."""
    return key_of(absolute(dir), space(image_size or SIDE, image_channels or CHANNELS))


def folder(
    data_dir: Path, dir: str, *, image_size: Side | None = None, image_channels: Literal[1, 3] | None = None
) -> Images:
    """Any image folder: DIR/train/<class>/* and DIR/test/<class>/*.

    Args:
        data_dir: of --data-dir; no file of it is read.
        dir: the folder.
        image_size: Pixels a side that images are resized to (4 to 512; default: 32 of a folder's, of hf's those of its first image).
        image_channels: 1 makes images grey, 3 RGB (default: 3 of a folder's, of hf's what they are).

    Raises:
        UserError: it is no such folder, or a file of it cannot be read as an image.
    """
    return read_folder(absolute(dir), space(image_size or SIDE, image_channels or CHANNELS))


def space(side: int, channels: int) -> ImageSpace:
    """Of pictures that bring no mean and deviation of their own."""
    return replace(GREY if channels == 1 else CIFAR10, side=side)


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
