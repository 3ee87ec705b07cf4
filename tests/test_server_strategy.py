"""The Flower strategy against clients that lie, fail, or answer in any order; Flower's grid stands in, Ray does not run."""

import itertools
import random
import time

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from experiment.config import Experiment
from experiment.errors import RunError
from learning.parameters import Layout, ModelState
from strategies import pipeline_of
from strategies._roster import SimulatedRoster
from strategies.flower import PipelineStrategy


@pytest.fixture(autouse=True)
def task(monkeypatch):
    """Flower's messages want to know whose they are."""
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


LAYOUT = Layout(("w", "bn.running_mean", "bn.running_var"), ((2, 3), (2,), (2,)), (True, False, False))
SIZE = 10


class Quiet:
    """A watcher that only counts."""

    def __init__(self):
        self.images = 0

    def round_began(self, round_number, client_ids): ...

    def waiting_for(self, clients): ...

    def client_done(self, client_id, images):
        self.images += images


class Network:
    """A grid of ``clients`` nodes with random ids; each trains by adding its id and the round; ``faults`` change its reply."""

    def __init__(self, clients, faults=None, order=None, seed=0):
        ids = random.Random(seed).sample(range(1, 2**40), clients)
        self.client_of = {node: client for client, node in enumerate(ids)}
        self.faults, self.order, self.asked = faults or {}, order, []
        self.replies = {}
        self.counter = itertools.count()

    def get_node_ids(self):
        return list(self.client_of)

    def push_messages(self, messages):
        return [self._answer(message) for message in messages]

    def send_and_receive(self, messages, timeout=None):
        return self.pull_messages(self.push_messages(messages))

    def pull_messages(self, ids):
        found = [self.replies.pop(i) for i in list(ids) if i in self.replies]
        (self.order or (lambda replies: None))(found)
        return found

    def _answer(self, message):
        message.metadata.__dict__["_message_id"] = f"m{next(self.counter)}"
        client = self.client_of[message.metadata.dst_node_id]
        self.asked.append((message.metadata.message_type, client))
        if message.metadata.message_type == "query":
            reply = Message(RecordDict({"identity": ConfigRecord({"partition-id": client})}), reply_to=message)
        else:
            reply = self._train(message, client)
        if reply is not None:
            self.replies[message.metadata.message_id] = reply
        return message.metadata.message_id

    def _train(self, message, client):
        arrays = message.content["arrays"].to_numpy_ndarrays()
        step = np.float32(client + message.content["config"]["server-round"])
        content = {"arrays": [a + step for a in arrays], "num-examples": SIZE, "loss": 0.5, "images": 20.0}
        fault = self.faults.get(client)
        return fault(message, content) if fault else honest(message, content)


def honest(message, content):
    metrics = {k: v for k, v in content.items() if k != "arrays"}
    records = {"arrays": ArrayRecord(content["arrays"]), "metrics": MetricRecord(metrics)}
    return Message(RecordDict(records), reply_to=message)


def changed(**changes):
    def fault(message, content):
        return honest(message, content | {k: f(content) if callable(f) else f for k, f in changes.items()})

    return fault


def first(change):
    """The arrays with the first one changed."""
    return lambda content: [change(content["arrays"][0]), *content["arrays"][1:]]


def nan(array):
    array = array.copy()
    array.flat[0] = np.nan
    return array


def rambles(message, _content):
    return Message(
        Error(code=2, reason="ClientAppException occurred. Message: " * 100_000 + "\x1b[2J\n"), reply_to=message
    )


def shows_off(message, content):
    return changed(**{"num-examples": [1] * 100_000})(message, content)


def raises(message, _content):
    reason = (
        "<class 'ray.exceptions.RayTaskError(ClientAppException)'>:<'\x1b[36mray::run()\x1b[39m (pid=1)\n"
        "flwr.ClientAppException: \nException ClientAppException occurred. Message: out of cheese'>"
    )
    return Message(Error(code=2, reason=reason), reply_to=message)


def dies(message, _content):
    reason = "<class 'ray.exceptions.ActorUnavailableError'>:<'The actor a is unavailable: RpcError: Socket closed'>"
    return Message(Error(code=0, reason=reason), reply_to=message)


def garbage(message, content):
    record = ArrayRecord(content["arrays"])
    key = next(iter(record))
    record[key] = Array(dtype="float32", shape=(6,), stype="numpy.ndarray", data=b"\x00\x01garbage")
    return Message(RecordDict({"arrays": record, "metrics": MetricRecord({"num-examples": SIZE})}), reply_to=message)


FAULTS = {
    "raises": (raises, "client 2: it raised: out of cheese ("),
    "dies": (dies, "process died"),
    "writes without end": (rambles, "it raised: ClientAppException"),
    "claims a list": (shows_off, "it claims [1, 1, 1"),
    "is silent": (lambda message, content: None, "no reply within"),
    "sends NaN": (
        changed(arrays=first(nan)),
        "its weights have 1 values that are not finite (NaN or infinite), from w on",
    ),
    "sends infinity": (changed(arrays=first(lambda a: a / np.float32(0))), "not finite"),
    "sends another shape": (changed(arrays=first(lambda a: a[:5])), "its weights have shape (5,), not (6,)"),
    "sends too few arrays": (changed(arrays=lambda c: c["arrays"][:1]), "1 arrays, not weights and statistics"),
    "sends doubles": (changed(arrays=first(lambda a: a.astype(np.float64))), "its weights are float64"),
    "sends an overflow": (changed(arrays=first(lambda a: np.full_like(a, -3e38))), "overflows"),
    "sends garbage": (garbage, "cannot be unpacked"),
    "claims more examples": (changed(**{"num-examples": 10**6}), "claims 1000000 examples, but its shard has 10"),
    "claims a fraction": (changed(**{"num-examples": 10.0}), "claims 10.0"),
    "claims NaN images": (changed(images=float("nan")), "claims to have passed nan images"),
    "sends nothing": (lambda message, c: Message(RecordDict(), reply_to=message), "no arrays or no metrics"),
}


def run(network, start=0.0, nodes=0, after=None, done=0, **settings):
    settings = {"clients": 6, "clients_per_round": 5, "rounds": 3, "round_timeout": 0.3} | settings
    experiment = Experiment(**settings)
    state = after or ModelState(np.full(6, start, dtype=np.float32), np.zeros(4, dtype=np.float32))
    sizes = [SIZE] * experiment.clients
    strategy = PipelineStrategy(
        experiment, pipeline_of(experiment), LAYOUT, state, sizes, {}, Quiet(), SimulatedRoster(experiment, nodes), done
    )
    outcomes = []
    strategy.start(
        network, strategy.initial_arrays(), num_rounds=experiment.rounds - done, timeout=experiment.round_timeout,
        evaluate_fn=lambda r, a: outcomes.append(strategy.outcome),
    )  # fmt: skip
    return strategy, outcomes[1:]


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
    other, others = run(Network(8), nodes=8)
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


def test_each_node_is_asked_its_partition_once():
    network = Network(6)
    run(network)
    assert sorted(client for kind, client in network.asked if kind == "query") == list(range(6))


def test_fedavg_moves_the_model_by_the_mean_update():
    strategy, outcomes = run(Network(6), rounds=1)
    expected = np.mean(outcomes[0].client_ids) + 1
    np.testing.assert_allclose(strategy.state.weights, expected, rtol=1e-6)


@pytest.mark.parametrize("name", FAULTS)
def test_a_bad_reply_ends_the_run_naming_client_round_and_cause(name):
    fault, words = FAULTS[name]
    with pytest.raises(RunError) as error:
        run(Network(6, {2: fault}), start=3e38 if "overflow" in name else 0.0, clients_per_round=6)
    assert "round 1, client 2" in str(error.value) and words in str(error.value)


@pytest.mark.parametrize("name", FAULTS)
def test_a_bad_reply_can_be_left_out_and_is_recorded(name):
    fault, words = FAULTS[name]
    start = 3e38 if "overflow" in name else 0.0
    strategy, outcomes = run(Network(6, {2: fault}), start, clients_per_round=6, on_bad_reply="drop", rounds=2)
    for outcome in outcomes:
        assert outcome.client_ids == [0, 1, 3, 4, 5]
        assert (
            list(outcome.dropped) == [2] and words.removeprefix("client 2: ").removesuffix(" (") in outcome.dropped[2]
        )
    if not start:
        np.testing.assert_allclose(strategy.state.weights, 2 * np.mean([0, 1, 3, 4, 5]) + 3, rtol=1e-6)


@pytest.mark.parametrize("fault", [rambles, shows_off])
def test_a_clients_own_words_are_short_and_on_one_line_in_the_record(fault):
    began = time.monotonic()
    _, outcomes = run(Network(6, {2: fault}), clients_per_round=6, on_bad_reply="drop", rounds=1)
    cause = outcomes[0].dropped[2]
    assert len(cause) < 410 and cause.isprintable() and time.monotonic() - began < 20


def test_dropping_keeps_the_rules_own_minimum():
    faults = {1: FAULTS["sends NaN"][0], 2: FAULTS["raises"][0]}
    with pytest.raises(RunError, match=r"n = 4 and f = 1.*client 1 was left out.*client 2 was left out"):
        run(Network(6, faults), clients_per_round=6, on_bad_reply="drop", strategy="krum")
    with pytest.raises(RunError, match="no reply that could be used"):
        run(Network(2, dict.fromkeys(range(2), raises)), clients=2, clients_per_round=2, on_bad_reply="drop")


def test_negative_aggregated_variances_become_zero_and_are_counted():
    def negative(content):
        weights, statistics = content["arrays"]
        return [weights, statistics - np.array([0, 0, 100, 100], np.float32)]

    strategy, outcomes = run(Network(6, dict.fromkeys(range(6), changed(arrays=negative))), rounds=1)
    assert outcomes[0].clamped_variances == 2
    np.testing.assert_array_equal(strategy.state.statistics[2:], 0)
    assert (strategy.state.statistics[:2] > 0).all()


def test_replies_nobody_asked_for_are_no_part_of_the_round(monkeypatch):
    """A second reply of a client, and one of a client that was not selected, both slipped in among the round's."""
    stranger = []
    original = PipelineStrategy._collect

    def with_extra(strategy, server_round, replies):
        replies = list(replies)
        second = Message(replies[0].content, reply_to=replies[0])
        for message, source in ((second, replies[0]), (Message(replies[0].content, reply_to=replies[0]), None)):
            left_out = set(strategy.roster._partitions.values()) - set(strategy._chosen)
            node = next(n for n, c in strategy.roster._partitions.items() if c in left_out)
            message.metadata.__dict__["_src_node_id"] = source.metadata.src_node_id if source else node
            stranger.append(message)
        return original(strategy, server_round, [*replies, *stranger])

    expected, _ = run(Network(6), rounds=1)
    monkeypatch.setattr(PipelineStrategy, "_collect", with_extra)
    strategy, outcomes = run(Network(6), rounds=1)
    assert len(stranger) == 2 and len(outcomes[0].client_ids) == 5
    np.testing.assert_array_equal(strategy.state.weights, expected.state.weights)


def test_a_client_whose_process_was_being_restarted_is_asked_again():
    met = []

    def restarting(message, content):
        met.append(1)
        if len(met) > 2:
            return honest(message, content)
        reason = "<class 'ray.exceptions.ActorUnavailableError'>:<'… IOError: The actor is restarting.. The task may or may not'>"
        return Message(Error(code=0, reason=reason), reply_to=message)

    _, outcomes = run(Network(6, {3: restarting}), clients_per_round=6, rounds=1, round_timeout=30)
    assert len(met) == 3 and outcomes[0].client_ids == list(range(6))


@pytest.mark.parametrize(
    ("claims", "words"), [(1, "two nodes say they are client 1"), (6, "says it is client 6"), (None, "None")]
)
def test_nodes_that_claim_a_wrong_partition_are_refused(claims, words):
    network = Network(6)
    node = next(node for node, client in network.client_of.items() if client == 0)
    train = network._answer

    def answer(message):
        key = train(message)
        if message.metadata.message_type == "query" and message.metadata.dst_node_id == node:
            identity = {} if claims is None else {"identity": ConfigRecord({"partition-id": claims})}
            network.replies[key] = Message(RecordDict(identity), reply_to=message)
        return key

    network._answer = answer
    with pytest.raises(RunError, match=words):
        run(network)


def test_a_missing_client_is_named():
    with pytest.raises(RunError, match=r"clients \[4, 5\] did not join within 0.3 s"):
        run(Network(4))
