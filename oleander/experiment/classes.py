"""What a run's report says of each class: who holds it, and how the final model answers its images; classes.json.

Everything is counted from the partition, and from the answers that the last evaluation has made anyway.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge
from numpy.typing import NDArray
from pydantic import ConfigDict, TypeAdapter

from oleander.datasets.data import Dataset
from oleander.datasets.partition import Indices
from oleander.learning.evaluation import NO_CLASS, UNCOUNTED, Answers, Victims
from oleander.system.files import replace_file
from oleander.system.foreign import MIB, parsed_json, read_bytes, refusing

CLASSES = "classes.json"
MOST_BYTES = 64 * MIB
Counts = list[list[Annotated[int, Ge(0)]]]


@dataclass(frozen=True)
class ClassCounts:
    """Whole numbers of images, by class."""

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid")
    classes: list[str]
    """Names."""
    target: Annotated[int, Ge(0)]
    """The class that the backdoor leads to."""
    shards: Counts
    """(clients, classes) training images of each client."""
    clean: Counts
    """(classes, classes + 1) clean test images of a class (row) by the final model's answer; the last column is no class at all."""
    victims: Counts | None
    """The same of the images that the ASR is measured on, by their true class; None without an ASR, or where nobody knows their
    true class, since they are the attack's own."""
    stamped: bool
    """Whether those carry the trigger."""


def count_classes(
    dataset: Dataset, target: int, shards: list[Indices], answers: Answers, victims: Victims | None
) -> ClassCounts:
    """Count.

    Args:
        dataset: whose training images are dealt out, and whose test images were answered.
        target: the class that the backdoor leads to.
        shards: the rows of each client's training images.
        answers: the final model's.
        victims: what the ASR is measured on, as ``evaluate`` takes it.
    """
    classes, labels, truth = len(dataset.classes), np.asarray(dataset.train_labels), np.asarray(dataset.test_labels)
    held = [np.bincount(labels[rows], minlength=classes).tolist() for rows in shards]  # (clients, classes)
    own = victims is not None and victims.images is not None
    found = None if own or answers.victims is None else _table(truth, answers.victims, classes)
    stamped = victims is None or victims.stamped
    return ClassCounts(list(dataset.classes), target, held, _table(truth, answers.clean, classes), found, stamped)


def _table(truth: NDArray[Any], answers: NDArray[np.int64], classes: int) -> list[list[int]]:
    """Images (classes, classes + 1) by true class and by answer, NO_CLASS last."""
    counted = answers != UNCOUNTED  # (m,)
    column = np.where(answers == NO_CLASS, classes, answers)[counted]
    cells = np.bincount(truth[counted] * (classes + 1) + column, minlength=classes * (classes + 1))
    table: list[list[int]] = cells.reshape(classes, classes + 1).tolist()
    return table


def write_classes(folder: Path, counts: ClassCounts) -> None:
    """Write classes.json."""
    replace_file(folder / CLASSES, json.dumps(dataclasses.asdict(counts), ensure_ascii=False).encode(errors="replace"))


_COUNTS: TypeAdapter[ClassCounts] = TypeAdapter(ClassCounts)


def read_classes(folder: Path) -> ClassCounts | None:
    """What classes.json says; None where a run was made before there was one.

    Raises:
        UserError: it cannot be read, or does not fit together.
    """
    if not (folder / CLASSES).exists():
        return None
    with refusing(f"{folder / CLASSES}: no counts of a run's classes"):
        content = read_bytes(folder / CLASSES, MOST_BYTES)
        parsed_json(content)
        found = _COUNTS.validate_json(content)
        classes = len(found.classes)
        shapes = [(found.shards, len(found.shards), classes), (found.clean, classes, classes + 1)]
        shapes += [(found.victims, classes, classes + 1)] if found.victims is not None else []
        if not classes or found.target >= classes or not found.shards:
            raise ValueError(
                f"it has {classes} classes, of which {found.target} is the target, and {len(found.shards)} clients"
            )
        if any(len(rows) != height or {len(row) for row in rows} != {width} for rows, height, width in shapes):
            raise ValueError("its tables have rows of other lengths than its classes")
        if any(number > 2**40 for rows, *_ in shapes for row in rows for number in row):
            raise ValueError("it has a number of images that cannot be")
        return found
