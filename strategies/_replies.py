"""What a server may believe of a client's reply: nothing that it has not checked."""

import re

import numpy as np
from flwr.app import ArrayRecord, Message, MetricRecord

from learning.parameters import FloatArray, Layout


class BadReply(ValueError):
    """A reply that cannot be aggregated; says why."""


def read_reply(reply: Message, layout: Layout, num_examples: int) -> tuple[list[FloatArray], dict[str, float]]:
    """The local model and the metrics of a reply, checked.

    Args:
        reply: what came back from a client.
        layout: the tensors that the model has.
        num_examples: the size of this client's shard, as the server knows it.

    Raises:
        BadReply: an error, missing parts, another number of tensors, other shapes or types, values that are not finite,
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
    return _tensors(arrays, layout), numbers


def _tensors(record: ArrayRecord, layout: Layout) -> list[FloatArray]:
    if len(record) != len(layout.names):
        raise BadReply(f"it sent {len(record)} tensors, the model has {len(layout.names)}")
    tensors = []
    for array, name, shape in zip(record.values(), layout.names, layout.shapes, strict=True):
        if tuple(array.shape) != shape:
            raise BadReply(f"{name} has shape {tuple(array.shape)}, not {shape}")
        try:
            tensor = array.numpy()
        except Exception as error:  # whatever a hostile client may have packed
            raise BadReply(f"{name} cannot be unpacked ({error})") from None
        if tensor.shape != shape or tensor.dtype != np.float32:
            raise BadReply(f"{name} is {tensor.dtype} {tensor.shape}, not float32 {shape}")
        if not np.isfinite(tensor).all():
            raise BadReply(
                f"{name} has {int((~np.isfinite(tensor)).sum())} values that are not finite (NaN or infinite)"
            )
        tensors.append(tensor)
    return tensors


def never_ran(reply: Message) -> bool:
    """Whether this is Ray's word that the client's work was not begun, since its process was still being restarted."""
    return reply.has_error() and "The actor is restarting" in (reply.error.reason or "")


def _cause(reason: str | None) -> str:
    """Flower's and Ray's error text in one sentence."""
    reason = re.sub(r"\x1b\[[0-9;]*m", "", reason or "")
    if re.search(r"Actor(Died|Unavailable)Error|RayActorError|WorkerCrashedError", reason):
        return "its process died in the middle of its work (killed, or out of memory)"
    said = re.search(r"ClientAppException occurred\. Message: (.*)'>\s*$", reason, re.DOTALL)
    lines = [line.strip() for line in (said.group(1) if said else reason).splitlines() if line.strip()]
    return (
        f"it raised: {' … '.join(dict.fromkeys((lines[0], lines[-1])))[:400]}" if lines else "it failed without a word"
    )
