"""Randomness as an argument: a generator for each (seed, stream, round, client), the same wherever and whenever it is made."""

import contextlib
import threading
import zlib
from collections.abc import Iterator

import numpy as np
import torch

CPU = torch.device("cpu")
DRAWING = threading.RLock()
"""Held by a thread that draws from PyTorch's global generators: a study's runs share a process, and must not share their numbers."""


def generator(seed: int, stream: str, round_number: int = 0, client: int = 0) -> np.random.Generator:
    """A NumPy generator keyed by these four; different streams ("augment", "batches" …) are independent."""
    return np.random.default_rng([seed, zlib.crc32(stream.encode()), round_number, client])


def torch_generator(seed: int, stream: str, round_number: int = 0, client: int = 0) -> torch.Generator:
    """The same for PyTorch; on the CPU, so that a GPU draws the same numbers."""
    drawn = generator(seed, stream, round_number, client).integers(2**63)
    return torch.Generator().manual_seed(int(drawn))


@contextlib.contextmanager
def torch_seeded(seed: int, device: torch.device = CPU) -> Iterator[None]:
    """Within, PyTorch's global generators start from this seed; afterwards they are as they were.

    For what takes no generator, such as a layer's initialisation and dropout: else what it draws would depend on the process that
    it happens in, and on all that has happened there before.
    """
    with DRAWING, torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
