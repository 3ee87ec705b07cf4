"""Chameleon: before it trains, the attacker draws poisoned images' features towards the target class's, and keeps the encoder so.

Dai, Li 2023, "Chameleon: Adapting to Peer Images for Planting Durable Backdoors in Federated Learning" (ICML; arXiv
2304.12961), as public code of it has it, the rest from memory: a backdoor lasts as long as honest images of the target's class
help it and those of the images' own class do not work against it. So the encoder, all but the model's last linear layer, is
first trained with a supervised contrastive loss (temperature 0.07) on the poisoned shard with its given labels, in which images
that are labelled as the target count twice; then it is frozen, and the usual training moves the last layer alone. The first
training has ten epochs of SGD of its own (learning rate 0.015, times 0.3 after two, four, six and eight epochs; momentum 0.9,
weight decay 5e-4) in the batches of the usual size. Running statistics go on in both. It has no trigger of its own:
``patch+chameleon``. One public code means to freeze the encoder and does not.
"""

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.sgd import sgd

from attacks import Attack
from oleander.learning.devices import autocast
from oleander.learning.training import Hooks, Tensors
from oleander.settings.ranges import Count, Positive
from oleander.system.errors import UserError

TEMPERATURE, MOMENTUM, WEIGHT_DECAY = 0.07, 0.9, 5e-4
MILESTONES, FALL = (2, 4, 6, 8), 0.3


def chameleon(
    attack: Attack, *, chameleon_epochs: Count = 10, chameleon_lr: Positive = 0.015, chameleon_weight: Positive = 2.0,
    target: int, batch_size: int, precision: str,
) -> Attack:  # fmt: skip
    """Train the encoder first, until poisoned images have the target's features, and freeze it (patch+chameleon; Dai and Li 2023).

    Args:
        attack: the steps before this one.
        chameleon_epochs: Passes over the shard of the first, contrastive training.
        chameleon_lr: Its learning rate (> 0).
        chameleon_weight: How much images labelled as the target count in its loss, where others count 1 (> 0).
        target: class that the backdoor leads to.
        batch_size: images a step.
        precision: what convolutions are computed in.
    """

    def contrast(rng: np.random.Generator) -> Hooks:
        frozen: list[Tensor | None] = []

        def before(model: nn.Module, inputs: Tensor, labels: Tensor) -> None:
            encoder, head = _split(model)
            momenta: list[Tensor | None] = [None] * len(encoder)
            for epoch in range(chameleon_epochs):
                lr = chameleon_lr * FALL ** sum(epoch >= milestone for milestone in MILESTONES)
                for rows in torch.from_numpy(rng.permutation(len(labels))).to(labels.device).split(batch_size):
                    with autocast(precision, labels.device):
                        features = _features(model, head, inputs[rows])
                    loss = contrastive(features.float(), labels[rows], target, chameleon_weight)
                    gradients = list(torch.autograd.grad(loss, encoder, allow_unused=True, materialize_grads=True))
                    with torch.no_grad():
                        sgd(
                            encoder, gradients, momenta, lr=lr, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY,
                            dampening=0.0, nesterov=False, maximize=False,
                        )  # fmt: skip
            own = {id(weight) for weight in encoder}
            frozen[:] = [w.detach().clone() if id(w) in own else None for w in model.parameters()]

        def keep(weights: Tensors) -> Tensors:
            return [
                w if kept is None else kept for w, kept in zip(weights, frozen or [None] * len(weights), strict=True)
            ]

        return Hooks(before=before, weights=keep)

    return replace(attack, training=(*attack.training, contrast))


def contrastive(features: Tensor, labels: Tensor, target: int, weight: float) -> Tensor:
    """Supervised contrastive loss (Khosla et al. 2020) of features (b, k), rows of the target's label times ``weight``: a number.

    A row without another of its label counts 0.
    """
    unit = F.normalize(features, dim=1)
    logits = unit @ unit.T / TEMPERATURE  # (b, b)
    others = ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    log_shares = logits - logits.masked_fill(~others, -torch.inf).logsumexp(1, keepdim=True)
    alike = others & (labels[:, None] == labels)
    means = log_shares.masked_fill(~alike, 0).sum(1) / alike.sum(1).clamp(min=1)  # (b,)
    return -(means * torch.where(labels == target, weight, 1.0)).mean()


def _split(model: nn.Module) -> tuple[Tensors, nn.Linear]:
    """The weights of the encoder, and the last linear layer.

    Raises:
        UserError: the model has none.
    """
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise UserError("--attack chameleon: the model has no linear layer, before which its features could be taken")
    own = {id(weight) for weight in linear[-1].parameters()}
    return [weight for weight in model.parameters() if id(weight) not in own], linear[-1]


def _features(model: nn.Module, head: nn.Linear, inputs: Tensor) -> Tensor:
    """(b, k) what the last linear layer is given."""
    seen: list[Tensor] = []
    handle = head.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    try:
        model(inputs)
    finally:
        handle.remove()
    return seen[-1].flatten(1)
