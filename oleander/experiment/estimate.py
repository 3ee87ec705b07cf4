"""About how long a run takes and how much memory, from a short measurement of this machine: an estimate, and said to be one.

Measured is what a run does most of: steps of training and the scoring of test images, with the run's own model, images, batch size,
threads and precision. What else takes time (starting Ray, what attacks and defences do besides, figures) is not in it.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import psutil
import torch

from oleander.experiment.engine import actor_count
from oleander.experiment.prepare import Setup
from oleander.learning.devices import prepare_device
from oleander.learning.evaluation import BATCH, classifier, cores_for, evaluate
from oleander.learning.training import train
from oleander.models import build

ENOUGH_SECONDS = 1.0
"""How long each of the two is repeated."""
MOST_REPEATS = 50


@dataclass(frozen=True)
class Measured:
    """What this machine, as busy as it was, needed for a setting's parts."""

    step: float
    """Seconds of a client's training step; the median of a few."""
    image: float
    """Seconds for a test image's scores, all cores at work."""
    own: int
    """Bytes that a process at work holds for itself."""
    shared: int
    """Bytes that processes of one machine hold together: libraries and images."""
    gpu: int
    """Bytes of the GPU's memory that a process at work holds; 0 without one."""


@dataclass(frozen=True)
class Estimate:
    """Of one run."""

    seconds: float
    memory: int
    gpu: int


def key_of(setup: Setup) -> tuple[object, ...]:
    """What a measurement depends on: runs with the same need only one."""
    e, dataset = setup.experiment, setup.dataset
    return (
        e.model,
        e.norm,
        dataset.fingerprint,
        e.batch_size,
        e.client_threads,
        e.precision,
        e.samples_per_client,
        setup.trigger_sha256,
    )


def measured(setup: Setup) -> Measured:
    """Train and score a little, as the run will: some seconds."""
    e, dataset = setup.experiment, setup.dataset
    device = prepare_device(e.client_threads or 1)
    model = build(e.model, len(dataset.classes), dataset.image, e.norm).to(device).to(memory_format=torch.channels_last)
    largest = max(setup.shard_sizes)
    shard = dataset.shard(0, np.arange(min(2 * min(e.batch_size, largest), largest)))
    once = e.changed(local_epochs=1)
    steps = math.ceil(len(shard.labels) / e.batch_size)
    training = _median_of(partial(train, model, shard, once, 1), device) / steps
    prepare_device(threads=1)
    count = min(len(dataset.test_labels), BATCH[device.type] * cores_for(device).count)
    images, labels = dataset.test_images[:count], dataset.test_labels[:count]
    classify = classifier(model, e.precision, dataset.image)
    scoring = _median_of(
        lambda: evaluate(classify, images, labels, setup.attack.trigger, setup.target, device), device
    ) / count  # fmt: skip
    own, all_of_it = _memory()
    gpu = int(torch.cuda.max_memory_reserved(device)) if device.type == "cuda" else 0
    return Measured(training, scoring, own, all_of_it - own, gpu)


def estimate(setup: Setup, part: Measured) -> Estimate:
    """Of this run, from its parts; as if clients that train side by side did not slow each other down."""
    e, actors = setup.experiment, actor_count(setup.experiment)
    waves = math.ceil(e.clients_per_round / actors)
    training = e.rounds * waves * steps_of(setup) * part.step
    scoring = scored_images(setup) * part.image
    updates = 2 * e.clients_per_round * setup.reply_bytes  # a round's, while the next one's come in
    return Estimate(training + scoring, part.shared + (1 + actors) * part.own + updates, part.gpu * (1 + actors))


def steps_of(setup: Setup) -> int:
    """Steps of SGD that a client makes in a round; the largest shard's."""
    e = setup.experiment
    return e.local_epochs * math.ceil(max(setup.shard_sizes) / e.batch_size)


def scorings(setup: Setup) -> int:
    """How often the global model is scored, the starting model among them."""
    return setup.experiment.rounds + 1 if setup.experiment.evaluate == "every" else 2


def scored_images(setup: Setup) -> int:
    """Test images that a run scores, all rounds and the start."""
    e, count = setup.experiment, len(setup.dataset.test_labels)
    between = count if e.evaluate_images == "all" else min(count, e.evaluate_images)
    return 2 * count + (scorings(setup) - 2) * between


def _median_of(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of it, once it is warm."""
    work()
    took: list[float] = []
    while len(took) < 2 or (sum(took) < ENOUGH_SECONDS and len(took) < MOST_REPEATS):
        _wait_for(device)
        began = time.perf_counter()
        work()
        _wait_for(device)
        took.append(time.perf_counter() - began)
    return sorted(took)[len(took) // 2]


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _memory() -> tuple[int, int]:
    """Bytes that this process holds: what is its own alone, and all of it."""
    info = psutil.Process().memory_full_info()
    return int(info.uss), int(info.rss)
