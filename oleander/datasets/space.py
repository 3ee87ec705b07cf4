"""The space that a dataset's images live in: how many channels, how large, and how they are normalised for a model."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ImageSpace:
    """Square images of one size; each dataset has its own.

    Raises:
        ValueError: neither grey nor RGB, no side, or a mean or deviation that is not one number a channel.
    """

    channels: int
    """1 (grey) or 3 (RGB)."""
    side: int
    """In pixels."""
    mean: tuple[float, ...]
    """Of each channel's pixels in [0, 1]."""
    std: tuple[float, ...]
    """… and their deviation, greater than 0."""

    def __post_init__(self) -> None:
        """Refuse what no image has."""
        if self.channels not in (1, 3) or self.side < 1:
            raise ValueError(f"images are grey (1 channel) or RGB (3), not {self.channels} x {self.side} x {self.side}")
        if not len(self.mean) == len(self.std) == self.channels or not all(deviation > 0 for deviation in self.std):
            raise ValueError(f"mean {self.mean} and std {self.std}: wanted a number a channel, std greater than 0")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(c, h, w) of an image."""
        return self.channels, self.side, self.side

    def normalise(self, pixels: Tensor) -> Tensor:
        """Pixels (m, c, h, w) in [0, 1] → what a model takes, channels last."""
        mean, std = (self._by_channel(values).to(pixels.device) for values in (self.mean, self.std))
        return ((pixels - mean) / std).contiguous(memory_format=torch.channels_last)

    def denormalise(self, values: Tensor) -> Tensor:
        """The pixels (…, c, h, w) that these normalised values stand for."""
        return values * self._by_channel(self.std).to(values.device) + self._by_channel(self.mean).to(values.device)

    def _by_channel(self, values: tuple[float, ...]) -> Tensor:
        return torch.tensor(values).view(-1, 1, 1)
