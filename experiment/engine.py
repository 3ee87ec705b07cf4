"""Flower's Ray-backed simulation engine, started with the resources of the experiment and ended with nothing left behind."""

import math
import sys
from collections.abc import Callable
from typing import Any

from flwr.app import Context
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from experiment.config import Experiment
from experiment.errors import RunError, UserError
from experiment.processes import end_on_signals
from learning.devices import cpu_count


def run_on_ray(
    experiment: Experiment,
    client_app: ClientApp,
    serve: Callable[[Grid], None],
    failed: Callable[[BaseException], None],
) -> None:
    """Run ``serve`` as the server of a simulated network of ``experiment.clients`` clients.

    Args:
        experiment: how many clients, and what each takes of the machine.
        client_app: what each client runs; importable where the actors are.
        serve: the server; runs in a thread of this process.
        failed: called in that thread when ``serve`` raises; it must end the process, since the engine itself would wait
            for clients that still train.

    Raises:
        UserError: no Ray cluster at ``--ray-address``.
        RunError: the engine itself failed.
    """
    from flwr.simulation import run_simulation

    server_app = ServerApp()

    @server_app.main()
    def main(grid: Grid, context: Context) -> None:
        try:
            serve(grid)
        except BaseException as error:  # told to the user, whatever it is
            failed(error)
            raise

    resources = start_ray(experiment)
    end_on_signals()  # Ray has put handlers of its own over ours
    try:
        run_simulation(
            server_app, client_app, experiment.clients, backend_config={"client_resources": resources, "init_args": {}}
        )
    except Exception as error:
        raise RunError(f"Flower's simulation engine failed: {error}; the run folder's log.txt says more") from error


def start_ray(experiment: Experiment) -> dict[str, int | float]:
    """Start Ray, or join the cluster at ``--ray-address``; returns what each client's actor takes of it.

    A dead actor is restarted (Flower would hand it further clients for ever); what it was doing is reported as failed.
    """
    import ray

    common: dict[str, Any] = {
        "include_dashboard": False,
        "log_to_driver": False,
        "logging_level": "ERROR",
        "runtime_env": {"env_vars": {"PYTHONPATH": ":".join(path for path in sys.path if path)}},
    }
    if experiment.ray_address:
        del common["include_dashboard"]
        try:
            ray.init(address=experiment.ray_address, **common)
        except (ConnectionError, RuntimeError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise UserError(
                f"--ray-address {experiment.ray_address}: no Ray cluster there ({reason}); "
                "start one with `ray start --head`, or leave the flag out"
            ) from None
        gpus = float(experiment.client_gpus or 0)
    else:
        import torch

        actors = actor_count(experiment)
        cuda = torch.cuda.device_count()
        gpus = (cuda / actors if cuda else 0.0) if experiment.client_gpus is None else experiment.client_gpus
        ray.init(num_cpus=math.ceil(actors * experiment.client_cpus), num_gpus=cuda, **common)
    return {"num_cpus": experiment.client_cpus, "num_gpus": gpus, "max_restarts": -1}


def actor_count(experiment: Experiment) -> int:
    """Clients that train at the same time: as many as the CPUs carry, at most those of a round."""
    if experiment.actors:
        return experiment.actors
    return max(1, min(int(cpu_count() / experiment.client_cpus), experiment.clients_per_round))
