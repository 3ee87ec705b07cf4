"""``--report DIR``: the figures, the page and the table of a finished run, or of a study, anew from its records. Nothing is run."""

from pathlib import Path

from rich.console import Console

from oleander.experiment.records import CONFIG, STUDY, RunFolder, check_finished, is_finished, read_summary
from oleander.experiment.study import StudyFolder
from oleander.reports.plots import draw_figures
from oleander.reports.tables import finish_study, print_results
from oleander.reports.webpage import write_run_page
from oleander.system import itself
from oleander.system.errors import UserError
from oleander.system.files import absolute


def report_again(folder: str, console: Console) -> None:
    """Draw, write and print what is reported of the run or the study in this folder.

    Raises:
        UserError: it holds neither, its run is not finished, or another process is at work in it.
    """
    path = absolute(folder) if folder else Path()
    if folder and (path / STUDY).is_file():
        study = StudyFolder(path)
        finish_study(console, path)
        study.release()
        return
    if not folder or not (path / CONFIG).is_file():
        what = (
            "is not there" if folder and not path.exists() else f"holds neither a run ({CONFIG}) nor a study ({STUDY})"
        )
        raise UserError(
            f"--report {folder}: {what}" if folder else "--report: wanted the folder of a run or of a study"
        )
    if not is_finished(path):
        raise UserError(
            f"--report {folder}: the run is not finished; {itself.command()} --resume {folder} goes on with it"
        )
    check_finished(path)
    run, summary = RunFolder(path, again=True), read_summary(path)
    draw_figures(path, summary)
    write_run_page(path, summary)
    print_results(console, path, summary)
    run.release()
