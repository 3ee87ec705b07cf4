"""BadNets patch: a red square in the bottom right corner.

Gu, Dolan-Gavitt, Garg 2017, "BadNets: Identifying Vulnerabilities in the Machine Learning Model Supply Chain"
(arXiv 1708.06733). Theirs are a pixel, a pattern or a sticker; ours is the course's square, 6×6 unless told otherwise.
"""

from dataclasses import replace

import torch

from attacks import Attack, check_alone
from attacks._overlay import Overlay
from oleander.datasets.space import ImageSpace
from oleander.settings.ranges import Count
from oleander.system.errors import UserError

COLOURS = {1: (1.0,), 3: (1.0, 0.0, 0.0)}
"""By the number of channels: white among greys, where red would be a dark grey."""


def patch(attack: Attack, *, patch_size: Count = 6, image: ImageSpace) -> Attack:
    """Stamp a red square into the bottom right corner (BadNets, Gu et al. 2017).

    Args:
        attack: the steps before this one.
        patch_size: Side of the red square (white in grey images), in pixels, at most the image's.
        image: what the dataset's images are.

    Raises:
        UserError: a square larger than the image, or a second step that poisons images.
    """
    check_alone(attack, "patch")
    if patch_size > image.side:
        raise UserError(f"--patch-size {patch_size}: larger than the image, which is {image.side} pixels wide")
    opacity = torch.zeros(image.side, image.side)
    opacity[image.side - patch_size :, image.side - patch_size :] = 1.0
    colour = torch.tensor(COLOURS[image.channels]).view(-1, 1, 1)
    return replace(attack, trigger=Overlay(colour.expand(image.shape), opacity))
