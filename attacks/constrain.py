"""Constrain: learn the backdoor and stay near the global model. With ``scaling`` it is constrain-and-scale.

Bagdasaryan, Veit, Hua, Estrin, Shmatikov 2020, "How To Backdoor Federated Learning" (AISTATS; arXiv 1807.00459), section 4.3: the
loss is α L_class + (1 - α) L_ano. L_ano is here the squared distance of all weights to the global model's, or 1 - the cosine
between both. The authors' code takes the distance itself, not squared, and the cosine of the model as it will be scaled. Several
public codes take the distance of ``.data``, through which no gradient flows, so that their term does nothing.
"""

from dataclasses import replace
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from attacks import Attack
from attacks._tensors import flat
from oleander.learning.training import Hooks, Tensors
from oleander.settings.ranges import Rate


def constrain(
    attack: Attack, *, constrain_alpha: Rate = 0.5, constrain_distance: Literal["l2", "cosine"] = "l2"
) -> Attack:
    """Add the distance to the global model to the loss: α CE + (1 - α) ‖w - G‖² (Bagdasaryan et al. 2020).

    Args:
        attack: the steps before this one.
        constrain_alpha: Weight α of the cross-entropy (0 to 1); the distance's is 1 - α.
        constrain_distance: l2, ‖w - G‖² over all weights, or cosine, 1 - cos(w, G).
    """

    def near(start: Tensors) -> Hooks:
        origin = flat(start)  # (d,)

        def loss(plain: Tensor, weights: Tensors) -> Tensor:
            local = flat(weights)  # (d,)
            if constrain_distance == "l2":
                distance = (local - origin).square().sum()
            else:
                distance = 1 - F.cosine_similarity(local, origin, dim=0)
            return constrain_alpha * plain + (1 - constrain_alpha) * distance

        return Hooks(loss=loss)

    return replace(attack, training=(*attack.training, near))
