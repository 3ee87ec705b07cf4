"""Of files with several frames the first is read; that there are more is told once, and counted."""

import logging

import numpy as np
import pytest
from PIL import Image

from attacks import Attack
from attacks.blend import blend
from attacks.edge_case import edge_case
from oleander.datasets.cifar10 import CIFAR10
from oleander.datasets.pictures import further_frames, read_picture, warn_of_frames
from oleander.datasets.sources import load_dataset
from tests.conftest import write_images

KINDS = {".gif": "GIF", ".tif": "TIFF", ".webp": "WEBP", ".png": "PNG"}


def frames(count, size=8):
    rng = np.random.default_rng(count)
    return [Image.fromarray(rng.integers(0, 255, (size, size, 3), np.uint8)) for _ in range(count)]


def save(path, count, kind):
    first, *more = frames(count)
    first.save(path, kind, save_all=bool(more), append_images=more, **({"lossless": True} if kind == "WEBP" else {}))
    return path


@pytest.mark.parametrize(("ending", "kind"), KINDS.items())
def test_the_first_frame_is_read_and_the_others_are_counted(tmp_path, ending, kind):
    alone, several = save(tmp_path / f"a{ending}", 1, kind), tmp_path / f"b{ending}"
    same = frames(1) * 4
    same[1:] = frames(3)
    same[0].save(several, kind, save_all=True, append_images=same[1:], **({"lossless": True} if kind == "WEBP" else {}))
    assert [further_frames(read_picture(path)) for path in (alone, several)] == [0, 3]
    one, first = (np.asarray(read_picture(path)).astype(int) for path in (alone, several))
    assert np.abs(one - first).max() <= (60 if kind == "GIF" else 0)  # GIF's own palettes


def test_a_folders_frames_are_told_in_one_notice_at_every_run(tmp_path):
    root = write_images(tmp_path / "d", ("x", "y"), 3, 2)
    told = []
    load_dataset(f"folder:{root}", "data", told.append)
    assert told == []
    save(root / "train" / "x" / "moving.gif", 3, "GIF")
    save(root / "test" / "y" / "scan.tif", 5, "TIFF")
    for _ in range(2):
        told.clear()
        found = load_dataset(f"folder:{root}", "data", told.append)
        assert (
            len(told) == 1 and "frames after the first left out: 6 of 2 files (" in told[0] and "scan.tif …)" in told[0]
        )
    assert len(found.train_labels) == 7 and len(found.test_labels) == 5


def test_a_pictures_frames_are_told_where_an_attack_takes_it(tmp_path, caplog):
    warn_of_frames.cache_clear()
    image = save(tmp_path / "mark.gif", 4, "GIF")
    (tmp_path / "few").mkdir()
    save(tmp_path / "few" / "edge.tif", 2, "TIFF")
    save(tmp_path / "few" / "other.png", 1, "PNG")
    with caplog.at_level(logging.WARNING, "oleander"):
        for _ in range(2):
            blend(Attack(), blend_image=str(image), image=CIFAR10)
    assert [r.message for r in caplog.records] == [
        f"--blend-image {image}: frames after the first left out: 3 of 1 file (mark.gif)."
    ]
    caplog.clear()
    with caplog.at_level(logging.WARNING, "oleander"):
        edge_case(Attack(), edge_case_images=str(tmp_path / "few"), edge_case_held_out=0.5, target=0, image=CIFAR10)
    assert len(caplog.records) == 1 and "left out: 1 of 1 file (edge.tif)" in caplog.text
