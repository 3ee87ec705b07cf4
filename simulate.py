"""Run a scenario in Flower's Ray-backed simulation engine: ``python simulate.py --scenario dba``.

Without arguments, or with ``--list``, prints what there is to run; ``--help`` prints every setting.
"""

import contextlib
import os
import sys

for _name, _value in {  # before the imports that read them
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
}.items():
    os.environ.setdefault(_name, _value)

from experiment.processes import end_on_signals

if __name__ == "__main__":
    end_on_signals()  # before the imports, which take seconds

import traceback

from flwr.clientapp import ClientApp
from rich.console import Console

from clients.app import app
from experiment.cli import parse
from experiment.config import Experiment
from experiment.engine import run_on_ray
from experiment.errors import RunError, UserError
from experiment.prepare import Setup, prepare
from experiment.processes import chatter_to, end_now, is_ending
from experiment.records import RunFolder, Summary
from experiment.report import ProgressListener, console_on, error_line, finish, notice, print_list
from server import federate


def main(arguments: list[str], client_app: ClientApp) -> int:
    """Run what the arguments ask for; returns the exit code: 0, 1 (the run failed) or 2 (it cannot be)."""
    if sys.stdout is not None:
        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal without µ must not end a run
    try:
        if not arguments or "--list" in arguments:
            print_list(console_on())
        else:
            simulate(parse(arguments), client_app)
    except UserError as error:
        console_on(stderr=True).print(error_line(error), soft_wrap=True)
        return error.exit_code
    except RunError as error:
        console_on(stderr=True).print(error_line(error), soft_wrap=True)
        end_now(error.exit_code)  # the server's thread may wait for clients that will never come
    return 0


def simulate(experiment: Experiment, client_app: ClientApp) -> Summary:
    """Prepare, run and report one experiment, its clients running ``client_app``.

    Raises:
        UserError: it cannot be; nothing was written.
        RunError: it failed on the way; the finished rounds are in the run folder.
    """
    console = console_on()
    try:
        setup = prepare(experiment, lambda text: notice(console, text))
        folder = RunFolder.of(setup.experiment)
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}") from None
    try:
        with chatter_to(folder.path / "log.txt") as (out, error):
            summary = _run(setup, folder, client_app, console_on(out), console_on(error))
            finish(console_on(out), folder, summary)
    except UserError:
        folder.discard()
        raise
    except Exception as error:
        if isinstance(error, RunError):
            raise
        with contextlib.suppress(OSError), (folder.path / "log.txt").open("a", encoding="utf-8") as log:
            traceback.print_exception(error, file=log)
        raise RunError(f"unexpected {type(error).__name__}: {error}; what is done is in {folder.path}") from error
    return summary


def _run(setup: Setup, folder: RunFolder, client_app: ClientApp, console: Console, errors: Console) -> Summary:
    summaries: list[Summary] = []
    listener = ProgressListener(console, setup)

    def failed(error: BaseException) -> None:
        traceback.print_exception(error)  # to log.txt
        if not is_ending():
            listener.progress.stop()
            errors.print(error_line(error, folder.path), soft_wrap=True)
        end_now(RunError.exit_code)

    with listener.progress:
        run_on_ray(
            setup.experiment, client_app, lambda grid: summaries.append(federate(grid, setup, folder, listener)), failed
        )
    return summaries[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], app))
