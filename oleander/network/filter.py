"""The gate's filter: which requests are passed on to the SuperLink, and what is kept of them to judge the next.

- The paths of Flower's fleet API, and ``/health``; with keys, only requests signed by a key of the run.
- A node sends messages in its own name only, one reply to each message that it was given, and no more than ``limit`` bytes
  of it; nothing else may be larger than SMALL. What else a reply says of itself is put right: the SuperLink says nothing
  of a reply that it drops, because its times are odd or its run is another, and a round would wait for it.
- The parts of the model that all clients of a round are sent come from here (``shared_parts.py``).
"""

import asyncio
import contextlib
import json
import ssl
import time
from collections import Counter, defaultdict
from typing import Any

import httpx
from google.protobuf.message import DecodeError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from oleander.network.door import Guest
from oleander.network.internals import (
    FLEET,
    HEALTH,
    PROTOBUF,
    ConfirmMessageReceivedRequest,
    PullMessagesRequest,
    PullMessagesResponse,
    PullObjectRequest,
    PullObjectResponse,
    PushMessagesRequest,
    PushObjectRequest,
    signed_by,
)
from oleander.network.orders import Orders, Teller
from oleander.network.parting import GONE, HEADER, Parting
from oleander.network.shared_parts import SharedParts
from oleander.network.turns import Turns

SMALL = 256 * 1024
"""Bytes that any request but a part of a reply may have."""
PART = 6 * 2**20
"""Bytes that one part of a reply may have; Flower cuts arrays into 5 MiB."""
MOST_DEEP, MOST_PARTS = 6, 1000
"""Levels and parts of a reply: message, records, arrays, their pieces."""
BODY_SECONDS = 60.0
"""How long the body of a request may take."""
SAID_IN_ANSWER_TO = {
    "pull-messages": PullMessagesRequest, "push-messages": PushMessagesRequest, "push-object": PushObjectRequest,
}  # fmt: skip
"""Requests that a farewell may be the answer to."""
ROOM = 8
"""Parts of replies that one key may be sending at a time; without keys all share what there is."""
GONE_AWAY = 499
"""The status for a request whose connection went before its turn came; nobody hears it."""


class RefusedError(Exception):
    """A request that is not passed on: the status, and why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why


class Filter:
    """The ASGI application."""

    def __init__(self, orders: Orders, tell: Teller) -> None:
        self.orders, self.tell = orders, tell
        self.keys = {key.encode() for key in orders.keys}
        self.owed: dict[int, dict[str, Any]] = defaultdict(dict)
        """Node → messages that it was given and has not answered: id → metadata."""
        self.parting, self.parts = Parting(), SharedParts()
        self.sent: dict[int, int] = {}
        """Node → bytes that it has sent of its last reply, each part as often as it stands in it."""
        self.places: dict[int, Counter[str]] = {}
        """Node → in how many places of its last reply each part stands."""
        room = ROOM if orders.keys else max(ROOM, orders.connections // 4)
        self.room: dict[bytes, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(room))
        self.turns = Turns()
        self.asking, self.asked, self.well = asyncio.Lock(), float("-inf"), 0
        self.client = httpx.AsyncClient(
            base_url=orders.upstream, timeout=None, trust_env=False,  # no proxy between the two
            verify=_trusting(orders.ca) if orders.ca else False,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=orders.connections),
        )  # fmt: skip

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        try:
            response = await self.answer(request)
            parted = request.scope.get("parted")
            if self.is_a_stranger(request):
                response.headers["connection"] = "close"  # one answer each; the next has its turn
        except RefusedError as refused:
            who = request.client.host if request.client else "somebody"
            self.tell.refused(f"{request.method} {request.url.path[:80]} from {who}: {refused.why}")
            response = Response(json.dumps({"detail": refused.why}), refused.status, media_type="application/json")
            response.headers["connection"] = "close"
            parted = None
        with contextlib.suppress(OSError):
            await response(scope, receive, send)
            if parted is not None:
                self.note_heard(parted)

    async def answer(self, request: Request) -> Response:
        """The SuperLink's answer.

        Raises:
            RefusedError: it is not asked.
        """
        path = request.url.path
        if request.method == "GET" and path == HEALTH:
            return await self.health()
        if request.method != "POST" or path not in FLEET or request.url.query:
            raise RefusedError(403, "not for clients")
        key = self.key_of(request)
        self.note_signer(request, key)
        if path.endswith("/push-object"):
            async with self.room[key]:
                return await self.in_turn(request, await self.body(request, min(self.orders.limit, PART)), key)
        return await self.in_turn(request, await self.body(request, SMALL), key)

    async def in_turn(self, request: Request, body: bytes, key: bytes) -> Response:
        """The SuperLink's answer to this body, when the asker's turn comes; without keys, askers are addresses."""
        if farewell := self.farewell(request, body, key):
            return farewell
        path = request.url.path
        async with self.turns.of(key or (request.client.host if request.client else "")):
            guest: Guest | None = getattr(request.state, "guest", None)
            if guest and guest.gone:
                return Response(status_code=GONE_AWAY)
            if path.endswith("/push-object"):
                self.check_part(body)
            if path.endswith("/push-messages"):
                body = self.check_reply(body)
            if path.endswith("/pull-object"):
                return await self.part(request, body, key)
            response = await self.passed_on(request, body)
            if response.status_code == 200:
                self.note_answer(request, body, bytes(response.body), key)
        return response

    async def part(self, request: Request, body: bytes, key: bytes) -> Response:
        """A part of a message: the SuperLink's answer, or the one that it gave to another whose message has the same part."""
        try:
            asked = self.parsed(PullObjectRequest, body)
        except RefusedError:  # the SuperLink says what is wrong with it
            return await self.passed_on(request, body)
        who, run, name = key or signed_by(request.headers.get) or b"", asked.run_id, asked.object_id
        if not self.parts.may(asked.node.node_id, who, run, name):
            return await self.passed_on(request, body)
        async with self.parts.fetching(run, name):
            if (kept := self.parts.get(run, name)) is not None:
                return Response(kept, media_type=PROTOBUF)
            response = await self.passed_on(request, body)
            answer = bytes(response.body)
            if response.status_code == 200 and self.parsed(PullObjectResponse, answer).object_available:
                self.parts.keep(run, name, answer)
            return response

    def farewell(self, request: Request, body: bytes, key: bytes) -> Response | None:
        """The answer to a client whose run is over and that has not heard so; None to all others."""
        kind = SAID_IN_ANSWER_TO.get(request.url.path.rpartition("/")[2])
        if kind is None or HEADER not in request.headers:
            return None
        node = self.parsed(kind, body).node.node_id
        if (word := self.parting.word_for(node, self.asker(request, key))) is None:
            return None
        request.scope["parted"] = node
        return Response(json.dumps({"farewell": word}), GONE, media_type="application/json")

    def note_heard(self, node: int) -> None:
        """A client has been told that the run is over."""
        if self.parting.heard(node):
            self.tell.event("heard", str(node))

    def note_answer(self, request: Request, body: bytes, answer: bytes, key: bytes) -> None:
        """Keep what judges a node's next requests of those that the SuperLink has taken."""
        who, path = self.asker(request, key), request.url.path
        if path.endswith("/pull-messages"):
            node = self.parsed(PullMessagesRequest, body).node.node_id
            self.note_given(node, who, answer)
            self.parting.polled(node, who)
        elif path.endswith("/confirm-message-received"):
            with contextlib.suppress(RefusedError):  # the SuperLink has taken it, whatever it is
                self.note_confirmed(self.parsed(ConfirmMessageReceivedRequest, body), who)

    def note_confirmed(self, confirmed: Any, who: bytes) -> None:
        """A node has all of a message: its parts are no longer its to have. Flower's own nodes hear the farewell so."""
        node = confirmed.node.node_id
        self.parts.confirmed(node, who, confirmed.message_object_id)
        if self.parting.is_on and self.parting.word_for(node, who):
            self.note_heard(node)

    @staticmethod
    def asker(request: Request, key: bytes) -> bytes:
        """The key that a request is signed with, also where none counts."""
        guest: Guest | None = getattr(request.state, "guest", None)
        return key or (guest.key if guest else None) or b""

    def key_of(self, request: Request) -> bytes:
        """The key that a request is signed with, where keys count."""
        if not self.keys:
            return b""
        key = signed_by(request.headers.get)
        if key is None:
            raise RefusedError(401, "no signature, or not a valid one (or a clock that is wrong)")
        if key not in self.keys:
            raise RefusedError(401, "signed by a key that this run does not know")
        return key

    def note_signer(self, request: Request, key: bytes) -> None:
        """Whoever signs has a place of its own at the door; without keys, with any key that its node has made up."""
        guest: Guest | None = getattr(request.state, "guest", None)
        if guest is None:
            return
        if not self.keys:
            key = guest.key or signed_by(request.headers.get) or b""
        if key:
            request.state.places.sign(guest, key)

    @staticmethod
    def is_a_stranger(request: Request) -> bool:
        """Whether its connection has not signed anything."""
        guest: Guest | None = getattr(request.state, "guest", None)
        return guest is not None and guest.key is None

    async def health(self) -> Response:
        """Whether the SuperLink is well, asked once a second at most, however many want to know."""
        async with self.asking:
            if time.monotonic() - self.asked > 1.0:
                try:
                    self.well = (await self.client.get(HEALTH, timeout=5)).status_code
                except httpx.TransportError:
                    self.well = 503
                self.asked = time.monotonic()
        return Response(b"", self.well)

    async def body(self, request: Request, limit: int) -> bytes:
        """The request's body, if it is not too large and comes in time."""
        claimed = request.headers.get("content-length", "0")
        if not claimed.isdigit() or int(claimed) > limit:
            raise RefusedError(413, f"{claimed[:20]} bytes; at most {limit}")
        if request.headers.get("content-encoding"):
            raise RefusedError(415, "packed content")
        parts, size = [], 0
        try:
            async with asyncio.timeout(BODY_SECONDS):
                async for part in request.stream():
                    size += len(part)
                    if size > limit:
                        raise RefusedError(413, f"more than {limit} bytes")
                    parts.append(part)
        except ClientDisconnect:
            raise RefusedError(400, f"cut off after {size} bytes") from None
        except TimeoutError:
            raise RefusedError(408, f"not all of it came within {BODY_SECONDS:g} s") from None
        return b"".join(parts)

    def check_reply(self, body: bytes) -> bytes:
        """A reply must be the node's own, and to a message that it was given; returns the request as it is passed on."""
        push = self.parsed(PushMessagesRequest, body)
        node = push.node.node_id
        if len(push.messages_list) != 1 or len(push.message_object_trees) != 1:
            raise RefusedError(400, f"{len(push.messages_list)} messages, not one")
        metadata, tree = push.messages_list[0].metadata, push.message_object_trees[0]
        places = _places(tree)
        if tree.object_id != metadata.message_id or places is None:
            raise RefusedError(400, f"node {node} sends a reply whose parts are no tree of a message")
        if metadata.src_node_id != node:
            raise RefusedError(403, f"node {node} sends a message in the name of node {metadata.src_node_id}")
        if metadata.reply_to_message_id not in self.owed.get(node, ()):
            raise RefusedError(403, f"node {node} answers a message that it was not given, or answers twice")
        _put_right(push.messages_list[0], self.owed[node].pop(metadata.reply_to_message_id))
        self.sent[node], self.places[node] = 0, places
        return bytes(push.SerializeToString())

    def check_part(self, body: bytes) -> None:
        """All parts of a reply together must keep to the limit."""
        part = self.parsed(PushObjectRequest, body)
        node = part.node.node_id
        if node not in self.sent:
            raise RefusedError(403, f"node {node} sends a part of no reply")
        self.sent[node] += len(part.object_content) * max(1, self.places[node][part.object_id])
        if self.sent[node] > self.orders.limit:
            raise RefusedError(413, f"node {node} sends a reply of more than {self.orders.limit} bytes")

    def note_given(self, node: int, who: bytes, body: bytes) -> None:
        """The messages that a node is given now are those that it may answer, and whose parts it may have."""
        answer = self.parsed(PullMessagesResponse, body)
        for message in answer.messages_list:
            self.owed[message.metadata.dst_node_id][message.metadata.message_id] = message.metadata
        for message, tree in zip(answer.messages_list, answer.message_object_trees, strict=False):
            if who:
                self.parts.told(node, who, message.metadata.run_id, tree)

    @staticmethod
    def parsed(kind: Any, body: bytes) -> Any:
        """A request in Flower's terms."""
        try:
            message = kind()
            message.ParseFromString(body)
        except DecodeError:
            raise RefusedError(400, "not a request of Flower's") from None
        return message

    async def passed_on(self, request: Request, body: bytes) -> Response:
        """Ask the SuperLink."""
        dropped = {"host", "connection", "content-length", "transfer-encoding", "accept-encoding"}
        headers = {name: value for name, value in request.headers.items() if name not in dropped}
        try:
            answer = await self.client.request(request.method, request.url.path, content=body, headers=headers)
        except httpx.TransportError as error:
            raise RefusedError(503, f"the SuperLink does not answer ({type(error).__name__})") from None
        if answer.status_code >= 400:
            who = request.client.host if request.client else "somebody"
            self.tell.refused(f"{request.url.path} from {who}, by the SuperLink: {answer.text[:200]}")
        kept = {name: answer.headers[name] for name in ("content-type",) if name in answer.headers}
        return Response(answer.content, answer.status_code, headers=kept)


def _put_right(reply: Any, asked: Any) -> None:
    """Give a reply the metadata that a reply to this message has; it keeps its own id, sender and error."""
    now = time.time()
    own = reply.metadata
    own.run_id, own.dst_node_id, own.group_id, own.message_type = (
        asked.run_id, asked.src_node_id, asked.group_id, asked.message_type,
    )  # fmt: skip
    own.created_at, own.ttl = now, asked.created_at + asked.ttl - now
    for ours, theirs in (("src_task_id", "dst_task_id"), ("dst_task_id", "src_task_id")):
        own.ClearField(ours)
        if asked.HasField(theirs):
            setattr(own, ours, getattr(asked, theirs))
    if reply.HasField("error"):
        reply.ClearField("content")
    else:
        reply.content.SetInParent()  # what it holds is in its parts


def _trusting(ca: str) -> ssl.SSLContext:
    """(``create_default_context`` would write its secrets to the environment's SSLKEYLOGFILE.)"""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cafile=ca)
    return context


def _places(tree: Any) -> Counter[str] | None:
    """In how many places each part of a reply stands; None if they are no tree of a model's size.

    A part is named by its content, so the same array in two records is one part in two places. Flower's store unfolds it once for
    each, with the parts that it is made of where it is named first: a part with others elsewhere would be unfolded without end.
    """
    places: Counter[str] = Counter()
    made_of: dict[str, list[str]] = {}
    level = [tree]
    for _ in range(MOST_DEEP):
        for part in level:
            below = [child.object_id for child in part.children]
            if made_of.setdefault(part.object_id, below) != below:
                return None
            places[part.object_id] += 1
        level = [child for part in level for child in part.children]
        if places.total() + len(level) > MOST_PARTS:
            return None
    return None if level else places
