"""A class as a setting names it: ``--target 3`` or ``--target cat``. What is run and recorded is its number."""

import difflib
import re
from collections.abc import Sequence

from oleander.system.errors import UserError
from oleander.system.foreign import plain, shortened

RULE = "must be a class's number, from 0, or its name"
LARGEST = 1_000_000
MOST_NAMED = 20
"""Classes that a refusal lists."""


def class_word(text: str) -> int | str:
    """A text as the setting is kept: digits alone are a number, in whatever way they were given; all else is a name.

    Raises:
        ValueError: it is empty, or no class can have this number.
    """
    word = text.strip()
    if not word:
        raise ValueError(RULE)
    if not re.fullmatch(r"\d+", word, re.ASCII):
        return text
    if len(word) > 7 or int(word) > LARGEST:
        raise ValueError(f"{RULE}; at most {LARGEST}")
    return int(word)


def class_number(asked: str, value: int | str, classes: Sequence[str], dataset: str) -> int:
    """The number of the class that a setting names.

    Args:
        asked: the setting as it was given, for messages: ``--target cat``.
        value: its value.
        classes: the names of the dataset's, in the order of their numbers.
        dataset: what it is called.

    Raises:
        UserError: the dataset has no such class, or two of that name.
    """
    last = len(classes) - 1
    range_ = f"{len(classes)} classes, 0 ({shortened(plain(classes[0]), 60)}) to {last} ({shortened(plain(classes[-1]), 60)})"
    if isinstance(value, int):
        if value > last:
            raise UserError(f"{asked}: {dataset} has {range_}")
        return value
    found = [number for number, name in enumerate(classes) if name == value]
    if len(found) > 1:
        raise UserError(
            f"{asked}: {dataset} has {len(found)} classes of that name: {', '.join(map(str, found))}; give one's number"
        )
    if not found:
        raise UserError(f"{asked}: {dataset} has no such class{_near(value, classes)}; {_listed(classes, range_)}")
    return found[0]


def confusable(asked: str, value: int | str, classes: Sequence[str]) -> str:
    """What must be known where the number that was given is one class's number and another's name; nothing else where it is not."""
    if not isinstance(value, int) or value >= len(classes) or _number_in(classes[value]) == value:
        return ""
    other = next((number for number, name in enumerate(classes) if _number_in(name) == value), None)
    if other is None:
        return ""
    return (
        f"{asked} is the class number {value}, called {plain(classes[value])}; the class called {plain(classes[other])} is "
        f"number {other}."
    )


def _number_in(name: str) -> int | None:
    """The number that a name is; None where it is none."""
    return int(name) if re.fullmatch(r"\d{1,9}", name, re.ASCII) else None


def _near(name: str, classes: Sequence[str]) -> str:
    folded = {other.casefold(): other for other in classes}
    close = difflib.get_close_matches(name.casefold(), folded, n=1)
    return f" (did you mean {shortened(plain(folded[close[0]]), 60)}?)" if close else ""


def _listed(classes: Sequence[str], range_: str) -> str:
    if len(classes) > MOST_NAMED:
        return range_
    return "known: " + ", ".join(f"{number} ({shortened(plain(name), 40)})" for number, name in enumerate(classes))
