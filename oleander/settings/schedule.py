"""Which rounds an attack is in: ``--attack-rounds`` as a number or as ranges."""

import re
from collections.abc import Collection

RULE = (
    "must be a number N (the rounds 1 to N), or ranges FIRST-LAST or FIRST-LAST/STEP, joined by commas, where a number "
    "stands for its round alone: 3-10, 10-40/5, 1-3,7"
)
LARGEST = 1_000_000
"""As a count of rounds."""
_RANGE = re.compile(r"(\d{1,7})(?:-(\d{1,7})(?:/(\d{1,7}))?)?", re.ASCII)


def schedule(text: str) -> int | str:
    """A text as the setting is kept: a number alone is a number, as it always was; ranges stay as they are, without spaces.

    Raises:
        ValueError: it is neither, or a range has no round.
    """
    joined = re.sub(r"\s+", "", text)
    if re.fullmatch(r"\d{1,7}", joined, re.ASCII) and int(joined) <= LARGEST:
        return int(joined)
    for rounds in _ranges(joined):
        if not len(rounds) or rounds[0] < 1 or rounds[-1] > LARGEST:
            raise ValueError(f"{RULE}; each from 1, and none empty")
    return joined


def rounds_in(setting: int | str | None, rounds: int) -> Collection[int]:
    """The rounds that the setting names; those of a run of so many where it is None, all up to N where it is a number."""
    if setting is None or isinstance(setting, int):
        return range(1, 1 + (rounds if setting is None else setting))
    return sorted({number for part in _ranges(setting) for number in part})


def _ranges(joined: str) -> list[range]:
    found = []
    for part in joined.split(","):
        if not (match := _RANGE.fullmatch(part)):
            raise ValueError(RULE)
        first, last, step = match.groups()
        if step is not None and not int(step):
            raise ValueError(f"{RULE}; a step is 1 or more")
        found.append(range(int(first), int(last or first) + 1, int(step or 1)))
    return found
