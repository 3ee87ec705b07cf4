"""ResNet-18 at full width, against torchvision's."""

import pytest
import torch
from torch import nn
from torchvision.models import resnet18 as theirs

from oleander.models import build
from tests.spaces import CIFAR10, GREY16, RGB64


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def test_with_the_small_stem_it_has_the_parameters_that_torchvisions_has_with_it():
    other = theirs(weights=None, num_classes=10)
    other.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    assert parameters(build("resnet18", 10, CIFAR10)) == parameters(other) == 11_173_962


def test_from_64_pixels_on_it_has_the_parameters_of_torchvisions():
    assert parameters(build("resnet18", 10, RGB64)) == parameters(theirs(weights=None, num_classes=10)) == 11_181_642


@pytest.mark.parametrize("image", [CIFAR10, RGB64], ids=["small", "large"])
def test_it_answers_as_torchvisions_does_with_the_same_weights(image):
    model, other = build("resnet18", 5, image).eval(), theirs(weights=None, num_classes=5).eval()
    if image.side < 64:
        other.conv1, other.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    with torch.no_grad():
        for mine, given in zip(model.parameters(), other.parameters(), strict=True):
            given.copy_(mine)
        pixels = torch.rand(2, *image.shape)
        torch.testing.assert_close(model(pixels), other(pixels), rtol=1e-4, atol=1e-4)


def test_a_grey_image_has_a_stem_of_one_channel():
    assert build("resnet18", 10, GREY16).conv1.weight.shape == (64, 1, 3, 3)
