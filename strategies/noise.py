"""Noise on the aggregate. Behind clipping and plain averaging it is what is called weak differential privacy.

Sun, Kairouz, Suresh, McMahan 2019, "Can You Really Backdoor Federated Learning?" (arXiv 1911.07963): ``clip+fedavg+noise``. It is
added once, to the aggregate's weights; statistics stay as they are. No privacy is claimed: σ is small, and none is accounted for.
"""

from dataclasses import replace

import numpy as np

from oleander.learning.updates import Aggregate, Cohort
from oleander.settings.ranges import NotNegative

EXCEPT = {"unanimous": "noise is added"}


def noise(
    aggregate: Aggregate, cohort: Cohort, *, rng: np.random.Generator, noise_std: NotNegative = 0.025
) -> Aggregate:
    """Add N(0, σ²) to each weight of the aggregate (Sun et al. 2019).

    Args:
        aggregate: of the rule, or of the finish before.
        cohort: n updates; not looked at.
        rng: of the noise.
        noise_std: Standard deviation σ of the noise (>= 0).
    """
    delta = aggregate.delta + noise_std * rng.standard_normal(len(aggregate.delta))  # (d,) float64
    with np.errstate(over="ignore"):  # what overflows is refused by name
        return replace(aggregate, delta=delta.astype(np.float32))
