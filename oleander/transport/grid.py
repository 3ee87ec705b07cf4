"""Flower's grid with replies handed on one by one."""

import time
from collections.abc import Iterable, Iterator
from typing import Any

from flwr.app import Error, Message
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from oleander.transport.replies import answered, never_ran

PULL_SECONDS, LONGEST_PULL_SECONDS = 0.05, 0.25
"""Pause between looks for replies: at least, and at most where a look costs something."""
LOOKING_SHARE = 1 / 16
"""Share of the time that looking may take between the two: over a network it costs the server and the SuperLink some 10 ms."""
RESTART_SECONDS = 0.5
"""Pause before a message that met a restarting process is sent again."""


class StreamingGrid(Grid):
    """A grid that hands replies on as they come, so that they are checked, counted and unpacked while others train.

    A message that reached a process which was just being restarted, after the client before died in it, never ran; it is
    sent again, so that one client's death is not another's.
    """

    def __init__(self, grid: Grid, *, restarts: bool) -> None:
        """Wrap Flower's grid; all but ``send_and_receive`` is its own. ``restarts``: Ray's processes are behind it."""
        self._grid, self._restarts = grid, restarts

    def set_run(self, run: Run) -> None:
        self._grid.set_run(run)

    @property
    def run(self) -> Run:
        return self._grid.run

    def create_message(self, *args: Any, **kwargs: Any) -> Message:
        return self._grid.create_message(*args, **kwargs)

    def get_node_ids(self) -> Iterable[int]:
        return self._grid.get_node_ids()

    def get_nodes(self) -> Iterable[NodeInfo]:
        return self._grid.get_nodes()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return self._grid.pull_messages(message_ids)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:
        """Push the messages now; yield each reply when it comes, until all have or the time is up."""
        pushed = list(messages)
        waiting, gone = self._sent(pushed)
        return self._replies(waiting, gone, time.monotonic() + (timeout if timeout is not None else float("inf")))

    def _sent(self, messages: list[Message]) -> tuple[dict[str, Message], list[Message]]:
        """Push messages: message id → message, and those that could not be, since their nodes have just left."""
        ids = self._grid.push_messages(messages)
        sent = list(zip(ids, messages, strict=True))
        return {key: message for key, message in sent if key}, [message for key, message in sent if not key]

    def _replies(self, waiting: dict[str, Message], gone: list[Message], deadline: float) -> Iterator[Message]:
        """The replies; closed early, it frees what is still awaited, which wants a SuperLink that is there."""
        try:
            for message in gone:
                yield Message(Error(code=0, reason="Node Unavailable"), reply_to=message)
            late = False
            while waiting and not late:
                late = time.monotonic() >= deadline  # a last look: what had come while others were read counts
                began = time.monotonic()
                replies = list(self._grid.pull_messages(waiting.keys()))
                looked = time.monotonic() - began
                for reply in replies:
                    message = waiting.pop(answered(reply), None)
                    if message is None:
                        continue
                    if self._restarts and never_ran(reply):
                        time.sleep(RESTART_SECONDS)
                        waiting |= self._again(message)
                    else:  # whatever it says of itself, it is the reply of the node that was asked
                        reply.metadata.__dict__["_src_node_id"] = message.metadata.dst_node_id
                        yield reply
                if waiting and not replies and not late:
                    time.sleep(min(max(PULL_SECONDS, looked / LOOKING_SHARE), LONGEST_PULL_SECONDS))
        finally:
            if waiting and hasattr(self._grid, "forget"):
                self._grid.forget(waiting.keys())

    def _again(self, message: Message) -> dict[str, Message]:
        metadata = message.metadata
        copy = Message(message.content, dst_node_id=metadata.dst_node_id, message_type=metadata.message_type)
        return self._sent([copy])[0]  # the simulation's nodes never leave
