"""PGD: the local model never leaves a ball around the global one, so that no norm gives the attacker away.

Sun, Kairouz, Suresh, McMahan 2019, "Can You Really Backdoor Federated Learning?" (arXiv 1911.07963), and Wang et al. 2020, "Attack of
the Tails" (NeurIPS; arXiv 2007.05084): projected gradient descent. The norm is over all trained weights together; statistics are
left as they come. Public code projects after every tenth step of an epoch and its last; ours after every ``pgd_every`` steps of
the whole training and at its end. There the update is shortened until the norm that the server will see, of float32 numbers, is
no larger than ε. A step after this one (``pgd+scaling``) may lengthen it again; ``scaling+pgd`` shortens what was scaled.
"""

import itertools
from dataclasses import replace

import numpy as np
import torch
from torch.nn.utils import get_total_norm

from attacks import Attack
from attacks._tensors import flat
from oleander.learning.training import Hooks, Tensors
from oleander.learning.updates import Update
from oleander.settings.ranges import Count, Positive

MARGIN = 1 - 2**-30
"""So that a norm that somebody sums in another order is not above the bound."""


def pgd(attack: Attack, *, pgd_radius: Positive = 2.0, pgd_every: Count = 1) -> Attack:
    """Keep the local model in a ball around the global one: w ← G + ε (w - G) / ‖w - G‖ (Sun et al. 2019).

    Args:
        attack: the steps before this one.
        pgd_radius: Radius ε of the ball, an L2 norm over all weights (> 0).
        pgd_every: Steps of SGD from one projection to the next; there is one at the end too.
    """

    def near(start: Tensors) -> Hooks:
        steps = itertools.count(1)

        def project(weights: Tensors) -> Tensors:
            if next(steps) % pgd_every:
                return weights
            away = [w - s for w, s in zip(weights, start, strict=True)]
            norm = get_total_norm(away)
            return [
                torch.where(norm > pgd_radius, s + a * (pgd_radius / norm), w)
                for w, s, a in zip(weights, start, away, strict=True)
            ]

        return Hooks(weights=project)

    def shorten(update: Update, start: Tensors) -> Update:
        origin, honest = flat(start).cpu().numpy(), update.delta.astype(np.float64)
        delta, shorter = update.delta, 2.0**-23
        while np.linalg.norm(((origin + delta) - origin).astype(np.float64)) > pgd_radius * MARGIN:
            delta = (honest * (pgd_radius / np.linalg.norm(honest) * (1 - shorter))).astype(np.float32)
            shorter *= 2  # at 1 nothing is left, so it ends even where G's own rounding is larger than the ball
        return replace(update, delta=delta)

    return replace(attack, training=(*attack.training, near), tampers=(*attack.tampers, shorten))
