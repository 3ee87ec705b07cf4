"""Tiny ImageNet: photographs of 200 classes of ImageNet, 64 × 64 pixels in colour; 100,000 for training, 10,000 for testing.

Le, Yang 2015, "Tiny ImageNet Visual Recognition Challenge" (Stanford, CS231N). The labels of its test images were never published, so
its validation images are what is tested on, as everywhere. Mean and deviation are of the training images' pixels.
"""

from pathlib import Path

import numpy as np

from oleander.datasets.data import Images
from oleander.datasets.downloads import Archive, read_or_fetched
from oleander.datasets.formats import Tree, say_if_fewer
from oleander.datasets.listing import files_key
from oleander.datasets.space import ImageSpace

SPACE = ImageSpace(3, 64, mean=(0.4802, 0.4481, 0.3975), std=(0.2770, 0.2691, 0.2821))
PROTOCOL = {
    "model": "resnet18light",
    "samples_per_client": 4000,
    "lr": 0.1,
    "rounds": 30,
    "augment": "epoch",
    "patch_size": 12,
}
"""200 classes want more of everything than ten."""
COUNTS = 100_000, 10_000
FOLDER = "tiny-imagenet-200"
URL = f"http://cs231n.stanford.edu/{FOLDER}.zip"
MD5 = "90528d7ca1a48142e341f4ef8d21d0de"


def cache_key(data_dir: Path) -> str:
    """Of its files' names, sizes and times."""
    return files_key([_archive(data_dir)], data_dir / FOLDER)


def tiny_imagenet(data_dir: Path) -> Images:
    """Tiny ImageNet, 200 classes of photographs; downloaded to --data-dir if it is not there (237 MB).

    Args:
        data_dir: where tiny-imagenet-200.zip or its folder is, or the archive is put.

    Raises:
        UserError: it cannot be had.
    """
    archive = _archive(data_dir)

    def read() -> Images:
        tree = Tree(data_dir, [archive])
        ids = sorted(tree.text(f"{FOLDER}/wnids.txt").split())
        number = {wnid: i for i, wnid in enumerate(ids)}
        train = [name for name in tree.under(f"{FOLDER}/train", ".JPEG") if name.split("/")[2] in number]
        test = tree.under(f"{FOLDER}/val/images", ".JPEG")
        lines = [line.split("\t") for line in tree.text(f"{FOLDER}/val/val_annotations.txt").splitlines()]
        by_name = {f"{FOLDER}/val/images/{line[0]}": number[line[1]] for line in lines}
        if not train or not test or set(test) != by_name.keys():
            raise ValueError(
                f"{len(train)} pictures in train, {len(test)} in val, {len(by_name)} in val_annotations.txt"
            )
        say_if_fewer("Tiny ImageNet", data_dir / FOLDER, (len(train), len(test)), COUNTS)
        labels = np.array([number[name.split("/")[2]] for name in train]), np.array([by_name[name] for name in test])
        return Images(
            tree.pictures(train, SPACE), labels[0], tree.pictures(test, SPACE), labels[1], _names(tree, ids), SPACE
        )  # fmt: skip

    return read_or_fetched("Tiny ImageNet", data_dir, [archive], read, [data_dir / FOLDER])


def _names(tree: Tree, ids: list[str]) -> tuple[str, ...]:
    """What the classes are called: the first of WordNet's words for them, and the class's id where two have the same."""
    words = dict(line.split("\t", 1) for line in tree.text(f"{FOLDER}/words.txt").splitlines() if "\t" in line)
    first = [words.get(wnid, wnid).split(",")[0].strip() for wnid in ids]
    return tuple(name if first.count(name) == 1 else f"{name} ({wnid})" for name, wnid in zip(first, ids, strict=True))


def _archive(data_dir: Path) -> Archive:
    return Archive(data_dir / f"{FOLDER}.zip", (URL,), MD5)
