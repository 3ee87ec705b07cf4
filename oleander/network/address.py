"""Addresses: HOST:PORT, loopback, free ports."""

import ipaddress
import random
import re
import socket
from dataclasses import dataclass

from oleander.system import itself
from oleander.system.errors import RunError, UserError

UNGIVEN = range(20_000, 32_000)
"""Ports below those that Linux, macOS and Windows give to connections and to whoever asks for any port."""


@dataclass(frozen=True)
class Address:
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        """HOST:PORT, with brackets around an IPv6 address."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str, flag: str) -> Address:
    """HOST:PORT or [HOST]:PORT.

    Raises:
        UserError: neither.
    """
    scheme, found, rest = text.partition("://")
    if found:
        alone = rest.strip("/") or "127.0.0.1:18000"
        raise UserError(f"{flag} {text}: {scheme}:// is too much; wanted HOST:PORT alone, such as {alone}")
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (host and colon and re.fullmatch(r"\d{1,5}", port, re.ASCII) and 1 <= int(port) <= 65535):
        raise UserError(f"{flag} {text}: wanted HOST:PORT, such as 127.0.0.1:18000")
    return Address(host, int(port))


def check_host(host: str, flag: str) -> None:
    """Refuse an address of the web in place of a host's.

    Raises:
        UserError: it has a scheme or a path.
    """
    if "/" in host:
        alone = host.partition("://")[2].strip("/") or host.strip("/")
        raise UserError(f"{flag} {host}: wanted a host's name or address alone, such as {alone}")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def free_port() -> int:
    """A port of loopback that nobody listens on just now, nor will by chance: the system gives these to no connection.

    (One of those that it does give would be given again, to another program that asks before this one listens.)

    Raises:
        RunError: all are taken.
    """
    for port in random.SystemRandom().sample(UNGIVEN, len(UNGIVEN)):
        if not is_taken("127.0.0.1", port):
            return port
    raise RunError(f"no port from {UNGIVEN.start} to {UNGIVEN.stop - 1} of 127.0.0.1 is free")


def is_taken(host: str, port: int) -> bool:
    """Whether it cannot be listened on."""
    try:
        listener(host, port).close()
    except OSError:
        return True
    return False


def listener(host: str, port: int, waiting: int | None = None) -> socket.socket:
    """A socket on this address, with room for so many connections that nobody has taken yet.

    Raises:
        OSError: it is taken, or none of this machine's.
    """
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    return socket.create_server((host, port), family=family, backlog=waiting)


def check_free(address: Address) -> None:
    """Refuse an address that cannot be listened on.

    Raises:
        UserError: it is taken, or none of this machine's.
    """
    try:
        listener(address.host, address.port).close()
    except OSError as error:
        raise UserError(
            f"--host {address.host} --port {address.port}: cannot listen there: {error.strerror or error}"
        ) from None


def check_exposure(address: Address, keys: str, *, insecure: bool) -> None:
    """Refuse to let the world in without keys, unless in words.

    Raises:
        UserError: neither keys nor --insecure on an address that others reach; or both.
    """
    if keys and insecure:
        raise UserError(f"--insecure with --keys {keys}: which of them?")
    if not keys and not insecure and not is_loopback(address.host):
        raise UserError(
            f"--host {address.host}: others reach it, so --keys DIR is required (make it by {itself.command('server')} keys "
            "--clients N --out DIR), or --insecure: anybody who reaches the port could then be a client, and read what is sent"
        )
