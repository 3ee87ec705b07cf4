"""``--dry-run``: what a command line would run, about how long it would take and how much memory. Nothing is run or written.

Settings, images and starting models are checked as for a real run. What a cache lacks is made in a folder that is gone afterwards.
"""

import os
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from oleander.experiment.engine import actor_count, cluster_address
from oleander.experiment.estimate import Measured, estimate, key_of, measured, scored_images, scorings, steps_of
from oleander.experiment.prepare import Setup, Sources, prepare
from oleander.experiment.records import check_finished, is_finished, read_summary, run_name
from oleander.experiment.study import Job, check_study, jobs_of, study_path
from oleander.settings.config import Experiment, shown_value
from oleander.settings.plan import Plan
from oleander.settings.steps import short_value
from oleander.settings.sweeps import varied
from oleander.system.errors import UserError
from oleander.system.numbers import count

NO_DISKS = (("/", "proc"), ("/", "sys"))
"""Folders of the kernel's own, in which nobody makes one, though the system says that root may."""
MOST_SHOWN = 200
"""Runs of a study that are named one by one."""


@dataclass(frozen=True)
class _Run:
    folder: Path
    experiment: Experiment
    state: str
    """finished, stopped, or to run."""


def dry_run(experiment: Experiment, plan: Plan | None, console: Console, notify: Callable[[str], None]) -> None:
    """Print it.

    Raises:
        UserError: it cannot be run as asked; as for a real run.
    """
    sources = Sources(notify)
    address = (plan.experiments()[0] if plan else experiment).ray_address
    if plan:
        runs = _planned(plan, sources)
    else:
        setup = prepare(experiment, sources)
        folder = Path(experiment.out or "runs") if experiment.out else Path("runs") / run_name(setup.experiment, "TIME")
        check_writable(folder)
        runs = [_Run(folder, setup.experiment, "to run")]
    if address:
        cluster_address(address)
    console.print("[bold]dry run[/]: nothing is run, and nothing is written")
    left = [run for run in runs if run.state != "finished"]
    _list(runs, left, plan, console)
    if left:
        _say_estimate(runs, left, sources, console)


def _planned(plan: Plan, sources: Sources) -> list[_Run]:
    folder = study_path(plan)
    jobs = list(dict.fromkeys(jobs_of(plan, folder, sources).values()))
    check_study(folder)
    check_writable(folder)
    for job in jobs:
        if is_finished(job.folder):
            check_finished(job.folder)
    return [_Run(job.folder, job.experiment, _state(job)) for job in jobs]


def _state(job: Job) -> str:
    return "finished" if is_finished(job.folder) else "stopped" if job.stopped else "to run"


def check_writable(folder: Path) -> None:
    """Refuse a folder that cannot be made or written to, as far as that can be told without trying.

    Raises:
        UserError: names what stands in the way.
    """
    there = folder.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK) or there.parts[:2] in NO_DISKS:
        why = "cannot be written to" if there.is_dir() else "is a file"
        raise UserError(f"--out {folder}: cannot make the folder: {there} {why}")


def _list(runs: list[_Run], left: list[_Run], plan: Plan | None, console: Console) -> None:
    first = runs[0].experiment
    if not plan:
        console.print(f"1 run, into {escape(str(runs[0].folder))}")
        console.print(escape(_settings(first)), soft_wrap=True)
        return
    finished = len(runs) - len(left)
    console.print(
        f"{count(len(runs), 'run')}, {finished} of them finished already, into {escape(str(study_path(plan)))}"
    )
    names = [*varied([run.experiment for run in runs]), "seed"]
    for run in runs[:MOST_SHOWN]:
        own = run.experiment.settings()
        values = ", ".join(f"{n} {shown_value(short_value(n, own[n]))}" for n in names if n in own)
        console.print(f"  {run.state:9} {escape(f'runs/{run.folder.name}')}  {escape(values)}", soft_wrap=True)
    if len(runs) > MOST_SHOWN:
        console.print(f"  … and {len(runs) - MOST_SHOWN} more")
    console.print(escape(f"all: {_settings(first, leave_out=names)}"), soft_wrap=True)


def _settings(experiment: Experiment, leave_out: list[str] | None = None) -> str:
    """What the run is made of, in a line."""
    names = ("scenario", "attack", "malicious", "strategy", "repair", "dataset", "model", "clients", "clients_per_round",
             "rounds", "precision", "seed")  # fmt: skip
    shown = [n for n in names if n not in (leave_out or [])]
    return ", ".join(f"{n} {shown_value(short_value(n, getattr(experiment, n)))}" for n in shown)


def _say_estimate(runs: list[_Run], left: list[_Run], sources: Sources, console: Console) -> None:
    done = [read_summary(run.folder).seconds["total"] for run in runs if run.state == "finished"]
    parts: dict[tuple[object, ...], Measured] = {}
    seconds, memory, gpu = 0.0, 0, 0
    for run in left:
        setup = prepare(run.experiment, sources, run.folder if run.state == "stopped" else None)
        key = key_of(setup)
        if key not in parts:
            parts[key] = measured(setup)
        found = estimate(setup, parts[key])
        seconds, memory, gpu = seconds + found.seconds, max(memory, found.memory), max(gpu, found.gpu)
    if len(left) == 1:
        console.print(_in_words(setup, parts[key]))
    if left[0].experiment.ray_address:
        console.print("how long: not estimated, since the cluster's other machines were not measured")
    elif done:
        each = statistics.median(done)
        console.print(f"about {duration(each * len(left))}: {_took(len(done), each)}")
    else:
        console.print(
            f"about {duration(seconds)} of training and scoring: an estimate, from a few steps and scorings measured here, as "
            "busy as this machine is; Ray's start, figures, and what attacks and defences do besides come on top"
        )
    graphics = f", and {size(gpu)} of the GPU's" if gpu else ""
    console.print(
        f"about {size(memory)} of memory{graphics}: an estimate, from what this process holds after those steps, for the server and "
        f"{count(actor_count(left[0].experiment), 'client')} at work; Ray's own processes come on top"
    )


def _in_words(setup: Setup, part: Measured) -> str:
    e = setup.experiment
    return (
        f"{count(e.rounds, 'round')} of {count(e.clients_per_round, 'client')}, {actor_count(e)} at a time, "
        f"{count(steps_of(setup), 'step')} each of {count(e.batch_size, 'image')} at {1000 * part.step:.1f} ms; "
        f"{count(scorings(setup), 'scoring')} of {scored_images(setup):,} images in all at {1000 * part.image:.2f} ms"
    )


def _took(runs: int, seconds: float) -> str:
    return (
        f"the finished run took {seconds:.0f} s"
        if runs == 1
        else f"the {runs} finished runs took {seconds:.0f} s each (median)"
    )


def duration(seconds: float) -> str:
    """In words, no more exact than an estimate is."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02} min"


def size(count: int) -> str:
    """Bytes in words."""
    return f"{count / 1e9:.1f} GB" if count >= 5e8 else f"{count / 1e6:.0f} MB"
