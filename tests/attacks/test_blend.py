"""Blend: a picture laid over the whole image."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from attacks import Attack
from oleander.system.errors import UserError
from tests.attacks.made_up import SETTINGS, pixels
from tests.spaces import attack_of, blend, normalise


def test_blend_mixes_the_picture_in_by_alpha(tmp_path):
    Image.new("RGB", (50, 40), (255, 0, 51)).save(tmp_path / "k.png")
    attack = attack_of(SETTINGS.changed(attack="blend", blend_image=str(tmp_path / "k.png"), blend_alpha=0.25))
    images = pixels()
    expected = 0.75 * images + 0.25 * torch.tensor([1.0, 0.0, 0.2]).view(1, 3, 1, 1)
    torch.testing.assert_close(attack.trigger(images), expected)


def test_blend_after_normalisation_is_what_some_code_does(tmp_path):
    """There the normalised image is mixed with a picture in [0, 1] as it is."""
    Image.fromarray(np.full((32, 32, 3), (255, 51, 0), np.uint8)).save(tmp_path / "k.png")
    trigger = blend(Attack(), blend_image=str(tmp_path / "k.png"), blend_alpha=0.25, blend_space="normalised").trigger
    pixels = torch.rand(4, 3, 32, 32)
    picture = torch.tensor([1.0, 0.2, 0.0]).view(1, 3, 1, 1)
    torch.testing.assert_close(normalise(trigger(pixels)), 0.75 * normalise(pixels) + 0.25 * picture)


def test_blend_default_is_our_cat_and_bad_files_are_refused(tmp_path):
    assert attack_of(replace(SETTINGS, attack="blend")).trigger.picture.std() > 0.1
    (tmp_path / "no.png").write_text("not an image")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (300, 300, 3), dtype=np.uint8)).save(tmp_path / "broken.png")
    whole = (tmp_path / "broken.png").read_bytes()
    second = whole.index(b"IDAT", whole.index(b"IDAT") + 4)  # Pillow says SyntaxError to a chunk without a type
    (tmp_path / "broken.png").write_bytes(whole[:second] + bytes(4) + whole[second + 4 :])
    for bad in (tmp_path / "no.png", tmp_path / "broken.png", tmp_path / "missing.png", tmp_path):
        with pytest.raises(UserError, match=str(bad)):
            attack_of(SETTINGS.changed(attack="blend", blend_image=str(bad)))


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_a_picture_is_resized_bilinearly_laid_over_in_pixels_unless_told_otherwise(alpha, tmp_path):
    rng = np.random.default_rng(0)
    large = Image.fromarray(rng.integers(0, 256, (80, 50, 3), dtype=np.uint8))
    large.save(tmp_path / "k.png")
    small = np.asarray(large.resize((32, 32), Image.Resampling.BILINEAR), dtype=np.float32).transpose(2, 0, 1) / 255
    attack = blend(Attack(), blend_image=str(tmp_path / "k.png"), blend_alpha=alpha)
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(attack.trigger(images), (1 - alpha) * images + alpha * torch.from_numpy(small))


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1"])
def test_pictures_of_any_mode_are_seen_in_their_colours(mode, tmp_path):
    colours = {"L": (100, 100, 100), "P": (200, 10, 10), "RGBA": (200, 10, 10), "1": (255, 255, 255)}[mode]
    Image.new("RGB", (40, 40), colours).convert(mode).save(tmp_path / "k.png")
    trigger = blend(Attack(), blend_image=str(tmp_path / "k.png"), blend_alpha=1.0).trigger
    found = trigger(torch.zeros(1, 3, 32, 32))[0, :, 3, 5] * 255
    np.testing.assert_allclose(found, colours, atol=0 if mode != "P" else 26)  # a web palette has steps of 51
