"""Sources: image folders, CIFAR-10 over HTTP."""

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
from oleander.system.errors import UserError
from tests.conftest import CLASSES, write_images
from tests.datasets.silent import refuse


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
    with pytest.raises(UserError, match=r"known: auto, cifar10, .*folder:DIR, .*toy"):
        sources.load_dataset(source, "data", refuse)


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
def test_unreachable_cifar10_is_refused_soon_and_auto_takes_digits_aloud(monkeypatch, tmp_path, url):
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", url)
    began = time.monotonic()
    with pytest.raises(UserError) as error:
        sources.load_dataset("cifar10", str(tmp_path / "d"), refuse)
    assert time.monotonic() - began < 30
    assert all(word in str(error.value) for word in (str(tmp_path / "d"), url, "could not be reached", "--dataset toy"))
    notices = []
    assert sources.load_dataset("auto", str(tmp_path / "d"), notices.append).name == "digits"
    assert len(notices) == 1 and "DIGITS" in notices[0] and url in notices[0]
