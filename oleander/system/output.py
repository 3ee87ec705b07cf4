"""Standard output and error that hold up nothing: what is written waits in a queue, and a thread of its own writes it out.

A reader who stops reading (Ctrl-S, ``| less``) or goes (``| head -1``), a full disk, a closed descriptor: they cost lines,
never the work, nor its exit code. What waits is bounded; beyond, the oldest lines are left out, and counted.
"""

import atexit
import codecs
import contextlib
import errno
import io
import os
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

MOST_WAITING = 256 * 1024
"""Bytes that may wait for a reader; what is newer counts more, for the end of a run says how it ended."""
WRITE = 4096
"""Bytes written at a time: as much as a pipe that says it has room takes without holding the writer up (PIPE_BUF)."""
LAST_SECONDS = 5.0
"""How long a process that is done waits for its last lines to be taken."""
ORDER_SECONDS = 0.5
"""How long an error waits for what was printed before it: both may lead to one terminal."""
LARGEST_PIPE = 2**20
"""Linux gives a pipe as much to any user: all that waits goes in, and is there when its reader reads on, after we are gone."""
REPLACING = "oleander.ascii"
"""What is done with signs that a terminal's encoding has not, by its name as an error handler of Python's."""
IN_ASCII = {
    "–": "-", "—": "-", "−": "-", "…": "...", "→": "->", "±": "+/-", "·": "|", "×": "x", "≤": "<=", "≥": ">=", "²": "^2",
    "‖": "||", "µ": "mu", "α": "alpha", "β": "beta", "γ": "gamma", "σ": "sigma", "Δ": "delta", "•": "*", "“": '"', "”": '"', "’": "'",
}  # fmt: skip
PASSING = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""What may be over in a while; after any other error nobody will ever read."""


def in_ascii(error: UnicodeError) -> tuple[str, int]:
    """What stands for signs that cannot be written; a question mark for those that nothing stands for."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(IN_ASCII.get(sign, "?") for sign in error.object[error.start : error.end]), error.end


codecs.register_error(REPLACING, in_ascii)


class Outlet(io.TextIOBase):
    """A text file over a descriptor of its own whose ``write`` neither waits nor fails."""

    def __init__(self, descriptor: int, encoding: str | None = None, after: "Outlet | None" = None) -> None:
        """Over this descriptor; what waits in the outlet ``after`` which it comes has ORDER_SECONDS to go first."""
        super().__init__()
        self._descriptor, self._encoding, self._after = descriptor, encoding or "utf-8", after
        self._waiting: deque[bytes] = deque()
        self._size = self._left_out = 0
        self._writing = self._gone = False
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()  # its lock may be taken again by a signal's handler in the same thread

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """As the stream had that it stands for."""
        return self._encoding

    @property
    def errors(self) -> str:  # type: ignore[override]
        """A terminal without µ must not end a run."""
        return REPLACING

    def isatty(self) -> bool:
        """Whether a person may be watching."""
        return os.isatty(self._descriptor)

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, text: str) -> int:
        """Let it wait for the writer; what waits too long makes room."""
        return len(text) if _ENDED else self._add(text)

    def _add(self, text: str) -> int:
        with self._changed:
            if text and not self._gone and not self.closed:
                self._waiting.append(text.encode(self._encoding, REPLACING))
                self._size += len(self._waiting[-1])
                while self._size > MOST_WAITING and len(self._waiting) > 1:
                    oldest = self._waiting.popleft()
                    self._size -= len(oldest)
                    self._left_out += oldest.count(b"\n")
                if self._thread is None:
                    self._thread = threading.Thread(target=self._write_out, daemon=True)
                    self._thread.start()
                self._changed.notify_all()
        return len(text)

    def drain(self, seconds: float = LAST_SECONDS, *, larger: bool = True) -> None:
        """Wait until all is written, or nobody takes it; into a ``larger`` pipe, which can be had once."""
        deadline, pause = time.monotonic() + seconds, 0.2
        with self._changed:
            while (self._waiting or self._writing) and not self._gone and time.monotonic() < deadline:
                if not self._changed.wait(pause) and larger:
                    self._make_the_pipe_larger()

    def close(self) -> None:
        """The same, and no more comes."""
        if not self.closed:
            self.drain()
            super().close()
            with self._changed:
                if self._thread is None:
                    os.close(self._descriptor)  # else the writer's, who may be in the midst of it
                self._changed.notify_all()

    def _write_out(self) -> None:
        while True:
            with self._changed:
                self._writing = False
                self._changed.notify_all()
                while not self._waiting:
                    if self.closed:
                        os.close(self._descriptor)
                        return
                    self._changed.wait()
                data = self._waiting.popleft()
                self._size -= len(data)
                if self._left_out:
                    data = f"\n… {self._left_out} lines were not shown here: nobody read them\n".encode() + data
                    self._left_out = 0
                self._writing = True
            if self._after:
                self._after.drain(ORDER_SECONDS, larger=False)
            try:
                _write_all(self._descriptor, data)
            except (OSError, ValueError) as error:
                with self._changed:
                    self._gone = getattr(error, "errno", None) not in PASSING
                    if self._gone:
                        self._waiting.clear()
                        self._size = 0

    def _make_the_pipe_larger(self) -> None:
        with contextlib.suppress(ImportError, AttributeError, OSError):  # Linux; and only a pipe is one
            import fcntl

            fcntl.fcntl(self._descriptor, fcntl.F_SETPIPE_SZ, LARGEST_PIPE)


class Standard(io.TextIOBase):
    """``sys.stdout`` or ``sys.stderr``: an outlet; while ``turned``, whatever their descriptor leads to just then."""

    def __init__(self, number: int, outlet: Outlet) -> None:
        super().__init__()
        self.number, self.outlet, self.turned = number, outlet, False

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """As it was."""
        return self.outlet.encoding

    @property
    def errors(self) -> str:  # type: ignore[override]
        """As the outlet's."""
        return self.outlet.errors

    def isatty(self) -> bool:
        """Whether a person may be watching."""
        return os.isatty(self.number)

    def fileno(self) -> int:
        """The descriptor."""
        return self.number

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, text: str) -> int:
        """Pass it on."""
        if not self.turned:
            make_room()
            return self.outlet.write(text)
        with contextlib.suppress(OSError):  # a full disk under the log
            _write_all(self.number, text.encode(self.encoding, REPLACING))
        return len(text)


def outlet_of(stream: Any) -> Any:
    """Where what is printed on a standard stream goes while nothing is turned away; the stream itself, if it is another's."""
    return stream.outlet if isinstance(stream, Standard) else stream


def hold_up_nothing() -> None:
    """From here on nothing that this process prints can hold it up, fail, or change its exit code."""
    open_what_is_closed()
    for number, name in ((1, "stdout"), (2, "stderr")):
        encoding = getattr(getattr(sys, name), "encoding", None)
        outlet = Outlet(os.dup(number), encoding, _OUTLETS[0] if _OUTLETS else None)
        setattr(sys, name, Standard(number, outlet))
        _OUTLETS.append(outlet)
    atexit.register(say_the_rest)


def open_what_is_closed() -> None:
    """Give descriptors 0 to 2 that are closed to nobody: else the next file that is opened gets the number, and what is printed."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def say_the_rest(seconds: float = LAST_SECONDS, also: Iterable[Outlet] = ()) -> None:
    """Before the end: wait a moment for the last lines to be taken."""
    deadline = time.monotonic() + seconds
    for outlet in [*also, *_OUTLETS]:
        outlet.drain(deadline - time.monotonic())


def say_no_more() -> None:
    """What threads print from here on is of the ending, no news: that the processes which are being ended have died."""
    _ENDED.append(True)


def is_over() -> bool:
    """Whether ``say_no_more`` was called."""
    return bool(_ENDED)


def before_others_print(clear: Callable[[], None] | None) -> None:
    """What is called before anything is printed on ``sys.stdout`` or ``sys.stderr``: a display leaves the terminal's last lines."""
    _BEFORE[:] = [clear] if clear else []


def make_room() -> None:
    """Something is printed past the display, if there is one."""
    for clear in _BEFORE:
        clear()


def say_last(number: int, text: str, descriptor: int) -> None:
    """A few words of a process that ends itself: after what waits already; where nothing waits, if they can be said at once."""
    if not text:
        return
    if _OUTLETS:
        _OUTLETS[number - 1]._add(text)
        return
    with contextlib.suppress(OSError, ValueError):
        if _has_room(descriptor, 100):
            os.write(descriptor, text.encode(errors="replace"))


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        if _has_room(descriptor, 200):
            with contextlib.suppress(BlockingIOError):
                rest = rest[os.write(descriptor, rest[:WRITE]) :]


def _has_room(descriptor: int, milliseconds: int) -> bool:
    """Whether it takes WRITE bytes now, or says at once that it never will."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(milliseconds))


_OUTLETS: list[Outlet] = []
_ENDED: list[bool] = []
_BEFORE: list[Callable[[], None]] = []
