"""Who is there on a real network, and who may take part: each node is greeted once, and checked before it is one of the clients.

A node is refused, with the reason on both sides, if it claims no client of the run or one that is there already, if its key
is another client's, its images or trigger are not what the server expects of that client, or its versions do not fit.
"""

import json
import reprlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from attacks import Attack, fingerprint
from clients.plugins import ATTACKING, HONEST, difference, expected
from oleander.datasets.partition import shard_of, shard_sha256
from oleander.experiment.federation import client_config
from oleander.experiment.prepare import Setup
from oleander.system.display import doing
from oleander.system.environment import versions
from oleander.system.errors import RunError
from oleander.transport.replies import BadReply, answered, error_of, guarded, shown
from oleander.transport.roster import named

LOOK_SECONDS = 0.25
GREETING_SECONDS = 10.0
"""How long nodes that have joined and not yet answered are waited for, where there are enough clients without them."""
FAREWELL_SECONDS, STOCK_FAREWELL_SECONDS = 8.0, 90.0
"""How long clients may take at most to hear that the run is over, as long as they are seen to poll; Flower's own nodes start a
process for it."""
REMIND_SECONDS = 30.0
TAKEN_SECONDS = 25.0
"""A client that died is known to be gone after some 20 s; so long another may try to take its place."""
LONGEST = 10_000
"""Characters of what a client says of its versions."""
LONGEST_VERSION, LONGEST_HASH = 40, 64
BITS = ("torch", "numpy", "torchvision")
"""Packages that may differ, at the price of the last bits."""


@dataclass(frozen=True)
class Identity:
    """What a node has answered to the hello, taken to pieces that can be compared."""

    client: int | None
    """None: no whole number."""
    said: str
    """What it gave as its number, in words."""
    versions: dict[str, str]
    plugins: dict[str, str]
    """Name → SHA-256 of its copies of plug-ins from outside."""
    problem: str
    shard: str
    dataset: str
    trigger: str


def read_identity(reply: Message) -> Identity:
    """Who a node says it is.

    Raises:
        BadReply: it answered with an error; or whatever reading the answer raises.
    """
    with guarded():
        if reply.has_error():
            raise BadReply(f"it did not say which client it is: {error_of(reply)}")
        record = reply.content.get("identity")
        said: Mapping[str, Any] = record if isinstance(record, ConfigRecord) else {}
        client = said.get("partition-id")
        whole = isinstance(client, int) and not isinstance(client, bool)
        texts = (said.get(name) for name in ("problem", "shard-sha256", "dataset-sha256", "trigger-sha256"))
        return Identity(
            client if whole else None,
            reprlib.repr(client),
            _versions(said.get("versions")),
            _versions(said.get("plugins"), LONGEST_HASH),
            *(text if isinstance(text, str) else "" if text is None else reprlib.repr(text) for text in texts),
        )


class Gate(Protocol):
    """What sees the clients poll, and can answer them itself (``superlink.Network``)."""

    parted: set[int]
    """Nodes that have heard, or that do not poll any more."""

    def part(self, nodes: Iterable[int], why: str, code: int) -> None:
        """Say farewell to these nodes."""


@dataclass
class NetworkRoster:
    """The clients of a run over a network; ``say`` is told, in words for the user, who comes, goes, and is refused."""

    setup: Setup
    say: Callable[[str], None]
    trusted: Mapping[int, int] | None = None
    """Node id → client id by the nodes' keys, which then count and not what they say; None without keys."""
    how_to_start: str = "python -m clients --server HOST:PORT --client-id {client}"
    gate: Gate | None = None
    """None: the farewell is a message only (Flower's own ServerApp)."""
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

    def nodes(self, grid: Grid, drawn: Sequence[int] = ()) -> dict[int, int]:
        """Client id → node id of those that are there, once there are enough of them, whoever is ``drawn``.

        Raises:
            RunError: not enough come within the round's time.
        """
        experiment = self.setup.experiment
        enough = experiment.min_clients or experiment.clients
        began = reminded = time.monotonic()
        before = None
        with doing("waiting for clients", "clients", aloud=False) as step:
            while True:
                self._look(grid)
                here = {client: node for node, client in sorted(self._clients.items())}
                waited = time.monotonic() - began
                nobody_comes = not self._greeted or waited > GREETING_SECONDS
                if len(here) == experiment.clients or (len(here) >= enough and nobody_comes):
                    return here
                missing = [client for client in range(experiment.clients) if client not in here]
                step.at(len(here), experiment.clients)
                step.text = self._doing(missing)
                if waited > experiment.round_timeout:
                    raise RunError(
                        f"the clients [{named(missing)}] did not join within {experiment.round_timeout:g} s "
                        "(--round-timeout, --min-clients)"
                    )
                if sorted(here) != before or time.monotonic() - reminded > REMIND_SECONDS:
                    before, reminded = sorted(here), time.monotonic()
                    if missing:
                        self.say(self._waiting(before, missing))
                time.sleep(LOOK_SECONDS)

    def _doing(self, missing: list[int]) -> str:
        """What is waited for, for the display."""
        if greeted := len(self._greeted):
            return f"checking {greeted} that joined: images, versions, plug-ins"
        return f"waiting for clients {named(missing)}"

    def _waiting(self, here: list[int], missing: list[int]) -> str:
        there = f"here: {named(here)}" if here else "nobody is here yet"
        return (
            f"waiting for clients; {there}; missing: {named(missing)}. "
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
            self._greeted |= self._send(grid, new, "hello", hello)
        self._seen = (self._seen | set(new)) & online  # one that comes again is greeted again
        for reply in grid.pull_messages(list(self._greeted)) if self._greeted else []:
            if (asked := answered(reply)) in self._greeted:
                self._hear(grid, self._greeted.pop(asked), reply)

    def _hear(self, grid: Grid, node: int, reply: Message) -> None:
        """Let a node that has answered the hello in, or send it away, also for whatever reading its answer raises."""
        try:
            with guarded():
                who = read_identity(reply)
                why, again = self._objection(node, who)
        except BadReply as error:
            if node in set(grid.get_node_ids()):  # else it has left, and that is its error
                self._refuse(grid, node, str(error))
            return
        if why:
            self._refuse(grid, node, why, again)
            return
        assert who.client is not None
        self._refused.discard(node)  # with keys, a refused one and the right one are the same node
        self._clients[node] = self._known[node] = who.client
        self.say(f"client {who.client} is here{self._other_bits(who)}")

    def _objection(self, node: int, who: Identity) -> tuple[str, float]:
        """What keeps a node from being the client that it says it is, and for how many seconds it may try again."""
        if self.trusted is not None and node in self.trusted and who.client != self.trusted[node]:
            return f"it says it is client {who.said}, but its key is client {self.trusted[node]}'s", 0.0
        if who.client is not None and who.client in self._clients.values():
            return f"client {who.client} is here already", TAKEN_SECONDS
        return self._misfit(who), 0.0

    def _misfit(self, who: Identity) -> str:
        """In what a node does not fit the run; nothing if it does."""
        setup, experiment, client = self.setup, self.setup.experiment, who.client
        if client is None or not 0 <= client < experiment.clients:
            return f"it says it is client {who.said}; the clients are 0 to {experiment.clients - 1}"
        theirs, ours = who.versions, versions()
        for package, kept in (("oleander", 3), ("flwr", 2)):
            if _release(theirs.get(package), kept) != _release(ours[package], kept):
                return f"client {client} has {package} {theirs.get(package)}, the server {ours[package]}"
        needed = ATTACKING if client in experiment.malicious_clients else HONEST
        for name, wanted in expected(experiment, needed).items():
            if other := difference(name, who.plugins.get(name, ""), wanted):
                return f"client {client} {other}"
        if who.problem:
            return f"client {client} cannot take part: {who.problem[:300]}"
        shard = shard_sha256(shard_of(client, setup.dataset, experiment))
        if who.shard != shard or who.dataset != setup.dataset.fingerprint:
            return (
                f"client {client} has other data than the server: its shard is {who.shard[:12]}…, "
                f"expected {shard[:12]}… of {setup.dataset.name} (its --dataset and --data-dir name its own copy)"
            )
        attack = setup.attack if client in experiment.malicious_clients else Attack()
        if attack.material and who.trigger != fingerprint(attack, setup.dataset):
            return f"client {client} has other edge cases than the server (its --edge-case-images names its own copy)"
        if attack.trigger is not None and who.trigger != fingerprint(attack, setup.dataset):
            return (
                f"client {client} stamps another trigger than the server tests (its --blend-image names its own copy)"
            )
        return ""

    @staticmethod
    def _other_bits(who: Identity) -> str:
        theirs, ours = who.versions, versions()
        other = [f"{name} {theirs.get(name)}, not {ours[name]}" for name in BITS if theirs.get(name) != ours[name]]
        return f" (with {', '.join(other)}: the last bits may differ)" if other else ""

    def _refuse(self, grid: Grid, node: int, why: str, again: float = 0.0) -> None:
        """Send a node away; with ``again`` it may try for so many seconds more."""
        why = shown(why)
        self._refused.add(node)
        self.say(f"refused: {why}")
        self._send(grid, [node], "farewell", {"why": why, "code": 2, "again": again})

    def dismiss(self, grid: Grid, why: str, code: int, patience: float = FAREWELL_SECONDS) -> None:
        """Tell all clients that the run is over, and wait until they have heard, have left, or do not poll any more.

        Who comes meanwhile is told too: it may be a client that has lost its connection and has joined again.
        """
        why, deadline = shown(why), time.monotonic() + patience
        told: dict[str, int] = {}
        addressed: set[int] = set()
        while True:
            online = set(grid.get_node_ids()) - self._refused
            if new := sorted(online - addressed):
                addressed |= online
                if self.gate:
                    self.gate.part(new, why, code)  # before the message, which takes a client many requests
                told |= self._send(grid, new, "farewell", {"why": why, "code": code, "again": 0.0})
            heard = {answered(reply) for reply in grid.pull_messages(list(told))} if told else set()
            gone = self.gate.parted if self.gate else set()
            told = {key: node for key, node in told.items() if key not in heard and node in online - gone}
            if not told or time.monotonic() > deadline:
                return
            time.sleep(LOOK_SECONDS)

    @staticmethod
    def _send(grid: Grid, nodes: list[int], what: str, content: Mapping[str, Any]) -> dict[str, int]:
        """Send them all the same; message id → node, without those who have left in this moment."""
        record = RecordDict({what: ConfigRecord(dict(content))})
        messages = [Message(record, dst_node_id=node, message_type=MessageType.QUERY) for node in nodes]
        return {key: node for key, node in zip(grid.push_messages(messages), nodes, strict=True) if key}


def _versions(text: Any, longest: int = LONGEST_VERSION) -> dict[str, str]:
    """What a client says of its packages or plug-ins, by name; nothing if it says nonsense."""
    try:
        found = json.loads(text) if isinstance(text, str) and len(text) < LONGEST else None
    except (ValueError, RecursionError):
        found = None
    known = found.items() if isinstance(found, dict) else ()
    return {str(name): shown(str(version)[:longest]) for name, version in known}


def _release(version: Any, parts: int) -> list[str]:
    return str(version).split(".")[:parts]
