"""GTSRB: German traffic signs, 43 classes, 26,640 photographs for training, 12,630 for testing.

Stallkamp, Schlipsing, Salmen, Igel 2012, "Man vs. computer: Benchmarking machine learning algorithms for traffic sign recognition"
(Neural Networks 32). The training set is that of torchvision, the competition's first; the final one of 39,209 has more of the same
tracks. The pictures have 15 to 250 pixels a side; each is resized whole, with the border around the sign, to 32 × 32 in colour. Mean
and deviation are those that the field's code mostly has.
"""

import csv
import io
from pathlib import Path

import numpy as np

from oleander.datasets.data import Images
from oleander.datasets.downloads import Archive, read_or_fetched
from oleander.datasets.formats import Tree, say_if_fewer
from oleander.datasets.listing import files_key
from oleander.datasets.space import ImageSpace

SPACE = ImageSpace(3, 32, mean=(0.3337, 0.3064, 0.3171), std=(0.2672, 0.2564, 0.2629))
PROTOCOL = {"model": "resnet18light", "samples_per_client": 1000, "lr": 0.1, "rounds": 20, "augment": "none"}
"""A mirrored sign is another, or none, so no flips."""
HOST = "https://sid.erda.dk/public/archives/daaeac0d7ce1152aea9b61d9f1e19370/"
ARCHIVES = {
    "GTSRB-Training_fixed.zip": "513f3c79a4c5141765e10e952eaa2478",
    "GTSRB_Final_Test_Images.zip": "c7e4e6327067d32654124b0fe9e82185",
    "GTSRB_Final_Test_GT.zip": "fe31e9c9270bbcd7b84b7f21a9d9d9e5",
}
"""File → MD5, as torchvision's GTSRB has them."""
COUNTS = 26_640, 12_630
TRAIN, TEST, LABELS = "GTSRB/Training", "GTSRB/Final_Test/Images", "GT-final_test.csv"
CLASSES = (
    "speed limit 20", "speed limit 30", "speed limit 50", "speed limit 60", "speed limit 70", "speed limit 80",
    "end of speed limit 80", "speed limit 100", "speed limit 120", "no overtaking", "no overtaking by lorries",
    "priority at next crossing", "priority road", "give way", "stop", "no vehicles", "no lorries", "no entry", "danger",
    "bend to the left", "bend to the right", "double bend", "uneven road", "slippery road", "road narrows", "road works",
    "traffic lights", "pedestrians", "children", "cyclists", "ice or snow", "wild animals", "end of all restrictions",
    "turn right", "turn left", "straight on", "straight on or right", "straight on or left", "keep right", "keep left",
    "roundabout", "end of no overtaking", "end of no overtaking by lorries",
)  # fmt: skip


def cache_key(data_dir: Path) -> str:
    """Of its files' names, sizes and times."""
    return files_key(
        _archives(data_dir), data_dir / "gtsrb" / TRAIN, data_dir / "gtsrb" / TEST, data_dir / "gtsrb" / LABELS
    )


def gtsrb(data_dir: Path) -> Images:
    """GTSRB, German traffic signs; downloaded to --data-dir if it is not there.

    Args:
        data_dir: where torchvision's folder gtsrb is, or is made: unpacked, or its three archives.

    Raises:
        UserError: it cannot be had.
    """
    archives, root = _archives(data_dir), data_dir / "gtsrb"

    def read() -> Images:
        tree = Tree(root, archives)
        train, test = tree.under(TRAIN, ".ppm"), tree.under(TEST, ".ppm")
        rows = csv.DictReader(io.StringIO(tree.text(LABELS)), delimiter=";", skipinitialspace=True)
        by_name = {f"{TEST}/{row['Filename']}": int(row["ClassId"]) for row in rows}
        if not train or not test or set(test) != by_name.keys():
            raise ValueError(f"{len(train)} pictures in {TRAIN}, {len(test)} in {TEST}, {len(by_name)} in {LABELS}")
        say_if_fewer("GTSRB", root, (len(train), len(test)), COUNTS)
        labels = [int(Path(name).parent.name) for name in train], [by_name[name] for name in test]
        return Images(
            tree.pictures(train, SPACE), np.array(labels[0]), tree.pictures(test, SPACE), np.array(labels[1]), CLASSES, SPACE
        )  # fmt: skip

    return read_or_fetched("GTSRB", data_dir, archives, read, [root / TRAIN, root / TEST])


def _archives(data_dir: Path) -> list[Archive]:
    return [Archive(data_dir / "gtsrb" / name, (HOST + name,), md5) for name, md5 in ARCHIVES.items()]
