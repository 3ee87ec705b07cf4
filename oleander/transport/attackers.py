"""What attackers send each other by way of the server: records in messages to them, and the first one's memory in its reply."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from oleander.learning.parameters import FloatArray
from oleander.learning.updates import Memory
from oleander.transport.replies import BadReply, guarded, unpacked

MEMORY, PREVIOUS, ROLE = "attackers-memory", "attackers-previous", "attackers-role"
"""Names of the records."""


@dataclass(frozen=True)
class Told:
    """What an attacker is sent beside the global model."""

    memory: Memory | None = None
    """What the attackers remember together; None: what they did before the first round."""
    previous: FloatArray | None = None
    """(d,) weights of the global model that any of them was sent before this one."""
    adapts: bool = False
    """Whether it adapts the attack for all."""


def told_in(content: Mapping[str, Any]) -> Told:
    """What an attacker reads in a message's content."""
    memory, previous, role = content.get(MEMORY), content.get(PREVIOUS), content.get(ROLE)
    return Told(
        memory={name: array.numpy() for name, array in memory.items()} if memory else None,
        previous=previous.to_numpy_ndarrays()[0] if previous else None,
        adapts=bool(role and role["adapts"]),
    )


def records_of(told: Told) -> RecordDict:
    """The same as records, to be sent."""
    records = RecordDict({ROLE: ConfigRecord({"adapts": told.adapts})})
    if told.memory:
        records[MEMORY] = memory_record(told.memory)
    if told.previous is not None:
        records[PREVIOUS] = ArrayRecord([told.previous])
    return records


def memory_record(memory: Memory) -> ArrayRecord:
    """A memory, to be sent."""
    return ArrayRecord({name: Array(np.array(kept, order="C")) for name, kept in memory.items()})


def read_memory(reply: Message, like: Memory) -> dict[str, Any]:
    """What the round's first attacker says that they remember from now on, checked: as large as before, and finite.

    Raises:
        BadReply: other names, shapes, types or sizes, values that are not finite, or whatever reading it raises.
    """
    with guarded():
        record = reply.content.get(MEMORY)
        if not isinstance(record, ArrayRecord) or set(record) != set(like):
            raise BadReply(f"the attackers' memory in its reply is not {', '.join(like)}")
        return {name: _finite(record[name], f"attackers' {name}", like[name]) for name in like}


def _finite(array: Array, name: str, like: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    found = np.array(unpacked(array, name, like.dtype, like.shape))
    if not np.isfinite(found).all():
        raise BadReply(f"its {name} have values that are not finite (NaN or infinite)")
    return found
