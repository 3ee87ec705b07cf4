"""The gate's door: who may hold a connection, and who must go to make room.

A connection is a stranger's until it has made a request that is signed by a key that counts; from then on it is in one of that
key's places. Strangers have places of their own, so they never take a signer's. They have STRANGER_SECONDS, whatever they ask;
and where all their places are taken, the oldest goes from the address that holds most of them: who can sign still gets in.

A stranger costs no more than that either: it is answered once, and only so many are let in a second. The others wait in the
system's queue, in the order in which they came.
"""

import asyncio
import contextlib
import errno
import gc
import ipaddress
import socket
import ssl
from asyncio import sslproto
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

STRANGER_SECONDS = 15.0
"""How long a connection may be held without a signature."""
STRANGERS = 512
"""How many such connections there may be."""
EACH = 16
"""Places of one key."""
A_SECOND, AT_ONCE = 100, 50
"""Connections that are let in: each costs some 2 ms for TLS, so strangers get a fifth of a core; and a stranger has
STRANGERS / A_SECOND = 5 s at least to sign, however many come."""
WAITING = 512
"""Connections that wait in the system's queue: 5 s."""
FAREWELL_SECONDS = 5.0
"""How long the end of a TLS connection may take."""
BUFFER = 32 * 1024
"""Bytes that asyncio sets aside for each TLS connection; its own are eight times that, 128 MB for all strangers."""
TIDY = 500
"""Connections between two looks for those that have ended: each is a ring of objects, and some 70 kB."""
SPARE = 64
"""File descriptors for anything else."""


@dataclass(eq=False)
class Guest:
    """One connection."""

    host: str
    throw_out: Callable[[], None]
    key: bytes | None = None
    """The key that it signed with; None: a stranger."""
    number: int = field(default_factory=count().__next__)
    gone: bool = False
    deadline: asyncio.TimerHandle | None = None


class Places:
    """Who is in. Within a group the first is the next to go: of strangers the oldest, of a key's the longest unused."""

    def __init__(self, strangers: int = STRANGERS, each: int = EACH, signed: int = 10**6) -> None:
        """So many places for strangers, for each key, and for all signers together (which matters only where any key counts)."""
        self.most_strangers, self.each, self.most_signed = strangers, each, signed
        self.strangers: dict[str, dict[Guest, None]] = defaultdict(dict)
        self.signed: dict[bytes, dict[Guest, None]] = defaultdict(dict)
        self.count = 0
        """Of strangers."""

    def come(self, guest: Guest) -> Guest | None:
        """A stranger more; returns the one that was thrown out for it."""
        self.strangers[guest.host][guest] = None
        self.count += 1
        return self.make_room() if self.count > self.most_strangers else None

    def make_room(self) -> Guest | None:
        """Throw out the oldest stranger of the address with the most."""
        if not self.count:
            return None
        crowd = max(self.strangers.values(), key=lambda group: (len(group), -next(iter(group)).number))
        return self.throw_out(next(iter(crowd)))

    def sign(self, guest: Guest, key: bytes) -> None:
        """A guest has signed: from now on it is in one of the key's places."""
        if guest.gone:
            return
        self._remove(guest)
        guest.key = key
        group = self.signed[key]
        group[guest] = None
        if len(group) > self.each:
            self.throw_out(next(iter(group)))
        elif len(self.signed) > self.most_signed // self.each and self.holders() > self.most_signed:
            self.throw_out(self._most_crowded_signer())

    def leave(self, guest: Guest) -> None:
        """A connection has ended."""
        guest.gone = True
        if guest.deadline:
            guest.deadline.cancel()  # it holds the whole connection
        self._remove(guest)

    def _remove(self, guest: Guest) -> None:
        groups: dict[Any, dict[Guest, None]] = self.strangers if guest.key is None else self.signed
        name = guest.host if guest.key is None else guest.key
        if guest in groups.get(name, {}):
            del groups[name][guest]
            self.count -= guest.key is None
            if not groups[name]:
                del groups[name]

    def holders(self) -> int:
        """How many signers' connections there are."""
        return sum(map(len, self.signed.values()))

    def _most_crowded_signer(self) -> Guest:
        """Without keys a signature is anybody's: the address with the most connections loses its oldest."""
        guests = [guest for group in self.signed.values() for guest in group]
        crowd = Counter(guest.host for guest in guests)
        return max(guests, key=lambda guest: (crowd[guest.host], -guest.number))

    def throw_out(self, guest: Guest) -> Guest:
        """End a connection."""
        self.leave(guest)
        guest.throw_out()
        return guest


def sized(descriptors: int, keys: int, signed: int) -> Places:
    """Places that fit into so many file descriptors; each signer's needs two, for its request is passed on."""
    strangers = max(2, min(STRANGERS, (descriptors - SPARE) // 4))
    left = (descriptors - SPARE - strangers) // 2
    if keys:
        return Places(strangers, max(2, min(EACH, left // keys)))
    return Places(strangers, EACH, max(2, min(signed, left)))


def most_descriptors() -> int:
    """Raise this process's limit of open files as far as it may, and say how far that is."""
    try:
        import resource
    except ImportError:  # not a Unix
        return 2048
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, 65536) if hard != resource.RLIM_INFINITY else 65536
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    return int(min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 65536))


class Door:
    """Accepts connections and hands each to a protocol of its own."""

    def __init__(
        self, places: Places, protocol: Callable[[Guest], Any], tls: ssl.SSLContext | None, refused: Callable[[str], None]
    ) -> None:  # fmt: skip
        """A door to these places; ``protocol`` makes what serves a guest, and ``refused`` is told of who did not get in."""
        self.places, self.protocol, self.tls, self.refused = places, protocol, tls, refused
        self._tasks: set[asyncio.Task[None]] = set()
        buffered: Any = sslproto.SSLProtocol
        buffered.max_size = BUFFER

    async def keep(self, listening: socket.socket) -> None:
        """Let in who comes, for ever."""
        loop, due, came = asyncio.get_running_loop(), 0.0, 0
        listening.setblocking(False)
        while True:
            try:
                connection, address = await loop.sock_accept(listening)
            except OSError as error:  # it went before it was accepted; or there is no room for a file more
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self.places.make_room()
                    await asyncio.sleep(0.05)
                continue
            due = max(due, loop.time() - AT_ONCE / A_SECOND) + 1 / A_SECOND
            self._let_in(connection, _neighbourhood(address[0]))
            came += 1
            if came % TIDY == 0:
                gc.collect()
            if due > loop.time():
                await asyncio.sleep(due - loop.time())

    def _let_in(self, connection: socket.socket, host: str) -> None:
        loop = asyncio.get_running_loop()
        watch_for_the_dead(connection)
        guest = Guest(host, lambda: None)
        protocol = self.protocol(guest)
        task = loop.create_task(self._serve(connection, guest, protocol))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

        def throw_out() -> None:
            if not task.done():
                task.cancel()
            elif protocol.transport is not None:
                protocol.transport.abort()

        def time_is_up() -> None:
            if guest.key is None:
                self.places.throw_out(guest)

        guest.throw_out = throw_out
        guest.deadline = loop.call_later(STRANGER_SECONDS, time_is_up)
        if (thrown := self.places.come(guest)) is not None:
            self.refused(f"a connection from {thrown.host} that had signed nothing, to make room for another")

    async def _serve(self, connection: socket.socket, guest: Guest, protocol: Any) -> None:
        """Begin to serve it; the TLS handshake is part of that."""
        limits: dict[str, Any] = {}
        if self.tls:
            limits = {"ssl_handshake_timeout": STRANGER_SECONDS, "ssl_shutdown_timeout": FAREWELL_SECONDS}
        begun = False
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: protocol, connection, ssl=self.tls, **limits
            )
            begun = True
        except OSError as error:
            self.refused(f"no TLS: {getattr(error, 'reason', None) or error or type(error).__name__}")
        finally:
            if not begun:
                self.places.leave(guest)
                connection.close()


def watch_for_the_dead(connection: socket.socket) -> None:
    """Let the system ask now and then whether the other end is there: signers may be silent for as long as they train."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 60_000)):
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _neighbourhood(host: str) -> str:
    """Who counts as one: an IPv4 address; in IPv6 a network of 64 bits, which is what one customer has at least."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        return str(address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False))
    return host
