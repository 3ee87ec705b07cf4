"""Scores of starting models, remembered: the same model on the same images is not evaluated again in every run.

What is remembered is found by the content of everything that it came from, so that nothing has to be declared stale.
"""

import dataclasses
import hashlib
import json
import logging
import math

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from oleander.datasets.data import Dataset
from oleander.learning.devices import hardware
from oleander.learning.evaluation import Scores, Trigger, Victims, stamped_hash, victims_hash
from oleander.learning.parameters import ModelState
from oleander.settings.ranges import NotNegative, Rate
from oleander.system.cache import Notify, recall, remember
from oleander.system.foreign import reason

log = logging.getLogger("oleander")

VERSION = 5
"""Raise it when ``evaluation.py`` or the model comes to other numbers."""


def scores_key(
    state: ModelState,
    dataset: Dataset,
    trigger: Trigger | None,
    target: int,
    precision: str,
    device: torch.device,
    model: str,
    victims: Victims | None = None,
) -> str:
    """SHA-256 of all that an evaluation depends on: model, images, stamped images, precision, PyTorch and hardware."""
    digest = hashlib.sha256(state.weights.data)
    digest.update(state.statistics.data)
    stamped = stamped_hash(dataset.test_images, dataset.test_labels, trigger, target)
    parts = (
        VERSION,
        dataset.fingerprint,
        dataset.image,
        model,
        stamped,
        precision,
        torch.__version__,
        device.type,
        hardware(device),
    )
    digest.update("\0".join(map(str, parts)).encode())
    digest.update(victims_hash(victims).encode())
    return digest.hexdigest()


def recall_scores(key: str, notify: Notify = log.warning) -> Scores | None:
    """What was remembered under this key; None where there is nothing, or, as ``notify`` is told, nothing that can be used."""
    found = recall("scores", key, notify)
    if found is None:
        return None
    try:
        return Scores(**_SCORES.validate_json(json.dumps(found)))
    except ValidationError as error:
        notify(f"the remembered scores {key} are damaged ({reason(error)}); working them out again")
        return None


def remember_scores(key: str, scores: Scores) -> None:
    """Keep scores for later runs; those of a model that overflows, which JSON has no number for, are not kept."""
    if scores.loss is not None and math.isfinite(scores.loss):
        remember("scores", key, dataclasses.asdict(scores))


@with_config(ConfigDict(strict=True, extra="forbid", allow_inf_nan=False))
class _Kept(TypedDict):
    """Scores as they are kept: of a starting model, whose accuracy is always measured."""

    mta: Rate
    asr: Rate | None
    loss: NotNegative
    robust_accuracy: Rate | None


_SCORES = TypeAdapter(_Kept)
