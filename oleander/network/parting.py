"""The gate's part of a farewell: the answer to whatever a client asks next, once the run is over.

A farewell that is a message takes a client some ten requests, each by way of the SuperLink, and in a flood they take longer than a
server can stay. So the gate says it itself, in answer to one request, to clients that say they know such answers (HEADER).
Flower's own nodes are sent the message as well. Who is waited for is decided here too, where polls are seen: a client counts as
there as long as it polls about as often as it did before.
"""

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

HEADER = "x-oleander-farewell"
"""Header of the requests of clients that understand a farewell as the gate says it: status GONE, and JSON."""
GONE = 410
SILENT_SECONDS, TIMES = 5.0, 3.0
"""A client that has not polled for so long, and for so many times its longest pause of late, is not waited for."""
PAUSES = 5
"""How many pauses between polls are "of late"."""


@dataclass
class _Seen:
    """A node, as the gate has seen it poll."""

    owner: bytes
    """Whoever the SuperLink gave this node's messages to: the key of the requests."""
    last: float
    pauses: deque[float] = field(default_factory=lambda: deque(maxlen=PAUSES))


class Parting:
    """Who polls; and once the run is over, who has heard so."""

    def __init__(self) -> None:
        self._seen: dict[int, _Seen] = {}
        self._left: dict[int, dict[str, Any]] = {}
        """Node that has not heard → what it is to hear."""
        self._began: dict[int, float] = {}

    @property
    def is_on(self) -> bool:
        """Whether anybody is still to hear."""
        return bool(self._left)

    def polled(self, node: int, owner: bytes) -> None:
        """A node has asked for its messages, and the SuperLink has taken it for itself."""
        now = time.monotonic()
        seen = self._seen.get(node)
        if seen is None or seen.owner != owner:
            self._seen[node] = _Seen(owner, now)
        else:
            seen.pauses.append(now - seen.last)
            seen.last = now

    def begin(self, nodes: list[int], why: str, code: int) -> None:
        """The run is over: from now on these nodes hear so."""
        now = time.monotonic()
        for node in nodes:
            self._left[node], self._began[node] = {"why": why, "code": code, "again": 0.0}, now

    def word_for(self, node: int, owner: bytes) -> dict[str, Any] | None:
        """What a node is to hear, if it has not heard it; and nobody else in its place."""
        seen = self._seen.get(node)
        return self._left.get(node) if seen and seen.owner == owner else None

    def heard(self, node: int) -> bool:
        """A node has heard; whether it was to."""
        return self._left.pop(node, None) is not None

    def fell_silent(self) -> list[int]:
        """The nodes that have not heard, and that nobody need wait for any more; each is named once."""
        now, found = time.monotonic(), []
        for node in list(self._began):
            if node not in self._left:
                del self._began[node]
            elif self._is_silent(node, now):
                del self._began[node]
                found.append(node)
        return found

    def _is_silent(self, node: int, now: float) -> bool:
        seen = self._seen.get(node)
        if seen is None:  # it has joined, and not asked for anything
            return now - self._began[node] > SILENT_SECONDS
        return now - seen.last > max(SILENT_SECONDS, TIMES * max(seen.pauses, default=0.0))
