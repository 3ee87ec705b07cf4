"""What is written to a terminal by any part: consoles, notices, and the line of an error."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO, cast

from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.segment import Segment

from oleander.system.errors import RunError, UserError
from oleander.system.foreign import plain, shortened
from oleander.system.output import Outlet

WIDTH_WHEN_PIPED = 126
LONGEST_ERROR = 2000
NOTICES: list[str] = []
"""All that this process has given."""


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
    """A console that wraps at the terminal's width, or at a fixed one where there is none."""
    file = cast(TextIO | None, to)
    console = PlainConsole(file=file, stderr=stderr, highlight=False)
    if not console.is_terminal:
        console = PlainConsole(file=file, stderr=stderr, highlight=False, width=WIDTH_WHEN_PIPED)
    return console


def notice(console: Console, text: str) -> None:
    """A notice that nobody can miss."""
    NOTICES.append(plain(text))
    console.print(Panel(escape(text), title="[bold]NOTICE[/]", border_style="bold yellow"))


def say_error(error: UserError | RunError) -> None:
    """An error's line, on standard error."""
    console_on(stderr=True).print(error_line(error), soft_wrap=True)


def in_one_line(record: logging.LogRecord) -> bool:
    """A filter for the log of a program that runs ours: of an error that was foreseen it says the line, and no traceback."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, UserError | RunError):
        record.msg, record.args, record.exc_info = f"error: {_line(error)}", (), None
    return True


def error_line(error: BaseException, folder: Path | None = None) -> str:
    """An error in one line, for the terminal; for what nobody foresaw, with where to read more."""
    if isinstance(error, UserError | RunError):
        where = f"; finished rounds are in {folder}" if folder else ""
        return f"[bold red]error:[/] {escape(_line(error))}{escape(plain(where))}"
    said = f"unexpected {type(error).__name__}: {_line(error)}; the traceback is in {folder}/log.txt"
    return f"[bold red]error:[/] {escape(plain(said))}"


def _line(error: BaseException) -> str:
    """What an error says, on one line of readable length."""
    return plain(shortened(str(error), LONGEST_ERROR))


def percent(share: float | None) -> str:
    """A share in percent; a dash for None."""
    return "–" if share is None else f"{100 * share:.1f} %"
