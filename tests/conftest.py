"""What the tests share: a cache of their own, tiny images on disk, and cohorts."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

CLASSES = ("ant", "bee", "cow")
LONGEST = (
    "test_tutorial.py", "network/test_runs.py", "test_ends.py", "test_ray_dies.py", "test_floods.py",
    "test_faults.py", "test_study.py", "test_resume.py", "test_simulate.py",
)  # fmt: skip
"""Files that start programs again and again."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that the processes of pytest-xdist, which take a file each, end together."""
    items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    return next((n for n, name in enumerate(LONGEST) if item.path.as_posix().endswith(name)), len(LONGEST))


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """No test reads or writes the user's cache; subprocesses inherit this one."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["XDG_CACHE_HOME"] = str(folder)
    return folder


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flower's messages want to know whose they are."""
    set_task(monkeypatch)


def set_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a fixture that outlives a test."""
    from flwr.supercore.task_identity import TaskIdentity  # not before the environment is set

    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


@pytest.fixture
def same_environment():
    """As before, when a program has run in this process: it sets Ray's login, which the next would take for the user's."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def one_thread() -> None:
    """PyTorch as a client has it, however many cores there are."""
    import torch  # not every test waits for it

    torch.set_num_threads(1)


def write_images(root: Path, classes=CLASSES, train: int = 24, test: int = 8, size: int = 32) -> Path:
    """An image folder whose classes differ in their mean colour."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("test", test)):
        for index, name in enumerate(classes):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 120, size=(size, size, 3), dtype=np.uint8)
                pixels[..., index % 3] += 100
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return root


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes, 24 training and 8 test images each."""
    return write_images(tmp_path_factory.mktemp("images"))
