"""Flower's Ray-backed simulation engine, started with the resources of the experiment and ended with nothing left behind.

Ray is started first and by itself, so that it gets up while the settings are checked and the data are loaded; hence
neither PyTorch nor Flower is imported at the top.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil

from oleander.experiment.own_ray import (
    Watch,
    check_login,
    check_loopback,
    folders_for_ray,
    watch_cluster,
    watch_processes,
    without_observers,
)
from oleander.settings.config import Experiment
from oleander.system.display import doing
from oleander.system.errors import RunError, UserError
from oleander.system.machine import cpu_count
from oleander.system.processes import end_now, end_on_signals

if TYPE_CHECKING:
    from flwr.app import Context
    from flwr.clientapp import ClientApp
    from flwr.serverapp import Grid

PRELOADED = ("torch", "flwr.simulation.ray_transport.ray_actor", "clients.app")
"""Modules that Ray's processes import while they wait for their first client."""
HANGING_SECONDS = 5.0
"""How long clients may still train when the last round is over; the engine would wait for them without end."""
MOST_AT_ONCE = 8
"""Runs of a study beside each other, unless more are asked for: their servers share a process."""
CLUSTER_SECONDS = 5.0
"""How long the head of a Ray cluster may take to answer."""


def run_on_ray(
    ray: Ray,
    nodes: int,
    client_app: ClientApp,
    serve: Callable[[Grid], None],
    failed: Callable[[BaseException], None],
) -> None:
    """Run ``serve`` as the server of a simulated network, on the Ray that is running.

    Args:
        ray: the Ray that is running, from ``running_ray``.
        nodes: how many clients may train in a round; each node is another client in each round.
        client_app: what each client runs; importable where the actors are.
        serve: the server; runs in a thread of this process.
        failed: called in that thread when ``serve`` raises, and in another when Ray dies; it must end the process, since the
            engine itself would wait for clients that still train.

    Raises:
        RunError: the engine itself failed.
    """
    from flwr.serverapp import ServerApp
    from flwr.simulation import run_simulation

    server_app = ServerApp()
    hanging = threading.Timer(HANGING_SECONDS, _end_clients)
    hanging.daemon = True

    @server_app.main()
    def main(grid: Grid, context: Context) -> None:
        try:
            serve(grid)
        except BaseException as error:  # told to the user, whatever it is
            dead = ray.watch.missing()  # then that is why: no client is to blame
            failed(RunError(dead) if dead else error)
            raise
        finally:
            ray.watch.end()  # the engine ends Ray
        with contextlib.suppress(RuntimeError):  # no thread to spare: the engine waits for its clients then
            hanging.start()

    ray.watch.start(failed)
    backend = {"client_resources": ray.resources, "init_args": {}}
    try:
        run_simulation(server_app, client_app, nodes, backend_config=backend)
    except Exception as error:
        raise RunError(f"Flower's simulation engine failed: {type(error).__name__}: {error}") from error
    finally:
        hanging.cancel()


def _end_clients() -> None:
    """Kill the clients' processes of this machine: what they do is no part of any round any more."""
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "ClientAppActor" in " ".join(process.cmdline()):
                process.kill()


@dataclass(frozen=True)
class Ray:
    """A Ray that is up."""

    resources: dict[str, int | float]
    """What each client's actor takes of it."""
    watch: Watch
    """Knows whether it still lives."""


@contextlib.contextmanager
def running_ray(experiment: Experiment, at_once: int = 1) -> Iterator[Ray]:
    """Start Ray, or join the cluster at ``--ray-address``; when the context ends, it is left again, and nothing of ours remains.

    ``at_once`` such runs go on beside each other on it. A dead actor is restarted (Flower would hand it further clients for
    ever); what it was doing is reported as failed.

    Raises:
        UserError: no cluster at the address, or not with this login.
        RunError: Ray did not start.
    """
    import ray

    address = cluster_address(experiment.ray_address) if experiment.ray_address else ""
    nowhere: contextlib.AbstractContextManager[dict[str, str]] = contextlib.nullcontext({})
    with nowhere if address else folders_for_ray() as folders:
        try:
            with doing(f"joining the Ray cluster at {address}" if address else "starting Ray"):
                _init(experiment, address, folders, at_once)
            yield Ray(
                actor_resources(experiment, ray.cluster_resources(), at_once),
                watch_cluster(address) if address else watch_processes(),
            )
        finally:
            with doing("ending Ray", aloud=False):
                ray.shutdown()  # if the engine has not done it


def _init(experiment: Experiment, address: str, folders: dict[str, str], at_once: int) -> None:
    import ray

    check_login()
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    python_path = ":".join(path for path in sys.path if path)
    try:
        if address:
            env = {"PYTHONPATH": python_path, "THP_MEM_ALLOC_ENABLE": os.environ.get("THP_MEM_ALLOC_ENABLE", "1")}
            ray.init(address=address, runtime_env={"env_vars": env}, **quiet)
        else:
            os.environ["PYTHONPATH"] = python_path  # inherited; a runtime_env would discard the processes Ray has ready
            cpus = math.ceil(actor_count(experiment, at_once) * experiment.client_cpus)
            preload = {"preload_python_modules": list(PRELOADED)}
            here = {"_node_ip_address": "127.0.0.1", "include_dashboard": False}
            with without_observers():
                ray.init("local", num_cpus=cpus, _system_config=preload, **here, **folders, **quiet)
            check_loopback()
    except SystemExit as ended:  # Ray answers SIGTERM while it starts
        end_now(128 + int(ended.code or 0))
    except RunError:
        raise
    except Exception as error:
        reason = str(error).partition("\n")[0]
        if experiment.ray_address:
            raise UserError(
                f"--ray-address {experiment.ray_address}: no Ray cluster there, or one that wants another token "
                f"(RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH): {reason}; {_START_ONE}"
            ) from None
        raise RunError(f"Ray did not start: {reason}") from error
    finally:
        end_on_signals()  # Ray has put handlers of its own over ours


def cluster_address(asked: str) -> str:
    """HOST:PORT of the Ray cluster that was asked for, if something listens there: Ray itself would try for minutes.

    ``auto`` is the cluster at RAY_ADDRESS, or the last one that ``ray start`` made or joined on this machine. (Ray's own
    reading of it would do with any Ray that it finds, such as the private one of another run.)

    Raises:
        UserError: not an address, or nobody there.
    """
    from ray._private.services import find_bootstrap_address

    address = asked
    if asked == "auto":
        address = os.environ.get("RAY_ADDRESS") or find_bootstrap_address(None) or ""
        if not address:
            raise UserError(f"--ray-address auto: no Ray cluster was started on this machine; {_START_ONE}")
    if "://" in address:
        raise UserError(f"--ray-address {asked}: {_too_much(address, 'RAY_ADDRESS is ' if asked == 'auto' else '')}")
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isdigit()):
        raise UserError(
            f"--ray-address {asked}: wanted HOST:PORT of a cluster's head (ray start --head prints it), or auto"
        )
    try:
        socket.create_connection((host, int(port)), timeout=CLUSTER_SECONDS).close()
    except (OSError, OverflowError, ValueError) as error:
        where = "there" if address == asked else f"at {address} any more"
        raise UserError(f"--ray-address {asked}: no Ray cluster {where} ({error}); {_START_ONE}") from None
    return address


def _too_much(address: str, whose: str) -> str:
    """What is wrong with an address that has a scheme: Ray's dashboard, its jobs and its client each have a port of their own."""
    scheme, _, rest = address.partition("://")
    alone = rest.partition("/")[0] or "127.0.0.1:6379"
    what = f"{whose}{address}: {scheme}:// is too much" if whose else f"{scheme}:// is too much"
    other = {"ray": "Ray Client's (10001)", "http": "the dashboard's (8265)", "https": "the dashboard's (8265)"}
    port = f", and the head's own port (6379), not {other[scheme.lower()]}" if scheme.lower() in other else ""
    return f"{what}; wanted HOST:PORT alone, such as {alone}{port}; `ray start --head` prints it"


_START_ONE = "start one with `ray start --head`, or leave the flag out"


def actor_resources(experiment: Experiment, available: dict[str, float], at_once: int = 1) -> dict[str, int | float]:
    """What each actor takes of Ray's resources, so that Flower starts as many actors as are wanted, and all of them fit.

    Args:
        experiment: the settings.
        available: Ray's CPUs and GPUs.
        at_once: runs that go on beside each other.

    Raises:
        UserError: the settings want a GPU where clients get none.
    """
    cpus, gpus = available.get("CPU", 0), int(available.get("GPU", 0))
    if experiment.ray_address:
        each, actors = experiment.client_cpus, max(1, int(cpus / experiment.client_cpus))
    else:
        actors = actor_count(experiment, at_once)
        each = math.floor(cpus / actors * 10_000) / 10_000  # Ray counts in ten-thousandths
    share = experiment.client_gpus
    if share is None:  # a fraction must fit on one GPU
        share = 0.0 if not gpus else gpus // actors if gpus >= actors else 1 / math.ceil(actors / gpus)
        share = math.floor(share * 10_000) / 10_000
    if experiment.cuda_graphs and not share:
        raise UserError("--cuda-graphs: clients have no GPU here; without the flag they train on CPUs")
    return {"num_cpus": each, "num_gpus": share, "max_restarts": -1}


def actor_count(experiment: Experiment, at_once: int = 1) -> int:
    """Clients that train at the same time: as many as CPUs and GPUs carry, at most those of a round of each of the runs at once."""
    return experiment.actors or max(1, min(_carried(experiment), experiment.clients_per_round * at_once))


def _carried(experiment: Experiment) -> int:
    """Clients for which there are CPUs and GPUs."""
    carried = int(cpu_count() / max(experiment.client_cpus, experiment.client_threads or 1))
    if experiment.client_gpus:
        from oleander.learning.devices import gpu_count

        carried = min(carried, int(gpu_count() / experiment.client_gpus))
    return carried


def runs_at_once(experiments: Sequence[Experiment]) -> int:
    """Runs of a study that go on beside each other: one more than fill the machine with clients.

    So it is not idle while one of them aggregates, waits for its last client, or begins. How many there are changes no result.
    """
    asked = [e.runs_at_once for e in experiments if e.runs_at_once]
    if asked:
        return min(max(asked), len(experiments))
    if experiments[0].ray_address:
        return 1  # its CPUs are not known yet
    fill = min(_carried(e) // min(actor_count(e), e.clients_per_round) for e in experiments)
    return min(fill + 1, MOST_AT_ONCE, len(experiments))
