"""A call in Python is carried out by a process of its own, as a command line is.

So a notebook's kernel keeps its signal handlers, its output and its environment, has no Ray and no process of Ray's, and
outlives whatever happens to the run: of memory that is used up, or a raylet that dies, the run dies alone. When the kernel
dies or is interrupted, the run ends, and nothing is left of it.
"""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import IO

from oleander.settings.call import Call
from oleander.system.errors import RunError, UserError

ROOT = Path(__file__).parent.parent.parent
PROGRAM = "import sys; sys.path[:] = {path!r}; import simulate; sys.exit(simulate.called())"
COLOURS = ("FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
"""By these a notebook's kernel says that it shows colours; what is printed here are lines of text."""
INTERRUPT_SECONDS, LAST_SECONDS = 15.0, 5.0
"""How long a run that is interrupted may take to end; and how long its last lines are waited for, once it has."""
LINES_KEPT = 20


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder for what a call hands to its process, gone when the call is over."""
    with tempfile.TemporaryDirectory(prefix="oleander-") as folder:
        yield Path(folder)


def carry_out(call: Call, folder: Path, verbose: bool) -> tuple[str, ...]:
    """Let a process do what the call asks for; returns the notices that it gave.

    Args:
        call: what is to be done.
        folder: for what the two processes tell each other.
        verbose: whether to print what the command line would.

    Raises:
        UserError: it cannot be.
        RunError: it failed on the way.
    """
    told = folder / "notices.json"
    paths = [str(ROOT), *(os.path.abspath(path) for path in sys.path if os.path.abspath(path) != str(ROOT))]  # noqa: PTH100
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(path=paths)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, encoding="utf-8", errors="replace", start_new_session=True, env=_environment(),
    )  # fmt: skip
    try:
        with contextlib.suppress(BrokenPipeError):  # it is gone, as its exit code will say
            assert process.stdin
            process.stdin.write(json.dumps(asdict(call) | {"notices": str(told)}) + "\n")
            process.stdin.flush()  # and stays open: its end would tell the run that nobody wants it any more
        said = _listen(process, verbose)
        code = process.wait()
    except BaseException:
        _end(process)
        raise
    finally:
        _close(process)
    _check(code, said)
    return tuple(json.loads(told.read_text("utf-8")))


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in COLOURS}
    return kept | {"MPLBACKEND": "Agg", "PYTHONIOENCODING": "utf-8"}


def _listen(process: subprocess.Popen[str], verbose: bool) -> list[str]:
    """Pass on what is said, in the caller's thread; returns the last lines of its standard error."""
    lines: queue.Queue[tuple[bool, str]] = queue.Queue()

    def read(stream: IO[str], is_error: bool) -> None:
        with contextlib.suppress(ValueError, OSError):  # closed meanwhile
            for line in stream:
                lines.put((is_error, line))
        lines.put((is_error, ""))

    assert process.stdout and process.stderr
    for stream, is_error in ((process.stdout, False), (process.stderr, True)):
        threading.Thread(target=read, args=(stream, is_error), daemon=True).start()
    errors: list[str] = []
    open_streams, over = 2, 0.0
    while open_streams and not (over and time.monotonic() > over + LAST_SECONDS):
        try:
            is_error, line = lines.get(timeout=0.5)
        except queue.Empty:
            if process.poll() is not None and not over:  # what it started may hold its streams open
                over = time.monotonic()
            continue
        open_streams -= not line
        if is_error and line:
            errors = [*errors, line][-LINES_KEPT:]
        elif verbose and line:
            print(line, end="", flush=True)
    return errors


def _check(code: int, said: list[str]) -> None:
    """Raise what the process ended with."""
    if code == 0:
        return
    errors = [line.removeprefix("error: ").strip() for line in said if line.startswith("error: ")]
    last = errors[-1] if errors else " ".join("".join(said).split())[-500:]
    if code == UserError.exit_code and errors:
        raise UserError(last)
    if errors:
        raise RunError(last)
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    raise RunError(f"the run's process ended with {how}{f': {last}' if last else ', without a word'}")


def _end(process: subprocess.Popen[str]) -> None:
    """End the run as Ctrl-C does on a command line; a second one ends it outright."""
    with contextlib.suppress(ProcessLookupError):
        try:
            process.send_signal(signal.SIGINT)
            process.wait(INTERRUPT_SECONDS)
        except (KeyboardInterrupt, subprocess.TimeoutExpired):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _close(process: subprocess.Popen[str]) -> None:
    """Its input; the reading threads have the other two, and leave them when they end."""
    with contextlib.suppress(OSError):
        if process.stdin:
            process.stdin.close()
