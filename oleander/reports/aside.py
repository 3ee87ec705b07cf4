"""Figures and pages of a study's runs, drawn by a process of its own: ``python -m oleander.reports.aside``.

Drawing takes seconds of Python, for which the threads of the server that the study runs in would have to wait at every reply.
The process reads a line of JSON for each run and answers with one: what went wrong, or nothing. It ends with its standard input,
that is, with the study, however that ends.
"""

import contextlib
import functools
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from oleander.experiment.records import Summary, summary_of, summary_text
from oleander.system.errors import RunError
from oleander.system.programs import ended, module_path, python

WORTH_A_PROCESS = 4
"""Runs to be drawn from which on the process, which imports PyTorch as all of ours do, saves more than it costs."""

Draw = Callable[[Path, Summary], None]


def draw_run(folder: Path, summary: Summary) -> None:
    """Draw the figures and write the page of a run whose rounds are done."""
    from oleander.reports.plots import draw_figures  # matplotlib is slow to import, and nothing before needs it
    from oleander.reports.webpage import write_run_page

    draw_figures(folder, summary)
    write_run_page(folder, summary)


@contextlib.contextmanager
def drawing_aside(runs: int) -> Iterator[Draw]:
    """What draws a run: of many, a process of its own, while the context lasts."""
    if runs < WORTH_A_PROCESS:
        yield draw_run
        return
    with subprocess.Popen(
        python("-m", "oleander.reports.aside"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": module_path()},
    ) as process:  # fmt: skip
        try:
            yield functools.partial(_drawn_by, process)
        finally:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()  # type: ignore[union-attr]


def _drawn_by(process: "subprocess.Popen[str]", folder: Path, summary: Summary) -> None:
    """Let the process draw a run.

    Raises:
        RunError: it could not, or has ended.
    """
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(json.dumps([os.fspath(folder), summary_text(summary)]) + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
    except BrokenPipeError:
        answer = ""
    failed = json.loads(answer) if answer else f"the process that draws ended ({ended(process.wait())})"
    if failed:
        raise RunError(f"{folder}: no figures and no page: {failed}")


def main() -> None:
    """Draw what is asked for, line by line, until the end of the input; what goes wrong is told whole on standard error."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # meant for the study, which ends this process
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # what a library prints is no answer
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=[lines], daemon=True).start()
    while True:
        folder, summary = json.loads(lines.get())
        failed = ""
        try:
            draw_run(Path(folder), summary_of(summary.encode()))
        except Exception as error:  # whatever it is, the study is told
            traceback.print_exc()
            failed = f"{type(error).__name__}: {error}"
        print(json.dumps(failed), file=answers, flush=True)


def _read(lines: "queue.SimpleQueue[str]") -> None:
    """Hand on the input; at its end, which is the study's, this process ends too, whatever it draws."""
    for line in sys.stdin:
        lines.put(line)
    os._exit(0)


if __name__ == "__main__":
    main()
