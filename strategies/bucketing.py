"""Bucketing: a robust rule sees means of a few clients each, so that honest ones with different data look more alike.

Karimireddy, He, Jaggi 2022, "Byzantine-Robust Learning on Heterogeneous Datasets via Bucketing" (ICLR; arXiv 2006.09365). The rule
behind it is told the same f, as theirs: each attacker is in one bucket, and may spoil it.
"""

import numpy as np

from oleander.learning.updates import Cohort
from oleander.settings.ranges import Count
from strategies import RuleError
from strategies._mixture import mixture

EXCEPT = {"rows": "who shares a bucket is drawn by rows, which the pipeline puts in order"}


def bucketing(cohort: Cohort, *, rng: np.random.Generator, bucketing_s: Count = 2) -> Cohort:
    """Mix the updates into means of s clients drawn at random (Karimireddy et al. 2022).

    Args:
        cohort: n updates.
        rng: of the draw.
        bucketing_s: Clients in a bucket, s; the last may have fewer (1 to n).

    Raises:
        RuleError: s > n.
    """
    n, s = len(cohort), bucketing_s
    if s > n:
        raise RuleError(f"bucketing makes means of s of n updates, but s = {s} and n = {n}")
    order = rng.permutation(n)
    buckets = [order[start : start + s] for start in range(0, n, s)]  # ⌈n/s⌉ of them
    shares = np.zeros((len(buckets), n))
    for row, bucket in zip(shares, buckets, strict=True):
        row[bucket] = 1 / len(bucket)
    return mixture(cohort, shares)
