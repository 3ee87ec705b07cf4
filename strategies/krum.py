"""Krum: the one update that has the closest neighbours.

Blanchard, El Mhamdi, Guerraoui, Stainer 2017, "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent"
(NeurIPS; arXiv 1703.02757). On whole updates, with the n − f − 2 nearest *others* and squared distances, as in the paper.
"""

import numpy as np

from oleander.learning.updates import Aggregate, Cohort
from strategies._krum_scores import lowest_scores
from strategies._sums import weighted


def krum(cohort: Cohort, *, assumed_malicious: int) -> Aggregate:
    """The one update with the least sum of squared distances to its n - f - 2 nearest others (Blanchard et al. 2017).

    Args:
        cohort: n updates; ties go to the lowest client id.
        assumed_malicious: f.

    Raises:
        RuleError: n < 2f + 3.
    """
    influence = np.zeros(len(cohort))
    influence[lowest_scores(cohort, assumed_malicious, 1)] = 1.0
    return weighted(cohort, influence)
