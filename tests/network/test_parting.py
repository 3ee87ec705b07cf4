"""The gate's farewell: who hears it, once, in answer to what; and who is waited for until then."""

import threading

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Message, RecordDict
from flwr.proto.fleet_pb2 import PullMessagesRequest, PushMessagesRequest
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest, PushObjectRequest
from flwr.proto.node_pb2 import Node as NodeProto
from flwr.supercore.primitives.asymmetric import public_key_to_bytes

from oleander.network import client, parting, visit
from oleander.network import roster as rosters
from oleander.network.internals import FarewellError, Node, NodeRefusedError
from oleander.network.parting import GONE, HEADER, Parting
from oleander.network.roster import NetworkRoster
from tests.network.test_gate import World, signed

PULL, PUSH, PART, CONFIRM = (
    f"/v1/fleet/{name}" for name in ("pull-messages", "push-messages", "push-object", "confirm-message-received")
)
OURS = {HEADER: "1"}
KEYS = [ec.generate_private_key(ec.SECP384R1()) for _ in range(2)]


def asked(kind, node=7):
    return kind(node=NodeProto(node_id=node)).SerializeToString()


def world_of(*keys):
    """A gate whose SuperLink has given node 7 its messages, to the first key if there are any."""
    world = World([public_key_to_bytes(key.public_key()) for key in keys])
    how = signed(keys[0]) if keys else {}
    assert world.ask(PULL, asked(PullMessagesRequest), headers=OURS | how).status_code == 200
    world.passed.clear()
    return world


@pytest.mark.parametrize(
    ("path", "kind"), [(PULL, PullMessagesRequest), (PUSH, PushMessagesRequest), (PART, PushObjectRequest)]
)
def test_the_farewell_is_the_answer_to_one_request_and_the_superlink_has_no_part_in_it(path, kind):
    world = world_of()
    world.gate.parting.begin([7], "the run is finished", 0)
    answer = world.ask(path, asked(kind), headers=OURS)
    assert answer.status_code == GONE and not world.passed
    assert answer.json() == {"farewell": {"why": "the run is finished", "code": 0, "again": 0.0}}
    assert world.told == ["7"]
    assert world.ask(PULL, asked(PullMessagesRequest), headers=OURS).status_code == 200  # said once
    assert world.passed == [PULL] and world.told == ["7"]


def test_nobody_hears_it_in_anothers_place_nor_before_it_is_said_nor_who_was_not_named():
    world = world_of(*KEYS)
    own, others = (OURS | signed(key) for key in KEYS)
    assert world.ask(PULL, asked(PullMessagesRequest), headers=own).status_code == 200
    world.gate.parting.begin([7], "over", 0)
    assert world.ask(PULL, asked(PullMessagesRequest, 8), headers=own).status_code == 200
    assert world.ask(PUSH, asked(PushMessagesRequest), headers=others).status_code == 400
    assert "7" not in world.told
    assert world.ask(PULL, asked(PullMessagesRequest), headers=own).status_code == GONE


def test_flowers_own_nodes_go_on_as_ever_and_have_heard_when_they_confirm_the_message():
    world = world_of()
    world.gate.parting.begin([7], "over", 0)
    assert world.ask(PULL, asked(PullMessagesRequest)).status_code == 200 and not world.told
    assert world.ask(CONFIRM, asked(ConfirmMessageReceivedRequest)).status_code == 200 and world.told == ["7"]


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(parting.time, "monotonic", lambda: now[0])
    return now


def test_who_polls_seldom_is_waited_for_longer_than_who_polled_often_and_stopped(clock):
    leave = Parting()
    for _ in range(5):  # 1 in a flood, every four seconds; 2 every second
        for node in (1, 2):
            leave.polled(node, b"")
        for _ in range(3):
            clock[0] += 1
            leave.polled(2, b"")
        clock[0] += 1
    leave.begin([1, 2, 3], "over", 0)
    clock[0] += 4.5
    assert leave.fell_silent() == [2]  # its last poll is 5.5 s ago
    clock[0] += 1
    assert leave.fell_silent() == [3] and leave.fell_silent() == []  # never seen; each is named once
    clock[0] += 3
    assert leave.fell_silent() == [1]
    assert leave.word_for(1, b"") and leave.heard(1) and not leave.heard(1)


def test_who_has_heard_never_falls_silent(clock):
    leave = Parting()
    leave.polled(1, b"")
    leave.begin([1], "over", 0)
    assert leave.heard(1) and not leave.is_on
    clock[0] += 100
    assert leave.fell_silent() == []


# ---- the client's side --------------------------------------------------------------------------------------------------


def node_that_is_answered(*answers):
    """A node whose requests get these answers, the last one ever again."""
    node, left = Node("h:1", None, None), list(answers)
    node._node = NodeProto(node_id=7)

    def answer(request):
        node.asked = getattr(node, "asked", 0) + 1
        return left.pop(0) if len(left) > 1 else left[0]

    node._fleet._client = httpx.Client(transport=httpx.MockTransport(answer))
    return node


def gone(why="the run failed: round 1", code=1):
    return httpx.Response(GONE, json={"farewell": {"why": why, "code": code, "again": 0.0}})


def test_a_node_remembers_the_farewell_whatever_it_asks_next(task):
    node = node_that_is_answered(gone(), httpx.Response(503))
    reply = Message(RecordDict(), reply_to=Message(RecordDict(), dst_node_id=7, message_type="train"))
    for ask in (node.receive, node.receive, lambda: node.answer(reply, 1.0)):
        with pytest.raises(FarewellError) as told:
            ask()
        assert (told.value.why, told.value.code) == ("the run failed: round 1", 1)
    assert node.asked == 1


def test_the_farewell_may_be_the_answer_to_a_reply(task):
    node = node_that_is_answered(gone(code=0))
    reply = Message(RecordDict(), reply_to=Message(RecordDict(), dst_node_id=7, message_type="train"))
    with pytest.raises(FarewellError):
        node.answer(reply, 1.0)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"farewell": 1}', b'{"farewell": {"why": "x"}}', b'{"detail": "x"}'])
def test_what_is_no_farewell_is_a_refusal(content):
    with pytest.raises(NodeRefusedError):
        node_that_is_answered(httpx.Response(GONE, content=content)).receive()


def test_a_client_that_trains_hears_it_meanwhile_and_ends_without_an_answer(task, monkeypatch):
    monkeypatch.setattr(client, "LISTEN_SECONDS", 0.01)
    heard = threading.Event()
    train = Message(RecordDict(), dst_node_id=7, message_type="train")

    class Busy:
        node_id, said = 7, None

        def __init__(self):
            self.left = [train]

        def receive(self):
            if self.left:
                return self.left.pop()
            self.said = FarewellError("the run failed", 1)
            heard.set()
            raise self.said

        def answer(self, reply, seconds):
            raise self.said or AssertionError("it was asked after all")

    def trains(message, _context):
        assert heard.wait(20)
        return Message(RecordDict(), reply_to=message)

    monkeypatch.setattr(client, "_answer", trains)
    with pytest.raises(FarewellError):
        client._work(Busy(), {}, lambda: None, visit.Patience(visit.ClientFlags("h:1", 0)))


# ---- the server's side --------------------------------------------------------------------------------------------------


class Grid:
    """Nodes that never answer a message."""

    def __init__(self, *nodes):
        self.online, self.sent = set(nodes), []

    def get_node_ids(self):
        return list(self.online)

    def push_messages(self, messages):
        self.sent += [message.metadata.dst_node_id for message in messages]
        return [f"m{message.metadata.dst_node_id}" for message in messages]

    def pull_messages(self, _ids):
        return []


class Gate:
    """A gate that lets things happen, one each time it is looked at who has heard."""

    def __init__(self, *happens):
        self.said, self.happens, self.heard = [], list(happens), set()

    def part(self, nodes, why, code):
        self.said.append((list(nodes), why, code))

    @property
    def parted(self):
        if self.happens:
            self.happens.pop(0)(self)
        return self.heard


def dismissed(monkeypatch, grid, gate, patience=20.0):
    """Seconds that the farewell took, by a clock that only sleeping moves."""
    now = [0.0]
    monkeypatch.setattr(rosters.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(rosters.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    NetworkRoster(None, print, gate=gate).dismiss(grid, "over", 0, patience)
    return now[0]


def test_a_farewell_is_waited_for_until_the_gate_is_done_with_everybody_however_long_each_takes(task, monkeypatch):
    def later(_):
        pass

    gate = Gate(*[later] * 20, lambda g: g.heard.add(1), *[later] * 8, lambda g: g.heard.add(2))
    assert 7 < dismissed(monkeypatch, Grid(1, 2), gate) < 7.5
    assert gate.said == [([1, 2], "over", 0)]


def test_it_is_waited_for_no_longer_than_patience_lasts_and_not_for_who_has_left(task, monkeypatch):
    assert 3 <= dismissed(monkeypatch, Grid(1), Gate(), 3.0) < 3.5
    grid = Grid(1, 2)
    assert dismissed(monkeypatch, grid, Gate(lambda g: g.heard.add(1), lambda _: grid.online.discard(2))) < 1


def test_who_joins_while_it_is_said_is_told_too(task, monkeypatch):
    grid = Grid(1)
    gate = Gate(lambda _: grid.online.add(5), lambda g: g.heard.add(1), lambda g: g.heard.add(5))
    dismissed(monkeypatch, grid, gate)
    assert [nodes for nodes, _, _ in gate.said] == [[1], [5]] and grid.sent == [1, 5]
