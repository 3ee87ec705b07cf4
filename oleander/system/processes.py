"""The processes and output of a run: an end that leaves nothing behind, and a terminal free of engine chatter."""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Self

import psutil

from oleander.system.display import erasing
from oleander.system.files import appending
from oleander.system.output import Outlet, Standard, open_what_is_closed, say_last, say_no_more, say_the_rest
from oleander.system.remains import remains


def end_on_signals(nothing: str = "nothing was run\n") -> None:
    """From here on Ctrl-C and SIGTERM end the run at once: exit code 130 or 143, no process left, finished rounds kept.

    Ray and Flower would otherwise hold a first Ctrl-C for as long as their clients train. Where nothing is left to be told of,
    ``nothing`` is said.
    """

    def end(number: int, _frame: object) -> None:
        for other in (signal.SIGINT, signal.SIGTERM):
            signal.signal(other, signal.SIG_IGN)  # a second Ctrl-C must not interrupt the ending
        say_no_more()
        cleared, left = erasing() or "\n", remains() or nothing
        if cleared != "\n" and not os.isatty(_KEPT.get(2, 2)):  # they lead to different places
            say_last(1, cleared, _KEPT.get(1, 1))
            cleared = ""
        say_last(2, f"{cleared}ended by {signal.Signals(number).name}\n{left}", _KEPT.get(2, 2))
        end_now(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)


def end_now(code: int) -> None:
    """End this process and all it started, without waiting for any of them. The first call's exit code counts.

    (Ending the clients makes the server's thread fail too; that must not turn a 143 into a 1.)
    """
    if not _ENDING.acquire(blocking=False):
        if threading.get_ident() in _ENDER:
            return  # a signal's handler, in the midst of the ending itself
        threading.Event().wait()  # for the one that came first
    _ENDER.append(threading.get_ident())
    say_no_more()
    frozen = _freeze_children()
    terminal = _KEPT.get(1, 1)
    if os.isatty(terminal):
        say_last(1, "\x1b[?25h", terminal)  # the progress bar had hidden the cursor
    _last_word(
        ""
    )  # this end has one of its own; and once its raylet is gone, Ray may end this process in the midst of it
    for folder in list(_SCRATCH):
        remove_scratch(folder)
    say_the_rest(END_SECONDS, _TERMINAL)
    for process in (
        frozen
    ):  # at the very end: Ray's own code ends this process with an exit code of its own when its raylet is gone
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    os._exit(code)


def scratch_folder(parent: str | None = None) -> Path:
    """A new temporary folder, this user's alone, that is gone when this process ends, however it ends.

    Args:
        parent: where it is made (default: TMPDIR, or the system's place for such).
    """
    folder = Path(tempfile.mkdtemp(prefix="oleander-", dir=parent))
    _SCRATCH.append(folder)
    with contextlib.suppress(OSError):  # no guardian: then only SIGKILL leaves the folder behind
        _tell_guardian(os.fsencode(folder.absolute()).hex())
    return folder


@contextlib.contextmanager
def last_word(text: str) -> Iterator[None]:
    """What is said on standard error if this process is gone before the context is left, or before it has ended itself.

    Ray's own code ends a program whose raylet has died, at once and without a word, where it sees that before we do.
    """
    _last_word(text)
    try:
        yield
    finally:
        _last_word("")


def _last_word(text: str) -> None:
    if text or _GUARDIAN:
        with contextlib.suppress(OSError, RuntimeError):  # it has gone; or a signal came in the midst of telling it
            _tell_guardian("=" + text.encode().hex())


def _tell_guardian(line: str) -> None:
    """To the process that does what this one cannot when it is gone (``oleander/system/guardian.py``)."""
    if not _GUARDIAN:
        _GUARDIAN.append(
            subprocess.Popen(
                [sys.executable, "-I", "-S", str(Path(__file__).with_name("guardian.py"))], stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL, stderr=_KEPT.get(2, 2), cwd="/", start_new_session=True,
            )
        )  # fmt: skip
    told = _GUARDIAN[0].stdin
    assert told is not None
    told.write(line.encode() + b"\n")
    told.flush()


def remove_scratch(folder: Path) -> None:
    """Remove a ``scratch_folder`` now."""
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(ValueError):
        _SCRATCH.remove(folder)


def _freeze_children() -> list[psutil.Process]:
    """Stop all that this process started, so that nothing is started or restarted any more; Ray's raylet is the last.

    (Once its raylet is gone, Ray ends this process with an exit code of its own, within a moment.)
    """
    frozen: dict[int, psutil.Process] = {}
    guardians = {guardian.pid for guardian in _GUARDIAN}  # they end by themselves, once this process is gone
    for _ in range(20):
        found = [p for p in psutil.Process().children(recursive=True) if p.pid not in frozen and p.pid not in guardians]
        if not found:
            break
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()
                frozen[process.pid] = process
    return sorted(frozen.values(), key=_is_raylet)


def _is_raylet(process: psutil.Process) -> bool:
    try:
        return process.name() == "raylet"
    except psutil.NoSuchProcess:
        return False


def die_with_parent() -> None:
    """In a child before its program starts: to be killed when the process that started it dies. Linux only; elsewhere, nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def is_ending() -> bool:
    """Whether the run is being ended, so that what fails now is no news."""
    return _ENDING.locked()


class Chatter:
    """Sends whatever this process and what it starts write to stdout and stderr to a file; ``out`` and ``error`` are the real two.

    Ray writes from C++ and from processes of its own, so the file descriptors themselves are turned round. Until
    ``keep_in`` says where it belongs, the chatter is held in a file without a name. The real two hold up nothing and never
    fail (``output.Outlet``).
    """

    out: Outlet
    error: Outlet

    def __enter__(self) -> Self:
        open_what_is_closed()
        _flush()
        self._kept = {1: os.dup(1), 2: os.dup(2)}
        _KEPT.update(self._kept)
        self._turned = [stream for stream in (sys.stdout, sys.stderr) if isinstance(stream, Standard)]
        self._own: list[Outlet] = []
        self.out, self.error = self._outlet(1), self._outlet(2)
        _TERMINAL.extend(self._own)
        self._held = tempfile.TemporaryFile("w+b")  # closed in __exit__
        self._turn_to(self._held)
        for stream in self._turned:
            stream.turned = True
        return self

    def _outlet(self, number: int) -> Outlet:
        """The program's own, so that what it said before comes first; else a new one."""
        for stream in self._turned:
            if stream.number == number:
                return stream.outlet
        self._own.append(Outlet(os.dup(number), getattr(sys.stdout, "encoding", None)))
        return self._own[-1]

    def keep_in(self, log: Path) -> None:
        """Append what was held to this file, and all that comes from now on."""
        _flush()
        self._held.seek(0)
        with appending(log) as file:
            shutil.copyfileobj(self._held, file)
            file.flush()
            self._turn_to(file)

    def __exit__(self, *_: object) -> None:
        _flush()
        for stream in self._turned:
            stream.turned = False
        for number, duplicate in self._kept.items():
            os.dup2(duplicate, number)
            os.close(duplicate)
        _KEPT.clear()
        _TERMINAL.clear()
        for outlet in self._own:
            outlet.close()
        self._held.close()

    @staticmethod
    def _turn_to(file: IO[bytes]) -> None:
        for number in (1, 2):
            os.dup2(file.fileno(), number)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, AttributeError):  # full, gone or closed
            stream.flush()


END_SECONDS = 3.0
"""How long a process that ends itself waits for its last lines to be taken."""

_TERMINAL: list[Outlet] = []
"""Chatter's own ways to the terminal, where ``sys.stdout`` and ``sys.stderr`` are not its."""

_SCRATCH: list[Path] = []

_GUARDIAN: list[subprocess.Popen[bytes]] = []

_ENDING = threading.Lock()
_ENDER: list[int] = []
"""The thread that ends this process."""

_KEPT: dict[int, int] = {}
"""File descriptor → where it really leads, while chatter is turned away."""
