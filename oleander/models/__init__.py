"""Models, one a file, found by name as other plug-ins are: ``--model NAME``. Nothing here knows of clients or files.

A model is a function of its file's name that makes an untrained module for a number of classes and the images of a dataset::

    def resnet18light(classes: int, image: ImageSpace) -> nn.Module

The module takes normalised images (b, c, h, w) to logits (b, classes). For evaluation (``oleander.learning.evaluation``) the last
``nn.Linear`` among its modules is computed in float32, and a batch norm that stands directly behind a convolution among its module's
children is folded into it: so one that stands there takes what that convolution gives, and nothing else does. Buffers are batch
norm's alone. ``tests/models/test_models.py`` checks all of this for every file.
"""

import torch
from torch import nn

from oleander.datasets.space import ImageSpace
from oleander.settings.declared import MODELS
from oleander.settings.registry import find


def build(name: str, classes: int, image: ImageSpace) -> nn.Module:
    """The model of this name; its weights are drawn from PyTorch's global generator, to be overwritten."""
    model: nn.Module = find(MODELS)[name].function(classes, image)
    return model


def fresh_model(name: str, classes: int, image: ImageSpace, seed: int) -> nn.Module:
    """The model with its own initialisation drawn from ``seed``, leaving the global generator alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(name, classes, image)
