"""A3FL: a trigger optimised each round against the global model and against one that has unlearned it.

Zhang, Jia, Chen, Lin, Wu 2023, "A3FL: Adversarially Adaptive Backdoor Attacks to Federated Learning" (NeurIPS; OpenReview
S6ajVZy6FA). As in the authors' code the trigger is a square two pixels from the top left corner, grey at first, moved by the sign
of its gradient. The round's first attacker does it on its own images, for all: it trains on the new one at once, the others know it
from the next round on, and the round's ASR is the new one's. What differs from their code: pixels are clamped to [0, 1] (theirs,
normalised, to ±2); a step is a batch (theirs are 200 passes); G′ is there from the first step, and unlearns for one pass of their
SGD (theirs for five, and each pass anew); the similarity is the cosine of both models' weights, as we remember the paper (theirs:
of gradients of the convolutions, which for G are those of the trigger's own loss); its weight λ is 1 (theirs 0.01).
"""

import copy
import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attacks import Attack, Stamp, check_alone
from attacks._overlay import Overlay
from attacks._tensors import flat
from oleander.datasets.data import Shard, to_pixels
from oleander.datasets.space import ImageSpace
from oleander.learning.devices import autocast
from oleander.learning.updates import Memory
from oleander.settings.ranges import Count, NotNegative, Positive
from oleander.system.errors import UserError

CORNER = 2
UNLEARN_LR, UNLEARN_MOMENTUM = 0.01, 0.9
Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""A model, pixels and labels → cross-entropy."""


def a3fl(
    attack: Attack, *, a3fl_size: Count = 5, a3fl_steps: Count = 40, a3fl_lr: Positive = 0.01,
    a3fl_weight: NotNegative = 1.0, a3fl_renew: Count = 10, target: int, batch_size: int, precision: str, image: ImageSpace,
) -> Attack:  # fmt: skip
    """Optimise a small trigger each round, also against a model that unlearns it (Zhang et al. 2023).

    Args:
        attack: the steps before this one.
        a3fl_size: Side of the trigger's square, in pixels, at most the image's.
        a3fl_steps: Steps by which the trigger is optimised each round, each on the next batch of the first attacker's shard.
        a3fl_lr: How far each of its pixels in [0, 1] moves in a step (> 0).
        a3fl_weight: Weight λ of the loss on the model that has unlearned the trigger (>= 0; 0: there is none).
        a3fl_renew: Steps after which that model is made anew from the global one.
        target: class that the backdoor leads to.
        batch_size: images a step.
        precision: what convolutions are computed in.
        image: what the dataset's images are.

    Raises:
        UserError: a square larger than the image, or a second step that poisons images.
    """
    check_alone(attack, "a3fl")
    if a3fl_size > image.side:
        raise UserError(f"--a3fl-size {a3fl_size}: larger than the image, which is {image.side} pixels wide")
    before = min(CORNER, image.side - a3fl_size)
    pad = (before, image.side - a3fl_size - before) * 2  # left, right, top, bottom

    def laid(square: Tensor) -> Overlay:
        return Overlay(F.pad(square, pad), F.pad(torch.ones(a3fl_size, a3fl_size), pad))

    def shaped(memory: Memory) -> Overlay:
        return laid(torch.from_numpy(np.array(memory["trigger"])))

    def loss(model: nn.Module, pixels: Tensor, labels: Tensor) -> Tensor:
        with autocast(precision, pixels.device):
            return F.cross_entropy(model(image.normalise(pixels)), labels)

    def adapt(memory: Memory, model: nn.Module, shard: Shard) -> Memory:
        square = torch.from_numpy(np.array(memory["trigger"])).to(next(model.parameters()).device)
        images, labels = to_pixels(shard.images).to(square.device), torch.from_numpy(shard.labels).to(square.device)
        batches = list(zip(images.split(batch_size), labels.split(batch_size), strict=True))
        judge = copy.deepcopy(model).eval().requires_grad_(False)
        for step, (pixels, truth) in zip(range(a3fl_steps), itertools.cycle(batches), strict=False):
            if a3fl_weight and step % a3fl_renew == 0:
                other, alike = _unlearned(model, laid(square), batches, loss)
            square.requires_grad_()
            stamped, wanted = laid(square)(pixels), torch.full_like(truth, target)
            total = loss(judge, stamped, wanted)
            if a3fl_weight:
                total = total + a3fl_weight * alike * loss(other, stamped, wanted)
            (gradient,) = torch.autograd.grad(total, square)
            square = (square.detach() - a3fl_lr * gradient.sign()).clamp(0, 1)
        return {"trigger": square.cpu().numpy()}

    memory = {"trigger": np.full((image.channels, a3fl_size, a3fl_size), 0.5, np.float32)}
    return replace(attack, trigger=shaped(memory), memory=memory, shaped=shaped, adapt=adapt)


def _unlearned(
    model: nn.Module, stamp: Stamp, batches: Sequence[tuple[Tensor, Tensor]], loss: Loss
) -> tuple[nn.Module, Tensor]:
    """A copy that has learned the true classes of stamped images, and how much its weights are like the model's."""
    other = copy.deepcopy(model).train()
    weights = list(other.parameters())
    momenta = [torch.zeros_like(weight) for weight in weights]
    for pixels, labels in batches:
        gradients = torch.autograd.grad(loss(other, stamp(pixels), labels), weights)
        with torch.no_grad():
            for weight, momentum, gradient in zip(weights, momenta, gradients, strict=True):
                weight.sub_(momentum.mul_(UNLEARN_MOMENTUM).add_(gradient), alpha=UNLEARN_LR)
    other = other.eval().requires_grad_(False)
    return other, F.cosine_similarity(flat(weights), flat(list(model.parameters())).detach(), dim=0)
