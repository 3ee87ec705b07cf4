"""Any image dataset of the Hugging Face Hub, by flwr-datasets: ``--dataset hf:ylecun/mnist``, or a folder that its library can load.

What it is told: NAME, or NAME with what is to be taken of it, ``hf:uoft-cs/cifar100,label=fine_label``: ``image`` and ``label``
(columns; found by their types where they are not named), ``writer`` (who made each image: ``writer_id`` where there is one),
``subset``, ``train`` and ``test`` (splits), ``revision``. Where there is no split to test on, a tenth of the training images, drawn
once, is taken out for it. Pictures are resized to the side that the first one has, 64 pixels at most (``--image-size`` says another),
and are grey where the first hundred are (``--image-channels``). They are normalised as a folder's are. What was decoded once is not
asked for again: another ``revision`` is another dataset.
"""

import hashlib
import importlib.util
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from oleander.datasets.data import Images
from oleander.datasets.downloads import OTHER_DATASETS, unreachable
from oleander.datasets.folder import space
from oleander.datasets.formats import decoded
from oleander.datasets.listing import listing_key
from oleander.datasets.pictures import MOST_BYTES, READING, further_frames, picture_in, told_of_frames
from oleander.datasets.space import ImageSpace
from oleander.system.errors import UserError
from oleander.system.files import absolute
from oleander.system.foreign import read_bytes, reason, refusing
from oleander.system.proxies import for_a_download

OPTIONS = ("image", "label", "subset", "writer", "train", "test", "revision")
TEST_SPLITS = ("test", "validation", "valid", "val")
"""What is tested on where nothing is named: the first that there is."""
HELD_OUT = 10
"""Of so many training images one is taken out, where there is no split to test on."""
WRITER = "writer_id"
"""As FEMNIST calls it (LEAF; hf:flwrlabs/femnist)."""
SPLIT_SEED = 20_262
LARGEST_SIDE = 64
"""That a dataset's own pictures are taken as they are."""
LOOKED_AT = 100
"""Pictures, to see whether they are grey."""


@dataclass(frozen=True)
class Asked:
    """What stands behind the colon."""

    name: str
    options: Mapping[str, str]

    @property
    def folder(self) -> Path | None:
        """Of one on this machine."""
        return absolute(self.name) if self.name.startswith(("/", "~")) else None


def called(name: str) -> str:
    """How tables show it."""
    asked = _asked(name)
    return f"hf:{asked.folder.name if asked.folder else asked.name}"


def cache_key(_data_dir: Path, name: str, *, image_size: int | None, image_channels: int | None) -> str:
    """Of what is asked for; of a folder, of its files too."""
    asked = _asked(name)
    files = listing_key(asked.folder, f"--dataset hf:{name}") if asked.folder else ""
    text = f"{READING} {asked.name} {sorted(asked.options.items())} {image_size} {image_channels} {files}"
    return hashlib.sha256(text.encode()).hexdigest()


def hf(data_dir: Path, name: str, *, image_size: int | None, image_channels: int | None) -> Images:
    """An image dataset of the Hugging Face Hub (hf:ylecun/mnist), by flwr-datasets: pip install 'oleander[hf]'.

    Args:
        data_dir: the Hub's files are put into its folder huggingface.
        name: of the dataset, and what is to be taken of it.
        image_size: pixels a side.
        image_channels: 1 or 3.

    Raises:
        UserError: flwr-datasets is not installed, the Hub cannot be reached, or what it gives are no labelled pictures.
    """
    asked, source = _asked(name), f"--dataset hf:{name}"
    train, test = _loaded(asked, data_dir, source)
    image, label = _columns(train, asked, source)
    if test is not None and not {image, label} <= test.features.keys():
        raise UserError(f"{source}: the split to test on has no {image} and {label}; it has {_described(test)}")
    train = train.cast_column(image, _undecoded())
    order, held = np.random.default_rng(SPLIT_SEED).permutation(len(train)), max(1, len(train) // HELD_OUT)
    picked = [(train, np.sort(order[held:])), (train, np.sort(order[:held]))]
    if test is not None:
        picked = [(train, np.arange(len(train))), (test.cast_column(image, _undecoded()), np.arange(len(test)))]
    classes, number = _classes(train, label, source)
    fitted = _space(train, image, image_size, image_channels, source)
    parts: list[NDArray[Any]] = []
    further: list[int] = []
    for split, rows in picked:
        with refusing(source):
            labels = [number[value] for value in split[label]]
        parts += [_pictures(split, image, rows, fitted, source, further), np.array(labels, dtype=np.int64)[rows]]
    writers = _writers(train, asked, source)
    writers = None if writers is None else writers[picked[0][1]]
    return Images(parts[0], parts[1], parts[2], parts[3], classes, fitted, writers=writers,
                  told=told_of_frames(source, further, lambda row: f"the first is image {row}"))  # fmt: skip


def _asked(text: str) -> Asked:
    name, *words = text.split(",")
    options = dict(word.partition("=")[::2] for word in words)
    known = ", ".join(OPTIONS)
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?|[/~].*", name):
        raise UserError(
            f"--dataset hf:{text}: {name!r} is no dataset's name (OWNER/NAME), nor the absolute path of a folder"
        )
    if len(options) != len(words) or not all(key in OPTIONS and value for key, value in options.items()):
        raise UserError(f"--dataset hf:{text}: wanted NAME,OPTION=VALUE,…, each once; known: {known}")
    return Asked(name, options)


def _loaded(asked: Asked, data_dir: Path, source: str) -> tuple[Any, Any]:
    """What the library has of the two splits; None where there is none to test on."""
    if importlib.util.find_spec("flwr_datasets") is None:
        raise UserError(
            f"{source}: flwr-datasets is not installed: pip install 'oleander[hf]'; other ways: {OTHER_DATASETS}"
        )
    if asked.folder and not asked.folder.is_dir():
        raise UserError(f"{source}: {asked.folder} is not a folder")
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    with for_a_download():
        if not asked.folder:
            from huggingface_hub.constants import ENDPOINT

            url = f"{ENDPOINT}/api/datasets/{asked.name}"
            (cause,) = unreachable([url])
            if cause:
                raise UserError(f"{source}: {url} could not be reached ({cause}); other ways: {OTHER_DATASETS}")
        from flwr_datasets import FederatedDataset

        found = FederatedDataset(
            dataset=str(asked.folder or asked.name), subset=asked.options.get("subset"), partitioners={}, shuffle=False,
            revision=asked.options.get("revision"), cache_dir=str(data_dir / "huggingface"),
        )  # fmt: skip
        try:
            train = found.load_split(asked.options.get("train", "train"))
            tests = [asked.options["test"]] if "test" in asked.options else TEST_SPLITS
            return train, next((split for name in tests if (split := _split(found, name, tests)) is not None), None)
        except Exception as error:  # of the network, the library or what it was given
            raise UserError(f"{source}: it cannot be loaded: {reason(error)}") from None


def _split(found: Any, name: str, tried: Sequence[str]) -> Any:
    """A split; None where there is none of that name, and others may be tried."""
    try:
        return found.load_split(name)
    except ValueError:
        if len(tried) == 1:
            raise
        return None


def _columns(split: Any, asked: Asked, source: str) -> tuple[str, str]:
    """The columns of pictures and of labels."""
    import datasets

    found = []
    for what, kind in (("image", datasets.Image), ("label", datasets.ClassLabel)):
        named = asked.options.get(what)
        fitting = [name for name, feature in split.features.items() if isinstance(feature, kind)]
        if (named is not None and named not in split.features) or (
            what == "image" and named is not None and named not in fitting
        ):
            raise UserError(f"{source}: {named} is no column of {what}s; it has {_described(split)}")
        if named is None and len(fitting) != 1:
            many = " and ".join(fitting) if fitting else f"none of type {kind.__name__}"
            raise UserError(
                f"{source}: its columns of {what}s are {many}: name one, hf:{asked.name},{what}=…; it has {_described(split)}"
            )
        found.append(named or fitting[0])
    return found[0], found[1]


def _undecoded() -> Any:
    """Pictures as their files' bytes: the library itself would decode any format that Pillow knows, however large."""
    import datasets

    return datasets.Image(decode=False)


def _described(split: Any) -> str:
    return ", ".join(
        f"{name} ({getattr(feature, 'dtype', type(feature).__name__)})" for name, feature in split.features.items()
    )


def _classes(split: Any, label: str, source: str) -> tuple[tuple[str, ...], dict[Any, int]]:
    """The classes' names, and value in the column → number; without names of its own, the values in order."""
    import datasets

    feature = split.features[label]
    if isinstance(feature, datasets.ClassLabel):
        return tuple(map(str, feature.names)), {i: i for i in range(len(feature.names))}
    with refusing(f"{source}: {label} is no column of labels"):
        values = sorted(set(split[label]))
        return tuple(map(str, values)), {value: i for i, value in enumerate(values)}


def _writers(split: Any, asked: Asked, source: str) -> NDArray[np.int64] | None:
    """Who made each training image, numbered in order of the column's values; None where that is not known."""
    column = asked.options.get("writer", WRITER)
    if column not in split.features:
        if "writer" in asked.options:
            raise UserError(f"{source}: {column} is no column; it has {_described(split)}")
        return None
    with refusing(f"{source}: {column} is no column of writers"):
        return np.unique(np.array(split[column]), return_inverse=True)[1].astype(np.int64)


def _space(split: Any, column: str, side: int | None, channels: int | None, source: str) -> ImageSpace:
    """What is asked for, and else what the first pictures are."""
    first = [_picture(split, column, i, source) for i in range(min(LOOKED_AT, len(split)))]
    if not first:
        raise UserError(f"{source}: no training images")
    colours = (np.asarray(picture) for picture in first)
    grey = all((pixels == pixels[..., :1]).all() for pixels in colours)
    return space(side or min(*first[0].size, LARGEST_SIDE), channels or (1 if grey else 3))


def _picture(split: Any, column: str, row: int, source: str) -> Image.Image:
    with refusing(f"{source}: image {row} cannot be read as an image"):
        found = split[row][column]
        content = found["bytes"]
        return picture_in(content if content is not None else read_bytes(Path(found["path"]), MOST_BYTES))


def _pictures(
    split: Any, column: str, rows: NDArray[np.int64], image: ImageSpace, source: str, further: list[int]
) -> NDArray[np.uint8]:
    """Decoded; adds to ``further`` how many frames each has after its first."""
    counts = [0] * len(rows)

    def picture(i: int) -> Image.Image:
        found = _picture(split, column, int(rows[i]), source)
        counts[i] = further_frames(found)
        return found

    images = decoded(len(rows), picture, image)
    further += counts
    return images
