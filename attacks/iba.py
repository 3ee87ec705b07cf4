"""IBA: a generator makes each image's own faint trigger, and is trained against the global model each round.

Nguyen, Nguyen, Tran, Doan, Wong 2023, "IBA: Towards Irreversible Backdoor Attacks in Federated Learning" (NeurIPS; OpenReview
cemEOP8YoC), from memory of
the paper and from public codes of it: T(x) = clamp(x + ε g(x)), g a network whose output is in [-1, 1], trained with Adam so
that the global model answers T(x) with the target. The attackers share g: the round's first one trains it for all on its own
images and uses it at once, the others know it from the next round on, and the round's ASR is of the new g. Theirs is an
autoencoder or a U-Net; ours three 3×3 convolutions, so that it fits any image and is small enough to be sent. Theirs trains for
epochs until it fools the model well enough; ours takes a fixed number of steps, each on a batch. The paper's second part,
poisoning weights that honest clients move little, is ``iba+neurotoxin`` here.
"""

import copy
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attacks import Attack, check_alone
from oleander.datasets.data import Shard, to_pixels
from oleander.datasets.space import ImageSpace
from oleander.learning.devices import autocast
from oleander.learning.updates import Memory
from oleander.settings.ranges import Count, Positive, Rate
from oleander.system.streams import torch_generator

WIDTH = 16
"""Channels between the generator's convolutions."""
DECAYS, SMALL = (0.9, 0.999), 1e-8
"""Of Adam."""


def iba(
    attack: Attack, *, iba_epsilon: Rate = 0.06, iba_steps: Count = 100, iba_lr: Positive = 0.01, target: int, batch_size: int,
    precision: str, image: ImageSpace,
) -> Attack:  # fmt: skip
    """Train a generator of faint triggers, one for each image, against the global model each round (Nguyen et al. 2023).

    Args:
        attack: the steps before this one.
        iba_epsilon: How far ε a pixel in [0, 1] may move (0 to 1).
        iba_steps: Steps by which the generator is trained each round, each on the next batch of the first attacker's shard.
        iba_lr: Learning rate of the generator's Adam (> 0).
        target: class that the backdoor leads to.
        batch_size: images a step.
        precision: what the judging model's convolutions are computed in.
        image: what the dataset's images are.

    Raises:
        UserError: a second step that poisons images.
    """
    check_alone(attack, "iba")
    shapes = [(WIDTH, image.channels, 3, 3), (WIDTH, WIDTH, 3, 3), (image.channels, WIDTH, 3, 3)]

    def shaped(memory: Memory) -> "Generated":
        return Generated(torch.from_numpy(np.array(memory["generator"])), shapes, iba_epsilon)

    def adapt(memory: Memory, model: nn.Module, shard: Shard) -> Memory:
        device = next(model.parameters()).device
        weights = torch.from_numpy(np.array(memory["generator"])).to(device)
        judge = copy.deepcopy(model).eval().requires_grad_(False)
        images = to_pixels(shard.images).to(device)
        first, second = torch.zeros_like(weights), torch.zeros_like(weights)
        for step, pixels in zip(range(1, iba_steps + 1), itertools.cycle(images.split(batch_size)), strict=False):
            weights.requires_grad_()
            stamped = image.normalise(Generated(weights, shapes, iba_epsilon)(pixels))
            with autocast(precision, device):
                loss = F.cross_entropy(judge(stamped), torch.full((len(pixels),), target, device=device))
            (gradient,) = torch.autograd.grad(loss, weights)
            first = DECAYS[0] * first + (1 - DECAYS[0]) * gradient
            second = DECAYS[1] * second + (1 - DECAYS[1]) * gradient.square()
            size = (second / (1 - DECAYS[1] ** step)).sqrt() + SMALL
            weights = weights.detach() - iba_lr * first / (1 - DECAYS[0] ** step) / size
        return {"generator": weights.cpu().numpy()}

    memory = {"generator": _untrained(shapes).numpy()}
    return replace(attack, trigger=shaped(memory), memory=memory, shaped=shaped, adapt=adapt)


class Generated:
    """x' = clamp(x + ε g(x)): g is 3×3 convolutions with ReLUs between them and tanh behind, of these weights and biases."""

    def __init__(self, weights: Tensor, shapes: Sequence[tuple[int, ...]], epsilon: float) -> None:
        self.weights, self.shapes, self.epsilon = weights, shapes, epsilon

    def __call__(self, pixels: Tensor) -> Tensor:
        """Pixels (k, c, h, w) → stamped ones, new."""
        out = pixels
        layers = list(self._layers(self.weights.to(pixels.device)))
        for number, (weight, bias) in enumerate(layers):
            out = F.conv2d(out, weight, bias, padding=1)
            out = out.relu() if number < len(layers) - 1 else out.tanh()
        return (pixels + self.epsilon * out).clamp(0, 1)

    def _layers(self, flat: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        for shape in self.shapes:
            count = int(np.prod(shape))
            yield flat[:count].reshape(shape), flat[count : count + shape[0]]
            flat = flat[count + shape[0] :]


def _untrained(shapes: Sequence[tuple[int, ...]]) -> Tensor:
    """(P,) weights as He et al. draw them, the same everywhere, and biases of 0."""
    drawn, parts = torch_generator(0, "iba"), []
    for shape in shapes:
        fan = int(np.prod(shape[1:]))
        parts += [torch.randn(shape, generator=drawn).flatten() * (2 / fan) ** 0.5, torch.zeros(shape[0])]
    return torch.cat(parts)
