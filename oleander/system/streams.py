"""Randomness as an argument: a generator for each (seed, stream, round, client), the same wherever and whenever it is made."""

import zlib

import numpy as np
import torch


def generator(seed: int, stream: str, round_number: int = 0, client: int = 0) -> np.random.Generator:
    """A NumPy generator keyed by these four; different streams ("augment", "batches" …) are independent."""
    return np.random.default_rng([seed, zlib.crc32(stream.encode()), round_number, client])


def torch_generator(seed: int, stream: str, round_number: int = 0, client: int = 0) -> torch.Generator:
    """The same for PyTorch; on the CPU, so that a GPU draws the same numbers."""
    drawn = generator(seed, stream, round_number, client).integers(2**63)
    return torch.Generator().manual_seed(int(drawn))
