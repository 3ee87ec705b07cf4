"""Figures and pages that a process of its own draws: the same as those drawn here, and an end of it is told and leaves nothing."""

import os
import shutil
import signal
import time
from pathlib import Path

import psutil
import pytest

from oleander.reports import aside
from oleander.reports.aside import WORTH_A_PROCESS, draw_run, drawing_aside
from oleander.settings.config import Experiment
from oleander.system.environment import environment
from oleander.system.errors import RunError
from oleander.system.programs import python
from tests.experiment.test_records import ROUND, START, SUMMARY, folder_of


def files_of(folder: Path) -> dict[str, bytes]:
    """What was drawn; a PDF holds when it was made."""
    files = [*folder.glob("figures/*.png"), *folder.glob("figures/*.svg"), *folder.glob("report.html")]
    return {path.name: path.read_bytes() for path in files}


def drawers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "oleander.reports.aside" in child.cmdline()]


def drawer() -> psutil.Process:
    """The process that draws, which has its command line a moment after it was started."""
    deadline = time.monotonic() + 60
    while not (found := drawers()):
        assert time.monotonic() < deadline
    return found[0]


@pytest.fixture
def run(tmp_path):
    """A run's folder whose rounds are done."""
    folder = folder_of(tmp_path / "run", [START, ROUND])
    folder.write_settings(Experiment(rounds=1, dataset="digits"), environment("cpu", None, 1))
    folder.release()
    return folder.path


def test_the_process_draws_what_would_be_drawn_here_and_ends_with_the_study_alone(tmp_path, run):
    draw_run(run, SUMMARY)
    here = files_of(run)
    shutil.rmtree(run / "figures")
    (run / "report.html").unlink()
    with drawing_aside(WORTH_A_PROCESS) as draw:
        with pytest.raises(RunError, match=r"bad: no figures and no page: FileNotFoundError"):
            draw(tmp_path / "bad", SUMMARY)
        process = drawer()
        for number in (signal.SIGINT, signal.SIGTERM):
            process.send_signal(number)  # meant for the study
        draw(run, SUMMARY)
        began = time.monotonic()
    assert not process.is_running() and time.monotonic() - began < 5
    assert len(here) > 5 and files_of(run) == here


def test_what_is_printed_while_a_run_is_drawn_is_no_answer(monkeypatch, run, capfd):
    loud = "from oleander.reports import aside; aside.draw_run = lambda *_: print('loud'); aside.main()"
    monkeypatch.setattr(aside, "python", lambda *_: python("-c", loud))
    with drawing_aside(WORTH_A_PROCESS) as draw:
        for _ in range(2):
            draw(run, SUMMARY)
    assert "loud" in capfd.readouterr().err


def test_of_few_runs_no_process_is_started():
    with drawing_aside(WORTH_A_PROCESS - 1) as draw:
        assert draw is draw_run and not drawers()


def test_a_process_that_is_killed_ends_the_study_with_its_signal(run):
    with drawing_aside(WORTH_A_PROCESS) as draw:
        drawer().kill()
        for _ in range(2):
            with pytest.raises(RunError, match=r"the process that draws ended \(killed by SIGKILL\)"):
                draw(run, SUMMARY)


def test_it_ends_with_its_input_whatever_it_draws(monkeypatch):
    reading, writing = os.pipe()
    ended = []
    monkeypatch.setattr(aside.os, "_exit", ended.append)
    monkeypatch.setattr(aside.sys, "stdin", os.fdopen(reading))
    os.write(writing, b"one\n")
    os.close(writing)
    lines = aside.queue.SimpleQueue()
    aside._read(lines)
    assert ended == [0] and lines.get() == "one\n"
