"""A stopped run and how it goes on: what is kept after each round, and what is checked before anything is built on it.

``state.safetensors`` holds the global model after a round, what that round's aggregation did, and what strategy and attackers
remember (tensors ``STEP/NAME``). It is written once the round
before is on record, so it is never behind ``rounds.jsonl`` and at most one round ahead. All that is random is keyed by seed,
round and client, so model, memory and round number are the whole state: the rest of the run is bit for bit what it would have been.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter
from safetensors.numpy import load, save

from oleander.experiment.records import CONFIG, MOST_RECORDS, ROUNDS, STATE, RoundRecord, rounds_in
from oleander.learning.parameters import Layout, ModelState
from oleander.learning.updates import Memory
from oleander.system.errors import RunError, UserError
from oleander.system.files import replace_file
from oleander.system.foreign import MIB, parsed_json, read_bytes, reason
from strategies.flower import RoundOutcome

MOST_BESIDE = 16 * MIB
"""Bytes that the state's file may have beside the model: what the last aggregation did."""
MOST_MEMORY = 2048 * MIB
"""Bytes that strategy and attackers may remember: they are written and synced to disk after each round."""
_OUTCOME: TypeAdapter[RoundOutcome | None] = TypeAdapter(RoundOutcome | None)


@dataclass(frozen=True)
class Standing:
    """Where a stopped run stands: after ``round``, whose record is the last of ``records`` or is yet to be written."""

    round: int
    state: ModelState
    outcome: RoundOutcome | None
    """What the aggregation of ``round`` did; None for the starting model."""
    records: list[RoundRecord]
    start: str
    """As in the summary: the model that the run started from."""
    dataset_sha256: str
    trigger_sha256: str
    """Of some stamped images."""
    memory: dict[str, Memory] = field(default_factory=dict)
    """What the strategy's steps and the attackers remember, by their names."""


def keep(
    folder: Path, round_number: int, state: ModelState, outcome: RoundOutcome | None, about: dict[str, str],
    memory: Mapping[str, Memory] | None = None,
) -> None:  # fmt: skip
    """Write the run's state after a round whose predecessors are all on record.

    Args:
        folder: the run's.
        round_number: 0 for the starting model.
        state: the global model after it.
        outcome: what its aggregation did.
        about: ``start``, ``dataset_sha256`` and ``trigger_sha256``.
        memory: what the strategy's steps and the attackers remember, by their names.

    Raises:
        RunError: they remember more than ``MOST_MEMORY``.
    """
    records = _bytes(folder / ROUNDS)
    metadata = about | {
        "round": str(round_number),
        "outcome": json.dumps(outcome and dataclasses.asdict(outcome)),
        "config_sha256": _sha256(_bytes(folder / CONFIG)),
        "records_length": str(len(records)),
        "records_sha256": _sha256(records),
    }
    tensors = {"weights": state.weights, "statistics": state.statistics} | _named(memory or {})
    metadata["sha256"] = _digest(tensors, metadata)
    replace_file(folder / STATE, save(tensors, metadata))


def _named(memory: Mapping[str, Memory]) -> dict[str, np.ndarray]:
    """What is remembered, as the tensors ``STEP/NAME``."""
    sizes = {step: sum(kept.nbytes for kept in own.values()) for step, own in memory.items()}
    if sum(sizes.values()) > MOST_MEMORY:
        most = max(sizes, key=lambda step: sizes[step])
        raise RunError(
            f"{most} remembers {sizes[most] / MIB:,.0f} MiB; all that is remembered is written after each round, and may be "
            f"{MOST_MEMORY // MIB:,} MiB: fewer clients, or a smaller model"
        )
    # not ascontiguousarray, which makes one number an array of one
    return {f"{step}/{name}": np.asarray(kept, order="C") for step, own in memory.items() for name, kept in own.items()}


def _memory(tensors: Mapping[str, np.ndarray]) -> dict[str, Memory]:
    """The inverse of ``_named``."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for key in sorted(tensors.keys() - {"weights", "statistics"}):
        step, _, name = key.partition("/")
        found.setdefault(step, {})[name] = tensors[key]
    return dict(found)


def standing_of(folder: Path, layout: Layout) -> Standing | None:
    """Where the run in this folder stands; None if it ended before anything was kept.

    A last line of rounds.jsonl that was cut off in the middle of its writing is passed over.

    Raises:
        UserError: files that are damaged, were changed, or belong to another run.
    """

    def refuse(why: str) -> UserError:
        return UserError(
            f"--resume {folder}: {why}; it cannot be continued, only run again (--scenario {folder / CONFIG})"
        )

    try:
        return _standing(folder, layout, refuse)
    except UserError:
        raise
    except Exception as error:
        raise refuse(f"{STATE} or {ROUNDS} is damaged ({reason(error)})") from None


def _standing(folder: Path, layout: Layout, refuse: Callable[[str], UserError]) -> Standing | None:
    records = _bytes(folder / ROUNDS)
    whole = records[: records.rfind(b"\n") + 1]
    if not (folder / STATE).is_file():
        if whole:
            raise refuse(f"{ROUNDS} has finished rounds, but {STATE} is not there")
        return None
    most = 4 * (layout.weight_count + layout.statistic_count) + MOST_BESIDE + MOST_MEMORY
    tensors, metadata = _read(folder / STATE, most, refuse)
    if metadata["config_sha256"] != _sha256(_bytes(folder / CONFIG)):
        raise refuse(f"{CONFIG} is not the one that the run began with")
    known = int(metadata["records_length"])
    if _sha256(whole[:known]) != metadata["records_sha256"]:
        raise refuse(f"{ROUNDS} was changed since {STATE} was written")
    for name, count in (("weights", layout.weight_count), ("statistics", layout.statistic_count)):
        if tensors[name].shape != (count,) or tensors[name].dtype != np.float32:
            raise refuse(f"{STATE} holds another model")
        if not np.isfinite(tensors[name]).all():
            raise refuse(f"{STATE} holds {name} that are not finite numbers")
    at = int(metadata["round"])
    finished = _records(whole, at, refuse)
    outcome = _OUTCOME.validate_json(metadata["outcome"], strict=True)
    state = ModelState(tensors["weights"], tensors["statistics"])
    return Standing(
        at, state, outcome, finished, metadata["start"], metadata["dataset_sha256"], metadata["trigger_sha256"],
        _memory(tensors),
    )  # fmt: skip


def mend(folder: Path, standing: Standing | None) -> None:
    """Cut off what was half written, before the run goes on."""
    records = _bytes(folder / ROUNDS)
    whole = records[: records.rfind(b"\n") + 1] if standing else b""
    if whole != records:
        replace_file(folder / ROUNDS, whole)


def _read(file: Path, most: int, refuse: Callable[[str], UserError]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    try:
        content = read_bytes(file, most)
        tensors = load(content)
        metadata = _metadata(content)
    except Exception as error:
        raise refuse(f"{file.name} is damaged ({reason(error)})") from None
    if not {"weights", "statistics"} <= tensors.keys() or not all(
        "/" in n for n in tensors.keys() - {"weights", "statistics"}
    ):
        raise refuse(f"{file.name} holds another model")
    claimed = metadata.pop("sha256", "")
    if claimed != _digest(tensors, metadata):
        raise refuse(f"{file.name} is damaged: its content has another SHA-256 than it says")
    return tensors, metadata


def _metadata(content: bytes) -> dict[str, str]:
    """What a safetensors file says beside its tensors: its header is JSON behind eight bytes with its length."""
    length = int.from_bytes(content[:8], "little")
    metadata = parsed_json(content[8 : 8 + length])["__metadata__"]
    if not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("its metadata are not texts")
    return dict(metadata)


def _records(whole: bytes, at: int, refuse: Callable[[str], UserError]) -> list[RoundRecord]:
    try:
        records = rounds_in(whole)
    except Exception as error:
        raise refuse(f"{ROUNDS} is damaged ({reason(error)})") from None
    rounds = [record.round for record in records]
    if rounds not in (list(range(at)), list(range(at + 1))):
        raise refuse(f"{ROUNDS} holds the rounds {str(rounds)[:60]}, but {STATE} is of round {at}")
    return records


def _digest(tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        if "/" in name:  # what is remembered may have any name, shape and type
            digest.update(f"{name} {tensors[name].dtype} {tensors[name].shape}".encode())
        digest.update(np.ascontiguousarray(tensors[name]).data)
    return digest.hexdigest()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _bytes(file: Path) -> bytes:
    return read_bytes(file, MOST_RECORDS) if file.exists() else b""
