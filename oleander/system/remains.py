"""What is left of work that stops, and the command by which it goes on: said at its end, however it ends."""

import contextlib
from collections.abc import Callable, Iterator

Words = Callable[[], str]
"""What is to be said: worked out at the end, when it is known how far the work has come; nothing, where nothing is left."""


@contextlib.contextmanager
def leaving(words: Words) -> Iterator[None]:
    """In this context, work is under way of which something may be left."""
    _WORDS.append(words)
    yield
    _WORDS.remove(words)  # after an error it stays: whoever says the error says this too


def remains() -> str:
    """Lines for the user, each with its end; nothing where nothing is left."""
    said = ""
    with contextlib.suppress(Exception):  # a folder that is gone must not hide why
        said = _WORDS[-1]() if _WORDS else ""
    return f"{said}\n" if said else ""


def forget() -> None:
    """It is said."""
    _WORDS.clear()


_WORDS: list[Words] = []
