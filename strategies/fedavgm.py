"""FedAvgM: momentum on the server.

Reddi et al. 2021, "Adaptive Federated Optimization" (ICLR; arXiv 2003.00295), after Hsu, Qi, Brown 2019 (arXiv 1909.06335):
m ← β m + Δ, and the global model moves by η m. Their η is ``server_lr``, behind it. Statistics pass as they are. The momentum is
kept in float32, the model's own precision: what it loses by that decays with β.
"""

from dataclasses import replace

import numpy as np

from oleander.learning.updates import Aggregate, Cohort, Memory
from oleander.settings.ranges import Rate
from strategies._sums import by_columns


def fedavgm(
    aggregate: Aggregate, _cohort: Cohort, *, memory: Memory, fedavgm_momentum: Rate = 0.9
) -> tuple[Aggregate, Memory]:
    """Server momentum: move by what is left of earlier rounds and the aggregate, m = β m + Δ (Reddi et al. 2021).

    Args:
        aggregate: of the rule before.
        memory: "momentum" (d,).
        fedavgm_momentum: Momentum β (0 to 1).
    """
    before, moved = memory.get("momentum", np.zeros_like(aggregate.delta)), np.empty_like(aggregate.delta)

    def part(block: slice) -> None:
        moved[block] = fedavgm_momentum * before[block].astype(np.float64) + aggregate.delta[block]

    by_columns(len(moved), part)
    return replace(aggregate, delta=moved), {"momentum": moved}
