"""Any image folder: DIR/train/<class>/* and DIR/test/<class>/*, as torchvision's ImageFolder has it.

Read are, below a class's folder, the files named .apng .bmp .gif .jfif .jpe .jpeg .jpg .pbm .pfm .pgm .png .pnm .ppm .tif .tiff
.webp, in small or capital letters. Hidden names are left out, a file to which several links lead counts once, and what is left out
is told. Classes have the order of their names; names that are all numbers have theirs.

Pictures of every size are resized to a square of ``--image-size``, and are RGB or grey (``--image-channels``). They are normalised as
CIFAR-10 is, so that the shipped checkpoint fits CIFAR-10 as a folder of files too; grey ones as CIFAR-10 in grey.
"""

import difflib
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
from oleander.datasets.labelled import Labelled, labelled, notices
from oleander.datasets.pictures import ENDINGS, READING, further_frames, read_picture, told_of_frames
from oleander.datasets.space import ImageSpace
from oleander.settings.ranges import Side
from oleander.system.errors import UserError
from oleander.system.files import absolute
from oleander.system.foreign import plain, refusing

SIDE, CHANNELS = CIFAR10.side, CIFAR10.channels
"""Where nothing else is asked for."""
GREY = ImageSpace(1, SIDE, mean=(0.480,), std=(0.197,))
"""Measured on 5,000 training images of CIFAR-10 in grey; the deviation is the mean of the images' own, as CIFAR10's is."""
SPLITS = ("train", "test")
CALLED_SO = {
    "train": ("train", "training", "train_images", "trn", "tr"),
    "test": ("test", "testing", "tests", "val", "valid", "validation", "eval", "test_images", "tst", "dev"),
}
"""What the folders of the two splits are often called."""
LAYOUT = "DIR/train/<class>/* and DIR/test/<class>/* with two classes or more, the same in both"


def called(dir: str) -> str:  # as --dataset names it
    """How tables show it."""
    return f"folder:{absolute(dir).name}"


def cache_key(_data_dir: Path, dir: str, *, image_size: int | None, image_channels: int | None) -> str:
    """Of the files, and of what their images are made."""
    return key_of(absolute(dir), space(image_size or SIDE, image_channels or CHANNELS))


def told(_data_dir: Path, dir: str) -> list[str]:
    """What must be known of what is left out, at every run and not only when the images are decoded."""
    root = absolute(dir)
    train, test = _splits(root)
    return notices(train, test, f"--dataset folder:{root}")


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
    """Hash of where a folder is and of the names, sizes and times of the files that are read: other files, another key.

    Raises:
        UserError: one of the two splits is not there.
    """
    digest = hashlib.sha256(f"{READING} {root} {image}\n".encode())
    for split, found in zip(SPLITS, _splits(root), strict=True):
        digest.update(f"{split} {found.classes}\n".encode())
        for path, label in found.files:
            info = path.stat() if path.exists() else path.lstat()  # a broken link: decoding it says so
            digest.update(f"{path}\0{label}\0{info.st_size}\0{info.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def read_folder(root: Path, image: ImageSpace) -> Images:
    """A folder's images, in this space. Raises as ``folder`` does."""
    asked = f"--dataset folder:{root}"
    train, test = _splits(root)
    if train.classes != test.classes:
        raise UserError(f"{asked}: {_differing(train.classes, test.classes)}; wanted: {LAYOUT}")
    if len(train.classes) < 2:
        raise UserError(f"{asked}: only the class {plain(train.classes[0])}; wanted: {LAYOUT}")
    for split, found in zip(SPLITS, (train, test), strict=True):
        if empty := sorted(set(range(len(found.classes))) - {label for _, label in found.files}):
            without = ", ".join(plain(found.classes[label]) for label in empty[:10])
            raise UserError(
                f"{asked}: {split}: no pictures of {without}; read are files named {' '.join(ENDINGS)}; wanted: {LAYOUT}"
            )
    further: dict[Path, int] = {}
    parts = (*_decode(train.files, image, further), *_decode(test.files, image, further))
    files = sorted(further)
    told = told_of_frames(asked, [further[file] for file in files], lambda at: files[at])
    return Images(*parts, classes=train.classes, image=image, told=told)


def _splits(root: Path) -> tuple[Labelled, Labelled]:
    """What the folders of the two splits hold.

    Raises:
        UserError: one is not there or cannot be listed, or has no folder in it.
    """
    asked = f"--dataset folder:{root}"
    found = []
    for split in SPLITS:
        if not (root / split).is_dir():
            raise UserError(f"{asked}: {root / split} is not a folder{_meant(root, split)}; wanted: {LAYOUT}")
        with refusing(f"{asked}: {split} cannot be listed"):
            found.append(labelled(root / split, asked))
        if not found[-1].classes:
            raise UserError(f"{asked}: {root / split} has no folders in it, one for each class; wanted: {LAYOUT}")
    return found[0], found[1]


def _meant(root: Path, split: str) -> str:
    """What stands there in its place, if anything does."""
    if root.is_file():
        return f", since {root} is a file: unpack it, and name the folder"
    if not root.is_dir():
        return f", since there is no {root}"
    names = sorted(path.name for path in root.iterdir() if path.is_dir())
    if split in names:
        return ""
    below = next((name for name in names if all((root / name / each).is_dir() for each in SPLITS)), None)
    if below:
        return f" (did you mean folder:{root / below}?)"
    theirs = {name for name in names if name not in SPLITS}
    near = [name for word in CALLED_SO[split] for name in sorted(theirs) if name.casefold() == word]
    near = near or difflib.get_close_matches(split, theirs, n=1)
    return f" (did you mean {near[0]}? Rename it, or link {split} to it)" if near else ""


def _differing(train: tuple[str, ...], test: tuple[str, ...]) -> str:
    odd = sorted(set(train) ^ set(test))
    shown = ", ".join(map(plain, odd[:10])) + (f" and {len(odd) - 10} more" if len(odd) > 10 else "")
    case = len({name.casefold() for name in odd}) < len(odd)
    return f"train and test differ in the classes {shown}" + (", some only in capital letters" if case else "")


def _decode(
    samples: list[tuple[Path, int]], image: ImageSpace, further: dict[Path, int]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images and labels; notes of each file that has them how many frames it has after the first."""

    def picture(i: int) -> Image.Image:
        with refusing(f"--dataset: {samples[i][0]} cannot be read as an image"):
            found = read_picture(samples[i][0])
        if count := further_frames(found):
            further[samples[i][0]] = count
        return found

    return decoded(len(samples), picture, image), np.array([label for _, label in samples], dtype=np.int64)
