"""Server learning rate: the global model goes η times as far as the rule says.

Reddi, Charles, Zaheer, Garrett, Rush, Konečný, Kumar, McMahan 2021, "Adaptive Federated Optimization" (ICLR; arXiv 2003.00295):
server SGD without momentum. Statistics are multiplied by the same factor.
"""

from dataclasses import replace

import numpy as np

from oleander.learning.updates import Aggregate, Cohort
from oleander.settings.ranges import Positive


def server_lr(aggregate: Aggregate, cohort: Cohort, *, server_lr: Positive = 1.0) -> Aggregate:
    """Multiply the aggregate by η (Reddi et al. 2021).

    Args:
        aggregate: of the rule, or of the finish before.
        cohort: n updates; not looked at.
        server_lr: Factor η on the aggregate (> 0; 1: as it is).
    """
    with np.errstate(over="ignore"):  # what overflows is refused by name
        delta, statistics = (
            (part.astype(np.float64) * server_lr).astype(np.float32) for part in (aggregate.delta, aggregate.statistics)
        )
    return replace(aggregate, delta=delta, statistics=statistics)
