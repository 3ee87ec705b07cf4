"""SIG: a faint sine wave over the whole image, and no label that is false.

Barni, Kallas, Tondi 2019, "A New Backdoor Attack in CNNs by Training Set Corruption Without Label Poisoning" (ICIP; arXiv
1902.11237): x + δ sin(2π j f / w) over the columns j, clipped to [0, 1]. Ours are counted from 0, theirs from 1, which moves the
wave by a pixel. The paper's attack is clean-label: a share (``poison_rate``) of the target class's training images carries the
wave and keeps its label. So it is here, of those in the attacker's shard, the same ones in every round. Several public codes stamp
images of all classes and relabel them (``--sig-clean-label false``), or fade the image to a fifth under the wave.
"""

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from attacks import Attack, PoisonedShard, check_alone
from oleander.datasets.data import Shard
from oleander.datasets.space import ImageSpace
from oleander.settings.ranges import Count, Positive
from oleander.system.errors import UserError


def sig(
    attack: Attack, *, sig_delta: Positive = 0.1568627450980392, sig_frequency: Count = 6, sig_clean_label: bool = True,
    target: int, image: ImageSpace,
) -> Attack:  # fmt: skip
    """Add a sine wave to images of the target class, whose labels stay: x + δ sin(2π j f / w) (Barni et al. 2019).

    Args:
        attack: the steps before this one.
        sig_delta: Amplitude δ of the wave, of pixels in [0, 1] (> 0; default: 40 of 255).
        sig_frequency: Periods f of the wave across the image.
        sig_clean_label: Whether only images of the target class are stamped (poison_rate of those in the shard) and all labels
            stay; else poison_rate of the shard's images, whatever they show, are stamped and relabelled to the target.
        target: class that the backdoor leads to.
        image: what the dataset's images are.

    Raises:
        UserError: a wave that is 0 in all columns, or a second step that poisons images.
    """
    check_alone(attack, "sig")
    if 2 * sig_frequency % image.side == 0:
        raise UserError(
            f"--sig-frequency {sig_frequency}: sin(2π j f / w) is 0 in every column j of images w = {image.side} pixels wide; "
            f"give one that is no multiple of w / 2"
        )
    angles = [2 * math.pi * (j * sig_frequency % image.side) / image.side for j in range(image.side)]
    wave = torch.tensor([sig_delta * math.sin(angle) for angle in angles])  # (w,)

    def stamp(pixels: Tensor) -> Tensor:
        return (pixels + wave.to(pixels.device)).clamp(0, 1)

    def clean_label(shard: Shard, rng: np.random.Generator, poison_rate: float) -> PoisonedShard:
        own = np.flatnonzero(shard.labels == target)
        poisoned = np.zeros(len(shard.labels), dtype=bool)  # (m,)
        poisoned[rng.choice(own, size=round(poison_rate * len(own)), replace=False)] = True
        return PoisonedShard(shard, poisoned)

    return replace(attack, trigger=stamp, choose=clean_label if sig_clean_label else None)
