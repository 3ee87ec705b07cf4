"""What a server may believe of a client's reply: nothing that it has not checked.

What a node sent is read inside ``guarded``: whatever that raises is the node's fault, and nobody else's.
"""

import contextlib
import io
import math
import re
import reprlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord
from numpy.lib import format as npy
from numpy.typing import NDArray

from oleander.learning.parameters import Layout, ModelState

MOST_WORDS = 400
"""Characters of a client's own text that anybody is shown."""
MOST_LOSS = float(np.finfo(np.float32).max)
"""A mean of float32 losses is no larger."""
HEADER = 256
"""Bytes that an array's header may take; numpy writes 128 for a vector."""


class BadReply(ValueError):
    """A reply that cannot be aggregated; says why."""

    def __init__(self, why: str) -> None:
        super().__init__(shown(why))


def shown(text: str) -> str:
    """A client's text, as it may stand in a terminal and a record: short, on one line, without control characters."""
    cut = text if len(text) <= MOST_WORDS else text[:MOST_WORDS] + "…"
    return "".join(c if c.isprintable() else " " for c in cut)


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Reading what a node sent: whatever it raises is a BadReply."""
    try:
        yield
    except BadReply:
        raise
    except Exception as error:
        raise BadReply(f"it cannot be read ({_described(error)})") from None


def answered(reply: Message) -> str:
    """The message that this one says it answers; empty if it does not say."""
    try:
        asked = reply.metadata.reply_to_message_id
    except Exception:
        return ""
    return asked if isinstance(asked, str) else ""


def sender(reply: Message) -> int | None:
    """The node that a reply is from; None if it does not say."""
    try:
        node = reply.metadata.src_node_id
    except Exception:
        return None
    return node if isinstance(node, int) else None


def read_reply(reply: Message, layout: Layout, num_examples: int, images: int) -> tuple[ModelState, dict[str, float]]:
    """The local model and the metrics of a reply, checked.

    Args:
        reply: what came back from a client.
        layout: the tensors that the model has.
        num_examples: the size of this client's shard, as the server knows it.
        images: what passes through its model in a round: its shard, once in each local epoch.

    Returns:
        The model; its ``loss``, ``images`` and, where it says a finite one, ``began``. What else it may say is left alone.

    Raises:
        BadReply: an error, missing parts, another number of arrays, other shapes or types, values that are not finite,
            other numbers of examples or images than the server knows, a loss that is none; or whatever reading it raises.
    """
    with guarded():
        if reply.has_error():
            raise BadReply(_cause(reply.error.reason))
        arrays, metrics = reply.content.get("arrays"), reply.content.get("metrics")
        if not isinstance(arrays, ArrayRecord) or not isinstance(metrics, MetricRecord):
            raise BadReply("its reply has no arrays or no metrics")
        claimed = metrics.get("num-examples")
        if isinstance(claimed, bool) or not isinstance(claimed, int) or claimed != num_examples:
            raise BadReply(f"it claims {reprlib.repr(claimed)} examples, but its shard has {num_examples}")
        model = _model(arrays, layout)
        passed, loss, began = metrics.get("images"), metrics.get("loss"), metrics.get("began")
        if not _is_number(passed) or passed != images:
            raise BadReply(
                f"it claims to have passed {reprlib.repr(passed)} images, but a round of its shard is {images}"
            )
        if not _is_number(loss) or not 0 <= loss <= MOST_LOSS:
            raise BadReply(f"it claims a loss of {reprlib.repr(loss)}, not a number from 0 to {MOST_LOSS:.2g}")
        numbers = {"loss": float(loss), "images": float(images)}
        if _is_number(began) and abs(began) < MOST_LOSS:
            numbers["began"] = float(began)
        return model, numbers


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _model(record: ArrayRecord, layout: Layout) -> ModelState:
    counts = {"weights": layout.weight_count, "statistics": layout.statistic_count}
    if len(record) != len(counts):
        raise BadReply(f"it sent {len(record)} arrays, not weights and statistics")
    vectors = []
    for array, (name, count) in zip(record.values(), counts.items(), strict=True):
        vector = unpacked(array, name, np.dtype(np.float32), (count,))
        bad = np.flatnonzero(~np.isfinite(vector))
        if len(bad):
            where = layout.tensor_at(int(bad[0]), weight=name == "weights")
            raise BadReply(f"its {name} have {len(bad)} values that are not finite (NaN or infinite), from {where} on")
        vectors.append(vector)
    return ModelState(*vectors)


def unpacked(array: Array, name: str, kind: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """The numbers of an array, by its own header; nothing is set aside for what that only claims.

    Raises:
        BadReply: another type, shape or packing than is wanted.
    """
    if tuple(array.shape) != shape:
        raise BadReply(f"its {name} have shape {reprlib.repr(tuple(array.shape))}, not {shape}")
    data = array.data
    if array.stype != "numpy.ndarray" or not isinstance(data, bytes):
        raise BadReply(f"its {name} are packed as {reprlib.repr(array.stype)}, not numpy.ndarray")
    try:
        head = io.BytesIO(data[:HEADER])
        if (version := npy.read_magic(head)) != (1, 0):
            raise ValueError(f"version {version} of .npy, not (1, 0)")
        found, fortran, dtype = npy.read_array_header_1_0(head, max_header_size=HEADER)
    except Exception as error:  # whatever a hostile client may have packed
        raise BadReply(f"its {name} cannot be unpacked ({_described(error)})") from None
    if dtype != kind or found != shape:
        raise BadReply(f"its {name} are {str(dtype)[:40]} {reprlib.repr(found)}, not {kind} {shape}")
    if (size := len(data) - head.tell()) != math.prod(shape) * kind.itemsize:
        raise BadReply(f"its {name} cannot be unpacked ({size} bytes for {math.prod(shape)} numbers)")
    numbers: NDArray[Any] = np.frombuffer(data, dtype=kind, offset=head.tell())
    return numbers.reshape(shape, order="F" if fortran else "C")


LONGEST = 2000
RESTARTING = "<class 'ray.exceptions.ActorUnavailableError'>"


def never_ran(reply: Message) -> bool:
    """Whether this is Ray's word that the client's work was not begun, since its process was still being restarted."""
    try:
        reason = reply.error.reason if reply.has_error() else None
    except Exception:
        return False
    return isinstance(reason, str) and reason.startswith(RESTARTING) and "The actor is restarting" in reason


def error_of(reply: Message) -> str:
    """Flower's and Ray's error text of a reply in one sentence."""
    return _cause(reply.error.reason)


def _described(error: Exception) -> str:
    """An exception in words; its own text may be what cannot be had."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return type(error).__name__


def _cause(reason: Any) -> str:
    """Flower's and Ray's error text in one sentence."""
    reason = reason if isinstance(reason, str) else ""
    if len(reason) > 2 * LONGEST:  # whatever a client may have written: what follows takes its time with long texts
        reason = reason[:LONGEST] + reason[-LONGEST:]
    reason = re.sub(r"\x1b\[[0-9;]*m", "", reason)
    if "Node Unavailable" in reason:
        return "it is gone: no sign of life"
    if re.search(r"Actor(Died|Unavailable)Error|RayActorError|WorkerCrashedError", reason):
        return "its process died in the middle of its work (killed, or out of memory)"
    said = re.search(r"ClientAppException occurred\. Message: (.*)'>\s*$", reason, re.DOTALL)
    said = said or re.fullmatch(r"<class '[^']*'>:<'(.*)'>", reason, re.DOTALL)  # as nodes of a network give it
    lines = [line.strip() for line in (said.group(1) if said else reason).splitlines() if line.strip()]
    return (
        f"it raised: {' … '.join(dict.fromkeys((lines[0], lines[-1])))[:400]}" if lines else "it failed without a word"
    )
