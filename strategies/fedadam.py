"""FedAdam: Adam on the server, which takes the aggregate for its gradient.

Reddi et al. 2021, "Adaptive Federated Optimization" (ICLR; arXiv 2003.00295), algorithm 2: m ← β₁ m + (1 − β₁) Δ,
v ← β₂ v + (1 − β₂) Δ², and the global model moves by η m / (√v + τ); m is 0 and v is τ² at first, and no bias is corrected. β₁, β₂
and τ are theirs; η they tune for each task. Statistics pass as they are. Kept are m and √v, in float32, the model's own
precision: half the bytes of float64; what they lose by it decays with β, and a root neither overflows nor vanishes as a square may.
"""

from dataclasses import replace

import numpy as np

from oleander.learning.updates import Aggregate, Cohort, Memory
from oleander.settings.ranges import Positive, Rate
from strategies._sums import by_columns

EXCEPT = {"unanimous": "its step's length is its own"}


def fedadam(
    aggregate: Aggregate, _cohort: Cohort, *, memory: Memory, fedadam_lr: Positive = 0.1, fedadam_beta1: Rate = 0.9,
    fedadam_beta2: Rate = 0.99, fedadam_tau: Positive = 0.001,
) -> tuple[Aggregate, Memory]:  # fmt: skip
    """Treat the aggregate as a gradient, and update the model by Adam (Reddi et al. 2021).

    Args:
        aggregate: of the rule before.
        memory: "first" (d,) the first moment m, and "scale" (d,) the root of the second, √v.
        fedadam_lr: Server learning rate η (> 0).
        fedadam_beta1: Decay β₁ of the first moment (0 to 1).
        fedadam_beta2: Decay β₂ of the second moment (0 to 1).
        fedadam_tau: Adaptivity τ (> 0); the smaller, the more alike are all coordinates' steps.
    """
    delta = aggregate.delta
    before = memory.get("first", np.zeros_like(delta)), memory.get("scale", np.full_like(delta, fedadam_tau))
    step, first, scale = (np.empty_like(delta) for _ in range(3))

    def part(block: slice) -> None:
        gradient, m, s = (whole[block].astype(np.float64) for whole in (delta, *before))
        m = fedadam_beta1 * m + (1 - fedadam_beta1) * gradient
        s = np.sqrt(fedadam_beta2 * s**2 + (1 - fedadam_beta2) * gradient**2)
        step[block], first[block], scale[block] = fedadam_lr * m / (s + fedadam_tau), m, s

    by_columns(len(delta), part)
    return replace(aggregate, delta=step), {"first": first, "scale": scale}
