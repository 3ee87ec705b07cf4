"""One run, or all runs of a study, on a Ray that is up: some beside each other, and the pages of one are made while others train."""

import contextlib
import functools
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path

from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from clients.app import app
from oleander.experiment.engine import Ray, actor_count, run_on_ray, running_ray, runs_at_once
from oleander.experiment.federation import federate
from oleander.experiment.prepare import Setup, Sources, prepare
from oleander.experiment.progress import ProgressListener, StudyListener
from oleander.experiment.records import LOG, RunFolder, Summary, is_finished
from oleander.experiment.remaining import left_of_run, left_of_study
from oleander.experiment.study import Job, StudyFolder
from oleander.system.console import console_on, say_error
from oleander.system.display import display_on, doing
from oleander.system.errors import RunError, UserError
from oleander.system.files import appending
from oleander.system.processes import Chatter, end_now, is_ending, last_word
from oleander.transport.roster import SimulatedRoster

Finish = Callable[[RunFolder, Summary], None]
"""What is done with a run whose rounds are over: figures, page, summary."""
GONE = "the program has ended without a word: by Ray's own code, as where Ray's raylet died, or killed from outside (memory?)"


def run_one(
    setup: Setup, folder: RunFolder, ray: Ray, client_app: ClientApp | None, chatter: Chatter, finish: Finish
) -> None:
    """Run an experiment; ``finish`` closes it and prints its table."""
    finished: list[Future[None]] = []
    here = not setup.experiment.ray_address
    console = console_on(chatter.out)

    def serve(grid: Grid) -> None:
        summary = federate(grid, setup, folder, listener, clients_are_here=here)
        listener.over()
        finished.append(closing.submit(finish, folder, summary))

    with (
        display_on(console) as display,
        ThreadPoolExecutor(1) as closing,
    ):  # draws the figures while the engine winds down
        listener = ProgressListener(console, setup.experiment, display)
        listener.starting()
        left = functools.partial(left_of_run, folder.path, setup.experiment.rounds)
        _on_engine(ray, setup.experiment.clients_per_round, client_app, serve, left, folder.path / LOG, chatter)
        finished[0].result()


def run_all(
    jobs: list[Job],
    folder: StudyFolder,
    sources: Sources,
    client_app: ClientApp | None,
    chatter: Chatter,
    finish: Finish,
) -> None:
    """Those of the runs that are not finished, some beside each other; the runs that come first begin first."""
    todo = [job for job in jobs if not is_finished(job.folder)]
    at_once = runs_at_once([job.experiment for job in todo])
    largest = max(
        (job.experiment for job in todo), key=lambda experiment: (actor_count(experiment), experiment.clients)
    )
    console = console_on(chatter.out)
    nodes = max(job.experiment.clients_per_round for job in todo)
    waiting, one = iter(todo), threading.Lock()

    def close(run: RunFolder, summary: Summary) -> None:
        finish(run, summary)
        run.release()
        folder.write_results(jobs)

    def lane(grid: Grid, number: int) -> None:
        """One run after the other, until none is left; ``number``: which of the engine's nodes are its clients."""
        closed: Future[None] | None = None
        while True:
            with one:
                job = next(waiting, None)
                if job is None:
                    break
                began, run = time.time(), RunFolder(job.folder, again=job.folder.exists())
                setup = prepare(job.experiment, sources, job.stopped)
                watching = listener.run_began(setup.experiment)
            summary = federate(
                grid,
                setup,
                run,
                watching,
                roster=SimulatedRoster(setup.experiment, number * nodes),
                clients_are_here=not setup.experiment.ray_address,
                began=began,
            )
            watching.finished(summary)
            if closed:
                with doing("closing the run before"):
                    closed.result()
            closed = closing.submit(close, run, summary)
        if closed:
            closed.result()

    def serve(grid: Grid) -> None:
        lanes = ThreadPoolExecutor(at_once, "run")  # not left by `with`: where one fails, nobody waits for the others
        for ended in as_completed([lanes.submit(lane, grid, number) for number in range(at_once)]):
            ended.result()
        lanes.shutdown()

    with display_on(console) as display, ThreadPoolExecutor(1) as closing, running_ray(largest, at_once) as ray:
        experiments = [job.experiment for job in jobs]
        listener = StudyListener(console, experiments, len(jobs) - len(todo), display)
        listener.starting()
        left = functools.partial(left_of_study, folder.path, [job.folder for job in jobs])
        _on_engine(ray, nodes * at_once, client_app, serve, left, folder.path / LOG, chatter)
        listener.over()


def _on_engine(
    ray: Ray, nodes: int, client_app: ClientApp | None, serve: Callable[[Grid], None], left: Callable[..., str],
    log: Path, chatter: Chatter,
) -> None:  # fmt: skip
    def failed(error: BaseException) -> None:
        with contextlib.suppress(OSError):  # a full disk
            traceback.print_exception(error)  # to log.txt
        if not is_ending():
            say_error(error, chatter.error, log)
        end_now(error.exit_code if isinstance(error, UserError) else RunError.exit_code)

    with last_word(f"error: {GONE}\n{left(counted=False)}\n"):
        run_on_ray(ray, nodes, client_app or app, serve, failed)


@contextlib.contextmanager
def told_of_failure(log: Path, folder: Path, discard: Callable[[], None] | None) -> Iterator[None]:
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
        with contextlib.suppress(OSError), appending(log) as file:
            file.write("".join(traceback.format_exception(error)).encode(errors="replace"))
        raise RunError(f"unexpected {type(error).__name__}: {error}; what is done is in {folder}") from error
