"""What is being done, on the last lines of a terminal for as long as it is done; elsewhere as a line, where it takes a while.

``doing("starting Ray")`` shows a step and its time from anywhere, one step for each thread. Nothing that others print gets in
between: what goes through ``console_on`` is printed above, and what goes to ``sys.stdout`` past it clears the display first.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.live import Live
from rich.text import Text

from oleander.system import console as consoles
from oleander.system import output
from oleander.system.foreign import plain

AFTER_SECONDS = 2.0
"""How long a step takes at least to be worth a line where there is no live display."""
MOST_STEPS = 3
ECHO = 2
"""Columns that stay free at the end of a line, for the ^C of who ends it: it would wrap, and the line could not be erased."""
SHORTEST_BAR, LONGEST_BAR = 8, 40
CLEAR_LINE, UP_AND_CLEAR = "\r\x1b[2K", "\x1b[1A\x1b[2K"


@dataclass(eq=False)
class Step:
    """Something that is being done."""

    text: str
    unit: str = ""
    """What is counted."""
    owner: object = field(default_factory=threading.get_ident)
    """Of the steps of one owner, the last is shown."""
    began: float = field(default_factory=time.monotonic)
    done: int = 0
    total: int = 0
    """0: nothing is counted."""

    def at(self, done: int, total: int) -> None:
        """So much of it is done."""
        self.done, self.total = done, total

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """One line; what is too long for it is cut off the text, never off counts and times."""
        counted = f"{self.done:,}/{self.total:,} {self.unit}".rstrip() if self.total else ""
        yield _line(self.text, "  ".join(filter(None, (counted, _clock(self.began)))), options.max_width - ECHO)


@dataclass(eq=False)
class Whole:
    """All that there is to do, counted in ``unit``."""

    total: int
    unit: str
    done: int = 0
    rate: str = ""
    """In words."""
    began: float = field(default_factory=time.monotonic)
    before: int = 0
    """How much was done before it began."""
    timed_from: float = 0.0
    """When the work itself began, by which the rest is estimated; 0: not yet."""

    def add(self, count: int, *, before: bool = False) -> None:
        """So much more is done; ``before``: it was so when it began. From any thread."""
        with _COUNTING:
            self.done += count
            self.before += count * before

    @property
    def left(self) -> str:
        """How long the rest will take, at the pace so far."""
        here = self.done - self.before
        if here <= 0 or not self.timed_from:
            return "-:--:--"
        return _time((time.monotonic() - self.timed_from) * (self.total - self.done) / here)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """A bar, counts and times in one line: where it is narrow without the rate, the bar, then the words."""
        counts, clock, left = f"{self.done:,}/{self.total:,}", _clock(self.began), self.left
        worded = [f"{counts} {self.unit}", clock, f"left {left}"]
        width = options.max_width - ECHO
        for parts in ([worded[0], self.rate, *worded[1:]], worded):
            numbers = "  ".join(filter(None, parts))
            room = min(width - len(numbers) - 2, LONGEST_BAR)
            if room >= SHORTEST_BAR:
                yield self._bar(room, console, options).append(f"  {numbers}")
                return
        fitting = (text for text in ("  ".join(worded), f"{counts}  {clock}  left {left}") if len(text) <= width)
        yield Text(next(fitting, counts), no_wrap=True, overflow="crop")

    def _bar(self, width: int, console: Console, options: ConsoleOptions) -> Text:
        filled = width * self.done // max(self.total, 1)
        sign = "=" if options.ascii_only else "━"
        rest = " " if console.no_color or options.ascii_only else sign
        return Text(no_wrap=True).append(sign * filled, "bar.complete").append(rest * (width - filled), "bar.back")


class Display:
    """The last lines of a terminal, or what stands for them."""

    def __init__(self, console: Console) -> None:
        """On this console; nothing is shown yet."""
        self.console = console
        self.live = console.is_terminal and not console.is_dumb_terminal and console.file.isatty()
        self.aloud = True
        """Whether steps become lines where there is no live display."""
        self.whole: Whole | None = None
        self._steps: list[Step] = []
        self._lock = threading.RLock()
        self._drawing: Live | None = None

    def add(self, step: Step, *, aloud: bool = True) -> None:
        """Show a step until it is taken away; ``aloud``: without a live display too, if it takes a while."""
        with self._lock:
            self._steps.append(step)
        self.draw()
        if not self.live and aloud and self.aloud:
            timer = threading.Timer(AFTER_SECONDS, self._say, [step])
            timer.daemon = True
            timer.start()

    def remove(self, step: Step) -> None:
        """It is over."""
        with self._lock:
            if step in self._steps:
                self._steps.remove(step)

    def shown(self) -> list[RenderableType]:
        """The lines: the last step of each owner, and the whole."""
        last = {step.owner: step for step in list(self._steps)}  # without the lock: a signal's handler asks too
        lines: list[RenderableType] = [*list(last.values())[-MOST_STEPS:]]
        return [*lines, self.whole] if self.whole else lines

    def draw(self) -> None:
        """Begin to draw, where nothing is drawn: at the start, or after somebody else has printed."""
        with self._lock:
            if self.live and self._drawing is None:
                self._drawing = Live(
                    console=self.console, get_renderable=self._group, transient=True, refresh_per_second=4,
                    redirect_stdout=False, redirect_stderr=False,  # else what libraries say would be shown, not logged
                )  # fmt: skip
                self._drawing.start(refresh=True)

    def clear(self) -> None:
        """Take it all off the screen, until there is something new."""
        with self._lock:
            drawing, self._drawing = self._drawing, None
        if drawing is not None:
            drawing.stop()

    def erasing(self) -> str:
        """What takes it off the screen, for a process that ends in the midst of anything."""
        lines = len(self.shown()) if self._drawing is not None else 0
        return CLEAR_LINE + UP_AND_CLEAR * (lines - 1) if lines else ""

    def _group(self) -> RenderableType:
        return _Lines(self.shown())

    def _say(self, step: Step) -> None:
        with self._lock:
            if step in self._steps and not output.is_over():
                self.console.print(Text(plain(step.text)), soft_wrap=True)


@dataclass(frozen=True)
class _Lines:
    lines: list[RenderableType]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from self.lines


def open_display(console: Console) -> Display:
    """From here on this process shows what it does on this console; where it did so already, nothing changes."""
    if not _OPEN:
        _OPEN.append(Display(console))
        consoles.SHARED[:] = [console]
        output.before_others_print(_OPEN[0].clear)
    return _OPEN[0]


def begin_display() -> None:
    """At the start of a program, before the imports, which take seconds: show that it starts, until ``started``."""
    open_display(consoles.console_on(output.outlet_of(sys.stdout))).add(_STARTING, aloud=False)


def started() -> None:
    """From here on each step says what it is."""
    for display in _OPEN:
        display.remove(_STARTING)


def close_display() -> None:
    """No more."""
    if _OPEN:
        output.before_others_print(None)
        consoles.SHARED.clear()
        _OPEN.pop().clear()


@contextlib.contextmanager
def display_on(console: Console) -> Iterator[Display]:
    """The display that is open, else one on this console, for as long as the context lasts."""
    ours = not _OPEN
    try:
        yield open_display(console)
    finally:
        if ours:
            close_display()


@contextlib.contextmanager
def doing(text: str, unit: str = "", *, aloud: bool = True) -> Iterator[Step]:
    """Show what is being done in the context; where no display is open, nothing."""
    step, before = Step(text, unit), here()
    display = _OPEN[0] if _OPEN else None
    if display:
        display.add(step, aloud=aloud)
    _THREAD.step = step
    try:
        yield step
    finally:
        _THREAD.step = before
        if display:
            display.remove(step)


def here() -> Step:
    """What this thread is doing, for work that knows how far it is and not what it is part of; never None."""
    step: Step = getattr(_THREAD, "step", None) or Step("")
    return step


def clear_display() -> None:
    """Take the display off the screen until a step begins: what is printed now is a whole, and no step stands between its lines."""
    for display in _OPEN:
        display.clear()


def erasing() -> str:
    """What takes the display off the screen; nothing where none is shown."""
    return "".join(display.erasing() for display in _OPEN)


def _line(text: str, numbers: str, width: int) -> Text:
    room = width - cell_len(numbers) - 2
    line = Text(plain(text), no_wrap=True)
    if room < SHORTEST_BAR:
        return Text(numbers, no_wrap=True, overflow="crop")
    line.truncate(room, overflow="ellipsis", pad=True)
    return line.append(f"  {numbers}")


def _clock(began: float) -> str:
    return _time(time.monotonic() - began)


def _time(seconds: float) -> str:
    return str(timedelta(seconds=int(seconds)))


_COUNTING = threading.Lock()
_OPEN: list[Display] = []
_THREAD = threading.local()
_STARTING = Step("starting")
