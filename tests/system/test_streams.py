"""Streams of random numbers."""

import torch

from oleander.system.streams import generator, torch_generator


def test_streams_are_keyed_by_all_four():
    keys = [(0, "a", 0, 0), (1, "a", 0, 0), (0, "b", 0, 0), (0, "a", 1, 0), (0, "a", 0, 1)]
    assert len({generator(*key).integers(2**60) for key in keys}) == 5
    assert len({int(torch.randint(2**60, (1,), generator=torch_generator(*key))) for key in keys}) == 5
    assert generator(3, "x", 2, 1).integers(2**60) == generator(3, "x", 2, 1).integers(2**60)
