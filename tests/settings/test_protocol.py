"""A dataset brings settings: over the defaults, under a scenario's and the command line's."""

import pytest

from oleander.settings import outside
from oleander.settings.cli import load_scenario_file, parse, parse_command
from oleander.settings.config import SETTINGS
from oleander.settings.declared import DATASETS, built_in
from oleander.settings.plan import plan_of
from oleander.settings.protocol import protocol_of, whole
from oleander.system.errors import UserError


@pytest.fixture(autouse=True)
def _nobodys():
    yield
    outside.forget()


def test_a_datasets_settings_lie_over_the_defaults_and_under_what_was_said(tmp_path):
    assert parse(["--dataset", "toy"]).lr == SETTINGS["lr"] != 0.1
    experiment = parse(["--dataset", "digits", "--scenario", "dba"])
    assert (experiment.lr, experiment.model, experiment.augment, experiment.patch_size) == (0.1, "cnn", "none", 3)
    assert (experiment.malicious, experiment.clients_per_round) == (3, 6)
    assert parse(["--dataset=digits", "--lr", "0.3"]).lr == 0.3
    mine = tmp_path / "mine.toml"
    mine.write_text('dataset = "digits"\nlr = 0.2\n')
    experiment = parse(["--scenario", str(mine)])
    assert (experiment.lr, experiment.batch_size) == (0.2, 32)  # 0.2 is the default too, and the file says it
    assert (parse(["--scenario", str(mine), "--dataset", "toy"]).batch_size) == SETTINGS["batch_size"]


def test_what_auto_stands_for_brings_its_settings_too():
    assert parse([]).dataset == "auto" and parse([]).model == "resnet18light"
    settled = parse(["--rounds", "2"], "digits")
    assert (settled.dataset, settled.model, settled.rounds) == ("digits", "cnn", 2)
    assert parse(["--dataset", "toy"], "digits").model == "resnet18light"
    assert load_scenario_file("dba", "digits").experiment.model == "cnn"


def test_in_a_study_each_run_has_its_own_datasets_settings():
    plan = plan_of(parse_command(["--scenario", "krum", "--sweep", "dataset=toy,digits", "--sweep", "lr=0.05,0.3"]))
    found = {(e.dataset, e.model, e.batch_size, e.lr) for e in plan.experiments()}
    assert found == {(*d, lr) for d in (("toy", "resnet18light", 64), ("digits", "cnn", 32)) for lr in (0.05, 0.3)}


def test_published_figures_are_not_compared_with_another_datasets_protocol():
    for dataset, published in (("toy", True), ("digits", False)):
        plan = plan_of(parse_command(["--scenario", "fig1_malicious_count", "--dataset", dataset]))
        assert any(cell.published.given for chart in plan.charts for cell in chart.cells) is published


@pytest.mark.parametrize("name", built_in(DATASETS))
def test_what_a_dataset_brings_are_settings_that_can_be(name):
    brought = protocol_of(name)
    assert parse([f"--dataset={name}"] if brought else []).settings().items() >= {
        (key, value) for key, value in brought.items() if key in parse([]).settings()
    }
    assert whole({"dataset": name}).items() >= brought.items()


@pytest.mark.parametrize(
    ("protocol", "said"),
    [
        ('{"lrr": 1}', r"PROTOCOL has 'lrr', which is no setting of a protocol; did you mean lr\?"),
        ('{"seed": 1}', "PROTOCOL has 'seed'"),
        ("dict(lr=1)", r"PROTOCOL is dict\(lr=1\); wanted a dict of settings, written out"),
        ("[1]", r"PROTOCOL is \[1\]"),
        ('{"lr": -1}', "lr = -1 must be greater than 0"),
        ('{"model": "cnm"}', "--model cnm: unknown"),
    ],
)
def test_a_protocol_of_ones_own_that_cannot_be_is_refused(tmp_path, protocol, said):
    file = tmp_path / "my_data.py"
    head = "from pathlib import Path\nfrom oleander.datasets.data import Images\n"
    file.write_text(f'{head}PROTOCOL = {protocol}\ndef my_data(data_dir: Path) -> Images:\n    """Mine."""\n')
    with pytest.raises(UserError, match=said):
        parse(["--dataset", str(file)])
