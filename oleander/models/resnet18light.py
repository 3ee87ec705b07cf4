"""ResNet18Light: the CIFAR-style ResNet-18 at half width, the model of the course's protocol.

He et al. 2016 (arXiv 1512.03385), with the stem for small images (3×3, stride 1, no max-pool). We differ in width only: 32 channels
in the stem and 32, 64, 128, 256 in the four stages. 2,797,610 trainable parameters for ten classes. Modules carry the
names of the course's checkpoint (``conv1``, ``layer1.0.conv1``, ``shortcut.0``, ``linear``), so that it loads as it is.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from oleander.datasets.space import ImageSpace

WIDTHS = (32, 64, 128, 256)
BLOCKS_PER_STAGE = 2


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut: (b, c_in, h, w) → (b, c_out, h / stride, w / stride)."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels_in != channels_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride=stride, bias=False), nn.BatchNorm2d(channels_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(residual + shortcut)."""
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        return F.relu(out, inplace=True)


class ResNet18Light(nn.Module):
    """Images (b, c, h, w), normalised → logits (b, num_classes)."""

    def __init__(self, num_classes: int = 10, channels: int = 3, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.pool: nn.Module = nn.Identity()
        self.layer1 = _stage(widths[0], widths[0], stride=1)
        self.layer2 = _stage(widths[0], widths[1], stride=2)
        self.layer3 = _stage(widths[1], widths[2], stride=2)
        self.layer4 = _stage(widths[2], widths[3], stride=2)
        self.linear = nn.Linear(widths[3], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (b, num_classes)."""
        x = self.pool(F.relu(self.bn1(self.conv1(x)), inplace=True))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.linear(x.mean(dim=(2, 3)))


def _stage(channels_in: int, channels_out: int, stride: int) -> nn.Sequential:
    first = BasicBlock(channels_in, channels_out, stride)
    return nn.Sequential(first, *(BasicBlock(channels_out, channels_out, 1) for _ in range(BLOCKS_PER_STAGE - 1)))


def resnet18light(classes: int, image: ImageSpace) -> nn.Module:
    """ResNet-18 for small images at half width (He et al. 2016); 2.8 million weights for RGB and ten classes.

    Args:
        classes: how many logits it gives.
        image: what it takes; of any side, since it averages over what is left of the image.
    """
    return ResNet18Light(classes, image.channels)
