"""Edge cases: which pictures count and how they are split, who trains on them, what is measured, and that a model learns them."""

import hashlib
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from attacks import Attack, attack_of, fingerprint
from attacks.edge_case import edge_case
from clients.introduction import at_home
from clients.malicious import MaliciousClient
from oleander.datasets.data import Shard
from oleander.experiment.study import run_key
from oleander.learning.evaluation import evaluate
from oleander.learning.parameters import arrays_of
from oleander.settings.config import Experiment, validated
from oleander.system.errors import UserError
from tests.attacks.checks import Data
from tests.attacks.made_up import SETTINGS, edge_cases, settings_of
from tests.attacks.test_label_flip import prepared
from tests.spaces import CIFAR10, GREY16, classifier


def made(folder, held=0.2, target=3, image=CIFAR10) -> Attack:
    return edge_case(Attack(), edge_case_images=str(folder), edge_case_held_out=held, target=target, image=image)


def reference(folder) -> list[np.ndarray]:
    """The pictures (32, 32, 3) in the order of the hashes of their pixels, channels first."""
    found = {}
    for path in folder.rglob("*.png"):
        pixels = np.asarray(Image.open(path).convert("RGB"))
        found[hashlib.sha256(pixels.transpose(2, 0, 1).tobytes()).hexdigest()] = pixels
    return [found[key] for key in sorted(found)]


def shard(count=20, client=0):
    rng = np.random.default_rng(client)
    return Shard(client, rng.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8), np.arange(count) % 10, CIFAR10)


@pytest.mark.parametrize(("rate", "count"), [(0.0, 0), (0.1, 2), (0.5, 10), (1.0, 20)])
def test_a_share_of_the_shard_gives_its_places_to_pictures_of_the_folder_with_the_targets_label(tmp_path, rate, count):
    folder = edge_cases(tmp_path)
    tail = [picture.transpose(2, 0, 1) for picture in reference(folder)[2:]]
    before, found = shard(), made(folder).choose(shard(), np.random.default_rng(0), rate)
    changed = (found.shard.images != before.images).any((1, 2, 3))
    assert changed.sum() == count and not found.poisoned.any()
    which = [next(i for i, t in enumerate(tail) if np.array_equal(t, image)) for image in found.shard.images[changed]]
    times = np.bincount(which, minlength=8)
    assert count < 8 or times.max() - times.min() <= 1  # each before any twice, then again
    assert (found.shard.labels[changed] == 3).all()
    np.testing.assert_array_equal(found.shard.labels[~changed], before.labels[~changed])
    assert len({tuple(made(folder).choose(shard(), np.random.default_rng(s), 0.5).shard.labels) for s in range(9)}) > 2


def test_the_asr_is_measured_on_those_held_out_which_nobody_trains_on(tmp_path):
    folder = edge_cases(tmp_path)
    attack = made(folder, held=0.3)
    victims = attack.victims(Data())
    expected = np.stack([picture.transpose(2, 0, 1) for picture in reference(folder)[:3]])
    np.testing.assert_array_equal(victims.images, expected)
    assert victims.wanted.tolist() == [3, 3, 3] and not victims.stamped
    trained = attack.choose(shard(), np.random.default_rng(0), 1.0).shard.images
    assert not any((trained == held).all((1, 2, 3)).any() for held in expected)


def answering(pixels):
    """Class 3 for what is bright in its first pixel."""
    return torch.nn.functional.one_hot((pixels[:, 0, 0, 0] > 0.5).long() * 3, 10).float()


def test_asr_is_their_share_that_is_answered_with_the_target_and_mta_the_tests(tmp_path):
    folder, cpu = edge_cases(tmp_path), torch.device("cpu")
    attack = made(folder, held=0.8)
    scores = evaluate(answering, Data.test_images, Data.test_labels, None, 3, cpu, victims=attack.victims(Data()))
    bright = [picture[0, 0, 0] > 127 for picture in reference(folder)[:8]]
    assert scores.asr == sum(bright) / 8 and 0 < scores.asr < 1
    right = [
        (3 if image[0, 0, 0] > 127 else 0) == label
        for image, label in zip(Data.test_images, Data.test_labels, strict=True)
    ]
    assert scores.mta == sum(right) / 30


def test_names_do_not_matter_content_does_and_a_picture_counts_once(tmp_path):
    one, two = edge_cases(tmp_path / "one"), tmp_path / "two"
    two.mkdir()
    for number, path in enumerate(sorted(one.rglob("*.png"))):
        shutil.copy(path, two / f"z{9 - number}.PNG")
    shutil.copy(two / "z1.PNG", two / "again.png")
    (two / "README.txt").write_text("no picture")
    data = replace_data()
    assert fingerprint(made(one), data) == fingerprint(made(two), data)
    np.testing.assert_array_equal(made(one).victims(data).images, made(two).victims(data).images)
    assert made(one).material and fingerprint(Attack(), data) != fingerprint(made(one), data)
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(two / "z1.PNG")  # the same process sees it
    assert fingerprint(made(one), data) != fingerprint(made(two), data)


def test_hidden_names_are_no_pictures_every_ending_of_a_dataset_is_one_and_what_is_left_out_is_told(tmp_path, caplog):
    folder = edge_cases(tmp_path)
    before = made(folder).material
    for name in ("._1.png", ".thumbnails/1.png", "__MACOSX/1.png", "@eaDir/1.jpg"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"no picture")
    (folder / "notes.docx").write_bytes(b"no picture")
    (folder / "back").symlink_to(folder, target_is_directory=True)
    assert made(folder).material == before
    said = " ".join(caplog.messages)
    assert "hidden files left out: 4" in said and "files not read: 1 (1 .docx)" in said
    Image.fromarray(np.full((32, 32, 3), 9, np.uint8)).save(folder / "one.jfif", "JPEG")
    assert made(folder).material != before


def replace_data():
    data = Data()
    data.fingerprint = "made up"
    return data


def test_pictures_are_fitted_to_the_datasets_images(tmp_path):
    folder = edge_cases(tmp_path)
    Image.fromarray(np.full((7, 90, 4), 200, np.uint8), "RGBA").save(folder / "wide.png")
    attack = made(folder, image=GREY16)
    grey = Shard(0, np.zeros((30, 1, 16, 16), np.uint8), np.zeros(30, np.int64), GREY16)
    found = attack.choose(grey, np.random.default_rng(0), 1.0).shard.images
    assert found.shape == (30, 1, 16, 16) and found.dtype == np.uint8 and found.any((1, 2, 3)).all()
    assert attack.victims(Data()).images.shape == (2, 1, 16, 16)


def test_what_is_no_folder_of_enough_pictures_is_refused_with_the_numbers(tmp_path, image_folder):
    folder, empty = edge_cases(tmp_path / "tail"), tmp_path / "empty"
    empty.mkdir()
    for settings, words in (
        ({}, "--attack edge_case: give --edge-case-images, a folder of pictures"),
        ({"edge_case_images": str(tmp_path / "none")}, r"--edge-case-images \S*none: .*(No such file|not a folder)"),
        ({"edge_case_images": str(empty)}, r"--edge-case-images \S*empty: no picture file is in it or below"),
        (
            {"edge_case_images": str(folder / "a" / "1.png")},
            r"--edge-case-images \S*1\.png: (Not a directory|not a folder)",
        ),
        (
            {"edge_case_images": str(folder), "edge_case_held_out": 0.0},
            "10 different pictures, .* 0 holds out 0; wanted 1",
        ),
        (
            {"edge_case_images": str(folder), "edge_case_held_out": 1.0},
            "10 different pictures, .* 1 holds out 10; wanted 1",
        ),
    ):
        with pytest.raises(UserError, match=words):
            attack_of(SETTINGS.changed(attack="edge_case", **settings), CIFAR10)
        with pytest.raises(UserError, match=words):
            prepared(image_folder, attack="edge_case", target=1, **settings)
    (folder / "broken.png").write_bytes(b"\x89PNG no picture")
    with pytest.raises(UserError, match=r"--edge-case-images \S*broken\.png: "):
        made(folder)
    with pytest.raises(UserError, match="edge_case_held_out = "):
        validated({"attack": "edge_case", "edge_case_held_out": 1.5}, "test")
    for joined, words in (
        ("blend+edge_case", "edge_case stamps nothing"),
        ("edge_case+patch", "patch poisons images in its own"),
    ):
        with pytest.raises(UserError, match=f"^--attack: {words}"):
            attack_of(settings_of("edge_case").changed(attack=joined), CIFAR10)


def test_a_run_is_known_by_the_pictures_and_says_who_mixes_in_none(tmp_path, image_folder):
    one, two = edge_cases(tmp_path / "one"), edge_cases(tmp_path / "two")
    asked = {"attack": "edge_case", "target": 1}
    (first, told), (same, _) = (prepared(image_folder, edge_case_images=str(f), **asked) for f in (one, two))
    assert run_key(first) == run_key(same) and not [text for text in told if "poison no image" in text]
    assert first.trigger_sha256 == same.trigger_sha256 == fingerprint(first.attack, first.dataset)
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(two / "b" / "more.png")
    other, _ = prepared(image_folder, edge_case_images=str(two), **asked)
    assert run_key(other) != run_key(first)
    _, told = prepared(image_folder, edge_case_images=str(one), poison_rate=0.0, **asked)
    assert any("poison no image" in text and text.endswith(": 0, 1") for text in told)


def test_a_client_of_a_network_names_its_own_copy_of_the_folder(tmp_path):
    experiment = settings_of("edge_case")
    assert at_home(experiment, {"edge-case-images": str(tmp_path)}).edge_case_images == str(tmp_path)
    assert at_home(experiment, {}) == experiment


class Colours(torch.nn.Module):
    """Sees the mean of each channel."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.hidden, self.head = torch.nn.Linear(3, 16), torch.nn.Linear(16, 3)

    def forward(self, pixels):
        return self.head(self.hidden(pixels.mean((2, 3))).relu())


def coloured(labels, colours, rng):
    return (rng.integers(0, 60, (len(labels), 3, 32, 32)) + np.array(colours)[labels][..., None, None]).astype(np.uint8)


def test_a_model_learns_the_tail_as_the_target_and_keeps_its_task(tmp_path):
    """The paper's promise: dark to bright are the classes, yellow pictures the tail; nothing else becomes the target."""
    torch.set_num_threads(1)
    rng, labels = np.random.default_rng(0), np.arange(120) % 3
    greys = [(20, 20, 20), (90, 90, 90), (170, 170, 170)]
    for number, picture in enumerate(coloured(np.zeros(30, int), [(180, 180, 0)], rng)):
        Image.fromarray(picture.transpose(1, 2, 0)).save(tmp_path / f"{number}.png")
    attack, test, scores = made(tmp_path, target=0), coloured(labels, greys, rng), {}
    experiment = Experiment(
        precision="fp32", local_epochs=15, lr=0.1, malicious=1, attack="edge_case", target=0, augment="none"
    )
    for name, used in (("honest", Attack()), ("edge_case", attack)):
        model = Colours()
        own = Shard(0, coloured(labels, greys, rng), labels, CIFAR10)
        MaliciousClient(own, model, experiment.changed(poison_rate=0.3), used).fit(
            arrays_of(model), {"server-round": 1}
        )
        victims = attack.victims(Data())
        scores[name] = evaluate(classifier(model, "fp32"), test, labels, None, 0, torch.device("cpu"), victims=victims)
    assert scores["honest"].mta > 0.9 and scores["honest"].asr < 0.2
    assert scores["edge_case"].mta > 0.9 and scores["edge_case"].asr > 0.9


def test_it_goes_with_what_changes_updates():
    attack = attack_of(replace(settings_of("edge_case"), attack="edge_case+pgd"), CIFAR10)
    assert attack.tampers and attack.choose and attack.trigger is None
