"""What is being done is shown on the last lines of a terminal, at any width; elsewhere it is a line, or nothing."""

import io
import os
import pty
import re
import select
import sys
import threading
import time

import pytest
from rich.console import Console

from oleander.system import display as displays
from oleander.system.console import console_on, say_error
from oleander.system.display import (
    Display,
    Step,
    Whole,
    begin_display,
    close_display,
    display_on,
    doing,
    here,
    open_display,
)
from oleander.system.errors import RunError
from oleander.system.output import Outlet, Standard


class Screen(io.StringIO):
    """A text file that says it is a terminal."""

    def isatty(self):
        return True


def console(width=80, file=None, **more):
    return Console(file=file or Screen(), force_terminal=True, width=width, **more)


def rendered(line, width, **more):
    shown = console(width, **more)
    with shown.capture() as captured:
        shown.print(line, end="")
    return re.sub(r"\x1b\[[0-9;]*m", "", captured.get()).rstrip("\n").split("\n")


def whole(**changes):
    step = Whole(1234, "clients", done=567, rate="12,345 images/s", timed_from=time.monotonic() - 100)
    step.began = time.monotonic() - 3725
    for name, value in changes.items():
        setattr(step, name, value)
    return step


@pytest.mark.parametrize("width", [40, 60, 80, 200])
@pytest.mark.parametrize("color", [True, False])
def test_counts_and_times_are_never_what_is_cut(width, color):
    step = Step("run 12/35, round 3/5: training clients " + ", ".join(map(str, range(30))), "images", total=10_000)
    step.at(3_200, 10_000)
    step.began = time.monotonic() - 72
    lines = [*rendered(step, width, no_color=not color), *rendered(whole(), width, no_color=not color)]
    assert len(lines) == 2 and all(len(line) <= width - 2 for line in lines)  # ^C has room
    assert lines[0].endswith("3,200/10,000 images  0:01:12") and ("…" in lines[0]) is (width < 200)
    assert "567/1,234" in lines[1] and "1:02:05" in lines[1] and "left 0:01:57" in lines[1]
    assert ("images/s" in lines[1]) is (width >= 80)


def test_a_very_narrow_terminal_still_has_the_count():
    assert rendered(whole(), 12) == ["567/1,234"]
    assert rendered(Step("reading the images"), 12) == ["0:00:00"]


def test_nothing_is_known_of_the_rest_before_something_is_done():
    assert whole(timed_from=0.0).left == whole(done=0).left == whole(done=400, before=400).left == "-:--:--"
    assert whole(done=1234).left == "0:00:00"


def test_the_rest_is_estimated_by_what_was_done_here_not_by_what_a_stopped_run_had_done():
    assert whole(done=900, before=800).left == "0:05:34"  # 100 in 100 s, 334 to go


def test_each_thread_shows_its_innermost_step_and_knows_it():
    with display_on(console()) as shown, doing("outer"), doing("inner", "images") as step:
        assert here() is step
        here().at(3, 4)
        other = threading.Event(), threading.Event()

        def beside():
            with doing("beside"):
                other[0].set()
                other[1].wait(5)

        thread = threading.Thread(target=beside)
        thread.start()
        other[0].wait(5)
        assert [line.text for line in shown.shown()] == ["inner", "beside"]
        other[1].set()
        thread.join()
    assert shown.shown() == [] and displays._OPEN == []
    here().at(1, 2)  # of nobody's step: nothing


def test_in_a_terminal_steps_are_drawn_and_taken_away_and_what_is_printed_stays_above(monkeypatch):
    monkeypatch.setattr(sys, "stdout", screen := Screen())
    with display_on(console(file=screen)) as shown:
        with doing("starting Ray"):
            assert console_on() is console_on(screen)
            console_on().print("a notice")
        time.sleep(0.3)
        assert not shown.shown()
    said = screen.getvalue()
    assert said.index("starting Ray") < said.index("a notice") < said.rindex("starting Ray")
    assert "\x1b[?25h" in said[said.rindex("starting Ray") :]  # the cursor is there again
    assert console_on() is not console_on(screen)


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"FORCE_COLOR": "1"}, {}])
def test_without_a_terminal_a_step_is_a_line_once_it_takes_a_while_and_no_control_character(monkeypatch, environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(displays, "AFTER_SECONDS", 0.05)
    file = Screen() if "TERM" in environment else io.StringIO()
    with display_on(Console(file=file, width=80)) as shown:
        assert not shown.live
        with doing("starting\x1b[2J Ray"):
            time.sleep(0.4)
        with doing("quick"):
            pass
        with doing("not said", aloud=False):
            time.sleep(0.2)
        shown.aloud = False
        with doing("nor this"):
            time.sleep(0.2)
    assert re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue()) == "starting� [2J Ray\n".replace(
        "� ", "\N{REPLACEMENT CHARACTER}"
    )


def test_where_no_display_is_open_nothing_is_shown(capsys):
    with doing("starting Ray") as step:
        assert here() is step
    assert capsys.readouterr() == ("", "")


def test_what_others_print_clears_the_display_and_is_whole(monkeypatch):
    main, end = pty.openpty()
    outlet = Outlet(end, "utf-8")
    monkeypatch.setattr(sys, "stdout", Standard(end, outlet))
    monkeypatch.setattr(sys, "stderr", Standard(end, outlet))
    monkeypatch.setenv("TERM", "xterm")
    try:
        begin_display()
        print("a plug-in's own words")
        say_error(RunError("it failed"))
        assert displays._OPEN[0]._drawing is None
        with doing("starting Ray"):
            assert displays._OPEN[0]._drawing is not None
    finally:
        close_display()
        outlet.drain()
    said = ""
    while select.select([main], [], [], 0.2)[0]:
        said += os.read(main, 1 << 16).decode()
    os.close(main)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\x00", said)
    assert "\x00a plug-in's own words\r\n" in plain and "it failed\r\n" in plain


def test_a_second_display_is_the_first_one():
    with display_on(console()) as one, display_on(console()) as other:
        assert one is other is open_display(console())


def test_what_erases_it_has_a_line_for_each_that_is_shown():
    shown = Display(console())
    assert shown.erasing() == ""
    shown.whole = whole()
    shown.add(Step("starting Ray"))
    assert shown.erasing() == "\r\x1b[2K\x1b[1A\x1b[2K"
    shown.clear()
    assert shown.erasing() == ""
