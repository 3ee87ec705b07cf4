"""The gate: what the world reaches of a server. ``python -m network.gate`` runs it in front of a SuperLink that it starts.

Flower's SuperLink has one port for all: nodes, whoever starts and stops runs, and the run's own server; only nodes have to
prove who they are, and with keys only. So the SuperLink itself listens on loopback, and the gate on the port that the world
sees. It passes on what nodes ask and nothing else:

- the paths of Flower's fleet API, and ``/health``; with keys, only requests signed by a key of the run;
- a node sends messages in its own name only, one reply to each message that it was given, and no more than ``limit`` bytes
  of it; nothing else may be larger than SMALL;
- so many connections, and so long for each to say what it wants: the rest is for others.

Everything refused is a line on the server's side. The gate is a process of its own: what it has to bear does not slow the
server down. It ends when its standard input does, that is, with the process that started it, and the SuperLink with it.

It speaks lines of JSON: ``Orders`` come on standard input, events go to standard output.
"""

import asyncio
import contextlib
import dataclasses
import json
import logging
import os
import socket
import ssl
import subprocess
import sys
import time
from asyncio import sslproto
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import httpx
import uvicorn
from google.protobuf.message import DecodeError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from experiment.processes import die_with_parent
from network.internals import FLEET, HEALTH, PullMessagesResponse, PushMessagesRequest, PushObjectRequest, signed_by

SMALL = 256 * 1024
"""Bytes that any request but a part of a reply may have."""
PART = 6 * 2**20
"""Bytes that one part of a reply may have; Flower cuts arrays into 5 MiB."""
MOST_DEEP, MOST_PARTS = 6, 1000
"""Levels and parts of a reply: message, records, arrays, their pieces."""
BODY_SECONDS = 60.0
"""How long the body of a request may take."""
ROOM = 8
"""Parts of replies that one key may be sending at a time; without keys all share what there is."""
IDLE_SECONDS = 20.0
"""How long a connection may say nothing."""
LINES_A_SECOND = 20
"""Refusals that are told one by one; those beyond are counted."""


@dataclass(frozen=True)
class Orders:
    """What the gate is to do."""

    superlink: list[str]
    """Command of the SuperLink; started as soon as this line is read."""
    upstream: str
    """Address of the SuperLink: https://127.0.0.1:PORT, or http."""
    ca: str
    """File of the authority that the SuperLink's certificate is of; none: it speaks without TLS."""
    log: str
    """File for what the SuperLink says."""
    host: str
    port: int
    limit: int
    """Bytes that one reply of a client may have."""
    connections: int
    """How many there may be at a time."""
    certificate: str = ""
    private_key: str = ""
    keys: list[str] = field(default_factory=list)
    """Public keys (PEM) whose requests are passed on; none: anybody's."""


class RefusedError(Exception):
    """A request that is not passed on: the status, and why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why


class Gate:
    """The ASGI application."""

    def __init__(self, orders: Orders, tell: "Teller") -> None:
        self.orders, self.tell = orders, tell
        self.keys = {key.encode() for key in orders.keys}
        self.owed: dict[int, set[str]] = defaultdict(set)
        """Node → messages that it was given and has not answered."""
        self.sent: dict[int, int] = {}
        """Node → bytes that it has sent of its last reply."""
        room = ROOM if orders.keys else max(ROOM, orders.connections // 4)
        self.room: dict[bytes, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(room))
        self.client = httpx.AsyncClient(
            base_url=orders.upstream, timeout=None, trust_env=False,  # no proxy between the two
            verify=ssl.create_default_context(cafile=orders.ca) if orders.ca else False,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=orders.connections),
        )  # fmt: skip

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        try:
            response = await self.answer(request)
        except RefusedError as refused:
            who = request.client.host if request.client else "somebody"
            self.tell.refused(f"{request.method} {request.url.path[:80]} from {who}: {refused.why}")
            response = Response(json.dumps({"detail": refused.why}), refused.status, media_type="application/json")
            response.headers["connection"] = "close"
        with contextlib.suppress(OSError):
            await response(scope, receive, send)

    async def answer(self, request: Request) -> Response:
        """The SuperLink's answer.

        Raises:
            RefusedError: it is not asked.
        """
        path = request.url.path
        if request.method == "GET" and path == HEALTH:
            return await self.passed_on(request, b"")
        if request.method != "POST" or path not in FLEET or request.url.query:
            raise RefusedError(403, "not for clients")
        key = self.key_of(request)
        if path.endswith("/push-object"):
            async with self.room[key]:
                body = await self.body(request, min(self.orders.limit, PART))
                self.check_part(body)
                return await self.passed_on(request, body)
        body = await self.body(request, SMALL)
        if path.endswith("/push-messages"):
            self.check_reply(body)
        response = await self.passed_on(request, body)
        if path.endswith("/pull-messages") and response.status_code == 200:
            self.note_given(bytes(response.body))
        return response

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

    def check_reply(self, body: bytes) -> None:
        """A reply must be the node's own, and to a message that it was given."""
        push = self.parsed(PushMessagesRequest, body)
        node = push.node.node_id
        if len(push.messages_list) != 1 or len(push.message_object_trees) != 1:
            raise RefusedError(400, f"{len(push.messages_list)} messages, not one")
        metadata, tree = push.messages_list[0].metadata, push.message_object_trees[0]
        if tree.object_id != metadata.message_id or not _is_a_tree(tree):
            raise RefusedError(400, f"node {node} sends a reply whose parts are no tree of a message")
        if metadata.src_node_id != node:
            raise RefusedError(403, f"node {node} sends a message in the name of node {metadata.src_node_id}")
        if metadata.reply_to_message_id not in self.owed.get(node, ()):
            raise RefusedError(403, f"node {node} answers a message that it was not given, or answers twice")
        self.owed[node].discard(metadata.reply_to_message_id)
        self.sent[node] = 0

    def check_part(self, body: bytes) -> None:
        """All parts of a reply together must keep to the limit."""
        part = self.parsed(PushObjectRequest, body)
        node = part.node.node_id
        if node not in self.sent:
            raise RefusedError(403, f"node {node} sends a part of no reply")
        self.sent[node] += len(part.object_content)
        if self.sent[node] > self.orders.limit:
            raise RefusedError(413, f"node {node} sends a reply of more than {self.orders.limit} bytes")

    def note_given(self, body: bytes) -> None:
        """The messages that a node is given now are those that it may answer."""
        for message in self.parsed(PullMessagesResponse, body).messages_list:
            self.owed[message.metadata.dst_node_id].add(message.metadata.message_id)

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


def _is_a_tree(tree: Any) -> bool:
    """Whether no part of a reply stands twice or deeper than a model's; Flower's store would unfold repeats without end."""
    seen, level = set(), [tree]
    for _ in range(MOST_DEEP):
        seen |= {part.object_id for part in level}
        below = [child for part in level for child in part.children]
        if len(seen) + len(below) > MOST_PARTS or len({part.object_id for part in below} | seen) < len(seen) + len(
            below
        ):
            return False
        level = below
    return not level


class Teller:
    """Writes events as lines of JSON; too many refusals in a second become a number."""

    def __init__(self) -> None:
        self.second, self.count = 0, 0

    def event(self, kind: str, text: str = "") -> None:
        """Tell the process that started this one."""
        print(json.dumps({"event": kind, "text": text}), flush=True)

    def refused(self, text: str) -> None:
        """Tell of a request that was not passed on."""
        second = int(time.monotonic())
        if second != self.second:
            if self.count > LINES_A_SECOND:
                self.event("refused", f"and {self.count - LINES_A_SECOND} more in the second before")
            self.second, self.count = second, 0
        self.count += 1
        if self.count <= LINES_A_SECOND:
            self.event("refused", text)


class Impatient(H11Protocol):
    """uvicorn's protocol with an end to its patience. (h11, since httptools takes request heads of any size.)

    A connection is closed if it has asked nothing between two looks, and cut off if it is closed and does not go, or does
    not take what it has asked for.
    """

    def connection_made(self, transport: Any) -> None:
        """Begin to watch."""
        super().connection_made(transport)
        self._last: tuple[Any, int] = (None, 0)
        self._watch()

    def _watch(self) -> None:
        asyncio.get_running_loop().call_later(IDLE_SECONDS, self._look)

    def _look(self) -> None:
        if self.transport is None or self not in self.connections:
            return
        last, self._last = self._last, (self.cycle, self.transport.get_write_buffer_size())
        idle = self.cycle is None or self.cycle.response_complete
        stuck = self._last[1] > 0 and self._last == last
        if self.transport.is_closing() or stuck:
            self.transport.abort()
        elif idle and self.cycle is last[0]:
            self.transport.close()
        self._watch()


class _Told(logging.Handler):
    """What uvicorn warns of is an event: bytes that are no HTTP, too many connections."""

    def __init__(self, tell: Teller) -> None:
        super().__init__(logging.WARNING)
        self.tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        self.tell.refused(record.getMessage())


def tell_of_broken_handshakes(tell: Teller) -> None:
    """Asyncio passes over a connection that fails to become TLS without a word."""
    protocol_type: Any = sslproto.SSLProtocol
    broken = protocol_type._fatal_error

    def told(protocol: Any, error: BaseException, *rest: Any) -> None:
        tell.refused(f"no TLS: {getattr(error, 'reason', None) or error}")
        broken(protocol, error, *rest)

    protocol_type._fatal_error = told


async def serve(orders: Orders, tell: Teller) -> None:
    """Wait for the SuperLink, then let the world in, until standard input or the SuperLink ends."""
    with open(orders.log, "ab") as log:
        superlink = await asyncio.create_subprocess_exec(
            *orders.superlink, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=asyncio.subprocess.STDOUT,
            preexec_fn=die_with_parent,
        )  # fmt: skip
    gate = Gate(orders, tell)
    told = _Told(tell)
    logging.getLogger("uvicorn.error").addHandler(told)
    tell_of_broken_handshakes(tell)
    server = uvicorn.Server(
        uvicorn.Config(
            gate, http=Impatient, ws="none", lifespan="off", log_config=None,
            access_log=False, server_header=False, date_header=False, limit_concurrency=orders.connections,
            timeout_keep_alive=int(2 * IDLE_SECONDS), timeout_graceful_shutdown=1, h11_max_incomplete_event_size=64 * 1024,
            ssl_certfile=orders.certificate or None, ssl_keyfile=orders.private_key or None,
        )
    )  # fmt: skip
    server.__dict__["capture_signals"] = contextlib.nullcontext  # the process that started this one decides
    ends = [asyncio.create_task(_end_of_input()), asyncio.create_task(superlink.wait())]
    try:
        answers = asyncio.create_task(_answers(gate))
        await asyncio.wait([answers, *ends], return_when=asyncio.FIRST_COMPLETED)
        if not answers.done():
            answers.cancel()
            tell.event("died", f"the SuperLink did not start; {orders.log} says why")
            return
        try:
            listening = listener(orders.host, orders.port)
        except OSError as error:
            tell.event("died", f"cannot listen on {orders.host}:{orders.port}: {error.strerror}")
            return
        serving = asyncio.create_task(server.serve([listening]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        if serving.done():
            tell.event("died", f"the gate cannot serve: {serving.exception() or 'it ended'}")
            return
        tell.event("open")
        await asyncio.wait([serving, *ends], return_when=asyncio.FIRST_COMPLETED)
        if superlink.returncode is not None:
            tell.event("died", f"the SuperLink ended with {superlink.returncode}; {orders.log} says why")
        told.setLevel(logging.CRITICAL)  # what it cuts off now is no refusal
        server.should_exit = True
        await serving
    finally:
        _end(superlink)
        await superlink.wait()


def listener(host: str, port: int) -> socket.socket:
    """A socket on this address.

    Raises:
        OSError: it is taken, or none of this machine's.
    """
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    return socket.create_server((host, port), family=family, backlog=128)


async def _answers(gate: Gate) -> None:
    """Until the SuperLink does."""
    while True:
        with contextlib.suppress(httpx.TransportError):
            if (await gate.client.get(HEALTH, timeout=1)).status_code == 200:
                return
        await asyncio.sleep(0.1)


async def _end_of_input() -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


def _end(superlink: asyncio.subprocess.Process) -> None:
    """End the SuperLink and all that it has started (Flower's own executors, with --stock)."""
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
        started = psutil.Process(superlink.pid).children(recursive=True)
        superlink.kill()
        for process in started:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def main() -> None:
    """Read the orders and serve."""
    orders = Orders(**json.loads(sys.stdin.readline()))
    tell = Teller()
    with contextlib.suppress(BrokenPipeError):
        asyncio.run(serve(orders, tell))
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
    os._exit(0)


def start_gate(orders: Orders, environment: dict[str, str]) -> "subprocess.Popen[str]":
    """A gate of its own process; closing its standard input ends it."""
    gate = subprocess.Popen(
        [sys.executable, "-m", "network.gate"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    assert gate.stdin is not None
    gate.stdin.write(json.dumps(dataclasses.asdict(orders)) + "\n")
    gate.stdin.flush()
    return gate


if __name__ == "__main__":
    main()
