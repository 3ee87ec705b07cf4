"""Removes the temporary folders of a process that is gone, however it ended: a program of its own, which outlives it.

Started by ``oleander.system.processes``. On its standard input it is told a folder a line (in hexadecimal, since a path may hold any
byte); when that input ends, the process that wrote it is gone, and so shall be what it left. Only the standard library, for speed.
"""

import os
import shutil
import signal
import sys
import time

PATIENCE = 30.0
"""Seconds that what the process had started may take to end, and to let go of the folders."""


def main() -> None:
    """Wait for the end of the input, then remove what it named."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # meant for the process that is guarded
    folders = [bytes.fromhex(line.decode()) for line in sys.stdin.buffer]
    deadline = time.monotonic() + PATIENCE
    while left := [folder for folder in folders if os.path.lexists(folder)]:
        for folder in left:
            shutil.rmtree(os.fsdecode(folder), ignore_errors=True)
        if time.monotonic() > deadline:
            return
        time.sleep(0.05)


if __name__ == "__main__":
    main()
