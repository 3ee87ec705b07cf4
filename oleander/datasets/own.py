"""A source of images from outside the repository; its contract is in ``oleander.datasets``. What breaks it is refused by name."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from oleander.datasets.data import Dataset, Images, stored
from oleander.datasets.space import ImageSpace
from oleander.settings import outside
from oleander.settings.declared import DATASETS
from oleander.settings.registry import blamed, known
from oleander.settings.steps import short
from oleander.system.cache import Notify
from oleander.system.errors import UserError


def own(source: str, data_dir: Path, listing: str, notify: Notify) -> Dataset:
    """The images of a source that this process uses; made once for its file's content and what is in its folder.

    Args:
        source: the file, or the name of an entry point.
        data_dir: handed to it.
        listing: hash of what is in that folder.
        notify: is told of a damaged cache.

    Raises:
        UserError: what it gives are no images; or what goes wrong in it, by its line.
    """
    name = short(source)
    text = f"{outside.hashes(DATASETS, source)[name]} {listing}"

    def make() -> Images:
        function = known(DATASETS)[name].function
        with blamed(DATASETS, source):
            return checked(function(data_dir), f"--dataset {source}")

    return stored(name, hashlib.sha256(text.encode()).hexdigest(), make, notify)


def checked(made: Any, asked: str) -> Images:
    """What a source gave, if it is what images have to be.

    Raises:
        UserError: it is not; says in what.
    """
    if not isinstance(made, Images) or not isinstance(made.image, ImageSpace):
        what = type(made).__name__ if not isinstance(made, Images) else f"image = {made.image!r}"
        raise UserError(f"{asked}: gave {what}; wanted Images with an ImageSpace")
    classes = made.classes
    if not isinstance(classes, tuple | list) or len(classes) < 2 or not all(isinstance(name, str) for name in classes):
        raise UserError(f"{asked}: classes = {classes!r}; wanted two names or more")
    for split in ("train", "test"):
        images, labels = (np.asarray(getattr(made, f"{split}_{part}")) for part in ("images", "labels"))
        if images.dtype != np.uint8 or images.shape[1:] != made.image.shape or not len(images):
            raise UserError(
                f"{asked}: {split}_images are {images.dtype} {images.shape}; wanted uint8 (m, *{made.image.shape}), m > 0"
            )
        if labels.dtype.kind not in "iu" or labels.shape != (len(images),):
            raise UserError(
                f"{asked}: {split}_labels are {labels.dtype} {labels.shape}; wanted whole numbers ({len(images)},)"
            )
        if labels.min() < 0 or labels.max() >= len(classes):
            raise UserError(
                f"{asked}: {split}_labels reach from {labels.min()} to {labels.max()}; the classes are 0 to {len(classes) - 1}"
            )
    writers = None if made.writers is None else np.asarray(made.writers)
    if writers is not None and (writers.dtype.kind not in "iu" or writers.shape != (len(made.train_labels),)):
        raise UserError(
            f"{asked}: writers are {writers.dtype} {writers.shape}; wanted whole numbers ({len(made.train_labels)},), "
            "one for each training image"
        )
    return dataclasses.replace(
        made,
        writers=None if writers is None else writers.astype(np.int64),
        train_labels=np.asarray(made.train_labels).astype(np.int64),
        test_labels=np.asarray(made.test_labels).astype(np.int64),
        classes=tuple(classes),
    )
