"""What a round does to the global model and what it reports of it; Flower's grid is played, Ray does not run."""

import time
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
from flwr.app import Message

import tests.played_network as played
from oleander.learning.parameters import ModelState
from oleander.learning.updates import Aggregate
from oleander.system.errors import RunError
from strategies import Pipeline, RuleError, Step
from strategies.flower import PipelineStrategy
from tests.played_network import Network, changed, failing, run

pytestmark = pytest.mark.usefixtures("task")


def moved_by(weights, statistics):
    """A client whose local model is this."""

    return changed(arrays=[np.asarray(weights, np.float32), np.asarray(statistics, np.float32)])


def of_length(norm, statistics=(0, 0, 0, 0)):
    """A client that moves the model, which starts from 0, by so much in one weight."""
    return moved_by([0, 0, norm, 0, 0, 0], statistics)


def test_norms_are_of_the_updates_as_they_came_and_as_the_filter_left_them():
    lengths = [1.0, 2.0, 3.0, 40.0, 50.0]
    network = Network(5, {i: of_length(length) for i, length in enumerate(lengths)})
    strategy, (outcome,) = run(network, clients=5, clients_per_round=5, rounds=1, strategy="clip+fedavg")
    assert outcome.norms_before == lengths
    assert outcome.norms_after == pytest.approx([1, 2, 3, 3, 3], rel=1e-6)
    np.testing.assert_allclose(strategy.state.weights, [0, 0, 12 / 5, 0, 0, 0], rtol=1e-6)
    assert outcome.influence == pytest.approx([0.2] * 5)


def test_norms_are_of_the_weights_only_and_in_no_filters_hands_stay_as_they_are():
    network = Network(5, {i: of_length(3, [100, 100, 100, 100]) for i in range(5)})
    _, (outcome,) = run(network, clients=5, clients_per_round=5, rounds=1)
    assert outcome.norms_before == outcome.norms_after == [3.0] * 5


def test_a_running_mean_may_be_negative_and_a_variance_not():
    network = Network(5, {i: of_length(1, [-7, 2, -7, 5]) for i in range(5)})
    strategy, (outcome,) = run(network, clients=5, clients_per_round=5, rounds=1)
    assert strategy.state.statistics.tolist() == [-7, 2, 0, 5] and outcome.clamped_variances == 1


def test_a_variance_that_comes_to_0_is_no_clamped_one():
    network = Network(5, {i: of_length(1, [0, 0, 0, 1]) for i in range(5)})
    _, (outcome,) = run(network, clients=5, clients_per_round=5, rounds=1)
    assert outcome.clamped_variances == 0


def test_what_is_averaged_is_the_change_and_it_is_added_to_the_model_that_was_sent():
    """Weights at 5, statistics at 0: krum's winner moves by what it moved, not to what it sent twice over."""
    network = Network(5, {i: moved_by(np.full(6, 5.0 + step), [1, 1, 1, 1]) for i, step in enumerate([1, 2, 3, 9, 10])})
    strategy, (outcome,) = run(network, 5.0, clients=5, clients_per_round=5, rounds=1, strategy="krum")
    assert outcome.influence == [0, 1, 0, 0, 0]  # 2, between 1 and 3
    assert strategy.state.weights.tolist() == [7.0] * 6 and strategy.state.statistics.tolist() == [1.0] * 4
    np.testing.assert_allclose(outcome.norms_before, np.sqrt(6) * np.array([1, 2, 3, 9, 10]), rtol=1e-6)


def test_a_clients_influence_is_by_the_examples_that_the_server_knows_of(monkeypatch):
    """Not equal where shards are not; who claims more, or fewer, than its shard has is refused."""
    sizes = [10, 20, 30]

    class Sized(PipelineStrategy):
        def __init__(self, experiment, pipeline, layout, start, _shard_sizes, *others):
            super().__init__(experiment, pipeline, layout, start, sizes, *others)

    monkeypatch.setattr(played, "PipelineStrategy", Sized)
    faults = {i: changed(**{"num-examples": size, "images": 2.0 * size}) for i, size in enumerate(sizes)}
    _, (outcome,) = run(Network(3, faults), clients=3, clients_per_round=3, rounds=1)
    assert outcome.influence == pytest.approx([1 / 6, 2 / 6, 3 / 6])
    for claimed in (0, 1, 9, 11, 20):
        lying = faults | {0: changed(**{"num-examples": claimed})}
        with pytest.raises(RunError, match=f"client 0: it claims {claimed} examples, but its shard has 10"):
            run(Network(3, lying), clients=3, clients_per_round=3, rounds=1)


def test_losses_and_images_are_the_clients_own_by_rising_id():
    faults = {i: changed(loss=0.5 + i) for i in range(6)}
    _, (outcome,) = run(Network(6, faults, order=list.reverse), clients_per_round=6, rounds=1)
    assert outcome.losses == [0.5, 1.5, 2.5, 3.5, 4.5, 5.5] and outcome.images == 6 * 20


def test_who_is_left_out_leaves_the_others_their_own_numbers():
    """Rows of the cohort go on belonging to the clients whose they are."""
    faults = {i: changed(arrays=lambda c: [c["arrays"][0], c["arrays"][1]], loss=0.5 + i) for i in range(6)}
    faults[0] = changed(arrays=lambda c: c["arrays"][:1])
    faults[3] = lambda message, content: None
    _, (outcome,) = run(Network(6, faults), clients_per_round=6, rounds=1, on_bad_reply="drop")
    assert outcome.client_ids == [1, 2, 4, 5] and outcome.losses == [1.5, 2.5, 4.5, 5.5]
    assert list(outcome.dropped) == [0, 3]
    assert outcome.norms_before == pytest.approx([np.sqrt(6) * (i + 1) for i in (1, 2, 4, 5)])
    assert outcome.influence == pytest.approx([0.25] * 4)


def test_rounds_and_their_times_are_counted_on():
    began = time.time()
    strategy, outcomes = run(Network(6), rounds=3)
    assert [outcome.round for outcome in outcomes] == [1, 2, 3]
    for outcome in outcomes:
        assert set(outcome.seconds) == {"train", "aggregate"}
        assert all(0 <= seconds <= time.time() - began for seconds in outcome.seconds.values())
    assert began - 1 <= strategy.training_began_at <= time.time()


@pytest.mark.parametrize("claimed", [-1e300, 0.0, 1e300, float("nan")])
def test_when_a_client_says_it_began_is_believed_only_within_the_round(claimed):
    began = time.time()
    strategy, (outcome,) = run(Network(6, dict.fromkeys(range(6), changed(began=claimed))), rounds=1)
    assert began - 1 <= strategy.training_began_at <= time.time() and outcome.seconds["train"] >= 0


def test_training_began_when_the_first_client_says_that_it_did():
    said = []

    def late(message, content):
        time.sleep(0.02)  # after the model was sent
        said.append(time.time())
        return changed(began=said[-1])(message, content)

    strategy, (outcome,) = run(Network(6, dict.fromkeys(range(6), late)), rounds=1)
    assert strategy.training_began_at == min(said)
    assert 0 <= outcome.seconds["train"] <= time.time() - min(said)  # what came before was start-up


def test_nobody_began_later_than_now():
    faults = {i: changed(began=lambda _content: time.time() + 1000) for i in range(6)}
    strategy, _ = run(Network(6, faults), rounds=1)
    assert strategy.training_began_at <= time.time()


@pytest.mark.filterwarnings("error")
def test_an_update_that_overflows_is_a_bad_reply_in_weights_and_in_statistics():
    state = ModelState(np.full(6, 3e38, np.float32), np.full(4, 3e38, np.float32))
    for fault in (moved_by(np.full(6, -3e38), np.full(4, 3e38)), moved_by(np.full(6, 3e38), np.full(4, -3e38))):
        with pytest.raises(RunError, match="round 1, client 0: its update overflows"):
            run(Network(5, {0: fault}), clients=5, clients_per_round=5, rounds=1, after=state)
    network = Network(5, {i: moved_by(np.full(6, 3.1e38), np.full(4, 3.1e38)) for i in range(5)})
    strategy, _ = run(network, clients=5, clients_per_round=5, rounds=1, after=state)
    assert strategy.state.weights.tolist() == [np.float32(3.1e38)] * 6


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("part", ["delta", "statistics"])
def test_an_aggregate_that_overflows_ends_the_run_with_the_rounds_number(part, monkeypatch):
    def rule(cohort):
        good = Aggregate(np.zeros(6, np.float32), np.zeros(4, np.float32), np.full(6, 1 / 6))
        return replace(good, **{part: np.full_like(getattr(good, part), 3e38)})

    monkeypatch.setattr(played, "pipeline_of", lambda _: Pipeline("mine", (), Step("mine", rule)))
    state = ModelState(np.full(6, 3e38, np.float32), np.full(4, 3e38, np.float32))
    with pytest.raises(RunError, match=r"^round 3: the aggregate overflows float32; "):
        run(Network(6), clients_per_round=6, rounds=5, done=2, after=state)


def test_a_rule_that_cannot_aggregate_a_round_names_it_and_who_was_left_out(monkeypatch):
    def rule(cohort):
        raise RuleError("too few")

    monkeypatch.setattr(played, "pipeline_of", lambda _: Pipeline("mine", (), Step("mine", rule)))
    with pytest.raises(RunError, match=r"^round 1: too few; client 2 was left out: it raised: no$"):
        run(Network(6, {2: failing("no")}), clients_per_round=6, rounds=1, on_bad_reply="drop")


def test_a_reply_that_nobody_asked_for_holds_back_none_that_come_after_it(monkeypatch):
    """The first client's reply comes twice, and one comes from a client that was not drawn, before all others."""
    expected, (honest,) = run(Network(6), rounds=1)
    original = PipelineStrategy.aggregate_train

    def with_extra(strategy, server_round, replies):
        first, *others = replies
        twice, strange = (Message(first.content, reply_to=first) for _ in range(2))
        twice.metadata.__dict__["_src_node_id"] = first.metadata.src_node_id
        strange.metadata.__dict__["_src_node_id"] = 7
        return original(strategy, server_round, [strange, first, twice, *others])

    monkeypatch.setattr(PipelineStrategy, "aggregate_train", with_extra)
    strategy, (outcome,) = run(Network(6), rounds=1)
    assert replace(outcome, seconds={}) == replace(honest, seconds={})
    np.testing.assert_array_equal(strategy.state.weights, expected.state.weights)


class Told(played.Quiet):
    """A watcher that keeps what it is told."""

    waiting: ClassVar[list[int]] = []
    done: ClassVar[list[tuple[int, int]]] = []

    def waiting_for(self, clients):
        Told.waiting.append(clients)

    def client_done(self, client_id, images):
        Told.done.append((client_id, images))


def test_the_watcher_is_told_who_is_done_and_how_many_are_not(monkeypatch):
    monkeypatch.setattr(played, "Quiet", Told)
    Told.waiting.clear(), Told.done.clear()
    faults = {2: failing("no"), 4: lambda message, content: None}
    run(Network(6, faults), clients_per_round=6, rounds=1, on_bad_reply="drop")
    assert Told.waiting == [6, 5, 4, 3, 2, 1, 0]
    assert Told.done == [(0, 20), (1, 20), (3, 20), (5, 20)]
