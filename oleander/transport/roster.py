"""Which node is which client. Flower's node ids are random, and new in every run."""

import reprlib
import time
from typing import Protocol

from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from oleander.settings.config import Experiment
from oleander.system.errors import RunError
from oleander.transport.grid import PULL_SECONDS
from oleander.transport.replies import BadReply, error_of, guarded, sender

WAIT_QUIETLY_SECONDS = 10.0
"""How long missing clients are waited for without a word."""


class Roster(Protocol):
    """Knows the clients of a run."""

    def nodes(self, grid: Grid) -> dict[int, int]:
        """Client id → node id of the clients that a round can begin with.

        Raises:
            RunError: not enough of them come in time.
        """

    def client_of(self, node: int) -> int | None:
        """The client that this node is; None if it is none."""


class SimulatedRoster:
    """The nodes of the simulation engine: all are there from the start, each is asked once which partition it is."""

    def __init__(self, experiment: Experiment, nodes: int = 0) -> None:
        """Of a run; where a study's runs share an engine, it may have ``nodes`` nodes, more than clients: the rest take no part."""
        self.experiment = experiment
        self.count = max(nodes, experiment.clients)
        self._partitions: dict[int, int] = {}  # node id → client id

    def client_of(self, node: int) -> int | None:
        """As the protocol's."""
        return self._partitions.get(node)

    def nodes(self, grid: Grid) -> dict[int, int]:
        """All clients' nodes.

        Raises:
            RunError: too few nodes within the round's time, a node that gives no partition, or two that give the same.
        """
        began = time.monotonic()
        said = False
        while True:
            online = set(grid.get_node_ids())
            self._ask(grid, online - self._partitions.keys())
            nodes = {self._partitions[node]: node for node in sorted(online & self._partitions.keys())}
            missing = [client for client in range(self.experiment.clients) if client not in nodes]
            if not missing:
                return nodes
            waited = time.monotonic() - began
            if waited > WAIT_QUIETLY_SECONDS and not said:
                print(f"waiting for the clients {missing} of {self.experiment.clients} to join", flush=True)
                said = True
            if waited > self.experiment.round_timeout:
                raise RunError(f"the clients {missing} did not join within {self.experiment.round_timeout:g} s")
            time.sleep(PULL_SECONDS)

    def _ask(self, grid: Grid, nodes: set[int]) -> None:
        queries = [Message(RecordDict(), dst_node_id=node, message_type=MessageType.QUERY) for node in sorted(nodes)]
        for reply in grid.send_and_receive(queries, timeout=self.experiment.round_timeout) if queries else []:
            try:
                with guarded():
                    client = self._partition(reply)
            except BadReply as error:
                raise RunError(f"a client did not say which it is: {error}") from None
            if client in self._partitions.values():
                raise RunError(f"two nodes say they are client {client}")
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
