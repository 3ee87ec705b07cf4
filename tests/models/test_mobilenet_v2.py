"""MobileNetV2, against torchvision's and the paper's table."""

import pytest
import torch
from torch import nn
from torchvision.models import mobilenet_v2 as theirs

from oleander.models import build
from tests.spaces import CIFAR10, GREY16, RGB64


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def strides(model):
    """Of the convolutions that move over pixels, in order: the stem's, then each block's depthwise one."""
    return [m.stride[0] for m in model.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]


def test_its_parameters_are_torchvisions():
    counted = parameters(theirs(weights=None, num_classes=10))
    assert parameters(build("mobilenet_v2", 10, CIFAR10)) == parameters(build("mobilenet_v2", 10, RGB64)) == counted
    assert counted == 3_504_872 - 990 * (1280 + 1) == 2_236_682  # the paper's 3.5 million, for 10 classes and not 1,000


def test_from_64_pixels_on_it_is_torchvisions_and_on_small_images_two_strides_less():
    large, small = (strides(build("mobilenet_v2", 10, image)) for image in (RGB64, CIFAR10))
    assert large == strides(theirs(weights=None))
    assert [i for i, (a, b) in enumerate(zip(large, small, strict=True)) if a != b] == [0, 2]
    assert small[0] == small[2] == 1


@pytest.mark.parametrize(("image", "side"), [(GREY16, 2), (CIFAR10, 4), (RGB64, 2)], ids=["16", "32", "64"])
def test_what_it_averages_over(image, side):
    model = build("mobilenet_v2", 10, image).eval()
    with torch.no_grad():
        assert model.features(torch.rand(1, *image.shape)).shape == (1, 1280, side, side)
