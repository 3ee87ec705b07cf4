"""VGG-11 with batch norm, for small images (Simonyan, Zisserman 2015, "Very Deep Convolutional Networks …"; arXiv 1409.1556).

The eight 3×3 convolutions are configuration A of its table 1, each followed by batch norm (Ioffe, Szegedy 2015, arXiv 1502.03167), so
they need no bias. In place of three linear layers over 7×7 pixels, 124 of its 133 million parameters, one takes the average of
what is left of the image: 9,228,362 parameters for RGB and ten classes. A max pooling that would leave the next convolution less than
2×2 pixels is left out: none of 32×32 and more; of 28×28 and 16×16 the fourth.
"""

from torch import nn

from oleander.datasets.space import ImageSpace

STAGES = ((64,), (128,), (256, 256), (512, 512), (512, 512))
"""Channels of the convolutions between two poolings."""


def vgg11(classes: int, image: ImageSpace) -> nn.Module:
    """VGG-11 with batch norm and one linear layer (Simonyan, Zisserman 2015); 9.2 million weights for RGB and ten classes.

    Args:
        classes: how many logits it gives.
        image: what it takes; of any side.
    """
    layers: list[nn.Module] = []
    given, side = image.channels, image.side
    for number, stage in enumerate(STAGES):
        for width in stage:
            layers += [nn.Conv2d(given, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            given = width
        least = 2 if number + 1 == len(STAGES) else 4  # the last pooling may leave one pixel
        if side >= least:
            layers.append(nn.MaxPool2d(2))
            side //= 2
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(given, classes)]
    return nn.Sequential(*layers)
