"""Scores of starting models, remembered: the same model on the same images is not evaluated again in every run.

What is remembered is found by the content of everything that it came from, so that nothing has to be declared stale.
"""

import dataclasses
import hashlib
import json
import logging
import tempfile
from pathlib import Path

import torch

from learning.data import Dataset, cache_dir
from learning.evaluation import Scores, Trigger, stamped_hash
from learning.parameters import ModelState

log = logging.getLogger("oleander")

VERSION = 1
"""Raise it when ``evaluation.py`` or the model comes to other numbers."""


def scores_key(
    state: ModelState, dataset: Dataset, trigger: Trigger | None, target: int, precision: str, device: torch.device
) -> str:
    """SHA-256 of all that an evaluation depends on: model, images, stamped images, precision, PyTorch and hardware."""
    digest = hashlib.sha256(state.weights.data)
    digest.update(state.statistics.data)
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    stamped = stamped_hash(dataset.test_images, dataset.test_labels, trigger, target)
    parts = (VERSION, dataset.fingerprint, stamped, precision, torch.__version__, device.type, hardware)
    digest.update("\0".join(map(str, parts)).encode())
    return digest.hexdigest()


def recall(key: str) -> Scores | None:
    """What was remembered under this key; None where there is nothing, or nothing that can be read."""
    try:
        return Scores(**json.loads(_file(key).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        log.warning("cannot use the remembered scores %s (%s); evaluating again", _file(key), error)
        return None


def remember(key: str, scores: Scores) -> None:
    """Keep scores for later runs; a cache that cannot be written is reported and costs nothing but time."""
    file = _file(key)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False, encoding="utf-8") as scratch:
            json.dump(dataclasses.asdict(scores), scratch)
        Path(scratch.name).replace(file)
    except OSError as error:
        log.warning("cannot remember scores in %s (%s)", file, error)


def _file(key: str) -> Path:
    return cache_dir() / "scores" / f"{key}.json"
