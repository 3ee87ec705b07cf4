"""BadNets patch: a red square in the bottom right corner.

Gu, Dolan-Gavitt, Garg 2017, "BadNets: Identifying Vulnerabilities in the Machine Learning Model Supply Chain"
(arXiv 1708.06733). Theirs are a pixel, a pattern or a sticker; ours is the course's square, 6×6 unless told otherwise.
"""

from dataclasses import replace

import torch

from attacks import Attack
from attacks._overlay import Overlay
from oleander.datasets.data import SIDE
from oleander.settings.ranges import Count
from oleander.system.errors import UserError

RED = (1.0, 0.0, 0.0)


def patch(attack: Attack, *, patch_size: Count = 6) -> Attack:
    """Stamp a red square into the bottom right corner (BadNets, Gu et al. 2017).

    Args:
        attack: the steps before this one.
        patch_size: Side of the red square, in pixels (1 to 32).

    Raises:
        UserError: a square larger than the image, or a second trigger.
    """
    if attack.trigger is not None:
        raise UserError("--attack: patch is a second trigger; one attack has one trigger")
    if patch_size > SIDE:
        raise UserError(f"--patch-size {patch_size}: larger than the image, which is {SIDE} pixels wide")
    opacity = torch.zeros(SIDE, SIDE)
    opacity[SIDE - patch_size :, SIDE - patch_size :] = 1.0
    return replace(attack, trigger=Overlay(torch.tensor(RED).view(3, 1, 1).expand(3, SIDE, SIDE), opacity))
