"""Scores of starting models, remembered: the same model on the same images is not evaluated again in every run.

What is remembered is found by the content of everything that it came from, so that nothing has to be declared stale.
"""

import dataclasses
import hashlib
import logging

import torch

from learning.cache import recall, remember
from learning.data import Dataset
from learning.devices import hardware
from learning.evaluation import Scores, Trigger, stamped_hash
from learning.parameters import ModelState

log = logging.getLogger("oleander")

VERSION = 3
"""Raise it when ``evaluation.py`` or the model comes to other numbers."""


def scores_key(
    state: ModelState, dataset: Dataset, trigger: Trigger | None, target: int, precision: str, device: torch.device
) -> str:
    """SHA-256 of all that an evaluation depends on: model, images, stamped images, precision, PyTorch and hardware."""
    digest = hashlib.sha256(state.weights.data)
    digest.update(state.statistics.data)
    stamped = stamped_hash(dataset.test_images, dataset.test_labels, trigger, target)
    parts = (VERSION, dataset.fingerprint, stamped, precision, torch.__version__, device.type, hardware(device))
    digest.update("\0".join(map(str, parts)).encode())
    return digest.hexdigest()


def recall_scores(key: str) -> Scores | None:
    """What was remembered under this key; None where there is nothing, or nothing that can be used."""
    found = recall("scores", key)
    try:
        return None if found is None else Scores(**found)
    except TypeError as error:
        log.warning("the remembered scores %s are damaged (%s); working them out again", key, error)
        return None


def remember_scores(key: str, scores: Scores) -> None:
    """Keep scores for later runs."""
    remember("scores", key, dataclasses.asdict(scores))
