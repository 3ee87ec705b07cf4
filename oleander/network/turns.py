"""Whose request the SuperLink gets next: everybody's turn comes around, however many requests one asker has waiting.

A client of the run may ask as much as it likes with its own key. What it asks waits behind its own requests: between two of
one asker, each other that is waiting has one. Only so many are with the SuperLink at a time; it answers no faster for more.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Hashable

AT_A_TIME = 16
"""Requests that the SuperLink has before it at a time."""


class Turns:
    """A semaphore with a queue for each asker; a free place goes to the queues in turn."""

    def __init__(self, at_a_time: int = AT_A_TIME) -> None:
        """So many requests at a time, of all askers together."""
        self.free = at_a_time
        self.waiting: dict[Hashable, deque[asyncio.Future[None]]] = {}
        """Asker → its requests, the oldest first; the asker whose turn is next stands first."""

    @contextlib.asynccontextmanager
    async def of(self, asker: Hashable) -> AsyncIterator[None]:
        """Wait for a turn of this asker's; it lasts as long as the context."""
        if self.free:
            self.free -= 1
        else:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.waiting.setdefault(asker, deque()).append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():  # it had its turn, and does not want it any more
                    self._next()
                raise
        try:
            yield
        finally:
            self._next()

    def _next(self) -> None:
        """A place is free: whose turn is it?"""
        while self.waiting:
            asker = next(iter(self.waiting))
            queue = self.waiting.pop(asker)
            turn = queue.popleft()
            if queue:
                self.waiting[asker] = queue  # behind all others
            if not turn.done():
                turn.set_result(None)
                return
        self.free += 1
