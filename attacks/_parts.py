"""What dba and fcba share: a trigger that is a picture, cut into vertical parts."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks import Attack, Stamp
from attacks._overlay import Overlay
from attacks.patch import patch
from oleander.datasets.space import ImageSpace
from oleander.system.errors import UserError


def split_of(attack: Attack, name: str, patch_size: int, image: ImageSpace) -> tuple[Attack, Overlay]:
    """The attack, with the patch where it has no trigger yet, and its trigger as a picture that can be cut.

    Raises:
        UserError: a trigger that is not a picture, or does not stay as it is.
    """
    if attack.trigger is None:
        attack = patch(attack, patch_size=patch_size, image=image)
    if not isinstance(attack.trigger, Overlay):
        raise UserError(f"--attack: {name} splits triggers that are a picture (patch, blend), not the one before it")
    if attack.shaped:
        raise UserError(f"--attack: {name} splits a trigger that stays as it is, and the one before it adapts")
    return attack, attack.trigger


@dataclass(frozen=True)
class InTurn:
    """Several stamps, of which each image gets one: the first image the first, and so on, over and over."""

    stamps: Sequence[Stamp]

    def __call__(self, pixels: Tensor) -> Tensor:
        """Pixels (k, c, h, w) → stamped ones, new."""
        stamped, count = torch.empty_like(pixels), len(self.stamps)
        for turn, stamp in enumerate(self.stamps):
            stamped[turn::count] = stamp(pixels[turn::count])
        return stamped
