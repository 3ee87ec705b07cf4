"""All trained weights of a model as one vector (d,), and back."""

from collections.abc import Sequence

import torch
from torch import Tensor

from oleander.learning.training import Tensors


def flat(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors in the model's order → (d,), on their device; gradients flow through it."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def shaped(vector: Tensor, like: Sequence[Tensor]) -> Tensors:
    """(d,) → tensors of these shapes, in this order."""
    parts = vector.split([tensor.numel() for tensor in like])
    return [part.reshape(tensor.shape) for part, tensor in zip(parts, like, strict=True)]
