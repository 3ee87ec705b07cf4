"""What reaches the SuperLink of a request, and what comes back of its answer, to the byte; and in what words a request is refused."""

import asyncio
import json

import httpx
import pytest
from flwr.proto.fleet_pb2 import PullMessagesRequest, PullMessagesResponse
from flwr.proto.message_pb2 import ObjectTree, PushObjectRequest
from flwr.proto.node_pb2 import Node

from oleander.network.filter import MOST_DEEP, MOST_PARTS, SMALL
from oleander.network.internals import FLEET
from tests.network.test_gate import LIMIT, World

PULL, PART = "/v1/fleet/pull-object", "/v1/fleet/push-object"
OTHERS = sorted(FLEET - {"/v1/fleet/push-messages", PART, "/v1/fleet/pull-messages"})


class Echo(World):
    """A gate in front of a SuperLink that keeps what it is asked and answers as it is told."""

    def __init__(self, status=200, content=b"\x00answer\xff", headers=None, fails=None):
        super().__init__()
        self.asked, self.answer, self.fails = [], (status, content, headers or {}), fails
        self.gate.client = httpx.AsyncClient(
            transport=httpx.MockTransport(self._keep), base_url="http://superlink", trust_env=False
        )

    def _keep(self, request):
        if self.fails:
            raise self.fails
        self.asked.append((request.method, str(request.url), request.read(), dict(request.headers)))
        status, content, headers = self.answer
        if request.url.path.endswith("/pull-messages"):
            content = self.given.SerializeToString()
        return httpx.Response(status, content=content, headers=headers)


def part_of(node, size):
    return PushObjectRequest(node=Node(node_id=node), object_content=b"x" * size).SerializeToString()


@pytest.mark.parametrize("path", OTHERS)
def test_the_superlink_hears_every_byte_under_the_same_path(path):
    world, body = Echo(), bytes(range(256)) * 3
    answer = world.ask(path, body)
    assert (answer.status_code, answer.content) == (200, b"\x00answer\xff")
    ((method, url, heard, _),) = world.asked
    assert (method, url, heard) == ("POST", f"http://superlink{path}", body)


def test_replies_and_their_parts_are_heard_in_full_too():
    world = Echo()
    world.give(5, "m1")
    assert world.reply(5, "m1") == 200
    body = part_of(5, 700)
    assert world.ask(PART, body).status_code == 200
    assert [len(heard) > 10 for _, _, heard, _ in world.asked[1:]] == [True, True] and world.asked[-1][2] == body


def test_headers_that_are_the_requests_own_are_passed_on_and_those_of_its_connection_are_not():
    world = Echo()
    own = {"x-signature": "abc", "content-type": "application/x-protobuf", "user-agent": "flower"}
    world.ask(PULL, b"12345", headers=own | {"host": "elsewhere", "accept-encoding": "br", "connection": "x-odd"})
    headers = world.asked[0][3]
    assert own.items() <= headers.items()
    assert headers["host"] == "superlink" and headers["content-length"] == "5"
    assert "elsewhere" not in str(headers) and headers["accept-encoding"] != "br" and headers["connection"] != "x-odd"


def test_of_the_answers_headers_only_the_type_of_the_content_comes_back():
    world = Echo(headers={"content-type": "application/x-protobuf", "x-inside": "1", "server": "inside"})
    answer = world.ask(PULL, b"x")
    assert answer.headers["content-type"] == "application/x-protobuf"
    assert "x-inside" not in answer.headers and "server" not in answer.headers
    assert "content-type" not in Echo().ask(PULL, b"x").headers


@pytest.mark.parametrize(("status", "told"), [(200, False), (399, False), (400, True), (404, True), (500, True)])
def test_what_the_superlink_refuses_comes_back_as_it_is_and_is_told(status, told):
    world = Echo(status, b"no such thing" + b"!" * 500)
    assert world.ask(PULL, b"x").status_code == status
    assert world.told == ([f"{PULL} from 10.0.0.9, by the SuperLink: no such thing{'!' * 187}"] if told else [])


@pytest.mark.parametrize("error", [httpx.ConnectError("x"), httpx.ReadTimeout("x")])
def test_a_superlink_that_does_not_answer_is_said_to_be_so(error):
    world = Echo(fails=error)
    answer = world.ask(PULL, b"x")
    assert answer.status_code == 503 and f"the SuperLink does not answer ({type(error).__name__})" in world.told[0]


def test_a_refusal_is_told_to_both_sides_and_ends_the_connection():
    world = Echo()
    answer = world.ask("/v1/" + "x" * 200, method="PUT")
    assert (answer.status_code, answer.json()) == (403, {"detail": "not for clients"})
    assert answer.headers["connection"] == "close" and answer.headers["content-type"] == "application/json"
    assert world.told == [f"PUT /v1/{'x' * 76} from 10.0.0.9: not for clients"] and not world.asked


@pytest.mark.parametrize("path", ["/v1/fleet/push-messages", PART])
def test_what_is_no_request_is_called_so(path):
    world = Echo()
    assert world.ask(path, b"\xff\xff\xff").json() == {"detail": "not a request of Flower's"} and not world.asked


# ---- limits, at the limit --------------------------------------------------------------------------------------------


def test_a_body_of_exactly_the_limit_passes_and_one_byte_more_does_not():
    world = Echo()
    assert world.ask(PULL, b"x" * SMALL).status_code == 200
    answer = world.ask(PULL, b"x" * (SMALL + 1))
    assert answer.json() == {"detail": f"{SMALL + 1} bytes; at most {SMALL}"} and answer.status_code == 413
    world.give(5, "m1")
    world.reply(5, "m1")
    room = LIMIT - len(part_of(5, 0)) - 8
    assert [world.part(5, room), world.part(5, LIMIT - room), world.part(5, 1)] == [200, 200, 413]


def stream(world, *parts):
    async def asked():
        async def content():
            for part in parts:
                yield part

        transport = httpx.ASGITransport(world.gate, client=("10.0.0.9", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://gate") as client:
            return await client.post(PULL, content=content())

    return asyncio.run(asked())


def test_a_body_that_does_not_say_how_long_it_is_is_counted_as_it_comes():
    world = Echo()
    assert stream(world, b"a" * 1000, b"", b"b" * (SMALL - 1000)).status_code == 200
    assert world.asked[0][2] == b"a" * 1000 + b"b" * (SMALL - 1000)
    answer = stream(world, b"a" * 1000, b"b" * (SMALL - 999))
    assert answer.status_code == 413 and answer.json() == {"detail": f"more than {SMALL} bytes"}


@pytest.mark.parametrize("claimed", ["-1", "1e3", "+5", " 5", "5x", "", "９９"])
def test_a_length_that_is_no_number_is_refused(claimed):
    world = Echo()
    assert ask_raw(world, [(b"content-length", claimed.encode("latin-1", "replace"))])[0] == 413 and not world.asked


def ask_raw(world, headers, messages=({"type": "http.request", "body": b"x", "more_body": False},)):
    """The gate as uvicorn calls it: status and body."""
    sent, queue = [], list(messages)

    async def receive():
        return queue.pop(0) if queue else {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": PULL, "raw_path": PULL.encode(), "query_string": b"", "headers": headers,
        "client": None, "server": ("gate", 80), "scheme": "http", "http_version": "1.1", "root_path": "", "asgi": {"version": "3.0"},
    }  # fmt: skip
    asyncio.run(world.gate(scope, receive, send))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


def test_a_body_that_is_cut_off_is_refused_with_what_came_of_it():
    world = Echo()
    status, body = ask_raw(world, [], [{"type": "http.request", "body": b"x" * 77, "more_body": True}])
    assert (status, json.loads(body)) == (400, {"detail": "cut off after 77 bytes"})
    assert world.told == [f"POST {PULL} from somebody: cut off after 77 bytes"] and not world.asked


def test_what_is_no_http_is_left_alone():
    world = Echo()
    asyncio.run(world.gate({"type": "lifespan"}, None, None))
    assert not world.told and not world.asked


def test_a_packed_body_is_refused_as_such():
    world = Echo()
    answer = world.ask(PULL, b"x", headers={"content-encoding": "gzip"})
    assert (answer.status_code, answer.json()) == (415, {"detail": "packed content"})


# ---- replies ---------------------------------------------------------------------------------------------------------


def chain(depth):
    tree = ObjectTree(object_id=f"level {depth}")
    for level in range(depth - 1, 0, -1):
        tree = ObjectTree(object_id=f"level {level}", children=[tree])
    return ObjectTree(object_id="r", children=[tree])


def wide(parts):
    return ObjectTree(object_id="r", children=[ObjectTree(object_id=f"c{i}") for i in range(parts - 1)])


def twice(depth):
    """One part at two places, on one level or on two."""
    below = [ObjectTree(object_id="a", children=[ObjectTree(object_id="x")]), ObjectTree(object_id="b")]
    below[1].children.append(ObjectTree(object_id="x")) if depth == 2 else below.append(ObjectTree(object_id="x"))
    return ObjectTree(object_id="r", children=below)


@pytest.mark.parametrize(
    ("tree", "status"),
    [
        (chain(MOST_DEEP - 1), 200), (chain(MOST_DEEP), 400), (wide(MOST_PARTS), 200), (wide(MOST_PARTS + 1), 400),
        (twice(1), 200), (twice(2), 200), (ObjectTree(object_id="r", children=[ObjectTree(object_id="r")]), 400),
    ],
    ids=["as deep as may be", "deeper", "as many as may be", "more", "twice on two levels", "twice on one", "itself"],
)  # fmt: skip
def test_the_parts_of_a_reply_have_their_limits_at_their_limits(tree, status):
    world = Echo()
    world.give(5, "m1")
    assert world.reply(5, "m1", tree=tree) == status


def test_refused_replies_are_named_by_what_is_wrong_with_them():
    world = Echo()
    world.give(5, "m1")
    said = [
        (lambda: world.reply(5, "m1", count=0), "0 messages, not one"),
        (lambda: world.reply(5, "m1", count=3), "3 messages, not one"),
        (lambda: world.reply(5, "m1", source=6), "node 5 sends a message in the name of node 6"),
        (lambda: world.reply(6, "m1"), "node 6 answers a message that it was not given, or answers twice"),
        (lambda: world.reply(5, "m2"), "node 5 answers a message that it was not given, or answers twice"),
        (lambda: world.reply(5, "m1", tree=wide(5000)), "node 5 sends a reply whose parts are no tree of a message"),
        (lambda: world.part(5, 3), "node 5 sends a part of no reply"),
    ]
    for ask, words in said:
        assert ask() in (400, 403)
        assert world.told[-1].endswith(f"from 10.0.0.9: {words}")
    assert len(world.asked) == 1 and world.reply(5, "m1") == 200


def test_every_message_that_a_node_fetches_may_be_answered_once_each():
    world = Echo()
    world.give(5, "m1")
    world.give(5, "m2")
    world.give(6, "m3")
    assert [world.reply(5, "m2"), world.reply(6, "m3"), world.reply(5, "m1")] == [200] * 3
    assert [world.reply(5, "m2"), world.reply(6, "m1"), world.reply(5, "m3")] == [403] * 3


def test_what_the_superlink_refuses_to_hand_out_is_not_owed():
    world = Echo(500)
    world.given = PullMessagesResponse()
    assert world.ask("/v1/fleet/pull-messages", PullMessagesRequest().SerializeToString()).status_code == 500
    assert world.reply(5, "m1") == 403
