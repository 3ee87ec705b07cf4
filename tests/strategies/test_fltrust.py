"""FLTrust against its formula in Python floats, and what the paper promises of a server that trusts only itself."""

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from oleander.datasets.data import Shard
from oleander.learning.root import Root
from oleander.learning.updates import Cohort, Update
from strategies import RuleError, aggregate
from strategies.fltrust import fltrust
from tests.cohorts import FINITE, random_cohort
from tests.spaces import CIFAR10

SHARD = Shard(6, np.zeros((3, 3, 2, 2), np.uint8), np.zeros(3, np.int64), CIFAR10)


def root_of(own) -> Root:
    delta = np.array(own, np.float32)
    return Root(SHARD, lambda _start, _shard, _round: Update(-1, delta, np.zeros(6, np.float32), 3))


def with_deltas(deltas) -> Cohort:
    deltas = np.array(deltas, np.float32)
    return replace(random_cohort(len(deltas), d=deltas.shape[1]), deltas=deltas)


def reference(deltas, own) -> tuple[list[float], list[float]]:
    """Σ trust_i (‖g‖ / ‖Δ_i‖) Δ_i / Σ trust_i with trust_i = max(0, cos(Δ_i, g)), and each client's share of the trust."""
    rows, g = [[float(v) for v in row] for row in deltas], [float(v) for v in own]
    length = sqrt(sum(v * v for v in g))
    norms = [sqrt(sum(v * v for v in row)) for row in rows]
    trust = [
        max(0.0, sum(a * b for a, b in zip(row, g, strict=True)) / (norm * length)) if norm * length else 0.0
        for row, norm in zip(rows, norms, strict=True)
    ]
    if not sum(trust):
        return [0.0] * len(g), trust
    total = [
        sum(t * length / norm * row[j] for t, norm, row in zip(trust, norms, rows, strict=True) if t) / sum(trust)
        for j in range(len(g))
    ]
    return total, [t / sum(trust) for t in trust]


@given(data=st.data(), n=st.integers(1, 8), d=st.integers(1, 12))
@settings(max_examples=150, deadline=None)
def test_it_agrees_with_the_reference(data, n, d):
    deltas, own = (data.draw(hnp.arrays(np.float32, shape, elements=FINITE)) for shape in ((n, d), (d,)))
    result = fltrust(with_deltas(deltas), root=root_of(own))
    delta, influence = reference(deltas, own)
    np.testing.assert_allclose(result.delta, delta, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(result.influence, influence, rtol=1e-6, atol=1e-9)


def test_the_server_trains_on_its_images_from_the_rounds_model():
    asked = []

    def train(start, shard, round_number):
        asked.append((start, shard, round_number))
        return Update(-1, np.ones(50, np.float32), np.zeros(6, np.float32), 3)

    cohort = replace(random_cohort(5), round=7)
    fltrust(cohort, root=Root(SHARD, train))
    assert len(asked) == 1 and asked[0][0] is cohort.start and asked[0][1] is SHARD and asked[0][2] == 7


def test_with_all_clients_against_it_the_model_stays():
    own = np.random.default_rng(0).normal(size=50)
    cohort = with_deltas(np.outer([-1, -2, -1e6], own))
    result = fltrust(cohort, root=root_of(own))
    assert not result.influence.any() and not result.delta.any() and not result.statistics.any()


def test_eight_of_ten_that_send_the_opposite_have_no_say():
    """The paper's promise: it holds however many are malicious."""
    rng = np.random.default_rng(0)
    own = rng.normal(size=50)
    honest = own + 0.3 * rng.normal(size=(2, 50))
    cohort = with_deltas(np.concatenate([honest, -5 * own + 0.3 * rng.normal(size=(8, 50))]))
    result = fltrust(cohort, root=root_of(own))
    assert not result.influence[2:].any() and (result.influence[:2] > 0.4).all()


@pytest.mark.parametrize("scale", [1e-38, 1e-12, 1.0, 1e12])
def test_a_clients_length_is_the_servers_whatever_it_sends_and_its_statistics_shrink_and_never_grow(scale):
    own = np.array([3.0, 4.0])
    cohort = with_deltas(np.array([[6, 8]]) * scale)
    result = fltrust(cohort, root=root_of(own))
    np.testing.assert_allclose(result.delta, own, rtol=1e-6)
    np.testing.assert_allclose(result.statistics, cohort.statistics[0] * min(1, 0.5 / scale), rtol=1e-5)


def test_an_update_of_zero_has_no_direction():
    result = fltrust(with_deltas([[0, 0], [1, 0]]), root=root_of([1, 0]))
    assert result.influence.tolist() == [0, 1]
    nothing = fltrust(with_deltas([[0, 0], [1, 0]]), root=root_of([0, 0]))
    assert not nothing.influence.any() and not nothing.delta.any()


def test_an_update_of_its_own_that_is_not_finite_is_refused_with_its_number():
    with pytest.raises(RuleError, match="fltrust: 2 of 3 weights of the server's own update are not finite"):
        fltrust(with_deltas([[1, 2, 3]]), root=root_of([np.nan, 1, np.inf]))


def test_it_needs_a_root_and_takes_its_update_as_an_array():
    with pytest.raises(RuleError, match="fltrust needs root"):
        aggregate("fltrust", [[1.0, 2.0]])
    assert aggregate("fltrust", [[2.0, 0.0]], root=[0.5, 0.0]).delta.tolist() == [0.5, 0]


@pytest.mark.parametrize("seed", range(30))
def test_an_update_at_right_angles_to_the_servers_own_has_no_trust(seed):
    """Its product is 0 in exact arithmetic; rounded sums may say more, and where nobody else is trusted, a little is all."""
    rng = np.random.default_rng(seed)
    one, other = rng.normal(size=(2, 60)).astype(np.float32)
    other *= np.float32(10) ** rng.integers(-6, 1, size=60)
    order = rng.permutation(120)
    right, own = np.concatenate([one, one])[order], np.concatenate([other, -other])[order]
    result = fltrust(with_deltas([right, -own, -own]), root=root_of(own))
    assert not result.influence.any() and not result.delta.any()
