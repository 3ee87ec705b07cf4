"""The gate: what the world reaches of a server. ``python -m network.gate`` runs it in front of a SuperLink that it starts.

Flower's SuperLink has one port for all: nodes, whoever starts and stops runs, and the run's own server; only nodes have to
prove who they are, and with keys only. So the SuperLink itself listens on loopback, and the gate on the port that the world
sees. It passes on what nodes ask and nothing else (``filter.py``), and holds only so many connections, each with so long to
say what it wants: the rest is for others.

Everything refused is a line on the server's side. The gate is a process of its own: what it has to bear does not slow the
server down. It ends when its standard input does, that is, with the process that started it, and the SuperLink with it.

It speaks lines of JSON (``orders.py``).
"""

import asyncio
import contextlib
import dataclasses
import json
import logging
import os
import socket
import subprocess
import sys
from asyncio import sslproto
from typing import Any

import httpx
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from experiment.processes import die_with_parent
from network.filter import Filter
from network.internals import HEALTH
from network.orders import Orders, Teller

IDLE_SECONDS = 20.0
"""How long a connection may say nothing."""


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
    wall = Filter(orders, tell)
    told = _Told(tell)
    logging.getLogger("uvicorn.error").addHandler(told)
    tell_of_broken_handshakes(tell)
    server = uvicorn.Server(
        uvicorn.Config(
            wall, http=Impatient, ws="none", lifespan="off", log_config=None,
            access_log=False, server_header=False, date_header=False, limit_concurrency=orders.connections,
            timeout_keep_alive=int(2 * IDLE_SECONDS), timeout_graceful_shutdown=1, h11_max_incomplete_event_size=64 * 1024,
            ssl_certfile=orders.certificate or None, ssl_keyfile=orders.private_key or None,
        )
    )  # fmt: skip
    server.__dict__["capture_signals"] = contextlib.nullcontext  # the process that started this one decides
    ends = [asyncio.create_task(_end_of_input()), asyncio.create_task(superlink.wait())]
    try:
        answers = asyncio.create_task(_answers(wall))
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


async def _answers(wall: Filter) -> None:
    """Until the SuperLink does."""
    while True:
        with contextlib.suppress(httpx.TransportError):
            if (await wall.client.get(HEALTH, timeout=1)).status_code == 200:
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
