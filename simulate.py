"""Run a scenario in Flower's Ray-backed simulation engine: ``python simulate.py --scenario dba``.

Without arguments, or with ``--list``, prints what there is to run; ``--help`` prints every setting. From Python::

    from simulate import run, study
"""

from __future__ import annotations

import os
import sys

ENVIRONMENT = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    "THP_MEM_ALLOC_ENABLE": "1",  # PyTorch asks for huge pages: fewer page faults for every activation
}
"""Of a run's process, where the user has not set it; a program that imports this module keeps its own."""

from oleander.system.console import NOTICES, console_on, notice, say_error
from oleander.system.display import begin_display, close_display, display_on, doing, started
from oleander.system.output import REPLACING, hold_up_nothing
from oleander.system.processes import Chatter, end_now, end_on_signals
from oleander.system.proxies import talk_to_nobody_else


def _begin() -> None:
    """This process is a run's alone; before the imports, which take seconds, and some of which read the environment."""
    _set_environment()
    talk_to_nobody_else()
    hold_up_nothing()
    end_on_signals()
    begin_display()


def _set_environment() -> None:
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


if __name__ == "__main__":
    _begin()

import contextlib
import functools
import io
import json
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from oleander.experiment.asked import asked, settled
from oleander.experiment.engine import cluster_address, running_ray
from oleander.experiment.own_ray import set_login
from oleander.experiment.records import (
    LOG,
    RunFolder,
    Summary,
    check_finished,
    is_finished,
    read_environment,
    read_summary,
    taken_up,
)
from oleander.experiment.remaining import left_of_run, left_of_study
from oleander.settings import completion
from oleander.settings.cli import Command, is_asked, parse_command
from oleander.settings.config import Experiment
from oleander.settings.plan import Plan, plan_of
from oleander.system import itself
from oleander.system.cache import nothing_kept
from oleander.system.environment import called_as, versions_in_words
from oleander.system.errors import RunError, UserError
from oleander.system.remains import leaving

__all__ = ["main", "run", "study"]

if TYPE_CHECKING:  # PyTorch and Flower are imported while Ray starts
    from flwr.clientapp import ClientApp
    from rich.console import Console

    from oleander.calls.functions import run, study
    from oleander.experiment.prepare import Setup, Sources
    from oleander.experiment.study import Job

Prepared = TypeVar("Prepared")


def __getattr__(name: str) -> Any:
    """``run`` and ``study``, which bring NumPy: no command line should have to wait for it."""
    if name not in ("run", "study"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from oleander.calls import functions

    return getattr(functions, name)


def main(arguments: list[str], client_app: ClientApp | None = None) -> int:
    """Run what the arguments ask for; returns the exit code: 0, 1 (the run failed) or 2 (it cannot be)."""
    _set_environment()
    if isinstance(sys.stdout, io.TextIOWrapper):  # where main() is called by another program
        sys.stdout.reconfigure(errors=REPLACING)  # a terminal without µ must not end a run

    def work() -> None:
        if is_asked("version", arguments):
            print(versions_in_words())
        elif any(word.partition("=")[0] == "--report" for word in arguments):
            show_report(arguments)
        elif arguments[:1] == [completion.FLAG]:
            show_completion(arguments)
        elif not arguments or any(word.partition("=")[0] == "--list" for word in arguments):
            show_list(console_on(), arguments)
        else:
            dry = is_asked("dry-run", arguments)
            with nothing_kept() if dry else contextlib.nullcontext():
                command, plan = asked(arguments, lambda text: notice(console_on(), text))
                started()
                with _no_other_end():
                    (_say_what_would_run if dry else _run_command)(command, plan, client_app)

    return _exit_code(work)


def called() -> int:
    """Carry out a call of ``run`` or ``study``, which ``oleander.calls.process`` hands in as a line; end when its caller does."""
    _begin()
    from oleander.settings.call import Call, command_of

    told = json.loads(sys.stdin.readline())
    notices = Path(told.pop("notices"))

    def wait_for_the_end() -> None:
        while os.read(0, 1):  # by the descriptor: a lock on sys.stdin would hold up the end of this process
            pass
        end_now(RunError.exit_code)

    threading.Thread(target=wait_for_the_end, daemon=True).start()

    def work() -> None:
        call = Call(**told)
        called_as(call.text)

        def read(auto: str) -> tuple[Command, Plan | None]:
            command = command_of(call, auto)
            return command, plan_of(command) if call.name == "study" else None

        command, plan = settled(read, lambda text: notice(console_on(), text))
        started()
        with _no_other_end():
            _run_command(command, plan, None)
        notices.write_text(json.dumps(NOTICES), "utf-8")

    return _exit_code(work)


@contextlib.contextmanager
def _no_other_end() -> Iterator[None]:
    """A run ends in ways of its own; ``sys.exit`` is a plug-in's, and would pass for the end of the run.

    Raises:
        UserError: names the line that called it.
    """
    try:
        yield
    except SystemExit as error:
        frames = traceback.extract_tb(error.__traceback__)
        last = [frame for frame in frames if not frame.filename.startswith("<")][-1]  # quit() has one of its own
        raise UserError(f"{last.filename}, line {last.lineno}: SystemExit: a plug-in may not end the program") from None


def _exit_code(work: Callable[[], None]) -> int:
    try:
        work()
    except UserError as error:
        say_error(error)
        return error.exit_code
    except RunError as error:
        say_error(error)
        end_now(error.exit_code)  # the server's thread may wait for clients that will never come
    finally:
        close_display()
    return 0


def show_list(console: Console, arguments: list[str]) -> None:
    """What there is to run; after ``--list NAME`` that plug-in whole.

    Raises:
        UserError: an unknown name, or more than one.
    """
    from oleander.reports.listing import print_list, print_plugin

    words = [word.removeprefix("--list=") for word in arguments if word != "--list"]
    if len(words) > 1 or (words and words[0].startswith("-")):
        raise UserError(f"--list {' '.join(words)}: wanted one name, or none")
    print_plugin(console, words[0]) if words else print_list(console)


def show_report(arguments: list[str]) -> None:
    """What ``--report DIR… [--out DIR]`` asks for.

    Raises:
        UserError: it is not alone, or a folder is no finished run's and no study's.
    """
    folders, out, words = [], "", iter(arguments)
    for word in words:
        name, equals, value = word.partition("=")
        if name == "--report":
            folders += [value] * bool(equals)
        elif name == "--out":
            out = value if equals else next(words, "")
            if not out or out.startswith("-"):
                raise UserError(f"--out {out}: wanted the folder of a report")
        elif word.startswith("-"):
            raise UserError(f"--report: {word}: wanted folders of runs or of studies, and no other flag but --out")
        else:
            folders.append(word)
    from oleander.reports.again import report_again

    report_again(folders, out, console_on())


def show_completion(arguments: list[str]) -> None:
    """The script by which a shell completes this command, and server's and client's.

    Raises:
        UserError: no shell that is known.
    """
    import server
    from oleander.network import client

    writers: dict[itself.Part, completion.Writer] = {
        "simulate": parse_command,
        "server": server.main,
        "client": client.main,
    }
    print(completion.completion_script(arguments, writers))


def _say_what_would_run(command: Command, plan: Plan | None, _app: ClientApp | None) -> None:
    if command.flags.resume is not None:
        raise UserError(f"--resume {command.flags.resume}: goes with none of --dry-run")
    from oleander.reports.dry import dry_run

    try:
        dry_run(command.flags.experiment, plan, console_on(), lambda text: notice(console_on(), text))
    except OSError as error:
        raise UserError.of(error) from None


def _run_command(command: Command, plan: Plan | None, client_app: ClientApp | None) -> None:
    if command.flags.resume is not None:
        resume(command, client_app)
    elif plan:
        run_study(plan, client_app)
    else:
        simulate(command.flags.experiment, client_app)


def simulate(experiment: Experiment, client_app: ClientApp | None = None, stopped: RunFolder | None = None) -> None:
    """Prepare, run and report one experiment, its clients running ``client_app`` (default: ``clients.app``'s).

    Ray starts in this thread (it wants its signal handlers in the main one) while another imports PyTorch, checks the
    settings and loads the data. ``stopped`` is the folder of a run that is to go on.

    Raises:
        UserError: it cannot be; nothing was written.
        RunError: it failed on the way; the finished rounds are in the run folder.
    """
    told = set_login(experiment.ray_address)
    with (
        Chatter() as chatter,
        display_on(console_on(chatter.out)),
        ThreadPoolExecutor(1) as aside,
        contextlib.ExitStack() as engine,
    ):
        if stopped:
            engine.enter_context(leaving(functools.partial(left_of_run, stopped.path, experiment.rounds)))
        with doing("importing Ray"):
            import ray  # noqa: F401  # alone: two imports at once only hold each other up
        if told:
            notice(console_on(chatter.out), told)
        work = functools.partial(_setup, experiment, stopped.path if stopped else None)
        preparing = aside.submit(_prepared, work, chatter)
        try:
            ray_up = engine.enter_context(running_ray(experiment))
        finally:
            if (refused := preparing.exception()) is not None:
                raise refused  # also where Ray did not start: what cannot be is said first
        from oleander.experiment.runner import run_one, told_of_failure
        from oleander.reports.tables import DRAWING, finish_run, print_results

        setup = preparing.result()
        folder = stopped or RunFolder.of(setup.experiment)
        left = functools.partial(left_of_run, folder.path, setup.experiment.rounds)
        with leaving(left), told_of_failure(folder.path / LOG, folder.path, folder.discard if not stopped else None):
            chatter.keep_in(folder.path / LOG)

            def finish(run: RunFolder, summary: Summary) -> None:
                with doing(DRAWING):
                    finish_run(run, summary)
                print_results(console_on(chatter.out), run.path, summary)

            run_one(setup, folder, ray_up, client_app, chatter, finish)
        folder.release()


def resume(command: Command, client_app: ClientApp | None = None) -> None:
    """Let a stopped run go on; of a finished one, print the table again.

    Raises:
        UserError: flags that would make it another run, or a folder that cannot go on.
    """
    experiment, folder = taken_up(command)
    if is_finished(folder.path):
        from oleander.reports.tables import print_results

        folder.release()
        print_results(console_on(), folder.path, read_summary(folder.path))
    else:
        simulate(experiment, client_app, folder)


def run_study(plan: Plan, client_app: ClientApp | None = None) -> None:
    """Run what is not done of a study, all on one engine, and report it.

    Raises:
        UserError: one of its runs cannot be; nothing was run.
        RunError: a run failed; it and the finished ones are in the study's folder, and the same command goes on from there.
    """
    from oleander.experiment.runner import run_all, told_of_failure
    from oleander.experiment.study import StudyFolder, has_page, jobs_of, study_path
    from oleander.reports.aside import drawing_aside
    from oleander.reports.tables import finish_run, finish_study

    told = set_login(plan.experiments()[0].ray_address)
    begun = functools.partial(left_of_study, study_path(plan), (), counted=False)
    with Chatter() as chatter, display_on(console_on(chatter.out)), leaving(begun):
        if told:
            notice(console_on(chatter.out), told)
        jobs, sources = _prepared(lambda sources: (jobs_of(plan, study_path(plan), sources), sources), chatter)
        address = plan.experiments()[0].ray_address
        if address:
            cluster_address(address)  # before anything is written
        runs = list(dict.fromkeys(jobs.values()))
        for run in runs:
            if is_finished(run.folder):
                check_finished(run.folder)
        folder = StudyFolder(study_path(plan))
        left = functools.partial(left_of_study, folder.path, [run.folder for run in runs])
        with leaving(left), told_of_failure(folder.path / LOG, folder.path, None):
            chatter.keep_in(folder.path / LOG)
            folder.write_plan(plan, jobs)
            _say_what_is_old(folder.path, runs, chatter)
            todo = [run.experiment for run in runs if not is_finished(run.folder)]
            if todo:
                with drawing_aside(sum(has_page(experiment.pages, len(runs)) for experiment in todo)) as draw:
                    finish = functools.partial(finish_run, of=len(runs), draw=draw)
                    run_all(runs, folder, sources, client_app, chatter, finish)
            folder.write_results(runs)
            finish_study(console_on(chatter.out), folder.path)
        folder.release()


def _say_what_is_old(folder: Path, runs: list[Job], chatter: Chatter) -> None:
    """Finished runs are kept; where the program or its libraries are others now, that must be known."""
    from oleander.experiment.study import changed_plugins
    from oleander.system.environment import differences, environment

    now = environment("", None, 0)
    old = [read_environment(run.folder) for run in runs if is_finished(run.folder)]
    for text in changed_plugins(folder, runs):
        notice(console_on(chatter.out), text)
    changed = sorted({name for then in old for name in differences(then, now, ("commit", "packages"))})
    if changed:
        notice(
            console_on(chatter.out),
            f"Finished runs are kept although this program's {' and '.join(changed)} changed since; another --out runs all anew.",
        )


def _prepared(work: Callable[[Sources], Prepared], chatter: Chatter) -> Prepared:
    """What ``work`` prepares, and the imports that a run will need."""
    with doing("importing PyTorch"):
        from oleander.experiment.prepare import Sources

    try:
        with doing("checking the settings"):
            done = work(Sources(lambda text: notice(console_on(chatter.out), text)))
        with doing("importing Flower"):
            import flwr.simulation  # noqa: F401

            import oleander.experiment.runner  # noqa: F401
    except OSError as error:
        raise UserError.of(error) from None
    return done


def _setup(experiment: Experiment, stopped: Path | None, sources: Sources) -> Setup:
    from oleander.experiment.prepare import prepare

    return prepare(experiment, sources, stopped)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
