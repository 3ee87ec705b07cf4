"""Federated averaging.

McMahan, Moore, Ramage, Hampson, Agüera y Arcas 2017, "Communication-Efficient Learning of Deep Networks from Decentralized
Data" (AISTATS; arXiv 1602.05629).
"""

from oleander.learning.updates import Aggregate, Cohort
from strategies._sums import weighted


def fedavg(cohort: Cohort) -> Aggregate:
    """Mean of the updates, weighted by examples: Σ n_i Δ_i / Σ n_i (McMahan et al. 2017).

    Args:
        cohort: n updates; ``num_examples`` as the server checked them.
    """
    return weighted(cohort, cohort.num_examples / cohort.num_examples.sum())
