"""A whole run with each model, in this process: from the start that it draws to the model that it ends with."""

import pytest
import torch
from safetensors.numpy import load_file

from oleander.experiment.federation import federate
from oleander.experiment.records import RunFolder, read_rounds
from oleander.settings.declared import names_in
from oleander.settings.registry import MODELS
from tests.spaces import GREY16
from tests.test_spaces import Here, Listener, prepared

pytestmark = pytest.mark.usefixtures("task")
SMALL = {
    "samples_per_client": 8,
    "batch_size": 4,
    "local_epochs": 1,
    "evaluate": "last",
    "malicious": 1,
    "attack": "blend",
}


def run(path, image, image_folder, **settings):
    setup = prepared(image, image_folder, **SMALL | settings)
    folder = RunFolder(path)
    summary = federate(Here(3), setup, folder, Listener())
    folder.release()
    return setup, summary, path


@pytest.mark.parametrize("name", [*names_in(MODELS), "torchvision:shufflenet_v2_x0_5"])
def test_two_rounds_of_each_model(name, image_folder, tmp_path):
    setup, summary, path = run(tmp_path / "run", GREY16, image_folder, model=name)
    records = read_rounds(path)
    assert [r.round for r in records] == [0, 1, 2] and min(records[-1].norms_before) > 0
    assert summary.mta is not None and summary.asr is not None
    model = load_file(path / "model.safetensors")
    assert set(model) == set(setup.layout.names)


def test_with_dropout_a_run_comes_to_the_same_hash_whatever_was_drawn_before(image_folder, tmp_path):
    hashes = set()
    for number in (1, 2):
        torch.rand(number)
        hashes.add(run(tmp_path / str(number), GREY16, image_folder, model="mobilenet_v2")[1].model_sha256)
    assert len(hashes) == 1
