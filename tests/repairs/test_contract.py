"""Every file in repairs/ with every model: what goes in stays as it is, what comes out is a model, the same each time."""

import numpy as np
import pytest
import torch

from oleander.experiment.federation import federate, server_of
from oleander.experiment.records import RunFolder
from oleander.settings.config import Experiment
from oleander.settings.declared import MODELS, names_in
from oleander.settings.outside import forget
from oleander.system.errors import RunError, UserError
from repairs import known_repairs, repaired
from strategies import RuleError, Server, Step
from tests.spaces import GREY16
from tests.test_spaces import Here, Listener, prepared

SMALL = {"root_samples": 8, "batch_size": 4, "local_epochs": 1, "samples_per_client": 8}
OWN = {"finetune_epochs": 1, "nad_epochs": 1, "anp_iterations": 2, "anp_threshold": 0.99}
REPAIRS = pytest.mark.parametrize("repair", known_repairs())


def of(repair, image_folder, **settings):
    experiment = Experiment(repair=repair)
    own = {name: value for name, value in OWN.items() if name in dict(experiment.own)}
    return prepared(GREY16, image_folder, repair=repair, **SMALL | own | settings)


def made(setup, stir=0):
    """What the repair makes of the starting model, after other numbers were drawn in this process."""
    torch.rand(stir)
    return repaired(setup.start.state, setup.repairs, server_of(setup, torch.device("cpu")))


@REPAIRS
@pytest.mark.parametrize("model", [*names_in(MODELS), "torchvision:squeezenet1_1"])
def test_with_each_model_it_makes_a_model_the_same_each_time(repair, model, image_folder):
    if repair == "anp" and "squeezenet" in model:
        pytest.skip("it has no batch norm")
    setup = of(repair, image_folder, model=model)
    before = setup.start.state.weights.copy(), setup.start.state.statistics.copy()
    once, again = made(setup), made(setup, 3)
    for now, then, was in zip((once.weights, once.statistics), (again.weights, again.statistics), before, strict=True):
        assert now.dtype == np.float32 and now.shape == was.shape and np.isfinite(now).all()
        np.testing.assert_array_equal(now, then)
    np.testing.assert_array_equal(setup.start.state.weights, before[0])
    np.testing.assert_array_equal(setup.start.state.statistics, before[1])
    assert (once.weights != before[0]).any()


@pytest.mark.parametrize("repair", ["finetune", "fine_pruning", "nad"])
def test_with_group_norm_it_runs_without_statistics(repair, image_folder):
    after = made(of(repair, image_folder, model="cnn", norm="group"))
    assert after.statistics.shape == (0,) and np.isfinite(after.weights).all()


def test_they_follow_each_other_in_a_run_and_the_records_have_them(image_folder, tmp_path, task):
    setup = of("fine_pruning+anp", image_folder, model="cnn", anp_iterations=2)
    folder = RunFolder(tmp_path / "run")
    summary = federate(Here(3), setup, folder, Listener())
    folder.release()
    assert summary.repair == "fine_pruning+anp" and summary.repaired.asr is not None
    assert (folder.path / "model_repaired.safetensors").exists()


LAYERS = '"""M."""\nfrom torch import nn\nfrom oleander.datasets.space import ImageSpace\n\n\ndef {name}(classes: int, image: ImageSpace) -> nn.Module:\n    """M."""\n    return nn.Sequential({layers})\n'  # noqa: E501


@pytest.mark.parametrize(
    ("repair", "model", "norm", "said"),
    [
        ("anp", "cnn", "group", "anp perturbs the scales of batch norms, and there is none; the model is --model cnn --norm group"),
        ("finetune+anp", "cnn", "group", r"--repair finetune\+anp: anp perturbs"),
        ("anp", "torchvision:squeezenet1_1", "batch", "there is none; the model is --model torchvision:squeezenet1_1"),
        ("fine_pruning", "nn.Flatten(), nn.Linear(256, classes)", "batch", "fine_pruning removes channels of .* there is none"),
        ("nad", "nn.Flatten(), nn.Linear(256, classes)", "batch", "nad compares maps of convolutions, and none here gives"),
        ("anp", "nn.Flatten(), nn.Linear(256, classes)", "batch", "anp perturbs the scales"),
    ],
)  # fmt: skip
def test_a_model_that_it_cannot_repair_is_refused_before_anything_starts(
    repair, model, norm, said, image_folder, tmp_path
):
    if model.startswith("nn."):
        (tmp_path / "flat.py").write_text(LAYERS.format(name="flat", layers=model))
        model = str(tmp_path / "flat.py")
    with pytest.raises(UserError, match=said):
        prepared(GREY16, image_folder, repair=repair, model=model, norm=norm, **SMALL)
    forget()


ASKING = '''"""R."""
from oleander.learning.parameters import ModelState
from oleander.learning.root import Root
from strategies import Modules, RuleError


def asking(model: ModelState, *, module: Modules, root: Root) -> ModelState:
    """R."""
    net = module(model)
    {first}
    images = root.shard.images
    raise ValueError("a run comes so far, a trial does not")
'''


@pytest.mark.parametrize(
    ("first", "said"),
    [
        ("raise RuleError('ten layers are wanted')", r"--repair .*asking\.py: ten layers are wanted; the model is --model cnn"),
        ("net.nothing", r"asking\.py, line 10: AttributeError"),
        ("pass", ""),
    ],
)  # fmt: skip
def test_one_of_the_users_is_tried_out_as_far_as_the_servers_images(first, said, image_folder, tmp_path):
    (tmp_path / "asking.py").write_text(ASKING.format(first=first))
    run = {"repair": str(tmp_path / "asking.py"), "model": "cnn", **SMALL}
    if said:
        with pytest.raises(UserError, match=said):
            prepared(GREY16, image_folder, **run)
    else:
        with pytest.raises(ValueError, match="a run comes so far"):
            made(prepared(GREY16, image_folder, **run))
    forget()


@pytest.mark.parametrize("wrong", ["weights[:-1]", "statistics.astype('f8')", "weights[None]", ""])
def test_what_comes_out_is_held_to_what_went_in(wrong):
    from oleander.learning.parameters import ModelState

    start = ModelState(np.ones(4, np.float32), np.ones(2, np.float32))

    def breaks(model):
        if not wrong:
            return None
        parts = {"weights": model.weights, "statistics": model.statistics}
        return ModelState(**parts | {wrong.split("[")[0].split(".")[0]: eval(wrong, dict(parts))})

    with pytest.raises(RuleError, match="breaks returned"):
        repaired(start, (Step("breaks", breaks),), Server(0))


def test_what_cannot_be_repaired_ends_a_run_with_one_line(image_folder, tmp_path, task, monkeypatch):
    setup = of("finetune", image_folder, model="cnn")

    def refuse(model, **_):
        raise RuleError("not this one")

    object.__setattr__(setup, "repairs", (Step("finetune", refuse),))
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(RunError, match="--repair finetune: not this one"):
        federate(Here(3), setup, folder, Listener())
    folder.release()
    assert (folder.path / "model.safetensors").exists()
