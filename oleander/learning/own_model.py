"""A model is tried out before anything starts: what breaks the contract of models, or cannot take the images, is refused by name."""

import torch
from torch import nn

from oleander.datasets.space import ImageSpace
from oleander.learning.evaluation import classifier
from oleander.learning.parameters import COUNTER, VARIANCE
from oleander.models import fresh_model
from oleander.models._torchvision import ANY_SIDE
from oleander.settings.declared import MODELS, TORCHVISION, built_in
from oleander.settings.registry import blamed
from oleander.system.errors import UserError
from oleander.system.foreign import reason

TRIED = 4
"""Images."""
ONE_VALUE = "Expected more than 1 value per channel"
"""Begins what PyTorch's batch norm says of a batch that leaves it none to compare with."""


def check_own(name: str, classes: int, image: ImageSpace, norm: str = "batch") -> None:
    """Refuse a model from outside the repository that does not keep the contract of ``oleander.models``.

    Raises:
        UserError: names the model and what it breaks, or the line of its file that failed.
    """
    asked = f"--model {name}"
    model = _made(name, classes, image, norm)
    if problem := _strange_tensors(model):
        raise UserError(f"{asked}: {problem}{_others(name)}")
    pixels = torch.rand(TRIED, *image.shape, generator=torch.Generator().manual_seed(0))
    with blamed(MODELS, name), torch.random.fork_rng(devices=[]), torch.no_grad():
        logits = _trained_on(model, name, image, pixels)  # statistics move, so that a wrong fold shows
        if not isinstance(logits, torch.Tensor) or tuple(logits.shape) != (TRIED, classes):
            got = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
            raise UserError(f"{asked}: {TRIED} images {image.shape} gave {got}, not the logits {(TRIED, classes)}")
        plain = model.eval()(image.normalise(pixels))
        scored = classifier(model, "fp32", image)(pixels)
    if not torch.allclose(plain, scored, rtol=1e-3, atol=1e-3):
        raise UserError(
            f"{asked}: scored, it answers otherwise than trained (by {(plain - scored).abs().max():.2g}): a batch norm that "
            "stands directly behind a convolution among its module's children must take what that gives, and nothing else"
        )


def check_smallest_batch(name: str, classes: int, image: ImageSpace, norm: str, images: int, asked: str) -> None:
    """Refuse a model that cannot train on a batch of one image where the run has one.

    Batch norm has nothing to normalise where a channel is left one pixel of one image, as of small images at a model's end.

    Args:
        name: the model.
        classes: how many logits it gives.
        image: what it takes.
        norm: batch or group.
        images: in the smallest batch of the run.
        asked: the settings that make it so, as they were given.

    Raises:
        UserError: names the settings.
    """
    if images > 1:
        return
    pixels = torch.rand(images, *image.shape, generator=torch.Generator().manual_seed(0))
    with blamed(MODELS, name), torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            _made(name, classes, image, norm).train()(image.normalise(pixels))
        except ValueError as error:
            if ONE_VALUE not in str(error):
                raise
            raise UserError(
                f"{asked}: a batch is of one image, of which batch norm in --model {name} is left one pixel of {image.shape} to "
                f"normalise; known: other numbers, --norm group, a model that keeps more pixels"
            ) from None


def _made(name: str, classes: int, image: ImageSpace, norm: str) -> nn.Module:
    if not name.startswith(TORCHVISION):
        return fresh_model(name, classes, image, 0, norm)
    try:
        return fresh_model(name, classes, image, 0, norm)
    except (
        AssertionError,
        ValueError,
        RuntimeError,
    ) as error:  # what torchvision's models say of images that they cannot take
        raise _unfitted(name, image, error) from None


def _trained_on(model: nn.Module, name: str, image: ImageSpace, pixels: torch.Tensor) -> object:
    """What the model says of these images while it trains."""
    try:
        return model.train()(image.normalise(pixels))
    except (AssertionError, ValueError, RuntimeError) as error:
        if not name.startswith(TORCHVISION):
            raise
        raise _unfitted(name, image, error) from None


def _unfitted(name: str, image: ImageSpace, error: Exception) -> UserError:
    return UserError(f"--model {name}: cannot be fitted to images {image.shape} ({reason(error)}){_others(name)}")


def _others(name: str) -> str:
    """Models that take any images, in place of one of torchvision's that does not."""
    if not name.startswith(TORCHVISION):
        return ""
    theirs = ", ".join(f"{family}…" for family in ANY_SIDE)
    return f"; known to fit: {', '.join(built_in(MODELS))}, {TORCHVISION} {theirs}"


def _strange_tensors(model: nn.Module) -> str:
    """What of its tensors cannot be sent as weights and batch norm's statistics; nothing if all can."""
    weights = dict(model.named_parameters())
    if not weights:
        return "it has no weights"
    for tensor, values in model.state_dict().items():
        if tensor.endswith(COUNTER):
            continue
        if tensor not in weights and not tensor.endswith((VARIANCE, "running_mean")):
            return f"{tensor} is a buffer that is no batch norm's"
        if values.dtype != torch.float32:
            return f"{tensor} is {values.dtype}, not torch.float32"
    return ""
