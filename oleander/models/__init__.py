"""Models, one a file, found by name as other plug-ins are: ``--model NAME``, or ``--model ./my_model.py`` for one of your own.

A model is a function of its file's name that makes an untrained module for a number of classes and the images of a dataset::

    def resnet18light(classes: int, image: ImageSpace) -> nn.Module

The module takes normalised images (b, c, h, w) to logits (b, classes). For evaluation (``oleander.learning.evaluation``) the last
``nn.Linear`` among its modules is computed in float32, and a batch norm that stands directly behind a convolution among its module's
children is folded into it: so one that stands there takes what that convolution gives, and nothing else does. Buffers are batch
norm's alone. ``tests/models/test_contract.py`` checks all of this for every file here, ``oleander.learning.own_model`` for one
from outside.

``--model torchvision:NAME`` takes a model from torchvision (``_torchvision.py``); ``--norm group`` puts group norm in the place of
whatever batch norms a model has (``_norm.py``). What a model draws while it trains, for dropout say, may come from PyTorch's
global generator, which training sets for each client and round (``oleander.learning.training``).
"""

from torch import nn

from oleander.datasets.space import ImageSpace
from oleander.models._norm import group_normed
from oleander.models._torchvision import fitted
from oleander.settings import outside
from oleander.settings.declared import MODELS, TORCHVISION, built_in, knows_step
from oleander.settings.registry import blamed, find, known
from oleander.settings.steps import short
from oleander.system.errors import UserError
from oleander.system.streams import DRAWING, torch_seeded


def build(name: str, classes: int, image: ImageSpace, norm: str = "batch") -> nn.Module:
    """The model that ``--model`` names; its weights are drawn from PyTorch's global generator, to be overwritten.

    Args:
        name: value of ``--model``.
        classes: how many logits it gives.
        image: what it takes.
        norm: value of ``--norm``.

    Raises:
        UserError: an unknown name, a model without batch norm where that is to be replaced, or what goes wrong in a file of the
            user's, by its line.
    """
    with DRAWING:
        made = _made(name, classes, image)
    if not isinstance(made, nn.Module):
        raise UserError(f"--model {name}: {short(name)} made a {type(made).__name__}, not an nn.Module")
    if norm == "group":
        made, replaced = group_normed(made)
        if not replaced:
            raise UserError(f"--norm group: --model {name} has no batch norm that it could stand for; known: batch")
    return made


def _made(name: str, classes: int, image: ImageSpace) -> object:
    if name.startswith(TORCHVISION):
        return fitted(name, classes, image)
    if name in built_in(MODELS):
        return find(MODELS)[name].function(classes, image)
    if knows_step(MODELS, name):
        with blamed(MODELS, name):
            return known(MODELS)[short(name)].function(classes, image)
    raise UserError(f"--model {name}: unknown; known: {', '.join(built_in(MODELS))}, {TORCHVISION}NAME")


def identity(name: str, norm: str = "batch") -> str:
    """What tells a model from any other: its name, of one from outside also its file's SHA-256, wherever that lies, and its norm."""
    return "@".join([short(name), *outside.hashes(MODELS, name).values(), *(["group norm"] if norm == "group" else [])])


def fresh_model(name: str, classes: int, image: ImageSpace, seed: int, norm: str = "batch") -> nn.Module:
    """The model with its own initialisation drawn from ``seed``, leaving the global generator alone."""
    with torch_seeded(seed):
        return build(name, classes, image, norm)
