"""What all clients are sent comes from the SuperLink once; who was not told of a part gets it from the SuperLink or not at all."""

import asyncio

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.proto.fleet_pb2 import PullMessagesRequest, PullMessagesResponse
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    Metadata,
    ObjectTree,
    PullObjectRequest,
    PullObjectResponse,
)
from flwr.proto.message_pb2 import Message as MessageProto
from flwr.proto.node_pb2 import Node
from flwr.supercore.primitives.asymmetric import public_key_to_bytes

from oleander.network.shared_parts import SharedParts
from tests.network.test_gate import World, signed

ONE, TWO = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP384R1())
RUN = 9


class Store(World):
    """A gate in front of a SuperLink with parts: name → content, empty where it is not there yet."""

    def __init__(self, keys=(ONE, TWO)):
        self.parts, self.slow = {"a": b"A" * 50, "b": b"B" * 60}, False
        super().__init__([public_key_to_bytes(key.public_key()) for key in keys])
        self.asked = []

    async def _superlink(self, request):
        if request.url.path.endswith("/pull-object"):
            asked = PullObjectRequest.FromString(request.content)
            self.asked.append((asked.node.node_id, asked.object_id))
            await asyncio.sleep(0.01)
            content = self.parts.get(asked.object_id)
            found = PullObjectResponse(
                object_found=content is not None, object_available=bool(content), object_content=content or b""
            )
            return httpx.Response(200, content=found.SerializeToString())
        return World._superlink(self, request)

    def tell(self, node, key, message="m", parts=("a", "b"), run=RUN):
        """A node is given a message with these parts."""
        tree = ObjectTree(object_id=message, children=[ObjectTree(object_id=part) for part in parts])
        metadata = Metadata(message_id=message, dst_node_id=node, run_id=run)
        self.given = PullMessagesResponse(messages_list=[MessageProto(metadata=metadata)], message_object_trees=[tree])
        pull = PullMessagesRequest(node=Node(node_id=node)).SerializeToString()
        assert self.ask("/v1/fleet/pull-messages", pull, headers=signed(key)).status_code == 200

    def pull(self, node, key, part, run=RUN):
        body = PullObjectRequest(node=Node(node_id=node), run_id=run, object_id=part).SerializeToString()
        answer = self.ask("/v1/fleet/pull-object", body, headers=signed(key) if key else None)
        return (
            PullObjectResponse.FromString(answer.content).object_content
            if answer.status_code == 200
            else answer.status_code
        )

    def confirm(self, node, key, message="m"):
        body = ConfirmMessageReceivedRequest(node=Node(node_id=node), run_id=RUN, message_object_id=message)
        assert (
            self.ask("/v1/fleet/confirm-message-received", body.SerializeToString(), headers=signed(key)).status_code
            == 200
        )


def test_a_part_of_many_clients_messages_is_asked_for_once():
    world = Store()
    for node, key in ((1, ONE), (2, TWO)):
        world.tell(node, key)
    assert [world.pull(node, key, "a") for node, key in ((1, ONE), (2, TWO), (1, ONE))] == [b"A" * 50] * 3
    assert world.asked == [(1, "a")]


def test_clients_that_ask_at_the_same_time_wait_for_the_same_answer():
    world = Store()
    for node, key in ((1, ONE), (2, TWO)):
        world.tell(node, key)

    async def all_at_once():
        transport = httpx.ASGITransport(world.gate, client=("10.0.0.9", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://gate") as client:
            bodies = [
                (PullObjectRequest(node=Node(node_id=node), run_id=RUN, object_id="b").SerializeToString(), key)
                for node, key in ((1, ONE), (2, TWO)) * 3
            ]
            asked = [client.post("/v1/fleet/pull-object", content=body, headers=signed(key)) for body, key in bodies]
            return await asyncio.gather(*asked)

    answers = asyncio.run(all_at_once())
    assert {PullObjectResponse.FromString(answer.content).object_content for answer in answers} == {b"B" * 60}
    assert len(world.asked) == 1


def test_who_was_not_told_of_a_part_is_the_superlinks_to_judge():
    """Another node, another's node, another run, a part of another message, one that is confirmed: none is answered from here."""
    world = Store()
    world.tell(1, ONE)
    world.tell(2, TWO, message="n", parts=("b",))
    assert world.pull(1, ONE, "a") == b"A" * 50 and world.asked == [(1, "a")]
    world.pull(2, TWO, "a")  # its message has no such part
    world.pull(1, TWO, "a")  # a node that it is not
    world.pull(1, ONE, "a", run=RUN + 1)
    assert world.asked == [(1, "a"), (2, "a"), (1, "a"), (1, "a")]
    world.confirm(1, ONE)
    world.pull(1, ONE, "a")
    assert len(world.asked) == 5
    assert world.pull(1, None, "a") == 401 and len(world.asked) == 5


def test_without_keys_a_part_is_given_to_who_signs_as_the_one_that_was_told():
    world = Store(keys=())
    world.gate.asker = lambda request, key: public_key_to_bytes(ONE.public_key())  # whose connection it is
    world.tell(1, ONE)
    for key, asked in ((ONE, 1), (ONE, 1), (TWO, 2), (None, 3)):
        world.pull(1, key, "a")
        assert len(world.asked) == asked


@pytest.mark.parametrize("content", [b"", None])
def test_what_the_superlink_does_not_have_yet_is_asked_for_again(content):
    world = Store()
    world.parts["a"] = content
    world.tell(1, ONE)
    assert world.pull(1, ONE, "a") == b""
    world.parts["a"] = b"now"
    assert world.pull(1, ONE, "a") == b"now" == world.pull(1, ONE, "a") and len(world.asked) == 2


def test_parts_and_messages_are_kept_within_limits_and_those_unused_longest_go_first():
    parts = SharedParts(most=100)
    for name in "abc":
        parts.keep(1, name, b"x" * 40)
        parts.get(1, "a")
    parts.keep(1, "d", b"x" * 101)
    assert {name: bool(parts.get(1, name)) for name in "abcd"} == {"a": True, "b": False, "c": True, "d": False}
    parts.keep(1, "a", b"x" * 40)
    assert parts.size == 80
    for number in range(9):
        parts.told(5, b"k", 1, ObjectTree(object_id=f"m{number}"))
    assert [parts.may(5, b"k", 1, f"m{number}") for number in (4, 5, 8)] == [False, True, True]
