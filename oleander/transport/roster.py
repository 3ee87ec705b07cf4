"""Which node is which client. Flower's node ids are random, and new in every run."""

import reprlib
import time
from collections.abc import Sequence
from typing import Protocol

from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from oleander.settings.config import Experiment
from oleander.system.errors import RunError
from oleander.transport.grid import PULL_SECONDS
from oleander.transport.replies import BadReply, error_of, guarded, sender

WAIT_QUIETLY_SECONDS = 10.0
"""How long missing clients are waited for without a word."""
MOST_NAMED = 12
"""Clients that a sentence names; of more it says how many."""


class Roster(Protocol):
    """Knows the clients of a run."""

    def nodes(self, grid: Grid) -> dict[int, int]:
        """Client id → node id of the clients that a round can begin with.

        Raises:
            RunError: not enough of them come in time.
        """

    def client_of(self, node: int) -> int | None:
        """The client that this node is; None if it is none."""


def named(clients: Sequence[int]) -> str:
    """Clients in a sentence: the first of many, and how many there are."""
    more = f", … ({len(clients):,} in all)" if len(clients) > MOST_NAMED else ""
    return ", ".join(map(str, clients[:MOST_NAMED])) + more


class SimulatedRoster:
    """The nodes of the simulation engine: all are there from the start and stay, each is asked once which partition it is."""

    def __init__(self, experiment: Experiment, nodes: int = 0, known: dict[int, int] | None = None) -> None:
        """Of a run; where a study's runs share an engine, it may have ``nodes`` nodes, more than clients: the rest take no part.

        ``known`` is what rosters of runs on the same engine have asked: node id → client id, kept up by this one too.
        """
        self.experiment = experiment
        self.count = max(nodes, experiment.clients)
        self._partitions = {} if known is None else known  # node id → client id
        self._all: dict[int, int] = {}  # client id → node id, once all are there

    def client_of(self, node: int) -> int | None:
        """As the protocol's."""
        return self._partitions.get(node)

    def nodes(self, grid: Grid) -> dict[int, int]:
        """All clients' nodes.

        Raises:
            RunError: too few nodes within the round's time, a node that gives no partition, or two that give the same.
        """
        if self._all:  # a round is no dearer where there are many clients that have no part in it
            return self._all
        began = time.monotonic()
        said = False
        while True:
            online = set(grid.get_node_ids())
            self._ask(grid, online - self._partitions.keys())
            nodes = {self._partitions[node]: node for node in sorted(online & self._partitions.keys())}
            missing = [client for client in range(self.experiment.clients) if client not in nodes]
            if not missing:
                self._all = nodes
                return nodes
            waited = time.monotonic() - began
            if waited > WAIT_QUIETLY_SECONDS and not said:
                print(f"waiting for the clients [{named(missing)}] of {self.experiment.clients} to join", flush=True)
                said = True
            if waited > self.experiment.round_timeout:
                raise RunError(
                    f"the clients [{named(missing)}] did not join within {self.experiment.round_timeout:g} s"
                )
            time.sleep(PULL_SECONDS)

    def _ask(self, grid: Grid, nodes: set[int]) -> None:
        taken = set(self._partitions.values())
        queries = [Message(RecordDict(), dst_node_id=node, message_type=MessageType.QUERY) for node in sorted(nodes)]
        for reply in grid.send_and_receive(queries, timeout=self.experiment.round_timeout) if queries else []:
            try:
                with guarded():
                    client = self._partition(reply)
            except BadReply as error:
                raise RunError(f"a client did not say which it is: {error}") from None
            if client in taken:
                raise RunError(f"two nodes say they are client {client}")
            taken.add(client)
            if (node := sender(reply)) is not None:
                self._partitions[node] = client

    def _partition(self, reply: Message) -> int:
        if reply.has_error():
            raise BadReply(error_of(reply))
        identity = reply.content.get("identity")
        client = identity.get("partition-id") if isinstance(identity, ConfigRecord) else None
        if isinstance(client, bool) or not isinstance(client, int) or not 0 <= client < self.count:
            raise BadReply(f"it says it is client {reprlib.repr(client)}; clients are 0 to {self.count - 1}")
        return client
