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
import dataclasses
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from experiment.cli import RESUMABLE, Command, parse_command
from experiment.config import SETTINGS, Experiment
from experiment.engine import actor_count, run_on_ray, start_ray
from experiment.errors import RunError, UserError
from experiment.plan import Plan, plan_of
from experiment.records import RunFolder, Summary, is_finished, read_summary, settings_of

if TYPE_CHECKING:  # PyTorch and Flower are imported while Ray starts
    from flwr.clientapp import ClientApp
    from flwr.serverapp import Grid
    from rich.progress import Progress

    from experiment.prepare import Setup, Sources
    from experiment.study import Job, StudyFolder


def main(arguments: list[str], client_app: ClientApp | None = None) -> int:
    """Run what the arguments ask for; returns the exit code: 0, 1 (the run failed) or 2 (it cannot be)."""
    if sys.stdout is not None:
        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal without µ must not end a run
    try:
        if not arguments or "--list" in arguments:
            from experiment.report import console_on, print_list

            print_list(console_on())
        else:
            _run_command(parse_command(arguments), client_app)
    except UserError as error:
        _say(error)
        return error.exit_code
    except RunError as error:
        _say(error)
        end_now(error.exit_code)  # the server's thread may wait for clients that will never come
    return 0


def _run_command(command: Command, client_app: ClientApp | None) -> None:
    if command.flags.resume:
        resume(command, client_app)
    elif plan := plan_of(command):
        run_study(plan, client_app)
    else:
        simulate(command.flags.experiment, client_app)


def simulate(experiment: Experiment, client_app: ClientApp | None = None, stopped: Path | None = None) -> None:
    """Prepare, run and report one experiment, its clients running ``client_app`` (default: ``clients.app``'s).

    Ray starts in this thread (it wants its signal handlers in the main one) while another imports PyTorch, checks the
    settings and loads the data. ``stopped`` is the folder of a run that is to go on.

    Raises:
        UserError: it cannot be; nothing was written.
        RunError: it failed on the way; the finished rounds are in the run folder.
    """
    import ray  # noqa: F401  # alone: two imports at once only hold each other up

    with Chatter() as chatter, ThreadPoolExecutor(1) as aside:
        preparing = aside.submit(_prepared, lambda sources: _prepare(experiment, sources, stopped), chatter)
        try:
            resources = start_ray(experiment)
        finally:
            refused = preparing.exception()
        if refused is not None:
            raise refused
        setup, _ = preparing.result()
        folder = RunFolder(stopped, again=True) if stopped else RunFolder.of(setup.experiment)
        chatter.keep_in(folder.path / "log.txt")
        with _told_of_failure(folder.path / "log.txt", folder.path, folder.discard if not stopped else None):
            _run_one(setup, folder, resources, client_app, chatter)
        folder.release()


def resume(command: Command, client_app: ClientApp | None = None) -> None:
    """Let a stopped run go on; of a finished one, print the table again.

    Raises:
        UserError: flags that would make it another run, or a folder that cannot go on.
    """
    flags, folder = command.flags, Path(command.flags.resume)
    defaults = command.scenario.experiment
    given = [name for name in SETTINGS if getattr(flags.experiment, name) != getattr(defaults, name)]
    given += [name for name in ("sweep", "repeats") if getattr(flags, name)] + ["scenario"] * bool(
        command.scenario.source
    )
    other = [f"--{name.replace('_', '-')}" for name in given if name not in RESUMABLE]
    if other:
        raise UserError(f"--resume {folder}: goes with none of {', '.join(other)}; the run's own config.toml counts")
    experiment = dataclasses.replace(
        settings_of(folder), **{name: getattr(flags.experiment, name) for name in RESUMABLE}
    )
    if is_finished(folder):
        from experiment.report import console_on, print_results

        print_results(console_on(), folder, read_summary(folder))
    else:
        simulate(experiment, client_app, folder)


def run_study(plan: Plan, client_app: ClientApp | None = None) -> None:
    """Run what is not done of a study, all on one engine, and report it.

    Raises:
        UserError: one of its runs cannot be; nothing was run.
        RunError: a run failed; it and the finished ones are in the study's folder, and the same command goes on from there.
    """
    import ray  # noqa: F401

    from experiment.report import console_on, finish_study

    with Chatter() as chatter:
        (folder, jobs), sources = _prepared(lambda sources: _prepare_study(plan, sources), chatter)
        chatter.keep_in(folder.path / "log.txt")
        todo = [job for job in dict.fromkeys(jobs.values()) if not is_finished(job.folder)]
        folder.write_plan(plan, jobs)
        with _told_of_failure(folder.path / "log.txt", folder.path, None):
            if todo:
                _run_all(todo, list(dict.fromkeys(jobs.values())), folder, sources, client_app, chatter)
            folder.write_results(dict.fromkeys(jobs.values()))
            finish_study(console_on(chatter.out), folder.path)
        folder.release()


def _prepared(work: Callable[[Sources], object], chatter: Chatter) -> tuple[object, Sources]:
    from experiment.prepare import Sources
    from experiment.report import console_on, notice

    sources = Sources(lambda text: notice(console_on(chatter.out), text))
    try:
        done = work(sources)
        import flwr.simulation  # noqa: F401  # what the run will need

        import server  # noqa: F401
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}") from None
    return done, sources


def _prepare(experiment: Experiment, sources: Sources, stopped: Path | None) -> Setup:
    from experiment.prepare import prepare

    return prepare(experiment, sources, stopped)


def _prepare_study(plan: Plan, sources: Sources) -> tuple[StudyFolder, dict[Experiment, Job]]:
    from experiment.study import StudyFolder, jobs_of, study_path

    jobs = jobs_of(plan, study_path(plan), sources)
    return StudyFolder(study_path(plan)), jobs


@contextlib.contextmanager
def _told_of_failure(log: Path, folder: Path, discard: Callable[[], None] | None):  # noqa: ANN202
    """What nobody foresaw becomes a RunError, its traceback in the log; a refusal undoes the folder."""
    try:
        yield
    except UserError:
        if discard:
            discard()
        raise
    except RunError:
        raise
    except Exception as error:
        with contextlib.suppress(OSError), log.open("a", encoding="utf-8") as file:
            traceback.print_exception(error, file=file)
        raise RunError(f"unexpected {type(error).__name__}: {error}; what is done is in {folder}") from error


def _run_one(
    setup: Setup, folder: RunFolder, resources: dict[str, int | float], client_app: ClientApp | None, chatter: Chatter
) -> None:
    from experiment.report import ProgressListener, console_on, finish_run, print_results
    from server import federate

    finished: list[Future[None]] = []
    here = not setup.experiment.ray_address
    listener = ProgressListener(console_on(chatter.out), setup.experiment)

    def close(summary: Summary) -> None:
        listener.progress.stop()
        finish_run(folder, summary)
        print_results(console_on(chatter.out), folder.path, summary)

    def serve(grid: Grid) -> None:
        finished.append(closing.submit(close, federate(grid, setup, folder, listener, clients_are_here=here)))

    with listener.progress, ThreadPoolExecutor(1) as closing:  # draws the figures while the engine winds down
        _on_engine(resources, setup.experiment.clients, client_app, serve, listener.progress, folder.path, chatter)
        finished[0].result()


def _run_all(
    todo: list[Job],
    jobs: list[Job],
    folder: StudyFolder,
    sources: Sources,
    client_app: ClientApp | None,
    chatter: Chatter,
) -> None:
    """One run after the other; the figures of each are drawn while the next one trains."""
    from experiment.prepare import prepare
    from experiment.report import StudyListener, console_on, finish_run
    from server import federate

    largest = max(
        (job.experiment for job in todo), key=lambda experiment: (actor_count(experiment), experiment.clients)
    )
    listener = StudyListener(console_on(chatter.out), [job.experiment for job in jobs], len(jobs) - len(todo))
    closed: list[Future[None]] = []

    def close(run: RunFolder, summary: Summary) -> None:
        finish_run(run, summary)
        run.release()
        folder.write_results(jobs)

    def serve(grid: Grid) -> None:
        for job in todo:
            began, stopped = time.time(), job.stopped
            setup = prepare(job.experiment, sources, stopped)
            run = RunFolder(job.folder, again=bool(stopped))
            listener.run_began(setup.experiment)
            summary = federate(
                grid, setup, run, listener, clients_are_here=not setup.experiment.ray_address, began=began
            )
            listener.run_finished(summary)
            for done in closed:
                done.result()
            closed[:] = [closing.submit(close, run, summary)]

    with listener.progress, ThreadPoolExecutor(1) as closing:
        resources = start_ray(largest)
        clients = max(job.experiment.clients for job in todo)
        _on_engine(resources, clients, client_app, serve, listener.progress, folder.path, chatter)
        for done in closed:
            done.result()


def _on_engine(
    resources: dict[str, int | float], clients: int, client_app: ClientApp | None, serve: Callable[[Grid], None],
    progress: Progress, folder: Path, chatter: Chatter,
) -> None:  # fmt: skip
    from clients.app import app
    from experiment.report import console_on, error_line

    def failed(error: BaseException) -> None:
        traceback.print_exception(error)  # to log.txt
        if not is_ending():
            progress.stop()
            console_on(chatter.error).print(error_line(error, folder), soft_wrap=True)
        end_now(error.exit_code if isinstance(error, UserError) else RunError.exit_code)

    run_on_ray(resources, clients, client_app or app, serve, failed)


def _say(error: UserError | RunError) -> None:
    from experiment.report import console_on, error_line

    console_on(stderr=True).print(error_line(error), soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
