"""FedAvg, against NumPy's weighted average."""

import numpy as np

from strategies.fedavg import fedavg
from tests.cohorts import random_cohort


def test_fedavg_agrees_with_numpy():
    cohort = random_cohort(7)
    result = fedavg(cohort)
    for got, rows in ((result.delta, cohort.deltas), (result.statistics, cohort.statistics)):
        expected = np.average(rows.astype(np.float64), axis=0, weights=cohort.num_examples)
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-7)
