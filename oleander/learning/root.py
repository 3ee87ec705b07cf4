"""Clean images that a server has collected itself: in no client's shard, and no part of the test set."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from oleander.datasets.data import Shard
from oleander.learning.parameters import ModelState
from oleander.learning.training import Hooks
from oleander.learning.updates import Update

Train = Callable[..., Update]
"""A global model, a shard, a round, and by name settings that are to be others → the update that the clients' own training makes."""
Fit = Callable[..., None]
"""A module, a shard, a round, hooks, and by name settings that are to be others: the clients' own training of it, in place."""


def _no_module(*_: object, **__: object) -> None:
    raise ValueError("this root set can train no module")


@dataclass(frozen=True)
class Root:
    """The server's own clean images, and the training that its clients do."""

    shard: Shard
    train: Train
    train_module: Fit = _no_module

    def update(self, start: ModelState, round_number: int, **settings: float) -> Update:
        """The update that an honest client with these images would send; with other ``settings`` (``lr``, ``local_epochs``)."""
        return self.train(start, self.shard, round_number, **settings)

    def fit(self, module: nn.Module, round_number: int, hooks: Sequence[Hooks] = (), **settings: float) -> None:
        """The same training of a module that is already there, in place; ``hooks`` change its losses, gradients and weights."""
        self.train_module(module, self.shard, round_number, hooks, **settings)
