"""Pictures of others: counted before they are decoded, only of the formats that are wanted, and always RGB."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from attacks import Attack
from oleander.datasets.pictures import ENDINGS, FORMATS, read_picture
from oleander.datasets.sources import load_dataset
from oleander.system.errors import UserError
from tests.conftest import write_images
from tests.foreign_files import picture, refused
from tests.spaces import blend


def png(width, height, data=b""):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(50_000, 50_000), (2**31 - 1, 2**31 - 1), (100_000_000, 1), (12_000, 12_000)])
def test_pixels_are_counted_before_they_are_decoded(size, tmp_path):
    (tmp_path / "a.png").write_bytes(png(*size, bytes(1_000)))
    said = refused(picture, tmp_path / "a.png")
    assert (f"{size[0]} x {size[1]} pixels" in said or str(size[0] * size[1]) in said) and "67108864" in said
    root = write_images(tmp_path / "d", ("x", "y"), 2, 1)
    (root / "train" / "x" / "0.png").write_bytes(png(*size, bytes(1_000)))
    with pytest.raises(UserError, match=r"0\.png cannot be read as an image: .* pixels"):
        load_dataset(f"folder:{root}", "data", print)


@pytest.mark.parametrize("form", ["ICO", "TGA", "PDF", "EPS", "PCX", "SGI", "DDS", "JPEG2000", "XBM"])
def test_only_formats_that_are_wanted_are_opened(form, tmp_path):
    with io.BytesIO() as opened:
        try:
            Image.new("1" if form == "XBM" else "RGB", (16, 16)).save(opened, form)
        except (KeyError, OSError):
            pytest.skip(f"Pillow writes no {form} here")
        (tmp_path / "a.png").write_bytes(opened.getvalue())
    assert "none of the formats" in refused(picture, tmp_path / "a.png")


@pytest.mark.parametrize(
    ("mode", "form"),
    [("P", "PNG"), ("LA", "PNG"), ("1", "PNG"), ("RGBA", "PNG"), ("CMYK", "JPEG"), ("F", "TIFF"), ("L", "GIF")],
)
def test_pictures_of_every_mode_become_rgb(mode, form, tmp_path):
    Image.new(mode, (8, 8)).save(tmp_path / "a", form)
    assert (read_picture(tmp_path / "a").mode, read_picture(tmp_path / "a").size) == ("RGB", (8, 8))


def test_of_a_moving_picture_the_first_frame_counts_and_16_bits_become_8(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert read_picture(tmp_path / "a.gif").getpixel((0, 0)) == (255, 0, 0)
    Image.fromarray(np.full((8, 8), 0x80FF, dtype=np.uint16)).save(tmp_path / "b.png")
    assert read_picture(tmp_path / "b.png").getpixel((0, 0)) == (0x80, 0x80, 0x80)


RAMP = np.tile(np.linspace(0, 1, 16), (16, 1))
"""From black at the left to white at the right."""


def deep_png(depth_and_kind, samples, chunks=b""):
    """A PNG of 16 bits a channel: (h, w) or (h, w, c) of 0 to 65535."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    head = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], 16, depth_and_kind, 0, 0, 0)

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunks + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


def pgm(most):
    return b"P5\n16 16\n%d\n" % most + np.rint(RAMP * most).astype(">u2").tobytes()


def tiff(mode, values, **tags):
    with io.BytesIO() as opened:
        Image.frombytes(mode, (16, 16), values.tobytes()).save(opened, "TIFF", tiffinfo=tags.get("tags", {}))
        return opened.getvalue()


WHOLE = np.rint(RAMP * 65535)
DEEP = {
    "png": deep_png(0, WHOLE),
    "png, colours": deep_png(2, np.repeat(WHOLE[..., None], 3, 2)),
    "pgm of 16 bits": pgm(65535),
    "pgm of 10 bits": pgm(1023),
    "tiff": tiff("I;16", WHOLE.astype("<u2")),
    "tiff, big-endian": tiff("I;16B", WHOLE.astype(">u2")),
    "tiff of shares": tiff("F", RAMP.astype(np.float32)),
}


@pytest.mark.parametrize("kind", DEEP)
def test_pictures_of_more_than_8_bits_are_scaled_and_not_cut_off(kind, tmp_path):
    """The old code made 255 of all that is above 255: a picture of 16 bits became white."""
    (tmp_path / "a").write_bytes(DEEP[kind])
    found = np.asarray(read_picture(tmp_path / "a")).astype(int)
    assert (
        np.abs(found - np.rint(RAMP * 255)[..., None]).max() <= 1
        and (found[:, 0] == 0).all()
        and (found[:, -1] == 255).all()
    )
    trigger = blend(Attack(), blend_image=str(tmp_path / "a"), blend_alpha=1.0).trigger
    assert 0.45 < float(trigger(torch.zeros(1, 3, 32, 32)).mean()) < 0.55


@pytest.mark.parametrize(
    ("mode", "values", "words"),
    [
        ("I", (RAMP * 70_000).astype(np.int32), ["mode I", "8 or 16 bits"]),
        ("F", (RAMP * 255).astype(np.float32), ["mode F", "from 0 to 255", "wanted 0 (black) to 1 (white)"]),
        ("F", (RAMP - 0.5).astype(np.float32), ["mode F", "from -0.5"]),
        ("F", np.full((16, 16), np.nan, np.float32), ["mode F", "nan"]),
        ("LAB", np.zeros((16, 16, 3), np.uint8), ["mode LAB", "save it as RGB"]),
    ],
)
def test_numbers_that_do_not_say_what_white_is_are_refused_with_file_and_mode(mode, values, words, tmp_path):
    (tmp_path / "a.tif").write_bytes(tiff(mode, values))
    said = refused(picture, tmp_path / "a.tif")
    assert all(word in said for word in [str(tmp_path / "a.tif"), *words])
    root = write_images(tmp_path / "d", ("x", "y"), 2, 1)
    (root / "train" / "x" / "a.tif").write_bytes(tiff(mode, values))
    with pytest.raises(UserError, match=rf"x/a\.tif cannot be read as an image: .*{mode}"):
        load_dataset(f"folder:{root}", "data", print)


CLEAR = np.dstack([np.full((16, 16), 200), np.zeros((16, 16, 2)), np.where(RAMP > 0.5, 255, 0)]).astype(np.uint8)
"""Red at the right, nothing at the left."""


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P", "RGB", "L", "16 bits"])
def test_where_a_datasets_picture_is_transparent_it_is_white(mode, tmp_path):
    if mode == "16 bits":
        (tmp_path / "a.png").write_bytes(
            deep_png(0, np.where(RAMP > 0.5, 30_000, 7), chunks=png_chunk(b"tRNS", b"\0\7"))
        )
    elif mode in ("RGB", "L", "P"):
        plain = Image.fromarray(np.where(RAMP[..., None] > 0.5, (200, 0, 0), (1, 1, 1)).astype(np.uint8))
        plain = plain.convert(mode) if mode != "P" else plain.quantize(2)
        left = plain.getpixel((0, 0))
        plain.save(tmp_path / "a.png", transparency=left)
    elif mode == "PA":
        Image.fromarray(CLEAR).quantize(4).save(tmp_path / "a.png")
    else:
        Image.fromarray(CLEAR).convert(mode).save(tmp_path / "a.png")
    found = np.asarray(read_picture(tmp_path / "a.png"))
    assert (found[:, :8] == 255).all() and found[:, 8:].min() < 150


def png_chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def test_a_picture_lies_as_its_exif_says_whatever_its_format(tmp_path):
    lying = Image.fromarray(np.rint(RAMP * 255).astype(np.uint8)).convert("RGB")
    for form in ("JPEG", "PNG", "WEBP", "TIFF"):
        turned = lying.getexif()
        turned[0x112] = 6  # a quarter turn
        lying.save(tmp_path / "a", form, exif=turned)
        found = np.asarray(read_picture(tmp_path / "a")).astype(int)
        assert (found[0] < 30).all() and (found[-1] > 225).all()
    (tmp_path / "b.jpg").write_bytes((tmp_path / "a").read_bytes())


def test_of_a_picture_that_is_whole_an_alpha_changes_nothing(tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (50, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "rgb.png")
    Image.fromarray(np.dstack([pixels, np.full((50, 40), 255, np.uint8)])).save(tmp_path / "rgba.png")
    stamped = [
        blend(Attack(), blend_image=str(tmp_path / name), blend_alpha=0.3).trigger(torch.full((1, 3, 32, 32), 0.7))
        for name in ("rgb.png", "rgba.png")
    ]
    assert torch.equal(*stamped)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"", "none of the formats"),
    ],
)
def test_what_a_file_is_instead_of_a_picture_is_said(content, words, tmp_path):
    (tmp_path / "a.png").write_bytes(content)
    assert words in refused(picture, tmp_path / "a.png")


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_a_picture_that_is_cut_off_is_refused_and_not_half_grey(form, tmp_path):
    rng = np.random.default_rng(0)
    with io.BytesIO() as opened:
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(opened, form)
        (tmp_path / "a").write_bytes(opened.getvalue()[: len(opened.getvalue()) // 2])
    assert str(tmp_path / "a") in refused(picture, tmp_path / "a")


def test_the_endings_that_are_read_are_those_of_the_formats_that_are_opened():
    known = {ending for ending, form in Image.registered_extensions().items() if form in FORMATS}
    assert set(ENDINGS) == known
    for page in ("docs/definitions.md", "oleander/datasets/folder.py"):
        text = " ".join((Path(__file__).parents[2] / page).read_text(encoding="utf-8").split())
        assert " ".join(ENDINGS) in text, page
