"""The cache of decoded images: made once, mended when damaged, and nothing left where the making failed."""

import dataclasses

import numpy as np
import pytest

from oleander.datasets.data import Images, fingerprint, stored
from oleander.system.cache import cache_dir
from oleander.system.errors import UserError
from tests.spaces import CIFAR10


def some_images() -> Images:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (9, 3, 32, 32), dtype=np.uint8)
    return Images(images[:6], np.arange(6) % 2, images[6:], np.arange(3) % 2, ("a", "b"), CIFAR10)


def test_cache_is_made_once_and_mended_when_damaged():
    made = []

    def make():
        made.append(1)
        return some_images()

    first = stored("thing", "k", make)
    assert stored("thing", "k", make).fingerprint == first.fingerprint == fingerprint(some_images())
    assert len(made) == 1
    for name, damage in (("train_images.npy", b"\x93NUMPY"), ("meta.json", b"{"), ("test_labels.npy", b"")):
        (first.directory / name).write_bytes(damage)
        assert stored("thing", "k", make).fingerprint == first.fingerprint
    assert len(made) == 4
    assert not list(first.directory.parent.glob(".making-*"))


def test_a_failed_making_leaves_nothing():
    def make():
        raise UserError("no")

    with pytest.raises(UserError):
        stored("other", "k", make)
    assert not list(cache_dir().glob("other*")) and not list(cache_dir().glob(".making-*"))


def test_who_made_the_images_is_kept_beside_them_checked_and_part_of_what_they_are(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    plain, by = some_images(), np.array([4, 4, 9, 9, 9, 2])
    written = dataclasses.replace(plain, writers=by)
    assert fingerprint(written) != fingerprint(plain) != fingerprint(dataclasses.replace(plain, writers=by[::-1]))
    dataset = stored("written", "k", lambda: written)
    assert dataset.writers is not None and dataset.writers.dtype == np.int64 and dataset.writers.tolist() == by.tolist()
    assert stored("plain", "k", lambda: plain).writers is None
    said = []
    file = dataset.directory / "writers.npy"
    file.write_bytes(file.read_bytes()[:-1] + b"\1")
    again = stored("written", "k", lambda: written, said.append)
    assert "is damaged" in said[0] and again.writers.tolist() == by.tolist()
    (dataset.directory / "writers.npy").unlink()
    assert stored("written", "k", lambda: written, said.append).fingerprint == dataset.fingerprint and len(said) == 2
    with pytest.raises(UserError, match="names who made 5 of 6 images"):
        stored("short", "k", lambda: dataclasses.replace(plain, writers=by[:5]))
