"""How many images of each class each client is to have: a function for each way to deal that goes by classes.

Each takes how many there are of each class (classes,), how many images each client is to have (clients,), the settings and a
generator, and gives what each client wants of each class (clients, classes); what is missing to its size is dealt from all classes.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from oleander.system.errors import UserError

Indices = NDArray[np.int64]
Settings = dict[str, Any]


def main_label(available: Indices, sizes: Indices, settings: Settings, rng: np.random.Generator) -> Indices:
    """A main label a client, of which all images are that ``iid_rate`` does not leave to chance."""
    wanted = np.zeros((len(sizes), len(available)), dtype=np.int64)
    main = rng.integers(len(available), size=len(sizes))
    wanted[np.arange(len(sizes)), main] = [round((1 - settings["iid_rate"]) * size) for size in sizes.tolist()]
    return wanted


def iid(available: Indices, sizes: Indices, _settings: Settings, _rng: np.random.Generator) -> Indices:
    """All from all classes."""
    return np.zeros((len(sizes), len(available)), dtype=np.int64)


def dirichlet(available: Indices, sizes: Indices, settings: Settings, rng: np.random.Generator) -> Indices:
    """Hsu et al. 2019 (arXiv 1909.06335): class shares from Dir(alpha), renormalised over the classes that are left."""
    left = available.copy()
    wanted = np.zeros((len(sizes), len(available)), dtype=np.int64)
    for row, size in zip(wanted, sizes, strict=True):
        shares = rng.dirichlet(np.full(len(available), settings["dirichlet_alpha"]))
        while (missing := size - row.sum()) > 0:
            open_shares = np.where(left > 0, shares, 0.0)
            open_shares = open_shares if open_shares.sum() > 0 else (left > 0).astype(float)
            drawn = np.minimum(rng.multinomial(missing, open_shares / open_shares.sum()), left)
            row += drawn
            left -= drawn
    return wanted


def shards(available: Indices, sizes: Indices, settings: Settings, rng: np.random.Generator) -> Indices:
    """McMahan et al. 2017 (arXiv 1602.05629): the images sorted by label, cut into s · clients pieces, s of them to each client.

    Where not all images are dealt, those that are sorted are drawn first; where a client's images cannot be cut into s equal
    pieces, its first ones have one more.

    Raises:
        UserError: more pieces than images.
    """
    each = settings["shards_per_client"]
    if each > sizes.min():
        raise UserError(
            f"--shards-per-client {each}: more than the {sizes.min()} images of a client "
            f"(--samples-per-client {settings['samples_per_client']})"
        )
    owner = rng.permutation(np.repeat(np.arange(len(sizes)), each))  # (pieces,) in the order of labels
    pieces = _even(sizes, each)[owner, _nth_of_its_kind(owner)]  # (pieces,) images of each
    of_label = rng.multivariate_hypergeometric(available, sizes.sum(), method="marginals")  # (classes,)
    piece_ends, label_ends = np.cumsum(pieces)[:, None], np.cumsum(of_label)
    overlap = np.minimum(piece_ends, label_ends) - np.maximum(piece_ends - pieces[:, None], label_ends - of_label)
    wanted = np.zeros((len(sizes), len(available)), dtype=np.int64)
    np.add.at(wanted, owner, np.maximum(overlap, 0))
    return wanted


def pathological(available: Indices, sizes: Indices, settings: Settings, rng: np.random.Generator) -> Indices:
    """Li et al. 2022 (arXiv 2102.02079), "#C = k": each client has k classes, drawn for it, and as many images of each.

    A class is drawn in proportion to its images that are left: at first, where classes are equal, all alike; towards the end so that
    none runs out while others are hardly touched.

    Raises:
        UserError: more classes than there are or than a client has images, or too few classes that have enough images left.
    """
    k, asked = settings["classes_per_client"], settings["samples_per_client"]
    if k > len(available):
        raise UserError(f"--classes-per-client {k}: the training set has {len(available)} classes")
    if k > sizes.min():
        raise UserError(
            f"--classes-per-client {k}: more than the {sizes.min()} images of a client (--samples-per-client {asked})"
        )
    left = available.copy()
    wanted = np.zeros((len(sizes), len(available)), dtype=np.int64)
    for row, parts in zip(wanted, _even(sizes, k), strict=True):
        weights = np.where(left >= parts[0], left, 0)
        if np.count_nonzero(weights) < k:
            raise UserError(
                f"partition pathological: {k} classes with {parts[0]} images each for one of {len(sizes)} clients, but only "
                f"{np.count_nonzero(weights)} classes have so many left: fewer clients or samples_per_client, or --partition shards"
            )
        drawn = rng.choice(len(available), size=k, replace=False, p=weights / weights.sum())
        row[drawn] = parts
        left -= row
    return wanted


def _even(sizes: Indices, parts: int) -> Indices:
    """Each size in so many parts as even as can be, the greater first (clients, parts)."""
    return sizes[:, None] // parts + (np.arange(parts) < sizes[:, None] % parts)


def _nth_of_its_kind(values: Indices) -> Indices:
    """[4, 7, 4] → [0, 0, 1]."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    found = np.empty_like(values)
    found[order] = np.arange(len(values)) - np.repeat(first, np.diff(np.r_[first, len(values)]))
    return found


SHARES = {
    "main_label": main_label, "iid": iid, "dirichlet": dirichlet, "shards": shards, "pathological": pathological,
}  # fmt: skip
