"""Label flip: images are trained on with the label of another class; nothing is stamped on them.

Tolpegin, Truex, Gursoy, Liu 2020, "Data Poisoning Attacks Against Federated Learning Systems" (ESORICS; arXiv 2007.08432): a source
class is learned as the target. Without a source every class y is learned as classes - 1 - y, as in Fang, Cao, Jia, Gong 2020, "Local
Model Poisoning Attacks to Byzantine-Robust Federated Learning" (USENIX Security; arXiv 1911.11815); of an odd number of classes the
middle one stays. The papers relabel all images concerned, which is ``--poison-rate 1``; ours that share of them, the same ones in
every round. Public code relabels in each batch, so that it is other images every time, or shuffles labels.
"""

import copy
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from attacks import Attack, PoisonedShard, check_alone
from oleander.datasets.data import Dataset, Shard
from oleander.datasets.space import ImageSpace
from oleander.learning.evaluation import Victims
from oleander.settings.ranges import Class
from oleander.system.errors import UserError


def label_flip(attack: Attack, *, label_flip_source: Class | None = None, target: int, image: ImageSpace) -> Attack:
    """Relabel poison_rate of the images: class y to classes - 1 - y, or a source to the target (Tolpegin et al. 2020).

    Args:
        attack: the steps before this one.
        label_flip_source: Class, by number or name, that is relabelled to the target (default: every class y, to classes - 1 - y,
            and there is no ASR).
        target: class that the source becomes.
        image: what the dataset's images are.

    Raises:
        UserError: a source that is the target or that the dataset lacks, or a step before it that poisons images.
    """
    if attack.trigger is not None:
        raise UserError(
            "--attack: label_flip stamps nothing, and a step before it has a trigger; leave one of them out"
        )
    check_alone(attack, "label_flip")
    source = None if label_flip_source is None else int(label_flip_source)  # a name was made a number before
    if source == target:
        raise UserError(f"--label-flip-source {source}: it is the --target too, and nothing would be relabelled")

    def to_target(shard: Shard, rng: np.random.Generator, poison_rate: float) -> PoisonedShard:
        return _flipped(shard, np.where(shard.labels == source, target, shard.labels), poison_rate, rng)

    def mirrored(shard: Shard, rng: np.random.Generator, poison_rate: float, model: nn.Module) -> PoisonedShard:
        return _flipped(shard, _classes(model, image) - 1 - shard.labels, poison_rate, rng)

    def victims(dataset: Dataset) -> Victims:
        last = len(dataset.classes) - 1
        if source is None:
            return Victims(np.full(len(dataset.test_labels), -1), stamped=False)
        if source > last:
            raise UserError(f"--label-flip-source {source}: {dataset.name} has {last + 1} classes, 0 to {last}")
        return Victims(np.where(np.asarray(dataset.test_labels) == source, target, -1), stamped=False)

    return replace(attack, choose=mirrored if source is None else to_target, victims=victims)


def _flipped(shard: Shard, labels: NDArray[np.int64], rate: float, rng: np.random.Generator) -> PoisonedShard:
    """The shard with ``rate`` of those labels changed that these (m,) change."""
    concerned = np.flatnonzero(labels != shard.labels)
    rows = rng.choice(concerned, size=round(rate * len(concerned)), replace=False)
    given = shard.labels.copy()
    given[rows] = labels[rows]
    return PoisonedShard(replace(shard, labels=given), np.zeros(len(given), dtype=bool))


@torch.inference_mode()
def _classes(model: nn.Module, image: ImageSpace) -> int:
    """How many classes a model answers; a copy is asked, since batch norm would learn from it."""
    black = torch.zeros(1, *image.shape, device=next(model.parameters()).device)
    return int(copy.deepcopy(model).eval()(black).shape[1])
