"""What is written to a terminal by any part: consoles, notices, and the line of an error."""

from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel

from experiment.errors import RunError, UserError

WIDTH_WHEN_PIPED = 126


def console_on(file: TextIO | None = None, *, stderr: bool = False) -> Console:
    """A console that wraps at the terminal's width, or at a fixed one where there is none."""
    console = Console(file=file, stderr=stderr, highlight=False)
    if not console.is_terminal:
        console = Console(file=file, stderr=stderr, highlight=False, width=WIDTH_WHEN_PIPED)
    return console


def notice(console: Console, text: str) -> None:
    """A notice that nobody can miss."""
    console.print(Panel(escape(text), title="[bold]NOTICE[/]", border_style="bold yellow"))


def say_error(error: UserError | RunError) -> None:
    """An error's line, on standard error."""
    console_on(stderr=True).print(error_line(error), soft_wrap=True)


def error_line(error: BaseException, folder: Path | None = None) -> str:
    """An error in one line, for the terminal; for what nobody foresaw, with where to read more."""
    if isinstance(error, UserError | RunError):
        where = f"; finished rounds are in {folder}" if folder else ""
        return f"[bold red]error:[/] {escape(str(error))}{escape(where)}"
    said = f"unexpected {type(error).__name__}: {error}; the traceback is in {folder}/log.txt"
    return f"[bold red]error:[/] {escape(said)}"
