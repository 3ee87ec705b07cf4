"""Pictures of others: counted before they are decoded, only of the formats that are wanted, and always RGB."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from oleander.datasets.pictures import read_picture
from oleander.datasets.sources import load_dataset
from oleander.system.errors import UserError
from tests.conftest import write_images
from tests.foreign_files import picture, refused


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


def test_an_image_folder_whose_links_lead_back_is_refused(tmp_path, monkeypatch):
    root = write_images(tmp_path / "d", ("x", "y"), 2, 1)
    for name in ("one", "two"):
        (root / "train" / "x" / name).symlink_to(root / "train")
    monkeypatch.setattr("oleander.datasets.listing.MOST_FOLDERS", 500)
    with pytest.raises(UserError, match="do links lead back"):
        load_dataset(f"folder:{root}", "data", print)
