"""What the two ways of being a client share: the flags, the keys, the patience with a server that is away, the end."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from oleander.settings.ranges import CountOrZero
from oleander.system.errors import RunError, UserError
from oleander.system.files import absolute

TRY_AGAIN_SECONDS = 1.0
SAY_AGAIN_SECONDS = 30.0


@dataclass(frozen=True)
class ClientFlags:
    """One client of a federated network over a real network; the server says what it trains."""

    server: str
    """HOST:PORT of the server."""
    client_id: CountOrZero
    """Which client this is, 0 to the server's --clients minus 1."""
    keys: str = ""
    """Folder with ca.crt and this client's own client-ID.key; required where the server is not on this machine."""
    key: str = ""
    """File of this client's private key (default: client-ID.key in --keys)."""
    insecure: bool = False
    """Speak without TLS and keys to a server on another machine."""
    dataset: str = ""
    """This machine's copy of the server's dataset, where it lies elsewhere: cifar10, folder:DIR, toy or ./my_data.py."""
    data_dir: str = ""
    """Folder that CIFAR-10 is in on this machine."""
    blend_image: str = ""
    """This machine's copy of the picture that a blend attacker mixes in."""
    edge_case_images: str = ""
    """This machine's copy of the folder whose pictures an edge_case attacker mixes in."""
    plugin: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """This machine's copy of an attack's, the model's or the dataset's file from outside the repository; given again, of another.
    (From a server on this machine the server's own file is run, where it is this user's.)"""
    stay: bool = False
    """Stay for the next run when one is over."""
    wait: float = float("inf")
    """Seconds that the server may be away, before the run and during it."""
    stock: bool = False
    """Run Flower's own SuperNode; slow, but by its public interface alone."""
    version: bool = False
    """Say the versions of this program and of what its results depend on."""


@dataclass(frozen=True)
class Told:
    """How a client's time with a server ended."""

    why: str
    code: int
    """0 the run is finished, 1 it failed, 2 this client is refused."""
    again: float = 0.0
    """Seconds for which it may try again."""


class Patience:
    """Waits for a server that is away, and says so now and then; for a place that is taken only as long as it may."""

    def __init__(self, flags: ClientFlags) -> None:
        self.flags = flags
        self._begin()
        self.refused: Told | None = None
        self.refused_since = 0.0

    def _begin(self) -> None:
        self.joined, self.introduced, self.asked, self.away_since = False, False, 0.0, 0.0
        self.said: dict[str, float] = {}
        """Why it waits → when it last said so."""

    def ask(self) -> None:
        """The server is asked; as long as it does not answer it is away."""
        self.asked = time.monotonic()

    def answered(self) -> None:
        """The server is there."""
        self.joined, self.asked, self.away_since = True, 0.0, 0.0

    def introduce(self) -> None:
        """The server has taken an answer of this client: it has said who it is, and is refused now or has its place."""
        self.introduced = True

    def lost(self) -> None:
        """The connection is gone; who had said who it is, and was not refused, had its place."""
        if self.introduced:
            self.refused, self.introduced = None, False

    def end(self, told: Told) -> Told:
        """How this client's time ends at the server's farewell; a run that it never had a place in is not its own."""
        return self.refused if self.refused and not self.introduced and told.code != 2 else told

    def refuse(self, told: Told) -> None:
        """The server has sent this client away; for how long it may try again counts from the first of such times in a row."""
        if not self.refused:
            self.refused_since = time.monotonic()
        self.refused = told
        self._begin()

    def left(self) -> float:
        """Seconds for which a client that is refused may still try again."""
        return self.refused_since + self.refused.again - time.monotonic() if self.refused else float("inf")

    def wait(self, why: str) -> None:
        """A moment.

        Raises:
            RunError: it is away for too long.
        """
        now = time.monotonic()
        self.away_since = self.away_since or self.asked or now
        if now - self.away_since > self.flags.wait:
            raise RunError(f"client {self.flags.client_id}: {why}, for {self.flags.wait:g} s (--wait)")
        if now - self.said.get(why, float("-inf")) > SAY_AGAIN_SECONDS:
            self.said[why] = now
            say(self.flags, f"{why}; trying again")
        time.sleep(TRY_AGAIN_SECONDS)


def credentials(flags: ClientFlags) -> tuple[bytes | None, Any]:
    """The server's authority and this client's key; None without."""
    from oleander.network.keys import CA, read, read_private

    if not flags.keys:
        if flags.key:
            raise UserError(f"--key {flags.key}: goes with --keys DIR, which has the server's ca.crt")
        return None, None
    folder = absolute(flags.keys)
    return read(folder / CA), read_private(key_file(flags))


def key_file(flags: ClientFlags) -> Path:
    """Where this client's private key lies."""
    return absolute(flags.key or f"{flags.keys}/client-{flags.client_id}.key")


def say(flags: ClientFlags, text: str) -> None:
    """A line for whoever watches this client."""
    print(f"client {flags.client_id}: {text}", flush=True)
