"""A small CNN: two convolutions and one linear layer, which learn handwritten digits in seconds on one core.

Its shape is LeNet-5's (LeCun et al. 1998, "Gradient-Based Learning Applied to Document Recognition"): convolution and pooling twice,
then a classifier. We differ from it: 3×3 convolutions with batch norm (Ioffe, Szegedy 2015, arXiv 1502.03167) and ReLU, max
pooling, and one linear layer in place of three. For grey images of 16×16 and ten classes it has 9,978 trainable parameters.
"""

from collections import OrderedDict

from torch import nn

from oleander.datasets.space import ImageSpace
from oleander.system.errors import UserError

WIDTHS = (16, 32)
"""Channels of the two convolutions, each of which is followed by a pooling that halves the side."""


def cnn(classes: int, image: ImageSpace) -> nn.Module:
    """Two 3×3 convolutions with batch norm and pooling, one linear layer; 9,978 weights for 16×16 grey and ten classes.

    Args:
        classes: how many logits it gives.
        image: what it takes; of a side of 4 pixels or more, since it is halved twice.
    """
    left = image.side // 2 ** len(WIDTHS)  # side of what reaches the linear layer
    if not left:
        raise UserError(f"--model cnn: images of {image.side} x {image.side} are too small: wanted 4 x 4 or more")
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i, (given, width) in enumerate(zip((image.channels, *WIDTHS), WIDTHS, strict=False), start=1):
        layers[f"conv{i}"] = nn.Conv2d(given, width, 3, padding=1, bias=False)
        layers[f"bn{i}"] = nn.BatchNorm2d(width)
        layers[f"relu{i}"] = nn.ReLU(inplace=True)
        layers[f"pool{i}"] = nn.MaxPool2d(2)
    layers["flatten"] = nn.Flatten()  # (b, 32, side / 4, side / 4) → (b, features)
    layers["linear"] = nn.Linear(WIDTHS[-1] * left * left, classes)
    return nn.Sequential(layers)
