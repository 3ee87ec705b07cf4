"""``--model torchvision:NAME``: torchvision's classification models, untrained and fitted to a dataset's images.

They were made for ImageNet's 224×224 in RGB. What is fitted: the first convolution takes the images' channels; where the side is less
than ``SMALL``, its stride of 2 becomes 1 (a 7×7 kernel 3×3) and the max pooling behind it is left out, as He et al. 2016 (arXiv
1512.03385, section 4.2) have it for 32×32; VGG and AlexNet pool to 1×1 before their classifiers and not to 7×7 or 6×6, which small
images do not fill and whose gradient CUDA has no deterministic kernel for. What still cannot take the images is refused.
"""

from typing import Any

import torch
from torch import nn

from oleander.datasets.space import ImageSpace
from oleander.settings.declared import TORCHVISION

SMALL = 64
"""From this side on, in pixels, a model's stem is the one that it has for ImageNet."""
ANY_SIDE = ("densenet", "googlenet", "resnet", "resnext", "shufflenet", "squeezenet", "wide_resnet")
"""What the names of those begin with that were seen to take images of 16×16 and 28×28 as well as larger ones."""


def fitted(model: str, classes: int, image: ImageSpace) -> nn.Module:
    """The model of this known name, its weights drawn from PyTorch's global generator; whether it takes the images is not tried."""
    from torchvision import models  # here, since it takes a second to load, and only these models need it

    name = model.removeprefix(TORCHVISION)
    wants: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        wants = {"aux_logits": False, "init_weights": True}  # what it answers while it trains is then logits, too
    if name.startswith("vit_"):
        wants = {"image_size": image.side}
    made: nn.Module = models.get_model(name, weights=None, num_classes=classes, **wants)
    fit_stem(made, image)
    if isinstance(made, models.VGG | models.AlexNet):
        _fit_classifier(made)
    return made


def fit_stem(model: nn.Module, image: ImageSpace) -> None:
    """Let the first convolution take the images' channels, and small images keep their side in it."""
    layers = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d | nn.MaxPool2d)]
    name, first = next((name, layer) for name, layer in layers if isinstance(layer, nn.Conv2d))
    halves = first.stride == (2, 2) and image.side < SMALL
    kernel, padding, stride = first.kernel_size, first.padding, 1 if halves else first.stride
    if halves and kernel == (7, 7):
        kernel, padding = (3, 3), (1, 1)
    has_bias = first.bias is not None
    stem = nn.Conv2d(image.channels, first.out_channels, kernel, stride, padding, bias=has_bias)  # type: ignore[arg-type]
    with torch.no_grad():
        if kernel != first.kernel_size:
            nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
        else:  # a grey image is seen as one that is the same in red, green and blue
            stem.weight.copy_(first.weight if image.channels == 3 else first.weight.sum(dim=1, keepdim=True))
        if first.bias is not None and stem.bias is not None:
            stem.bias.copy_(first.bias)
    model.set_submodule(name, stem)
    for behind, layer in layers[1:2]:
        if halves and isinstance(layer, nn.MaxPool2d):
            model.set_submodule(behind, nn.Identity())


def _fit_classifier(model: nn.Module) -> None:
    """Average all that is left of the image before the classifier, whose first layer then takes a number a channel."""
    channels = [layer.out_channels for layer in model.modules() if isinstance(layer, nn.Conv2d)][-1]
    at, first = next((n, layer) for n, layer in model.named_modules() if isinstance(layer, nn.Linear))
    made = nn.Linear(channels, first.out_features)
    nn.init.normal_(made.weight, std=0.01)
    nn.init.zeros_(made.bias)
    model.set_submodule(at, made)
    model.avgpool = nn.AdaptiveAvgPool2d(1)
