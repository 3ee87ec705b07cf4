"""An attacker's local training in process, on a tiny model: what comes of an attack's hooks and tampers."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from attacks import Attack, ask, poison
from attacks._tensors import flat, shaped
from oleander.datasets.data import Shard
from oleander.learning.training import Hooks, train
from oleander.learning.updates import Update
from oleander.settings.config import Experiment
from tests.shards import shard

SETTINGS = Experiment(
    precision="fp32", batch_size=8, local_epochs=3, lr=0.05, malicious=3, clients_per_round=7, clients=7
)


class Tiny(nn.Module):
    """One layer and batch norm: 120 weights, 8 statistics."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(27, 4)
        self.norm = nn.BatchNorm1d(4)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.norm(self.linear(nn.functional.adaptive_avg_pool2d(pixels, 3).flatten(1)))


@dataclass(frozen=True)
class Trained:
    """What the training came to."""

    start: np.ndarray
    """(120,) float32, the global model's weights"""
    end: np.ndarray
    """(120,) float32, after the last step"""
    path: list[np.ndarray]
    """The weights after each step, (120,) each"""
    update: Update
    """What is sent."""
    loss: float


def four_classes(client: int = 0) -> Shard:
    """20 images in classes 0 to 3."""
    made = shard(client=client)
    return replace(made, labels=made.labels % 4)


def trained(attack: Attack, experiment: Experiment = SETTINGS, previous: np.ndarray | None = None) -> Trained:
    """Train as a malicious client does: half of its images are of class 0 whatever they show."""
    torch.set_num_threads(1)
    model, path = Tiny(), []
    parameters = list(model.parameters())
    start = [weight.detach().clone() for weight in parameters]
    known = {"start": start, "previous": None if previous is None else shaped(torch.from_numpy(previous), start)}
    hooks = [ask(step, known.__getitem__) for step in attack.training]
    watch = Hooks(weights=lambda weights: path.append(vector(weights)) or weights)
    poisoned = poison(four_classes(), 0.5, 0, np.random.default_rng(0)).shard
    fit = train(model, poisoned, experiment, 1, hooks=[*hooks, watch])
    delta, statistics = vector(parameters) - vector(start), np.ones(8, np.float32)
    sent = attack.tamper(Update(0, delta, statistics, 20), known.__getitem__)
    return Trained(vector(start), vector(parameters), path, sent, fit.loss)


def vector(tensors: Iterator[Tensor] | list[Tensor]) -> np.ndarray:
    """(d,) float32"""
    return flat(list(tensors)).detach().numpy().copy()


def length(delta: np.ndarray) -> float:
    """L2 norm in float64."""
    return float(np.sqrt(np.square(delta.astype(np.float64)).sum()))
