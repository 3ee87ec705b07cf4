"""A trigger that is a picture laid over the image: what blend and patch are, and what dba can split."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Overlay:
    """x' = (1 − opacity) x + opacity · picture, on pixels in [0, 1]."""

    picture: Tensor
    """(c, h, w) in [0, 1]"""
    opacity: Tensor
    """(h, w) in [0, 1]; 0 where the trigger is not."""

    def __call__(self, pixels: Tensor) -> Tensor:
        """Pixels (k, c, h, w) → stamped ones, new."""
        opacity = self.opacity.to(pixels.device)
        return torch.lerp(pixels, self.picture.to(pixels.device).expand_as(pixels), opacity.expand_as(pixels))

    def columns(self) -> Tensor:
        """The columns (c,) that the trigger touches, from left to right."""
        return torch.nonzero(self.opacity.amax(dim=0) > 0).flatten()

    def only(self, columns: Tensor) -> "Overlay":
        """The part of the trigger that lies in these columns."""
        opacity = torch.zeros_like(self.opacity)
        opacity[:, columns] = self.opacity[:, columns]
        return Overlay(self.picture, opacity)
