"""What the tests of attacks share: settings, made-up images and updates."""

import numpy as np
import torch

from oleander.datasets.data import Shard
from oleander.learning.updates import Update
from oleander.settings.config import Experiment
from tests.spaces import CIFAR10

SETTINGS = Experiment(malicious=3, clients_per_round=6, precision="fp32")
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
