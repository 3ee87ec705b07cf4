"""What strategies remember between rounds: how much it may be, and that a run that stops and goes on has it again."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from oleander.experiment import resume
from oleander.experiment.federation import server_of
from oleander.experiment.prepare import Sources, prepare
from oleander.experiment.records import RunFolder
from oleander.experiment.resume import keep, standing_of
from oleander.learning.parameters import ModelState
from oleander.settings.config import Experiment
from oleander.system.errors import RunError, UserError
from oleander.transport.roster import SimulatedRoster
from strategies import Server, pipeline_of
from strategies.flower import PipelineStrategy
from tests.experiment.test_standing import ABOUT, LAYOUT, START, STATE
from tests.played_network import LAYOUT as PLAYED
from tests.played_network import SIZE, Network, Quiet, honest


@pytest.fixture
def folder(tmp_path):
    made = RunFolder(tmp_path / "run")
    made.write_settings(Experiment(), {})
    yield made
    made.release()


def test_a_memory_beyond_the_bound_is_refused_by_the_name_of_its_step_and_the_state_before_stands(folder, monkeypatch):
    monkeypatch.setattr(resume, "MOST_MEMORY", 3 * resume.MIB)
    mib = np.zeros(resume.MIB, np.uint8)
    keep(folder.path, 0, STATE, None, ABOUT, {"fedadam": {"first": mib}, "foolsgold": {"a": mib, "b": mib}})
    before = (folder.path / "state.safetensors").read_bytes()
    words = "^foolsgold remembers 3 MiB; all that is remembered is written after each round, and may be 3 MiB: fewer clients"
    with pytest.raises(RunError, match=words):
        keep(
            folder.path, 1, STATE, None, ABOUT, {"fedadam": {"first": mib}, "foolsgold": {"a": mib, "b": mib, "c": mib}}
        )
    assert (folder.path / "state.safetensors").read_bytes() == before


def test_what_is_kept_may_be_read_again_to_the_last_byte_of_the_bound(folder, monkeypatch):
    monkeypatch.setattr(resume, "MOST_MEMORY", 24 * resume.MIB)  # more than the state may have beside memory and model
    kept = {"step": {"x": np.random.default_rng(0).integers(0, 256, 24 * resume.MIB, np.uint8)}}
    keep(folder.path, 0, STATE, None, ABOUT, kept)
    np.testing.assert_array_equal(standing_of(folder.path, LAYOUT).memory["step"]["x"], kept["step"]["x"])


def turned(message, content):
    """An honest reply whose update points where that of no other client does, and in no two rounds the same way."""
    sent = content["arrays"][0].ravel()
    step = np.random.default_rng(int(1000 * abs(sent).sum())).normal(size=6)
    return honest(message, content | {"arrays": [content["arrays"][0] + np.float32(step), *content["arrays"][1:]]})


def played(strategy: str, state: ModelState, done: int, memory: dict, count: int) -> PipelineStrategy:
    """Rounds of a played network, from where another process stopped."""
    experiment = Experiment(clients=6, clients_per_round=5, rounds=5, strategy=strategy)
    made = PipelineStrategy(
        experiment, pipeline_of(experiment), PLAYED, state, [SIZE] * 6, {}, Quiet(), SimulatedRoster(experiment), done,
        server=Server(0, PLAYED), memory=memory,
    )  # fmt: skip
    grid = Network(6, faults=dict.fromkeys(range(6), turned))
    arrays = made.initial_arrays()
    for number in range(1, count + 1):
        replies = grid.send_and_receive(list(made.configure_train(number, arrays, {}, grid)))
        arrays, _ = made.aggregate_train(number, replies)
    return made


@pytest.mark.parametrize("strategy", ["foolsgold", "fedadam", "fedavgm", "centred_clip", "foolsgold+fedadam"])
def test_five_rounds_on_flower_come_to_the_same_when_they_stop_and_go_on_after_each(strategy, task, tmp_path):
    start = ModelState(np.zeros(6, np.float32), np.zeros(4, np.float32))
    whole = played(strategy, start, 0, {}, 5)
    folder = RunFolder(tmp_path / "run")
    folder.write_settings(Experiment(strategy=strategy), {})
    keep(folder.path, 0, start, None, ABOUT)
    for done in range(5):
        standing = standing_of(folder.path, PLAYED)
        part = played(strategy, standing.state, done, standing.memory, 1)
        folder.append(replace(START, round=done))
        keep(folder.path, done + 1, part.state, part.outcome, ABOUT, part.memory)
    folder.release()
    assert part.state.weights.tobytes() == whole.state.weights.tobytes()
    assert part.state.statistics.tobytes() == whole.state.statistics.tobytes()
    assert whole.state.weights.any()
    assert part.memory.keys() == whole.memory.keys() == set(strategy.split("+"))


ROOTED = {"weights": "fresh", "strategy": "fltrust", "samples_per_client": 6, "local_epochs": 1, "root_samples": 12}


def test_a_run_whose_server_wants_images_that_nobody_has_is_refused_before_anything_starts(image_folder):
    """72 training images, six clients with ten each."""
    settings = ROOTED | {"samples_per_client": 10, "root_samples": 13}
    with pytest.raises(
        UserError, match=r"^--root-samples 13: 12 of the 72 training images of .* are in no client's shard"
    ):
        prepare(Experiment(dataset=f"folder:{image_folder}", **settings), Sources(print))
    prepare(Experiment(dataset=f"folder:{image_folder}", **settings | {"strategy": "fedavg"}), Sources(print))


def test_the_server_trains_on_its_images_as_a_client_would_from_the_rounds_model(image_folder):
    setup = prepare(Experiment(dataset=f"folder:{image_folder}", precision="fp32", **ROOTED), Sources(print))
    server = server_of(setup, torch.device("cpu"))
    assert len(server.root.shard.labels) == 12 and server.answers is None
    one, again, later = (server.root.update(setup.start.state, number) for number in (1, 1, 2))
    assert one.delta.tobytes() == again.delta.tobytes() != later.delta.tobytes()
    assert one.num_examples == 12 and np.isfinite(one.delta).all() and one.delta.any()
