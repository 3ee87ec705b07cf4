"""Images as every part of a run sees them: decoded once to uint8 arrays on disk, memory-mapped by all processes.

Where the images come from is a file each, found by ``sources.py``; how they are dealt out to clients, ``partition.py``.
"""

import dataclasses
import hashlib
import io
import json
import logging
import math
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from oleander.datasets.space import ImageSpace
from oleander.system.cache import Notify, place_in_cache, sealed, stands, unsealed
from oleander.system.errors import UserError
from oleander.system.foreign import MIB, open_regular, parsed_json, read_bytes, reason

log = logging.getLogger("oleander")

FORMAT = 3
"""Version of the files in the cache; a new number abandons the old ones."""


@dataclass(frozen=True, eq=False)  # arrays have no ==; what is dealt of a dataset is remembered for the object
class Images:
    """Decoded images before they are stored: uint8 (m, c, h, w) and labels int64 (m,) of both splits."""

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    classes: tuple[str, ...]
    image: ImageSpace
    """What all of them are."""
    writers: NDArray[np.int64] | None = field(default=None, kw_only=True)
    """(m_train,) who made each training image, as numbers, where that is known: ``--partition writers``."""
    told: tuple[str, ...] = field(default=(), kw_only=True)
    """What must be known of how the files were read, at every run and not only when they are decoded."""


@dataclass(frozen=True, eq=False)
class Dataset(Images):
    """Decoded images in a folder of the cache, memory-mapped read-only."""

    name: str
    """As tables, titles and records show it: toy, cifar10, folder:NAME."""
    fingerprint: str
    """SHA-256 of all images and labels, and of who made them."""
    directory: Path
    stamp: str = ""
    """By it files on this machine are known to be the ones that were checked, unchanged since."""

    def shard(self, client_id: int, rows: NDArray[np.int64]) -> "Shard":
        """These rows of the training images, copied, as somebody's own."""
        return Shard(client_id, np.array(self.train_images[rows]), np.array(self.train_labels[rows]), self.image)


@dataclass(frozen=True)
class Shard:
    """One client's own training data."""

    client_id: int
    images: NDArray[np.uint8]
    """(m, c, h, w)"""
    labels: NDArray[np.int64]
    """(m,)"""
    image: ImageSpace
    """What its images are, as the dataset has it."""


def stored(
    name: str, key: str | Callable[[], str], make: Callable[[], Images], notify: Notify = log.warning
) -> Dataset:
    """The dataset ``name``-``key`` of the cache; made by ``make`` and put there if it is not there or is damaged.

    Args:
        name: as ``Dataset.name``.
        key: of all that it is made of; a function is asked again once the images are made, for that may have brought their files.
        make: makes them.
        notify: is told of a damaged cache.

    Raises:
        UserError: the cache folder cannot be written.
    """
    known = key if isinstance(key, str) else key()
    directory = _place(name, known)
    if stands(directory):
        try:
            return open_dataset(directory, wanted=(name, known))
        except (OSError, ValueError) as error:
            notify(f"the cached dataset {directory} is damaged ({reason(error)}); making it again")
    images = make()
    key = key if isinstance(key, str) else key()
    directory = _place(name, key, anew=True)
    try:
        _write_atomically(directory, name, key, images)
        return open_dataset(directory, wanted=(name, key))
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot write the decoded dataset to {directory}: {reason(error)}; "
            "free some space or point XDG_CACHE_HOME to a folder that can be written"
        ) from None


def _place(name: str, key: str, *, anew: bool = False) -> Path:
    return place_in_cache(f"{re.sub('[:/]', '-', name)}-{key[:16]}-v{FORMAT}", anew=anew)


def open_dataset(directory: Path, seen: str = "", wanted: tuple[str, str] | None = None) -> Dataset:
    """Memory-map a dataset of the cache, every byte of it checked: the images by their fingerprint.

    Args:
        directory: its folder.
        seen: the stamp of files that were checked; theirs are not read a second time.
        wanted: name and key that it must have.

    Raises:
        OSError, ValueError: the folder is incomplete, damaged, or another dataset's.
    """
    try:
        if directory.is_symlink():
            raise ValueError("it is a link")
        meta = unsealed(parsed_json(read_bytes(directory / "meta.json", MOST_META, follow=False)))
        if wanted not in (None, (meta["name"], meta["key"])):
            raise ValueError("it is another dataset's")
        image = _space(meta["image"])
        parts = (*PARTS, WRITERS) if WRITERS in meta["shapes"] else PARTS
        opened = {part: _map(directory / f"{part}.npy", part, tuple(meta["shapes"][part]), image) for part in parts}
        images = Images(**{part: opened[part][0] for part in parts}, classes=tuple(meta["classes"]), image=image,
                        told=tuple(meta.get("told", ())))  # fmt: skip
        if images.writers is not None and images.writers.shape != images.train_labels.shape:
            raise ValueError(f"it names who made {len(images.writers)} of {len(images.train_labels)} images")
        stamp = " ".join(opened[part][1] for part in parts)
        if stamp != seen and fingerprint(images) != meta["fingerprint"]:
            raise ValueError("its images have another SHA-256 than it says")
    except (OSError, ValueError):
        raise
    except Exception as error:
        raise ValueError(reason(error)) from None
    return Dataset(**vars(images), name=meta["name"], fingerprint=meta["fingerprint"], directory=directory, stamp=stamp)


def fingerprint(images: Images) -> str:
    """SHA-256 of all images and labels, train before test, images before labels; then of who made them, if that is known."""
    digest = hashlib.sha256()
    for part in _parts(images):
        digest.update(np.ascontiguousarray(getattr(images, part)).data)
    return digest.hexdigest()


def to_pixels(images: NDArray[np.uint8] | Tensor) -> Tensor:
    """Images uint8 (m, c, h, w) → pixels in [0, 1], float32."""
    tensor = (
        images if isinstance(images, Tensor) else torch.from_numpy(np.array(images))
    )  # a copy: memory maps are read-only
    return tensor.float().div_(255)


PARTS = ("train_images", "train_labels", "test_images", "test_labels")
WRITERS = "writers"
MOST_META = 16 * MIB


def _parts(images: Images) -> tuple[str, ...]:
    """Names of the arrays that these images have."""
    return PARTS if images.writers is None else (*PARTS, WRITERS)


def _space(said: dict[str, Any]) -> ImageSpace:
    """An image space as meta.json has it."""
    return ImageSpace(said["channels"], said["side"], tuple(said["mean"]), tuple(said["std"]))


def _map(file: Path, part: str, shape: tuple[int, ...], image: ImageSpace) -> tuple[NDArray[Any], str]:
    """An array in a file of the cache, and a stamp that changes with the file: nobody sets a file's change time back."""
    dtype, header = _header(part, shape, image)
    with os.fdopen(open_regular(file, 2**62, follow=False), "rb") as opened:
        info = os.fstat(opened.fileno())
        if info.st_size != len(header) + math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{file.name} has {info.st_size} bytes")
        if opened.read(len(header)) != header:
            raise ValueError(f"{file.name} has another header")
        array = np.memmap(opened, dtype, "r", len(header), shape)
    return array, f"{info.st_dev}:{info.st_ino}:{info.st_size}:{info.st_mtime_ns}:{info.st_ctime_ns}"


def _header(part: str, shape: tuple[int, ...], image: ImageSpace) -> tuple[np.dtype[Any], bytes]:
    """The type of a part, and how its file begins."""
    dtype, per_item = (np.dtype("u1"), image.shape) if part.endswith("images") else (np.dtype("<i8"), ())
    if not shape or shape[1:] != per_item or not all(isinstance(size, int) and size >= 0 for size in shape):
        raise ValueError(f"{part} has shape {shape}")
    with io.BytesIO() as opened:
        np.lib.format.write_array_header_1_0(opened, {"descr": dtype.str, "fortran_order": False, "shape": shape})
        return dtype, opened.getvalue()


def _write_atomically(directory: Path, name: str, key: str, images: Images) -> None:
    """Write to a folder of another name, then rename; a process that was faster wins, and both end with the same files."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=directory.parent, prefix=".making-"))
    try:
        made = scratch / "made"
        made.mkdir(0o755)
        shapes = {}
        for part in _parts(images):
            array = np.ascontiguousarray(getattr(images, part))
            dtype, header = _header(part, array.shape, images.image)
            with (made / f"{part}.npy").open("wb") as file:
                file.write(header)
                file.write(array.astype(dtype, copy=False).data)
            shapes[part] = list(array.shape)
        meta = {"name": name, "key": key, "classes": list(images.classes), "shapes": shapes}
        meta |= {"told": list(images.told)} if images.told else {}
        meta["image"] = dataclasses.asdict(images.image)
        (made / "meta.json").write_text(json.dumps(sealed(meta | {"fingerprint": fingerprint(images)}), indent=1))
        try:
            made.rename(directory)
        except OSError:
            if not _is_whole(directory, (name, key)):
                directory.rename(scratch / "damaged")
                made.rename(directory)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _is_whole(directory: Path, wanted: tuple[str, str]) -> bool:
    try:
        open_dataset(directory, wanted=wanted)
    except (OSError, ValueError):
        return False
    return True
