"""2,000 and more replies, hellos and farewells with spoilt fields: none raises but as its sender's fault, none takes memory."""

import contextlib
import json
import math
import tracemalloc

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from hypothesis import HealthCheck, given, settings

from oleander.learning.parameters import ModelState
from oleander.network.roster import NetworkRoster, read_identity
from oleander.settings.config import Experiment
from oleander.transport.grid import StreamingGrid
from oleander.transport.replies import MOST_LOSS, BadReply, read_reply
from oleander.transport.roster import SimulatedRoster
from strategies import pipeline_of
from strategies.flower import PipelineStrategy
from tests.played_network import LAYOUT, SIZE, Quiet
from tests.spoilt import PACKED, Executed, copied, odd, replies

pytestmark = pytest.mark.usefixtures("task")
MOST_MEMORY = 2**21
"""Bytes that reading a reply of a model of ten numbers may take: some texts have 100,000 characters, and numpy imports a module."""
CASES: dict[str, int] = {}


def cases(number):
    return settings(
        max_examples=number, derandomize=True, database=None, deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    )  # fmt: skip


def asked(node=7, kind="train"):
    message = Message(RecordDict(), dst_node_id=node, message_type=kind)
    message.metadata.__dict__["_message_id"] = f"asked-{node}"
    return message


def trained(node=7):
    arrays = ArrayRecord([np.arange(6, dtype=np.float32), np.arange(4, dtype=np.float32)])
    metrics = MetricRecord({"num-examples": SIZE, "loss": 0.5, "images": 20.0, "began": 1e9})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=asked(node))


def introduced(node=7, client=2):
    said = {
        "partition-id": client,
        "versions": "{}",
        "shard-sha256": "ab",
        "dataset-sha256": "cd",
        "trigger-sha256": "",
        "problem": "",
    }
    return Message(RecordDict({"identity": ConfigRecord(said)}), reply_to=asked(node, "query"))


@contextlib.contextmanager
def task():
    from flwr.supercore.task_identity import TaskIdentity

    before = TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id
    TaskIdentity._task_id = TaskIdentity._run_id = TaskIdentity._node_id = 1
    try:
        yield
    finally:
        TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id = before


with task():
    TRAINED, INTRODUCED = trained(), introduced()


@contextlib.contextmanager
def little_memory(most=MOST_MEMORY):
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


def count(case, refused):
    CASES[case] = CASES.get(case, 0) + 1
    CASES[f"{case}, refused"] = CASES.get(f"{case}, refused", 0) + refused


def test_what_is_drawn_can_be_printed():
    """Hypothesis prints it whenever another thread of this process has moved ``random`` meanwhile."""
    assert len(repr(replies(TRAINED))) < 20_000 and len(repr(odd)) < 10_000


@given(reply=replies(TRAINED))
@cases(1000)
def test_a_spoilt_reply_is_a_bad_reply_or_as_good_as_an_honest_one(reply):
    with little_memory():
        try:
            model, numbers = read_reply(reply, LAYOUT, SIZE, 20)
        except BadReply as error:
            assert len(str(error)) < 410 and str(error).isprintable()
            count("replies", True)
            return
    count("replies", False)
    assert model.weights.shape == (6,) and model.statistics.shape == (4,)
    assert np.isfinite(model.weights).all() and model.weights.dtype == np.float32
    assert 0 <= numbers["loss"] <= MOST_LOSS and numbers["images"] == 20 and math.isfinite(numbers.get("began", 0.0))
    assert not Executed.seen


@pytest.mark.parametrize("name", PACKED)
def test_no_packing_but_the_right_one_is_opened(name):
    reply = copied(TRAINED)
    next(iter(reply.content["arrays"].values())).__dict__["data"] = PACKED[name]
    with little_memory():
        if name == "largest":
            assert read_reply(reply, LAYOUT, SIZE, 20)[0].weights.max() > 2e38
        else:
            with pytest.raises(BadReply):
                read_reply(reply, LAYOUT, SIZE, 20)
    assert not Executed.seen


class Played:
    """A grid whose node 7 answers with a spoilt message, and 5 and 6 with honest ones."""

    def __init__(self, spoilt, honest):
        self.spoilt, self.honest, self.pending = spoilt, honest, {}

    def get_node_ids(self):
        return [5, 6, 7]

    def push_messages(self, messages):
        for message in messages:
            node = message.metadata.dst_node_id
            message.metadata.__dict__["_message_id"] = f"asked-{node}"
            self.pending[f"asked-{node}"] = self.spoilt if node == 7 else self.honest(node)
        return [message.metadata.message_id for message in messages]

    def pull_messages(self, ids):
        return [self.pending.pop(key) for key in list(ids) if key in self.pending]


class Three(SimulatedRoster):
    def __init__(self, experiment):
        super().__init__(experiment)
        self._clients = {5: 0, 6: 1, 7: 2}


def played_round(reply, **settings):
    settings = {"clients": 3, "clients_per_round": 3, "round_timeout": 0.01, "on_bad_reply": "drop"} | settings
    experiment = Experiment(**settings)
    state = ModelState(np.zeros(6, dtype=np.float32), np.zeros(4, dtype=np.float32))
    strategy = PipelineStrategy(
        experiment, pipeline_of(experiment), LAYOUT, state, [SIZE] * 3, {}, Quiet(), Three(experiment)
    )
    strategy._chosen = [0, 1, 2]
    grid = StreamingGrid(Played(reply, trained), restarts=False)
    strategy.aggregate_train(1, grid.send_and_receive([asked(node) for node in (5, 6, 7)], timeout=0.01))
    return strategy.outcome


@given(reply=replies(TRAINED))
@cases(450)
def test_whatever_one_client_sends_the_others_round_goes_on_and_the_record_is_json_with_bounds(reply):
    outcome = played_round(reply)
    assert set(outcome.client_ids) >= {0, 1} and set(outcome.client_ids) | set(outcome.dropped) == {0, 1, 2}
    count("rounds", 2 in outcome.dropped)
    json.dumps(
        [outcome.losses, outcome.images, outcome.norms_before, outcome.seconds, outcome.dropped], allow_nan=False
    )
    assert all(0 <= loss <= MOST_LOSS for loss in outcome.losses) and outcome.images == 20 * len(outcome.client_ids)


@given(reply=replies(INTRODUCED))
@cases(450)
def test_a_spoilt_answer_to_the_hello_is_refused_and_ends_nothing(reply):
    with little_memory():
        try:
            who = read_identity(reply)
        except BadReply as error:
            assert len(str(error)) < 410 and str(error).isprintable()
            count("hellos, read", True)
            return
    count("hellos, read", False)
    assert who.client is None or type(who.client) is int


class Farewells(Played):
    """… and hears who was sent away."""

    def __init__(self, spoilt):
        super().__init__(spoilt, lambda node: introduced(node, node - 5))
        self.sent = []

    def push_messages(self, messages):
        self.sent += [m.metadata.dst_node_id for m in messages if "farewell" in m.content]
        return super().push_messages(messages)


@pytest.fixture(scope="module")
def setup(image_folder):
    from oleander.experiment.prepare import Sources, prepare

    settings = {"clients": 3, "clients_per_round": 2, "samples_per_client": 8, "round_timeout": 0.05}
    return prepare(Experiment(dataset=f"folder:{image_folder}", weights="fresh", **settings), Sources(print))


@given(reply=replies(INTRODUCED))
@cases(100)
def test_a_server_refuses_it_by_name_and_says_goodbye_whatever_is_answered(setup, reply):
    said, grid = [], Farewells(reply)
    roster = NetworkRoster(setup, said.append)
    roster._look(grid)
    assert {5, 6} <= set(grid.sent)  # their data are others
    if 7 not in roster._greeted.values():  # else it has not said whom it answers
        assert 7 in grid.sent and len(said) == 3
        count("hellos, a server's", True)
    else:
        count("hellos, a server's", False)
    assert all(line.isprintable() and len(line) < 450 for line in said)
    roster._refused.clear()
    roster.dismiss(grid, "over", 0, patience=0.0)


@given(value=odd)
@cases(100)
def test_odd_metrics_are_refused_or_left_alone(value):
    for name in ("num-examples", "loss", "images", "began", "more"):
        reply = copied(TRAINED)
        reply.content["metrics"].__dict__["_data"][name] = value
        try:
            _, numbers = read_reply(reply, LAYOUT, SIZE, 20)
            assert name in ("began", "more") or value == reply.content["metrics"][name]
            assert set(numbers) <= {"loss", "images", "began"}
        except BadReply:
            assert name != "more"


def test_there_were_two_thousand_cases():
    kinds = ("replies", "rounds", "hellos, read", "hellos, a server's")
    print(CASES)
    if not all(kind in CASES for kind in kinds):
        pytest.skip("not all tests of this file ran in this process")
    assert sum(CASES[kind] for kind in kinds) >= 2000
    assert all(CASES[f"{kind}, refused"] > 0.2 * CASES[kind] for kind in kinds)
