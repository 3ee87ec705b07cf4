"""``run`` and ``study``: what ``simulate.py`` does, called from Python."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from oleander.calls.process import carry_out, scratch
from oleander.calls.results import Run, Study, run_in, study_in
from oleander.experiment.records import LOCK, LOG, ROUNDS, contents, default_folder
from oleander.settings.call import Call, call_of, command_of
from oleander.settings.cli import Command
from oleander.settings.plan import Plan, plan_of
from oleander.settings.session import FOLDER
from oleander.system.errors import RunError, UserError
from oleander.system.files import absolute

Step = str | Callable[..., Any]
Steps = Step | Sequence[Step]
"""Of a strategy, an attack or a repair: names joined by +, a function, or a list of both."""
_CHECKING = threading.Lock()
"""The plug-ins from outside that a process has in use are its own, not a thread's."""


def run(
    scenario: str | Path | None = None, *, out: str | Path | None = None, resume: str | Path | None = None, verbose: bool = False,
    **settings: Any,
) -> Run:  # fmt: skip
    """Run one experiment: ``run(scenario="dba", strategy="krum", seed=1)``, as ``--scenario dba --strategy krum --seed 1``.

    It is a process of its own, with its own Ray, and comes to the same model as the command line. Its folder is a new one
    below ``runs/`` in the current folder, as the command line's, unless ``out`` names another. Interrupted (Ctrl-C, a
    notebook's stop button), it ends at once, and its finished rounds are in its folder.

    Args:
        scenario: a name in ``scenarios/``, or the path of a TOML file of your own; without one, the defaults.
        out: the run's folder; must be new or empty.
        resume: the folder of a stopped run that is to go on; goes with no other setting but ``actors``, ``client_cpus`` and
            ``ray_address``. Of a run that is finished, its results.
        verbose: print what the command line prints.
        settings: any of ``config.toml``, plug-ins' own among them, by their names (``simulate.py --help`` lists them). Where
            plug-ins are named (``strategy``, ``attack``, ``repair``, ``model``, ``dataset``) a function of yours may stand, such as
            one that a notebook's cell defines, or for the first three a list: ``strategy=["clip", my_rule]``. The function's source
            is part of what the run is known by, with what it uses of the session: imports, functions, classes, numbers, texts and
            tuples; what it prints is in ``log.txt``. Such a run cannot be resumed.

    Raises:
        UserError: what cannot be; nothing was run.
        RunError: the run failed on the way; its finished rounds are in its folder.
    """
    with scratch() as folder:
        if out is not None:
            settings["out"] = out
        call, command, _ = _checked("run", folder, scenario, settings, resume=resume)
        made = None
        if resume is not None:
            path = absolute(str(resume))
        elif command.flags.experiment.out:
            path = absolute(command.flags.experiment.out)
        else:
            path = made = default_folder(command.flags.experiment, time.time())
            call.settings["out"] = str(path)
        with _tidied(made), _noted(path, folder):
            notices = carry_out(call, folder, verbose)
        return run_in(path, (*_of_the_session(folder), *notices))


def study(
    scenario: str | Path | None = None, *, sweep: Mapping[str, Sequence[Any]] | None = None, repeats: int | None = None,
    out: str | Path | None = None, verbose: bool = False, **settings: Any,
) -> Study:  # fmt: skip
    """Run many settings with several seeds each: ``study(scenario="blend", sweep={"strategy": ["fedavg", "krum"]}, repeats=3)``.

    Its folder is ``runs/<scenario>-<what is swept>``, as the command line's, unless ``out`` names another. Called again it keeps
    what is finished, goes on with what was stopped, and runs what is new. Functions and notices are as ``run``'s.

    Args:
        scenario: a name in ``scenarios/`` (a study such as ``course`` has its own sweeps), or the path of a TOML file.
        sweep: setting → its values; several multiply.
        repeats: runs of each setting, with the seeds ``seed``, ``seed`` + 1 … (default: 1, or what the scenario says).
        out: the study's folder; may hold what is finished of it.
        verbose: print what the command line prints.
        settings: as ``run``'s, for all.

    Raises:
        UserError: what cannot be; nothing was run.
        RunError: a run failed; it and the finished ones are in the study's folder, and the same call goes on from there.
    """
    if "resume" in settings:
        raise UserError("study: resume: a stopped study goes on when it is called again")
    with scratch() as folder:
        if out is not None:
            settings["out"] = out
        call, _, plan = _checked("study", folder, scenario, settings, sweep=sweep, repeats=repeats)
        assert plan is not None
        path = study_folder(plan)
        with _noted(path, folder, again="the same call goes on"):
            notices = carry_out(call, folder, verbose)
        return study_in(path, (*_of_the_session(folder), *notices))


def study_folder(plan: Plan) -> Path:
    """As ``oleander.experiment.study`` has it, whose imports take seconds."""
    return absolute(plan.out) if plan.out else Path("runs").resolve() / plan.kind


def _checked(
    name: str, folder: Path, scenario: Any, settings: dict[str, Any], **more: Any
) -> tuple[Call, Command, Plan | None]:
    """The call, the command that it is, and a study's plan; each setting is checked."""
    try:
        with _CHECKING:
            call = call_of(name, folder, scenario, settings, **more)
            command = command_of(call)
            plan = plan_of(command) if name == "study" else None
    except UserError as error:  # a file of a function's is the call's own, and says nothing to anybody
        raise UserError(str(error).replace(f"{folder / FOLDER}/", "")) from None
    experiment = command.flags.experiment
    trained = f"{experiment.attack} {experiment.model} {experiment.dataset}"
    if experiment.ray_address and FOLDER in trained:
        raise UserError(
            f"--ray-address {experiment.ray_address}: other machines have no function of this Python session, which clients "
            "would run; write it to a file that each of them has"
        )
    return call, command, plan


def _of_the_session(folder: Path) -> list[str]:
    """A notice for each function of the session."""
    return [
        f"{file.stem} is a function of this Python session; its source is in the run's folder ({FOLDER}/{file.name}), and the run "
        "cannot be resumed, nor run again by its config.toml"
        for file in sorted((folder / FOLDER).glob("*.py"))
    ]


@contextmanager
def _tidied(made: Path | None) -> Iterator[None]:
    """A folder that was made for a run goes again where the run did not begin; a failure's log stays."""
    try:
        yield
    except BaseException as error:
        if made is not None:
            with suppress(OSError):
                if not contents(made) and not isinstance(error, RunError):
                    for name in (LOG, LOCK):
                        (made / name).unlink(missing_ok=True)
                made.rmdir()  # where it is empty
                made.parent.rmdir()
        raise


@contextmanager
def _noted(path: Path, folder: Path, again: str = "") -> Iterator[None]:
    """What stops a run says where the finished rounds are, and by which call it goes on."""
    try:
        yield
    except (KeyboardInterrupt, RunError) as stopped:
        resumable = "" if (folder / FOLDER).exists() else f"; run(resume={str(path)!r}) goes on"
        if (path / ROUNDS).exists() or (again and path.exists()):
            stopped.add_note(f"what is finished is in {path}{f'; {again}' if again else resumable}")
        raise
