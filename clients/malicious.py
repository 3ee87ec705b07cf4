"""A malicious client: poisons its shard, trains as an honest one does, and tampers with the update.

It knows its own shard, the global model it was sent and the settings; never another client's update.
"""

import torch
from torch import Tensor, nn

from attacks import Attack, poison
from clients.benign import BenignClient
from oleander.datasets.data import Shard
from oleander.learning.parameters import FloatArray, Layout, ModelState
from oleander.learning.training import Fit, train
from oleander.learning.updates import Update
from oleander.settings.config import Experiment
from oleander.system.streams import generator


class MaliciousClient(BenignClient):
    """Plants a backdoor: ``attack`` says which trigger it trains on and what it does to its update."""

    def __init__(self, shard: Shard, model: nn.Module, experiment: Experiment, attack: Attack) -> None:
        """As a benign client; the attackers are the clients 0 … µ-1, so the client id is the attacker's number too."""
        super().__init__(shard, model, experiment)
        self.attack = attack

    def learn(self, round_number: int) -> Fit:
        """Train on the poisoned shard: the same images are poisoned in every round."""
        stamp = self.attack.part(self.shard.client_id)
        if stamp is None:
            return super().learn(round_number)
        setting, rng = self.experiment, generator(self.experiment.seed, "poison", client=self.shard.client_id)
        poisoned = poison(self.shard, setting.poison_rate, setting.target, rng)
        rows = torch.from_numpy(poisoned.poisoned)  # (m,)

        def finish(pixels: Tensor) -> Tensor:
            chosen = rows.to(pixels.device).view(-1, 1, 1, 1)
            return torch.where(chosen, stamp(pixels), pixels)

        return train(self.model, poisoned.shard, setting, round_number, finish)

    def submission(self, global_: list[FloatArray], local: list[FloatArray]) -> list[FloatArray]:
        """The global model plus the tampered update; the local model as it is where the attack leaves updates alone."""
        if not self.attack.tampers:
            return local
        layout = Layout.of(self.model)
        start, end = layout.flatten(global_), layout.flatten(local)
        update = Update(
            self.shard.client_id,
            end.weights - start.weights,
            end.statistics - start.statistics,
            len(self.shard.labels),
        )
        sent = self.attack.tamper(update)
        return layout.unflatten(ModelState(start.weights + sent.delta, start.statistics + sent.statistics))
