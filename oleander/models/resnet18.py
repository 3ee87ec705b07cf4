"""ResNet-18 at full width (He et al. 2016, "Deep Residual Learning for Image Recognition"; arXiv 1512.03385).

Where the side is less than 64 pixels its stem is the paper's for CIFAR-10 (section 4.2): one 3×3 convolution of stride 1 and no
pooling, so that 32×32 leave 4×4 for the last average; ImageNet's would leave one pixel. From 64 on it is ImageNet's, 7×7 of
stride 2 and max pooling, which leaves 2×2 of 64×64 for a sixteenth of the work. For RGB and ten classes it has 11,173,962 trainable
parameters with the small stem and 11,181,642 with the large one, torchvision's number. The blocks are those of ``resnet18light``.
"""

from torch import nn

from oleander.datasets.space import ImageSpace
from oleander.models._torchvision import SMALL
from oleander.models.resnet18light import ResNet18Light

WIDTHS = (64, 128, 256, 512)


def resnet18(classes: int, image: ImageSpace) -> nn.Module:
    """ResNet-18 at full width (He et al. 2016), its stem fitted to small images; 11.2 million weights for RGB and ten classes.

    Args:
        classes: how many logits it gives.
        image: what it takes; of any side, since it averages over what is left of the image.
    """
    model = ResNet18Light(classes, image.channels, WIDTHS)
    if image.side >= SMALL:
        model.conv1 = nn.Conv2d(image.channels, WIDTHS[0], 7, stride=2, padding=3, bias=False)
        model.pool = nn.MaxPool2d(3, stride=2, padding=1)
    return model
