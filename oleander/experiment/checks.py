"""What can be refused before PyTorch is imported: numbers that contradict each other, files that are not there."""

import os
from pathlib import Path

from oleander.experiment.records import check_free
from oleander.settings.config import Experiment
from oleander.settings.declared import declared
from oleander.system.errors import UserError
from oleander.system.files import absolute
from oleander.system.foreign import open_regular, refusing
from oleander.system.machine import cpu_count

MOST_FILE = 2**62
"""Whoever reads it sets a bound of its own."""


def check_without_data(experiment: Experiment) -> None:
    """Refuse what cannot be, as far as that can be told without the data, and without an import that takes seconds.

    Raises:
        UserError: says the value, the rule and the known alternatives.
    """
    check_counts(experiment)
    if experiment.out:
        check_free(absolute(experiment.out))
    check_files(experiment)


def check_files(experiment: Experiment) -> None:
    """Refuse files of plug-ins that cannot be opened: reading them waits for the data, since a picture is fitted to the images.

    Raises:
        UserError: names the setting and the file.
    """
    for name, path in experiment.own:
        if declared()[name].is_path and path:
            with refusing(f"--{name.replace('_', '-')} {path}"):
                if declared()[name].is_folder:
                    os.scandir(path).close()
                else:
                    os.close(open_regular(Path(path), MOST_FILE))


def check_counts(experiment: Experiment) -> None:
    """Refuse numbers that contradict each other or the machine.

    Raises:
        UserError: names the settings, their values and the rule.
    """
    e = experiment
    if e.malicious > e.clients:
        raise UserError(f"--malicious {e.malicious}: more than --clients {e.clients}")
    if e.clients_per_round > e.clients:
        raise UserError(f"--clients-per-round {e.clients_per_round}: more than --clients {e.clients}")
    if (e.min_clients or 0) > e.clients:
        raise UserError(f"--min-clients {e.min_clients}: more than --clients {e.clients}")
    if e.malicious and e.attack == "none":
        raise UserError(f"--malicious {e.malicious}, but --attack none: name an attack, or set --malicious 0")
    cpus = cpu_count()
    if not e.ray_address and e.client_cpus * (e.actors or 1) > cpus:
        asked = (
            f"--actors {e.actors} x --client-cpus {e.client_cpus:g}" if e.actors else f"--client-cpus {e.client_cpus:g}"
        )
        raise UserError(f"{asked}: more than this machine's {cpus} CPUs, so no client could ever start")
    gpus = _gpus() if e.client_gpus else 0
    if not e.ray_address and (e.client_gpus or 0) * (e.actors or 1) > gpus:
        raise UserError(
            f"--client-gpus {e.client_gpus:g}: more than this machine's {gpus} GPUs, so no client could ever start"
        )
    if e.ray_address and e.actors:
        raise UserError(
            f"--actors {e.actors} with --ray-address: a running cluster's CPUs decide how many clients train at once"
        )


def _gpus() -> int:
    from oleander.learning.devices import gpu_count  # PyTorch counts them

    return gpu_count()
