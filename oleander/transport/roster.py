"""Which node is which client. Flower's node ids are random, and new in every run."""

import time
from collections.abc import Sequence
from typing import Protocol

from flwr.app import ConfigRecord
from flwr.serverapp import Grid

from oleander.settings.config import Experiment
from oleander.system.errors import RunError
from oleander.transport.grid import PULL_SECONDS

WAIT_QUIETLY_SECONDS = 10.0
"""How long missing clients are waited for without a word."""
MOST_NAMED = 12
"""Clients that a sentence names; of more it says how many."""
PLAYS, CLIENT = "plays", "client-id"
"""Name of the record in a message that tells a simulation's node which client it is in this round, and of what stands in it."""


class Roster(Protocol):
    """Knows the clients of a run."""

    def nodes(self, grid: Grid, drawn: Sequence[int] = ()) -> dict[int, int]:
        """Client id → node id of the clients that a round can begin with; ``drawn`` are the clients of this round.

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
    """The nodes of the simulation engine, any of which can be any client: each round's clients are dealt to them anew.

    So an engine needs as many nodes as clients train in a round, however many there are: Flower looks through all its nodes,
    and all messages for each, again and again.
    """

    def __init__(self, experiment: Experiment, first: int = 0) -> None:
        """Of a run; the engine may have more nodes than a round has clients. Those before ``first`` are other runs'."""
        self.experiment, self._first = experiment, first
        self._nodes: list[int] = []
        self._clients: dict[int, int] = {}  # node id → client id, in this round

    def client_of(self, node: int) -> int | None:
        """As the protocol's."""
        return self._clients.get(node)

    def nodes(self, grid: Grid, drawn: Sequence[int] = ()) -> dict[int, int]:
        """The nodes that the round's clients are.

        Raises:
            RunError: too few nodes within the round's time.
        """
        if len(self._nodes) < len(drawn):  # they never leave
            self._nodes = self._joined(grid, self._first + len(drawn))[self._first :]
        self._clients = dict(zip(self._nodes, drawn, strict=False))
        return {client: node for node, client in self._clients.items()}

    def _joined(self, grid: Grid, wanted: int) -> list[int]:
        began = time.monotonic()
        said = False
        while len(nodes := sorted(grid.get_node_ids())) < wanted:
            waited = time.monotonic() - began
            if waited > WAIT_QUIETLY_SECONDS and not said:
                print(f"waiting for the simulation's nodes: {len(nodes)} of {wanted} are there", flush=True)
                said = True
            if waited > self.experiment.round_timeout:
                raise RunError(
                    f"{len(nodes)} of the {wanted} nodes that a round needs joined within {self.experiment.round_timeout:g} s"
                )
            time.sleep(PULL_SECONDS)
        return nodes


def plays(client: int) -> dict[str, ConfigRecord]:
    """What a simulation's node is sent so that it is this client."""
    return {PLAYS: ConfigRecord({CLIENT: client})}
