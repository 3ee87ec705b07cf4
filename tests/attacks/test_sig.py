"""SIG: the wave pixel by pixel, who carries it, and that a model learns it without one false label."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from attacks import Attack
from attacks.sig import sig
from clients.malicious import MaliciousClient
from oleander.datasets.data import Shard, to_pixels
from oleander.learning.evaluation import evaluate
from oleander.learning.parameters import arrays_of
from oleander.settings.config import Experiment, validated
from oleander.system.errors import UserError
from tests.attacks.made_up import SETTINGS
from tests.attacks.test_label_flip import prepared, shards_of
from tests.spaces import CIFAR10, GREY16, RGB64, attack_of, classifier

SPACES = pytest.mark.parametrize("image", [CIFAR10, GREY16, RGB64], ids=["cifar10", "grey16", "rgb64"])


def reference(pixels: np.ndarray, delta: float, frequency: int) -> np.ndarray:
    """Pixel by pixel in float64, from the paper's formula; columns counted from 0."""
    stamped = np.empty(pixels.shape)
    width = pixels.shape[3]
    for place in np.ndindex(pixels.shape):
        wave = delta * math.sin(2 * math.pi * place[3] * frequency / width)
        stamped[place] = min(1.0, max(0.0, float(pixels[place]) + wave))
    return stamped


@SPACES
@pytest.mark.parametrize(("delta", "frequency"), [(40 / 255, 6), (0.5, 1), (2.0, 13)])
def test_the_wave_is_the_papers_pixel_by_pixel(image, delta, frequency):
    attack = sig(Attack(), sig_delta=delta, sig_frequency=frequency, target=0, image=image)
    pixels = torch.rand(2, *image.shape, generator=torch.Generator().manual_seed(0))
    before = pixels.clone()
    np.testing.assert_allclose(attack.trigger(pixels).numpy(), reference(pixels.numpy(), delta, frequency), atol=3e-7)
    assert torch.equal(pixels, before) and attack.trigger(pixels).dtype == torch.float32


def test_forty_of_255_and_six_periods_are_the_defaults():
    grey = torch.full((1, 3, 32, 32), 0.5)
    plain, said = (sig(Attack(), target=0, image=CIFAR10, **given).trigger(grey) for given in (
        {}, {"sig_delta": 40 / 255, "sig_frequency": 6}))  # fmt: skip
    assert torch.equal(plain, said)
    column = (plain[0, 0, 0] - 0.5).numpy()
    assert np.abs(np.fft.rfft(column)).argmax() == 6 and column.max() == pytest.approx(40 / 255, rel=0.02)


def test_what_goes_beyond_black_and_white_is_clipped():
    attack = sig(Attack(), target=0, image=CIFAR10)
    for shade in (0.0, 1.0):
        stamped = attack.trigger(torch.full((1, 3, 32, 32), shade))
        assert (
            float(stamped.min()) >= 0
            and float(stamped.max()) <= 1
            and 0.2 < float((stamped != shade).float().mean()) < 0.6
        )


LABELS = np.array([1, 0, 1, 2, 1, 0, 1, 2], dtype=np.int64)


def chosen(rate, target=1, labels=LABELS, seed=0):
    shard = Shard(0, np.zeros((len(labels), 3, 32, 32), np.uint8), labels.copy(), CIFAR10)
    return sig(Attack(), target=target, image=CIFAR10).choose(shard, np.random.default_rng(seed), rate)


@pytest.mark.parametrize(("rate", "count"), [(0.0, 0), (0.25, 1), (0.5, 2), (1.0, 4)])
def test_clean_label_a_share_of_the_target_classs_images_is_stamped_and_all_labels_stay(rate, count):
    found = chosen(rate)
    assert found.poisoned.sum() == count and (LABELS[found.poisoned] == 1).all()
    np.testing.assert_array_equal(found.shard.labels, LABELS)
    assert len({tuple(chosen(0.5, seed=seed).poisoned) for seed in range(20)}) > 2


def test_a_shard_without_the_target_class_has_nothing_to_stamp():
    found = chosen(1.0, target=7)
    assert not found.poisoned.any()
    np.testing.assert_array_equal(found.shard.labels, LABELS)


def test_clients_without_an_image_of_the_target_class_are_named(image_folder):
    by_label = {"attack": "sig", "partition": "main_label", "iid_rate": 0.0}
    for target in (0, 1, 2):
        setup, told = prepared(image_folder, target=target, **by_label)
        without = [str(c) for c in (0, 1) if target not in setup.dataset.train_labels[shards_of(setup)[c]]]
        said = [text for text in told if "poison no image" in text]
        assert bool(said) == bool(without) and all(text.endswith(f": {', '.join(without)}") for text in said)
        assert not [
            text
            for text in prepared(image_folder, target=target, sig_clean_label=False, **by_label)[1]
            if "poison no image" in text
        ]


class Columns(torch.nn.Module):
    """Sees the mean brightness of each channel's columns."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.head = torch.nn.Linear(96, 3)

    def forward(self, pixels):
        return self.head(pixels.mean(2).flatten(1))


def dim(client, count=90):
    """Classes differ a little in their colour, so that the wave is worth learning."""
    rng = np.random.default_rng(client)
    labels = np.arange(count) % 3
    images = rng.integers(40, 200, (count, 3, 32, 32), dtype=np.uint8)
    images[np.arange(count), labels] += 8
    return Shard(client, images, labels, CIFAR10)


def test_the_wave_leads_to_the_target_though_no_label_is_false():
    """The paper's promise, on one linear layer: clean images are told apart, and the wave makes most others the target."""
    torch.set_num_threads(1)
    experiment = Experiment(
        precision="fp32", local_epochs=30, lr=0.3, malicious=1, attack="sig", target=1, poison_rate=0.5
    )
    attack, test = attack_of(experiment), dim(1)
    scores = {}
    for name, used in (("honest", replace(attack, trigger=None, choose=None)), ("sig", attack)):
        model = Columns()
        MaliciousClient(dim(0), model, experiment, used).fit(arrays_of(model), {"server-round": 1})
        classify = classifier(model, "fp32")
        scores[name] = evaluate(classify, test.images, test.labels, attack.trigger, 1, torch.device("cpu"))
    assert scores["honest"].mta > 0.85 and scores["honest"].asr < 0.1
    assert scores["sig"].mta > 0.75 and scores["sig"].asr > 0.9


def test_the_attackers_images_carry_the_wave_after_augmentation():
    torch.set_num_threads(1)
    experiment = Experiment(
        precision="fp32", local_epochs=1, batch_size=90, malicious=1, attack="sig", target=1, poison_rate=1.0
    )
    seen = []
    for attack in (attack_of(experiment), Attack()):
        model = Columns()
        model.register_forward_pre_hook(lambda _, given: seen.append(CIFAR10.denormalise(given[0])))
        MaliciousClient(dim(0), model, experiment, attack).fit(arrays_of(model), {"server-round": 1})
    stamped, plain = (images.numpy() for images in seen)
    changed = np.flatnonzero(np.abs(stamped - plain).max((1, 2, 3)) > 1e-3)
    assert len(changed) == 30
    np.testing.assert_allclose(stamped[changed], reference(plain[changed], 40 / 255, 6), atol=1e-5)


def test_with_false_labels_it_poisons_images_of_every_class_as_a_patch_does():
    made = []
    for name, settings in (("sig", {"sig_clean_label": False}), ("patch", {})):
        experiment = Experiment(precision="fp32", malicious=1, target=1).changed(attack=name, **settings)
        client = MaliciousClient(dim(0), Columns(), experiment, attack_of(experiment))
        made.append(client._chosen(client.attack.part(0)))
    found, patched = made
    assert found.poisoned.sum() == 45 and {*dim(0).labels[found.poisoned]} == {0, 1, 2}
    assert (found.shard.labels[found.poisoned] == 1).all()
    np.testing.assert_array_equal(found.poisoned, patched.poisoned)
    np.testing.assert_array_equal(found.shard.labels, patched.shard.labels)


def test_a_wave_that_is_not_there_and_what_is_no_wave_are_refused():
    for image, frequency in ((CIFAR10, 16), (CIFAR10, 32), (GREY16, 8), (RGB64, 64)):
        with pytest.raises(UserError, match=rf"^--sig-frequency {frequency}: .* w = {image.side} pixels wide"):
            sig(Attack(), sig_frequency=frequency, target=0, image=image)
    for settings in ({"sig_delta": 0.0}, {"sig_frequency": 0}, {"sig_frequency": 1.5}, {"sig_clean_label": "yes"}):
        ((name, value),) = settings.items()
        with pytest.raises(UserError, match=f"{name} = {value!r}"):
            validated({"attack": "sig", **settings}, "test")


def test_it_is_a_trigger_of_its_own_that_dba_cannot_split():
    for joined, words in (
        ("blend+sig", "sig is a second trigger"),
        ("sig+patch", "patch is a second trigger"),
        ("sig+label_flip", "label_flip stamps nothing"),
        ("label_flip+sig", "sig poisons images in its own way"),
        ("sig+dba", "dba splits triggers that are a picture"),
    ):
        with pytest.raises(UserError, match=f"^--attack: {words}"):
            attack_of(SETTINGS.changed(attack=joined))
    assert attack_of(SETTINGS.changed(attack="sig+scaling")).tampers


def test_stamped_bytes_of_the_gallery_are_the_waves():
    attack = sig(Attack(), target=0, image=GREY16)
    images = np.full((1, *GREY16.shape), 100, np.uint8)
    shown = (attack.trigger(to_pixels(images)) * 255).round().numpy()[0, 0, 0]
    assert shown.tolist() == [round(100 + 40 * math.sin(2 * math.pi * j * 6 / 16)) for j in range(16)]
