"""Files as torchvision knows them: MNIST's family and CIFAR's, from small files of their formats."""

import gzip
import pickle

import numpy as np
import pytest
import torchvision.datasets as published

from oleander.datasets import downloads
from oleander.datasets.sources import load_dataset
from oleander.system.errors import UserError
from tests.datasets import forged
from tests.datasets.silent import refuse


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(downloads, "unreachable", lambda urls: ["there is no network"] * len(urls))


@pytest.mark.parametrize("packed", [True, False], ids=["gz", "unpacked"])
@pytest.mark.parametrize(("name", "kind"), [("mnist", published.MNIST), ("fashion_mnist", published.FashionMNIST)])
def test_mnists_files_are_read_packed_and_as_torchvision_unpacks_them(name, kind, packed, tmp_path, monkeypatch):
    wanted = forged.mnist(kind, tmp_path / "data", monkeypatch, packed)
    found = load_dataset(name, str(tmp_path / "data"), refuse)
    for part, array in zip(
        (found.train_images, found.train_labels, found.test_images, found.test_labels), wanted, strict=True
    ):
        np.testing.assert_array_equal(np.squeeze(part), array)
    assert found.train_images.shape == (30, 1, 28, 28) and found.name == name and len(found.classes) == 10
    train = kind(tmp_path / "data", train=True, download=True)  # torchvision reads the same of them
    np.testing.assert_array_equal(train.data.numpy(), found.train_images[:, 0])


@pytest.mark.parametrize("packed", [True, False], ids=["zip", "unpacked"])
@pytest.mark.parametrize(("split", "classes", "first"), [("balanced", 47, 0), ("letters", 26, 1), ("byclass", 62, 0)])
def test_emnist_stands_upright_and_each_split_is_another_dataset(split, classes, first, packed, tmp_path, monkeypatch):
    wanted = forged.emnist(published.EMNIST, tmp_path / "data", monkeypatch, split, first, packed)
    found = load_dataset(
        "emnist", str(tmp_path / "data"), refuse, **({} if split == "balanced" else {"emnist_split": split})
    )
    np.testing.assert_array_equal(found.train_images[:, 0], wanted[0].transpose(0, 2, 1))
    np.testing.assert_array_equal(found.test_labels, wanted[3])
    assert len(found.classes) == classes and found.classes[0] == ("a" if first else "0")
    with pytest.raises(UserError, match=r"EMNIST (is|in) .*gzip\.zip"):
        load_dataset("emnist", str(tmp_path / "data"), refuse, emnist_split="digits")


def test_svhns_tens_are_the_digit_0(tmp_path, monkeypatch):
    wanted = forged.svhn(published.SVHN, tmp_path / "data", monkeypatch)
    found = load_dataset("svhn", str(tmp_path / "data"), refuse)
    for part, array in zip(
        (found.train_images, found.train_labels, found.test_images, found.test_labels), wanted, strict=True
    ):
        np.testing.assert_array_equal(part, array)
    assert found.train_images.shape == (30, 3, 32, 32) and found.classes == tuple("0123456789")
    (tmp_path / "data" / "test_32x32.mat").write_bytes(b"MATLAB 5.0 MAT-file, not the one")
    with pytest.raises(UserError, match=r"SVHN is damaged .*ufldl.*put test_32x32\.mat into --data-dir"):
        load_dataset("svhn", str(tmp_path / "data"), refuse)


def test_cifar100_has_its_fine_labels_and_is_unpacked_from_an_archive_that_lies_there(tmp_path, monkeypatch):
    wanted = forged.cifar100(published.CIFAR100, tmp_path / "data", monkeypatch)
    found = load_dataset("cifar100", str(tmp_path / "data"), refuse)
    np.testing.assert_array_equal(found.train_images.reshape(200, -1), wanted[0])
    np.testing.assert_array_equal(found.test_labels, wanted[3])
    assert len(found.classes) == 100 and found.classes[7] == "class 7"


class Trap:
    """Whoever unpickles it runs its code."""

    def __reduce__(self):
        return pytest.fail, ("a pickle of another MD5 was unpickled",)


def test_a_pickle_of_another_md5_is_never_unpickled(tmp_path, monkeypatch):
    forged.cifar100(published.CIFAR100, tmp_path / "data", monkeypatch)
    load_dataset("cifar100", str(tmp_path / "data"), refuse)
    for name in ("train", "meta"):
        (tmp_path / "data" / "cifar-100-python" / name).write_bytes(pickle.dumps(Trap()))
    (tmp_path / "data" / "cifar-100-python.tar.gz").unlink()
    with pytest.raises(UserError, match="CIFAR-100 is damaged"):
        load_dataset("cifar100", str(tmp_path / "data"), refuse)


HOSTILE = {
    "another header": lambda content: b"\x00\x00\x0d\x03" + content[4:],
    "more images than bytes": lambda content: content[:4] + (2**31).to_bytes(4, "big") + content[8:],
    "another size": lambda content: content[:8] + (784).to_bytes(4, "big") + (1).to_bytes(4, "big") + content[16:],
    "cut off": lambda content: content[:-1],
    "empty": lambda content: b"",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_file_that_is_no_idx_file_of_its_shape_is_refused(what, tmp_path, monkeypatch):
    forged.mnist(published.MNIST, tmp_path / "data", monkeypatch, packed=False)
    file = tmp_path / "data" / "MNIST" / "raw" / "train-images-idx3-ubyte"
    file.write_bytes(HOSTILE[what](file.read_bytes()))
    with pytest.raises(UserError, match=r"^MNIST is damaged \(an IDX file .*--dataset toy.*--dataset folder:DIR"):
        load_dataset("mnist", str(tmp_path / "data"), refuse)
    assert not list((tmp_path / "cache").glob("**/mnist*"))


def test_labels_of_classes_that_there_are_not_are_refused(tmp_path, monkeypatch):
    arrays = forged.mnist(published.MNIST, tmp_path / "data", monkeypatch, packed=False)
    (tmp_path / "data" / "MNIST" / "raw" / "train-labels-idx1-ubyte").write_bytes(forged.idx(arrays[1] + 1))
    with pytest.raises(UserError, match="train_labels reach from 1 to 10"):
        load_dataset("mnist", str(tmp_path / "data"), refuse)


def test_a_gzip_file_that_unpacks_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("oleander.datasets.formats.MOST_BYTES", 10**6)
    forged.mnist(published.MNIST, tmp_path / "data", monkeypatch)
    bomb = gzip.compress(bytes(10**7))
    (name, _), *others = published.MNIST.resources
    monkeypatch.setattr(published.MNIST, "resources", [(name, forged.md5(bomb)), *others])
    (tmp_path / "data" / "MNIST" / "raw" / name).write_bytes(bomb)
    with pytest.raises(UserError, match="unpacks to more than 1000000 bytes"):
        load_dataset("mnist", str(tmp_path / "data"), refuse)
