"""Clean images that a server has collected itself: in no client's shard, and no part of the test set."""

from collections.abc import Callable
from dataclasses import dataclass

from oleander.datasets.data import Shard
from oleander.learning.parameters import ModelState
from oleander.learning.updates import Update

Train = Callable[..., Update]
"""A global model, a shard, a round, and by name settings that are to be others → the update that the clients' own training makes."""


@dataclass(frozen=True)
class Root:
    """The server's own clean images, and the training that its clients do."""

    shard: Shard
    train: Train

    def update(self, start: ModelState, round_number: int, **settings: float) -> Update:
        """The update that an honest client with these images would send; with other ``settings`` (``lr``, ``local_epochs``)."""
        return self.train(start, self.shard, round_number, **settings)
