"""The Flower strategy and replies that are wrong, late, hostile or nobody's: named and fatal, or left out and recorded."""

import time

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Error, Message, MetricRecord, RecordDict

from oleander.system.errors import RunError
from strategies.flower import PipelineStrategy
from tests.played_network import SIZE, Network, changed, first, honest, run
from tests.spoilt import PACKED

pytestmark = pytest.mark.usefixtures("task")


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


def packed(name):
    def fault(message, content):
        reply = honest(message, content)
        next(iter(reply.content["arrays"].values())).data = PACKED[name]
        return reply

    return fault


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
    "claims 2^52 images": (changed(images=float(2**52)), "but a round of its shard is 20"),
    "claims fewer images": (changed(images=1.0), "claims to have passed 1.0 images"),
    "claims no images": (changed(images=0), "claims to have passed 0 images"),
    "claims a NaN loss": (changed(loss=float("nan")), "claims a loss of nan"),
    "claims an infinite loss": (changed(loss=float("inf")), "claims a loss of inf"),
    "claims a negative loss": (changed(loss=-0.5), "claims a loss of -0.5"),
    "claims a loss of 1e308": (changed(loss=1e308), "claims a loss of 1e+308, not a number from 0 to 3.4e+38"),
    "claims two losses": (changed(loss=[0.5, 0.5]), "claims a loss of [0.5, 0.5]"),
    "fails without a word": (
        lambda message, _: Message(Error(code=2, reason=None), reply_to=message),
        "it failed without a word",
    ),
    "sends a head that claims 10^8 numbers": (
        packed("10^8 numbers"),
        "its weights are float32 (100000000,), not float32 (6,)",
    ),
    "sends a pickle": (packed("pickle"), "its weights cannot be unpacked"),
    "sends nothing": (lambda message, c: Message(RecordDict(), reply_to=message), "no arrays or no metrics"),
}


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


def test_when_a_began_is_only_a_clients_word():
    for word in (float("nan"), -1e308, 1e308, 0):
        _, outcomes = run(Network(6, {2: changed(began=word)}), clients_per_round=6, rounds=1)
        assert 0 <= outcomes[0].seconds["train"] < 60


def test_a_bad_reply_gives_up_what_is_still_awaited_before_its_error_is_told():
    """Later there is no SuperLink that could be told, and Flower asks one again and again."""
    network, told = Network(6, {1: FAULTS["sends NaN"][0], 4: FAULTS["is silent"][0]}), []
    network.forget = told.extend
    try:
        run(network, clients_per_round=6, round_timeout=60)
    except RunError as error:
        assert len(told) >= 1  # while the error, with the frames that it holds, is there
        assert "client 1" in str(error)
    assert told


def test_a_node_that_has_left_when_it_is_to_train_is_a_bad_reply_at_once():
    """The SuperLink takes no message to it, and gives it no id."""
    network = Network(6)
    push = network.push_messages
    network.push_messages = lambda messages: [
        "" if m.metadata.message_type == "train" and network._plays(m) in (2, 3) else i
        for m, i in zip(messages, push(messages), strict=True)
    ]
    began = time.monotonic()
    _, outcomes = run(network, clients_per_round=6, rounds=1, on_bad_reply="drop", round_timeout=60)
    assert list(outcomes[0].dropped.values()) == ["it is gone: no sign of life"] * 2 and time.monotonic() - began < 30


@pytest.mark.parametrize(("timeout", "least"), [(1.0, 43_200), (100_000.0, 100_000), (float("inf"), 1e8), (1e308, 1e8)])
def test_flower_keeps_a_rounds_messages_for_as_long_as_the_round_waits(timeout, least):
    """Its own 12 hours would drop the reply of a client that takes longer."""
    lasted, network = [], Network(6)
    push = network.push_messages
    network.push_messages = lambda messages: (
        lasted.extend(m.metadata.ttl for m in messages if m.metadata.message_type == "train") or push(messages)
    )
    run(network, rounds=1, round_timeout=timeout)
    assert len(lasted) == 5 and set(lasted) == {least}


def test_replies_nobody_asked_for_are_no_part_of_the_round(monkeypatch):
    """A second reply of a client, and one of a node that is no client in this round, both slipped in among the round's."""
    stranger = []
    original = PipelineStrategy._collect

    def with_extra(strategy, server_round, replies):
        replies = list(replies)
        second = Message(replies[0].content, reply_to=replies[0])
        for message, source in ((second, replies[0]), (Message(replies[0].content, reply_to=replies[0]), None)):
            node = next(node for node in strategy.roster._nodes if strategy.roster.client_of(node) is None)
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
