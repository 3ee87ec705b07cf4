"""Streams of random numbers."""

import threading

import torch

from oleander.datasets.space import ImageSpace
from oleander.models import build
from oleander.system.streams import generator, torch_generator, torch_seeded


def test_streams_are_keyed_by_all_four():
    keys = [(0, "a", 0, 0), (1, "a", 0, 0), (0, "b", 0, 0), (0, "a", 1, 0), (0, "a", 0, 1)]
    assert len({generator(*key).integers(2**60) for key in keys}) == 5
    assert len({int(torch.randint(2**60, (1,), generator=torch_generator(*key))) for key in keys}) == 5
    assert generator(3, "x", 2, 1).integers(2**60) == generator(3, "x", 2, 1).integers(2**60)


def test_what_one_thread_draws_is_the_same_while_others_draw_and_make_models():
    """As the runs of a study do, whose servers share a process."""
    over = threading.Event()

    def others(seed):
        while not over.is_set():
            build("cnn", 10, ImageSpace(1, 16, (0.5,), (0.5,)))
            with torch_seeded(seed):
                torch.rand(3)

    threads = [threading.Thread(target=others, args=(seed,)) for seed in range(2)]
    for thread in threads:
        thread.start()
    found = set()
    for _ in range(40):
        with torch_seeded(7):
            drawn = []
            for _ in range(10):
                drawn.append(float(torch.rand(())))
                threading.Event().wait(1e-4)  # others' turn
            found.add(tuple(drawn))
    over.set()
    for thread in threads:
        thread.join()
    assert len(found) == 1
