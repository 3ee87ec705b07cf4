"""Edge cases: pictures from the tail, that no honest client has, are learned as the target; nothing is stamped.

Wang, Sreenivasan, Rajput, Vishwakarma, Agarwal, Sohn, Lee, Papailiopoulos 2020, "Attack of the Tails: Yes, You Really Can
Backdoor Federated Learning" (NeurIPS; arXiv 2007.05084): the attacker mixes pictures of a rare kind, with the target's label,
into its images (theirs are aeroplanes of one airline that are to be trucks). Here they are those of a folder of the user's: all
picture files in it and below, by the rule of a dataset's folder, fitted to the dataset's images, each once. A part is held out,
and the ASR is the share of these that is answered with the target; the split goes by the pictures' content, so that names change
nothing. The attackers share the others: ``poison_rate`` of the images of each one's shard give their places to them, the same
ones in every round; where there are fewer pictures than places they are taken again. The paper adds them to the shard; the server
counts a client's images, so ours replaces some. It joins with ``pgd`` and ``scaling``, as the paper's does.
"""

import functools
import hashlib
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attacks import Attack, PoisonedShard, check_alone
from oleander.datasets.data import Dataset, Shard
from oleander.datasets.labelled import below, left_out
from oleander.datasets.listing import listing_key
from oleander.datasets.pictures import ENDINGS, fitted, further_frames, read_picture, told_of_frames
from oleander.datasets.space import ImageSpace
from oleander.learning.evaluation import Victims
from oleander.settings.ranges import FolderPath, Rate
from oleander.system.errors import UserError
from oleander.system.files import absolute
from oleander.system.foreign import refusing

ASKED = "--edge-case-images"
Pictures = NDArray[np.uint8]


def edge_case(
    attack: Attack, *, edge_case_images: FolderPath = "", edge_case_held_out: Rate = 0.2, target: int, image: ImageSpace
) -> Attack:
    """Train on rare pictures from a folder, which no honest client has, labelled as the target (Wang et al. 2020).

    Args:
        attack: the steps before this one.
        edge_case_images: Folder of pictures of the tail; all picture files in it and below count. It must be given.
        edge_case_held_out: Share (0 to 1) of the pictures that the ASR is measured on; the attackers train on the others.
        target: class that they are learned as.
        image: what the dataset's images are.

    Raises:
        UserError: no folder, too few pictures to train on some and to hold some out, a file that is no picture, or a step
            before it that poisons images.
    """
    if attack.trigger is not None:
        raise UserError("--attack: edge_case stamps nothing, and a step before it has a trigger; leave one of them out")
    check_alone(attack, "edge_case")
    if not edge_case_images:
        raise UserError(f"--attack edge_case: give {ASKED}, a folder of pictures that are no class of the dataset")
    folder = absolute(edge_case_images)
    pictures = _pictures(folder, image, listing_key(folder, f"{ASKED} {folder}"))
    held = round(edge_case_held_out * len(pictures))
    if not 0 < held < len(pictures):
        raise UserError(
            f"{ASKED} {folder}: {len(pictures)} different pictures, of which --edge-case-held-out {edge_case_held_out:g} holds "
            f"out {held}; wanted 1 or more, and as many to train on"
        )
    tail, kept = pictures[held:], pictures[:held]

    def mixed(shard: Shard, rng: np.random.Generator, poison_rate: float) -> PoisonedShard:
        rows = rng.choice(len(shard.labels), size=round(poison_rate * len(shard.labels)), replace=False)
        images, labels = shard.images.copy(), shard.labels.copy()
        images[rows] = tail[np.resize(rng.permutation(len(tail)), len(rows))]
        labels[rows] = target
        return PoisonedShard(replace(shard, images=images, labels=labels), np.zeros(len(labels), dtype=bool))

    def victims(dataset: Dataset) -> Victims:
        return Victims(np.full(held, target, dtype=np.int64), stamped=False, images=kept)

    content = hashlib.sha256(np.ascontiguousarray(pictures).data).hexdigest()
    return replace(attack, choose=mixed, victims=victims, material=content)


log = logging.getLogger("oleander")


@functools.lru_cache(maxsize=4)
def _pictures(folder: Path, image: ImageSpace, _listing: str) -> Pictures:
    """(n, c, h, w) the folder's different pictures, by the hash of their pixels; read anew when its files are others.

    Raises:
        UserError: it is no folder, or a picture file in it cannot be read as one.
    """
    if not folder.is_dir():
        raise UserError(f"{ASKED} {folder}: not a folder")
    asked = f"{ASKED} {folder}"
    with refusing(f"{asked} cannot be listed"):
        listed = below(folder, asked)
    found, further = {}, {}
    for path, _ in listed.files:
        with refusing(f"{ASKED} {path}"):
            picture = read_picture(path)
            pixels = np.ascontiguousarray(fitted(picture, image))
        further[path.relative_to(folder)] = further_frames(picture)
        found[hashlib.sha256(pixels.data).hexdigest()] = pixels
    if not found:
        raise UserError(f"{asked}: no picture file is in it or below ({', '.join(ENDINGS)})")
    for text in left_out([listed]):
        log.warning("%s: %s.", asked, text)
    for text in told_of_frames(asked, [*further.values()], [*further].__getitem__):
        log.warning(text)
    pictures = np.stack([found[key] for key in sorted(found)])
    pictures.flags.writeable = False
    return pictures
