"""Patch: a red square in the corner, from one pixel to the whole image."""

from dataclasses import replace

import torch

from tests.attacks.made_up import SETTINGS, pixels, red_columns
from tests.spaces import attack_of


def test_patch_is_a_red_square_in_the_bottom_right_corner():
    images = pixels()
    stamped = attack_of(replace(SETTINGS, attack="patch")).trigger(images)
    assert torch.equal(stamped[:, :, 26:, 26:], torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1).expand(4, 3, 6, 6))
    stamped[:, :, 26:, 26:] = images[:, :, 26:, 26:]
    assert torch.equal(stamped, images)


def test_without_parts_every_attacker_trains_on_the_whole_trigger():
    attack = attack_of(replace(SETTINGS, attack="patch"))
    assert [red_columns(attack.part(attacker)) for attacker in range(3)] == [list(range(26, 32))] * 3


def test_a_patch_may_be_the_whole_image_and_one_pixel():
    for size in (1, 32):
        assert red_columns(attack_of(SETTINGS.changed(attack="patch", patch_size=size)).trigger) == list(
            range(32 - size, 32)
        )
