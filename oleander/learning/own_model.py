"""A model from outside the repository is tried out before anything starts: what breaks the contract of models is refused by name."""

import torch
from torch import nn

from oleander.datasets.space import ImageSpace
from oleander.learning.evaluation import classifier
from oleander.learning.parameters import COUNTER, VARIANCE
from oleander.models import fresh_model
from oleander.settings.declared import MODELS
from oleander.settings.registry import blamed
from oleander.system.errors import UserError

TRIED = 4
"""Images."""


def check_own(name: str, classes: int, image: ImageSpace) -> None:
    """Refuse a model that does not keep the contract of ``oleander.models``.

    Raises:
        UserError: names the model and what it breaks, or the line of its file that failed.
    """
    asked = f"--model {name}"
    model = fresh_model(name, classes, image, 0)
    if problem := _strange_tensors(model):
        raise UserError(f"{asked}: {problem}")
    with blamed(MODELS, name), torch.random.fork_rng(devices=[]), torch.no_grad():
        pixels = torch.rand(TRIED, *image.shape, generator=torch.Generator().manual_seed(0))
        logits = model.train()(image.normalise(pixels))  # statistics move, so that a wrong fold shows
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
