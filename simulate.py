"""Run a scenario in Flower's Ray-backed simulation engine: ``python simulate.py --scenario dba``.

Without arguments, or with ``--list``, prints what there is to run; ``--help`` prints every setting.
"""

from __future__ import annotations

import os
import sys

for _name, _value in {  # before the imports that read them
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    "THP_MEM_ALLOC_ENABLE": "1",  # PyTorch asks for huge pages: fewer page faults for every activation
}.items():
    os.environ.setdefault(_name, _value)

from experiment.processes import Chatter, end_now, end_on_signals, is_ending

if __name__ == "__main__":
    end_on_signals()  # before the imports, which take seconds

import contextlib
import traceback
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from experiment.cli import parse
from experiment.config import Experiment
from experiment.engine import run_on_ray, start_ray
from experiment.errors import RunError, UserError

if TYPE_CHECKING:  # PyTorch and Flower are imported while Ray starts
    from flwr.clientapp import ClientApp

    from experiment.prepare import Setup
    from experiment.records import RunFolder, Summary


def main(arguments: list[str], client_app: ClientApp | None = None) -> int:
    """Run what the arguments ask for; returns the exit code: 0, 1 (the run failed) or 2 (it cannot be)."""
    if sys.stdout is not None:
        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal without µ must not end a run
    try:
        if not arguments or "--list" in arguments:
            from experiment.report import console_on, print_list

            print_list(console_on())
        else:
            simulate(parse(arguments), client_app)
    except UserError as error:
        _say(error)
        return error.exit_code
    except RunError as error:
        _say(error)
        end_now(error.exit_code)  # the server's thread may wait for clients that will never come
    return 0


def simulate(experiment: Experiment, client_app: ClientApp | None = None) -> Summary:
    """Prepare, run and report one experiment, its clients running ``client_app`` (default: ``clients.app``'s).

    Ray starts in this thread (it wants its signal handlers in the main one) while another imports PyTorch, checks the
    settings and loads the data.

    Raises:
        UserError: it cannot be; nothing was written.
        RunError: it failed on the way; the finished rounds are in the run folder.
    """
    import ray  # noqa: F401  # alone: two imports at once only hold each other up

    with Chatter() as chatter, ThreadPoolExecutor(1) as aside:
        preparing = aside.submit(_prepare, experiment, chatter)
        try:
            resources = start_ray(experiment)
        finally:
            refused = preparing.exception()
        if refused is not None:
            raise refused
        return _run(preparing.result(), resources, client_app, chatter)


def _prepare(experiment: Experiment, chatter: Chatter) -> Setup:
    from experiment.prepare import prepare
    from experiment.report import console_on, notice

    try:
        setup = prepare(experiment, lambda text: notice(console_on(chatter.out), text))
        import flwr.simulation  # noqa: F401  # what the run will need

        import server  # noqa: F401
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}") from None
    return setup


def _run(setup: Setup, resources: dict[str, int | float], client_app: ClientApp | None, chatter: Chatter) -> Summary:
    from experiment.records import RunFolder

    folder = RunFolder.of(setup.experiment)
    chatter.keep_in(folder.path / "log.txt")
    try:
        return _federate(setup, folder, resources, client_app, chatter)
    except UserError:
        folder.discard()
        raise
    except Exception as error:
        if isinstance(error, RunError):
            raise
        with contextlib.suppress(OSError), (folder.path / "log.txt").open("a", encoding="utf-8") as log:
            traceback.print_exception(error, file=log)
        raise RunError(f"unexpected {type(error).__name__}: {error}; what is done is in {folder.path}") from error


def _federate(
    setup: Setup,
    folder: RunFolder,
    resources: dict[str, int | float],
    client_app: ClientApp | None,
    chatter: Chatter,
) -> Summary:
    from clients.app import app
    from experiment.report import ProgressListener, console_on, error_line, finish
    from server import federate

    finished: list[Future[Summary]] = []
    here = not setup.experiment.ray_address
    listener = ProgressListener(console_on(chatter.out), setup)

    def failed(error: BaseException) -> None:
        traceback.print_exception(error)  # to log.txt
        if not is_ending():
            listener.progress.stop()
            console_on(chatter.error).print(error_line(error, folder.path), soft_wrap=True)
        end_now(RunError.exit_code)

    def close(summary: Summary) -> Summary:
        listener.progress.stop()
        finish(console_on(chatter.out), folder, summary)
        return summary

    with listener.progress, ThreadPoolExecutor(1) as closing:  # draws the figures while the engine winds down
        run_on_ray(
            resources,
            setup.experiment.clients,
            client_app or app,
            lambda grid: finished.append(
                closing.submit(close, federate(grid, setup, folder, listener, clients_are_here=here))
            ),
            failed,
        )
        return finished[0].result()


def _say(error: UserError | RunError) -> None:
    from experiment.report import console_on, error_line

    console_on(stderr=True).print(error_line(error), soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
