"""Krum, against its paper's formula in plain Python."""

from dataclasses import replace

import numpy as np
import pytest

from strategies import RuleError
from strategies.krum import krum
from tests.cohorts import random_cohort
from tests.strategies.references import krum_scores


@pytest.mark.parametrize(
    ("n", "f", "seed"), [(n, f, s) for n in range(3, 12) for f in range(5) if n >= 2 * f + 3 for s in (0, 1)]
)
def test_krum_agrees_with_the_reference(n, f, seed):
    cohort = random_cohort(n, d=20, seed=seed)
    order = np.argsort(krum_scores(cohort.deltas, f), kind="stable")
    np.testing.assert_array_equal(krum(cohort, assumed_malicious=f).delta, cohort.deltas[order[0]])
    np.testing.assert_array_equal(krum(cohort, assumed_malicious=f).statistics, cohort.statistics[order[0]])


@pytest.mark.parametrize(("n", "f"), [(n, f) for n in range(1, 12) for f in range(6) if n < 2 * f + 3])
def test_krum_refuses_too_few_clients_and_names_n_and_f(n, f):
    with pytest.raises(RuleError, match=f"n = {n} and f = {f}"):
        krum(random_cohort(n), assumed_malicious=f)


def test_krum_ties_go_to_the_lowest_id():
    cohort = random_cohort(5)
    same = replace(cohort, deltas=np.zeros_like(cohort.deltas))
    assert krum(same, assumed_malicious=1).influence.tolist() == [1, 0, 0, 0, 0]


def test_krum_names_the_least_number_of_clients():
    for f in (0, 1, 2, 5):
        with pytest.raises(RuleError, match=rf"n = 2 and f = {f} \(so n >= {2 * f + 3}\)"):
            krum(random_cohort(2), assumed_malicious=f)
