"""The processes and output of a run: an end that leaves nothing behind, and a terminal free of engine chatter."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import psutil

GRACE_SECONDS = 2.0


def end_on_signals() -> None:
    """From here on Ctrl-C and SIGTERM end the run at once: exit code 130 or 143, no process left, finished rounds kept.

    Ray and Flower would otherwise hold a first Ctrl-C for as long as their clients train.
    """

    def end(number: int, _frame: object) -> None:
        os.write(
            _terminal_error(),
            f"\nended by {signal.Signals(number).name}; finished rounds are in the run folder\n".encode(),
        )
        end_now(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)


def end_now(code: int) -> None:
    """End this process and all it started, without waiting for any of them."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN) if _in_main_thread() else None
    deadline = time.monotonic() + GRACE_SECONDS
    while children := psutil.Process().children(recursive=True):
        for child in children:  # parents come before what they started, so that nothing is started again
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs(children, timeout=0.2)
        if time.monotonic() > deadline:
            break
    os._exit(code)


@contextlib.contextmanager
def chatter_to(log: Path) -> Iterator[TextIO]:
    """Send whatever this process and what it starts write to stdout and stderr to a file; yields the real stdout.

    Ray writes from C++ and from processes of its own, so the file descriptors themselves are turned round.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    kept = {1: os.dup(1), 2: os.dup(2)}
    _KEPT.update(kept)
    with log.open("ab") as file, os.fdopen(os.dup(1), "w", encoding=sys.stdout.encoding, buffering=1) as real:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield real
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, duplicate in kept.items():
                os.dup2(duplicate, number)
                os.close(duplicate)
            _KEPT.clear()


_KEPT: dict[int, int] = {}
"""File descriptor → where it really leads, while chatter is turned away."""


def _terminal_error() -> int:
    return _KEPT.get(2, 2)


def _in_main_thread() -> bool:
    import threading

    return threading.current_thread() is threading.main_thread()
