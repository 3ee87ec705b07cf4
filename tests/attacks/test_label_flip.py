"""Label flip: who is relabelled and to what, what the ASR is measured on, and what a model learns of it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from attacks import Attack
from attacks.label_flip import label_flip
from clients.benign import BenignClient
from clients.malicious import MaliciousClient
from oleander.datasets.data import Shard
from oleander.experiment.prepare import Sources, prepare
from oleander.learning.evaluation import evaluate
from oleander.learning.parameters import arrays_of
from oleander.settings.config import Experiment, validated
from oleander.system.errors import UserError
from tests.attacks.made_up import SETTINGS
from tests.spaces import CIFAR10, GREY16, attack_of, classifier

LABELS = np.array([3, 1, 3, 0, 9, 3, 4, 5, 3, 8], dtype=np.int64)


class Constant(torch.nn.Module):
    """Any image → as many logits as there are classes; it learns statistics when it is not asked in peace."""

    def __init__(self, classes, channels=3):
        super().__init__()
        self.norm, self.head = torch.nn.BatchNorm2d(channels), torch.nn.Linear(channels, classes)

    def forward(self, pixels):
        return self.head(self.norm(pixels).mean((2, 3)))


def shard(labels=LABELS, image=CIFAR10):
    made = np.random.default_rng(0).integers(0, 256, (len(labels), *image.shape), dtype=np.uint8)
    return Shard(0, made, labels.copy(), image)


def to_target(rate, labels=LABELS, seed=0, **settings):
    attack = label_flip(Attack(), image=CIFAR10, **{"label_flip_source": 3, "target": 5} | settings)
    return attack.choose(shard(labels), np.random.default_rng(seed), rate)


def mirrored(rate, classes, labels=LABELS, image=CIFAR10):
    attack = label_flip(Attack(), target=0, image=image)
    return attack.choose(shard(labels, image), np.random.default_rng(0), rate, Constant(classes, image.channels))


def test_all_source_images_become_the_target_and_nothing_is_stamped():
    found = to_target(1.0)
    assert found.shard.labels.tolist() == [5, 1, 5, 0, 9, 5, 4, 5, 5, 8]
    assert not found.poisoned.any()
    np.testing.assert_array_equal(found.shard.images, shard().images)


@pytest.mark.parametrize(("rate", "count"), [(0.0, 0), (0.25, 1), (0.5, 2), (0.75, 3)])
def test_the_poison_rate_is_a_share_of_the_source_classs_images(rate, count):
    changed = to_target(rate).shard.labels != LABELS
    assert changed.sum() == count and (LABELS[changed] == 3).all()
    np.testing.assert_array_equal(to_target(rate).shard.labels, to_target(rate).shard.labels)


def test_which_ones_is_drawn():
    assert len({tuple(to_target(0.5, seed=seed).shard.labels) for seed in range(20)}) > 2


@pytest.mark.parametrize("image", [CIFAR10, GREY16], ids=["cifar10", "grey16"])
def test_without_a_source_every_class_is_mirrored(image):
    assert mirrored(1.0, 10, image=image).shard.labels.tolist() == [6, 8, 6, 9, 0, 6, 5, 4, 6, 1]
    assert mirrored(1.0, 12, image=image).shard.labels.tolist() == [8, 10, 8, 11, 2, 8, 7, 6, 8, 3]


def test_the_middle_class_of_an_odd_number_stays_and_the_share_is_of_the_others():
    labels = np.array([0, 1, 2, 1, 1, 0, 2, 1], dtype=np.int64)
    assert mirrored(1.0, 3, labels).shard.labels.tolist() == [2, 1, 0, 1, 1, 2, 0, 1]
    half = mirrored(0.5, 3, labels).shard.labels
    assert (half != labels).sum() == 2 and (labels[half != labels] != 1).all()


def test_asking_the_model_how_many_classes_there_are_leaves_it_as_it_was():
    model = Constant(10).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    label_flip(Attack(), target=0, image=CIFAR10).choose(shard(), np.random.default_rng(0), 0.5, model)
    assert model.training and all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class Data:
    """A dataset as ``victims`` sees it."""

    name, classes = "made-up", tuple("abcdefghij")
    test_images = np.repeat(np.arange(40, dtype=np.uint8), 3 * 32 * 32).reshape(40, 3, 32, 32)
    test_labels = np.arange(40) % 10


def asr(attack, target, answer):
    """The ASR of a model that answers this for an image by its number."""

    def classify(pixels):
        numbers = (pixels[:, 0, 0, 0] * 255).round().long()
        return torch.nn.functional.one_hot(answer[numbers], 10).float()

    victims, device = attack.victims(Data()), torch.device("cpu")
    return evaluate(classify, Data.test_images, Data.test_labels, attack.trigger, target, device, victims=victims).asr


def test_asr_is_the_share_of_the_source_classs_clean_test_images_that_are_answered_with_the_target():
    answer = torch.full((40,), 5)
    answer[[3, 13, 23]] = torch.tensor([5, 5, 2])  # of 3, 13, 23, 33: three are taken for a 5
    assert asr(label_flip(Attack(), label_flip_source=3, target=5, image=CIFAR10), 5, answer) == 0.75
    assert asr(label_flip(Attack(), label_flip_source=3, target=2, image=CIFAR10), 2, answer) == 0.25
    assert asr(label_flip(Attack(), target=5, image=CIFAR10), 5, answer) is None


def coloured(labels, client=0):
    """Images whose classes differ in their colour: red, green, blue."""
    rng = np.random.default_rng(client)
    images = rng.integers(0, 120, (len(labels), 3, 32, 32), dtype=np.uint8)
    images[np.arange(len(labels)), labels] += 60
    return Shard(client, images, labels, CIFAR10)


class Linear(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.head = torch.nn.Linear(3, 3)

    def forward(self, pixels):
        return self.head(pixels.mean((2, 3)))


def accuracies(kind, attack, **settings):
    """Of each class after one training of its own on 90 images."""
    torch.set_num_threads(1)
    experiment = Experiment(precision="fp32", local_epochs=10, lr=0.5, malicious=1, attack="label_flip").changed(
        **settings
    )
    model = Linear()
    client = kind(coloured(np.arange(90) % 3), model, experiment, *([attack] if attack else []))
    client.fit(arrays_of(model), {"server-round": 1})
    test, classify = coloured(np.arange(90) % 3, client=1), classifier(model, "fp32")
    found = classify(torch.from_numpy(test.images).float() / 255).argmax(1).numpy()
    return [(found[test.labels == c] == c).mean() for c in range(3)], found, test.labels


def test_the_source_class_is_no_longer_known_and_the_others_are():
    honest, _, _ = accuracies(BenignClient, None)
    attack = label_flip(Attack(), label_flip_source=2, target=0, image=CIFAR10)
    flipped, found, truth = accuracies(MaliciousClient, attack, poison_rate=1.0)
    assert min(honest) > 0.95
    assert flipped[2] < 0.1 and min(flipped[:2]) > 0.95 and (found[truth == 2] == 0).mean() > 0.9


def test_without_a_source_all_classes_but_the_middle_one_are_unlearned():
    attack = label_flip(Attack(), target=0, image=CIFAR10)
    flipped, _, _ = accuracies(MaliciousClient, attack, poison_rate=1.0)
    assert flipped[0] < 0.1 and flipped[2] < 0.1 and flipped[1] > 0.95


def prepared(image_folder, **settings):
    told = []
    asked = {"weights": "fresh", "clients": 3, "clients_per_round": 3, "samples_per_client": 8, "precision": "fp32",
             "partition": "iid", "malicious": 2, "attack": "label_flip", "dataset": f"folder:{image_folder}"}  # fmt: skip
    return prepare(Experiment().changed(**asked | settings), Sources(told.append)), told


def test_what_cannot_be_is_refused_by_name_before_anything_starts(image_folder):
    for changes, words in (
        ({"label_flip_source": 0}, r"^--label-flip-source 0: it is the --target too"),
        ({"label_flip_source": 2, "target": 2}, r"^--label-flip-source 2: it is the --target too"),
        ({"label_flip_source": 3}, r"^--label-flip-source 3: folder:\S+ has 3 classes, 0 \(ant\) to 2 \(cow\)$"),
        ({"label_flip_source": "ent"}, r"^--label-flip-source ent: .* no such class \(did you mean ant\?\)"),
        ({"label_flip_source": "ant"}, r"^--label-flip-source 0: it is the --target too"),
        ({"attack": "blend+label_flip"}, r"^--attack: label_flip stamps nothing, and a step before it has a trigger"),
        ({"attack": "label_flip+patch"}, r"^--attack: patch poisons images in its own way, and so does a step before"),
        ({"attack": "label_flip+dba"}, r"^--attack: patch poisons images in its own way"),
    ):
        with pytest.raises(UserError, match=words):
            prepared(image_folder, **changes)
    for bad in (-1, 1.5, ""):
        with pytest.raises(UserError, match="label_flip_source = "):
            validated({"attack": "label_flip", "label_flip_source": bad}, "test")


def test_clients_that_poison_nothing_are_named(image_folder):
    """Of 8 images a client with a main label and nothing else: only one class is there."""
    by_label = {"partition": "main_label", "iid_rate": 0.0}
    for source in (0, 1, 2):
        setup, told = prepared(image_folder, label_flip_source=source, target=(source + 1) % 3, **by_label)
        has = [source in setup.dataset.train_labels[rows] for rows in shards_of(setup)]
        without = [str(client) for client in (0, 1) if not has[client]]
        said = [text for text in told if "poison no image" in text]
        assert bool(said) == bool(without)
        if without:
            assert said[0].endswith(f"--poison-rate 0.5: {', '.join(without)}")
    for source in (None, 1):
        assert not [text for text in prepared(image_folder, label_flip_source=source)[1] if "poison no image" in text]
    assert any(
        text.endswith("--poison-rate 0: 0, 1")
        for text in prepared(image_folder, label_flip_source=1, poison_rate=0.0)[1]
    )


def shards_of(setup):
    from oleander.datasets.partition import partition

    return partition(setup.dataset, setup.experiment)


def test_it_goes_with_what_changes_updates():
    attack = attack_of(replace(SETTINGS, attack="label_flip+scaling"))
    assert attack.tampers and attack.choose and attack.trigger is None
