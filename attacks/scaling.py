"""Scaling attack, or model replacement: the update multiplied so that it survives the average.

Bagdasaryan, Veit, Hua, Estrin, Shmatikov 2020, "How To Backdoor Federated Learning" (AISTATS; arXiv 1807.00459).
We scale the batch-norm statistics too unless told otherwise, since what is to be replaced is the whole model.
"""

from dataclasses import replace

import numpy as np

from attacks import Attack
from oleander.learning.updates import Update


def scaling(
    attack: Attack, *, gamma: float | None, scale_statistics: bool, clients_per_round: int, malicious: int
) -> Attack:
    """Multiply the update by gamma, by default n/µ, so that it survives the average (Bagdasaryan et al. 2020).

    Args:
        attack: the steps before this one.
        gamma: the factor; None for n/µ.
        scale_statistics: whether the batch-norm statistics are multiplied too.
        clients_per_round: n.
        malicious: µ.
    """
    factor = gamma if gamma is not None else clients_per_round / max(malicious, 1)

    def scale(update: Update) -> Update:
        statistics = update.statistics * np.float32(factor) if scale_statistics else update.statistics
        return replace(update, delta=update.delta * np.float32(factor), statistics=statistics)

    return replace(attack, tampers=(*attack.tampers, scale))
