"""Nothing in a record reaches the terminal, a page, a figure or a table but text."""

import csv
import io
import re
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console

from oleander.experiment.study import Job, Runs, StudyFolder, StudyResult
from oleander.reports.charts import draw_charts
from oleander.reports.plots import draw_figures
from oleander.reports.tables import print_results, print_study
from oleander.reports.webpage import write_run_page, write_study_page
from oleander.settings.config import Experiment
from oleander.settings.plan import Chart, Published
from oleander.system.console import PlainConsole, console_on, error_line, notice, say_error
from oleander.system.errors import UserError
from tests.experiment.test_records import ROUND, START, SUMMARY, folder_of

HOSTILE = (
    "\x1b[31mred\x1b]0;title\x07 \x9b2J \u202egpj.exe \r\n[/] [link=file:///x]l[/link] "
    "<script>alert(1)</script> \"'><img src=x onerror=1> $\\frac{1}$ {{7*7}}"
)


HOSTILE_NAME = "".join(c for c in HOSTILE if unicodedata.category(c) != "Cc")
"""What a setting may hold at all: with control characters it is refused."""


ALIEN = replace(
    SUMMARY, scenario=HOSTILE, attack=HOSTILE, strategy=HOSTILE, dataset=HOSTILE, augment=HOSTILE, start=HOSTILE, device=HOSTILE,
    model_sha256=HOSTILE, dataset_sha256=HOSTILE, seconds=SUMMARY.seconds | {HOSTILE: 1.0},
)  # fmt: skip


def assert_plain(text):
    assert all(c.isprintable() or c == "\n" for c in text), repr(text)


def assert_no_markup(html):
    assert not re.search(r"<script|<img|onerror=1>|javascript:", html), html
    assert "49" not in re.findall(r"\$ (\S+)", html) and "\x1b" not in html and "\u202e" not in html


def test_nothing_in_a_record_reaches_the_terminal_but_text(tmp_path):
    folder = folder_of(tmp_path / "run", [START, replace(ROUND, dropped=[{"client": 4, "cause": HOSTILE}])])
    shown = io.StringIO()
    print_results(console_on(shown), folder.path, ALIEN)
    notice(console_on(shown), HOSTILE)
    console_on(shown).print(error_line(UserError(HOSTILE), Path(HOSTILE)))
    console_on(shown).print(error_line(KeyError(HOSTILE), Path(HOSTILE)))
    assert_plain(shown.getvalue())
    assert "[link=file:///x]l[/link]" in " ".join(shown.getvalue().split())
    assert error_line(UserError("a\nb" * 10_000)).count("\n") == 0 and len(error_line(UserError("x" * 10**6))) < 5_000


def test_an_errors_line_is_one_line(capsys):
    say_error(UserError(HOSTILE))
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert_plain(said)


def test_colours_of_ours_still_reach_a_terminal():
    shown = io.StringIO()
    coloured = PlainConsole(file=shown, force_terminal=True, color_system="standard", width=80, highlight=False)
    coloured.print("[red]a[/]\x1b[5m")
    assert shown.getvalue().startswith("\x1b[31ma\x1b[0m") and shown.getvalue().count("\x1b") == 2


def hostile_run(path, environment=None):
    folder = folder_of(path, [START, replace(ROUND, dropped=[{"client": 4, "cause": HOSTILE}])])
    images = np.zeros((2, 3, 32, 32), dtype=np.uint8)
    np.savez(path / "samples.npz", clean=images, classes=np.array([HOSTILE, "b"]), parts=images[None], whole=images)
    told = {"packages": {HOSTILE: HOSTILE}, "commit": HOSTILE, "gpu": HOSTILE, "command": HOSTILE, "cpu": HOSTILE, "cpus": HOSTILE,
            "python": HOSTILE}  # fmt: skip
    settings = Experiment(
        scenario="mine", description=HOSTILE, rounds=1, attack=HOSTILE_NAME, weights=HOSTILE_NAME, data_dir=HOSTILE_NAME
    )
    folder.write_settings(settings, told)
    folder.release()
    return folder


def test_nothing_in_a_record_reaches_the_page_but_text(tmp_path):
    folder = hostile_run(tmp_path / "run")
    draw_figures(folder.path, ALIEN)
    assert_no_markup(write_run_page(folder.path, ALIEN).read_text())


def test_nothing_in_a_study_reaches_page_figures_terminal_or_table_but_text(tmp_path):
    folder = hostile_run(tmp_path / "study" / "runs" / "one")
    folder.write_summary(ALIEN)
    (folder.path / "figures").mkdir()
    (folder.path / "figures" / "samples.svg").write_text("<svg><script>alert(1)</script></svg>")
    (tmp_path / "study" / "figures").mkdir()
    (tmp_path / "study" / "figures" / "empty.svg").write_text("<svg><script>alert(1)</script></svg>")
    runs = Runs(HOSTILE, HOSTILE, Published(mta=0.5), (folder.path,), (ALIEN,))
    cells = (runs, replace(runs, series="other"))
    empty = replace(runs, folders=(), summaries=())
    chart = Chart("chart", HOSTILE, HOSTILE, HOSTILE, ordered=False, norms=True, rounds=True, cells=cells)
    study = StudyResult(HOSTILE, HOSTILE, HOSTILE, 1, (chart, replace(chart, name="empty", cells=(empty,))))
    drawn = draw_charts(tmp_path / "study", study)
    assert_no_markup(write_study_page(tmp_path / "study", study, drawn).read_text())
    for file in drawn:
        assert_no_markup(file.read_text())
    shown = io.StringIO()
    print_study(Console(file=io.StringIO()), tmp_path, study)
    print_study(console_on(shown), tmp_path, study)
    assert_plain(shown.getvalue())
    StudyFolder(tmp_path / "study2").write_results(
        [Job(Experiment(scenario='=cmd|" /C calc"!A0', out=HOSTILE), folder.path)]
    )
    rows = list(csv.reader(io.StringIO((tmp_path / "study2" / "results.csv").read_text())))
    assert rows[1][0].startswith("'=") and len(rows) == 2
