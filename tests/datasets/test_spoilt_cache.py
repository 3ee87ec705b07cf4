"""A damaged cache is never used: whatever is spoilt is noticed, said, and made again from its source, to the same hash."""

import json
import os
import shutil

import numpy as np
import pytest
import torch

from clients import app
from oleander.datasets import data
from oleander.datasets.data import PARTS, Images, fingerprint, open_dataset, stored
from oleander.datasets.sources import load_dataset
from oleander.learning import devices
from oleander.learning.evaluation import Scores
from oleander.learning.remembered import recall_scores, remember_scores
from oleander.settings.config import Experiment
from oleander.system import cache
from oleander.system.cache import recall, remember, sealed, unsealed
from oleander.system.errors import UserError
from tests.spaces import CIFAR10


def images(seed: int) -> Images:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (9, 3, 32, 32), dtype=np.uint8)
    return Images(pixels[:6], (np.arange(6) + seed) % 2, pixels[6:], (np.arange(3) + seed) % 2, ("a", "b"), CIFAR10)


@pytest.fixture
def other(tmp_path, monkeypatch):
    """The folder of another dataset in the same cache, whole in itself."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return stored("other", "k" * 64, lambda: images(1)).directory


def flip(at):
    """One bit, the file's times as they were."""

    def spoil(file, _other):
        info, content = file.stat(), bytearray(file.read_bytes())
        content[at if at < 1 else len(content) // 2] ^= 1
        file.write_bytes(content)
        os.utime(file, ns=(info.st_atime_ns, info.st_mtime_ns))

    return spoil


def link(file, _other):
    file.rename(file.with_name("elsewhere"))
    file.symlink_to("elsewhere")


def replaced(make):
    def spoil(file, other):
        file.unlink()
        make(file, other)

    return spoil


FILE_SPOILINGS = {
    "first bit": flip(0),
    "middle bit": flip(1),
    "last bit": flip(-1),
    "cut by a byte": lambda f, _: f.write_bytes(f.read_bytes()[:-1]),
    "cut to half": lambda f, _: f.write_bytes(f.read_bytes()[: f.stat().st_size // 2]),
    "a byte more": lambda f, _: f.write_bytes(f.read_bytes() + b"\0"),
    "empty": lambda f, _: f.write_bytes(b""),
    "zeros": lambda f, _: f.write_bytes(bytes(f.stat().st_size)),
    "another dataset's": lambda f, o: shutil.copyfile(o / f.name, f),
    "gone": lambda f, _: f.unlink(),
    "a folder": replaced(lambda f, _: f.mkdir()),
    "a pipe": replaced(lambda f, _: os.mkfifo(f)),
    "a link to the same": link,
    "a link to nothing": replaced(lambda f, _: f.symlink_to("nowhere")),
}


def swap(directory, one, two):
    (directory / one).rename(directory / "x")
    (directory / two).rename(directory / one)
    (directory / "x").rename(directory / two)


def saved(part, change):
    """The same bytes under another header, or a header of another kind."""

    def spoil(directory, _other):
        np.save(directory / f"{part}.npy", change(np.load(directory / f"{part}.npy")))

    return spoil


def edited(name, value):
    """meta.json edited by hand; whoever does it does not work out its checksum."""

    def spoil(directory, _other):
        meta = json.loads((directory / "meta.json").read_text())
        (directory / "meta.json").write_text(json.dumps({**meta, name: value}))

    return spoil


def forged(name, value):
    """meta.json edited, and its checksum with it."""

    def spoil(directory, _other):
        meta = unsealed(json.loads((directory / "meta.json").read_text()))
        (directory / "meta.json").write_text(json.dumps(sealed({**meta, name: value})))

    return spoil


SHAPES = {"train_images": [6, 3, 32, 32], "train_labels": [6], "test_images": [3, 3, 32, 32], "test_labels": [3]}
FOLDER_SPOILINGS = {
    "images swapped": lambda d, _: swap(d, "train_images.npy", "test_images.npy"),
    "labels swapped": lambda d, _: swap(d, "train_labels.npy", "test_labels.npy"),
    "labels other than they were": saved("train_labels", lambda a: 1 - a),
    "images in another order": saved("train_images", lambda a: a[::-1].copy()),
    "signed images": saved("train_images", lambda a: a.view(np.int8)),
    "another shape": saved("train_images", lambda a: a.reshape(6, 32, 32, 3)),
    "Fortran order": saved("train_images", np.asfortranarray),
    "big-endian labels": saved("test_labels", lambda a: a.astype(">i8")),
    "labels of 32 bits": saved("test_labels", lambda a: a.astype(np.int32)),
    "another's folder": lambda d, o: (shutil.rmtree(d), shutil.copytree(o, d)),
    "an empty folder": lambda d, _: (shutil.rmtree(d), d.mkdir()),
    "a file": lambda d, _: (shutil.rmtree(d), d.write_text("mine")),
    "a link to another's": lambda d, o: (shutil.rmtree(d), d.symlink_to(o)),
    "a link to itself": lambda d, _: (shutil.rmtree(d), d.symlink_to(d)),
    "a link to a copy": lambda d, _: (d.rename(d.with_name("copy")), d.symlink_to(d.with_name("copy"))),
    "meta.json of other JSON": lambda d, _: (d / "meta.json").write_text("[]"),
    "meta.json nested": lambda d, _: (d / "meta.json").write_text("[" * 100_000),
    "meta.json of other bytes": lambda d, _: (d / "meta.json").write_bytes(b"\xff\xfe\0"),
    "a name twice in meta.json": lambda d, _: (d / "meta.json").write_text((d / "meta.json").read_text()[:-1] + ', "name": "x"}'),
    **{f"{name} edited": edited(name, value) for name, value in {
        "name": "cifar10", "key": "x", "classes": ["b", "a"], "fingerprint": "0" * 64, "shapes": SHAPES | {"test_labels": [2]},
        "sha256": "0" * 64, "more": 1,
    }.items()},
    **{f"{name} forged as {value!r:.20}": forged(name, value) for name, value in [
        ("name", "cifar10"), ("key", "x"), ("fingerprint", "0" * 64), ("shapes", {}),
        ("shapes", SHAPES | {"train_images": [10**18, 3, 32, 32]}),
        ("shapes", SHAPES | {"train_images": [-6, 3, 32, 32]}), ("shapes", None), ("classes", 5),
    ]},
}  # fmt: skip
ALL = {
    **{f"{name}: {what}": (lambda d, o, n=name, w=what: FILE_SPOILINGS[w](d / n, o))
       for name in (*(f"{part}.npy" for part in PARTS), "meta.json") for what in FILE_SPOILINGS},
    **FOLDER_SPOILINGS,
}  # fmt: skip


def test_there_are_more_spoilings_than_were_tried_from_outside():
    assert len(ALL) >= 34


@pytest.mark.parametrize("what", ALL)
def test_a_spoilt_dataset_is_noticed_and_made_again(what, other):
    made, told = [], []

    def make():
        made.append(1)
        return images(0)

    first = stored("thing", "k" * 64, make, told.append)
    for file in first.directory.iterdir():
        file.chmod(0o644)
    ALL[what](first.directory, other)
    again = stored("thing", "k" * 64, make, told.append)
    assert len(made) == 2 and len(told) == 1 and "damaged" in told[0]
    assert again.fingerprint == fingerprint(again) == fingerprint(images(0)) and again.classes == ("a", "b")
    assert again.name == "thing" and not again.directory.is_symlink()
    stored("thing", "k" * 64, make, told.append)
    assert len(made) == 2 and not list(other.parent.glob(".making-*"))
    assert fingerprint(open_dataset(other)) == fingerprint(images(1))  # what a link led to is left alone


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_dataset_is_made_again(other):
    first = stored("thing", "k" * 64, lambda: images(0))
    (first.directory / "test_images.npy").chmod(0)
    assert fingerprint(stored("thing", "k" * 64, lambda: images(0))) == first.fingerprint


def test_a_spoilt_dataset_whose_source_is_gone_is_refused(other):
    first = stored("thing", "k" * 64, lambda: images(0))
    flip(-1)(first.directory / "test_images.npy", other)

    def make():
        raise UserError("the source is gone")

    with pytest.raises(UserError, match="the source is gone"):
        stored("thing", "k" * 64, make)


def test_a_client_reads_again_what_the_server_did_not_check_or_what_changed_since(other, monkeypatch):
    """A file's change time cannot be set back, so a stamp that still fits is a file that is as it was."""
    first = stored("thing", "k" * 64, lambda: images(0))
    read = []
    monkeypatch.setattr(data, "fingerprint", lambda found: read.append(1) or fingerprint(found))
    assert open_dataset(first.directory, first.stamp).stamp == first.stamp and not read
    open_dataset(first.directory, "of another machine")
    assert len(read) == 1
    flip(-1)(first.directory / "test_images.npy", other)
    with pytest.raises(ValueError, match="another SHA-256"):
        open_dataset(first.directory, first.stamp)


def test_a_client_that_meets_a_spoilt_cache_makes_it_again_from_the_source(image_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    source = f"folder:{image_folder}"
    whole = load_dataset(source, "data", print)
    flip(-1)(whole.directory / "train_images.npy", None)
    app._dataset.cache_clear()
    told = {"dataset-directory": str(whole.directory), "dataset-stamp": whole.stamp}
    found = app._dataset_of(told, Experiment(dataset=source), {})
    assert fingerprint(found) == whole.fingerprint
    app._dataset.cache_clear()


# ---- small things remembered -----------------------------------------------------------------------------------------

KEPT = {"kind": "scores", "key": "k", "content": {"mta": 0.5, "asr": 0.25, "loss": 1.25}}


def write(content):
    file = cache.cache_dir() / "scores" / "k.json"
    file.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())


def swap_scores(_file):
    remember_scores("l", Scores(0.1, None, 1.0))
    swap(_file.parent, "k.json", "l.json")


REMEMBERED_SPOILINGS = {
    "first bit": lambda f: flip(0)(f, None), "middle bit": lambda f: flip(1)(f, None), "last bit": lambda f: flip(-1)(f, None),
    "empty": lambda f: f.write_bytes(b""), "cut": lambda f: f.write_bytes(f.read_bytes()[:-5]),
    "no UTF-8": lambda f: f.write_bytes(b"\xff"),
    "nested": lambda f: f.write_bytes(b"[" * 100_000), "a folder": lambda f: (f.unlink(), f.mkdir()),
    "a pipe": lambda f: (f.unlink(), os.mkfifo(f)),
    "a full folder": lambda f: (f.unlink(), f.mkdir(), (f / "x").write_text("")),
    "a link": lambda f: link(f, None), "swapped": swap_scores, "huge": lambda f: f.write_bytes(b" " * (2**20 + 1)),
    "a digit edited": lambda f: f.write_text(f.read_text().replace("0.25", "0.26")), "unsealed": lambda f: write(KEPT["content"]),
    **{f"a sealed {value!r:.30}": (lambda f, v=value: write(sealed(KEPT | {"content": v}))) for value in [
        None, 5, "x", [], True, {}, {"mta": 0.5}, *({"mta": 0.5, "asr": 0.25, "loss": 1.25} | change for change in [
            {"mta": None}, {"mta": "0.5"}, {"mta": True}, {"mta": 1.5}, {"mta": -0.1}, {"mta": float("nan")}, {"asr": [0.1]},
            {"asr": 2},
            {"loss": None}, {"loss": -1.0}, {"loss": float("inf")}, {"more": 1},
        ]),
    ] if value is not None},
}  # fmt: skip


@pytest.mark.parametrize("what", REMEMBERED_SPOILINGS)
def test_spoilt_scores_are_noticed_and_mended(what, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    remember_scores("k", Scores(0.5, 0.25, 1.25))
    assert recall_scores("k") == Scores(0.5, 0.25, 1.25)
    REMEMBERED_SPOILINGS[what](tmp_path / "oleander" / "scores" / "k.json")
    told = []
    assert recall_scores("k", told.append) is None and len(told) == 1 and "working them out again" in told[0]
    remember_scores("k", Scores(0.5, 0.25, 1.25))
    assert recall_scores("k", told.append) == Scores(0.5, 0.25, 1.25) and len(told) == 1
    assert not list((tmp_path / "oleander" / "scores").glob("tmp*"))


def test_scores_that_no_file_can_hold_are_not_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    remember_scores("k", Scores(0.1, None, float("nan")))
    assert recall_scores("k") is None


@pytest.mark.parametrize("value", [True, "2.0", -1.0, 0, 1e9, [2.0], {"a": 1}, False])
def test_a_speed_that_cannot_be_is_measured_again(value, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(devices, "bf16_speedup", lambda _: 2.0)
    devices.fastest_precision.cache_clear()
    told = []
    devices.fastest_precision(torch.device("cpu"), told.append)
    (file,) = (tmp_path / "oleander" / "bf16_speedup").iterdir()
    remember("bf16_speedup", file.stem, value)
    devices.fastest_precision.cache_clear()
    assert devices.fastest_precision(torch.device("cpu"), told.append) == "bf16"
    assert len(told) == 1 and "measuring it again" in told[0] and recall("bf16_speedup", file.stem) == 2.0
    devices.fastest_precision.cache_clear()


def test_a_speed_whose_file_is_spoilt_is_measured_again(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(devices, "bf16_speedup", lambda _: 2.0)
    for content in (b"0.5", b"2.0", b"NaN", b"true", b"", b'{"content": 0.5}'):
        devices.fastest_precision.cache_clear()
        devices.fastest_precision(torch.device("cpu"))
        (file,) = (tmp_path / "oleander" / "bf16_speedup").iterdir()
        file.write_bytes(content)
        devices.fastest_precision.cache_clear()
        told = []
        assert devices.fastest_precision(torch.device("cpu"), told.append) == "bf16" and len(told) == 1
    devices.fastest_precision.cache_clear()
