"""The gate's part in what all clients are sent: the SuperLink is asked for each part of a model once, not once by each client.

Clients of a round are sent the same model, in parts that are named by their hashes. A part is kept for those whose message has
it: whoever was given a message (by its own key, in answer to its own request) may have that message's parts from here until it
has confirmed it, and nobody else; the SuperLink itself gives any node any part whose name it knows.
"""

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from typing import Any
from weakref import WeakValueDictionary

MOST_KEPT = 64 * 2**20
"""Bytes of parts that are kept at most, those longest unused go first; a larger model's parts come while clients go through them."""
MOST_TREES = 4
"""Messages of a node whose parts it may have; it is given one at a time."""


class SharedParts:
    """Parts that clients were told of, as the SuperLink has given them."""

    def __init__(self, most: int = MOST_KEPT) -> None:
        """``most`` bytes are kept."""
        self.most, self.size = most, 0
        self._parts: OrderedDict[tuple[int, str], bytes] = OrderedDict()
        """Run and part → the SuperLink's answer to who asks for it."""
        self._may: dict[tuple[int, bytes], OrderedDict[str, tuple[int, set[str]]]] = defaultdict(OrderedDict)
        """Node and who it is → its messages: id → run, parts."""
        self._fetching: WeakValueDictionary[tuple[int, str], asyncio.Lock] = WeakValueDictionary()

    def told(self, node: int, who: bytes, run: int, tree: Any) -> None:
        """A node was given a message with these parts."""
        messages = self._may[node, who]
        messages[tree.object_id] = run, set(_ids(tree))
        while len(messages) > MOST_TREES:
            messages.popitem(last=False)

    def confirmed(self, node: int, who: bytes, message: str) -> None:
        """A node has all of a message, which the SuperLink deletes."""
        self._may.get((node, who), OrderedDict()).pop(message, None)

    def may(self, node: int, who: bytes, run: int, part: str) -> bool:
        """Whether a node was told of this part."""
        return any(run == its and part in parts for its, parts in self._may.get((node, who), {}).values())

    def fetching(self, run: int, part: str) -> asyncio.Lock:
        """Held by whoever asks the SuperLink for a part, so that the others wait for the same answer."""
        return self._fetching.setdefault((run, part), asyncio.Lock())

    def get(self, run: int, part: str) -> bytes | None:
        """The SuperLink's answer, if it is kept."""
        if (answer := self._parts.get((run, part))) is not None:
            self._parts.move_to_end((run, part))
        return answer

    def keep(self, run: int, part: str, answer: bytes) -> None:
        """Keep an answer that has the part."""
        if (run, part) in self._parts or len(answer) > self.most:
            return
        self._parts[run, part] = answer
        self.size += len(answer)
        while self.size > self.most:
            self.size -= len(self._parts.popitem(last=False)[1])


def _ids(tree: Any) -> Iterator[str]:
    yield tree.object_id
    for child in tree.children:
        yield from _ids(child)
