"""Removes the temporary folders of a process that is gone, however it ended: a program of its own, which outlives it.

Started by ``oleander.system.processes``. On its standard input it is told a folder a line (in hexadecimal, since a path may hold any
byte); when that input ends, the process that wrote it is gone, and so shall be what it left. A line of ``=`` and text (the same) is
what to say on standard error if the process is gone without having taken it back by a ``=`` alone. Only the standard library, for
speed.
"""

import contextlib
import os
import select
import shutil
import signal
import sys
import time

PATIENCE = 30.0
"""Seconds that what the process had started may take to end, and to let go of the folders."""
SAY_SECONDS = 5.0
"""How long a terminal or pipe may take to have room for the last word."""


def main() -> None:
    """Wait for the end of the input, then say what is to be said, and remove what it named."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # meant for the process that is guarded
    folders, word = [], b""
    for line in sys.stdin.buffer:
        told = bytes.fromhex(line.decode().lstrip("="))
        if line.startswith(b"="):
            word = told
        else:
            folders.append(told)
    say(word)
    deadline = time.monotonic() + PATIENCE
    while left := [folder for folder in folders if os.path.lexists(folder)]:
        for folder in left:
            shutil.rmtree(os.fsdecode(folder), ignore_errors=True)
        if time.monotonic() > deadline:
            return
        time.sleep(0.05)


def say(word: bytes) -> None:
    """Say it, and let go of standard error, whose reader may wait for its end."""
    with contextlib.suppress(OSError):  # nobody reads it
        room = select.poll()
        room.register(2, select.POLLOUT)
        if word and room.poll(SAY_SECONDS * 1000):
            os.write(2, word)
    with contextlib.suppress(OSError):
        os.dup2(0, 2)


if __name__ == "__main__":
    main()
