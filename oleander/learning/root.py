"""Clean images that a server has collected itself: in no client's shard, and no part of the test set."""

from collections.abc import Callable
from dataclasses import dataclass

from oleander.datasets.data import Shard
from oleander.learning.parameters import ModelState
from oleander.learning.updates import Update

Train = Callable[[ModelState, Shard, int], Update]
"""A global model, a shard and a round → the update that the clients' own local training makes of them."""


@dataclass(frozen=True)
class Root:
    """The server's own clean images, and the training that its clients do."""

    shard: Shard
    train: Train

    def update(self, start: ModelState, round_number: int) -> Update:
        """The update that an honest client with these images would send."""
        return self.train(start, self.shard, round_number)
