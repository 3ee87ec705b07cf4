"""How many actors Flower will start, and whether Ray can place them all, on machines that the tests do not have."""

import math
import re
import socket
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest

from oleander.experiment import engine
from oleander.experiment.engine import actor_count, actor_resources, cluster_address, runs_at_once
from oleander.learning import devices
from oleander.settings.config import Experiment
from oleander.system.errors import RunError, UserError


def placed(wanted: int, share: float, gpus: int) -> int:
    """Actors that find room when each must have its share on one GPU, or whole GPUs; as Ray places them."""
    if share >= 1:
        assert share == int(share), "Ray takes whole GPUs above 1"
        return int(gpus // share)
    return gpus * int(1 / share + 1e-9)


@pytest.mark.parametrize("client_cpus", [0.3, 0.5, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("actors", [None, 1, 2, 3, 5])
@pytest.mark.parametrize("gpus", [0, 1, 2, 4, 8])
def test_flower_starts_as_many_actors_as_wanted_and_all_find_room(monkeypatch, client_cpus, actors, gpus):
    monkeypatch.setattr(engine, "cpu_count", lambda: 16)
    monkeypatch.setattr(devices, "gpu_count", lambda: gpus)
    experiment = Experiment(client_cpus=client_cpus, actors=actors)
    wanted = actor_count(experiment)
    cpus = math.ceil(wanted * client_cpus)
    taken = actor_resources(experiment, {"CPU": float(cpus), "GPU": float(gpus)})
    started = int(cpus / taken["num_cpus"])
    if taken["num_gpus"]:
        started = min(started, int(gpus / taken["num_gpus"]))
        assert placed(started, taken["num_gpus"], gpus) >= started
    assert started == wanted
    assert taken["max_restarts"] == -1 and taken["num_cpus"] * started <= cpus
    assert bool(taken["num_gpus"]) == bool(gpus)


def test_clients_that_ask_for_no_gpu_get_none_and_a_cluster_shares_its_own():
    assert actor_resources(Experiment(client_gpus=0.0), {"CPU": 4.0, "GPU": 2.0})["num_gpus"] == 0
    cluster = actor_resources(Experiment(ray_address="h:1", client_cpus=2.0), {"CPU": 8.0, "GPU": 2.0})
    assert (cluster["num_cpus"], cluster["num_gpus"]) == (2.0, 0.5)


def test_default_actors_are_what_the_machine_carries_and_a_round_needs(monkeypatch):
    monkeypatch.setattr(engine, "cpu_count", lambda: 16)
    assert actor_count(Experiment()) == 5
    assert actor_count(Experiment(client_cpus=4.0)) == 4
    monkeypatch.setattr(engine, "cpu_count", lambda: 1)
    assert actor_count(Experiment()) == 1


def test_a_study_has_one_run_more_than_fill_the_machine_with_clients(monkeypatch):
    cpus = 2
    monkeypatch.setattr(engine, "cpu_count", lambda: cpus)
    six, three = Experiment(clients_per_round=6), Experiment(clients_per_round=3)
    assert runs_at_once([six] * 5) == 2 and runs_at_once([six]) == 1
    assert runs_at_once([replace(six, runs_at_once=n) for n in (1, 1)]) == 1
    assert (
        runs_at_once([replace(six, runs_at_once=4)] * 9) == 4 and runs_at_once([replace(six, runs_at_once=4)] * 3) == 3
    )
    assert runs_at_once([replace(six, ray_address="h:1")] * 5) == 1
    cpus = 16
    assert runs_at_once([three] * 9) == 6 and runs_at_once([six, three] * 9) == 3
    assert actor_count(three, 6) == 16 and actor_count(replace(three, actors=2), 6) == 2
    assert actor_resources(three, {"CPU": 16.0}, 6)["num_cpus"] == 1
    assert runs_at_once([replace(three, clients_per_round=1)] * 99) == engine.MOST_AT_ONCE


def test_auto_is_the_cluster_of_ray_start_and_a_dead_one_is_refused_at_once(monkeypatch):
    from ray._private import services

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(services, "find_bootstrap_address", lambda _: None)
    with pytest.raises(UserError, match="auto: no Ray cluster was started on this machine"):
        cluster_address("auto")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        alive = f"127.0.0.1:{listening.getsockname()[1]}"
        monkeypatch.setattr(services, "find_bootstrap_address", lambda _: alive)
        assert cluster_address("auto") == cluster_address(alive) == alive
    with pytest.raises(UserError, match=f"auto: no Ray cluster at {alive} any more"):
        cluster_address("auto")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(UserError, match=r"at 127\.0\.0\.1:1 any more"):
        cluster_address("auto")
    with pytest.raises(UserError, match="wanted HOST:PORT"):
        cluster_address("somewhere")
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    with pytest.raises(UserError, match="auto: RAY_ADDRESS is ray://head:10001: ray:// is too much"):
        cluster_address("auto")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://127.0.0.1:8265", "http:// is too much; wanted HOST:PORT alone, such as 127.0.0.1:8265, and the head's own port"),
        ("https://head:8265/", "https:// is too much; wanted HOST:PORT alone, such as head:8265, and"),
        ("ray://head:10001", "ray:// is too much; wanted HOST:PORT alone, such as head:10001, and the head's own port (6379), not "
                             "Ray Client's (10001)"),
        ("tcp://head:6379", "tcp:// is too much; wanted HOST:PORT alone, such as head:6379; `ray start --head`"),
        ("http://", "such as 127.0.0.1:6379"),
    ],
)  # fmt: skip
def test_of_an_address_with_a_scheme_the_scheme_is_said_to_be_the_mistake(address, said):
    with pytest.raises(UserError, match=f"^--ray-address {re.escape(address)}: ") as error:
        cluster_address(address)
    assert said in str(error.value)


def test_graphs_of_a_gpu_are_refused_where_clients_get_none():
    """By the simulation, whose clients are here; a server of a network does not know its clients' machines."""
    for gpus, share in ((0.0, None), (2.0, 0.0)):
        with pytest.raises(UserError, match="--cuda-graphs: clients have no GPU here"):
            actor_resources(Experiment(cuda_graphs=True, client_gpus=share), {"CPU": 2.0, "GPU": gpus})
    assert actor_resources(Experiment(cuda_graphs=True), {"CPU": 2.0, "GPU": 1.0})["num_gpus"] > 0


def test_a_run_whose_rounds_are_done_does_not_fail_for_want_of_the_thread_that_would_end_hanging_clients(monkeypatch):
    """A machine may be out of threads at any moment; a study of nine finished runs ended so, without its report."""
    import flwr.simulation

    class Refused(threading.Timer):
        def start(self):
            raise RuntimeError("can't start new thread")

    def played(server_app, client_app, nodes, backend_config):
        server_app(grid="the grid", context=None)

    monkeypatch.setattr(flwr.simulation, "run_simulation", played)
    monkeypatch.setattr(engine.threading, "Timer", Refused)
    watch = SimpleNamespace(start=lambda failed: None, end=lambda: None, missing=lambda: None)
    served, failed = [], []
    engine.run_on_ray(SimpleNamespace(watch=watch, resources={}), 1, None, served.append, failed.append)
    assert served == ["the grid"] and not failed


def test_what_the_engine_fails_of_is_said_with_its_type(monkeypatch):
    import flwr.simulation

    monkeypatch.setattr(flwr.simulation, "run_simulation", lambda *_, **__: {}["nodes"])
    watch = SimpleNamespace(start=lambda failed: None, end=lambda: None, missing=lambda: None)
    with pytest.raises(RunError, match=r"^Flower's simulation engine failed: KeyError: 'nodes'$"):
        engine.run_on_ray(SimpleNamespace(watch=watch, resources={}), 1, None, lambda grid: None, lambda error: None)
