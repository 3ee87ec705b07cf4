"""Main task accuracy, attack success rate and loss of a model on the whole test set (``docs/definitions.md``, "Metrics").

Batch norm is folded into the convolutions of a copy: the same function, with half the passes over memory. Batches are
independent, so on CPUs each core takes whole ones: no core waits for another inside a convolution, and the scores do not
depend on how many there are.
"""

import contextlib
import copy
import functools
import hashlib
import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from oleander.datasets.data import Dataset, to_pixels
from oleander.datasets.space import ImageSpace
from oleander.learning.devices import dtype_of
from oleander.system.display import here
from oleander.system.machine import cpu_count

BATCH = {"cpu": 100, "cuda": 2000}
PROBE = 16
"""Test images by which a trigger is known."""
NO_CLASS, UNCOUNTED = -1, -2
"""What stands in the place of an answer: the model gave none, or the image does not count."""
Classifier = Callable[[Tensor], Tensor]
"""Pixels (b, c, h, w) in [0, 1] → logits (b, classes), float32."""
Trigger = Callable[[Tensor], Tensor]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Victims:
    """The images that an attack's success is measured on: the ASR is the share of them that get the label the attacker wants."""

    wanted: NDArray[np.int64]
    """(m,) the label of each image that is a success; −1 for one that does not count. Where none counts there is no ASR."""
    stamped: bool = True
    """Whether they carry the trigger."""
    images: NDArray[np.uint8] | None = None
    """(m, c, h, w) images of the attack's own, held out of training; None: the test's."""


def of_other_classes(labels: NDArray[np.int64], target: int) -> Victims:
    """Every test image that is not of the target class, stamped."""
    return Victims(np.where(np.asarray(labels) != target, target, -1))


def drawn_from(victims: Victims | None, rows: NDArray[np.int64]) -> Victims | None:
    """The victims among some of the test images (rows,); an attack's own images stay as they are."""
    if victims is None or victims.images is not None:
        return victims
    return replace(victims, wanted=victims.wanted[rows])


def victims_hash(victims: Victims | None) -> str:
    """SHA-256 of what the ASR is measured on; nothing for the default, which labels and target say."""
    if victims is None:
        return ""
    digest = hashlib.sha256(f"stamped {victims.stamped}".encode())
    digest.update(np.ascontiguousarray(victims.wanted).data)
    if victims.images is not None:
        digest.update(np.ascontiguousarray(victims.images).data)
    return digest.hexdigest()


@dataclass(frozen=True)
class Answers:
    """The class of each image that was scored (``answers``): NO_CLASS for none, UNCOUNTED where an image does not count."""

    clean: NDArray[np.int64]
    """(m,) of the clean test images."""
    victims: NDArray[np.int64] | None
    """(m,) of the images that the ASR is measured on; None where there is no ASR."""


@dataclass(frozen=True)
class Scores:
    """What one evaluation found; all None where none was asked for."""

    mta: float | None
    """Share (0 to 1) of the clean test images classified as their class."""
    asr: float | None
    """Share (0 to 1) of the victims, by default the stamped images of other classes, that get the label which the attacker wants;
    None where there are none, as without a trigger."""
    loss: float | None
    """Mean cross-entropy on the clean test images."""
    robust_accuracy: float | None = None
    """Share of the victims that are classified as their true class; None where there is no ASR, and of an attack's own images."""


@dataclass(frozen=True)
class _Part:
    """What was found in one batch."""

    loss: float = 0.0
    clean: NDArray[np.int64] | None = None
    """The answers (b,) on clean images."""
    victims: NDArray[np.int64] | None = None
    """… and on victims (b,), as ``Answers`` has them."""


class Cores:
    """How many cores evaluation may use: all, less those that others are said to be busy on.

    The threads that work on them stay: with new ones for each evaluation, what malloc keeps for every thread that ever was
    made a server grow by some 5 MB a round.
    """

    def __init__(self, count: int) -> None:
        self._free, self._used, self.count = count, 0, count
        self._changed = threading.Condition()
        self._threads = ThreadPoolExecutor(count, "evaluation")

    def each(self, work: Callable[[int], Result], starts: range) -> list[Result]:
        """``work`` for each start, in order, as cores are free."""

        def on_one(start: int) -> Result:
            with self._one():
                return work(start)

        return list(self._threads.map(on_one, starts))

    def busy(self, count: int) -> None:
        """From now on so many are others'; a batch that is being evaluated is not interrupted."""
        with self._changed:
            self._free = max(0, self.count - count)
            self._changed.notify_all()

    @contextlib.contextmanager
    def _one(self) -> Iterator[None]:
        """Wait for a free core and hold it."""
        with self._changed:
            self._changed.wait_for(lambda: self._used < self._free)
            self._used += 1
        try:
            yield
        finally:
            with self._changed:
                self._used -= 1
                self._changed.notify_all()


@functools.cache
def cores_for(device: torch.device) -> Cores:
    """All of this machine's, or one that feeds the GPU; the same ones for all runs of a process."""
    return Cores(1 if device.type == "cuda" else cpu_count())


def classifier(model: nn.Module, precision: str, image: ImageSpace) -> Classifier:
    """A copy of the model for evaluation in this precision; what happens to the model afterwards does not touch it."""
    dtype = dtype_of(precision)
    body = folded(model)
    heads = [(name, module) for name, module in body.named_modules() if isinstance(module, nn.Linear)]
    for name, _ in heads[-1:]:
        body.set_submodule(name, nn.Identity())
    body.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    for name, head in heads[-1:]:
        body.set_submodule(name, _InFloat32(head))

    def classify(pixels: Tensor) -> Tensor:
        logits: Tensor = body(image.normalise(pixels).to(dtype))
        return logits.float()

    return classify


class _InFloat32(nn.Module):
    """A layer that computes in float32 whatever comes: a model's last, whose rounding decides near ties."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x.float())
        return out


def folded(model: nn.Module) -> nn.Module:
    """A copy in which each convolution has taken in the batch norm that stands behind it among its module's children."""
    copied = copy.deepcopy(model).eval()
    for module in list(copied.modules()):
        for (name, layer), (next_name, following) in itertools.pairwise(list(module.named_children())):
            if isinstance(layer, nn.Conv2d) and isinstance(following, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(layer, following))
                setattr(module, next_name, nn.Identity())
    return copied


def evaluate(
    classify: Classifier,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    trigger: Trigger | None,
    target: int,
    device: torch.device,
    cores: Cores | None = None,
    victims: Victims | None = None,
) -> Scores:
    """Score a classifier on test images.

    Args:
        classify: of ``classifier``.
        images: (m, c, h, w) of all classes; those of the target class are not stamped.
        labels: true classes (m,).
        trigger: stamps the whole trigger on pixels; None for no ASR.
        target: class that the backdoor leads to.
        device: where the classifier is.
        cores: each takes one batch at a time (default: ``cores_for`` the device).
        victims: what the ASR is measured on (default: ``of_other_classes``).
    """
    return examine(classify, images, labels, trigger, target, device, cores, victims)[0]


def examine(
    classify: Classifier,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    trigger: Trigger | None,
    target: int,
    device: torch.device,
    cores: Cores | None = None,
    victims: Victims | None = None,
) -> tuple[Scores, Answers]:
    """The same with the answers that the scores were counted from."""
    size, count, cores = BATCH[device.type], len(labels), cores or cores_for(device)
    victims = victims or of_other_classes(labels, target)
    if len(victims.wanted) != len(images if victims.images is None else victims.images):
        raise ValueError(f"victims name {len(victims.wanted)} labels, not one for each image")
    stamp = trigger if victims.stamped else None
    measured = trigger is not None or not victims.stamped

    step, own = here(), 0 if victims.images is None or not measured else len(victims.images)
    step.at(0, count + own)
    scored = itertools.count(1)

    def on_device(array: NDArray[Any], start: int) -> Tensor:
        return torch.from_numpy(np.array(array[start : start + size])).to(device)

    def told(part: _Part) -> _Part:
        step.at(min(next(scored) * size, count + own), count + own)
        return part

    def score(start: int) -> _Part:
        pixels, truth = to_pixels(on_device(images, start)), on_device(labels, start)  # (b, c, h, w), (b,)
        stamped_too = measured and victims.images is None
        return told(
            _score_batch(classify, pixels, truth, stamp, on_device(victims.wanted, start) if stamped_too else None)
        )

    def score_own(start: int) -> _Part:
        assert victims.images is not None
        pixels = to_pixels(on_device(victims.images, start))
        return told(_score_victims(classify, pixels, stamp, on_device(victims.wanted, start)))

    parts = cores.each(score, range(0, count, size))
    if measured and victims.images is not None:
        parts += cores.each(score_own, range(0, len(victims.images), size))
    clean = np.concatenate([part.clean for part in parts if part.clean is not None])  # (m,)
    fooled = [part.victims for part in parts if part.victims is not None]
    found = Answers(clean, np.concatenate(fooled) if fooled else None)
    return replace(shares(found, labels, victims), loss=sum(part.loss for part in parts) / count), found


def shares(found: Answers, labels: NDArray[np.int64], victims: Victims) -> Scores:
    """The scores that these answers come to, without a loss."""
    counted = victims.wanted >= 0  # (m,)
    asr = withstood = None
    if found.victims is not None and counted.any():
        asr = float((found.victims == victims.wanted)[counted].mean())
        if victims.images is None:  # of the attack's own images no true class is known
            withstood = float((found.victims == np.asarray(labels))[counted].mean())
    mta = int((found.clean == np.asarray(labels)).sum()) / len(labels)
    return Scores(mta, asr, None, withstood)


@torch.inference_mode()
def _score_batch(
    classify: Classifier, pixels: Tensor, truth: Tensor, stamp: Trigger | None, wanted: Tensor | None
) -> _Part:
    """Answers and loss of a batch, and the answers on its victims where labels are ``wanted`` (b,)."""
    logits = classify(pixels)  # (b, classes)
    loss = float(F.cross_entropy(logits, truth, reduction="sum"))
    fooled = None if wanted is None else _score_victims(classify, pixels, stamp, wanted).victims
    return _Part(loss, answers(logits).cpu().numpy(), fooled)


@torch.inference_mode()
def _score_victims(classify: Classifier, pixels: Tensor, stamp: Trigger | None, wanted: Tensor) -> _Part:
    """The answers on those images of a batch that count."""
    count = wanted >= 0  # (b,)
    found = torch.full_like(wanted, UNCOUNTED)
    if bool(count.any()):
        shown = pixels[count] if stamp is None else stamp(pixels[count])
        found[count] = answers(classify(shown))
    return _Part(victims=found.cpu().numpy())


def answers(logits: Tensor) -> Tensor:
    """The class of each row (b,): that of its greatest logit, where all are finite and no other is as great; else NO_CLASS.

    A broken model would otherwise be said to answer class 0, which argmax gives for rows that are not numbers or all equal.
    """
    greatest = logits.max(1)
    one = (logits == greatest.values[:, None]).sum(1) == 1  # (b,)
    return greatest.indices.where(one & logits.isfinite().all(1), NO_CLASS)


def probe_hash(dataset: Dataset, trigger: Trigger | None) -> str:
    """SHA-256 of the first stamped test images: by it a trigger is known again, whatever file it came from."""
    return stamped_hash(dataset.test_images[:PROBE], dataset.test_labels[:PROBE], trigger, target=-1)


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
