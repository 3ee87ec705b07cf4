"""Multi-Krum: the plain mean of the m updates with the best Krum scores.

Blanchard, El Mhamdi, Guerraoui, Stainer 2017 (NeurIPS; arXiv 1703.02757), section 4. m = n − f unless told otherwise. What
El Mhamdi, Guerraoui, Rouault 2018 (arXiv 1802.07927) and later proofs say of it wants m ≤ n − 2f − 3; our default is outside of
that, and a run's report says so. (m of others: n − 2f − 3, n − f − 2, 0.2 n, 10.)
"""

import numpy as np

from oleander.learning.updates import Aggregate, Cohort
from oleander.settings.ranges import Count
from strategies import RuleError
from strategies._krum_scores import lowest_scores
from strategies._sums import weighted


def multi_krum(cohort: Cohort, *, assumed_malicious: int, multi_krum_m: Count | None = None) -> Aggregate:
    """Plain mean of the m updates with the lowest Krum scores, m = n - f; proven for m <= n - 2f - 3 (Blanchard et al. 2017).

    Args:
        cohort: n updates; ties go to the lowest client id.
        assumed_malicious: f.
        multi_krum_m: How many updates are averaged, m (1 to n; default: n - f). The guarantee ends at n - 2f - 3.

    Raises:
        RuleError: n < 2f + 3, or m > n.
    """
    n = len(cohort)
    m = n - assumed_malicious if multi_krum_m is None else multi_krum_m
    if m > n:
        raise RuleError(f"Multi-Krum averages m of n updates, but m = {m} and n = {n}")
    best = lowest_scores(cohort, assumed_malicious, m)
    influence = np.zeros(n)
    influence[best] = 1 / m
    return weighted(cohort, influence)
