"""VGG-11 with batch norm, against its paper's table and torchvision's features."""

import pytest
import torch
from torch import nn
from torchvision.models.vgg import cfgs, make_layers

from oleander.models import build
from tests.spaces import CIFAR10, GREY16, GREY28, RGB64

WIDTHS = (64, 128, 256, 256, 512, 512, 512, 512)
"""Of configuration A in table 1 of the paper."""


def test_its_parameters_are_those_counted_by_hand():
    pairs = zip((3, *WIDTHS), WIDTHS, strict=False)
    by_hand = sum(9 * given * width + 2 * width for given, width in pairs) + (512 + 1) * 10
    assert sum(p.numel() for p in build("vgg11", 10, CIFAR10).parameters()) == by_hand == 9_228_362


def test_on_32_pixels_it_is_torchvisions_features_and_a_linear_layer():
    model = build("vgg11", 10, CIFAR10).eval()
    features = make_layers(cfgs["A"], batch_norm=True).eval()
    mine = [m for m in model if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
    theirs = [m for m in features if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
    with torch.no_grad():
        for one, other in zip(mine, theirs, strict=True):
            other.weight.copy_(one.weight)
            other.bias.zero_() if isinstance(other, nn.Conv2d) else other.bias.copy_(one.bias)
        pixels = torch.rand(2, 3, 32, 32)
        torch.testing.assert_close(model(pixels), model[-1](features(pixels).flatten(1)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("image", "sides"),
    [
        (GREY16, [16, 8, 4, 4, 2, 2, 2, 2]),
        (GREY28, [28, 14, 7, 7, 3, 3, 3, 3]),
        (CIFAR10, [32, 16, 8, 8, 4, 4, 2, 2]),
        (RGB64, [64, 32, 16, 16, 8, 8, 4, 4]),
    ],
    ids=["grey16", "grey28", "cifar10", "rgb64"],
)
def test_no_convolution_is_left_less_than_two_pixels_a_side(image, sides):
    seen = []
    model = build("vgg11", 10, image)
    for module in model:
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda _module, given, _out: seen.append(given[0].shape[-1]))
    model(torch.rand(1, *image.shape))
    assert seen == sides
