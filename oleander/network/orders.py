"""What a server and its gate say to each other: lines of JSON.

``Orders`` come first to the gate's standard input; at the run's end what its clients shall hear (``Parting.begin``'s arguments).
Events come from its output.
"""

import json
import sys
import time
from dataclasses import dataclass, field

LINES_A_SECOND = 20
"""Refusals that are told one by one; those beyond are counted."""


@dataclass(frozen=True)
class Orders:
    """What the gate is to do."""

    superlink: list[str]
    """Command of the SuperLink; started as soon as this line is read."""
    upstream: str
    """Address of the SuperLink: https://127.0.0.1:PORT, or http."""
    ca: str
    """File of the authority that the SuperLink's certificate is of; none: it speaks without TLS."""
    log: str
    """File for what the SuperLink says."""
    host: str
    port: int
    limit: int
    """Bytes that one reply of a client may have."""
    connections: int
    """How many those who sign may hold at a time, where any signature counts."""
    certificate: str = ""
    private_key: str = ""
    keys: list[str] = field(default_factory=list)
    """Public keys (PEM) whose requests are passed on; none: anybody's."""


class Teller:
    """Writes events as lines of JSON; too many refusals in a second become a number."""

    def __init__(self) -> None:
        self.second, self.count = 0, 0

    def event(self, kind: str, text: str = "") -> None:
        """Tell the process that started this one."""
        sys.stdout.write(json.dumps({"event": kind, "text": text}) + "\n")
        sys.stdout.flush()

    def refused(self, text: str) -> None:
        """Tell of a request that was not passed on."""
        second = int(time.monotonic())
        if second != self.second:
            if self.count > LINES_A_SECOND:
                self.event("refused", f"and {self.count - LINES_A_SECOND} more in the second before")
            self.second, self.count = second, 0
        self.count += 1
        if self.count <= LINES_A_SECOND:
            self.event("refused", text)
