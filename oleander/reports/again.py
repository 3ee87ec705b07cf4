"""``--report DIR…``: figures, page and tables of what is finished, anew from the records. Nothing is run.

Of one run, and of one study (which may have been stopped halfway), it is written into their own folders. Of several, or of a
folder that holds some, it is written into a folder of its own, and theirs stay as they are. What draws is imported once there is
something to draw: no refusal should have to wait for it.
"""

import shlex
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from oleander.experiment.records import (
    CONFIG,
    STUDY,
    RunFolder,
    check_finished,
    check_free,
    check_safe,
    free,
    is_finished,
    read_summary,
    settings_of,
    taken,
)
from oleander.experiment.results import columns_of, finished, write_runs
from oleander.reports.together import found_in, runs_below, together, told_of
from oleander.system import itself
from oleander.system.console import notice
from oleander.system.errors import UserError
from oleander.system.files import absolute


def report_again(folders: Sequence[str], out: str, console: Console) -> None:
    """Draw, write and print what is reported of the runs and studies in these folders.

    Args:
        folders: as they were given.
        out: where the report of several goes (default: a new folder below runs/).
        console: where the table is printed.

    Raises:
        UserError: a folder holds neither, nothing is finished, or another process is at work in it.
    """
    if not folders or not all(folders):
        raise UserError("--report: wanted the folder of a run or of a study, or several")
    paths = [absolute(folder) for folder in folders]
    single = len(paths) == 1 and not out
    if single and (paths[0] / STUDY).is_file():
        _report_study(paths[0], console)
    elif single and (paths[0] / CONFIG).is_file():
        _report_run(folders[0], paths[0], console)
    elif single and not runs_below(paths[0]):
        what = f"holds neither a run ({CONFIG}) nor a study ({STUDY})" if paths[0].exists() else "is not there"
        raise UserError(f"--report {folders[0]}: {what}")
    else:
        _report_together(paths, out, console)


def _report_run(given: str, path: Path, console: Console) -> None:
    if not is_finished(path):
        raise UserError(
            f"--report {given}: the run is not finished; {itself.command()} --resume {given} goes on with it"
        )
    check_finished(path)
    from oleander.reports.aside import draw_run
    from oleander.reports.tables import print_results, write_run_tables

    run, summary = RunFolder(path, again=True), read_summary(path)
    draw_run(path, summary)
    write_run_tables(path)
    print_results(console, path, summary)
    run.release()


def _report_study(path: Path, console: Console) -> None:
    from oleander.experiment.study import StudyFolder, read_study
    from oleander.reports.tables import report_study

    found = read_study(path)
    if not found.folders():
        raise UserError(f"--report {path}: none of the study's {found.planned} runs is finished")
    study = StudyFolder(path)
    _write_runs(path, found.folders())
    report_study(console, path, found)
    study.release()


def _report_together(paths: Sequence[Path], out: str, console: Console) -> None:
    found = found_in(paths)
    folder = absolute(out) if out else Path("runs").resolve() / f"report-{time.strftime('%Y%m%d-%H%M%S')}"
    check_free(folder)
    check_safe(folder)
    command = shlex.join([*itself.command().split(), "--report", *map(str, paths)])
    from oleander.reports.tables import report_study

    study = together(found, command)
    lock = taken(folder)
    for text in told_of(found):
        notice(console, text)
    _write_runs(folder, found.folders)
    report_study(console, folder, study)
    free(folder, lock)


def _write_runs(folder: Path, runs: Sequence[Path]) -> None:
    done = [finished(settings_of(run), run) for run in runs]
    write_runs(folder, done, columns_of(run.experiment for run in done))
