"""Clamping of parameter values, which is sometimes taken for norm clipping. Not a defence: for comparison only.

Each value of a local model is forced into [−M, M]. A course notebook did this with the median of the round's update norms as
M, found scaling undefeated by it, and concluded that norm clipping fails; ``clip`` is what norm clipping is. Statistics are
left as they are.
"""

from dataclasses import replace
from typing import Literal

import numpy as np

from oleander.learning.updates import Cohort
from strategies._sums import squared_norms


def clamp(cohort: Cohort, *, clip_norm: float | Literal["median"]) -> Cohort:
    """Force each parameter of the local models into [-M, M]; for comparison with clip, not a defence.

    Args:
        cohort: n updates and the model that they start from; left as it is.
        clip_norm: M, or "median" for the median of the round's update norms.
    """
    bound = float(np.median(np.sqrt(squared_norms(cohort.deltas)))) if clip_norm == "median" else float(clip_norm)
    low, high = np.float32(-bound) - cohort.start.weights, np.float32(bound) - cohort.start.weights  # (d,)
    return replace(cohort, deltas=np.clip(cohort.deltas, low, high))


EXCEPT = {"source": "no paper: a course notebook's mistake"}
