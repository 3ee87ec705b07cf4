"""Nodes and replies that come late, under another's name, or not at all; Flower's grid is played, Ray does not run."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
from flwr.app import Message, RecordDict

from oleander.settings.config import Experiment
from oleander.system.errors import RunError
from oleander.transport import grid as _grid
from oleander.transport import roster as _roster
from oleander.transport.grid import StreamingGrid
from oleander.transport.roster import SimulatedRoster, named
from tests.played_network import Network, changed, run

pytestmark = pytest.mark.usefixtures("task")


class Slow(Network):
    """Nodes that are not online, and replies that are not there, when they are first looked for."""

    def __init__(self, clients, looks=0, pulls=0, **named):
        super().__init__(clients, **named)
        self.looks, self.pulls, self.forgotten, self.held = looks, pulls, [], {}

    def get_node_ids(self):
        self.looks -= 1
        online = list(self.client_of)
        return online if self.looks < 0 else online[:3]

    def pull_messages(self, ids):
        found = []
        for key in ids:
            self.held[key] = self.held.get(key, 0) + 1
            if key in self.replies and self.held[key] > self.pulls * self._place(key):
                found.append(self.replies.pop(key))
        return found

    def _place(self, key):
        return int(key[1:]) % 3  # one in three at once, the others one after the other

    def forget(self, ids):
        self.forgotten += ids


def test_clients_that_join_late_are_waited_for_and_asked_once():
    expected, _ = run(Network(6))
    network = Slow(6, looks=3)
    strategy, outcomes = run(network, round_timeout=20)
    np.testing.assert_array_equal(strategy.state.weights, expected.state.weights)
    assert len(outcomes) == 3


def test_replies_that_come_one_after_the_other_are_all_taken():
    expected, _ = run(Network(6), clients_per_round=6)
    network = Slow(6, pulls=2)
    strategy, _ = run(network, clients_per_round=6, round_timeout=20)
    np.testing.assert_array_equal(strategy.state.weights, expected.state.weights)
    assert not network.forgotten


def test_what_has_not_come_in_time_is_given_up_and_forgotten():
    network = Slow(6, faults={2: lambda message, content: None, 4: lambda message, content: None})
    began = time.monotonic()
    _, (outcome,) = run(network, clients_per_round=6, rounds=1, round_timeout=0.5, on_bad_reply="drop")
    assert set(outcome.dropped.values()) == {"no reply within 0.5 s"} and list(outcome.dropped) == [2, 4]
    assert time.monotonic() - began >= 0.5
    asked = [index for index, (kind, client) in enumerate(network.asked) if kind == "train" and client in (2, 4)]
    assert sorted(network.forgotten) == sorted(f"m{index}" for index in asked)


def test_without_a_time_limit_a_reply_is_waited_for():
    network = Slow(3, pulls=2)
    grid = StreamingGrid(network, restarts=True)
    queries = [Message(RecordDict(), dst_node_id=node, message_type="query") for node in network.client_of]
    replies = list(grid.send_and_receive(queries))
    assert sorted(reply.content["identity"]["partition-id"] for reply in replies) == [0, 1, 2]


def test_a_reply_counts_for_the_node_that_was_asked_whoever_it_says_it_is_from():
    """Client 1 says that its reply is client 0's, and is heard before it."""
    network = Network(3)
    node_of = {client: node for node, client in network.client_of.items()}

    def lies(message, content):
        reply = changed(loss=7.0)(message, content)
        reply.metadata.__dict__["_src_node_id"] = node_of[0]
        return reply

    network.faults, network.order = {1: lies}, list.reverse
    _, (outcome,) = run(network, clients=3, clients_per_round=3, rounds=1)
    assert (outcome.client_ids, outcome.losses) == ([0, 1, 2], [0.5, 7.0, 0.5])


def test_who_is_waited_for_is_said_once(monkeypatch, capsys):
    monkeypatch.setattr(_roster, "WAIT_QUIETLY_SECONDS", -1.0)
    with pytest.raises(RunError, match=r"^3 of the 5 nodes that a round needs joined within 0\.3 s$"):
        run(Slow(6, looks=10**6))
    assert capsys.readouterr().out == "waiting for the simulation's nodes: 3 of 5 are there\n"


def test_nobody_is_told_of_a_moments_wait(capsys):
    run(Slow(6, looks=2), round_timeout=20)
    assert not capsys.readouterr().out


def test_what_has_come_when_the_time_is_up_is_still_taken():
    """A server that was long over one reply, or a machine that was, does not lose the others."""
    network = Network(3)
    messages = [Message(RecordDict(), message_type="query", dst_node_id=node) for node in network.client_of]
    grid = StreamingGrid(network, restarts=False)
    assert len(list(grid.send_and_receive(messages, timeout=0.0))) == 3


def pauses_where_a_look_takes(seconds, monkeypatch):
    """How long a grid pauses between looks for a reply that comes at the fifth, by a clock that only looks and pauses move."""
    clock = SimpleNamespace(now=0.0, paused=[])

    def sleep(pause):
        clock.paused.append(pause)
        clock.now += pause

    class Costly(Slow):
        def pull_messages(self, ids):
            clock.now += seconds
            return super().pull_messages(ids)

    monkeypatch.setattr(_grid, "time", SimpleNamespace(monotonic=lambda: clock.now, sleep=sleep))
    network = Costly(2, pulls=4)
    queries = [Message(RecordDict(), dst_node_id=node, message_type="query") for node in network.client_of]
    assert len(list(StreamingGrid(network, restarts=False).send_and_receive(queries))) == 2
    return {round(pause, 6) for pause in clock.paused}


def test_looking_for_replies_takes_a_small_share_of_the_time_whatever_a_look_costs(monkeypatch):
    """At fixed 50 ms, the looks of a server over a network took a sixth of a core from the clients that it waited for."""
    assert pauses_where_a_look_takes(0.0, monkeypatch) == {_grid.PULL_SECONDS}
    assert pauses_where_a_look_takes(0.01, monkeypatch) == {0.01 / _grid.LOOKING_SHARE}
    assert pauses_where_a_look_takes(10.0, monkeypatch) == {_grid.LONGEST_PULL_SECONDS}


# ---- many clients ----------------------------------------------------------------------------------------------------


class Counted(Network):
    """Counts how often it is asked who is online."""

    looks = 0

    def get_node_ids(self):
        self.looks += 1
        return super().get_node_ids()


def test_a_round_costs_what_its_own_clients_cost_however_many_others_there_are():
    """The nodes are looked for once, are as many as train in a round, and nobody is asked who he is."""
    network = Counted(2)
    _, outcomes = run(network, clients=100_000, clients_per_round=2, rounds=5, round_timeout=20)
    assert len(outcomes) == 5 and network.looks == 1
    assert [kind for kind, _ in network.asked] == ["train"] * 10
    assert all(client > 5 for _, client in network.asked)


def test_on_an_engine_with_more_nodes_than_a_round_needs_the_rest_has_no_part():
    roster = SimulatedRoster(Experiment(clients=50, clients_per_round=3, round_timeout=1))
    network = Network(6)
    first = roster.nodes(network, [4, 7, 40])
    assert list(first) == [4, 7, 40] and len(set(first.values())) == 3
    assert {roster.client_of(node) for node in network.client_of} == {4, 7, 40, None}
    second = roster.nodes(network, [0, 7, 49])
    assert [roster.client_of(node) for node in second.values()] == [0, 7, 49]


def test_runs_beside_each_other_have_no_node_in_common():
    settings = Experiment(clients=50, clients_per_round=3, round_timeout=1)
    network, rosters = Network(6), [SimulatedRoster(settings, first) for first in (0, 3)]
    one, other = (set(roster.nodes(network, [4, 7, 40]).values()) for roster in rosters)
    assert len(one) == len(other) == 3 and not one & other
    with pytest.raises(RunError, match="6 of the 8 nodes"):
        SimulatedRoster(settings, 5).nodes(network, [0, 1, 2])


def test_a_sentence_names_some_of_many_clients_and_says_how_many_there_are():
    assert named([]) == "" and named([3, 4, 5]) == "3, 4, 5"
    assert named(list(range(12))) == ", ".join(map(str, range(12)))
    assert named(list(range(5, 10_000))) == "5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, … (9,995 in all)"
