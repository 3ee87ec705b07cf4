"""What the gate lets through, request by request, in front of a SuperLink that only counts."""

import asyncio
import base64
import json

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.proto.fleet_pb2 import PullMessagesRequest, PullMessagesResponse, PushMessagesRequest
from flwr.proto.message_pb2 import Message as MessageProto
from flwr.proto.message_pb2 import Metadata, ObjectTree, PushObjectRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.date import now
from flwr.supercore.primitives.asymmetric import public_key_to_bytes, sign_message

from oleander.network import filter as filtering
from oleander.network import orders
from oleander.network.filter import SMALL, Filter
from oleander.network.internals import (
    FLEET,
    FLEET_HTTP_PUBLIC_KEY_HEADER,
    FLEET_HTTP_SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
)
from oleander.network.orders import Orders, Teller

LIMIT = 1000
KEY, OTHER = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP384R1())


class World:
    """A gate, and what came through it."""

    def __init__(self, keys=()):
        self.passed, self.told, self.bodies = [], [], []
        orders = Orders([], "http://superlink", "", "", "127.0.0.1", 1, LIMIT, 64, keys=[k.decode() for k in keys])
        tell = Teller()
        tell.event = lambda kind, text="": self.told.append(text)
        self.gate = Filter(orders, tell)
        self.gate.client = httpx.AsyncClient(
            transport=httpx.MockTransport(self._superlink), base_url="http://superlink"
        )
        self.given = PullMessagesResponse()

    def _superlink(self, request):
        self.passed.append(request.url.path)
        self.bodies.append(request.content)
        return httpx.Response(200, content=self.given.SerializeToString() if "pull-m" in request.url.path else b"ok")

    def ask(self, path, content=b"", method="POST", headers=None):
        async def asked():
            transport = httpx.ASGITransport(self.gate, client=("10.0.0.9", 1))
            async with httpx.AsyncClient(transport=transport, base_url="http://gate") as world:
                return await world.request(method, path, content=content, headers=headers)

        return asyncio.run(asked())

    def give(self, node, message):
        """The node fetches a message."""
        metadata = Metadata(message_id=message, dst_node_id=node)
        self.given = PullMessagesResponse(messages_list=[MessageProto(metadata=metadata)])
        assert self.ask("/v1/fleet/pull-messages", PullMessagesRequest().SerializeToString()).status_code == 200

    def reply(self, node, to, source=None, count=1, tree=None):
        metadata = Metadata(src_node_id=node if source is None else source, reply_to_message_id=to, message_id="r")
        push = PushMessagesRequest(
            node=Node(node_id=node),
            messages_list=[MessageProto(metadata=metadata)] * count,
            message_object_trees=[tree or ObjectTree(object_id="r")] * count,
        )
        return self.ask("/v1/fleet/push-messages", push.SerializeToString()).status_code

    def part(self, node, size, name=""):
        push = PushObjectRequest(node=Node(node_id=node), object_id=name, object_content=b"x" * size)
        return self.ask("/v1/fleet/push-object", push.SerializeToString()).status_code


def signed(key, at=None):
    stamp = (at or now()).isoformat()
    return {
        FLEET_HTTP_PUBLIC_KEY_HEADER: base64.b64encode(public_key_to_bytes(key.public_key())).decode(),
        FLEET_HTTP_SIGNATURE_HEADER: base64.b64encode(sign_message(key, stamp.encode())).decode(),
        TIMESTAMP_HEADER: stamp,
    }


def test_what_nodes_ask_and_the_health_of_the_server_pass():
    world = World()
    for path in sorted(FLEET - {"/v1/fleet/push-messages", "/v1/fleet/push-object"}):
        assert world.ask(path).status_code == 200
    assert world.ask("/health", method="GET").status_code == 200
    assert len(world.passed) == len(FLEET) - 1 and not world.told


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/control/start-run"), ("POST", "/v1/control/register-node"), ("POST", "/v1/control/stop-run"),
        ("POST", "/v1/runtime/acquire-task"), ("POST", "/v1/fleet/new-thing"), ("POST", "/v1/fleet/../control/start-run"),
        ("POST", "/v1/fleet/%2e%2e/control/start-run"), ("POST", "//v1/control/start-run"), ("POST", "/V1/FLEET/pull-object"),
        ("POST", "/v1/fleet/pull-object?x=1"), ("GET", "/v1/fleet/pull-object"), ("GET", "/docs"), ("GET", "/openapi.json"),
        ("PUT", "/v1/fleet/pull-object"), ("POST", "/health"), ("GET", "/"),
    ],
)  # fmt: skip
def test_nothing_else_does_and_the_server_hears_of_it(method, path):
    world = World()
    answer = world.ask(path, method=method)
    assert answer.status_code == 403 and not world.passed
    assert "not for clients" in world.told[0] and "10.0.0.9" in world.told[0]


def test_every_path_of_flowers_control_and_runtime_interfaces_is_closed():
    from flwr.supercore.protobuf.translation import PROTOBUF_REQUEST_TYPES

    closed = [path for method, path in PROTOBUF_REQUEST_TYPES if not path.startswith("/v1/fleet/")]
    world = World()
    assert len(closed) > 40 and {world.ask(path).status_code for path in closed} == {403} and not world.passed


def test_with_keys_only_a_fresh_signature_of_a_known_key_counts():
    import datetime

    world = World([public_key_to_bytes(KEY.public_key())])
    path = "/v1/fleet/pull-object"
    assert world.ask(path, headers=signed(KEY)).status_code == 200
    replaced = signed(KEY) | {FLEET_HTTP_PUBLIC_KEY_HEADER: signed(OTHER)[FLEET_HTTP_PUBLIC_KEY_HEADER]}
    old = now() - datetime.timedelta(hours=1)
    for headers, words in (
        ({}, "no signature"), (signed(OTHER), "does not know"), (replaced, "no signature, or not a valid one"),
        (signed(KEY, old), "not a valid"), (signed(KEY) | {FLEET_HTTP_SIGNATURE_HEADER: "!"}, "not a valid"),
        (signed(KEY) | {TIMESTAMP_HEADER: "yesterday"}, "not a valid"),
    ):  # fmt: skip
        assert world.ask(path, headers=headers).status_code == 401
        assert words in world.told[-1]
    assert world.passed == [path]


def test_a_node_answers_what_it_was_given_once_and_in_its_own_name():
    world = World()
    world.give(5, "m1")
    assert world.reply(5, "m1", source=6) == 403 and "in the name of node 6" in world.told[-1]
    assert world.reply(6, "m1") == 403 and "was not given" in world.told[-1]
    assert world.reply(5, "m1", count=2) == 400
    assert world.reply(5, "m1") == 200
    assert world.reply(5, "m1") == 403 and "answers twice" in world.told[-1]


def test_the_parts_of_a_reply_keep_to_the_limit_together_and_a_new_reply_starts_anew():
    world = World()
    world.give(5, "m1")
    world.give(5, "m2")
    assert world.reply(5, "m1") == 200
    assert [world.part(5, 400), world.part(5, 400), world.part(5, 400)] == [200, 200, 413]
    assert "reply of more than 1000 bytes" in world.told[-1]
    assert world.reply(5, "m2") == 200 and world.part(5, 400) == 200
    assert world.part(6, 900) == 403 and "a part of no reply" in world.told[-1]


def test_the_parts_of_a_reply_are_a_tree_as_a_models_is():
    """Flower's store would unfold a part that stands twice once for each time, and each of its parts again."""
    world = World()
    model = ObjectTree(
        object_id="r",
        children=[ObjectTree(object_id=f"c{i}", children=[ObjectTree(object_id=f"d{i}")]) for i in range(9)],
    )
    bomb = ObjectTree(object_id="L0")
    for level in range(1, 40):
        name = "r" if level == 39 else f"L{level}"
        bomb = ObjectTree(object_id=name, children=[bomb, ObjectTree(object_id=f"L{level - 1}")])
    deep = ObjectTree(object_id="end")
    for level in range(10):
        deep = ObjectTree(object_id="r" if level == 9 else f"n{level}", children=[deep])
    wide = ObjectTree(object_id="r", children=[ObjectTree(object_id=f"c{i}") for i in range(2000)])
    chunk, other = ObjectTree(object_id="d"), ObjectTree(object_id="d", children=[ObjectTree(object_id="e")])
    unlike = ObjectTree(
        object_id="r", children=[ObjectTree(object_id=f"c{i}", children=[x]) for i, x in enumerate((chunk, other))]
    )
    for tree in (bomb, deep, wide, unlike, ObjectTree(object_id="another")):
        world.give(5, "m1")
        assert world.reply(5, "m1", tree=tree) == 400 and "no tree of a message" in world.told[-1]
    assert world.reply(5, "m1", tree=model) == 200


def test_two_records_of_a_reply_may_hold_the_same_array_which_counts_twice():
    """Parts are named by their content: weights that attackers also remember are one part in two places."""
    array = ObjectTree(object_id="a", children=[ObjectTree(object_id="d")])
    world = World()
    for size, answers in ((400, [200, 200]), (600, [413])):
        world.give(5, "m1")
        records = [ObjectTree(object_id=name, children=[array]) for name in ("arrays", "memory")]
        assert world.reply(5, "m1", tree=ObjectTree(object_id="r", children=records)) == 200
        assert [world.part(5, 50 if i else size, "x" if i else "d") for i in range(len(answers))] == answers


TIMES = [0.0, -1.0, 1.0, 1e12, 1e308, -1e308, float("nan"), float("inf"), float("-inf"), 5e-324]


@pytest.mark.parametrize(
    "field", ["created_at", "ttl", "both", "run_id", "dst_node_id", "message_type", "group_id", "content", "tasks"]
)
def test_what_a_reply_says_of_itself_is_put_right_so_that_the_superlink_drops_none_without_a_word(task, field):
    """It drops what has expired, was made before 2025, lasts longer than its question, or is another run's; the round waited."""
    from flwr.common.serde import message_from_proto, message_to_proto
    from flwr.server.utils.validator import validate_message

    asked = Message(RecordDict(), dst_node_id=5, message_type="train")
    asked.metadata.__dict__["_message_id"] = "m1"
    for value in TIMES:
        world = World()
        world.given = PullMessagesResponse(messages_list=[message_to_proto(asked)])
        world.ask("/v1/fleet/pull-messages", PullMessagesRequest().SerializeToString())
        proto = message_to_proto(Message(RecordDict(), reply_to=asked))
        proto.metadata.message_id = "r"
        spoil(proto, field, value)
        push = PushMessagesRequest(
            node=Node(node_id=5), messages_list=[proto], message_object_trees=[ObjectTree(object_id="r")]
        )
        assert world.ask("/v1/fleet/push-messages", push.SerializeToString()).status_code == 200
        passed = PushMessagesRequest()
        passed.ParseFromString(world.bodies[-1])
        reply = message_from_proto(passed.messages_list[0])
        assert validate_message(reply, is_reply_message=True) == []
        own, its = reply.metadata, asked.metadata
        assert own.created_at + own.ttl <= its.created_at + its.ttl + 0.001 and own.run_id == its.run_id
        assert (own.message_id, own.reply_to_message_id, own.src_node_id) == ("r", "m1", 5)


def spoil(proto, field, value):
    if field in ("created_at", "ttl"):
        setattr(proto.metadata, field, value)
    elif field == "both":
        proto.metadata.created_at, proto.metadata.ttl = value, -value
    elif field in ("run_id", "dst_node_id"):
        setattr(proto.metadata, field, 2**60)
    elif field in ("message_type", "group_id"):
        setattr(proto.metadata, field, "no/type")
    elif field == "tasks":
        proto.metadata.src_task_id = proto.metadata.dst_task_id = 77
    else:
        proto.ClearField("content")


def test_bodies_have_limits_whatever_they_claim():
    world = World()
    world.give(5, "m1")
    world.reply(5, "m1")
    world.passed.clear()
    assert world.part(5, LIMIT + 1) == 413
    assert world.ask("/v1/fleet/pull-object", b"x" * (SMALL + 1)).status_code == 413

    def endless():
        while True:
            yield b"x" * 10_000

    async def asked():
        sent = 0

        async def stream():
            nonlocal sent
            for part in endless():
                sent += len(part)
                yield part

        transport = httpx.ASGITransport(world.gate)
        async with httpx.AsyncClient(transport=transport, base_url="http://gate") as client:
            answer = await client.post("/v1/fleet/pull-object", content=stream())
        return answer.status_code, sent

    status, sent = asyncio.run(asked())
    assert status == 413 and sent < 2 * SMALL
    for headers in ({"content-length": "-1"}, {"content-length": "1e9"}, {"content-encoding": "gzip"}):
        assert world.ask("/v1/fleet/pull-object", headers=headers).status_code in (413, 415)
    assert not world.passed


def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(filtering, "BODY_SECONDS", 0.05)
    world = World()

    async def asked():
        async def stream():
            yield b"x"
            await asyncio.sleep(5)

        transport = httpx.ASGITransport(world.gate)
        async with httpx.AsyncClient(transport=transport, base_url="http://gate") as client:
            return (await client.post("/v1/fleet/pull-object", content=stream())).status_code

    assert asyncio.run(asked()) == 408


@pytest.mark.parametrize("path", ["/v1/fleet/push-messages", "/v1/fleet/push-object"])
def test_bytes_that_are_no_request_of_flowers_go_no_further(path):
    world = World()
    assert world.ask(path, b"\xff\xfe nonsense").status_code == 400 and not world.passed


def test_many_refusals_in_a_second_become_a_number(monkeypatch, capsys):
    clock = [10.0]
    monkeypatch.setattr(orders.time, "monotonic", lambda: clock[0])
    tell = Teller()
    for _ in range(500):
        tell.refused("no")
    clock[0] = 11.5
    tell.refused("again")
    lines = [json.loads(line)["text"] for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == orders.LINES_A_SECOND + 2 and lines[-2:] == ["and 480 more in the second before", "again"]


def test_messages_of_flower_have_what_the_gate_looks_at(task):
    """The names in Flower's own serialisation of a message."""
    from flwr.common.serde import message_to_proto

    message = Message(RecordDict({"x": ConfigRecord({"a": 1})}), dst_node_id=7, message_type="query")
    reply = Message(RecordDict(), reply_to=message)
    assert message_to_proto(message).metadata.dst_node_id == 7
    assert message_to_proto(reply).metadata.src_node_id == 7
