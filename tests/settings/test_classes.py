"""--target by name or number: the same class, the same record, the same key; what is no class is refused with those that are."""

import tomllib
from dataclasses import replace

import pytest

from oleander.experiment.federation import client_config, federate
from oleander.experiment.prepare import Sources, prepare
from oleander.experiment.records import RunFolder, read_summary, settings_of
from oleander.experiment.study import run_key
from oleander.settings.classes import class_number, class_word, confusable
from oleander.settings.cli import parse
from oleander.settings.config import SHARED, Experiment, validated
from oleander.settings.run_config import KEYS, experiment_of
from oleander.system.errors import UserError

BIRDS = ("ant", "bee", "Black Grouse")


def prepared(image_folder, told=None, **settings):
    asked = {"weights": "fresh", "clients": 3, "clients_per_round": 3, "samples_per_client": 8, "partition": "iid",
             "malicious": 1, "attack": "blend", "dataset": f"folder:{image_folder}"}  # fmt: skip
    return prepare(Experiment().changed(**asked | settings), Sources((told if told is not None else []).append))


def test_a_name_comes_to_the_run_that_its_number_comes_to(image_folder):
    """Nothing of a name is in what is recorded, sent to clients or hashed: older records and keys stay what they are."""
    by_number, by_name = (prepared(image_folder, target=target) for target in (2, "cow"))
    assert by_number.experiment == by_name.experiment and by_name.experiment.target == 2
    assert run_key(by_name) == run_key(by_number) != run_key(prepared(image_folder, target=1))
    assert client_config(by_name) == client_config(by_number)
    assert (by_name.target, by_name.target_class) == (2, "cow")


def test_the_source_of_a_label_flip_is_named_the_same_way(image_folder):
    by_number, by_name = (
        prepared(image_folder, attack="label_flip", target="cow", label_flip_source=source) for source in (1, "bee")
    )
    assert by_number.experiment == by_name.experiment and by_name.experiment.label_flip_source == 1


def test_flags_scenario_files_sweeps_and_keys_of_flwr_run_take_names(tmp_path):
    (tmp_path / "mine.toml").write_text('target = "cow"\nattack = "blend"\nmalicious = 1\n')
    assert parse(["--scenario", str(tmp_path / "mine.toml")]).target == "cow"
    assert parse(["--target", "Black Grouse"]).target == "Black Grouse" and parse(["--target", "2"]).target == 2
    keys = dict.fromkeys(KEYS, "") | {"scenario": "dba"}
    assert [experiment_of(keys | {"target": t}).target for t in ("cow", "2", 2)] == ["cow", 2, 2]
    assert validated(SHARED | {"target": "2"}, "a file").target == 2


@pytest.mark.parametrize("text", ["", "  ", "9999999999", "1000001", -1, 1_000_001, 1.5, True, None])
def test_what_no_class_can_be_is_refused(text):
    with pytest.raises(UserError, match="target = "):
        validated(SHARED | {"target": text}, "a file")


def test_digits_are_a_number_however_they_are_given():
    assert [class_word(text) for text in ("2", " 2", "007", "2.5", "cat 2", "٣")] == [2, 2, 7, "2.5", "cat 2", "٣"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (3, ["--target 3", "3 classes", "0 (ant) to 2 (Black Grouse)"]),
        ("bea", ["--target bea", "did you mean bee?", "0 (ant), 1 (bee), 2 (Black Grouse)"]),
        ("black grouse", ["did you mean Black Grouse?"]),
        ("zebra", ["no such class; known: 0 (ant)"]),
    ],
)
def test_an_unknown_class_is_refused_with_those_that_there_are(value, words):
    with pytest.raises(UserError) as error:
        class_number(f"--target {value}", value, BIRDS, "birds")
    assert all(word in str(error.value) for word in words)


def test_of_many_classes_not_all_are_listed_and_of_two_of_one_name_a_number_is_asked_for():
    with pytest.raises(UserError, match=r"200 classes, 0 \(c0\) to 199 \(c199\)") as error:
        class_number("--target c", "c", [f"c{i}" for i in range(200)], "many")
    assert len(str(error.value)) < 200
    with pytest.raises(UserError, match="2 classes of that name: 0, 2; give one's number"):
        class_number("--target a", "a", ("a", "b", "a"), "twins")


def test_a_number_that_is_another_classs_name_is_told():
    twelve = tuple(map(str, range(1, 13)))
    assert (
        confusable("--target 2", 2, twelve)
        == "--target 2 is the class number 2, called 3; the class called 2 is number 1."
    )
    for value, classes in (
        (2, tuple(map(str, range(12)))),
        (2, ("a", "b", "c")),
        ("2", twelve),
        (0, twelve),
        (99, twelve),
    ):
        assert not confusable("--target", value, classes)
    assert "called 008" in confusable("--target 7", 7, tuple(f"{i:03}" for i in range(1, 13)))


def test_records_name_the_class_and_hold_its_number(image_folder, tmp_path, task):
    from tests.test_spaces import Here, Listener

    told = []
    setup = prepared(image_folder, told, target="bee", model="cnn", rounds=1)
    folder = RunFolder(tmp_path / "run")
    folder.write_summary(federate(Here(3), setup, folder, Listener()))
    assert read_summary(folder.path).target_class == "bee" and settings_of(folder.path).target == 1
    text = (folder.path / "config.toml").read_text()
    assert "# The target, 1, is the class bee\n" in text and tomllib.loads(text)["target"] == 1
    again = parse(["--scenario", str(folder.path / "config.toml")])
    assert run_key(prepare(again, Sources(print))) == run_key(setup)
    assert replace(again, out="", scenario="") == replace(setup.experiment, out="")
    folder.release()
