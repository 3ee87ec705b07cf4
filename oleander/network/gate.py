"""The gate: what the world reaches of a server. ``python -m oleander.network.gate`` runs it in front of a SuperLink that it starts.

Flower's SuperLink has one port for all: nodes, whoever starts and stops runs, and the run's own server; only nodes have to
prove who they are, and with keys only. So the SuperLink itself listens on loopback, and the gate on the port that the world
sees. It passes on what nodes ask and nothing else (``filter.py``), and keeps places for those who sign what they ask
(``door.py``).

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
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import httpx
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from oleander.network.address import listener
from oleander.network.door import WAITING, Door, Guest, Places, most_descriptors, sized
from oleander.network.filter import Filter
from oleander.network.internals import HEALTH
from oleander.network.orders import Orders, Teller
from oleander.system.output import hold_up_nothing, say_the_rest
from oleander.system.processes import die_with_parent
from oleander.system.programs import how_it_ended, python

STUCK_SECONDS = 20.0
"""How long a connection may take nothing of what it has asked for, or not go when it is closed."""
A_YEAR = 365 * 86400
LOOK_SECONDS = 0.1
"""How often, once the run is over, it is looked whether a client that has not heard so still polls."""
LONGEST_LINE = 2**26
"""Bytes of a line of the server's; it may name all nodes."""


class Impatient(H11Protocol):
    """uvicorn's protocol for one guest of the door. (h11, since httptools takes request heads of any size.)

    A connection is cut off if it is closed and does not go, or does not take what it has asked for.
    """

    def __init__(self, guest: Guest, places: Places, refused: Callable[[str], None], **named: Any) -> None:
        """Serve this guest; ``named`` is what uvicorn's protocol takes."""
        super().__init__(app_state={"guest": guest, "places": places}, **named)
        self.guest, self.places, self.refused = guest, places, refused

    def connection_made(self, transport: Any) -> None:
        """Begin to watch."""
        super().connection_made(transport)
        self._before: tuple[bool, int] = (False, 0)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Its place is free."""
        self.places.leave(self.guest)
        self._unset_keepalive_if_required()  # which uvicorn forgets where the connection broke; it would be kept for a year
        if isinstance(exc, ssl.SSLError):
            self.refused(f"no TLS: {exc.reason or exc}")
        super().connection_lost(exc)

    def _watch(self) -> None:
        asyncio.get_running_loop().call_later(STUCK_SECONDS, self._look)

    def _look(self) -> None:
        if self not in self.connections:
            return
        before, self._before = self._before, (self.transport.is_closing(), self.transport.get_write_buffer_size())
        if before == self._before and before != (False, 0):
            self.transport.abort()
        self._watch()


class _Told(logging.Handler):
    """What uvicorn warns of is an event: bytes that are no HTTP."""

    def __init__(self, tell: Teller) -> None:
        super().__init__(logging.WARNING)
        self.tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        self.tell.refused(record.getMessage())


async def serve(orders: Orders, tell: Teller) -> None:
    """Wait for the SuperLink, then let the world in, until standard input or the SuperLink ends."""
    descriptors = most_descriptors()  # before the SuperLink starts, which has the same
    with open(orders.log, "ab") as log:
        superlink = await asyncio.create_subprocess_exec(
            *orders.superlink, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=asyncio.subprocess.STDOUT,
            preexec_fn=die_with_parent,
        )  # fmt: skip
    try:
        await _serve_before(superlink, orders, tell, sized(descriptors, len(orders.keys), orders.connections))
    finally:
        _end(superlink)
        await superlink.wait()


async def _serve_before(superlink: asyncio.subprocess.Process, orders: Orders, tell: Teller, places: Places) -> None:
    wall, log = Filter(orders, tell), Path(orders.log)
    ends = [asyncio.create_task(_input(wall, tell)), asyncio.create_task(superlink.wait())]
    answers = asyncio.create_task(_answers(wall))
    await asyncio.wait([answers, *ends], return_when=asyncio.FIRST_COMPLETED)
    if not answers.done():
        answers.cancel()
        if superlink.returncode is not None:
            why = how_it_ended(superlink.returncode, log)
            tell.event("died", f"the SuperLink did not start ({why}); {log} has the rest")
        return
    try:
        listening = listener(orders.host, orders.port, WAITING)
    except OSError as error:
        tell.event("died", f"cannot listen on {orders.host}:{orders.port}: {error.strerror}")
        return
    told = _Told(tell)
    logging.getLogger("uvicorn.error").addHandler(told)
    with listening:
        serving = _serving(wall, listening, orders, tell, places)
        tell.event("open")
        await asyncio.wait([*serving, *ends], return_when=asyncio.FIRST_COMPLETED)
    if superlink.returncode is not None:
        why = how_it_ended(superlink.returncode, log)
        tell.event("died", f"the SuperLink ended ({why}); {log} has the rest")
    for task in serving:
        if task.done():
            tell.event("died", f"the gate cannot serve: {task.exception() or 'it ended'}")
    told.setLevel(logging.CRITICAL)  # what it cuts off now is no refusal


def _serving(
    wall: Filter, listening: socket.socket, orders: Orders, tell: Teller, places: Places
) -> list["asyncio.Task[None]"]:
    """Uvicorn's server, and the door in place of its sockets; neither ends by itself."""
    config = uvicorn.Config(
        wall, http=Impatient, ws="none", lifespan="off", log_config=None, access_log=False, server_header=False,
        date_header=False, timeout_keep_alive=A_YEAR, timeout_graceful_shutdown=1, h11_max_incomplete_event_size=64 * 1024,
        ssl_certfile=orders.certificate or None, ssl_keyfile=orders.private_key or None,
    )  # fmt: skip
    config.load()
    server = uvicorn.Server(config)
    server.__dict__["capture_signals"] = contextlib.nullcontext  # the process that started this one decides

    def protocol(guest: Guest) -> Impatient:
        return Impatient(guest, places, tell.refused, config=config, server_state=server.server_state)

    door = Door(places, protocol, config.ssl, tell.refused)
    return [asyncio.create_task(server.serve(sockets=[])), asyncio.create_task(door.keep(listening))]


async def _answers(wall: Filter) -> None:
    """Until the SuperLink does."""
    while True:
        with contextlib.suppress(httpx.TransportError):
            if (await wall.client.get(HEALTH, timeout=1)).status_code == 200:
                return
        await asyncio.sleep(0.1)


async def _input(wall: Filter, tell: Teller) -> None:
    """Until standard input ends; a line of it says that the run is over, and to whom it is to be said."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=LONGEST_LINE)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    watching = None
    while line := await reader.readline():
        wall.parting.begin(**json.loads(line))
        watching = watching or loop.create_task(_tell_of_the_silent(wall, tell))


async def _tell_of_the_silent(wall: Filter, tell: Teller) -> None:
    while True:
        for node in wall.parting.fell_silent():
            tell.event("silent", str(node))
        await asyncio.sleep(LOOK_SECONDS)


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
    hold_up_nothing()
    orders = Orders(**json.loads(sys.stdin.readline()))
    asyncio.run(serve(orders, Teller()))
    say_the_rest(1.0)
    os._exit(0)


def start_gate(orders: Orders, environment: dict[str, str], said: IO[bytes]) -> "subprocess.Popen[str]":
    """A gate of its own process; closing its standard input ends it. ``said`` is for what goes wrong before it can tell."""
    gate = subprocess.Popen(
        python("-m", "oleander.network.gate"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True, env=environment,
    )  # fmt: skip
    assert gate.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it has died; what it says is read by those who wait for it
        gate.stdin.write(json.dumps(dataclasses.asdict(orders)) + "\n")
        gate.stdin.flush()
    return gate


if __name__ == "__main__":
    main()
