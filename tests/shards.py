"""Made-up shards."""

import numpy as np

from oleander.datasets.data import Shard
from tests.spaces import CIFAR10


def shard(m: int = 20, client: int = 0) -> Shard:
    rng = np.random.default_rng(client)
    return Shard(client, rng.integers(0, 256, (m, 3, 32, 32), dtype=np.uint8), rng.integers(0, 10, m), CIFAR10)
