"""MobileNetV2 (Sandler et al. 2018, "MobileNetV2: Inverted Residuals and Linear Bottlenecks"; arXiv 1801.04381): torchvision's.

The rows are its table 2. Where the side is less than 64 pixels, the first convolution and the row of 24 channels have stride 1 in
place of 2, as is usual for CIFAR-10: 32×32 leave 4×4 for the last average, where the paper's strides would leave one pixel. The
parameters are the same either way: 2,236,682 for RGB and ten classes. Its dropout (0.2) draws from the client's own stream.
"""

from torch import nn

from oleander.datasets.space import ImageSpace
from oleander.models._torchvision import SMALL, fit_stem

ROWS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, blocks and stride of each row."""


def mobilenet_v2(classes: int, image: ImageSpace) -> nn.Module:
    """MobileNetV2 (Sandler et al. 2018), its strides fitted to small images; 2.2 million weights for RGB and ten classes.

    Args:
        classes: how many logits it gives.
        image: what it takes; of any side, since it averages over what is left of the image.
    """
    from torchvision.models import MobileNetV2  # here, since it takes a second to load, and most models do without

    small = image.side < SMALL
    rows = [[t, c, n, 1 if small and c == 24 else stride] for t, c, n, stride in ROWS]
    model: nn.Module = MobileNetV2(num_classes=classes, inverted_residual_setting=rows)
    fit_stem(model, image)
    return model
