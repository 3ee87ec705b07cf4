"""Neurotoxin: leave the weights alone that the global model moves most, so that honest clients do not overwrite the backdoor.

Zhang, Panda, Song, Yang, Mahoney, Mittal, Gonzalez, Ramchandran 2022, "Neurotoxin: Durable Backdoors in Federated Learning"
(ICML; arXiv 2206.10341). The last global update is known as the change between the last two global models that any attacker was
sent, so it spans the rounds since; where there was none before, nothing is masked. The share is of all weights together, as in
the authors' runs (their code can take it layer by layer too, and the gradient of clean images in place of the update). They mask
gradients; ours puts the weights back after each step, since momentum and weight decay move them even so. Of equal changes the
earlier weight's counts as the larger; what did not move at all is never masked. Statistics are left as they come.
"""

from dataclasses import replace

import torch

from attacks import Attack
from attacks._tensors import flat, shaped
from oleander.learning.training import Hooks, Tensors
from oleander.settings.ranges import Rate


def neurotoxin(attack: Attack, *, neurotoxin_top: Rate = 0.05) -> Attack:
    """Do not train the weights that the last global update moved most (Zhang et al. 2022).

    Args:
        attack: the steps before this one.
        neurotoxin_top: Share (0 to 1) of all weights, those with the largest change, that stay as they are.
    """

    def masked(start: Tensors, previous: Tensors | None) -> Hooks:
        if previous is None:
            return Hooks()
        change = (flat(start) - flat(previous)).abs()  # (d,)
        top = torch.argsort(change, descending=True, stable=True)[: round(neurotoxin_top * len(change))]
        left = torch.zeros_like(change, dtype=torch.bool)
        left[top] = change[top] > 0
        leave = shaped(left, start)

        def put_back(weights: Tensors) -> Tensors:
            return [torch.where(stay, s, w) for stay, s, w in zip(leave, start, weights, strict=True)]

        return Hooks(weights=put_back)

    return replace(attack, training=(*attack.training, masked))
