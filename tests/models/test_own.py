"""A model from outside the repository: what is refused, what tells it from another, and that clients train it."""

import hashlib
import importlib
import sys
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from clients.app import make_client
from oleander.experiment.federation import client_config
from oleander.experiment.prepare import Sources, prepare
from oleander.experiment.recorder import Recorder
from oleander.experiment.records import write_scenario
from oleander.experiment.study import run_key
from oleander.learning.evaluation import Scores
from oleander.learning.parameters import Layout
from oleander.learning.weights import layout_of
from oleander.models import build, identity
from oleander.reports.listing import print_plugin
from oleander.settings import outside
from oleander.settings.cli import parse, parse_command
from oleander.settings.config import Experiment
from oleander.settings.plan import plan_of
from oleander.system.errors import UserError
from tests.spaces import CIFAR10, GREY16

MODEL = '''"""A model of one's own."""

import torch.nn as nn

from oleander.datasets.space import ImageSpace


def my_model(classes: int, image: ImageSpace) -> nn.Module:
    """One convolution.

    Args:
        classes: logits.
        image: what it takes.
    """
    return nn.Sequential(
        nn.Conv2d(image.channels, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes)
    )
'''


@pytest.fixture(autouse=True)
def forgotten():
    yield
    outside.forget()


@pytest.fixture
def model(tmp_path):
    file = tmp_path / "my_model.py"
    file.write_text(MODEL)
    return file


@pytest.fixture
def flags(image_folder):
    return [
        "--dataset", f"folder:{image_folder}", "--samples-per-client", "8", "--clients", "3", "--clients-per-round", "2",
        "--local-epochs", "1", "--batch-size", "4",
    ]  # fmt: skip


def test_it_is_prepared_recorded_and_run_again_by_its_content_from_anywhere(model, flags, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = []
    setup = prepare(parse(["--model", "./my_model.py", *flags]), Sources(said.append))
    assert setup.layout.weight_count < 1000 and "no checkpoint is shipped for my_model" in said[0]
    write_scenario(tmp_path / "config.toml", setup.experiment)
    text = (tmp_path / "config.toml").read_text()
    assert f'model = "{model}"' in text
    assert f'my_model_sha256 = "{hashlib.sha256(MODEL.encode()).hexdigest()}"' in text
    monkeypatch.chdir("/")
    assert run_key(prepare(parse(["--scenario", str(tmp_path / "config.toml")]), Sources(print))) == run_key(setup)
    (tmp_path / "c++.d").mkdir()
    moved = model.rename(tmp_path / "c++.d" / "my_model.py")
    assert run_key(prepare(parse(["--model", str(moved), *flags]), Sources(print))) == run_key(setup)
    moved.write_text(MODEL + "# another\n")
    assert run_key(prepare(parse(["--model", str(moved), *flags]), Sources(print))) != run_key(setup)
    moved.rename(model)
    with pytest.raises(UserError, match=r"my_model\.py is not the file that it was: SHA-256"):
        parse(["--scenario", str(tmp_path / "config.toml")])


def spoilt(old, new):
    assert old in MODEL
    return MODEL.replace(old, new)


BUFFERED = """    made = nn.Conv2d(image.channels, classes, 1)
    made.register_buffer("steps", __import__("torch").zeros(1))
    return made
"""
TWICE = """
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(image.channels, 4, 3)
            self.bn = nn.BatchNorm2d(4)
            self.head = nn.Linear(4, classes)

        def forward(self, x):
            x = self.conv(x)
            return self.head((x + self.bn(x)).mean((2, 3)))

    return Twice()
"""
BODY = MODEL[MODEL.index("    return nn.Sequential") :]
BAD = {
    "no function of its name": (spoilt("def my_model(", "def other("), ["no function named my_model"]),
    "no docstring": ("def my_model(classes: int, image: 'ImageSpace') -> 'nn.Module':\n    return 1\n", ["no docstring"]),
    "another type": (spoilt("-> nn.Module", "-> int"), ["int, ImageSpace → int", "model (int, ImageSpace → Module)"]),
    "settings": (spoilt("image: ImageSpace)", "image: ImageSpace, *, width: int = 4)"), ["width of my_model", "takes no settings"]),
    "import error": (spoilt("import torch.nn", "import torchh.nn"), ["line 3", "cannot be imported", "torchh"]),
    "an error when it is made": (spoilt("nn.Conv2d(image.channels, 4", "nn.Conv2d(image.chanels, 4"), ["line 16", "AttributeError"]),
    "no module": (spoilt(BODY, "    return classes\n"), ["made a int", "nn.Module"]),
    "other logits": (spoilt("nn.Linear(4, classes)", "nn.Linear(4, 7)"), ["(4, 7)", "(4, 3)"]),
    "no weights": (spoilt(BODY, "    return nn.Flatten()\n"), ["no weights"]),
    "a buffer": (spoilt(BODY, BUFFERED), ["steps is a buffer that is no batch norm's"]),
    "float64": (spoilt("nn.Linear(4, classes)", "nn.Linear(4, classes).double()"), ["is torch.float64, not torch.float32"]),
    "a fold that is none": (spoilt(BODY, TWICE), ["scored, it answers otherwise", "batch norm"]),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_is_no_model_is_refused_in_one_line(model, flags, case):
    text, words = BAD[case]
    model.write_text(text)
    with pytest.raises(UserError) as error:
        prepare(parse(["--model", str(model), *flags]), Sources(print))
    said = str(error.value)
    assert said.startswith(f"--model {model}: ") and all(word in said for word in words) and "\n" not in said, said


def test_names_that_cannot_be(model, tmp_path):
    for name, words in (
        (str(tmp_path / "nowhere.py"), "there is no file"),
        ("resnet18light+resnet18light", "unknown; known: .*resnet18light"),
        (f"{model}+{model}", "there is no file"),
        ("./models", "unknown; known: .*resnet18light"),
        ("none", "unknown"),
        ("", "unknown"),
    ):
        with pytest.raises(UserError, match=words) as error:
            parse([f"--model={name}"])
        assert "\n" not in str(error.value)
    model.rename(tmp_path / "krum.py")
    with pytest.raises(UserError, match=r"krum\.py has the name of .*strategies/krum\.py"):
        parse(["--model", str(tmp_path / "krum.py")])


def test_another_content_at_the_same_path_is_another_model(model):
    def all_of():
        outside.use("oleander.models", str(model), instead=True)
        layout, state = layout_of(str(model), 3, CIFAR10), Layout.of(build(str(model), 3, CIFAR10))
        assert layout == state
        return layout.weight_count, identity(str(model))

    first = all_of()
    model.write_text(MODEL.replace("4", "5"))
    second = all_of()
    assert first[0] != second[0] and first[1] != second[1] and first[1].startswith("my_model@")


def test_scores_of_a_starting_model_are_remembered_by_its_content(model, flags):
    scored = []

    def baseline():
        setup = prepare(parse(["--model", str(model), *flags]), Sources(print))
        made = SimpleNamespace(setup=setup, device=torch.device("cpu"), listener=SimpleNamespace(say=print))
        made._scores = lambda *_: scored.append(1) or Scores(0.5, None, 1.0)
        return Recorder._baseline(made, None, setup.start.state, setup.attack)

    assert baseline() == baseline() and len(scored) == 1
    model.write_text(MODEL.replace("ReLU", "ELU"))  # the same weights, other answers
    assert baseline().mta == 0.5 and len(scored) == 2


def test_clients_that_know_nothing_of_it_train_it(model, flags):
    setup = prepare(parse(["--model", str(model), *flags]), Sources(print))
    told = {name: str(value) for name, value in client_config(setup).items()} | {"server-round": "1"}
    outside.forget()
    client = make_client(1, told, {"partition-id": 1})
    start = setup.layout.unflatten(setup.start.state)
    arrays, count, metrics = client.fit(start, told)
    assert count == 8 and metrics["loss"] > 0
    assert [a.shape for a in arrays] == [a.shape for a in start] and any(
        (a != b).any() for a, b in zip(arrays, start, strict=True)
    )
    model.write_text(MODEL + "# another\n")
    with pytest.raises(UserError, match="not the file that it was"):
        make_client(1, told, {"partition-id": 1})
    model.unlink()
    with pytest.raises(UserError, match=r"--model .*there is no file .*my_model\.py"):
        make_client(1, told, {"partition-id": 1})


def test_a_study_compares_it_by_its_name_and_a_record_is_read_without_it(model, tmp_path):
    plan = plan_of(parse_command(["--sweep", f"model=resnet18light,{model}"]))
    assert [cell.x for cell in plan.charts[0].cells] == ["resnet18light", "my_model"]
    told = parse(["--model", str(model)]).to_json()
    outside.forget()
    model.unlink()
    read = Experiment.from_json(told)
    assert dict(read.own)["my_model_sha256"] == hashlib.sha256(MODEL.encode()).hexdigest()
    assert Experiment.from_json(read.to_json()) == read


def test_list_shows_it_and_runs_nothing(model, tmp_path):
    model.write_text(MODEL + f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    console = Console(record=True, width=100)
    print_plugin(console, str(model))
    assert "my_model  model, --model" in console.export_text() and not (tmp_path / "ran").exists()


def test_an_entry_point_is_a_model(tmp_path, monkeypatch, flags):
    package, about = tmp_path / "site" / "their_models", tmp_path / "site" / "their_models-1.0.dist-info"
    package.mkdir(parents=True), about.mkdir()
    (package / "__init__.py").touch()
    (package / "my_model.py").write_text(MODEL)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: their-models\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[oleander.models]\nmy_model = their_models.my_model\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    importlib.invalidate_caches()
    try:
        experiment = parse(["--model", "my_model", *flags])
        assert experiment.model == "my_model" and "their_models.my_model" not in sys.modules
        assert prepare(experiment, Sources(print)).experiment.model == "my_model"
        assert isinstance(build("my_model", 5, GREY16)(torch.zeros(2, 1, 16, 16)), torch.Tensor)
        with pytest.raises(UserError, match=r"unknown; known: .*resnet18light"):
            parse(["--model", "my_mode"])
    finally:
        for name in [name for name in sys.modules if name.startswith("their_models")]:
            del sys.modules[name]
