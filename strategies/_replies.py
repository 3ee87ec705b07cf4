"""What a server may believe of a client's reply: nothing that it has not checked."""

import re

import numpy as np
from flwr.app import ArrayRecord, Message, MetricRecord

from learning.parameters import Layout, ModelState

MOST_WORDS = 400
"""Characters of a client's own text that anybody is shown."""


class BadReply(ValueError):
    """A reply that cannot be aggregated; says why."""

    def __init__(self, why: str) -> None:
        super().__init__(shown(why))


def shown(text: str) -> str:
    """A client's text, as it may stand in a terminal and a record: short, on one line, without control characters."""
    cut = text if len(text) <= MOST_WORDS else text[:MOST_WORDS] + "…"
    return "".join(c if c.isprintable() else " " for c in cut)


def read_reply(reply: Message, layout: Layout, num_examples: int) -> tuple[ModelState, dict[str, float]]:
    """The local model and the metrics of a reply, checked.

    Args:
        reply: what came back from a client.
        layout: the tensors that the model has.
        num_examples: the size of this client's shard, as the server knows it.

    Raises:
        BadReply: an error, missing parts, another number of arrays, other shapes or types, values that are not finite,
            or another number of examples than the shard has.
    """
    if reply.has_error():
        raise BadReply(_cause(reply.error.reason))
    arrays, metrics = reply.content.get("arrays"), reply.content.get("metrics")
    if not isinstance(arrays, ArrayRecord) or not isinstance(metrics, MetricRecord):
        raise BadReply("its reply has no arrays or no metrics")
    claimed = metrics.get("num-examples")
    if isinstance(claimed, bool) or not isinstance(claimed, int) or claimed != num_examples:
        raise BadReply(f"it claims {claimed!r} examples, but its shard has {num_examples}")
    numbers = {name: float(v) for name, v in metrics.items() if isinstance(v, int | float)}
    images = numbers.get("images", 0.0)
    if not 0 <= images < 2**53:
        raise BadReply(f"it claims to have passed {images} images")
    return _model(arrays, layout), numbers


def _model(record: ArrayRecord, layout: Layout) -> ModelState:
    counts = {"weights": layout.weight_count, "statistics": layout.statistic_count}
    if len(record) != len(counts):
        raise BadReply(f"it sent {len(record)} arrays, not weights and statistics")
    vectors = []
    for array, (name, count) in zip(record.values(), counts.items(), strict=True):
        if tuple(array.shape) != (count,):  # before anything is unpacked
            raise BadReply(f"its {name} have shape {tuple(array.shape)}, not {(count,)}")
        try:
            vector = array.numpy()
        except Exception as error:  # whatever a hostile client may have packed
            raise BadReply(f"its {name} cannot be unpacked ({error})") from None
        if vector.shape != (count,) or vector.dtype != np.float32:
            raise BadReply(f"its {name} are {vector.dtype} {vector.shape}, not float32 {(count,)}")
        bad = np.flatnonzero(~np.isfinite(vector))
        if len(bad):
            where = layout.tensor_at(int(bad[0]), weight=name == "weights")
            raise BadReply(f"its {name} have {len(bad)} values that are not finite (NaN or infinite), from {where} on")
        vectors.append(vector)
    return ModelState(*vectors)


LONGEST = 2000


def never_ran(reply: Message) -> bool:
    """Whether this is Ray's word that the client's work was not begun, since its process was still being restarted."""
    return reply.has_error() and "The actor is restarting" in (reply.error.reason or "")


def _cause(reason: str | None) -> str:
    """Flower's and Ray's error text in one sentence."""
    reason = reason or ""
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
