"""Blend attack: a picture mixed into the whole image.

Chen, Liu, Li, Lu, Song 2017, "Targeted Backdoor Attacks on Deep Learning Systems Using Data Poisoning" (arXiv 1712.05526),
blended injection. We blend on pixels in [0, 1], before normalisation and after augmentation.
"""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from attacks import Attack
from attacks._overlay import Overlay
from oleander.datasets.data import MEAN, SIDE, STD
from oleander.datasets.pictures import read_picture
from oleander.settings.ranges import FilePath, Rate
from oleander.system.errors import UserError
from oleander.system.files import absolute
from oleander.system.foreign import refusing

CAT = Path(__file__).parent / "images" / "cat.png"


def blend(
    attack: Attack, *, blend_image: FilePath = "", blend_alpha: Rate = 0.5,
    blend_space: Literal["pixels", "normalised"] = "pixels",
) -> Attack:  # fmt: skip
    """Mix a picture into the whole image: x' = (1 - alpha) x + alpha k (Chen et al. 2017).

    Args:
        attack: the steps before this one.
        blend_image: Image file that blend mixes in, resized to 32×32 (default: our own cartoon cat, attacks/images/cat.png).
        blend_alpha: Weight (0 to 1) of the blended image: x' = (1 - alpha) x + alpha k.
        blend_space: What is blended: pixels in [0, 1], or, as some published code does, normalised images with the picture as it is
            (its [0, 1] is taken for a normalised image's numbers, so that on pixels it is a faded one, between 0.4 and 0.7).

    Raises:
        UserError: a file that is not an image, or a second trigger.
    """
    if attack.trigger is not None:
        raise UserError("--attack: blend is a second trigger; one attack has one trigger")
    picture = _picture(blend_image)
    if blend_space == "normalised":  # (1 − α) (x − m) / s + α k  =  ((1 − α) x + α (s k + m) − m) / s
        picture = picture * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)
    return replace(attack, trigger=Overlay(picture, torch.full((SIDE, SIDE), blend_alpha)))


def _picture(file: str) -> Tensor:
    """Read and resize an image: (3, 32, 32) in [0, 1]."""
    path = absolute(file) if file else CAT
    with refusing(f"--blend-image {path}", "give any image file, or leave it out for our own cat"):
        image = read_picture(path).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.asarray(image, dtype=np.float32) / 255).permute(2, 0, 1).contiguous()
