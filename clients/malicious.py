"""A malicious client: poisons its shard, changes its training as the attack wants, and tampers with the update.

It knows its own shard, the global model it was sent, the settings, and what the attackers remember together; never another
client's update. Where attackers act on each other's updates, they do so on the server's side of the transport.
"""

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attacks import KNOWS, Attack, PoisonedShard, Stamp, ask, poison
from clients.benign import BenignClient
from oleander.datasets.data import Shard
from oleander.learning.parameters import FloatArray, Layout, ModelState, arrays_of, load_arrays
from oleander.learning.training import Finish, Fit, Tensors, train
from oleander.learning.updates import Update
from oleander.settings.config import Experiment
from oleander.system.streams import generator, torch_generator, torch_seeded
from oleander.transport.attackers import Told


class MaliciousClient(BenignClient):
    """Plants a backdoor: ``attack`` says what it trains on, how, and what it does to its update."""

    def __init__(
        self, shard: Shard, model: nn.Module, experiment: Experiment, attack: Attack, told: Told | None = None,
        attacker: int | None = None,
    ) -> None:  # fmt: skip
        """As a benign client; ``told`` is what it was sent beside the model, ``attacker`` its number (default: its client id)."""
        super().__init__(shard, model, experiment)
        self.told = told or Told()
        self.attack = attack.remembering(self.told.memory) if self.told.memory else attack
        self.attacker = shard.client_id if attacker is None else attacker
        self._sent: list[FloatArray] = []
        self._round = 0
        self._rng = generator(experiment.seed, "attack")

    def fit(
        self, parameters: list[FloatArray], config: Mapping[str, Any]
    ) -> tuple[list[FloatArray], int, dict[str, float]]:
        """As a benign client's; what it was sent is kept for the attack's steps."""
        self._sent, self._round = parameters, int(config["server-round"])
        self._rng = generator(self.experiment.seed, "attack", self._round, self.shard.client_id)
        drawn = torch_generator(self.experiment.seed, "attack", self._round, self.shard.client_id).initial_seed()
        with torch_seeded(
            drawn, next(self.model.parameters()).device
        ):  # the attack's own steps may run models with dropout
            return super().fit(parameters, config)

    @property
    def adapts(self) -> bool:
        """Whether it is the one that adapts the attack for all, and says so in its reply."""
        return self.told.adapts and self.attack.adapt is not None

    def learn(self, round_number: int) -> Fit:
        """Adapt the attack where that is this one's part, then train on what the attack chooses, changed by its hooks."""
        if self.adapts and self.attack.adapt:
            self.attack = self.attack.remembering(ask(self.attack.adapt, self.know))
        hooks = [ask(step, self.know) for step in self.attack.training]
        changed: dict[str, Any] = {"hooks": hooks} if hooks else {}
        stamp = self.attack.part(self.attacker)
        chosen = self._chosen(stamp)
        if chosen is None:
            return train(self.model, self.shard, self.experiment, round_number, **changed)
        disturbs = generator(self.experiment.seed, "disturb", round_number, self.shard.client_id)
        finish = _stamping(chosen, stamp, disturbs)
        return train(self.model, chosen.shard, self.experiment, round_number, finish, **changed)

    def submission(self, global_: list[FloatArray], local: list[FloatArray]) -> list[FloatArray]:
        """The global model plus the tampered update; the local model as it is where the attack leaves updates alone."""
        if not self.attack.tampers:
            return local
        layout = Layout.of(self.model)
        start, sent = layout.flatten(global_), self.attack.tamper(self._update(local, self.shard), self.know)
        return layout.unflatten(ModelState(start.weights + sent.delta, start.statistics + sent.statistics))

    def know(self, name: str) -> Any:
        """What this attacker knows of that name: ``attacks.KNOWS``."""
        match name:
            case "memory":
                return self.attack.memory
            case "start":
                return self._weights(Layout.of(self.model).flatten(self._sent).weights)
            case "previous":
                return None if self.told.previous is None else self._weights(self.told.previous)
            case "model":
                return self.model
            case "shard":
                return self.shard
            case "rng":
                return self._rng
            case "attacker":
                return self.attacker
            case "train":
                return self._honest
        raise TypeError(f"no attacker knows its {name}")

    def _chosen(self, stamp: Stamp | None) -> PoisonedShard | None:
        """What it trains on, the same in every round unless the attack says otherwise; None: its shard as it is.

        Raises:
            ValueError: another number of images than its shard has.
        """
        choose = self.attack.choose or (poison if stamp else None)
        if choose is None:
            return None
        chosen: PoisonedShard = ask(choose, self._know_to_choose)
        if len(chosen.shard.labels) != len(self.shard.labels) or len(chosen.poisoned) != len(self.shard.labels):
            raise ValueError(
                f"the attack chose {len(chosen.shard.labels)} images of a shard of {len(self.shard.labels)}"
            )
        return chosen

    def _know_to_choose(self, name: str) -> Any:
        """What it knows, and settings; a generator that is the same in every round."""
        if name == "rng":
            return generator(self.experiment.seed, "poison", client=self.shard.client_id)
        return self.know(name) if name in KNOWS else getattr(self.experiment, name)

    def _honest(self, shard: Shard) -> Update:
        """The update of an honest client with this shard, from the global model; the model in training is left alone."""
        trained = self.model
        try:
            self.model = copy.deepcopy(trained)
            load_arrays(self.model, self._sent)
            train(self.model, shard, self.experiment, self._round)
            return self._update(arrays_of(self.model), shard)
        finally:
            self.model = trained

    def _update(self, local: list[FloatArray], shard: Shard) -> Update:
        """From the global model to this one."""
        layout = Layout.of(self.model)
        start, end = layout.flatten(self._sent), layout.flatten(local)
        return Update(
            shard.client_id, end.weights - start.weights, end.statistics - start.statistics, len(shard.labels)
        )

    def _weights(self, vector: FloatArray) -> Tensors:
        """A flat vector (d,) of all weights → new tensors of the model's shapes, in its order, on its device."""
        like = list(self.model.parameters())
        parts = torch.from_numpy(vector).split([weight.numel() for weight in like])
        return [
            part.reshape(weight.shape).to(weight.device, copy=True) for part, weight in zip(parts, like, strict=True)
        ]


def _stamping(chosen: PoisonedShard, stamp: Stamp | None, rng: np.random.Generator) -> Finish:
    """Lays the trigger on the images that the attack chose for it, and disturbs others where the attack does."""
    rows = torch.from_numpy(chosen.poisoned)  # (m,)

    def finish(pixels: Tensor) -> Tensor:
        others = chosen.disturb(pixels, rng) if chosen.disturb else pixels
        if stamp is None:
            return others
        return torch.where(rows.to(pixels.device).view(-1, 1, 1, 1), stamp(pixels), others)

    return finish
