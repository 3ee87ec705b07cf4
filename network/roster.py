"""Who is there on a real network, and who may take part: each node is greeted once, and checked before it is one of the clients.

A node is refused, with the reason on both sides, if it claims no client of the run or one that is there already, if its key
is another client's, its images or trigger are not what the server expects of that client, or its versions do not fit.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from experiment.environment import versions
from experiment.errors import RunError
from experiment.federation import client_config
from experiment.prepare import Setup
from learning.evaluation import probe_hash
from learning.partition import shard_of, shard_sha256
from strategies._replies import shown

LOOK_SECONDS = 0.25
GREETING_SECONDS = 10.0
"""How long nodes that have joined and not yet answered are waited for, where there are enough clients without them."""
FAREWELL_SECONDS, STOCK_FAREWELL_SECONDS = 10.0, 90.0
"""How long clients may take to hear that the run is over; Flower's own nodes start a process for it."""
REMIND_SECONDS = 30.0
TAKEN_SECONDS = 25.0
"""A client that died is known to be gone after some 20 s; so long another may try to take its place."""
LONGEST = 10_000
"""Characters of what a client says of its versions."""
BITS = ("torch", "numpy", "torchvision")
"""Packages that may differ, at the price of the last bits."""


@dataclass
class NetworkRoster:
    """The clients of a run over a network; ``say`` is told, in words for the user, who comes, goes, and is refused."""

    setup: Setup
    say: Callable[[str], None]
    trusted: Mapping[int, int] | None = None
    """Node id → client id by the nodes' keys, which then count and not what they say; None without keys."""
    how_to_start: str = "python -m clients --server HOST:PORT --client-id {client}"
    _clients: dict[int, int] = field(default_factory=dict)
    """Node id → client id of those that are there."""
    _known: dict[int, int] = field(default_factory=dict)
    """The same of all that ever were: a reply may come from one that has just left."""
    _greeted: dict[str, int] = field(default_factory=dict)
    """Hello that is not answered → node id."""
    _seen: set[int] = field(default_factory=set)
    _refused: set[int] = field(default_factory=set)

    def client_of(self, node: int) -> int | None:
        """The client that this node is; None if it is none."""
        return self._known.get(node)

    def nodes(self, grid: Grid) -> dict[int, int]:
        """Client id → node id of those that are there, once there are enough of them.

        Raises:
            RunError: not enough come within the round's time.
        """
        experiment = self.setup.experiment
        enough = experiment.min_clients or experiment.clients
        began = reminded = time.monotonic()
        before = None
        while True:
            self._look(grid)
            here = {client: node for node, client in sorted(self._clients.items())}
            waited = time.monotonic() - began
            nobody_comes = not self._greeted or waited > GREETING_SECONDS
            if len(here) == experiment.clients or (len(here) >= enough and nobody_comes):
                return here
            missing = [client for client in range(experiment.clients) if client not in here]
            if waited > experiment.round_timeout:
                raise RunError(
                    f"the clients {missing} did not join within {experiment.round_timeout:g} s (--round-timeout, --min-clients)"
                )
            if sorted(here) != before or time.monotonic() - reminded > REMIND_SECONDS:
                before, reminded = sorted(here), time.monotonic()
                if missing:
                    self.say(self._waiting(before, missing))
            time.sleep(LOOK_SECONDS)

    def _waiting(self, here: list[int], missing: list[int]) -> str:
        there = f"here: {', '.join(map(str, here))}" if here else "nobody is here yet"
        return (
            f"waiting for clients; {there}; missing: {', '.join(map(str, missing))}. "
            f"To start one: {self.how_to_start.format(client=missing[0])}"
        )

    def _look(self, grid: Grid) -> None:
        """Greet who is new, hear who answers, and miss who has left."""
        online = set(grid.get_node_ids())
        for node in [node for node in self._clients if node not in online]:
            self.say(f"client {self._clients.pop(node)} has left")
        self._greeted = {hello: node for hello, node in self._greeted.items() if node in online}
        if new := sorted(online - self._seen):
            hello = {**client_config(self.setup), "versions": json.dumps(versions())}
            self._greeted |= dict(zip(self._send(grid, new, "hello", hello), new, strict=True))
        self._seen = (self._seen | set(new)) & online  # one that comes again is greeted again
        for reply in grid.pull_messages(list(self._greeted)) if self._greeted else []:
            if reply.metadata.reply_to_message_id in self._greeted:
                self._hear(grid, self._greeted.pop(reply.metadata.reply_to_message_id), reply)

    def _hear(self, grid: Grid, node: int, reply: Message) -> None:
        if reply.has_error():
            if node in set(grid.get_node_ids()):
                self._refuse(grid, node, f"it did not say which client it is: {reply.error.reason[:300]}")
            return
        identity = dict(reply.content.get("identity") or {})
        client = identity.get("partition-id")
        if self.trusted is not None and node in self.trusted and client != self.trusted[node]:
            self._refuse(grid, node, f"it says it is client {client!r}, but its key is client {self.trusted[node]}'s")
        elif isinstance(client, int) and client in self._clients.values():
            self._refuse(grid, node, f"client {client} is here already", again=TAKEN_SECONDS)
        elif why := self._objection(client, identity):
            self._refuse(grid, node, why)
        else:
            self._refused.discard(node)  # with keys, a refused one and the right one are the same node
            self._clients[node] = self._known[node] = int(client)  # type: ignore[arg-type]
            self.say(f"client {client} is here{self._other_bits(identity)}")

    def _objection(self, client: Any, identity: Mapping[str, Any]) -> str:
        """What keeps a node from being the client that it says it is."""
        setup, experiment = self.setup, self.setup.experiment
        if not isinstance(client, int) or isinstance(client, bool) or not 0 <= client < experiment.clients:
            return f"it says it is client {client!r}; the clients are 0 to {experiment.clients - 1}"
        theirs, ours = _versions_of(identity), versions()
        for package, kept in (("oleander", 3), ("flwr", 2)):
            if _release(theirs.get(package), kept) != _release(ours[package], kept):
                return f"client {client} has {package} {theirs.get(package)}, the server {ours[package]}"
        if problem := identity.get("problem"):
            return f"client {client} cannot take part: {str(problem)[:300]}"
        shard = shard_sha256(shard_of(client, setup.dataset, experiment))
        if identity.get("shard-sha256") != shard or identity.get("dataset-sha256") != setup.dataset.fingerprint:
            return (
                f"client {client} has other data than the server: its shard is {str(identity.get('shard-sha256'))[:12]}…, "
                f"expected {shard[:12]}… of {setup.dataset.name} (its --dataset and --data-dir name its own copy)"
            )
        trigger = setup.attack.trigger if client < experiment.malicious else None
        if trigger is not None and identity.get("trigger-sha256") != probe_hash(setup.dataset, trigger):
            return (
                f"client {client} stamps another trigger than the server tests (its --blend-image names its own copy)"
            )
        return ""

    def _other_bits(self, identity: Mapping[str, Any]) -> str:
        theirs, ours = _versions_of(identity), versions()
        other = [f"{name} {theirs.get(name)}, not {ours[name]}" for name in BITS if theirs.get(name) != ours[name]]
        return f" (with {', '.join(other)}: the last bits may differ)" if other else ""

    def _refuse(self, grid: Grid, node: int, why: str, again: float = 0.0) -> None:
        """Send a node away; with ``again`` it may try for so many seconds more."""
        why = shown(why)
        self._refused.add(node)
        self.say(f"refused: {why}")
        self._send(grid, [node], "farewell", {"why": why, "code": 2, "again": again})

    def dismiss(self, grid: Grid, why: str, code: int, patience: float = FAREWELL_SECONDS) -> None:
        """Tell all clients that the run is over, and wait a moment for them to hear it."""
        there = sorted(set(grid.get_node_ids()) - self._refused)  # those who have just come, too
        if not there:
            return
        told = set(self._send(grid, there, "farewell", {"why": shown(why), "code": code, "again": 0.0}))
        deadline = time.monotonic() + patience
        while told and time.monotonic() < deadline:
            told -= {reply.metadata.reply_to_message_id for reply in grid.pull_messages(list(told))}
            time.sleep(LOOK_SECONDS)

    @staticmethod
    def _send(grid: Grid, nodes: list[int], what: str, content: Mapping[str, Any]) -> list[str]:
        record = RecordDict({what: ConfigRecord(dict(content))})
        return list(
            grid.push_messages([Message(record, dst_node_id=node, message_type=MessageType.QUERY) for node in nodes])
        )


def _versions_of(identity: Mapping[str, Any]) -> dict[str, str]:
    """What a client says of its packages; nothing if it says nonsense."""
    text = str(identity.get("versions", ""))
    try:
        found = json.loads(text) if len(text) < LONGEST else None
    except (ValueError, RecursionError):
        found = None
    return {str(name): str(version) for name, version in found.items()} if isinstance(found, dict) else {}


def _release(version: Any, parts: int) -> list[str]:
    return str(version).split(".")[:parts]
