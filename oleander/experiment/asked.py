"""What a command line asks for, on this machine: ``--dataset auto`` is settled first, since a dataset brings settings with it."""

from collections.abc import Callable

from oleander.experiment.checks import check_without_data
from oleander.settings.cli import Command, Flags, parse_command
from oleander.settings.config import Experiment
from oleander.settings.plan import Plan, plan_of
from oleander.system.display import doing
from oleander.system.foreign import refusing


def asked(
    arguments: list[str], notify: Callable[[str], None], kind: type[Flags] = Flags
) -> tuple[Command, Plan | None]:
    """The command, and the study that it is, if it is one; none of their runs has the dataset ``auto``.

    Args:
        arguments: the command line.
        notify: is told in one sentence where CIFAR-10 could not be had.
        kind: of Flags, as ``parse_command`` takes it.

    Raises:
        UserError: what cannot be, told before anything is downloaded.
    """

    def read(auto: str) -> tuple[Command, Plan | None]:
        with refusing("command line"):
            command = parse_command(arguments, kind, auto)
            return command, None if command.flags.resume is not None else plan_of(command)

    return settled(read, notify)


def settled(
    read: Callable[[str], tuple[Command, Plan | None]], notify: Callable[[str], None]
) -> tuple[Command, Plan | None]:
    """The same of what is read by a function of what ``auto`` stands for; raises what that raises."""
    command, plan = read("auto")
    if command.flags.resume is not None:
        return command, plan
    runs = plan.experiments() if plan else [command.flags.experiment]
    if plan is None:  # of a study's runs it is said which one cannot be
        check_without_data(runs[0])
    if all(run.dataset != "auto" for run in runs):
        return command, plan
    return read(_settled(runs, notify))


def asked_run(read: Callable[[str], Experiment], notify: Callable[[str], None]) -> Experiment:
    """The same of a single run, which is read by a function of what ``auto`` stands for; raises what that raises."""
    experiment = read("auto")
    return experiment if experiment.dataset != "auto" else read(_settled([experiment], notify))


def _settled(runs: list[Experiment], notify: Callable[[str], None]) -> str:
    """What ``auto`` stands for; asked once no other setting of theirs can be at fault."""
    with doing("importing PyTorch"):
        from oleander.datasets.sources import chosen  # brings PyTorch, for which no refusal above should have to wait
        from oleander.experiment.prepare import check_settings

    waiting = [run for run in runs if run.dataset == "auto"]
    for run in waiting:
        check_settings(run)
    with doing("looking for CIFAR-10"):
        return chosen(waiting[0].data_dir, notify)
