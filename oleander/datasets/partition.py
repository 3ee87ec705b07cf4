"""How the training images are dealt out to the clients, without overlap (``docs/definitions.md``, "Partitions")."""

import functools
import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oleander.datasets.data import Dataset, Shard
from oleander.settings.config import Experiment
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
    """For each client the rows (samples_per_client,) of the training images that are its own.

    Raises:
        UserError: more samples than data, or a class that runs out.
    """
    settings = {name: getattr(experiment, name) for name in _SETTINGS}
    return _partition(np.asarray(dataset.train_labels).tobytes(), dataset.classes, **settings)


_SETTINGS = ("partition", "clients", "samples_per_client", "iid_rate", "dirichlet_alpha", "seed")


@functools.lru_cache(maxsize=4)  # an actor deals once, not for every message
def _partition(labels: bytes, classes: tuple[str, ...], **settings: Any) -> list[Indices]:
    table = np.frombuffer(labels, dtype=np.int64)
    clients, samples = settings["clients"], settings["samples_per_client"]
    if clients * samples > len(table):
        raise UserError(
            f"clients x samples_per_client = {clients} x {samples} = {clients * samples} images, "
            f"but the training set has {len(table)} and shards do not overlap"
        )
    rng = generator(settings["seed"], "partition")
    available = np.bincount(table, minlength=len(classes))  # (classes,)
    wanted = _SHARES[settings["partition"]](available, settings, rng)  # (clients, classes)
    for label in np.flatnonzero(wanted.sum(axis=0) > available):
        raise UserError(
            f"partition {settings['partition']} wants {wanted[:, label].sum()} images of {classes[label]}, which has "
            f"{available[label]}: fewer clients or samples_per_client, a higher iid_rate, or --partition iid"
        )
    return _deal(table, wanted, samples, rng)


def _deal(labels: Indices, wanted: Indices, samples: int, rng: np.random.Generator) -> list[Indices]:
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
    rest = np.split(order[~dealt[order]], np.cumsum([samples - len(rows) for rows in parts]))
    return [rng.permutation(np.concatenate([rows, more])) for rows, more in zip(parts, rest, strict=False)]


def _main_label(available: Indices, settings: dict[str, Any], rng: np.random.Generator) -> Indices:
    clients = settings["clients"]
    wanted = np.zeros((clients, len(available)), dtype=np.int64)
    main = rng.integers(len(available), size=clients)
    wanted[np.arange(clients), main] = round((1 - settings["iid_rate"]) * settings["samples_per_client"])
    return wanted


def _iid(available: Indices, settings: dict[str, Any], _rng: np.random.Generator) -> Indices:
    return np.zeros((settings["clients"], len(available)), dtype=np.int64)


def _dirichlet(available: Indices, settings: dict[str, Any], rng: np.random.Generator) -> Indices:
    """Hsu et al. 2019 (arXiv 1909.06335): class shares from Dir(alpha), renormalised over the classes that are left."""
    left = available.copy()
    wanted = np.zeros((settings["clients"], len(available)), dtype=np.int64)
    for row in wanted:
        shares = rng.dirichlet(np.full(len(available), settings["dirichlet_alpha"]))
        while (missing := settings["samples_per_client"] - row.sum()) > 0:
            open_shares = np.where(left > 0, shares, 0.0)
            open_shares = open_shares if open_shares.sum() > 0 else (left > 0).astype(float)
            drawn = np.minimum(rng.multinomial(missing, open_shares / open_shares.sum()), left)
            row += drawn
            left -= drawn
    return wanted


_SHARES = {"main_label": _main_label, "iid": _iid, "dirichlet": _dirichlet}
