"""Datasets that are not there: downloaded once and whole, from the mirror that has them, or refused soon with the ways out."""

import functools
import hashlib
import http.server
import shutil
import socket
import threading
import time

import pytest
import torchvision.datasets as published

from oleander.datasets import downloads, gtsrb, tiny_imagenet
from oleander.datasets.downloads import Archive, fetch
from oleander.datasets.sources import load_dataset
from oleander.system.errors import UserError
from tests.datasets import forged
from tests.datasets.silent import refuse

NOWHERE = "http://127.0.0.1:9/"


@pytest.fixture
def served(tmp_path):
    """A folder on loopback; yields it and its address."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def cache_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_mnist_is_downloaded_once_from_the_mirror_that_answers(served, tmp_path, monkeypatch):
    folder, url = served
    forged.mnist(published.MNIST, tmp_path / "data", monkeypatch)
    shutil.move(tmp_path / "data" / "MNIST" / "raw", folder / "raw")
    monkeypatch.setattr(published.MNIST, "mirrors", [NOWHERE, f"{url}nothing/", f"{url}raw/"])
    first = load_dataset("mnist", str(tmp_path / "data"), refuse)
    shutil.rmtree(folder / "raw")
    assert load_dataset("mnist", str(tmp_path / "data"), refuse).fingerprint == first.fingerprint
    shutil.rmtree(tmp_path / "cache")
    assert load_dataset("mnist", str(tmp_path / "data"), refuse).fingerprint == first.fingerprint


def test_a_damaged_file_is_mended_by_a_download_of_it_alone(served, tmp_path, monkeypatch):
    folder, url = served
    forged.mnist(published.MNIST, tmp_path / "data", monkeypatch)
    whole = load_dataset("mnist", str(tmp_path / "data"), refuse)
    raw = tmp_path / "data" / "MNIST" / "raw"
    monkeypatch.setattr(published.MNIST, "mirrors", [url])
    shutil.copy(raw / "t10k-labels-idx1-ubyte.gz", folder)
    (raw / "t10k-labels-idx1-ubyte.gz").write_bytes(b"short")
    assert load_dataset("mnist", str(tmp_path / "data"), refuse).fingerprint == whole.fingerprint


def test_what_a_host_gives_with_another_md5_is_refused(served, tmp_path):
    folder, url = served
    (folder / "a.zip").write_bytes(b"something else")
    archive = Archive(tmp_path / "data" / "a.zip", (f"{url}a.zip",), hashlib.md5(b"it").hexdigest())
    with pytest.raises(
        UserError, match=r"^It is not there in .*a\.zip did not give it whole .* or put a\.zip into --data-dir"
    ):
        fetch("It", tmp_path / "data", [archive])


def nowhere(monkeypatch):
    monkeypatch.setattr(published.MNIST, "mirrors", [NOWHERE])
    monkeypatch.setattr(published.FashionMNIST, "mirrors", [NOWHERE])
    monkeypatch.setattr(published.EMNIST, "url", NOWHERE)
    monkeypatch.setattr(published.CIFAR100, "url", NOWHERE)
    files = {split: [NOWHERE, *rest] for split, (_, *rest) in published.SVHN.split_list.items()}
    monkeypatch.setattr(published.SVHN, "split_list", files)
    monkeypatch.setattr(gtsrb, "HOST", NOWHERE)
    monkeypatch.setattr(tiny_imagenet, "URL", NOWHERE)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("mnist", "MNIST/raw/t10k-labels-idx1-ubyte.gz"), ("fashion_mnist", "FashionMNIST/raw/train-images-idx3-ubyte.gz"),
        ("emnist", "EMNIST/raw/gzip.zip"), ("svhn", "train_32x32.mat, test_32x32.mat"), ("cifar100", "cifar-100-python.tar.gz"),
        ("gtsrb", "gtsrb/GTSRB_Final_Test_GT.zip"), ("tiny_imagenet", "tiny-imagenet-200.zip"),
    ],
)  # fmt: skip
def test_offline_each_is_refused_with_what_was_tried_and_the_ways_out(name, file, tmp_path, monkeypatch):
    nowhere(monkeypatch)
    with pytest.raises(UserError) as error:
        load_dataset(name, str(tmp_path / "data"), refuse)
    said = str(error.value)
    wanted = (
        "is not there in",
        str(tmp_path / "data"),
        NOWHERE,
        "could not be reached",
        "--dataset toy",
        "folder:DIR",
        file,
    )
    assert all(word in said for word in wanted) and "\n" not in said
    assert not (tmp_path / "data").exists()


def test_hosts_that_never_answer_are_given_up_together(monkeypatch):
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        monkeypatch.setattr(downloads, "PROBE_SECONDS", 0.3)
        began = time.monotonic()
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/x"
        assert all(downloads.unreachable([url] * 20))
        assert time.monotonic() - began < 0.3 * 20


@pytest.mark.parametrize(("status", "there"), [(200, True), (403, True), (405, True), (404, False), (500, False)])
def test_a_host_that_refuses_only_the_question_is_asked_for_the_file(status, there):
    class Answers(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        (cause,) = downloads.unreachable([f"http://127.0.0.1:{server.server_port}/x"])
        server.shutdown()
    assert (cause == "") == there and (there or str(status) in cause)
