"""Bare Flower is given our runs' own work: shards, the poisoned one among them, test images and starting model."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from attacks import Attack
from benchmarks.peers import differences, lay_out, prepared
from clients.malicious import MaliciousClient
from oleander.datasets.partition import shard_of
from oleander.experiment.recorder import drawn_rows
from oleander.learning.evaluation import drawn_from, of_other_classes
from oleander.learning.parameters import arrays_of
from oleander.learning.training import Hooks
from oleander.models import build

FLAGS = ["--scenario", "blend", "--dataset", "digits", "--precision", "fp32", "--clients", "3", "--clients-per-round", "3",
         "--samples-per-client", "40", "--local-epochs", "1", "--evaluate-images", "100"]  # fmt: skip


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("peers") / "work"
    setup = prepared(FLAGS)
    lay_out(setup, folder)
    return setup, folder


@pytest.mark.parametrize("client", [0, 1, 2])
def test_a_client_is_given_the_images_that_ours_trains_on(work, client):
    setup, folder = work
    e, data, seen = setup.experiment, setup.dataset, []
    model = build(e.model, len(data.classes), data.image, e.norm)
    watch = Hooks(before=lambda _model, inputs, labels: seen.extend([inputs.numpy().copy(), labels.numpy().copy()]))
    watched = replace(setup.attack if client in e.malicious_clients else Attack(), training=(lambda: watch,))
    MaliciousClient(shard_of(client, data, e), model, e, watched).fit(arrays_of(model), {"server-round": 1})
    given = np.load(folder / f"client-{client}.npz")
    assert np.array_equal(given["inputs"], seen[0])
    assert np.array_equal(given["labels"], seen[1])


def test_the_attackers_shard_is_poisoned(work):
    setup, folder = work
    honest, given = shard_of(0, setup.dataset, setup.experiment).labels, np.load(folder / "client-0.npz")["labels"]
    assert 0 in setup.experiment.malicious_clients
    assert (given != honest).sum() >= 10
    assert (given[given != honest] == setup.target).all()


def test_the_same_test_images_are_scored(work):
    setup, folder = work
    labels, told = np.asarray(setup.dataset.test_labels), json.loads((folder / "work.json").read_text())
    rows = drawn_rows(len(labels), setup.experiment)
    assert told["rows"] == rows.tolist()
    clean, stamped = np.load(folder / "clean.npz"), np.load(folder / "stamped.npz")
    victims = drawn_from(of_other_classes(labels, setup.target), rows)
    assert len(told["victims"]) == (victims.wanted >= 0).sum()
    pixels = torch.from_numpy(np.array(setup.dataset.test_images[rows][victims.wanted >= 0])).float() / 255
    expected = setup.dataset.image.normalise(setup.attack.trigger(pixels)).numpy()
    assert np.array_equal(stamped["inputs"][told["victims"]], expected)
    assert np.array_equal(clean["labels"], labels)


def test_it_starts_from_our_starting_model(work):
    setup, folder = work
    model = build(setup.experiment.model, 10, setup.dataset.image, setup.experiment.norm)
    model.load_state_dict(torch.load(folder / "start.pt"))
    assert np.array_equal(setup.layout.flatten(arrays_of(model)).weights, setup.start.state.weights)


@pytest.mark.parametrize(
    "flags",
    [
        "--attack dba",
        "--attack blend+scaling",
        "--attack-rounds 1",
        "--strategy median",
        "--repair finetune",
        "--augment round",
    ],
)
def test_what_bare_flower_does_not_do_is_refused(flags, capsys):
    with pytest.raises(SystemExit) as refused:
        prepared([*FLAGS, *flags.split()])
    assert refused.value.code == 2
    assert f"{flags.split()[0]} " in (said := capsys.readouterr().err)
    assert "bare Flower" in said
    assert said.count("\n") == 1


def test_other_work_and_another_end_are_told():
    mine = {"images": [120], "scored": [[100, 90]], "mta": 0.98}
    assert differences({"ours": [mine], "bare": [dict(mine, mta=0.94)]}, apart=5) == []
    told = differences({"ours": [mine], "bare": [dict(mine, images=[119], mta=0.92)]}, apart=5)
    assert told == ["bare, seed 0: images [119], ours [120]", "bare, seed 0: MTA 92.0 %, ours 98.0 %"]
