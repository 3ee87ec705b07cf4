"""Scaling attack, or model replacement: the update multiplied so that it survives the average.

Bagdasaryan, Veit, Hua, Estrin, Shmatikov 2020, "How To Backdoor Federated Learning" (AISTATS; arXiv 1807.00459).
We scale the batch-norm statistics too unless told otherwise, since what is to be replaced is the whole model.
"""

from dataclasses import replace

import numpy as np

from attacks import Attack
from oleander.learning.updates import Update
from oleander.settings.ranges import Positive


def scaling(
    attack: Attack,
    *,
    gamma: Positive | None = None,
    scale_statistics: bool = True,
    clients_per_round: int,
    malicious: int,
) -> Attack:
    """Multiply the update by gamma, by default n/µ, so that it survives the average (Bagdasaryan et al. 2020).

    Args:
        attack: the steps before this one.
        gamma: Factor that the update is multiplied by (default: n/µ, clients a round over malicious clients).
        scale_statistics: Whether the batch-norm statistics are multiplied too (model replacement means the whole model).
        clients_per_round: n.
        malicious: µ.
    """
    factor = gamma if gamma is not None else clients_per_round / max(malicious, 1)

    def scale(update: Update) -> Update:
        statistics = update.statistics * np.float32(factor) if scale_statistics else update.statistics
        return replace(update, delta=update.delta * np.float32(factor), statistics=statistics)

    return replace(attack, tampers=(*attack.tampers, scale))
