"""Datasets: the toy's golden bytes, image folders, CIFAR-10 over HTTP, the cache, and the partitions."""

import functools
import hashlib
import http.server
import io
import os
import pickle
import shutil
import tarfile
import threading
import time

import numpy as np
import pytest
import torchvision
from PIL import Image

from oleander.datasets import sources, toy
from oleander.datasets.data import Images, fingerprint, stored
from oleander.datasets.partition import partition, shard_of
from oleander.settings.config import Experiment
from oleander.system.cache import cache_dir
from oleander.system.errors import UserError
from tests.conftest import CLASSES, write_images
from tests.spaces import CIFAR10

TOY_SHA256 = "274067628b4809002f6cdfcf35bb53696ee1709e435da9393be16ceef7b8da61"
"""`fingerprint` of the toy dataset; changes only with toy.VERSION."""


def refuse(text):
    raise AssertionError(text)


@pytest.fixture(scope="module")
def toy_set():
    return sources.load_dataset("toy", "data", refuse)


def test_toy_is_the_same_everywhere(toy_set):
    assert toy_set.fingerprint == TOY_SHA256
    assert toy_set.train_images.shape == (10_000, 3, 32, 32) and toy_set.test_images.shape == (2_000, 3, 32, 32)
    assert toy_set.train_images.dtype == np.uint8
    assert toy_set.classes == toy.CLASSES and len(toy_set.classes) == 10
    np.testing.assert_array_equal(np.bincount(toy_set.train_labels), 1_000)
    np.testing.assert_array_equal(np.bincount(toy_set.test_labels), 200)


def test_toy_does_not_depend_on_the_number_of_processes():
    one, two = toy.make_toy(40, 20, processes=1), toy.make_toy(40, 20, processes=2)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


def test_toy_has_no_image_twice_and_none_in_both_splits(toy_set):
    images = np.concatenate([toy_set.train_images, toy_set.test_images])
    assert len({hashlib.sha256(image.tobytes()).digest() for image in images}) == 12_000


def test_actors_map_one_file_and_cannot_write_it(toy_set):
    assert isinstance(toy_set.train_images, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        toy_set.train_images[0] = 0


# ---- the cache -------------------------------------------------------------------------------------------------------


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


# ---- image folders ---------------------------------------------------------------------------------------------------


def test_folder_reads_resizes_and_names_its_classes(image_folder, tmp_path):
    dataset = sources.load_dataset(f"folder:{image_folder}", "data", refuse)
    assert dataset.classes == CLASSES and dataset.name == f"folder:{image_folder.name}"
    assert dataset.train_images.shape == (72, 3, 32, 32) and dataset.test_labels.tolist() == [0] * 8 + [1] * 8 + [2] * 8
    expected = np.asarray(Image.open(sorted((image_folder / "test" / "ant").iterdir())[0])).transpose(2, 0, 1)
    np.testing.assert_array_equal(dataset.test_images[0], expected)
    large = sources.load_dataset(
        f"folder:{write_images(tmp_path / 'large', ('x', 'y'), 2, 1, size=50)}", "data", refuse
    )
    assert large.train_images.shape == (4, 3, 32, 32) and large.classes == ("x", "y")


def test_a_changed_folder_is_decoded_again(tmp_path):
    root = write_images(tmp_path / "d", ("x", "y"), 2, 1)
    first = sources.load_dataset(f"folder:{root}", "data", refuse)
    Image.new("RGB", (32, 32)).save(root / "train" / "x" / "zz.png")
    second = sources.load_dataset(f"folder:{root}", "data", refuse)
    assert (len(first.train_labels), len(second.train_labels)) == (4, 5)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda d: shutil.rmtree(d / "test"), ["test is not a folder", "DIR/train/<class>"]),
        (lambda d: shutil.rmtree(d / "test" / "y"), ["differ in the classes y"]),
        (
            lambda d: [shutil.rmtree(d / s / "y") for s in ("train", "test")],
            ["only the class x", "two classes or more"],
        ),
        (lambda d: (d / "train" / "x" / "0.png").write_bytes(b"\x89PNG broken"), ["0.png cannot be read as an image"]),
        (lambda d: [f.unlink() for f in (d / "train" / "x").iterdir()], ["train", "x"]),
        (
            lambda d: [(d / s / "y").rename(os.fsdecode(os.fsencode(d / s) + b"/caf\xe9")) for s in ("train", "test")],
            ["not named in UTF-8", "caf"],
        ),
        (shutil.rmtree, ["train is not a folder"]),
    ],
)
def test_bad_folders_are_refused(tmp_path, spoil, words):
    root = write_images(tmp_path / "d", ("x", "y"), 2, 1)
    spoil(root)
    with pytest.raises(UserError) as error:
        sources.load_dataset(f"folder:{root}", "data", refuse)
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize("source", ["cifar", "folder:", "imagenet"])
def test_unknown_sources_are_refused(source):
    with pytest.raises(UserError, match=r"known: auto, cifar10, folder:DIR, toy"):
        sources.load_dataset(source, "data", refuse)


# ---- CIFAR-10, a small forgery of which is served on loopback --------------------------------------------------------


def forged_archive() -> tuple[bytes, dict[str, str]]:
    """A cifar-10-python.tar.gz of 60 images, and the MD5 sums of its files."""
    rng = np.random.default_rng(0)
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    files = {
        name: pickle.dumps({"data": rng.integers(0, 256, (10, 3072), dtype=np.uint8), "labels": list(range(10))})
        for name in names
    }
    files["batches.meta"] = pickle.dumps({"label_names": list(toy.CLASSES)})
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue(), {name: hashlib.md5(data).hexdigest() for name, data in files.items()}


@pytest.fixture
def cifar_server(tmp_path, monkeypatch):
    """torchvision's CIFAR10 pointed at a forgery on loopback; yields the folder that is served."""
    archive, sums = forged_archive()
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "cifar-10-python.tar.gz").write_bytes(archive)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    cifar = torchvision.datasets.CIFAR10
    monkeypatch.setattr(cifar, "url", f"http://127.0.0.1:{server.server_port}/cifar-10-python.tar.gz")
    monkeypatch.setattr(cifar, "tgz_md5", hashlib.md5(archive).hexdigest())
    monkeypatch.setattr(cifar, "train_list", [[f"data_batch_{i}", sums[f"data_batch_{i}"]] for i in range(1, 6)])
    monkeypatch.setattr(cifar, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(cifar, "meta", cifar.meta | {"md5": sums["batches.meta"]})
    yield folder
    server.shutdown()
    server.server_close()


def test_cifar10_is_downloaded_once(cifar_server, tmp_path):
    dataset = sources.load_dataset("cifar10", str(tmp_path / "data"), refuse)
    assert (
        dataset.name == "cifar10" and dataset.train_images.shape == (50, 3, 32, 32) and dataset.classes == toy.CLASSES
    )
    (cifar_server / "cifar-10-python.tar.gz").unlink()
    assert sources.load_dataset("auto", str(tmp_path / "data"), refuse).fingerprint == dataset.fingerprint


def test_damaged_cifar10_is_mended_by_a_download_or_refused(cifar_server, tmp_path):
    data = tmp_path / "data"
    whole = sources.load_dataset("cifar10", str(data), refuse)
    (data / "cifar-10-batches-py" / "data_batch_3").write_bytes(b"short")
    assert sources.load_dataset("cifar10", str(data), refuse).fingerprint == whole.fingerprint
    (data / "cifar-10-batches-py" / "data_batch_3").write_bytes(b"short again")
    (data / "cifar-10-python.tar.gz").write_bytes(b"not an archive")
    (cifar_server / "cifar-10-python.tar.gz").write_bytes(b"truncated")
    with pytest.raises(UserError, match=r"is damaged.*--dataset toy.*folder:DIR"):
        sources.load_dataset("cifar10", str(data), refuse)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/x.tar.gz", "http://no-such-host.invalid/x.tar.gz"])
def test_unreachable_cifar10_is_refused_soon_and_auto_takes_toy_aloud(monkeypatch, tmp_path, url):
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", url)
    began = time.monotonic()
    with pytest.raises(UserError) as error:
        sources.load_dataset("cifar10", str(tmp_path / "d"), refuse)
    assert time.monotonic() - began < 30
    assert all(word in str(error.value) for word in (str(tmp_path / "d"), url, "could not be reached", "--dataset toy"))
    notices = []
    assert sources.load_dataset("auto", str(tmp_path / "d"), notices.append).name == "toy"
    assert len(notices) == 1 and "TOY" in notices[0] and url in notices[0]


def test_a_host_that_never_answers_is_given_up(monkeypatch):
    with __import__("socket").socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        monkeypatch.setattr(sources, "PROBE_SECONDS", 0.3)
        assert sources._unreachable(f"http://127.0.0.1:{deaf.getsockname()[1]}/x")


# ---- partitions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["main_label", "iid", "dirichlet"])
def test_shards_are_disjoint_of_equal_size_and_seeded(toy_set, how):
    experiment = Experiment(partition=how, clients=10, samples_per_client=200)
    shards = partition(toy_set, experiment)
    rows = np.concatenate(shards)
    assert [len(s) for s in shards] == [200] * 10 and len(np.unique(rows)) == 2_000
    again = partition(toy_set, Experiment(partition=how, clients=10, samples_per_client=200))
    np.testing.assert_array_equal(rows, np.concatenate(again))
    other = partition(toy_set, Experiment(partition=how, clients=10, samples_per_client=200, seed=1))
    assert not np.array_equal(rows, np.concatenate(other))
    shard = shard_of(3, toy_set, experiment)
    np.testing.assert_array_equal(shard.images, toy_set.train_images[shards[3]])
    np.testing.assert_array_equal(shard.labels, toy_set.train_labels[shards[3]])


def test_main_label_share(toy_set):
    for rows in partition(toy_set, Experiment(iid_rate=0.2)):
        counts = np.bincount(toy_set.train_labels[rows], minlength=10)
        assert counts.max() >= round(0.8 * 384) and (counts > 0).sum() > 5
    pure = partition(toy_set, Experiment(iid_rate=0.0))
    assert all(len(np.unique(toy_set.train_labels[rows])) == 1 for rows in pure)


def test_dirichlet_alpha_sets_how_uneven_shards_are_and_can_deal_everything(toy_set):
    def largest_share(alpha):
        shards = partition(toy_set, Experiment(partition="dirichlet", dirichlet_alpha=alpha))
        return np.mean([np.bincount(toy_set.train_labels[rows], minlength=10).max() / 384 for rows in shards])

    assert largest_share(0.05) > 0.6 > 0.2 > largest_share(1000.0)
    everything = Experiment(partition="dirichlet", dirichlet_alpha=0.1, clients=20, samples_per_client=500)
    assert len(np.unique(np.concatenate(partition(toy_set, everything)))) == 10_000


def test_more_samples_than_data_are_refused(toy_set):
    with pytest.raises(UserError, match=r"30 x 384 = 11520 images, but the training set has 10000"):
        partition(toy_set, Experiment(clients=30))
    with pytest.raises(UserError, match=r"which has 1000.*iid"):
        partition(toy_set, Experiment(clients=20, samples_per_client=500, iid_rate=0.0))
