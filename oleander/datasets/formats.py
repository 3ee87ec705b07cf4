"""The files that datasets are published in: CIFAR's batches, IDX, and trees of pictures, unpacked or still in their ZIP archives.

Whatever is in them is data: pickles are looked into after their MD5 sums were found right, all else is read within bounds.
"""

import gzip
import io
import logging
import os
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from oleander.datasets.data import Images
from oleander.datasets.downloads import Archive, read_or_fetched
from oleander.datasets.labelled import is_hidden
from oleander.datasets.pictures import fitted, picture_in
from oleander.datasets.space import ImageSpace
from oleander.system.foreign import GIB, MIB, read_bytes, refusing

log = logging.getLogger("oleander")
MOST_BYTES = GIB
"""Of an IDX file: EMNIST's largest has 547 MB."""
MOST_TEXT = 64 * MIB
"""Of a list of names and labels."""


def cifar_like(title: str, data_dir: Path, published: Any, image: ImageSpace) -> Images:
    """CIFAR-10 or CIFAR-100, as torchvision's class ``published`` knows its files. Raises as ``read_or_fetched``."""

    def read() -> Images:
        train, test = (published(data_dir, train=train) for train in (True, False))  # MD5 sums first, then pickle
        return Images(
            np.ascontiguousarray(train.data.transpose(0, 3, 1, 2)),  # (50000, 3, 32, 32)
            np.array(train.targets, dtype=np.int64),
            np.ascontiguousarray(test.data.transpose(0, 3, 1, 2)),  # (10000, 3, 32, 32)
            np.array(test.targets, dtype=np.int64),
            tuple(train.classes),
            image,
        )

    archive = Archive(data_dir / published.filename, (published.url,), published.tgz_md5)
    folder = data_dir / published.base_folder
    return read_or_fetched(
        title, data_dir, [archive], read, [folder], lambda: published(data_dir, train=True, download=True)
    )


def mnist_files(data_dir: Path, published: Any) -> list[Archive]:
    """The four files of MNIST or of a set of its form, where torchvision puts them: train before test, images before labels."""
    folder = data_dir / published.__name__ / "raw"
    return [
        Archive(folder / name, tuple(f"{mirror}{name}" for mirror in published.mirrors), md5)
        for name, md5 in published.resources
    ]


def mnist_like(title: str, data_dir: Path, published: Any, classes: Sequence[str], image: ImageSpace) -> Images:
    """MNIST or a set of its form, as torchvision's class ``published`` knows its files. Raises as ``read_or_fetched``."""
    archives = mnist_files(data_dir, published)

    def read() -> Images:
        parts = [idx(_unpacked(archive), image if i % 2 == 0 else None) for i, archive in enumerate(archives)]
        return Images(parts[0], parts[1], parts[2], parts[3], tuple(classes), image)

    return read_or_fetched(title, data_dir, archives, read, [archive.file.with_suffix("") for archive in archives])


def _unpacked(archive: Archive) -> bytes:
    """What a .gz file holds; where it is not there, the file that torchvision unpacks from it."""
    if archive.whole:
        return gunzipped(read_bytes(archive.file, MOST_BYTES))
    return read_bytes(archive.file.with_suffix(""), MOST_BYTES)


def gunzipped(content: bytes) -> bytes:
    """What is in a gzip file, within bounds.

    Raises:
        ValueError, OSError, EOFError, zlib.error: it is none, or holds more.
    """
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as opened:
        found = opened.read(MOST_BYTES + 1)
    if len(found) > MOST_BYTES:
        raise ValueError(f"unpacks to more than {MOST_BYTES} bytes")
    return found


def idx(content: bytes, image: ImageSpace | None) -> NDArray[Any]:
    """An IDX file of bytes: images (m, 1, h, w) of this space, or without one labels (m,).

    Raises:
        ValueError: it is no such file.
    """
    shape = image.shape[1:] if image else ()
    head = 4 * (2 + len(shape))
    sizes = tuple(int.from_bytes(content[i : i + 4], "big") for i in range(4, head, 4))
    if content[:4] != bytes((0, 0, 8, 1 + len(shape))) or sizes[1:] != shape:
        raise ValueError(f"an IDX file with the header {content[:head].hex()}; wanted bytes, (m, *{shape})")
    if len(content) - head != int(np.prod(sizes)):
        raise ValueError(f"an IDX file of {sizes} with {len(content) - head} bytes")
    found = np.frombuffer(content, np.uint8, offset=head).reshape(sizes)
    return found[:, None] if image else found.astype(np.int64)


class Tree:
    """Files below a folder: of its whole archives, read without unpacking them, and else as they lie there.

    So what a program that was ended has unpacked to half is not taken for the dataset.
    """

    def __init__(self, root: Path, archives: Sequence[Archive]) -> None:
        """The archives hold paths as they are below ``root``."""
        self.root = root
        self._members = {
            name: opened
            for archive in archives if archive.whole
            for opened in [zipfile.ZipFile(archive.file)]
            for name in opened.namelist()
        }  # fmt: skip

    def under(self, prefix: str, suffix: str) -> list[str]:
        """The files of this ending below a folder, in order; [] without any."""
        packed = [name for name in self._members if name.startswith(f"{prefix}/") and name.endswith(suffix)]
        found = packed or [p.relative_to(self.root).as_posix() for p in (self.root / prefix).rglob(f"*{suffix}")]
        return sorted(name for name in found if not any(map(is_hidden, name.split("/"))))

    def text(self, name: str) -> str:
        """A file's text.

        Raises:
            OSError, ValueError: it is not there, too long or no text.
        """
        return self.read(name, MOST_TEXT).decode("utf-8")

    def read(self, name: str, most: int) -> bytes:
        """A file's content, which nobody but ``under`` should name.

        Raises:
            OSError, ValueError: it is not there, or larger.
        """
        if name not in self._members:
            return read_bytes(self.root / name, most)
        if self._members[name].getinfo(name).file_size > most:
            raise ValueError(f"{name} has more than {most} bytes")
        return self._members[name].read(name)

    def pictures(self, names: Sequence[str], image: ImageSpace) -> NDArray[np.uint8]:
        """Decoded and fitted into the space: (m, c, h, w).

        Raises:
            UserError: one that cannot be read; names it.
        """

        def picture(i: int) -> Image.Image:
            with refusing(f"--dataset: {self.root / names[i]} cannot be read as an image"):
                return picture_in(self.read(names[i], MOST_TEXT))

        return decoded(len(names), picture, image)


def say_if_fewer(title: str, root: Path, found: tuple[int, int], published: tuple[int, int]) -> None:
    """Warn of a folder that holds a part of what was published: it is used as it is, and somebody may not know."""
    if found != published:
        log.warning(
            "%s in %s has %d and %d images for training and testing; published are %d and %d",
            title,
            root,
            *found,
            *published,
        )


def decoded(count: int, picture: Callable[[int], Image.Image], image: ImageSpace) -> NDArray[np.uint8]:
    """So many pictures fitted into the space, on all cores: (m, c, h, w)."""
    images = np.empty((count, *image.shape), np.uint8)  # no list beside it: large sets fill the memory once

    def put(i: int) -> None:
        images[i] = fitted(picture(i), image)

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes without holding the interpreter's lock
        for _ in pool.map(put, range(count)):
            pass
    return images
