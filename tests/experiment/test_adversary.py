"""The attackers of a run, through the real strategy and clients that are played: what is told, met, remembered, and kept."""

from dataclasses import replace

import numpy as np
import pytest
from flwr.app import ArrayRecord

from attacks import Attack
from oleander.experiment.adversary import Attackers
from oleander.learning.parameters import ModelState
from oleander.learning.training import Hooks
from oleander.settings.config import Experiment
from oleander.system.errors import RunError, UserError
from oleander.transport.attackers import MEMORY, memory_record, told_in
from oleander.transport.roster import SimulatedRoster
from strategies import pipeline_of
from strategies.flower import PipelineStrategy
from tests.cohorts import random_cohort
from tests.played_network import LAYOUT, SIZE, Network, Quiet, honest

pytestmark = pytest.mark.usefixtures("task")
FIRST = {"count": np.array(0, np.int64), "map": np.zeros((2, 3), np.float32)}


def adapting(memory):
    return {"count": memory["count"] + 1, "map": memory["map"] + np.float32(0.5)}


def looking(previous, memory):
    return Hooks()


ATTACK = Attack(memory=FIRST, adapt=adapting, training=(looking,))
SETTINGS = Experiment(clients=6, clients_per_round=5, rounds=6, round_timeout=0.3, malicious=3, attack="patch")


class Played(Network):
    """Clients of which the one that is told to adapts; ``lies`` make something else of a memory."""

    def __init__(self, experiment, lies=None):
        self.told: list[tuple[int, int, object]] = []
        self.lies = lies or {}
        super().__init__(experiment.clients, dict.fromkeys(range(experiment.clients), self.answer))

    def answer(self, message, content):
        client = self._plays(message)
        number, told = message.content["config"]["server-round"], told_in(message.content)
        self.told.append((number, client, told if len(message.content) > 3 else None))
        reply = honest(message, content)
        if told.adapts:
            memory = memory_record(adapting(told.memory))
            reply.content[MEMORY] = memory
        lie = self.lies.get((number, client))
        if lie:
            lie(reply.content)
        return reply


def run(attack=ATTACK, network=None, remembered=None, done=0, rounds=None, state=None, **settings):
    experiment = replace(SETTINGS, **settings)
    attackers = Attackers(experiment, attack, remembered)
    network = network or Played(experiment)
    state = state or ModelState(np.zeros(6, np.float32), np.zeros(4, np.float32))
    strategy = PipelineStrategy(
        experiment, pipeline_of(experiment), LAYOUT, state, [SIZE] * experiment.clients, {}, Quiet(),
        SimulatedRoster(experiment), done, adversary=attackers, memory=remembered,
    )  # fmt: skip
    strategy.start(network, strategy.initial_arrays(), num_rounds=(rounds or experiment.rounds) - done, timeout=3.0)
    return strategy, attackers, network


def test_only_the_rounds_attackers_are_told_anything_and_the_first_of_them_adapts():
    _, attackers, network = run(attack_rounds="2-6")
    rounds = {}
    for number, client, told in network.told:
        rounds.setdefault(number, {})[client] = told
    for number, told in rounds.items():
        theirs = [client for client in sorted(told) if client < 3] if number >= 2 else []
        assert [client for client in sorted(told) if told[client] is not None] == theirs
        assert [client for client in theirs if told[client].adapts] == theirs[:1]
        for client in theirs:
            assert told[client].memory["count"] == number - 2  # what was adapted in the rounds before
            np.testing.assert_array_equal(told[client].memory["map"], np.full((2, 3), 0.5 * (number - 2), np.float32))
            assert told[client].previous is not None  # they were drawn in round 1, too, where they did not attack
    assert attackers.attack.memory["count"] == 5


def test_nothing_is_sent_where_no_step_asks_and_an_attack_of_today_meets_nobody():
    tampering = Attack(tampers=(lambda update: update,))
    strategy, attackers, network = run(tampering)
    assert all(told is None for _, _, told in network.told) and strategy.memory == attackers.memory() == {}
    plain = PipelineStrategy(
        SETTINGS, pipeline_of(SETTINGS), LAYOUT, ModelState(np.zeros(6, np.float32), np.zeros(4, np.float32)),
        [SIZE] * 6, {}, Quiet(), SimulatedRoster(SETTINGS),
    )  # fmt: skip
    plain.start(Played(SETTINGS), plain.initial_arrays(), num_rounds=6, timeout=3.0)
    np.testing.assert_array_equal(plain.state.weights, strategy.state.weights)


def test_previous_is_the_model_that_any_of_them_saw_last():
    strategy, _, network = run(Attack(training=(lambda previous: Hooks(),)), rounds=3)
    first = {told.previous is None for number, _, told in network.told if told and number == 1}
    assert first == {True}
    last = [told.previous for number, _, told in network.told if told and number == 3]
    assert last and all(np.array_equal(previous, last[0]) for previous in last)
    assert set(strategy.memory) == {"attackers-seen"} and not np.array_equal(
        strategy.memory["attackers-seen"]["previous"], last[0]
    )


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_a_run_that_goes_on_remembers_what_it_would_have(stop):
    whole, attackers, _ = run()
    before, _, _ = run(rounds=stop)
    after, again, _ = run(remembered=before.memory, done=stop, state=before.state)
    np.testing.assert_array_equal(whole.state.weights, after.state.weights)
    for step, kept in whole.memory.items():
        for name, array in kept.items():
            np.testing.assert_array_equal(array, after.memory[step][name])
    assert attackers.attack.memory["count"] == again.attack.memory["count"] == 6


def other(memory):
    return lambda content: content.update({MEMORY: memory_record(memory)})


LIES = {
    "another shape": (other(FIRST | {"map": np.zeros((3, 2), np.float32)}), "map have shape (3, 2), not (2, 3)"),
    "another type": (other(FIRST | {"map": np.zeros((2, 3))}), "map are float64 (2, 3), not float32 (2, 3)"),
    "NaN": (other(FIRST | {"map": np.full((2, 3), np.nan, np.float32)}), "map have values that are not finite"),
    "too large": (other(FIRST | {"map": np.zeros(10**6, np.float32)}), "map have shape (1000000,)"),
    "another name": (other({"count": FIRST["count"], "cap": FIRST["map"]}), "memory in its reply is not count, map"),
    "more names": (other(FIRST | {"more": FIRST["map"]}), "memory in its reply is not count, map"),
    "no memory": (lambda content: content.pop(MEMORY), "memory in its reply is not count, map"),
    "no record": (lambda content: content.update({MEMORY: ArrayRecord([FIRST["map"]])}), "is not count"),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_about_the_memory_is_a_bad_reply_and_the_memory_stays(lie):
    change, words = LIES[lie]
    everybody = {"clients_per_round": 6, "rounds": 2}
    network = Played(replace(SETTINGS, **everybody), {(1, 0): change})
    strategy, attackers, _ = run(
        network=network, on_bad_reply="drop", rounds=1, **{k: v for k, v in everybody.items() if k != "rounds"}
    )
    assert words in strategy.outcome.dropped[0] and strategy.outcome.client_ids == [1, 2, 3, 4, 5]
    assert attackers.attack.memory["count"] == 0
    with pytest.raises(RunError, match=r"round 1, client 0: .*attackers'"):
        run(network=Played(SETTINGS, {(1, 0): change}), clients_per_round=6)


def test_nobody_is_believed_a_memory_that_was_not_asked_of_it():
    lies = {(number, client): other(FIRST | {"count": np.array(99)}) for number in range(1, 4) for client in (1, 3, 5)}
    _, attackers, _network = run(network=Played(SETTINGS, lies), clients_per_round=6, rounds=3)
    assert attackers.attack.memory["count"] == 3


def test_attackers_agree_before_the_rule_and_only_their_rows_change():
    agree = Attack(colludes=(lambda own: replace(own, deltas=own.deltas * 0 + 7),))
    strategy, *_ = run(agree, clients_per_round=6, rounds=1)
    norms = dict(zip(strategy.outcome.client_ids, strategy.outcome.norms_before, strict=True))
    assert all(norms[client] == pytest.approx(7 * 6**0.5) for client in (0, 1, 2))  # as the rule sees them
    assert [norms[client] for client in (3, 4, 5)] == pytest.approx([6**0.5 * (client + 1) for client in (3, 4, 5)])
    np.testing.assert_allclose(strategy.state.weights, np.mean([7, 7, 7, 4, 5, 6]), rtol=1e-6)


def test_random_attackers_are_the_ones_who_meet():
    settings = {"attackers": "random", "clients_per_round": 6, "seed": 4}
    theirs = set(replace(SETTINGS, **settings).malicious_clients)
    assert theirs != {0, 1, 2}
    strategy, *_ = run(Attack(colludes=(lambda own: replace(own, deltas=own.deltas * 0),)), rounds=1, **settings)
    still = {c for c, norm in zip(strategy.outcome.client_ids, strategy.outcome.norms_before, strict=True) if norm == 0}
    assert still == theirs


def test_what_they_agree_on_must_be_finite():
    with pytest.raises(RunError, match="round 1: --attack patch agrees on updates that are not finite"):
        run(Attack(colludes=(lambda own: replace(own, deltas=own.deltas * np.nan),)), rounds=1)


def test_a_memory_of_another_attack_is_refused():
    with pytest.raises(UserError, match=r"remember map float32 \(2,\), today's count int64 \(\), map float32 \(2, 3\)"):
        Attackers(SETTINGS, ATTACK, {"attackers": {"map": np.zeros(2, np.float32)}})


def test_previous_is_what_any_of_them_was_sent_even_where_no_reply_of_theirs_counts():
    """The weights are 1, 2, 5 in three rounds; in the second the attacker is sent the model, and its reply is lost."""
    experiment = replace(SETTINGS, clients=3, clients_per_round=3, malicious=1)
    attackers = Attackers(experiment, Attack(training=(lambda previous: Hooks(),)))
    seen = []
    for number, (value, replied) in enumerate([(1, [0, 1, 2]), (2, [1, 2]), (5, [0, 1, 2])], 1):
        seen.append(told_in(attackers.told(number, [0, 1, 2])[0]).previous)
        start = ModelState(np.full(6, value, np.float32), np.zeros(6, np.float32))
        attackers.met(replace(random_cohort(3, d=6).only(np.array(replied)), start=start, round=number))
    assert [None if previous is None else previous[0] for previous in seen] == [None, 1, 2]
