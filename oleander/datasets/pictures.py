"""Pictures of anybody's: only of the formats that are wanted, and counted before they are decoded.

A picture of a few bytes can say that it has a thousand million pixels, and some of Pillow's formats run other programs.
"""

import io
import os
import warnings
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from oleander.datasets.space import ImageSpace
from oleander.system.foreign import MIB, open_regular

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
MOST_PIXELS = 64 * 1024 * 1024
"""A photograph has 12 to 50 million; decoded, so many take 200 MB."""
MOST_BYTES = 512 * MIB
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # our own count is the smaller one


def read_picture(path: Path) -> Image.Image:
    """The first frame of a picture file, decoded to RGB.

    Raises:
        OSError, ValueError, or whatever Pillow raises: it is no such file, has too many pixels, or is damaged.
    """
    with os.fdopen(open_regular(path, MOST_BYTES), "rb") as file:
        return _decoded(file)


def picture_in(content: bytes) -> Image.Image:
    """The same of a picture file's content."""
    with io.BytesIO(content) as file:
        return _decoded(file)


def _decoded(file: IO[bytes]) -> Image.Image:
    try:
        opened = Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:
        raise ValueError(f"none of the formats {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError as error:
        raise ValueError(f"{error}; at most {MOST_PIXELS} are decoded") from None
    with opened:
        width, height = opened.size
        if width * height > MOST_PIXELS:
            raise ValueError(f"has {width} x {height} pixels; at most {MOST_PIXELS} are decoded")
        return _rgb(opened)


def fitted(picture: Image.Image, image: ImageSpace) -> NDArray[np.uint8]:
    """A picture in RGB, resized to a space's side and grey where it is: (c, h, w)."""
    if picture.size != (image.side, image.side):
        picture = picture.resize((image.side, image.side), Image.Resampling.BILINEAR)
    if image.channels == 1:
        return np.asarray(picture.convert("L"))[None]
    return np.asarray(picture).transpose(2, 0, 1)


def _rgb(image: Image.Image) -> Image.Image:
    """The picture in RGB; grey values of 16 bits are taken down to 8, where Pillow would cut them off at 255."""
    if image.mode.startswith("I;16"):
        image = image.convert("I")
        return image.point(lambda value: value * (1 / 256)).convert("L").convert("RGB")
    return image.convert("RGB")
