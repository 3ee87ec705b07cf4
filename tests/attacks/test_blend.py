"""Blend: a picture laid over the whole image."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from attacks import Attack
from attacks.blend import CAT
from oleander.system.errors import UserError
from tests.attacks.made_up import SETTINGS, pixels
from tests.spaces import CIFAR10, attack_of, blend, normalise


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


def disc(size):
    """Green, and nothing around it."""
    picture = np.zeros((size, size, 4), np.uint8)
    picture[..., 1] = 255
    picture[..., 3] = 255 * (np.hypot(*(np.mgrid[:size, :size] - (size - 1) / 2)) < size / 3)
    return picture


@pytest.mark.parametrize("space", ["pixels", "normalised"])
@pytest.mark.parametrize("size", [32, 64])
def test_what_is_transparent_in_the_picture_leaves_the_image_as_it_is(size, space, tmp_path):
    """The old code threw the alpha away: a disc became a square of whatever colour lay under it."""
    picture = disc(size)
    Image.fromarray(picture).save(tmp_path / "disc.png")
    trigger = blend(Attack(), blend_image=str(tmp_path / "disc.png"), blend_alpha=0.5, blend_space=space).trigger
    images = torch.rand(2, 3, 32, 32)
    stamped = trigger(images)
    outside = torch.from_numpy(np.hypot(*(np.mgrid[:32, :32] - 15.5)) > 32 / 3 + 1.5)  # the rim is half covered
    assert torch.equal(stamped[:, :, outside], images[:, :, outside]) and outside.sum() > 400
    green = torch.tensor([0.0, 1.0, 0.0]).view(3, 1, 1)
    green = green if space == "pixels" else CIFAR10.denormalise(green)
    torch.testing.assert_close(stamped[:, :, 14:18, 14:18], 0.5 * images[:, :, 14:18, 14:18] + 0.5 * green)


def test_half_transparent_is_half_as_much(tmp_path):
    Image.new("RGBA", (40, 40), (255, 0, 0, 51)).save(tmp_path / "k.png")
    images = torch.rand(2, 3, 32, 32)
    stamped = blend(Attack(), blend_image=str(tmp_path / "k.png"), blend_alpha=0.5).trigger(images)
    torch.testing.assert_close(stamped, 0.9 * images + 0.1 * torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1))


def test_a_picture_of_nothing_is_refused(tmp_path):
    Image.new("RGBA", (40, 40), (255, 0, 0, 0)).save(tmp_path / "k.png")
    with pytest.raises(UserError, match=r"--blend-image .*k\.png: is transparent all over"):
        blend(Attack(), blend_image=str(tmp_path / "k.png"), blend_alpha=0.5)


def test_without_alpha_what_is_blended_is_bit_for_bit_what_it_was():
    """A number for the opacity, and the picture resized in RGB."""
    trigger = blend(Attack(), blend_image="", blend_alpha=0.5).trigger
    assert torch.equal(trigger.opacity, torch.full((32, 32), 0.5))
    for alpha in (0.1, 0.3, 0.7, 1.0):
        assert torch.equal(
            blend(Attack(), blend_image="", blend_alpha=alpha).trigger.opacity, torch.full((32, 32), alpha)
        )
    small = np.asarray(Image.open(CAT).resize((32, 32), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    assert torch.equal(trigger.picture, torch.from_numpy(np.array(small)).float().div(255))


def test_a_split_trigger_has_the_columns_that_something_is_in(tmp_path):
    picture = np.zeros((32, 32, 4), np.uint8)
    picture[:, 8:20] = (255, 0, 0, 255)
    Image.fromarray(picture).save(tmp_path / "k.png")
    trigger = blend(Attack(), blend_image=str(tmp_path / "k.png"), blend_alpha=0.5).trigger
    assert trigger.columns().tolist() == list(range(8, 20))
