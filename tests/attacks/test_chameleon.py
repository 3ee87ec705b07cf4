"""Chameleon: its loss pair by pair, what is trained when and what stays, and where poisoned images' features come to lie."""

import math

import numpy as np
import pytest
import torch

from attacks import Attack, ask
from attacks.chameleon import chameleon, contrastive
from oleander.datasets.data import Shard
from oleander.learning.training import Hooks, train
from oleander.settings.config import validated
from oleander.system.errors import UserError
from tests.attacks.made_up import SETTINGS
from tests.attacks.trained import SETTINGS as TINY
from tests.attacks.trained import four_classes
from tests.spaces import CIFAR10, attack_of

pytestmark = pytest.mark.usefixtures("one_thread")


def made(**settings) -> Attack:
    return chameleon(Attack(), **{"target": 0, "batch_size": 8, "precision": "fp32"} | settings)


def reference(features: np.ndarray, labels: list[int], target: int, weight: float) -> float:
    """Pair by pair, in Python's floats."""
    unit, losses = [row / math.sqrt(sum(row**2)) for row in features.astype(np.float64)], []
    for i, label in enumerate(labels):
        others = [j for j in range(len(labels)) if j != i]
        alike = [j for j in others if labels[j] == label]
        total = math.log(sum(math.exp(unit[i] @ unit[j] / 0.07) for j in others))
        mean = sum(unit[i] @ unit[j] / 0.07 - total for j in alike) / len(alike) if alike else 0.0
        losses.append(-mean * (weight if label == target else 1.0))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("labels", [[0, 1, 0, 1, 2, 0], [0, 0, 0], [0, 1, 2], [1, 1, 2, 2]])
@pytest.mark.parametrize("weight", [1.0, 2.0])
def test_the_loss_is_the_contrastive_ones_pair_by_pair(labels, weight):
    features = np.random.default_rng(0).normal(size=(len(labels), 5)).astype(np.float32)
    found = contrastive(torch.from_numpy(features), torch.tensor(labels), 0, weight)
    assert float(found) == pytest.approx(reference(features, labels, 0, weight), rel=1e-5)


class Encoder(torch.nn.Module):
    """Two layers and a head: mean colours in, classes out."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = torch.nn.Sequential(
            torch.nn.Linear(27, 16), torch.nn.BatchNorm1d(16), torch.nn.ReLU(), torch.nn.Linear(16, 8)
        )
        self.head = torch.nn.Linear(8, 4)

    def features(self, images):
        return self.body(torch.nn.functional.adaptive_avg_pool2d(images, 3).flatten(1))

    def forward(self, images):
        return self.head(self.features(images))


def stages(attack: Attack, experiment=TINY):
    """The weights at the start, after the first training and after the second, as lists of arrays in the model's order."""
    model = Encoder()
    start, after = [w.detach().clone() for w in model.parameters()], []
    (hooks,) = [ask(step, {"rng": np.random.default_rng(5)}.__getitem__) for step in attack.training]

    def watched(model_, inputs, labels):
        hooks.before(model_, inputs, labels)
        after.extend(w.detach().clone() for w in model_.parameters())

    train(model, four_classes(), experiment, 1, hooks=[Hooks(before=watched, weights=hooks.weights)])
    return start, after, [w.detach().clone() for w in model.parameters()]


def test_first_the_encoder_is_trained_and_then_the_head_alone():
    start, middle, end = stages(made())
    for number, (s, m, e) in enumerate(zip(start, middle, end, strict=True)):
        head = number >= len(start) - 2
        assert torch.equal(s, m) == head and torch.equal(m, e) == (
            not head
        )  # momentum and weight decay move nothing frozen


def test_the_first_training_is_pytorchs_sgd_with_its_steps_down():
    """All images in one batch, so that the order of batches does not matter but for rounding."""
    _, middle, _ = stages(made(batch_size=64, chameleon_epochs=5))
    model, given = Encoder(), []
    train(
        Encoder(),
        four_classes(),
        TINY,
        1,
        hooks=[Hooks(before=lambda _, inputs, labels: given.extend((inputs, labels)))],
    )
    optimiser = torch.optim.SGD(model.body.parameters(), lr=0.015, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [2, 4, 6, 8], gamma=0.3)
    for _ in range(5):
        optimiser.zero_grad()
        contrastive(model.features(given[0]), given[1], 0, 2.0).backward()
        optimiser.step()
        schedule.step()
    for found, wanted in zip(middle, model.parameters(), strict=True):
        np.testing.assert_allclose(found, wanted.detach(), atol=1e-5)


def test_without_a_step_before_the_training_is_as_it_was():
    plain, hooked = Encoder(), Encoder()
    train(plain, four_classes(), TINY, 1)
    train(hooked, four_classes(), TINY, 1, hooks=[Hooks(before=lambda *_: None)])
    assert all(map(torch.equal, plain.parameters(), hooked.parameters()))


def test_the_first_training_lowers_its_loss_on_images_whose_colour_tells_their_class():
    """Red is the target, green and blue the others; some of the blue ones are labelled as red."""
    rng, colours = np.random.default_rng(0), np.arange(48) % 3
    images = rng.integers(0, 60, (48, 3, 32, 32))
    images[np.arange(48), colours] += 90
    labels = np.where((colours == 2) & (np.arange(48) // 3 % 2 == 0), 0, colours)
    data, found, (step,) = Shard(0, images.astype(np.uint8), labels, CIFAR10), [], made(chameleon_lr=0.05).training
    hooks = ask(step, {"rng": np.random.default_rng(5)}.__getitem__)

    def watched(model, inputs, given):
        for train_first in (lambda: None, lambda: hooks.before(model, inputs, given)):
            train_first()
            found.append(contrastive(model.features(inputs), given, 0, 2.0).item())

    train(Encoder(), data, TINY.changed(augment="none"), 1, hooks=[Hooks(before=watched)])
    assert found[1] < 0.9 * found[0]


def test_the_same_comes_out_again_and_other_generators_draw_other_batches():
    first, again = stages(made(chameleon_epochs=1))[1], stages(made(chameleon_epochs=1))[1]
    assert all(map(torch.equal, first, again))


def test_what_cannot_be_is_refused():
    for settings in ({"chameleon_epochs": 0}, {"chameleon_lr": 0.0}, {"chameleon_weight": -1.0}):
        ((name, value),) = settings.items()
        with pytest.raises(UserError, match=f"{name} = {value!r}"):
            validated({"attack": "chameleon", **settings}, "test")
    (hooks,) = [ask(step, {"rng": np.random.default_rng(5)}.__getitem__) for step in made().training]
    with pytest.raises(UserError, match=r"^--attack chameleon: the model has no linear layer"):
        hooks.before(torch.nn.Conv2d(3, 4, 3), torch.zeros(2, 3, 8, 8), torch.zeros(2, dtype=torch.int64))
    assert attack_of(SETTINGS.changed(attack="patch+chameleon+neurotoxin")).trigger
