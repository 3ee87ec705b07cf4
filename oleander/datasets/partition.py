"""How the training images are dealt out to the clients, without overlap (``docs/definitions.md``, "Partitions")."""

import functools
import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oleander.datasets.data import Dataset, Shard
from oleander.datasets.shares import SHARES
from oleander.settings.config import Experiment
from oleander.settings.sizes import size_range
from oleander.system.errors import UserError
from oleander.system.streams import generator

Indices = NDArray[np.int64]


def shard_of(client_id: int, dataset: Dataset, experiment: Experiment) -> Shard:
    """One client's shard: a copy of its own images only."""
    rows = partition(dataset, experiment)[client_id]
    return dataset.shard(client_id, rows)


def root_shard(dataset: Dataset, experiment: Experiment) -> Shard:
    """The server's own clean images: drawn from the training images that no client was dealt; its number is ``clients``.

    Raises:
        UserError: too few of them are left.
    """
    left = np.ones(len(dataset.train_labels), dtype=bool)
    left[np.concatenate(partition(dataset, experiment))] = False
    if left.sum() < experiment.root_samples:
        raise UserError(
            f"--root-samples {experiment.root_samples}: {left.sum()} of the {len(left)} training images of {dataset.name} are "
            f"in no client's shard (--clients {experiment.clients} x --samples-per-client {experiment.samples_per_client})"
        )
    rows = generator(experiment.seed, "root").choice(np.flatnonzero(left), size=experiment.root_samples, replace=False)
    return dataset.shard(experiment.clients, rows)


def shard_sha256(shard: Shard) -> str:
    """By it a server knows that a client holds what it should."""
    digest = hashlib.sha256(np.ascontiguousarray(shard.images).data)
    digest.update(np.ascontiguousarray(shard.labels).data)
    return digest.hexdigest()


def partition(dataset: Dataset, experiment: Experiment) -> list[Indices]:
    """For each client the rows (its number of images,) of the training images that are its own.

    Raises:
        UserError: more samples than data, a class that runs out, or settings that contradict each other.
    """
    return _partition(dataset, *(getattr(experiment, name) for name in _SETTINGS))


_SETTINGS = (
    "partition", "clients", "samples_per_client", "iid_rate", "dirichlet_alpha", "shards_per_client", "classes_per_client", "seed",
)  # fmt: skip


@functools.lru_cache(maxsize=16)  # an actor deals once for each run, not for every message
def _partition(dataset: Dataset, *values: Any) -> list[Indices]:
    settings = dict(zip(_SETTINGS, values, strict=True))
    rng = generator(settings["seed"], "partition")
    if settings["partition"] == "writers":
        return _by_writer(dataset, settings, rng)
    table, classes = np.asarray(dataset.train_labels), dataset.classes
    sizes = _sizes(settings, len(table))
    available = np.bincount(table, minlength=len(classes))  # (classes,)
    wanted = SHARES[settings["partition"]](available, sizes, settings, rng)  # (clients, classes)
    for label in np.flatnonzero(wanted.sum(axis=0) > available):
        raise UserError(
            f"partition {settings['partition']} wants {wanted[:, label].sum()} images of {classes[label]}, which has "
            f"{available[label]}: fewer clients or samples_per_client, a higher iid_rate, or --partition iid"
        )
    return _deal(table, wanted, sizes, rng)


def _sizes(settings: dict[str, Any], images: int) -> Indices:
    """How many images each client has (clients,), where not its writer decides.

    Raises:
        UserError: together more than there are.
    """
    clients, asked = settings["clients"], settings["samples_per_client"]
    least, most = size_range(asked)
    drawn = generator(settings["seed"], "sizes").integers(least, most, size=clients, endpoint=True)
    if drawn.sum() > images:
        by_chance = "" if least == most else f" with seed {settings['seed']}"
        raise UserError(
            f"clients x samples_per_client = {clients} x {asked} = {drawn.sum()} images{by_chance}, "
            f"but the training set has {images} and shards do not overlap"
        )
    return drawn


def _deal(labels: Indices, wanted: Indices, sizes: Indices, rng: np.random.Generator) -> list[Indices]:
    """Deal in a random order: first what each client wants of each class (clients, classes), then the rest from all."""
    order = rng.permutation(len(labels))
    ends = np.cumsum(wanted, axis=0)  # (clients, classes) how far into a class's queue a client's part reaches
    own: list[list[Indices]] = [[] for _ in wanted]
    for label in range(wanted.shape[1]):
        queue = order[labels[order] == label]
        for client, end in enumerate(ends[:, label]):
            own[client].append(queue[end - wanted[client, label] : end])
    parts = [np.concatenate(rows) for rows in own]
    dealt = np.zeros(len(labels), dtype=bool)
    dealt[np.concatenate(parts)] = True
    rest = np.split(order[~dealt[order]], np.cumsum(sizes - wanted.sum(axis=1)))
    return [rng.permutation(np.concatenate([rows, more])) for rows, more in zip(parts, rest, strict=False)]


def _by_writer(dataset: Dataset, settings: dict[str, Any], rng: np.random.Generator) -> list[Indices]:
    """To each client the images of a writer of its own, drawn of those who made enough; of many images some, drawn too.

    Raises:
        UserError: nobody knows the writers, or there are fewer of them than clients.
    """
    if dataset.writers is None:
        raise UserError(f"partition writers: {dataset.name} does not know who made its images")
    asked = settings["samples_per_client"]
    least, most = size_range(asked) if isinstance(asked, str) else (1, asked)
    names, writer, made = np.unique(np.asarray(dataset.writers), return_inverse=True, return_counts=True)
    enough = np.flatnonzero(made >= least)
    if len(enough) < settings["clients"]:
        made_enough = (
            f", {len(enough)} of whom made {least} or more (--samples-per-client {asked})" if least > 1 else ""
        )
        raise UserError(
            f"partition writers: --clients {settings['clients']}, but the training images of {dataset.name} are by "
            f"{len(names)} writers{made_enough}"
        )
    by_writer = np.split(np.argsort(writer, kind="stable"), np.cumsum(made)[:-1])
    drawn = rng.choice(enough, size=settings["clients"], replace=False)
    return [rng.permutation(by_writer[number])[:most] for number in drawn]
