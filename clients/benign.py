"""An honest client: trains the global model on its shard and returns it."""

import time
from collections.abc import Mapping
from typing import Any

from flwr.client import NumPyClient
from torch import nn

from oleander.datasets.data import Shard
from oleander.learning.parameters import FloatArray, arrays_of, load_arrays
from oleander.learning.training import Fit, train
from oleander.settings.config import Experiment


class BenignClient(NumPyClient):
    """Trains on its shard and sends the model it comes to."""

    def __init__(self, shard: Shard, model: nn.Module, experiment: Experiment) -> None:
        """Take the client's own data, a model to train in (its weights are overwritten), and the run's settings."""
        self.shard = shard
        self.model = model
        self.experiment = experiment

    def fit(
        self, parameters: list[FloatArray], config: Mapping[str, Any]
    ) -> tuple[list[FloatArray], int, dict[str, float]]:
        """Train the global model ``parameters`` in round ``config["server-round"]``.

        Returns:
            The tensors of the local model, the examples in the shard, and metrics: loss, images passed, and when it
            began, in seconds since the epoch.
        """
        began = time.time()
        load_arrays(self.model, parameters)
        fit = self.learn(int(config["server-round"]))
        local = self.submission(parameters, arrays_of(self.model))
        metrics = {"loss": fit.loss, "images": float(fit.images), "began": began}
        return local, len(self.shard.labels), metrics

    def learn(self, round_number: int) -> Fit:
        """Train ``self.model`` in place."""
        return train(self.model, self.shard, self.experiment, round_number)

    def submission(self, _global: list[FloatArray], local: list[FloatArray]) -> list[FloatArray]:
        """What is sent, given the global and the local model: the local model."""
        return local
