"""The Flower strategy: who is asked, who is drawn, and what becomes of the replies; Flower's grid is played, Ray does not run."""

import random

import numpy as np
import pytest

from oleander.system.errors import RunError
from tests.played_network import Network, changed, run

pytestmark = pytest.mark.usefixtures("task")


def test_neither_node_ids_nor_the_order_of_replies_change_the_result():
    one, outcomes = run(Network(6))
    other, others = run(Network(6, order=list.reverse, seed=7))
    third, _ = run(Network(6, order=random.Random(3).shuffle, seed=8))
    for strategy in (other, third):
        np.testing.assert_array_equal(one.state.weights, strategy.state.weights)
        np.testing.assert_array_equal(one.state.statistics, strategy.state.statistics)
    assert [o.client_ids for o in outcomes] == [o.client_ids for o in others]


def test_nodes_beyond_the_runs_clients_take_no_part():
    one, outcomes = run(Network(6))
    other, others = run(Network(8))
    np.testing.assert_array_equal(one.state.weights, other.state.weights)
    assert [o.client_ids for o in outcomes] == [o.client_ids for o in others]


def test_a_run_that_goes_on_after_round_2_ends_as_one_that_never_stopped():
    whole, outcomes = run(Network(6), rounds=5)
    half, _ = run(Network(6), rounds=2)
    rest, later = run(Network(6), rounds=5, done=2, after=half.state)
    np.testing.assert_array_equal(whole.state.weights, rest.state.weights)
    assert [(o.round, o.client_ids) for o in outcomes[2:]] == [(o.round, o.client_ids) for o in later]
    assert [o.round for o in later] == [3, 4, 5]


def test_clients_are_drawn_sorted_without_replacement_and_differ_from_round_to_round():
    _, outcomes = run(Network(6), rounds=8, clients_per_round=3)
    draws = [tuple(o.client_ids) for o in outcomes]
    assert all(list(draw) == sorted(set(draw)) and len(draw) == 3 for draw in draws)
    assert len(set(draws)) > 1
    assert draws != [tuple(o.client_ids) for o in run(Network(6), rounds=8, clients_per_round=3, seed=1)[1]]


def test_any_node_may_be_any_client_and_is_told_which_in_each_round():
    """As many nodes as clients a round; nobody is asked anything."""
    few, all_there = Network(2), Network(6)
    found, expected = run(few, clients_per_round=2, rounds=6), run(all_there, clients_per_round=2, rounds=6)
    assert [o.client_ids for o in found[1]] == [o.client_ids for o in expected[1]]
    np.testing.assert_array_equal(found[0].state.weights, expected[0].state.weights)
    assert {kind for kind, _ in few.asked} == {"train"} and len({client for _, client in few.asked}) > 2


def test_fedavg_moves_the_model_by_the_mean_update():
    strategy, outcomes = run(Network(6), rounds=1)
    expected = np.mean(outcomes[0].client_ids) + 1
    np.testing.assert_allclose(strategy.state.weights, expected, rtol=1e-6)


def test_negative_aggregated_variances_become_zero_and_are_counted():
    def negative(content):
        weights, statistics = content["arrays"]
        return [weights, statistics - np.array([0, 0, 100, 100], np.float32)]

    strategy, outcomes = run(Network(6, dict.fromkeys(range(6), changed(arrays=negative))), rounds=1)
    assert outcomes[0].clamped_variances == 2
    np.testing.assert_array_equal(strategy.state.statistics[2:], 0)
    assert (strategy.state.statistics[:2] > 0).all()


def test_nodes_that_are_missing_are_counted():
    with pytest.raises(RunError, match=r"^4 of the 5 nodes that a round needs joined within 0\.3 s$"):
        run(Network(4))
