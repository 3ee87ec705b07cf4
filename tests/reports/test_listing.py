"""``--list NAME`` shows one plug-in whole, and runs nothing of it."""

import pytest
from rich.console import Console

import simulate
from oleander.reports.listing import print_plugin
from oleander.settings.declared import FLAGS, MODELS, built_in, declared
from oleander.settings.ranges import VOCABULARY, Count, Rate
from oleander.settings.words import range_words
from oleander.system.errors import UserError
from tests.settings.test_outside import RULE


def listed(name):
    console = Console(record=True, width=80)
    print_plugin(console, name)
    return console.export_text()


@pytest.mark.parametrize("name", [n for package in (*FLAGS, MODELS) for n in built_in(package)])
def test_every_plug_in_is_shown_within_80_columns_with_its_settings(name):
    text = listed(name)
    assert all(len(line) <= 80 for line in text.splitlines())
    assert name in text
    for setting in declared().values():
        if setting.plugin == name:
            assert f"--{setting.name.replace('_', '-')}  " in text and range_words(setting.type).split()[0] in text


def test_what_it_is_where_it_is_from_and_what_it_uses():
    assert "--gamma  a number, > 0 or none (default: none)" in listed("scaling")
    assert "--scale-statistics  true or false (default: true)" in listed("scaling")
    text = listed("krum")
    assert (
        "rule, --strategy krum" in text and "Blanchard" in text and "--assumed-malicious" in text and "shared" in text
    )
    assert "--clip-norm  median or a number, > 0 (default: median)" in listed("clip") and "filter" in listed("clip")
    assert "--patch-size  patch's" in listed("dba") and "attack step, --attack dba" in listed("dba")
    assert "What it knows besides" in listed("patch") and "image" in listed("patch")


def test_ranges_in_words():
    assert range_words(Count | None) == "a whole number, ≥ 1, ≤ 1,000,000 or none"
    assert range_words(Rate) == "a number, ≥ 0, ≤ 1"
    assert all(range_words(kind) for kind in VOCABULARY.values())


def test_an_unknown_name_lists_the_known(capsys):
    with pytest.raises(UserError, match=r"did you mean krum\?.*known: .*blend.*clip"):
        listed("kurm")
    assert simulate.main(["--list", "kurm"]) == 2 and "did you mean krum?" in " ".join(capsys.readouterr().err.split())
    assert simulate.main(["--list", "krum", "clip"]) == 2
    assert simulate.main(["--list", "krum"]) == 0 and simulate.main(["--list=krum"]) == 0


def test_a_file_of_ones_own_is_shown_and_not_run(tmp_path):
    file = tmp_path / "my_rule.py"
    file.write_text(f"{RULE}open({str(tmp_path / 'ran')!r}, 'w')\n")
    text = listed(str(file))
    assert "my_rule  rule, --strategy" in text and "--my-rule-beta  a number, > 0 (default: 2.0)" in text
    file.write_text(file.read_text().replace("= 2.0", "= 1.0"))
    assert "(default: 1.0)" in listed(str(file))  # not true
    assert "sha256" not in text and not (tmp_path / "ran").exists()
    file.write_text("def my_rule(:\n")
    with pytest.raises(UserError, match=r"line 1"):
        listed(str(file))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mnist", ["dataset, --dataset mnist", "LeCun", "ten classes, 60,000 for training, 10,000", "--model cnn", "--augment none"]),
        ("emnist", ["--emnist-split", "balanced or byclass or bymerge", "47 classes, 112,800 images for training, 18,800"]),
        ("svhn", ["Netzer", "73,257 for training, 26,032"]), ("cifar100", ["a hundred classes", "--augment epoch"]),
        ("gtsrb", ["43 classes, 26,640 photographs for training, 12,630"]), ("tiny_imagenet", ["200 classes", "100,000"]),
        ("folder", ["dataset, --dataset folder:DIR", "--image-size", "a whole number, ≥ 4, ≤ 512", "--image-channels", "1 or 3"]),
        ("hf", ["dataset, --dataset hf:NAME", "pip install 'oleander[hf]'", "--image-size folder's"]), ("toy", ["--dataset toy"]),
    ],
)  # fmt: skip
def test_a_dataset_is_shown_with_its_source_its_size_and_its_protocol(name, words):
    text = " ".join(listed(name).split())
    assert all(word in text for word in words), text
    assert ("Settings that it is shown with" in text) == (name not in ("folder", "hf", "toy"))
