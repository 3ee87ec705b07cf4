"""Titles say what is run: a scenario's own words stand over it only where nothing was changed that they may speak of."""

import pytest

from attacks import known_attacks
from oleander.settings.cli import parse
from oleander.settings.config import Experiment
from oleander.settings.declared import MODELS, built_in
from oleander.settings.described import UNSPOKEN
from oleander.settings.sweeps import NOT_SWEPT
from oleander.settings.titles import NAMES, title
from strategies import known_strategies
from tests.settings.test_plan import plan


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"attack": "sig", "malicious": 1, "strategy": "krum"}, "SIG by 1 of 6 clients, against Krum"),
        ({"attack": "dba+scaling", "malicious": 3, "clients": 10, "strategy": "clip+fedavg+noise"},
         "DBA + scaling by 3 of 10 clients, against clipping + FedAvg + noise"),
        ({"attack": "/tmp/a_b/my_own.py", "malicious": 1, "clients": 1}, "My own by 1 of 1 client, against FedAvg"),
        ({"attack": "min_max", "malicious": 2, "strategy": "signguard"}, "Min-Max by 2 of 6 clients, against SignGuard"),
        ({}, "No attack: FedAvg"),
        ({"attack": "blend"}, "No attacker, only the trigger of Blend is measured: FedAvg"),
        ({"attack": "dba+scaling"}, "No attacker, only the trigger of DBA + scaling is measured: FedAvg"),
        ({"attack": "sign_flip"}, "No attacker: FedAvg"),
        ({"attack": "label_flip"}, "No attacker: FedAvg"),
    ],
)  # fmt: skip
def test_a_runs_title_is_made_of_its_settings(settings, said):
    whole = title([Experiment(dataset="digits", model="cnn", **settings)])
    assert whole == f"{said} on digits (CNN)" or whole == f"{said}, on digits (CNN)"


def test_a_title_of_several_runs_says_what_they_differ_in_and_not_their_seeds():
    base = {"dataset": "/tmp/mine.py", "attack": "blend", "model": "./my_net.py"}
    runs = [Experiment(**base, malicious=m, lr=lr, seed=m) for m in (1, 2, 3) for lr in (0.1, 0.2)]
    assert title(runs) == "Blend by 1 to 3 of 6 clients, against FedAvg, on mine (my net); lr 0.1 and 0.2"
    rules = [Experiment(**base, malicious=1, strategy=s) for s in ("krum", "fedavg", "median", "clip+fedavg")]
    assert title(rules) == "Blend by 1 of 6 clients, against 4 strategies, on mine (my net)"


def test_a_plug_ins_own_setting_is_of_no_run_without_it():
    runs = [Experiment(attack="dba", malicious=3).changed(patch_size=3), Experiment(attack="blend", malicious=3)]
    assert "patch" not in title(runs)


def test_a_folder_is_called_by_its_name():
    assert title([Experiment(dataset="folder:/data/of mine/cats_and_dogs")]).endswith(
        "on cats_and_dogs (ResNet18Light)"
    )


@pytest.mark.parametrize("flags", [["--attack", "sig"], ["--strategy", "krum"], ["--clients", "7"], ["--poison-rate", "0.1"],
                                   ["--malicious", "2"], ["--dataset", "digits"], ["--rounds", "2"]])  # fmt: skip
def test_a_description_goes_where_what_it_speaks_of_was_changed(flags):
    assert parse(["--scenario", "blend", "--seed", "3", "--no-cache", "--precision", "fp32"]).description.startswith(
        "One"
    )
    assert parse(["--scenario", "blend", *flags]).description == ""
    assert parse(["--scenario", "blend", *flags, "--description", "mine"]).description == "mine"


def test_a_description_of_one_dataset_does_not_stand_over_another():
    assert "CIFAR-10" in parse(["--scenario", "pretrain"], auto="cifar10").description
    assert parse(["--scenario", "pretrain"], auto="digits").description == ""


def test_a_study_that_a_command_line_varies_is_not_called_by_its_scenario():
    study = plan("--scenario", "blend", "--dataset", "digits", "--sweep", "strategy=fedavg,krum", "--repeats", "2")
    wanted = "Blend by 1 of 6 clients, against FedAvg and Krum, on digits (CNN)"
    assert (study.description, study.charts[0].title) == (wanted, wanted)
    assert {e.description for e in study.experiments()} == {""}


def test_a_study_as_it_ships_keeps_its_words_and_its_runs_do_not_take_them():
    study = plan("--scenario", "fig2_krum", "--seed", "5")
    assert study.description.startswith("Course figure 2") and study.charts[0].title.startswith("Blend, 1 malicious")
    assert {e.description for e in study.experiments()} == {""}
    repeated = plan("--scenario", "blend", "--repeats", "2")
    assert {e.description for e in repeated.experiments()} == {repeated.description} != {""}


def test_every_part_of_a_changed_study_is_called_by_what_is_run():
    study = plan("--scenario", "course", "--dataset", "digits")
    assert all("on digits (CNN)" in chart.title for chart in study.charts) and "on digits" in study.description


def test_what_no_description_speaks_of_is_what_changes_no_result():
    assert set(NOT_SWEPT) - {"description"} <= UNSPOKEN
    known = {*known_attacks(), *known_strategies(), *built_in(MODELS), *built_in("oleander.datasets")}
    assert NAMES.keys() <= known
