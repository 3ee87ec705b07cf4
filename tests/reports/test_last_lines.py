"""The last lines of a run and of a study stand together on a terminal: no line of what is being done comes between them."""

import io

import pytest
from rich.console import Console

from oleander.reports import charts, webpage
from oleander.reports.tables import print_results, report_study
from oleander.system.display import close_display, doing, open_display
from tests.experiment.test_records import SUMMARY
from tests.reports.test_untargeted import run_in, study_in


class Terminal(io.StringIO):
    """Keeps all that was ever written to it, what was erased again too."""

    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setattr(charts, "draw_charts", lambda *_: [])
    monkeypatch.setattr(webpage, "write_study_page", lambda *_: None)
    terminal = Terminal()
    console = Console(file=terminal, force_terminal=True, width=80)
    open_display(console)
    yield terminal, console
    close_display()


def check(terminal):
    """What was being done was written before the table, and never again."""
    before, table, after = terminal.getvalue().partition("MTA")
    assert table and "drawing the figures" in before and "drawing the figures" not in after
    assert "results in" in after


def test_nothing_is_drawn_between_the_last_lines_of_a_study(terminal, tmp_path):
    terminal, console = terminal
    report_study(console, tmp_path, study_in(tmp_path, SUMMARY))
    check(terminal)


def test_nothing_is_drawn_between_the_last_lines_of_a_run_even_while_a_step_goes_on(terminal, tmp_path):
    terminal, console = terminal
    folder = run_in(tmp_path / "run", SUMMARY)
    with doing("drawing the figures"):
        print_results(console, folder, SUMMARY)
    check(terminal)
