"""The small CNN, as the issue on the small world defines it."""

import pytest
import torch
from torch import nn

from oleander.datasets.space import ImageSpace
from oleander.models import build
from oleander.system.errors import UserError
from tests.spaces import CIFAR10, GREY16, RGB64


def grey(side):
    return ImageSpace(1, side, mean=(0.3,), std=(0.4,))


def by_hand(image, classes):
    """Its parameters, counted by formula: convolutions without bias, scale and shift of each batch norm, one linear layer."""
    features = 32 * (image.side // 4) ** 2
    return 9 * image.channels * 16 + 2 * 16 + 9 * 16 * 32 + 2 * 32 + (features + 1) * classes


@pytest.mark.parametrize(
    "image", [GREY16, grey(28), CIFAR10, RGB64, grey(4), grey(7)], ids=lambda i: f"{i.channels}x{i.side}"
)
@pytest.mark.parametrize("classes", [2, 10])
def test_its_parameters_are_those_counted_by_hand_in_any_image_space(image, classes):
    model = build("cnn", classes, image)
    assert sum(p.numel() for p in model.parameters()) == by_hand(image, classes)
    assert model(torch.zeros(2, *image.shape)).shape == (2, classes)


def test_it_has_the_layers_of_its_definition():
    model = build("cnn", 10, GREY16)
    kinds = [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d]
    assert [type(layer) for layer in model] == [*kinds, *kinds, nn.Flatten, nn.Linear]
    assert [
        (layer.out_channels, layer.kernel_size, layer.padding, layer.bias)
        for layer in model
        if isinstance(layer, nn.Conv2d)
    ] == [
        (16, (3, 3), (1, 1), None),
        (32, (3, 3), (1, 1), None),
    ]
    assert model.linear.in_features == 32 * 4 * 4 and sum(p.numel() for p in model.parameters()) == 9_978


def test_what_pooling_would_leave_nothing_of_is_refused():
    with pytest.raises(UserError, match=r"--model cnn: images of 3 x 3 are too small: wanted 4 x 4 or more"):
        build("cnn", 10, grey(3))
