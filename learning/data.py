"""Images as every part of a run sees them: decoded once to uint8 arrays on disk, memory-mapped by all processes.

Where the images come from is ``sources.py``; how they are dealt out to clients, ``partition.py``.
"""

import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from experiment.errors import UserError
from learning.cache import cache_dir

log = logging.getLogger("oleander")

SIDE = 32
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2023, 0.1994, 0.2010)
FORMAT = 1
"""Version of the files in the cache; a new number abandons the old ones."""


@dataclass(frozen=True)
class Images:
    """Decoded images before they are stored: uint8 (m, 3, 32, 32) and labels int64 (m,) of both splits."""

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Dataset(Images):
    """Decoded images in a folder of the cache, memory-mapped read-only."""

    name: str
    """As tables, titles and records show it: toy, cifar10, folder:NAME."""
    fingerprint: str
    """SHA-256 of all images and labels."""
    directory: Path


@dataclass(frozen=True)
class Shard:
    """One client's own training data."""

    client_id: int
    images: NDArray[np.uint8]
    """(m, 3, 32, 32)"""
    labels: NDArray[np.int64]
    """(m,)"""


def stored(name: str, key: str, make: Callable[[], Images]) -> Dataset:
    """The dataset ``name``-``key`` of the cache; made by ``make`` and put there if it is not there or is damaged.

    Raises:
        UserError: the cache folder cannot be written.
    """
    directory = cache_dir() / f"{name.replace(':', '-')}-{key[:16]}-v{FORMAT}"
    if directory.is_dir():
        try:
            return open_dataset(directory)
        except (OSError, ValueError, KeyError, EOFError) as error:
            log.warning("the cached dataset %s is damaged (%s); making it again", directory, error)
            shutil.rmtree(directory, ignore_errors=True)
    images = make()
    try:
        _write_atomically(directory, name, images)
    except OSError as error:
        raise UserError(
            f"cannot write the decoded dataset to {directory}: {error.strerror or error}; "
            "free some space or point XDG_CACHE_HOME to a folder that can be written"
        ) from None
    return open_dataset(directory)


def open_dataset(directory: Path) -> Dataset:
    """Memory-map a dataset of the cache.

    Raises:
        OSError, ValueError, KeyError, EOFError: the folder is incomplete or damaged.
    """
    meta = json.loads((directory / "meta.json").read_text())
    arrays = {part: np.load(directory / f"{part}.npy", mmap_mode="r") for part in _PARTS}
    for part, array in arrays.items():
        if list(array.shape) != meta["shapes"][part]:
            raise ValueError(f"{part} has shape {array.shape}, not {meta['shapes'][part]}")
    return Dataset(
        **arrays,
        classes=tuple(meta["classes"]),
        name=meta["name"],
        fingerprint=meta["fingerprint"],
        directory=directory,
    )


def fingerprint(images: Images) -> str:
    """SHA-256 of all images and labels, train before test, images before labels."""
    digest = hashlib.sha256()
    for part in _PARTS:
        digest.update(np.ascontiguousarray(getattr(images, part)).data)
    return digest.hexdigest()


def to_pixels(images: NDArray[np.uint8] | Tensor) -> Tensor:
    """Images uint8 (m, 3, h, w) → pixels in [0, 1], float32."""
    tensor = (
        images if isinstance(images, Tensor) else torch.from_numpy(np.array(images))
    )  # a copy: memory maps are read-only
    return tensor.float().div_(255)


def normalise(pixels: Tensor) -> Tensor:
    """Pixels (m, 3, h, w) in [0, 1] → what the model takes, channels last."""
    mean = torch.tensor(MEAN, device=pixels.device).view(1, 3, 1, 1)
    std = torch.tensor(STD, device=pixels.device).view(1, 3, 1, 1)
    return ((pixels - mean) / std).contiguous(memory_format=torch.channels_last)


_PARTS = ("train_images", "train_labels", "test_images", "test_labels")


def _write_atomically(directory: Path, name: str, images: Images) -> None:
    """Write to a folder of another name, then rename; a process that was faster wins, and both end with the same files."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=directory.parent, prefix=".making-"))
    try:
        shapes = {}
        for part in _PARTS:
            array = getattr(images, part)
            np.save(scratch / f"{part}.npy", array)
            shapes[part] = list(array.shape)
        meta = {"name": name, "classes": images.classes, "shapes": shapes, "fingerprint": fingerprint(images)}
        (scratch / "meta.json").write_text(json.dumps(meta, indent=1))
        scratch.chmod(0o755)
        scratch.rename(directory)
    except OSError:
        if not (directory / "meta.json").is_file():
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
