"""Main task accuracy, attack success rate and loss of a model on the whole test set (``docs/definitions.md``, "Metrics").

Batch norm is folded into the convolutions of a copy: the same function, with half the passes over memory. Batches are
independent, so on CPUs each core takes whole ones: no core waits for another inside a convolution, and the scores do not
depend on how many there are.
"""

import contextlib
import hashlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

from experiment.machine import cpu_count
from learning.data import normalise, to_pixels
from learning.devices import dtype_of

BATCH = {"cpu": 100, "cuda": 2000}
NICE = 5
"""Beside a client on the same core an evaluating thread gets a quarter of it; where nothing else runs, all."""
Classifier = Callable[[Tensor], Tensor]
"""Pixels (b, 3, h, w) in [0, 1] → logits (b, classes), float32."""
Trigger = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Scores:
    """What one evaluation found."""

    mta: float
    """Share (0 to 1) of the clean test images classified as their class."""
    asr: float | None
    """Share (0 to 1) of the stamped images of other classes classified as the target; None without a trigger."""
    loss: float
    """Mean cross-entropy on the clean test images."""


@dataclass(frozen=True)
class _Part:
    """Counts and sums over one batch."""

    right: int
    loss: float
    hit: int = 0
    stamped: int = 0


def classifier(model: nn.Module, precision: str) -> Classifier:
    """A copy of the model for evaluation in this precision; what happens to the model afterwards does not touch it."""
    dtype = dtype_of(precision)
    body = fuse(model.eval()).to(memory_format=torch.channels_last)
    head = body.get_submodule("linear")
    body.add_module("linear", nn.Identity())
    body.to(dtype)

    def classify(pixels: Tensor) -> Tensor:
        return head(body(normalise(pixels).to(dtype)).float())  # the head in float32: its rounding decides near ties

    return classify


def evaluate(
    classify: Classifier,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    trigger: Trigger | None,
    target: int,
    device: torch.device,
    workers: int | None = None,
) -> Scores:
    """Score a classifier on test images.

    Args:
        classify: of ``classifier``.
        images: (m, 3, h, w) of all classes; those of the target class are not stamped.
        labels: true classes (m,).
        trigger: stamps the whole trigger on pixels; None for no ASR.
        target: class that the backdoor leads to.
        device: where the classifier is.
        workers: batches at a time (default: one a CPU; one on CUDA). Each gives way to whatever else wants its core.
    """
    size, count = BATCH[device.type], len(labels)
    workers = workers or (1 if device.type == "cuda" else cpu_count())

    def score(start: int) -> _Part:
        rows = slice(start, start + size)
        return _score_batch(classify, np.array(images[rows]), np.array(labels[rows]), trigger, target, device)

    with ThreadPoolExecutor(min(workers, -(-count // size)), initializer=_give_way) as pool:
        parts = list(pool.map(score, range(0, count, size)))
    stamped = sum(part.stamped for part in parts)
    return Scores(
        mta=sum(part.right for part in parts) / count,
        asr=sum(part.hit for part in parts) / stamped if stamped else None,
        loss=sum(part.loss for part in parts) / count,
    )


@torch.inference_mode()
def _score_batch(
    classify: Classifier,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    trigger: Trigger | None,
    target: int,
    device: torch.device,
) -> _Part:
    pixels, truth = to_pixels(torch.from_numpy(images).to(device)), torch.from_numpy(labels).to(device)  # (b, 3, h, w)
    logits = classify(pixels)  # (b, classes)
    right, loss = int((logits.argmax(1) == truth).sum()), float(F.cross_entropy(logits, truth, reduction="sum"))
    others = truth != target
    if trigger is None or not bool(others.any()):
        return _Part(right, loss)
    fooled = classify(trigger(pixels[others])).argmax(1) == target  # (≤ b,)
    return _Part(right, loss, int(fooled.sum()), len(fooled))


def stamped_hash(
    images: NDArray[np.uint8], labels: NDArray[np.int64], trigger: Trigger | None, target: int, chunk: int = 1000
) -> str:
    """SHA-256 of the stamped test images: by it an evaluation is known again, whatever the trigger is called."""
    digest = hashlib.sha256(f"target {target}".encode())
    if trigger is None:
        return digest.hexdigest()
    others = np.flatnonzero(np.asarray(labels) != target)
    for start in range(0, len(others), chunk):
        digest.update(trigger(to_pixels(images[others[start : start + chunk]])).contiguous().numpy().data)
    return digest.hexdigest()


def _give_way() -> None:
    """Let clients that train go first (Linux; elsewhere this thread takes its fair share)."""
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
