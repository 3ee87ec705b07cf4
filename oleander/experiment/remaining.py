"""In words: what is there of a run or a study that stopped, and the exact command by which it goes on."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from oleander.experiment.records import CONFIG, LOG, MOST_RECORDS, ROUNDS, STUDY, is_finished
from oleander.settings.session import FOLDER
from oleander.system import itself
from oleander.system.environment import call
from oleander.system.foreign import plain, read_bytes


def left_of_run(
    folder: Path, rounds: int, part: itself.Part = "simulate", flags: Sequence[str] = (), *, counted: bool = True
) -> str:
    """Of a run of so many rounds, which ``part`` of the program takes up again, with these flags of its own.

    Nothing for a call in Python, which says it as a call. Not ``counted``, it holds for any time after the first round began.
    """
    if call():
        return ""
    said = f"finished rounds are in {plain(folder)}"
    if counted:
        if not (folder / CONFIG).is_file():
            return f"nothing was run; {plain(folder)} has no more than {LOG}"
        done = len(_lines(folder / ROUNDS)) - 1  # the start has a record too
        said = f"{max(done, 0)} of {rounds} rounds are finished; {said}"
    if (folder / FOLDER).is_dir():
        return f"{said}\nit cannot go on: a function of a Python session is part of it"
    return f"{said}\nto go on: {shlex.join([*itself.called(part), '--resume', str(folder), *flags])}"


def left_of_study(folder: Path, runs: Sequence[Path], *, counted: bool = True) -> str:
    """Of a study of these runs, which goes on when its own command is run again."""
    if call() or not (folder / STUDY).is_file():
        return ""
    said = f"finished rounds are in {plain(folder)}"
    if counted:
        said = f"{sum(is_finished(run) for run in runs)} of {len(runs)} runs are finished; {said}"
    return f"{said}\nto go on: {shlex.join([*itself.called(), *sys.argv[1:]])}"


def _lines(file: Path) -> list[bytes]:
    content = read_bytes(file, MOST_RECORDS) if file.is_file() else b""
    return content[: content.rfind(b"\n") + 1].splitlines()
