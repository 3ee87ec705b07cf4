"""Repairs: what they are given, what they leave alone, and where their scores stand."""

import dataclasses
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console

from oleander.experiment.federation import server_of
from oleander.experiment.prepare import Sources, prepare
from oleander.experiment.records import Repaired, read_summary
from oleander.experiment.study import Runs
from oleander.learning.parameters import ModelState
from oleander.learning.root import Root
from oleander.learning.updates import Update
from oleander.reports.plots import draw_figures
from oleander.reports.tables import print_results
from oleander.reports.webpage import write_run_page
from oleander.settings.config import Experiment
from oleander.settings.plan import Published
from oleander.system.errors import UserError
from repairs import known_repairs, repaired, repairs_of
from strategies import Server, Step
from tests.experiment.test_records import ROUND, START, SUMMARY, folder_of
from tests.shards import shard

SETTINGS = {"clients": 3, "clients_per_round": 3, "samples_per_client": 8, "local_epochs": 1, "weights": "fresh"}


def state(value: float = 0.0) -> ModelState:
    return ModelState(np.full(4, value, np.float32), np.full(2, value, np.float32))


def told() -> Root:
    """A root whose training says with what it was called, and moves every number by 1."""

    def train(start, own, round_number, **settings):
        told.given = {"start": start, "shard": own, "round": round_number, **settings}
        return Update(own.client_id, np.ones(4, np.float32), np.ones(2, np.float32), 1)

    return Root(shard(client=7), train)


def test_finetune_trains_the_final_model_on_the_root_set_with_its_own_epochs_and_rate():
    experiment = Experiment(repair="finetune").changed(finetune_epochs=3, finetune_lr=0.5)
    model = state(2.0)
    after = repaired(model, repairs_of(experiment), Server(0, root=told()))
    assert told.given["start"] is model and told.given["shard"].client_id == 7
    assert (told.given["local_epochs"], told.given["lr"]) == (3, 0.5)
    assert after.weights.tolist() == [3.0] * 4 and after.statistics.tolist() == [3.0] * 2
    assert model.weights.tolist() == [2.0] * 4


def test_repairs_follow_each_other():
    add, double = (
        Step(name, lambda model, f=f: ModelState(f(model.weights), f(model.statistics)))
        for name, f in (("add", lambda a: a + 1), ("double", lambda a: a * 2))
    )
    assert repaired(state(1.0), (add, double), Server(0)).weights.tolist() == [4.0] * 4
    assert repaired(state(1.0), (double, add), Server(0)).weights.tolist() == [3.0] * 4


@pytest.mark.parametrize(
    ("asked", "words"),
    [("polish", ["polish", "unknown", "finetune"]), ("none+finetune", ["none stands alone"]), ("", ["unknown"])],
)
def test_impossible_repairs_are_refused_by_name(asked, words):
    with pytest.raises(UserError) as error:
        repairs_of(Experiment(repair=asked))
    assert all(word in str(error.value) for word in ["--repair", *words])


def test_every_repair_maps_a_model_to_a_model_and_none_is_the_default():
    assert all(plugin.takes is plugin.returns is ModelState for plugin in known_repairs().values())
    assert repairs_of(Experiment()) == ()


def test_too_few_images_for_the_root_set_are_refused_before_anything_starts(image_folder):
    settings = SETTINGS | {"dataset": f"folder:{image_folder}", "repair": "finetune", "root_samples": 49}
    with pytest.raises(UserError, match=r"--root-samples 49: 48 of the 72 training images .* are in no client's shard"):
        prepare(Experiment(**settings), Sources(print))
    prepare(Experiment(**settings | {"root_samples": 48}), Sources(print))


def test_a_servers_training_is_the_clients_own_with_other_settings_and_repeatable(image_folder):
    settings = SETTINGS | {"dataset": f"folder:{image_folder}", "repair": "finetune", "root_samples": 8}
    experiment = Experiment(**settings).changed(finetune_epochs=2, finetune_lr=0.01)
    setup = prepare(experiment, Sources(print))
    server = server_of(setup, torch.device("cpu"))
    once, again = (repaired(setup.start.state, setup.repairs, server) for _ in range(2))
    assert (once.weights == again.weights).all() and (once.weights != setup.start.state.weights).any()
    longer = repairs_of(setup.experiment.changed(finetune_epochs=3))
    assert (repaired(setup.start.state, longer, server).weights != once.weights).any()
    assert server.answers is None  # nobody asks for it


def test_a_server_has_no_images_where_nobody_asks_for_them(image_folder):
    setup = prepare(Experiment(**SETTINGS, dataset=f"folder:{image_folder}"), Sources(print))
    assert server_of(setup, torch.device("cpu")).root is None


REPAIRED = Repaired(0.7, 0.01, 0.9, "ef" * 32, 2.0)


def test_the_repaired_models_scores_stand_beside_the_final_ones_in_summary_table_and_page(tmp_path):
    folder = folder_of(tmp_path / "run", [START, ROUND])
    summary = replace(SUMMARY, repair="finetune", repaired=REPAIRED)
    from oleander.experiment.records import ENVIRONMENT, write_scenario

    write_scenario(folder.path / "config.toml", Experiment(repair="finetune"))
    about = {"command": "x", "python": "3", "commit": "abc", "packages": {}, "cpus": 2, "cpu": "x", "gpu": None}
    (folder.path / ENVIRONMENT).write_text(json.dumps(about))
    draw_figures(folder.path, summary)
    page = write_run_page(folder.path, summary).read_text()
    assert "ASR after finetune" in page and "1.0 %" in page
    folder.write_summary(summary)
    assert read_summary(folder.path) == summary
    console = Console(record=True, width=200)
    print_results(console, folder.path, summary)
    assert "after repair finetune: MTA 70.0 %   ASR 1.0 %" in console.export_text()


def test_summaries_of_before_there_were_repairs_are_read(tmp_path):
    folder = folder_of(tmp_path / "run", [START, ROUND])
    old = {k: v for k, v in dataclasses.asdict(SUMMARY).items() if k not in ("repair", "repaired")}
    (folder.path / "summary.json").write_text(json.dumps(old))
    assert read_summary(folder.path) == SUMMARY


def test_a_studys_cell_has_the_mean_of_its_repaired_models():
    runs = Runs(
        "x",
        "",
        Published(),
        (),
        (replace(SUMMARY, repaired=REPAIRED), replace(SUMMARY, repaired=replace(REPAIRED, asr=0.03))),
    )
    assert runs.repaired("asr").mean == pytest.approx(0.02) and runs.repaired("mta").mean == pytest.approx(0.7)
    assert Runs("x", "", Published(), (), (SUMMARY,)).repaired("asr") is None
