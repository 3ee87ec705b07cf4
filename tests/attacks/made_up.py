"""What the tests of attacks share: settings, made-up images and updates."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from oleander.datasets.data import Shard
from oleander.learning.updates import Update
from oleander.settings.config import Experiment
from tests.spaces import CIFAR10

SETTINGS = Experiment(malicious=3, clients_per_round=6, precision="fp32")
_TAIL = tempfile.TemporaryDirectory(prefix="edge-cases-")
RED = torch.tensor([1.0, 0.0, 0.0])


def pixels(count: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def update(seed: int = 0) -> Update:
    rng = np.random.default_rng(seed)
    return Update(1, rng.normal(size=30).astype(np.float32), rng.normal(size=5).astype(np.float32), 64)


def shard(client: int = 0, m: int = 20) -> Shard:
    """The same images and labels for every client."""
    rng = np.random.default_rng(0)
    return Shard(client, rng.integers(0, 250, (m, 3, 32, 32), dtype=np.uint8), rng.integers(0, 10, m), CIFAR10)


def red_columns(stamp) -> list[int]:
    """Columns in which a stamp turns black pixels red, on every row of the square."""
    red = (stamp(torch.zeros(1, 3, 32, 32))[0] == RED.view(3, 1, 1)).all(0)
    return torch.nonzero(red.any(0)).flatten().tolist()


def edge_cases(folder: Path = Path(_TAIL.name), count: int = 10) -> Path:
    """A folder of that many pictures, the same ones each time."""
    rng = np.random.default_rng(0)
    for number in range(count):
        pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        file = folder / ("a" if number % 2 else "b") / f"{number}.png"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(file)
    return folder


def settings_of(name: str, **settings) -> Experiment:
    """With what an attack must be given."""
    needed = {"edge_case_images": str(edge_cases())} if name == "edge_case" else {}
    return replace(SETTINGS, attack=name, **settings).changed(**needed)
