"""The server's learning rate multiplies the aggregate, statistics too, and leaves influence alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oleander.settings.config import Experiment, validated
from oleander.system.errors import UserError
from strategies import pipeline_of
from strategies.fedavg import fedavg
from strategies.server_lr import server_lr
from tests.cohorts import random_cohort

COHORT = random_cohort(5)
PLAIN = fedavg(COHORT)


@given(rate=st.floats(1e-6, 1e6))
@settings(max_examples=50, deadline=None)
def test_it_multiplies_weights_and_statistics(rate):
    found = server_lr(PLAIN, COHORT, server_lr=rate)
    np.testing.assert_array_equal(found.delta, np.array([float(v) * rate for v in PLAIN.delta]).astype(np.float32))
    np.testing.assert_array_equal(
        found.statistics, np.array([float(v) * rate for v in PLAIN.statistics]).astype(np.float32)
    )
    np.testing.assert_array_equal(found.influence, PLAIN.influence)


def test_one_changes_nothing_and_a_tenth_ten_times_comes_as_far():
    np.testing.assert_array_equal(server_lr(PLAIN, COHORT).delta, PLAIN.delta)
    np.testing.assert_allclose(10 * server_lr(PLAIN, COHORT, server_lr=0.1).delta, PLAIN.delta, rtol=1e-6)


@pytest.mark.parametrize("rate", [0, -1, float("nan")])
def test_a_rate_that_is_not_above_0_is_refused(rate):
    with pytest.raises(UserError, match=f"server_lr = {rate}"):
        validated({"strategy": "server_lr", "server_lr": rate}, "a test")


def test_what_overflows_is_refused_before_anything_starts():
    with pytest.raises(UserError, match="the finish server_lr returned an aggregate that is not finite"):
        pipeline_of(Experiment(strategy="server_lr").changed(server_lr=1e39))
