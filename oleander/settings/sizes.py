"""How many images a client has: ``--samples-per-client`` as a number or as a range."""

import re

RULE = "must be a number of images (1 or more), or a range LEAST-MOST of which each client draws its own: 100-600"
LARGEST = 1_000_000
_RANGE = re.compile(r"(\d{1,7})(?:-(\d{1,7}))?", re.ASCII)


def sizes(text: str) -> int | str:
    """A text as the setting is kept: one number is a number, as it always was; a range stays as it is, without spaces.

    Raises:
        ValueError: it is neither, or a range runs backwards.
    """
    joined = re.sub(r"\s+", "", text)
    if not _RANGE.fullmatch(joined):
        raise ValueError(RULE)
    least, most = size_range(joined)
    if not 1 <= least <= LARGEST or not 1 <= most <= LARGEST:
        raise ValueError(f"{RULE}; each from 1 to {LARGEST}")
    if least > most:
        raise ValueError(f"{RULE}; the least first")
    return least if least == most else f"{least}-{most}"


def size_range(setting: int | str) -> tuple[int, int]:
    """The least and the greatest number of images that a client may have by this setting."""
    if isinstance(setting, int):
        return setting, setting
    least, _, most = setting.partition("-")
    return int(least), int(most or least)
