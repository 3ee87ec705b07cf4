"""Multi-Krum, against the mean of those whom its paper's formula, in plain Python, puts first."""

import numpy as np
import pytest

from strategies import RuleError
from strategies.multi_krum import multi_krum
from tests.cohorts import random_cohort
from tests.strategies.references import krum_scores


@pytest.mark.parametrize(
    ("n", "f", "seed"), [(n, f, s) for n in range(3, 12) for f in range(5) if n >= 2 * f + 3 for s in (0, 1)]
)
def test_multi_krum_agrees_with_the_reference(n, f, seed):
    cohort = random_cohort(n, d=20, seed=seed)
    order = np.argsort(krum_scores(cohort.deltas, f), kind="stable")
    for m in (None, 1, n):
        result = multi_krum(cohort, assumed_malicious=f, multi_krum_m=m)
        best = order[: n - f if m is None else m]
        np.testing.assert_allclose(
            result.delta, cohort.deltas[best].astype(np.float64).mean(axis=0), rtol=1e-6, atol=1e-7
        )
        assert set(np.flatnonzero(result.influence)) == set(best.tolist())


@pytest.mark.parametrize(("n", "f"), [(n, f) for n in range(1, 12) for f in range(6) if n < 2 * f + 3])
def test_multi_krum_refuses_too_few_clients_and_names_n_and_f(n, f):
    with pytest.raises(RuleError, match=f"n = {n} and f = {f}"):
        multi_krum(random_cohort(n), assumed_malicious=f, multi_krum_m=None)
