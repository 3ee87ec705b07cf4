"""WaNet: the image is bent a little, smoothly and always in the same way; there is no pattern on it.

Nguyen, Tran 2021, "WaNet - Imperceptible Warping-based Backdoor Attack" (ICLR; arXiv 2102.10369), and the authors' code: k × k
displacements, uniform in ±1 and divided by their mean absolute value, are made as large as the image (bicubic), and pixels are
taken from clamp(identity + s · displacement / side, ±1), in units of half an image, bilinear. Noise mode: of the attacker's
other images twice as many as carry the warp are bent by it and by a further one, uniform in ±1 / side for each pixel by itself,
and keep their label, so that a model learns this warp and not warping. The further ones are drawn anew each time that images
are augmented, and in every round. Where fewer images are left all are taken: with the usual ``--poison-rate 0.5``
as many as carry the warp. The warp is the same on every machine by ``--wanet-seed``. Several public codes leave noise mode out
(``--wanet-noise 0``).
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from attacks import Attack, PoisonedShard, check_alone, poison
from oleander.datasets.data import Shard
from oleander.datasets.space import ImageSpace
from oleander.settings.ranges import Count, CountOrZero, NotNegative, Positive
from oleander.system.errors import UserError
from oleander.system.streams import generator

USUAL_NOISE = 2.0
"""Images in noise mode for one that carries the warp."""
Disturb = Callable[[Tensor, np.random.Generator], Tensor]


def wanet(
    attack: Attack, *, wanet_grid: Count = 4, wanet_strength: Positive = 0.5, wanet_noise: NotNegative | None = None,
    wanet_seed: CountOrZero = 0, poison_rate: float, image: ImageSpace,
) -> Attack:  # fmt: skip
    """Warp images smoothly, always in the same way; in noise mode warp others at random (Nguyen and Tran 2021).

    Args:
        attack: the steps before this one.
        wanet_grid: Displacements k a side that the warp is made of (2 or more, at most the image's pixels).
        wanet_strength: How far s pixels move (> 0): the mean displacement is some s/2 pixels.
        wanet_noise: Images in noise mode for one that carries the warp (default: 2, or all others where fewer are left; 0: none).
        wanet_seed: Draws the warp.
        poison_rate: share of the images that carry the warp.
        image: what the dataset's images are.

    Raises:
        UserError: a grid of one point or finer than the image, more images in noise mode than there are, or a second step that
            poisons images.
    """
    check_alone(attack, "wanet")
    if not 2 <= wanet_grid <= image.side:
        raise UserError(
            f"--wanet-grid {wanet_grid}: wanted 2 to {image.side}, the pixels a side of the dataset's images"
        )
    if wanet_noise is not None and poison_rate * (1 + wanet_noise) > 1 + 1e-9:
        raise UserError(
            f"--wanet-noise {wanet_noise:g}: with --poison-rate {poison_rate:g} it takes {poison_rate * (1 + wanet_noise):g} times "
            f"the images; wanted at most {1 / poison_rate - 1:g}"
        )
    grid = warp(wanet_grid, wanet_strength, image.side, wanet_seed)

    def stamp(pixels: Tensor) -> Tensor:
        return _bent(pixels, grid.expand(len(pixels), -1, -1, -1))

    def choose(shard: Shard, rng: np.random.Generator, poison_rate: float, target: int) -> PoisonedShard:
        chosen = poison(shard, poison_rate, target, rng)
        rest = np.flatnonzero(~chosen.poisoned)
        wanted = round((USUAL_NOISE if wanet_noise is None else wanet_noise) * int(chosen.poisoned.sum()))
        noised = np.sort(rng.choice(rest, size=min(wanted, len(rest)), replace=False))
        return replace(chosen, disturb=_noise_mode(grid, noised) if len(noised) else None)

    return replace(attack, trigger=stamp, choose=choose)


def warp(points: int, strength: float, side: int, seed: int) -> Tensor:
    """Where each pixel is taken from: (1, h, w, 2), x and y in [-1, 1]."""
    drawn = generator(seed, "wanet").uniform(-1, 1, (1, 2, points, points))
    coarse = torch.from_numpy(drawn / np.abs(drawn).mean())
    smooth = F.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
    line = torch.linspace(-1, 1, side, dtype=torch.float64)
    y, x = torch.meshgrid(line, line, indexing="ij")
    return (torch.stack((x, y), dim=-1) + strength * smooth / side).clamp(-1, 1).float()


def _noise_mode(grid: Tensor, rows: np.ndarray) -> Disturb:
    """Bends the images of these rows by the warp and a further one of each one's own."""

    def disturb(pixels: Tensor, rng: np.random.Generator) -> Tensor:
        side = pixels.shape[-1]
        further = torch.from_numpy(rng.uniform(-1, 1, (len(rows), side, side, 2))).float() / side
        bent, places = pixels.clone(), torch.from_numpy(rows).to(pixels.device)
        bent[places] = _bent(pixels[places], (grid + further).clamp(-1, 1))
        return bent

    return disturb


def _bent(pixels: Tensor, grid: Tensor) -> Tensor:
    """Pixels (k, c, h, w) taken from grid (k, h, w, 2)."""
    return F.grid_sample(pixels, grid.to(pixels.device), mode="bilinear", align_corners=True).clamp(0, 1)
