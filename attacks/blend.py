"""Blend attack: a picture mixed into the whole image.

Chen, Liu, Li, Lu, Song 2017, "Targeted Backdoor Attacks on Deep Learning Systems Using Data Poisoning" (arXiv 1712.05526),
blended injection. We blend on pixels in [0, 1], before normalisation and after augmentation. What is transparent
in the picture leaves the image as it is: alpha is weighted by the picture's own.
"""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from torch import Tensor

from attacks import Attack, check_alone
from attacks._overlay import Overlay
from oleander.datasets.data import to_pixels
from oleander.datasets.pictures import fitted_layer, further_frames, read_layer, warn_of_frames
from oleander.datasets.space import ImageSpace
from oleander.settings.ranges import FilePath, Rate
from oleander.system.files import absolute
from oleander.system.foreign import refusing

CAT = Path(__file__).parent / "images" / "cat.png"


def blend(
    attack: Attack, *, blend_image: FilePath = "", blend_alpha: Rate = 0.5,
    blend_space: Literal["pixels", "normalised"] = "pixels", image: ImageSpace,
) -> Attack:  # fmt: skip
    """Mix a picture into the whole image: x' = (1 - alpha) x + alpha k (Chen et al. 2017).

    Args:
        attack: the steps before this one.
        blend_image: Image file that blend mixes in, resized to the dataset's images (default: our cat, attacks/images/cat.png).
        blend_alpha: Weight (0 to 1) of the blended image: x' = (1 - alpha) x + alpha k.
        blend_space: What is blended: pixels in [0, 1], or, as some published code does, normalised images with the picture as it is
            (its [0, 1] is taken for a normalised image's numbers: on CIFAR-10's pixels a faded one, between 0.4 and 0.7).
        image: what the dataset's images are.

    Raises:
        UserError: a file that is not an image, or a second step that poisons images.
    """
    check_alone(attack, "blend")
    picture, cover = _picture(blend_image, image)
    if blend_space == "normalised":  # (1 − α) (x − m) / s + α k  =  ((1 − α) x + α (s k + m) − m) / s
        picture = image.denormalise(picture)
    return replace(attack, trigger=Overlay(picture, blend_alpha * cover))


def _picture(file: str, image: ImageSpace) -> tuple[Tensor, Tensor]:
    """A picture fitted into the space, and how much each pixel of it covers by its own alpha: (c, h, w), (h, w) in [0, 1]."""
    path = absolute(file) if file else CAT
    with refusing(f"--blend-image {path}", "give any image file, or leave it out for our own cat"):
        layer = read_layer(path)
        picture, cover = (to_pixels(part).contiguous() for part in fitted_layer(layer, image))
        if not cover.any():
            raise ValueError("is transparent all over: there is nothing to blend")
        warn_of_frames(f"--blend-image {path}", further_frames(layer), path.name)
        return picture, cover
