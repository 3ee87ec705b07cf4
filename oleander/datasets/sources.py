"""Where images come from: CIFAR-10 by torchvision, any image folder, the embedded toy set, ``auto``, or a file of the user's.

Each source is decoded once into the cache (``data.stored``) under a key of what it was decoded from.
"""

import hashlib
import http.client
import os
import socket
import subprocess
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oleander.datasets import digits, toy
from oleander.datasets.data import Dataset, Images, stored
from oleander.datasets.own import own
from oleander.datasets.space import ImageSpace
from oleander.settings.registry import use_dataset
from oleander.system.cache import Notify
from oleander.system.errors import UserError
from oleander.system.files import absolute
from oleander.system.foreign import plain, reason, refusing, shortened
from oleander.system.machine import cpu_count
from oleander.system.programs import module_path, python
from oleander.system.proxies import for_a_download

PROBE_SECONDS = 8.0
"""How long the host of CIFAR-10 may take to answer before it counts as unreachable."""
MOST_FOLDERS = 100_000
CIFAR10 = ImageSpace(3, 32, mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010))
TOY = replace(CIFAR10, side=toy.SIZE)
"""Drawn to take CIFAR-10's place, and normalised as it is."""
FOLDER = CIFAR10
"""What the images of a folder are made: so the shipped checkpoint fits CIFAR-10 as a folder of files too."""
STALL_SECONDS = 20.0
"""How long a download may stand still."""
OTHER_WAYS = (
    "other ways: --dataset digits or toy (no download), --dataset folder:DIR (any image folder), "
    "or put cifar-10-python.tar.gz into --data-dir yourself"
)


def load_dataset(source: str, data_dir: str, notify: Callable[[str], None]) -> Dataset:
    """The dataset of ``--dataset``; ``notify`` is told, in one sentence, when ``auto`` had to choose digits.

    Raises:
        UserError: an unknown source; images that cannot be had or read; names what was tried and the other ways.
    """
    if source == "auto":
        source = chosen(data_dir, notify)
    if source == "toy":
        return _toy(notify)
    if source == "digits":
        return stored("digits", "1".zfill(16), lambda: digits.digits(absolute(data_dir)), notify)
    if source == "cifar10":
        return _cifar10(absolute(data_dir), notify)
    if source.startswith("folder:") and len(source) > len("folder:"):
        return _folder(absolute(source.removeprefix("folder:")), notify)
    use_dataset(source)  # refuses what is none
    root = absolute(data_dir)
    return own(source, root, _listing_key(root, f"--data-dir {root}") if root.is_dir() else "", notify)


def chosen(data_dir: str, notify: Callable[[str], None]) -> str:
    """What ``auto`` stands for: cifar10 where it is on disk or can be downloaded, else digits, of which ``notify`` is told."""
    try:
        _cifar10(absolute(data_dir), notify)
    except UserError as error:
        notify(f"CIFAR-10 could not be had, so this run uses scikit-learn's handwritten DIGITS instead ({error})")
        return "digits"
    return "cifar10"


def _toy(notify: Notify) -> Dataset:
    return stored("toy", f"{toy.VERSION:016d}", _draw_toy, notify)


def _draw_toy() -> Images:
    """Draw in a process of its own: its workers import the module that started them, and ours imports torch."""
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "toy.npz"
        command = python("-m", "oleander.datasets.toy", str(file), str(min(cpu_count(), 8)))
        env = os.environ | {"PYTHONPATH": module_path()}
        drawn = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        if drawn.returncode:
            raise UserError(f"--dataset toy: drawing it failed: {drawn.stderr.strip()[-300:]}")
        with np.load(file) as arrays:
            return Images(arrays["a"], arrays["b"], arrays["c"], arrays["d"], toy.CLASSES, TOY)


# ---- CIFAR-10 ----------------------------------------------------------------------------------------------------------


def _cifar10(data_dir: Path, notify: Notify) -> Dataset:
    files = data_dir / "cifar-10-batches-py"
    if files.is_dir():
        try:
            return stored("cifar10", _listing_key(files), lambda: _read_cifar10(data_dir), notify)
        except _Damaged:
            pass  # a download mends it, or says why it cannot
    with for_a_download():
        _download(data_dir)
    return stored("cifar10", _listing_key(files), lambda: _read_cifar10(data_dir), notify)


class _Damaged(Exception):
    """torchvision found no whole CIFAR-10 (its MD5 sums) on disk."""


def _read_cifar10(data_dir: Path) -> Images:
    from torchvision import datasets

    try:
        train, test = (
            datasets.CIFAR10(data_dir, train=True),
            datasets.CIFAR10(data_dir, train=False),
        )  # checks MD5 sums before it unpickles
    except (RuntimeError, OSError):
        raise _Damaged from None
    return Images(
        np.ascontiguousarray(train.data.transpose(0, 3, 1, 2)),  # (50000, 3, 32, 32)
        np.array(train.targets, dtype=np.int64),
        np.ascontiguousarray(test.data.transpose(0, 3, 1, 2)),  # (10000, 3, 32, 32)
        np.array(test.targets, dtype=np.int64),
        tuple(train.classes),
        CIFAR10,
    )


def _download(data_dir: Path) -> None:
    """Let torchvision download or mend CIFAR-10, after a quick look whether its host answers at all."""
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import check_integrity

    url, archive = CIFAR10.url, data_dir / CIFAR10.filename
    state = "is damaged" if (data_dir / "cifar-10-batches-py").is_dir() or archive.exists() else "is not there"
    tried = f"CIFAR-10 {state} in {data_dir}{os.sep} and {url} "
    if not check_integrity(str(archive), CIFAR10.tgz_md5) and (cause := _unreachable(url)):
        raise UserError(f"{tried}could not be reached ({cause}); {OTHER_WAYS}")
    default = socket.getdefaulttimeout()
    socket.setdefaulttimeout(STALL_SECONDS)
    try:
        CIFAR10(data_dir, train=True, download=True)
    except Exception as error:  # of the network, the archive or the disk
        raise UserError(f"{tried}did not give it whole ({reason(error)}); {OTHER_WAYS}") from None
    finally:
        socket.setdefaulttimeout(default)


def _unreachable(url: str) -> str:
    """Why the host of this address cannot be reached, or nothing. Never takes longer than PROBE_SECONDS, names included."""
    cause = [f"no answer in {PROBE_SECONDS:.0f} s"]

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=PROBE_SECONDS):
                cause[0] = ""
        except urllib.error.URLError as error:
            cause[0] = str(error.reason)
        except (OSError, ValueError, http.client.HTTPException) as error:
            cause[0] = str(error)

    asking = threading.Thread(target=ask, daemon=True)  # looking a name up has no timeout of its own
    asking.start()
    asking.join(PROBE_SECONDS)
    return cause[0]


# ---- any image folder --------------------------------------------------------------------------------------------------


def _folder(root: Path, notify: Notify, image: ImageSpace = FOLDER) -> Dataset:
    for split in ("train", "test"):
        if not (root / split).is_dir():
            raise UserError(f"--dataset folder:{root}: {root / split} is not a folder; wanted: {_LAYOUT}")
    name = f"folder:{root.resolve().name}"
    with refusing(f"--dataset folder:{root}"):
        return stored(name, _folder_key(root, image), lambda: _read_folder(root, image), notify)


_LAYOUT = "DIR/train/<class>/* and DIR/test/<class>/* with two classes or more, the same in both"


def _folder_key(root: Path, image: ImageSpace) -> str:
    """Of the files, and of what their images are made."""
    return hashlib.sha256(f"{_listing_key(root)} {image}".encode()).hexdigest()


def _read_folder(root: Path, image: ImageSpace) -> Images:
    from torchvision.datasets import ImageFolder

    splits = {}
    for split in ("train", "test"):
        try:
            splits[split] = ImageFolder(str(root / split))
        except OSError as error:
            said = shortened(plain(error), 300)
            raise UserError(f"--dataset folder:{root}: {split}: {said}; wanted: {_LAYOUT}") from None
    train, test = splits["train"], splits["test"]
    if train.classes != test.classes:
        odd = sorted(set(train.classes) ^ set(test.classes))
        raise UserError(
            f"--dataset folder:{root}: train and test differ in the classes {', '.join(odd)}; wanted: {_LAYOUT}"
        )
    if len(train.classes) < 2:
        raise UserError(f"--dataset folder:{root}: only the class {train.classes[0]}; wanted: {_LAYOUT}")
    decoded = (*_decode(train.samples, image), *_decode(test.samples, image))
    return Images(*decoded, classes=tuple(train.classes), image=image)


def _decode(samples: list[tuple[str, int]], image: ImageSpace) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes without holding the interpreter's lock
        images = np.stack(
            list(pool.map(lambda sample: _decode_one(sample[0], image), samples, chunksize=64))
        )  # (m, c, h, w)
    return images, np.array([label for _, label in samples], dtype=np.int64)


def _decode_one(path: str, image: ImageSpace) -> NDArray[np.uint8]:
    """Decode one image file and fit it into the space: (c, h, w)."""
    from oleander.datasets.pictures import fitted, read_picture

    with refusing(f"--dataset: {path} cannot be read as an image"):
        return fitted(read_picture(Path(path)), image)


def _listing_key(root: Path, asked: str = "") -> str:
    """Hash of where a folder is and of its files' names, sizes and times: other files, another key."""
    digest, asked = hashlib.sha256(), asked or f"--dataset folder:{root}"

    def add(text: str, path: Path) -> None:
        try:
            digest.update(text.encode())
        except UnicodeEncodeError:  # figures and pages can hold no such name
            raise UserError(f"{asked}: {str(path)!r} is not named in UTF-8; rename it") from None

    add(str(root.resolve()), root)
    for number, (folder, subfolders, names) in enumerate(os.walk(root, followlinks=True)):
        subfolders.sort()
        if number > MOST_FOLDERS:  # links in a circle, which would be followed for ever
            raise UserError(f"{asked}: more than {MOST_FOLDERS} folders; do links lead back into it?")
        for name in sorted(names):
            file = Path(folder) / name
            info = file.stat() if file.exists() else file.lstat()  # a broken link: decoding it says so
            add(f"{folder}\0{name}\0{info.st_size}\0{info.st_mtime_ns}\n", file)
    return digest.hexdigest()
