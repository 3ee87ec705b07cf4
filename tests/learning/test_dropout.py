"""What a model draws while it trains, its dropout, comes from the client's own stream, wherever and after whatever it trains."""

import numpy as np
import pytest
import torch
from torch import nn

from attacks import Attack
from clients.benign import BenignClient
from clients.malicious import MaliciousClient
from oleander.datasets.data import Shard
from oleander.learning.parameters import arrays_of
from oleander.learning.training import Hooks, train
from oleander.settings.config import Experiment
from tests.spaces import CIFAR10

SETTINGS = Experiment(precision="fp32", batch_size=4, local_epochs=2)

pytestmark = pytest.mark.usefixtures("one_thread")


class Dropping(nn.Module):
    """Half of the pixels are dropped; each step's are kept to be looked at."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3 * 32 * 32, 4)
        nn.init.zeros_(self.linear.weight)
        self.dropped = []

    def forward(self, pixels):
        kept = nn.functional.dropout(torch.ones_like(pixels), 0.5, self.training)
        self.dropped.append(kept.detach().clone())
        return self.linear((pixels * kept).flatten(1))


def shard(client=0):
    rng = np.random.default_rng(0)
    return Shard(client, rng.integers(0, 256, (8, 3, 32, 32), dtype=np.uint8), rng.integers(0, 4, 8), CIFAR10)


def masks(seed=0, client=0, round_number=1):
    model = Dropping()
    train(model, shard(client), SETTINGS.changed(seed=seed), round_number)
    return torch.stack(model.dropped)


def test_it_is_keyed_by_seed_round_and_client_and_not_by_what_was_drawn_before():
    torch.rand(5)
    first = masks()
    torch.rand(7)
    assert torch.equal(masks(), first)
    assert not any(torch.equal(other, first) for other in (masks(seed=1), masks(client=1), masks(round_number=2)))
    assert 0.45 < float((first == 0).float().mean()) < 0.55 and not torch.equal(first[0], first[1])


def test_training_leaves_the_global_generator_alone():
    model = Dropping()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(model, shard(), SETTINGS, 1)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("client_type", [BenignClient, MaliciousClient])
def test_clients_come_to_the_same_bits_in_any_process(client_type):
    extra = {"attack": Attack()} if client_type is MaliciousClient else {}
    start = arrays_of(Dropping())
    start[1][:] = 0  # the bias, which PyTorch draws
    one, two = (client_fit(client_type, start, extra, n) for n in (3, 11))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


def client_fit(client_type, start, extra, drawn_before):
    torch.rand(drawn_before)
    return client_type(shard(), Dropping(), SETTINGS, **extra).fit(start, {"server-round": 1})[0]


def test_an_attacks_own_steps_draw_from_the_clients_stream_too():
    seen = []

    def drawn(client, round_number):
        def step(start):
            seen.append(torch.rand(4))
            return Hooks()

        made = MaliciousClient(shard(client), Dropping(), SETTINGS, Attack(training=(step,)))
        made.fit(arrays_of(Dropping()), {"server-round": round_number})
        return seen[-1]

    one = drawn(0, 1)
    torch.rand(3)
    assert torch.equal(drawn(0, 1), one)
    assert not torch.equal(drawn(1, 1), one) and not torch.equal(drawn(0, 2), one)
