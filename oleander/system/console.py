"""What is written to a terminal by any part: consoles, notices, and the line of an error."""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO, cast

from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.segment import Segment

from oleander.system.errors import RunError, UserError
from oleander.system.foreign import plain, shortened
from oleander.system.output import Outlet, make_room, outlet_of
from oleander.system.remains import forget, remains

WIDTH_WHEN_PIPED = 126
LONGEST_ERROR = 2000
NOTICES: list[str] = []
"""All that this process has given."""
SHARED: list[Console] = []
"""The console of the display that is open (``display.py``): what is printed on it comes above what is shown."""


class PlainConsole(Console):
    """A console whose only control codes are rich's own: in text, whoever wrote it, there are none."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """As rich's, with every text made plain."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.replace("\n", "").isprintable():
                yield segment
            else:
                lines = "\n".join(map(plain, segment.text.split("\n")))
                yield Segment(lines, segment.style)


def console_on(to: TextIO | Outlet | None = None, *, stderr: bool = False) -> Console:
    """A console that wraps at the terminal's width, or at a fixed one where there is none; the display's, where one is open."""
    if SHARED and not stderr and (to or outlet_of(sys.stdout)) is SHARED[0].file:
        return SHARED[0]
    file = cast(TextIO | None, to)
    console = PlainConsole(file=file, stderr=stderr, highlight=False)
    if not console.is_terminal:
        console = PlainConsole(file=file, stderr=stderr, highlight=False, width=WIDTH_WHEN_PIPED)
    return console


def notice(console: Console, text: str) -> None:
    """A notice that nobody can miss."""
    NOTICES.append(plain(text))
    console.print(Panel(escape(text), title="[bold]NOTICE[/]", border_style="bold yellow"))


def say_error(error: BaseException, to: TextIO | Outlet | None = None, log: Path | None = None) -> None:
    """An error's line on standard error, or on what stands for it, and behind it what is left of the work.

    Args:
        error: any.
        to: where standard error really leads, while it is turned away.
        log: file that has the traceback of one that nobody foresaw.
    """
    make_room()
    console = console_on(to, stderr=True)
    console.print(error_line(error, log), soft_wrap=True)
    if to is not None or not isinstance(error, UserError):  # what is refused has not begun
        console.print(escape(remains()), end="", soft_wrap=True)
    forget()


def in_one_line(record: logging.LogRecord) -> bool:
    """A filter for the log of a program that runs ours: of an error that was foreseen it says the line, and no traceback."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, UserError | RunError):
        record.msg, record.args, record.exc_info = f"error: {_line(error)}", (), None
    return True


def error_line(error: BaseException, log: Path | None = None) -> str:
    """An error in one line, for the terminal; for what nobody foresaw, with where to read more."""
    if isinstance(error, UserError | RunError):
        return f"[bold red]error:[/] {escape(_line(error))}"
    said = f"unexpected {type(error).__name__}: {_line(error)}; the traceback is in {log}"
    return f"[bold red]error:[/] {escape(plain(said))}"


def _line(error: BaseException) -> str:
    """What an error says, on one line of readable length."""
    return plain(shortened(str(error), LONGEST_ERROR))


def percent(share: float | None) -> str:
    """A share in percent; a dash for None."""
    return "–" if share is None else f"{100 * share:.1f} %"
