"""Main task accuracy, attack success rate and loss of a model on the whole test set (``docs/definitions.md``, "Metrics")."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

from learning.data import normalise, to_pixels

BATCH = 100


@dataclass(frozen=True)
class Scores:
    """What one evaluation found."""

    mta: float
    """Share (0 to 1) of the clean test images classified as their class."""
    asr: float | None
    """Share (0 to 1) of the stamped images of other classes classified as the target; None without a trigger."""
    loss: float
    """Mean cross-entropy on the clean test images."""


@torch.inference_mode()
def evaluate(
    model: nn.Module, images: NDArray, labels: NDArray, trigger: Callable[[Tensor], Tensor] | None, target: int
) -> Scores:
    """Score the model, in evaluation mode, on test images (m, 3, h, w) uint8 with labels (m,).

    Batch norm is folded into the convolutions of a copy first: the same function, with half the passes over memory.

    Args:
        model: left as it is.
        images: of all classes; those of the target class are not stamped.
        labels: true classes.
        trigger: stamps the whole trigger on pixels; None for no ASR.
        target: class that the backdoor leads to.
    """
    device = next(model.parameters()).device
    folded = fuse(model.eval()).to(memory_format=torch.channels_last)
    right = hit = stamped = 0
    loss = 0.0
    for start in range(0, len(labels), BATCH):
        pixels = to_pixels(images[start : start + BATCH]).to(device)
        truth = torch.from_numpy(labels[start : start + BATCH].copy()).to(device)
        logits = folded(normalise(pixels))  # (b, classes)
        right += int((logits.argmax(1) == truth).sum())
        loss += float(F.cross_entropy(logits, truth, reduction="sum"))
        others = truth != target
        if trigger is not None and bool(others.any()):
            fooled = folded(normalise(trigger(pixels[others]))).argmax(1) == target
            hit, stamped = hit + int(fooled.sum()), stamped + len(fooled)
    asr = hit / stamped if stamped else None
    return Scores(mta=right / len(labels), asr=asr, loss=loss / len(labels))
