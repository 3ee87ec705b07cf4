"""Norm clipping: no update longer than a bound.

Sun, Kairouz, Suresh, McMahan 2019, "Can You Really Backdoor Federated Learning?" (arXiv 1911.07963). Theirs is a fixed
bound and noise; ours a fixed bound or the median of the round's norms, and no noise.
"""

from dataclasses import replace
from typing import Literal

import numpy as np

from oleander.learning.updates import Cohort
from oleander.settings.ranges import Positive
from strategies._sums import comparable_norms, scaled

MARGIN = 1 - 2**-23
"""So that the bound still holds after a clipped update is rounded to float32 (and clipping again changes nothing)."""


def clip(cohort: Cohort, *, clip_norm: Literal["median"] | Positive = "median") -> Cohort:
    """Shorten updates to an L2 norm of at most M: Δ · min(1, M / ‖Δ‖) (Sun et al. 2019).

    The norm is over the weights; statistics shrink by the factor of their client's weights.

    Args:
        cohort: n updates; left as it is.
        clip_norm: Bound M on an update's L2 norm: the median of the round's norms, or a number (> 0).
    """
    norms = comparable_norms(cohort.deltas, None if clip_norm == "median" else clip_norm)  # (n,)
    bound = float(np.median(norms)) if clip_norm == "median" else float(clip_norm)
    factors = np.ones(len(cohort))  # (n,)
    long = norms > bound
    factors[long] = bound / norms[long] * MARGIN
    return replace(cohort, deltas=scaled(cohort.deltas, factors), statistics=scaled(cohort.statistics, factors))
