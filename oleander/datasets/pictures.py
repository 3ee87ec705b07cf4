"""Pictures of anybody's: only of the formats that are wanted, and counted before they are decoded.

A picture of a few bytes can say that it has a thousand million pixels, and some of Pillow's formats run other programs. What becomes
of pictures that are not plain 8-bit RGB is in ``docs/definitions.md``, "Pictures".
"""

import contextlib
import functools
import io
import logging
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from oleander.datasets.space import ImageSpace
from oleander.system.foreign import MIB, open_regular, plain, shortened, what_it_is

log = logging.getLogger("oleander")

SUFFIXES = {
    "BMP": (".bmp",), "GIF": (".gif",), "JPEG": (".jfif", ".jpe", ".jpeg", ".jpg"), "PNG": (".apng", ".png"),
    "PPM": (".pbm", ".pfm", ".pgm", ".pnm", ".ppm"), "TIFF": (".tif", ".tiff"), "WEBP": (".webp",),
}  # fmt: skip
"""Every format that Pillow may open, and how the names of its files end: what is a picture in a folder."""
FORMATS = tuple(SUFFIXES)
ENDINGS = tuple(sorted(ending for endings in SUFFIXES.values() for ending in endings))
READING = 3
"""Raise it when the same files come to other images, or to other notices: those decoded before are then made again."""
FURTHER = "frames after the first"
MOST_PIXELS = 64 * 1024 * 1024
"""A photograph has 12 to 50 million; decoded, so many take 200 MB."""
MOST_BYTES = 512 * MIB
PLAIN = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")
"""Modes of 8 bits or fewer, which Pillow itself brings to RGB."""
WHITE_IS_ZERO, BITS, PHOTOMETRIC = 0, 258, 262
"""Of TIFF."""
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # our own count is the smaller one


def read_picture(path: Path) -> Image.Image:
    """The first frame of a picture file in RGB, on white where it is transparent.

    Raises:
        OSError, ValueError, or whatever Pillow raises: it is no such file, has too many pixels, or is damaged.
    """
    return _on_white(read_layer(path))


def picture_in(content: bytes) -> Image.Image:
    """The same of a picture file's content."""
    with io.BytesIO(content) as file:
        return _on_white(_decoded(file))


def read_layer(path: Path) -> Image.Image:
    """The first frame of a picture file, in RGBA where some of it is transparent, else in RGB. Raises as ``read_picture``."""
    with os.fdopen(open_regular(path, MOST_BYTES), "rb") as file:
        return _decoded(file)


def further_frames(picture: Image.Image) -> int:
    """How many frames its file has after the first, which is the one that is read."""
    return int(picture.info.get(FURTHER, 0))


def told_of_frames(asked: str, further: Sequence[int], name: Callable[[int], object]) -> tuple[str, ...]:
    """What must be known of files that have more than the one frame that is read, counted in a sentence; nothing of others.

    Args:
        asked: what asked for them.
        further: how many frames each file has after its first.
        name: of a file, by its place.
    """
    files = [at for at, count in enumerate(further) if count]
    if not files:
        return ()
    what = f"frames after the first left out: {sum(further)} of {len(files)} {'file' if len(files) == 1 else 'files'}"
    return (f"{asked}: {what} ({shortened(plain(str(name(files[0]))), 120)}{' …' if len(files) > 1 else ''}).",)


@functools.cache
def warn_of_frames(asked: str, further: int, name: str) -> None:
    """The same of one picture that is no dataset's, once in a process."""
    for text in told_of_frames(asked, [further], lambda _: name):
        log.warning(text)


def fitted(picture: Image.Image, image: ImageSpace) -> NDArray[np.uint8]:
    """A picture in RGB, resized to a space's side and grey where it is: (c, h, w)."""
    if picture.size != (image.side, image.side):
        picture = picture.resize((image.side, image.side), Image.Resampling.BILINEAR)
    if image.channels == 1:
        return np.asarray(picture.convert("L"))[None]
    return np.asarray(picture).transpose(2, 0, 1)


def fitted_layer(layer: Image.Image, image: ImageSpace) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The same of a layer, and how much it covers: (c, h, w), (h, w) of 0 to 255."""
    if layer.mode == "RGB":
        return fitted(layer, image), np.full(image.shape[1:], 255, np.uint8)
    small = layer.resize((image.side, image.side), Image.Resampling.BILINEAR)  # colours weighted by what they cover
    return fitted(small.convert("RGB"), image), np.asarray(small.getchannel("A"))


def _decoded(file: IO[bytes]) -> Image.Image:
    try:
        opened = Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:
        file.seek(0)
        raise ValueError(f"none of the formats {', '.join(FORMATS)}{what_it_is(file.read(512))}") from None
    except Image.DecompressionBombError as error:
        raise ValueError(f"{error}; at most {MOST_PIXELS} are decoded") from None
    with opened:
        width, height = opened.size
        if width * height > MOST_PIXELS:
            raise ValueError(f"has {width} x {height} pixels; at most {MOST_PIXELS} are decoded")
        further = _further(opened)
        layer = _layer(opened)
        layer.info[FURTHER] = further
        return layer


def _further(opened: Image.Image) -> int:
    """Frames after the first; of a file that is damaged behind its first frame, nobody knows."""
    with contextlib.suppress(Exception):
        return int(getattr(opened, "n_frames", 1)) - 1
    return 0


def _layer(opened: Image.Image) -> Image.Image:
    """Upright, 8 bits a channel, in RGB or RGBA."""
    most = _white(opened)
    opened.load()
    with contextlib.suppress(Exception):  # of EXIF that is damaged nothing is known, and the picture itself is whole
        ImageOps.exif_transpose(opened, in_place=True)
    image = opened if opened.mode in PLAIN else _eight_bits(opened, most)
    if image.has_transparency_data:
        whole = image.convert("RGBA")
        if whole.getchannel("A").getextrema() != (255, 255):
            return whole
    return image.convert("RGB")


def _white(opened: Image.Image) -> float:
    """The number that white is in a picture of one channel with more than 8 bits; below 0 where white is 0, and black is that number.

    Raises:
        ValueError: it is not known; names the mode.
    """
    mode, tags = opened.mode, getattr(opened, "tag_v2", {})
    if mode in PLAIN:
        return 255
    if mode == "F":
        return 1.0
    if mode.startswith("I;16") or (mode == "I" and opened.format in ("PNG", "PPM")):
        bits = tags.get(BITS, 16)
        white = 2 ** int(bits[0] if isinstance(bits, tuple) else bits) - 1
        return -white if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO else white
    why = "whole numbers with a sign or of 32 bits, which do not say what white is" if mode == "I" else "not read"
    raise ValueError(f"has the mode {mode}: {why}; save it as RGB, or as grey of 8 or 16 bits")


def _eight_bits(image: Image.Image, white: float) -> Image.Image:
    """Grey of more than 8 bits in 8, in proportion; Pillow itself would cut off what is above 255.

    Raises:
        ValueError: numbers that are not from black to white.
    """
    values = np.asarray(image).astype(np.float64)  # (h, w)
    least, most = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if not (least >= 0 and most <= abs(white)):
        raise ValueError(
            f"has numbers from {least:g} to {most:g} (mode {image.mode}); wanted 0 (black) to {abs(white):g} (white)"
        )
    share = values / abs(white) if white > 0 else 1 - values / abs(white)
    grey = Image.fromarray(np.rint(255 * share).astype(np.uint8))
    clear = image.info.get("transparency")
    if isinstance(clear, int):  # the one grey value of a PNG that is transparent
        grey.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    return grey


def _on_white(layer: Image.Image) -> Image.Image:
    if layer.mode == "RGB":
        return layer
    whole = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    whole.info[FURTHER] = further_frames(layer)
    return whole
